//! The API server of the test: somebody's, or one of our own for as long as the test runs.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, str};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Names a kubeconfig whose API server is used instead of an own one.
const KUBECONFIG: &str = "PAQUEBOT_API_SERVER_KUBECONFIG";

/// A running API server. An own one is taken down at the end.
pub struct ApiServer {
    kubeconfig: PathBuf,
    own: Option<Own>,
}

struct Own {
    state: PathBuf,
    /// Held while the server is ours: a second run of the same checkout waits.
    _lock: File,
}

impl ApiServer {
    pub fn start() -> Self {
        if let Some(kubeconfig) = env::var_os(KUBECONFIG) {
            return Self { kubeconfig: kubeconfig.into(), own: None };
        }
        // One place for each checkout: the next run finds and clears what a killed one left there. It is short, since
        // a socket's path must be.
        let mut hasher = DefaultHasher::new();
        env!("CARGO_MANIFEST_DIR").hash(&mut hasher);
        let state = env::temp_dir().join(format!("paquebot-operator-{:08x}", hasher.finish() & 0xffff_ffff));
        let lock = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("operator-api-server.lock")).unwrap();
        lock.lock().unwrap();
        let started = command(&state, "up").stderr(Stdio::inherit()).output().unwrap();
        assert!(
            started.status.success(),
            "`tests/cluster/cluster apiserver up` failed and said above why; a kubeconfig in {KUBECONFIG} is used instead"
        );
        let kubeconfig = str::from_utf8(&started.stdout).unwrap().trim().into();
        Self { kubeconfig, own: Some(Own { state, _lock: lock }) }
    }

    /// For processes that are given the API server by KUBECONFIG.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    pub async fn client(&self) -> Client {
        Client::try_from(self.config().await).unwrap()
    }

    /// How the API server is reached.
    pub async fn config(&self) -> Config {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", self.kubeconfig.display()));
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            let done = command(&own.state, "down").output();
            if !done.is_ok_and(|output| output.status.success()) {
                eprintln!("the API server in {} could not be taken down", own.state.display());
            }
        }
    }
}

fn command(state: &Path, verb: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cluster/cluster"));
    command.args(["apiserver", verb]).env("PAQUEBOT_APISERVER", state);
    command
}

//! One run of the `compile` command: reads manifests, writes the configuration directory and the certificate.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use paquebot_config::{Bundle, Content, Listener, Revision, directory as contract};

use super::manifests::{self, Files, LoadError, Manifests};
use super::passwords::Passwords;
use super::report::Problem;
use super::{CompileError, Compiled};
use crate::controllers::certificate;
use crate::credentials::HashError;
use crate::directory::{NamespacedName, ObjectKey};
use crate::render;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Job {
    /// The directory (or file) with the manifests.
    pub manifests: PathBuf,
    /// Where the configuration is written; `None`: the manifests are only checked.
    pub out: Option<PathBuf>,
    /// The MailServer that is meant; needed where there are several.
    pub server: Option<NamespacedName>,
    /// Listeners whose port is not that of a container.
    pub ports: BTreeMap<String, u16>,
    /// Nothing is written if any object is not in force.
    pub strict: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What is not in force.
    pub problems: Vec<Problem>,
    /// Documents of other kinds.
    pub skipped: Vec<String>,
    /// What is in force, with the remarks on it.
    pub accepted: Vec<(ObjectKey, String)>,
    /// What was written, if anything.
    pub written: Option<Written>,
}

/// What was written.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    /// Names the state of the configuration.
    pub revision: Revision,
    /// The MailServer.
    pub server: NamespacedName,
    /// Its listeners, with the ports that the process opens.
    pub listeners: Vec<Listener>,
    /// How many domains there are.
    pub domains: usize,
    /// How many mailboxes and aliases there are.
    pub records: usize,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The manifests cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// They do not describe one server, perhaps because of what an API server would refuse of them.
    #[error("{error}{}", .problems.iter().map(|problem| format!("\n  {problem}")).collect::<String>())]
    Unclear {
        /// What is missing.
        error: CompileError,
        /// What was refused.
        problems: Vec<Problem>,
    },
    /// The server cannot be rendered.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// Passwords cannot be hashed.
    #[error("a password could not be hashed: {0}")]
    Hash(#[from] HashError),
    /// There is no certificate.
    #[error("{0}")]
    Certificate(String),
    /// The directory cannot be written.
    #[error("{path}: {source}")]
    Io {
        /// The directory.
        path: String,
        /// What the operating system says.
        source: io::Error,
    },
}

impl Job {
    /// Reads the manifests as they lie there, for comparing.
    ///
    /// # Errors
    /// [`JobError::Load`].
    pub fn read(&self) -> Result<Files, JobError> {
        Ok(manifests::read_files(&self.manifests)?)
    }

    /// Compiles what was read.
    ///
    /// # Errors
    /// [`JobError`]: nothing was written then.
    pub async fn run(&self, files: &Files, passwords: &mut Passwords, now: Timestamp) -> Result<Outcome, JobError> {
        let manifests = manifests::parse(files)?;
        match &self.out {
            None => self.check(manifests),
            Some(out) => self.compile(out, manifests, passwords, now).await,
        }
    }

    /// Several servers are checked together; an object that leaves open which one it means is not in force then.
    fn check(&self, manifests: Manifests) -> Result<Outcome, JobError> {
        let server = match super::choose(&manifests, self.server.as_ref()) {
            Err(CompileError::SeveralServers(_) | CompileError::NoServer) => None,
            chosen => Some(chosen?),
        };
        let mut compiled = super::index(&manifests, server);
        Passwords::check(&mut compiled, &manifests.secrets);
        for server in compiled.directory.servers().filter(|name| compiled.directory.accepted_server(name).is_some()) {
            Bundle::build(compiled.content(server, &self.ports)?).map_err(CompileError::from)?;
        }
        Ok(outcome(manifests, &compiled, None))
    }

    async fn compile(
        &self,
        out: &Path,
        manifests: Manifests,
        passwords: &mut Passwords,
        now: Timestamp,
    ) -> Result<Outcome, JobError> {
        let server = super::choose(&manifests, self.server.as_ref())
            .map_err(|error| JobError::Unclear { error, problems: manifests.problems.clone() })?;
        let mut compiled = super::index(&manifests, Some(server.clone()));
        let earlier = contract::read(out, env!("CARGO_PKG_VERSION")).ok();
        passwords.resolve(&mut compiled, &manifests.secrets, earlier.as_ref()).await?;
        let content = compiled.content(&server, &self.ports)?;
        let refused = !manifests.problems.is_empty() || !compiled.problems().is_empty();
        let written = match self.strict && refused {
            true => None,
            false => Some(write(out, &compiled, &server, content, &manifests, now)?),
        };
        Ok(outcome(manifests, &compiled, written))
    }
}

fn outcome(manifests: Manifests, compiled: &Compiled, written: Option<Written>) -> Outcome {
    let problems = manifests.problems.into_iter().chain(compiled.problems()).collect();
    Outcome { problems, skipped: manifests.skipped, accepted: compiled.accepted(), written }
}

fn write(
    out: &Path,
    compiled: &Compiled,
    server: &NamespacedName,
    content: Content,
    manifests: &Manifests,
    now: Timestamp,
) -> Result<Written, JobError> {
    let io = |source| JobError::Io { path: out.display().to_string(), source };
    let (listeners, domains, records) =
        (content.server.listeners.clone(), content.domains.len(), content.records.len());
    let bundle = Bundle::build(content).map_err(CompileError::from)?;
    provide_certificate(out, compiled, server, manifests, now)?;
    contract::write(&bundle, out).map_err(io)?;
    let (revision, server) = (bundle.revision().clone(), server.clone());
    Ok(Written { revision, server, listeners, domains, records })
}

/// The certificate of the Secret that the MailServer names, else one of our own, which is kept while it is good.
fn provide_certificate(
    out: &Path,
    compiled: &Compiled,
    server: &NamespacedName,
    manifests: &Manifests,
    now: Timestamp,
) -> Result<(), JobError> {
    let Some(server) = compiled.directory.accepted_server(server) else { return Ok(()) };
    let directory = out.join("tls");
    let io = |source| JobError::Io { path: directory.display().to_string(), source };
    let secret = NamespacedName::new(&server.name.namespace, &render::names::tls_secret(&server));
    if server.spec.tls.secret_ref.is_some() {
        let data = manifests.secrets.get(&secret).and_then(|secret| secret.data.as_ref());
        let part = |key: &str| {
            let missing = || JobError::Certificate(format!("the manifests have no Secret {secret} with the key {key}"));
            data.and_then(|data| data.get(key)).map(|value| value.0.clone()).ok_or_else(missing)
        };
        return write_pair(&directory, &part("tls.crt")?, &part("tls.key")?).map_err(io);
    }
    let mut names = render::certificate::names(&server);
    names.push("localhost".to_owned());
    let present = std::fs::read(directory.join("tls.crt")).ok().zip(std::fs::read(directory.join("tls.key")).ok());
    if let Some((chain, key)) = present {
        let hostname = server.spec.hostname.as_str();
        let judged = certificate::judge(&chain, &key, hostname, true, now, &secret.name);
        if !certificate::needs_renewal(&judged, &names, now) {
            return Ok(());
        }
    }
    names.extend(["127.0.0.1", "::1"].map(str::to_owned));
    let made = certificate::self_signed(&names, now).map_err(|error| JobError::Certificate(error.to_string()))?;
    write_pair(&directory, &made.certificate, &made.key).map_err(io)
}

/// Each file whole by rename; a server that sees a pair that does not match keeps the one before.
fn write_pair(directory: &Path, certificate: &[u8], key: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for (name, bytes) in [("tls.key", key), ("tls.crt", certificate)] {
        let path = directory.join(name);
        if std::fs::read(&path).is_ok_and(|present| present == bytes) {
            continue;
        }
        let temporary = directory.join(format!("{name}.new"));
        write_private(&temporary, bytes)?;
        std::fs::rename(&temporary, &path)?;
    }
    Ok(())
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

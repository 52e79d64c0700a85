//! Ours: a configuration through the contract, and the server as a release build with the log level as shipped.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::load::{Clients, Fetch, answers, free_port};
use crate::process::Daemon;
use crate::{DOMAIN, PASSWORD, SINK_DOMAIN, VERIFIER, VERIFIER_CHEAP};

/// Where ours is built, and what it needs.
#[derive(Debug, Clone)]
pub struct Programs {
    pub server: PathBuf,
    /// The example `write_contract` of the contract's crate.
    pub write_contract: PathBuf,
    /// A certificate and its key, as `tls.crt` and `tls.key`.
    pub certificate: PathBuf,
}

/// What a server is started for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Purpose {
    /// The port of other servers, for mail to [`SINK_DOMAIN`].
    pub outbound_port: Option<u16>,
    /// The name server.
    pub resolver: Option<SocketAddr>,
    /// Mailboxes `idleN` beside the one that receives.
    pub mailboxes: u64,
}

/// A running server of ours.
pub struct Paquebot {
    pub daemon: Daemon,
    pub smtp: u16,
    pub pop3: u16,
    pub directory: PathBuf,
    programs: Programs,
}

impl Paquebot {
    /// Starts one with an empty store below `directory`.
    pub fn start(programs: &Programs, directory: &Path, purpose: Purpose) -> anyhow::Result<Self> {
        let (smtp, pop3) = (free_port()?, free_port()?);
        std::fs::create_dir_all(directory.join("data"))?;
        write_contract(programs, directory, &content(smtp, pop3, purpose))?;
        Self::launch(programs, directory, smtp, pop3)
    }

    fn launch(programs: &Programs, directory: &Path, smtp: u16, pop3: u16) -> anyhow::Result<Self> {
        let mut command = Command::new(&programs.server);
        command.arg("serve").args(["--bind", "127.0.0.1", "--admin-port", "0"]);
        command.arg("--config-dir").arg(directory.join("config")).arg("--data-dir").arg(directory.join("data"));
        let log = directory.join("log");
        let mut daemon = Daemon::start("paquebot-server", &command, &log)?;
        daemon
            .wait_until("its ports were open", || answers(smtp) && answers(pop3))
            .with_context(|| std::fs::read_to_string(log).unwrap_or_default())?;
        Ok(Self { daemon, smtp, pop3, directory: directory.to_owned(), programs: programs.clone() })
    }

    /// Ends the server and starts it again on the same store; between the two, `meanwhile`.
    pub fn restart(self, meanwhile: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let Self { daemon, smtp, pop3, directory, programs } = self;
        daemon.stop()?;
        meanwhile()?;
        Self::launch(&programs, &directory, smtp, pop3)
    }

    /// Messages in the maildrop that receives.
    pub fn messages(&self, clients: &Clients) -> anyhow::Result<u64> {
        let user = format!("box@{DOMAIN}");
        let fetch = Fetch {
            port: self.pop3,
            tls: true,
            user: &user,
            password: PASSWORD,
            command: "STAT",
            count: 0,
            rounds: 1,
            window: 1,
        };
        Ok(clients.fetch(&fetch)?.messages)
    }
}

fn write_contract(programs: &Programs, directory: &Path, content: &Value) -> anyhow::Result<()> {
    let config = directory.join("config");
    let mut writer = Command::new(&programs.write_contract).arg(&config).stdin(Stdio::piped()).spawn()?;
    writer.stdin.take().context("write_contract's input")?.write_all(content.to_string().as_bytes())?;
    ensure!(writer.wait()?.success(), "write_contract failed");
    let tls = config.join("tls");
    std::fs::create_dir_all(&tls)?;
    for name in ["tls.crt", "tls.key"] {
        std::fs::copy(programs.certificate.join(name), tls.join(name))?;
    }
    Ok(())
}

/// The defaults of a MailServer, with room for the connections of the benchmark.
fn content(smtp: u16, pop3: u16, purpose: Purpose) -> Value {
    let mut records = vec![mailbox("box", VERIFIER)];
    let mut name = String::new();
    for number in 0..purpose.mailboxes {
        name.clear();
        // Writing to a String does not fail.
        let _ = write!(name, "idle{number}");
        records.push(mailbox(&name, VERIFIER_CHEAP));
    }
    let resolvers: Vec<String> = purpose.resolver.iter().map(ToString::to_string).collect();
    json!({
        "server": {
            "hostname": "mail.server1.com",
            "listeners": [
                {"name": "smtp", "protocol": "SMTP", "port": smtp},
                {"name": "pop3", "protocol": "POP3", "port": pop3, "clearTextLogins": true},
            ],
            "limits": {
                "maxMessageSize": 64 << 20, "maxRecipients": 100, "connections": 20_000, "perClientConnections": 20_000,
            },
            "outbound": {
                "maxAgeSeconds": 432_000, "delayWarningSeconds": 14_400, "port": purpose.outbound_port.unwrap_or(25),
                "allowedNetworks": ["127.0.0.0/8"],
                "allowedNetworks": ["127.0.0.0/8"],
            },
            "resolvers": {"addresses": resolvers},
            "tls": {"minVersion": "TLS12"},
            "shutdown": {"preStopDelaySeconds": 0, "drainTimeoutSeconds": 5},
        },
        "domains": [{"domain": DOMAIN}],
        "relay": [{
            "name": "bench/loopback", "from": [{"Networks": ["127.0.0.0/8"]}],
            "recipients": {"Domains": [SINK_DOMAIN]},
        }],
        "records": records,
    })
}

fn mailbox(name: &str, verifier: &str) -> Value {
    json!({
        "kind": "Mailbox", "address": format!("{name}@{DOMAIN}"), "verifiers": [verifier],
        "protocols": {"pop3": true, "submission": true},
    })
}

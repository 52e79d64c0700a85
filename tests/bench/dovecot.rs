//! Dovecot from Debian's packages, which serves POP3 from the maildirs that Postfix fills. As the package configures it,
//! apart from paths, users that each Debian has, the same password verifiers as ours, and limits that let thousands of
//! sessions be held.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::load::{answers, free_port};
use crate::postfix::within;
use crate::process::Daemon;
use crate::{DOMAIN, VERIFIER, VERIFIER_CHEAP};

const MAIL: u32 = 8;

/// A running Dovecot.
pub struct Dovecot {
    pub daemon: Daemon,
    pub pop3: u16,
    directory: PathBuf,
    package: PathBuf,
}

impl Dovecot {
    /// Starts one below `directory`, with mailboxes `idleN` beside the one that receives.
    pub fn start(package: &Path, directory: &Path, certificate: &Path, mailboxes: u64) -> anyhow::Result<Self> {
        let pop3 = free_port()?;
        for name in ["run", "state", "mail"] {
            fs::create_dir_all(directory.join(name))?;
        }
        chown(directory.join("mail"), Some(MAIL), Some(MAIL))?;
        let mut users = format!("box@{DOMAIN}:{{ARGON2ID}}{VERIFIER}::::::\n");
        for number in 0..mailboxes {
            // Writing to a String does not fail.
            let _ = writeln!(users, "idle{number}@{DOMAIN}:{{ARGON2ID}}{VERIFIER_CHEAP}::::::");
        }
        fs::write(directory.join("users"), users)?;
        fs::write(directory.join("dovecot.conf"), configuration(directory, certificate, pop3))?;
        Self::launch(package, directory, pop3)
    }

    fn launch(package: &Path, directory: &Path, pop3: u16) -> anyhow::Result<Self> {
        let mut command: Command = within(package);
        command.arg(package.join("usr/sbin/dovecot")).arg("-F").arg("-c").arg(directory.join("dovecot.conf"));
        let log = directory.join("out");
        let mut daemon = Daemon::start("Dovecot", &command, &log)?;
        daemon.wait_until("its port was open", || answers(pop3)).with_context(|| {
            let said = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
            said("out") + &said("log")
        })?;
        Ok(Self { daemon, pop3, directory: directory.to_owned(), package: package.to_owned() })
    }

    /// Ends the server and starts it again on the same mail; between the two, `meanwhile`.
    pub fn restart(self, meanwhile: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let Self { daemon, pop3, directory, package } = self;
        daemon.stop()?;
        meanwhile()?;
        Self::launch(&package, &directory, pop3)
    }

    /// Forgets what Dovecot has noted about the mailbox: the next session is its first.
    pub fn forget(&self) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.directory.join("mail/box"))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("dovecot") {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Puts messages into the maildir, named as Postfix names them.
    pub fn fill(&self, messages: u64, message: impl Fn(u64) -> Vec<u8>) -> anyhow::Result<()> {
        let mailbox = self.directory.join("mail/box");
        for name in ["cur", "new", "tmp"] {
            fs::create_dir_all(mailbox.join(name))?;
            chown(mailbox.join(name), Some(MAIL), Some(MAIL))?;
        }
        chown(&mailbox, Some(MAIL), Some(MAIL))?;
        for number in 0..messages {
            let path =
                mailbox.join(format!("new/{}.V801I{number:x}M{}.mail", 1_700_000_000 + number, number % 1_000_000));
            fs::write(&path, message(number))?;
            chown(&path, Some(MAIL), Some(MAIL))?;
        }
        Ok(())
    }
}

fn configuration(directory: &Path, certificate: &Path, pop3: u16) -> String {
    let (place, certificate) = (directory.display(), certificate.display());
    format!(
        "
protocols = pop3
listen = 127.0.0.1
base_dir = {place}/run
state_dir = {place}/state
log_path = {place}/log
default_internal_user = news
default_internal_group = news
default_login_user = games
first_valid_uid = 1
disable_plaintext_auth = no
ssl = yes
ssl_cert = <{certificate}/tls.crt
ssl_key = <{certificate}/tls.key
mail_location = maildir:{place}/mail/%n
mail_max_userip_connections = 0
default_vsz_limit = 0
passdb {{
  driver = passwd-file
  args = username_format=%u {place}/users
}}
userdb {{
  driver = static
  args = uid={MAIL} gid={MAIL} home={place}/mail/%n
}}
service pop3-login {{
  process_limit = 19000
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service pop3 {{
  process_limit = 19000
}}
service auth {{
  client_limit = 19000
}}
service anvil {{
  client_limit = 19000
}}
"
    )
}

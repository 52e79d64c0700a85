//! Runs Pigeonhole's `sieve-test` on a case, and reads what it says.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::Case;

/// What a case came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A script was refused.
    Invalid,
    /// It was ended by an error, and the message kept.
    Failed,
    /// What is to be done.
    Actions(BTreeSet<String>),
}

/// Where the packages are unpacked.
pub struct Oracle {
    tree: PathBuf,
}

const PROGRAM: &str = "usr/bin/sieve-test";

impl Oracle {
    /// `PIGEONHOLE` says where; else where the scripts of this repository unpack it.
    pub fn find() -> Self {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let cache = variable("PAQUEBOT_CACHE").or_else(|| Some(variable("XDG_CACHE_HOME")?.join("paquebot")));
        let cache = cache.unwrap_or_else(|| variable("HOME").unwrap_or("/root".into()).join(".cache/paquebot"));
        let tree = variable("PIGEONHOLE").unwrap_or_else(|| cache.join("unpacked-dovecot-core+dovecot-sieve"));
        let missing = "there is no Pigeonhole to compare with: run scripts/test unit, which unpacks it, or see the top of main.rs";
        assert!(tree.join(PROGRAM).exists(), "{missing}");
        Self { tree }
    }

    pub fn verdict(&self, case: &Case) -> Verdict {
        let directory = tempfile::tempdir().unwrap();
        let output = self.run(case, directory.path(), &[]);
        let errors = String::from_utf8_lossy(&output.stderr);
        if errors.contains("failed to compile sieve script") {
            return Verdict::Invalid;
        }
        if errors.contains("final result: failed") {
            return Verdict::Failed;
        }
        assert!(errors.contains("final result: success"), "{case:?}\n{errors}");
        let said = String::from_utf8_lossy(&output.stdout);
        let mut actions = BTreeSet::new();
        let mut kept = false;
        for line in said.lines() {
            if line.starts_with("## Executing script") {
                // The keep of a script that another one follows is not carried out.
                kept = false;
            } else if let Some(folder) = line.strip_prefix(" * store message in folder: ") {
                actions.insert(format!("store {folder}"));
            } else if let Some(address) = line.strip_prefix(" * redirect message to: <") {
                actions.insert(format!("redirect {}", address.trim_end_matches('>')));
            } else if let Some(reason) = line.strip_prefix(" * reject message with reason: ") {
                actions.insert(format!("reject {reason}"));
            } else if line == " * keep" {
                kept = true;
            }
        }
        if kept {
            actions.insert("store INBOX".to_owned());
        }
        Verdict::Actions(actions)
    }

    /// Whether the sender is answered, after all guards.
    pub fn replies(&self, case: &Case) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let location = format!("maildir:{}/mail", directory.path().display());
        let output = self.run(case, directory.path(), &["-e", "-l", &location]);
        String::from_utf8_lossy(&output.stdout).contains("Auto-Submitted: auto-replied")
    }

    /// The header of the one message that is in the inbox after the script's actions were taken.
    pub fn stored(&self, case: &Case) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let location = format!("maildir:{}/mail", directory.path().display());
        let output = self.run(case, directory.path(), &["-e", "-l", &location]);
        let new: Vec<_> = std::fs::read_dir(directory.path().join("mail/new")).unwrap().collect();
        assert_eq!(new.len(), 1, "{}", String::from_utf8_lossy(&output.stderr));
        let octets = std::fs::read(new.into_iter().next().unwrap().unwrap().path()).unwrap();
        // Maildirs have LF line ends; the header ends at the first empty line.
        let end = octets.windows(2).position(|pair| pair == b"\n\n").map_or(octets.len(), |end| end + 1);
        if octets.starts_with(b"\n") { Vec::new() } else { octets[..end].to_vec() }
    }

    /// Dovecot's programs read their settings from the environment where `DOVECONF_ENV` is set, and refuse to work as root.
    fn run(&self, case: &Case, directory: &Path, arguments: &[&str]) -> Output {
        let own = std::fs::metadata(directory).unwrap().uid();
        let user = if own == 0 { 65_534 } else { own };
        let open = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        open(directory, 0o777);
        let mut scripts = Vec::new();
        for (number, script) in case.scripts.iter().enumerate() {
            let path = directory.join(format!("{number}.sieve"));
            std::fs::write(&path, script).unwrap();
            open(&path, 0o644);
            // Absolute names are taken for another kind of storage.
            scripts.push(format!("{number}.sieve"));
        }
        let message = directory.join("message");
        std::fs::write(&message, &case.message).unwrap();
        open(&message, 0o644);
        let mut command = Command::new(self.tree.join(PROGRAM));
        let libraries = [self.tree.join("usr/lib/dovecot"), self.tree.join("usr/lib/x86_64-linux-gnu")];
        command
            .current_dir(directory)
            .env_clear()
            .env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap())
            .env("DOVECONF_ENV", "1")
            .env("TZ", "UTC")
            .env("HOME", directory)
            .env("BASE_DIR", directory.join("run"))
            .env("LOG_PATH", "/dev/stderr")
            .env("MAIL_LOCATION", format!("maildir:{}/mail", directory.display()))
            .env("MAIL_HOME", directory)
            .env("MAIL_PLUGIN_DIR", "/nonexistent")
            .env("POSTMASTER_ADDRESS", "postmaster@server1.com")
            .env("MAIL_UID", user.to_string())
            .env("MAIL_GID", user.to_string())
            .env("FIRST_VALID_UID", "1")
            .env("FIRST_VALID_GID", "1")
            .env("RECIPIENT_DELIMITER", "+")
            .env("PLUGIN", "sieve_extensions sieve_max_redirects")
            .env("PLUGIN/SIEVE_EXTENSIONS", "+editheader +vacation-seconds +duplicate")
            .env("PLUGIN/SIEVE_MAX_REDIRECTS", "5")
            .args(arguments)
            .args(["-C", "-a", case.to, "-r", case.to, "-f", case.from]);
        for script in &scripts[..scripts.len() - 1] {
            command.args(["-s", script]);
        }
        command.arg(&scripts[scripts.len() - 1]).arg(&message).output().unwrap()
    }
}

/// The fields of a header section, unfolded, without line ends.
pub fn fields(header: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(header).replace("\r\n", "\n");
    let text = text.replace("\n ", " ").replace("\n\t", "\t");
    text.lines().filter(|line| !line.is_empty()).map(|line| line.trim_end().to_owned()).collect()
}

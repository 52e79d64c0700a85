//! Postfix from Debian's package: as the package configures it, and tuned as a good administrator would for this work.
//!
//! Both run from a copy of the package that is not installed, on loopback, with a queue and maildirs on the benchmark's
//! disk. What they need to run so is the same for both: paths, a log file (`postlogd`, Postfix' own way where there is no
//! syslog), one virtual domain with a maildir, no chroot jail (Debian's needs files of the installed system). Neither turns
//! a sync off.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::DOMAIN;
use crate::load::{answers, free_port};
use crate::process::Daemon;

/// System users that each Debian has. Postfix wants one that owns nothing else, and drops to it; so no user is made.
const OWNER: u32 = 9; // news
const DELIVERED_BY: u32 = 8; // mail
const QUEUES: [&str; 14] = [
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "public", "maildrop",
    "saved", "trace", "pid",
];

/// What a good administrator changes on a machine that does nothing else. Lookups that nobody needs are left out, mail is
/// not slowed when it comes faster than it goes, processes live longer, connections to the next hop are kept.
const TUNED: &str = "
in_flow_delay = 0
default_process_limit = 200
max_use = 5000
max_idle = 600s
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_restrictions =
smtpd_helo_restrictions =
smtpd_sender_restrictions =
receive_override_options = no_header_body_checks,no_address_mappings
default_destination_concurrency_limit = 50
virtual_destination_concurrency_limit = 50
initial_destination_concurrency = 20
default_destination_rate_delay = 0
qmgr_message_active_limit = 50000
qmgr_message_recipient_limit = 50000
smtp_connection_cache_destinations = [127.0.0.1]
smtp_connection_cache_time_limit = 10s
smtp_destination_concurrency_limit = 50
smtp_tls_security_level = none
smtpd_tls_security_level = none
";

/// A running Postfix.
pub struct Postfix {
    pub daemon: Daemon,
    pub smtp: u16,
    queue: PathBuf,
    maildrop: PathBuf,
}

impl Postfix {
    /// Starts one below `directory`; mail for other domains goes to the sink's port, if there is one.
    pub fn start(package: &Path, directory: &Path, tuned: bool, relay_to: Option<u16>) -> anyhow::Result<Self> {
        let smtp = free_port()?;
        let config = directory.join("config");
        lay_out(directory)?;
        fs::write(config.join("main.cf"), main_cf(package, directory, tuned, relay_to)?)?;
        fs::write(config.join("master.cf"), master_cf(package, smtp)?)?;
        let mut command = within(package);
        command.arg(package.join("usr/lib/postfix/sbin/master")).arg("-d").arg("-c").arg(&config);
        let log = directory.join("out");
        let mut daemon = Daemon::start("Postfix", &command, &log)?;
        daemon
            .wait_until("its port was open", || answers(smtp))
            .with_context(|| fs::read_to_string(log).unwrap_or_default())?;
        Ok(Self { daemon, smtp, queue: directory.join("queue"), maildrop: directory.join("mail/box/new") })
    }

    /// Messages in the maildir.
    pub fn messages(&self) -> u64 {
        fs::read_dir(&self.maildrop).map_or(0, |entries| entries.count() as u64)
    }

    /// Waits until nothing is in the queue any more.
    pub fn wait_until_delivered(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !["incoming", "active", "maildrop"].iter().all(|queue| is_empty(&self.queue.join(queue))) {
            ensure!(Instant::now() < deadline, "Postfix does not deliver");
            std::thread::sleep(Duration::from_millis(2));
        }
        if !is_empty(&self.queue.join("deferred")) {
            bail!("Postfix deferred mail: its log in {} says why", self.queue.display());
        }
        Ok(())
    }
}

/// A command that sees the unpacked package as if it were installed, and nobody else does.
pub fn within(package: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--", "sh", "-c"]);
    command.arg("mount -t overlay overlay -o lowerdir=\"$1\"/usr:/usr /usr && shift && exec \"$@\"");
    command.arg("within").arg(package);
    command
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

fn lay_out(directory: &Path) -> anyhow::Result<()> {
    for name in ["config", "data", "mail"] {
        fs::create_dir_all(directory.join(name))?;
    }
    chown(directory.join("data"), Some(OWNER), None)?;
    chown(directory.join("mail"), Some(DELIVERED_BY), Some(DELIVERED_BY))?;
    for name in QUEUES {
        let queue = directory.join("queue").join(name);
        fs::create_dir_all(&queue)?;
        if name != "pid" {
            chown(queue, Some(OWNER), None)?;
        }
    }
    Ok(())
}

fn main_cf(package: &Path, directory: &Path, tuned: bool, relay_to: Option<u16>) -> anyhow::Result<String> {
    let shipped = fs::read_to_string(package.join("usr/share/postfix/main.cf.debian"))?;
    let (package, place) = (package.display(), directory.display());
    let relayhost = relay_to.map(|port| format!("[127.0.0.1]:{port}")).unwrap_or_default();
    let needed = format!(
        "
command_directory = {package}/usr/sbin
daemon_directory = {package}/usr/lib/postfix/sbin
shlib_directory = {package}/usr/lib/postfix
meta_directory = {place}/config
queue_directory = {place}/queue
data_directory = {place}/data
maillog_file = {place}/log
maillog_file_prefixes = {place}
mail_owner = news
setgid_group = uucp
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mail.postfix.test
mydestination =
alias_maps =
relayhost = {relayhost}
smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
message_size_limit = 67108864
virtual_mailbox_limit = 0
virtual_mailbox_domains = {DOMAIN}
virtual_mailbox_base = {place}/mail
virtual_mailbox_maps = static:box/
virtual_minimum_uid = 1
virtual_uid_maps = static:{DELIVERED_BY}
virtual_gid_maps = static:{DELIVERED_BY}
"
    );
    Ok([shipped.as_str(), needed.as_str(), if tuned { TUNED } else { "" }].concat())
}

/// The package's services up to those that call other programs, with the benchmark's port and without a jail.
fn master_cf(package: &Path, smtp: u16) -> anyhow::Result<String> {
    let shipped = fs::read_to_string(package.join("usr/share/postfix/master.cf.dist"))?;
    let mut lines = Vec::new();
    for line in shipped.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields.as_slice() {
            ["maildrop", ..] => break,
            ["smtp", "inet", ..] => lines.push(format!("127.0.0.1:{smtp} inet n - n - - smtpd")),
            [name, kind, private, unprivileged, "y", rest @ ..] if !line.starts_with(' ') => {
                lines.push(format!("{name} {kind} {private} {unprivileged} n {}", rest.join(" ")));
            }
            _ => lines.push(line.to_owned()),
        }
    }
    Ok(lines.join("\n") + "\n")
}

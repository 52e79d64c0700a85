//! The clients: Postfix' `smtp-source` and `smtp-sink`, and `mail-load`, a C program below `client/`. None of them is ours.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// Where the clients are.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Debian's packages, unpacked over one another; Postfix' two programs are in it.
    pub packages: PathBuf,
    pub mail_load: PathBuf,
}

/// What `smtp-source` sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mail {
    /// Octets of a message.
    pub octets: u64,
    /// Connections at once.
    pub connections: u64,
    /// Whether a connection carries many messages, or one.
    pub many: bool,
}

/// A port of loopback that is free now.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Whether somebody accepts connections on a port.
pub fn answers(port: u16) -> bool {
    std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

impl Clients {
    /// A program of Postfix', which ends when the benchmark does.
    fn of_postfix(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.env("LD_LIBRARY_PATH", self.packages.join("usr/lib/postfix"));
        command.args(["--pdeathsig", "KILL", "--"]).arg(self.packages.join("usr/sbin").join(name));
        command
    }

    /// Sends messages and waits for the last reply; yields the seconds.
    pub fn send(&self, port: u16, recipient: &str, mail: Mail, messages: u64) -> anyhow::Result<f64> {
        let mut command = self.of_postfix("smtp-source");
        if mail.many {
            command.arg("-d");
        }
        let numbers = [("-s", mail.connections.min(messages)), ("-m", messages), ("-l", mail.octets)];
        for (option, number) in numbers {
            command.args([option, &number.to_string()]);
        }
        command.args(["-f", "sender@client.test", "-t", recipient, &format!("inet:127.0.0.1:{port}")]);
        let begun = Instant::now();
        let output = command.stdin(Stdio::null()).output().context("smtp-source")?;
        let seconds = begun.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && said.is_empty(), "smtp-source ({}): {said}", output.status);
        Ok(seconds)
    }

    /// One POP3 session; `mail-load`'s own words say what `command`, `count` and `window` are.
    pub fn fetch(&self, fetch: &Fetch) -> anyhow::Result<Fetched> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.mail_load);
        let security = if fetch.tls { "tls" } else { "clear" };
        command.args(["pop3", "127.0.0.1", &fetch.port.to_string(), security, fetch.user, fetch.password]);
        command
            .args([fetch.command, &fetch.count.to_string(), &fetch.rounds.to_string()])
            .arg(fetch.window.to_string());
        let output = command.stdin(Stdio::null()).output().context("mail-load")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "POP3 on port {}: {said}", fetch.port);
        let said: Value = serde_json::from_slice(&output.stdout)?;
        let number = |name: &str| said[name].as_f64().with_context(|| format!("mail-load did not say {name}"));
        Ok(Fetched {
            stat: number("stat")?,
            seconds: number("seconds")?,
            messages: number("messages")? as u64,
            octets: number("octets")? as u64,
        })
    }

    /// Puts what the files below a directory hold out of memory, and what the system knows of directories. Other
    /// programs' files stay where they are.
    pub fn evict(&self, directory: &Path) -> anyhow::Result<()> {
        ensure!(Command::new("sync").status()?.success(), "sync failed");
        let status = Command::new(&self.mail_load).arg("evict").arg(directory).status()?;
        ensure!(status.success(), "the files of {} could not be put out of memory", directory.display());
        std::fs::write("/proc/sys/vm/drop_caches", "2").context("drop_caches")
    }

    /// Opens connections that say nothing more, and keeps them until the result is dropped.
    pub fn idle(&self, port: u16, protocol: &str, count: u64, name: &str) -> anyhow::Result<Idle> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.mail_load);
        command.args(["idle", "127.0.0.1", &port.to_string(), protocol, &count.to_string()]);
        command.args([name, crate::DOMAIN, crate::PASSWORD]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let mut said = String::new();
        let stdout = child.stdout.take().context("mail-load's output")?;
        BufReader::new(stdout).read_line(&mut said)?;
        let mut idle = Idle { child, _stdin: stdin };
        if said != "ready\n" {
            let mut error = String::new();
            idle.child.stderr.take().context("mail-load's errors")?.read_to_string(&mut error)?;
            bail!("idle connections to port {port}: {error}");
        }
        Ok(idle)
    }

    /// Starts a sink, which takes mail and throws it away.
    pub fn sink(&self) -> anyhow::Result<Sink> {
        let port = free_port()?;
        let mut command = self.of_postfix("smtp-sink");
        command.args(["-c", "-u", "nobody", &format!("inet:127.0.0.1:{port}"), "1000"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("smtp-sink")?;
        let messages = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&messages);
        let stdout = child.stdout.take().context("smtp-sink's output")?;
        std::thread::spawn(move || count_messages(BufReader::new(stdout), &counter));
        let sink = Sink { port, child, messages };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !answers(port) {
            ensure!(Instant::now() < deadline, "smtp-sink does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(sink)
    }
}

/// With `-c` a sink writes `sess=… quit=… mesg=…` and a carriage return whenever a number changes.
fn count_messages(mut output: impl std::io::BufRead, counter: &AtomicU64) {
    let mut piece = Vec::new();
    while matches!(output.read_until(b'\r', &mut piece), Ok(length) if length > 0) {
        let said = String::from_utf8_lossy(&piece);
        let number = said.split_once("mesg=").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        if let Some(number) = number {
            counter.store(number, Ordering::Relaxed);
        }
        piece.clear();
    }
}

/// One POP3 session to be held.
#[derive(Debug, Clone, Copy)]
pub struct Fetch<'a> {
    pub port: u16,
    pub tls: bool,
    pub user: &'a str,
    pub password: &'a str,
    pub command: &'a str,
    /// Messages; 0: all.
    pub count: u64,
    /// How often each is fetched.
    pub rounds: u64,
    /// Commands on their way at once.
    pub window: u64,
}

/// What a POP3 session took.
#[derive(Debug, Clone, Copy)]
pub struct Fetched {
    /// Seconds from connect until STAT was answered.
    pub stat: f64,
    /// Seconds of the commands.
    pub seconds: f64,
    pub messages: u64,
    pub octets: u64,
}

/// Connections that say nothing.
pub struct Idle {
    child: Child,
    _stdin: Option<ChildStdin>,
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running `smtp-sink`.
pub struct Sink {
    pub port: u16,
    child: Child,
    messages: Arc<AtomicU64>,
}

impl Sink {
    /// Messages so far.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Waits until there are so many.
    pub fn wait_for(&self, messages: u64) -> anyhow::Result<()> {
        let (mut last, mut progress) = (self.messages(), Instant::now());
        loop {
            let found = self.messages();
            if found >= messages {
                return Ok(());
            }
            if found != last {
                (last, progress) = (found, Instant::now());
            }
            ensure!(
                progress.elapsed() < Duration::from_secs(60),
                "the sink has {found} of {messages} messages, and no more come"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sinks_counter_is_read_as_it_writes_it() {
        let counter = AtomicU64::new(0);
        count_messages(&b"sess=1 quit=0 mesg=0\rsess=1 quit=0 mesg=41\rsess=1 quit=1 mesg=42\r"[..], &counter);
        assert_eq!(counter.into_inner(), 42);
    }
}

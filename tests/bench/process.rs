//! A server under measurement as the operating system sees it: one process or a family of them, its processor time and
//! its memory, read from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// `/proc` counts processor time in these, on every architecture (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;
/// How long a server may take to end by itself.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// A server that was started here. It ends when this is dropped, and also when the benchmark itself is killed.
pub struct Daemon {
    name: String,
    child: Child,
}

/// Memory of all processes of a server, in octets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Resident, with what is shared counted for each process.
    pub resident: u64,
    /// Resident, with what is shared divided among those who share it.
    pub proportional: u64,
    /// How many processes there are.
    pub processes: u64,
}

impl Daemon {
    /// Starts `command`, with what it says in a log.
    pub fn start(name: &str, command: &Command, log: &Path) -> anyhow::Result<Self> {
        let output = fs::File::create(log).with_context(|| format!("creating {}", log.display()))?;
        // The kernel ends it when this process ends, however that happens.
        let mut wrapped = Command::new("setpriv");
        wrapped.args(["--pdeathsig", "TERM", "--"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            wrapped.env(key, value.unwrap_or_default());
        }
        // Postfix signals its process group when it ends: it has one of its own.
        wrapped.process_group(0);
        wrapped.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = wrapped.spawn().with_context(|| format!("starting {name}"))?;
        Ok(Self { name: name.to_owned(), child })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready`, or says that the server ended.
    pub fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} before {what}", self.name);
            }
            if Instant::now() > deadline {
                bail!("{}: waited in vain for {what}", self.name);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Seconds of processor time, user and system, that all processes of the server have used so far, with those that
    /// have ended.
    pub fn processor_seconds(&self) -> anyhow::Result<f64> {
        let mut ticks = 0;
        for id in family(self.id())? {
            // A process may end between the two looks; its parent has its time then.
            if let Some(stat) = Stat::read(id) {
                ticks += stat.ticks;
            }
        }
        Ok(ticks as f64 / TICKS_PER_SECOND)
    }

    /// What all processes of the server hold now.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let mut total = Memory::default();
        for id in family(self.id())? {
            let Ok(rollup) = fs::read_to_string(format!("/proc/{id}/smaps_rollup")) else { continue };
            total.resident += field(&rollup, "Rss:");
            total.proportional += field(&rollup, "Pss:");
            total.processes += 1;
        }
        Ok(total)
    }

    /// Begins to watch for the peak of the first process' resident memory.
    pub fn reset_peak(&self) -> anyhow::Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.id()), "5").context("clear_refs")
    }

    /// The peak of the first process' resident memory since [`Daemon::reset_peak`], in octets.
    pub fn peak(&self) -> anyhow::Result<u64> {
        Ok(field(&fs::read_to_string(format!("/proc/{}/status", self.id()))?, "VmHWM:"))
    }

    /// Ends the server and waits for it.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.end();
        Ok(())
    }

    fn end(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let relatives = family(self.id()).unwrap_or_default();
        let _ = Command::new("kill").args(["-TERM", &self.id().to_string()]).status();
        let deadline = Instant::now() + END_PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
        }
        if let Ok(status) = self.child.wait()
            && status.signal() == Some(9)
        {
            crate::say(&format!("{} did not end by itself", self.name));
        }
        // Postfix' and Dovecot's processes leave when they notice that the first one has gone.
        let deadline = Instant::now() + Duration::from_secs(5);
        for id in relatives {
            while Path::new(&format!("/proc/{id}")).exists() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            if Stat::read(id).is_some_and(|stat| stat.parent == 1) {
                let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

/// What `/proc/PID/stat` says.
struct Stat {
    parent: u32,
    /// User and system time of the process and of its children that have ended.
    ticks: u64,
}

impl Stat {
    fn read(id: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    /// Fields are counted after the name, which may hold spaces and parentheses: `proc(5)`.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
        Some(Self { parent: u32::try_from(number(1)?).ok()?, ticks })
    }
}

/// A process and all that descend from it.
fn family(first: u32) -> anyhow::Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(stat) = Stat::read(id) {
            children.entry(stat.parent).or_default().push(id);
        }
    }
    let mut members = vec![first];
    let mut next = 0;
    while let Some(member) = members.get(next) {
        members.extend(children.get(member).into_iter().flatten());
        next += 1;
    }
    Ok(members)
}

/// A field of a `/proc` file that counts kilobytes, in octets.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name_of_the_process() {
        let stat = Stat::parse("12 (a) b (c) S 7 12 12 0 -1 0 1 2 3 4 100 20 3 4 20 0 1 0").unwrap();
        assert_eq!((stat.parent, stat.ticks), (7, 127));
    }

    #[test]
    fn sizes_are_octets() {
        assert_eq!(field("Rss:      12 kB\nPss:  3 kB\n", "Pss:"), 3072);
    }
}

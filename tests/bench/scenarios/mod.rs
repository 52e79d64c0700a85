//! What is measured. Each scenario runs all its servers in turn within each repetition, so that what disturbs the machine
//! for a while disturbs all of them.

mod curve;
mod fetch;
mod inbound;
mod memory;
mod relay;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::ensure;

use crate::load::Clients;
use crate::results::Results;
use crate::{paquebot, say};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Some minutes less, for a look while something is being changed.
    Quick,
    /// Everything but the curve.
    Full,
    /// What a message costs as the store grows, and nothing else.
    Curve,
}

/// What every scenario needs.
#[derive(Debug, Clone)]
pub struct Bench {
    pub mode: Mode,
    pub clients: Clients,
    pub programs: paquebot::Programs,
    /// Debian's packages, unpacked over one another.
    pub packages: PathBuf,
    /// A directory on the disk that is measured.
    pub place: PathBuf,
}

impl Bench {
    /// The one or the other, as the mode is.
    pub fn choose<T>(&self, quick: T, full: T) -> T {
        match self.mode {
            Mode::Quick => quick,
            Mode::Full | Mode::Curve => full,
        }
    }

    /// An empty directory for one scenario. Other users have to reach what is in it.
    pub fn directory(&self, name: &str) -> anyhow::Result<PathBuf> {
        let directory = self.place.join(name);
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        std::fs::create_dir_all(&directory)?;
        Ok(directory)
    }
}

type Part = fn(&Bench, &mut Results) -> anyhow::Result<()>;

/// Measures everything; with `BENCH_ONLY` the parts whose names hold that word. Yields whether no part failed.
pub fn run(bench: &Bench, results: &mut Results) -> anyhow::Result<bool> {
    if bench.mode == Mode::Curve {
        return curve::run(bench, results).map(|()| true);
    }
    let begun = Instant::now();
    let parts: [(&str, Part); 5] = [
        ("inbound, durable to the mailbox", inbound::run),
        ("relayed through the queue", relay::run),
        ("fetched by POP3", fetch::run),
        ("sessions that wait", memory::idle),
        ("a large message", memory::large),
    ];
    let mut failed = Vec::new();
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    for (name, part) in parts {
        if name.contains(&only) {
            say(&format!("{name} ({} s so far)", begun.elapsed().as_secs()));
            // What the others measured is of use all the same.
            if let Err(error) = part(bench, results) {
                say(&format!("FAILED: {error:?}"));
                failed.push(name);
            }
        }
    }
    say(&format!("measured in {} s", begun.elapsed().as_secs()));
    if !failed.is_empty() {
        results.fact("Not measured, or only in part", failed.join("; "));
    }
    Ok(failed.is_empty())
}

/// Brings everything to the disk, so that one server's leftovers are not written in another's time.
pub fn settle() -> anyhow::Result<()> {
    ensure!(Command::new("sync").status()?.success(), "sync failed");
    Ok(())
}

/// Removes a scenario's directory.
pub fn clear(directory: &Path) {
    if let Err(error) = std::fs::remove_dir_all(directory) {
        say(&format!("{} stays: {error}", directory.display()));
    }
}

//! What the fuzzer runs: a function for each parser and each protocol machine, which takes any bytes and panics when a
//! promise is broken. `make fuzz` feeds them with what coverage guides it to (`src/bin/fuzz.rs`); the tests feed them with
//! the seeds, with what was found before (`regressions/`), and briefly with what [`mutation`] makes of both.

// A broken promise has to end the run: that is what a fuzzer looks for.
#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)]

mod input;
pub mod mutation;
mod targets;

pub use targets::TARGETS;

/// One thing that is fuzzed.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: of its folders below `seeds/` and `regressions/`, and on the command line.
    pub name: &'static str,
    /// Takes any bytes; panics when a promise is broken.
    pub run: fn(&[u8]),
    /// The most octets that make sense.
    pub longest: usize,
}

/// The target of a name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}

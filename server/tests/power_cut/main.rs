//! Whether what the server answered is true after the power went: a real `paquebot-server serve`, its store on a volume of
//! its own (ext4 with a journal, on a loop device), mail clients and another mail server beside it, and failures.
//!
//! `cargo test -p paquebot-server --test power-cut [-- SCENARIO…]`; scenarios are listed in [`SCENARIOS`].
//!
//! - `POWER_CUTS` says how many times the power goes (20 without it; `make power-cut` says 200).
//! - `POWER_CUT_SEED` repeats the moments and the mail of another run, as far as the machine's timing lets it.
//!
//! It needs root and a free loop device. Everything happens in a mount and process namespace: however this program ends,
//! its processes, mounts and loop devices go with it.

// All of this crate is a test, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, clippy::expect_used)]

mod cuts;
#[path = "../outbound/dns.rs"]
#[allow(dead_code)]
mod dns;
mod full;
mod input_output;
mod ledger;
mod load;
mod messages;
mod random;
mod sink;
#[path = "../support/mod.rs"]
mod support;
mod volume;
mod wire;
mod world;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Set in the namespace.
const INSIDE: &str = "POWER_CUT_INSIDE";

/// What there is, in the order in which it runs.
const SCENARIOS: &[(&str, fn())] = &[
    ("a_volume_that_is_cut_off_loses_what_was_not_synced", volume::canary),
    ("nothing_acknowledged_is_lost_when_the_power_goes", cuts::power),
    ("nothing_acknowledged_is_lost_when_the_process_is_killed", cuts::kills),
    ("a_full_volume_refuses_mail_says_so_and_recovers", full::full_volume),
    ("a_volume_that_fails_ends_the_process_and_loses_nothing", input_output::errors),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if std::env::var_os(INSIDE).is_none() {
        return enter_namespace();
    }
    let (mut passed, mut failed) = (0, 0);
    for (name, scenario) in SCENARIOS {
        if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        println!("--- {name}");
        let started = Instant::now();
        // What a panic says is on the screen already.
        let outcome = std::thread::Builder::new().name((*name).to_owned()).spawn(scenario).unwrap().join();
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        *(if outcome.is_ok() { &mut passed } else { &mut failed }) += 1;
        println!("{name}: {word} ({:.1} s)", started.elapsed().as_secs_f64());
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Becomes this program again, where mounts and processes are its own and end with it.
fn enter_namespace() -> ExitCode {
    if let Err(missing) = volume::requirements() {
        eprintln!("error: the power-cut suite cannot run here: {missing}");
        return ExitCode::FAILURE;
    }
    let error = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    eprintln!("error: unshare(1) of util-linux is needed: {error}");
    ExitCode::FAILURE
}

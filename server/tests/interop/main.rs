//! Programs that we did not write: mail clients that send to us and fetch from us (Python's in `python_clients.py`, others
//! in [`clients`]), and mail servers that relay to us and receive from us ([`peers`]). They come from Debian ([`debian`]).

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod debian;
mod peers;

use std::process::Command;

use support::{Server, content};

/// Runs the Python side; its failure is the test's.
fn python(server: &Server, more: &[&str]) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/python_clients.py");
    let mut command = Command::new("python3");
    command.arg(script).args(["--certificate", server.home.certificate_file().to_str().unwrap()]).args(more);
    for name in ["submission", "submissions", "pop3", "pop3s"] {
        command.args([format!("--{name}"), server.address(name).port().to_string()]);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n--- server\n{}", server.log());
    println!("{text}");
    text
}

#[test]
fn messages_go_through_unchanged() {
    let server = Server::start(content::story());
    python(&server, &[]);
}

#[test]
fn a_large_message_costs_no_memory() {
    let server = Server::start(content::story());
    println!("resident memory after the start {} KiB", server.resident_kib());
    // Warm: threads, TLS, Argon2's memory, SQLite's caches.
    python(&server, &["--large", "2000000"]);
    server.reset_peak();
    let before = server.peak_resident_kib();
    python(&server, &["--large", "25000000"]);
    let after = server.peak_resident_kib();
    println!("peak resident memory {before} KiB, after a message of 25 MB {after} KiB");
    assert!(after < before + 8 * 1024, "{before} KiB before, {after} KiB after");
}

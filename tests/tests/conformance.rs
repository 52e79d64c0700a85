//! The conformance suites against our server: every requirement is kept, and none is skipped on all ports.

#![allow(clippy::unwrap_used)]

#[path = "../../server/tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::process::Command;

use paquebot_config::{AliasRecord, Record};
use support::{Server, content};

/// Octets: small, so that a message that is too large costs little.
const MAX_MESSAGE_SIZE: u64 = 1 << 20;

/// Each run has a mailbox of its own, so that they can run at the same time.
const MAILBOXES: [&str; 6] = ["one", "two", "three", "four", "five", "six"];

fn served() -> Server {
    let mut content = content::story();
    content.server.limits.max_message_size = MAX_MESSAGE_SIZE;
    let alias = |address: &str, target: &str| {
        Record::Alias(AliasRecord { address: address.parse().unwrap(), targets: vec![target.parse().unwrap()] })
    };
    content.records.push(alias("postmaster@server1.com", "tom@server1.com"));
    for name in MAILBOXES {
        content.records.push(content::mailbox(&format!("{name}@server1.com"), "password"));
    }
    Server::start(content)
}

/// One run of a suite.
struct Run {
    name: &'static str,
    suite: &'static str,
    /// The listener.
    port: &'static str,
    tls: &'static str,
    mailbox: &'static str,
    /// Whether the mailbox's owner logs in.
    login: bool,
}

/// What came of each requirement of one run: `PASS`, `FAIL` or `SKIP`, and the lines that say so.
type Outcomes = BTreeMap<String, (String, String)>;

fn run(server: &Server, run: &Run) -> Outcomes {
    let password = server.home.directory.path().join(format!("{}-password", run.mailbox));
    std::fs::write(&password, "password\n").unwrap();
    let mailbox = format!("{}@server1.com", run.mailbox);
    let port = |name: &str| server.address(name).port().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
    command.args([run.suite, "--port", &port(run.port), "--tls", run.tls]);
    if run.login {
        command.args(["--user", &mailbox]).arg("--password-file").arg(&password);
    }
    if run.suite == "smtp" {
        command.args(["--served-recipient", &mailbox, "--maildrop-port", &port("pop3s"), "--maildrop-tls", "implicit"]);
        command.arg("--maildrop-password-file").arg(&password);
    } else {
        command.args(["--deliver-port", &port("smtp")]);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(" passed, "), "{text}{}", String::from_utf8_lossy(&output.stderr));
    outcomes(&text)
}

fn outcomes(text: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut last = String::new();
    for line in text.lines() {
        let (outcome, requirement) = line.split_at_checked(4).unwrap_or((line, ""));
        if ["PASS", "FAIL", "SKIP"].contains(&outcome) {
            last = requirement.split(" (").next().unwrap_or_default().trim().to_owned();
            outcomes.insert(last.clone(), (outcome.to_owned(), line.to_owned()));
        } else if let Some((_, said)) = outcomes.get_mut(&last) {
            *said += &format!("\n{line}");
        }
    }
    outcomes
}

/// No requirement fails anywhere, and each is kept somewhere.
fn assert_kept(runs: &[Run]) {
    let server = served();
    let all: Vec<(&str, Outcomes)> = std::thread::scope(|scope| {
        let started: Vec<_> = runs.iter().map(|one| (one.name, scope.spawn(|| run(&server, one)))).collect();
        started.into_iter().map(|(name, thread)| (name, thread.join().unwrap())).collect()
    });
    let mut complaints = Vec::new();
    for requirement in all[0].1.keys() {
        let outcomes: Vec<(&str, &(String, String))> =
            all.iter().map(|(name, one)| (*name, &one[requirement])).collect();
        for (name, (outcome, said)) in &outcomes {
            if outcome == "FAIL" {
                complaints.push(format!("{name}: {said}"));
            }
        }
        if outcomes.iter().all(|(_, (outcome, _))| outcome == "SKIP") {
            complaints.push(format!("on every port: {}", outcomes[0].1.1));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn smtp() {
    let one = |name, port, tls, mailbox, login| Run { name, suite: "smtp", port, tls, mailbox, login };
    assert_kept(&[
        one("smtp in clear", "smtp", "none", "one", false),
        one("smtp with STARTTLS", "smtp", "starttls", "two", false),
        one("submission", "submission", "starttls", "three", true),
        one("submissions", "submissions", "implicit", "four", true),
    ]);
}

#[test]
fn pop3() {
    let one = |name, port, tls, mailbox| Run { name, suite: "pop3", port, tls, mailbox, login: true };
    assert_kept(&[one("pop3 with STLS", "pop3", "starttls", "five"), one("pop3s", "pop3s", "implicit", "six")]);
}

//! Mail that is fetched by POP3, from ours and from Dovecot: messages of 10 KB in one session, and the opening of a maildrop
//! of 100,000.
//!
//! Both verify the same Argon2 at login. Cold means: the server was started anew, and what it keeps on the disk is not in
//! memory. "First" is Dovecot's first session in a maildir that another program filled, as Postfix does; ours knows no such
//! difference.

use std::path::Path;

use anyhow::ensure;

use super::{Bench, clear, settle};
use crate::dovecot::Dovecot;
use crate::load::{Fetch, Fetched, Mail};
use crate::paquebot::{Paquebot, Purpose};
use crate::process::Daemon;
use crate::results::{Group, Metric, Results, Server};
use crate::{DOMAIN, PASSWORD, say};

/// Octets of the messages that are fetched, and of those that fill a large maildrop.
const FETCHED: u64 = 10 << 10;
const SMALL: u64 = 1 << 10;
/// Commands that a pipelining client has on their way.
const WINDOW: u64 = 50;

pub fn run(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    thousand(bench, results)?;
    many(bench, results)
}

/// Both servers with the same messages.
fn fill(bench: &Bench, directory: &Path, messages: u64, octets: u64) -> anyhow::Result<(Paquebot, Dovecot)> {
    let ours = Paquebot::start(&bench.programs, &directory.join("paquebot"), Purpose::default())?;
    let mail = Mail { octets, connections: 20, many: true };
    bench.clients.send(ours.smtp, &format!("box@{DOMAIN}"), mail, messages)?;
    let dovecot = Dovecot::start(&bench.packages, &directory.join("dovecot"), &bench.programs.certificate, 0)?;
    dovecot.fill(messages, |number| message(number, octets))?;
    settle()?;
    Ok((ours, dovecot))
}

/// A message as Postfix leaves it in a maildir, with the line ends of Unix, of about so many octets on the wire.
fn message(number: u64, octets: u64) -> Vec<u8> {
    let mut text = format!(
        "Return-Path: <sender@client.test>\nReceived: from client.test (localhost [127.0.0.1])\n\tby mail.postfix.test \
         (Postfix) with SMTP id {number:012X}\n\tfor <box@{DOMAIN}>; Mon, 23 Nov 2026 12:00:00 +0000 (UTC)\n\
         From: <sender@client.test>\nTo: <box@{DOMAIN}>\nMessage-Id: <{number}.client.test>\n\n"
    );
    while (text.len() as u64) < octets {
        text.push_str("XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX\n");
    }
    text.into_bytes()
}

/// What is fetched in a session.
#[derive(Clone, Copy)]
struct Work {
    tls: bool,
    command: &'static str,
    /// Messages; 0: all.
    count: u64,
    rounds: u64,
    window: u64,
}

/// A session that does no more than this.
const fn once(command: &'static str) -> Work {
    Work { tls: false, command, count: 0, rounds: 1, window: 1 }
}

fn session(bench: &Bench, port: u16, work: Work) -> anyhow::Result<Fetched> {
    let Work { tls, command, count, rounds, window } = work;
    let user = format!("box@{DOMAIN}");
    bench.clients.fetch(&Fetch { port, tls, user: &user, password: PASSWORD, command, count, rounds, window })
}

/// Fetches everything once.
pub fn all(bench: &Bench, port: u16) -> anyhow::Result<()> {
    session(bench, port, once("RETR")).map(drop)
}

/// Seconds until STAT is answered.
pub fn stat(bench: &Bench, port: u16) -> anyhow::Result<f64> {
    Ok(session(bench, port, once("STAT"))?.stat)
}

/// A maildrop of 1,000 messages: all of them in one session.
fn thousand(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    let directory = bench.directory("fetch")?;
    let (mut ours, mut dovecot) = fill(bench, &directory, 1000, FETCHED)?;
    for (tls, window) in [(false, 1), (false, WINDOW), (true, 1), (true, WINDOW)] {
        let title = title("1,000 messages", tls, window, false);
        let work = Work { tls, command: "RETR", count: 0, rounds: 10, window };
        for repetition in 0..=bench.choose(3, 7) {
            for (server, port, daemon) in
                [(Server::Paquebot, ours.pop3, &ours.daemon), (Server::Dovecot, dovecot.pop3, &dovecot.daemon)]
            {
                let sample = retrieve(bench, port, daemon, work)?;
                // The first round warms both.
                if repetition > 0 {
                    sample.note(results, &title, server);
                }
            }
        }
    }
    for (tls, window) in [(false, 1), (false, WINDOW)] {
        let title = title("1,000 messages", tls, window, true);
        let work = Work { tls, command: "RETR", count: 0, rounds: 1, window };
        for _ in 0..bench.choose(1, 3) {
            ours = ours.restart(|| bench.clients.evict(&directory.join("paquebot")))?;
            retrieve(bench, ours.pop3, &ours.daemon, work)?.note(results, &title, Server::Paquebot);
            dovecot = dovecot.restart(|| bench.clients.evict(&directory.join("dovecot")))?;
            retrieve(bench, dovecot.pop3, &dovecot.daemon, work)?.note(results, &title, Server::Dovecot);
        }
    }
    drop((ours, dovecot));
    clear(&directory);
    Ok(())
}

/// A maildrop of 100,000 messages: how long until STAT is answered, the unique-id listing, and some of the messages.
fn many(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    let directory = bench.directory("maildrop")?;
    let messages = bench.choose(5_000, 100_000);
    say(&format!("  filling a maildrop with {messages} messages"));
    let (mut ours, mut dovecot) = fill(bench, &directory, messages, SMALL)?;
    let maildrop = format!("{} messages", thousands(messages));
    let mut seconds = |what: &str, server: Server, value: f64| {
        say(&format!("  {maildrop}, {what}: {} {value:.4} s", server.name()));
        results.add(Group::Maildrop, &format!("{maildrop}, {what}"), server, Metric::Seconds, value);
    };
    let warm = "first STAT after a restart";
    let cold = "first STAT after a restart, cold";
    for (what, evicted) in [(warm, false), (cold, true)] {
        for _ in 0..bench.choose(1, 3) {
            ours = ours.restart(|| if evicted { bench.clients.evict(&directory.join("paquebot")) } else { Ok(()) })?;
            seconds(what, Server::Paquebot, session(bench, ours.pop3, once("STAT"))?.stat);
            dovecot.forget()?;
            dovecot =
                dovecot.restart(|| if evicted { bench.clients.evict(&directory.join("dovecot")) } else { Ok(()) })?;
            seconds(what, Server::Dovecot, session(bench, dovecot.pop3, once("STAT"))?.stat);
        }
    }
    for _ in 0..bench.choose(2, 5) {
        for (server, port) in [(Server::Paquebot, ours.pop3), (Server::Dovecot, dovecot.pop3)] {
            seconds("STAT again", server, session(bench, port, once("STAT"))?.stat);
            seconds("UIDL", server, session(bench, port, once("UIDL"))?.seconds);
        }
    }
    for window in [1, WINDOW] {
        let title = format!("{} (1 KB, the first 2,000 of them)", title(&maildrop, false, window, false));
        let work = Work { tls: false, command: "RETR", count: 2000, rounds: 5, window };
        for repetition in 0..=bench.choose(1, 3) {
            for (server, port, daemon) in
                [(Server::Paquebot, ours.pop3, &ours.daemon), (Server::Dovecot, dovecot.pop3, &dovecot.daemon)]
            {
                let sample = retrieve(bench, port, daemon, work)?;
                if repetition > 0 {
                    sample.note(results, &title, server);
                }
            }
        }
    }
    drop((ours, dovecot));
    clear(&directory);
    Ok(())
}

fn thousands(number: u64) -> String {
    format!("{},{:03}", number / 1000, number % 1000)
}

fn title(maildrop: &str, tls: bool, window: u64, cold: bool) -> String {
    let security = if tls { "TLS" } else { "clear" };
    let window = if window > 1 { "pipelined" } else { "one after the other" };
    let state = if cold { "cold" } else { "warm" };
    format!("{maildrop}, {security}, {window}, {state}")
}

/// What a session that fetched took.
struct Sample {
    rate: f64,
    processor: f64,
}

impl Sample {
    fn note(&self, results: &mut Results, title: &str, server: Server) {
        say(&format!("  RETR, {title}: {} {:.0}/s, {:.3} ms", server.name(), self.rate, self.processor));
        results.add(Group::Fetch, title, server, Metric::Rate, self.rate);
        results.add(Group::Fetch, title, server, Metric::Processor, self.processor);
    }
}

fn retrieve(bench: &Bench, port: u16, daemon: &Daemon, work: Work) -> anyhow::Result<Sample> {
    let processor = daemon.processor_seconds()?;
    let fetched = session(bench, port, work)?;
    let processor = daemon.processor_seconds()? - processor;
    ensure!(fetched.octets > 900 * fetched.messages, "the messages are too short: {fetched:?}");
    let messages = fetched.messages as f64;
    Ok(Sample { rate: messages / fetched.seconds, processor: processor * 1000.0 / messages })
}

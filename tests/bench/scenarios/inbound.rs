//! Mail that comes in and is durable in its mailbox: `smtp-source` to ours, to Postfix, and to Postfix tuned.
//!
//! Ours has the message in the mailbox when it says 250. Postfix has it in its queue then, and delivers on; so two rates
//! are measured: until the last 250, and until the last message is in its mailbox. After each run the messages are counted.

use std::time::Instant;

use anyhow::ensure;

use super::{Bench, clear, settle};
use crate::load::{Clients, Mail};
use crate::paquebot::{Paquebot, Purpose};
use crate::postfix::Postfix;
use crate::results::{Group, Metric, Results, Server};
use crate::{DOMAIN, say};

/// Messages of a first, short run, from whose rate the number for a run is computed.
const PILOT: u64 = 200;

pub fn run(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    let directory = bench.directory("inbound")?;
    let targets = [
        Target::Paquebot(Paquebot::start(&bench.programs, &directory.join("paquebot"), Purpose::default())?),
        Target::Postfix(Postfix::start(&bench.packages, &directory.join("postfix"), false, None)?),
        Target::Tuned(Postfix::start(&bench.packages, &directory.join("tuned"), true, None)?),
    ];
    if let Target::Paquebot(ours) = &targets[0] {
        let memory = ours.daemon.memory()?;
        results.add(Group::Memory, "idle", Server::Paquebot, Metric::Peak, mebibytes(memory.resident));
    }
    for mail in mails(bench) {
        measure(bench, &targets, mail, results)?;
    }
    drop(targets);
    clear(&directory);
    Ok(())
}

fn mails(bench: &Bench) -> Vec<Mail> {
    let mail = |octets, connections, many| Mail { octets, connections, many };
    bench.choose(
        vec![mail(1 << 10, 20, true), mail(1 << 10, 20, false), mail(100 << 10, 20, true)],
        vec![
            mail(1 << 10, 1, true),
            mail(1 << 10, 20, true),
            mail(1 << 10, 100, true),
            mail(1 << 10, 1, false),
            mail(1 << 10, 20, false),
            mail(1 << 10, 100, false),
            mail(100 << 10, 1, true),
            mail(100 << 10, 20, true),
            mail(100 << 10, 100, true),
            mail(100 << 10, 20, false),
        ],
    )
}

/// The scenario in whose terms the goals are set.
pub fn is_headline(mail: Mail) -> bool {
    mail == Mail { octets: 1 << 10, connections: 20, many: true }
}

fn title(mail: Mail) -> String {
    let connections = if mail.connections == 1 { "1 connection" } else { &format!("{} connections", mail.connections) };
    let each = if mail.many { "many messages each" } else { "one message each" };
    format!("{} KB, {connections}, {each}", mail.octets >> 10)
}

fn measure(bench: &Bench, targets: &[Target], mail: Mail, results: &mut Results) -> anyhow::Result<()> {
    let title = title(mail);
    let seconds = bench.choose(1.0, if is_headline(mail) { 3.0 } else { 1.5 });
    let repetitions = bench.choose(2, if is_headline(mail) { 5 } else { 3 });
    let mut counts = Vec::new();
    for target in targets {
        let pilot = target.send(&bench.clients, mail, PILOT.max(mail.connections))?;
        counts.push(((pilot.messages / pilot.delivered * seconds) as u64).max(PILOT / 2).max(mail.connections));
    }
    for _ in 0..repetitions {
        for (target, messages) in targets.iter().zip(&counts) {
            settle()?;
            if let Target::Paquebot(ours) = target {
                ours.daemon.reset_peak()?;
            }
            let sent = target.send(&bench.clients, mail, *messages)?;
            let mut add = |metric, value| results.add(Group::Inbound, &title, target.server(), metric, value);
            add(Metric::Rate, sent.messages / sent.delivered);
            add(Metric::Accepted, sent.messages / sent.accepted);
            add(Metric::Processor, sent.processor * 1000.0 / sent.messages);
            say(&format!(
                "  {title}: {} {:.0}/s, {:.3} ms",
                target.server().name(),
                sent.messages / sent.delivered,
                sent.processor * 1000.0 / sent.messages
            ));
            if let Target::Paquebot(ours) = target
                && is_headline(mail)
            {
                let peak = mebibytes(ours.daemon.peak()?);
                results.add(Group::Memory, "under the inbound load", Server::Paquebot, Metric::Peak, peak);
            }
        }
        ceiling(bench, mail, counts[0], &title, results)?;
    }
    Ok(())
}

/// What `smtp-source` itself reaches, in the same minute.
fn ceiling(bench: &Bench, mail: Mail, messages: u64, title: &str, results: &mut Results) -> anyhow::Result<()> {
    let sink = bench.clients.sink()?;
    let seconds = bench.clients.send(sink.port, &format!("box@{DOMAIN}"), mail, messages)?;
    results.add(Group::Inbound, title, Server::Sink, Metric::Rate, messages as f64 / seconds);
    Ok(())
}

fn mebibytes(octets: u64) -> f64 {
    octets as f64 / f64::from(1 << 20)
}

enum Target {
    Paquebot(Paquebot),
    Postfix(Postfix),
    Tuned(Postfix),
}

/// One run.
struct Sent {
    messages: f64,
    /// Seconds until the last reply.
    accepted: f64,
    /// Seconds until the last message was in its mailbox.
    delivered: f64,
    /// Seconds of processor time.
    processor: f64,
}

impl Target {
    fn server(&self) -> Server {
        match self {
            Self::Paquebot(_) => Server::Paquebot,
            Self::Postfix(_) => Server::Postfix,
            Self::Tuned(_) => Server::PostfixTuned,
        }
    }

    fn messages(&self, clients: &Clients) -> anyhow::Result<u64> {
        match self {
            Self::Paquebot(ours) => ours.messages(clients),
            Self::Postfix(postfix) | Self::Tuned(postfix) => Ok(postfix.messages()),
        }
    }

    fn send(&self, clients: &Clients, mail: Mail, messages: u64) -> anyhow::Result<Sent> {
        let (port, daemon) = match self {
            Self::Paquebot(ours) => (ours.smtp, &ours.daemon),
            Self::Postfix(postfix) | Self::Tuned(postfix) => (postfix.smtp, &postfix.daemon),
        };
        let there = self.messages(clients)?;
        let processor = daemon.processor_seconds()?;
        let begun = Instant::now();
        let accepted = clients.send(port, &format!("box@{DOMAIN}"), mail, messages)?;
        if let Self::Postfix(postfix) | Self::Tuned(postfix) = self {
            postfix.wait_until_delivered()?;
        }
        let delivered = begun.elapsed().as_secs_f64();
        let processor = daemon.processor_seconds()? - processor;
        let arrived = self.messages(clients)? - there;
        ensure!(arrived == messages, "{}: {arrived} of {messages} messages arrived", self.server().name());
        Ok(Sent { messages: messages as f64, accepted, delivered, processor })
    }
}

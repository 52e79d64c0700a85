//! Mail for elsewhere: through the queue to a sink. Ours looks the exchanger up in DNS (for its cache, as it does always);
//! Postfix is told by `relayhost`. A run ends when the sink has had the last message.

use std::time::Instant;

use anyhow::ensure;

use super::{Bench, clear, settle};
use crate::load::{Mail, Sink};
use crate::paquebot::{Paquebot, Purpose};
use crate::postfix::Postfix;
use crate::process::Daemon;
use crate::results::{Group, Metric, Results, Server};
use crate::{SINK_DOMAIN, names, say};

const MAIL: Mail = Mail { octets: 1 << 10, connections: 20, many: true };
const TITLE: &str = "1 KB, 20 connections in, many messages each";
/// Messages of the first, short run.
const PILOT: u64 = 200;

pub fn run(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    let directory = bench.directory("relay")?;
    let sink = bench.clients.sink()?;
    let purpose = Purpose { outbound_port: Some(sink.port), resolver: Some(names::serve()?), ..Purpose::default() };
    let ours = Paquebot::start(&bench.programs, &directory.join("paquebot"), purpose)?;
    let shipped = Postfix::start(&bench.packages, &directory.join("postfix"), false, Some(sink.port))?;
    let tuned = Postfix::start(&bench.packages, &directory.join("tuned"), true, Some(sink.port))?;
    let targets = [
        (Server::Paquebot, ours.smtp, &ours.daemon),
        (Server::Postfix, shipped.smtp, &shipped.daemon),
        (Server::PostfixTuned, tuned.smtp, &tuned.daemon),
    ];
    let mut counts = Vec::new();
    for (_, port, daemon) in targets {
        let pilot = relay(bench, &sink, port, daemon, PILOT)?;
        counts.push(((PILOT as f64 / pilot.seconds * bench.choose(1.5, 3.0)) as u64).max(PILOT));
    }
    for _ in 0..bench.choose(2, 4) {
        for ((server, port, daemon), messages) in targets.into_iter().zip(&counts) {
            settle()?;
            let relayed = relay(bench, &sink, port, daemon, *messages)?;
            let (rate, each) = (*messages as f64 / relayed.seconds, relayed.processor * 1000.0 / *messages as f64);
            results.add(Group::Relay, TITLE, server, Metric::Rate, rate);
            results.add(Group::Relay, TITLE, server, Metric::Processor, each);
            say(&format!("  {TITLE}: {} {rate:.0}/s, {each:.3} ms", server.name()));
        }
    }
    drop((ours, shipped, tuned, sink));
    clear(&directory);
    Ok(())
}

struct Relayed {
    seconds: f64,
    processor: f64,
}

fn relay(bench: &Bench, sink: &Sink, port: u16, daemon: &Daemon, messages: u64) -> anyhow::Result<Relayed> {
    let (there, processor) = (sink.messages(), daemon.processor_seconds()?);
    let begun = Instant::now();
    bench.clients.send(port, &format!("someone@{SINK_DOMAIN}"), MAIL, messages)?;
    sink.wait_for(there + messages)?;
    let seconds = begun.elapsed().as_secs_f64();
    // What follows the last message, its removal from the queue, is the server's work too.
    settle()?;
    ensure!(sink.messages() == there + messages, "the sink had messages twice");
    Ok(Relayed { seconds, processor: daemon.processor_seconds()? - processor })
}

//! What a message costs as the store grows to a million: batches, one after the other, into one store of ours.

use super::{Bench, clear, settle};
use crate::load::Mail;
use crate::paquebot::{Paquebot, Purpose};
use crate::results::{Group, Metric, Results, Server};
use crate::{DOMAIN, say};

const TOTAL: u64 = 1_000_000;
const BATCH: u64 = 50_000;
const MAIL: Mail = Mail { octets: 1 << 10, connections: 20, many: true };

pub fn run(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    let directory = bench.directory("curve")?;
    let ours = Paquebot::start(&bench.programs, &directory, Purpose::default())?;
    let mut there = 0;
    while there < TOTAL {
        settle()?;
        let processor = ours.daemon.processor_seconds()?;
        let seconds = bench.clients.send(ours.smtp, &format!("box@{DOMAIN}"), MAIL, BATCH)?;
        let processor = (ours.daemon.processor_seconds()? - processor) * 1000.0 / BATCH as f64;
        let rate = BATCH as f64 / seconds;
        there += BATCH;
        say(&format!("  {there} messages: {rate:.0}/s, {processor:.3} ms"));
        let title = format!("{there} messages");
        results.add(Group::Curve, &title, Server::Paquebot, Metric::Rate, rate);
        results.add(Group::Curve, &title, Server::Paquebot, Metric::Processor, processor);
    }
    let ours = ours.restart(|| bench.clients.evict(&directory))?;
    let seconds = super::fetch::stat(bench, ours.pop3)?;
    say(&format!("  first STAT of {there} messages after a restart, cold: {seconds:.3} s"));
    let title = "first STAT of 1,000,000 messages after a restart, cold";
    results.add(Group::Maildrop, title, Server::Paquebot, Metric::Seconds, seconds);
    drop(ours);
    clear(&directory);
    Ok(())
}

//! What sessions that wait cost, and a large message.

use super::{Bench, clear};
use crate::dovecot::Dovecot;
use crate::load::Mail;
use crate::paquebot::{Paquebot, Purpose};
use crate::postfix::Postfix;
use crate::process::Daemon;
use crate::results::{Group, Metric, Results, Server};
use crate::{DOMAIN, say};

const LARGE: Mail = Mail { octets: 50 << 20, connections: 1, many: true };

/// Sessions after EHLO, beside Postfix; sessions that are logged in, beside Dovecot.
pub fn idle(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    let directory = bench.directory("idle")?;
    let sessions = bench.choose(1000, 5000);
    // Each of their sessions is a process or two, which are alike: fewer of them show what one costs.
    let of_peers = bench.choose(100, 300);
    // A new process for each: what the one left free, the other would use.
    for protocol in ["smtp", "pop3"] {
        let purpose = Purpose { mailboxes: sessions, ..Purpose::default() };
        let ours = Paquebot::start(&bench.programs, &directory.join(protocol), purpose)?;
        let port = if protocol == "smtp" { ours.smtp } else { ours.pop3 };
        hold(bench, results, Server::Paquebot, &ours.daemon, port, protocol, sessions)?;
    }
    {
        let postfix = Postfix::start(&bench.packages, &directory.join("postfix"), true, None)?;
        hold(bench, results, Server::PostfixTuned, &postfix.daemon, postfix.smtp, "smtp", of_peers)?;
    }
    {
        let dovecot =
            Dovecot::start(&bench.packages, &directory.join("dovecot"), &bench.programs.certificate, of_peers)?;
        hold(bench, results, Server::Dovecot, &dovecot.daemon, dovecot.pop3, "pop3", of_peers)?;
    }
    clear(&directory);
    Ok(())
}

fn hold(
    bench: &Bench,
    results: &mut Results,
    server: Server,
    daemon: &Daemon,
    port: u16,
    protocol: &str,
    sessions: u64,
) -> anyhow::Result<()> {
    // The first ones pay for what is made once.
    drop(bench.clients.idle(port, protocol, 10, "idle")?);
    let before = daemon.memory()?;
    let held = bench.clients.idle(port, protocol, sessions, "idle")?;
    let during = daemon.memory()?;
    drop(held);
    let each = (during.proportional as f64 - before.proportional as f64) / sessions as f64 / 1024.0;
    let title = if protocol == "smtp" { "SMTP, after EHLO" } else { "POP3, logged in" };
    say(&format!(
        "  {title}: {} {each:.1} KiB each ({sessions} sessions, {} processes)",
        server.name(),
        during.processes
    ));
    results.add(Group::Idle, title, server, Metric::SessionMemory, each);
    results.add(Group::Idle, title, server, Metric::Memory, during.proportional as f64 / f64::from(1 << 20));
    Ok(())
}

/// A message of 50 MB comes in, and is fetched.
pub fn large(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    let directory = bench.directory("large")?;
    for _ in 0..bench.choose(1, 3) {
        let ours = Paquebot::start(&bench.programs, &directory.join("paquebot"), Purpose::default())?;
        let mut note = |title: &str, octets: u64| {
            let mebibytes = octets as f64 / f64::from(1 << 20);
            say(&format!("  {title}: {mebibytes:.1} MiB"));
            results.add(Group::Memory, title, Server::Paquebot, Metric::Peak, mebibytes);
        };
        let idle = ours.daemon.memory()?.resident;
        bench.clients.send(ours.smtp, &format!("box@{DOMAIN}"), LARGE, 1)?;
        note("a 50 MB message comes in, over the idle server", ours.daemon.peak()?.saturating_sub(idle));
        // A login's Argon2 takes 19 MiB for a moment, whatever is fetched: it is done before, and remembered.
        ours.messages(&bench.clients)?;
        let before = ours.daemon.memory()?.resident;
        ours.daemon.reset_peak()?;
        super::fetch::all(bench, ours.pop3)?;
        let peak = ours.daemon.peak()?;
        note("a 50 MB message is fetched, over the server before it", peak.saturating_sub(before));
        drop(ours);
        clear(&directory.join("paquebot"));
    }
    clear(&directory);
    Ok(())
}

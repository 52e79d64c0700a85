//! The table, as Markdown. Pure.

use std::fmt::Write as _;

use crate::results::{Group, Metric, Results, Row, Server};
use crate::statistics::Samples;

/// The whole page; `picture` is the name of the file that it shows.
pub fn render(results: &Results, picture: &str) -> String {
    let mut page = format!("{INTRODUCTION}![The same as a picture]({picture})\n\n");
    for (name, value) in &results.facts {
        say(&mut page, format_args!("- {name}: {value}\n"));
    }
    inbound(&mut page, results);
    relay(&mut page, results);
    fetch(&mut page, results);
    maildrop(&mut page, results);
    idle(&mut page, results);
    memory(&mut page, results);
    curve(&mut page, results);
    page.push_str(CIRCUMSTANCES);
    page
}

const INTRODUCTION: &str = "# Benchmark

Ours beside Postfix and Dovecot from Debian, on one machine, one disk and in one run. Within each repetition the servers take
turns. A number is the median of the repetitions; a ratio is computed repetition by repetition, and its smallest and largest
value stand behind it. The command below makes this page; the JSON file beside it has every
repetition.

";

const CIRCUMSTANCES: &str = "
## How it is measured

- The clients are `smtp-source` and `smtp-sink` of Postfix, and `tests/bench/client/mail-load.c`, which fetches by POP3 and
  holds idle connections; it shares no code with any server. They run on the same cores as the servers.
- All servers write to the same disk, and none has a sync turned off. Each writes its log to a file, at the level as shipped.
- Postfix is the package's `main.cf` and `master.cf` with what it needs to run beside others: paths, a port, `postlogd`, a
  virtual domain with a maildir, no chroot jail. \"Tuned\" is that with the settings in `tests/bench/postfix.rs`: no
  `in_flow_delay`, no look-up of client names, no counting of clients, longer-lived processes, higher concurrency, kept
  connections.
- Dovecot is the package's configuration with paths, a port and higher limits. Its login verifies the same Argon2 as ours.
- Ours has a message in the mailbox when it says 250. Postfix has it in its queue then, and delivers on; both rates are given.
- Processor time is user and system time of all processes of a server, from `/proc/PID/stat`. Work of the kernel's own threads
  (write-back, journal) is in nobody's.
- Memory of a session is the difference of PSS over all processes, divided by the sessions.
- Cold: the server was started anew, and its files were put out of the system's memory.
";

fn inbound(page: &mut String, results: &Results) {
    let columns = [("Paquebot", Server::Paquebot), ("Postfix", Server::Postfix), ("tuned", Server::PostfixTuned)];
    heading(
        page,
        results,
        Group::Inbound,
        "Inbound, durable to the mailbox",
        "Messages a second until the last one is in its mailbox, and what ours is of the others'. \"Until 250\" compares \
         with the rate at which tuned Postfix takes messages into its queue; \"of the client\" with what `smtp-source` \
         reaches against `smtp-sink`. Then milliseconds of processor time for each message.",
        &[
            "Paquebot",
            "Postfix",
            "tuned",
            "× Postfix",
            "× tuned",
            "× tuned, until 250",
            "of the client",
            "Paquebot ms",
            "Postfix ms",
            "tuned ms",
        ],
    );
    for row in results.group(Group::Inbound) {
        let mut cells: Vec<String> =
            columns.iter().map(|(_, server)| number(row.get(*server, Metric::Rate), 0)).collect();
        cells.push(ratio(row, Metric::Rate, Server::Postfix));
        cells.push(ratio(row, Metric::Rate, Server::PostfixTuned));
        cells.push(ratio(row, Metric::Accepted, Server::PostfixTuned));
        cells.push(ratio(row, Metric::Rate, Server::Sink));
        cells.extend(columns.iter().map(|(_, server)| number(row.get(*server, Metric::Processor), 3)));
        line(page, &row.title, &cells);
    }
}

fn relay(page: &mut String, results: &Results) {
    heading(
        page,
        results,
        Group::Relay,
        "Relayed through the queue",
        "Messages a second until the next hop, `smtp-sink`, has had the last one.",
        &["Paquebot", "Postfix", "tuned", "× Postfix", "× tuned", "Paquebot ms", "Postfix ms", "tuned ms"],
    );
    for row in results.group(Group::Relay) {
        let cells = [
            number(row.get(Server::Paquebot, Metric::Rate), 0),
            number(row.get(Server::Postfix, Metric::Rate), 0),
            number(row.get(Server::PostfixTuned, Metric::Rate), 0),
            ratio(row, Metric::Rate, Server::Postfix),
            ratio(row, Metric::Rate, Server::PostfixTuned),
            number(row.get(Server::Paquebot, Metric::Processor), 3),
            number(row.get(Server::Postfix, Metric::Processor), 3),
            number(row.get(Server::PostfixTuned, Metric::Processor), 3),
        ];
        line(page, &row.title, &cells);
    }
}

fn fetch(page: &mut String, results: &Results) {
    heading(
        page,
        results,
        Group::Fetch,
        "Fetched by POP3",
        "RETR in one session, messages a second; of 10 KB where nothing else is said.",
        &["Paquebot", "Dovecot", "× Dovecot", "Paquebot ms", "Dovecot ms"],
    );
    for row in results.group(Group::Fetch) {
        let cells = [
            number(row.get(Server::Paquebot, Metric::Rate), 0),
            number(row.get(Server::Dovecot, Metric::Rate), 0),
            ratio(row, Metric::Rate, Server::Dovecot),
            number(row.get(Server::Paquebot, Metric::Processor), 3),
            number(row.get(Server::Dovecot, Metric::Processor), 3),
        ];
        line(page, &row.title, &cells);
    }
}

fn maildrop(page: &mut String, results: &Results) {
    heading(
        page,
        results,
        Group::Maildrop,
        "A large maildrop",
        "Seconds from connect, with the login's Argon2, until STAT is answered; for UIDL, seconds of its answer. Dovecot's \
         first session in a maildir that Postfix filled has to look at each message.",
        &["Paquebot s", "Dovecot s", "of Dovecot"],
    );
    for row in results.group(Group::Maildrop) {
        let cells = [
            number(row.get(Server::Paquebot, Metric::Seconds), 3),
            number(row.get(Server::Dovecot, Metric::Seconds), 3),
            ratio(row, Metric::Seconds, Server::Dovecot),
        ];
        line(page, &row.title, &cells);
    }
}

fn idle(page: &mut String, results: &Results) {
    heading(
        page,
        results,
        Group::Idle,
        "Sessions that wait",
        "KiB of memory (PSS of all processes) for each session without TLS, and MiB of the whole server with them: 5,000 \
         sessions of ours, 300 of the others, which have a process or two for each.",
        &["Paquebot KiB", "Postfix KiB", "Dovecot KiB", "Paquebot MiB"],
    );
    for row in results.group(Group::Idle) {
        let cells = [
            number(row.get(Server::Paquebot, Metric::SessionMemory), 1),
            number(row.get(Server::PostfixTuned, Metric::SessionMemory), 0),
            number(row.get(Server::Dovecot, Metric::SessionMemory), 0),
            number(row.get(Server::Paquebot, Metric::Memory), 1),
        ];
        line(page, &row.title, &cells);
    }
}

fn memory(page: &mut String, results: &Results) {
    let text = "MiB of ours, at most.";
    heading(page, results, Group::Memory, "Resident memory", text, &["MiB", "smallest", "largest"]);
    for row in results.group(Group::Memory) {
        let Some(samples) = row.get(Server::Paquebot, Metric::Peak) else { continue };
        let one = |value: f64| format!("{value:.1}");
        line(page, &row.title, &[one(samples.median()), one(samples.smallest()), one(samples.largest())]);
    }
}

fn curve(page: &mut String, results: &Results) {
    heading(
        page,
        results,
        Group::Curve,
        "As the store grows",
        "Messages of 1 KB on 20 connections into one maildrop, in batches; the row says how many there are after the batch.",
        &["messages/s", "ms each"],
    );
    for row in results.group(Group::Curve) {
        let cells = [
            number(row.get(Server::Paquebot, Metric::Rate), 0),
            number(row.get(Server::Paquebot, Metric::Processor), 3),
        ];
        line(page, &row.title, &cells);
    }
}

/// A heading with what it is about and the head of its table, where the group was measured.
fn heading(page: &mut String, results: &Results, group: Group, title: &str, text: &str, columns: &[&str]) {
    if results.group(group).next().is_some() {
        let (names, rule) = (columns.join(" | "), vec!["--:"; columns.len()].join(" | "));
        say(page, format_args!("\n## {title}\n\n{text}\n\n|  | {names} |\n| --- | {rule} |\n"));
    }
}

fn line(page: &mut String, title: &str, cells: &[String]) {
    say(page, format_args!("| {title} | {} |\n", cells.join(" | ")));
}

fn say(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = page.write_fmt(text);
}

/// The median, with so many digits after the point.
fn number(samples: Option<&Samples>, digits: usize) -> String {
    samples.map_or_else(|| "–".to_owned(), |samples| format!("{:.digits$}", samples.median()))
}

/// Ours over another's: the median of the repetitions' ratios, with their spread.
pub fn ratio(row: &Row, metric: Metric, over: Server) -> String {
    let Some(ratio) = row.ratio(metric, Server::Paquebot, over) else { return "–".to_owned() };
    let digits = if ratio.median() < 10.0 { 2 } else { 1 };
    format!("**{:.digits$}** ({:.digits$}–{:.digits$})", ratio.median(), ratio.smallest(), ratio.largest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_ratios_with_their_spread_and_what_was_not_measured_is_left_out() {
        let mut results = Results::default();
        results.fact("Disk", "ext4");
        for (ours, theirs) in [(800.0, 100.0), (900.0, 90.0), (700.0, 100.0)] {
            results.add(Group::Relay, "1 KB", Server::Paquebot, Metric::Rate, ours);
            results.add(Group::Relay, "1 KB", Server::Postfix, Metric::Rate, theirs);
        }
        let page = render(&results, "picture.svg");
        assert!(page.contains("| 1 KB | 800 | 100 | – | **8.00** (7.00–10.00) | – | – | – | – |"), "{page}");
        assert!(page.contains("- Disk: ext4\n"));
        assert!(!page.contains("Sessions that wait"));
    }
}

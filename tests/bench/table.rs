//! The table, as Markdown. Pure.

use std::fmt::Write as _;

use crate::results::{Group, Metric, Results, Row, Server};
use crate::statistics::Samples;

/// The whole page.
pub fn render(results: &Results) -> String {
    let mut page = String::from(INTRODUCTION);
    for (name, value) in &results.facts {
        let _ = writeln!(page, "- {name}: {value}");
    }
    inbound(&mut page, results);
    page
}

const INTRODUCTION: &str = "# Benchmark

Ours beside Postfix and Dovecot from Debian, on one machine, one disk and in one run. Within each repetition the servers take
turns. A number is the median of the repetitions; a ratio is computed repetition by repetition, and its smallest and largest
value stand behind it. `make bench` makes this page; `results.json` has every repetition.

";

fn inbound(page: &mut String, results: &Results) {
    heading(
        page,
        "Inbound, durable to the mailbox",
        "Messages a second until the last one is in its mailbox; processor time of the server for each.",
    );
    header(
        page,
        &[
            "",
            "Paquebot",
            "Postfix",
            "tuned",
            "× Postfix",
            "× tuned",
            "× until 250",
            "of smtp-sink",
            "Paquebot ms",
            "Postfix ms",
            "tuned ms",
        ],
    );
    for row in results.group(Group::Inbound) {
        let rate = |server| number(row.get(server, Metric::Rate), 0);
        let processor = |server| number(row.get(server, Metric::Processor), 3);
        let cells = [
            rate(Server::Paquebot),
            rate(Server::Postfix),
            rate(Server::PostfixTuned),
            ratio(row, Metric::Rate, Server::Paquebot, Server::Postfix),
            ratio(row, Metric::Rate, Server::Paquebot, Server::PostfixTuned),
            ratio(row, Metric::Accepted, Server::Paquebot, Server::PostfixTuned),
            ratio(row, Metric::Rate, Server::Paquebot, Server::Sink),
            processor(Server::Paquebot),
            processor(Server::Postfix),
            processor(Server::PostfixTuned),
        ];
        line(page, &row.title, &cells);
    }
}

fn heading(page: &mut String, title: &str, text: &str) {
    let _ = write!(page, "\n## {title}\n\n{text}\n\n");
}

fn header(page: &mut String, names: &[&str]) {
    let rule = vec!["--:"; names.len() - 1].join(" | ");
    let _ = writeln!(page, "| {} |\n| --- | {rule} |", names.join(" | "));
}

fn line(page: &mut String, title: &str, cells: &[String]) {
    let _ = writeln!(page, "| {title} | {} |", cells.join(" | "));
}

/// The median, with so many digits after the point.
fn number(samples: Option<&Samples>, digits: usize) -> String {
    samples.map_or_else(|| "–".to_owned(), |samples| format!("{:.digits$}", samples.median()))
}

/// The median of a ratio, with its spread.
fn ratio(row: &Row, metric: Metric, server: Server, over: Server) -> String {
    let Some(ratio) = row.ratio(metric, server, over) else { return "–".to_owned() };
    let digits = if ratio.median() < 10.0 { 2 } else { 1 };
    format!("**{:.digits$}** ({:.digits$}–{:.digits$})", ratio.median(), ratio.smallest(), ratio.largest())
}

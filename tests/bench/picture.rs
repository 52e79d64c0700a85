//! The picture, as SVG: a panel of bars for each part of the table. Pure.

use std::fmt::Write as _;

use crate::results::{Group, Metric, Results, Row, Server};

const WIDTH: f64 = 960.0;
/// Where bars begin: their names stand to the left.
const LEFT: f64 = 330.0;
/// Room for the number behind the longest bar.
const RIGHT: f64 = 190.0;
const BAR: f64 = 13.0;
const GAP: f64 = 12.0;
const HEADING: f64 = 44.0;

/// A panel: what it shows of which rows.
struct Panel {
    title: &'static str,
    group: Group,
    metric: Metric,
    servers: &'static [Server],
    unit: &'static str,
    digits: usize,
    /// Whether a long bar is good, and ratios are written behind the others' bars.
    is_rate: bool,
}

const PANELS: [Panel; 6] = [
    Panel {
        title: "Inbound, durable to the mailbox: messages a second",
        group: Group::Inbound,
        metric: Metric::Rate,
        servers: &[Server::Paquebot, Server::Postfix, Server::PostfixTuned],
        unit: "/s",
        digits: 0,
        is_rate: true,
    },
    Panel {
        title: "Inbound: milliseconds of processor time for a message (less is better)",
        group: Group::Inbound,
        metric: Metric::Processor,
        servers: &[Server::Paquebot, Server::Postfix, Server::PostfixTuned],
        unit: " ms",
        digits: 3,
        is_rate: false,
    },
    Panel {
        title: "Relayed through the queue: messages a second",
        group: Group::Relay,
        metric: Metric::Rate,
        servers: &[Server::Paquebot, Server::Postfix, Server::PostfixTuned],
        unit: "/s",
        digits: 0,
        is_rate: true,
    },
    Panel {
        title: "Fetched by POP3: messages a second in one session",
        group: Group::Fetch,
        metric: Metric::Rate,
        servers: &[Server::Paquebot, Server::Dovecot],
        unit: "/s",
        digits: 0,
        is_rate: true,
    },
    Panel {
        title: "A large maildrop: seconds (less is better)",
        group: Group::Maildrop,
        metric: Metric::Seconds,
        servers: &[Server::Paquebot, Server::Dovecot],
        unit: " s",
        digits: 3,
        is_rate: false,
    },
    Panel {
        title: "Sessions that wait: KiB of memory for each (less is better)",
        group: Group::Idle,
        metric: Metric::SessionMemory,
        servers: &[Server::Paquebot, Server::PostfixTuned, Server::Dovecot],
        unit: " KiB",
        digits: 1,
        is_rate: false,
    },
];

/// The whole picture.
pub fn render(results: &Results) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    for panel in &PANELS {
        y = draw_panel(&mut body, results, panel, y);
    }
    if results.group(Group::Curve).next().is_some() {
        y = draw_curve(&mut body, results, y);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y:.0}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

fn color(server: Server) -> &'static str {
    match server {
        Server::Paquebot => "#1f6feb",
        Server::Postfix => "#9a9a9a",
        Server::PostfixTuned => "#c4c4c4",
        Server::Dovecot => "#b08d57",
        Server::Sink => "#e0e0e0",
    }
}

/// Draws a panel below `y`; yields where the next one begins.
fn draw_panel(body: &mut String, results: &Results, panel: &Panel, mut y: f64) -> f64 {
    let rows: Vec<&Row> = results.group(panel.group).collect();
    let median = |row: &Row, server| row.get(server, panel.metric).map(crate::statistics::Samples::median);
    let every = rows.iter().flat_map(|row| panel.servers.iter().filter_map(|server| median(row, *server)));
    let longest = every.fold(0.0, f64::max);
    if longest <= 0.0 {
        return y;
    }
    title(body, panel.title, y);
    y += HEADING;
    for row in rows {
        let bars: Vec<(Server, f64)> =
            panel.servers.iter().filter_map(|server| Some((*server, median(row, *server)?))).collect();
        let middle = y + bars.len() as f64 * BAR / 2.0 + 4.0;
        text(body, LEFT - 8.0, middle, "end", &row.title);
        for (server, value) in bars {
            let width = (value / longest * (WIDTH - LEFT - RIGHT)).max(1.0);
            draw(
                body,
                format_args!(
                    "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\"/>\n",
                    BAR - 1.0,
                    color(server)
                ),
            );
            let mut label = format!("{}: {value:.*}{}", server.name(), panel.digits, panel.unit);
            if let (true, Some(ratio)) = (panel.is_rate, row.ratio(panel.metric, Server::Paquebot, server))
                && server != Server::Paquebot
            {
                let _ = write!(label, " (ours ×{:.1})", ratio.median());
            }
            text(body, LEFT + width + 6.0, y + BAR - 3.0, "start", &label);
            y += BAR;
        }
        y += GAP;
    }
    y + GAP
}

/// Processor time of a message over the number of messages in the store, as a line.
fn draw_curve(body: &mut String, results: &Results, y: f64) -> f64 {
    const HEIGHT: f64 = 160.0;
    title(body, "As the store grows: milliseconds of processor time for a message", y);
    let values: Vec<(f64, &str)> = results
        .group(Group::Curve)
        .filter_map(|row| Some((row.get(Server::Paquebot, Metric::Processor)?.median(), row.title.as_str())))
        .collect();
    let highest = values.iter().map(|(value, _)| *value).fold(0.0, f64::max) * 1.2;
    let (top, bottom, left) = (y + HEADING, y + HEADING + HEIGHT, 60.0);
    let step = (WIDTH - left - 40.0) / values.len() as f64;
    let place = |index: usize, value: f64| (left + step * (index as f64 + 1.0), bottom - value / highest * HEIGHT);
    let mut points = String::new();
    for (index, (value, _)) in values.iter().enumerate() {
        let (x, y) = place(index, *value);
        let _ = write!(points, "{x:.1},{y:.1} ");
    }
    let frame = format!("M{left},{top} V{bottom} H{}", WIDTH - 40.0);
    draw(body, format_args!("<path d=\"{frame}\" fill=\"none\" stroke=\"#888888\"/>\n"));
    let line = color(Server::Paquebot);
    draw(body, format_args!("<polyline points=\"{points}\" fill=\"none\" stroke=\"{line}\" stroke-width=\"2\"/>\n"));
    text(body, left - 6.0, bottom, "end", "0");
    text(body, left - 6.0, top + 10.0, "end", &format!("{highest:.2}"));
    if let (Some((_, first)), Some((_, last))) = (values.first(), values.last()) {
        text(body, left + step, bottom + 16.0, "middle", first);
        text(body, WIDTH - 40.0, bottom + 16.0, "end", last);
    }
    bottom + 40.0
}

fn title(body: &mut String, words: &str, y: f64) {
    let words = escape(words);
    let y = y + 24.0;
    draw(body, format_args!("<text x=\"16\" y=\"{y:.1}\" font-size=\"15\" font-weight=\"bold\">{words}</text>\n"));
}

fn text(body: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = escape(words);
    draw(body, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>\n"));
}

fn draw(body: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = body.write_fmt(what);
}

fn escape(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_its_room_and_the_others_are_in_proportion() {
        let mut results = Results::default();
        results.add(Group::Relay, "a < b", Server::Paquebot, Metric::Rate, 1000.0);
        results.add(Group::Relay, "a < b", Server::Postfix, Metric::Rate, 100.0);
        let picture = render(&results);
        assert!(picture.contains("width=\"440.0\"") && picture.contains("width=\"44.0\""), "{picture}");
        assert!(picture.contains("Postfix: 100/s (ours ×10.0)") && picture.contains("a &lt; b"));
        assert!(!picture.contains("Sessions that wait"));
    }
}

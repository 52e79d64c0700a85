//! What was measured, by scenario and server. Filled by the scenarios; read by the table and the picture.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::statistics::Samples;

/// Who was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    Paquebot,
    Postfix,
    PostfixTuned,
    Dovecot,
    /// `smtp-source` against `smtp-sink`: what the client itself reaches.
    Sink,
}

impl Server {
    /// As tables write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paquebot => "Paquebot",
            Self::Postfix => "Postfix",
            Self::PostfixTuned => "Postfix, tuned",
            Self::Dovecot => "Dovecot",
            Self::Sink => "smtp-sink",
        }
    }
}

/// What was measured of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Messages a second, until the last one is where it belongs: in the mailbox, at the next hop, at the client.
    Rate,
    /// Messages a second until the last reply 250; with Postfix the message is in its queue then.
    Accepted,
    /// Milliseconds of processor time of all the server's processes, user and system, for each message.
    Processor,
    /// Seconds that something takes.
    Seconds,
    /// KiB of memory (PSS of all processes) for each session, over that of the server without them.
    SessionMemory,
    /// MiB of memory (PSS of all processes).
    Memory,
    /// MiB that the process has at most resident.
    Peak,
}

impl Metric {
    /// The key in the file of results.
    pub fn key(self) -> &'static str {
        match self {
            Self::Rate => "messages_per_second",
            Self::Accepted => "messages_per_second_until_250",
            Self::Processor => "processor_milliseconds_per_message",
            Self::Seconds => "seconds",
            Self::SessionMemory => "kib_per_session",
            Self::Memory => "mib",
            Self::Peak => "peak_resident_mib",
        }
    }
}

/// The parts of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Inbound,
    Relay,
    Fetch,
    Maildrop,
    Idle,
    Memory,
    Curve,
}

/// One scenario and all that was measured in it.
#[derive(Debug)]
pub struct Row {
    pub group: Group,
    pub title: String,
    pub measures: BTreeMap<(Server, Metric), Samples>,
}

impl Row {
    /// What was measured; `None` where nothing was.
    pub fn get(&self, server: Server, metric: Metric) -> Option<&Samples> {
        self.measures.get(&(server, metric)).filter(|samples| !samples.is_empty())
    }

    /// A server's over another's, repetition by repetition.
    pub fn ratio(&self, metric: Metric, server: Server, over: Server) -> Option<Samples> {
        let ratio = self.get(server, metric)?.over(self.get(over, metric)?);
        (!ratio.is_empty()).then_some(ratio)
    }
}

/// Everything, in the order in which it was measured.
#[derive(Debug, Default)]
pub struct Results {
    /// About machine, programs and circumstances.
    pub facts: Vec<(String, String)>,
    pub rows: Vec<Row>,
}

impl Results {
    pub fn fact(&mut self, name: &str, value: impl Into<String>) {
        self.facts.push((name.to_owned(), value.into()));
    }

    pub fn add(&mut self, group: Group, title: &str, server: Server, metric: Metric, value: f64) {
        let row = match self.rows.iter().position(|row| row.group == group && row.title == title) {
            Some(index) => &mut self.rows[index],
            None => self.rows.push_mut(Row { group, title: title.to_owned(), measures: BTreeMap::new() }),
        };
        row.measures.entry((server, metric)).or_default().push(value);
    }

    pub fn group(&self, group: Group) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.group == group)
    }

    /// All of it, each repetition too, for whoever wants to compute something else.
    pub fn to_json(&self) -> Value {
        let facts: serde_json::Map<String, Value> =
            self.facts.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let measure = |((server, metric), samples): (&(Server, Metric), &Samples)| json!({"server": server.name(), "metric": metric.key(), "repetitions": samples.values()});
        let row = |row: &Row| {
            let measures: Vec<Value> = row.measures.iter().map(measure).collect();
            json!({"group": format!("{:?}", row.group), "scenario": row.title, "measures": measures})
        };
        json!({"facts": facts, "scenarios": self.rows.iter().map(row).collect::<Vec<_>>()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_of_a_scenario_come_together() {
        let mut results = Results::default();
        for (ours, theirs) in [(8.0, 1.0), (9.0, 3.0)] {
            results.add(Group::Inbound, "1 KB", Server::Paquebot, Metric::Rate, ours);
            results.add(Group::Inbound, "1 KB", Server::Postfix, Metric::Rate, theirs);
        }
        let row = results.group(Group::Inbound).next().unwrap();
        let ratio = row.ratio(Metric::Rate, Server::Paquebot, Server::Postfix).unwrap();
        assert_eq!(ratio.values(), [8.0, 3.0]);
        assert!(row.get(Server::Dovecot, Metric::Rate).is_none());
        assert_eq!(results.to_json()["scenarios"][0]["measures"][0]["repetitions"], json!([8.0, 9.0]));
    }
}

//! What became of each recipient, as the world saw it, and what must hold of that. Each recipient of each message has an
//! address of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use paquebot_server::store::envelope::Notify;

use super::world::{DAY, HOUR};

/// One recipient of one message.
#[derive(Debug, Clone)]
pub struct Fate {
    pub sender: Option<String>,
    pub accepted: Timestamp,
    /// Nothing may be tried before.
    pub not_before: Timestamp,
    pub notify: Notify,
    /// Whether its destination works at all times.
    pub healthy: bool,
    pub first_offered: Option<Timestamp>,
    pub last_offered: Option<Timestamp>,
    /// A server took the message so often …
    pub taken: u32,
    /// … and so often it said so, as far as it can know.
    pub acknowledged: u32,
    /// Deliveries whose outcome we could not keep, because we were killed.
    pub forgotten: u32,
    pub held_since: Option<Timestamp>,
    pub was_held: bool,
    pub dropped: bool,
    pub failed: u32,
    pub delayed: u32,
    pub relayed: u32,
}

#[derive(Debug, Default)]
pub struct Ledger {
    pub fates: BTreeMap<String, Fate>,
    /// A number that any other course would make another one.
    pub course: u64,
    pub violations: Vec<String>,
    /// Times in which nothing can be expected: we were down, or the store refused.
    pub outages: Vec<(Timestamp, Timestamp)>,
}

/// An attempt that had begun when something was held may go on so long.
const ATTEMPT: Duration = Duration::from_secs(75 * 60);

impl Ledger {
    fn note(&mut self, what: u8, address: &str, now: Timestamp) {
        for octet in address.bytes().chain([what]).chain(now.as_millisecond().to_be_bytes()) {
            self.course = (self.course ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// At RCPT. Yields when it was offered first.
    pub fn offered(&mut self, address: &str, now: Timestamp) -> Timestamp {
        self.note(1, address, now);
        let Some(fate) = self.fates.get_mut(address) else {
            self.violations.push(format!("{address} was offered, but nobody sent to it"));
            return now;
        };
        if fate.held_since.is_some_and(|since| since + ATTEMPT < now) {
            self.violations
                .push(format!("{address} was offered at {now}, though it is held since {:?}", fate.held_since));
        }
        if now < fate.not_before {
            self.violations.push(format!("{address} was offered at {now}, before {}", fate.not_before));
        }
        fate.last_offered = Some(now);
        *fate.first_offered.get_or_insert(now)
    }

    pub fn taken(&mut self, address: &str, now: Timestamp) {
        self.note(2, address, now);
        if let Some(fate) = self.fates.get_mut(address) {
            fate.taken += 1;
        }
    }

    pub fn acknowledged(&mut self, address: &str) {
        if let Some(fate) = self.fates.get_mut(address) {
            fate.acknowledged += 1;
        }
    }

    /// We were killed, and this row is still in the queue.
    pub fn survived(&mut self, address: &str) {
        if let Some(fate) = self.fates.get_mut(address) {
            fate.forgotten = fate.acknowledged;
        }
    }

    /// A report that a sender found in its maildrop.
    pub fn reported(&mut self, report: &str) {
        let mut address = None;
        for line in report.lines() {
            if let Some((_, text)) = line.strip_prefix("Final-Recipient:").and_then(|rest| rest.split_once(';')) {
                address = Some(text.trim().to_owned());
            }
            if let Some(action) = line.strip_prefix("Action:") {
                let Some(fate) = address.as_ref().and_then(|address| self.fates.get_mut(address)) else {
                    self.violations.push(format!("a report about nobody: {address:?}"));
                    continue;
                };
                match action.trim() {
                    "failed" => fate.failed += 1,
                    "delayed" => fate.delayed += 1,
                    _ => fate.relayed += 1,
                }
            }
        }
    }

    /// How much of a time nothing could be expected in.
    fn outage(&self, from: Timestamp, to: Timestamp) -> Duration {
        let overlap = |(begin, end): &(Timestamp, Timestamp)| {
            let (begin, end) = ((*begin).max(from), (*end).min(to));
            Duration::try_from(end.duration_since(begin)).unwrap_or_default()
        };
        self.outages.iter().map(overlap).sum()
    }

    /// What must hold at the end. `queued` are the addresses that are still in the queue.
    pub fn judge(&mut self, now: Timestamp, queued: &[String]) -> Vec<String> {
        let mut wrong = std::mem::take(&mut self.violations);
        for (address, fate) in &self.fates {
            let is_queued = queued.contains(address);
            let mut say = |what: &str| wrong.push(format!("{address}: {what}: {fate:?}"));
            if is_queued && fate.held_since.is_none() && fate.accepted.max(fate.not_before) + 6 * DAY < now {
                say("is still in the queue after its time");
            }
            if !is_queued && fate.held_since.is_some() && !fate.dropped && fate.taken == 0 && fate.failed == 0 {
                say("was held and is gone");
            }
            if fate.acknowledged > 1 + fate.forgotten {
                say("was delivered again, though the server's 250 was there");
            }
            if fate.failed > 1 {
                say("was bounced more than once");
            }
            if fate.delayed > 1 {
                say("was warned of more than once");
            }
            if fate.failed > 0 && (!fate.notify.on_failure() || fate.sender.is_none()) {
                say("was bounced, though the sender does not want it");
            }
            if fate.delayed > 0 && (!fate.notify.on_delay() || fate.sender.is_none()) {
                say("was warned of, though the sender does not want it");
            }
            if fate.failed > 0 && fate.acknowledged > fate.forgotten {
                say("was bounced, though it was delivered");
            }
            let expects_report = fate.sender.is_some() && fate.notify.on_failure() && !fate.dropped;
            if !is_queued && fate.taken == 0 && fate.failed == 0 && expects_report {
                say("is lost: neither delivered, nor bounced, nor queued");
            }
            if fate.healthy && !fate.was_held && !fate.dropped {
                let from = fate.accepted.max(fate.not_before);
                let until = fate.first_offered.unwrap_or(now);
                let waited = Duration::try_from(until.duration_since(from)).unwrap_or_default();
                if waited > self.outage(from, until) + PATIENCE {
                    say(&format!("starved for {waited:?}"));
                }
            }
        }
        wrong
    }
}

/// A healthy destination's recipient is attempted within this time, whatever others do: its own attempt before it may have
/// met an outage of the store, and rested for up to an hour.
pub const PATIENCE: Duration = HOUR;

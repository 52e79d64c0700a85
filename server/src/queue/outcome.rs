//! From what an attempt met to what the store settles: who is done, who is tried again and when, what the sender is told.
//! Pure. Called by [`super::delivery`].

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::Configuration;

use super::client::machine::{Accepted, Outcome, Taker};
use super::dsn::{Action, Original, Report, Reported};
use super::schedule::{Next, Schedule};
use super::status::{Refusal, Severity};
use crate::delivery::{self, Sender};
use crate::store::envelope::{ByMode, Notify};
use crate::store::outgoing::{Deferral, QueuedMessage, QueuedRecipient};
use crate::store::{Acceptance, Body, Declared, LocalDelivery, MessageId, RemoteRecipient};

/// What follows for the recipients of one message.
#[derive(Debug, Default)]
pub struct Decision {
    /// Rows that leave the queue.
    pub finished: Vec<i64>,
    /// Rows that stay.
    pub deferred: Vec<Deferral>,
    /// Recipients about whom the sender wants to be told now.
    pub reported: Vec<Reported>,
}

/// Decides for each recipient. `random` is any number.
#[must_use]
pub fn decide(
    message: &QueuedMessage,
    attempts: &[(QueuedRecipient, Outcome)],
    schedule: Schedule,
    now: Timestamp,
    random: u64,
) -> Decision {
    let mut decision = Decision::default();
    let (begin, schedule) = times(message, schedule);
    for (recipient, outcome) in attempts {
        match outcome {
            Ok(accepted) => decision.accept(message, recipient, accepted),
            Err(refusal) if refusal.severity() == Severity::Permanent => decision.fail(recipient, refusal),
            Err(refusal) => {
                let attempts = recipient.attempts.saturating_add(1);
                match schedule.after_failure(begin, now, attempts, recipient.warned, random) {
                    Next::Retry { due, warn } => {
                        decision.defer(recipient, refusal, due, warn, schedule.expiry(begin));
                    }
                    Next::GiveUp => decision.fail(recipient, &expired(refusal)),
                }
            }
        }
    }
    decision
}

impl Decision {
    fn accept(&mut self, message: &QueuedMessage, recipient: &QueuedRecipient, accepted: &Accepted) {
        self.finished.push(recipient.key);
        let recipient = &recipient.recipient;
        let wanted = recipient.notify.on_success();
        // RFC 2852 §4: each server on the way tells, if that was asked for.
        let traced = message.declared.deliver_by.is_some_and(|by| by.trace) && recipient.notify != Notify::Never;
        match &accepted.taker {
            Taker::Maildrop if wanted => self.reported.push(Reported::delivered(recipient, Action::Delivered)),
            Taker::Members if wanted => self.reported.push(Reported::delivered(recipient, Action::Expanded)),
            Taker::Silent(host) if wanted || traced => {
                self.reported.push(Reported::relayed(recipient, host, &accepted.reply));
            }
            Taker::Reporting(host) if traced => self.reported.push(Reported::relayed(recipient, host, &accepted.reply)),
            Taker::Maildrop | Taker::Members | Taker::Onward | Taker::Silent(_) | Taker::Reporting(_) => {}
        }
    }

    fn fail(&mut self, recipient: &QueuedRecipient, refusal: &Refusal) {
        self.finished.push(recipient.key);
        if recipient.recipient.notify.on_failure() {
            self.reported.push(Reported::refused(&recipient.recipient, Action::Failed, refusal));
        }
    }

    fn defer(&mut self, recipient: &QueuedRecipient, refusal: &Refusal, due: Timestamp, warn: bool, until: Timestamp) {
        self.deferred.push(Deferral { key: recipient.key, due, error: refusal.to_string(), warned: warn });
        if warn && recipient.recipient.notify.on_delay() {
            self.reported.push(Reported::refused(&recipient.recipient, Action::Delayed { until }, refusal));
        }
    }
}

/// From when the age of a message counts, and how long it is tried: what was held (RFC 4865) is as old as its release, and
/// what is to be delivered by a certain time (RFC 2852 §4) goes back then, or its sender hears of the delay.
fn times(message: &QueuedMessage, schedule: Schedule) -> (Timestamp, Schedule) {
    let begin = message.declared.hold_until.map_or(message.received_at, |until| until.max(message.received_at));
    let Some(by) = message.declared.deliver_by else { return (begin, schedule) };
    let time = Duration::try_from(by.at.duration_since(begin)).unwrap_or_default();
    let schedule = match by.mode {
        ByMode::Return => Schedule { max_age: schedule.max_age.min(time), ..schedule },
        ByMode::Notify => Schedule { delay_warning: schedule.delay_warning.min(time), ..schedule },
    };
    (begin, schedule)
}

/// The time is over (RFC 3463 §3.5: X.4.7).
fn expired(last: &Refusal) -> Refusal {
    let text = format!("the time for delivery is over; the last attempt met: {} {}", last.status(), last.text);
    Refusal { host: last.host.clone(), ..Refusal::permanent(4, 7, text) }
}

/// Seconds until a message has to be delivered, where its sender said so.
#[must_use]
pub fn seconds_left(declared: &Declared, now: Timestamp) -> Option<i64> {
    declared.deliver_by.map(|by| by.at.duration_since(now).as_secs())
}

/// A report on its way to the sender. It can be made into an acceptance again when the store could not take it.
#[derive(Debug, Clone)]
pub struct Notice {
    id: MessageId,
    at: Timestamp,
    bytes: Bytes,
    declared: Declared,
    local: Vec<LocalDelivery>,
    remote: Vec<RemoteRecipient>,
}

impl Notice {
    /// What the store commits.
    #[must_use]
    pub fn acceptance(&self) -> Acceptance {
        Acceptance {
            id: self.id.clone(),
            received_at: self.at,
            // RFC 5321 §4.5.5: a report has the null reverse-path, so that nobody reports about reports.
            reverse_path: None,
            sender_tenant: None,
            trace: Bytes::new(),
            body: Body::from(self.bytes.clone()),
            declared: self.declared.clone(),
            local: self.local.clone(),
            remote: self.remote.clone(),
            derived: Vec::new(),
            remember: Vec::new(),
        }
    }

    /// Copies that it puts into maildrops here.
    #[must_use]
    pub fn copies(&self) -> usize {
        self.local.len()
    }

    /// Its size.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.bytes.len()
    }

    /// Its id in logs.
    #[must_use]
    pub fn id(&self) -> &MessageId {
        &self.id
    }
}

/// Why the sender is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreportable {
    /// The message has the null reverse-path: it is a report itself.
    NullReversePath,
    /// The sender's address leads to nobody here.
    NoSuchSender,
    /// The sender's address is another tenant's by now, who must not read it.
    ChangedHands,
}

/// Makes the report `id` about some recipients of a message, addressed to where its sender's mail goes now, unless that is
/// somebody else's by now.
///
/// # Errors
/// [`Unreportable`]: the report is dropped, and counted.
pub fn notice(
    configuration: &Configuration,
    message: &QueuedMessage,
    original: Original<'_>,
    recipients: &[Reported],
    id: MessageId,
    now: Timestamp,
) -> Result<Notice, Unreportable> {
    let reverse_path = message.reverse_path.as_ref().ok_or(Unreportable::NullReversePath)?;
    let sender = delivery::arrival::original_sender(configuration, reverse_path, now);
    let sender = &sender.ok_or(Unreportable::NoSuchSender)?;
    let whose = match sender == reverse_path {
        true => Sender::of_queued(message),
        // Whose the address is that stood for it makes no difference to who gets the report.
        false => Sender { reverse_path: Some(sender), tenant: None },
    };
    if whose.has_changed_hands(configuration) {
        return Err(Unreportable::ChangedHands);
    }
    let plan = delivery::arrival::plan_of_report(configuration, sender).ok_or(Unreportable::NoSuchSender)?;
    let report = Report {
        id: &id,
        hostname: &configuration.server.hostname,
        to: sender,
        recipients,
        envelope_id: message.declared.envelope_id.as_deref(),
        original_id: &message.id,
        arrived_at: message.received_at,
        original,
        at: now,
    };
    let (smtputf8, bytes) = (report.is_international(), report.message());
    // RFC 8689 §5: what must not be read on the way is not repeated in clear text either.
    let require_tls = message.declared.require_tls;
    let declared = Declared { smtputf8, require_tls, ..Declared::eight_bit(!bytes.is_ascii()) };
    let mut local = delivery::local_deliveries(&plan, None);
    // A full mailbox must not keep the queue from settling: reports are small, and rare.
    local.iter_mut().for_each(|delivery| delivery.quota = None);
    if smtputf8 {
        delivery::listing::note(0, &bytes, true, &mut local);
    }
    let mut remote: Vec<RemoteRecipient> = plan.remote.into_iter().map(Into::into).collect();
    whose.note_tenants(configuration, &mut remote);
    Ok(Notice { id, at: now, bytes: bytes.into(), declared, local, remote })
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;

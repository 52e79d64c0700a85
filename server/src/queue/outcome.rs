//! From what an attempt met to what the store settles: who is done, who is tried again and when, what the sender is told.
//! Pure. Called by [`super::delivery`].

use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::{Address, Configuration};

use super::client::machine::Outcome;
use super::dsn::{Kind, Report};
use super::schedule::{Next, Schedule};
use super::status::{Refusal, Severity};
use crate::delivery;
use crate::store::outgoing::{Deferral, QueuedMessage, QueuedRecipient};
use crate::store::{Acceptance, Body, Declared, LocalDelivery, MessageId};

/// What follows for the recipients of one message.
#[derive(Debug, Default)]
pub struct Decision {
    /// Rows that leave the queue.
    pub finished: Vec<i64>,
    /// Rows that stay.
    pub deferred: Vec<Deferral>,
    /// Recipients that do not get the message.
    pub failed: Vec<(Address, Refusal)>,
    /// Recipients about whose delay the sender is told now.
    pub delayed: Vec<(Address, Refusal)>,
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
    for (recipient, outcome) in attempts {
        let refusal = match outcome {
            Ok(_) => {
                decision.finished.push(recipient.key);
                continue;
            }
            Err(refusal) => refusal,
        };
        if refusal.severity() == Severity::Permanent {
            decision.finished.push(recipient.key);
            decision.failed.push((recipient.recipient.address.clone(), refusal.clone()));
            continue;
        }
        let attempts = recipient.attempts.saturating_add(1);
        match schedule.after_failure(message.received_at, now, attempts, recipient.warned, random) {
            Next::Retry { due, warn } => {
                decision.deferred.push(Deferral { key: recipient.key, due, error: refusal.to_string(), warned: warn });
                if warn {
                    decision.delayed.push((recipient.recipient.address.clone(), refusal.clone()));
                }
            }
            Next::GiveUp => {
                decision.finished.push(recipient.key);
                decision.failed.push((recipient.recipient.address.clone(), expired(refusal)));
            }
        }
    }
    decision
}

/// The time is over (RFC 3463 §3.5: X.4.7).
fn expired(last: &Refusal) -> Refusal {
    let text = format!("the time for delivery is over; the last attempt met: {} {}", last.status(), last.text);
    Refusal { host: last.host.clone(), ..Refusal::permanent(4, 7, text) }
}

/// A report on its way to the sender. It can be made into an acceptance again when the store could not take it.
#[derive(Debug, Clone)]
pub struct Notice {
    id: MessageId,
    at: Timestamp,
    bytes: Bytes,
    declared: Declared,
    local: Vec<LocalDelivery>,
    remote: Vec<Address>,
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
            trace: Bytes::new(),
            body: Body::Memory(self.bytes.clone()),
            declared: self.declared.clone(),
            local: self.local.clone(),
            remote: self.remote.iter().cloned().map(Into::into).collect(),
            derived: Vec::new(),
            remember: Vec::new(),
        }
    }

    /// Copies that it puts into maildrops here.
    #[must_use]
    pub fn copies(&self) -> usize {
        self.local.len()
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
}

/// Makes the report `id` about some recipients of a message, addressed to where its sender's mail goes now.
///
/// # Errors
/// [`Unreportable`]: the report is dropped, and counted.
pub fn notice(
    configuration: &Configuration,
    message: &QueuedMessage,
    original_header: &[u8],
    kind: Kind,
    recipients: &[(Address, Refusal)],
    id: MessageId,
    now: Timestamp,
) -> Result<Notice, Unreportable> {
    let sender = message.reverse_path.as_ref().ok_or(Unreportable::NullReversePath)?;
    let plan = delivery::expand(configuration, sender).map_err(|_| Unreportable::NoSuchSender)?;
    let bytes = Report {
        kind,
        id: &id,
        hostname: &configuration.server.hostname,
        to: sender,
        recipients,
        original_id: &message.id,
        arrived_at: message.received_at,
        original_header,
        at: now,
    }
    .message();
    let addresses = recipients.iter().map(|(address, _)| address).chain([sender]);
    let smtputf8 = !addresses.into_iter().all(Address::is_ascii);
    let declared = Declared { smtputf8, ..Declared::eight_bit(!bytes.is_ascii()) };
    let mut local = delivery::local_deliveries(&plan, None);
    // A full mailbox must not keep the queue from settling: reports are small, and rare.
    local.iter_mut().for_each(|delivery| delivery.quota = None);
    Ok(Notice { id, at: now, bytes: bytes.into(), declared, local, remote: plan.remote })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::outgoing::MessageNumber;

    const SCHEDULE: Schedule = Schedule { max_age: Duration::from_secs(1000), delay_warning: Duration::from_secs(100) };

    fn message() -> QueuedMessage {
        QueuedMessage {
            id: MessageId::generate(),
            received_at: Timestamp::UNIX_EPOCH,
            reverse_path: None,
            declared: Declared::default(),
            octets: 1,
        }
    }

    fn attempt(key: i64, warned: bool, outcome: Outcome) -> (QueuedRecipient, Outcome) {
        let address = Address::parse(&format!("r{key}@x.example")).unwrap();
        let message = MessageNumber::for_test(1);
        (QueuedRecipient { key, message, recipient: address.into(), attempts: 3, warned, last_error: None }, outcome)
    }

    fn decide_after(seconds: i64, attempts: &[(QueuedRecipient, Outcome)]) -> Decision {
        decide(&message(), attempts, SCHEDULE, Timestamp::from_second(seconds).unwrap(), 0)
    }

    #[test]
    fn each_recipient_has_an_outcome_of_its_own() {
        let busy = || Err(Refusal::transient(7, 1, "busy"));
        let attempts = [
            attempt(1, false, Ok("250".to_owned())),
            attempt(2, false, Err(Refusal::permanent(1, 1, "no"))),
            attempt(3, false, busy()),
            attempt(4, true, busy()),
        ];
        let addresses = |list: &[(Address, Refusal)]| -> Vec<String> {
            list.iter().map(|(address, refusal)| format!("{address} {}", refusal.status())).collect()
        };
        let young = decide_after(50, &attempts);
        assert_eq!((young.finished, addresses(&young.failed)), (vec![1, 2], vec!["r2@x.example 5.1.1".to_owned()]));
        assert!(young.delayed.is_empty() && young.deferred.iter().all(|deferral| !deferral.warned));
        let late = decide_after(200, &attempts);
        assert_eq!(addresses(&late.delayed), ["r3@x.example 4.7.1"], "the other was told before");
        assert_eq!(
            late.deferred.iter().map(|deferral| (deferral.key, deferral.warned)).collect::<Vec<_>>(),
            [(3, true), (4, false)]
        );
        let old = decide_after(1000, &attempts);
        assert_eq!(old.finished, [1, 2, 3, 4]);
        assert_eq!(addresses(&old.failed)[1..], ["r3@x.example 5.4.7", "r4@x.example 5.4.7"]);
        assert!(old.failed[1].1.text.contains("4.7.1 busy"));
    }
}

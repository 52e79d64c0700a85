//! How much the owner of a mailbox, and the clients of a relay rule together, may still send: token buckets in memory.
//! Asked by the SMTP session at MAIL and RCPT. [`Ledger`] is pure: the caller says what time it is; [`RateLimits`] is the
//! one that all sessions share.
//!
//! A limit of n an hour is a bucket of n that is full at first and fills evenly: n may go at once, and then one every
//! 3600/n seconds. A bucket that is full again is forgotten, so that there are never more than were used within an hour,
//! and each belongs to a mailbox or rule of the configuration. A restart begins with full ones.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use paquebot_config::RateLimit;

const HOUR: Duration = Duration::from_hours(1);
/// Buckets are swept when there are so many, or twice as many as the last sweep left.
const SWEEP: usize = 1024;

/// Whose limit it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Holder {
    /// The mailbox of this canonical address.
    Mailbox(String),
    /// The relay rule of this name.
    Rule(String),
}

/// What somebody wants to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// One message more.
    pub message: bool,
    /// One recipient more.
    pub recipient: bool,
}

/// A limit that is reached. Its text is for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// `messages` or `recipients`.
    pub what: &'static str,
    /// How many an hour may go.
    pub limit: u32,
    /// When one more may go.
    pub wait: Duration,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, limit, wait } = self;
        let minutes = wait.as_secs().div_ceil(60).max(1);
        let unit = if minutes == 1 { "minute" } else { "minutes" };
        write!(formatter, "the limit of {limit} {what} an hour is reached; try again in {minutes} {unit}")
    }
}

/// When a bucket is full again, since the start of the process.
type FullAt = Duration;

#[derive(Debug, Clone, Copy, Default)]
struct Buckets {
    messages: FullAt,
    recipients: FullAt,
}

/// All buckets that are not full.
#[derive(Debug, Default)]
pub struct Ledger {
    buckets: HashMap<Holder, Buckets>,
    sweep_at: usize,
}

impl Ledger {
    /// Takes what is wanted, or nothing of it.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn take(&mut self, holder: Holder, limit: &RateLimit, demand: Demand, now: Duration) -> Result<(), Exhausted> {
        self.sweep(now);
        let before = self.buckets.get(&holder).copied().unwrap_or_default();
        let mut after = before;
        if let Some(limit) = limit.messages_per_hour.filter(|_| demand.message) {
            after.messages = one_more(before.messages, limit, "messages", now)?;
        }
        if let Some(limit) = limit.recipients_per_hour.filter(|_| demand.recipient) {
            after.recipients = one_more(before.recipients, limit, "recipients", now)?;
        }
        if after.messages > now || after.recipients > now {
            self.buckets.insert(holder, after);
        }
        Ok(())
    }

    fn sweep(&mut self, now: Duration) {
        if self.buckets.len() >= self.sweep_at.max(SWEEP) {
            self.buckets.retain(|_, buckets| buckets.messages > now || buckets.recipients > now);
            self.sweep_at = self.buckets.len().saturating_mul(2);
        }
    }
}

/// When the bucket is full again after one more is taken out of it. It holds what fills it in an hour.
fn one_more(full_at: FullAt, limit: u32, what: &'static str, now: Duration) -> Result<FullAt, Exhausted> {
    // A limit of nothing lets nothing pass; the operator writes none.
    let each = HOUR.checked_div(limit).unwrap_or(HOUR * 2);
    let next = full_at.max(now).saturating_add(each);
    match next.saturating_sub(now).checked_sub(HOUR) {
        Some(wait) if !wait.is_zero() => Err(Exhausted { what, limit, wait }),
        _ => Ok(next),
    }
}

/// Shared by all sessions.
#[derive(Debug)]
pub struct RateLimits {
    started: Instant,
    ledger: Mutex<Ledger>,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { started: Instant::now(), ledger: Mutex::default() }
    }
}

impl RateLimits {
    /// Takes what is wanted now, or nothing of it.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn take(&self, holder: Holder, limit: &RateLimit, demand: Demand) -> Result<(), Exhausted> {
        // What a panic elsewhere left is still a set of numbers.
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.take(holder, limit, demand, self.started.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MESSAGE: Demand = Demand { message: true, recipient: false };
    const RECIPIENT: Demand = Demand { message: false, recipient: true };

    fn anna() -> Holder {
        Holder::Mailbox("anna@server1.com".to_owned())
    }

    fn limit(messages: Option<u32>, recipients: Option<u32>) -> RateLimit {
        RateLimit { messages_per_hour: messages, recipients_per_hour: recipients }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn so_many_go_at_once_and_then_one_each_time_that_one_is_due() {
        let (mut ledger, limit) = (Ledger::default(), limit(Some(4), None));
        for _ in 0..4 {
            ledger.take(anna(), &limit, MESSAGE, at(100)).unwrap();
        }
        let refused = ledger.take(anna(), &limit, MESSAGE, at(100)).unwrap_err();
        assert_eq!((refused.what, refused.wait), ("messages", at(900)));
        assert_eq!(refused.to_string(), "the limit of 4 messages an hour is reached; try again in 15 minutes");
        assert!(ledger.take(anna(), &limit, MESSAGE, at(999)).is_err());
        ledger.take(anna(), &limit, MESSAGE, at(1000)).unwrap();
        assert!(ledger.take(anna(), &limit, MESSAGE, at(1000)).is_err());
        ledger.take(anna(), &limit, RECIPIENT, at(1000)).unwrap();
        for _ in 0..4 {
            ledger.take(anna(), &limit, MESSAGE, at(10_000)).unwrap();
        }
    }

    #[test]
    fn each_has_a_bucket_of_its_own_and_what_is_refused_takes_nothing() {
        let (mut ledger, limit) = (Ledger::default(), limit(Some(2), Some(1)));
        let both = Demand { message: true, recipient: true };
        ledger.take(anna(), &limit, both, at(0)).unwrap();
        assert_eq!(ledger.take(anna(), &limit, both, at(0)).unwrap_err().what, "recipients");
        ledger.take(anna(), &limit, MESSAGE, at(0)).unwrap();
        assert_eq!(ledger.take(anna(), &limit, MESSAGE, at(0)).unwrap_err().what, "messages");
        ledger.take(Holder::Rule("anna@server1.com".to_owned()), &limit, both, at(0)).unwrap();
        ledger.take(anna(), &RateLimit::default(), both, at(0)).unwrap();
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let (mut ledger, limit) = (Ledger::default(), limit(Some(3600), None));
        for second in 0..100_000_u64 {
            ledger.take(Holder::Rule(second.to_string()), &limit, MESSAGE, at(second)).unwrap();
        }
        assert!(ledger.buckets.len() <= SWEEP, "{}", ledger.buckets.len());
    }

    proptest! {
        /// What passes in any hour is at most what the bucket held and what came into it.
        #[test]
        fn never_more_than_twice_the_limit_in_an_hour(allowed in 1..200_u32, pauses in prop::collection::vec(0..400_u64, 1..400)) {
            let (mut ledger, limit) = (Ledger::default(), limit(None, Some(allowed)));
            let (mut now, mut passed) = (0, Vec::new());
            for pause in pauses {
                now += pause;
                match ledger.take(anna(), &limit, RECIPIENT, at(now)) {
                    Ok(()) => passed.push(now),
                    Err(refused) => prop_assert!(refused.wait <= HOUR && !refused.wait.is_zero()),
                }
            }
            for (index, first) in passed.iter().enumerate() {
                let within = passed[index..].iter().take_while(|time| **time < first + 3600).count();
                prop_assert!(within <= 2 * allowed as usize, "{within} of {allowed}");
            }
        }
    }
}

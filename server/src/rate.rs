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

/// A demand on one limit; what somebody does may be one on several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Whose limit.
    pub holder: Holder,
    /// The limit.
    pub limit: RateLimit,
    /// What is wanted of it.
    pub demand: Demand,
}

/// A limit that is reached. Its text is for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted {
    /// Whose it is.
    pub holder: Holder,
    /// `messages` or `recipients`.
    pub what: &'static str,
    /// How many an hour may go.
    pub limit: u32,
    /// When one more may go.
    pub wait: Duration,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, limit, wait, .. } = self;
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

/// `messages` or `recipients`, how many an hour may go, and when one more may.
type Reached = (&'static str, u32, Duration);

impl Buckets {
    /// After what is wanted is taken out.
    fn less(self, limit: &RateLimit, demand: Demand, now: Duration) -> Result<Self, Reached> {
        let mut after = self;
        if let Some(limit) = limit.messages_per_hour.filter(|_| demand.message) {
            after.messages = one_more(self.messages, limit, now).map_err(|wait| ("messages", limit, wait))?;
        }
        if let Some(limit) = limit.recipients_per_hour.filter(|_| demand.recipient) {
            after.recipients = one_more(self.recipients, limit, now).map_err(|wait| ("recipients", limit, wait))?;
        }
        Ok(after)
    }
}

/// All buckets that are not full.
#[derive(Debug, Default)]
pub struct Ledger {
    buckets: HashMap<Holder, Buckets>,
    sweep_at: usize,
}

impl Ledger {
    /// Takes what all claims want, or nothing of any: who is at one limit does not go on using up another, which may be
    /// shared. No two claims are of one holder.
    ///
    /// # Errors
    /// The first limit that is reached.
    pub fn take(&mut self, claims: Vec<Claim>, now: Duration) -> Result<(), Exhausted> {
        self.sweep(now);
        let mut taken = Vec::with_capacity(claims.len());
        for Claim { holder, limit, demand } in claims {
            let before = self.buckets.get(&holder).copied().unwrap_or_default();
            match before.less(&limit, demand, now) {
                Ok(after) => taken.push((holder, after)),
                Err((what, limit, wait)) => return Err(Exhausted { holder, what, limit, wait }),
            }
        }
        let is_used = |(_, after): &(Holder, Buckets)| after.messages > now || after.recipients > now;
        self.buckets.extend(taken.into_iter().filter(is_used));
        Ok(())
    }

    fn sweep(&mut self, now: Duration) {
        if self.buckets.len() >= self.sweep_at.max(SWEEP) {
            self.buckets.retain(|_, buckets| buckets.messages > now || buckets.recipients > now);
            self.sweep_at = self.buckets.len().saturating_mul(2);
        }
    }
}

/// When the bucket is full again after one more is taken out of it, or how long until there is one. It holds what fills it
/// in an hour.
fn one_more(full_at: FullAt, limit: u32, now: Duration) -> Result<FullAt, Duration> {
    // A limit of nothing lets nothing pass; the operator writes none.
    let each = HOUR.checked_div(limit).unwrap_or(HOUR * 2);
    let next = full_at.max(now).saturating_add(each);
    match next.saturating_sub(now).checked_sub(HOUR) {
        Some(wait) if !wait.is_zero() => Err(wait),
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
    /// Takes what all claims want now, or nothing of any.
    ///
    /// # Errors
    /// The first limit that is reached.
    pub fn take(&self, claims: Vec<Claim>) -> Result<(), Exhausted> {
        if claims.is_empty() {
            return Ok(());
        }
        // What a panic elsewhere left is still a set of numbers.
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.take(claims, self.started.elapsed())
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

    impl Ledger {
        fn take_one(
            &mut self,
            holder: Holder,
            limit: &RateLimit,
            demand: Demand,
            now: Duration,
        ) -> Result<(), Exhausted> {
            self.take(vec![Claim { holder, limit: *limit, demand }], now)
        }
    }

    #[test]
    fn of_two_limits_both_are_taken_from_or_neither() {
        let mut ledger = Ledger::default();
        let rule = || Holder::Rule("partners".to_owned());
        let claim = |holder, count| Claim { holder, limit: limit(None, Some(count)), demand: RECIPIENT };
        let both = || vec![claim(anna(), 1), claim(rule(), 3)];
        ledger.take(both(), at(0)).unwrap();
        for _ in 0..10 {
            assert_eq!(ledger.take(both(), at(0)).unwrap_err().holder, anna());
        }
        for _ in 0..2 {
            ledger.take_one(rule(), &limit(None, Some(3)), RECIPIENT, at(0)).unwrap();
        }
        let other = || vec![claim(Holder::Mailbox("tom@server1.com".to_owned()), 1), claim(rule(), 3)];
        assert_eq!(ledger.take(other(), at(0)).unwrap_err().holder, rule());
        ledger.take(vec![other().swap_remove(0)], at(0)).unwrap();
    }

    #[test]
    fn so_many_go_at_once_and_then_one_each_time_that_one_is_due() {
        let (mut ledger, limit) = (Ledger::default(), limit(Some(4), None));
        for _ in 0..4 {
            ledger.take_one(anna(), &limit, MESSAGE, at(100)).unwrap();
        }
        let refused = ledger.take_one(anna(), &limit, MESSAGE, at(100)).unwrap_err();
        assert_eq!((refused.what, refused.wait), ("messages", at(900)));
        assert_eq!(refused.to_string(), "the limit of 4 messages an hour is reached; try again in 15 minutes");
        assert!(ledger.take_one(anna(), &limit, MESSAGE, at(999)).is_err());
        ledger.take_one(anna(), &limit, MESSAGE, at(1000)).unwrap();
        assert!(ledger.take_one(anna(), &limit, MESSAGE, at(1000)).is_err());
        ledger.take_one(anna(), &limit, RECIPIENT, at(1000)).unwrap();
        for _ in 0..4 {
            ledger.take_one(anna(), &limit, MESSAGE, at(10_000)).unwrap();
        }
    }

    #[test]
    fn each_has_a_bucket_of_its_own_and_what_is_refused_takes_nothing() {
        let (mut ledger, limit) = (Ledger::default(), limit(Some(2), Some(1)));
        let both = Demand { message: true, recipient: true };
        ledger.take_one(anna(), &limit, both, at(0)).unwrap();
        assert_eq!(ledger.take_one(anna(), &limit, both, at(0)).unwrap_err().what, "recipients");
        ledger.take_one(anna(), &limit, MESSAGE, at(0)).unwrap();
        assert_eq!(ledger.take_one(anna(), &limit, MESSAGE, at(0)).unwrap_err().what, "messages");
        ledger.take_one(Holder::Rule("anna@server1.com".to_owned()), &limit, both, at(0)).unwrap();
        ledger.take_one(anna(), &RateLimit::default(), both, at(0)).unwrap();
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let (mut ledger, limit) = (Ledger::default(), limit(Some(3600), None));
        for second in 0..100_000_u64 {
            ledger.take_one(Holder::Rule(second.to_string()), &limit, MESSAGE, at(second)).unwrap();
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
                match ledger.take_one(anna(), &limit, RECIPIENT, at(now)) {
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

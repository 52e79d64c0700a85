//! When a deferred recipient is tried again, when the sender is told of the delay, and when the queue gives up (RFC 5321
//! §4.5.4.1). Pure: time and chance are arguments. Called by [`super::outcome`].

use std::time::Duration;

use jiff::Timestamp;

/// Waiting times after the first, second, … failed attempt; the last one repeats. The first ones are short: grey-listing
/// and restarts pass within minutes.
const INTERVALS: [Duration; 6] = [
    Duration::from_secs(60),
    Duration::from_secs(2 * 60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(60 * 60),
];
/// A waiting time varies by up to this many per cent either way, so that what failed together does not come back
/// together.
const JITTER_PERCENT: u64 = 20;

/// How long the queue tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// After this the queue gives up.
    pub max_age: Duration,
    /// After this the sender is told, once.
    pub delay_warning: Duration,
}

/// What a failed attempt, which may be repeated, leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another attempt.
    Retry {
        /// When.
        due: Timestamp,
        /// Whether the sender is to be told of the delay now.
        warn: bool,
    },
    /// The message is too old: the sender gets it back.
    GiveUp,
}

impl Schedule {
    /// Decides after a failed attempt. `attempts` counts those made, this one included; `random` is any number.
    #[must_use]
    pub fn after_failure(
        &self,
        received_at: Timestamp,
        now: Timestamp,
        attempts: u32,
        warned: bool,
        random: u64,
    ) -> Next {
        let expiry = self.expiry(received_at);
        if now >= expiry {
            return Next::GiveUp;
        }
        // The last attempt is made at the end of the time, not up to an hour before it.
        let due = later(now, waiting_time(attempts, random)).min(expiry);
        Next::Retry { due, warn: !warned && now >= later(received_at, self.delay_warning) }
    }

    /// When the queue gives up.
    #[must_use]
    pub fn expiry(&self, received_at: Timestamp) -> Timestamp {
        later(received_at, self.max_age)
    }
}

/// How long to wait after so many failed attempts.
#[must_use]
pub fn waiting_time(attempts: u32, random: u64) -> Duration {
    let index = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX).min(INTERVALS.len() - 1);
    let percent = 100 - JITTER_PERCENT + random % (2 * JITTER_PERCENT + 1);
    INTERVALS[index] * u32::try_from(percent).unwrap_or(100) / 100
}

/// A moment after another; the end of time where there is none.
#[must_use]
pub fn later(moment: Timestamp, by: Duration) -> Timestamp {
    moment.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3600;
    const SCHEDULE: Schedule =
        Schedule { max_age: Duration::from_secs(120 * HOUR), delay_warning: Duration::from_secs(4 * HOUR) };

    #[test]
    fn retries_begin_within_minutes_and_grow_to_an_hour() {
        assert!(waiting_time(1, 40) <= Duration::from_secs(72));
        assert_eq!(waiting_time(100, 20), Duration::from_secs(HOUR));
        assert_eq!(waiting_time(0, 20), waiting_time(1, 20));
    }

    #[test]
    fn a_message_is_tried_for_its_whole_age_warned_once_and_given_up() {
        let received = Timestamp::UNIX_EPOCH;
        let (mut now, mut attempts, mut warnings) = (received, 0, Vec::new());
        loop {
            attempts += 1;
            match SCHEDULE.after_failure(received, now, attempts, !warnings.is_empty(), u64::from(attempts) * 7) {
                Next::Retry { due, warn } => {
                    if warn {
                        warnings.push(now);
                    }
                    now = due;
                }
                Next::GiveUp => break,
            }
        }
        assert_eq!(now, SCHEDULE.expiry(received), "the last attempt is at the very end");
        assert_eq!(warnings.len(), 1);
        let warned_after = warnings[0].duration_since(received).as_secs();
        assert!((4 * 3600..=5 * 3600 + 720).contains(&warned_after), "{warned_after}");
        assert!((100..200).contains(&attempts), "{attempts}");
    }

    proptest! {
        #[test]
        fn the_next_attempt_is_later_and_never_after_the_expiry(
            age in 0..200 * HOUR, attempts in 0..u32::MAX, warned: bool, random: u64,
        ) {
            let received = Timestamp::UNIX_EPOCH;
            let now = later(received, Duration::from_secs(age));
            match SCHEDULE.after_failure(received, now, attempts, warned, random) {
                Next::Retry { due, warn } => {
                    prop_assert!(due > now && due <= SCHEDULE.expiry(received));
                    prop_assert!(due <= later(now, Duration::from_secs(72 * 60)));
                    prop_assert_eq!(warn, !warned && age >= 4 * HOUR);
                }
                Next::GiveUp => prop_assert!(age >= 120 * HOUR),
            }
        }
    }
}

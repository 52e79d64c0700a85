//! How long nothing is tried while the API server takes nothing: statuses and reads of Secrets are many, and each would be
//! tried again by itself. One is tried when a pause is over, and the others follow it when it succeeds. Pure; the engine
//! says what time it is.

use std::time::Duration;

use tokio::time::Instant;

use super::calls::Failed;

/// The longest pause while the API server is away.
const LONGEST: Duration = Duration::from_secs(15);
/// The longest while it answers with errors of its own: that may be for some objects alone, and the others are not to wait.
const LONGEST_FAILING: Duration = Duration::from_secs(2);
/// So many such errors with no success in between are no longer about single objects.
const MANY: u32 = 32;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct HoldOff {
    /// Errors of the API server's own since something succeeded.
    errors: u32,
    pauses: u32,
    until: Option<Instant>,
}

impl HoldOff {
    /// Something failed; returns the new pause, if one begins.
    pub fn failed(&mut self, why: Failed, now: Instant) -> Option<Duration> {
        let longest = match why {
            Failed::Refused => return None,
            Failed::Failing => {
                self.errors = self.errors.saturating_add(1);
                if self.errors < MANY {
                    return None;
                }
                LONGEST_FAILING
            }
            Failed::Away => LONGEST,
        };
        if self.pausing(now).is_some() {
            return None;
        }
        let pause = Duration::from_secs(1 << self.pauses.min(6)).min(longest);
        self.pauses = self.pauses.saturating_add(1);
        self.until = Some(now + pause);
        Some(pause)
    }

    /// Something succeeded; returns whether anything was held off.
    pub fn succeeded(&mut self) -> bool {
        std::mem::take(self).until.is_some()
    }

    /// Until when nothing is tried, if that is so.
    #[must_use]
    pub fn pausing(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// How many may be tried together, where it would be `all`.
    #[must_use]
    pub fn at_once(&self, all: usize, now: Instant) -> usize {
        match self.until {
            None => all,
            Some(until) if until > now => 0,
            Some(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_the_api_server_is_away_one_is_tried_and_then_a_longer_pause() {
        let mut now = Instant::now();
        let mut hold_off = HoldOff::default();
        assert_eq!(hold_off.at_once(32, now), 32);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let pause = hold_off.failed(Failed::Away, now).unwrap();
            assert_eq!(hold_off.failed(Failed::Away, now), None, "what was under way begins no other pause");
            assert_eq!((hold_off.at_once(32, now), hold_off.pausing(now)), (0, Some(now + pause)));
            now += pause;
            assert_eq!((hold_off.at_once(32, now), hold_off.pausing(now)), (1, None));
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 15, 15]);
        assert!(hold_off.succeeded());
        assert_eq!(hold_off.at_once(32, now), 32);
        assert_eq!(hold_off.failed(Failed::Away, now), Some(Duration::from_secs(1)));
    }

    #[test]
    fn what_is_refused_for_itself_holds_nobody_up() {
        let mut now = Instant::now();
        let mut hold_off = HoldOff::default();
        for _ in 0..2 * MANY {
            assert_eq!(hold_off.failed(Failed::Refused, now), None, "that is about the object");
        }
        for _ in 0..2 {
            assert!(!hold_off.succeeded());
            for _ in 1..MANY {
                assert_eq!(hold_off.failed(Failed::Failing, now), None, "one success, and they count anew");
            }
        }
        for longest in [1, 2, 2, 2] {
            let pause = hold_off.failed(Failed::Failing, now).unwrap();
            assert_eq!(pause, Duration::from_secs(longest));
            now += pause;
        }
    }
}

//! How long nothing is tried while the API server takes nothing: statuses and reads of Secrets are many, and each would be
//! tried again by itself. One is tried when a pause is over, and the others follow it when it succeeds. Pure; the engine
//! says what time it is.

use std::time::Duration;

use tokio::time::Instant;

/// The longest pause while the API server is away.
const LONGEST: Duration = Duration::from_secs(15);
/// The longest while it answers and takes nothing: that may be for some objects alone, and the others are not to wait.
const LONGEST_REFUSED: Duration = Duration::from_secs(2);
/// So many refusals with no success in between are no longer about single objects.
const MANY_REFUSALS: u32 = 32;

/// Why something failed, as far as it matters to what is tried next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The API server cannot be reached, does not answer, or asks to be left alone: nothing else would succeed either.
    Away,
    /// It answered, and this was refused.
    Refused,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct HoldOff {
    /// Refusals since something succeeded.
    refusals: u32,
    pauses: u32,
    until: Option<Instant>,
}

impl HoldOff {
    /// Something failed; returns the new pause, if one begins.
    pub fn failed(&mut self, why: Failed, now: Instant) -> Option<Duration> {
        self.refusals = self.refusals.saturating_add(1);
        let pauses = why == Failed::Away || self.refusals >= MANY_REFUSALS;
        if !pauses || self.pausing(now).is_some() {
            return None;
        }
        let longest = if why == Failed::Away { LONGEST } else { LONGEST_REFUSED };
        let pause = Duration::from_secs(1 << self.pauses.min(6)).min(longest);
        self.pauses = self.pauses.saturating_add(1);
        self.until = Some(now + pause);
        Some(pause)
    }

    /// Something succeeded.
    pub fn succeeded(&mut self) {
        *self = Self::default();
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
        hold_off.succeeded();
        assert_eq!(hold_off.at_once(32, now), 32);
        assert_eq!(hold_off.failed(Failed::Away, now), Some(Duration::from_secs(1)));
    }

    #[test]
    fn what_is_refused_for_itself_holds_nobody_up() {
        let mut now = Instant::now();
        let mut hold_off = HoldOff::default();
        for _ in 1..MANY_REFUSALS {
            assert_eq!(hold_off.failed(Failed::Refused, now), None);
        }
        hold_off.succeeded();
        for _ in 1..MANY_REFUSALS {
            assert_eq!(hold_off.failed(Failed::Refused, now), None, "one success, and they count anew");
        }
        for longest in [1, 2, 2, 2] {
            let pause = hold_off.failed(Failed::Refused, now).unwrap();
            assert_eq!(pause, Duration::from_secs(longest));
            now += pause;
        }
    }
}

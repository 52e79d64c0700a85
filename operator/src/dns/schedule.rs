//! When a domain's records are looked at again, and when a failure counts. Pure: the caller keeps the clock.

use std::time::Duration;

use paquebot_crds::conditions::{ConditionStatus, ConditionUpdate};

/// Seconds between looks at a domain whose records are not right yet: its owner is probably publishing them just now.
const EAGER: Duration = Duration::from_secs(5);
/// How many looks are that eager before they grow rarer: two minutes' worth.
const EAGER_LOOKS: u32 = 24;
/// By how much a delay grows from one look to the next after that.
const GROWTH: f64 = 1.5;
/// A record that was right and is not must fail this often in a row before anybody is told.
const FAILURES_THAT_COUNT: u32 = 2;

/// What is remembered of one domain between two looks.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    /// Looks since everything was right or since the wanted records changed.
    looks: u32,
    /// Looks in a row that found something wrong that was right before.
    failures: u32,
}

/// What to do with what a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Report it.
    Report,
    /// Say nothing yet: it may have been a moment's trouble.
    Hold,
}

impl Schedule {
    /// Takes in what a look found. `was_right` tells of each condition type whether its status says True now.
    pub fn absorb(&mut self, verdicts: &[ConditionUpdate], was_right: impl Fn(&ConditionUpdate) -> bool) -> Outcome {
        self.looks = self.looks.saturating_add(1);
        if verdicts.iter().all(is_true) {
            *self = Self::default();
            return Outcome::Report;
        }
        if verdicts.iter().any(|verdict| !is_true(verdict) && was_right(verdict)) {
            self.failures += 1;
            if self.failures < FAILURES_THAT_COUNT {
                return Outcome::Hold;
            }
            // It is news, so look as eagerly as for a new domain.
            self.looks = 1;
        }
        self.failures = 0;
        Outcome::Report
    }

    /// How long to wait for the next look. `jitter` in 0..1 spreads the domains over time.
    #[must_use]
    pub fn delay(&self, verify_interval: Duration, jitter: f64) -> Duration {
        let longest = verify_interval.max(EAGER);
        let plain = match self.looks {
            0 => longest,
            looks if looks <= EAGER_LOOKS => EAGER,
            looks => {
                let steps = f64::from((looks - EAGER_LOOKS).min(64));
                EAGER.mul_f64(GROWTH.powf(steps).min(1e6)).min(longest)
            }
        };
        plain.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0))
    }
}

fn is_true(verdict: &ConditionUpdate) -> bool {
    verdict.status == ConditionStatus::True
}

#[cfg(test)]
mod tests {
    use paquebot_crds::conditions::{ConditionType, Reason};

    use super::*;

    const QUARTER: Duration = Duration::from_secs(900);

    fn right() -> Vec<ConditionUpdate> {
        vec![ConditionUpdate::yes(ConditionType::MXReady, Reason::RecordsMatch, "")]
    }

    fn wrong() -> Vec<ConditionUpdate> {
        vec![ConditionUpdate::no(ConditionType::MXReady, Reason::RecordMissing, "")]
    }

    #[test]
    fn right_records_are_looked_at_each_interval() {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.absorb(&right(), |_| false), Outcome::Report);
        assert_eq!(schedule.delay(QUARTER, 0.5), QUARTER);
        assert!(schedule.delay(QUARTER, 0.0) < QUARTER && schedule.delay(QUARTER, 1.0) > QUARTER);
    }

    #[test]
    fn missing_records_are_looked_at_eagerly_then_rarely() {
        let mut schedule = Schedule::default();
        for _ in 0..EAGER_LOOKS {
            assert_eq!(schedule.absorb(&wrong(), |_| false), Outcome::Report);
            assert_eq!(schedule.delay(QUARTER, 0.5), EAGER);
        }
        let mut last = EAGER;
        for _ in 0..1000 {
            schedule.absorb(&wrong(), |_| false);
            let delay = schedule.delay(QUARTER, 0.5);
            assert!(delay >= last && delay <= QUARTER, "{delay:?}");
            last = delay;
        }
        assert_eq!(last, QUARTER);
    }

    #[test]
    fn one_failure_of_what_was_right_is_held_back_two_are_told() {
        let mut schedule = Schedule::default();
        schedule.absorb(&right(), |_| true);
        assert_eq!(schedule.absorb(&wrong(), |_| true), Outcome::Hold);
        assert_eq!(schedule.delay(QUARTER, 0.5), EAGER);
        assert_eq!(schedule.absorb(&right(), |_| true), Outcome::Report);
        assert_eq!(schedule.absorb(&wrong(), |_| true), Outcome::Hold);
        assert_eq!(schedule.absorb(&wrong(), |_| true), Outcome::Report);
        assert_eq!(schedule.absorb(&wrong(), |_| false), Outcome::Report);
        assert_eq!(schedule.delay(QUARTER, 0.5), EAGER);
    }
}

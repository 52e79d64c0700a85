//! When a domain's records are looked at again, and when a failure counts. Pure: the caller keeps the clock.

use std::collections::BTreeMap;
use std::time::Duration;

use paquebot_crds::conditions::{ConditionStatus, ConditionType, ConditionUpdate};

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
    /// Looks since something beside the records began to be missing.
    waited: u32,
    /// Parts that were right and are not since some looks.
    streaks: BTreeMap<ConditionType, Streak>,
}

/// Looks in a row that did not find a part right.
#[derive(Clone, Copy, Debug, Default)]
struct Streak {
    /// It was seen to be wrong.
    wrong: u32,
    /// Nobody could say.
    unknown: u32,
}

impl Streak {
    /// Wrong counts only when it was seen often enough; that nobody answered, or neither, counts just the same.
    fn counts(self, status: ConditionStatus) -> bool {
        match status {
            ConditionStatus::True => true,
            ConditionStatus::False => self.wrong >= FAILURES_THAT_COUNT,
            ConditionStatus::Unknown => self.wrong + self.unknown >= FAILURES_THAT_COUNT,
        }
    }
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
            *self = Self { waited: self.waited, ..Self::default() };
            return Outcome::Report;
        }
        let mut outcome = Outcome::Report;
        for verdict in verdicts {
            let part = verdict.condition_type;
            if is_true(verdict) {
                self.streaks.remove(&part);
                continue;
            }
            if was_right(verdict) && !self.streaks.contains_key(&part) {
                // It is news, so look as eagerly as for a new domain.
                self.looks = 1;
                self.streaks.insert(part, Streak::default());
            }
            let Some(streak) = self.streaks.get_mut(&part) else { continue };
            match verdict.status {
                ConditionStatus::False => streak.wrong = streak.wrong.saturating_add(1),
                _ => streak.unknown = streak.unknown.saturating_add(1),
            }
            if !streak.counts(verdict.status) {
                outcome = Outcome::Hold;
            }
        }
        outcome
    }

    /// How long to wait for the next look. `waiting`: something beside the records that were absorbed is missing yet.
    /// `jitter` in 0..1 spreads the domains over time.
    #[must_use]
    pub fn delay(&mut self, verify_interval: Duration, waiting: bool, jitter: f64) -> Duration {
        let longest = verify_interval.max(EAGER);
        self.waited = if waiting { self.waited.saturating_add(1) } else { 0 };
        let plain = match self.looks.max(self.waited) {
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
    use paquebot_crds::conditions::Reason;

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
        assert_eq!(schedule.delay(QUARTER, false, 0.5), QUARTER);
        assert!(schedule.delay(QUARTER, false, 0.0) < QUARTER && schedule.delay(QUARTER, false, 1.0) > QUARTER);
    }

    #[test]
    fn missing_records_are_looked_at_eagerly_then_rarely() {
        let mut schedule = Schedule::default();
        for _ in 0..EAGER_LOOKS {
            assert_eq!(schedule.absorb(&wrong(), |_| false), Outcome::Report);
            assert_eq!(schedule.delay(QUARTER, false, 0.5), EAGER);
        }
        let mut last = EAGER;
        for _ in 0..1000 {
            schedule.absorb(&wrong(), |_| false);
            let delay = schedule.delay(QUARTER, false, 0.5);
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
        assert_eq!(schedule.delay(QUARTER, false, 0.5), EAGER);
        assert_eq!(schedule.absorb(&right(), |_| true), Outcome::Report);
        assert_eq!(schedule.absorb(&wrong(), |_| true), Outcome::Hold);
        assert_eq!(schedule.absorb(&wrong(), |_| true), Outcome::Report);
        assert_eq!(schedule.absorb(&wrong(), |_| false), Outcome::Report);
        assert_eq!(schedule.delay(QUARTER, false, 0.5), EAGER);
    }

    fn unknown() -> Vec<ConditionUpdate> {
        vec![ConditionUpdate::unknown(ConditionType::MXReady, Reason::LookupFailed, "")]
    }

    /// True turns False after two looks that found it wrong, whatever silence lies between them; Unknown after two looks of
    /// any trouble.
    #[test]
    fn silence_is_no_failure_of_the_record() {
        let mut schedule = Schedule::default();
        schedule.absorb(&right(), |_| true);
        assert_eq!(schedule.absorb(&unknown(), |_| true), Outcome::Hold);
        assert_eq!(schedule.absorb(&wrong(), |_| true), Outcome::Hold);
        assert_eq!(schedule.absorb(&unknown(), |_| true), Outcome::Report);
        assert_eq!(schedule.absorb(&wrong(), |_| false), Outcome::Report);
        schedule.absorb(&right(), |_| false);
        assert_eq!(schedule.absorb(&unknown(), |_| true), Outcome::Hold);
        assert_eq!(schedule.absorb(&unknown(), |_| true), Outcome::Report);
        assert_eq!(schedule.absorb(&wrong(), |_| false), Outcome::Hold);
        assert_eq!(schedule.absorb(&wrong(), |_| false), Outcome::Report);
    }

    #[test]
    fn what_is_missing_beside_the_records_is_looked_for_as_eagerly() {
        let mut schedule = Schedule::default();
        schedule.absorb(&right(), |_| true);
        assert_eq!(schedule.delay(QUARTER, true, 0.5), EAGER);
        for _ in 0..200 {
            schedule.absorb(&right(), |_| true);
            let _ = schedule.delay(QUARTER, true, 0.5);
        }
        assert_eq!(schedule.delay(QUARTER, true, 0.5), QUARTER);
    }
}

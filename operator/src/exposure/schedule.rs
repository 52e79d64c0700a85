//! When a server's ports are probed for an open relay, and how soon its pods are looked at again. Pure but for the jitter;
//! the engine tells what each look came to.

use std::time::Duration;

use tokio::time::Instant;

use crate::jitter::jitter;

/// How soon after a change of relay rules; they have to arrive first. Also the least time between two looks.
pub const AFTER_CHANGE: Duration = Duration::from_secs(4);
/// How often pods are asked who connected: while nothing is proven, and then.
const ASK_EAGER: Duration = Duration::from_secs(30);
const ASK_SLOW: Duration = Duration::from_secs(120);
/// How often ports are probed, and how soon again where that came to nothing.
const PROBE: Duration = Duration::from_secs(600);
const PROBE_AGAIN: Duration = Duration::from_secs(60);

/// What a look came to, as far as the probe is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was not the time to probe.
    NotDue,
    /// The pods do not serve what they should, or did not all the while: nothing that was found counts.
    TooEarly,
    /// There is no port to probe, or the MailServer is not accepted. A change of either asks for a probe by itself.
    NothingThere,
    /// The finding counts.
    Counts {
        /// It came to nothing at some port.
        unclear: bool,
    },
}

/// When to probe one server.
#[derive(Debug, Default)]
pub struct ProbeSchedule {
    /// `None`: as soon as the pods serve what was written last.
    due: Option<Instant>,
    /// The relay rules, or the ports, have changed since the look that is under way began.
    changed: bool,
    /// Looks in a row that were too early.
    in_vain: u32,
}

/// Not everything at the same moment: from three quarters to five quarters of it.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.75 + jitter() / 2.0)
}

impl ProbeSchedule {
    /// The relay rules have changed, or the ports: what a look that is under way finds is about the past.
    pub fn soon(&mut self) {
        *self = Self { due: None, changed: true, in_vain: 0 };
    }

    /// Whether it is the time.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// Whether looks were too early, so that the next should come as soon as the pods serve what they should.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.in_vain > 0
    }

    /// A look begins.
    pub fn begin(&mut self) {
        self.changed = false;
    }

    /// Whether anything has changed since the look began.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    /// A look has ended.
    pub fn end(&mut self, outcome: Outcome, now: Instant) {
        // The change has asked for the next.
        if self.changed {
            return;
        }
        let wait = match outcome {
            Outcome::NotDue => return,
            Outcome::TooEarly => {
                self.in_vain = self.in_vain.saturating_add(1);
                return;
            }
            Outcome::NothingThere | Outcome::Counts { unclear: true } => PROBE_AGAIN,
            Outcome::Counts { unclear: false } => PROBE,
        };
        self.in_vain = 0;
        self.due = Some(now + jittered(wait));
    }

    /// How soon after a look the next begins; never at once. `proven`: what the clients' addresses are is known.
    #[must_use]
    pub fn next_look(&self, proven: bool, now: Instant) -> Duration {
        let ask = jittered(if proven { ASK_SLOW } else { ASK_EAGER });
        match self.due {
            Some(due) if due > now => ask.min(due.duration_since(now)).max(AFTER_CHANGE),
            // The first look in vain is nothing special; after more of them they become rarer.
            _ => (AFTER_CHANGE * (1 << self.in_vain.saturating_sub(1).min(4))).min(ASK_EAGER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_is_overdue_never_makes_the_next_look_follow_at_once() {
        let begin = Instant::now();
        let mut schedule = ProbeSchedule::default();
        schedule.begin();
        schedule.end(Outcome::Counts { unclear: false }, begin);
        assert!(
            !schedule.is_due(begin + Duration::from_secs(449)) && schedule.is_due(begin + Duration::from_secs(751))
        );
        // The pods refuse the next configuration from now on.
        let (mut now, mut looks) = (begin + Duration::from_secs(900), 0);
        let end = now + Duration::from_secs(600);
        while now < end {
            schedule.begin();
            schedule.end(Outcome::TooEarly, now);
            assert!(schedule.is_waiting() && schedule.is_due(now));
            now += schedule.next_look(true, now);
            looks += 1;
        }
        assert!((15..=25).contains(&looks), "{looks} looks in ten minutes");
        // A server that has no port to probe, or is not accepted any more.
        let mut schedule = ProbeSchedule::default();
        for _ in 0..100 {
            schedule.begin();
            schedule.end(if schedule.is_due(now) { Outcome::NothingThere } else { Outcome::NotDue }, now);
            let next = schedule.next_look(false, now);
            assert!(next >= AFTER_CHANGE && !schedule.is_due(now), "{next:?}");
            now += next;
        }
    }

    #[test]
    fn a_change_is_probed_soon_also_when_it_comes_during_a_look() {
        let now = Instant::now();
        let mut schedule = ProbeSchedule::default();
        schedule.begin();
        schedule.end(Outcome::Counts { unclear: false }, now);
        schedule.begin();
        schedule.soon();
        assert!(schedule.has_changed());
        schedule.end(Outcome::Counts { unclear: false }, now);
        assert!(schedule.is_due(now), "what was found was about the old rules");
        assert_eq!(schedule.next_look(true, now), AFTER_CHANGE);
        schedule.begin();
        schedule.end(Outcome::TooEarly, now);
        assert_eq!(schedule.next_look(true, now), AFTER_CHANGE, "not written yet");
        schedule.begin();
        assert!(!schedule.has_changed());
        schedule.end(Outcome::Counts { unclear: true }, now);
        assert!(!schedule.is_waiting() && !schedule.is_due(now) && schedule.is_due(now + Duration::from_secs(76)));
    }
}

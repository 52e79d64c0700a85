//! What the scheduler knows of destinations, and whose turn it is. Pure: time and chance are arguments. Destinations with
//! something due wait in a line and get one attempt each in turn, so that none waits behind a busy one; those that are
//! slow or failed wait in a line of their own, which gets half of the places at most. Used by [`super::worker`].

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::delivery::Destination;
use super::schedule::{later, waiting_time};
use super::window::Window;
use crate::store::outgoing::QueueDestination;

/// Attempts at once, over all destinations: each is one connection and some 200 KiB.
pub(super) const ATTEMPTS: usize = 64;
/// Of them, those that destinations get which were slow or not reachable the last time.
const SUSPECTS: usize = ATTEMPTS / 2;
/// An attempt that takes longer makes its destination slow.
const SLOW: Duration = Duration::from_secs(2 * 60);
/// What is known of a destination is forgotten so long after its last attempt and the end of its rest.
const FORGET_AFTER: Duration = Duration::from_secs(2 * 60 * 60);
/// How often it is looked through for what may be forgotten.
const TIDY_EVERY: Duration = Duration::from_secs(10 * 60);

/// Where a destination waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Waits {
    /// Nothing is due, as far as it is known.
    #[default]
    Nowhere,
    /// In one of the lines.
    InLine,
    /// Until its rest is over.
    Resting,
    /// Until one of its attempts ends.
    ForPlace,
}

/// What is known about a destination.
#[derive(Debug, Default)]
struct State {
    attempts: usize,
    /// Attempts in a row that reached none of its servers.
    failures: u32,
    /// Its last attempt took long.
    slow: bool,
    /// Nothing is tried before.
    resting_until: Option<Timestamp>,
    window: Window,
    /// Whose mail was sent last.
    turn: String,
    waits: Waits,
    /// The end of the last attempt.
    last: Option<Timestamp>,
}

impl State {
    fn is_suspect(&self) -> bool {
        self.slow || self.failures > 0
    }

    fn has_place(&self) -> bool {
        // While it is not known to be reachable again, one attempt finds out for all.
        let most = if self.failures > 0 { 1 } else { self.window.size() };
        self.attempts < most
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Destinations {
    known: HashMap<QueueDestination, State>,
    line: VecDeque<QueueDestination>,
    suspects: VecDeque<QueueDestination>,
    resting: BTreeSet<(Timestamp, QueueDestination)>,
    attempts: usize,
    suspect_attempts: usize,
    tidied: Option<Timestamp>,
}

impl Destinations {
    /// Something is due there, or may be.
    pub(super) fn due(&mut self, destination: &QueueDestination, now: Timestamp) {
        let state = self.known.entry(destination.clone()).or_default();
        if state.waits != Waits::Nowhere {
            return;
        }
        if let Some(until) = state.resting_until.filter(|until| *until > now) {
            state.waits = Waits::Resting;
            self.resting.insert((until, destination.clone()));
        } else if !state.has_place() {
            state.waits = Waits::ForPlace;
        } else {
            state.waits = Waits::InLine;
            let line = if state.is_suspect() { &mut self.suspects } else { &mut self.line };
            line.push_back(destination.clone());
        }
    }

    /// The destination that gets the next attempt, if there is a place; and whose turn was last there. It has left the
    /// line: [`Destinations::due`] puts it back.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<(QueueDestination, String)> {
        self.wake_rested(now);
        if self.attempts >= ATTEMPTS {
            return None;
        }
        // Suspects first: their line moves slowly, and takes no more than its share.
        if self.suspect_attempts < SUSPECTS
            && let Some(destination) = self.suspects.pop_front()
        {
            return Some(self.leave_line(destination));
        }
        while let Some(destination) = self.line.pop_front() {
            // It may have become one since it joined.
            if self.suspect_attempts >= SUSPECTS && self.known.get(&destination).is_some_and(State::is_suspect) {
                self.suspects.push_back(destination);
                continue;
            }
            return Some(self.leave_line(destination));
        }
        None
    }

    fn leave_line(&mut self, destination: QueueDestination) -> (QueueDestination, String) {
        let state = self.known.entry(destination.clone()).or_default();
        state.waits = Waits::Nowhere;
        let turn = state.turn.clone();
        (destination, turn)
    }

    fn wake_rested(&mut self, now: Timestamp) {
        while self.resting.first().is_some_and(|(until, _)| *until <= now) {
            let Some((_, destination)) = self.resting.pop_first() else { break };
            if let Some(state) = self.known.get_mut(&destination) {
                state.waits = Waits::Nowhere;
            }
            self.due(&destination, now);
        }
    }

    /// An attempt begins. Yields whether it is a suspect's, to be given back at its end.
    pub(super) fn started(&mut self, destination: &QueueDestination, turn: String) -> bool {
        let state = self.known.entry(destination.clone()).or_default();
        state.attempts += 1;
        state.turn = turn;
        self.attempts += 1;
        let is_suspect = state.is_suspect();
        self.suspect_attempts += usize::from(is_suspect);
        is_suspect
    }

    /// An attempt ended. More may be due there.
    pub(super) fn ended(
        &mut self,
        destination: &QueueDestination,
        was_suspect: bool,
        outcome: Destination,
        took: Duration,
        now: Timestamp,
        random: u64,
    ) {
        self.attempts -= 1;
        self.suspect_attempts -= usize::from(was_suspect);
        let state = self.known.entry(destination.clone()).or_default();
        state.attempts = state.attempts.saturating_sub(1);
        state.last = Some(now);
        state.slow = took > SLOW;
        let rested_until = state.resting_until;
        match outcome {
            Destination::Reached => {
                (state.failures, state.resting_until) = (0, None);
                state.window.succeeded();
            }
            Destination::PushedBack => {
                state.window.pushed_back();
                (state.failures, state.resting_until) = (0, None);
            }
            Destination::Unreachable => {
                state.window.lost();
                state.failures = state.failures.saturating_add(1);
                state.resting_until = Some(later(now, waiting_time(state.failures, random)));
            }
        }
        match state.waits {
            // What it rests until has changed with another attempt's end: it rests anew, where its rest can be found.
            Waits::Resting if state.resting_until != rested_until => {
                self.resting.retain(|(_, resting)| resting != destination);
            }
            // When it comes to the front, or its rest is over, its state is looked at again.
            Waits::InLine | Waits::Resting => return,
            Waits::ForPlace | Waits::Nowhere => {}
        }
        state.waits = Waits::Nowhere;
        self.due(destination, now);
    }

    /// Whether an attempt may begin there now: what was true when it joined the line may have changed.
    pub(super) fn may_start(&self, destination: &QueueDestination, now: Timestamp) -> bool {
        self.known
            .get(destination)
            .is_none_or(|state| state.has_place() && state.resting_until.is_none_or(|until| until <= now))
    }

    /// A person wants it tried now.
    pub(super) fn end_rest(&mut self, destination: &QueueDestination, now: Timestamp) {
        if let Some(state) = self.known.get_mut(destination)
            && let Some(until) = state.resting_until.take()
        {
            if self.resting.remove(&(until, destination.clone())) {
                state.waits = Waits::Nowhere;
            }
            self.due(destination, now);
        }
    }

    /// When the next rest is over.
    pub(super) fn next_rested(&self) -> Option<Timestamp> {
        self.resting.first().map(|(until, _)| *until)
    }

    /// How many destinations rest at this moment.
    pub(super) fn resting(&self) -> usize {
        self.resting.len()
    }

    /// Forgets what is of no interest any more.
    pub(super) fn tidy(&mut self, now: Timestamp) {
        if self.tidied.is_some_and(|tidied| later(tidied, TIDY_EVERY) > now) {
            return;
        }
        self.tidied = Some(now);
        self.known.retain(|_, state| {
            let since = state.resting_until.into_iter().chain(state.last).max();
            state.attempts > 0
                || state.waits != Waits::Nowhere
                || since.is_some_and(|since| later(since, FORGET_AFTER) > now)
        });
    }
}

#[cfg(test)]
mod tests {
    use paquebot_config::Domain;

    use super::*;

    fn destination(name: &str) -> QueueDestination {
        QueueDestination { domain: Domain::parse(name).unwrap(), route: None }
    }

    /// Starts what may start; everything stays due.
    fn start_all(destinations: &mut Destinations, now: Timestamp) -> Vec<(String, bool)> {
        let mut started = Vec::new();
        while let Some((next, turn)) = destinations.next(now) {
            if destinations.may_start(&next, now) {
                let suspect = destinations.started(&next, turn);
                started.push((next.domain.to_string(), suspect));
            }
            destinations.due(&next, now);
        }
        started
    }

    #[test]
    fn destinations_take_turns() {
        let now = Timestamp::UNIX_EPOCH;
        let mut destinations = Destinations::default();
        ["a.example", "b.example"].iter().for_each(|name| destinations.due(&destination(name), now));
        let names: Vec<String> = start_all(&mut destinations, now).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a.example", "b.example", "a.example", "b.example"], "two each, in turn");
        destinations.ended(&destination("a.example"), false, Destination::Reached, Duration::ZERO, now, 0);
        assert_eq!(start_all(&mut destinations, now).len(), 2, "the place that is free, and one more");
    }

    #[test]
    fn slow_destinations_leave_half_of_the_places_to_others() {
        let mut now = Timestamp::UNIX_EPOCH;
        let mut destinations = Destinations::default();
        let slow: Vec<_> = (0..100).map(|number| destination(&format!("slow{number}.example"))).collect();
        slow.iter().for_each(|name| destinations.due(name, now));
        let mut running = start_all(&mut destinations, now);
        // Each of them has been tried once.
        while let Some((name, suspect)) = running.pop() {
            if suspect {
                break;
            }
            now = later(now, Duration::from_secs(1));
            destinations.ended(&destination(&name), suspect, Destination::Reached, SLOW * 2, now, 0);
            running.splice(0..0, start_all(&mut destinations, now));
        }
        destinations.due(&destination("quick.example"), now);
        let mut found = false;
        for _ in 0..ATTEMPTS {
            let Some((name, suspect)) = running.pop() else { break };
            destinations.ended(&destination(&name), suspect, Destination::Reached, SLOW * 2, now, 0);
            let started = start_all(&mut destinations, now);
            found |= started.iter().any(|(name, _)| name == "quick.example");
            running.splice(0..0, started);
        }
        assert!(found);
        assert!(destinations.suspect_attempts <= SUSPECTS);
    }

    #[test]
    fn an_unreachable_destination_rests_and_then_is_tried_once() {
        let now = Timestamp::UNIX_EPOCH;
        let (mut destinations, gone) = (Destinations::default(), destination("gone.example"));
        destinations.due(&gone, now);
        let (next, turn) = destinations.next(now).unwrap();
        let suspect = destinations.started(&next, turn);
        destinations.ended(&gone, suspect, Destination::Unreachable, Duration::ZERO, now, 20);
        assert!(destinations.next(now).is_none());
        let rested = destinations.next_rested().unwrap();
        assert_eq!(rested, later(now, Duration::from_secs(60)));
        assert_eq!(start_all(&mut destinations, rested), [("gone.example".to_owned(), true)]);
        destinations.ended(&gone, true, Destination::Unreachable, Duration::ZERO, rested, 20);
        destinations.end_rest(&gone, rested);
        assert_eq!(start_all(&mut destinations, rested).len(), 1, "a person asked for it");
    }

    #[test]
    fn a_rest_ends_by_hand_also_where_two_attempts_failed_one_after_the_other() {
        let now = Timestamp::UNIX_EPOCH;
        let (mut destinations, gone) = (Destinations::default(), destination("gone.example"));
        destinations.due(&gone, now);
        assert_eq!(start_all(&mut destinations, now).len(), 2);
        let soon = later(now, Duration::from_secs(5));
        for at in [now, soon] {
            destinations.ended(&gone, false, Destination::Unreachable, Duration::ZERO, at, 20);
            destinations.due(&gone, at);
        }
        assert_eq!(destinations.resting(), 1);
        assert!(destinations.next_rested() > Some(later(now, Duration::from_secs(60))), "the later failure counts");
        destinations.end_rest(&gone, soon);
        assert_eq!(start_all(&mut destinations, soon).len(), 1);
    }
}

//! What the server has promised, and whether it keeps it. Clients write down what they were told; after each failure the
//! maildrops, the queue and the other server are compared with it.

use std::collections::{HashMap, HashSet};

use crate::messages::Token;
use crate::world::{HEAP, LISTS};

/// A maildrop by its place in [`crate::world::MAILDROPS`].
pub type Maildrop = usize;
/// A POP3 session that deleted.
type Group = u64;

/// What is known about one message in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Sent, and no answer yet: it may be there.
    Sent,
    /// Answered 250, or seen: it is there.
    Promised,
    /// Deleted in a session that did not get its answer: it may be there.
    Deleting(Group),
    /// Deleted, and the session had its +OK; or it never came about.
    Gone,
}

/// See the module.
#[derive(Default)]
pub struct Ledger {
    maildrops: HashMap<(Token, Maildrop), State>,
    remote: HashMap<Token, State>,
    /// How often a message may be at the other server beyond once: its 250 was lost so many times.
    repeats: HashMap<Token, usize>,
    groups: Group,
    pub counts: Counts,
}

/// For the report.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub acknowledged: u64,
    pub acknowledged_remote: u64,
    pub deleted: u64,
    pub unanswered: u64,
    pub survived_unanswered: u64,
    pub deletions_unanswered: u64,
    /// Sessions that deleted more than the store does in one transaction, and had their +OK.
    pub deleted_at_once: u64,
    /// Such sessions that were cut off before it …
    pub cut_at_once: u64,
    /// … and those of them that were decided on, which the next start finished.
    pub finished_later: u64,
    /// Messages that a filter put into a folder.
    pub filed: u64,
    pub repeated: u64,
    pub checked: u64,
}

impl Ledger {
    /// The last octet is about to be sent.
    pub fn sending(&mut self, token: Token, maildrops: &[Maildrop], is_remote: bool) {
        for maildrop in maildrops {
            self.maildrops.insert((token, *maildrop), State::Sent);
        }
        if is_remote {
            self.remote.insert(token, State::Sent);
        }
    }

    /// The server said 250.
    pub fn acknowledged(&mut self, token: Token) {
        self.counts.acknowledged += 1;
        self.counts.acknowledged_remote += u64::from(self.remote.contains_key(&token));
        self.counts.filed += u64::from(self.maildrops.contains_key(&(token, LISTS)));
        self.promise(token);
    }

    /// All of a message is there, or nothing.
    fn promise(&mut self, token: Token) {
        for maildrop in 0..crate::world::MAILDROPS.len() {
            if let Some(state @ State::Sent) = self.maildrops.get_mut(&(token, maildrop)) {
                *state = State::Promised;
            }
        }
        if let Some(state @ State::Sent) = self.remote.get_mut(&token) {
            *state = State::Promised;
        }
    }

    /// A message was fetched: what a client has seen is durable.
    pub fn fetched(&mut self, token: Token, maildrop: Maildrop) {
        match self.maildrops.get(&(token, maildrop)) {
            Some(State::Sent | State::Promised) => self.promise(token),
            // The server said -ERR when it was to go.
            Some(State::Deleting(_)) => {}
            other => panic!("{token} was fetched from maildrop {maildrop}, though it is {other:?}"),
        }
    }

    /// QUIT is about to be sent in a session that deleted these.
    pub fn deleting(&mut self, tokens: &[Token], maildrop: Maildrop) -> Group {
        self.groups += 1;
        for token in tokens {
            self.maildrops.insert((*token, maildrop), State::Deleting(self.groups));
        }
        self.groups
    }

    /// The server said +OK to QUIT.
    pub fn deleted(&mut self, group: Group) {
        for state in self.maildrops.values_mut().filter(|state| **state == State::Deleting(group)) {
            *state = State::Gone;
            self.counts.deleted += 1;
        }
    }

    /// The server said -ERR to QUIT: each of them may be there or not.
    pub fn not_deleted(&mut self, group: Group) {
        for state in self.maildrops.values_mut().filter(|state| **state == State::Deleting(group)) {
            self.groups += 1;
            *state = State::Deleting(self.groups);
        }
    }

    /// Compares what was found after a failure. From then on everything is known.
    pub fn check(&mut self, found: &Found) {
        self.counts.checked += 1;
        self.check_remote(found);
        self.check_maildrops(found);
        self.check_unanswered(found);
        self.check_groups(found);
        self.settle(found);
    }

    fn check_maildrops(&self, found: &Found) {
        for (&(token, maildrop), state) in &self.maildrops {
            let is_there = found.maildrops[maildrop].contains(&token);
            match state {
                State::Promised => assert!(is_there, "{token} was acknowledged and is lost from maildrop {maildrop}"),
                State::Gone => assert!(!is_there, "{token} was deleted from maildrop {maildrop} and is back"),
                State::Sent | State::Deleting(_) => {}
            }
        }
        for (maildrop, tokens) in found.maildrops.iter().enumerate() {
            for token in tokens {
                let known = self.maildrops.contains_key(&(*token, maildrop));
                assert!(known, "{token} was never sent to maildrop {maildrop}");
            }
        }
    }

    fn check_remote(&self, found: &Found) {
        for (token, state) in &self.remote {
            let is_somewhere = found.taken.contains_key(token) || found.queued.contains(token);
            if *state == State::Promised {
                assert!(is_somewhere, "{token} was acknowledged, is not at the other server and not in the queue");
            }
            let taken = found.taken.get(token).map_or(0, Vec::len);
            let allowed = 1 + self.repeats.get(token).copied().unwrap_or(0);
            assert!(
                taken <= allowed,
                "{token} was relayed {taken} times, {allowed} are allowed: {:?}",
                found.taken[token]
            );
        }
        for token in found.queued.iter().chain(found.taken.keys()) {
            assert!(self.remote.contains_key(token), "{token} was never sent to the other server");
        }
    }

    /// A message without an answer is there for all of its recipients, or for none.
    fn check_unanswered(&self, found: &Found) {
        let mut presence: HashMap<Token, HashSet<bool>> = HashMap::new();
        for (&(token, maildrop), _) in self.maildrops.iter().filter(|(_, state)| **state == State::Sent) {
            presence.entry(token).or_default().insert(found.maildrops[maildrop].contains(&token));
        }
        for (token, _) in self.remote.iter().filter(|(_, state)| **state == State::Sent) {
            let is_somewhere = found.taken.contains_key(token) || found.queued.contains(token);
            presence.entry(*token).or_default().insert(is_somewhere);
        }
        for (token, seen) in presence {
            assert_eq!(seen.len(), 1, "{token}, never answered, is there for some of its recipients only");
        }
    }

    /// A deletion without an answer was done whole, or not at all.
    fn check_groups(&self, found: &Found) {
        let mut presence: HashMap<Group, HashSet<bool>> = HashMap::new();
        for (&(token, maildrop), state) in &self.maildrops {
            if let State::Deleting(group) = state {
                presence.entry(*group).or_default().insert(found.maildrops[maildrop].contains(&token));
            }
        }
        assert!(presence.values().all(|seen| seen.len() == 1), "a session's deletion was done in part");
    }

    fn settle(&mut self, found: &Found) {
        let mut of_heap: HashMap<Group, usize> = HashMap::new();
        for (&(_, maildrop), state) in &self.maildrops {
            if let State::Deleting(group) = state
                && maildrop == HEAP
            {
                *of_heap.entry(*group).or_default() += 1;
            }
        }
        self.counts.cut_at_once += of_heap.values().filter(|messages| **messages > 1).count() as u64;
        let (mut survivors, mut unanswered) = (HashSet::new(), HashSet::new());
        let mut note = |token, is_there| {
            if is_there { &mut survivors } else { &mut unanswered }.insert(token);
        };
        for (&(token, maildrop), state) in &mut self.maildrops {
            let is_there = found.maildrops[maildrop].contains(&token);
            match state {
                State::Sent => note(token, is_there),
                State::Deleting(_) => self.counts.deletions_unanswered += 1,
                _ => continue,
            }
            *state = if is_there { State::Promised } else { State::Gone };
        }
        for (token, state) in self.remote.iter_mut() {
            let is_somewhere = found.taken.contains_key(token) || found.queued.contains(token);
            if *state == State::Sent {
                note(*token, is_somewhere);
                *state = if is_somewhere { State::Promised } else { State::Gone };
            }
            // Taken, and queued all the same: we were cut off before its 250 was durable here, and will send it again.
            if found.taken.contains_key(token) && found.queued.contains(token) {
                *self.repeats.entry(*token).or_default() += 1;
                self.counts.repeated += 1;
            }
        }
        self.counts.survived_unanswered += survivors.len() as u64;
        self.counts.unanswered += (survivors.len() + unanswered.len()) as u64;
    }

    /// Whether the other server has all that it was promised.
    pub fn is_relayed(&self, taken: &HashMap<Token, Vec<u64>>) -> bool {
        self.remote.iter().filter(|(_, state)| **state == State::Promised).all(|(token, _)| taken.contains_key(token))
    }
}

/// What there is after a failure.
pub struct Found {
    /// The messages of each maildrop.
    pub maildrops: Vec<HashSet<Token>>,
    /// The queue, before the server began again.
    pub queued: HashSet<Token>,
    /// The other server, before ours began again.
    pub taken: HashMap<Token, Vec<u64>>,
}

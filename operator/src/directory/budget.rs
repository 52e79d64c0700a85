//! Room that many objects share, such as one file of a configuration, which has to fit into one object: whoever fills it
//! would keep everybody's changes from being written. Older objects go first. Those of one namespace other than the
//! server's own get a share, so that nobody takes all by having been there first. Pure; [`super::relay_budget`] and
//! [`super::record_budget`] fill it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use super::key::Seniority;

/// Which bound an object meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Server,
    Namespace,
}

/// How much room there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Octets of all.
    pub(super) octets: usize,
    /// Octets of those of one namespace.
    pub(super) of_namespace: usize,
    /// What is larger than this counts twice for its namespace.
    pub(super) ordinary: usize,
}

impl Room {
    fn share_of(&self, octets: usize) -> usize {
        if octets > self.ordinary { octets.saturating_mul(2) } else { octets }
    }
}

/// Something that takes room: its rank says who goes first.
pub(super) trait Rank: Clone + Ord + Hash {
    /// Of the object.
    fn namespace(&self) -> &str;
}

impl Rank for Seniority {
    fn namespace(&self) -> &str {
        self.namespace()
    }
}

/// What each takes, the oldest first.
#[derive(Debug)]
pub(super) struct Budget<R> {
    room: Room,
    weights: BTreeMap<R, usize>,
    over: HashMap<R, Bound>,
    /// What all take together, and those of each namespace, whether or not they fit.
    total: usize,
    shares: HashMap<String, usize>,
}

impl<R: Rank> Budget<R> {
    pub(super) fn new(room: Room) -> Self {
        Self { room, weights: BTreeMap::new(), over: HashMap::new(), total: 0, shares: HashMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// Why something does not fit; `None`: it does.
    pub(super) fn bound(&self, rank: &R) -> Option<Bound> {
        self.over.get(rank).copied()
    }

    /// Notes what something takes; `None`: nothing any more. Returns for whom that makes a difference. While there is room
    /// for all, the cost does not grow with their number. `home` is the server's namespace.
    pub(super) fn set(&mut self, rank: R, octets: Option<usize>, home: &str) -> BTreeSet<R> {
        let before = match octets {
            Some(octets) => self.weights.insert(rank.clone(), octets),
            None => self.weights.remove(&rank),
        };
        if before == octets {
            return BTreeSet::new();
        }
        let share = self.shares.entry(rank.namespace().to_owned()).or_default();
        *share -= before.map_or(0, |octets| self.room.share_of(octets));
        *share += octets.map_or(0, |octets| self.room.share_of(octets));
        let fits = rank.namespace() == home || *share <= self.room.of_namespace;
        if *share == 0 {
            self.shares.remove(rank.namespace());
        }
        self.total = self.total - before.unwrap_or(0) + octets.unwrap_or(0);
        if self.over.is_empty() && fits && self.total <= self.room.octets {
            return BTreeSet::new();
        }
        let over = self.judge(home);
        let ranks = self.over.keys().chain(over.keys());
        let changed = ranks.filter(|rank| self.over.get(*rank) != over.get(*rank)).cloned().collect();
        self.over = over;
        changed
    }

    /// Who does not fit, beside all that are older and fit.
    fn judge(&self, home: &str) -> HashMap<R, Bound> {
        let (mut total, mut shares) = (0, HashMap::<&str, usize>::new());
        let mut over = HashMap::new();
        for (rank, octets) in &self.weights {
            let share = shares.entry(rank.namespace()).or_default();
            let more = self.room.share_of(*octets);
            if rank.namespace() != home && *share + more > self.room.of_namespace {
                over.insert(rank.clone(), Bound::Namespace);
            } else if total + octets > self.room.octets {
                over.insert(rank.clone(), Bound::Server);
            } else {
                *share += more;
                total += octets;
            }
        }
        over
    }
}

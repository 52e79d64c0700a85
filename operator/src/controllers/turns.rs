//! Whose turn is it? Work waits in one row for each tenant, and each takes its turn: whoever has ten thousand things to do
//! delays the next tenant by one of them. Where a piece of work may take long, nobody has more than a share of the places, so
//! that the others find one. Pure; the engine asks.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;

use crate::directory::{NamespacedName, ObjectKey};

/// Something that has its turn when it is its namespace's.
pub trait Waiting: Clone + Eq + Hash {
    /// Whose turn it then is.
    fn namespace(&self) -> &str;
}

impl Waiting for NamespacedName {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Waiting for ObjectKey {
    fn namespace(&self) -> &str {
        &self.name.namespace
    }
}

/// Work on objects, so many at once, fairly by namespace.
#[derive(Debug)]
pub struct Turns<T> {
    waiting: BTreeMap<String, VecDeque<T>>,
    /// All that wait.
    names: HashSet<T>,
    /// Whose turn it was last.
    last: String,
    running: usize,
    /// Of that, each namespace's.
    running_of: HashMap<String, usize>,
    at_once: usize,
    share: usize,
}

impl<T: Waiting> Turns<T> {
    /// At most so many at once, and of one namespace at most `share`.
    #[must_use]
    pub fn new(at_once: usize, share: usize) -> Self {
        let (waiting, names, running_of) = (BTreeMap::new(), HashSet::new(), HashMap::new());
        Self { waiting, names, last: String::new(), running: 0, running_of, at_once, share }
    }

    /// Takes its place at the end of its namespace's row, unless it waits already.
    pub fn push(&mut self, name: T) {
        if self.names.insert(name.clone()) {
            self.waiting.entry(name.namespace().to_owned()).or_default().push_back(name);
        }
    }

    /// The next one, which is then at work until [`Turns::done`]; `None` while enough are, or nothing waits.
    pub fn start(&mut self) -> Option<T> {
        use std::ops::Bound::{Excluded, Unbounded};
        if self.running >= self.at_once {
            return None;
        }
        let has_place =
            |namespace: &&String| self.running_of.get(*namespace).is_none_or(|running| *running < self.share);
        let after = self.waiting.range::<String, _>((Excluded(&self.last), Unbounded)).map(|(namespace, _)| namespace);
        let namespace = after.chain(self.waiting.keys()).find(has_place)?.clone();
        let row = self.waiting.get_mut(&namespace)?;
        let next = row.pop_front()?;
        if row.is_empty() {
            self.waiting.remove(&namespace);
        }
        self.names.remove(&next);
        self.running += 1;
        *self.running_of.entry(namespace.clone()).or_default() += 1;
        self.last = namespace;
        Some(next)
    }

    /// How many are at work.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running
    }

    /// One is finished.
    pub fn done(&mut self, name: &T) {
        let Some(running) = self.running_of.get_mut(name.namespace()) else { return };
        self.running = self.running.saturating_sub(1);
        *running -= 1;
        if *running == 0 {
            self.running_of.remove(name.namespace());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(turns: &mut Turns<NamespacedName>) -> Option<String> {
        turns.start().map(|name| name.to_string())
    }

    fn done(turns: &mut Turns<NamespacedName>, name: &str) {
        turns.done(&NamespacedName::parse(name).unwrap());
    }

    #[test]
    fn each_tenant_has_its_turn_and_so_many_are_at_work() {
        let mut turns = Turns::new(2, 2);
        for number in 0..3 {
            turns.push(NamespacedName::new("hostile", &number.to_string()));
        }
        assert_eq!(start(&mut turns).as_deref(), Some("hostile/0"));
        turns.push(NamespacedName::new("a", "x"));
        turns.push(NamespacedName::new("z", "x"));
        turns.push(NamespacedName::new("z", "x"));
        assert_eq!(start(&mut turns).as_deref(), Some("z/x"));
        assert_eq!(start(&mut turns), None, "two are at work");
        for (finished, expected) in [("hostile/0", "a/x"), ("z/x", "hostile/1"), ("a/x", "hostile/2")] {
            done(&mut turns, finished);
            assert_eq!(start(&mut turns).as_deref(), Some(expected));
        }
        done(&mut turns, "hostile/1");
        assert_eq!(start(&mut turns), None, "nothing waits, and z/x waited once");
    }

    #[test]
    fn nobody_takes_every_place() {
        let mut turns = Turns::new(4, 2);
        for number in 0..9 {
            turns.push(NamespacedName::new("silent", &number.to_string()));
        }
        assert_eq!(start(&mut turns).as_deref(), Some("silent/0"));
        assert_eq!(start(&mut turns).as_deref(), Some("silent/1"));
        assert_eq!(start(&mut turns), None, "there are places, for others");
        turns.push(NamespacedName::new("a", "x"));
        assert_eq!(start(&mut turns).as_deref(), Some("a/x"));
        done(&mut turns, "silent/1");
        assert_eq!(start(&mut turns).as_deref(), Some("silent/2"));
        assert_eq!(start(&mut turns), None);
    }
}

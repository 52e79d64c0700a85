//! What is due when: the engine's one clock. Pure; the caller says what time it is.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use tokio::time::Instant;

/// Each key is due at most once; setting it again moves it.
#[derive(Debug)]
pub struct Timers<K> {
    due: HashMap<K, Instant>,
    order: BTreeSet<(Instant, K)>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { due: HashMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord> Timers<K> {
    /// Makes a key due at a time, instead of whenever it was due before.
    pub fn set(&mut self, key: K, at: Instant) {
        self.clear(&key);
        self.order.insert((at, key.clone()));
        self.due.insert(key, at);
    }

    /// Makes a key due at a time unless it is due earlier.
    pub fn set_by(&mut self, key: K, at: Instant) {
        if self.due.get(&key).is_none_or(|due| *due > at) {
            self.set(key, at);
        }
    }

    /// Forgets a key.
    pub fn clear(&mut self, key: &K) {
        if let Some(at) = self.due.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
    }

    /// When the next key is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes one key that is due.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        let (at, key) = self.order.first()?;
        if *at > now {
            return None;
        }
        let key = key.clone();
        self.clear(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn keys_come_in_order_and_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::default();
        timers.set("b", at(2));
        timers.set("a", at(1));
        timers.set("a", at(3));
        timers.set_by("a", at(9));
        timers.set("c", at(1));
        timers.clear(&"c");
        assert_eq!(timers.next(), Some(at(2)));
        assert_eq!(timers.pop(at(1)), None);
        assert_eq!(timers.pop(at(5)), Some("b"));
        assert_eq!(timers.pop(at(5)), Some("a"));
        assert_eq!(timers.pop(at(5)), None);
        assert_eq!(timers.next(), None);
    }
}

//! Whose turn is it? Work waits in one row for each tenant, and each takes its turn: whoever has ten thousand things to do
//! delays the next tenant by one of them. Pure; the engine asks.

use std::collections::{BTreeMap, VecDeque};

use crate::directory::NamespacedName;

/// Work on objects, so many at once, fairly by namespace.
#[derive(Debug)]
pub struct Turns {
    waiting: BTreeMap<String, VecDeque<NamespacedName>>,
    /// Whose turn it was last.
    last: String,
    running: usize,
    at_once: usize,
}

impl Turns {
    /// At most so many at once.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self { waiting: BTreeMap::new(), last: String::new(), running: 0, at_once }
    }

    /// Takes its place at the end of its namespace's row.
    pub fn push(&mut self, name: NamespacedName) {
        self.waiting.entry(name.namespace.clone()).or_default().push_back(name);
    }

    /// The next one, which is then at work until [`Turns::done`]; `None` while enough are, or nothing waits.
    pub fn start(&mut self) -> Option<NamespacedName> {
        use std::ops::Bound::{Excluded, Unbounded};
        if self.running >= self.at_once {
            return None;
        }
        let after = self.waiting.range::<String, _>((Excluded(&self.last), Unbounded)).next();
        let namespace = after.or_else(|| self.waiting.iter().next())?.0.clone();
        let row = self.waiting.get_mut(&namespace)?;
        let next = row.pop_front();
        if row.is_empty() {
            self.waiting.remove(&namespace);
        }
        self.last = namespace;
        self.running += usize::from(next.is_some());
        next
    }

    /// One is finished.
    pub fn done(&mut self) {
        self.running = self.running.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tenant_has_its_turn_and_so_many_are_at_work() {
        let mut turns = Turns::new(2);
        for number in 0..3 {
            turns.push(NamespacedName::new("hostile", &number.to_string()));
        }
        let start = |turns: &mut Turns| turns.start().map(|name| name.to_string());
        assert_eq!(start(&mut turns).as_deref(), Some("hostile/0"));
        turns.push(NamespacedName::new("a", "x"));
        turns.push(NamespacedName::new("z", "x"));
        assert_eq!(start(&mut turns).as_deref(), Some("z/x"));
        assert_eq!(start(&mut turns), None, "two are at work");
        for expected in ["a/x", "hostile/1", "hostile/2"] {
            turns.done();
            assert_eq!(start(&mut turns).as_deref(), Some(expected));
        }
        turns.done();
        assert_eq!(start(&mut turns), None, "nothing waits");
    }
}

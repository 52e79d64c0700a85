//! Text that is kept once, however often it is kept: names of objects and messages of conditions, of which a fleet of a
//! hundred thousand mailboxes has many copies.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Values that were not looked through yet for those that nobody uses any more.
const YOUNG: usize = 1024;

/// The values that are in use.
#[derive(Debug)]
pub struct Interner<T: ?Sized>(Mutex<Table<T>>);

#[derive(Debug)]
struct Table<T: ?Sized> {
    values: HashSet<Arc<T>>,
    /// How many there were after the last look.
    used: usize,
}

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Self(Mutex::new(Table { values: HashSet::new(), used: 0 }))
    }
}

impl<T: ?Sized + Eq + Hash> Interner<T> {
    /// The one copy of a value.
    pub fn share(&self, value: impl Borrow<T> + Into<Arc<T>>) -> Arc<T> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.values.get(value.borrow()) {
            return Arc::clone(known);
        }
        if table.values.len() > 2 * table.used + YOUNG {
            table.values.retain(|value| Arc::strong_count(value) > 1);
            table.used = table.values.len();
        }
        let value: Arc<T> = value.into();
        table.values.insert(Arc::clone(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_text_is_kept_once_and_forgotten_when_nobody_has_it() {
        let texts: Interner<str> = Interner::default();
        let (one, same) = (texts.share("one"), texts.share("one"));
        assert!(Arc::ptr_eq(&one, &same));
        for number in 0..10_000 {
            texts.share(number.to_string().as_str());
        }
        let kept = texts.0.lock().unwrap().values.len();
        assert!(kept <= 2 * YOUNG, "{kept} are kept");
        assert!(Arc::ptr_eq(&one, &texts.share("one")));
    }
}

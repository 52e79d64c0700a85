//! Outcomes of deliveries that the store does not take. What was sent and is not recorded would be sent again, so nothing
//! new is sent meanwhile. Shared by [`super::worker`] and [`super::delivery`].

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    waiting: AtomicUsize,
    rows: Mutex<HashSet<i64>>,
}

/// Held by an attempt that waits until the store takes its outcome.
pub(super) struct Waiting<'a>(&'a Unsettled);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Unsettled {
    /// An attempt begins to wait.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    /// Whether some attempt waits.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// The store refused the outcome of these rows for good: they are not tried again before the next start.
    pub(super) fn give_up(&self, keys: impl IntoIterator<Item = i64>) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
    }

    /// The rows that were given up.
    pub(super) fn given_up(&self) -> HashSet<i64> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

//! Whether the operator lives: its engine turns, and its watches move. Written by both, read by the admin HTTP.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the engine may be silent; it turns at least every few seconds.
const ENGINE_SILENCE: Duration = Duration::from_secs(60);
/// How long a watch may fail in a row before a restart is worth a try.
const WATCH_FAILURE: Duration = Duration::from_secs(600);

/// What is known of the process.
pub struct Health {
    begin: Instant,
    /// How long a watch may fail in a row.
    watch_failure: Duration,
    engine_beat: AtomicU64,
    leading: AtomicBool,
    synced: AtomicBool,
    watches: Mutex<Vec<Arc<WatchState>>>,
}

struct WatchState {
    name: &'static str,
    /// Seconds since the beginning at which it began to fail, plus one; 0: it does not fail.
    failing_since: AtomicU64,
}

/// With what a watch reports.
pub struct WatchTicket {
    begin: Instant,
    state: Arc<WatchState>,
}

impl WatchTicket {
    /// Something came through.
    pub fn moved(&self) {
        self.state.failing_since.store(0, Ordering::Relaxed);
    }

    /// It failed, and tries again.
    pub fn failed(&self) {
        let now = self.begin.elapsed().as_secs() + 1;
        let _ = self.state.failing_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            begin: Instant::now(),
            watch_failure: WATCH_FAILURE,
            engine_beat: AtomicU64::new(0),
            leading: AtomicBool::new(false),
            synced: AtomicBool::new(false),
            watches: Mutex::new(Vec::new()),
        }
    }
}

impl Health {
    /// One for which a watch may fail for another time than the usual ten minutes.
    #[must_use]
    pub fn with_watch_failure(longest: Duration) -> Self {
        Self { watch_failure: longest, ..Self::default() }
    }

    /// Registers a watch.
    pub fn watch(&self, name: &'static str) -> WatchTicket {
        let state = Arc::new(WatchState { name, failing_since: AtomicU64::new(0) });
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&state));
        WatchTicket { begin: self.begin, state }
    }

    /// This process is the leader from now on.
    pub fn lead(&self) {
        self.beat();
        self.leading.store(true, Ordering::Relaxed);
    }

    /// The engine turned.
    pub fn beat(&self) {
        self.engine_beat.store(self.begin.elapsed().as_secs(), Ordering::Relaxed);
    }

    /// Every watch has reported what exists.
    pub fn synced(&self) {
        self.synced.store(true, Ordering::Relaxed);
    }

    /// Whether this process leads.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.leading.load(Ordering::Relaxed)
    }

    /// What is wrong with the process, so that a restart may help; `None`: nothing.
    #[must_use]
    pub fn illness(&self) -> Option<String> {
        if !self.is_leading() {
            return None;
        }
        self.illness_at(self.begin.elapsed().as_secs())
    }

    /// The same, so many seconds after the beginning.
    fn illness_at(&self, now: u64) -> Option<String> {
        let silence = now.saturating_sub(self.engine_beat.load(Ordering::Relaxed));
        if silence > ENGINE_SILENCE.as_secs() {
            return Some(format!("the engine has not turned for {silence} seconds"));
        }
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.iter().find_map(|watch| {
            let since = watch.failing_since.load(Ordering::Relaxed);
            let failing = now.saturating_sub(since.saturating_sub(1));
            (since > 0 && failing > self.watch_failure.as_secs())
                .then(|| format!("the watch of {} has failed for {failing} seconds", watch.name))
        })
    }

    /// The watches that fail now.
    #[cfg(test)]
    pub(super) fn failing(&self) -> Vec<&'static str> {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let failing = watches.iter().filter(|watch| watch.failing_since.load(Ordering::Relaxed) > 0);
        failing.map(|watch| watch.name).collect()
    }

    /// What keeps the process from doing its work; `None`: nothing. A process that waits to lead is ready to.
    #[must_use]
    pub fn unreadiness(&self) -> Option<&'static str> {
        (self.is_leading() && !self.synced.load(Ordering::Relaxed))
            .then_some("the watches have not reported everything yet")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_well_and_who_leads_is_ready_when_synced() {
        let health = Health::default();
        let watch = health.watch("Mailbox");
        assert_eq!((health.illness(), health.unreadiness()), (None, None));
        health.lead();
        assert!(health.unreadiness().is_some());
        health.synced();
        assert_eq!((health.illness(), health.unreadiness()), (None, None));
        watch.failed();
        assert_eq!(health.illness(), None);
        watch.moved();
        assert_eq!(watch.state.failing_since.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_watch_that_fails_for_more_than_ten_minutes_is_an_illness_until_it_moves() {
        let health = Health::default();
        let (one, other) = (health.watch("Mailbox"), health.watch("Secret"));
        health.lead();
        let at = |now: u64| {
            health.engine_beat.store(now, Ordering::Relaxed);
            health.illness_at(now)
        };
        one.failed();
        other.failed();
        other.moved();
        assert_eq!(at(600), None);
        // A later failure does not begin anew.
        one.failed();
        assert_eq!(at(602).as_deref(), Some("the watch of Mailbox has failed for 602 seconds"));
        one.moved();
        assert_eq!(at(10_000), None);
        health.engine_beat.store(10_000, Ordering::Relaxed);
        assert_eq!(health.illness_at(10_060), None);
        assert!(health.illness_at(10_061).is_some_and(|words| words.contains("engine has not turned")));
    }
}

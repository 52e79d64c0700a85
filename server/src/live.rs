//! The configuration in force. Sessions take a snapshot per message or login; `reload` swaps a new one in.

use std::sync::Arc;

use arc_swap::ArcSwap;
use paquebot_config::Configuration;

/// Shared by everything that works from the configuration. A clone is the same configuration.
#[derive(Debug, Clone)]
pub struct LiveConfiguration(Arc<ArcSwap<Configuration>>);

impl LiveConfiguration {
    /// Starts with a configuration that was read whole: a server without one serves nobody.
    #[must_use]
    pub fn new(first: Configuration) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    /// The configuration in force now; stays as it is for whoever holds it.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Configuration> {
        self.0.load_full()
    }

    /// Puts another one in force, at once and whole.
    pub fn replace(&self, next: Configuration) {
        self.0.store(Arc::new(next));
    }
}

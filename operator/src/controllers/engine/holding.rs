//! What the engine does while the API server takes and gives nothing: statuses and mailboxes' Secrets wait, and one is tried
//! after each pause.

use tokio::time::Instant;

use super::{Engine, Timer};
use crate::controllers::calls::CallError;
use crate::directory::ObjectKey;

impl Engine {
    /// The API server took or gave something: what waited for that goes on.
    pub(super) fn api_server_answered(&mut self) {
        if self.hold_off.succeeded() {
            self.start_reads();
        }
    }

    /// A call failed of which there are many. The log has a line for each pause, and not for each call.
    pub(super) fn api_server_failed(&mut self, object: &ObjectKey, error: &CallError) {
        let now = Instant::now();
        self.tools.metrics.errors.inc();
        if let Some(pause) = self.hold_off.failed(error.failed(), now) {
            let seconds = pause.as_secs();
            tracing::warn!(%object, %error, "statuses and Secrets wait for the API server; one is tried in {seconds} seconds");
            self.timers.set(Timer::Statuses, now + pause);
            self.timers.set(Timer::Reads, now + pause);
        }
    }
}

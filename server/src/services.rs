//! What every session works with: configuration, store, credentials, TLS, metrics. Put together once by `main`, shared by
//! all sessions and the queue.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::credentials::Authenticator;
use crate::delivery::filter::Filters;
use crate::live::LiveConfiguration;
use crate::metrics::Metrics;
use crate::rate::RateLimits;
use crate::store::SharedStore;
use crate::tls::Certificates;

/// One for the process.
pub struct Services {
    /// The configuration in force. A session takes a snapshot per message or login.
    pub configuration: LiveConfiguration,
    /// Where mail is.
    pub store: SharedStore,
    /// Verifies passwords.
    pub authenticator: Authenticator,
    /// The certificate that is presented, where there is one.
    pub certificates: Certificates,
    /// How much mailboxes and relay rules may still send.
    pub rates: RateLimits,
    /// The filters of mailboxes, with their compiled scripts.
    pub filters: Filters,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the server drains: a session ends at its next command (SMTP 421 4.3.2, POP3 `-ERR`), after a
    /// message that is being received.
    pub shutdown: CancellationToken,
    /// Woken after a commit with remote recipients: the queue looks for what is due.
    pub queue: Arc<Notify>,
}

/// As sessions hold it.
pub type SharedServices = Arc<Services>;

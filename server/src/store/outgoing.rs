//! What the outbound queue asks of the store: rows per recipient, ordered by when they are due. Used by
//! [`crate::queue`] alone.

use async_trait::async_trait;
use jiff::Timestamp;
use paquebot_config::{Address, Domain};

use super::{Acceptance, Declared, LocalDelivery, MessageId, MessageReader, RemoteRecipient, Result, Store};

/// The store's own number for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageNumber(pub(in crate::store) i64);

#[cfg(test)]
impl MessageNumber {
    /// A number that no store gave.
    pub(crate) fn for_test(number: i64) -> Self {
        Self(number)
    }
}

/// One recipient that waits for delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedRecipient {
    /// The store's own number for this row.
    pub key: i64,
    /// The message it is to receive.
    pub message: MessageNumber,
    /// Who receives it, and what the sender wants to know about it.
    pub recipient: RemoteRecipient,
    /// Attempts that were made.
    pub attempts: u32,
    /// Whether the sender was told of the delay.
    pub warned: bool,
    /// What the last attempt met.
    pub last_error: Option<String>,
}

/// What the queue knows of a message besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedMessage {
    /// Its id in logs.
    pub id: MessageId,
    /// When it was accepted: its age counts from here.
    pub received_at: Timestamp,
    /// To whom failures are reported; `None` is the null reverse-path.
    pub reverse_path: Option<Address>,
    /// What the sender declared.
    pub declared: Declared,
    /// Octets of what is sent, without dot-stuffing.
    pub octets: u64,
}

/// A recipient that stays in the queue.
#[derive(Debug, Clone)]
pub struct Deferral {
    /// The row.
    pub key: i64,
    /// When the next attempt is due.
    pub due: Timestamp,
    /// What this attempt met.
    pub error: String,
    /// Whether the sender has now been told of the delay.
    pub warned: bool,
}

/// The outcome of an attempt: one transaction. What it reports to the sender comes with it, so that a report is neither
/// lost nor made twice.
#[derive(Debug, Default)]
pub struct Settlement {
    /// Rows that leave the queue: delivered, or given up.
    pub finished: Vec<i64>,
    /// Rows that stay.
    pub deferred: Vec<Deferral>,
    /// Copies of queued messages for maildrops here: for recipients that are local by now.
    pub delivered_here: Vec<(MessageNumber, LocalDelivery)>,
    /// Further recipients of queued messages, due at once: where an address that is local by now leads elsewhere.
    pub redirected: Vec<(MessageNumber, RemoteRecipient)>,
    /// Reports to senders.
    pub reports: Vec<Acceptance>,
}

impl Settlement {
    /// The rows that it is about.
    pub fn keys(&self) -> impl Iterator<Item = i64> + use<> {
        let deferred: Vec<i64> = self.deferred.iter().map(|deferral| deferral.key).collect();
        self.finished.clone().into_iter().chain(deferred)
    }
}

/// How much waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Recipients that wait.
    pub recipients: u64,
    /// Those of them that have been tried and deferred.
    pub deferred: u64,
    /// When the oldest row's message was accepted.
    pub oldest: Option<Timestamp>,
}

/// What the queue asks of the store.
#[async_trait]
pub trait QueueStore: Store {
    /// The destinations that have recipients due by `now`, the longest due first.
    async fn due_destinations(&self, now: Timestamp) -> Result<Vec<Domain>>;
    /// At most `limit` recipients of one destination that are due by `now`, the longest due first.
    async fn due_recipients(&self, destination: &Domain, now: Timestamp, limit: usize) -> Result<Vec<QueuedRecipient>>;
    /// When the next recipient is due that is not due by `now`.
    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>>;
    /// What is known of a queued message.
    async fn queued_message(&self, message: MessageNumber) -> Result<QueuedMessage>;
    /// The bytes of a queued message as they are sent: trace fields and body.
    async fn read_queued(&self, message: MessageNumber) -> Result<Box<dyn MessageReader>>;
    /// Makes the outcome of an attempt durable, whole or not at all. Quotas do not apply to reports.
    async fn settle(&self, settlement: Settlement) -> Result<()>;
    /// Whether outcomes can be made durable at all. While not, nothing must be sent: it would be sent again.
    fn can_settle(&self) -> bool;
    /// How much waits, for metrics.
    async fn queue_counts(&self) -> Result<QueueCounts>;
}

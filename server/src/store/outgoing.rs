//! What the outbound queue asks of the store: rows per recipient, ordered by when they are due. Used by
//! [`crate::queue`] alone.

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::{Address, Domain};

use super::envelope::Route;
use super::{
    Acceptance, Declared, Derived, LocalDelivery, MessageId, MessageReader, Remembrance, RemoteRecipient, Result, Store,
};

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
    /// Whose the reverse-path was when the message was accepted, where it was somebody's here.
    pub sender_tenant: Option<Box<str>>,
    /// What the sender declared.
    pub declared: Declared,
    /// Octets of what is sent, without dot-stuffing.
    pub octets: u64,
}

/// A queued message that was read ahead of its turn.
#[derive(Debug, Clone)]
pub struct QueuedContent {
    /// Which.
    pub number: MessageNumber,
    /// What is known of it.
    pub message: QueuedMessage,
    /// All its bytes, where it is small and they were at hand.
    pub bytes: Option<Bytes>,
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
    /// Now: from then on what is derived is due.
    pub at: Timestamp,
    /// Rows that leave the queue: delivered, or given up.
    pub finished: Vec<i64>,
    /// Rows that stay.
    pub deferred: Vec<Deferral>,
    /// Copies of queued messages for maildrops here: for recipients that are local by now.
    pub delivered_here: Vec<(MessageNumber, LocalDelivery)>,
    /// Further recipients of queued messages, due at once: where an address that is local by now leads elsewhere.
    pub redirected: Vec<(MessageNumber, RemoteRecipient)>,
    /// Messages that come of queued ones: forwardings, redirected copies, replies. The octets from which they and the edited
    /// copies in `delivered_here` continue the queued message are counted from the beginning of what is sent, trace fields
    /// included.
    pub derived: Vec<(MessageNumber, Derived)>,
    /// What filters want to know next time.
    pub remember: Vec<Remembrance>,
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

/// Where recipients go together: those of one domain by one way out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueDestination {
    /// The domain of the recipients.
    pub domain: Domain,
    /// The way out; `None`: the server's own.
    pub route: Option<Route>,
}

/// Up to where the queue has been looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    /// Rows due by then were seen; `None`: nothing was seen yet.
    pub until: Option<Timestamp>,
    /// Rows up to this key were seen.
    pub key: i64,
}

/// What an attempt may take.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Of which destination.
    pub destination: QueueDestination,
    /// What is due by now.
    pub now: Timestamp,
    /// Rows that are in attempts, or must not be touched.
    pub except: HashSet<i64>,
    /// At most so many.
    pub limit: usize,
    /// The sender whose turn it was last; [`Claimable::turn`] of the call before.
    pub turn: String,
}

/// Rows for one attempt, in the order in which they are sent.
#[derive(Debug, Default)]
pub struct Claimable {
    /// The rows.
    pub recipients: Vec<QueuedRecipient>,
    /// For the next call.
    pub turn: String,
}

/// The state of a queued recipient as a person sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueState {
    /// An attempt is due, or is being made.
    Due,
    /// It was tried, and waits for the next attempt.
    Deferred,
    /// The sender asked for a later delivery (RFC 4865); it was not tried yet.
    Scheduled,
    /// A person holds it: it is not tried.
    Held,
}

/// Which rows are meant: those that fit all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueFilter {
    /// Of this message.
    pub message: Option<MessageId>,
    /// With this reverse-path; `<>` is the null one.
    pub sender: Option<String>,
    /// This address.
    pub recipient: Option<String>,
    /// Of this domain.
    pub destination: Option<Domain>,
    /// In this state.
    pub state: Option<QueueState>,
}

/// A row with what a person wants to know of it.
#[derive(Debug, Clone)]
pub struct ListedRecipient {
    /// The row, and the attempts so far.
    pub row: QueuedRecipient,
    /// The message's id.
    pub message_id: MessageId,
    /// The reverse-path; `<>` is the null one.
    pub sender: String,
    /// When the message was accepted.
    pub received_at: Timestamp,
    /// Octets of the message.
    pub octets: u64,
    /// When the next attempt is due, where it is not held.
    pub due: Timestamp,
    /// Its state at the moment of asking.
    pub state: QueueState,
    /// RFC 6710.
    pub priority: i8,
}

/// What a person does with rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueChange {
    /// They are not tried any more.
    Hold,
    /// What was held, or scheduled for later, is due at `now`.
    Release {
        /// Now.
        now: Timestamp,
    },
    /// What waits for its next attempt is due at `now`.
    Retry {
        /// Now.
        now: Timestamp,
    },
    /// They leave the queue as soon as no attempt has them; until then they are as held.
    Drop {
        /// Whether the sender gets a report of failure, where it wants any.
        notify: bool,
    },
    /// They take this way out.
    Reroute {
        /// The way; `None`: the server's own.
        route: Option<Route>,
    },
}

/// A row that is to leave the queue.
#[derive(Debug, Clone)]
pub struct Dropped {
    /// The row.
    pub recipient: QueuedRecipient,
    /// Whether the sender is told.
    pub notify: bool,
}

/// How many rows are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct CountsByState {
    /// See [`QueueState::Due`].
    pub due: u64,
    /// See [`QueueState::Deferred`].
    pub deferred: u64,
    /// See [`QueueState::Scheduled`].
    pub scheduled: u64,
    /// See [`QueueState::Held`].
    pub held: u64,
}

/// How much waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Recipients that wait.
    pub recipients: u64,
    /// Those of them that have been tried and deferred.
    pub deferred: u64,
    /// Those that a person holds.
    pub held: u64,
    /// When the oldest row's message was accepted.
    pub oldest: Option<Timestamp>,
}

/// What the queue asks of the store.
#[async_trait]
pub trait QueueStore: Store {
    /// The domains that have recipients due by `now`, the longest due first; for tools, and slow.
    async fn due_destinations(&self, now: Timestamp) -> Result<Vec<Domain>>;
    /// At most `limit` recipients of one destination that are due by `now`, the longest due first.
    async fn due_recipients(&self, destination: &Domain, now: Timestamp, limit: usize) -> Result<Vec<QueuedRecipient>>;
    /// The destinations that have rows due by `now` which were not there, or not due, when the queue was looked at last;
    /// the longest due first. The cost grows with the rows that it finds, not with the queue.
    async fn newly_due(&self, last: Looked, now: Timestamp) -> Result<(Vec<QueueDestination>, Looked)>;
    /// Rows of one destination for one attempt. The first half goes to the senders in turn, one row each; the rest by
    /// priority, of which each lower one present still gets some, the longest due first.
    async fn claimable(&self, wanted: Wanted) -> Result<Claimable>;
    /// At most `limit` rows that a person has dropped and that are not among `except`.
    async fn dropped(&self, except: HashSet<i64>, limit: usize) -> Result<Vec<Dropped>>;
    /// Rows with keys above `after` that fit, by key, at most `limit`. A person's page of the queue.
    async fn list_queue(
        &self,
        filter: QueueFilter,
        now: Timestamp,
        after: i64,
        limit: usize,
    ) -> Result<Vec<ListedRecipient>>;
    /// How many rows fit, by state. Looks at each row.
    async fn count_queue(&self, filter: QueueFilter, now: Timestamp) -> Result<CountsByState>;
    /// The store's number for a message that has rows in the queue.
    async fn find_queued(&self, id: MessageId) -> Result<Option<MessageNumber>>;
    /// Does with the rows of these keys what a person wants, durably; says how many it concerned, and their destinations.
    async fn change_queue(&self, keys: Vec<i64>, change: QueueChange) -> Result<(u64, Vec<QueueDestination>)>;
    /// When the next recipient is due that is not due by `now`.
    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>>;
    /// What is known of a queued message.
    async fn queued_message(&self, message: MessageNumber) -> Result<QueuedMessage>;
    /// The bytes of a queued message as they are sent: trace fields and body.
    async fn read_queued(&self, message: MessageNumber) -> Result<Box<dyn MessageReader>>;
    /// Reads several messages at once, with the bytes of those that have at most `up_to` octets. One that cannot be read is
    /// left out: whoever reads it by itself hears why.
    async fn read_queued_ahead(&self, _messages: &[MessageNumber], _up_to: u64) -> Result<Vec<QueuedContent>> {
        Ok(Vec::new())
    }
    /// Makes the outcome of an attempt durable, whole or not at all. Quotas do not apply to reports.
    async fn settle(&self, settlement: Settlement) -> Result<()>;
    /// Whether outcomes can be made durable at all. While not, nothing must be sent: it would be sent again.
    fn can_settle(&self) -> bool;
    /// How much waits, for metrics.
    async fn queue_counts(&self) -> Result<QueueCounts>;
}

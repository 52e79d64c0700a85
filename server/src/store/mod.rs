//! Where accepted mail is. [`Store`] is what sessions and the queue ask of it; `embedded` answers with SQLite and files
//! (DESIGN §6). Promise 1 lives here: when [`Store::commit`] returns, the message is on stable storage.

pub mod embedded;
pub mod outgoing;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::Address;

/// What an operation on the store yields.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Why the store refuses.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no room on the volume: SMTP says 452 4.3.1 and readiness turns false.
    #[error("the volume of the mail store is full; make it larger or delete mail")]
    DiskFull,
    /// Somebody else has the maildrop open: POP3 says `[IN-USE]`.
    #[error("the maildrop is open in another session")]
    MaildropInUse,
    /// A maildrop would hold more than it may: SMTP says 452 4.2.2 or 552 5.2.2.
    #[error("the mailbox {0} is full")]
    OverQuota(Address),
    /// The message is not there (any more).
    #[error("the message is not in the store")]
    NotFound,
    /// What was read is not what was written.
    #[error("the mail store is damaged: {0}")]
    Corrupt(String),
    /// The operating system or the database failed; the sender should try again.
    #[error("the mail store failed: {0}")]
    Failed(String),
}

/// Identifies an accepted message in replies, logs, `Received` fields and the queue: a UUID version 7, as 32 hexadecimal
/// digits, so that ids sort by time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(String);

impl MessageId {
    /// A new one, never given before.
    #[must_use]
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().simple().to_string())
    }

    /// Takes back an id that [`MessageId::as_str`] gave.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes the bytes of one message while it is received: small ones in memory, large ones streamed to a file. Dropped
/// without [`Spool::finish`], or its [`Body`] without [`Store::commit`], it leaves nothing behind.
#[async_trait]
pub trait Spool: Send + Sync {
    /// Adds bytes at the end.
    async fn append(&mut self, bytes: &[u8]) -> Result<()>;
    /// Makes the bytes durable and closes the spool.
    async fn finish(self: Box<Self>) -> Result<Body>;
}

/// The bytes of one received message, not yet owned by the store.
#[derive(Debug)]
pub enum Body {
    /// Small enough to go into the database with the rest.
    Memory(Bytes),
    /// A file beside the database, already durable; removed when dropped uncommitted.
    File(SpooledFile),
}

/// A message file that no transaction owns yet.
#[derive(Debug)]
pub struct SpooledFile {
    /// Where it lies; the implementation of the store knows the directory.
    pub path: std::path::PathBuf,
    /// Its size.
    pub octets: u64,
    /// Set by the store once a transaction owns the file.
    pub committed: bool,
}

impl Drop for SpooledFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing else can be done here; start-up removes files that no row names.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What one transaction makes durable: everything that a 250 promises.
#[derive(Debug)]
pub struct Acceptance {
    /// Names the message.
    pub id: MessageId,
    /// When its last byte came.
    pub received_at: Timestamp,
    /// The envelope's reverse-path; `None` is the null reverse-path `<>`.
    pub reverse_path: Option<Address>,
    /// Trace fields that every copy starts with, CRLF included (RFC 5321 §4.4).
    pub trace: Bytes,
    /// The message as received, CRLF line ends, without dot-stuffing.
    pub body: Body,
    /// Whether MAIL said `BODY=8BITMIME`, and whether it said `SMTPUTF8`.
    pub declared: Declared,
    /// The maildrops that receive it; the store keeps one copy of the bytes for all.
    pub local: Vec<LocalDelivery>,
    /// Those to whom the queue sends it.
    pub remote: Vec<Address>,
}

/// What the sender declared at MAIL, which a next hop has to be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Declared {
    /// `BODY=8BITMIME` (RFC 6152).
    pub eight_bit: bool,
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
}

/// One maildrop's share of a message.
#[derive(Debug, Clone)]
pub struct LocalDelivery {
    /// The mailbox's own address: the name of its maildrop.
    pub maildrop: Address,
    /// Fields that this copy alone starts with, CRLF included: `Return-Path` (RFC 5321 §4.4).
    pub fields: Bytes,
    /// Octets that the maildrop may hold; the transaction fails with [`StoreError::OverQuota`] beyond.
    pub quota: Option<u64>,
}

/// One message in a scan listing (RFC 1939 §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaildropEntry {
    /// The store's own number for it.
    pub key: i64,
    /// For UIDL: at most 70 printable characters, never given twice in a maildrop.
    pub unique_id: String,
    /// What RETR sends, without byte-stuffing and the final dot.
    pub octets: u64,
}

/// An open maildrop: its messages in order of arrival, and the exclusive lock, which is freed when this is dropped.
pub struct Maildrop {
    /// The messages when it was opened; what arrives later appears in the next session.
    pub entries: Vec<MaildropEntry>,
    /// Held for as long as the session.
    pub lock: Box<dyn Send + Sync>,
}

/// How much a maildrop holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Messages.
    pub messages: u64,
    /// Octets, as in scan listings.
    pub octets: u64,
}

/// The bytes of one stored message, in pieces.
#[async_trait]
pub trait MessageReader: Send {
    /// The next piece, at most 64 KiB; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>>;
}

/// What the rest of the server asks of the place where mail is.
#[async_trait]
pub trait Store: Send + Sync {
    /// Begins to receive a message of at most `limit` octets.
    async fn spool(&self, limit: u64) -> Result<Box<dyn Spool>>;
    /// Makes an accepted message durable, for all its recipients or for none.
    async fn commit(&self, acceptance: Acceptance) -> Result<()>;
    /// Whether there is room for another message of this size.
    async fn has_room(&self, octets: u64) -> bool;
    /// How much a maildrop holds now.
    async fn usage(&self, maildrop: &Address) -> Result<Usage>;
    /// Opens a maildrop for one session.
    async fn open_maildrop(&self, maildrop: &Address) -> Result<Maildrop>;
    /// Reads one message of a maildrop.
    async fn read(&self, maildrop: &Address, key: i64) -> Result<Box<dyn MessageReader>>;
    /// Deletes messages of a maildrop: all of them, durably, or none (RFC 1939 §6).
    async fn delete(&self, maildrop: &Address, keys: &[i64]) -> Result<()>;
}

/// The store as sessions hold it.
pub type SharedStore = Arc<dyn Store>;

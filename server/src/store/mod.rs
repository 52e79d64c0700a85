//! Where accepted mail is. [`Store`] is what sessions and the queue ask of it; `embedded` answers with SQLite and files
//! (DESIGN §6). Promise 1 lives here: when [`Store::commit`] returns, the message is on stable storage.

mod checksum;
pub mod embedded;
pub mod envelope;
pub mod erase;
pub mod outgoing;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::{Address, Domain, MailboxRecord};

pub use self::envelope::{BodyType, Declared, RemoteRecipient};

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
    /// The volume fails, or is read-only: nothing can be kept until it is mended, and the process ends.
    #[error("the volume of the mail store fails: {0}")]
    Volume(String),
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
    Memory(InMemory),
    /// A file beside the database, already durable; removed when dropped uncommitted.
    File(SpooledFile),
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Memory(InMemory { checksums: checksum::of(&bytes), bytes })
    }
}

/// Bytes with their checksums, which whoever received them has computed: the one thread that writes has other work.
#[derive(Debug, Clone)]
pub struct InMemory {
    bytes: Bytes,
    checksums: Vec<u8>,
}

impl InMemory {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// By which the store finds out later whether the volume kept what it was given.
    #[must_use]
    pub fn checksums(&self) -> &[u8] {
        &self.checksums
    }
}

/// A message file that no transaction owns yet.
#[derive(Debug)]
pub struct SpooledFile {
    /// Where it lies; the implementation of the store knows the directory.
    pub path: std::path::PathBuf,
    /// Its size.
    pub octets: u64,
    /// By which the store finds out later whether the volume kept what it was given.
    pub checksums: Vec<u8>,
    /// Whether its last octets are CRLF.
    pub ends_line: bool,
    /// Set by the store once a transaction owns the file.
    pub committed: bool,
}

impl Drop for SpooledFile {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        let path = std::mem::take(&mut self.path);
        // Nothing else can be done when it fails; start-up removes files that no row names.
        let remove = move || drop(std::fs::remove_file(path));
        // A large file takes the volume some time, which an asynchronous thread does not have.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
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
    /// Whose the reverse-path is, where it is somebody's here (see [`Configuration::tenant_of`]): nobody else who gets its
    /// domain is told what became of the message.
    ///
    /// [`Configuration::tenant_of`]: paquebot_config::Configuration::tenant_of
    pub sender_tenant: Option<Box<str>>,
    /// Trace fields that every copy starts with, CRLF included (RFC 5321 §4.4).
    pub trace: Bytes,
    /// The message as received, CRLF line ends, without dot-stuffing.
    pub body: Body,
    /// What the sender declared and asked for.
    pub declared: Declared,
    /// The maildrops that receive it; the store keeps one copy of the bytes for all.
    pub local: Vec<LocalDelivery>,
    /// Those to whom the queue sends it.
    pub remote: Vec<RemoteRecipient>,
    /// Messages that come of this one: forwarded under another reverse-path, replies, reports.
    pub derived: Vec<Derived>,
    /// What filters want to know next time.
    pub remember: Vec<Remembrance>,
}

/// A message that comes of an accepted one.
#[derive(Debug, Clone)]
pub struct Derived {
    /// Names it.
    pub id: MessageId,
    /// Its reverse-path.
    pub reverse_path: Option<Address>,
    /// As [`Acceptance::sender_tenant`].
    pub sender_tenant: Option<Box<str>>,
    /// What it begins with, CRLF included: trace fields, or a whole header that was edited.
    pub trace: Bytes,
    /// What follows.
    pub content: Content,
    /// What a next hop is told.
    pub declared: Declared,
    /// The maildrops that receive it.
    pub local: Vec<LocalDelivery>,
    /// Those to whom the queue sends it.
    pub remote: Vec<RemoteRecipient>,
}

/// What a derived message consists of.
#[derive(Debug, Clone)]
pub enum Content {
    /// The octets of the accepted message's body from this one on: they are not kept twice.
    Same {
        /// Octets that are left out at the beginning: the header, where it was edited.
        from: u64,
    },
    /// Octets of its own; a small message.
    Own(Bytes),
}

/// One maildrop's share of a message.
#[derive(Debug, Clone)]
pub struct LocalDelivery {
    /// Where it goes.
    pub maildrop: MaildropName,
    /// What this copy begins with, CRLF included: `Return-Path` (RFC 5321 §4.4), or where `body_from` is given the whole
    /// header.
    pub fields: Bytes,
    /// `Some`: the header was edited, and of the message only the body's octets from this one on follow, without the trace
    /// fields.
    pub body_from: Option<u64>,
    /// Octets that the mailbox may hold; the transaction fails with [`StoreError::OverQuota`] beyond.
    pub quota: Option<u64>,
    /// By how many octets the message becomes longer with a header in ASCII (RFC 6856 §4); `None`: its header is in ASCII, or
    /// nobody declared SMTPUTF8.
    pub ascii_growth: Option<i64>,
}

impl LocalDelivery {
    /// Octets that it takes of a message with so many octets of trace fields before so many others.
    #[must_use]
    pub fn octets(&self, trace: u64, message: u64) -> u64 {
        let rest = match self.body_from {
            None => trace + message,
            Some(from) => message.saturating_sub(from),
        };
        rest + self.fields.len() as u64
    }
}

/// Names a mailbox for ever: its address, and whose it is. The same address of another tenant is another mailbox: whoever
/// gets a domain that was somebody else's finds none of that one's mail, and the first finds it again on coming back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MailboxName {
    /// The mailbox's own address.
    pub address: Address,
    /// The tenant (see [`MailboxRecord::tenant`]); empty: nobody's. What is nobody's becomes the first tenant's that uses
    /// the address.
    pub tenant: Box<str>,
}

impl MailboxName {
    /// What the store's rows have where a mailbox's memory is kept. No tenant's name holds a space.
    #[must_use]
    pub fn key(&self) -> String {
        match &*self.tenant {
            "" => self.address.canonical(),
            tenant => format!("{} {tenant}", self.address.canonical()),
        }
    }
}

impl From<Address> for MailboxName {
    /// A mailbox of nobody in particular.
    fn from(address: Address) -> Self {
        Self { address, tenant: "".into() }
    }
}

impl From<&MailboxRecord> for MailboxName {
    fn from(record: &MailboxRecord) -> Self {
        Self { address: record.address.clone(), tenant: record.tenant.as_str().into() }
    }
}

impl std::fmt::Display for MailboxName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}

/// A mailbox that the store has.
#[derive(Debug)]
pub struct KnownMailbox {
    /// The store's own number for it.
    pub number: i64,
    /// Its name; an error where it cannot be read.
    pub name: Result<MailboxName>,
}

/// Names a maildrop: a mailbox and one of its folders.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MaildropName {
    /// The mailbox.
    pub mailbox: MailboxName,
    /// The folder.
    pub folder: Folder,
}

impl From<Address> for MaildropName {
    /// The inbox of a mailbox that is nobody's in particular.
    fn from(mailbox: Address) -> Self {
        Self { mailbox: mailbox.into(), folder: Folder::inbox() }
    }
}

impl std::fmt::Display for MaildropName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.folder.is_inbox() {
            true => self.mailbox.fmt(f),
            false => write!(f, "{} ({})", self.mailbox, self.folder.as_str()),
        }
    }
}

/// The longest name of a folder, in characters.
const LONGEST_FOLDER: usize = 64;

/// A folder of a mailbox, which a filter fills and POP3 opens by the login's subaddress. Names are lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Folder(Box<str>);

impl Folder {
    /// Where mail goes that no filter sorts.
    #[must_use]
    pub fn inbox() -> Self {
        Self("".into())
    }

    /// Reads a name: 1 to 64 characters, none of them a control character. `INBOX` in any case is the inbox.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.to_lowercase();
        let is_valid = (1..=LONGEST_FOLDER).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        match name.as_str() {
            "inbox" => Some(Self::inbox()),
            _ => is_valid.then(|| Self(name.into())),
        }
    }

    /// The name; empty for the inbox.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the inbox.
    #[must_use]
    pub fn is_inbox(&self) -> bool {
        self.0.is_empty()
    }
}

/// Something that a mailbox's filter wants to know when the next message comes: that a reply was sent, or an id was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembrance {
    /// Whose filter.
    pub mailbox: MailboxName,
    /// What; the filter's own words.
    pub what: String,
    /// When it may be forgotten.
    pub until: Timestamp,
}

/// One message in a scan listing (RFC 1939 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaildropEntry {
    /// The store's own number for it.
    pub key: i64,
    /// A random number of the process that stored it: it keeps unique-ids apart when a restored backup gives a key again.
    pub run: i64,
    /// What RETR sends, without byte-stuffing and the final dot. It ends the last line of a message that has no CRLF there.
    pub octets: u64,
}

impl MaildropEntry {
    /// For UIDL: 17 to 32 printable characters, never given twice in a maildrop. Made when it is asked for: 100,000 texts
    /// would cost ten times what a maildrop's entries do.
    #[must_use]
    pub fn unique_id(&self) -> impl std::fmt::Display + use<> {
        let Self { key, run, .. } = *self;
        std::fmt::from_fn(move |f| write!(f, "{run:016x}{key:x}"))
    }
}

/// An open maildrop: its messages in order of arrival, and the exclusive lock, which is freed when this is dropped.
pub struct Maildrop {
    /// The messages when it was opened; what arrives later appears in the next session.
    pub entries: Vec<MaildropEntry>,
    /// Octets that RETR sends of messages with a header in UTF-8 to a client that has not said UTF8, where they are known: by
    /// the message's key, in ascending order.
    pub in_ascii: Vec<(i64, u64)>,
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

/// A stored message that was read, or begun to be read.
pub struct StoredMessage {
    /// The store's own number for it.
    pub key: i64,
    /// Whether its sender declared SMTPUTF8: its header may be in UTF-8 (RFC 6532).
    pub smtputf8: bool,
    /// Its first octets: all of them, where `rest` is `None`.
    pub beginning: Bytes,
    /// What follows.
    pub rest: Option<Box<dyn MessageReader>>,
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
    /// How much a mailbox holds now, over all its folders.
    async fn usage(&self, mailbox: &MailboxName) -> Result<Usage>;
    /// Opens a maildrop for one session.
    async fn open_maildrop(&self, maildrop: &MaildropName) -> Result<Maildrop>;
    /// Reads one message of a maildrop.
    async fn read(&self, maildrop: &MaildropName, key: i64) -> Result<Box<dyn MessageReader>>;
    /// Reads the first of these messages of a maildrop, and of the following as many as cost little beside it: those are
    /// whole in memory. The caller bounds how much that is by what it asks for.
    async fn read_ahead(&self, maildrop: &MaildropName, keys: &[i64]) -> Result<Vec<StoredMessage>> {
        let key = *keys.first().ok_or(StoreError::NotFound)?;
        let rest = Some(self.read(maildrop, key).await?);
        Ok(vec![StoredMessage { key, smtputf8: false, beginning: Bytes::new(), rest }])
    }
    /// Deletes messages of a maildrop: all of them, durably, or none (RFC 1939 §6).
    async fn delete(&self, maildrop: &MaildropName, keys: &[i64]) -> Result<()>;
    /// Deletes messages of a maildrop that were received before a time: the oldest, so many at most. A maildrop that a session
    /// has open is left alone (RFC 1939 §8: what a session was told of stays until it ends). Yields how many went.
    async fn expire(&self, mailbox: &MailboxName, before: Timestamp, limit: usize) -> Result<usize>;
    /// The folders of a mailbox that hold or held mail, without the inbox.
    async fn folders(&self, mailbox: &MailboxName) -> Result<Vec<Folder>>;
    /// The mailboxes of a domain that hold or held mail, everybody's, in the order of their numbers: those after one, at
    /// most `limit`.
    async fn known_mailboxes(&self, domain: &Domain, after: i64, limit: usize) -> Result<Vec<KnownMailbox>>;
    /// Erases the mail of a mailbox that the store has under exactly this name, and what its filter remembers. Yields how
    /// many messages there were.
    async fn erase(&self, mailbox: &MailboxName) -> Result<u64>;
    /// Whose mailboxes of an address there are; empty: nobody's.
    async fn tenants(&self, address: &Address) -> Result<Vec<String>>;
    /// Which of these a mailbox's filter still remembers at `now` (see [`Remembrance`]).
    async fn remembers(&self, mailbox: &MailboxName, what: &[String], now: Timestamp) -> Result<Vec<bool>>;
}

/// The store as sessions hold it.
pub type SharedStore = Arc<dyn Store>;

//! The store of one machine (DESIGN §6): rows in SQLite, large bodies in files beside it. [`committer`] is the one thread
//! that writes, [`readers`] read beside it, [`spool`] takes what is received, [`recovery`] runs when the store opens.

mod claim;
mod committer;
mod deletion;
#[cfg(test)]
mod deletion_tests;
mod erasure;
mod error;
mod expiry;
mod manage;
#[cfg(test)]
mod migration_tests;
mod outgoing;
mod ownership;
mod readers;
mod reading;
mod recovery;
mod schema;
mod settlement;
mod space;
mod spool;
#[cfg(test)]
mod tests;
pub mod tools;
mod transaction;
mod volume;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use async_trait::async_trait;
use jiff::Timestamp;
use paquebot_config::{Address, Domain};
use rusqlite::{Connection, OptionalExtension};
use tokio_util::sync::CancellationToken;

pub use self::committer::{Access, Faults};
use self::committer::{Committer, Job, Writer, stopped};
use self::deletion::Deletion;
use self::readers::{MessageFile, PieceReader, Readers};
pub use self::recovery::is_in_use;
use self::space::Space;
use self::spool::{EmbeddedSpool, blocking};
use self::transaction::{Work, find_folder, find_maildrop, from_sql};
use super::{
    Acceptance, Folder, KnownMailbox, MailboxName, Maildrop, MaildropEntry, MaildropName, MessageReader, Result, Spool,
    Store, StoreError, StoredMessage, Usage,
};

/// The embedded store. One process at a time has it open.
pub struct EmbeddedStore {
    bodies: PathBuf,
    space: Space,
    readers: Readers,
    /// `None` once the store is closed.
    committer: Mutex<Option<Committer>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    broken: CancellationToken,
    open_maildrops: OpenMaildrops,
    /// Maildrops of which many messages are going.
    emptied: OpenMaildrops,
}

impl EmbeddedStore {
    /// Opens the store of a directory, making it where there was none. Blocks for the checks of start-up: call it before
    /// serving.
    ///
    /// # Errors
    /// When another process has it, or it is damaged, or of a newer version: the text names the file and the cure.
    pub fn open(directory: &Path) -> Result<Arc<Self>> {
        Self::open_with(directory, None)
    }

    /// Like [`EmbeddedStore::open`], without a thread: all work is done where it is asked for, which blocks. For
    /// simulations in virtual time, which have to take the same course each time; the transactions are the same. `faults` may
    /// let any access fail.
    ///
    /// # Errors
    /// As [`EmbeddedStore::open`].
    pub fn open_in_place(directory: &Path, faults: Faults) -> Result<Arc<Self>> {
        Self::open_with(directory, Some(faults))
    }

    fn open_with(directory: &Path, in_place: Option<Faults>) -> Result<Arc<Self>> {
        Self::serve(directory, recovery::open(directory)?, in_place)
    }

    fn serve(directory: &Path, opened: recovery::Opened, in_place: Option<Faults>) -> Result<Arc<Self>> {
        let emptied = OpenMaildrops::default();
        let unfinished = deletion::resume(&opened.connection, &opened.unfinished, &emptied)?;
        let mut run = [0; 8];
        getrandom::fill(&mut run).map_err(|error| StoreError::Failed(error.to_string()))?;
        let space = Space::new(directory.to_owned());
        let broken = CancellationToken::new();
        let writer = Writer {
            connection: opened.connection,
            bodies: opened.bodies.clone(),
            space: space.clone(),
            run: i64::from_ne_bytes(run),
            broken: broken.clone(),
            lock: opened.lock,
            careful: 0,
            deletions: VecDeque::new(),
            stalled: unfinished.into_iter().map(|deletion| (Instant::now(), Job::unfinished(deletion))).collect(),
        };
        let (committer, thread) = match in_place.clone() {
            Some(faults) => (Committer::InPlace(Arc::new(Mutex::new(writer)), faults), None),
            None => committer::start(writer).map(|(committer, thread)| (committer, Some(thread)))?,
        };
        Ok(Arc::new(Self {
            bodies: opened.bodies,
            space,
            readers: Readers::new(directory.to_owned(), in_place),
            committer: Mutex::new(Some(committer)),
            thread: Mutex::new(thread),
            broken,
            open_maildrops: Arc::default(),
            emptied,
        }))
    }

    /// Commits all that waits, then closes the database and frees the directory. Later calls are refused.
    pub async fn close(&self) {
        let committer = lock(&self.committer).take();
        drop(committer);
        self.readers.close().await;
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // A committer that panicked has said so already; there is nothing to wait for then.
            let _ = blocking(move || thread.join().map_err(|_| stopped())).await;
        }
    }

    /// Returns when nothing can be written any more until the process is started again: the operating system said that
    /// what was written may not be on the volume, or the database turned out to be damaged.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Whether work can be committed, if there is room for it.
    fn is_writable(&self) -> bool {
        !self.broken.is_cancelled() && lock(&self.committer).is_some()
    }

    async fn commit_work(&self, work: Work) -> Result<()> {
        let committer = lock(&self.committer).clone().ok_or_else(stopped)?;
        committer.commit(work).await
    }

    /// Marks a maildrop as open, unless it is already, or is being emptied.
    fn hold(&self, maildrop: &MaildropName) -> Result<MaildropLock> {
        let held = MaildropLock::take(&self.open_maildrops, maildrop)?;
        if MaildropLock::is_taken(&self.emptied, maildrop) { Err(StoreError::MaildropInUse) } else { Ok(held) }
    }

    /// Reads what `select` finds.
    async fn read_content<F>(&self, select: F) -> Result<Box<dyn MessageReader>>
    where
        F: FnOnce(&Connection) -> Result<StoredContent> + Send + 'static,
    {
        let bodies = self.bodies.clone();
        let reader = self.readers.query(move |connection| {
            let StoredContent { mut beginning, original, from } = select(connection)?;
            let mut statement = connection.prepare_cached(
                "SELECT message.file, message.body_octets, body.bytes FROM message \
                 LEFT JOIN body ON body.message = message.number WHERE message.number = ?1",
            )?;
            let mut rows = statement.query([original])?;
            let row = rows.next()?.ok_or(StoreError::NotFound)?;
            let file: Option<String> = row.get(0)?;
            let file = match file {
                Some(name) => Some(MessageFile::open(bodies.join(name), from_sql(row.get(1)?), from)?),
                None => {
                    let bytes = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
                    let from = usize::try_from(from).unwrap_or(usize::MAX);
                    beginning.extend_from_slice(bytes.get(from..).unwrap_or_default());
                    None
                }
            };
            Ok(PieceReader::new(beginning, file))
        });
        Ok(Box::new(reader.await?))
    }
}

/// Where the octets of a message are.
struct StoredContent {
    /// Those that come first.
    beginning: Vec<u8>,
    /// The message whose body follows …
    original: i64,
    /// … from this octet on.
    from: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The maildrops that sessions have open: by address and folder, whose.
type OpenMaildrops = Arc<Mutex<HashMap<(String, Folder), Vec<Box<str>>>>>;

/// Marks a maildrop as open until it is dropped. What is nobody's may become any tenant's: both are never open at a time.
#[derive(Debug)]
struct MaildropLock {
    place: (String, Folder),
    tenant: Box<str>,
    open: OpenMaildrops,
}

impl MaildropLock {
    fn take(open: &OpenMaildrops, maildrop: &MaildropName) -> Result<Self> {
        let (place, tenant) = (Self::place(maildrop), maildrop.mailbox.tenant.clone());
        let mut all = lock(open);
        if Self::excludes(all.get(&place), &tenant) {
            return Err(StoreError::MaildropInUse);
        }
        all.entry(place.clone()).or_default().push(tenant.clone());
        Ok(Self { place, tenant, open: Arc::clone(open) })
    }

    fn is_taken(open: &OpenMaildrops, maildrop: &MaildropName) -> bool {
        Self::excludes(lock(open).get(&Self::place(maildrop)), &maildrop.mailbox.tenant)
    }

    fn place(maildrop: &MaildropName) -> (String, Folder) {
        (maildrop.mailbox.address.canonical(), maildrop.folder.clone())
    }

    fn excludes(holders: Option<&Vec<Box<str>>>, tenant: &str) -> bool {
        let mut holders = holders.into_iter().flatten();
        holders.any(|holder| **holder == *tenant || holder.is_empty() || tenant.is_empty())
    }
}

impl Drop for MaildropLock {
    fn drop(&mut self) {
        let mut all = lock(&self.open);
        if let Some(holders) = all.get_mut(&self.place) {
            holders.retain(|holder| *holder != self.tenant);
            if holders.is_empty() {
                all.remove(&self.place);
            }
        }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn spool(&self, limit: u64) -> Result<Box<dyn Spool>> {
        Ok(Box::new(EmbeddedSpool::new(self.bodies.clone(), self.space.clone(), self.broken.clone(), limit)))
    }

    async fn commit(&self, acceptance: Acceptance) -> Result<()> {
        self.commit_work(Work::Accept(Box::new(acceptance))).await
    }

    async fn has_room(&self, octets: u64) -> bool {
        if self.broken.is_cancelled() {
            return false;
        }
        if self.space.had_plenty(octets) {
            return true;
        }
        for last_try in [false, true] {
            let space = self.space.clone();
            if blocking(move || space.has_room(octets)).await.unwrap_or(false) {
                return true;
            }
            // The log may take what is missing. Without new mail nothing else would make the committer shorten it.
            if last_try || self.commit_work(Work::MakeRoom).await.is_err() {
                break;
            }
        }
        false
    }

    async fn usage(&self, mailbox: &MailboxName) -> Result<Usage> {
        let mailbox = mailbox.clone();
        let query = self.readers.query(move |connection| {
            let Some(number) = find_maildrop(connection, &mailbox)? else { return Ok(Usage::default()) };
            let found: Option<(i64, i64)> = connection
                .prepare_cached("SELECT messages, octets FROM maildrop WHERE number = ?1")?
                .query_row([number], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let (messages, octets) = found.unwrap_or_default();
            Ok(Usage { messages: from_sql(messages), octets: from_sql(octets) })
        });
        query.await
    }

    async fn open_maildrop(&self, maildrop: &MaildropName) -> Result<Maildrop> {
        // It frees itself, whatever happens.
        let held = self.hold(maildrop)?;
        let name = maildrop.clone();
        let mut listed = self.readers.query(move |connection| list(connection, &name)).await?;
        if listed.is_nobodys {
            let name = maildrop.clone();
            match self.commit_work(Work::Claim(maildrop.mailbox.clone())).await {
                Ok(()) => listed = self.readers.query(move |connection| list(connection, &name)).await?,
                // Whoever cannot write must be able to read, and to make room: it is claimed another time.
                Err(error) => {
                    tracing::warn!(%error, %maildrop, "mail that was nobody's could not be given to its owner")
                }
            }
        }
        let Listed { entries, in_ascii, .. } = listed;
        Ok(Maildrop { entries, in_ascii, lock: Box::new(held) })
    }

    async fn read(&self, maildrop: &MaildropName, key: i64) -> Result<Box<dyn MessageReader>> {
        let (mailbox, folder) = (maildrop.mailbox.clone(), maildrop.folder.clone());
        self.read_content(move |connection| {
            let number = find_maildrop(connection, &mailbox)?.ok_or(StoreError::NotFound)?;
            let mut statement = connection.prepare_cached(
                "SELECT entry.fields, entry.body_from, message.trace, message.number, message.body_from, \
                 message.content_of, entry.folder FROM entry JOIN message ON message.number = entry.message \
                 WHERE entry.key = ?1 AND entry.maildrop = ?2",
            )?;
            let mut rows = statement.query([key, number])?;
            let row = rows.next()?.ok_or(StoreError::NotFound)?;
            if find_folder(connection, number, &folder)? != Some(row.get(6)?) {
                return Err(StoreError::NotFound);
            }
            let mut beginning: Vec<u8> = row.get(0)?;
            let edited: Option<i64> = row.get(1)?;
            if edited.is_none() {
                beginning.extend_from_slice(row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?);
            }
            let from = from_sql(row.get(4)?) + edited.map_or(0, from_sql);
            Ok(StoredContent { beginning, original: row.get::<_, Option<i64>>(5)?.unwrap_or(row.get(3)?), from })
        })
        .await
    }

    async fn read_ahead(&self, maildrop: &MaildropName, keys: &[i64]) -> Result<Vec<StoredMessage>> {
        self.read_several(maildrop, keys).await
    }

    async fn delete(&self, maildrop: &MaildropName, keys: &[i64]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        // In the order in which they lie on the pages, so that a page is written once at most.
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        let maildrop = maildrop.clone();
        if keys.len() <= deletion::ROUND {
            return self.commit_work(Work::Delete { maildrop, keys }).await;
        }
        let lock = MaildropLock::take(&self.emptied, &maildrop)?;
        let query = self.readers.query(move |connection| {
            let place = deletion::locate(connection, &maildrop, &keys)?;
            Ok(Deletion::new(place, keys, lock))
        });
        let deletion = query.await?;
        self.commit_work(Work::Decide(Box::new(deletion))).await
    }

    async fn expire(&self, mailbox: &MailboxName, before: Timestamp, limit: usize) -> Result<usize> {
        self.expire_messages(mailbox, before, limit).await
    }

    async fn folders(&self, mailbox: &MailboxName) -> Result<Vec<Folder>> {
        let mailbox = mailbox.clone();
        let query = self.readers.query(move |connection| {
            let number = find_maildrop(connection, &mailbox)?;
            let mut statement =
                connection.prepare_cached("SELECT name FROM folder WHERE maildrop = ?1 ORDER BY name")?;
            let names = statement.query_map([number], |row| row.get::<_, String>(0))?;
            Ok(names
                .filter_map(|name| name.map(|name| Folder::parse(&name)).transpose())
                .collect::<rusqlite::Result<_>>()?)
        });
        query.await
    }

    async fn tenants(&self, address: &Address) -> Result<Vec<String>> {
        let name = address.canonical();
        let query = self.readers.query(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT tenant FROM maildrop WHERE name = ?1 ORDER BY tenant")?;
            let tenants = statement.query_map([name], |row| row.get(0))?;
            Ok(tenants.collect::<rusqlite::Result<_>>()?)
        });
        query.await
    }

    async fn known_mailboxes(&self, domain: &Domain, after: i64, limit: usize) -> Result<Vec<KnownMailbox>> {
        self.mailboxes_of(domain, after, limit).await
    }

    async fn erase(&self, mailbox: &MailboxName) -> Result<u64> {
        self.erase_mailbox(mailbox).await
    }

    async fn remembers(&self, mailbox: &MailboxName, what: &[String], now: Timestamp) -> Result<Vec<bool>> {
        let (name, what) = (mailbox.key(), what.to_vec());
        let query = self.readers.query(move |connection| {
            let mut statement = connection
                .prepare_cached("SELECT 1 FROM remembrance WHERE mailbox = ?1 AND what = ?2 AND until > ?3")?;
            let known = what.iter().map(|what| statement.exists(rusqlite::params![name, what, now.as_millisecond()]));
            Ok(known.collect::<rusqlite::Result<_>>()?)
        });
        query.await
    }
}

/// The messages of a maildrop.
#[derive(Default)]
struct Listed {
    entries: Vec<MaildropEntry>,
    /// As [`Maildrop::in_ascii`].
    in_ascii: Vec<(i64, u64)>,
    /// Whether there are some at its address that are nobody's yet.
    is_nobodys: bool,
}

fn list(connection: &Connection, name: &MaildropName) -> Result<Listed> {
    let Some(maildrop) = find_maildrop(connection, &name.mailbox)? else { return Ok(Listed::default()) };
    let is_nobodys = !name.mailbox.tenant.is_empty()
        && connection
            .prepare_cached("SELECT 1 FROM maildrop WHERE name = ?1 AND tenant = ''")?
            .exists([name.mailbox.address.canonical()])?;
    let Some(folder) = find_folder(connection, maildrop, &name.folder)? else {
        return Ok(Listed { is_nobodys, ..Listed::default() });
    };
    let mut statement = connection
        .prepare_cached("SELECT key, octets, run FROM entry WHERE maildrop = ?1 AND folder = ?2 ORDER BY key")?;
    let entries = statement.query_map([maildrop, folder], |row| {
        let (key, octets, run) = (row.get(0)?, row.get::<_, i64>(1)?, row.get(2)?);
        Ok(MaildropEntry { key, run, octets: from_sql(octets) })
    })?;
    let entries = entries.collect::<rusqlite::Result<_>>()?;
    let mut statement = connection.prepare_cached(
        "SELECT key, ascii_octets FROM entry INDEXED BY entry_in_ascii \
         WHERE maildrop = ?1 AND folder = ?2 AND ascii_octets IS NOT NULL ORDER BY key",
    )?;
    let in_ascii = statement.query_map([maildrop, folder], |row| Ok((row.get(0)?, from_sql(row.get(1)?))))?;
    Ok(Listed { entries, in_ascii: in_ascii.collect::<rusqlite::Result<_>>()?, is_nobodys })
}

//! Deleting messages of a maildrop. A few go in one transaction. Many would keep everybody's mail waiting behind it: they are
//! decided on in a small transaction, which writes down what is to go, and go in rounds, each of which shares a transaction
//! with the mail that waits. All or nothing it is all the same (RFC 1939 §6): what was decided on and not finished when the
//! process ended, the next one finishes before it serves anybody, or where the volume has no room for that as soon as it has.
//! Called by [`super::committer`] and [`super::recovery`].

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use paquebot_config::Address;
use rusqlite::{Connection, OptionalExtension, params};

use super::transaction::{Unreferenced, find_folder, find_maildrop, release};
use super::{MaildropLock, OpenMaildrops};
use crate::store::outgoing::MessageNumber;
use crate::store::{Folder, MailboxName, MaildropName, Result, StoreError};

/// Messages that go at once: a few milliseconds' work, which is what others wait longer for their own.
pub(super) const ROUND: usize = 256;
/// Messages in one transaction where nobody waits.
const BEFORE_SERVING: usize = 8192;

/// Many messages that go in rounds.
#[derive(Debug)]
pub(super) struct Deletion {
    /// The numbers of the maildrop and the folder that had them when they were looked up.
    place: (i64, i64),
    /// In ascending order. They go wherever they are by then: a maildrop of nobody's may have become somebody's meanwhile,
    /// and no key is given twice.
    keys: Vec<i64>,
    /// How many are gone.
    done: usize,
    /// Whether its last round failed, which was told.
    is_interrupted: bool,
    /// Keeps sessions from listing what is half gone, also when the one that asked has ended.
    #[expect(dead_code, reason = "held until the last round")]
    lock: Option<Arc<MaildropLock>>,
}

impl Deletion {
    pub(super) fn new(place: (i64, i64), keys: Vec<i64>, lock: MaildropLock) -> Self {
        Self { place, keys, done: 0, is_interrupted: false, lock: Some(Arc::new(lock)) }
    }

    /// Writes down what is to go. Once this is durable, it goes.
    pub(super) fn decide(&self, connection: &Connection) -> Result<()> {
        let (maildrop, folder) = self.place;
        let keys: Vec<u8> = self.keys.iter().flat_map(|key| key.to_be_bytes()).collect();
        connection
            // One that could not be finished may have begun with the same message: this one has been asked for since.
            .prepare_cached("INSERT OR REPLACE INTO deletion (first, maildrop, folder, keys) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![self.keys.first(), maildrop, folder, keys])?;
        Ok(())
    }

    /// Does the next round, which [`Deletion::count_round`] counts once it is durable.
    pub(super) fn perform_round(&self, connection: &Connection, unreferenced: &mut Unreferenced) -> Result<()> {
        let end = self.end_of_round();
        remove(connection, None, self.keys.get(self.done..end).unwrap_or_default(), unreferenced)?;
        if end == self.keys.len() {
            forget(connection, self.keys.first().copied())?;
        }
        Ok(())
    }

    /// After a round failed. It is tried again and again: whoever reads the log hears of it once.
    pub(super) fn interrupt(&mut self, error: &StoreError) {
        if !std::mem::replace(&mut self.is_interrupted, true) {
            tracing::warn!(%error, "a deletion of many messages is interrupted, and goes on by itself when it can");
        }
    }

    /// After a round was committed; whether it was the last one.
    pub(super) fn count_round(&mut self) -> bool {
        self.is_interrupted = false;
        self.done = self.end_of_round();
        self.done == self.keys.len()
    }

    fn end_of_round(&self) -> usize {
        self.keys.len().min(self.done + ROUND)
    }
}

/// Deletes a few messages: all of them or none.
pub(super) fn delete(
    connection: &Connection,
    maildrop: &MaildropName,
    keys: &[i64],
    unreferenced: &mut Unreferenced,
) -> Result<()> {
    let place = place(connection, maildrop)?;
    let removed = remove(connection, Some(place), keys, unreferenced)?;
    if removed == keys.len() { Ok(()) } else { Err(StoreError::NotFound) }
}

/// The numbers of a maildrop and its folder, if it has all of these messages there; the keys ascend.
pub(super) fn locate(connection: &Connection, maildrop: &MaildropName, keys: &[i64]) -> Result<(i64, i64)> {
    let (number, folder) = place(connection, maildrop)?;
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return Ok((number, folder)) };
    let mut statement = connection.prepare_cached(
        "SELECT key FROM entry WHERE maildrop = ?1 AND folder = ?2 AND key BETWEEN ?3 AND ?4 ORDER BY key",
    )?;
    let mut rows = statement.query([number, folder, *first, *last])?;
    let mut wanted = keys.iter().peekable();
    while let Some(row) = rows.next()? {
        let key: i64 = row.get(0)?;
        wanted.next_if(|wanted| **wanted == key);
    }
    if wanted.peek().is_none() { Ok((number, folder)) } else { Err(StoreError::NotFound) }
}

/// Finishes what a process that ended had decided on. Nobody is served yet. One that cannot be finished keeps nobody from
/// being served: it stays for the next start, and what it was to delete is seen until then. Yields those for which the volume
/// has no room: they go on when it has ([`resume`]).
pub(super) fn finish_all(connection: &mut Connection, bodies: &Path) -> Result<Vec<i64>> {
    let mut statement = connection.prepare("SELECT first FROM deletion ORDER BY first")?;
    let begun: Vec<i64> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    drop(statement);
    let mut without_room = Vec::new();
    for first in begun {
        match finish(connection, bodies, first) {
            Ok(messages) => tracing::info!(messages, "finished a deletion that the last process began"),
            // That is not this row's affair.
            Err(error @ StoreError::Volume(_)) => return Err(error),
            Err(StoreError::DiskFull) => {
                without_room.push(first);
                tracing::warn!(
                    row = first,
                    "the volume of the mail store has no room to finish a deletion that the last process began: it goes on by \
                     itself when there is some; make the volume larger or delete other mail"
                );
            }
            Err(error) => tracing::error!(
                %error,
                row = first,
                "a deletion that the last process began cannot be finished, and its messages are seen again: stop the server, \
                 let `paquebot-server store check` say what is wrong, and `paquebot-server store repair` mend it"
            ),
        }
    }
    Ok(without_room)
}

/// The deletions of these rows, to go on beside others' work. Nobody opens their maildrops until they are done.
pub(super) fn resume(connection: &Connection, rows: &[i64], emptied: &OpenMaildrops) -> Result<Vec<Deletion>> {
    let mut locks: HashMap<(i64, i64), Option<Arc<MaildropLock>>> = HashMap::new();
    let mut deletions = Vec::new();
    for first in rows {
        let place: (i64, i64) =
            connection.query_row("SELECT maildrop, folder FROM deletion WHERE first = ?1", [first], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let lock = match locks.get(&place) {
            Some(lock) => lock.clone(),
            None => {
                // One that is taken is another deletion's of the same address.
                let taken = name_of(connection, place)?.and_then(|name| MaildropLock::take(emptied, &name).ok());
                let lock = taken.map(Arc::new);
                locks.insert(place, lock.clone());
                lock
            }
        };
        deletions.push(Deletion { place, keys: keys_of(connection, *first)?, done: 0, is_interrupted: true, lock });
    }
    Ok(deletions)
}

/// What a maildrop and folder of these numbers are called; `None` where they are not there, so that nobody can open them.
fn name_of(connection: &Connection, (maildrop, folder): (i64, i64)) -> Result<Option<MaildropName>> {
    let found: Option<(String, String, String)> = connection
        .prepare_cached(
            "SELECT maildrop.name, maildrop.tenant, coalesce(folder.name, '') FROM maildrop \
             LEFT JOIN folder ON folder.number = ?2 AND folder.maildrop = maildrop.number WHERE maildrop.number = ?1",
        )?
        .query_row([maildrop, folder], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    Ok(found.and_then(|(name, tenant, folder)| {
        let mailbox = MailboxName { address: Address::parse(&name).ok()?, tenant: tenant.into() };
        let folder = if folder.is_empty() { Folder::inbox() } else { Folder::parse(&folder)? };
        Some(MaildropName { mailbox, folder })
    }))
}

/// Finishes one; yields how many messages it was about.
fn finish(connection: &mut Connection, bodies: &Path, first: i64) -> Result<usize> {
    let keys = keys_of(connection, first)?;
    for keys in keys.chunks(BEFORE_SERVING) {
        let mut unreferenced = Vec::new();
        let transaction = connection.transaction()?;
        remove(&transaction, None, keys, &mut unreferenced)?;
        transaction.commit()?;
        for name in unreferenced {
            // What stays is found as a file of no message.
            let _ = std::fs::remove_file(bodies.join(name));
        }
        // Else the log would grow by all that is deleted.
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    }
    forget(connection, Some(first))?;
    Ok(keys.len())
}

/// What a deletion is about.
fn keys_of(connection: &Connection, first: i64) -> Result<Vec<i64>> {
    let keys: Vec<u8> =
        connection.query_row("SELECT keys FROM deletion WHERE first = ?1", [first], |row| row.get(0))?;
    match keys.as_chunks() {
        (keys, []) => Ok(keys.iter().map(|key| i64::from_be_bytes(*key)).collect()),
        _ => Err(StoreError::Corrupt(format!("table deletion, row {first}: its list of messages is cut off"))),
    }
}

fn forget(connection: &Connection, first: Option<i64>) -> Result<()> {
    connection.prepare_cached("DELETE FROM deletion WHERE first = ?1")?.execute([first])?;
    Ok(())
}

/// The numbers of a maildrop and its folder.
fn place(connection: &Connection, maildrop: &MaildropName) -> Result<(i64, i64)> {
    let number = find_maildrop(connection, &maildrop.mailbox)?.ok_or(StoreError::NotFound)?;
    let folder = find_folder(connection, number, &maildrop.folder)?.ok_or(StoreError::NotFound)?;
    Ok((number, folder))
}

/// Deletes those that are there, of one maildrop's folder where one is named, and counts them.
fn remove(
    connection: &Connection,
    within: Option<(i64, i64)>,
    keys: &[i64],
    unreferenced: &mut Unreferenced,
) -> Result<usize> {
    let (maildrop, folder) = within.unzip();
    let mut gone_of: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for key in keys {
        let gone: Option<(i64, i64, i64)> = connection
            .prepare_cached(
                "DELETE FROM entry WHERE key = ?1 AND (?2 IS NULL OR maildrop = ?2) AND (?3 IS NULL OR folder = ?3) \
                 RETURNING maildrop, message, octets",
            )?
            .query_row(params![key, maildrop, folder], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((owner, message, freed)) = gone else { continue };
        let (messages, octets) = gone_of.entry(owner).or_default();
        (*messages, *octets) = (*messages + 1, *octets + freed);
        match release(connection, MessageNumber(message), unreferenced) {
            // A damaged store must not keep what was decided on from going, nor the server from starting.
            Err(StoreError::NotFound) => {
                tracing::warn!(
                    key,
                    message,
                    "an entry without its message went; let `paquebot-server store check` look"
                );
            }
            released => released?,
        }
    }
    let mut removed = 0;
    for (owner, (messages, octets)) in gone_of {
        connection
            .prepare_cached("UPDATE maildrop SET messages = messages - ?2, octets = octets - ?3 WHERE number = ?1")?
            .execute([owner, messages, octets])?;
        removed += usize::try_from(messages).unwrap_or_default();
    }
    Ok(removed)
}

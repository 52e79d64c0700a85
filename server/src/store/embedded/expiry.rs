//! Mail that is older than its mailbox keeps it. Called by [`crate::retention`] through [`crate::store::Store::expire`].
//!
//! A POP3 session was told what is there, and that stays so until it ends (RFC 1939 §8): a folder that somebody has open
//! waits for the next time. While some of a folder is deleted nobody opens it; that takes one short transaction.

use jiff::Timestamp;
use rusqlite::Connection;

use super::transaction::{Work, find_folder, find_maildrop, to_sql};
use super::{EmbeddedStore, Result};
use crate::store::{Folder, MailboxName, MaildropName, Store as _, StoreError};

impl EmbeddedStore {
    pub(super) async fn expire_messages(
        &self,
        mailbox: &MailboxName,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize> {
        let mut folders = self.folders(mailbox).await?;
        folders.push(Folder::inbox());
        let mut gone = 0;
        for folder in folders {
            let name = MaildropName { mailbox: mailbox.clone(), folder };
            // Most of the time nothing is due: that takes no lock, and writes nothing.
            if gone >= limit || self.due(&name, before, 1).await?.is_empty() {
                continue;
            }
            let Ok(_held) = self.hold(&name) else { continue };
            let keys = self.due(&name, before, limit - gone).await?;
            let count = keys.len();
            match self.commit_work(Work::Delete { maildrop: name, keys }).await {
                Ok(()) => gone += count,
                // Somebody has erased the maildrop meanwhile.
                Err(StoreError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }

    /// Keys of the oldest messages of a maildrop that were received before a time.
    async fn due(&self, name: &MaildropName, before: Timestamp, limit: usize) -> Result<Vec<i64>> {
        let name = name.clone();
        self.readers.query(move |connection| select(connection, &name, before, limit)).await
    }
}

/// Entries have their keys in the order of arrival. A message that waited in the queue for room may lie behind younger
/// ones; its turn comes when it is among the first. What comes from the future, by a clock that was wrong once, holds back
/// nobody behind it.
fn select(connection: &Connection, name: &MaildropName, before: Timestamp, limit: usize) -> Result<Vec<i64>> {
    let Some(maildrop) = find_maildrop(connection, &name.mailbox)? else { return Ok(Vec::new()) };
    let Some(folder) = find_folder(connection, maildrop, &name.folder)? else { return Ok(Vec::new()) };
    let mut statement = connection.prepare_cached(
        "SELECT entry.key, message.received_at FROM entry JOIN message ON message.number = entry.message \
         WHERE entry.maildrop = ?1 AND entry.folder = ?2 AND message.received_at <= ?4 ORDER BY entry.key LIMIT ?3",
    )?;
    let now = Timestamp::now().as_millisecond();
    let mut rows = statement.query([maildrop, folder, to_sql(limit as u64), now])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? >= before.as_millisecond() {
            break;
        }
        keys.push(row.get(0)?);
    }
    Ok(keys)
}

//! Erasing what a mailbox left: its mail, what its filter remembers, and the names of its folders. It claims nothing: what is
//! nobody's stays so. Called through [`crate::store::Store`] by [`crate::store::erase`].

use paquebot_config::{Address, Domain};
use rusqlite::{Connection, params};

use super::transaction::{Work, find_maildrop, to_sql};
use super::{EmbeddedStore, Listed, Result, list};
use crate::store::{Folder, KnownMailbox, MailboxName, MaildropName, Store as _, StoreError};

impl EmbeddedStore {
    /// See [`crate::store::Store::erase`].
    pub(super) async fn erase_mailbox(&self, mailbox: &MailboxName) -> Result<u64> {
        let mut folders = self.folders(mailbox).await?;
        folders.push(Folder::inbox());
        let mut erased = 0;
        for folder in folders {
            let name = MaildropName { mailbox: mailbox.clone(), folder };
            let keys: Vec<i64> = {
                // No session may have it open.
                let _held = self.hold(&name)?;
                let name = name.clone();
                let Listed { entries, .. } = self.readers.query(move |connection| list(connection, &name)).await?;
                entries.iter().map(|entry| entry.key).collect()
            };
            self.delete(&name, &keys).await?;
            erased += keys.len() as u64;
        }
        self.commit_work(Work::Forget(mailbox.clone())).await?;
        Ok(erased)
    }

    /// See [`crate::store::Store::known_mailboxes`].
    pub(super) async fn mailboxes_of(&self, domain: &Domain, after: i64, limit: usize) -> Result<Vec<KnownMailbox>> {
        let ending = format!("@{domain}");
        let query = self.readers.query(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT number, name, tenant FROM maildrop WHERE number > ?1 AND substr(name, -length(?2)) = ?2 \
                 ORDER BY number LIMIT ?3",
            )?;
            let rows = statement.query_map(params![after, ending, to_sql(limit as u64)], |row| {
                let (number, name, tenant) = (row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?);
                let name = match Address::parse(&name) {
                    Ok(address) => Ok(MailboxName { address, tenant: tenant.into() }),
                    Err(error) => Err(StoreError::Failed(format!(
                        "the maildrop {name:?} cannot be read as a mailbox ({error}); let `paquebot-server store check` look"
                    ))),
                };
                Ok(KnownMailbox { number, name })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        });
        query.await
    }
}

/// Lets go of what filters remember of a mailbox, and of the names of its folders that hold nothing.
pub(super) fn forget(connection: &Connection, mailbox: &MailboxName) -> Result<()> {
    connection.prepare_cached("DELETE FROM remembrance WHERE mailbox = ?1")?.execute([mailbox.key()])?;
    if let Some(number) = find_maildrop(connection, mailbox)? {
        connection
            .prepare_cached(
                "DELETE FROM folder WHERE maildrop = (SELECT number FROM maildrop WHERE number = ?1 AND tenant = ?2) \
                 AND NOT EXISTS (SELECT 1 FROM entry WHERE maildrop = ?1 AND entry.folder = folder.number)",
            )?
            .execute(params![number, &*mailbox.tenant])?;
    }
    Ok(())
}

//! Whose a maildrop is that nobody had: mail that was there before tenants were told apart, that a configuration without
//! tenants took, or that was imported. Called by [`super::transaction`], and by `serve` when the server starts.

use futures::future::join_all;
use paquebot_config::{Address, Configuration};
use rusqlite::{Connection, OptionalExtension, params};

use super::transaction::{Work, to_sql};
use super::{EmbeddedStore, Result};
use crate::store::MailboxName;

/// Maildrops that are given to their owners at a time.
const PAGE: usize = 256;

impl EmbeddedStore {
    /// Gives each maildrop that is nobody's to the tenant that has its address in a configuration, so that it does not go
    /// to whoever has the address by the time of its first use. Yields how many there were.
    ///
    /// # Errors
    /// What the store says. The rest stays nobody's until it is used.
    pub async fn give_to_owners(&self, configuration: &Configuration) -> Result<usize> {
        let (mut given, mut after) = (0, i64::MIN);
        loop {
            let page = self.readers.query(move |connection| nobodys(connection, after, PAGE)).await?;
            let Some((last, _)) = page.last() else { return Ok(given) };
            after = *last;
            let owners = page.iter().filter_map(|(_, name)| {
                let mailbox = configuration.mailbox(&Address::parse(name).ok()?)?;
                (!mailbox.tenant.is_empty()).then(|| MailboxName::from(mailbox))
            });
            for claimed in join_all(owners.map(|owner| self.commit_work(Work::Claim(owner)))).await {
                claimed?;
                given += 1;
            }
        }
    }
}

/// Numbers and names of maildrops that are nobody's, after a number.
fn nobodys(connection: &Connection, after: i64, limit: usize) -> Result<Vec<(i64, String)>> {
    let mut statement = connection.prepare_cached(
        "SELECT number, name FROM maildrop WHERE number > ?1 AND tenant = '' ORDER BY number LIMIT ?2",
    )?;
    let rows = statement.query_map([after, to_sql(limit as u64)], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Makes a maildrop that is nobody's a tenant's, with what its filter remembers. A tenant that has one already gets the
/// messages into that: none of them may be out of everybody's sight.
pub(super) fn claim(connection: &Connection, mailbox: &MailboxName) -> Result<()> {
    if mailbox.tenant.is_empty() {
        return Ok(());
    }
    let (name, tenant) = (mailbox.address.canonical(), &*mailbox.tenant);
    let number = |tenant: &str| {
        connection
            .prepare_cached("SELECT number FROM maildrop WHERE name = ?1 AND tenant = ?2")?
            .query_row(params![name, tenant], |row| row.get(0))
            .optional()
    };
    let nobodys: Option<i64> = number("")?;
    let Some(nobodys) = nobodys else { return Ok(()) };
    match number(tenant)? {
        None => {
            connection
                .prepare_cached("UPDATE maildrop SET tenant = ?2 WHERE number = ?1")?
                .execute(params![nobodys, tenant])?;
        }
        Some(own) => merge(connection, nobodys, own)?,
    }
    let before = MailboxName::from(mailbox.address.clone()).key();
    connection
        .prepare_cached("UPDATE OR REPLACE remembrance SET mailbox = ?2 WHERE mailbox = ?1")?
        .execute([before, mailbox.key()])?;
    Ok(())
}

/// Moves all messages of a maildrop to another one, each into the folder of the same name. The keys stay, and with them the
/// unique-ids.
fn merge(connection: &Connection, from: i64, to: i64) -> Result<()> {
    let both = [from, to];
    for statement in [
        "INSERT OR IGNORE INTO folder (maildrop, name) SELECT ?2, name FROM folder WHERE maildrop = ?1",
        "UPDATE entry SET maildrop = ?2, folder = coalesce((SELECT new.number FROM folder AS old \
         JOIN folder AS new ON new.maildrop = ?2 AND new.name = old.name WHERE old.number = entry.folder), 0) \
         WHERE maildrop = ?1",
        "UPDATE maildrop SET messages = messages + (SELECT messages FROM maildrop WHERE number = ?1), \
         octets = octets + (SELECT octets FROM maildrop WHERE number = ?1) WHERE number = ?2",
        "UPDATE deletion SET maildrop = ?2 WHERE maildrop = ?1",
    ] {
        connection.prepare_cached(statement)?.execute(both)?;
    }
    for statement in ["DELETE FROM folder WHERE maildrop = ?1", "DELETE FROM maildrop WHERE number = ?1"] {
        connection.prepare_cached(statement)?.execute([from])?;
    }
    tracing::info!(from, to, "mail that was nobody's was put to its owner's");
    Ok(())
}

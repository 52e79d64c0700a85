//! What an operator does with a store from the command line: [`check`], [`repair`], [`backup`] and restore, [`export`] and
//! [`import`]. Called by the subcommands `paquebot-server store …` alone. Everything blocks.

pub mod backup;
pub mod check;
mod contents;
pub mod export;
pub mod import;
pub mod mbox;
pub mod repair;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use rusqlite::Connection;

use self::contents::write_content;
use super::schema;
use super::transaction::from_sql;
use crate::store::{Result, StoreError};

/// Where message files are, below the directory of the store.
const BODIES: &str = "bodies";

/// A connection that reads, also while a server has the store. It keeps to one state of the store until it is dropped.
fn snapshot(directory: &Path) -> Result<Connection> {
    let path = directory.join(schema::DATABASE_FILE);
    if !path.exists() {
        return Err(StoreError::Failed(format!(
            "there is no mail store in {}: {} is missing",
            directory.display(),
            path.display()
        )));
    }
    let connection = schema::open_reader(directory)?;
    schema::check_version(&connection, &path)?;
    connection.execute_batch("BEGIN")?;
    // The transaction begins with the first look.
    let _: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(connection)
}

/// Writes one maildrop entry's message, as RETR would send it; yields a sentence where it is not what was once written.
fn write_entry(connection: &Connection, bodies: &Path, key: i64, to: &mut dyn Write) -> Result<Option<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT entry.fields, entry.body_from, message.trace, message.body_from, \
         coalesce(message.content_of, message.number) FROM entry JOIN message ON message.number = entry.message \
         WHERE entry.key = ?1",
    )?;
    let mut rows = statement.query([key])?;
    let row = rows.next()?.ok_or(StoreError::NotFound)?;
    let edited: Option<i64> = row.get(1)?;
    to.write_all(&row.get::<_, Vec<u8>>(0)?)?;
    if edited.is_none() {
        to.write_all(&row.get::<_, Vec<u8>>(2)?)?;
    }
    let from = from_sql(row.get(3)?) + edited.map_or(0, from_sql);
    write_content(connection, bodies, row.get(4)?, from, to)
}

/// Refuses to take the maildrops of several tenants that have one address for one.
fn is_one_tenants(mailbox: &str, tenants: &[impl AsRef<str>]) -> Result<()> {
    if tenants.len() < 2 {
        return Ok(());
    }
    let named: Vec<&str> = tenants
        .iter()
        .map(|tenant| Some(tenant.as_ref()).filter(|tenant| !tenant.is_empty()).unwrap_or("''"))
        .collect();
    let reason = format!("{mailbox} is a mailbox of several tenants: name one of {} by --tenant", named.join(", "));
    Err(StoreError::Failed(reason))
}

/// Makes a directory's entries durable.
fn sync_directory(directory: &Path) -> Result<()> {
    Ok(File::open(directory)?.sync_all()?)
}

#[cfg(test)]
mod content_tests;
#[cfg(test)]
mod tests;

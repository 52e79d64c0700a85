//! What an operator does with a store from the command line: [`check`], [`repair`], [`backup`] and restore, [`export`] and
//! [`import`]. Called by the subcommands `paquebot-server store …` alone. Everything blocks.

pub mod backup;
pub mod check;
pub mod export;
pub mod import;
pub mod mbox;
pub mod repair;

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use rusqlite::Connection;

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

/// Writes one maildrop entry's message, as RETR would send it.
fn write_entry(connection: &Connection, bodies: &Path, key: i64, to: &mut dyn Write) -> Result<()> {
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

/// Writes the content of a message from an octet on.
fn write_content(connection: &Connection, bodies: &Path, message: i64, from: u64, to: &mut dyn Write) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT message.file, message.body_octets, body.bytes FROM message \
         LEFT JOIN body ON body.message = message.number WHERE message.number = ?1",
    )?;
    let mut rows = statement.query([message])?;
    let row = rows.next()?.ok_or(StoreError::NotFound)?;
    match row.get::<_, Option<String>>(0)? {
        Some(name) => {
            let path = bodies.join(name);
            let damaged = |error: std::io::Error| StoreError::Corrupt(format!("{}: {error}", path.display()));
            let mut file = File::open(&path).map_err(damaged)?;
            std::io::copy(&mut Read::take(&mut file, from), &mut std::io::sink()).map_err(damaged)?;
            let copied = std::io::copy(&mut file, to)?;
            let expected = from_sql(row.get(1)?).saturating_sub(from);
            if copied != expected {
                let found = format!("{}: ends at octet {} of {}", path.display(), copied + from, expected + from);
                return Err(StoreError::Corrupt(found));
            }
        }
        None => {
            let bytes: Option<Vec<u8>> = row.get(2)?;
            let bytes = bytes.ok_or_else(|| StoreError::Corrupt(format!("message {message} has no content")))?;
            to.write_all(bytes.get(usize::try_from(from).unwrap_or(usize::MAX)..).unwrap_or_default())?;
        }
    }
    Ok(())
}

/// Makes a directory's entries durable.
fn sync_directory(directory: &Path) -> Result<()> {
    Ok(File::open(directory)?.sync_all()?)
}

#[cfg(test)]
mod tests;

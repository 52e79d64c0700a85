//! Puts right what can be put right while no server runs. It never deletes mail: what cannot be served goes to the
//! directory `quarantine` beside the database, as far as it can be read.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use rusqlite::Connection;

use super::check::{WRONG_COUNTERS, WRONG_DELETIONS, WRONG_REFERENCES, check, gather_references};
use super::contents::{Depth, broken_contents, write_content};
use super::{BODIES, sync_directory};
use crate::store::embedded::transaction::from_sql;
use crate::store::embedded::{recovery, schema};
use crate::store::{Result, StoreError};

/// Where messages go that cannot be served.
const QUARANTINE: &str = "quarantine";

/// Repairs the store of a directory; yields what was done, one sentence each.
///
/// # Errors
/// When a server has the store, or the database itself cannot be read: then a backup is the way.
pub fn repair(directory: &Path) -> Result<Vec<String>> {
    let lock = recovery::take_lock(directory)?;
    let report = check(directory)?;
    if report.pages_damaged {
        // Opening it does not look at the pages of a large one, and writing to it might destroy what can still be read.
        return Err(unrepairable(report.findings.first().map_or("", String::as_str)));
    }
    let connection = schema::open_database(directory, false).map_err(|error| match error {
        StoreError::Corrupt(what) => unrepairable(&what),
        other => other,
    })?;
    if report.is_whole() {
        return Ok(Vec::new());
    }
    let bodies = directory.join(BODIES);
    let mut done = Vec::new();
    connection.execute_batch("BEGIN IMMEDIATE")?;
    for table in ["entry", "recipient"] {
        let removed = connection
            .execute(&format!("DELETE FROM {table} WHERE message NOT IN (SELECT number FROM message)"), [])?;
        if removed > 0 {
            done.push(format!("removed {removed} rows of the table {table} that had no message"));
        }
    }
    // What they were to delete stays. Where the maildrop is gone there is nothing left of it.
    let given_up = connection
        .execute(&format!("DELETE FROM deletion WHERE first IN (SELECT first FROM ({WRONG_DELETIONS}))"), [])?;
    if given_up > 0 {
        done.push(format!(
            "gave up {given_up} deletions that cannot be finished: their messages are there, delete them again"
        ));
    }
    for (number, finding) in broken_contents(&connection, &bodies, Depth::Octets)?.0 {
        quarantine(&connection, directory, number, &finding)?;
        done.push(format!("{finding}: moved to {}", directory.join(QUARANTINE).display()));
    }
    while count_references(&connection, directory, &mut done)? {}
    for (number, _, _) in triples(&connection, &format!("SELECT number, 0, 0 FROM ({WRONG_COUNTERS})"))? {
        connection.execute(
            "UPDATE maildrop SET (messages, octets) = \
             (SELECT count(*), coalesce(sum(octets), 0) FROM entry WHERE maildrop = ?1) WHERE number = ?1",
            [number],
        )?;
        done.push(format!("maildrop row {number}: counted its messages anew"));
    }
    connection.execute_batch("COMMIT")?;
    drop(lock);
    Ok(done)
}

/// Counts references anew; whether messages went that held references themselves, so that others are wrong now.
fn count_references(connection: &Connection, directory: &Path, done: &mut Vec<String>) -> Result<bool> {
    gather_references(connection)?;
    let mut has_changed = false;
    for (number, _, actual) in triples(connection, WRONG_REFERENCES)? {
        if actual == 0 {
            quarantine(connection, directory, number, "nobody receives it")?;
            let place = directory.join(QUARANTINE);
            done.push(format!("message row {number} belonged to nobody: moved to {}", place.display()));
            has_changed = true;
        } else {
            connection.execute("UPDATE message SET message_references = ?2 WHERE number = ?1", [number, actual])?;
            done.push(format!("message row {number}: references are {actual} now"));
        }
    }
    Ok(has_changed)
}

fn unrepairable(what: &str) -> StoreError {
    StoreError::Corrupt(format!(
        "{what}; a database with damaged pages is not repaired here: restore a backup, or export what can be read first"
    ))
}

fn triples(connection: &Connection, query: &str) -> Result<Vec<(i64, i64, i64)>> {
    let mut statement = connection.prepare(query)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Writes what there is of a message, its envelope first, and takes it and what comes of it out of the store. Files stay
/// in quarantine under their own names.
fn quarantine(connection: &Connection, directory: &Path, number: i64, why: &str) -> Result<()> {
    let place = directory.join(QUARANTINE);
    fs::create_dir_all(&place)?;
    let (id, file): (String, Option<String>) =
        connection.query_row("SELECT id, file FROM message WHERE number = ?1", [number], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let mut note = File::create(place.join(format!("{id}.txt")))?;
    writeln!(note, "message {id}: {why}")?;
    for (kind, query) in [
        (
            "maildrop",
            "SELECT trim(name || ' ' || tenant) FROM maildrop WHERE number IN (SELECT maildrop FROM entry WHERE message = ?1)",
        ),
        ("recipient", "SELECT trim(address || ' ' || coalesce(tenant, '')) FROM recipient WHERE message = ?1"),
        (
            "reverse-path",
            "SELECT trim(coalesce(reverse_path, '<>') || ' ' || coalesce(sender_tenant, '')) FROM message WHERE number = ?1",
        ),
    ] {
        let mut statement = connection.prepare(query)?;
        for name in statement.query_map([number], |row| row.get::<_, String>(0))? {
            writeln!(note, "{kind}: {}", name?)?;
        }
    }
    note.sync_all()?;
    let mut content = File::create(place.join(format!("{id}.eml")))?;
    let (trace, original, from): (Vec<u8>, i64, i64) = connection.query_row(
        "SELECT trace, coalesce(content_of, number), body_from FROM message WHERE number = ?1",
        [number],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    content.write_all(&trace)?;
    // Octets that are not what was written are said in the note.
    if let Err(error) = write_content(connection, &directory.join(BODIES), original, from_sql(from), &mut content) {
        tracing::warn!(%error, message = %id, "its content is kept as far as it can be read");
    }
    content.sync_all()?;
    sync_directory(&place)?;
    let derived: Vec<i64> = connection
        .prepare("SELECT number FROM message WHERE content_of = ?1")?
        .query_map([number], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for number in derived {
        quarantine(connection, directory, number, why)?;
    }
    for query in [
        "DELETE FROM entry WHERE message = ?1",
        "DELETE FROM recipient WHERE message = ?1",
        "DELETE FROM body WHERE message = ?1",
        "DELETE FROM message WHERE number = ?1",
    ] {
        connection.execute(query, [number])?;
    }
    if let Some(name) = file {
        // The whole file, too: the copy above ends where reading ended. A second link, so that a repair that is cut off
        // leaves the first in place; the next start removes that one.
        let _ = fs::hard_link(directory.join(BODIES).join(&name), place.join(format!("{id}.body")));
    }
    Ok(())
}

//! The contents of messages, in rows and in files: whether they are what was written, and reading them. Used by all tools.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use rusqlite::{Connection, Row};

use crate::store::checksum::{self, Summing};
use crate::store::embedded::transaction::from_sql;
use crate::store::{Result, StoreError};

/// Octets of a file that are read at once.
const PIECE: usize = 64 * 1024;

/// How closely contents are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Whether they are there, and how long.
    Sizes,
    /// Every octet, where there are checksums.
    Octets,
}

/// A message whose content is not whole: its number, and what is wrong.
pub(super) type Broken = (i64, String);

/// Messages whose content is not whole, and the names of all message files.
pub(super) fn broken_contents(
    connection: &Connection,
    bodies: &Path,
    depth: Depth,
) -> Result<(Vec<Broken>, HashSet<String>)> {
    let mut statement = connection.prepare(
        "SELECT message.number, message.id, message.file, message.body_octets, length(body.bytes), message.checksums, \
         CASE WHEN ?1 AND message.checksums IS NOT NULL THEN body.bytes END FROM message \
         LEFT JOIN body ON body.message = message.number WHERE message.content_of IS NULL",
    )?;
    let (mut broken, mut named) = (Vec::new(), HashSet::new());
    let mut rows = statement.query([depth == Depth::Octets])?;
    while let Some(row) = rows.next()? {
        if let Some(finding) = examine(row, bodies, depth)? {
            broken.push((row.get(0)?, finding));
        }
        named.extend(row.get::<_, Option<String>>(2)?);
    }
    let mut statement = connection.prepare(
        "SELECT number, id, content_of FROM message \
         WHERE content_of IS NOT NULL AND content_of NOT IN (SELECT number FROM message)",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (number, id, original): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        broken.push((
            number,
            format!(
                "table message, row {number}: the content of message {id} is that of row {original}, which is missing"
            ),
        ));
    }
    Ok((broken, named))
}

/// What is wrong with one message's content.
fn examine(row: &Row<'_>, bodies: &Path, depth: Depth) -> Result<Option<String>> {
    let (number, id, file): (i64, String, Option<String>) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let expected = from_sql(row.get(3)?);
    let path = file.map(|name| bodies.join(name));
    let (place, found) = match &path {
        Some(path) => (path.display().to_string(), fs::metadata(path).ok().map(|metadata| metadata.len())),
        None => ("table body".to_owned(), row.get::<_, Option<i64>>(4)?.map(from_sql)),
    };
    match found {
        None => return Ok(Some(format!("{place}: the content of message {id} (row {number}) is missing"))),
        Some(found) if found != expected => {
            return Ok(Some(format!(
                "{place}: message {id} (row {number}) ends at octet {found} instead of {expected}"
            )));
        }
        Some(_) => {}
    }
    let Some(written) = row.get_ref(5)?.as_blob_or_null().map_err(rusqlite::Error::from)? else { return Ok(None) };
    if depth == Depth::Sizes {
        return Ok(None);
    }
    let found = match &path {
        Some(path) => match sum_file(path) {
            Ok(found) => found,
            Err((octet, error)) => {
                let finding =
                    format!("{place}: message {id} (row {number}) cannot be read from octet {octet} on ({error})");
                return Ok(Some(finding));
            }
        },
        None => checksum::of(row.get_ref(6)?.as_blob().map_err(rusqlite::Error::from)?),
    };
    Ok(difference(&place, &id, number, written, &found, expected))
}

/// The sentence about octets that changed.
fn difference(place: &str, id: &str, number: i64, written: &[u8], found: &[u8], octets: u64) -> Option<String> {
    checksum::first_difference(written, found, octets).map(|octets| {
        format!(
            "{place}: message {id} (row {number}): its octets {} to {} are not what was written (their checksum differs)",
            octets.start,
            octets.end.saturating_sub(1)
        )
    })
}

/// The checksums of a file; with an error, at which octet.
fn sum_file(path: &Path) -> std::result::Result<Vec<u8>, (u64, std::io::Error)> {
    let mut summing = Summing::default();
    let mut octets = 0;
    let mut file = File::open(path).map_err(|error| (0, error))?;
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).map_err(|error| (octets, error))?;
        if read == 0 {
            return Ok(summing.finish());
        }
        summing.add(&piece[..read]);
        octets += read as u64;
    }
}

/// Writes the content of a message from an octet on; yields a sentence where it is not what was once written.
pub(super) fn write_content(
    connection: &Connection,
    bodies: &Path,
    message: i64,
    from: u64,
    to: &mut dyn Write,
) -> Result<Option<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT message.id, message.file, message.body_octets, message.checksums, body.bytes FROM message \
         LEFT JOIN body ON body.message = message.number WHERE message.number = ?1",
    )?;
    let mut rows = statement.query([message])?;
    let row = rows.next()?.ok_or(StoreError::NotFound)?;
    let (id, file): (String, Option<String>) = (row.get(0)?, row.get(1)?);
    let octets = from_sql(row.get(2)?);
    let (place, found) = match file {
        Some(name) => {
            let path = bodies.join(name);
            let found = write_file(&path, octets, from, to)?;
            (path.display().to_string(), found)
        }
        None => {
            let bytes = row.get_ref(4)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
            let bytes =
                bytes.ok_or_else(|| StoreError::Corrupt(format!("message {id} (row {message}) has no content")))?;
            to.write_all(after(bytes, from))?;
            ("table body".to_owned(), checksum::of(bytes))
        }
    };
    let written = row.get_ref(3)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
    Ok(written.and_then(|written| difference(&place, &id, message, written, &found, octets)))
}

/// Writes a file of so many octets, from one on; yields the checksums of all of it.
fn write_file(path: &Path, octets: u64, from: u64, to: &mut dyn Write) -> Result<Vec<u8>> {
    let damaged = |error: std::io::Error| StoreError::Corrupt(format!("{}: {error}", path.display()));
    let mut file = File::open(path).map_err(damaged)?;
    let mut summing = Summing::default();
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    loop {
        let read = file.read(&mut piece).map_err(damaged)?;
        if read == 0 {
            break;
        }
        summing.add(&piece[..read]);
        to.write_all(after(&piece[..read], from.saturating_sub(at)))?;
        at += read as u64;
    }
    if at != octets {
        return Err(StoreError::Corrupt(format!("{}: ends at octet {at} of {octets}", path.display())));
    }
    Ok(summing.finish())
}

/// The octets from one on.
fn after(octets: &[u8], from: u64) -> &[u8] {
    octets.get(usize::try_from(from).unwrap_or(usize::MAX)..).unwrap_or_default()
}

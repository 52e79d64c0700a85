//! Looks at everything that a store holds, and changes nothing. A server may be serving meanwhile.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::contents::{Depth, broken_contents};
use super::{BODIES, snapshot};
use crate::store::embedded::schema::DATABASE_FILE;
use crate::store::embedded::transaction::from_sql;
use crate::store::{Result, StoreError};

/// Findings beyond so many are counted only.
const MOST_FINDINGS: usize = 1000;

/// What a check found, or an export.
#[derive(Debug, Default)]
pub struct Report {
    /// Damage, one sentence each, with file, row and offset where they are known.
    pub findings: Vec<String>,
    /// The database's pages are damaged, so that its rows were not looked at, and nothing may be written to it.
    pub pages_damaged: bool,
    /// Findings that are not listed.
    pub more: usize,
    /// Nothing to worry about.
    pub notes: Vec<String>,
    /// Messages that were looked at.
    pub messages: u64,
    /// Entries of maildrops.
    pub entries: u64,
    /// Recipients in the queue.
    pub queued: u64,
}

impl Report {
    /// Whether the store is whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    pub(super) fn find(&mut self, finding: String) {
        if self.findings.len() < MOST_FINDINGS { self.findings.push(finding) } else { self.more += 1 }
    }
}

/// Messages whose counts do not agree with the rows that refer to them.
pub(super) const WRONG_REFERENCES: &str = "
    SELECT number, message_references, actual FROM (
        SELECT message.number, message.message_references,
            (SELECT count(*) FROM temp.reference WHERE reference.message = message.number) AS actual FROM message
    ) WHERE message_references <> actual";

/// Mailboxes whose counters do not agree with their entries.
pub(super) const WRONG_COUNTERS: &str = "
    SELECT maildrop.number, trim(maildrop.name || ' ' || maildrop.tenant), maildrop.messages, maildrop.octets,
        coalesce(seen.messages, 0), coalesce(seen.octets, 0)
    FROM maildrop LEFT JOIN (SELECT maildrop AS number, count(*) AS messages, sum(octets) AS octets FROM entry
        GROUP BY maildrop) AS seen ON seen.number = maildrop.number
    WHERE (maildrop.messages, maildrop.octets) IS NOT (coalesce(seen.messages, 0), coalesce(seen.octets, 0))";

/// Gathers what refers to messages in a table of its own, which is in memory: neither table has an index for it.
pub(super) fn gather_references(connection: &Connection) -> Result<()> {
    connection.execute_batch(
        "DROP TABLE IF EXISTS temp.reference;
         CREATE TEMP TABLE reference (message INTEGER NOT NULL);
         INSERT INTO temp.reference SELECT message FROM entry;
         INSERT INTO temp.reference SELECT message FROM recipient;
         INSERT INTO temp.reference SELECT content_of FROM message WHERE content_of IS NOT NULL;
         CREATE INDEX temp.reference_by_message ON reference (message);",
    )?;
    Ok(())
}

/// Checks the store of a directory.
///
/// # Errors
/// When it cannot be looked at at all.
pub fn check(directory: &Path) -> Result<Report> {
    let mut report = Report::default();
    let connection = match snapshot(directory) {
        Err(StoreError::Corrupt(what)) => {
            report.find(format!("{}: {what}", directory.join(DATABASE_FILE).display()));
            report.pages_damaged = true;
            return Ok(report);
        }
        other => other?,
    };
    check_pages(&connection, directory, &mut report)?;
    if !report.is_whole() {
        report.pages_damaged = true;
        report.notes.push("the rows were not looked at: first the database has to be readable".to_owned());
        return Ok(report);
    }
    gather_references(&connection)?;
    check_counts(&connection, &mut report)?;
    check_deletions(&connection, &mut report)?;
    note_what_is_nobodys(&connection, &mut report)?;
    check_contents(&connection, &directory.join(BODIES), &mut report)?;
    let number = |query: &str| -> Result<u64> { Ok(from_sql(connection.query_row(query, [], |row| row.get(0))?)) };
    report.messages = number("SELECT count(*) FROM message")?;
    report.entries = number("SELECT count(*) FROM entry")?;
    report.queued = number("SELECT count(*) FROM recipient")?;
    Ok(report)
}

/// Every page of the database.
fn check_pages(connection: &Connection, directory: &Path, report: &mut Report) -> Result<()> {
    let path = directory.join(DATABASE_FILE);
    let page_size: u64 = from_sql(connection.query_row("PRAGMA page_size", [], |row| row.get(0))?);
    let mut statement = connection.prepare("PRAGMA integrity_check(100)")?;
    let mut rows = statement.query([])?;
    loop {
        match rows.next() {
            Ok(None) => return Ok(()),
            Ok(Some(row)) => {
                let verdict: String = row.get(0)?;
                for line in verdict.lines().filter(|line| *line != "ok" && !line.starts_with("***")) {
                    report.find(format!("{}: {}", path.display(), with_offset(line, page_size)));
                }
            }
            Err(error) => {
                report.find(format!("{}: {error}", path.display()));
                return Ok(());
            }
        }
    }
}

/// SQLite names pages, people look for octets.
pub(in crate::store::embedded) fn with_offset(line: &str, page_size: u64) -> String {
    let lower = line.to_ascii_lowercase();
    let page =
        lower.rsplit_once("page ").map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    match page.and_then(|digits| digits.parse::<u64>().ok()) {
        Some(page) if page > 0 => format!("{line} (at octet {} of the file)", (page - 1) * page_size),
        _ => line.to_owned(),
    }
}

fn check_counts(connection: &Connection, report: &mut Report) -> Result<()> {
    let mut statement = connection.prepare(WRONG_REFERENCES)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (number, counted, actual): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        report.find(format!("table message, row {number}: it counts {counted} references, and {actual} refer to it"));
    }
    let mut statement = connection.prepare(WRONG_COUNTERS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (number, name): (i64, String) = (row.get(0)?, row.get(1)?);
        let [messages, octets, seen, seen_octets] = [2, 3, 4, 5].map(|column| row.get::<_, i64>(column));
        report.find(format!(
            "table maildrop, row {number}: {name} counts {} messages with {} octets, and has {} with {}",
            messages?, octets?, seen?, seen_octets?
        ));
    }
    for (table, key) in [("entry", "key"), ("recipient", "key")] {
        let query = format!("SELECT {key}, message FROM {table} WHERE message NOT IN (SELECT number FROM message)");
        let mut statement = connection.prepare(&query)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (key, message): (i64, i64) = (row.get(0)?, row.get(1)?);
            report.find(format!("table {table}, row {key}: its message {message} is not there"));
        }
    }
    Ok(())
}

/// Deletions that cannot be finished: their lists are cut off, or their maildrops are gone.
pub(super) const WRONG_DELETIONS: &str = "
    SELECT first, length(keys) % 8 <> 0 OR length(keys) = 0 FROM deletion
    WHERE length(keys) % 8 <> 0 OR length(keys) = 0 OR maildrop NOT IN (SELECT number FROM maildrop)";

fn check_deletions(connection: &Connection, report: &mut Report) -> Result<()> {
    let mut statement = connection.prepare(WRONG_DELETIONS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (first, is_cut_off): (i64, bool) = (row.get(0)?, row.get(1)?);
        let what = if is_cut_off { "its list of messages is cut off" } else { "its maildrop is not there" };
        report.find(format!("table deletion, row {first}: {what}"));
    }
    let begun: i64 = connection.query_row("SELECT count(*) FROM deletion", [], |row| row.get(0))?;
    if begun > 0 {
        report.notes.push(format!(
            "{begun} deletions have begun: a server is at work on them, or finishes them when it starts"
        ));
    }
    Ok(())
}

/// Mail that is nobody's beside a tenant's of the same address.
fn note_what_is_nobodys(connection: &Connection, report: &mut Report) -> Result<()> {
    let shared: i64 = connection.query_row(
        "SELECT count(*) FROM maildrop AS nobodys WHERE tenant = '' AND messages > 0 \
         AND EXISTS (SELECT 1 FROM maildrop AS own WHERE own.name = nobodys.name AND own.tenant <> '')",
        [],
        |row| row.get(0),
    )?;
    if shared > 0 {
        report.notes.push(format!(
            "{shared} addresses of tenants have mail besides that is nobody's: the next start of a server gives it to who has \
             the address then"
        ));
    }
    Ok(())
}

fn check_contents(connection: &Connection, bodies: &Path, report: &mut Report) -> Result<()> {
    let (broken, named) = broken_contents(connection, bodies, Depth::Octets)?;
    let unknown: i64 = connection.query_row(
        "SELECT count(*) FROM message WHERE checksums IS NULL AND content_of IS NULL",
        [],
        |row| row.get(0),
    )?;
    // A server may have deleted a message since the snapshot was taken.
    connection.execute_batch("COMMIT; BEGIN")?;
    for (number, finding) in broken {
        let is_there: bool =
            connection
                .query_row("SELECT EXISTS (SELECT 1 FROM message WHERE number = ?1)", [number], |row| row.get(0))?;
        if is_there {
            report.find(finding);
        }
    }
    if unknown > 0 {
        report.notes.push(format!("{unknown} messages have no checksums: an older version accepted them"));
    }
    let strangers = strangers(bodies, &named)?;
    if !strangers.is_empty() {
        report.notes.push(format!(
            "{} files in {} belong to no message: they are being received now, or the next start removes them",
            strangers.len(),
            bodies.display()
        ));
    }
    Ok(())
}

/// Files that no row names.
pub(super) fn strangers(bodies: &Path, named: &HashSet<String>) -> Result<Vec<String>> {
    let mut strangers = Vec::new();
    for file in fs::read_dir(bodies)? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if !named.contains(&name) {
            strangers.push(name);
        }
    }
    Ok(strangers)
}

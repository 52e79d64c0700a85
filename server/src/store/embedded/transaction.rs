//! What the committer does inside a transaction: accept, delete, settle. Each function either does all of its work or
//! returns an error, after which the committer takes it back.

use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::Address;
use rusqlite::{Connection, OptionalExtension, params};

use crate::store::outgoing::{Deferral, MessageNumber, Settlement};
use crate::store::{Acceptance, Body, LocalDelivery, Result, StoreError};

/// One piece of work for the committer.
#[derive(Debug)]
pub(super) enum Work {
    /// A message and its recipients.
    Accept(Box<Acceptance>),
    /// Messages of a maildrop, by its canonical name.
    Delete { maildrop: String, keys: Vec<i64> },
    /// The outcome of a delivery attempt.
    Settle(Box<Settlement>),
    /// Nothing, but room is needed: the committer gives back what it can.
    MakeRoom,
}

/// Files that nothing refers to once the transaction is durable.
pub(super) type Unreferenced = Vec<String>;

impl Work {
    /// Does the work; `run` marks the entries made while this process runs (see [`unique_id`]).
    pub(super) fn perform(&self, connection: &Connection, run: i64) -> Result<Unreferenced> {
        let mut unreferenced = Vec::new();
        match self {
            Self::Accept(acceptance) => accept(connection, acceptance, run)?,
            Self::Delete { maildrop, keys } => delete(connection, maildrop, keys, &mut unreferenced)?,
            Self::Settle(settlement) => settle(connection, settlement, run, &mut unreferenced)?,
            Self::MakeRoom => {}
        }
        Ok(unreferenced)
    }

    /// Whether it brings new mail, which a full volume refuses. The rest makes room or keeps promises.
    pub(super) fn is_new_mail(&self) -> bool {
        matches!(self, Self::Accept(_))
    }

    /// Whether it only asks for room.
    pub(super) fn is_nudge(&self) -> bool {
        matches!(self, Self::MakeRoom)
    }

    /// Tells the message files of this work that the store owns them now.
    pub(super) fn own_files(&mut self) {
        let acceptances: &mut [Acceptance] = match self {
            Self::Accept(acceptance) => std::slice::from_mut(acceptance),
            Self::Settle(settlement) => &mut settlement.reports,
            Self::Delete { .. } | Self::MakeRoom => &mut [],
        };
        for acceptance in acceptances {
            if let Body::File(file) = &mut acceptance.body {
                file.committed = true;
            }
        }
    }
}

/// The unique-id of an entry. Keys are never given twice by one database; the random number of the run keeps them apart
/// when a restored backup gives the same key again.
pub(super) fn unique_id(run: i64, key: i64) -> String {
    format!("{run:016x}{key:x}")
}

/// SQLite's integers are signed; no size comes near the difference.
pub(super) fn to_sql(octets: u64) -> i64 {
    i64::try_from(octets).unwrap_or(i64::MAX)
}

/// The other way; a negative number would be damage, and counts as nothing.
pub(super) fn from_sql(octets: i64) -> u64 {
    u64::try_from(octets).unwrap_or(0)
}

fn accept(connection: &Connection, acceptance: &Acceptance, run: i64) -> Result<()> {
    let references = acceptance.local.len() + acceptance.remote.len();
    if references == 0 {
        // To say that it is accepted would be to lose it.
        return Err(StoreError::Failed(format!("the message {} is for nobody", acceptance.id)));
    }
    let (message, octets) = insert_message(connection, acceptance, references)?;
    for delivery in &acceptance.local {
        insert_entry(connection, message, octets, delivery, run)?;
    }
    for address in &acceptance.remote {
        insert_recipient(connection, message, address, acceptance.received_at)?;
    }
    Ok(())
}

/// The row of the message and its body's; gives its number and the octets of trace and body.
fn insert_message(connection: &Connection, acceptance: &Acceptance, references: usize) -> Result<(MessageNumber, u64)> {
    let (octets, file, bytes): (u64, Option<&str>, Option<&Bytes>) = match &acceptance.body {
        Body::Memory(bytes) => (bytes.len() as u64, None, Some(bytes)),
        Body::File(file) => {
            let name = file.path.file_name().and_then(std::ffi::OsStr::to_str);
            let name = name.ok_or_else(|| StoreError::Failed(format!("{} is not ours", file.path.display())))?;
            (file.octets, Some(name), None)
        }
    };
    connection
        .prepare_cached(
            "INSERT INTO message (id, received_at, reverse_path, eight_bit, smtputf8, trace, body_octets, file, \
             message_references) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            acceptance.id.as_str(),
            acceptance.received_at.as_millisecond(),
            acceptance.reverse_path.as_ref().map(ToString::to_string),
            acceptance.declared.eight_bit,
            acceptance.declared.smtputf8,
            &acceptance.trace[..],
            to_sql(octets),
            file,
            to_sql(references as u64),
        ])?;
    let number = connection.last_insert_rowid();
    if let Some(bytes) = bytes {
        connection
            .prepare_cached("INSERT INTO body (message, bytes) VALUES (?1, ?2)")?
            .execute(params![number, &bytes[..]])?;
    }
    Ok((MessageNumber(number), octets + acceptance.trace.len() as u64))
}

/// One maildrop's entry, and its usage; refuses what would exceed the quota.
fn insert_entry(
    connection: &Connection,
    message: MessageNumber,
    message_octets: u64,
    delivery: &LocalDelivery,
    run: i64,
) -> Result<()> {
    let octets = message_octets + delivery.fields.len() as u64;
    let (maildrop, used): (i64, i64) = connection
        .prepare_cached(
            "INSERT INTO maildrop (name, messages, octets) VALUES (?1, 1, ?2) \
             ON CONFLICT (name) DO UPDATE SET messages = messages + 1, octets = octets + excluded.octets \
             RETURNING number, octets",
        )?
        .query_row(params![delivery.maildrop.canonical(), to_sql(octets)], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if delivery.quota.is_some_and(|quota| from_sql(used) > quota) {
        return Err(StoreError::OverQuota(delivery.maildrop.clone()));
    }
    connection
        .prepare_cached("INSERT INTO entry (maildrop, message, octets, run, fields) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![maildrop, message.0, to_sql(octets), run, &delivery.fields[..]])?;
    Ok(())
}

fn insert_recipient(connection: &Connection, message: MessageNumber, address: &Address, due: Timestamp) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO recipient (message, address, domain, due, attempts, warned) VALUES (?1, ?2, ?3, ?4, 0, 0)",
        )?
        .execute(params![message.0, address.to_string(), address.domain().as_str(), due.as_millisecond()])?;
    Ok(())
}

fn delete(connection: &Connection, maildrop: &str, keys: &[i64], unreferenced: &mut Unreferenced) -> Result<()> {
    let number: Option<i64> = connection
        .prepare_cached("SELECT number FROM maildrop WHERE name = ?1")?
        .query_row([maildrop], |row| row.get(0))
        .optional()?;
    let number = number.ok_or(StoreError::NotFound)?;
    let mut octets = 0;
    for key in keys {
        let (message, freed): (i64, i64) = connection
            .prepare_cached("DELETE FROM entry WHERE key = ?1 AND maildrop = ?2 RETURNING message, octets")?
            .query_row([*key, number], |row| Ok((row.get(0)?, row.get(1)?)))?;
        octets += freed;
        release(connection, MessageNumber(message), unreferenced)?;
    }
    connection
        .prepare_cached("UPDATE maildrop SET messages = messages - ?2, octets = octets - ?3 WHERE number = ?1")?
        .execute([number, to_sql(keys.len() as u64), octets])?;
    Ok(())
}

/// One reference fewer; the last one takes the message with it.
fn release(connection: &Connection, message: MessageNumber, unreferenced: &mut Unreferenced) -> Result<()> {
    let (left, file): (i64, Option<String>) = connection
        .prepare_cached(
            "UPDATE message SET message_references = message_references - 1 WHERE number = ?1 \
             RETURNING message_references, file",
        )?
        .query_row([message.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if left > 0 {
        return Ok(());
    }
    connection.prepare_cached("DELETE FROM message WHERE number = ?1")?.execute([message.0])?;
    match file {
        Some(file) => unreferenced.push(file),
        None => drop(connection.prepare_cached("DELETE FROM body WHERE message = ?1")?.execute([message.0])?),
    }
    Ok(())
}

fn settle(connection: &Connection, settlement: &Settlement, run: i64, unreferenced: &mut Unreferenced) -> Result<()> {
    // References are added before others are released, so that no message goes in between.
    for (message, delivery) in &settlement.delivered_here {
        let octets = add_reference(connection, *message)?;
        insert_entry(connection, *message, octets, delivery, run)?;
    }
    for (message, address) in &settlement.redirected {
        add_reference(connection, *message)?;
        insert_recipient(connection, *message, address, Timestamp::UNIX_EPOCH)?;
    }
    for report in &settlement.reports {
        accept(connection, report, run)?;
    }
    for deferral in &settlement.deferred {
        defer(connection, deferral)?;
    }
    for key in &settlement.finished {
        let message: i64 = connection
            .prepare_cached("DELETE FROM recipient WHERE key = ?1 RETURNING message")?
            .query_row([*key], |row| row.get(0))?;
        release(connection, MessageNumber(message), unreferenced)?;
    }
    Ok(())
}

/// One reference more; gives the octets of trace and body.
fn add_reference(connection: &Connection, message: MessageNumber) -> Result<u64> {
    let octets: i64 = connection
        .prepare_cached(
            "UPDATE message SET message_references = message_references + 1 WHERE number = ?1 \
             RETURNING body_octets + length(trace)",
        )?
        .query_row([message.0], |row| row.get(0))?;
    Ok(from_sql(octets))
}

fn defer(connection: &Connection, deferral: &Deferral) -> Result<()> {
    let changed = connection
        .prepare_cached(
            "UPDATE recipient SET due = ?2, last_error = ?3, warned = warned OR ?4, attempts = attempts + 1 \
             WHERE key = ?1",
        )?
        .execute(params![deferral.key, deferral.due.as_millisecond(), deferral.error, deferral.warned])?;
    if changed == 1 { Ok(()) } else { Err(StoreError::NotFound) }
}

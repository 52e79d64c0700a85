//! What the committer does with the outcome of a delivery attempt, inside a transaction. Called by [`super::transaction`].

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::transaction::{
    Stored, Unreferenced, accept, from_sql, insert_derived, insert_entry, insert_recipient, insert_recipients, release,
    remember,
};
use crate::store::outgoing::{Deferral, MessageNumber, Settlement};
use crate::store::{Content, Derived, LocalDelivery, Result, StoreError};

pub(super) fn settle(
    connection: &Connection,
    settlement: &Settlement,
    run: i64,
    unreferenced: &mut Unreferenced,
) -> Result<()> {
    // References are added before others are released, so that no message goes in between.
    for (message, delivery) in &settlement.delivered_here {
        let stored = add_reference(connection, *message)?;
        let body_from = delivery.body_from.map(|from| from.saturating_sub(stored.trace_octets));
        insert_entry(connection, &stored, &LocalDelivery { body_from, ..delivery.clone() }, run)?;
    }
    let now = settlement.at;
    for (message, derived) in &settlement.derived {
        let stored = derive_of_queued(connection, *message, derived, now)?;
        insert_recipients(connection, &stored, &derived.local, &derived.remote, run)?;
    }
    for remembrance in &settlement.remember {
        remember(connection, remembrance, now)?;
    }
    for (message, recipient) in &settlement.redirected {
        let stored = add_reference(connection, *message)?;
        insert_recipient(connection, &stored, recipient)?;
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

/// The row of a message that comes of a queued one. It refers to the message that has the octets: the queued one may have
/// come of another itself.
fn derive_of_queued(
    connection: &Connection,
    message: MessageNumber,
    derived: &Derived,
    now: Timestamp,
) -> Result<Stored> {
    let Content::Same { from } = derived.content else { return insert_derived(connection, derived, now, None) };
    let (content, left_out, trace): (i64, i64, Vec<u8>) = connection
        .prepare_cached("SELECT coalesce(content_of, number), body_from, trace FROM message WHERE number = ?1")?
        .query_row([message.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let original = add_reference(connection, MessageNumber(content))?;
    let kept = usize::try_from(from).ok().and_then(|from| trace.get(from..)).unwrap_or_default();
    let from = from_sql(left_out) + from.saturating_sub(trace.len() as u64);
    let trace = Bytes::from([&derived.trace[..], kept].concat());
    let derived = Derived { trace, content: Content::Same { from }, ..derived.clone() };
    insert_derived(connection, &derived, now, Some(&original))
}

/// One reference more. What is put into the queue with it is due at once.
fn add_reference(connection: &Connection, message: MessageNumber) -> Result<Stored> {
    let stored = connection
        .prepare_cached(
            "UPDATE message SET message_references = message_references + 1 WHERE number = ?1 \
             RETURNING length(trace), body_octets, coalesce(priority, 0), coalesce(reverse_path, '<>'), unended",
        )?
        .query_row([message.0], |row| {
            Ok(Stored {
                number: message,
                trace_octets: from_sql(row.get(0)?),
                body_octets: from_sql(row.get(1)?),
                sender: row.get(3)?,
                is_unended: row.get(4)?,
                due: Timestamp::UNIX_EPOCH,
                priority: row.get(2)?,
            })
        })?;
    Ok(stored)
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

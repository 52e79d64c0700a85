//! What a person asks of the queue and does with it. Called by [`super::outgoing`], and by the committer for changes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};

use super::claim::{destination, page};
use super::outgoing::{readable, recipient, timestamp};
use super::transaction::from_sql;
use crate::store::outgoing::{
    CountsByState, Dropped, ListedRecipient, QueueChange, QueueDestination, QueueFilter, QueueState,
};
use crate::store::{MessageId, Result, StoreError};

/// `recipient.held`: nobody holds the row, a person does, or has dropped it without or with a report to the sender.
const HELD: i64 = 1;
const DROPPED: i64 = 2;
const DROPPED_WITH_REPORT: i64 = 3;

/// What a change has touched; filled in by the committer.
#[derive(Debug, Clone, Default)]
pub(super) struct Touched(Arc<Mutex<(u64, Vec<QueueDestination>)>>);

impl Touched {
    /// What it was.
    pub(super) fn take(&self) -> (u64, Vec<QueueDestination>) {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A change of some rows.
#[derive(Debug)]
pub(super) struct Management {
    keys: Vec<i64>,
    change: QueueChange,
    touched: Touched,
}

impl Management {
    pub(super) fn new(keys: Vec<i64>, change: QueueChange) -> (Self, Touched) {
        let touched = Touched::default();
        (Self { keys, change, touched: touched.clone() }, touched)
    }

    /// Does it. Rows that are gone by now, or that it does not concern, stay as they are.
    pub(super) fn perform(&self, connection: &Connection) -> Result<()> {
        let millisecond = |now: &Timestamp| Value::Integer(now.as_millisecond());
        let (set, argument) = match &self.change {
            QueueChange::Hold => ("held = ?2 WHERE key = ?1 AND held = 0", Value::Integer(HELD)),
            QueueChange::Release { now } => (
                "held = 0, due = ?2 WHERE key = ?1 AND (held = 1 OR held = 0 AND attempts = 0 AND due > ?2)",
                millisecond(now),
            ),
            QueueChange::Retry { now } => ("due = ?2 WHERE key = ?1 AND held = 0 AND due > ?2", millisecond(now)),
            QueueChange::Drop { notify } => {
                let mark = if *notify { DROPPED_WITH_REPORT } else { DROPPED };
                ("held = ?2 WHERE key = ?1 AND held < 2", Value::Integer(mark))
            }
            QueueChange::Reroute { route } => {
                let route = route.as_ref().map_or(Value::Null, |route| Value::Text(route.to_text()));
                ("route = ?2 WHERE key = ?1 AND held < 2 AND route IS NOT ?2", route)
            }
        };
        let mut statement =
            connection.prepare_cached(&format!("UPDATE recipient SET {set} RETURNING domain, route"))?;
        let (mut count, mut destinations) = (0, HashSet::new());
        for key in &self.keys {
            let mut rows = statement.query(params![key, argument])?;
            while let Some(row) = rows.next()? {
                count += 1;
                destinations.insert((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?));
            }
        }
        let destinations = destinations.iter().filter_map(|names| readable(destination(names))).collect();
        *self.touched.0.lock().unwrap_or_else(PoisonError::into_inner) = (count, destinations);
        Ok(())
    }
}

/// See [`crate::store::outgoing::QueueStore::dropped`].
pub(super) fn dropped(connection: &Connection, except: &HashSet<i64>, limit: usize) -> Result<Vec<Dropped>> {
    let mut statement = connection.prepare_cached(
        "SELECT key, message, address, attempts, warned, last_error, notify, original, route, tenant, held FROM recipient \
         INDEXED BY recipient_dropped WHERE held > 1",
    )?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        if except.contains(&row.get(0)?) {
            continue;
        }
        if let Some(recipient) = readable(recipient(row)) {
            found.push(Dropped { recipient, notify: row.get::<_, i64>(10)? == DROPPED_WITH_REPORT });
        }
    }
    Ok(found)
}

/// The state of a row; `?1` is now.
const STATE: &str = "CASE WHEN recipient.held > 0 THEN 'held' WHEN recipient.due <= ?1 THEN 'due' \
                     WHEN recipient.attempts > 0 THEN 'deferred' ELSE 'scheduled' END";

/// The condition and its arguments, of which now is the first.
fn condition(filter: &QueueFilter, now: Timestamp) -> (String, Vec<Value>) {
    // What is dropped is as good as gone.
    let (mut text, mut arguments) = ("recipient.held < 2".to_owned(), vec![Value::Integer(now.as_millisecond())]);
    let mut add = |column: &str, value: Option<String>| {
        if let Some(value) = value {
            arguments.push(Value::Text(value));
            text.push_str(&format!(" AND {column} = ?{}", arguments.len()));
        }
    };
    add("message.id", filter.message.as_ref().map(ToString::to_string));
    add("lower(recipient.sender)", filter.sender.as_ref().map(|text| text.to_lowercase()));
    add("lower(recipient.address)", filter.recipient.as_ref().map(|text| text.to_lowercase()));
    add("recipient.domain", filter.destination.as_ref().map(ToString::to_string));
    add(STATE, filter.state.map(|state| word(state).to_owned()));
    (text, arguments)
}

fn word(state: QueueState) -> &'static str {
    match state {
        QueueState::Due => "due",
        QueueState::Deferred => "deferred",
        QueueState::Scheduled => "scheduled",
        QueueState::Held => "held",
    }
}

/// See [`crate::store::outgoing::QueueStore::list_queue`].
pub(super) fn list(
    connection: &Connection,
    filter: &QueueFilter,
    now: Timestamp,
    after: i64,
    limit: usize,
) -> Result<Vec<ListedRecipient>> {
    let (condition, mut arguments) = condition(filter, now);
    arguments.extend([Value::Integer(after), Value::Integer(page(limit))]);
    let (after, limit) = (arguments.len() - 1, arguments.len());
    let mut statement = connection.prepare_cached(&format!(
        "SELECT recipient.key, recipient.message, recipient.address, recipient.attempts, recipient.warned, \
         recipient.last_error, recipient.notify, recipient.original, recipient.route, recipient.tenant, message.id, recipient.sender, \
         message.received_at, message.body_octets + length(message.trace), recipient.due, {STATE}, recipient.priority \
         FROM recipient JOIN message ON message.number = recipient.message \
         WHERE {condition} AND recipient.key > ?{after} ORDER BY recipient.key LIMIT ?{limit}"
    ))?;
    let mut rows = statement.query(params_from_iter(arguments))?;
    let mut listed = Vec::new();
    while let Some(row) = rows.next()? {
        listed.extend(readable(listing(row)));
    }
    Ok(listed)
}

fn listing(row: &Row<'_>) -> Result<ListedRecipient> {
    Ok(ListedRecipient {
        row: recipient(row)?,
        message_id: MessageId::from_stored(row.get(10)?),
        sender: row.get(11)?,
        received_at: timestamp(row.get(12)?)?,
        octets: from_sql(row.get(13)?),
        due: timestamp(row.get(14)?)?,
        state: state(&row.get::<_, String>(15)?)?,
        priority: row.get(16)?,
    })
}

fn state(word: &str) -> Result<QueueState> {
    match word {
        "due" => Ok(QueueState::Due),
        "deferred" => Ok(QueueState::Deferred),
        "scheduled" => Ok(QueueState::Scheduled),
        "held" => Ok(QueueState::Held),
        other => Err(StoreError::Corrupt(format!("a queued recipient is {other}"))),
    }
}

/// See [`crate::store::outgoing::QueueStore::count_queue`].
pub(super) fn count(connection: &Connection, filter: &QueueFilter, now: Timestamp) -> Result<CountsByState> {
    let (condition, arguments) = condition(filter, now);
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {STATE}, count(*) FROM recipient JOIN message ON message.number = recipient.message \
         WHERE {condition} GROUP BY 1"
    ))?;
    let mut rows = statement.query(params_from_iter(arguments))?;
    let mut counts = CountsByState::default();
    while let Some(row) = rows.next()? {
        let count = from_sql(row.get(1)?);
        match state(&row.get::<_, String>(0)?)? {
            QueueState::Due => counts.due = count,
            QueueState::Deferred => counts.deferred = count,
            QueueState::Scheduled => counts.scheduled = count,
            QueueState::Held => counts.held = count,
        }
    }
    Ok(counts)
}

//! The queue's side of the embedded store: what is due, and what became of it.

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::{Address, Domain};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::manage::Management;
use super::transaction::{Work, from_sql, to_sql};
use super::{EmbeddedStore, StoredContent, claim, manage};
use crate::store::envelope::{ByMode, DeliverBy, Notify, OriginalRecipient, Ret, Route};
use crate::store::outgoing::{
    Claimable, CountsByState, Dropped, ListedRecipient, Looked, MessageNumber, QueueChange, QueueCounts,
    QueueDestination, QueueFilter, QueueStore, QueuedContent, QueuedMessage, QueuedRecipient, Settlement, Wanted,
};
use crate::store::{BodyType, Declared, MessageId, MessageReader, RemoteRecipient, Result, StoreError};

/// The longest due comes first.
const DUE_DESTINATIONS: &str =
    "SELECT domain FROM recipient WHERE held = 0 AND due <= ?1 GROUP BY domain ORDER BY min(due)";

#[async_trait]
impl QueueStore for EmbeddedStore {
    async fn due_destinations(&self, now: Timestamp) -> Result<Vec<Domain>> {
        let query = self.readers.query(move |connection| {
            let mut statement = connection.prepare_cached(DUE_DESTINATIONS)?;
            let names = statement.query_map([now.as_millisecond()], |row| row.get::<_, String>(0))?;
            let mut destinations = Vec::new();
            for name in names {
                destinations.extend(readable(stored(Domain::parse(&name?))));
            }
            Ok(destinations)
        });
        query.await
    }

    async fn due_recipients(&self, destination: &Domain, now: Timestamp, limit: usize) -> Result<Vec<QueuedRecipient>> {
        let destination = destination.clone();
        let query = self.readers.query(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT key, message, address, attempts, warned, last_error, notify, original, route, tenant FROM recipient \
                 WHERE domain = ?1 AND due <= ?2 AND held = 0 ORDER BY priority DESC, due, key LIMIT ?3",
            )?;
            let mut rows =
                statement.query(params![destination.as_str(), now.as_millisecond(), to_sql(limit as u64)])?;
            let mut recipients = Vec::new();
            while let Some(row) = rows.next()? {
                recipients.extend(readable(recipient(row)));
            }
            Ok(recipients)
        });
        query.await
    }

    async fn newly_due(&self, last: Looked, now: Timestamp) -> Result<(Vec<QueueDestination>, Looked)> {
        self.readers.query(move |connection| claim::newly_due(connection, last, now)).await
    }

    async fn claimable(&self, wanted: Wanted) -> Result<Claimable> {
        self.readers.query(move |connection| claim::claimable(connection, &wanted)).await
    }

    async fn dropped(&self, except: HashSet<i64>, limit: usize) -> Result<Vec<Dropped>> {
        self.readers.query(move |connection| manage::dropped(connection, &except, limit)).await
    }

    async fn list_queue(
        &self,
        filter: QueueFilter,
        now: Timestamp,
        after: i64,
        limit: usize,
    ) -> Result<Vec<ListedRecipient>> {
        self.readers.query(move |connection| manage::list(connection, &filter, now, after, limit)).await
    }

    async fn count_queue(&self, filter: QueueFilter, now: Timestamp) -> Result<CountsByState> {
        self.readers.query(move |connection| manage::count(connection, &filter, now)).await
    }

    async fn find_queued(&self, id: MessageId) -> Result<Option<MessageNumber>> {
        let query = self.readers.query(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT number FROM message WHERE id = ?1 \
                 AND EXISTS (SELECT 1 FROM recipient WHERE recipient.message = message.number)",
            )?;
            Ok(statement.query_row([id.as_str()], |row| Ok(MessageNumber(row.get(0)?))).optional()?)
        });
        query.await
    }

    async fn change_queue(&self, keys: Vec<i64>, change: QueueChange) -> Result<(u64, Vec<QueueDestination>)> {
        let (management, touched) = Management::new(keys, change);
        self.commit_work(Work::Manage(Box::new(management))).await?;
        Ok(touched.take())
    }

    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let query = self.readers.query(move |connection| {
            let next: Option<i64> = connection
                .prepare_cached("SELECT min(due) FROM recipient WHERE held = 0 AND due > ?1")?
                .query_row([now.as_millisecond()], |row| row.get(0))?;
            next.map(timestamp).transpose()
        });
        query.await
    }

    async fn queued_message(&self, message: MessageNumber) -> Result<QueuedMessage> {
        self.readers.query(move |connection| queued_message(connection, message)).await
    }

    async fn read_queued(&self, message: MessageNumber) -> Result<Box<dyn MessageReader>> {
        self.read_content(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT trace, body_from, content_of FROM message WHERE number = ?1")?;
            let mut rows = statement.query([message.0])?;
            let row = rows.next()?.ok_or(StoreError::NotFound)?;
            Ok(StoredContent {
                beginning: row.get(0)?,
                original: row.get::<_, Option<i64>>(2)?.unwrap_or(message.0),
                from: from_sql(row.get(1)?),
            })
        })
        .await
    }

    async fn read_queued_ahead(&self, messages: &[MessageNumber], up_to: u64) -> Result<Vec<QueuedContent>> {
        let messages = messages.to_vec();
        let query = self.readers.query(move |connection| {
            let read = |number| {
                let message = readable(queued_message(connection, number))?;
                let bytes =
                    if message.octets <= up_to { small_content(connection, number).ok().flatten() } else { None };
                Some(QueuedContent { number, message, bytes })
            };
            Ok(messages.into_iter().filter_map(read).collect())
        });
        query.await
    }

    async fn settle(&self, settlement: Settlement) -> Result<()> {
        self.commit_work(Work::Settle(Box::new(settlement))).await
    }

    fn can_settle(&self) -> bool {
        self.is_writable()
    }

    async fn queue_counts(&self) -> Result<QueueCounts> {
        let query = self.readers.query(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT waiting, tried, held, \
                 (SELECT received_at FROM message WHERE number = (SELECT min(message) FROM recipient)) FROM queue_total",
            )?;
            let (recipients, deferred, held, oldest): (i64, i64, i64, Option<i64>) =
                statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
            Ok(QueueCounts {
                recipients: from_sql(recipients),
                deferred: from_sql(deferred),
                held: from_sql(held),
                oldest: oldest.map(timestamp).transpose()?,
            })
        });
        query.await
    }
}

fn queued_message(connection: &Connection, number: MessageNumber) -> Result<QueuedMessage> {
    let mut statement = connection.prepare_cached(
        "SELECT id, received_at, reverse_path, body_octets + length(trace), body_type, smtputf8, require_tls, \
         priority, ret, envelope_id, hold_until, deliver_by, deliver_by_mode, sender_tenant FROM message WHERE number = ?1",
    )?;
    let mut rows = statement.query([number.0])?;
    let row = rows.next()?.ok_or(StoreError::NotFound)?;
    let reverse_path: Option<String> = row.get(2)?;
    Ok(QueuedMessage {
        id: MessageId::from_stored(row.get(0)?),
        received_at: timestamp(row.get(1)?)?,
        reverse_path: reverse_path.map(|text| stored(Address::parse(&text))).transpose()?,
        sender_tenant: row.get::<_, Option<String>>(13)?.map(Into::into),
        octets: from_sql(row.get(3)?),
        declared: declared(row)?,
    })
}

/// The bytes of a message whose body is in the database; `None` for one whose body is a file.
fn small_content(connection: &Connection, number: MessageNumber) -> Result<Option<Bytes>> {
    let mut statement = connection.prepare_cached(
        "SELECT message.trace, message.body_from, body.bytes FROM message \
         LEFT JOIN body ON body.message = coalesce(message.content_of, message.number) WHERE message.number = ?1",
    )?;
    let mut rows = statement.query([number.0])?;
    let row = rows.next()?.ok_or(StoreError::NotFound)?;
    let mut content: Vec<u8> = row.get(0)?;
    let from = usize::try_from(from_sql(row.get(1)?)).unwrap_or(usize::MAX);
    let Some(body) = row.get_ref(2)?.as_blob_or_null().map_err(rusqlite::Error::from)? else { return Ok(None) };
    content.extend_from_slice(body.get(from..).unwrap_or_default());
    Ok(Some(content.into()))
}

pub(super) fn recipient(row: &Row<'_>) -> Result<QueuedRecipient> {
    let address: String = row.get(2)?;
    Ok(QueuedRecipient {
        key: row.get(0)?,
        message: MessageNumber(row.get(1)?),
        recipient: RemoteRecipient {
            address: stored(Address::parse(&address))?,
            notify: Notify::from_bits(row.get(6)?),
            original: row.get::<_, Option<String>>(7)?.as_deref().and_then(OriginalRecipient::from_text),
            route: row.get::<_, Option<String>>(8)?.as_deref().and_then(Route::from_text),
            tenant: row.get::<_, Option<String>>(9)?.map(Into::into),
        },
        attempts: row.get(3)?,
        warned: row.get(4)?,
        last_error: row.get(5)?,
    })
}

/// What the sender declared, from column 4 on.
fn declared(row: &Row<'_>) -> Result<Declared> {
    let body = match row.get(4)? {
        0 => BodyType::SevenBit,
        1 => BodyType::EightBitMime,
        2 => BodyType::BinaryMime,
        other => return Err(StoreError::Corrupt(format!("a queued message has content of kind {other}"))),
    };
    let time = |column| row.get::<_, Option<i64>>(column)?.map(timestamp).transpose();
    let ret: Option<bool> = row.get(8)?;
    let mode: i64 = row.get::<_, Option<i64>>(12)?.unwrap_or(0);
    Ok(Declared {
        body,
        smtputf8: row.get(5)?,
        require_tls: row.get(6)?,
        priority: row.get(7)?,
        ret: ret.map(|full| if full { Ret::Full } else { Ret::Headers }),
        envelope_id: row.get(9)?,
        hold_until: time(10)?,
        deliver_by: time(11)?.map(|at| DeliverBy {
            at,
            mode: if mode & 1 == 0 { ByMode::Return } else { ByMode::Notify },
            trace: mode & 2 != 0,
        }),
    })
}

/// One row that cannot be read must not keep the others from delivery. It stays where it is.
pub(super) fn readable<T>(row: Result<T>) -> Option<T> {
    row.inspect_err(|error| tracing::error!(%error, "a row of the queue is passed over")).ok()
}

/// What was written as an address reads as one.
pub(super) fn stored<T>(parsed: std::result::Result<T, paquebot_config::AddressError>) -> Result<T> {
    parsed.map_err(|error| StoreError::Corrupt(format!("a queued recipient: {error}")))
}

pub(super) fn timestamp(milliseconds: i64) -> Result<Timestamp> {
    Timestamp::from_millisecond(milliseconds)
        .map_err(|error| StoreError::Corrupt(format!("a queued message's time: {error}")))
}

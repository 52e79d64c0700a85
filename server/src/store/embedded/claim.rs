//! What the scheduler asks: which destinations have become due, and which rows an attempt takes. Each question is answered
//! by its own index (see [`super::schema`]); none looks at rows that are neither due nor wanted. Called by
//! [`super::outgoing`].

use std::collections::HashSet;

use jiff::Timestamp;
use paquebot_config::Domain;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::outgoing::{readable, recipient, stored};
use super::transaction::to_sql;
use crate::store::Result;
use crate::store::envelope::Route;
use crate::store::outgoing::{Claimable, Looked, QueueDestination, QueuedRecipient, Wanted};

/// Senders that are given a turn in one attempt at most: each costs two steps in an index.
const SENDERS: usize = 64;
/// Rows of each lower priority that an attempt takes at least, where they are due. With 19 priorities they fit into one
/// attempt, so that no priority waits for ever behind a higher one.
const OF_EACH_PRIORITY: usize = 5;
/// The rows that a claim reads, after which come priority and due time.
const COLUMNS: &str =
    "key, message, address, attempts, warned, last_error, notify, original, route, tenant, priority, due";

/// Destinations of rows that became due after `last.until`, or that are new and due.
pub(super) fn newly_due(
    connection: &Connection,
    last: Looked,
    now: Timestamp,
) -> Result<(Vec<QueueDestination>, Looked)> {
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    let mut add = |row: &Row<'_>| -> Result<()> {
        let names: (String, Option<String>) = (row.get(0)?, row.get(1)?);
        if !seen.contains(&names) {
            found.extend(readable(destination(&names)));
            seen.insert(names);
        }
        Ok(())
    };
    // Before the rows: what is committed meanwhile has a higher key, and is found the next time.
    let newest = connection.query_row("SELECT coalesce(max(key), 0) FROM recipient", [], |row| row.get(0))?;
    let after = last.until.map_or(i64::MIN, Timestamp::as_millisecond);
    let mut statement = connection.prepare_cached(
        "SELECT domain, route FROM recipient INDEXED BY recipient_by_due \
         WHERE held = 0 AND due > ?1 AND due <= ?2 ORDER BY due",
    )?;
    let mut rows = statement.query([after, now.as_millisecond()])?;
    while let Some(row) = rows.next()? {
        add(row)?;
    }
    // What was accepted since may have been due before; at the first look everything was found above.
    let mut key: i64 = last.key;
    if last.until.is_some() {
        let mut statement = connection.prepare_cached(
            "SELECT domain, route, key, held = 0 AND due <= ?2 FROM recipient WHERE key > ?1 ORDER BY key",
        )?;
        let mut rows = statement.query([last.key, now.as_millisecond()])?;
        while let Some(row) = rows.next()? {
            key = row.get(2)?;
            if row.get(3)? {
                add(row)?;
            }
        }
    } else {
        key = newest;
    }
    Ok((found, Looked { until: Some(now), key }))
}

pub(super) fn destination((domain, route): &(String, Option<String>)) -> Result<QueueDestination> {
    Ok(QueueDestination { domain: stored(Domain::parse(domain))?, route: route.as_deref().and_then(Route::from_text) })
}

/// A row and where it stands in the order of sending.
struct Candidate {
    priority: i8,
    due: i64,
    recipient: QueuedRecipient,
}

/// See [`crate::store::outgoing::QueueStore::claimable`].
pub(super) fn claimable(connection: &Connection, wanted: &Wanted) -> Result<Claimable> {
    let mut claim = Claim {
        connection,
        wanted,
        route: wanted.destination.route.as_ref().map(Route::to_text),
        except: wanted.except.clone(),
        taken: Vec::new(),
    };
    let turn = claim.take_turns()?;
    claim.take_by_priority()?;
    let mut taken = claim.taken;
    taken.sort_by_key(|candidate| (-candidate.priority, candidate.due, candidate.recipient.key));
    Ok(Claimable { recipients: taken.into_iter().map(|candidate| candidate.recipient).collect(), turn })
}

struct Claim<'a> {
    connection: &'a Connection,
    wanted: &'a Wanted,
    route: Option<String>,
    except: HashSet<i64>,
    taken: Vec<Candidate>,
}

impl Claim<'_> {
    fn take(&mut self, candidates: Vec<Candidate>) {
        for candidate in candidates {
            self.except.insert(candidate.recipient.key);
            self.taken.push(candidate);
        }
    }

    /// One row for each of the next senders, up to half of the attempt; yields whose turn it was last.
    fn take_turns(&mut self) -> Result<String> {
        let (domain, mut sender) = (self.wanted.destination.domain.as_str(), self.wanted.turn.clone());
        for _ in 0..SENDERS {
            if self.taken.len() >= self.wanted.limit / 2 {
                break;
            }
            let mut statement = self.connection.prepare_cached(
                "SELECT sender FROM recipient INDEXED BY recipient_by_sender \
                 WHERE held = 0 AND domain = ?1 AND route IS ?2 AND sender > ?3 ORDER BY sender LIMIT 1",
            )?;
            let next = statement.query_row(params![domain, self.route, sender], |row| row.get(0)).optional()?;
            // After the last one it is the first one's turn, at the next attempt.
            let Some(next) = next else { return Ok(String::new()) };
            sender = next;
            let mut statement = self.connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM recipient INDEXED BY recipient_by_sender \
                 WHERE held = 0 AND domain = ?1 AND route IS ?2 AND sender = ?4 AND due <= ?3 ORDER BY due"
            ))?;
            let now = self.wanted.now.as_millisecond();
            let rows = statement.query(params![domain, self.route, now, sender])?;
            let first = self.first(rows, 1)?;
            self.take(first);
        }
        Ok(sender)
    }

    fn take_by_priority(&mut self) -> Result<()> {
        let domain = self.wanted.destination.domain.as_str();
        let mut classes = Vec::new();
        let mut below = i8::MAX;
        while let Some(priority) = self
            .connection
            .prepare_cached(
                "SELECT priority FROM recipient INDEXED BY recipient_by_priority \
                 WHERE held = 0 AND domain = ?1 AND route IS ?2 AND priority < ?3 ORDER BY priority DESC LIMIT 1",
            )?
            .query_row(params![domain, self.route, below], |row| row.get::<_, i8>(0))
            .optional()?
        {
            below = priority;
            let mut statement = self.connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM recipient INDEXED BY recipient_by_priority \
                 WHERE held = 0 AND domain = ?1 AND route IS ?2 AND priority = ?4 AND due <= ?3 ORDER BY due"
            ))?;
            let rows = statement.query(params![domain, self.route, self.wanted.now.as_millisecond(), priority])?;
            let candidates = self.first(rows, self.wanted.limit)?;
            if !candidates.is_empty() {
                classes.push(candidates);
            }
        }
        let mut room = self.wanted.limit.saturating_sub(self.taken.len());
        let mut lower: usize = classes.iter().map(|class| class.len().min(OF_EACH_PRIORITY)).sum();
        for mut class in classes {
            let own = class.len().min(OF_EACH_PRIORITY);
            lower -= own;
            class.truncate(room.saturating_sub(lower).max(own).min(room));
            room -= class.len();
            self.take(class);
        }
        Ok(())
    }

    /// The first rows that are not in attempts.
    fn first(&self, mut rows: rusqlite::Rows<'_>, limit: usize) -> Result<Vec<Candidate>> {
        let mut candidates = Vec::new();
        while candidates.len() < limit
            && let Some(row) = rows.next()?
        {
            if self.except.contains(&row.get(0)?) {
                continue;
            }
            if let Some(recipient) = readable(recipient(row)) {
                candidates.push(Candidate { priority: row.get(10)?, due: row.get(11)?, recipient });
            }
        }
        Ok(candidates)
    }
}

/// So many rows a page of the queue has at most; whoever asks for more gets these.
pub(super) const LONGEST_PAGE: usize = 10_000;

/// A limit as SQLite takes it.
pub(super) fn page(limit: usize) -> i64 {
    to_sql(limit.min(LONGEST_PAGE) as u64)
}

//! What the committer does inside a transaction: accept, delete, settle. Each function either does all of its work or
//! returns an error, after which the committer takes it back.

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::deletion::{Deletion, delete};
use super::erasure::forget;
use super::manage::Management;
use super::ownership::claim;
use super::settlement::settle;
use crate::store::checksum;
use crate::store::envelope::{ByMode, Declared, RemoteRecipient, Ret};
use crate::store::outgoing::{MessageNumber, Settlement};
use crate::store::{
    Acceptance, Body, Content, Derived, Folder, LocalDelivery, MailboxName, MaildropName, MessageId, Remembrance,
    Result, StoreError,
};

/// One piece of work for the committer.
#[derive(Debug)]
pub(super) enum Work {
    /// A message and its recipients.
    Accept(Box<Acceptance>),
    /// A few messages of a maildrop.
    Delete { maildrop: MaildropName, keys: Vec<i64> },
    /// Many messages of a maildrop: that they go …
    Decide(Box<Deletion>),
    /// … and some of them, which are to go.
    Round(Box<Deletion>),
    /// A maildrop that is nobody's is its first user's.
    Claim(MailboxName),
    /// What filters remember of a mailbox, and the names of its empty folders.
    Forget(MailboxName),
    /// The outcome of a delivery attempt.
    Settle(Box<Settlement>),
    /// What a person does with rows of the queue.
    Manage(Box<Management>),
    /// Nothing, but room is needed: the committer gives back what it can.
    MakeRoom,
}

/// Files that nothing refers to once the transaction is durable.
pub(super) type Unreferenced = Vec<String>;

impl Work {
    /// Does the work; `run` marks the entries made while this process runs (see [`crate::store::MaildropEntry`]).
    pub(super) fn perform(&self, connection: &Connection, run: i64) -> Result<Unreferenced> {
        let mut unreferenced = Vec::new();
        match self {
            Self::Accept(acceptance) => accept(connection, acceptance, run)?,
            Self::Delete { maildrop, keys } => delete(connection, maildrop, keys, &mut unreferenced)?,
            Self::Decide(deletion) => deletion.decide(connection)?,
            Self::Round(deletion) => deletion.perform_round(connection, &mut unreferenced)?,
            Self::Claim(mailbox) => claim(connection, mailbox)?,
            Self::Forget(mailbox) => forget(connection, mailbox)?,
            Self::Settle(settlement) => settle(connection, settlement, run, &mut unreferenced)?,
            Self::Manage(management) => management.perform(connection)?,
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
            Self::Delete { .. }
            | Self::Decide(_)
            | Self::Round(_)
            | Self::Claim(_)
            | Self::Forget(_)
            | Self::Manage(_)
            | Self::MakeRoom => &mut [],
        };
        for acceptance in acceptances.iter_mut().filter(|acceptance| references(acceptance) > 0) {
            if let Body::File(file) = &mut acceptance.body {
                file.committed = true;
            }
        }
    }
}

/// SQLite's integers are signed; no size comes near the difference.
pub(super) fn to_sql(octets: u64) -> i64 {
    i64::try_from(octets).unwrap_or(i64::MAX)
}

/// The other way; a negative number would be damage, and counts as nothing.
pub(super) fn from_sql(octets: i64) -> u64 {
    u64::try_from(octets).unwrap_or(0)
}

/// How many rows refer to the message of an acceptance itself.
fn references(acceptance: &Acceptance) -> usize {
    let same = acceptance.derived.iter().filter(|derived| matches!(derived.content, Content::Same { .. }));
    acceptance.local.len() + acceptance.remote.len() + same.count()
}

pub(super) fn accept(connection: &Connection, acceptance: &Acceptance, run: i64) -> Result<()> {
    let references = references(acceptance);
    if references == 0 && acceptance.derived.is_empty() && acceptance.remember.is_empty() {
        // To say that it is accepted would be to lose it.
        return Err(StoreError::Failed(format!("the message {} is for nobody", acceptance.id)));
    }
    let mut original = None;
    if references > 0 {
        let stored = insert_original(connection, acceptance, references)?;
        insert_recipients(connection, &stored, &acceptance.local, &acceptance.remote, run)?;
        original = Some(stored);
    }
    for derived in &acceptance.derived {
        let stored = insert_derived(connection, derived, acceptance.received_at, original.as_ref())?;
        insert_recipients(connection, &stored, &derived.local, &derived.remote, run)?;
    }
    for remembrance in &acceptance.remember {
        remember(connection, remembrance, acceptance.received_at)?;
    }
    Ok(())
}

/// A message row that was made.
pub(super) struct Stored {
    pub(super) number: MessageNumber,
    /// Octets of its trace fields, and of what follows them.
    pub(super) trace_octets: u64,
    pub(super) body_octets: u64,
    /// Whether POP3 has to end the last line (RFC 1939 §3): what came as octets (RFC 3030) need not end with one.
    pub(super) is_unended: bool,
    /// The reverse-path as the queue's rows have it.
    pub(super) sender: String,
    /// When the queue may begin.
    pub(super) due: Timestamp,
    pub(super) priority: i8,
}

/// What a message row is made of.
struct MessageRow<'a> {
    id: &'a MessageId,
    received_at: Timestamp,
    reverse_path: Option<String>,
    sender_tenant: Option<&'a str>,
    declared: &'a Declared,
    trace: &'a Bytes,
    body_octets: u64,
    file: Option<&'a str>,
    /// Of the content; `None` where another message has it.
    checksums: Option<&'a [u8]>,
    is_unended: bool,
    content_of: Option<i64>,
    body_from: u64,
    references: usize,
}

fn insert_row(connection: &Connection, row: &MessageRow<'_>) -> Result<Stored> {
    let declared = row.declared;
    let (ret, by) = (declared.ret.map(|ret| ret == Ret::Full), declared.deliver_by);
    connection
        .prepare_cached(
            "INSERT INTO message (id, received_at, reverse_path, body_type, smtputf8, trace, body_octets, file, \
             message_references, require_tls, priority, ret, envelope_id, hold_until, deliver_by, deliver_by_mode, \
             content_of, body_from, checksums, unended, sender_tenant) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)",
        )?
        .execute(params![
            row.id.as_str(),
            row.received_at.as_millisecond(),
            row.reverse_path,
            declared.body as i64,
            declared.smtputf8,
            &row.trace[..],
            to_sql(row.body_octets),
            row.file,
            to_sql(row.references as u64),
            declared.require_tls,
            declared.priority,
            ret,
            declared.envelope_id,
            declared.hold_until.map(Timestamp::as_millisecond),
            by.map(|by| by.at.as_millisecond()),
            by.map(|by| i64::from(by.mode == ByMode::Notify) | i64::from(by.trace) << 1),
            row.content_of,
            to_sql(row.body_from),
            row.checksums,
            row.is_unended,
            row.sender_tenant,
        ])?;
    Ok(Stored {
        number: MessageNumber(connection.last_insert_rowid()),
        trace_octets: row.trace.len() as u64,
        body_octets: row.body_octets,
        is_unended: row.is_unended,
        sender: row.reverse_path.clone().unwrap_or_else(|| NULL_SENDER.to_owned()),
        due: declared.hold_until.unwrap_or(row.received_at),
        priority: declared.priority.unwrap_or(0),
    })
}

/// The row of the accepted message, and its body's.
fn insert_original(connection: &Connection, acceptance: &Acceptance, references: usize) -> Result<Stored> {
    let is_unended;
    let (body_octets, file, bytes, checksums): (u64, Option<&str>, Option<&Bytes>, &[u8]) = match &acceptance.body {
        Body::Memory(body) => {
            let bytes = body.bytes();
            is_unended = is_without_line_end(bytes);
            (bytes.len() as u64, None, Some(bytes), body.checksums())
        }
        Body::File(file) => {
            let name = file.path.file_name().and_then(std::ffi::OsStr::to_str);
            let name = name.ok_or_else(|| StoreError::Failed(format!("{} is not ours", file.path.display())))?;
            is_unended = !file.ends_line;
            (file.octets, Some(name), None, &file.checksums)
        }
    };
    let stored = insert_row(
        connection,
        &MessageRow {
            id: &acceptance.id,
            received_at: acceptance.received_at,
            reverse_path: acceptance.reverse_path.as_ref().map(ToString::to_string),
            sender_tenant: acceptance.sender_tenant.as_deref(),
            declared: &acceptance.declared,
            trace: &acceptance.trace,
            body_octets,
            file,
            checksums: Some(checksums),
            is_unended,
            content_of: None,
            body_from: 0,
            references,
        },
    )?;
    if let Some(bytes) = bytes {
        insert_body(connection, stored.number, bytes)?;
    }
    Ok(stored)
}

/// The row of a message that comes of another one, and its body's where it has one of its own.
pub(super) fn insert_derived(
    connection: &Connection,
    derived: &Derived,
    received_at: Timestamp,
    original: Option<&Stored>,
) -> Result<Stored> {
    let references = derived.local.len() + derived.remote.len();
    if references == 0 {
        return Err(StoreError::Failed(format!("the message {} is for nobody", derived.id)));
    }
    let is_unended = match (&derived.content, original) {
        (Content::Own(bytes), _) => is_without_line_end(bytes),
        // Without any of it the fields before it are the end.
        (Content::Same { from }, Some(original)) => original.is_unended && *from < original.body_octets,
        (Content::Same { .. }, None) => false,
    };
    let (body_octets, content_of, body_from, checksums) = match (&derived.content, original) {
        (Content::Own(bytes), _) => (bytes.len() as u64, None, 0, Some(checksum::of(bytes))),
        (Content::Same { from }, Some(original)) => {
            (original.body_octets.saturating_sub(*from), Some(original.number.0), *from, None)
        }
        (Content::Same { .. }, None) => return Err(StoreError::NotFound),
    };
    let stored = insert_row(
        connection,
        &MessageRow {
            id: &derived.id,
            received_at,
            reverse_path: derived.reverse_path.as_ref().map(ToString::to_string),
            sender_tenant: derived.sender_tenant.as_deref(),
            declared: &derived.declared,
            trace: &derived.trace,
            body_octets,
            file: None,
            checksums: checksums.as_deref(),
            is_unended,
            content_of,
            body_from,
            references,
        },
    )?;
    if let Content::Own(bytes) = &derived.content {
        insert_body(connection, stored.number, bytes)?;
    }
    Ok(stored)
}

fn insert_body(connection: &Connection, message: MessageNumber, bytes: &Bytes) -> Result<()> {
    connection
        .prepare_cached("INSERT INTO body (message, bytes) VALUES (?1, ?2)")?
        .execute(params![message.0, &bytes[..]])?;
    Ok(())
}

pub(super) fn insert_recipients(
    connection: &Connection,
    message: &Stored,
    local: &[LocalDelivery],
    remote: &[RemoteRecipient],
    run: i64,
) -> Result<()> {
    for delivery in local {
        insert_entry(connection, message, delivery, run)?;
    }
    for recipient in remote {
        insert_recipient(connection, message, recipient)?;
    }
    Ok(())
}

/// Octets of CRLF.
const LINE_END: u64 = 2;

/// Whether a content has a last line that does not end; an empty one has no line.
fn is_without_line_end(content: &[u8]) -> bool {
    !content.is_empty() && !content.ends_with(b"\r\n")
}

/// One maildrop's entry, and its mailbox's usage; refuses what would exceed the quota.
pub(super) fn insert_entry(
    connection: &Connection,
    message: &Stored,
    delivery: &LocalDelivery,
    run: i64,
) -> Result<()> {
    let octets = delivery.octets(message.trace_octets, message.body_octets);
    let has_body = delivery.body_from.is_none_or(|from| from < message.body_octets);
    let octets = if message.is_unended && has_body { octets + LINE_END } else { octets };
    let mailbox = &delivery.maildrop.mailbox;
    let name = mailbox.address.canonical();
    let known: Option<(i64, i64)> = connection
        .prepare_cached(
            "UPDATE maildrop SET messages = messages + 1, octets = octets + ?3 WHERE name = ?1 AND tenant = ?2 \
             RETURNING number, octets",
        )?
        .query_row(params![name, &*mailbox.tenant, to_sql(octets)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (maildrop, used) = match known {
        Some(known) => known,
        None => make_maildrop(connection, mailbox, &name, octets)?,
    };
    if delivery.quota.is_some_and(|quota| from_sql(used) > quota) {
        return Err(StoreError::OverQuota(mailbox.address.clone()));
    }
    let folder = make_folder(connection, maildrop, &delivery.maildrop.folder)?;
    connection
        .prepare_cached(
            "INSERT INTO entry (maildrop, folder, message, octets, run, fields, body_from, ascii_octets) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            maildrop,
            folder,
            message.number.0,
            to_sql(octets),
            run,
            &delivery.fields[..],
            delivery.body_from.map(to_sql),
            delivery.ascii_growth.map(|growth| to_sql(octets).saturating_add(growth)),
        ])?;
    Ok(())
}

/// A mailbox's maildrop with its first message, or what was nobody's, with one message more: its number and octets.
fn make_maildrop(connection: &Connection, mailbox: &MailboxName, name: &str, octets: u64) -> Result<(i64, i64)> {
    claim(connection, mailbox)?;
    Ok(connection
        .prepare_cached(
            "INSERT INTO maildrop (name, tenant, messages, octets) VALUES (?1, ?2, 1, ?3) \
             ON CONFLICT (name, tenant) DO UPDATE SET messages = messages + 1, octets = octets + excluded.octets \
             RETURNING number, octets",
        )?
        .query_row(params![name, &*mailbox.tenant, to_sql(octets)], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// The number of a mailbox's maildrop: its own, or one that is nobody's yet.
pub(super) fn find_maildrop(connection: &Connection, mailbox: &MailboxName) -> Result<Option<i64>> {
    Ok(connection
        .prepare_cached(
            "SELECT number FROM maildrop WHERE name = ?1 AND tenant IN (?2, '') ORDER BY tenant DESC LIMIT 1",
        )?
        .query_row(params![mailbox.address.canonical(), &*mailbox.tenant], |row| row.get(0))
        .optional()?)
}

/// The number of a folder, which is made where there was none.
fn make_folder(connection: &Connection, maildrop: i64, folder: &Folder) -> Result<i64> {
    if folder.is_inbox() {
        return Ok(INBOX);
    }
    if let Some(number) = find_folder(connection, maildrop, folder)? {
        return Ok(number);
    }
    connection
        .prepare_cached("INSERT INTO folder (maildrop, name) VALUES (?1, ?2)")?
        .execute(params![maildrop, folder.as_str()])?;
    Ok(connection.last_insert_rowid())
}

/// The number of the inbox, which has no row.
const INBOX: i64 = 0;

/// The number of a folder, if there is one.
pub(super) fn find_folder(connection: &Connection, maildrop: i64, folder: &Folder) -> Result<Option<i64>> {
    if folder.is_inbox() {
        return Ok(Some(INBOX));
    }
    Ok(connection
        .prepare_cached("SELECT number FROM folder WHERE maildrop = ?1 AND name = ?2")?
        .query_row(params![maildrop, folder.as_str()], |row| row.get(0))
        .optional()?)
}

/// What stands for the null reverse-path in the queue's rows.
pub(super) const NULL_SENDER: &str = "<>";

pub(super) fn insert_recipient(connection: &Connection, message: &Stored, recipient: &RemoteRecipient) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO recipient (message, address, domain, due, attempts, warned, notify, original, route, priority, sender, \
             tenant) VALUES (?1, ?2, ?3, ?4, 0, 0, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            message.number.0,
            recipient.address.to_string(),
            recipient.address.domain().as_str(),
            message.due.as_millisecond(),
            recipient.notify.bits(),
            recipient.original.as_ref().map(crate::store::envelope::OriginalRecipient::to_text),
            recipient.route.as_ref().map(crate::store::envelope::Route::to_text),
            message.priority,
            message.sender,
            recipient.tenant.as_deref(),
        ])?;
    Ok(())
}

/// How many remembrances that are over go when a new one comes, so that they do not gather.
const FORGOTTEN_AT_ONCE: i64 = 8;

pub(super) fn remember(connection: &Connection, remembrance: &Remembrance, now: Timestamp) -> Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM remembrance WHERE (mailbox, what) IN \
             (SELECT mailbox, what FROM remembrance WHERE until < ?1 ORDER BY until LIMIT ?2)",
        )?
        .execute(params![now.as_millisecond(), FORGOTTEN_AT_ONCE])?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO remembrance (mailbox, what, until) VALUES (?1, ?2, ?3)")?
        .execute(params![remembrance.mailbox.key(), remembrance.what, remembrance.until.as_millisecond()])?;
    Ok(())
}

/// One reference fewer; the last one takes the message with it, and the reference that it holds.
pub(super) fn release(connection: &Connection, message: MessageNumber, unreferenced: &mut Unreferenced) -> Result<()> {
    let (left, file, content_of): (i64, Option<String>, Option<i64>) = connection
        .prepare_cached(
            "UPDATE message SET message_references = message_references - 1 WHERE number = ?1 \
             RETURNING message_references, file, content_of",
        )?
        .query_row([message.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    if left > 0 {
        return Ok(());
    }
    connection.prepare_cached("DELETE FROM message WHERE number = ?1")?.execute([message.0])?;
    match (content_of, file) {
        // What it comes of comes of nothing else.
        (Some(original), _) => release(connection, MessageNumber(original), unreferenced)?,
        (None, Some(file)) => unreferenced.push(file),
        (None, None) => drop(connection.prepare_cached("DELETE FROM body WHERE message = ?1")?.execute([message.0])?),
    }
    Ok(())
}

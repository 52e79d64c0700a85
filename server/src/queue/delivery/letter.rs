//! A message with those of its recipients that are in an attempt: read from the store, made fit for a server, sent. Used
//! by [`super`] alone.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::super::client::machine::{Outcome, Transaction};
use super::super::client::session::Connection;
use super::super::convert::{Target, Unconvertible, convert};
use super::super::dsn::header_of;
use super::super::outcome::seconds_left;
use super::super::status::Refusal;
use super::Courier;
use super::settle::Done;
use crate::store::outgoing::{MessageNumber, QueueStore, QueuedContent, QueuedMessage, QueuedRecipient};
use crate::store::{BodyType, MessageReader, Result, StoreError};

/// Messages up to this size are read whole, ahead of their turn …
const READ_AHEAD: u64 = 16 * 1024;
/// … so many at once: an attempt holds 256 KiB of them at most.
const TOGETHER: usize = 16;
/// The largest message that is looked through and converted: it is in memory for that.
const CONVERTIBLE: u64 = 8 * 1024 * 1024;

/// See the module.
pub(super) struct Letter {
    number: MessageNumber,
    recipients: Vec<QueuedRecipient>,
    read: Option<Read>,
}

/// What was read of it.
#[derive(Clone)]
struct Read {
    message: Arc<QueuedMessage>,
    /// All of it, where it is small.
    content: Option<Bytes>,
}

/// What a server takes.
#[derive(Clone, Copy)]
struct Server {
    carries: BodyType,
    carries_utf8: bool,
}

impl Server {
    fn of(connection: &Connection) -> Self {
        Self { carries: connection.carries(), carries_utf8: connection.carries_utf8() }
    }
}

impl Letter {
    pub(super) fn new(number: MessageNumber, recipients: Vec<QueuedRecipient>) -> Self {
        Self { number, recipients, read: None }
    }

    pub(super) fn number(&self) -> MessageNumber {
        self.number
    }

    pub(super) fn recipients(&self) -> &[QueuedRecipient] {
        &self.recipients
    }

    pub(super) fn into_recipients(self) -> Vec<QueuedRecipient> {
        self.recipients
    }

    /// The outcomes, as they are settled.
    pub(super) fn done(self, outcomes: Vec<Outcome>) -> Done {
        Done {
            number: self.number,
            message: self.read.map(|read| read.message),
            attempts: self.recipients.into_iter().zip(outcomes).collect(),
        }
    }

    /// Keeps so many recipients, and gives the others.
    pub(super) fn split_off(&mut self, most: usize) -> Option<Self> {
        let rest = (self.recipients.len() > most).then(|| self.recipients.split_off(most))?;
        Some(Self { number: self.number, recipients: rest, read: self.read.clone() })
    }

    /// RFC 5321 §4.5.3.1.10: where a server took some recipients and found the others too many, these come next, and not
    /// at the next attempt.
    pub(super) fn take_back_too_many(&mut self, outcomes: &mut Vec<Outcome>) -> Option<Self> {
        let is_too_many = |outcome: &Outcome| {
            outcome.as_ref().is_err_and(|refusal| refusal.code == 452 && refusal.enhanced == (4, 5, 3))
        };
        if !outcomes.iter().any(|outcome| outcome.is_ok()) || !outcomes.iter().any(is_too_many) {
            return None;
        }
        let all = std::mem::take(&mut self.recipients).into_iter().zip(std::mem::take(outcomes));
        let (back, kept): (Vec<_>, Vec<_>) = all.partition(|(_, outcome)| is_too_many(outcome));
        (self.recipients, *outcomes) = kept.into_iter().unzip();
        let recipients = back.into_iter().map(|(recipient, _)| recipient).collect();
        Some(Self { number: self.number, recipients, read: self.read.clone() })
    }

    async fn try_read(&mut self, courier: &Courier) -> Result<Read> {
        if let Some(read) = &self.read {
            return Ok(read.clone());
        }
        let message = Arc::new(courier.store.queued_message(self.number).await?);
        let content = match message.octets <= READ_AHEAD {
            true => Some(read_whole(&*courier.store, self.number, message.octets).await?),
            false => None,
        };
        let read = Read { message, content };
        self.read = Some(read.clone());
        Ok(read)
    }

    /// Sends it; gives the outcome for each recipient.
    pub(super) async fn send(&mut self, courier: &Courier, connection: &mut Connection) -> Vec<Outcome> {
        let prepared = match self.try_read(courier).await {
            Ok(read) => self.prepare(courier, &read, Server::of(connection)).await,
            Err(error) => Err(unreadable(&error)),
        };
        match prepared {
            Ok((transaction, mut content)) => connection.deliver(transaction, &mut *content, &courier.stop).await,
            Err(refusal) => self.recipients.iter().map(|_| Err(refusal.clone())).collect(),
        }
    }

    async fn prepare(
        &self,
        courier: &Courier,
        read: &Read,
        server: Server,
    ) -> std::result::Result<(Transaction, Box<dyn MessageReader>), Refusal> {
        let message = &read.message;
        let mut transaction = Transaction {
            reverse_path: message.reverse_path.clone(),
            recipients: self.recipients.iter().map(|recipient| recipient.recipient.clone()).collect(),
            declared: message.declared.clone(),
            header_is_ascii: true,
            octets: message.octets,
            seconds_left: seconds_left(&message.declared, courier.environment.clock.now()),
        };
        let takes_utf8 = !message.declared.smtputf8 || server.carries_utf8;
        if takes_utf8 && message.declared.body <= server.carries {
            let content: Box<dyn MessageReader> = match &read.content {
                Some(content) => Box::new(InMemory { content: Some(content.clone()), _place: None }),
                None => courier.store.read_queued(self.number).await.map_err(|error| unreadable(&error))?,
            };
            return Ok((transaction, content));
        }
        let mut place = None;
        let whole = match &read.content {
            Some(content) => content.clone(),
            None if message.octets <= CONVERTIBLE => {
                place = Some(place_for(courier, message.octets)?);
                read_whole(&*courier.store, self.number, message.octets).await.map_err(|error| unreadable(&error))?
            }
            None => return self.prepare_large(courier, transaction, server).await,
        };
        let converted = fit(whole, &mut transaction, server.carries)?;
        Ok((transaction, Box::new(InMemory { content: Some(converted), _place: place })))
    }

    /// A message that is too large to be converted may have been declared more than it is.
    async fn prepare_large(
        &self,
        courier: &Courier,
        mut transaction: Transaction,
        server: Server,
    ) -> std::result::Result<(Transaction, Box<dyn MessageReader>), Refusal> {
        let open = || async { courier.store.read_queued(self.number).await.map_err(|error| unreadable(&error)) };
        let found = inspect(&mut *open().await?).await.map_err(|error| unreadable(&error))?;
        transaction.header_is_ascii = !found.header;
        if transaction.declared.body > server.carries {
            if found.body || found.header || transaction.declared.body == BodyType::BinaryMime {
                let text = "the message would have to be converted for the server, and is too large for that";
                return Err(Refusal::permanent(6, 3, text));
            }
            transaction.declared.body = BodyType::SevenBit;
        }
        Ok((transaction, open().await?))
    }
}

/// Reads letters that come next, unless the first of them was read already. What fails here fails again when it is sent,
/// and is told then.
pub(super) async fn read_ahead(courier: &Courier, letters: &mut VecDeque<Letter>) {
    if letters.front().is_none_or(|first| first.read.is_some()) {
        return;
    }
    let numbers: Vec<MessageNumber> = letters.iter().take(TOGETHER).map(Letter::number).collect();
    let Ok(found) = courier.store.read_queued_ahead(&numbers, READ_AHEAD).await else { return };
    let mut found = found.into_iter().peekable();
    for letter in letters.iter_mut().take(TOGETHER) {
        // They come in the order in which they were asked for.
        if let Some(QueuedContent { message, bytes, .. }) = found.next_if(|found| found.number == letter.number) {
            letter.read = Some(Read { message: Arc::new(message), content: bytes });
        }
    }
}

/// Makes the content such as a server takes.
fn fit(whole: Bytes, transaction: &mut Transaction, carries: BodyType) -> std::result::Result<Bytes, Refusal> {
    transaction.header_is_ascii = header_of(&whole, whole.len()).is_ascii();
    if transaction.declared.body <= carries {
        return Ok(whole);
    }
    let target = if carries == BodyType::SevenBit { Target::SevenBit } else { Target::EightBit };
    let is_lines = transaction.declared.body != BodyType::BinaryMime;
    let converted = match is_lines && whole.is_ascii() {
        // It was declared more than it is.
        true => whole,
        false => convert(&whole, target)
            .map_err(|reason| {
                let detail = if reason == Unconvertible::Header && transaction.declared.smtputf8 { 7 } else { 3 };
                let text =
                    format!("the server does not take the message's content, and it cannot be converted: {reason}");
                Refusal::permanent(6, detail, text)
            })?
            .into(),
    };
    transaction.declared.body = if converted.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime };
    transaction.octets = converted.len() as u64;
    Ok(converted)
}

pub(super) fn unreadable(error: &StoreError) -> Refusal {
    Refusal::transient(3, 0, error.to_string())
}

/// All of a message.
pub(super) async fn read_whole(store: &dyn QueueStore, number: MessageNumber, octets: u64) -> Result<Bytes> {
    let mut reader = store.read_queued(number).await?;
    let first = reader.next().await?.unwrap_or_default();
    if first.len() as u64 >= octets {
        return Ok(first);
    }
    let mut whole = Vec::with_capacity(usize::try_from(octets).unwrap_or(0));
    whole.extend_from_slice(&first);
    while let Some(piece) = reader.next().await? {
        whole.extend_from_slice(&piece);
    }
    Ok(whole.into())
}

/// A message that was read already.
struct InMemory {
    content: Option<Bytes>,
    /// The memory that it was promised.
    _place: Option<OwnedSemaphorePermit>,
}

/// Memory for a message and what it is converted to, which may be half as large again.
fn place_for(courier: &Courier, octets: u64) -> std::result::Result<OwnedSemaphorePermit, Refusal> {
    let kilobytes = u32::try_from(octets / 1024 * 5 / 2 + 1).unwrap_or(u32::MAX);
    Arc::clone(&courier.converting)
        .try_acquire_many_owned(kilobytes)
        .map_err(|_| Refusal::transient(3, 2, "too many large messages are being converted at once; it is tried again"))
}

#[async_trait]
impl MessageReader for InMemory {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        Ok(self.content.take().filter(|content| !content.is_empty()))
    }
}

/// What octets above 127 a message has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct EightBit {
    /// In its header.
    header: bool,
    /// In its body.
    body: bool,
}

/// Reads a message through for octets above 127.
async fn inspect(message: &mut dyn MessageReader) -> Result<EightBit> {
    let mut found = EightBit::default();
    let mut in_header = true;
    // The end of the header may lie across two pieces.
    let mut tail: Vec<u8> = Vec::new();
    while let Some(piece) = message.next().await? {
        if !in_header {
            found.body |= !piece.is_ascii();
            continue;
        }
        tail.extend_from_slice(&piece);
        match memchr::memmem::find(&tail, b"\r\n\r\n") {
            Some(end) => {
                found.header |= !tail[..end].is_ascii();
                found.body |= !tail[end..].is_ascii();
                in_header = false;
            }
            None => {
                found.header |= !tail.is_ascii();
                tail.drain(..tail.len().saturating_sub(3));
            }
        }
    }
    Ok(found)
}

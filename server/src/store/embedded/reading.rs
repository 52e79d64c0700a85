//! Reading several messages of one maildrop in one go: a client that fetches one message mostly wants the next ones, and a
//! blocking thread's turn, a read transaction and the maildrop's lookup cost more than the reading of a small message.

use std::path::Path;

use rusqlite::{CachedStatement, Connection, params};

use super::readers::{MessageFile, PieceReader};
use super::transaction::{find_folder, find_maildrop, from_sql};
use super::{EmbeddedStore, Result};
use crate::store::{MaildropName, StoreError, StoredMessage};

impl EmbeddedStore {
    /// The first of these messages, and of the following as many as the database has whole.
    pub(super) async fn read_several(&self, maildrop: &MaildropName, keys: &[i64]) -> Result<Vec<StoredMessage>> {
        let (mailbox, folder) = (maildrop.mailbox.clone(), maildrop.folder.clone());
        let (bodies, keys) = (self.bodies.clone(), keys.to_vec());
        let query = self.readers.query(move |connection| {
            // One view of the database, and one lock, for all of them. It ends when it is dropped.
            let _transaction = connection.unchecked_transaction()?;
            let number = find_maildrop(connection, &mailbox)?.ok_or(StoreError::NotFound)?;
            let folder = find_folder(connection, number, &folder)?.ok_or(StoreError::NotFound)?;
            collect(connection, &bodies, (number, folder), &keys)
        });
        query.await
    }
}

fn collect(connection: &Connection, bodies: &Path, place: (i64, i64), keys: &[i64]) -> Result<Vec<StoredMessage>> {
    let mut statement = connection.prepare_cached(
        "SELECT entry.fields, entry.body_from, message.trace, message.body_from, message.smtputf8, original.file, \
         original.body_octets, body.bytes FROM entry JOIN message ON message.number = entry.message \
         JOIN message AS original ON original.number = coalesce(message.content_of, message.number) \
         LEFT JOIN body ON body.message = original.number \
         WHERE entry.key = ?1 AND entry.maildrop = ?2 AND entry.folder = ?3",
    )?;
    let mut messages = Vec::with_capacity(keys.len());
    for key in keys {
        match read_one(&mut statement, bodies, place, *key) {
            Ok((message, _)) if messages.is_empty() => messages.push(message),
            Ok((message, None)) => messages.push(message),
            // Whoever asks for that one by itself gets it, or hears what is wrong with it.
            Ok((_, Some(InFile))) | Err(_) if !messages.is_empty() => break,
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(messages)
}

/// A part of the message is in a file.
struct InFile;

fn read_one(
    statement: &mut CachedStatement<'_>,
    bodies: &Path,
    (maildrop, folder): (i64, i64),
    key: i64,
) -> Result<(StoredMessage, Option<InFile>)> {
    let mut rows = statement.query(params![key, maildrop, folder])?;
    let row = rows.next()?.ok_or(StoreError::NotFound)?;
    let blob = |column| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_blob_or_null()?.unwrap_or_default());
    let edited: Option<i64> = row.get(1)?;
    let fields = blob(0)?;
    let trace = if edited.is_none() { blob(2)? } else { &[] };
    let from = from_sql(row.get(3)?) + edited.map_or(0, from_sql);
    let file: Option<String> = row.get(5)?;
    let body = match file {
        Some(_) => &[],
        None => blob(7)?.get(usize::try_from(from).unwrap_or(usize::MAX)..).unwrap_or_default(),
    };
    let beginning = [fields, trace, body].concat();
    let smtputf8 = row.get(4)?;
    let Some(file) = file else {
        return Ok((StoredMessage { key, smtputf8, beginning: beginning.into(), rest: None }, None));
    };
    let file = MessageFile::open(bodies.join(file), from_sql(row.get(6)?), from)?;
    let rest = Box::new(PieceReader::new(Vec::new(), Some(file)));
    Ok((StoredMessage { key, smtputf8, beginning: beginning.into(), rest: Some(rest) }, Some(InFile)))
}

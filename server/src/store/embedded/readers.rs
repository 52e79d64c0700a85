//! Reading beside the committer: a few connections, each used by one query at a time off the asynchronous threads, and
//! readers that give a message piece by piece.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::committer::{Access, Faults, stopped};
use super::schema;
use super::spool::blocking;
use crate::store::{MessageReader, Result, StoreError};

/// Queries at once. They are short; more of them would contend for the same volume.
const CONNECTIONS: usize = 4;
/// The largest piece that a reader gives.
const PIECE: usize = 64 * 1024;

/// The reading connections.
pub(super) struct Readers {
    directory: PathBuf,
    permits: Semaphore,
    idle: Arc<Mutex<Vec<Connection>>>,
    /// `Some`: queries run where they are asked for, instead of on a thread that may block.
    in_place: Option<Faults>,
}

impl Readers {
    pub(super) fn new(directory: PathBuf, in_place: Option<Faults>) -> Self {
        Self { directory, permits: Semaphore::new(CONNECTIONS), idle: Arc::default(), in_place }
    }

    /// Runs a query on one of the connections.
    pub(super) async fn query<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let _permit = self.permits.acquire().await.map_err(|_| stopped())?;
        let (idle, directory) = (Arc::clone(&self.idle), self.directory.clone());
        let query = move || {
            let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match connection {
                Some(connection) => connection,
                None => schema::open_reader(&directory)?,
            };
            let outcome = work(&connection);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            outcome
        };
        match &self.in_place {
            Some(faults) => {
                faults(Access::Read)?;
                query()
            }
            None => blocking(query).await,
        }
    }

    /// Refuses further queries, waits for those that run, and closes the connections.
    pub(super) async fn close(&self) {
        // Fails only when it is closed already.
        let _all = self.permits.acquire_many(CONNECTIONS as u32).await;
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Gives a message: what is in the database first, then the file's content.
pub(super) struct PieceReader {
    memory: VecDeque<Bytes>,
    file: Option<MessageFile>,
}

/// An open message file. It can be read to its end even when the message is deleted meanwhile.
pub(super) struct MessageFile {
    file: File,
    /// Octets that are still to come.
    left: u64,
    path: PathBuf,
}

impl MessageFile {
    /// Opens the file, which must have so many octets, to be read from octet `from` on. Blocks.
    pub(super) fn open(path: PathBuf, octets: u64, from: u64) -> Result<Self> {
        let damaged = |what: String| StoreError::Corrupt(format!("the message file {} {what}", path.display()));
        let mut file = File::open(&path).map_err(|error| damaged(format!("cannot be read ({error})")))?;
        let found = file.metadata()?.len();
        if found != octets {
            return Err(damaged(format!("has {found} octets instead of {octets}")));
        }
        let from = from.min(octets);
        if from > 0 {
            file.seek(SeekFrom::Start(from)).map_err(|error| damaged(format!("cannot be read ({error})")))?;
        }
        Ok(Self { file, left: octets - from, path })
    }

    fn read_piece(&mut self) -> Result<Bytes> {
        let size = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        let mut piece = vec![0; size];
        self.file.read_exact(&mut piece).map_err(|error| {
            StoreError::Corrupt(format!("the message file {} cannot be read ({error})", self.path.display()))
        })?;
        self.left -= size as u64;
        Ok(piece.into())
    }
}

impl PieceReader {
    /// Gives what comes first, then the file.
    pub(super) fn new(beginning: Vec<u8>, file: Option<MessageFile>) -> Self {
        let mut joined = Bytes::from(beginning);
        let mut memory = VecDeque::new();
        while !joined.is_empty() {
            memory.push_back(joined.split_to(joined.len().min(PIECE)));
        }
        Self { memory, file }
    }
}

#[async_trait]
impl MessageReader for PieceReader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if let Some(piece) = self.memory.pop_front() {
            return Ok(Some(piece));
        }
        let Some(mut file) = self.file.take() else { return Ok(None) };
        if file.left == 0 {
            return Ok(None);
        }
        let (file, piece) = blocking(move || {
            let piece = file.read_piece()?;
            Ok((file, piece))
        })
        .await?;
        self.file = Some(file);
        Ok(Some(piece))
    }
}

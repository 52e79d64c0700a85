//! Receives a message: in memory while it is small, then in a file beside the database. File work is done off the
//! asynchronous threads, in pieces.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::space::Space;
use super::volume;
use crate::store::checksum::Summing;
use crate::store::{Body, Result, Spool, SpooledFile, StoreError};

/// Bodies up to this size go into the database. There a body is written twice (to the log, then to its page), but shares
/// its fsync with whatever is committed at the same time; a file is written once, and costs two fsyncs (the file and its
/// directory) that nobody shares. The fsyncs weigh more for small bodies, the second writing for large ones; and a body of
/// this size is still read whole as one piece.
pub(super) const THRESHOLD: usize = 64 * 1024;
/// What is handed to the file at once.
const PIECE: usize = 128 * 1024;
/// After so many octets the volume is asked again whether it has room.
const ROOM_CHECK: u64 = 1024 * 1024;

/// See the module.
pub(super) struct EmbeddedSpool {
    directory: PathBuf,
    space: Space,
    /// Set when the volume fails: the process has to end, and the volume to be mended.
    broken: CancellationToken,
    limit: u64,
    octets: u64,
    pending: Vec<u8>,
    file: Option<Open>,
}

/// A file that is being written. The guard removes it when the spool is dropped.
struct Open {
    file: File,
    guard: SpooledFile,
    summing: Summing,
    /// The last two octets.
    end: [u8; 2],
}

impl EmbeddedSpool {
    pub(super) fn new(directory: PathBuf, space: Space, broken: CancellationToken, limit: u64) -> Self {
        Self { directory, space, broken, limit, octets: 0, pending: Vec::new(), file: None }
    }

    /// Hands what is pending to the file, which is made if need be.
    async fn flush(&mut self, sync: bool) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let (open, directory, space) = (self.file.take(), self.directory.clone(), self.space.clone());
        let written = blocking(move || {
            let mut open = match open {
                Some(open) => open,
                None => create(&directory)?,
            };
            let before = open.guard.octets;
            open.summing.add(&pending);
            for octet in &pending[pending.len().saturating_sub(2)..] {
                open.end = [open.end[1], *octet];
            }
            open.file.write_all(&pending)?;
            open.guard.octets += pending.len() as u64;
            if before / ROOM_CHECK != open.guard.octets / ROOM_CHECK && !space.has_room(0)? {
                return Err(StoreError::DiskFull);
            }
            if sync {
                // The bytes first, then the name: a row must never name a file that a power cut took away.
                open.file.sync_all()?;
                File::open(&directory)?.sync_all()?;
                volume::ask(&open.file)?;
            }
            Ok((open, pending))
        });
        let (open, mut buffer) = written.await.inspect_err(|error| self.note(error))?;
        buffer.clear();
        self.pending = buffer;
        self.file = Some(open);
        Ok(())
    }

    fn note(&self, error: &StoreError) {
        if matches!(error, StoreError::Volume(_)) && !self.broken.is_cancelled() {
            tracing::error!(%error, "the store stops writing until the process is restarted");
            self.broken.cancel();
        }
    }
}

fn create(directory: &std::path::Path) -> Result<Open> {
    let path = directory.join(uuid::Uuid::now_v7().simple().to_string());
    let file = File::options().write(true).create_new(true).open(&path)?;
    let guard = SpooledFile { path, octets: 0, checksums: Vec::new(), ends_line: false, committed: false };
    Ok(Open { file, guard, summing: Summing::default(), end: [0; 2] })
}

/// Runs what blocks on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Failed(error.to_string()))?
}

#[async_trait]
impl Spool for EmbeddedSpool {
    async fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.octets += bytes.len() as u64;
        if self.octets > self.limit {
            return Err(StoreError::Failed(format!("the message is larger than {} octets", self.limit)));
        }
        for piece in bytes.chunks(PIECE) {
            self.pending.extend_from_slice(piece);
            let bound = if self.file.is_some() { PIECE } else { THRESHOLD + 1 };
            if self.pending.len() >= bound {
                self.flush(false).await?;
            }
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Body> {
        if self.file.is_none() && self.pending.len() <= THRESHOLD {
            return Ok(Body::from(Bytes::from(std::mem::take(&mut self.pending))));
        }
        self.flush(true).await?;
        match self.file.take() {
            Some(Open { mut guard, summing, end, .. }) => {
                guard.checksums = summing.finish();
                guard.ends_line = end == *b"\r\n";
                Ok(Body::File(guard))
            }
            None => Err(StoreError::Failed("the message file is not open".to_owned())),
        }
    }
}

//! How much room the volume has. New mail stops at a reserve, so that deleting and settling, which need a little room
//! for the log, still work on a full volume.

use std::path::PathBuf;

use crate::store::Result;

/// The reserve is never more than this …
const RESERVE: u64 = 64 * 1024 * 1024;
/// … nor more than this share of a small volume.
const RESERVE_SHARE: u64 = 20;

/// The volume that holds the store.
#[derive(Debug, Clone)]
pub(super) struct Space {
    directory: PathBuf,
}

impl Space {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Whether so many octets more leave the reserve untouched. Blocks for one system call.
    pub(super) fn has_room(&self, octets: u64) -> Result<bool> {
        let volume = rustix::fs::statvfs(&self.directory).map_err(std::io::Error::from)?;
        let available = volume.f_bavail.saturating_mul(volume.f_frsize);
        let size = volume.f_blocks.saturating_mul(volume.f_frsize);
        Ok(available >= octets.saturating_add(RESERVE.min(size / RESERVE_SHARE)))
    }
}

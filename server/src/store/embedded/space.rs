//! How much room the volume has. New mail stops at a reserve, so that deleting and settling, which need a little room
//! for the log, still work on a full volume.

use std::path::PathBuf;

use crate::store::Result;

/// The reserve is never more than this …
const RESERVE: u64 = 64 * 1024 * 1024;
/// … nor more than this share of a small volume.
const RESERVE_SHARE: u64 = 8;

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
        let (available, size) = self.measure()?;
        Ok(available >= octets.saturating_add(RESERVE.min(size / RESERVE_SHARE)))
    }

    /// Octets that are free, the reserve included.
    pub(super) fn available(&self) -> Result<u64> {
        Ok(self.measure()?.0)
    }

    fn measure(&self) -> Result<(u64, u64)> {
        let volume = rustix::fs::statvfs(&self.directory).map_err(std::io::Error::from)?;
        let octets = |blocks: u64| blocks.saturating_mul(volume.f_frsize);
        Ok((octets(volume.f_bavail), octets(volume.f_blocks)))
    }
}

//! How much room the volume has. New mail stops at a reserve, so that deleting and settling, which need a little room
//! for the log, still work on a full volume.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::store::Result;

/// The reserve is never more than this …
const RESERVE: u64 = 64 * 1024 * 1024;
/// … nor more than this share of a small volume.
const RESERVE_SHARE: u64 = 8;

/// How long a measurement answers for a volume that has plenty …
const FRESH: Duration = Duration::from_millis(250);
/// … which is so much beyond the reserve: more than any volume takes in that time.
const PLENTY: u64 = 1024 * 1024 * 1024;

/// The volume that holds the store. Clones share what was measured.
#[derive(Debug, Clone)]
pub(super) struct Space {
    directory: PathBuf,
    last: Arc<Mutex<Option<Measured>>>,
}

/// What the volume said, and when.
#[derive(Debug, Clone, Copy)]
struct Measured {
    at: Instant,
    available: u64,
    size: u64,
}

impl Measured {
    fn has_room(self, octets: u64) -> bool {
        self.available >= octets.saturating_add(RESERVE.min(self.size / RESERVE_SHARE))
    }
}

impl Space {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, last: Arc::default() }
    }

    /// Whether so many octets more leave the reserve untouched. Blocks for one system call.
    pub(super) fn has_room(&self, octets: u64) -> Result<bool> {
        Ok(self.measure()?.has_room(octets))
    }

    /// Whether a volume that was measured a moment ago had so much room that no question is needed. Does not block: under
    /// load the committer measures with each transaction, and sessions need not.
    pub(super) fn had_plenty(&self, octets: u64) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.at.elapsed() < FRESH && last.has_room(octets.saturating_add(PLENTY)))
    }

    /// Octets that are free, the reserve included.
    pub(super) fn available(&self) -> Result<u64> {
        Ok(self.measure()?.available)
    }

    fn measure(&self) -> Result<Measured> {
        let volume = rustix::fs::statvfs(&self.directory).map_err(std::io::Error::from)?;
        let octets = |blocks: u64| blocks.saturating_mul(volume.f_frsize);
        let (available, size) = (octets(volume.f_bavail), octets(volume.f_blocks));
        let measured = Measured { at: Instant::now(), available, size };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(measured);
        Ok(measured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_answers_for_a_moment_and_only_where_there_is_plenty() {
        let directory = tempfile::tempdir().unwrap();
        let space = Space::new(directory.path().to_owned());
        assert!(!space.had_plenty(0), "nothing was measured yet");
        let available = space.clone().available().unwrap();
        let has_plenty = available >= 2 * PLENTY;
        assert!(space.had_plenty(0) || !has_plenty, "clones share what was measured");
        assert!(!space.had_plenty(available.saturating_sub(PLENTY)));
        let long_ago = Instant::now().checked_sub(2 * FRESH).unwrap();
        space.last.lock().unwrap().as_mut().unwrap().at = long_ago;
        assert!(!space.had_plenty(0));
    }
}

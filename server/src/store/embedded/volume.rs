//! Whether the file system still keeps what it is given. Asked by [`super::committer`] after each commit and by
//! [`super::spool`] after each file, before anybody is told that something is durable.

use std::fs::File;

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};

/// Asks by a file of ours. On ext4 an fsync can succeed although the journal has just been given up: when another fsync
/// began the commit that failed, it finds nothing to wait for. The journal notices at the first change of an inode, and
/// answers the second with an error. Neither waits for the volume.
///
/// # Errors
/// What the file system says: what was written last may be lost.
pub(super) fn ask(file: &File) -> std::io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    for _ in 0..2 {
        futimens(file, &Timestamps { last_access: now, last_modification: now })?;
    }
    Ok(())
}

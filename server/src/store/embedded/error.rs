//! Turns what SQLite and the operating system say into what the store's callers can act on.

use rusqlite::ffi;

use crate::store::StoreError;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let rusqlite::Error::SqliteFailure(code, _) = &error else {
            return match error {
                rusqlite::Error::QueryReturnedNoRows => Self::NotFound,
                other => Self::Failed(other.to_string()),
            };
        };
        match (code.extended_code & 0xff, code.extended_code) {
            // Without room SQLite cannot lengthen its shared-memory index either, and says so in another way.
            (ffi::SQLITE_FULL, _) | (_, ffi::SQLITE_IOERR_SHMSIZE) => Self::DiskFull,
            (ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB, _) => Self::Corrupt(error.to_string()),
            _ if is_fatal(&error) => Self::Volume(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ if is_of_the_volume(&error) => Self::Volume(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Whether the volume fails or the file is damaged: nothing may be written after it. The kernel reports a failed fsync once
/// and forgets the pages; a second fsync that succeeds would prove nothing. A volume that failed once often stays read-only
/// until it is mounted again, which a new process in its place may find done.
pub(super) fn is_fatal(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(code, _) = error else { return false };
    let is_room = [ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_NOMEM].contains(&code.extended_code);
    let fatal = [ffi::SQLITE_IOERR, ffi::SQLITE_READONLY, ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB];
    fatal.contains(&(code.extended_code & 0xff)) && !is_room
}

/// Whether the operating system speaks of the volume itself, not of this process or of one file.
fn is_of_the_volume(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let of_volume = [Errno::IO, Errno::ROFS, Errno::NXIO, Errno::NODEV, Errno::UCLEAN, Errno::STALE];
    error.raw_os_error().is_some_and(|code| of_volume.contains(&Errno::from_raw_os_error(code)))
}

/// Whether a COMMIT that failed in this way surely left nothing: there was no room for the log, which comes before the log
/// is made durable. What SQLite does after that, as lengthening the shared-memory index, may fail too, and a process that
/// starts then finds the transaction in the log.
pub(super) fn was_surely_undone(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(code, _) = error else { return false };
    code.extended_code & 0xff == ffi::SQLITE_FULL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_undone_only_when_it_failed_before_the_log_was_durable() {
        let failed = |code| was_surely_undone(&rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        assert!(failed(ffi::SQLITE_FULL));
        for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_SHMMAP, ffi::SQLITE_NOMEM] {
            assert!(!failed(code), "{code}");
        }
    }
    #[test]
    fn a_failing_volume_is_told_from_a_full_one() {
        let sqlite = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        for code in [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_READ, ffi::SQLITE_READONLY] {
            assert!(is_fatal(&sqlite(code)) && matches!(sqlite(code).into(), StoreError::Volume(_)), "{code}");
        }
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_SHMSIZE] {
            assert!(!is_fatal(&sqlite(code)) && matches!(sqlite(code).into(), StoreError::DiskFull), "{code}");
        }
        let system = |code: rustix::io::Errno| StoreError::from(std::io::Error::from(code));
        assert!(matches!(system(rustix::io::Errno::IO), StoreError::Volume(_)));
        assert!(matches!(system(rustix::io::Errno::NOSPC), StoreError::DiskFull));
        assert!(matches!(system(rustix::io::Errno::MFILE), StoreError::Failed(_)), "the process ran out of files");
    }
}

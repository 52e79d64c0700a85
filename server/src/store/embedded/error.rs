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
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Whether the outcome of a commit is unknown, or the file is damaged: nothing may be written after it. The kernel
/// reports a failed fsync once and forgets the pages; a second fsync that succeeds would prove nothing.
pub(super) fn is_fatal(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(code, _) = error else { return false };
    let fsync = [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC].contains(&code.extended_code);
    fsync || [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB].contains(&(code.extended_code & 0xff))
}

/// Whether a COMMIT that failed in this way surely left nothing: there was no room for the log, or it could not be written.
/// Both come before the log is made durable. What SQLite does after that, as lengthening the shared-memory index, may fail
/// too, and a process that starts then finds the transaction in the log.
pub(super) fn was_surely_undone(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(code, _) = error else { return false };
    code.extended_code & 0xff == ffi::SQLITE_FULL || code.extended_code == ffi::SQLITE_IOERR_WRITE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_undone_only_when_it_failed_before_the_log_was_durable() {
        let failed = |code| was_surely_undone(&rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        assert!(failed(ffi::SQLITE_FULL) && failed(ffi::SQLITE_IOERR_WRITE));
        for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_SHMMAP, ffi::SQLITE_NOMEM] {
            assert!(!failed(code), "{code}");
        }
    }
}

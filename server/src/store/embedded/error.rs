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

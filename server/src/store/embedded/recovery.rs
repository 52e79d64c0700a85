//! What the store does before it opens: takes its directory for itself, refuses to start empty where mail was, removes
//! message files that no row names, and reports rows whose file is gone.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};

use super::schema;
use crate::store::{Result, StoreError};

/// Locked while a process has the store; says which database belongs here.
const LOCK_FILE: &str = "store.lock";
/// Where message files are.
const BODIES: &str = "bodies";

/// A store's directory, ours alone, with its database open.
pub(super) struct Opened {
    pub(super) lock: File,
    pub(super) connection: Connection,
    pub(super) bodies: PathBuf,
}

/// Opens the store of `directory`, making it where there was none. Blocks.
pub(super) fn open(directory: &Path) -> Result<Opened> {
    let cannot = |error: std::io::Error| {
        StoreError::Failed(format!("the mail store's directory {} cannot be used: {error}", directory.display()))
    };
    let bodies = directory.join(BODIES);
    fs::create_dir_all(&bodies).map_err(cannot)?;
    let mut lock = take_lock(directory)?;
    let mut known = String::new();
    lock.read_to_string(&mut known).map_err(cannot)?;
    let had_mail = !known.trim().is_empty();
    if had_mail && !directory.join(schema::DATABASE_FILE).exists() {
        return Err(StoreError::Corrupt(format!(
            "{} is missing, though a store was made here; restore it from a backup, or move the whole directory aside \
             to start empty",
            directory.join(schema::DATABASE_FILE).display()
        )));
    }
    let connection = schema::open_database(directory, !had_mail)?;
    let identity = schema::identity(&connection)?;
    if known.trim() != identity {
        record_identity(&mut lock, &identity).map_err(cannot)?;
    }
    sweep(&connection, &bodies)?;
    Ok(Opened { lock, connection, bodies })
}

/// Takes the directory for this process alone.
pub(super) fn take_lock(directory: &Path) -> Result<File> {
    let path = directory.join(LOCK_FILE);
    let lock = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Failed(format!(
            "{} is locked: another paquebot-server uses this data directory; stop it first or give this one its own",
            path.display()
        ))),
        Err(error) => Err(std::io::Error::from(error).into()),
    }
}

/// Whether another process has the store of this directory. It may have ended a moment later.
pub fn is_in_use(directory: &Path) -> bool {
    let lock = File::options().read(true).write(true).open(directory.join(LOCK_FILE));
    lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK))
}

fn record_identity(lock: &mut File, identity: &str) -> std::io::Result<()> {
    lock.rewind()?;
    lock.set_len(0)?;
    writeln!(lock, "{identity}")?;
    lock.sync_all()
}

/// Removes files that no row names: those of messages that were never acknowledged, or that were deleted just before a
/// crash.
fn sweep(connection: &Connection, bodies: &Path) -> Result<()> {
    let mut named: HashSet<String> = HashSet::new();
    let mut statement = connection.prepare("SELECT file FROM message WHERE file IS NOT NULL")?;
    for name in statement.query_map([], |row| row.get::<_, String>(0))? {
        named.insert(name?);
    }
    let mut removed = 0_u64;
    for file in fs::read_dir(bodies)? {
        let file = file?;
        if !file.file_name().to_str().is_some_and(|name| named.remove(name)) && file.file_type()?.is_file() {
            fs::remove_file(file.path())?;
            removed += 1;
        }
    }
    if removed > 0 {
        tracing::info!(removed, "removed message files that belonged to no message");
    }
    for missing in named {
        // The other messages are whole and have to be served.
        tracing::error!(file = %bodies.join(&missing).display(), "a message file is missing; restore it from a backup");
    }
    Ok(())
}

//! What the store does before it opens: takes its directory for itself, refuses to start empty where mail was, finishes
//! deletions that had begun, removes message files that no row names, and reports rows whose file is gone.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};

use super::{deletion, schema};
use crate::store::{Result, StoreError};

/// Locked while a process has the store; says which database belongs here.
const LOCK_FILE: &str = "store.lock";
/// Where message files are.
const BODIES: &str = "bodies";
/// Where message files go that no row names, when there are more of them than a crash leaves.
const ORPHANS: &str = "orphans";
/// How many a crash may leave: those that were being received, and those of one transaction that deletes.
const LEFT_BY_A_CRASH: usize = 5000;

/// A store's directory, ours alone, with its database open.
pub(super) struct Opened {
    pub(super) lock: File,
    pub(super) connection: Connection,
    pub(super) bodies: PathBuf,
    /// Rows of deletions for which there was no room.
    pub(super) unfinished: Vec<i64>,
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
            "{} is missing, though a store was made here: move the whole directory aside, and let `paquebot-server store \
             restore` put a backup into an empty one",
            directory.join(schema::DATABASE_FILE).display()
        )));
    }
    let mut connection = schema::open_database(directory, !had_mail)?;
    let identity = schema::identity(&connection)?;
    if known.trim() != identity {
        record_identity(&mut lock, &identity).map_err(cannot)?;
    }
    let unfinished = deletion::finish_all(&mut connection, &bodies)?;
    sweep(&connection, &bodies, LEFT_BY_A_CRASH)?;
    Ok(Opened { lock, connection, bodies, unfinished })
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

/// The names of all message files, from an index alone: start-up reads no messages.
const FILES: &str = "SELECT file FROM message INDEXED BY message_file WHERE file IS NOT NULL";

/// Removes files that no row names: those of messages that were never acknowledged, or that were deleted just before a
/// crash. So many that no crash explains them are kept aside: somebody has put an older database beside them.
fn sweep(connection: &Connection, bodies: &Path, most: usize) -> Result<()> {
    let mut named = Named::read(connection)?;
    let mut orphans = Vec::new();
    for file in fs::read_dir(bodies)? {
        let file = file?;
        if !file.file_name().to_str().is_some_and(|name| named.is_seen(name)) && file.file_type()?.is_file() {
            orphans.push(file.file_name());
        }
    }
    if orphans.len() > most {
        keep_aside(bodies, &orphans)?;
    } else if !orphans.is_empty() {
        for name in &orphans {
            fs::remove_file(bodies.join(name))?;
        }
        tracing::info!(removed = orphans.len(), "removed message files that belonged to no message");
    }
    for missing in named.unseen() {
        // The other messages are whole and have to be served.
        tracing::error!(file = %bodies.join(&missing).display(), "a message file is missing; restore it from a backup");
    }
    Ok(())
}

/// The names of message files that rows have. Ours are 32 hexadecimal digits, of which there may be a million: as numbers they
/// take a fifth of the memory.
struct Named {
    /// In ascending order.
    ours: Vec<u128>,
    seen: Vec<bool>,
    others: HashSet<String>,
}

impl Named {
    fn read(connection: &Connection) -> Result<Self> {
        let (mut ours, mut others) = (Vec::new(), HashSet::new());
        let mut statement = connection.prepare(FILES)?;
        for name in statement.query_map([], |row| row.get::<_, String>(0))? {
            let name = name?;
            match number(&name) {
                Some(number) => ours.push(number),
                None => drop(others.insert(name)),
            }
        }
        ours.sort_unstable();
        ours.dedup();
        let seen = vec![false; ours.len()];
        Ok(Self { ours, seen, others })
    }

    /// Whether a row has this name, which is there then.
    fn is_seen(&mut self, name: &str) -> bool {
        let Some(place) = number(name).and_then(|number| self.ours.binary_search(&number).ok()) else {
            return self.others.remove(name);
        };
        self.seen.get_mut(place).is_some_and(|seen| {
            *seen = true;
            true
        })
    }

    /// Those of which there was no file.
    fn unseen(self) -> impl Iterator<Item = String> {
        let ours = self.ours.into_iter().zip(self.seen).filter(|(_, seen)| !seen);
        ours.map(|(number, _)| format!("{number:032x}")).chain(self.others)
    }
}

/// The number that a name of ours writes; `None` for every other name.
fn number(name: &str) -> Option<u128> {
    let number = u128::from_str_radix(name, 16).ok()?;
    (format!("{number:032x}") == name).then_some(number)
}

fn keep_aside(bodies: &Path, orphans: &[OsString]) -> Result<()> {
    let aside = bodies.with_file_name(ORPHANS);
    fs::create_dir_all(&aside)?;
    for name in orphans {
        fs::rename(bodies.join(name), aside.join(name))?;
    }
    tracing::warn!(
        files = orphans.len(),
        place = %aside.display(),
        "message files that belong to no message were moved aside: is the database older than they are? Remove them when \
         nobody misses them"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_no_message_are_removed_or_when_they_are_many_kept_aside() {
        let directory = tempfile::tempdir().unwrap();
        let opened = open(directory.path()).unwrap();
        let names = || fs::read_dir(&opened.bodies).unwrap().count();
        let leave = |count: usize| {
            for number in 0..count {
                fs::write(opened.bodies.join(number.to_string()), "a message").unwrap();
            }
        };
        leave(3);
        sweep(&opened.connection, &opened.bodies, 3).unwrap();
        assert_eq!(names(), 0);
        assert!(!directory.path().join(ORPHANS).exists());
        leave(4);
        sweep(&opened.connection, &opened.bodies, 3).unwrap();
        assert_eq!((names(), fs::read_dir(directory.path().join(ORPHANS)).unwrap().count()), (0, 4));
    }

    #[test]
    fn names_of_files_are_ours_or_anything() {
        let directory = tempfile::tempdir().unwrap();
        let opened = open(directory.path()).unwrap();
        let ours = [
            "0189f7b0c0de70008000000000000001",
            "00000000000000000000000000000000",
            "ffffffffffffffffffffffffffffffff",
        ];
        let others = ["FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF0", "+189f7b0c0de70008000000000000001", "1", "\u{e4}"];
        for name in ours.iter().chain(&others) {
            let row = "INSERT INTO message (id, received_at, body_type, smtputf8, trace, body_octets, file, message_references) \
                       VALUES (?1, 0, 0, 0, x'', 0, ?1, 1)";
            opened.connection.execute(row, [name]).unwrap();
        }
        let mut named = Named::read(&opened.connection).unwrap();
        assert!(
            !named.is_seen("0189f7b0c0de70008000000000000002") && !named.is_seen("fffffffffffffffffffffffffffffff0")
        );
        for name in [ours[0], ours[2], others[0], others[1], others[3]] {
            assert!(named.is_seen(name), "{name}");
        }
        assert_eq!(named.unseen().collect::<Vec<_>>(), [ours[1], others[2]]);
    }

    #[test]
    fn start_up_finds_message_files_by_their_index() {
        let directory = tempfile::tempdir().unwrap();
        let opened = open(directory.path()).unwrap();
        let plan = format!("EXPLAIN QUERY PLAN {FILES}");
        let plan: String = opened.connection.query_row(&plan, [], |row| row.get(3)).unwrap();
        assert!(plan.contains("USING COVERING INDEX message_file"), "{plan}");
    }
}

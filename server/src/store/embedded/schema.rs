//! The tables of the embedded store, how a database is made, opened, brought forward and checked. Called when the
//! store opens, before any thread runs.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::tools::check::with_offset;
use super::transaction::from_sql;
use crate::store::{Result, StoreError};

/// The database in the store's directory.
pub(super) const DATABASE_FILE: &str = "mail.db";
/// `PRAGMA application_id`: "PQBT", so that `file` and we know whose database it is.
const APPLICATION_ID: i32 = 0x5051_4254;
/// What a database of this program begins with.
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Up to this size every page is looked at when the store opens: some tenths of a second on a slow volume. Beyond it
/// the schema alone is checked; damage elsewhere shows when the page is read.
const QUICK_CHECK_LIMIT: u64 = 128 * 1024 * 1024;

/// Each step brings a database from the version of its position to the next. Steps are only ever added.
const MIGRATIONS: &[&str] =
    &[VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6, VERSION_7, VERSION_8, VERSION_9, VERSION_10];

// Numbers that are given once in a store's life (AUTOINCREMENT) keep unique-ids unique. `message_references` counts
// maildrop entries and queued recipients together. A body has a table of its own, so that counting does not rewrite it.
// The index on entries has all that a scan listing needs.
const VERSION_1: &str = "
    CREATE TABLE message (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        received_at INTEGER NOT NULL,
        reverse_path TEXT,
        eight_bit INTEGER NOT NULL,
        smtputf8 INTEGER NOT NULL,
        trace BLOB NOT NULL,
        body_octets INTEGER NOT NULL,
        file TEXT,
        message_references INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE body (
        message INTEGER PRIMARY KEY,
        bytes BLOB NOT NULL
    ) STRICT;
    CREATE TABLE maildrop (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        messages INTEGER NOT NULL,
        octets INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE entry (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        maildrop INTEGER NOT NULL,
        message INTEGER NOT NULL,
        octets INTEGER NOT NULL,
        run INTEGER NOT NULL,
        fields BLOB NOT NULL
    ) STRICT;
    CREATE INDEX entry_listing ON entry (maildrop, key, octets, run);
    CREATE TABLE recipient (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        message INTEGER NOT NULL,
        address TEXT NOT NULL,
        domain TEXT NOT NULL,
        due INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        warned INTEGER NOT NULL,
        last_error TEXT
    ) STRICT;
    CREATE INDEX recipient_by_due ON recipient (due);
    CREATE INDEX recipient_by_domain ON recipient (domain, due);
    CREATE TABLE identity (name TEXT NOT NULL) STRICT;
    INSERT INTO identity (name) VALUES (lower(hex(randomblob(16))));
";

// A derived message has the content of another one (`content_of`), of which it holds a reference. `priority` is repeated
// with the recipients, which are claimed by it. A folder is a number per mailbox; 0 is the inbox.
const VERSION_2: &str = "
    ALTER TABLE message RENAME COLUMN eight_bit TO body_type;
    ALTER TABLE message ADD COLUMN require_tls INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE message ADD COLUMN priority INTEGER;
    ALTER TABLE message ADD COLUMN ret INTEGER;
    ALTER TABLE message ADD COLUMN envelope_id TEXT;
    ALTER TABLE message ADD COLUMN hold_until INTEGER;
    ALTER TABLE message ADD COLUMN deliver_by INTEGER;
    ALTER TABLE message ADD COLUMN deliver_by_mode INTEGER;
    ALTER TABLE message ADD COLUMN content_of INTEGER;
    ALTER TABLE message ADD COLUMN body_from INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE entry ADD COLUMN folder INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE entry ADD COLUMN body_from INTEGER;
    DROP INDEX entry_listing;
    CREATE INDEX entry_listing ON entry (maildrop, folder, key, octets, run);
    CREATE TABLE folder (
        number INTEGER PRIMARY KEY,
        maildrop INTEGER NOT NULL,
        name TEXT NOT NULL,
        UNIQUE (maildrop, name)
    ) STRICT;
    ALTER TABLE recipient ADD COLUMN notify INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE recipient ADD COLUMN original TEXT;
    ALTER TABLE recipient ADD COLUMN route TEXT;
    ALTER TABLE recipient ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE recipient ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE remembrance (
        mailbox TEXT NOT NULL,
        what TEXT NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (mailbox, what)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX remembrance_by_end ON remembrance (until);
";

// The scheduler asks what has become due, what a destination has by priority, and what by sender; each has its index. What
// is held (1) or dropped by a person (2, 3) is in none of them. `queue_total` spares counting a long queue again and again.
const VERSION_3: &str = "
    ALTER TABLE recipient ADD COLUMN sender TEXT NOT NULL DEFAULT '<>';
    UPDATE recipient SET sender =
        coalesce((SELECT reverse_path FROM message WHERE message.number = recipient.message), '<>');
    DROP INDEX recipient_by_due;
    DROP INDEX recipient_by_domain;
    CREATE INDEX recipient_by_due ON recipient (due, domain, route) WHERE held = 0;
    CREATE INDEX recipient_by_priority ON recipient (domain, route, priority, due) WHERE held = 0;
    CREATE INDEX recipient_by_sender ON recipient (domain, route, sender, due) WHERE held = 0;
    CREATE INDEX recipient_by_message ON recipient (message);
    CREATE INDEX recipient_dropped ON recipient (held) WHERE held > 1;
    CREATE TABLE queue_total (waiting INTEGER NOT NULL, tried INTEGER NOT NULL, held INTEGER NOT NULL) STRICT;
    INSERT INTO queue_total SELECT count(*), coalesce(sum(attempts > 0), 0), coalesce(sum(held > 0), 0) FROM recipient;
    CREATE TRIGGER recipient_added AFTER INSERT ON recipient BEGIN
        UPDATE queue_total SET waiting = waiting + 1, tried = tried + (NEW.attempts > 0), held = held + (NEW.held > 0);
    END;
    CREATE TRIGGER recipient_gone AFTER DELETE ON recipient BEGIN
        UPDATE queue_total SET waiting = waiting - 1, tried = tried - (OLD.attempts > 0), held = held - (OLD.held > 0);
    END;
    CREATE TRIGGER recipient_changed AFTER UPDATE OF attempts, held ON recipient
    WHEN (OLD.attempts > 0) <> (NEW.attempts > 0) OR (OLD.held > 0) <> (NEW.held > 0) BEGIN
        UPDATE queue_total SET tried = tried + (NEW.attempts > 0) - (OLD.attempts > 0),
            held = held + (NEW.held > 0) - (OLD.held > 0);
    END;
";

// Without checksums is what an older version accepted. The index has all that start-up asks of messages.
const VERSION_4: &str = "
    ALTER TABLE message ADD COLUMN checksums BLOB;
    CREATE INDEX message_file ON message (file) WHERE file IS NOT NULL;
";

// Deletions of many messages that have begun, by their first entry: its keys, eight octets each, in ascending order.
const VERSION_5: &str = "
    CREATE TABLE deletion (
        first INTEGER PRIMARY KEY,
        maildrop INTEGER NOT NULL,
        folder INTEGER NOT NULL,
        keys BLOB NOT NULL
    ) STRICT;
";

// Whether a message's content ends without CRLF, which POP3 adds. Entries that an older version made do not count it.
const VERSION_6: &str = "ALTER TABLE message ADD COLUMN unended INTEGER NOT NULL DEFAULT 0;";

// The same address of another tenant is another maildrop. What was there before is nobody's, and becomes the first user's.
const VERSION_7: &str = "
    ALTER TABLE maildrop RENAME TO maildrop_without_tenant;
    CREATE TABLE maildrop (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        tenant TEXT NOT NULL,
        messages INTEGER NOT NULL,
        octets INTEGER NOT NULL,
        UNIQUE (name, tenant)
    ) STRICT;
    INSERT INTO maildrop (number, name, tenant, messages, octets)
        SELECT number, name, '', messages, octets FROM maildrop_without_tenant;
    DROP TABLE maildrop_without_tenant;
";

// Whose an address here was when its row was made; without: nobody was told apart, or it was not served here.
const VERSION_8: &str = "ALTER TABLE recipient ADD COLUMN tenant TEXT;";

// The same of the reverse-path, for what is reported to it.
const VERSION_9: &str = "ALTER TABLE message ADD COLUMN sender_tenant TEXT;";

// What RETR sends of a message with a header in UTF-8 to a client that has not said UTF8. Few have it, so that the listing
// finds those by an index of their own. Entries that an older version made do not.
const VERSION_10: &str = "
    ALTER TABLE entry ADD COLUMN ascii_octets INTEGER;
    CREATE INDEX entry_in_ascii ON entry (maildrop, folder, key, ascii_octets) WHERE ascii_octets IS NOT NULL;
";

/// Opens the database of `directory`, making it when `may_create`.
pub(super) fn open_database(directory: &Path, may_create: bool) -> Result<Connection> {
    let path = directory.join(DATABASE_FILE);
    match fs::symlink_metadata(&path) {
        Ok(_) => check_header(&path)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_create => create(directory, &path)?,
        Err(error) => return Err(damaged(&path, &format!("it cannot be read ({error})"))),
    }
    prepare(&path).map_err(|error| match error {
        // SQLite does not name the file.
        StoreError::Corrupt(what) if !what.contains(DATABASE_FILE) => damaged(&path, &what),
        other => other,
    })
}

fn prepare(path: &Path) -> Result<Connection> {
    let mut connection = connect(path, false)?;
    check_identity(&connection, path)?;
    migrate(&mut connection, path, MIGRATIONS)?;
    check_content(&connection, path, QUICK_CHECK_LIMIT)?;
    Ok(connection)
}

/// Whether a reader understands the database; it does not bring it forward.
pub(super) fn check_version(connection: &Connection, path: &Path) -> Result<()> {
    check_header(path)?;
    check_identity(connection, path)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let newest = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found == newest {
        return Ok(());
    }
    Err(StoreError::Failed(format!(
        "{} has schema version {found}, and this paquebot-server works with {newest}: use the version that serves it, or \
         let this one serve it once",
        path.display()
    )))
}

/// A further connection, for a reader.
pub(super) fn open_reader(directory: &Path) -> Result<Connection> {
    connect(&directory.join(DATABASE_FILE), true)
}

/// The name that the database was given when it was made.
pub(super) fn identity(connection: &Connection) -> Result<String> {
    Ok(connection.query_row("SELECT name FROM identity", [], |row| row.get(0))?)
}

/// Makes the database aside and renames it, so that a crash cannot leave an empty one under its name.
fn create(directory: &Path, path: &Path) -> Result<()> {
    let aside = directory.join("mail.db.new");
    for leftover in [aside.clone(), with_suffix(&aside, "-wal"), with_suffix(&aside, "-shm")] {
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let mut connection = empty(&aside)?;
    migrate(&mut connection, path, MIGRATIONS)?;
    connection.close().map_err(|(_, error)| error)?;
    File::open(&aside)?.sync_all()?;
    fs::rename(&aside, path)?;
    File::open(directory)?.sync_all()?;
    Ok(())
}

/// A database without tables.
fn empty(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    // These three are laid down in the file itself and must come before the first table.
    connection.pragma_update(None, "page_size", 8192)?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    configure(&connection)?;
    Ok(connection)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn connect(path: &Path, read_only: bool) -> Result<Connection> {
    let access = if read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    if read_only {
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "cache_size", -1024)?;
        connection.busy_timeout(BUSY)?;
    } else {
        configure(&connection)?;
    }
    // One plan for each statement, whatever it is asked with: else SQLite makes it anew for other arguments, which costs
    // more than a small query itself.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // The last connection that closes would carry the log over and remove it, also when an fsync has failed before: what was
    // lost then would be lost from the log too. The committer carries it over where that is safe.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// How long a statement waits for another process that has the database.
pub(super) const BUSY: std::time::Duration = std::time::Duration::from_secs(10);

/// What each writing connection needs. `synchronous=FULL` makes WAL mode sync at each commit: promise 1.
fn configure(connection: &Connection) -> Result<()> {
    connection.busy_timeout(BUSY)?;
    let mode: String = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        let reason = format!("the volume does not support SQLite's WAL mode (it gave {mode}); use a local file system");
        return Err(StoreError::Failed(reason));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    // The image's root is read-only: nothing temporary may go to a file.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -8192)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    // The committer does it, where an error of it is seen.
    connection.query_row("PRAGMA wal_autocheckpoint=0", [], |_| Ok(()))?;
    connection.query_row("PRAGMA journal_size_limit=67108864", [], |_| Ok(()))?;
    Ok(())
}

fn check_header(path: &Path) -> Result<()> {
    let mut header = [0; 16];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    if read.is_err() || header != *SQLITE_MAGIC {
        return Err(damaged(path, "it does not begin as an SQLite database does"));
    }
    Ok(())
}

fn check_identity(connection: &Connection, path: &Path) -> Result<()> {
    let found: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if found == APPLICATION_ID { Ok(()) } else { Err(damaged(path, "it is the database of another program")) }
}

/// Brings the database to the newest version, or says why not.
fn migrate(connection: &mut Connection, path: &Path, steps: &[&str]) -> Result<()> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let newest = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    if found > newest {
        return Err(StoreError::Failed(format!(
            "{} has schema version {found}, written by a newer paquebot-server; this one knows up to {newest}: \
             run the newer version again, or restore a backup from before the upgrade",
            path.display()
        )));
    }
    let steps: Vec<_> = (1..).zip(steps).skip(usize::try_from(found).unwrap_or(0)).collect();
    if found == 0 {
        // A new database has nothing that takes time.
        return steps.into_iter().try_for_each(|(version, step)| take_step(connection, version, step));
    }
    if steps.is_empty() {
        return Ok(());
    }
    let taken = sort_on_volume(connection, path).and_then(|()| take_steps(connection, &steps, newest));
    // Also when a step failed: the directory is the process's, not the connection's.
    let restored = sort_in_memory(connection);
    taken.and(restored)
}

/// What is sorted for an index grows with the mail, and memory does not: it goes to the volume, which has to have room for
/// the log of a step anyhow. The image's own directories are read-only.
fn sort_on_volume(connection: &Connection, path: &Path) -> Result<()> {
    connection.pragma_update(None, "temp_store_directory", path.parent().and_then(Path::to_str).unwrap_or_default())?;
    Ok(connection.pragma_update(None, "temp_store", "FILE")?)
}

fn sort_in_memory(connection: &Connection) -> Result<()> {
    let memory = connection.pragma_update(None, "temp_store", "MEMORY");
    connection.pragma_update(None, "temp_store_directory", "")?;
    Ok(memory?)
}

fn take_steps(connection: &mut Connection, steps: &[(i64, &&str)], newest: i64) -> Result<()> {
    for (version, step) in steps.iter().copied() {
        let begun = std::time::Instant::now();
        tracing::info!(version, newest, "bringing the mail store to a newer schema; no mail is served meanwhile");
        take_step(connection, version, step)?;
        // Else the log would grow by what all steps write.
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        tracing::info!(version, seconds = begun.elapsed().as_secs_f64(), "the mail store has the newer schema");
    }
    Ok(())
}

/// One step: whole, or not at all.
fn take_step(connection: &mut Connection, version: i64, step: &str) -> Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(step)?;
    transaction.pragma_update(None, "user_version", version)?;
    Ok(transaction.commit()?)
}

fn check_content(connection: &Connection, path: &Path, limit: u64) -> Result<()> {
    let check = if fs::metadata(path)?.len() <= limit {
        "PRAGMA quick_check(1)"
    } else {
        // Looks at the pages of this one table and at the schema itself.
        "PRAGMA quick_check(sqlite_schema)"
    };
    let verdict: String = connection.query_row(check, [], |row| row.get(0))?;
    let page_size: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(damaged(path, &with_offset(&verdict, from_sql(page_size)))) }
}

fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Corrupt(format!(
        "{}: {what}; nothing was changed: move the whole directory aside, and let `paquebot-server store restore` put a \
         backup into an empty one",
        path.display()
    ))
}

/// For tests of old databases.
#[cfg(test)]
pub(super) fn new_database_of_version_1(path: &Path) -> Result<Connection> {
    let mut connection = empty(path)?;
    migrate(&mut connection, path, &MIGRATIONS[..1])?;
    Ok(connection)
}

#[cfg(test)]
pub(super) fn bring_to(connection: &mut Connection, path: &Path, version: usize) -> Result<()> {
    migrate(connection, path, &MIGRATIONS[..version])
}

#[cfg(test)]
pub(super) fn newest() -> usize {
    MIGRATIONS.len()
}

#[cfg(test)]
mod tests {
    use rusqlite::OptionalExtension;

    use super::*;

    #[test]
    fn a_database_is_brought_forward_step_by_step_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(DATABASE_FILE);
        let mut connection = open_database(directory.path(), true).unwrap();
        let good = [MIGRATIONS, &["CREATE TABLE another (a INTEGER) STRICT"]].concat();
        let bad = [&good[..], &["nonsense"]].concat();
        let newest = i64::try_from(good.len()).unwrap();
        assert!(migrate(&mut connection, &path, &good).is_ok());
        let version = |connection: &Connection| -> i64 {
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
        };
        assert_eq!(version(&connection), newest);
        assert!(migrate(&mut connection, &path, &bad).is_err());
        assert_eq!(version(&connection), newest, "a step that fails leaves the version before it");
        let temp_store: i64 = connection.query_row("PRAGMA temp_store", [], |row| row.get(0)).unwrap();
        assert_eq!(temp_store, 2, "in memory, as always");
        let of_process =
            connection.query_row("PRAGMA temp_store_directory", [], |row| row.get::<_, String>(0)).optional().unwrap();
        // Other tests of this process may be on their way.
        assert_ne!(of_process.as_deref(), directory.path().to_str(), "nothing temporary goes there any more");
    }

    /// Neither memory nor the log grow with the mail of a store that is brought forward.
    #[test]
    fn the_log_of_each_step_is_carried_over_and_nothing_temporary_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(DATABASE_FILE);
        let old = new_database_of_version_1(&path).unwrap();
        old.execute_batch(
            "WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < 20000)
             INSERT INTO message (id, received_at, eight_bit, smtputf8, trace, body_octets, file, message_references)
                 SELECT n, 0, 0, 0, x'', 0, hex(randomblob(16)), 1 FROM count;",
        )
        .unwrap();
        drop(old);
        let connection = open_database(directory.path(), false).unwrap();
        assert_eq!(fs::metadata(with_suffix(&path, "-wal")).unwrap().len(), 0);
        let temp_store: i64 = connection.query_row("PRAGMA temp_store", [], |row| row.get(0)).unwrap();
        assert_eq!(temp_store, 2, "in memory, as always");
        let mut names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["mail.db", "mail.db-shm", "mail.db-wal"]);
    }

    #[test]
    fn a_large_database_is_checked_in_its_schema() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(DATABASE_FILE);
        let connection = open_database(directory.path(), true).unwrap();
        assert!(check_content(&connection, &path, 0).is_ok());
        drop(connection);
        let mut bytes = fs::read(&path).unwrap();
        bytes[100..8192].fill(0xa5);
        fs::write(&path, bytes).unwrap();
        assert!(
            matches!(open_database(directory.path(), true), Err(StoreError::Corrupt(text)) if text.contains(DATABASE_FILE))
        );
    }
}

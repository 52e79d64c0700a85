//! A copy of a store while it is served, and the way back.
//!
//! The database is copied in one read transaction; message files never change, so that a second link is a copy. What was
//! deleted while the files were copied is taken out of the copy, which is checked before it gets its name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::Backup;

use super::check::{Report, check};
use super::contents::{Depth, broken_contents};
use super::{BODIES, snapshot, sync_directory};
use crate::store::embedded::recovery;
use crate::store::embedded::schema::DATABASE_FILE;
use crate::store::{Result, StoreError};

/// Copies the store of `directory` to `target`, which must not exist yet.
///
/// # Errors
/// When `target` exists, has no room, or the store is damaged.
pub fn backup(directory: &Path, target: &Path) -> Result<Report> {
    refuse(target.exists(), || format!("{} exists already: a backup goes to a new directory", target.display()))?;
    let partial = partial(target);
    if partial.exists() {
        refuse(!partial.join(DATABASE_FILE).exists(), || {
            format!("{} is in the way, and is not what a backup left: move it aside", partial.display())
        })?;
        fs::remove_dir_all(&partial)?;
    }
    let bodies = partial.join(BODIES);
    fs::create_dir_all(&bodies)?;
    {
        let source = snapshot(directory)?;
        // A backup needs the connection without a transaction of its own; it makes one.
        source.execute_batch("COMMIT")?;
        let mut copy = Connection::open(partial.join(DATABASE_FILE))?;
        Backup::new(&source, &mut copy)?.step(-1)?;
        copy_files(&copy, &directory.join(BODIES), &bodies)?;
        forget_deleted(&source, &copy, &bodies)?;
        let _: String = copy.query_row("PRAGMA journal_mode=DELETE", [], |row| row.get(0))?;
    }
    File::open(partial.join(DATABASE_FILE))?.sync_all()?;
    sync_directory(&bodies)?;
    sync_directory(&partial)?;
    let report = check(&partial)?;
    if let Some(finding) = report.findings.first() {
        let cure = "`store check` tells whether the store itself is damaged, and `store repair` sets aside what is";
        return Err(StoreError::Corrupt(format!("the copy in {} is not whole: {finding}; {cure}", partial.display())));
    }
    fs::rename(&partial, target)?;
    sync_directory(target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    Ok(report)
}

/// Puts a backup where there is no store yet. Keys that are given again get unique-ids of their own: those carry a number
/// of the process that made them.
///
/// # Errors
/// When there is a store, or the backup is damaged.
pub fn restore(backup: &Path, directory: &Path) -> Result<Report> {
    let report = check(backup)?;
    if let Some(finding) = report.findings.first() {
        return Err(StoreError::Corrupt(format!("the backup is damaged, nothing was changed: {finding}")));
    }
    let bodies = directory.join(BODIES);
    fs::create_dir_all(&bodies)?;
    let lock = recovery::take_lock(directory)?;
    let has_mail = directory.join(DATABASE_FILE).exists() || fs::read_dir(&bodies)?.next().is_some();
    refuse(has_mail || lock.metadata()?.len() > 0, || {
        format!("{} has a mail store already: a backup is restored to an empty directory", directory.display())
    })?;
    for file in fs::read_dir(backup.join(BODIES))? {
        let file = file?;
        copy_file(&file.path(), &bodies.join(file.file_name()))?;
    }
    sync_directory(&bodies)?;
    let aside = directory.join("mail.db.restored");
    copy_file(&backup.join(DATABASE_FILE), &aside)?;
    fs::rename(&aside, directory.join(DATABASE_FILE))?;
    sync_directory(directory)?;
    drop(lock);
    Ok(report)
}

/// Where a backup is made before it gets its name.
fn partial(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    target.with_file_name(name)
}

fn refuse(is_wrong: bool, why: impl FnOnce() -> String) -> Result<()> {
    if is_wrong { Err(StoreError::Failed(why())) } else { Ok(()) }
}

fn copy_files(copy: &Connection, from: &Path, to: &Path) -> Result<()> {
    let mut statement = copy.prepare("SELECT file FROM message WHERE file IS NOT NULL")?;
    for name in statement.query_map([], |row| row.get::<_, String>(0))? {
        let name = name?;
        let (from, to) = (from.join(&name), to.join(&name));
        if fs::hard_link(&from, &to).is_err() && from.exists() {
            copy_file(&from, &to)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let copied = fs::copy(from, to).and_then(|_| File::open(to)?.sync_all());
    copied.map_err(|error| {
        StoreError::Failed(format!("{} could not be copied to {}: {error}", from.display(), to.display()))
    })
}

/// Messages that lost their file after the database was copied are gone from the source too; else the source is damaged.
pub(super) fn forget_deleted(source: &Connection, copy: &Connection, bodies: &Path) -> Result<()> {
    let (broken, _) = broken_contents(copy, bodies, Depth::Sizes)?;
    if broken.is_empty() {
        return Ok(());
    }
    copy.execute_batch("PRAGMA temp_store=MEMORY; CREATE TEMP TABLE gone (number INTEGER PRIMARY KEY); BEGIN")?;
    for (number, finding) in broken {
        let is_there: bool =
            source.query_row("SELECT EXISTS (SELECT 1 FROM message WHERE number = ?1)", [number], |row| row.get(0))?;
        if is_there {
            return Err(StoreError::Corrupt(finding));
        }
        copy.prepare_cached("INSERT INTO temp.gone VALUES (?1)")?.execute([number])?;
    }
    // Each of these reads a table once, however many messages are gone.
    copy.execute_batch(
        "INSERT OR IGNORE INTO temp.gone SELECT number FROM message WHERE content_of IN (SELECT number FROM temp.gone);
         UPDATE maildrop SET messages = maildrop.messages - lost.messages, octets = maildrop.octets - lost.octets
            FROM (SELECT maildrop AS number, count(*) AS messages, sum(octets) AS octets FROM entry
                WHERE message IN (SELECT number FROM temp.gone) GROUP BY maildrop) AS lost
            WHERE maildrop.number = lost.number;
         DELETE FROM entry WHERE message IN (SELECT number FROM temp.gone);
         DELETE FROM recipient WHERE message IN (SELECT number FROM temp.gone);
         DELETE FROM body WHERE message IN (SELECT number FROM temp.gone);
         DELETE FROM message WHERE number IN (SELECT number FROM temp.gone);
         COMMIT;",
    )?;
    Ok(())
}

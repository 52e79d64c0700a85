//! Mail out of a store, into files that every mail program reads. A server may be serving meanwhile.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::Connection;

use super::check::Report;
use super::mbox::Quoting;
use super::{BODIES, is_one_tenants, snapshot, write_entry};
use crate::store::{Folder, Result, StoreError};

/// The form of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A directory for each mailbox, a file for each message; folders are directories `.NAME` in it.
    Maildir,
    /// One file for each mailbox and folder.
    Mbox,
}

/// What is exported: everything, or a mailbox, or one of its folders.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The mailbox's address.
    pub mailbox: Option<paquebot_config::Address>,
    /// Whose mailboxes.
    pub tenant: Option<String>,
    /// One folder of it.
    pub folder: Option<Folder>,
}

/// Writes messages below `target`, which must not exist yet; yields how many, and which of them are not what was once
/// written: those are exported as they are now.
///
/// # Errors
/// When `target` exists, when the mailbox is one of several tenants of whom none is named, or when a message cannot be
/// read: what was written until then stays.
pub fn export(directory: &Path, target: &Path, format: Format, selection: &Selection) -> Result<Report> {
    if target.exists() {
        let reason = format!("{} exists already: an export goes to a new directory", target.display());
        return Err(StoreError::Failed(reason));
    }
    let connection = snapshot(directory)?;
    let maildrops = maildrops(&connection, selection)?;
    fs::create_dir_all(target)?;
    let mut export =
        Export { connection: &connection, bodies: directory.join(BODIES), target, report: Report::default() };
    for maildrop in maildrops {
        match format {
            Format::Maildir => export.maildir(&maildrop)?,
            Format::Mbox => export.mbox(&maildrop)?,
        }
    }
    Ok(export.report)
}

/// One folder of one mailbox.
struct Source {
    maildrop: i64,
    name: String,
    tenant: String,
    folder: i64,
    folder_name: String,
    /// Several tenants have had the address.
    is_shared: bool,
}

impl Source {
    /// What its file or directory is called: the address, and where several have had it, the tenant.
    fn label(&self) -> String {
        match self.is_shared && !self.tenant.is_empty() {
            true => format!("{} {}", self.name, self.tenant),
            false => self.name.clone(),
        }
    }
}

fn maildrops(connection: &Connection, selection: &Selection) -> Result<Vec<Source>> {
    let mut statement = connection.prepare(
        "SELECT number, name, tenant, 0, '', (SELECT count(*) FROM maildrop AS other WHERE other.name = maildrop.name) \
         FROM maildrop UNION ALL \
         SELECT maildrop.number, maildrop.name, tenant, folder.number, folder.name, \
         (SELECT count(*) FROM maildrop AS other WHERE other.name = maildrop.name) FROM folder \
         JOIN maildrop ON maildrop.number = folder.maildrop ORDER BY 2, 3, 5",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Source {
            maildrop: row.get(0)?,
            name: row.get(1)?,
            tenant: row.get(2)?,
            folder: row.get(3)?,
            folder_name: row.get(4)?,
            is_shared: row.get::<_, i64>(5)? > 1,
        })
    })?;
    let (mailbox, folder) = (selection.mailbox.as_ref().map(paquebot_config::Address::canonical), &selection.folder);
    let mut found = Vec::new();
    for source in rows {
        let source = source?;
        let is_wanted = mailbox.as_ref().is_none_or(|name| *name == source.name)
            && selection.tenant.as_ref().is_none_or(|tenant| *tenant == source.tenant)
            && folder.as_ref().is_none_or(|folder| folder.as_str() == source.folder_name);
        found.extend(is_wanted.then_some(source));
    }
    if found.is_empty() && mailbox.is_some() {
        return Err(StoreError::NotFound);
    }
    if let Some(mailbox) = mailbox {
        let mut tenants: Vec<&str> = found.iter().map(|source: &Source| &*source.tenant).collect();
        tenants.dedup();
        is_one_tenants(&mailbox, &tenants)?;
    }
    Ok(found)
}

/// A name that is safe as one of a file.
fn file_name(name: &str) -> String {
    let mut safe = String::new();
    for character in name.chars() {
        match character {
            '/' | '%' | '\0' => safe.push_str(&format!("%{:02x}", u32::from(character))),
            '.' if safe.is_empty() => safe.push_str("%2e"),
            other => safe.push(other),
        }
    }
    safe
}

/// From where to where, and what was met.
struct Export<'a> {
    connection: &'a Connection,
    bodies: PathBuf,
    target: &'a Path,
    report: Report,
}

impl Export<'_> {
    /// Calls `each` with key, reverse-path and time of the messages of a folder.
    fn entries(
        &mut self,
        source: &Source,
        mut each: impl FnMut(&mut Self, i64, Option<String>, Timestamp) -> Result<()>,
    ) -> Result<()> {
        let mut statement = self.connection.prepare_cached(
            "SELECT entry.key, message.reverse_path, message.received_at FROM entry \
             JOIN message ON message.number = entry.message WHERE entry.maildrop = ?1 AND entry.folder = ?2 \
             ORDER BY entry.key",
        )?;
        let mut rows = statement.query([source.maildrop, source.folder])?;
        while let Some(row) = rows.next()? {
            let at = Timestamp::from_millisecond(row.get(2)?).unwrap_or(Timestamp::UNIX_EPOCH);
            each(self, row.get(0)?, row.get(1)?, at)?;
            self.report.messages += 1;
        }
        Ok(())
    }

    /// Writes one message, and keeps what is wrong with it.
    fn write(&mut self, key: i64, place: &Path, to: &mut dyn Write) -> Result<()> {
        if let Some(finding) = write_entry(self.connection, &self.bodies, key, to)? {
            self.report.find(format!("{finding}; it is in {}", place.display()));
        }
        Ok(())
    }

    fn maildir(&mut self, source: &Source) -> Result<()> {
        let mut directory = self.target.join(file_name(&source.label()));
        if !source.folder_name.is_empty() {
            directory.push(format!(".{}", file_name(&source.folder_name)));
        }
        for part in ["tmp", "new", "cur"] {
            fs::create_dir_all(directory.join(part))?;
        }
        self.entries(source, |export, key, _, at| {
            let name = format!("{}.{key}.paquebot", at.as_second());
            let (aside, place) = (directory.join("tmp").join(&name), directory.join("new").join(&name));
            let mut file = Unfolding { to: BufWriter::new(File::create(&aside)?), has_cr: false };
            export.write(key, &place, &mut file)?;
            file.end()?.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
            Ok(fs::rename(aside, place)?)
        })
    }

    fn mbox(&mut self, source: &Source) -> Result<()> {
        let mut name = file_name(&source.label());
        if !source.folder_name.is_empty() {
            name.push_str(&format!(".{}", file_name(&source.folder_name)));
        }
        let place = self.target.join(name + ".mbox");
        let mut file = Some(BufWriter::new(File::create_new(&place)?));
        self.entries(source, |export, key, sender, at| {
            let Some(to) = file.take() else { return Ok(()) };
            let date = at.strftime("%a %b %e %H:%M:%S %Y").to_string();
            let sender = sender.unwrap_or_else(|| "MAILER-DAEMON".to_owned()).replace(' ', "_");
            let mut quoting = Quoting::begin(to, &sender, &date)?;
            export.write(key, &place, &mut quoting)?;
            file = Some(quoting.end()?);
            Ok(())
        })?;
        if let Some(file) = file {
            file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        }
        Ok(())
    }
}

/// Writes LF where CRLF comes: files have the line ends of their system.
struct Unfolding<W: Write> {
    to: W,
    has_cr: bool,
}

impl<W: Write> Unfolding<W> {
    fn end(mut self) -> std::io::Result<W> {
        if self.has_cr {
            self.to.write_all(b"\r")?;
        }
        Ok(self.to)
    }
}

impl<W: Write> Write for Unfolding<W> {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        for octet in octets {
            if self.has_cr && *octet != b'\n' {
                self.to.write_all(b"\r")?;
            }
            self.has_cr = *octet == b'\r';
            if !self.has_cr {
                self.to.write_all(&[*octet])?;
            }
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

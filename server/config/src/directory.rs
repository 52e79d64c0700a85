//! The contract's files in a directory: the only I/O of this crate. The server reads what the kubelet mounted or what the
//! `compile` command wrote.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::bundle::{Bundle, INDEX_FILE, MAX_FILE_SIZE, RELAY_FILE, SECRETS_FILE, SERVER_FILE};
use crate::configuration::{Configuration, ReadError};
use crate::model::SecretText;
use crate::shard::ShardName;

/// A key of rewritten senders that is not part of the set: the operator makes it once for each server. Those of the set
/// come first.
pub const SRS_KEY_FILE: &str = "admin/srs";

/// Reads the set in a directory.
///
/// # Errors
/// [`ReadError`]: nothing of the set may be used then.
pub fn read(directory: &Path, running_version: &str) -> Result<Configuration, ReadError> {
    let mut configuration = Configuration::read(&files(directory)?, running_version)?;
    configuration.secrets.srs_keys.extend(own_srs_key(directory)?);
    Ok(configuration)
}

/// The key that the server was given for itself, beside the contract's files.
fn own_srs_key(directory: &Path) -> Result<Option<SecretText>, ReadError> {
    match read_bounded(&directory.join(SRS_KEY_FILE)) {
        Ok(bytes) => {
            let key = String::from_utf8_lossy(&bytes).trim().to_owned();
            Ok((!key.is_empty()).then(|| SecretText::new(key)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ReadError::Io { file: SRS_KEY_FILE.to_owned(), reason: error.to_string() }),
    }
}

/// The contract's files in a directory, by name; whatever else lies there (the certificate, the kubelet's own links) is
/// left alone.
fn files(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>, ReadError> {
    let fixed = [INDEX_FILE, SERVER_FILE, RELAY_FILE, SECRETS_FILE];
    let names = fixed.into_iter().map(str::to_owned).chain(ShardName::all().map(|shard| shard.to_string()));
    let mut files = BTreeMap::new();
    for name in names {
        match read_bounded(&directory.join(&name)) {
            Ok(bytes) => drop(files.insert(name, bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ReadError::Io { file: name, reason: error.to_string() }),
        }
    }
    Ok(files)
}

/// One octet more than is allowed is enough to make the digest of a longer file differ.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a set so that a reader sees either the old one or the new one, or refuses what is in between: each file
/// whole by rename, the index last.
///
/// # Errors
/// What the operating system says.
pub fn write(bundle: &Bundle, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let (index, others): (Vec<_>, Vec<_>) = bundle.files().iter().partition(|(name, _)| *name == INDEX_FILE);
    for (name, bytes) in others.into_iter().chain(index) {
        let path = directory.join(name);
        if fs::read(&path).is_ok_and(|present| present == *bytes) {
            continue;
        }
        write_whole(&path, bytes)?;
    }
    remove_stale_files(bundle, directory)
}

/// Verifiers are in these files: their owner alone may read them.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let temporary = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

fn remove_stale_files(bundle: &Bundle, directory: &Path) -> io::Result<()> {
    let optional = ShardName::all().map(|shard| shard.to_string()).chain([SECRETS_FILE.to_owned()]);
    for name in optional.filter(|name| !bundle.files().contains_key(name)) {
        match fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

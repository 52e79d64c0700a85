//! Building the contract's files. Called by the operator's `render` and by the `compile` command.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{DomainConfig, Record, RelayRule, Secrets, ServerConfig};
use crate::shard::ShardName;

/// The version of the file formats. A server refuses an index with another one.
pub const FORMAT_VERSION: u32 = 1;
/// The oldest server that understands what this version writes.
pub const MIN_SERVER_VERSION: &str = "0.1.0";
/// The most octets of one file: what a Kubernetes Secret may hold (1 MiB), less room for its other fields.
pub const MAX_FILE_SIZE: usize = (1 << 20) - (1 << 14);

/// The index of the set, written last.
pub const INDEX_FILE: &str = "index.json";
/// What the MailServer says.
pub const SERVER_FILE: &str = "server.json";
/// The relay rules.
pub const RELAY_FILE: &str = "relay.json";
/// What nobody else may know; not there where there is nothing of the kind.
pub const SECRETS_FILE: &str = "secrets.json";

/// Identifies one state of the whole set: equal revisions mean equal content.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(String);

impl Revision {
    /// The text of the revision: hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `index.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// See [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Names this state of the set.
    pub revision: Revision,
    /// The oldest server that understands it.
    pub min_server_version: String,
    /// Every other file of the set.
    pub shards: Vec<IndexEntry>,
}

/// One file of the set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexEntry {
    /// The file's name.
    pub name: String,
    /// The SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
    /// How many records it holds.
    pub records: usize,
}

/// What a set is made from. The order of its lists does not matter: equal content gives equal bytes.
#[derive(Debug, Clone)]
pub struct Content {
    /// `server.json`.
    pub server: ServerConfig,
    /// The domains that are served: lines of the directory shards, as `records` are.
    pub domains: Vec<DomainConfig>,
    /// `relay.json`.
    pub relay: Vec<RelayRule>,
    /// The other lines of the directory shards.
    pub records: Vec<Record>,
    /// `secrets.json`.
    pub secrets: Secrets,
}

/// What has changed of a set; what is absent stays as it was. The order of lists does not matter.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// `server.json`.
    pub server: Option<ServerConfig>,
    /// `relay.json`.
    pub relay: Option<Vec<RelayRule>>,
    /// All the lines of the directory shards that have changed; a shard without lines goes.
    pub shards: BTreeMap<ShardName, Vec<Record>>,
    /// `secrets.json`; without content the file goes.
    pub secrets: Option<Secrets>,
}

/// Why a set cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file would not fit into a Secret.
    #[error(
        "{name} would have {octets} octets, more than the {MAX_FILE_SIZE} that one Secret can hold; divide the directory over more servers"
    )]
    TooLarge {
        /// The file.
        name: String,
        /// Its size.
        octets: usize,
    },
    /// A value cannot be written as JSON.
    #[error("{name} cannot be written: {source}")]
    Json {
        /// The file.
        name: String,
        /// What the serializer says.
        source: serde_json::Error,
    },
}

/// A complete, consistent set of files by name, the index included.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    files: Arc<BTreeMap<String, Vec<u8>>>,
    index: Index,
}

impl Bundle {
    /// Writes the files of a set. Shards without records are left out.
    ///
    /// # Errors
    /// [`BuildError`] when a file would be too large.
    pub fn build(content: Content) -> Result<Self, BuildError> {
        let mut shards: BTreeMap<ShardName, Vec<Record>> = BTreeMap::new();
        for record in content.domains.into_iter().map(Record::Domain).chain(content.records) {
            shards.entry(record.shard()).or_default().push(record);
        }
        let mut bundle = Self { files: Arc::default(), index: index_of(Vec::new()) };
        let (server, relay) = (Some(content.server), Some(content.relay));
        bundle.update(Update { server, relay, shards, secrets: Some(content.secrets) })?;
        Ok(bundle)
    }

    /// Writes the files of a set that have changed; the cost is that of those files. What comes of it is what
    /// [`Self::build`] makes of the whole.
    ///
    /// # Errors
    /// [`BuildError`] when a file would be too large; the bundle is as it was then.
    pub fn update(&mut self, update: Update) -> Result<(), BuildError> {
        let written = write_files(update)?;
        let mut entries: BTreeMap<String, IndexEntry> =
            self.index.shards.iter().map(|entry| (entry.name.clone(), entry.clone())).collect();
        for (name, file) in &written {
            match file {
                Some((bytes, records)) => {
                    let entry = IndexEntry { name: name.clone(), sha256: digest(bytes), records: *records };
                    entries.insert(name.clone(), entry);
                }
                None => drop(entries.remove(name)),
            }
        }
        let index = index_of(entries.into_values().collect());
        let index_bytes = json(INDEX_FILE, &index)?;
        let files = Arc::make_mut(&mut self.files);
        for (name, file) in written {
            match file {
                Some((bytes, _)) => drop(files.insert(name, bytes)),
                None => drop(files.remove(&name)),
            }
        }
        files.insert(INDEX_FILE.to_owned(), index_bytes);
        self.index = index;
        Ok(())
    }

    /// Every file by name, the index included.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.files
    }

    /// The same, to keep without a copy. [`Self::update`] copies them all while somebody keeps them.
    #[must_use]
    pub fn shared_files(&self) -> Arc<BTreeMap<String, Vec<u8>>> {
        Arc::clone(&self.files)
    }

    /// The set's index.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Names this state of the set.
    #[must_use]
    pub fn revision(&self) -> &Revision {
        &self.index.revision
    }
}

/// A file's bytes and how many records they hold; `None`: there is no such file any more.
type Written = Option<(Vec<u8>, usize)>;

fn write_files(update: Update) -> Result<BTreeMap<String, Written>, BuildError> {
    let mut files: BTreeMap<String, Written> = BTreeMap::new();
    if let Some(server) = &update.server {
        files.insert(SERVER_FILE.to_owned(), Some((json(SERVER_FILE, server)?, 1)));
    }
    // The order of rules is the author's: the server takes the first that admits a client.
    if let Some(relay) = update.relay {
        files.insert(RELAY_FILE.to_owned(), Some((json(RELAY_FILE, &relay)?, relay.len())));
    }
    if let Some(secrets) = &update.secrets {
        let is_there = *secrets != Secrets::default();
        let bytes = is_there.then(|| json(SECRETS_FILE, secrets)).transpose()?;
        files.insert(SECRETS_FILE.to_owned(), bytes.map(|bytes| (bytes, 1)));
    }
    for (shard, mut records) in update.shards {
        let name = shard.to_string();
        records.sort_by_cached_key(Record::key);
        let mut bytes = Vec::new();
        for record in &records {
            bytes.append(&mut json(&name, record)?);
            bytes.push(b'\n');
        }
        // It is kept until the shard changes.
        bytes.shrink_to_fit();
        files.insert(name, (!records.is_empty()).then_some((bytes, records.len())));
    }
    for (name, file) in &files {
        let octets = file.as_ref().map_or(0, |(bytes, _)| bytes.len());
        if octets > MAX_FILE_SIZE {
            return Err(BuildError::TooLarge { name: name.clone(), octets });
        }
    }
    Ok(files)
}

fn index_of(entries: Vec<IndexEntry>) -> Index {
    Index {
        format_version: FORMAT_VERSION,
        revision: revision_of(&entries),
        min_server_version: MIN_SERVER_VERSION.to_owned(),
        shards: entries,
    }
}

/// The revision is a digest of the files' digests, so that it changes when and only when some byte does.
pub(crate) fn revision_of(entries: &[IndexEntry]) -> Revision {
    let mut hash = Sha256::new();
    for entry in entries {
        hash.update(entry.name.as_bytes());
        hash.update(entry.sha256.as_bytes());
    }
    Revision(hex(&hash.finalize()[..8]))
}

/// The SHA-256 of some bytes, in hexadecimal digits.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn json<T: Serialize>(name: &str, value: &T) -> Result<Vec<u8>, BuildError> {
    serde_json::to_vec(value).map_err(|source| BuildError::Json { name: name.to_owned(), source })
}

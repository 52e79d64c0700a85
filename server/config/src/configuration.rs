//! Reading the contract's files into what a server works from. Called by the server's reload and by the `compile`
//! command, which checks what it wrote.

use std::collections::{BTreeMap, HashMap};

use serde::de::DeserializeOwned;

use crate::address::{Address, Domain, LocalPart};
use crate::bundle::{
    FORMAT_VERSION, INDEX_FILE, Index, RELAY_FILE, Revision, SECRETS_FILE, SERVER_FILE, digest, revision_of,
};
use crate::model::{
    AliasRecord, CatchAll, DomainConfig, LocalParts, MOST_VERIFIERS, MailboxRecord, Record, RelayRule, Secrets,
    ServerConfig,
};
use crate::shard::ShardName;

/// Why a set of files is refused. Every message names the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A file that the index names, or the index, is not there (yet).
    #[error("{0} is missing: the set is incomplete")]
    Missing(String),
    /// A file is not the one that the index speaks of: the set is half-way between two revisions.
    #[error("{0} does not match the index: the set is half-way between two revisions")]
    Mismatch(String),
    /// A file cannot be understood.
    #[error("{file} line {line}: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The files are of another format.
    #[error(
        "index.json has format version {found}, this server reads {FORMAT_VERSION}; upgrade the server and the operator together"
    )]
    FormatVersion {
        /// The version in the index.
        found: u32,
    },
    /// The set asks for a newer server.
    #[error("the configuration needs server version {needed} or newer, this is {running}")]
    ServerTooOld {
        /// What the index asks for.
        needed: String,
        /// What is running.
        running: String,
    },
    /// The files contradict each other.
    #[error("{0}")]
    Inconsistent(String),
    /// The directory cannot be read.
    #[error("{file} cannot be read: {reason}")]
    Io {
        /// The file.
        file: String,
        /// What the operating system says.
        reason: String,
    },
}

/// What an address means to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution<'a> {
    /// The domain is not served here.
    NotServed,
    /// The domain is served, and has no such local part.
    Unknown,
    /// The domain or the mailbox is suspended.
    Suspended,
    /// A maildrop.
    Mailbox(&'a MailboxRecord),
    /// An alias.
    Alias(&'a AliasRecord),
}

/// A complete and consistent set: what a server works from until the next one.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// Names this state of the set.
    pub revision: Revision,
    /// The digest of each file of the set, by name, for whoever wants to know whether one shard has arrived.
    pub digests: BTreeMap<String, String>,
    /// What the MailServer says.
    pub server: ServerConfig,
    /// The relay rules.
    pub relay: Vec<RelayRule>,
    /// Logins elsewhere, and keys.
    pub secrets: Secrets,
    domains: HashMap<Domain, DomainConfig>,
    mailboxes: HashMap<String, MailboxRecord>,
    aliases: HashMap<String, AliasRecord>,
    most_verifiers: usize,
    /// Whose the mailboxes of each domain are, for sets that do not say it of the domain.
    tenants: HashMap<Domain, String>,
}

impl Configuration {
    /// Reads a set of files by name; files that the index does not name are passed over.
    ///
    /// # Errors
    /// [`ReadError`]: nothing of the set may be used then.
    pub fn read(files: &BTreeMap<String, Vec<u8>>, running_version: &str) -> Result<Self, ReadError> {
        let index: Index = parse(INDEX_FILE, find(files, INDEX_FILE)?)?;
        check_index(&index, files, running_version)?;
        let server: ServerConfig = parse(SERVER_FILE, find(files, SERVER_FILE)?)?;
        let relay: Vec<RelayRule> = parse(RELAY_FILE, find(files, RELAY_FILE)?)?;
        let secrets = match index.shards.iter().any(|entry| entry.name == SECRETS_FILE) {
            true => parse(SECRETS_FILE, find(files, SECRETS_FILE)?)?,
            false => Secrets::default(),
        };
        let mut configuration = Self {
            revision: index.revision.clone(),
            digests: index.shards.iter().map(|entry| (entry.name.clone(), entry.sha256.clone())).collect(),
            server,
            relay,
            secrets,
            domains: HashMap::new(),
            mailboxes: HashMap::new(),
            aliases: HashMap::new(),
            most_verifiers: 0,
            tenants: HashMap::new(),
        };
        for entry in &index.shards {
            if let Some(shard) = ShardName::from_file_name(&entry.name) {
                configuration.read_shard(shard, find(files, &entry.name)?, entry.records)?;
            }
        }
        configuration.check_consistency()?;
        Ok(configuration)
    }

    fn read_shard(&mut self, shard: ShardName, bytes: &[u8], records: usize) -> Result<(), ReadError> {
        let file = shard.to_string();
        let mut read = 0;
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let malformed = |reason: String| ReadError::Malformed { file: file.clone(), line: number + 1, reason };
            let record: Record = serde_json::from_slice(line).map_err(|error| malformed(error.to_string()))?;
            let key = record.key();
            if ShardName::of(&key) != shard {
                return Err(malformed(format!("{key} belongs into {}", ShardName::of(&key))));
            }
            if let Record::Mailbox(mailbox) = &record
                && mailbox.verifier_count() > MOST_VERIFIERS
            {
                let count = mailbox.verifier_count();
                return Err(malformed(format!(
                    "{key} has {count} passwords, at most {MOST_VERIFIERS} are allowed: take some of its app passwords away"
                )));
            }
            if !self.insert(&key, record) {
                return Err(malformed(format!("{key} is there twice")));
            }
            read += 1;
        }
        if read == records { Ok(()) } else { Err(ReadError::Mismatch(file)) }
    }

    /// Takes a record in; `false`: there is one of that key already.
    fn insert(&mut self, key: &str, record: Record) -> bool {
        if self.mailboxes.contains_key(key) || self.aliases.contains_key(key) {
            return false;
        }
        match record {
            Record::Domain(config) => return self.domains.insert(config.domain.clone(), config).is_none(),
            Record::Mailbox(mailbox) => {
                self.most_verifiers = self.most_verifiers.max(mailbox.verifier_count());
                if !mailbox.tenant.is_empty() && !self.tenants.contains_key(mailbox.address.domain()) {
                    self.tenants.insert(mailbox.address.domain().clone(), mailbox.tenant.clone());
                }
                self.mailboxes.insert(key.to_owned(), mailbox);
            }
            Record::Alias(alias) => drop(self.aliases.insert(key.to_owned(), alias)),
        }
        true
    }

    fn check_consistency(&self) -> Result<(), ReadError> {
        let addresses = self.mailboxes.values().map(|m| &m.address).chain(self.aliases.values().map(|a| &a.address));
        for address in addresses {
            if !self.domains.contains_key(address.domain()) {
                return Err(ReadError::Inconsistent(format!("{address} is of a domain that the set does not have")));
            }
        }
        for domain in self.domains.values() {
            if let CatchAll::Mailbox(address) = &domain.catch_all
                && !self.mailboxes.contains_key(&address.canonical())
            {
                return Err(ReadError::Inconsistent(format!(
                    "the catch-all {address} of {} is not a mailbox",
                    domain.domain
                )));
            }
        }
        Ok(())
    }

    /// Whether mail for the domain is delivered here.
    #[must_use]
    pub fn domain(&self, domain: &Domain) -> Option<&DomainConfig> {
        self.domains.get(domain)
    }

    /// The mailbox of exactly this address: how a login is looked up.
    #[must_use]
    pub fn mailbox(&self, address: &Address) -> Option<&MailboxRecord> {
        self.mailboxes.get(&address.canonical())
    }

    /// What an address means here: exactly, then without its subaddress, then by catch-all.
    #[must_use]
    pub fn resolve(&self, address: &Address) -> Resolution<'_> {
        let Some(domain) = self.domains.get(address.domain()) else { return Resolution::NotServed };
        if domain.suspended {
            return Resolution::Suspended;
        }
        if may_be_known(address, domain) {
            if let Some(found) = self.resolve_exactly(address) {
                return found;
            }
            if let Some((base, _)) = subaddress(address, domain)
                && let Some(found) = self.resolve_exactly(&base)
            {
                return found;
            }
        }
        match &domain.catch_all {
            CatchAll::Reject => Resolution::Unknown,
            CatchAll::Mailbox(mailbox) => self.resolve_exactly(mailbox).unwrap_or(Resolution::Unknown),
        }
    }

    /// An address without its subaddress, and the subaddress, lower case (RFC 5233 §4): whether or not there is such a
    /// mailbox. `None` where the address has none, or its domain knows of none.
    #[must_use]
    pub fn subaddress(&self, address: &Address) -> Option<(Address, String)> {
        subaddress(address, self.domains.get(address.domain())?)
    }

    fn resolve_exactly(&self, address: &Address) -> Option<Resolution<'_>> {
        let canonical = address.canonical();
        if let Some(mailbox) = self.mailboxes.get(&canonical) {
            return Some(if mailbox.suspended { Resolution::Suspended } else { Resolution::Mailbox(mailbox) });
        }
        self.aliases.get(&canonical).map(Resolution::Alias)
    }

    /// Whose an address is: its mailbox's tenant; where it has none of its own, its domain's, whether the domain has any
    /// mailbox or not. `None`: the set does not say, or the domain is not served.
    #[must_use]
    pub fn tenant_of(&self, address: &Address) -> Option<&str> {
        let domain = self.domains.get(address.domain())?;
        let base = || self.mailbox(&subaddress(address, domain)?.0);
        let own = self.mailbox(address).or_else(base).map(|mailbox| mailbox.tenant.as_str());
        own.filter(|tenant| !tenant.is_empty()).or_else(|| self.tenant_of_domain(address.domain()))
    }

    /// Whose a domain is. Sets of before domains said so tell it by their mailboxes, where there are any.
    #[must_use]
    pub fn tenant_of_domain(&self, domain: &Domain) -> Option<&str> {
        let own = self.domains.get(domain)?.tenant.as_str();
        if own.is_empty() { self.tenants.get(domain).map(String::as_str) } else { Some(own) }
    }

    /// How many domains, mailboxes and aliases there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.domains.len(), self.mailboxes.len(), self.aliases.len())
    }

    /// How many verifiers the mailbox has that has the most.
    #[must_use]
    pub fn most_verifiers(&self) -> usize {
        self.most_verifiers
    }

    /// Every mailbox, in no order.
    pub fn mailboxes(&self) -> impl Iterator<Item = &MailboxRecord> {
        self.mailboxes.values()
    }

    /// Every domain that is served, in no order.
    pub fn domains(&self) -> impl Iterator<Item = &DomainConfig> {
        self.domains.values()
    }
}

/// Where local parts compare exactly, whoever writes one in upper case means nobody that is here.
fn may_be_known(address: &Address, domain: &DomainConfig) -> bool {
    let base = address.local_part().unquoted();
    let base =
        domain.subaddress_separator.and_then(|separator| base.split_once(separator)).map_or(&*base, |(base, _)| base);
    domain.local_parts == LocalParts::CaseInsensitive || base == base.to_lowercase()
}

/// `anna+news@…` as `anna@…` and `news` (RFC 5233); `None` where there is nothing to take away.
fn subaddress(address: &Address, domain: &DomainConfig) -> Option<(Address, String)> {
    let separator = domain.subaddress_separator?;
    let local_part = address.local_part().canonical();
    let (base, detail) = local_part.split_once(separator)?;
    let base = Address::new(LocalPart::parse(base).ok()?, address.domain().clone());
    Some((base, detail.to_owned()))
}

fn check_index(index: &Index, files: &BTreeMap<String, Vec<u8>>, running_version: &str) -> Result<(), ReadError> {
    if index.format_version != FORMAT_VERSION {
        return Err(ReadError::FormatVersion { found: index.format_version });
    }
    if version(running_version) < version(&index.min_server_version) {
        let (needed, running) = (index.min_server_version.clone(), running_version.to_owned());
        return Err(ReadError::ServerTooOld { needed, running });
    }
    for entry in &index.shards {
        if digest(find(files, &entry.name)?) != entry.sha256 {
            return Err(ReadError::Mismatch(entry.name.clone()));
        }
    }
    if revision_of(&index.shards) != index.revision {
        return Err(ReadError::Mismatch(INDEX_FILE.to_owned()));
    }
    Ok(())
}

/// `major.minor.patch` as numbers; what is not a number counts as 0, and pre-release tags are passed over.
fn version(text: &str) -> [u64; 3] {
    let mut numbers = text.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

fn find<'a>(files: &'a BTreeMap<String, Vec<u8>>, name: &str) -> Result<&'a [u8], ReadError> {
    files.get(name).map(Vec::as_slice).ok_or_else(|| ReadError::Missing(name.to_owned()))
}

fn parse<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T, ReadError> {
    serde_json::from_slice(bytes).map_err(|error| ReadError::Malformed {
        file: file.to_owned(),
        line: error.line(),
        reason: error.to_string(),
    })
}

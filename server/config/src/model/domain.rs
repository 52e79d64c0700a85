//! The lines of directory shards: domains, aliases, and which record is found by what.

use serde::{Deserialize, Serialize};

use super::is_default;
use super::mailbox::MailboxRecord;
use super::relay::RelayRule;
use super::server::Filters;
use crate::address::{Address, Domain};
use crate::shard::ShardName;

/// A domain that is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DomainConfig {
    /// The domain.
    pub domain: Domain,
    /// Whose it is: the namespace of its MailDomain. The same as its mailboxes'
    /// [`tenant`](super::MailboxRecord::tenant), and known also while it has none. Empty: nobody is told apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// What divides a mailbox's name from a detail (RFC 5233 §4), such as `+`; absent: no subaddresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subaddress_separator: Option<char>,
    /// What happens to a local part that nobody has.
    #[serde(default)]
    pub catch_all: CatchAll,
    /// Octets of the largest message for this domain; absent: the server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_message_size: Option<u64>,
    /// Suspended: mail for it is refused for now (450 4.2.1), and nobody logs in.
    #[serde(default)]
    pub suspended: bool,
    /// The relay rules whose clients may send as this domain, as `namespace/name`, or `namespace/*` for all of a namespace.
    /// Rules that are not confined may, named or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relayers: Vec<String>,
    /// When two local parts are the same.
    #[serde(default, skip_serializing_if = "is_default")]
    pub local_parts: LocalParts,
    /// Sieve scripts that run before and after those of its mailboxes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub filters: Filters,
}

impl DomainConfig {
    /// Whether clients of this rule may send as the domain.
    #[must_use]
    pub fn lends_its_name(&self, rule: &RelayRule) -> bool {
        let namespace = rule.name.split('/').next().unwrap_or_default();
        let names = |relayer: &String| *relayer == rule.name || relayer.strip_suffix("/*") == Some(namespace);
        !rule.confined || self.relayers.iter().any(names)
    }
}

/// When two local parts of a domain are the same (RFC 5321 §2.4 leaves it to the domain). Mailboxes and aliases are lower
/// case, so this is about what senders write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LocalParts {
    /// `Anna` is `anna`.
    #[default]
    CaseInsensitive,
    /// `Anna` is nobody.
    CaseSensitive,
}

/// What happens to a local part that nobody has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatchAll {
    /// It is refused at RCPT with 550 5.1.1.
    #[default]
    Reject,
    /// This mailbox receives it.
    Mailbox(Address),
}

/// One line of a directory shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Record {
    /// A domain that is served.
    Domain(DomainConfig),
    /// A maildrop and login.
    Mailbox(MailboxRecord),
    /// An address that stands for others.
    Alias(AliasRecord),
}

impl Record {
    /// The address that the record is about; a domain has none.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Domain(_) => None,
            Self::Mailbox(mailbox) => Some(&mailbox.address),
            Self::Alias(alias) => Some(&alias.address),
        }
    }

    /// What the record is found by: a canonical address, or the name of a domain, which has no `@`. No two records of a
    /// set have the same.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Domain(config) => config.domain.as_str().to_owned(),
            Self::Mailbox(mailbox) => mailbox.address.canonical(),
            Self::Alias(alias) => alias.address.canonical(),
        }
    }

    /// The shard that holds the record.
    #[must_use]
    pub fn shard(&self) -> ShardName {
        ShardName::of(&self.key())
    }
}

/// An address that stands for others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AliasRecord {
    /// The address.
    pub address: Address,
    /// Those that receive its mail; each may be an alias again.
    pub targets: Vec<Address>,
}

//! A mailbox as a line of a directory shard: maildrop, login, and what its owner may do.

use serde::{Deserialize, Serialize};

use super::secrets::Verifier;
use crate::address::{Address, AddressError, Domain};

/// How many verifiers a mailbox may have, its own and its app passwords': each of them costs something when a password is
/// wrong. 16 app passwords, and two own ones while one is being replaced.
pub const MOST_VERIFIERS: usize = 18;

/// A maildrop and login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MailboxRecord {
    /// Its address, which is also the login and, for ever, the name of its maildrop.
    pub address: Address,
    /// Whose it is: the namespace of its MailDomain. The same address of another tenant is another maildrop, so that a
    /// domain that changes hands takes no mail along. Empty: nobody is told apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// Any of these opens it; without these and app passwords it only receives.
    #[serde(default)]
    pub verifiers: Vec<Verifier>,
    /// Further passwords, each for some purposes and perhaps for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub app_passwords: Vec<AppPassword>,
    /// Which protocols its owner may use.
    pub protocols: Protocols,
    /// Octets that the maildrop may hold; absent: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// Where its mail is sent on to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarding: Option<Forwarding>,
    /// Further envelope senders that its owner may use.
    #[serde(default)]
    pub send_as: Vec<SendAs>,
    /// Suspended: mail is refused for now (450 4.2.1), and nobody logs in.
    #[serde(default)]
    pub suspended: bool,
    /// The Sieve script that sorts its mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// How much its owner may send; absent: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Seconds after which a message is deleted, counted from when the server received it; absent: it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_seconds: Option<u64>,
}

/// How much may be sent in an hour. Absent numbers do not bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// Messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_hour: Option<u32>,
    /// Recipients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipients_per_hour: Option<u32>,
}

impl MailboxRecord {
    /// How many verifiers it has, its own and its app passwords'; a set with more than [`MOST_VERIFIERS`] is refused.
    #[must_use]
    pub fn verifier_count(&self) -> usize {
        self.verifiers.len() + self.app_passwords.len()
    }

    /// A mailbox that receives and may use both protocols, and has nothing else.
    #[must_use]
    pub fn new(address: Address) -> Self {
        Self {
            address,
            tenant: String::new(),
            verifiers: Vec::new(),
            app_passwords: Vec::new(),
            protocols: Protocols { pop3: true, submission: true },
            quota: None,
            forwarding: None,
            send_as: Vec::new(),
            suspended: false,
            filter: None,
            rate_limit: None,
            retention_seconds: None,
        }
    }
}

/// A further password of a mailbox, for one program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppPassword {
    /// What its owner calls it; unique in the mailbox.
    pub name: String,
    /// Proves it.
    pub verifier: Verifier,
    /// What it opens, of what the mailbox may do; empty: all of that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Scope>,
    /// From when on it opens nothing, in seconds since 1970 (UTC); absent: it does not end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

/// What an app password opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Fetching by POP3.
    #[serde(rename = "POP3")]
    Pop3,
    /// Sending by submission.
    Submission,
}

/// A name under which somebody may send: an address, or with nothing before the `@` all of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SendAs {
    /// This address.
    Address(Address),
    /// Every address of this domain.
    Domain(Domain),
}

impl SendAs {
    /// Whether the name covers a sender.
    #[must_use]
    pub fn covers(&self, sender: &Address) -> bool {
        match self {
            Self::Address(address) => address.canonical() == sender.canonical(),
            Self::Domain(domain) => domain == sender.domain(),
        }
    }
}

impl TryFrom<String> for SendAs {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        match text.strip_prefix('@') {
            Some(domain) => Domain::parse(domain).map(Self::Domain),
            None => Address::parse(&text).map(Self::Address),
        }
    }
}

impl From<SendAs> for String {
    fn from(name: SendAs) -> Self {
        match name {
            SendAs::Address(address) => address.to_string(),
            SendAs::Domain(domain) => format!("@{domain}"),
        }
    }
}

/// Which protocols the owner of a mailbox may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Protocols {
    /// Fetching by POP3.
    pub pop3: bool,
    /// Sending by submission.
    pub submission: bool,
}

/// Where a mailbox's mail is sent on to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forwarding {
    /// The addresses that receive it.
    pub to: Vec<Address>,
    /// Whether the mailbox keeps a copy.
    pub keep_copy: bool,
}

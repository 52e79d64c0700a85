//! What the index says about each object: whether it is in force, why not, and the numbers for its status.

use std::ops::Deref;

use ipnet::IpNet;
use paquebot_config::Address;
use paquebot_crds::conditions::Reason;

use super::filters::FilterReport;
use super::input::{CredentialFailure, SecretVersion};
use super::key::NamespacedName;

/// The condition `Accepted` of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The object is in force; the message says what of it is worth knowing.
    Accepted {
        /// A sentence or more.
        message: String,
        /// Whether it, or its MailDomain, is suspended: then it gets no mail all the same.
        suspended: bool,
    },
    /// The object, or a part of it that must not be passed over, is not in force.
    Refused(Refusal),
}

/// A text as a sentence: with an end, and with one alone.
#[must_use]
pub fn sentence(text: &str) -> String {
    let end = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{text}{end}")
}

/// What is said of the objects of a MailDomain that is suspended.
pub(super) fn domain_suspended(domain: &NamespacedName) -> String {
    format!("MailDomain {domain} is suspended: mail for it is refused for now, and nobody logs in.")
}

/// Why an object is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One of the False reasons of `Accepted`.
    pub reason: Reason,
    /// Names the object and the cure.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl Verdict {
    /// Whether the object is in force.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted { .. })
    }

    /// The reason for the condition.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Accepted { .. } => Reason::Accepted,
            Self::Refused(refusal) => refusal.reason,
        }
    }

    /// The message for the condition.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Accepted { message, .. } => message,
            Self::Refused(refusal) => &refusal.message,
        }
    }

    /// Accepted, with remarks if there are any.
    pub(super) fn accepted(summary: String, remarks: Vec<String>) -> Self {
        let message = std::iter::once(summary).chain(remarks).collect::<Vec<_>>().join(" ");
        Self::Accepted { message, suspended: false }
    }

    /// The same, noting whether what is accepted is suspended.
    pub(super) fn suspended(mut self, is_suspended: bool) -> Self {
        if let Self::Accepted { suspended, .. } = &mut self {
            *suspended = is_suspended;
        }
        self
    }
}

/// A value that belongs to an accepted object. Only the index makes one, so that nobody renders what was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted<T>(T);

impl<T> Accepted<T> {
    pub(super) fn new(value: T) -> Self {
        Self(value)
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Accepted<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// What the status of one object is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// `metadata.generation` of the object that this speaks of.
    pub generation: i64,
    /// The condition `Accepted`.
    pub verdict: Verdict,
    /// What only its kind has.
    pub details: Details,
}

/// What only one kind has in its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Details {
    /// Nothing more.
    MailServer,
    /// Of a MailDomain.
    MailDomain {
        /// The MailServer that is meant, whether or not it exists; absent where there is no default server either.
        server: Option<NamespacedName>,
        /// Mailboxes that were accepted.
        mailboxes: usize,
        /// Aliases that were accepted.
        aliases: usize,
    },
    /// Of a Mailbox.
    Mailbox {
        /// Its address; absent while its MailDomain is not known.
        address: Option<Address>,
        /// The Secrets' versions behind the verifiers in force.
        versions: Vec<SecretVersion>,
        /// What became of its Secrets.
        credentials: CredentialsReport,
        /// What became of its script.
        filter: FilterReport,
    },
    /// Of a MailAlias.
    MailAlias {
        /// Its address; absent while its MailDomain is not known.
        address: Option<Address>,
    },
    /// Of a RelayPolicy.
    RelayPolicy {
        /// The networks that are admitted, those of selected pods included.
        effective: Vec<IpNet>,
        /// The networks that are not.
        rejected: Vec<RejectedNetwork>,
    },
}

/// What became of a mailbox's Secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialsReport {
    /// It names none: it receives only.
    ReceiveOnly,
    /// Nobody has read them yet.
    Pending,
    /// They were read.
    Ready,
    /// They cannot be used; what opened the mailbox before still does.
    Failed(CredentialFailure),
}

/// A network that a RelayPolicy lists and that is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RejectedNetwork {
    /// The network, as it is written.
    pub network: String,
    /// Why, and what to do.
    pub reason: String,
}

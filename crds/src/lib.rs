//! The API types of `paquebot.dev/v1alpha1`: what people type into `kubectl apply`, and what they read back.
//!
//! One module per kind holds its `spec` and `status`; the operator reads the first and writes the second. The doc
//! comments on the fields become the descriptions in the CustomResourceDefinitions. Beside the kinds:
//!
//! - [`conditions`]: condition types, their stable reasons, and the pure helpers that keep them;
//! - [`names`]: checked strings (domain, local part, address, CIDR); [`quantity`] and [`duration`]: sizes and times;
//! - [`references`]: how one object names another, and who may attach to whom;
//! - [`manifest`]: the CustomResourceDefinitions, as the API server takes them and as files;
//! - [`rules`]: what the API server refuses, and with which sentence; [`validate`]: the same without an API server;
//! - [`unsupported`]: the fields that this release refuses or does not honour yet, in one place;
//!
//! Nothing here performs I/O, reads a clock or knows the servers' configuration.

#![allow(clippy::duplicated_attributes, reason = "each printcolumn and each validation repeats the same words")]

pub mod conditions;
pub mod duration;
pub mod mail_alias;
pub mod mail_domain;
pub mod mail_server;
pub mod mailbox;
pub mod manifest;
pub mod names;
pub mod quantity;
pub mod references;
pub mod relay_policy;
pub mod rules;
pub mod schema;
pub mod unsupported;
pub mod validate;

pub use duration::Duration;
pub use mail_alias::{MailAlias, MailAliasSpec, MailAliasStatus};
pub use mail_domain::{MailDomain, MailDomainSpec, MailDomainStatus};
pub use mail_server::{MailServer, MailServerSpec, MailServerStatus};
pub use mailbox::{Mailbox, MailboxSpec, MailboxStatus};
pub use names::{Cidr, DomainName, EmailAddress, LocalPart, RecordName};
pub use quantity::Quantity;
pub use references::{
    AllowedNamespaces, DeliveryTarget, LocalReference, NamespacesFrom, ObjectReference, SecretKeyReference,
};
pub use relay_policy::{RelayPolicy, RelayPolicySpec, RelayPolicyStatus};

/// The API group of every kind.
pub const GROUP: &str = "paquebot.dev";
/// The one version of this release.
pub const VERSION: &str = "v1alpha1";

/// The five kinds, for code that treats them alike (conditions, reports, documentation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// One data plane.
    MailServer,
    /// A domain that is served.
    MailDomain,
    /// One maildrop and login.
    Mailbox,
    /// An address that stands for others.
    MailAlias,
    /// A relay allow-list.
    RelayPolicy,
}

impl Kind {
    /// Every kind, in the order in which one builds on the other.
    pub const ALL: [Self; 5] = [Self::MailServer, Self::MailDomain, Self::Mailbox, Self::MailAlias, Self::RelayPolicy];

    /// The kind as manifests spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MailServer => "MailServer",
            Self::MailDomain => "MailDomain",
            Self::Mailbox => "Mailbox",
            Self::MailAlias => "MailAlias",
            Self::RelayPolicy => "RelayPolicy",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

//! What the index is fed with: objects as they were applied, and what was observed beside them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paquebot_config::Verifier;
use paquebot_crds::{
    Kind, MailAlias, MailAliasSpec, MailDomain, MailDomainSpec, MailServer, MailServerSpec, Mailbox, MailboxSpec,
    RelayPolicy, RelayPolicySpec, conditions::Reason,
};

use super::key::{NameParts, NamespacedName, ObjectKey, Seniority};

/// What the index keeps of an object's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// `metadata.generation`; 0 for a manifest that no API server has seen.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// `metadata.uid`, for owner references; empty for a manifest that no API server has seen.
    pub uid: String,
}

/// One object: what people wrote, and what of its metadata matters. Its status is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<S> {
    /// Namespace and name.
    pub name: NamespacedName,
    /// What of its metadata matters.
    pub meta: Meta,
    /// What people wrote.
    pub spec: S,
}

impl<S> Entry<S> {
    fn new(metadata: ObjectMeta, spec: S) -> Self {
        let name: NamespacedName = NameParts {
            namespace: metadata.namespace.unwrap_or_else(|| "default".to_owned()),
            name: metadata.name.unwrap_or_default(),
        }
        .into();
        let meta = Meta {
            generation: metadata.generation.unwrap_or_default(),
            created: metadata.creation_timestamp.map(|time| time.0),
            uid: metadata.uid.unwrap_or_default(),
        };
        Self { name, meta, spec }
    }

    /// The object's rank among those of its kind.
    pub(super) fn seniority(&self, kind: Kind) -> Seniority {
        Seniority::new(self.meta.created, ObjectKey::new(kind, self.name.clone()))
    }
}

/// One object for [`super::Directory::apply`]; made from the API types by `into()`.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A MailServer.
    MailServer(Box<Entry<MailServerSpec>>),
    /// A MailDomain.
    MailDomain(Box<Entry<MailDomainSpec>>),
    /// A Mailbox.
    Mailbox(Box<Entry<MailboxSpec>>),
    /// A MailAlias.
    MailAlias(Box<Entry<MailAliasSpec>>),
    /// A RelayPolicy.
    RelayPolicy(Box<Entry<RelayPolicySpec>>),
}

impl Object {
    /// Which object it is.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::MailServer(entry) => ObjectKey::new(Kind::MailServer, entry.name.clone()),
            Self::MailDomain(entry) => ObjectKey::new(Kind::MailDomain, entry.name.clone()),
            Self::Mailbox(entry) => ObjectKey::new(Kind::Mailbox, entry.name.clone()),
            Self::MailAlias(entry) => ObjectKey::new(Kind::MailAlias, entry.name.clone()),
            Self::RelayPolicy(entry) => ObjectKey::new(Kind::RelayPolicy, entry.name.clone()),
        }
    }

    /// Its namespace and name.
    #[must_use]
    pub fn name(&self) -> &NamespacedName {
        match self {
            Self::MailServer(entry) => &entry.name,
            Self::MailDomain(entry) => &entry.name,
            Self::Mailbox(entry) => &entry.name,
            Self::MailAlias(entry) => &entry.name,
            Self::RelayPolicy(entry) => &entry.name,
        }
    }
}

macro_rules! objects_from {
    ($($kind:ident),*) => {$(
        impl From<$kind> for Object {
            fn from(object: $kind) -> Self { Self::$kind(Box::new(Entry::new(object.metadata, object.spec))) }
        }
    )*};
}
objects_from!(MailServer, MailDomain, Mailbox, MailAlias, RelayPolicy);

/// A pod, as far as the podSelector of a RelayPolicy is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pod {
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `status.podIPs`.
    pub addresses: Vec<IpAddr>,
    /// Whether the pod holds its addresses: its phase is neither Succeeded nor Failed.
    pub running: bool,
    /// `spec.hostNetwork`: its address is its node's, which it shares with everything on that node.
    pub host_network: bool,
}

/// What became of the Secrets that a mailbox's credentials name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialOutcome {
    /// Every Secret was read.
    Ready {
        /// What opens the mailbox.
        verifiers: Vec<Verifier>,
        /// Its app passwords, by name.
        app_passwords: BTreeMap<String, Verifier>,
        /// The Secrets' versions that they were made from.
        versions: Vec<SecretVersion>,
    },
    /// Some of the Secrets are missing or cannot be used. What they gave before still opens the mailbox.
    Partly {
        /// What the mailbox's own password gave, if that could be read.
        verifiers: Option<Vec<Verifier>>,
        /// The app passwords that could be read.
        app_passwords: BTreeMap<String, Verifier>,
        /// The Secrets' versions that they were made from.
        versions: Vec<SecretVersion>,
        /// What is wrong with the rest.
        failure: CredentialFailure,
    },
}

impl CredentialOutcome {
    /// Nothing could be read.
    #[must_use]
    pub fn failed(failure: CredentialFailure) -> Self {
        Self::Partly { verifiers: None, app_passwords: BTreeMap::new(), versions: Vec::new(), failure }
    }
}

/// The version of a Secret that verifiers were made from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretVersion {
    /// The Secret's name; its namespace is the mailbox's.
    pub name: String,
    /// Its `metadata.resourceVersion`.
    pub resource_version: String,
}

/// Why a mailbox's Secret cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialFailure {
    /// One of the reasons of the condition `CredentialsReady`.
    pub reason: Reason,
    /// What is wrong and what to do, without the Secret's content.
    pub message: String,
}

/// The addresses of the cluster itself. Mail from outside may seem to come from them when a Service hides its client, so
/// that no RelayPolicy may admit them by CIDR.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterRanges {
    /// Addresses of nodes.
    pub nodes: Vec<IpNet>,
    /// What pods get their addresses from.
    pub pods: Vec<IpNet>,
    /// What Services get their addresses from.
    pub services: Vec<IpNet>,
    /// Kinds of which the operator could read none, so that the lists above say too little.
    pub unread: Vec<&'static str>,
}

/// What the operator was started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The MailServer of objects that name none.
    pub default_server: Option<NamespacedName>,
    /// The addresses of the cluster itself.
    pub ranges: ClusterRanges,
    /// Where the operator itself runs.
    pub operator_namespace: Option<String>,
    /// Nobody looks at DNS: every domain counts as its MailDomain's, as when manifests are compiled without a cluster.
    pub ownership_is_assumed: bool,
}

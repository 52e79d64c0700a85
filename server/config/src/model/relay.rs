//! `relay.json`: who may send to whom beyond the domains that are served.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::is_false;
use super::mailbox::RateLimit;
use super::server::SmartHost;
use crate::address::{Address, Domain};

/// One entry of `relay.json`. A client that no rule admits may send to served domains only; no rules admit nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RelayRule {
    /// `namespace/name` of the RelayPolicy, for logs.
    pub name: String,
    /// Who is admitted: any of these.
    pub from: Vec<RelaySource>,
    /// The envelope senders that may be used; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub senders: Option<SenderScope>,
    /// The recipients that may be reached.
    pub recipients: RecipientScope,
    /// The server through which mail goes that this rule admits; absent: the server's own way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<SmartHost>,
    /// How much its clients may send together; absent: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Its clients may send as a domain that is served here only where [`DomainConfig::relayers`](super::DomainConfig::relayers) names the rule.
    #[serde(default, skip_serializing_if = "is_false")]
    pub confined: bool,
}

/// Who is admitted by a relay rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RelaySource {
    /// Clients with an address in one of these networks.
    Networks(Vec<IpNet>),
    /// Clients that have authenticated as a mailbox of this domain.
    Mailboxes(Domain),
    /// Clients whose certificate has one of these DNS names, and is one of [`TlsConfig::client_authorities`](super::TlsConfig::client_authorities)'.
    ClientCertificates(Vec<Domain>),
}

/// The envelope senders that a relay rule allows: those of a domain, or single addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SenderScope {
    /// Any sender of these domains.
    #[serde(default)]
    pub domains: Vec<Domain>,
    /// These senders.
    #[serde(default)]
    pub addresses: Vec<Address>,
}

/// The recipients that a relay rule allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecipientScope {
    /// Everybody.
    Any,
    /// Those of these domains.
    Domains(Vec<Domain>),
}

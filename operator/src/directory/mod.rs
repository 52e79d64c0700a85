//! The index of everything that was applied: which domains, addresses and relay rules are in force on which server, and
//! why others are not.
//!
//! [`Directory`] is a plain synchronous state machine without clock, client or async. The controllers and the `compile`
//! command feed it with objects and with what was observed beside them (labels of namespaces, pods, verifiers of
//! passwords); each call returns [`Changes`]: which files of which servers are to be written again, and whose status is
//! to be looked at. The order of calls does not matter: the same objects always give the same verdicts. The cost of a
//! call grows with what the change touches, not with the number of objects.
//!
//! How it decides (API.md, "Conditions" and "Rules that cut across"):
//! - A MailDomain needs a MailServer that admits its namespace. Of several that are admitted and name one domain, the
//!   oldest has it, over all servers: two answers to the question where a domain's mail goes would be one too many.
//! - Mailboxes and MailAliases need an accepted MailDomain that admits their namespace, and share one space of addresses;
//!   the oldest has the address. What `roles` of the MailDomain says about postmaster and abuse goes before both, because
//!   whoever reads that mail can have certificates issued for the domain; a mailbox of that address which the role itself
//!   names keeps it.
//! - An object that is not admitted holds nothing: it cannot keep a name from others.
//! - Limits leave places to the older objects.
//! - References that lead nowhere heal as soon as the object appears.

mod addresses;
mod aliases;
mod apply;
mod budget;
mod changes;
mod domains;
mod expansion;
mod filters;
mod input;
mod key;
mod lending;
mod links;
mod mailboxes;
mod network_budget;
mod networks;
mod ownership;
mod policies;
mod queries;
mod record_budget;
mod relay_budget;
mod rings;
mod secrets;
mod senders;
mod state;
mod tenancy;
mod verdict;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

pub use changes::{Changes, DirtyFiles};
pub use filters::{ConfigMapContent, FilterFailure, FilterReport};
pub use input::{
    ClusterRanges, CredentialFailure, CredentialOutcome, Entry, Meta, Object, Options, Pod, SecretVersion,
};
pub use key::{NamespacedName, ObjectKey};
pub use networks::{is_of_the_internet, meets};
pub use policies::{MAIL_PORTS, OPERATOR_LABELS};
pub use secrets::{SecretPurpose, SecretReference, SecretUse, SecretValue, server_login, smart_host_tls};
pub use verdict::{Accepted, CredentialsReport, Details, Refusal, RejectedNetwork, Report, Verdict, sentence};

use std::collections::BTreeSet;

use key::Seniority;
use networks::PodAddresses;
use paquebot_config::ShardName;
use state::{
    AliasNode, DomainNode, DomainSeats, Holder, Index, Links, MailboxNode, PolicyNode, Published, RecordSource,
    ServerNode,
};
use tenancy::Labels;

/// The index. See the module's documentation.
#[derive(Debug, Default)]
pub struct Directory {
    options: Options,
    namespaces: HashMap<String, Labels>,
    pods: HashMap<NamespacedName, Pod>,
    pod_addresses: PodAddresses,
    /// The MailServers that are proven to see their clients' own addresses.
    source_preserved: BTreeSet<NamespacedName>,
    servers: HashMap<NamespacedName, ServerNode>,
    domains: HashMap<NamespacedName, DomainNode>,
    mailboxes: HashMap<NamespacedName, Box<MailboxNode>>,
    aliases: HashMap<NamespacedName, AliasNode>,
    policies: HashMap<NamespacedName, PolicyNode>,
    links: Links,
    /// For how many addresses each MailAlias stands.
    expansions: HashMap<state::AliasSource, usize>,
    /// Domain name → the MailDomains that may have it, the oldest first.
    domain_claims: HashMap<String, BTreeSet<Seniority>>,
    /// Domain name → the MailDomain that has it.
    domain_holders: HashMap<String, NamespacedName>,
    /// Canonical address → the objects that may have it, the oldest first.
    address_claims: Index<Arc<str>, Seniority>,
    /// Canonical address → who has it.
    holders: HashMap<Arc<str>, Holder>,
    /// MailDomain → the places for its mailboxes and aliases.
    seats: HashMap<NamespacedName, DomainSeats>,
    /// MailDomain → how many mailboxes and aliases of it are accepted.
    counts: HashMap<NamespacedName, (usize, usize)>,
    /// MailServer → its mailboxes whose Secrets nobody has reported on yet.
    pending: Index<NamespacedName, NamespacedName>,
    /// What objects name in Secrets, apart from passwords.
    held: HashMap<SecretUse, secrets::Held>,
    /// Of that, what nobody has read yet.
    unread: BTreeSet<SecretUse>,
    /// MailServer → what its RelayPolicies take of what they may take together.
    relay_budgets: HashMap<NamespacedName, relay_budget::RelayBudget>,
    /// RelayPolicy → the server where it takes something, and its rank there.
    rule_weights: HashMap<NamespacedName, (NamespacedName, Seniority)>,
    /// MailServer → what its RelayPolicies admit of the Internet.
    network_budgets: HashMap<NamespacedName, network_budget::NetworkBudget>,
    /// RelayPolicy → the server where it admits something of the Internet, and its rank there.
    network_weights: HashMap<NamespacedName, (NamespacedName, network_budget::NetworkRank)>,
    /// A file of a MailServer's directory → what its lines take of its room.
    record_budgets: HashMap<(NamespacedName, ShardName), record_budget::RecordBudget>,
    /// Line → the file where it takes something, and its rank there.
    line_weights: HashMap<record_budget::Line, (NamespacedName, ShardName, record_budget::LineRank)>,
    /// MailServer → the content of its configuration.
    published: HashMap<NamespacedName, Published>,
    /// Whose record is where.
    record_places: HashMap<RecordSource, (NamespacedName, ShardName)>,
    /// MailDomain → the server and the shard that have its record.
    domain_places: HashMap<NamespacedName, (NamespacedName, ShardName)>,
    /// RelayPolicy → the server that has its rule.
    rule_places: HashMap<NamespacedName, NamespacedName>,
}

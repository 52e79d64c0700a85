//! What the index remembers of each object, and the orders in which it works through what a change touches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use paquebot_config::{Address, DomainConfig, Record, RelayRule, ShardName, Verifier};
use paquebot_crds::conditions::Reason;
use paquebot_crds::references::DeliveryTarget;
use paquebot_crds::{MailAliasSpec, MailDomainSpec, MailServerSpec, MailboxSpec, RelayPolicySpec};

use super::changes::Changes;
use super::filters::Filter;
use super::input::{CredentialFailure, Entry, SecretVersion};
use super::key::{NamespacedName, ObjectKey, Seniority};
use super::secrets::SecretUse;
use super::verdict::{Refusal, RejectedNetwork, Verdict};

/// A role that RFC 2142 names, when the MailDomain says who holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Role {
    Postmaster,
    Abuse,
}

impl Role {
    pub(super) const ALL: [Self; 2] = [Self::Postmaster, Self::Abuse];

    pub(super) fn local_part(self) -> &'static str {
        match self {
            Self::Postmaster => "postmaster",
            Self::Abuse => "abuse",
        }
    }

    /// Who holds the role, as the MailDomain says.
    pub(super) fn targets(self, spec: &MailDomainSpec) -> &[DeliveryTarget] {
        match (self, &spec.roles) {
            (_, None) => &[],
            (Self::Postmaster, Some(roles)) => &roles.postmaster,
            (Self::Abuse, Some(roles)) => &roles.abuse,
        }
    }
}

/// Who makes an alias record: a MailAlias, or a MailDomain by one of its roles.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum AliasSource {
    Alias(NamespacedName),
    Role(NamespacedName, Role),
}

/// Who makes a line of the directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum RecordSource {
    Mailbox(NamespacedName),
    Alias(AliasSource),
}

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holder {
    /// The MailDomain, by one of its roles.
    Role(NamespacedName, Role),
    /// A Mailbox or MailAlias of a MailDomain.
    Object { rank: Seniority, domain: NamespacedName },
}

/// The address that an object may have if nobody older claims it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) domain: NamespacedName,
    pub(super) canonical: Arc<str>,
    pub(super) rank: Seniority,
}

#[derive(Debug)]
pub(super) struct ServerNode {
    pub(super) entry: Entry<MailServerSpec>,
    pub(super) verdict: Verdict,
}

#[derive(Debug)]
pub(super) struct DomainNode {
    pub(super) entry: Entry<MailDomainSpec>,
    /// The domain name that it claims; absent while something else stands against it.
    pub(super) claim: Option<(String, Seniority)>,
    /// The challenge of this very object was seen in DNS.
    pub(super) proven: bool,
    pub(super) standing: Result<(), Refusal>,
    /// Its line has no room, so that nothing of it is in force.
    pub(super) unfit: bool,
    pub(super) verdict: Verdict,
    /// The scripts around those of its mailboxes that were right last: they stay in force while newer ones are wrong.
    pub(super) filters: paquebot_config::Filters,
}

impl DomainNode {
    pub(super) fn new(entry: Entry<MailDomainSpec>) -> Self {
        Self {
            entry,
            claim: None,
            proven: false,
            standing: Err(pending()),
            unfit: false,
            verdict: Verdict::Refused(pending()),
            filters: paquebot_config::Filters::default(),
        }
    }
}

/// What Mailboxes and MailAliases have in common.
#[derive(Debug)]
pub(super) struct Member {
    /// Known as soon as the MailDomain is, whether or not it is accepted.
    pub(super) address: Option<Address>,
    pub(super) gate: Result<Claim, Refusal>,
    pub(super) standing: Result<(), Refusal>,
    pub(super) verdict: Verdict,
    /// The MailDomain that counts it.
    pub(super) counted_in: Option<NamespacedName>,
}

impl Member {
    pub(super) fn new() -> Self {
        Self {
            address: None,
            gate: Err(pending()),
            standing: Err(pending()),
            verdict: Verdict::Refused(pending()),
            counted_in: None,
        }
    }

    pub(super) fn claim(&self) -> Option<&Claim> {
        self.gate.as_ref().ok()
    }
}

#[derive(Debug)]
pub(super) struct MailboxNode {
    pub(super) entry: Entry<MailboxSpec>,
    pub(super) member: Member,
    pub(super) credentials: Credentials,
    pub(super) filter: Filter,
}

/// What is known of a mailbox's Secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) known: bool,
    pub(super) verifiers: Vec<Verifier>,
    /// By the name of the app password.
    pub(super) app_passwords: BTreeMap<String, Verifier>,
    pub(super) versions: Vec<SecretVersion>,
    pub(super) failure: Option<CredentialFailure>,
}

#[derive(Debug)]
pub(super) struct AliasNode {
    pub(super) entry: Entry<MailAliasSpec>,
    pub(super) member: Member,
}

#[derive(Debug)]
pub(super) struct PolicyNode {
    pub(super) entry: Entry<RelayPolicySpec>,
    pub(super) verdict: Verdict,
    pub(super) pods: BTreeSet<NamespacedName>,
    pub(super) effective: Vec<ipnet::IpNet>,
    pub(super) rejected: Vec<RejectedNetwork>,
}

/// What an object has before the first evaluation, which the same call makes.
pub(super) fn pending() -> Refusal {
    Refusal::new(Reason::Pending, "It has not been looked at yet.")
}

/// An object at an address. An object that moves to another address leaves one place and takes another, in either order.
pub(super) type Seat = (Seniority, Arc<str>);

/// The places that a limit leaves: the older objects have them, the younger ones wait.
#[derive(Debug, Default)]
pub(super) struct Seats {
    limit: Option<usize>,
    seated: BTreeSet<Seat>,
    waiting: BTreeSet<Seat>,
}

impl Seats {
    /// Adds an object; returns whose place has changed.
    pub(super) fn insert(&mut self, seat: Seat) -> Vec<ObjectKey> {
        let key = seat.0.key();
        self.seated.insert(seat);
        let mut moved = self.settle();
        moved.push(key);
        moved
    }

    /// Takes an object away; returns whose place has changed.
    pub(super) fn remove(&mut self, seat: &Seat) -> Vec<ObjectKey> {
        self.waiting.remove(seat);
        self.seated.remove(seat);
        self.settle()
    }

    /// Changes the number of places; returns whose place has changed.
    pub(super) fn set_limit(&mut self, limit: Option<u32>) -> Vec<ObjectKey> {
        self.limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        self.settle()
    }

    pub(super) fn is_seated(&self, seat: &Seat) -> bool {
        self.seated.contains(seat)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seated.is_empty() && self.waiting.is_empty()
    }

    /// Moves objects over the border until it lies where the limit says; the cost is that of the objects moved.
    fn settle(&mut self) -> Vec<ObjectKey> {
        let limit = self.limit.unwrap_or(usize::MAX);
        let mut moved = Vec::new();
        while self.seated.len() > limit
            && let Some(youngest) = self.seated.pop_last()
        {
            moved.push(youngest.0.key());
            self.waiting.insert(youngest);
        }
        while self.seated.len() < limit
            && let Some(oldest) = self.waiting.pop_first()
        {
            moved.push(oldest.0.key());
            self.seated.insert(oldest);
        }
        moved
    }
}

/// The places of one MailDomain.
#[derive(Debug, Default)]
pub(super) struct DomainSeats {
    pub(super) mailboxes: Seats,
    pub(super) aliases: Seats,
}

/// A relay rule and its place among those of its server. The first rule that admits a client has its mail, with its limits
/// and its way out: those of the server's own namespace go before others, and older ones before younger, so that a newcomer
/// takes nobody's clients.
#[derive(Debug, PartialEq)]
pub(super) struct RankedRule {
    pub(super) rank: (bool, Seniority),
    pub(super) rule: RelayRule,
}

/// The content of one server's configuration, kept up to date.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) domains: BTreeMap<ShardName, BTreeMap<NamespacedName, DomainConfig>>,
    pub(super) rules: BTreeMap<NamespacedName, RankedRule>,
    pub(super) records: BTreeMap<ShardName, BTreeMap<RecordSource, Box<Record>>>,
}

/// Who names whom, so that a change finds what depends on it without looking at everything.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// MailServer → the MailDomains and RelayPolicies that name it.
    pub(super) server_users: Index<NamespacedName, ObjectKey>,
    /// MailDomain → the Mailboxes and MailAliases that name it.
    pub(super) members: Index<NamespacedName, ObjectKey>,
    /// MailDomain → the RelayPolicies that admit its mailboxes.
    pub(super) domain_policies: Index<NamespacedName, NamespacedName>,
    /// Mailbox → the aliases that deliver to it.
    pub(super) mailbox_aliases: Index<NamespacedName, AliasSource>,
    /// Canonical address → the aliases that name it, or a subaddress of it.
    pub(super) address_namers: Index<String, AliasSource>,
    /// Mailbox → the MailDomains whose catch-all it is.
    pub(super) mailbox_catch_alls: Index<NamespacedName, NamespacedName>,
    /// Domain name → the Mailboxes that may send as its addresses.
    pub(super) senders_as: Index<String, NamespacedName>,
    /// Canonical address → the Mailboxes that may send as it or as a subaddress of it.
    pub(super) senders_as_address: Index<String, NamespacedName>,
    /// Canonical address → the Mailboxes and MailAliases whose address it is, or is a subaddress of it.
    pub(super) details: Index<String, ObjectKey>,
    /// Secret → the Mailboxes that name it.
    pub(super) secret_users: Index<NamespacedName, NamespacedName>,
    /// Secret → the MailServers and RelayPolicies that name it.
    pub(super) secret_uses: Index<NamespacedName, SecretUse>,
    /// ConfigMap → the Mailboxes whose filter is in it.
    pub(super) config_map_users: Index<NamespacedName, NamespacedName>,
    /// Domain name → the RelayPolicies whose clients would send as it.
    pub(super) sender_policies: Index<String, NamespacedName>,
    /// Namespace → its MailDomains, Mailboxes, MailAliases and RelayPolicies.
    pub(super) by_namespace: Index<String, ObjectKey>,
    /// Namespace → the RelayPolicies that select pods of that namespace alone, their own.
    pub(super) pod_policies: Index<String, NamespacedName>,
    /// The RelayPolicies that select pods by the labels of namespaces.
    pub(super) wide_pod_policies: BTreeSet<NamespacedName>,
    /// Namespace → its pods.
    pub(super) pods: Index<String, NamespacedName>,
}

/// Some values in order. Most keys of an index have one, for which a tree would take ten times the room.
#[derive(Debug)]
pub(super) enum Values<V> {
    One(V),
    Many(BTreeSet<V>),
}

impl<V: Ord> Values<V> {
    /// Adds a value.
    fn with(self, value: V) -> Self {
        match self {
            Self::One(one) if one == value => Self::One(one),
            Self::One(one) => Self::Many([one, value].into()),
            Self::Many(mut many) => {
                many.insert(value);
                Self::Many(many)
            }
        }
    }

    /// Takes a value away; `None`: nothing is left.
    fn without(self, value: &V) -> Option<Self> {
        match self {
            Self::One(one) => (one != *value).then_some(Self::One(one)),
            Self::Many(mut many) => {
                many.remove(value);
                if many.len() == 1 { many.pop_first().map(Self::One) } else { Some(Self::Many(many)) }
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(many) => many.len(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &V> {
        let (one, many) = match self {
            Self::One(one) => (Some(one), None),
            Self::Many(many) => (None, Some(many)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

/// A map from one thing to many, which forgets empty entries.
#[derive(Debug)]
pub(super) struct Index<K, V>(HashMap<K, Values<V>>);

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: std::hash::Hash + Eq + Clone, V: Ord + Clone> Index<K, V> {
    /// Adds or takes away one pair.
    pub(super) fn set(&mut self, key: &K, value: V, present: bool) {
        let values = match (self.0.remove(key), present) {
            (Some(values), true) => Some(values.with(value)),
            (Some(values), false) => values.without(&value),
            (None, true) => Some(Values::One(value)),
            (None, false) => None,
        };
        if let Some(values) = values {
            self.0.insert(key.clone(), values);
        }
    }

    /// How many belong to a key.
    pub(super) fn count(&self, key: &K) -> usize {
        self.0.get(key).map_or(0, Values::len)
    }

    /// What belongs to a key.
    pub(super) fn of<'a>(&'a self, key: &K) -> impl Iterator<Item = &'a V> + use<'a, K, V> {
        self.0.get(key).into_iter().flat_map(Values::iter)
    }

    /// What belongs to a key, to walk over while the index changes.
    pub(super) fn list(&self, key: &K) -> Vec<V> {
        self.of(key).cloned().collect()
    }

    /// The keys that have something.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }
}

/// One step of the evaluation. They are done in this order, each asks only what earlier ones have settled, so that every
/// step sees a finished world whatever the order of changes was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Task {
    /// Is the MailServer's spec one that this release serves?
    Server(NamespacedName),
    /// May the MailDomain claim its name?
    DomainGate(NamespacedName),
    /// Which MailDomain has the name?
    DomainName(String),
    /// May the Mailbox or MailAlias claim its address?
    AddressGate(ObjectKey),
    /// Who has the address?
    Address(Arc<str>),
    /// Is the Mailbox or MailAlias in force?
    Standing(ObjectKey),
    /// The Mailbox's verdict and record.
    Mailbox(NamespacedName),
    /// The alias's targets, verdict and record.
    Alias(AliasSource),
    /// The MailDomain's verdict, counts and configuration.
    Domain(NamespacedName),
    /// The RelayPolicy's verdict and rule.
    Policy(NamespacedName),
}

/// What is left to do in one call, and what it has changed so far.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) tasks: BTreeSet<Task>,
    pub(super) changes: Changes,
    /// Aliases that were counted again because of others.
    pub(super) recounts: usize,
}

impl Work {
    pub(super) fn add(&mut self, task: Task) {
        self.tasks.insert(task);
    }

    pub(super) fn add_all(&mut self, tasks: impl IntoIterator<Item = Task>) {
        self.tasks.extend(tasks);
    }
}

#[cfg(test)]
impl Links {
    /// Whether no object names any other.
    pub(super) fn is_empty(&self) -> bool {
        self.server_users.0.is_empty()
            && self.members.0.is_empty()
            && self.domain_policies.0.is_empty()
            && self.mailbox_aliases.0.is_empty()
            && self.address_namers.0.is_empty()
            && self.mailbox_catch_alls.0.is_empty()
            && self.senders_as.0.is_empty()
            && self.senders_as_address.0.is_empty()
            && self.details.0.is_empty()
            && self.secret_users.0.is_empty()
            && self.secret_uses.0.is_empty()
            && self.sender_policies.0.is_empty()
            && self.config_map_users.0.is_empty()
            && self.by_namespace.0.is_empty()
            && self.pod_policies.0.is_empty()
            && self.wide_pod_policies.is_empty()
    }
}

//! What can be asked of the index: reports for statuses, accepted objects for rendering, and who depends on a Secret.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use paquebot_config::{Address, DomainConfig, Record, RelayRule, ShardName};
use paquebot_crds::{Kind, MailAliasSpec, MailDomainSpec, MailServerSpec, MailboxSpec, RelayPolicySpec};

use super::Directory;
use super::input::{ClusterRanges, Entry};
use super::key::{NamespacedName, ObjectKey};
use super::state::{AliasSource, Holder, Published, RecordSource};
use super::verdict::{Accepted, CredentialsReport, Details, Report, Verdict};
use crate::exposure::peers::{Known, neighbourhood};

impl Directory {
    /// What an object's status is made of; `None` for an object that is not there.
    #[must_use]
    pub fn report(&self, key: &ObjectKey) -> Option<Report> {
        let name = &key.name;
        let report = |generation, verdict: &Verdict, details| Report { generation, verdict: verdict.clone(), details };
        Some(match key.kind {
            Kind::MailServer => {
                let node = self.servers.get(name)?;
                report(node.entry.meta.generation, &node.verdict, Details::MailServer)
            }
            Kind::MailDomain => {
                let node = self.domains.get(name)?;
                let (mailboxes, aliases) = self.counts.get(name).copied().unwrap_or_default();
                let server = self.server_meant(node.entry.spec.server_ref.as_ref(), &name.namespace);
                report(node.entry.meta.generation, &node.verdict, Details::MailDomain { server, mailboxes, aliases })
            }
            Kind::Mailbox => {
                let node = self.mailboxes.get(name)?;
                let details = Details::Mailbox {
                    address: node.member.address.clone(),
                    versions: node.credentials.versions.clone(),
                    credentials: self.credentials_report(name)?,
                    filter: node.filter.report(),
                };
                report(node.entry.meta.generation, &node.member.verdict, details)
            }
            Kind::MailAlias => {
                let node = self.aliases.get(name)?;
                let details = Details::MailAlias { address: node.member.address.clone() };
                report(node.entry.meta.generation, &node.member.verdict, details)
            }
            Kind::RelayPolicy => {
                let node = self.policies.get(name)?;
                let (effective, rejected) = (node.effective.clone(), node.rejected.clone());
                report(node.entry.meta.generation, &node.verdict, Details::RelayPolicy { effective, rejected })
            }
        })
    }

    pub(super) fn credentials_report(&self, name: &NamespacedName) -> Option<CredentialsReport> {
        let node = self.mailboxes.get(name)?;
        let source = node.entry.spec.credentials.as_ref().and_then(|credentials| credentials.source());
        Some(match (source, &node.credentials.failure) {
            (None, _) => CredentialsReport::ReceiveOnly,
            (Some(_), Some(failure)) => CredentialsReport::Failed(failure.clone()),
            (Some(_), None) if node.credentials.known => CredentialsReport::Ready,
            (Some(_), None) => CredentialsReport::Pending,
        })
    }

    /// Every object, in the order in which one kind builds on the other.
    #[must_use]
    pub fn objects(&self) -> Vec<ObjectKey> {
        let keys = |kind: Kind, names: Vec<&NamespacedName>| -> Vec<ObjectKey> {
            let mut keys: Vec<_> = names.into_iter().map(|name| ObjectKey::new(kind, name.clone())).collect();
            keys.sort();
            keys
        };
        let mut all = keys(Kind::MailServer, self.servers.keys().collect());
        all.extend(keys(Kind::MailDomain, self.domains.keys().collect()));
        all.extend(keys(Kind::Mailbox, self.mailboxes.keys().collect()));
        all.extend(keys(Kind::MailAlias, self.aliases.keys().collect()));
        all.extend(keys(Kind::RelayPolicy, self.policies.keys().collect()));
        all
    }

    /// A MailServer, accepted or not.
    #[must_use]
    pub fn server(&self, name: &NamespacedName) -> Option<&Entry<MailServerSpec>> {
        self.servers.get(name).map(|node| &node.entry)
    }

    /// A MailDomain, accepted or not.
    #[must_use]
    pub fn domain(&self, name: &NamespacedName) -> Option<&Entry<MailDomainSpec>> {
        self.domains.get(name).map(|node| &node.entry)
    }

    /// A Mailbox, accepted or not.
    #[must_use]
    pub fn mailbox(&self, name: &NamespacedName) -> Option<&Entry<MailboxSpec>> {
        self.mailboxes.get(name).map(|node| &node.entry)
    }

    /// A MailAlias, accepted or not.
    #[must_use]
    pub fn alias(&self, name: &NamespacedName) -> Option<&Entry<MailAliasSpec>> {
        self.aliases.get(name).map(|node| &node.entry)
    }

    /// A RelayPolicy, accepted or not.
    #[must_use]
    pub fn policy(&self, name: &NamespacedName) -> Option<&Entry<RelayPolicySpec>> {
        self.policies.get(name).map(|node| &node.entry)
    }

    /// The names of all MailServers, accepted or not.
    pub fn servers(&self) -> impl Iterator<Item = &NamespacedName> {
        self.servers.keys()
    }

    /// The addresses of the cluster itself.
    #[must_use]
    pub fn cluster_ranges(&self) -> &ClusterRanges {
        &self.options.ranges
    }

    /// What the index knows of the cluster, to tell who is behind these addresses. Goes through all pods.
    #[must_use]
    pub fn known_around(&self, addresses: &BTreeSet<IpAddr>) -> Known {
        let around: BTreeSet<IpNet> = addresses.iter().filter_map(|address| neighbourhood(*address)).collect();
        let mut known = Known { ranges: self.options.ranges.clone(), ..Known::default() };
        // A pod that has ended may be among the clients of the last hour.
        let pods = self.pods.values().filter(|pod| !pod.host_network);
        for address in pods.flat_map(|pod| &pod.addresses) {
            if addresses.contains(address) {
                known.pods.insert(*address);
            }
            known.near_pods.extend(neighbourhood(*address).filter(|network| around.contains(network)));
        }
        known
    }

    /// A MailServer that is accepted. What it runs on stays as it is while it is not.
    #[must_use]
    pub fn accepted_server(&self, name: &NamespacedName) -> Option<Accepted<&Entry<MailServerSpec>>> {
        self.servers.get(name).filter(|node| node.verdict.is_accepted()).map(|node| Accepted::new(&node.entry))
    }

    /// The MailDomains that a server serves.
    pub fn accepted_domains(&self, server: &NamespacedName) -> impl Iterator<Item = Accepted<&Entry<MailDomainSpec>>> {
        let shards = self.published(server).into_iter().flat_map(|published| published.domains.values());
        let names = shards.flat_map(|domains| domains.keys());
        names.filter_map(|name| self.domains.get(name)).map(|node| Accepted::new(&node.entry))
    }

    /// The domains of a server's directory, or of one shard of it.
    pub fn domain_configs(
        &self,
        server: &NamespacedName,
        shard: Option<ShardName>,
    ) -> impl Iterator<Item = Accepted<&DomainConfig>> {
        let published = self.published(server).into_iter();
        published.flat_map(move |published| of_shard(&published.domains, shard)).map(Accepted::new)
    }

    /// The entries of a server's `relay.json`, in the order in which the server tries them.
    pub fn relay_rules(&self, server: &NamespacedName) -> impl Iterator<Item = Accepted<&RelayRule>> {
        let mut rules: Vec<_> = self.published(server).into_iter().flat_map(|found| found.rules.values()).collect();
        rules.sort_by(|one, other| one.rank.cmp(&other.rank));
        rules.into_iter().map(|ranked| Accepted::new(&ranked.rule))
    }

    /// The mailboxes and aliases of a server's directory, or of one shard of it.
    pub fn records(
        &self,
        server: &NamespacedName,
        shard: Option<ShardName>,
    ) -> impl Iterator<Item = Accepted<&Record>> {
        let published = self.published(server).into_iter();
        published.flat_map(move |published| of_shard(&published.records, shard)).map(|record| Accepted::new(&**record))
    }

    fn published(&self, server: &NamespacedName) -> Option<&Published> {
        self.published.get(server)
    }

    /// The server and the file of the configuration that hold an object's entry, for the condition `Programmed`: the
    /// object is programmed when the pods report that file's digest. `None` while the object is not in force.
    #[must_use]
    pub fn place(&self, key: &ObjectKey) -> Option<(NamespacedName, String)> {
        use paquebot_config::bundle::{RELAY_FILE, SERVER_FILE};
        let name = &key.name;
        let record = |source: RecordSource| {
            let (server, shard) = self.record_places.get(&source)?;
            Some((server.clone(), shard.to_string()))
        };
        match key.kind {
            Kind::MailServer => self.accepted_server(name).map(|_| (name.clone(), SERVER_FILE.to_owned())),
            Kind::MailDomain => self.domain_places.get(name).map(|(server, shard)| (server.clone(), shard.to_string())),
            Kind::Mailbox => record(RecordSource::Mailbox(name.clone())),
            Kind::MailAlias => record(RecordSource::Alias(AliasSource::Alias(name.clone()))),
            Kind::RelayPolicy => {
                let server = self.rule_places.get(name).cloned().or_else(|| self.idle_policy_place(name))?;
                Some((server, RELAY_FILE.to_owned()))
            }
        }
    }

    /// Whether the mail of an address, or of a domain as `@domain`, that an object's tenant has on a server is another
    /// object's by now. What became another tenant's, or another server's, is apart from it there.
    #[must_use]
    pub fn is_of_another(&self, key: &ObjectKey, server: &NamespacedName, whose: &str, tenant: &str) -> bool {
        let same_server = |other: &ObjectKey| self.place(other).is_none_or(|(place, _)| place == *server);
        self.keeper_of(whose, tenant).is_some_and(|other| other != *key && same_server(&other))
    }

    /// The Mailbox, or the MailDomain, that has an address or a domain for a tenant.
    fn keeper_of(&self, whose: &str, tenant: &str) -> Option<ObjectKey> {
        match whose.strip_prefix('@') {
            Some(domain) => self
                .domain_holders
                .get(domain)
                .filter(|holder| holder.namespace == tenant)
                .map(|holder| ObjectKey::new(Kind::MailDomain, holder.clone())),
            None => match self.holders.get(Address::parse(whose).ok()?.canonical().as_str()) {
                // An alias keeps no mail.
                Some(Holder::Object { rank, domain }) if domain.namespace == tenant => {
                    Some(rank.key()).filter(|holder| holder.kind == Kind::Mailbox)
                }
                _ => None,
            },
        }
    }

    /// Where an accepted RelayPolicy that admits nobody now has no entry: that it has none is what is to arrive.
    fn idle_policy_place(&self, name: &NamespacedName) -> Option<NamespacedName> {
        let node = self.policies.get(name).filter(|node| node.verdict.is_accepted())?;
        self.server_meant(node.entry.spec.server_ref.as_ref(), &name.namespace)
    }

    /// The Mailboxes whose password is in a Secret.
    pub fn mailboxes_of_secret(&self, secret: &NamespacedName) -> impl Iterator<Item = &NamespacedName> {
        self.links.secret_users.of(secret)
    }

    /// The Mailboxes of a server whose Secrets nobody has reported on yet. A configuration that is written before that
    /// would lock their owners out for a while.
    pub fn pending_credentials(&self, server: &NamespacedName) -> impl Iterator<Item = &NamespacedName> {
        self.pending.of(server)
    }

    /// How many [`Self::pending_credentials`] there are.
    #[must_use]
    pub fn pending_count(&self, server: &NamespacedName) -> usize {
        self.pending.count(server)
    }

    /// How many mailboxes and aliases a server has.
    #[must_use]
    pub fn record_count(&self, server: &NamespacedName) -> usize {
        self.published(server).map_or(0, |published| published.records.values().map(BTreeMap::len).sum())
    }

    /// Whether nothing at all is remembered, the labels of namespaces and pods aside.
    #[cfg(test)]
    pub(super) fn is_blank(&self) -> bool {
        self.objects().is_empty()
            && self.domain_claims.is_empty()
            && self.domain_holders.is_empty()
            && self.address_claims.keys().next().is_none()
            && self.holders.is_empty()
            && self.seats.is_empty()
            && self.counts.is_empty()
            && self.published.is_empty()
            && self.record_places.is_empty()
            && self.domain_places.is_empty()
            && self.rule_places.is_empty()
            && (self.pod_addresses.is_empty() || !self.pods.is_empty())
            && self.pending.keys().next().is_none()
            && self.relay_budgets.is_empty()
            && self.rule_weights.is_empty()
            && self.network_budgets.is_empty()
            && self.network_weights.is_empty()
            && self.record_budgets.is_empty()
            && self.line_weights.is_empty()
            && self.held.is_empty()
            && self.unread.is_empty()
            && self.links.is_empty()
    }
}

/// What one shard holds, or all of them.
fn of_shard<K, V>(shards: &BTreeMap<ShardName, BTreeMap<K, V>>, shard: Option<ShardName>) -> impl Iterator<Item = &V> {
    let (one, all) = match shard {
        Some(shard) => (shards.get(&shard), None),
        None => (None, Some(shards.values())),
    };
    one.into_iter().chain(all.into_iter().flatten()).flat_map(BTreeMap::values)
}

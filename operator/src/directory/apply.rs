//! Taking in what has changed: what may depend on it is put on a list, and the list is worked through.

use paquebot_crds::{Kind, MailAliasSpec, MailDomainSpec, MailServerSpec, MailboxSpec, RelayPolicySpec};

use super::addresses::final_task;
use super::filters::{self, Filter};
use super::input::{ClusterRanges, CredentialOutcome, Entry, Object, Options, Pod};
use super::key::{NamespacedName, ObjectKey};
use super::state::{
    AliasNode, AliasSource, Credentials, DomainNode, MailboxNode, Member, PolicyNode, RecordSource, Role, ServerNode,
    Task, Work, pending,
};
use super::tenancy::Labels;
use super::{Changes, Directory, Verdict};

impl Directory {
    /// An index of nothing.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Takes in an object that is new or has changed. An object that is as it was changes nothing.
    pub fn apply(&mut self, object: impl Into<Object>) -> Changes {
        let object = object.into();
        let mut work = Work::default();
        let key = object.key();
        let changed = match object {
            Object::MailServer(entry) => self.apply_server(*entry, &mut work),
            Object::MailDomain(entry) => self.apply_domain(*entry, &mut work),
            Object::Mailbox(entry) => self.apply_mailbox(*entry, &mut work),
            Object::MailAlias(entry) => self.apply_alias(*entry, &mut work),
            Object::RelayPolicy(entry) => self.apply_policy(*entry, &mut work),
        };
        if changed {
            work.changes.statuses.insert(key);
        }
        self.run(work)
    }

    /// Forgets an object. One that is not there changes nothing.
    pub fn delete(&mut self, key: &ObjectKey) -> Changes {
        let mut work = Work::default();
        let name = &key.name;
        let there = match key.kind {
            Kind::MailServer => self.delete_server(name, &mut work),
            Kind::MailDomain => self.delete_domain(name, &mut work),
            Kind::Mailbox => self.delete_mailbox(name, &mut work),
            Kind::MailAlias => self.delete_alias(name, &mut work),
            Kind::RelayPolicy => self.delete_policy(name, &mut work),
        };
        if there {
            work.changes.statuses.insert(key.clone());
        }
        self.run(work)
    }

    /// Takes in the labels of a namespace.
    pub fn apply_namespace(&mut self, name: &str, labels: Labels) -> Changes {
        if self.namespaces.get(name) == Some(&labels) {
            return Changes::default();
        }
        self.namespaces.insert(name.to_owned(), labels);
        self.namespace_changed(name)
    }

    /// Forgets a namespace: it matches no selector from now on.
    pub fn delete_namespace(&mut self, name: &str) -> Changes {
        if self.namespaces.remove(name).is_none() {
            return Changes::default();
        }
        self.namespace_changed(name)
    }

    fn namespace_changed(&mut self, name: &str) -> Changes {
        let mut work = Work::default();
        for key in self.links.by_namespace.of(&name.to_owned()) {
            work.add(match key.kind {
                Kind::MailServer => Task::Server(key.name.clone()),
                Kind::MailDomain => Task::DomainGate(key.name.clone()),
                Kind::Mailbox | Kind::MailAlias => Task::AddressGate(key.clone()),
                Kind::RelayPolicy => Task::Policy(key.name.clone()),
            });
        }
        for mailbox in self.links.by_namespace.of(&name.to_owned()).filter(|key| key.kind == Kind::Mailbox) {
            work.add(Task::Mailbox(mailbox.name.clone()));
        }
        let wide: Vec<_> = self.links.wide_pod_policies.iter().cloned().collect();
        for policy in wide {
            self.select_pods(&policy);
            work.add(Task::Policy(policy));
        }
        self.run(work)
    }

    /// Takes in a pod.
    pub fn apply_pod(&mut self, name: NamespacedName, pod: Pod) -> Changes {
        if self.pods.get(&name) == Some(&pod) {
            return Changes::default();
        }
        self.links.pods.set(&name.namespace, name.clone(), true);
        let before = self.pods.insert(name.clone(), pod);
        self.pod_changed(&name, before.as_ref())
    }

    /// Forgets a pod.
    pub fn delete_pod(&mut self, name: &NamespacedName) -> Changes {
        let Some(before) = self.pods.remove(name) else { return Changes::default() };
        self.links.pods.set(&name.namespace, name.clone(), false);
        self.pod_changed(name, Some(&before))
    }

    /// Takes in what became of a mailbox's Secrets. For a mailbox that is not there it changes nothing: whoever reads the
    /// Secrets tries again when the mailbox appears.
    pub fn apply_credentials(&mut self, mailbox: &NamespacedName, outcome: CredentialOutcome) -> Changes {
        let mut work = Work::default();
        let Some(node) = self.mailboxes.get_mut(mailbox) else { return Changes::default() };
        let before = std::mem::take(&mut node.credentials);
        node.credentials = match outcome {
            CredentialOutcome::Ready { verifiers, app_passwords, versions } => {
                Credentials { known: true, verifiers, app_passwords, versions, failure: None }
            }
            // The old passwords go on working.
            CredentialOutcome::Partly { verifiers, app_passwords, versions, failure } => {
                before.clone().with(verifiers, app_passwords, versions, failure)
            }
        };
        if node.credentials != before {
            work.changes.statuses.insert(ObjectKey::new(Kind::Mailbox, mailbox.clone()));
            work.add(Task::Mailbox(mailbox.clone()));
        }
        self.run(work)
    }

    /// Takes in the cluster's own addresses. Each RelayPolicy is judged again.
    pub fn set_cluster_ranges(&mut self, ranges: ClusterRanges) -> Changes {
        let mut work = Work::default();
        if self.options.ranges != ranges {
            self.options.ranges = ranges;
            work.add_all(self.policies.keys().cloned().map(Task::Policy));
        }
        self.run(work)
    }

    /// Takes in whether a server is proven to see its clients' own addresses. The RelayPolicies that name it are judged again
    /// when that changes.
    pub fn set_source_preserved(&mut self, server: &NamespacedName, preserved: bool) -> Changes {
        let mut work = Work::default();
        let changed = if preserved {
            self.servers.contains_key(server) && self.source_preserved.insert(server.clone())
        } else {
            self.source_preserved.remove(server)
        };
        if changed {
            let users = self.links.server_users.of(server).filter(|key| key.kind == Kind::RelayPolicy);
            work.add_all(users.map(|key| Task::Policy(key.name.clone())));
        }
        self.run(work)
    }

    /// Works through the list until nothing is left.
    pub(super) fn run(&mut self, mut work: Work) -> Changes {
        while let Some(task) = work.tasks.pop_first() {
            match task {
                Task::Server(name) => self.settle_server(&name, &mut work),
                Task::DomainGate(name) => self.settle_domain_gate(&name, &mut work),
                Task::DomainName(domain) => self.settle_domain_name(&domain, &mut work),
                Task::AddressGate(key) => self.settle_address_gate(&key, &mut work),
                Task::Address(address) => self.settle_address(&address, &mut work),
                Task::Standing(key) => self.settle_standing(&key, &mut work),
                Task::Mailbox(name) => self.settle_mailbox(&name, &mut work),
                Task::Alias(source) => self.settle_alias(&source, &mut work),
                Task::Domain(name) => self.settle_domain(&name, &mut work),
                Task::Policy(name) => self.settle_policy(&name, &mut work),
            }
        }
        work.changes
    }

    fn apply_server(&mut self, entry: Entry<MailServerSpec>, work: &mut Work) -> bool {
        let name = entry.name.clone();
        let old = self.servers.get(&name).map(|node| &node.entry);
        if old == Some(&entry) {
            return false;
        }
        // Only this of a MailServer matters to those who name it.
        if old.is_none_or(|old| concerns_users(&old.spec, &entry.spec)) {
            self.add_server_users(&name, work);
        }
        if old.is_none_or(|old| old.spec.hostname != entry.spec.hostname || old.meta.created != entry.meta.created) {
            let hostnames = old.into_iter().chain([&entry]).map(|entry| entry.spec.hostname.as_str());
            hostnames.for_each(|hostname| self.add_namesakes(hostname, work));
        }
        let files = work.changes.files(&name);
        files.server = true;
        files.secrets |= old.is_none_or(|old| old.spec.outbound.smart_host != entry.spec.outbound.smart_host);
        self.servers.insert(name.clone(), ServerNode { entry, verdict: Verdict::Refused(pending()) });
        self.hold_secrets(&ObjectKey::new(Kind::MailServer, name.clone()));
        work.add(Task::Server(name));
        true
    }

    fn delete_server(&mut self, name: &NamespacedName, work: &mut Work) -> bool {
        let Some(gone) = self.servers.remove(name) else { return false };
        self.add_namesakes(gone.entry.spec.hostname.as_str(), work);
        self.hold_secrets(&ObjectKey::new(Kind::MailServer, name.clone()));
        self.source_preserved.remove(name);
        self.add_server_users(name, work);
        work.changes.files(name).server = true;
        true
    }

    fn add_server_users(&self, name: &NamespacedName, work: &mut Work) {
        work.add_all(self.links.server_users.of(name).map(|key| match key.kind {
            Kind::RelayPolicy => Task::Policy(key.name.clone()),
            _ => Task::DomainGate(key.name.clone()),
        }));
    }

    fn apply_domain(&mut self, entry: Entry<MailDomainSpec>, work: &mut Work) -> bool {
        let name = entry.name.clone();
        let old = self.domains.get(&name).map(|node| &node.entry);
        if old == Some(&entry) {
            return false;
        }
        if old.is_none_or(|old| concerns_members(&old.spec, &entry.spec)) {
            work.add_all(self.links.members.of(&name).cloned().map(Task::AddressGate));
            work.add_all(self.links.domain_policies.of(&name).cloned().map(Task::Policy));
        }
        if old.is_some_and(|old| old.spec.relay_policy_refs != entry.spec.relay_policy_refs) {
            self.add_policies_of_sender(entry.spec.domain.as_str(), work);
        }
        // What is said of them follows it.
        if old.is_some_and(|old| old.spec.suspended != entry.spec.suspended) {
            work.add_all(self.links.members.of(&name).map(final_task));
        }
        // Another separator, or another catch-all, makes other rings.
        let divides_anew = old.is_some_and(|old| leads_elsewhere(&old.spec, &entry.spec));
        if divides_anew {
            self.add_rings(&name, work);
        }
        self.add_roles(&name, work);
        self.link_domain(&name, false);
        let old = self.domains.remove(&name);
        let limits = &entry.spec.limits;
        let (mailboxes, aliases) = (limits.max_mailboxes, limits.max_aliases);
        let right = filters::around(entry.spec.filters.as_ref()).ok();
        let mut node = match old {
            // The challenge names one object: another one of the same name has to prove it anew.
            Some(old) => DomainNode { proven: old.proven && old.entry.meta.uid == entry.meta.uid, entry, ..old },
            None => DomainNode::new(entry),
        };
        node.filters = right.unwrap_or(node.filters);
        work.add_all([Task::DomainGate(name.clone()), Task::DomainName(node.entry.spec.domain.to_string())]);
        self.domains.insert(name.clone(), node);
        self.link_domain(&name, true);
        if divides_anew {
            self.add_rings(&name, work);
        }
        self.add_roles(&name, work);
        self.limit_seats(&name, mailboxes, aliases, work);
        work.add(Task::Domain(name));
        true
    }

    fn delete_domain(&mut self, name: &NamespacedName, work: &mut Work) -> bool {
        if !self.domains.contains_key(name) {
            return false;
        }
        self.add_roles(name, work);
        self.link_domain(name, false);
        if let Some(node) = self.domains.remove(name) {
            self.withdraw_domain_claim(node.claim, work);
            work.add(Task::DomainName(node.entry.spec.domain.to_string()));
        }
        work.add_all(self.links.members.of(name).cloned().map(Task::AddressGate));
        work.add_all(self.links.domain_policies.of(name).cloned().map(Task::Policy));
        self.limit_seats(name, None, None, work);
        work.add(Task::Domain(name.clone()));
        true
    }

    /// The aliases and mailboxes of a MailDomain, and what lies behind them.
    fn add_rings(&self, name: &NamespacedName, work: &mut Work) {
        for key in self.links.members.of(name) {
            let source = match key.kind {
                Kind::Mailbox => RecordSource::Mailbox(key.name.clone()),
                _ => RecordSource::Alias(AliasSource::Alias(key.name.clone())),
            };
            work.add_all(self.reach(&source));
            work.add(Task::AddressGate(key.clone()));
        }
    }

    /// The role addresses of a MailDomain, and the aliases that lie behind them.
    fn add_roles(&self, name: &NamespacedName, work: &mut Work) {
        let Some(node) = self.domains.get(name) else { return };
        for role in Role::ALL {
            let source = AliasSource::Role(name.clone(), role);
            work.add_all(self.reach(&RecordSource::Alias(source.clone())));
            work.add(Task::Alias(source));
            work.add(Task::Address(format!("{}@{}", role.local_part(), node.entry.spec.domain).into()));
        }
    }

    fn apply_mailbox(&mut self, entry: Entry<MailboxSpec>, work: &mut Work) -> bool {
        let name = entry.name.clone();
        if self.mailboxes.get(&name).is_some_and(|node| node.entry == entry) {
            return false;
        }
        let source = RecordSource::Mailbox(name.clone());
        work.add_all(self.reach(&source));
        self.link_mailbox(&name, false);
        let before = self.mailboxes.remove(&name);
        let known = before.as_ref().map(|old| (&old.entry.spec, old.filter.clone()));
        let filter = Filter::of_spec(&entry.spec, known);
        let node = match before {
            // Credentials that were taken away open nothing any more; a changed reference is read again, and until then
            // the old password works.
            Some(old) if entry.spec.credentials.is_some() => {
                let mut old = *old;
                old.credentials.forget_app_passwords(&old.entry.spec, &entry.spec);
                MailboxNode { entry, filter, ..old }
            }
            Some(old) => MailboxNode { entry, member: old.member, credentials: Credentials::default(), filter },
            None => MailboxNode { entry, member: Member::new(), credentials: Credentials::default(), filter },
        };
        self.mailboxes.insert(name.clone(), Box::new(node));
        self.link_mailbox(&name, true);
        work.add_all(self.reach(&source));
        work.add_all([Task::AddressGate(ObjectKey::new(Kind::Mailbox, name.clone())), Task::Mailbox(name)]);
        true
    }

    fn delete_mailbox(&mut self, name: &NamespacedName, work: &mut Work) -> bool {
        work.add_all(self.reach(&RecordSource::Mailbox(name.clone())));
        self.link_mailbox(name, false);
        let Some(node) = self.mailboxes.remove(name) else { return false };
        self.withdraw_member(node.member, &ObjectKey::new(Kind::Mailbox, name.clone()), work);
        work.add(Task::Mailbox(name.clone()));
        true
    }

    fn apply_alias(&mut self, entry: Entry<MailAliasSpec>, work: &mut Work) -> bool {
        let name = entry.name.clone();
        if self.aliases.get(&name).is_some_and(|node| node.entry == entry) {
            return false;
        }
        let source = AliasSource::Alias(name.clone());
        work.add_all(self.reach(&RecordSource::Alias(source.clone())));
        self.link_alias(&name, false);
        let member = self.aliases.remove(&name).map_or_else(Member::new, |old| old.member);
        self.aliases.insert(name.clone(), AliasNode { entry, member });
        self.link_alias(&name, true);
        work.add_all(self.reach(&RecordSource::Alias(source.clone())));
        work.add_all([Task::AddressGate(ObjectKey::new(Kind::MailAlias, name)), Task::Alias(source)]);
        true
    }

    fn delete_alias(&mut self, name: &NamespacedName, work: &mut Work) -> bool {
        let source = AliasSource::Alias(name.clone());
        work.add_all(self.reach(&RecordSource::Alias(source.clone())));
        self.link_alias(name, false);
        let Some(node) = self.aliases.remove(name) else { return false };
        self.withdraw_member(node.member, &ObjectKey::new(Kind::MailAlias, name.clone()), work);
        work.add(Task::Alias(source));
        true
    }

    fn apply_policy(&mut self, entry: Entry<RelayPolicySpec>, work: &mut Work) -> bool {
        let name = entry.name.clone();
        if self.policies.get(&name).is_some_and(|node| node.entry == entry) {
            return false;
        }
        self.link_policy(&name, false);
        let node = match self.policies.remove(&name) {
            Some(old) => PolicyNode { entry, ..old },
            None => PolicyNode {
                entry,
                verdict: Verdict::Refused(pending()),
                pods: std::collections::BTreeSet::new(),
                effective: Vec::new(),
                rejected: Vec::new(),
            },
        };
        self.policies.insert(name.clone(), node);
        self.link_policy(&name, true);
        self.hold_secrets(&ObjectKey::new(Kind::RelayPolicy, name.clone()));
        self.select_pods(&name);
        work.add(Task::Policy(name));
        true
    }

    fn delete_policy(&mut self, name: &NamespacedName, work: &mut Work) -> bool {
        self.link_policy(name, false);
        if self.policies.remove(name).is_none() {
            return false;
        }
        self.hold_secrets(&ObjectKey::new(Kind::RelayPolicy, name.clone()));
        work.add(Task::Policy(name.clone()));
        true
    }
}

/// Whether the MailDomains and RelayPolicies of a MailServer must be looked at again.
fn concerns_users(old: &MailServerSpec, new: &MailServerSpec) -> bool {
    old.allowed_namespaces != new.allowed_namespaces
        || old.dns.require_ownership != new.dns.require_ownership
        || old.hostname != new.hostname
        || old.tls.client_ca_secret_ref.is_some() != new.tls.client_ca_secret_ref.is_some()
}

/// Whether addresses of a MailDomain may lead to others than before.
fn leads_elsewhere(old: &MailDomainSpec, new: &MailDomainSpec) -> bool {
    old.subaddressing != new.subaddressing || old.catch_all != new.catch_all
}

/// Whether a MailDomain's mailboxes and aliases must be looked at again.
fn concerns_members(old: &MailDomainSpec, new: &MailDomainSpec) -> bool {
    old.domain != new.domain
        || old.server_ref != new.server_ref
        || old.allowed_namespaces != new.allowed_namespaces
        || old.limits != new.limits
}

//! Aliases that lead back to themselves: directly, by a subaddress, by the domain's catch-all, or through a mailbox that
//! forwards and keeps no copy.
//!
//! A ring is sought a bounded number of steps far, so that nobody's web of aliases keeps the operator from other work. A
//! larger ring harms nobody either: the server, which expands a recipient, stops there too and refuses the mail (554 5.4.6).

use std::collections::BTreeSet;

use paquebot_config::Address;
use paquebot_crds::Kind;
use paquebot_crds::references::Target;

use super::Directory;
use super::key::NamespacedName;
use super::state::{AliasSource, Holder, RecordSource, Task};

/// Aliases and mailboxes that are followed from one of them.
const MOST_VISITS: usize = 64;
/// Targets that are looked at on the way.
const MOST_TARGETS: usize = 512;

impl Directory {
    /// Whether mail for an alias comes back to it.
    pub(super) fn is_on_a_loop(&self, source: &AliasSource) -> bool {
        let source = RecordSource::Alias(source.clone());
        self.reachable(&source).contains(&source)
    }

    /// Whether mail that a mailbox forwards without keeping it comes back to it.
    pub(super) fn comes_back(&self, mailbox: &NamespacedName) -> bool {
        let source = RecordSource::Mailbox(mailbox.clone());
        self.reachable(&source).contains(&source)
    }

    /// The steps to take again when something changes about where an alias or a mailbox sends mail: only those that it leads
    /// to can be on a ring with it.
    pub(super) fn reach(&self, source: &RecordSource) -> Vec<Task> {
        let task = |source| match source {
            RecordSource::Alias(alias) => Task::Alias(alias),
            RecordSource::Mailbox(mailbox) => Task::Mailbox(mailbox),
        };
        self.reachable(source).into_iter().map(task).collect()
    }

    /// The steps to take again when an address comes to somebody else: what it led to before by its subaddress or by the
    /// catch-all it leads to no more, or does again.
    pub(super) fn reach_of_address(&self, address: &str) -> Vec<Task> {
        let Ok(address) = Address::parse(address) else { return Vec::new() };
        self.takers(&address).iter().flat_map(|taker| self.reach(taker)).collect()
    }

    /// Who may get the mail of an address, the first first.
    pub(super) fn takers(&self, address: &Address) -> Vec<RecordSource> {
        let exact = self.in_force(&address.canonical());
        let base = self.base_of(address).and_then(|base| self.in_force(&base.canonical()));
        exact.into_iter().chain(base).chain(self.catch_all_of(address)).collect()
    }

    fn catch_all_of(&self, address: &Address) -> Option<RecordSource> {
        let domain = self.domain_holders.get(address.domain().as_str())?;
        let reference = self.domains.get(domain)?.entry.spec.catch_all.as_ref()?.mailbox_ref.as_ref()?;
        let mailbox = NamespacedName::of_reference(reference, &domain.namespace);
        let is_there = self.mailboxes.get(&mailbox).is_some_and(|node| node.member.standing.is_ok());
        (is_there && self.may_name(&domain.namespace, &mailbox)).then_some(RecordSource::Mailbox(mailbox))
    }

    /// Who has an address and is in force.
    fn in_force(&self, address: &str) -> Option<RecordSource> {
        match self.holders.get(address)? {
            Holder::Role(domain, role) => Some(RecordSource::Alias(AliasSource::Role(domain.clone(), *role))),
            Holder::Object { rank, .. } => {
                let key = rank.key();
                self.member(&key)?.standing.as_ref().ok()?;
                Some(match key.kind {
                    Kind::Mailbox => RecordSource::Mailbox(key.name),
                    _ => RecordSource::Alias(AliasSource::Alias(key.name)),
                })
            }
        }
    }

    /// Whom an alias delivers to, or a mailbox forwards to without keeping a copy.
    fn next(&self, source: &RecordSource) -> Vec<RecordSource> {
        match source {
            RecordSource::Alias(alias) => {
                let (home, targets) = self.targets_of(alias);
                let next = targets.iter().filter_map(|target| match target.target()? {
                    Target::Address(address) => self.takers(&Address::parse(address.as_str()).ok()?).into_iter().next(),
                    Target::Mailbox(reference) => {
                        let mailbox = NamespacedName::of_reference(reference, home);
                        let is_there = self.mailboxes.get(&mailbox).is_some_and(|node| node.member.standing.is_ok());
                        (is_there && self.may_name(home, &mailbox)).then_some(RecordSource::Mailbox(mailbox))
                    }
                });
                next.collect()
            }
            RecordSource::Mailbox(mailbox) => {
                let spec = self.mailboxes.get(mailbox).map(|node| &node.entry.spec);
                let forwarding =
                    spec.and_then(|spec| spec.forwarding.as_ref()).filter(|forwarding| !forwarding.keep_copy);
                let to = forwarding.into_iter().flat_map(|forwarding| &forwarding.to);
                let next: Vec<RecordSource> = to
                    .filter_map(|address| self.takers(&Address::parse(address.as_str()).ok()?).into_iter().next())
                    .collect();
                // Who forwards to himself keeps a copy.
                if next.contains(source) { Vec::new() } else { next }
            }
        }
    }

    fn reachable(&self, source: &RecordSource) -> BTreeSet<RecordSource> {
        let mut found = BTreeSet::new();
        let mut open = self.next(source);
        let mut targets = open.len();
        while let Some(next) = open.pop() {
            if found.len() >= MOST_VISITS || targets >= MOST_TARGETS {
                break;
            }
            if found.insert(next.clone()) {
                let further = self.next(&next);
                targets += further.len();
                open.extend(further);
            }
        }
        found
    }
}

//! Whose domain it is: where a MailServer or a MailDomain asks for a proof, a MailDomain is served only once its owner has
//! published the challenge in DNS. Whether the record is there is observed elsewhere and told by [`Directory::set_proven`].
//!
//! Who has a name that several MailDomains claim: a proof beats age, since only the domain's owner can publish it for this
//! object and no other; then the older wins. A MailDomain that must prove it and has not takes nothing away from anybody.

use paquebot_crds::{Kind, MailDomainSpec};

use super::key::{NamespacedName, ObjectKey};
use super::state::{DomainNode, Task, Work};
use super::{Changes, Directory};

/// How strong a claim to a domain name is; the first is the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Strength {
    /// A proof is asked for and was seen.
    Proven,
    /// No proof is asked for.
    Free,
    /// A proof is asked for and is missing: it is not served.
    Unproven,
}

impl Directory {
    /// Takes in whether the challenge of a MailDomain was seen in DNS.
    pub fn set_proven(&mut self, name: &NamespacedName, proven: bool) -> Changes {
        let mut work = Work::default();
        let Some(node) = self.domains.get_mut(name).filter(|node| node.proven != proven) else {
            return Changes::default();
        };
        node.proven = proven;
        work.add(Task::DomainName(node.entry.spec.domain.to_string()));
        work.changes.statuses.insert(ObjectKey::new(Kind::MailDomain, name.clone()));
        self.run(work)
    }

    /// Whether the challenge of a MailDomain was seen in DNS.
    #[must_use]
    pub fn is_proven(&self, name: &NamespacedName) -> bool {
        self.domains.get(name).is_some_and(|node| node.proven)
    }

    /// Whether a MailDomain is served only with a proof.
    #[must_use]
    pub fn requires_proof(&self, name: &NamespacedName) -> bool {
        self.domains.get(name).is_some_and(|node| self.asks_for_proof(name, &node.entry.spec))
    }

    fn asks_for_proof(&self, name: &NamespacedName, spec: &MailDomainSpec) -> bool {
        let server = || {
            let server = self.server_meant(spec.server_ref.as_ref(), &name.namespace)?;
            Some(self.servers.get(&server)?.entry.spec.dns.require_ownership)
        };
        !self.options.ownership_is_assumed && (spec.dns.require_ownership || server().unwrap_or_default())
    }

    pub(super) fn strength(&self, name: &NamespacedName, node: &DomainNode) -> Strength {
        match (self.asks_for_proof(name, &node.entry.spec), node.proven) {
            (true, true) => Strength::Proven,
            (true, false) => Strength::Unproven,
            (false, _) => Strength::Free,
        }
    }

    /// The MailServer on which a MailDomain claims its domain, whether or not it has it; `None` while something else stands
    /// against it.
    #[must_use]
    pub fn claimed_on(&self, name: &NamespacedName) -> Option<NamespacedName> {
        let node = self.domains.get(name).filter(|node| node.claim.is_some())?;
        self.server_meant(node.entry.spec.server_ref.as_ref(), &name.namespace)
    }

    /// Whether only the proof keeps a MailDomain from being served.
    #[must_use]
    pub fn waits_for_proof(&self, name: &NamespacedName) -> bool {
        let reason = |node: &DomainNode| node.standing.as_ref().err().map(|refusal| refusal.reason);
        self.claimed_on(name).is_some()
            && self.domains.get(name).and_then(reason) == Some(paquebot_crds::conditions::Reason::Pending)
    }

    /// The MailDomains that name a server, accepted or not.
    pub fn domains_of(&self, server: &NamespacedName) -> impl Iterator<Item = &NamespacedName> {
        self.links.server_users.of(server).filter(|key| key.kind == Kind::MailDomain).map(|key| &key.name)
    }
}

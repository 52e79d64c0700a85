//! Which policies' clients may send as a domain that is served: the domain's owner has a say in it. The server refuses the
//! others' mail; here the policy that names such a sender is told.

use std::collections::BTreeSet;

use paquebot_config::{RelayRule, RelaySource};
use paquebot_crds::{ObjectReference, RelayPolicySpec};

use super::Directory;
use super::key::NamespacedName;
use super::state::{Task, Work};

/// The domains that are named in one sentence.
const MOST_NAMED: usize = 8;

/// The relay rules whose clients may send as a domain: those of its own namespace, and those that its owner names. Those of
/// the server's namespace may anyway.
pub(super) fn relayers(domain: &NamespacedName, references: &[ObjectReference]) -> Vec<String> {
    let named =
        references.iter().map(|reference| NamespacedName::of_reference(reference, &domain.namespace).to_string());
    let mut relayers: Vec<String> = named.chain([format!("{}/*", domain.namespace)]).collect();
    relayers.sort();
    relayers.dedup();
    relayers
}

/// The domains of the senders that a policy lists.
pub(super) fn sender_domains(spec: &RelayPolicySpec) -> BTreeSet<&str> {
    let senders = spec.senders.iter();
    senders
        .flat_map(|senders| {
            let domains = senders.domains.iter().map(paquebot_crds::DomainName::as_str);
            domains.chain(senders.addresses.iter().map(paquebot_crds::EmailAddress::domain))
        })
        .collect()
}

impl Directory {
    /// A rule without the senders that are somebody else's, on whatever MailServer, and not lent to it. The policies of the
    /// server's namespace ask nobody.
    pub(super) fn with_lent_senders(&self, name: &NamespacedName, mut rule: RelayRule) -> RelayRule {
        if let Some(senders) = rule.senders.as_mut().filter(|_| rule.confined) {
            senders.domains.retain(|domain| self.is_lent(domain.as_str(), name));
            senders.addresses.retain(|address| self.is_lent(address.domain().as_str(), name));
        }
        rule
    }

    /// Whether clients of a policy may send as a domain: nobody has it, or the MailDomain that has it says so.
    fn is_lent(&self, domain: &str, policy: &NamespacedName) -> bool {
        let Some(holder) = self.domain_holders.get(domain) else { return true };
        let Some(node) = self.domains.get(holder) else { return true };
        let lent = relayers(holder, &node.entry.spec.relay_policy_refs);
        lent.contains(&policy.to_string()) || lent.contains(&format!("{}/*", policy.namespace))
    }

    /// What a policy's owner is to know about senders that nobody lends its clients.
    pub(super) fn unlent_senders(
        &self,
        name: &NamespacedName,
        spec: &RelayPolicySpec,
        server: &NamespacedName,
        rule: &RelayRule,
    ) -> Option<String> {
        if !rule.confined {
            return None;
        }
        let (lent, unlent): (Vec<&str>, Vec<&str>) =
            sender_domains(spec).into_iter().partition(|domain| self.is_lent(domain, name));
        let named = |domains: &[&str]| domains.iter().take(MOST_NAMED).copied().collect::<Vec<_>>().join(", ");
        let refused = (!unlent.is_empty()).then(|| {
            format!(
                "Mail with a sender of {} is refused: the domain is another namespace's, whose MailDomain does not name this \
                 policy in spec.relayPolicyRefs.",
                named(&unlent)
            )
        });
        let people = rule.from.iter().any(|source| matches!(source, RelaySource::Mailboxes(_)));
        let elsewhere: Vec<&str> =
            lent.into_iter().filter(|domain| people && !self.is_served(server, domain)).collect();
        let elsewhere = (!elsewhere.is_empty()).then(|| {
            format!(
                "Nobody who logs in sends as {}, which MailServer {server} does not serve: a RelayPolicy in namespace {} can \
                 allow that.",
                named(&elsewhere),
                server.namespace
            )
        });
        let remarks: Vec<String> = refused.into_iter().chain(elsewhere).collect();
        (!remarks.is_empty()).then(|| remarks.join(" "))
    }

    /// A domain has changed, or who has it: the policies whose clients would send as it are judged again.
    pub(super) fn add_policies_of_sender(&self, domain: &str, work: &mut Work) {
        work.add_all(self.links.sender_policies.of(&domain.to_owned()).cloned().map(Task::Policy));
    }

    fn is_served(&self, server: &NamespacedName, domain: &str) -> bool {
        let place = self.domain_holders.get(domain).and_then(|holder| self.domain_places.get(holder));
        place.is_some_and(|(at, _)| at == server)
    }
}

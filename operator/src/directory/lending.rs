//! Which policies' clients may send as a domain that is served: the domain's owner has a say in it. The server refuses the
//! others' mail; here the policy that names such a sender is told.

use std::collections::BTreeSet;

use paquebot_config::{DomainConfig, RelayRule, ShardName};
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
    /// What a policy's owner is to know about senders that nobody lends its clients.
    pub(super) fn unlent_senders(
        &self,
        spec: &RelayPolicySpec,
        server: &NamespacedName,
        rule: &RelayRule,
    ) -> Option<String> {
        let refused: Vec<&str> = sender_domains(spec)
            .into_iter()
            .filter(|domain| self.served_config(server, domain).is_some_and(|config| !config.lends_its_name(rule)))
            .take(MOST_NAMED)
            .collect();
        (!refused.is_empty()).then(|| {
            format!(
                "Mail with a sender of {} is refused: the domain is served here for another namespace, whose MailDomain does \
                 not name this policy in spec.relayPolicyRefs.",
                refused.join(", ")
            )
        })
    }

    /// A served domain has changed: the policies whose clients would send as it are judged again.
    pub(super) fn add_policies_of_sender(&self, domain: &str, work: &mut Work) {
        work.add_all(self.links.sender_policies.of(&domain.to_owned()).cloned().map(Task::Policy));
    }

    fn served_config(&self, server: &NamespacedName, domain: &str) -> Option<&DomainConfig> {
        let name = self.domain_holders.get(domain)?;
        self.published.get(server)?.domains.get(&ShardName::of(domain))?.get(name)
    }
}

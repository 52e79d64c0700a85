//! In whose name may somebody send? A mailbox may use its own address and the aliases that deliver to it, which the server
//! sees for itself; this is about the further names that `sendAs` of a Mailbox lists.
//!
//! A tenant speaks for the domains that are served on the MailServer in question and admit its namespace, except for the
//! addresses that somebody of another namespace has; the namespace of a MailDomain speaks for all of it. For everything else
//! the namespace of the MailServer speaks, which is the platform's: its RelayPolicies name any sender.

use paquebot_config::{Address, Domain, LocalPart, SendAs};
use paquebot_crds::{EmailAddress, MailboxSpec};

use super::Directory;
use super::key::NamespacedName;
use super::state::Holder;
use super::tenancy::admits;

impl Directory {
    /// The further senders that the owner of a mailbox may use.
    pub(super) fn send_as(
        &self,
        name: &NamespacedName,
        server: &NamespacedName,
        spec: &MailboxSpec,
        remarks: &mut Vec<String>,
    ) -> Vec<SendAs> {
        let (mut granted, mut refused) = (Vec::new(), Vec::new());
        for text in spec.send_as.iter().flat_map(|send_as| &send_as.allowed) {
            match Address::parse(text.as_str()) {
                Ok(address) if self.may_send_as(&address, &name.namespace, server) => {
                    granted.push(SendAs::Address(address));
                }
                _ => refused.push(text),
            }
        }
        if !refused.is_empty() {
            // One sentence for all: what others have is not for this tenant to see.
            remarks.push(format!(
                "spec.sendAs has no effect for {}: namespace {} may lend only addresses of MailDomains on MailServer {server} \
                 that admit it, and none that another namespace has. For any other sender a RelayPolicy in namespace {} has to \
                 name it in spec.senders, and the MailDomain of this mailbox in spec.from.",
                list(&refused),
                name.namespace,
                server.namespace
            ));
        }
        granted
    }

    /// Whether mailboxes of a namespace may send as an address through a server.
    fn may_send_as(&self, address: &Address, guest: &str, server: &NamespacedName) -> bool {
        let Some((home, admitted)) = self.speaks_for(address.domain(), guest, server) else { return false };
        admitted && (home == guest || self.namespace_of_address(address).is_none_or(|holder| holder == guest))
    }

    /// The namespace of the MailDomain that a server serves under a name, and whether it admits another namespace.
    fn speaks_for(&self, domain: &Domain, guest: &str, server: &NamespacedName) -> Option<(&str, bool)> {
        let name = self.domain_holders.get(domain.as_str())?;
        let spec = &self.domains.get(name)?.entry.spec;
        let on_server = self.server_meant(spec.server_ref.as_ref(), &name.namespace).as_ref() == Some(server);
        let admitted = admits(&spec.allowed_namespaces, &name.namespace, guest, self.namespaces.get(guest));
        on_server.then_some((&name.namespace, admitted))
    }

    /// The namespace that has an address, or the one of which it is a subaddress.
    fn namespace_of_address(&self, address: &Address) -> Option<&str> {
        let holder = self.holders.get(address.canonical().as_str()).or_else(|| {
            let base = self.base_of(address)?;
            self.holders.get(base.canonical().as_str())
        });
        match holder? {
            Holder::Role(domain, _) => Some(&domain.namespace),
            Holder::Object { rank, .. } => Some(rank.namespace()),
        }
    }

    /// An address without its subaddress, as the domain that is served divides them.
    pub(super) fn base_of(&self, address: &Address) -> Option<Address> {
        let domain = self.domain_holders.get(address.domain().as_str())?;
        let separator = self.domains.get(domain)?.entry.spec.subaddressing.separator()?;
        let local_part = address.local_part().canonical();
        let (base, _) = local_part.split_once(separator)?;
        Some(Address::new(LocalPart::parse(base).ok()?, address.domain().clone()))
    }
}

/// The addresses whose holder says whether somebody may send as an address: itself, and without what may be a subaddress.
pub(super) fn watched_addresses(address: &Address) -> Vec<String> {
    let local_part = address.local_part().canonical();
    let divides = |character: &char| !character.is_alphanumeric();
    let ends = local_part.char_indices().filter(|(_, character)| divides(character)).map(|(end, _)| end);
    let bases = ends.filter_map(|end| LocalPart::parse(local_part.get(..end)?).ok());
    let mut watched: Vec<String> = bases.map(|base| Address::new(base, address.domain().clone()).canonical()).collect();
    watched.push(address.canonical());
    watched
}

fn list(addresses: &[&EmailAddress]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

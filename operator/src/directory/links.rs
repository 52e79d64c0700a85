//! Who names whom: keeps [`super::state::Links`] in step with the objects.

use paquebot_config::Address;
use paquebot_crds::references::Target;
use paquebot_crds::relay_policy::RelaySourceKind;
use paquebot_crds::{Kind, ObjectReference};

use super::Directory;
use super::key::{NamespacedName, ObjectKey};
use super::senders::watched_addresses;
use super::state::{AliasSource, Role};

impl Directory {
    /// The MailServer that a reference means; the operator's default where there is none.
    pub(super) fn server_meant(&self, reference: Option<&ObjectReference>, home: &str) -> Option<NamespacedName> {
        reference
            .map(|reference| NamespacedName::of_reference(reference, home))
            .or_else(|| self.options.default_server.clone())
    }

    pub(super) fn link_domain(&mut self, name: &NamespacedName, present: bool) {
        let Some(node) = self.domains.get(name) else { return };
        let (home, spec) = (name.namespace.clone(), &node.entry.spec);
        let key = ObjectKey::new(Kind::MailDomain, name.clone());
        let server = self.server_meant(spec.server_ref.as_ref(), &home);
        let catch_all = spec.catch_all.as_ref().and_then(|catch_all| catch_all.mailbox_ref.as_ref());
        let catch_all = catch_all.map(|reference| NamespacedName::of_reference(reference, &home));
        let roles = Role::ALL.map(|role| (role, mailboxes_named(role.targets(spec), &home)));
        self.links.by_namespace.set(&home, key.clone(), present);
        if let Some(server) = server {
            self.links.server_users.set(&server, key, present);
        }
        if let Some(mailbox) = catch_all {
            self.links.mailbox_catch_alls.set(&mailbox, name.clone(), present);
        }
        for (role, mailboxes) in roles {
            for mailbox in mailboxes {
                self.links.mailbox_aliases.set(&mailbox, AliasSource::Role(name.clone(), role), present);
            }
        }
    }

    pub(super) fn link_mailbox(&mut self, name: &NamespacedName, present: bool) {
        let Some(node) = self.mailboxes.get(name) else { return };
        let (home, spec) = (&name.namespace, &node.entry.spec);
        let key = ObjectKey::new(Kind::Mailbox, name.clone());
        self.links.members.set(&NamespacedName::of_reference(&spec.domain_ref, home), key.clone(), present);
        self.links.by_namespace.set(home, key, present);
        for address in spec.send_as.iter().flat_map(|send_as| &send_as.allowed) {
            self.links.senders_as.set(&address.domain().to_owned(), name.clone(), present);
            for watched in Address::parse(address.as_str()).iter().flat_map(watched_addresses) {
                self.links.senders_as_address.set(&watched, name.clone(), present);
            }
        }
        for source in spec.credentials.iter().flat_map(|credentials| credentials.sources()) {
            let secret = NamespacedName::new(home, source.secret_name());
            self.links.secret_users.set(&secret, name.clone(), present);
        }
        if let Some(reference) = spec.filter.as_ref().and_then(|filter| filter.config_map_ref.as_ref()) {
            let config_map = NamespacedName::new(home, &reference.name);
            self.links.config_map_users.set(&config_map, name.clone(), present);
        }
    }

    pub(super) fn link_alias(&mut self, name: &NamespacedName, present: bool) {
        let Some(node) = self.aliases.get(name) else { return };
        let (home, spec) = (&name.namespace, &node.entry.spec);
        let key = ObjectKey::new(Kind::MailAlias, name.clone());
        self.links.members.set(&NamespacedName::of_reference(&spec.domain_ref, home), key.clone(), present);
        self.links.by_namespace.set(home, key, present);
        for mailbox in mailboxes_named(&spec.targets, home) {
            self.links.mailbox_aliases.set(&mailbox, AliasSource::Alias(name.clone()), present);
        }
        self.link_targets(&AliasSource::Alias(name.clone()), present);
    }

    pub(super) fn link_policy(&mut self, name: &NamespacedName, present: bool) {
        let Some(node) = self.policies.get(name) else { return };
        let (home, spec) = (name.namespace.clone(), &node.entry.spec);
        let key = ObjectKey::new(Kind::RelayPolicy, name.clone());
        let server = self.server_meant(spec.server_ref.as_ref(), &home);
        let senders: Vec<String> = super::lending::sender_domains(spec).into_iter().map(str::to_owned).collect();
        let (mut own_pods, mut wide_pods, mut domains) = (false, false, Vec::new());
        for source in &spec.from {
            match source.kind() {
                Some(RelaySourceKind::Pods { namespaces: None, .. }) => own_pods = true,
                Some(RelaySourceKind::Pods { namespaces: Some(_), .. }) => wide_pods = true,
                Some(RelaySourceKind::Mailboxes(mailboxes)) => {
                    domains.push(NamespacedName::of_reference(&mailboxes.domain_ref, &home));
                }
                _ => {}
            }
        }
        self.links.by_namespace.set(&home, key.clone(), present);
        if let Some(server) = server {
            self.links.server_users.set(&server, key, present);
        }
        for domain in senders {
            self.links.sender_policies.set(&domain, name.clone(), present);
        }
        for domain in domains {
            self.links.domain_policies.set(&domain, name.clone(), present);
        }
        if own_pods {
            self.links.pod_policies.set(&home, name.clone(), present);
        }
        if wide_pods && present {
            self.links.wide_pod_policies.insert(name.clone());
        } else {
            self.links.wide_pod_policies.remove(name);
        }
    }
}

/// The Mailbox objects among the targets.
fn mailboxes_named(targets: &[paquebot_crds::DeliveryTarget], home: &str) -> Vec<NamespacedName> {
    targets
        .iter()
        .filter_map(|target| match target.target() {
            Some(Target::Mailbox(reference)) => Some(NamespacedName::of_reference(reference, home)),
            _ => None,
        })
        .collect()
}

//! Who may attach to whom: `allowedNamespaces`, and label selectors in general.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use paquebot_crds::Kind;
use paquebot_crds::conditions::Reason;
use paquebot_crds::references::{AllowedNamespaces, NamespacesFrom};

use super::key::NamespacedName;
use super::verdict::Refusal;

/// The labels of an object.
pub(super) type Labels = BTreeMap<String, String>;

/// Whether objects of the namespace `guest` may attach to an object of the namespace `home`. A namespace whose labels
/// are not known matches no selector.
pub(super) fn admits(allowed: &AllowedNamespaces, home: &str, guest: &str, guest_labels: Option<&Labels>) -> bool {
    match allowed.from {
        NamespacesFrom::Same => home == guest,
        NamespacesFrom::All => true,
        NamespacesFrom::Selector => match (&allowed.selector, guest_labels) {
            (Some(selector), Some(labels)) => matches(selector, labels),
            _ => false,
        },
    }
}

/// What is said to a `kind` of the namespace `home` that names a MailServer or MailDomain which is not there. Of another
/// namespace it is what is said where that one is there and does not admit `home`: what a tenant has is nobody else's to find
/// out by asking. Gateway API's `RefNotPermitted` does the same. Within one namespace everybody may read the objects anyway.
pub(super) fn not_there(named: Kind, name: &NamespacedName, kind: Kind, home: &str) -> Refusal {
    if name.namespace != home {
        return not_admitted(named, name, kind, home);
    }
    let (reason, field) = match named {
        Kind::MailServer => (Reason::ServerNotFound, "serverRef"),
        _ => (Reason::DomainNotFound, "domainRef"),
    };
    Refusal::new(reason, format!("{named} {name} does not exist; create it or correct spec.{field}."))
}

/// What is said to a `kind` of the namespace `home` that names what does not admit it.
pub(super) fn not_admitted(named: Kind, name: &NamespacedName, kind: Kind, home: &str) -> Refusal {
    let field = if named == Kind::MailServer { "serverRef" } else { "domainRef" };
    let message = format!(
        "There is no {named} {name} that admits a {kind} of namespace {home}; correct spec.{field}, or have its owner create \
         it and admit the namespace in spec.allowedNamespaces."
    );
    Refusal::new(Reason::NamespaceNotAllowed, message)
}

/// Whether a selector matches; one that cannot be read matches nothing.
pub(super) fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

//! Who may attach to whom: `allowedNamespaces`, and label selectors in general.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use paquebot_crds::references::{AllowedNamespaces, NamespacesFrom};

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

/// Whether a selector matches; one that cannot be read matches nothing.
pub(super) fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

//! How one object names another, and which namespaces may attach to it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::EmailAddress;
use crate::rules;
use crate::schema;

/// Another object, perhaps of another namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::OBJECT_NAME)]
    pub name: String,
    /// The object's namespace. Default: the namespace of the object that holds this reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::NAMESPACE_NAME)]
    pub namespace: Option<String>,
}

impl ObjectReference {
    /// The namespace that is meant, seen from an object of the namespace `home`.
    #[must_use]
    pub fn namespace_or<'a>(&'a self, home: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(home)
    }
}

/// Another object of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
pub struct LocalReference {
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::OBJECT_NAME)]
    pub name: String,
}

/// One key of a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
pub struct SecretKeyReference {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::OBJECT_NAME)]
    pub name: String,
    /// The key inside the Secret's data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Where mail for an address goes: to a mailbox, or on to another address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::ONE_TARGET)]
pub struct DeliveryTarget {
    /// A Mailbox. Its namespace defaults to that of the object that holds this reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mailbox_ref: Option<ObjectReference>,
    /// An address, of this system or of another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<EmailAddress>,
}

/// A [`DeliveryTarget`] for code that matches on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A Mailbox object.
    Mailbox(&'a ObjectReference),
    /// An address.
    Address(&'a EmailAddress),
}

impl DeliveryTarget {
    /// The one target that is given; `None` if it is not exactly one, which the API server refuses.
    #[must_use]
    pub fn target(&self) -> Option<Target<'_>> {
        match (&self.mailbox_ref, &self.address) {
            (Some(reference), None) => Some(Target::Mailbox(reference)),
            (None, Some(address)) => Some(Target::Address(address)),
            _ => None,
        }
    }
}

/// Which namespaces' objects may attach.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::SELECTOR_WHERE_ONE_SELECTS)]
pub struct AllowedNamespaces {
    /// `Same`: only this object's own namespace. `All`: every namespace. `Selector`: those whose labels match `selector`.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// Matches the labels of namespaces; needed with `from: Selector`, refused otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::embedded::<LabelSelector>")]
    pub selector: Option<LabelSelector>,
}

/// How namespaces are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// Only the object's own namespace.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// The namespaces whose labels match.
    Selector,
}

/// Sieve scripts (RFC 5228) that run around those of mailboxes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Filters {
    /// Runs first. What it discards, files or rejects never comes to the mailbox's own script.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub before: Option<String>,
    /// Runs last, where those before it keep the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub after: Option<String>,
}

/// What becomes of the mail when the object is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReclaimPolicy {
    /// The mail is kept; an object of the same address finds it again.
    #[default]
    Retain,
    /// The mail is deleted with the object.
    Delete,
}

/// A switch that may gain more positions later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Toggle {
    /// On.
    Enabled,
    /// Off.
    Disabled,
}

impl Toggle {
    /// Whether this is [`Toggle::Enabled`].
    #[must_use]
    pub fn is_enabled(self) -> bool {
        self == Self::Enabled
    }

    /// Default for what is on unless said otherwise.
    #[must_use]
    pub fn enabled() -> Self {
        Self::Enabled
    }

    /// Default for what is off unless said otherwise.
    #[must_use]
    pub fn disabled() -> Self {
        Self::Disabled
    }
}

/// How much may pass in a time. Absent numbers do not limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Messages in an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub messages_per_hour: Option<u32>,
    /// Recipients in an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub recipients_per_hour: Option<u32>,
}

/// How the connection to a smart host is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SmartHostTls {
    /// STARTTLS, and no mail without it.
    #[default]
    Required,
    /// TLS from the first byte, as on port 465.
    Implicit,
    /// STARTTLS where it is offered.
    Opportunistic,
}

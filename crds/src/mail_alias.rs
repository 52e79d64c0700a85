//! `MailAlias`: an address that stands for others.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::LocalPart;
use crate::references::{DeliveryTarget, ObjectReference};
use crate::schema;

/// An address that stands for others.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "paquebot.dev",
    version = "v1alpha1",
    kind = "MailAlias",
    plural = "mailaliases",
    shortname = "malias",
    category = "mail",
    namespaced,
    status = "MailAliasStatus",
    derive = "PartialEq",
    doc = "An address that stands for others.",
    selectable = ".spec.domainRef.name",
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason")
)]
#[serde(rename_all = "camelCase")]
pub struct MailAliasSpec {
    /// The MailDomain that the address belongs to.
    pub domain_ref: ObjectReference,
    /// The part of the address before the `@`, in lower case.
    pub local_part: LocalPart,
    /// Where mail for the address goes.
    #[schemars(length(min = 1, max = 256))]
    pub targets: Vec<DeliveryTarget>,
}

/// What is observed of a MailAlias.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MailAliasStatus {
    /// What was observed, one entry for each aspect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The alias's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub address: Option<String>,
}

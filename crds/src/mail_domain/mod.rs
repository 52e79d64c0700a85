//! `MailDomain`: a domain that is served.

mod dkim;
mod dns;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::dkim::{
    Dkim, DkimAlgorithm, DkimExistingKey, DkimRotation, DkimSelectorState, DkimSelectorStatus, DkimStatus,
};
pub use self::dns::{
    Dmarc, DmarcPolicy, DnsRecordPurpose, DnsRecordState, DnsRecordStatus, DnsStatus, DomainDns, MtaSts, MtaStsMode,
    MxRecord, Spf, SpfAll, TlsRpt,
};
use crate::names::DomainName;
use crate::quantity::Quantity;
use crate::references::{AllowedNamespaces, DeliveryTarget, Filters, ObjectReference, ReclaimPolicy};
use crate::rules;
use crate::schema;

/// A domain that is served: its rules, its DNS records, and whose mailboxes it admits.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "paquebot.dev",
    version = "v1alpha1",
    kind = "MailDomain",
    plural = "maildomains",
    shortname = "md",
    category = "mail",
    namespaced,
    status = "MailDomainStatus",
    derive = "PartialEq",
    doc = "A domain that is served: its rules, its DNS records, and whose mailboxes it admits.",
    selectable = ".spec.domain",
    selectable = ".spec.serverRef.name",
    printcolumn(name = "Domain", type_ = "string", json_path = ".spec.domain"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "DNS", type_ = "string", json_path = ".status.conditions[?(@.type==\"DNSReady\")].status"),
    printcolumn(name = "Mailboxes", type_ = "integer", json_path = ".status.mailboxCount"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct MailDomainSpec {
    /// The domain, in lower case, an international one as its A-label. It cannot be changed.
    #[x_kube(validation = rules::DOMAIN_STAYS)]
    pub domain: DomainName,
    /// The MailServer that serves it. Default: the operator's default server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_ref: Option<ObjectReference>,
    /// Whose Mailboxes and MailAliases may attach to this domain.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,
    /// How much the domain's mailboxes may hold.
    #[serde(default)]
    pub limits: DomainLimits,
    /// Whether `anna+news@` is delivered to `anna@`.
    #[serde(default)]
    pub subaddressing: Subaddressing,
    /// Whether `Anna@` is `anna@` (RFC 5321 section 2.4 leaves it to the domain). Mailboxes and aliases are written in lower
    /// case, so this is about what senders write.
    #[serde(default)]
    pub local_parts: LocalParts,
    /// Sieve scripts that run before and after those of the domain's mailboxes, inside those of the MailServer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<Filters>,
    /// Where mail for unknown local parts goes. Default: it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_all: Option<CatchAll>,
    /// Who answers for the domain (RFC 2142). `postmaster` must always be deliverable (RFC 5321 section 4.5.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Roles>,
    /// Signatures on outgoing mail.
    #[serde(default)]
    pub dkim: Dkim,
    /// The DNS records that are wanted.
    #[serde(default)]
    pub dns: DomainDns,
    /// Relay policies whose clients may send as this domain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub relay_policy_refs: Vec<ObjectReference>,
    /// What becomes of the mail when this object is deleted: `Retain` keeps it, `Delete` deletes it.
    #[serde(default)]
    pub reclaim_policy: ReclaimPolicy,
    /// Stops the service of this domain, and keeps its mail.
    #[serde(default)]
    pub suspended: bool,
}

/// How much the domain's mailboxes may hold. Absent numbers do not limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainLimits {
    /// The most mailboxes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_mailboxes: Option<u32>,
    /// The most aliases.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_aliases: Option<u32>,
    /// The quota of a mailbox that names none.
    #[serde(default = "default_quota")]
    #[x_kube(validation = rules::ROOM_FOR_MAIL)]
    pub default_quota: Quantity,
    /// The largest quota that a mailbox may name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::ROOM_FOR_MAIL)]
    pub max_quota: Option<Quantity>,
    /// The largest message that is accepted for this domain; the server's own limit holds as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_message_size: Option<Quantity>,
}

impl Default for DomainLimits {
    fn default() -> Self {
        Self {
            max_mailboxes: None,
            max_aliases: None,
            default_quota: default_quota(),
            max_quota: None,
            max_message_size: None,
        }
    }
}

fn default_quota() -> Quantity {
    Quantity::from_bytes(1 << 30)
}

/// Whether a local part may carry a detail, as in `anna+news@` (RFC 5233).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Subaddressing {
    /// `Separator`: what follows the separator is ignored when the mailbox is sought. `Disabled`: it is part of the name.
    #[serde(default)]
    pub mode: SubaddressingMode,
    /// The character between name and detail.
    #[serde(default = "default_separator")]
    #[schemars(length(min = 1, max = 1))]
    #[x_kube(validation = rules::SEPARATOR)]
    pub separator: String,
}

impl Default for Subaddressing {
    fn default() -> Self {
        Self { mode: SubaddressingMode::default(), separator: default_separator() }
    }
}

impl Subaddressing {
    /// The separator to split at, if any.
    #[must_use]
    pub fn separator(&self) -> Option<char> {
        match self.mode {
            SubaddressingMode::Separator => self.separator.chars().next(),
            SubaddressingMode::Disabled => None,
        }
    }
}

fn default_separator() -> String {
    "+".to_owned()
}

/// How details in local parts are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SubaddressingMode {
    /// Split at the separator.
    #[default]
    Separator,
    /// Do not split.
    Disabled,
}

/// When two local parts are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LocalParts {
    /// `Anna` is `anna`.
    #[default]
    CaseInsensitive,
    /// `Anna` is nobody.
    CaseSensitive,
}

/// Where mail for unknown local parts goes: exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::ONE_CATCH_ALL)]
pub struct CatchAll {
    /// Into this mailbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mailbox_ref: Option<ObjectReference>,
    /// It is refused with 550 5.1.1, as without `catchAll`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reject: Option<Reject>,
}

/// Refuse.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reject {}

/// Who answers for the domain (RFC 2142).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Roles {
    /// Who receives mail for postmaster@.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub postmaster: Vec<DeliveryTarget>,
    /// Who receives mail for abuse@.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub abuse: Vec<DeliveryTarget>,
}

/// What is observed of a MailDomain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MailDomainStatus {
    /// What was observed, one entry for each aspect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The MailServer that serves the domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_ref: Option<ObjectReference>,
    /// Mailboxes that were accepted.
    #[serde(default)]
    pub mailbox_count: u32,
    /// Aliases that were accepted.
    #[serde(default)]
    pub alias_count: u32,
    /// The DKIM keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dkim: Option<DkimStatus>,
    /// The DNS records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsStatus>,
}

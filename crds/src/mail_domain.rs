//! `MailDomain`: a domain that is served.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::mail_server::DnsMode;
use crate::names::{DomainName, EmailAddress};
use crate::quantity::Quantity;
use crate::references::{AllowedNamespaces, DeliveryTarget, LocalReference, ObjectReference, ReclaimPolicy, Toggle};
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
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("the domain cannot be changed: create another MailDomain; the mail of this one is kept"))]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    pub default_quota: Quantity,
    /// The largest quota that a mailbox may name.
    #[serde(skip_serializing_if = "Option::is_none")]
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
    #[x_kube(validation = Rule::new("self.matches(r\"^[!#$%&'*+/=?^_`{|}~-]$\")")
        .message("write one character that is neither a letter, a digit nor a dot, such as + or -"))]
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

/// Where mail for unknown local parts goes: exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.mailboxRef) != has(self.reject)")
    .message("give catchAll either a mailboxRef or reject: {}, not both"))]
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

/// DKIM signatures on outgoing mail (RFC 6376).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dkim {
    /// `Enabled`: outgoing mail is signed. `Disabled`: it is not.
    #[serde(default = "Toggle::disabled")]
    pub mode: Toggle,
    /// The algorithms of the keys that are made.
    #[serde(default = "default_algorithms")]
    #[schemars(length(min = 1, max = 2))]
    pub algorithms: Vec<DkimAlgorithm>,
    /// How keys are replaced.
    #[serde(default)]
    pub rotation: DkimRotation,
    /// Keys that exist already, instead of ones that are made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub existing_keys: Vec<DkimExistingKey>,
}

impl Default for Dkim {
    fn default() -> Self {
        Self {
            mode: Toggle::Disabled,
            algorithms: default_algorithms(),
            rotation: DkimRotation::default(),
            existing_keys: Vec::new(),
        }
    }
}

fn default_algorithms() -> Vec<DkimAlgorithm> {
    vec![DkimAlgorithm::Rsa2048, DkimAlgorithm::Ed25519]
}

/// The algorithm of a DKIM key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum DkimAlgorithm {
    /// RSA with 2048 bits (RFC 8301).
    #[serde(rename = "RSA2048")]
    Rsa2048,
    /// Ed25519 (RFC 8463).
    Ed25519,
}

/// How DKIM keys are replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new(
    "!has(self.overlap) || !has(self.period) || duration(self.overlap) < duration(self.period)"
)
.message("make overlap shorter than period, so that only one key is being replaced at a time"))]
pub struct DkimRotation {
    /// How long a key signs.
    #[serde(default = "default_rotation_period")]
    pub period: Duration,
    /// How long an old key stays published after the new one signs.
    #[serde(default = "default_rotation_overlap")]
    pub overlap: Duration,
}

impl Default for DkimRotation {
    fn default() -> Self {
        Self { period: default_rotation_period(), overlap: default_rotation_overlap() }
    }
}

/// Half a year.
fn default_rotation_period() -> Duration {
    std::time::Duration::from_hours(4380).into()
}

/// A week: longer than any message waits in a queue.
fn default_rotation_overlap() -> Duration {
    std::time::Duration::from_hours(168).into()
}

/// A DKIM key that exists already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DkimExistingKey {
    /// The name in front of `._domainkey`.
    #[schemars(length(min = 1, max = 63))]
    pub selector: String,
    /// A Secret of this namespace with the private key.
    pub secret_ref: LocalReference,
}

/// The DNS records that are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainDns {
    /// `Report`, `ExternalDNS` or `Disabled`. Default: the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<DnsMode>,
    /// The MX records. Default: the server's hostname with preference 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub mx: Vec<MxRecord>,
    /// The SPF record (RFC 7208).
    #[serde(default)]
    pub spf: Spf,
    /// The DMARC record (RFC 7489).
    #[serde(default)]
    pub dmarc: Dmarc,
    /// The MTA-STS policy (RFC 8461).
    #[serde(rename = "mtaSTS", skip_serializing_if = "Option::is_none")]
    pub mta_sts: Option<MtaSts>,
    /// Reports about TLS failures (RFC 8460).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_rpt: Option<TlsRpt>,
    /// Serve the domain only after a TXT record proves that its owner agrees.
    #[serde(default)]
    pub require_ownership: bool,
}

/// One MX record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MxRecord {
    /// The host that takes the mail.
    pub host: DomainName,
    /// Hosts with a lower number are tried first.
    #[serde(default = "default_preference")]
    pub preference: u16,
}

fn default_preference() -> u16 {
    10
}

/// The SPF record (RFC 7208).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Spf {
    /// `Enabled`: the record is wanted and checked. `Disabled`: it is somebody else's matter.
    #[serde(default = "Toggle::enabled")]
    pub mode: Toggle,
    /// Domains whose senders may use this one, as `include:` terms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub include: Vec<DomainName>,
    /// What all other senders are: `SoftFail` (~all) or `Fail` (-all).
    #[serde(default)]
    pub all: SpfAll,
}

impl Default for Spf {
    fn default() -> Self {
        Self { mode: Toggle::Enabled, include: Vec::new(), all: SpfAll::default() }
    }
}

/// What an SPF record says about all other senders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SpfAll {
    /// `~all`
    #[default]
    SoftFail,
    /// `-all`
    Fail,
}

/// The DMARC record (RFC 7489).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dmarc {
    /// `Enabled`: the record is wanted and checked. `Disabled`: it is somebody else's matter.
    #[serde(default = "Toggle::enabled")]
    pub mode: Toggle,
    /// What receivers should do with mail that fails: `None`, `Quarantine` or `Reject`.
    #[serde(default)]
    pub policy: DmarcPolicy,
    /// Where reports are sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub rua: Vec<EmailAddress>,
}

impl Default for Dmarc {
    fn default() -> Self {
        Self { mode: Toggle::Enabled, policy: DmarcPolicy::default(), rua: Vec::new() }
    }
}

/// What receivers should do with mail that fails DMARC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DmarcPolicy {
    /// Deliver it, and report.
    #[default]
    None,
    /// Treat it as suspicious.
    Quarantine,
    /// Refuse it.
    Reject,
}

impl DmarcPolicy {
    /// The policy as the record spells it.
    #[must_use]
    pub fn as_record_value(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }
}

/// The MTA-STS policy (RFC 8461).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MtaSts {
    /// `Disabled`, `Testing` or `Enforce`.
    pub mode: MtaStsMode,
}

/// The mode of an MTA-STS policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MtaStsMode {
    /// No policy.
    Disabled,
    /// Failures are reported only.
    Testing,
    /// Mail is not delivered without TLS.
    Enforce,
}

/// Reports about TLS failures (RFC 8460).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TlsRpt {
    /// Where reports are sent.
    #[schemars(length(min = 1, max = 8))]
    pub rua: Vec<EmailAddress>,
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

/// The DKIM keys of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DkimStatus {
    /// The selectors that sign now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 63)))]
    pub active: Vec<String>,
    /// Every key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub selectors: Vec<DkimSelectorStatus>,
}

/// One DKIM key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DkimSelectorStatus {
    /// The selector.
    #[schemars(length(max = 63))]
    pub name: String,
    /// The key's algorithm.
    pub algorithm: DkimAlgorithm,
    /// The Secret that holds the key.
    #[schemars(length(max = 253))]
    pub secret_name: String,
    /// `Publishing`, `Active` or `Retiring`.
    pub state: DkimSelectorState,
}

/// Where a DKIM key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DkimSelectorState {
    /// Its record is not visible yet.
    Publishing,
    /// It signs.
    Active,
    /// It signs no more, and stays published.
    Retiring,
}

/// The DNS records of a domain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DnsStatus {
    /// The servers that were asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 320)))]
    pub nameservers: Vec<String>,
    /// When what is below last changed or was last confirmed after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub last_verified: Option<Time>,
    /// Each record that is wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub records: Vec<DnsRecordStatus>,
    /// The wanted records as lines for a zone file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub zone_file: Option<String>,
}

/// One record that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DnsRecordStatus {
    /// `MX`, `SPF`, `DKIM`, `DMARC`, `MTASTS`, `TLSRPT` or `Ownership`.
    pub purpose: DnsRecordPurpose,
    /// The record's type, such as MX or TXT.
    #[serde(rename = "type")]
    #[schemars(length(max = 16))]
    pub type_: String,
    /// The record's full name, without a dot at the end.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The time to live in the zone text, in seconds.
    pub ttl: u32,
    /// The values that are wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 4096)))]
    pub values: Vec<String>,
    /// The values that were seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 4096)))]
    pub observed: Vec<String>,
    /// `Match`, `Missing`, `Mismatch` or `Unknown`.
    pub state: DnsRecordState,
    /// What is wrong and what to do; empty when nothing is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum DnsRecordPurpose {
    /// Where mail for the domain goes.
    MX,
    /// Who may send as the domain.
    SPF,
    /// A key that signatures are checked with.
    DKIM,
    /// What to do with mail that fails both.
    DMARC,
    /// That an MTA-STS policy exists.
    MTASTS,
    /// Where TLS failures are reported.
    TLSRPT,
    /// That the domain's owner agrees.
    Ownership,
}

/// What was seen of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DnsRecordState {
    /// It is as wanted.
    Match,
    /// It is not there.
    Missing,
    /// It is there and differs.
    Mismatch,
    /// It could not be looked up.
    Unknown,
}

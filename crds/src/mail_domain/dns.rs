//! The DNS records of a MailDomain: what is asked for, and what is observed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mail_server::DnsMode;
use crate::names::{DomainName, EmailAddress, RecordName};
use crate::references::Toggle;
use crate::schema;

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
    /// Serve the domain only after a TXT record proves that its owner agrees. The MailServer may ask for it as well.
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
    pub include: Vec<RecordName>,
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
    /// `MX`, `SPF`, `DKIM`, `DMARC`, `MTASTS`, `TLSRPT`, `Ownership`, `TLSA`, `SRV` or `CAA`.
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
    /// Which certificate the exchanger shows (DANE).
    TLSA,
    /// Where mail programs find the server.
    SRV,
    /// Who may issue certificates.
    CAA,
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

//! How mail leaves a MailServer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::names::DomainName;
use crate::references::{LocalReference, SmartHostTls, Toggle};

/// How mail leaves for other servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Outbound {
    /// A server that takes all outgoing mail, instead of the recipients' MX hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smart_host: Option<SmartHost>,
    /// The name in outgoing EHLO. Default: `hostname`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ehlo_name: Option<DomainName>,
    /// How long a message is tried before it is returned to its sender.
    #[serde(default = "default_max_age")]
    pub max_age: Duration,
    /// After how long the sender is told that a message is delayed.
    #[serde(default = "default_delay_warning")]
    pub delay_warning: Duration,
    /// Authentication of other servers by TLSA records (RFC 7672).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dane: Option<OutboundFeature>,
    /// Authentication of other servers by MTA-STS (RFC 8461).
    #[serde(rename = "mtaSTS", skip_serializing_if = "Option::is_none")]
    pub mta_sts: Option<OutboundFeature>,
    /// The addresses that outgoing connections come from. Default: the pod's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 2, max = 45)))]
    pub source_addresses: Vec<String>,
}

impl Default for Outbound {
    fn default() -> Self {
        Self {
            smart_host: None,
            ehlo_name: None,
            max_age: default_max_age(),
            delay_warning: default_delay_warning(),
            dane: None,
            mta_sts: None,
            source_addresses: Vec::new(),
        }
    }
}

/// RFC 5321 section 4.5.4.1 asks for at least four to five days.
fn default_max_age() -> Duration {
    std::time::Duration::from_hours(120).into()
}

fn default_delay_warning() -> Duration {
    std::time::Duration::from_hours(4).into()
}

/// A server that takes mail for us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SmartHost {
    /// Its name.
    pub host: DomainName,
    /// Its port.
    #[serde(default = "default_smart_host_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// How the connection is protected: `Required` (STARTTLS), `Implicit` (port 465) or `Opportunistic`.
    #[serde(default)]
    pub tls: SmartHostTls,
    /// A Secret of this namespace with `username` and `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
}

fn default_smart_host_port() -> u16 {
    587
}

/// A switch of outgoing mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutboundFeature {
    /// `Enabled` or `Disabled`.
    pub mode: Toggle,
}

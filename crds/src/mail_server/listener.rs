//! The ports that a MailServer listens on.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::Cidr;
use crate::rules;

/// One port that the server listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// The listener's name, which is also the Service port's: lower case letters, digits and dashes.
    #[schemars(length(min = 1, max = 15))]
    #[x_kube(validation = rules::LISTENER_NAME)]
    pub name: String,
    /// `SMTP`: from other servers, STARTTLS. `Submission`: from users, STARTTLS. `Submissions`: from users, TLS from the
    /// first byte. `POP3`: STLS. `POP3S`: TLS from the first byte.
    pub protocol: Protocol,
    /// The Service's port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Whether a load balancer says by the PROXY protocol who the client is.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
}

impl Listener {
    /// A listener without PROXY protocol.
    #[must_use]
    pub fn new(name: &str, protocol: Protocol, port: u16) -> Self {
        Self { name: name.to_owned(), protocol, port, proxy_protocol: ProxyProtocol::default() }
    }
}

/// The listeners of a server that names none: SMTP 25, submission 587, submissions 465, POP3 110, POP3S 995.
#[must_use]
pub fn default_listeners() -> Vec<Listener> {
    vec![
        Listener::new("smtp", Protocol::Smtp, 25),
        Listener::new("submission", Protocol::Submission, 587),
        Listener::new("submissions", Protocol::Submissions, 465),
        Listener::new("pop3", Protocol::Pop3, 110),
        Listener::new("pop3s", Protocol::Pop3s, 995),
    ]
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// SMTP from other servers, with STARTTLS.
    #[serde(rename = "SMTP")]
    Smtp,
    /// SMTP from users, with STARTTLS and AUTH (RFC 6409).
    Submission,
    /// SMTP from users over TLS from the first byte (RFC 8314).
    Submissions,
    /// POP3 with STLS.
    #[serde(rename = "POP3")]
    Pop3,
    /// POP3 over TLS from the first byte.
    #[serde(rename = "POP3S")]
    Pop3s,
}

/// The PROXY protocol of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::PROXY_TRUSTS_SOMEBODY)]
pub struct ProxyProtocol {
    /// `Disabled`: clients speak first-hand. `Required`: each connection begins with a PROXY header.
    #[serde(default)]
    pub mode: ProxyProtocolMode,
    /// The load balancers that may send a PROXY header; needed with `Required`.
    #[serde(default, rename = "trustedCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = rules::ARE_NETWORKS,
        validation = rules::TRUST_IS_NOT_FOR_EVERYBODY
    )]
    pub trusted_cidrs: Vec<Cidr>,
}

/// Whether connections begin with a PROXY header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProxyProtocolMode {
    /// No header.
    #[default]
    Disabled,
    /// A header, or the connection is closed.
    Required,
}

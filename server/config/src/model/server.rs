//! `server.json`: what a MailServer says about the process itself.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{is_default, is_false, is_zero};
use crate::address::Domain;

/// `server.json`: what a MailServer says about the process itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerConfig {
    /// The name in greetings, EHLO replies and `Received` fields.
    pub hostname: Domain,
    /// Whose the server is: the namespace of its MailServer. Domains of that
    /// [`tenant`](super::DomainConfig::tenant) are the server's own. Empty: no domain is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// The ports that are opened. Changing them needs a restart, which the operator's pod template causes.
    pub listeners: Vec<Listener>,
    /// Bounds on what one message or client may take.
    pub limits: Limits,
    /// How mail for other servers is sent.
    pub outbound: Outbound,
    /// Whom the server asks about names.
    #[serde(default)]
    pub resolvers: Resolvers,
    /// Transport security of the listeners.
    pub tls: TlsConfig,
    /// What happens on SIGTERM.
    pub shutdown: Shutdown,
    /// Sieve scripts that run before and after those of every mailbox.
    #[serde(default, skip_serializing_if = "is_default")]
    pub filters: Filters,
}

/// Sieve scripts (RFC 5228) that run around a mailbox's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Filters {
    /// Runs first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Runs last, where those before it keep the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// One port that is open to mail clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    /// Unique among the listeners; also the name of the container port.
    pub name: String,
    /// What is spoken there.
    pub protocol: Protocol,
    /// The TCP port that the process binds.
    pub port: u16,
    /// Whether passwords are taken without TLS here (POP3 only). For a port that nobody but the same machine reaches.
    #[serde(default, skip_serializing_if = "is_false")]
    pub clear_text_logins: bool,
    /// What happens to a CR or an LF that stands alone in a message (RFC 5321 §2.3.8).
    #[serde(default, skip_serializing_if = "is_default")]
    pub bare_line_endings: BareLineEndings,
    /// Connections begin with a PROXY protocol header that says who the client is; absent: they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// What happens to a CR or an LF that stands alone in a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BareLineEndings {
    /// The message is refused: no two servers read it alike, which is what SMTP smuggling lives on.
    #[default]
    Refuse,
    /// Each becomes CRLF; it never ends a message.
    Normalise,
}

/// Whose PROXY protocol headers are believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyProtocol {
    /// The networks of the load balancers. A connection from elsewhere is closed.
    pub trusted: Vec<IpNet>,
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// SMTP between mail servers (RFC 5321), with STARTTLS. No AUTH.
    #[serde(rename = "SMTP")]
    Smtp,
    /// Message submission (RFC 6409): STARTTLS, then AUTH, then mail.
    Submission,
    /// Message submission over implicit TLS (RFC 8314 §3.3).
    Submissions,
    /// POP3 (RFC 1939) with STLS.
    #[serde(rename = "POP3")]
    Pop3,
    /// POP3 over implicit TLS (RFC 8314 §3.1).
    #[serde(rename = "POP3S")]
    Pop3s,
}

/// Bounds on what one message or client may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Octets of the largest message that is accepted; what `SIZE` says in EHLO replies.
    pub max_message_size: u64,
    /// Recipients of one message; RFC 5321 §4.5.3.1.8 forbids fewer than 100.
    pub max_recipients: u32,
    /// Connections that are open at once, over all listeners.
    pub connections: u32,
    /// Connections that one client address may have open at once.
    pub per_client_connections: u32,
    /// Seconds that have to pass between two POP3 logins to one maildrop (RFC 2449 §6.5); 0: no bound.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub login_delay_seconds: u64,
}

/// How mail for other servers is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outbound {
    /// The name in our own EHLO; the server's host name where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ehlo_name: Option<Domain>,
    /// Seconds after which an undelivered message is returned (RFC 5321 §4.5.4.1: 4 to 5 days).
    pub max_age_seconds: u64,
    /// Seconds after which the sender is told of a delay.
    pub delay_warning_seconds: u64,
    /// The TCP port of other servers: 25 everywhere but in a test network.
    #[serde(default = "smtp_port")]
    pub port: u16,
    /// A server that takes all outgoing mail, instead of the recipients' MX hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smart_host: Option<SmartHost>,
    /// Loopback and link-local networks to which mail is sent all the same, when DNS says so. For tests: no server that
    /// others reach has such an address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_networks: Vec<IpNet>,
    /// PEM of further certificate authorities that prove the names of smart hosts, beside those of the web.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_certificates: Option<String>,
}

/// A server that takes outgoing mail for other servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SmartHost {
    /// Its name, of which the addresses are taken (no MX), or an address literal.
    pub host: Domain,
    /// Its port.
    pub port: u16,
    /// How TLS is spoken with it.
    pub tls: SmartHostTls,
    /// The entry of `secrets.json` with the login; absent: none is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
}

/// How TLS is spoken with a smart host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SmartHostTls {
    /// STARTTLS where it is offered, without verification. With credentials this is `Required`: a login goes to nobody
    /// who has not proven the host's name.
    Opportunistic,
    /// STARTTLS with a certificate that proves the host's name, or nothing is sent.
    Required,
    /// TLS from the first octet (RFC 8314), with a certificate that proves the host's name.
    Implicit,
}

fn smtp_port() -> u16 {
    25
}

/// Whom the server asks about names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resolvers {
    /// Recursive resolvers as `address:port`; empty: those of /etc/resolv.conf.
    #[serde(default)]
    pub addresses: Vec<std::net::SocketAddr>,
}

/// Transport security of the listeners. The certificate itself lies beside the contract's files, as the Secret that
/// holds it is projected: `tls/tls.crt` and `tls/tls.key`, and is read again when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsConfig {
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// PEM of the authorities whose certificates say who a client is. Where there are any, the listeners of SMTP and
    /// submission ask for a certificate; a client without one is served as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_authorities: Option<String>,
}

/// A TLS protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[serde(rename = "TLS12")]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "TLS13")]
    Tls13,
}

/// What happens on SIGTERM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shutdown {
    /// Seconds during which new connections are still served while endpoints forget this pod.
    pub pre_stop_delay_seconds: u64,
    /// Seconds that sessions in the middle of a message get to finish.
    pub drain_timeout_seconds: u64,
}

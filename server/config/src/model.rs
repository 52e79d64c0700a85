//! What the files of the contract say, as types. Plain data: no lookups, no I/O.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::address::{Address, AddressError, Domain};
use crate::shard::ShardName;

/// `server.json`: what a MailServer says about the process itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerConfig {
    /// The name in greetings, EHLO replies and `Received` fields.
    pub hostname: Domain,
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

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// What nobody said needs not be written: sets of before the field existed stay as they are.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
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

/// `secrets.json`: what the server has to know and nobody else. It is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Secrets {
    /// Keys of the addresses that forwarded mail is sent with (Sender Rewriting Scheme): the first signs, all verify.
    /// Without one the reverse-path is left as it is.
    #[serde(default)]
    pub srs_keys: Vec<SecretText>,
    /// Logins at smart hosts, by name.
    #[serde(default)]
    pub logins: std::collections::BTreeMap<String, Login>,
}

/// A login at another server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Login {
    /// The user's name.
    pub username: String,
    /// The password.
    pub password: SecretText,
}

/// Text that is not shown: it has no `Debug` of its content, and only the contract's files hold it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Takes the text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
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

/// A domain that is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DomainConfig {
    /// The domain.
    pub domain: Domain,
    /// What divides a mailbox's name from a detail (RFC 5233 §4), such as `+`; absent: no subaddresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subaddress_separator: Option<char>,
    /// What happens to a local part that nobody has.
    #[serde(default)]
    pub catch_all: CatchAll,
    /// Octets of the largest message for this domain; absent: the server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_message_size: Option<u64>,
    /// Suspended: mail for it is refused for now (450 4.2.1), and nobody logs in.
    #[serde(default)]
    pub suspended: bool,
    /// The relay rules whose clients may send as this domain, as `namespace/name`, or `namespace/*` for all of a namespace.
    /// Rules that are not confined may, named or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relayers: Vec<String>,
    /// When two local parts are the same.
    #[serde(default, skip_serializing_if = "is_default")]
    pub local_parts: LocalParts,
    /// Sieve scripts that run before and after those of its mailboxes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub filters: Filters,
}

impl DomainConfig {
    /// Whether clients of this rule may send as the domain.
    #[must_use]
    pub fn lends_its_name(&self, rule: &RelayRule) -> bool {
        let namespace = rule.name.split('/').next().unwrap_or_default();
        let names = |relayer: &String| *relayer == rule.name || relayer.strip_suffix("/*") == Some(namespace);
        !rule.confined || self.relayers.iter().any(names)
    }
}

/// When two local parts of a domain are the same (RFC 5321 §2.4 leaves it to the domain). Mailboxes and aliases are lower
/// case, so this is about what senders write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LocalParts {
    /// `Anna` is `anna`.
    #[default]
    CaseInsensitive,
    /// `Anna` is nobody.
    CaseSensitive,
}

/// What happens to a local part that nobody has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatchAll {
    /// It is refused at RCPT with 550 5.1.1.
    #[default]
    Reject,
    /// This mailbox receives it.
    Mailbox(Address),
}

/// One line of a directory shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Record {
    /// A domain that is served.
    Domain(DomainConfig),
    /// A maildrop and login.
    Mailbox(MailboxRecord),
    /// An address that stands for others.
    Alias(AliasRecord),
}

impl Record {
    /// The address that the record is about; a domain has none.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Domain(_) => None,
            Self::Mailbox(mailbox) => Some(&mailbox.address),
            Self::Alias(alias) => Some(&alias.address),
        }
    }

    /// What the record is found by: a canonical address, or the name of a domain, which has no `@`. No two records of a
    /// set have the same.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Domain(config) => config.domain.as_str().to_owned(),
            Self::Mailbox(mailbox) => mailbox.address.canonical(),
            Self::Alias(alias) => alias.address.canonical(),
        }
    }

    /// The shard that holds the record.
    #[must_use]
    pub fn shard(&self) -> ShardName {
        ShardName::of(&self.key())
    }
}

/// How many verifiers a mailbox may have, its own and its app passwords': each of them costs something when a password is
/// wrong. 16 app passwords, and two own ones while one is being replaced.
pub const MOST_VERIFIERS: usize = 18;

/// A maildrop and login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MailboxRecord {
    /// Its address, which is also the login and, for ever, the name of its maildrop.
    pub address: Address,
    /// Whose it is: the namespace of its MailDomain. The same address of another tenant is another maildrop, so that a
    /// domain that changes hands takes no mail along. Empty: nobody is told apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// Any of these opens it; without these and app passwords it only receives.
    #[serde(default)]
    pub verifiers: Vec<Verifier>,
    /// Further passwords, each for some purposes and perhaps for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub app_passwords: Vec<AppPassword>,
    /// Which protocols its owner may use.
    pub protocols: Protocols,
    /// Octets that the maildrop may hold; absent: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// Where its mail is sent on to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarding: Option<Forwarding>,
    /// Further envelope senders that its owner may use.
    #[serde(default)]
    pub send_as: Vec<SendAs>,
    /// Suspended: mail is refused for now (450 4.2.1), and nobody logs in.
    #[serde(default)]
    pub suspended: bool,
    /// The Sieve script that sorts its mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// How much its owner may send; absent: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Seconds after which a message is deleted, counted from when the server received it; absent: it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_seconds: Option<u64>,
}

/// How much may be sent in an hour. Absent numbers do not bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// Messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_hour: Option<u32>,
    /// Recipients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipients_per_hour: Option<u32>,
}

impl MailboxRecord {
    /// How many verifiers it has, its own and its app passwords'; a set with more than [`MOST_VERIFIERS`] is refused.
    #[must_use]
    pub fn verifier_count(&self) -> usize {
        self.verifiers.len() + self.app_passwords.len()
    }

    /// A mailbox that receives and may use both protocols, and has nothing else.
    #[must_use]
    pub fn new(address: Address) -> Self {
        Self {
            address,
            tenant: String::new(),
            verifiers: Vec::new(),
            app_passwords: Vec::new(),
            protocols: Protocols { pop3: true, submission: true },
            quota: None,
            forwarding: None,
            send_as: Vec::new(),
            suspended: false,
            filter: None,
            rate_limit: None,
            retention_seconds: None,
        }
    }
}

/// A further password of a mailbox, for one program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppPassword {
    /// What its owner calls it; unique in the mailbox.
    pub name: String,
    /// Proves it.
    pub verifier: Verifier,
    /// What it opens, of what the mailbox may do; empty: all of that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Scope>,
    /// From when on it opens nothing, in seconds since 1970 (UTC); absent: it does not end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

/// What an app password opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Fetching by POP3.
    #[serde(rename = "POP3")]
    Pop3,
    /// Sending by submission.
    Submission,
}

/// A name under which somebody may send: an address, or with nothing before the `@` all of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SendAs {
    /// This address.
    Address(Address),
    /// Every address of this domain.
    Domain(Domain),
}

impl SendAs {
    /// Whether the name covers a sender.
    #[must_use]
    pub fn covers(&self, sender: &Address) -> bool {
        match self {
            Self::Address(address) => address.canonical() == sender.canonical(),
            Self::Domain(domain) => domain == sender.domain(),
        }
    }
}

impl TryFrom<String> for SendAs {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        match text.strip_prefix('@') {
            Some(domain) => Domain::parse(domain).map(Self::Domain),
            None => Address::parse(&text).map(Self::Address),
        }
    }
}

impl From<SendAs> for String {
    fn from(name: SendAs) -> Self {
        match name {
            SendAs::Address(address) => address.to_string(),
            SendAs::Domain(domain) => format!("@{domain}"),
        }
    }
}

/// Which protocols the owner of a mailbox may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Protocols {
    /// Fetching by POP3.
    pub pop3: bool,
    /// Sending by submission.
    pub submission: bool,
}

/// Where a mailbox's mail is sent on to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forwarding {
    /// The addresses that receive it.
    pub to: Vec<Address>,
    /// Whether the mailbox keeps a copy.
    pub keep_copy: bool,
}

/// An address that stands for others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AliasRecord {
    /// The address.
    pub address: Address,
    /// Those that receive its mail; each may be an alias again.
    pub targets: Vec<Address>,
}

/// What proves knowledge of a password without being one: a PHC string such as `$argon2id$…`. Not a secret as a password
/// is, but nobody's business: it has no `Debug` of its content, and only the contract's files hold it.
/// Copies share it: the operator keeps one in several places for each of a fleet's mailboxes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String")]
#[serde(into = "String")]
pub struct Verifier(std::sync::Arc<str>);

impl From<String> for Verifier {
    fn from(phc: String) -> Self {
        Self(phc.into())
    }
}

impl From<Verifier> for String {
    fn from(verifier: Verifier) -> Self {
        verifier.0.as_ref().to_owned()
    }
}

impl Verifier {
    /// Takes a PHC string; whether its algorithm is known is the server's affair.
    #[must_use]
    pub fn new(phc: String) -> Self {
        Self(phc.into())
    }

    /// The PHC string, for the one place that verifies passwords.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

/// One entry of `relay.json`. A client that no rule admits may send to served domains only; no rules admit nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RelayRule {
    /// `namespace/name` of the RelayPolicy, for logs.
    pub name: String,
    /// Who is admitted: any of these.
    pub from: Vec<RelaySource>,
    /// The envelope senders that may be used; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub senders: Option<SenderScope>,
    /// The recipients that may be reached.
    pub recipients: RecipientScope,
    /// The server through which mail goes that this rule admits; absent: the server's own way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<SmartHost>,
    /// How much its clients may send together; absent: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Its clients may send as a domain that is served here only where [`DomainConfig::relayers`] names the rule.
    #[serde(default, skip_serializing_if = "is_false")]
    pub confined: bool,
}

/// Who is admitted by a relay rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RelaySource {
    /// Clients with an address in one of these networks.
    Networks(Vec<IpNet>),
    /// Clients that have authenticated as a mailbox of this domain.
    Mailboxes(Domain),
    /// Clients whose certificate has one of these DNS names, and is one of [`TlsConfig::client_authorities`]'.
    ClientCertificates(Vec<Domain>),
}

/// The envelope senders that a relay rule allows: those of a domain, or single addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SenderScope {
    /// Any sender of these domains.
    #[serde(default)]
    pub domains: Vec<Domain>,
    /// These senders.
    #[serde(default)]
    pub addresses: Vec<Address>,
}

/// The recipients that a relay rule allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecipientScope {
    /// Everybody.
    Any,
    /// Those of these domains.
    Domains(Vec<Domain>),
}

//! What a sender asked for beyond reverse-path and recipients: the parameters of SMTP's extensions, as they are kept with
//! an accepted message and told to the next hop. Plain data; made by [`crate::smtp`], honoured by [`crate::queue`].

use jiff::Timestamp;
use paquebot_config::{Address, SmartHostTls};

/// What octets the content has (`BODY=`, RFC 6152 and RFC 3030).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BodyType {
    /// Octets below 128 in lines.
    #[default]
    SevenBit,
    /// Any octets in lines.
    EightBitMime,
    /// Any octets, without lines: only BDAT carries it.
    BinaryMime,
}

/// What the sender declared and asked for at MAIL, which a next hop has to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// `BODY=`.
    pub body: BodyType,
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
    /// `REQUIRETLS` (RFC 8689): over verified TLS to servers that promise the same, or back.
    pub require_tls: bool,
    /// `MT-PRIORITY=` (RFC 6710): -9 to 9; `None` where nothing was said, which counts as 0.
    pub priority: Option<i8>,
    /// `RET=` (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// `ENVID=` (RFC 3461 §4.4), decoded from xtext.
    pub envelope_id: Option<String>,
    /// `HOLDFOR=` or `HOLDUNTIL=` (RFC 4865): nothing is tried before.
    pub hold_until: Option<Timestamp>,
    /// `BY=` (RFC 2852).
    pub deliver_by: Option<DeliverBy>,
}

impl Declared {
    /// For a message that has octets above 127, or not, and nothing else to say.
    #[must_use]
    pub fn eight_bit(eight_bit: bool) -> Self {
        let body = if eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit };
        Self { body, ..Self::default() }
    }
}

/// How much of the message a report of failure returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// The whole message.
    Full,
    /// Its header.
    Headers,
}

/// Until when a message is to be delivered (RFC 2852).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliverBy {
    /// The moment.
    pub at: Timestamp,
    /// What happens then.
    pub mode: ByMode,
    /// `T`: each server on the way reports that it has relayed the message.
    pub trace: bool,
}

/// What happens to a message that is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByMode {
    /// It goes back.
    Return,
    /// The sender is told of the delay, and delivery goes on.
    Notify,
}

/// When the sender wants to be told about a recipient (`NOTIFY=`, RFC 3461 §4.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Notify {
    /// Nothing was said: failures are reported, and delays when the server sees fit.
    #[default]
    Unspecified,
    /// Never.
    Never,
    /// In these cases.
    On {
        /// When the message was delivered, or relayed to a server that will not say.
        success: bool,
        /// When it could not be.
        failure: bool,
        /// When it takes long.
        delay: bool,
    },
}

impl Notify {
    /// Whether delivery is reported.
    #[must_use]
    pub fn on_success(self) -> bool {
        matches!(self, Self::On { success: true, .. })
    }

    /// Whether failure is reported.
    #[must_use]
    pub fn on_failure(self) -> bool {
        matches!(self, Self::Unspecified | Self::On { failure: true, .. })
    }

    /// Whether a delay is reported.
    #[must_use]
    pub fn on_delay(self) -> bool {
        matches!(self, Self::Unspecified | Self::On { delay: true, .. })
    }

    /// As a number for the store; [`Notify::from_bits`] takes it back.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::Never => 8,
            Self::On { success, failure, delay } => {
                16 | u8::from(success) | u8::from(failure) << 1 | u8::from(delay) << 2
            }
        }
    }

    /// The other way.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        match bits {
            8 => Self::Never,
            bits if bits & 16 != 0 => Self::On { success: bits & 1 != 0, failure: bits & 2 != 0, delay: bits & 4 != 0 },
            _ => Self::Unspecified,
        }
    }
}

/// The recipient as the first sender wrote it (`ORCPT=`, RFC 3461 §4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalRecipient {
    /// The address type, such as `rfc822` or `utf-8`.
    pub kind: String,
    /// The address, decoded.
    pub address: String,
}

impl OriginalRecipient {
    /// `type;address` with the address decoded: how the store keeps it, and how a report shows it.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{};{}", self.kind, self.address)
    }

    /// Takes back what [`OriginalRecipient::to_text`] gave.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (kind, address) = text.split_once(';')?;
        Some(Self { kind: kind.to_owned(), address: address.to_owned() })
    }
}

/// A way out that is not the recipient's MX hosts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Route {
    /// The upstream of the relay rule of this name. When the rule or its upstream is gone: the server's own way.
    Rule(String),
    /// This host, as the person who looks after the queue said.
    Host {
        /// A name, of which the addresses are taken, or an address literal.
        host: paquebot_config::Domain,
        /// The port.
        port: u16,
        /// How it is spoken to.
        tls: SmartHostTls,
    },
    /// Its own maildrop here, and nobody else's: who else gets the message by a forwarding or an alias has it. Where the
    /// domain is not served here any more: the server's own way.
    Maildrop,
}

impl Route {
    /// `rule:…`, `host:…:port`, that with `:required` or `:implicit`, or `maildrop`: how the store keeps it.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Rule(name) => format!("rule:{name}"),
            Self::Host { host, port, tls } => format!("host:{host}:{port}{}", suffix(*tls)),
            Self::Maildrop => "maildrop".to_owned(),
        }
    }

    /// Takes back what [`Route::to_text`] gave.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("rule:") {
            return Some(Self::Rule(name.to_owned()));
        }
        if text == "maildrop" {
            return Some(Self::Maildrop);
        }
        let text = text.strip_prefix("host:")?;
        let secured = [SmartHostTls::Required, SmartHostTls::Implicit];
        let (text, tls) = secured
            .into_iter()
            .find_map(|tls| Some((text.strip_suffix(suffix(tls))?, tls)))
            .unwrap_or((text, SmartHostTls::Opportunistic));
        let (host, port) = text.rsplit_once(':')?;
        Some(Self::Host { host: paquebot_config::Domain::parse(host).ok()?, port: port.parse().ok()?, tls })
    }
}

fn suffix(tls: SmartHostTls) -> &'static str {
    match tls {
        SmartHostTls::Opportunistic => "",
        SmartHostTls::Required => ":required",
        SmartHostTls::Implicit => ":implicit",
    }
}

/// A recipient that the queue takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteRecipient {
    /// Its address.
    pub address: Address,
    /// When the sender wants to be told.
    pub notify: Notify,
    /// What the first sender wrote.
    pub original: Option<OriginalRecipient>,
    /// The way out; `None`: the server's own.
    pub route: Option<Route>,
    /// Whose the address was when the queue took it, where it was somebody's here (see
    /// [`MailboxRecord::tenant`](paquebot_config::MailboxRecord::tenant)): nobody else who gets the address gets the message.
    pub tenant: Option<Box<str>>,
}

impl From<Address> for RemoteRecipient {
    fn from(address: Address) -> Self {
        Self { address, notify: Notify::default(), original: None, route: None, tenant: None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_kept_is_taken_back(success: bool, failure: bool, delay: bool, kind in "[a-z0-9]{1,8}", address in ".{0,40}", port: u16) {
            for notify in [Notify::Unspecified, Notify::Never, Notify::On { success, failure, delay }] {
                prop_assert_eq!(Notify::from_bits(notify.bits()), notify);
            }
            let original = OriginalRecipient { kind, address };
            prop_assert_eq!(OriginalRecipient::from_text(&original.to_text()), Some(original));
            for host in ["mx.example", "[192.0.2.1]", "[ipv6:2001:db8::1]"] {
                for tls in [SmartHostTls::Opportunistic, SmartHostTls::Required, SmartHostTls::Implicit] {
                    let route = Route::Host { host: paquebot_config::Domain::parse(host).unwrap(), port, tls };
                    prop_assert_eq!(Route::from_text(&route.to_text()), Some(route));
                }
            }
        }
    }
}

//! Checked strings: a domain, a local part, an address, a CIDR.
//!
//! Each type carries its own rule twice: as CEL in the schema, so that the API server refuses a bad value with our
//! sentence, and as Rust, so that manifests read without an API server get the same answer. `tests/patterns.rs` holds
//! the two against each other.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A value that one of the types of this module refuses; its text says what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?}: {wanted}")]
pub struct InvalidName {
    value: String,
    wanted: &'static str,
}

macro_rules! checked_string {
    ($(#[$doc:meta])* $name:ident, $check:path, $minimum:literal ..= $maximum:literal, $rule:path, $message:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if $check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidName { value: text.chars().take($maximum).collect(), wanted: $message })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "minLength": $minimum,
                    "maxLength": $maximum,
                    "x-kubernetes-validations": [
                        {"rule": $rule(), "message": $message},
                    ],
                })
            }
        }
    };
}

/// The pattern of a domain name: at least two labels, lower case, A-labels for international ones.
pub const DOMAIN_PATTERN: &str = "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])$";
/// What is said when a domain does not match.
pub const DOMAIN_MESSAGE: &str = "write the domain in lower case, at least two labels joined by dots and no dot at the end; \
an international name as its A-label (xn--...)";

/// The pattern of a name in DNS that need not be a host's: its labels may have underscores (RFC 8552).
pub const RECORD_NAME_PATTERN: &str = "^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?[.])+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])$";
/// What is said when a name in DNS does not match.
pub const RECORD_NAME_MESSAGE: &str = "write the name in lower case, at least two labels joined by dots and no dot at the \
end; labels may have underscores";

/// The pattern of a local part: a dot-string (RFC 5321 section 4.1.2) in lower case.
pub const LOCAL_PART_PATTERN: &str = "^[a-z0-9!#$%&'*+/=?^_`{|}~-]+([.][a-z0-9!#$%&'*+/=?^_`{|}~-]+)*$";
/// What is said when a local part does not match.
pub const LOCAL_PART_MESSAGE: &str = "write the part before the @ in lower case, without spaces, quotes or a dot at an end \
or twice in a row";

/// The pattern of an address: a dot-string in either case, `@`, and a domain in lower case.
pub const ADDRESS_PATTERN: &str = "^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+([.][A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@\
([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])$";
/// What is said when an address does not match.
pub const ADDRESS_MESSAGE: &str = "write an address as local-part@domain, the domain in lower case and with a dot";

fn domain_rule() -> String {
    format!("self.matches(r\"{DOMAIN_PATTERN}\")")
}

fn record_name_rule() -> String {
    format!("self.matches(r\"{RECORD_NAME_PATTERN}\")")
}

fn local_part_rule() -> String {
    format!("self.matches(r\"{LOCAL_PART_PATTERN}\")")
}

/// The pattern says nothing of the two lengths: 64 octets and 253.
fn address_rule() -> String {
    format!("self.matches(r\"{ADDRESS_PATTERN}\") && self.indexOf('@') <= 64 && self.size() - self.indexOf('@') <= 254")
}

checked_string!(
    /// A domain name as RFC 5321 uses it: A-label, lower case, at least two labels, no dot at the end.
    DomainName, is_domain, 3 ..= 253, domain_rule, DOMAIN_MESSAGE
);
checked_string!(
    /// A name in DNS whose records are used, such as `_spf.example.com`: lower case, at least two labels, underscores allowed.
    RecordName, is_record_name, 3 ..= 253, record_name_rule, RECORD_NAME_MESSAGE
);
checked_string!(
    /// The part of an address before the `@`: a dot-string in lower case (RFC 5321 section 4.1.2), at most 64 octets.
    LocalPart, is_local_part, 1 ..= 64, local_part_rule, LOCAL_PART_MESSAGE
);
checked_string!(
    /// A whole address. The local part may hold upper case, since it may belong to someone else's server.
    EmailAddress, is_address, 5 ..= 318, address_rule, ADDRESS_MESSAGE
);

impl EmailAddress {
    /// The part before the `@`, as written.
    #[must_use]
    pub fn local_part(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(local, _)| local)
    }

    /// The part after the `@`, in lower case.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

/// Whether the text is a [`DomainName`].
#[must_use]
pub fn is_domain(text: &str) -> bool {
    is_name(text, is_label)
}

/// Whether the text is a [`RecordName`].
#[must_use]
pub fn is_record_name(text: &str) -> bool {
    is_name(text, |label| is_label(&label.replace('_', "0")))
}

/// At least two labels, of which the last, of at least two octets, is a host name's.
fn is_name(text: &str, is_inner_label: impl Fn(&str) -> bool) -> bool {
    let mut labels = text.split('.');
    let last = labels.next_back().unwrap_or_default();
    (3..=253).contains(&text.len())
        && text.contains('.')
        && last.len() >= 2
        && is_label(last)
        && labels.all(is_inner_label)
}

fn is_label(label: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = label.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
}

/// Whether the text is a [`LocalPart`].
#[must_use]
pub fn is_local_part(text: &str) -> bool {
    is_dot_string(text, |byte| byte.is_ascii_lowercase())
}

/// Whether the text is an [`EmailAddress`].
#[must_use]
pub fn is_address(text: &str) -> bool {
    text.rsplit_once('@')
        .is_some_and(|(local, domain)| is_dot_string(local, |byte| byte.is_ascii_alphabetic()) && is_domain(domain))
}

fn is_dot_string(text: &str, letter: fn(u8) -> bool) -> bool {
    // atext of RFC 5322 section 3.2.3, the letters apart.
    let atom = |byte: u8| letter(byte) || byte.is_ascii_digit() || b"!#$%&'*+/=?^_`{|}~-".contains(&byte);
    (1..=64).contains(&text.len()) && text.split('.').all(|part| !part.is_empty() && part.bytes().all(atom))
}

/// What is said when a CIDR cannot be read, and when it admits everybody.
pub const CIDR_MESSAGE: &str = "write each network as address/prefix, such as 192.0.2.0/24 or 2001:db8::/64";

/// A network, as `address/prefix`. Bits beyond the prefix are kept as written and ignored by [`Cidr::network`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    text: String,
    network: IpNet,
}

impl Cidr {
    /// The text, as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The network, its host bits cleared.
    #[must_use]
    pub fn network(&self) -> IpNet {
        self.network
    }

    /// Whether this network holds every address of its family.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.network.prefix_len() == 0
    }
}

impl FromStr for Cidr {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName { value: text.chars().take(64).collect(), wanted: CIDR_MESSAGE };
        // The API server's `isCIDR` refuses IPv4 addresses in IPv6 clothes and prefixes such as /08.
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let mapped = matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
        let plain = prefix == "0" || !prefix.starts_with(['0', '+']);
        let length: u8 = prefix.parse().map_err(|_| invalid())?;
        let network = IpNet::new(address, length).map_err(|_| invalid())?.trunc();
        if mapped || !plain || text.len() > 43 {
            return Err(invalid());
        }
        Ok(Self { text: text.to_owned(), network })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Cidr {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Cidr".into()
    }
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        // 39 characters of IPv6 address, a slash and three digits; the rules sit on the lists that hold these.
        json_schema!({"type": "string", "minLength": 1, "maxLength": 43})
    }
}

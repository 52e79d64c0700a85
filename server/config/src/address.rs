//! Mail addresses as RFC 5321 §4.1.2 writes them. Everything in Paquebot that names a mailbox goes through these types.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest local part, in octets (RFC 5321 §4.5.3.1.1).
pub const MAX_LOCAL_PART: usize = 64;
/// The longest domain, in octets: RFC 5321 §4.5.3.1.2 says 255, DNS leaves 253 of them for the name as it is written.
pub const MAX_DOMAIN: usize = 253;

/// Why a piece of text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@` outside quotes.
    #[error("an address needs an \"@\" between local part and domain")]
    NoAtSign,
    /// The local part is empty, too long, or has characters that it may not have.
    #[error("the local part is not valid (RFC 5321 section 4.1.2; at most 64 octets)")]
    LocalPart,
    /// The domain is empty, too long, or not a host name.
    #[error("the domain is not valid (RFC 5321 section 4.1.2; at most 253 octets)")]
    Domain,
}

/// A domain name in lower-case A-label form, or an address literal in brackets (RFC 5321 §4.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(Box<str>);

impl Domain {
    /// Reads a domain. Upper case becomes lower case, U-labels become A-labels, one trailing dot is dropped.
    ///
    /// # Errors
    /// [`AddressError::Domain`] when it is neither a host name nor an address literal.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.starts_with('[') {
            return Self::parse_literal(text);
        }
        let ascii = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii(text).map_err(|_| AddressError::Domain)?
        };
        let name = ascii.strip_suffix('.').unwrap_or(&ascii);
        if name.is_empty() || name.len() > MAX_DOMAIN || !name.split('.').all(is_label) {
            return Err(AddressError::Domain);
        }
        Ok(Self(name.into()))
    }

    fn parse_literal(text: &str) -> Result<Self, AddressError> {
        let inside = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).ok_or(AddressError::Domain)?;
        let is_v6 = |t: &str| t.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("IPv6:"));
        let valid = if is_v6(inside) {
            inside[5..].parse::<std::net::Ipv6Addr>().is_ok()
        } else {
            inside.parse::<std::net::Ipv4Addr>().is_ok()
        };
        if valid { Ok(Self(text.to_ascii_lowercase().into())) } else { Err(AddressError::Domain) }
    }

    /// The name as text, lower case, without a trailing dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is an address literal such as `[192.0.2.1]`, which no MX record can describe.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.0.starts_with('[')
    }
}

/// One label of a host name. Underscores are not host names, and are refused.
fn is_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The part of an address before the `@`, as its sender wrote it (quoting and case are kept, RFC 5321 §2.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LocalPart(Box<str>);

impl LocalPart {
    /// Reads a dot-string or a quoted string (RFC 5321 §4.1.2; UTF-8 as RFC 6531 §3.3 allows).
    ///
    /// # Errors
    /// [`AddressError::LocalPart`] when it is neither, or longer than 64 octets.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let valid = if text.starts_with('"') { is_quoted_string(text) } else { is_dot_string(text) };
        if valid && text.len() <= MAX_LOCAL_PART { Ok(Self(text.into())) } else { Err(AddressError::LocalPart) }
    }

    /// The text as it was written, quotes included: what belongs on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which two local parts are compared: unquoted where quoting changes nothing, and lower case, which is
    /// Paquebot's rule for the domains that it serves.
    #[must_use]
    pub fn canonical(&self) -> String {
        let unquoted = self.unquoted();
        let form = if is_dot_string(&unquoted) { unquoted } else { self.0.to_string() };
        form.to_lowercase()
    }

    /// The content: for a quoted string what stands between the quotes, with its escapes resolved.
    #[must_use]
    pub fn unquoted(&self) -> String {
        let Some(inside) = self.0.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else {
            return self.0.to_string();
        };
        let mut content = String::with_capacity(inside.len());
        let mut characters = inside.chars();
        while let Some(c) = characters.next() {
            content.push(if c == '\\' { characters.next().unwrap_or(c) } else { c });
        }
        content
    }
}

fn is_dot_string(text: &str) -> bool {
    let atext =
        |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii() && !c.is_control();
    !text.is_empty() && text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(atext))
}

fn is_quoted_string(text: &str) -> bool {
    let Some(inside) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else { return false };
    if text.len() < 2 {
        return false;
    }
    let mut characters = inside.chars();
    while let Some(c) = characters.next() {
        match c {
            // quoted-pairSMTP: a backslash and one printable character or space.
            '\\' => match characters.next() {
                Some(' '..='~') => {}
                _ => return false,
            },
            '"' => return false,
            ' '..='~' => {}
            c if !c.is_ascii() && !c.is_control() => {}
            _ => return false,
        }
    }
    true
}

/// A mailbox address: local part and domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    local_part: LocalPart,
    domain: Domain,
}

impl Address {
    /// Puts the two parts together.
    #[must_use]
    pub fn new(local_part: LocalPart, domain: Domain) -> Self {
        Self { local_part, domain }
    }

    /// Reads `local-part@domain`. Angle brackets and source routes belong to SMTP's path syntax, not here.
    ///
    /// # Errors
    /// [`AddressError`] says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        // The last `@` divides: a quoted local part may hold others, a domain may not.
        let (local_part, domain) = text.rsplit_once('@').ok_or(AddressError::NoAtSign)?;
        Ok(Self { local_part: LocalPart::parse(local_part)?, domain: Domain::parse(domain)? })
    }

    /// What stands before the `@`.
    #[must_use]
    pub fn local_part(&self) -> &LocalPart {
        &self.local_part
    }

    /// What stands after the `@`.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The form in which addresses are looked up and compared (see [`LocalPart::canonical`]).
    #[must_use]
    pub fn canonical(&self) -> String {
        format!("{}@{}", self.local_part.canonical(), self.domain.as_str())
    }

    /// Whether the address needs SMTPUTF8 on its way (RFC 6531).
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.local_part.0.is_ascii()
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local_part, self.domain)
    }
}

macro_rules! text_conversions {
    ($($kind:ty),*) => {$(
        impl FromStr for $kind {
            type Err = AddressError;
            fn from_str(text: &str) -> Result<Self, AddressError> { Self::parse(text) }
        }
        impl TryFrom<String> for $kind {
            type Error = AddressError;
            fn try_from(text: String) -> Result<Self, AddressError> { Self::parse(&text) }
        }
        impl From<$kind> for String {
            fn from(value: $kind) -> String { value.to_string() }
        }
    )*};
}
text_conversions!(Domain, LocalPart, Address);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn domains_are_lower_case_a_labels() {
        assert_eq!(Domain::parse("Server1.COM.").unwrap().as_str(), "server1.com");
        assert_eq!(Domain::parse("bücher.example").unwrap().as_str(), "xn--bcher-kva.example");
        assert!(Domain::parse("[192.0.2.1]").unwrap().is_literal());
        assert!(Domain::parse("[IPv6:2001:db8::1]").unwrap().is_literal());
        for bad in
            ["", ".", "a..b", "-a.com", "a-.com", "a_b.com", "a b.com", "[1.2.3]", "[::1]", "a.com..", &"a".repeat(64)]
        {
            assert_eq!(Domain::parse(bad), Err(AddressError::Domain), "{bad}");
        }
    }

    #[test]
    fn local_parts_keep_their_spelling_and_compare_without_it() {
        let address = Address::parse("\"Anna\"@Server1.com").unwrap();
        assert_eq!(address.to_string(), "\"Anna\"@server1.com");
        assert_eq!(address.canonical(), "anna@server1.com");
        assert_eq!(LocalPart::parse(r#""a b\"c""#).unwrap().unquoted(), "a b\"c");
        assert_ne!(LocalPart::parse("\"a b\"").unwrap().canonical(), "a b");
        for bad in ["", ".a", "a.", "a..b", "a b", "a@b", "\"", "\"a", "\"a\"b\"", "\"\\\"", "a\r\nb", &"a".repeat(65)]
        {
            assert_eq!(LocalPart::parse(bad), Err(AddressError::LocalPart), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_reads_back_the_same(text in ".{0,80}") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert_eq!(Address::parse(&address.to_string()), Ok(address.clone()));
                prop_assert!(!address.to_string().contains(['\r', '\n', '<', '>']) || text.starts_with('"'));
            }
        }
    }
}

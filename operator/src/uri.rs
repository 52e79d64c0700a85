//! Texts as parts of URIs (RFC 3986). Pure. Called by [`crate::credentials`] and [`crate::dns`].

/// A text in which every octet but letters, digits and `kept` is written as `%` and two digits (RFC 3986 section 2.1).
#[must_use]
pub(crate) fn percent_encoded(text: &str, kept: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_is_escaped_octet_by_octet() {
        assert_eq!(percent_encoded("a+b@c.org", b"."), "a%2Bb%40c.org");
        assert_eq!(percent_encoded("50%,é", b"@.-"), "50%25%2C%C3%A9");
        assert_eq!(percent_encoded("", b""), "");
    }
}

//! The encodings of text in ESMTP parameters: xtext (RFC 3461 §4) and the addresses of `ORCPT=` (RFC 3461 §4.2, RFC 6533
//! §3). Called by [`super::parameters`].

/// Decodes xtext: printable ASCII but `+` and `=`, and `+` with two upper-case hexadecimal digits for any octet. What
/// comes out has to be UTF-8 text without control characters, since it will stand in a report.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => {
                let (digits, after) = rest.split_at_checked(2)?;
                octets.push(hexadecimal(digits[0])? << 4 | hexadecimal(digits[1])?);
                rest = after;
            }
            b'=' => return None,
            b'!'..=b'~' => octets.push(first),
            _ => return None,
        }
    }
    String::from_utf8(octets).ok().filter(|text| !text.chars().any(char::is_control))
}

/// RFC 3461 §4: upper case only.
fn hexadecimal(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Decodes an address of type `utf-8` (RFC 6533 §3): UTF-8 text in which `\x{20AC}` stands for a character, and xtext's
/// `+` forms are allowed as well, since old relays make them.
#[must_use]
pub fn decode_utf8_address(text: &str) -> Option<String> {
    let mut address = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (character, length) = match first {
            '\\' => embedded(rest)?,
            '+' => plus(rest),
            '=' | ' ' => return None,
            c if c.is_control() => return None,
            c => (c, c.len_utf8()),
        };
        address.push(character);
        rest = &rest[length..];
    }
    Some(address)
}

/// `\x{20AC}` at the beginning of a text: the character, and how many octets stood for it.
fn embedded(text: &str) -> Option<(char, usize)> {
    let (digits, _) = text.strip_prefix("\\x{")?.split_once('}')?;
    let valid = (2..=6).contains(&digits.len()) && digits.bytes().all(|digit| hexadecimal(digit).is_some());
    let character = char::from_u32(u32::from_str_radix(digits, 16).ok().filter(|_| valid)?)?;
    Some((character, digits.len() + "\\x{}".len()))
}

/// A `+` at the beginning of a text: an ASCII character in xtext, or a plus sign as it is.
fn plus(text: &str) -> (char, usize) {
    let octet = text.as_bytes().get(1..3).and_then(|digits| {
        let octet = hexadecimal(digits[0])? << 4 | hexadecimal(digits[1])?;
        (b' '..=b'~').contains(&octet).then_some(octet)
    });
    octet.map_or(('+', 1), |octet| (char::from(octet), 3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn xtext_as_rfc_3461_writes_it() {
        for (text, expected) in [
            ("QQ314159", Some("QQ314159")),
            ("anna+2Blist@server1.com", Some("anna+list@server1.com")),
            ("a+3Db", Some("a=b")),
            ("+C3+A4", Some("ä")),
            ("a=b", None),
            ("a+2b", None),
            ("a+2", None),
            ("a+", None),
            ("+FF", None),
            ("a+0D+0Ab", None),
            ("a b", None),
            ("ä", None),
        ] {
            assert_eq!(decode(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn international_addresses_as_rfc_6533_writes_them() {
        for (text, expected) in [
            ("j\\x{E4}ck@server2.com", Some("jäck@server2.com")),
            ("jäck@server2.com", Some("jäck@server2.com")),
            ("jack+2Blist@server2.com", Some("jack+list@server2.com")),
            ("jack+list@server2.com", Some("jack+list@server2.com")),
            ("a\\x{5C}b@server2.com", Some("a\\b@server2.com")),
            ("a\\x{D800}@server2.com", None),
            ("a\\x{e4}@server2.com", None),
            ("a\\x{E4@server2.com", None),
            ("a\\b@server2.com", None),
            ("a=b@server2.com", None),
        ] {
            assert_eq!(decode_utf8_address(text).as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_decoded_or_refused(text in ".{0,60}", nearly in "[+\\\\x{}A-F0-9=äa]{0,30}") {
            for text in [&text, &nearly] {
                let _ = decode(text);
                let _ = decode_utf8_address(text);
            }
        }

        #[test]
        fn what_is_encoded_comes_back(text in "\\PC{0,40}") {
            let encoded: String = text.bytes().map(|octet| match octet {
                b'+' | b'=' | 0..=b' ' | 127.. => format!("+{octet:02X}"),
                _ => char::from(octet).to_string(),
            }).collect();
            prop_assert_eq!(decode(&encoded), Some(text));
        }
    }
}

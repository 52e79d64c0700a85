//! Encoded words (RFC 2047), transfer encodings (RFC 2045 §6) and character sets: from octets to text and back.

use encoding_rs::Encoding;

/// Text of octets whose character set nobody says: UTF-8, else the set that most mail without a label is in.
pub(crate) fn to_text(octets: &[u8]) -> String {
    match std::str::from_utf8(octets) {
        Ok(text) => text.to_owned(),
        Err(_) => encoding_rs::WINDOWS_1252.decode_without_bom_handling(octets).0.into_owned(),
    }
}

/// Text of octets in a character set; none where the set is not known.
pub(crate) fn from_charset(octets: &[u8], charset: &str) -> Option<String> {
    let encoding = Encoding::for_label(charset.trim().as_bytes())?;
    Some(encoding.decode_without_bom_handling(octets).0.into_owned())
}

/// Decodes base64 and passes over whatever is not part of it.
pub(crate) fn base64(text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                (bits, count) = (0, 0);
                continue;
            }
            _ => continue,
        };
        bits = (bits << 6 | u32::from(value)) & 0xFF_FFFF;
        count += 6;
        if count >= 8 {
            count -= 8;
            octets.push((bits >> count & 0xFF) as u8);
        }
    }
    octets
}

fn hexadecimal(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Decodes quoted-printable. In a header `_` is a space (RFC 2047 §4.2) and no line is broken.
pub(crate) fn quoted_printable(text: &[u8], in_header: bool) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'_', _) if in_header => octets.push(b' '),
            (b'=', [high, low, tail @ ..]) if hexadecimal(*high).is_some() && hexadecimal(*low).is_some() => {
                octets.push(hexadecimal(*high).unwrap_or(0) << 4 | hexadecimal(*low).unwrap_or(0));
                rest = tail;
            }
            (b'=', _) if !in_header => {
                let spaces = after.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
                match &after[spaces..] {
                    [b'\r', b'\n', tail @ ..] | [b'\n', tail @ ..] => rest = tail,
                    _ => octets.push(b'='),
                }
            }
            _ => octets.push(byte),
        }
    }
    octets
}

/// One encoded word: its character set and octets, and how long it is.
struct Word<'v> {
    charset: &'v str,
    octets: Vec<u8>,
    length: usize,
}

/// The encoded word at the beginning.
fn word(value: &[u8]) -> Option<Word<'_>> {
    let inner = value.strip_prefix(b"=?")?;
    let charset_end = memchr::memchr(b'?', inner)?;
    let (encoding, rest) = inner.get(charset_end + 1..)?.split_first()?;
    let text = rest.strip_prefix(b"?")?;
    let text_end = memchr::memmem::find(text, b"?=")?;
    let text = &text[..text_end];
    if text.iter().any(|byte| matches!(byte, b'?' | b' ' | b'\t')) {
        return None;
    }
    let charset = std::str::from_utf8(&inner[..charset_end]).ok()?;
    // RFC 2231 §5: a language may follow the set.
    let charset = charset.split('*').next().unwrap_or(charset);
    if charset.is_empty() || !charset.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let octets = match encoding {
        b'B' | b'b' => base64(text),
        b'Q' | b'q' => quoted_printable(text, true),
        _ => return None,
    };
    Some(Word { charset, octets, length: 2 + charset_end + 1 + 2 + text_end + 2 })
}

/// Decodes the encoded words of a field's value. What cannot be decoded stays as it is.
pub(crate) fn decode(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(from) = memchr::memmem::find(rest, b"=?") {
        let Some(first) = word(&rest[from..]) else {
            text.push_str(&to_text(&rest[..from + 2]));
            rest = &rest[from + 2..];
            continue;
        };
        text.push_str(&to_text(&rest[..from]));
        let start = from;
        let mut end = from + first.length;
        let mut octets = first.octets;
        let mut charset = first.charset;
        // Only white space between words: it is no part of the text, and a character may be cut between them.
        loop {
            let after = &rest[end..];
            let spaces = after.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            let Some(next) = (if spaces > 0 { word(&after[spaces..]) } else { None }) else { break };
            if !next.charset.eq_ignore_ascii_case(charset) {
                let Some(decoded) = from_charset(&octets, charset) else { break };
                text.push_str(&decoded);
                octets = Vec::new();
                charset = next.charset;
            }
            octets.extend_from_slice(&next.octets);
            end += spaces + next.length;
        }
        match from_charset(&octets, charset) {
            Some(decoded) => text.push_str(&decoded),
            None => text.push_str(&to_text(&rest[start..end])),
        }
        rest = &rest[end..];
    }
    text.push_str(&to_text(rest));
    text
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes base64 without line ends.
pub(crate) fn to_base64(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for chunk in octets.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let value = (bits >> (18 - 6 * place) & 63) as usize;
            text.push(if place <= chunk.len() { char::from(ALPHABET[value]) } else { '=' });
        }
    }
    text
}

/// A field's value in ASCII: as it is, or what lies between the first and the last word with other characters as encoded
/// words of at most 75 characters with a space between (RFC 2047 §2).
pub(crate) fn encode(value: &str) -> String {
    // 45 octets are 60 characters of base64; with =?utf-8?b? and ?= that is 72.
    const OCTETS: usize = 45;
    let foreign = |letter: char| !letter.is_ascii();
    let (Some(first), Some(last)) = (value.find(foreign), value.rfind(foreign)) else { return value.to_owned() };
    let begin = value[..first].rfind(' ').map_or(0, |space| space + 1);
    let end = value[last..].find(' ').map_or(value.len(), |space| last + space);
    let mut words = Vec::new();
    let mut from = begin;
    while from < end {
        let mut to = (from + OCTETS).min(end);
        while !value.is_char_boundary(to) {
            to -= 1;
        }
        words.push(format!("=?utf-8?b?{}?=", to_base64(&value.as_bytes()[from..to])));
        from = to;
    }
    format!("{}{}{}", &value[..begin], words.join(" "), &value[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc2047_examples_are_decoded() {
        let cases: [(&str, &str); 9] = [
            ("=?US-ASCII?Q?Keith_Moore?= <moore@cs.utk.edu>", "Keith Moore <moore@cs.utk.edu>"),
            ("=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
            ("=?ISO-8859-1?Q?a?=  \t =?ISO-8859-1?Q?b?= c", "ab c"),
            ("=?ISO-8859-1?Q?a_b?=", "a b"),
            ("=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=", "If you can read this yo"),
            ("=?utf-8*en?q?caf=C3=A9?=", "café"),
            ("=?x-unknown?q?a?= b", "=?x-unknown?q?a?= b"),
            ("=?utf-8?x?a?= =?", "=?utf-8?x?a?= =?"),
            ("=?utf-8?q?=C3?= =?utf-8?q?=A9?=", "é"),
        ];
        for (value, text) in cases {
            assert_eq!(decode(value.as_bytes()), text, "{value}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_to_the_same() {
        let long = "Grüße aus Köln, ".repeat(20);
        for value in ["plain", "é", "a plain é b", "x<é>  y ü z", long.as_str()] {
            let encoded = encode(value);
            assert!(encoded.is_ascii());
            assert!(encoded.split(' ').all(|word| word.len() <= 75));
            assert_eq!(decode(encoded.as_bytes()), value);
        }
    }

    #[test]
    fn transfer_encodings_are_forgiving() {
        assert_eq!(base64(b"aGV\r\nsbG8="), b"hello");
        assert_eq!(base64(b"aGVsbG8=aGVsbG8="), b"hellohello");
        assert_eq!(quoted_printable(b"a=3D=\r\nb=zz=", false), b"a=b=zz=");
        assert_eq!(quoted_printable(b"a= \t\nb", false), b"ab");
    }
}

//! The two encodings of RFC 2045 §6.7 and §6.8, as a converter writes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The longest line of either encoding (RFC 2045 §6.7 rule 5, §6.8).
const LINE: usize = 76;
/// Octets of a base64 line.
const OCTETS: usize = LINE / 4 * 3;

/// CRLF stays a line end; everything else decodes to itself.
pub(super) fn quoted_printable(content: &[u8], out: &mut Vec<u8>) {
    let mut column = 0;
    let mut position = 0;
    while position < content.len() {
        let rest = &content[position..];
        if rest.starts_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
            (column, position) = (0, position + 2);
            continue;
        }
        let ends_line = rest.len() == 1 || rest[1..].starts_with(b"\r\n");
        let is_plain = match rest[0] {
            // White space at the end of a line would be lost (rule 3).
            b' ' | b'\t' => !ends_line,
            b'=' => false,
            // Some servers still read "From " and a lone dot at the beginning of a line their own way.
            b'F' | b'.' if column == 0 => false,
            octet => octet.is_ascii_graphic(),
        };
        let width = if is_plain { 1 } else { 3 };
        // A soft line break needs a place at the end of the line.
        if column + width > if ends_line { LINE } else { LINE - 1 } {
            out.extend_from_slice(b"=\r\n");
            column = 0;
            continue;
        }
        if is_plain {
            out.push(rest[0]);
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            let digit = |value: u8| DIGITS[usize::from(value & 15)];
            out.extend_from_slice(&[b'=', digit(rest[0] >> 4), digit(rest[0])]);
        }
        (column, position) = (column + width, position + 1);
    }
}

/// Every octet decodes to itself.
pub(super) fn base64(content: &[u8], out: &mut Vec<u8>) {
    let mut lines = content.chunks(OCTETS).peekable();
    while let Some(line) = lines.next() {
        out.extend_from_slice(STANDARD.encode(line).as_bytes());
        if lines.peek().is_some() {
            out.extend_from_slice(b"\r\n");
        }
    }
}

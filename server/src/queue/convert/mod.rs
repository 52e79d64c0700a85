//! Down-conversion: a message whose octets the next hop does not take becomes one that it does (RFC 6152 §3, RFC 3030 §3,
//! RFC 1428). Part by part, what does not fit is encoded as quoted-printable or base64; what it decodes to stays the same.
//! Pure. Called by [`super::delivery`].

mod encode;
mod header;

use self::encode::{base64, quoted_printable};
use self::header::{ContentType, Entity, Header};

/// Multiparts in multiparts, and messages in messages, to this depth; deeper nesting is nobody's mail.
const DEEPEST: usize = 32;
/// The longest line without its CRLF (RFC 5321 §4.5.3.1.6).
pub(super) const LONGEST_LINE: usize = 998;

/// What the next hop takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Lines of octets below 128.
    SevenBit,
    /// Lines of any octets (8BITMIME).
    EightBit,
}

/// Why a message cannot be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unconvertible {
    /// A header holds octets above 127: only SMTPUTF8 carries it.
    #[error("a header field of it holds characters beyond ASCII")]
    Header,
    /// Its parts must not be touched (RFC 1847 §2.1).
    #[error("it is signed or encrypted, and must not be changed")]
    Signed,
    /// It says that it is encoded, and is not; or its structure does not allow an encoding.
    #[error("its parts are not what they say they are")]
    Malformed,
    /// See [`DEEPEST`].
    #[error("its parts are nested too deeply")]
    TooDeep,
}

/// Makes a message fit. One that fits comes back as it is.
///
/// # Errors
/// [`Unconvertible`]: it has to go back to its sender.
pub fn convert(message: &[u8], target: Target) -> Result<Vec<u8>, Unconvertible> {
    let mut converted = Vec::with_capacity(message.len() + message.len() / 4);
    let entity = Entity::split(message);
    // A message is MIME when it says so; one that has a Content-Type and forgot to is meant so.
    convert_entity(&entity, Place { is_message: true, default_is_message: false, depth: 0 }, target, &mut converted)?;
    Ok(converted)
}

/// Whether octets are lines such as the target takes.
#[must_use]
pub fn fits(octets: &[u8], target: Target) -> bool {
    if target == Target::SevenBit && !octets.is_ascii() {
        return false;
    }
    octets.split_inclusive(|octet| *octet == b'\n').all(|line| {
        let content = match line.strip_suffix(b"\n") {
            Some(line) => line.strip_suffix(b"\r"),
            None => Some(line),
        };
        content.is_some_and(|content| content.len() <= LONGEST_LINE && memchr::memchr2(b'\r', 0, content).is_none())
    })
}

/// Where an entity stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// At the top, or inside message/rfc822: it has a message's header.
    is_message: bool,
    /// Inside multipart/digest: without a Content-Type it is message/rfc822 (RFC 2046 §5.1.5).
    default_is_message: bool,
    depth: usize,
}

fn convert_entity(entity: &Entity<'_>, place: Place, target: Target, out: &mut Vec<u8>) -> Result<(), Unconvertible> {
    if place.depth > DEEPEST {
        return Err(Unconvertible::TooDeep);
    }
    if !entity.header.is_ascii() && target == Target::SevenBit {
        return Err(Unconvertible::Header);
    }
    // Content that came as octets (RFC 3030) may have anything for a header. It is not encoded, and sent by DATA as it is:
    // a bare line end in it would let its author end the message where he likes.
    if !fits(entity.header, Target::EightBit) {
        return Err(Unconvertible::Malformed);
    }
    if fits(entity.body, target) {
        // Nothing in it needs care. A multipart that calls itself 8bit and is not says nothing false to a 7-bit server.
        entity.copy_to(out);
        return Ok(());
    }
    let header = Header::parse(entity.header);
    let default = if place.default_is_message { ContentType::message() } else { ContentType::text() };
    let content_type = header.content_type().unwrap_or(default);
    match (content_type.kind.as_str(), content_type.subtype.as_str()) {
        ("multipart", "signed" | "encrypted") => Err(Unconvertible::Signed),
        ("multipart", subtype) => {
            let boundary = content_type.boundary.as_deref().ok_or(Unconvertible::Malformed)?;
            require_identity(&header)?;
            header.write_with_encoding(composite_encoding(target), place.is_message, out);
            entity.write_separator(out);
            let inside = Place { is_message: false, default_is_message: subtype == "digest", depth: place.depth + 1 };
            convert_parts(entity.body, boundary.as_bytes(), inside, target, out)
        }
        ("message", "rfc822") => {
            require_identity(&header)?;
            header.write_with_encoding(composite_encoding(target), place.is_message, out);
            entity.write_separator(out);
            let inside = Place { is_message: true, default_is_message: false, depth: place.depth + 1 };
            convert_entity(&Entity::split(entity.body), inside, target, out)
        }
        // RFC 2046 §5.2.2, RFC 3464 §2.1: these are 7bit only. RFC 6532 §3.7 lets message/global be encoded.
        ("message", subtype) if !subtype.starts_with("global") => Err(Unconvertible::Malformed),
        (kind, _) => {
            require_identity(&header)?;
            convert_leaf(&header, entity, kind == "text", place, out);
            Ok(())
        }
    }
}

/// A composite's own encoding only says what its parts may be (RFC 2045 §6.4).
fn composite_encoding(target: Target) -> &'static str {
    match target {
        Target::SevenBit => "7bit",
        Target::EightBit => "8bit",
    }
}

/// Encoded content must fit already.
fn require_identity(header: &Header<'_>) -> Result<(), Unconvertible> {
    match header.transfer_encoding().as_deref() {
        None | Some("7bit" | "8bit" | "binary") => Ok(()),
        Some(_) => Err(Unconvertible::Malformed),
    }
}

fn convert_leaf(header: &Header<'_>, entity: &Entity<'_>, is_text: bool, place: Place, out: &mut Vec<u8>) {
    let encoding = if is_text { "quoted-printable" } else { "base64" };
    if place.is_message && header.content_type().is_none() && !place.default_is_message {
        // RFC 1428 §3: a message that is not MIME. What its octets mean is not known, unless they cannot be anything else.
        let charset = if std::str::from_utf8(entity.body).is_ok() { "utf-8" } else { "unknown-8bit" };
        let field = format!("Content-Type: text/plain; charset={charset}\r\n");
        header.write_with_encoding(encoding, true, out);
        out.extend_from_slice(field.as_bytes());
    } else {
        header.write_with_encoding(encoding, place.is_message, out);
    }
    entity.write_separator(out);
    if is_text {
        quoted_printable(entity.body, out);
    } else {
        base64(entity.body, out);
    }
}

/// RFC 2046 §5.1.1. The line end before a delimiter belongs to it.
fn convert_parts(
    body: &[u8],
    boundary: &[u8],
    place: Place,
    target: Target,
    out: &mut Vec<u8>,
) -> Result<(), Unconvertible> {
    let mut rest = body;
    let mut is_preamble = true;
    loop {
        let found = next_delimiter(rest, boundary);
        let content = &rest[..found.as_ref().map_or(rest.len(), |found| found.content_end)];
        if is_preamble {
            // Nobody reads what stands around the parts; what does not fit is left out.
            if fits(content, target) {
                out.extend_from_slice(content);
            }
        } else {
            convert_entity(&Entity::split(content), place, target, out)?;
        }
        let Some(found) = found else {
            // Without its last delimiter: a truncated message stays one.
            return if is_preamble { Err(Unconvertible::Malformed) } else { Ok(()) };
        };
        if !fits(found.line, Target::EightBit) {
            return Err(Unconvertible::Malformed);
        }
        // After an encoded part that ended otherwise, too: a delimiter begins a line.
        if found.has_line_end_before || !out.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(found.line);
        rest = &rest[found.end..];
        is_preamble = false;
        if found.is_close {
            if fits(rest, target) {
                out.extend_from_slice(rest);
            }
            return Ok(());
        }
    }
}

/// A delimiter line in a multipart.
struct Delimiter<'a> {
    /// Where the content before it ends.
    content_end: usize,
    /// Where what follows it begins.
    end: usize,
    /// The line with its line end.
    line: &'a [u8],
    has_line_end_before: bool,
    is_close: bool,
}

fn next_delimiter<'a>(body: &'a [u8], boundary: &[u8]) -> Option<Delimiter<'a>> {
    let mut start = 0;
    loop {
        let end = memchr::memchr(b'\n', &body[start..]).map_or(body.len(), |at| start + at + 1);
        let line = &body[start..end];
        if let Some(rest) = line.strip_prefix(b"--").and_then(|line| line.strip_prefix(boundary)) {
            let is_close = rest.starts_with(b"--");
            let padding = if is_close { &rest[2..] } else { rest };
            if padding.trim_ascii().is_empty() {
                let before = &body[..start];
                let content_end = before.strip_suffix(b"\r\n").map_or(start, <[u8]>::len);
                let has_line_end_before = content_end < start;
                return Some(Delimiter { content_end, end, line, has_line_end_before, is_close });
            }
        }
        if end == body.len() {
            return None;
        }
        start = end;
    }
}

#[cfg(test)]
mod tests;

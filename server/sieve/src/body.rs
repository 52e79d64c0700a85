//! The parts of a body (RFC 2045, 2046) for the `body` test (RFC 5173). Depth and number of parts are bounded; what is
//! beyond them is not seen.

use crate::header::Header;
use crate::words;

/// Multiparts and messages inside one another.
const DEPTH: usize = 16;
/// Parts of one message.
const PARTS: usize = 512;

/// One part: a leaf with its content decoded, a multipart's prologue and epilogue, or an embedded message's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// `type/subtype` in lower case.
    pub(crate) content_type: String,
    pub(crate) content: String,
}

/// A parameterised field value such as `text/plain; charset=utf-8`.
struct Parameters {
    value: String,
    parameters: Vec<(String, String)>,
}

impl Parameters {
    fn parse(text: &str) -> Self {
        let (value, mut rest) = text.split_once(';').unwrap_or((text, ""));
        let mut parameters = Vec::new();
        while let Some((name, after)) = rest.split_once('=') {
            let name = name.trim_matches(|letter: char| letter.is_whitespace() || letter == ';').to_ascii_lowercase();
            let after = after.trim_start();
            let mut text = String::new();
            if let Some(quoted) = after.strip_prefix('"') {
                let mut letters = quoted.char_indices();
                let mut end = quoted.len();
                while let Some((at, letter)) = letters.next() {
                    match letter {
                        '"' => {
                            end = at + 1;
                            break;
                        }
                        '\\' => text.extend(letters.next().map(|(_, escaped)| escaped)),
                        letter => text.push(letter),
                    }
                }
                rest = &quoted[end..];
            } else {
                let end = after.find([';', ' ', '\t']).unwrap_or(after.len());
                after[..end].clone_into(&mut text);
                rest = &after[end..];
            }
            parameters.push((name, text));
        }
        Self { value: value.trim().to_ascii_lowercase(), parameters }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// All parts of a message, from its outside to its inside.
pub(crate) fn parts(header: &Header<'_>, body: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    walk(header, body, "text/plain", DEPTH, &mut parts);
    parts
}

fn walk(header: &Header<'_>, body: &[u8], default_type: &str, depth: usize, parts: &mut Vec<Part>) {
    if parts.len() >= PARTS {
        return;
    }
    let field = header.first("content-type").map(crate::header::Field::text);
    let content_type = Parameters::parse(field.as_deref().unwrap_or(default_type));
    // RFC 2045 §5.2: what cannot be read is text/plain.
    let kind = if content_type.value.contains('/') { content_type.value.as_str() } else { "text/plain" };
    if let (true, Some(boundary), 1..) = (kind.starts_with("multipart/"), content_type.get("boundary"), depth) {
        let default_type = if kind == "multipart/digest" { "message/rfc822" } else { "text/plain" };
        let (around, inner) = split(body, boundary);
        parts.push(Part { content_type: kind.to_owned(), content: words::to_text(&around) });
        for part in inner {
            let (header, offset) = Header::parse(part);
            walk(&header, &part[offset..], default_type, depth - 1, parts);
        }
    } else if kind == "message/rfc822" && depth > 0 {
        let (header, offset) = Header::parse(body);
        parts.push(Part { content_type: kind.to_owned(), content: words::to_text(&body[..offset]) });
        walk(&header, &body[offset..], "text/plain", depth - 1, parts);
    } else {
        let content = leaf(header, kind, content_type.get("charset"), body);
        parts.push(Part { content_type: kind.to_owned(), content });
    }
}

fn leaf(header: &Header<'_>, kind: &str, charset: Option<&str>, body: &[u8]) -> String {
    let encoding = header.first("content-transfer-encoding").map(crate::header::Field::text).unwrap_or_default();
    let decoded;
    let octets = if encoding.eq_ignore_ascii_case("base64") {
        decoded = words::base64(body);
        &decoded
    } else if encoding.eq_ignore_ascii_case("quoted-printable") {
        decoded = words::quoted_printable(body, false);
        &decoded
    } else {
        body
    };
    let text =
        if kind.starts_with("text/") { charset.and_then(|charset| words::from_charset(octets, charset)) } else { None };
    text.unwrap_or_else(|| words::to_text(octets))
}

/// What stands before the first and after the last delimiter, and the parts between (RFC 2046 §5.1.1).
fn split<'b>(body: &'b [u8], boundary: &str) -> (Vec<u8>, Vec<&'b [u8]>) {
    let mut around = Vec::new();
    let mut parts = Vec::new();
    let mut part_from = None;
    let mut outside_from = 0;
    let mut at = 0;
    while at < body.len() {
        let end = memchr::memchr(b'\n', &body[at..]).map_or(body.len(), |end| at + end + 1);
        let line = body[at..end].trim_ascii_end();
        let rest = line.strip_prefix(b"--").and_then(|line| line.strip_prefix(boundary.as_bytes()));
        let (delimits, closes) = (matches!(rest, Some(b"" | b"--")), matches!(rest, Some(b"--")));
        if delimits && parts.len() < PARTS {
            // The line end before a delimiter belongs to it.
            let before = &body[..at];
            let before = before.strip_suffix(b"\n").unwrap_or(before);
            let before = before.strip_suffix(b"\r").unwrap_or(before).len();
            match part_from {
                Some(from) => parts.push(&body[from..before.max(from)]),
                None => around.extend_from_slice(&body[outside_from..at]),
            }
            part_from = if closes { None } else { Some(end) };
            outside_from = end;
            if closes {
                break;
            }
        }
        at = end;
    }
    match part_from {
        Some(from) => parts.push(&body[from..]),
        None => around.extend_from_slice(&body[outside_from..]),
    }
    (around, parts)
}

/// Whether a part of this type is meant by a type that a script names (RFC 5173 §5.2).
pub(crate) fn is_meant(content_type: &str, wanted: &str) -> bool {
    let wanted = wanted.to_ascii_lowercase();
    match wanted.split_once('/') {
        None if wanted.is_empty() => true,
        None => content_type.split('/').next() == Some(wanted.as_str()),
        Some(_) => content_type == wanted,
    }
}

/// The text that people read in HTML: without tags, scripts and comments, with the commonest references replaced.
pub(crate) fn text_of_html(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(from) = rest.find(['<', '&']) {
        text.push_str(&rest[..from]);
        rest = &rest[from..];
        if rest.starts_with('&') {
            let (letter, length) = reference(rest);
            text.push(letter);
            rest = &rest[length..];
        } else if rest.starts_with("<!--") {
            rest = rest.find("-->").map_or("", |end| &rest[end + 3..]);
        } else {
            let skipped = ["script", "style"]
                .into_iter()
                .find(|name| rest.get(1..=name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)));
            rest = rest.find('>').map_or("", |end| &rest[end + 1..]);
            if let Some(name) = skipped {
                rest = closing(rest, name);
            }
            text.push(' ');
        }
    }
    text.push_str(rest);
    text
}

/// What follows the closing tag of this name.
fn closing<'h>(html: &'h str, name: &str) -> &'h str {
    let mut rest = html;
    while let Some(at) = rest.find("</") {
        rest = &rest[at + 2..];
        if rest.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)) {
            return rest.find('>').map_or("", |end| &rest[end + 1..]);
        }
    }
    ""
}

/// The character of a reference such as `&amp;`, and how long the reference is; `&` itself where it is none.
fn reference(text: &str) -> (char, usize) {
    const NAMES: [(&str, char); 6] =
        [("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"'), ("apos", '\''), ("nbsp", ' ')];
    let Some(end) = text.bytes().take(12).position(|byte| byte == b';') else { return ('&', 1) };
    let Some(name) = text.get(1..end) else { return ('&', 1) };
    let letter = if let Some(number) = name.strip_prefix("#x").or_else(|| name.strip_prefix("#X")) {
        u32::from_str_radix(number, 16).ok().and_then(char::from_u32)
    } else if let Some(number) = name.strip_prefix('#') {
        number.parse().ok().and_then(char::from_u32)
    } else {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, letter)| *letter)
    };
    letter.map_or(('&', 1), |letter| (letter, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str) -> Vec<(String, String)> {
        let (header, offset) = Header::parse(message.as_bytes());
        parts(&header, &message.as_bytes()[offset..])
            .into_iter()
            .map(|part| (part.content_type, part.content))
            .collect()
    }

    fn pair(content_type: &str, content: &str) -> (String, String) {
        (content_type.to_owned(), content.to_owned())
    }

    #[test]
    fn a_simple_body_is_one_text() {
        assert_eq!(of("Subject: a\r\n\r\nhello\r\n"), [pair("text/plain", "hello\r\n")]);
        assert_eq!(of("Content-Type: nonsense\r\n\r\nhello"), [pair("text/plain", "hello")]);
        assert_eq!(
            of(
                "Content-Type: text/html; charset=\"iso-8859-1\"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ncaf=E9"
            ),
            [pair("text/html", "café")]
        );
    }

    #[test]
    fn parts_are_found_with_prologue_and_epilogue() {
        let message = "Content-Type: multipart/mixed; x=1; boundary=\"a b\"\r\n\r\nbefore\r\n--a b\r\n\r\none\r\n--a b\r\n\
            Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ntwo\r\n--a b--\r\nafter\r\n";
        assert_eq!(
            of(message),
            [
                pair("multipart/mixed", "before\r\nafter\r\n"),
                pair("text/plain", "one"),
                pair("message/rfc822", "Subject: inner\r\n\r\n"),
                pair("text/plain", "two"),
            ]
        );
    }

    #[test]
    fn a_bomb_of_parts_is_bounded() {
        let mut message = String::new();
        for depth in 0..200 {
            message += &format!("Content-Type: multipart/mixed; boundary=b{depth}\r\n\r\n--b{depth}\r\n");
        }
        assert!(of(&message).len() <= DEPTH + 1);
        let wide = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", "--b\r\n\r\nx\r\n".repeat(100_000));
        assert!(of(&wide).len() <= PARTS + 1);
    }

    #[test]
    fn html_is_read_as_people_do() {
        let html = "<p>a &amp; b&#33;&#x21;</p><style>x</style><!-- no --><SCRIPT>y</SCRIPT>&unknown; c <b";
        assert_eq!(text_of_html(html).split_whitespace().collect::<Vec<_>>(), ["a", "&", "b!!", "&unknown;", "c"]);
    }
}

//! What a client gets of a message with a header in UTF-8 (RFC 6532) when it has not said UTF8: the same message with a
//! header in ASCII that tells most of it, as RFC 6858 describes ("surrogate"). The stored message stays as it is. Pure;
//! used by [`super::session`] for messages whose sender declared SMTPUTF8, and by [`crate::delivery::listing`], which finds out
//! how long they will be; what others send is passed on as it came.

use base64::Engine as _;

/// Stands for an address that ASCII cannot write (RFC 6858 §2.1); nobody can answer to it by accident.
const NO_ADDRESS: &str = "<invalid@internationalized-address.invalid>";
/// Octets of UTF-8 in one encoded-word: 60 of base64, and at most 75 in all (RFC 2047 §2).
const WORD: usize = 45;

const ADDRESSES: [&str; 13] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Resent-From",
    "Resent-Sender",
    "Resent-Reply-To",
    "Resent-To",
    "Resent-Cc",
    "Resent-Bcc",
    "Mail-Followup-To",
];
const TEXTS: [&str; 3] = ["Subject", "Comments", "Content-Description"];
const PARAMETERS: [&str; 2] = ["Content-Type", "Content-Disposition"];

/// Where a message's header ends, the empty line included; `None` where it goes on.
#[must_use]
pub fn header_end(message: &[u8]) -> Option<usize> {
    if message.starts_with(b"\r\n") {
        return Some(2);
    }
    memchr::memmem::find(message, b"\r\n\r\n").map(|at| at + 4)
}

/// Octets of a header that is rewritten; a message with a longer one is refused with `[UTF8]`.
pub const LONGEST_HEADER: usize = 256 * 1024;

/// By how many octets a message becomes longer with a header in ASCII, the end of its last line counted that RETR adds where
/// there is none. `beginning` are its first octets, or all of them; `None`: the header is in ASCII, or does not end in them.
#[must_use]
pub fn growth(beginning: &[u8], is_whole: bool) -> Option<i64> {
    let end = header_end(beginning).or(is_whole.then_some(beginning.len()))?;
    let header = &beginning[..end];
    let surrogate = surrogate(header)?;
    let is_all = is_whole && end == beginning.len();
    let octets = |text: &[u8]| {
        let needs_end = is_all && !text.is_empty() && !text.ends_with(b"\r\n");
        i64::try_from(text.len() + if needs_end { 2 } else { 0 }).unwrap_or(i64::MAX)
    };
    Some(octets(&surrogate) - octets(header))
}

/// A header in ASCII in place of one in UTF-8; `None` for one that is in ASCII already.
#[must_use]
pub fn surrogate(header: &[u8]) -> Option<Vec<u8>> {
    if header.is_ascii() {
        return None;
    }
    let mut out = Vec::with_capacity(header.len() * 2);
    for field in fields(header) {
        if field.is_ascii() {
            out.extend_from_slice(field);
        } else if let Some(field) = rewritten(field) {
            out.extend_from_slice(field.as_bytes());
        }
    }
    Some(out)
}

/// The fields with their continuation lines; the empty line at the end is one of them.
fn fields(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = header;
    std::iter::from_fn(move || {
        let mut end = 0;
        loop {
            end += memchr::memmem::find(&rest[end..], b"\r\n").map_or(rest.len() - end, |at| at + 2);
            if end == rest.len() || end == 2 || !matches!(rest[end], b' ' | b'\t') {
                break;
            }
        }
        let (field, after) = rest.split_at(end);
        rest = after;
        (!field.is_empty()).then_some(field)
    })
}

/// A field in ASCII. One whose meaning is not known here, such as `Received`, is left out (RFC 6858 §2.4).
fn rewritten(field: &[u8]) -> Option<String> {
    let colon = memchr::memchr(b':', field)?;
    let name = std::str::from_utf8(&field[..colon]).ok().filter(|name| name.is_ascii())?;
    let value = String::from_utf8_lossy(&field[colon + 1..]).replace("\r\n", "");
    let value = value.trim();
    let is_one_of = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    let value = if is_one_of(&ADDRESSES) {
        addresses(value)
    } else if is_one_of(&TEXTS) {
        encoded(value)
    } else if is_one_of(&PARAMETERS) {
        parameters(value)?
    } else {
        return None;
    };
    Some(format!("{name}: {value}\r\n"))
}

/// Text as encoded-words (RFC 2047), one a line.
fn encoded(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for character in text.chars() {
        if word.len() + character.len_utf8() > WORD {
            words.push(std::mem::take(&mut word));
        }
        word.push(character);
    }
    words.push(word);
    let encode = |word: &String| base64::engine::general_purpose::STANDARD.encode(word);
    words.iter().map(|word| format!("=?UTF-8?B?{}?=", encode(word))).collect::<Vec<_>>().join("\r\n ")
}

/// A list of addresses and groups. What divides them stays; each part is rewritten if it has to be.
fn addresses(value: &str) -> String {
    let mut out = String::new();
    for (part, divider) in divided(value, &[',', ':', ';']) {
        let part = part.trim();
        if !out.is_empty() && !part.is_empty() {
            out.push_str(if out.ends_with(',') { "\r\n " } else { " " });
        }
        match part.is_ascii() {
            true => out.push_str(part),
            false if divider == Some(':') => out.push_str(&encoded(&unquoted(part))),
            false => out.push_str(&mailbox(part)),
        }
        out.extend(divider);
    }
    out
}

/// One mailbox. Its display name is kept; an address that cannot be kept is shown in the name's place where there is none.
fn mailbox(part: &str) -> String {
    let (name, address) = match part.rfind('<') {
        Some(open) => (unquoted(part[..open].trim()), part[open + 1..].trim_end_matches('>').trim()),
        None => (String::new(), part),
    };
    if address.is_ascii() {
        return format!("{} <{address}>", encoded(&name));
    }
    let shown = if name.is_empty() { address.to_owned() } else { name };
    if shown.is_ascii() {
        return format!("\"{}\" {NO_ADDRESS}", shown.replace(['"', '\\'], ""));
    }
    format!("{} {NO_ADDRESS}", encoded(&shown))
}

/// A MIME type or disposition with its parameters, those in UTF-8 as RFC 2231 §4 writes them.
fn parameters(value: &str) -> Option<String> {
    let mut parts = divided(value, &[';']).into_iter().map(|(part, _)| part.trim());
    let mut out = parts.next().filter(|first| first.is_ascii())?.to_owned();
    for part in parts.filter(|part| !part.is_empty()) {
        if part.is_ascii() {
            out.push_str("; ");
            out.push_str(part);
        } else if let Some((name, value)) = part.split_once('=').filter(|(name, _)| name.is_ascii()) {
            let name = name.trim().trim_end_matches('*');
            out.push_str(&format!(";\r\n {name}*=UTF-8''{}", percent_encoded(&unquoted(value.trim()))));
        }
    }
    Some(out)
}

fn percent_encoded(text: &str) -> String {
    let plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._~".contains(octet);
    text.bytes()
        .map(|octet| if plain(&octet) { char::from(octet).to_string() } else { format!("%{octet:02X}") })
        .collect()
}

/// The content of a quoted string; other text as it is.
fn unquoted(text: &str) -> String {
    let Some(inside) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else { return text.to_owned() };
    let mut out = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        out.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    out
}

/// The parts between dividers that stand outside of quoted strings, comments and angle brackets, each with the divider after
/// it.
fn divided<'a>(text: &'a str, dividers: &[char]) -> Vec<(&'a str, Option<char>)> {
    let mut parts = Vec::new();
    let (mut from, mut quoted, mut escaped, mut depth) = (0, false, false, 0_usize);
    for (at, character) in text.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match character {
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '<' => depth += 1,
            ')' | '>' => depth = depth.saturating_sub(1),
            _ if depth == 0 && dividers.contains(&character) => {
                parts.push((&text[from..at], Some(character)));
                from = at + character.len_utf8();
            }
            _ => {}
        }
    }
    parts.push((&text[from..], None));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(header: &str) -> String {
        String::from_utf8(surrogate(header.as_bytes()).unwrap()).unwrap()
    }

    fn words(text: &str) -> String {
        let encode = |word: &str| base64::engine::general_purpose::STANDARD.encode(word);
        format!("=?UTF-8?B?{}?=", encode(text))
    }

    #[test]
    fn names_subjects_and_file_names_are_kept_and_addresses_cannot_be_answered() {
        let header = "Received: from x by y for <jürgen@bücher.example>\r\nDate: today\r\n\
             From: \"Jürgen, B.\" <jürgen@bücher.example>\r\n\
             To: tom@server1.com, Änne <anna@server1.com>,\r\n\tänne@bücher.example, Plain <ü@x.example>\r\n\
             Cc: Größe: a@b.example, ö@b.example;\r\n\
             Subject: Grüße\r\nX-Other: ß\r\n\
             Content-Disposition: attachment; size=3; filename=\"größe;1.txt\"\r\n\r\n";
        let expected = [
            "Date: today\r\n".to_owned(),
            format!("From: {} {NO_ADDRESS}\r\n", words("Jürgen, B.")),
            format!(
                "To: tom@server1.com,\r\n {} <anna@server1.com>,\r\n {} {NO_ADDRESS},\r\n \"Plain\" {NO_ADDRESS}\r\n",
                words("Änne"),
                words("änne@bücher.example")
            ),
            format!("Cc: {}: a@b.example,\r\n {} {NO_ADDRESS};\r\n", words("Größe"), words("ö@b.example")),
            format!("Subject: {}\r\n", words("Grüße")),
            "Content-Disposition: attachment; size=3;\r\n filename*=UTF-8''gr%C3%B6%C3%9Fe%3B1.txt\r\n\r\n".to_owned(),
        ];
        assert_eq!(text(header), expected.concat());
        assert_eq!(surrogate(b"Subject: plain\r\n\r\n"), None);
    }

    #[test]
    fn long_texts_are_several_words_of_whole_characters() {
        let subject = "ü".repeat(100);
        let field = text(&format!("Subject: {subject}\r\n\r\n"));
        assert!(field.lines().all(|line| line.len() <= 86), "{field}");
        let decoded: String = field
            .split("=?UTF-8?B?")
            .skip(1)
            .map(|word| base64::engine::general_purpose::STANDARD.decode(word.split("?=").next().unwrap()).unwrap())
            .map(|octets| String::from_utf8(octets).unwrap())
            .collect();
        assert_eq!(decoded, subject);
    }

    #[test]
    fn a_message_grows_by_what_its_header_does() {
        let long = |header: &str, body: &str| {
            let text = format!("{header}{body}");
            let end = if body.is_empty() { text.len() } else { header.len() };
            let surrogate = surrogate(&text.as_bytes()[..end]).unwrap();
            let shown = [&surrogate[..], &text.as_bytes()[end..]].concat();
            let octets = |text: &[u8]| {
                let mut transfer = crate::pop3::text::Transfer::new(crate::pop3::text::Extent::Whole);
                let mut out = Vec::new();
                transfer.push(text, &mut out);
                transfer.finish(&mut out);
                out.len() as i64
            };
            (growth(text.as_bytes(), true), octets(&shown) - octets(text.as_bytes()))
        };
        for (header, body) in [
            ("Subject: Grüße\r\n\r\n", "body\r\n"),
            ("Subject: Grüße\r\n\r\n", "does not end"),
            ("Subject: Grüße\r\nReceived: ü\r\n", ""),
            ("X-Other: Grüße", ""),
            ("Subject: Grüße", ""),
            ("Received: Grüße\r\nX: y", ""),
        ] {
            let (told, shown) = long(header, body);
            assert_eq!(told, Some(shown), "{header:?} {body:?}");
        }
        assert_eq!(growth("Subject: Grüße\r\n".as_bytes(), false), None, "its end is not there");
        assert!(growth("Subject: Grüße\r\n\r\n".as_bytes(), false).is_some());
        assert_eq!(growth(b"Subject: plain\r\n\r\n", true), None);
    }

    #[test]
    fn a_header_ends_at_its_empty_line() {
        assert_eq!(header_end(b"A: 1\r\n\r\nbody"), Some(8));
        assert_eq!(header_end(b"\r\nbody"), Some(2));
        assert_eq!(header_end(b"A: 1\r\n"), None);
    }

    proptest! {
        #[test]
        fn whatever_the_header_its_surrogate_is_lines_of_ascii_and_ends_as_it_did(
            fields in proptest::collection::vec("(From|To|Subject|Content-Type|X): [ -~äöü\"<>(),:;=@\\\\]{0,40}", 1..6),
            octets in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut header: Vec<u8> = fields.join("\r\n").into_bytes();
            header.extend_from_slice(&octets);
            header.extend_from_slice(b"\r\nSubject: \xc3\xbc\r\n\r\n");
            let surrogate = surrogate(&header).unwrap();
            prop_assert!(surrogate.is_ascii() && surrogate.ends_with(b"\r\n\r\n"));
        }
    }
}

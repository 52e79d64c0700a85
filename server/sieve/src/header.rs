//! A message's header section: its fields as they were received, and edits (RFC 5293). Octets that nobody changed stay as
//! they are.

use std::borrow::Cow;

use crate::words;

/// Octets after which a written line is folded (RFC 5322 §2.1.1).
const LINE: usize = 76;

/// One field with its line ends, or a line that is none.
#[derive(Debug, Clone)]
pub(crate) struct Field<'m> {
    /// Octets of `raw` that are the name; 0 where the line is no field.
    name_length: usize,
    raw: Cow<'m, [u8]>,
}

impl Field<'_> {
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.name_length > 0 && self.raw[..self.name_length].eq_ignore_ascii_case(name.as_bytes())
    }

    pub(crate) fn name(&self) -> &[u8] {
        &self.raw[..self.name_length]
    }

    /// The value without line ends and without white space around it, otherwise as received. A folded line begins with a
    /// space, also where it was a tab that began it.
    pub(crate) fn unfolded(&self) -> Vec<u8> {
        let colon = memchr::memchr(b':', &self.raw).map_or(self.raw.len(), |colon| colon + 1);
        let mut value = Vec::with_capacity(self.raw.len() - colon);
        let mut folded = false;
        for byte in &self.raw[colon..] {
            match byte {
                b'\r' | b'\n' => folded = true,
                byte => {
                    value.push(if folded && *byte == b'\t' { b' ' } else { *byte });
                    folded = false;
                }
            }
        }
        value.trim_ascii().to_vec()
    }

    /// The unfolded value as text, without decoding words: what addresses and dates are read from.
    pub(crate) fn text(&self) -> String {
        words::to_text(&self.unfolded())
    }

    /// The value as people read it (RFC 5228 §2.7.2).
    pub(crate) fn decoded(&self) -> String {
        words::decode(&self.unfolded())
    }

    pub(crate) fn octets(&self) -> usize {
        self.raw.len()
    }
}

/// All fields in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Header<'m> {
    fields: Vec<Field<'m>>,
    /// The empty line, if there was one.
    end: &'m [u8],
}

/// Whether `name` may be a field's name (RFC 5322 §2.2).
pub(crate) fn is_field_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
}

/// How long the name at the beginning of a line is; 0 where the line is no field.
fn name_length(line: &[u8]) -> usize {
    let Some(colon) = memchr::memchr(b':', line) else { return 0 };
    // RFC 5322 §4.5: white space before the colon is obsolete, and was allowed.
    let name = line[..colon].trim_ascii_end();
    if name.iter().all(u8::is_ascii_graphic) { name.len() } else { 0 }
}

impl<'m> Header<'m> {
    /// Reads the header section at the beginning; also returns where the body begins.
    pub(crate) fn parse(message: &'m [u8]) -> (Self, usize) {
        let mut header = Self::default();
        let mut at = 0;
        while at < message.len() {
            let length = memchr::memchr(b'\n', &message[at..]).map_or(message.len() - at, |end| end + 1);
            let line = &message[at..at + length];
            if matches!(line, b"\r\n" | b"\n") {
                header.end = line;
                return (header, at + length);
            }
            let mut end = at + length;
            while matches!(message.get(end), Some(b' ' | b'\t')) {
                end += memchr::memchr(b'\n', &message[end..]).map_or(message.len() - end, |end| end + 1);
            }
            let name_length = name_length(line);
            header.fields.push(Field { name_length, raw: Cow::Borrowed(&message[at..end]) });
            at = end;
        }
        (header, message.len())
    }

    pub(crate) fn fields(&self) -> &[Field<'m>] {
        &self.fields
    }

    pub(crate) fn named<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h Field<'m>> {
        self.fields.iter().filter(move |field| field.is_named(name))
    }

    /// The first field with this name.
    pub(crate) fn first(&self, name: &str) -> Option<&Field<'m>> {
        self.fields.iter().find(|field| field.is_named(name))
    }

    /// The header section and the empty line after it.
    pub(crate) fn to_octets(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(self.fields.iter().map(Field::octets).sum::<usize>() + 2);
        for field in &self.fields {
            octets.extend_from_slice(&field.raw);
            if !octets.ends_with(b"\n") {
                octets.extend_from_slice(b"\r\n");
            }
        }
        octets.extend_from_slice(if self.end.is_empty() { b"\r\n" } else { self.end });
        octets
    }

    /// Adds a field at the beginning or at the end (RFC 5293 §4); returns its octets.
    pub(crate) fn add(&mut self, name: &str, value: &str, last: bool) -> usize {
        let raw = field(name, value).into_bytes();
        let octets = raw.len();
        let at = if last { self.fields.len() } else { 0 };
        self.fields.insert(at, Field { name_length: name.len(), raw: Cow::Owned(raw) });
        octets
    }

    /// Removes the fields at these places, which are in ascending order; returns whether there were any.
    pub(crate) fn remove(&mut self, places: &[usize]) -> bool {
        // In one pass: a header has as many fields as whoever writes the message likes.
        let (mut places_left, mut place) = (places.iter().peekable(), 0);
        self.fields.retain(|_| {
            let is_removed = places_left.next_if_eq(&&place).is_some();
            place += 1;
            !is_removed
        });
        !places.is_empty()
    }
}

/// A field as it is sent: words encoded where they must be, long lines folded at white space, ending with CRLF.
pub(crate) fn field(name: &str, value: &str) -> String {
    // A line end in the value must not begin another field.
    let value: String =
        value.chars().map(|letter| if letter.is_control() && letter != '\t' { ' ' } else { letter }).collect();
    let value = words::encode(value.trim());
    let mut text = format!("{name}:");
    let mut column = text.len();
    for word in value.split_inclusive(' ').flat_map(|piece| piece.split_inclusive('\t')) {
        // The space that the line before ended with becomes the one that the folded line begins with.
        let needed = word.trim_end().len() + 1;
        if column + needed > LINE && column > name.len() + 1 && text.ends_with([' ', '\t']) {
            let space = text.pop().unwrap_or(' ');
            text.push_str("\r\n");
            text.push(space);
            column = 1;
        } else if text.len() == name.len() + 1 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    }
    text.push_str("\r\n");
    text
}

//! As much of a MIME header as the converter needs: where it ends, what the content is, how it is encoded.

/// A message or a part of one.
pub(super) struct Entity<'a> {
    /// Whole lines, without the empty one.
    pub(super) header: &'a [u8],
    /// The empty line; nothing where there is none.
    separator: &'a [u8],
    /// What follows.
    pub(super) body: &'a [u8],
}

impl<'a> Entity<'a> {
    /// Divides at the first empty line.
    pub(super) fn split(bytes: &'a [u8]) -> Self {
        let end = if bytes.starts_with(b"\r\n") {
            Some(0)
        } else {
            memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 2)
        };
        match end {
            Some(end) => {
                let (header, rest) = bytes.split_at(end);
                let (separator, body) = rest.split_at(2);
                Self { header, separator, body }
            }
            None => Self { header: bytes, separator: b"", body: b"" },
        }
    }

    pub(super) fn copy_to(&self, out: &mut Vec<u8>) {
        for piece in [self.header, self.separator, self.body] {
            out.extend_from_slice(piece);
        }
    }

    pub(super) fn write_separator(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.separator);
    }
}

/// The fields of a header, each with its continuation lines.
pub(super) struct Header<'a> {
    fields: Vec<&'a [u8]>,
}

/// What a Content-Type field says, in lower case.
pub(super) struct ContentType {
    pub(super) kind: String,
    pub(super) subtype: String,
    /// As it is written.
    pub(super) boundary: Option<String>,
}

impl ContentType {
    pub(super) fn text() -> Self {
        Self { kind: "text".to_owned(), subtype: "plain".to_owned(), boundary: None }
    }

    pub(super) fn message() -> Self {
        Self { kind: "message".to_owned(), subtype: "rfc822".to_owned(), boundary: None }
    }
}

impl<'a> Header<'a> {
    pub(super) fn parse(header: &'a [u8]) -> Self {
        let mut fields: Vec<&[u8]> = Vec::new();
        let mut start = 0;
        let mut position = 0;
        while position < header.len() {
            let end = memchr::memchr(b'\n', &header[position..]).map_or(header.len(), |at| position + at + 1);
            if !matches!(header.get(end), Some(b' ' | b'\t')) {
                fields.push(&header[start..end]);
                start = end;
            }
            position = end;
        }
        Self { fields }
    }

    /// The first field of this name: the value, unfolded.
    fn value(&self, name: &str) -> Option<String> {
        let field = self.fields.iter().find(|field| is_named(field, name))?;
        let value = &field[memchr::memchr(b':', field)? + 1..];
        let text: String =
            value.iter().filter(|octet| !matches!(octet, b'\r' | b'\n')).copied().map(char::from).collect();
        Some(text.trim().to_owned())
    }

    pub(super) fn content_type(&self) -> Option<ContentType> {
        let value = self.value("content-type")?;
        let mut rest = value.as_str();
        let kind = token(&mut rest)?;
        rest = skip_space(rest).strip_prefix('/')?;
        let subtype = token(&mut rest)?;
        let mut boundary = None;
        while let Some(after) = skip_space(rest).strip_prefix(';') {
            rest = after;
            let Some(name) = token(&mut rest) else { continue };
            let Some(after) = skip_space(rest).strip_prefix('=') else { continue };
            rest = after;
            let value = parameter(&mut rest);
            if name.eq_ignore_ascii_case("boundary") && boundary.is_none() {
                boundary = Some(value.trim_end().to_owned()).filter(|value| !value.is_empty());
            }
        }
        Some(ContentType { kind: kind.to_ascii_lowercase(), subtype: subtype.to_ascii_lowercase(), boundary })
    }

    /// In lower case.
    pub(super) fn transfer_encoding(&self) -> Option<String> {
        let value = self.value("content-transfer-encoding")?;
        let mut rest = value.as_str();
        token(&mut rest).map(|encoding| encoding.to_ascii_lowercase())
    }

    /// Writes the fields with another encoding, and where `is_message` with `MIME-Version` if it is missing.
    pub(super) fn write_with_encoding(&self, encoding: &str, is_message: bool, out: &mut Vec<u8>) {
        for field in self.fields.iter().filter(|field| !is_named(field, "content-transfer-encoding")) {
            out.extend_from_slice(field);
            if !field.ends_with(b"\n") {
                out.extend_from_slice(b"\r\n");
            }
        }
        if is_message && !self.fields.iter().any(|field| is_named(field, "mime-version")) {
            out.extend_from_slice(b"MIME-Version: 1.0\r\n");
        }
        out.extend_from_slice(format!("Content-Transfer-Encoding: {encoding}\r\n").as_bytes());
    }
}

fn is_named(field: &[u8], name: &str) -> bool {
    let colon = memchr::memchr(b':', field).unwrap_or(0);
    field[..colon].trim_ascii_end().eq_ignore_ascii_case(name.as_bytes())
}

/// White space and comments (RFC 5322 §3.2.2), comments in comments included.
fn skip_space(text: &str) -> &str {
    let mut depth = 0_usize;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if depth > 0 => escaped = true,
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            _ if depth > 0 || c.is_ascii_whitespace() => {}
            _ => return &text[at..],
        }
    }
    ""
}

/// RFC 2045 §5.1.
fn token(rest: &mut &str) -> Option<String> {
    let text = skip_space(rest);
    let is_special = |c: char| c.is_ascii_whitespace() || c.is_control() || "()<>@,;:\\\"/[]?=".contains(c);
    let end = text.find(is_special).unwrap_or(text.len());
    *rest = &text[end..];
    (end > 0).then(|| text[..end].to_owned())
}

/// A token, more liberally than the rules, or a quoted string.
fn parameter(rest: &mut &str) -> String {
    let text = skip_space(rest);
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c.is_ascii_whitespace() || c == ';').unwrap_or(text.len());
        *rest = &text[end..];
        return text[..end].to_owned();
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                escaped = false;
                value.push(c);
            }
            '\\' => escaped = true,
            '"' => {
                *rest = &quoted[at + 1..];
                return value;
            }
            _ => value.push(c),
        }
    }
    *rest = "";
    value
}

//! Addresses in header fields (RFC 5322 §3.4, with the obsolete forms), in scripts and in envelopes.

/// `local@domain`, the local part without its quoting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mailbox {
    pub(crate) local: String,
    pub(crate) domain: String,
}

impl Mailbox {
    /// An envelope's address; none for the null reverse-path and for what has no `@`.
    pub(crate) fn of_envelope(address: &str) -> Option<Self> {
        let (local, domain) = address.rsplit_once('@')?;
        let quoted = local.strip_prefix('"').and_then(|local| local.strip_suffix('"'));
        let local = quoted.map_or_else(|| local.to_owned(), unescape);
        Some(Self { local, domain: domain.to_owned() })
    }

    pub(crate) fn text(&self) -> String {
        format!("{}@{}", self.local, self.domain)
    }
}

fn unescape(quoted: &str) -> String {
    let mut text = String::with_capacity(quoted.len());
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        text.push(if letter == '\\' { letters.next().unwrap_or('\\') } else { letter });
    }
    text
}

/// One entry of an address list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Valid(Mailbox),
    /// Not an address; as it was written.
    Invalid(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Atom(String),
    Quoted(String),
    Literal(String),
    Sign(char),
}

/// Cuts a value into tokens with the place where each begins; comments and white space are left out.
fn tokens(value: &str) -> Vec<(Token, usize)> {
    let mut tokens = Vec::new();
    let mut letters = value.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            letter if letter.is_ascii_whitespace() => {}
            '(' => {
                let mut depth = 1;
                while depth > 0 {
                    match letters.next() {
                        Some((_, '(')) => depth += 1,
                        Some((_, ')')) => depth -= 1,
                        Some((_, '\\')) => drop(letters.next()),
                        Some(_) => {}
                        None => break,
                    }
                }
            }
            '"' | '[' => {
                let end = if letter == '"' { '"' } else { ']' };
                let mut text = String::new();
                while let Some((_, letter)) = letters.next() {
                    match letter {
                        letter if letter == end => break,
                        '\\' => text.extend(letters.next().map(|(_, escaped)| escaped)),
                        letter => text.push(letter),
                    }
                }
                tokens.push((if end == '"' { Token::Quoted(text) } else { Token::Literal(text) }, at));
            }
            '<' | '>' | '@' | ',' | ';' | ':' | ')' | ']' | '\\' => tokens.push((Token::Sign(letter), at)),
            first => {
                let mut text = String::from(first);
                while let Some((_, letter)) =
                    letters.next_if(|(_, letter)| !letter.is_ascii_whitespace() && !"()<>[]:;@\\,\"".contains(*letter))
                {
                    text.push(letter);
                }
                tokens.push((Token::Atom(text), at));
            }
        }
    }
    tokens
}

/// Words with dots between them, as one text; none where two words touch without a dot.
fn joined(tokens: &[(Token, usize)]) -> Option<String> {
    let mut text = String::new();
    let mut quoted = false;
    for (token, _) in tokens {
        let piece = match token {
            Token::Atom(atom) => atom,
            Token::Quoted(quoted) => quoted,
            Token::Literal(_) | Token::Sign(_) => return None,
        };
        let is_quoted = matches!(token, Token::Quoted(_));
        let begins = text.is_empty() && !quoted;
        let dotted = text.ends_with('.') || !is_quoted && piece.starts_with('.');
        if !begins && !dotted {
            return None;
        }
        text.push_str(piece);
        quoted = is_quoted;
    }
    Some(text)
}

/// `local@domain` of tokens.
fn mailbox(tokens: &[(Token, usize)]) -> Option<Mailbox> {
    let at = tokens.iter().rposition(|(token, _)| *token == Token::Sign('@'))?;
    let local = joined(&tokens[..at])?;
    let domain = match &tokens[at + 1..] {
        [(Token::Literal(literal), _)] => format!("[{literal}]"),
        [(Token::Quoted(_), _), ..] => return None,
        tokens => joined(tokens)?,
    };
    (!local.is_empty() && !domain.is_empty()).then_some(Mailbox { local, domain })
}

/// What stands between commas: with a display name and angle brackets, or bare.
fn entry(value: &str, tokens: &[(Token, usize)], end: usize) -> Option<Entry> {
    let (_, from) = tokens.first()?;
    let open = tokens.iter().position(|(token, _)| *token == Token::Sign('<'));
    let found = match open {
        None => mailbox(tokens),
        Some(open) => {
            let close = tokens.iter().position(|(token, _)| *token == Token::Sign('>')).filter(|close| *close > open);
            let inside = &tokens[open + 1..close.unwrap_or(tokens.len())];
            // A source route ends with a colon (RFC 5322 §4.4).
            let route = inside.iter().rposition(|(token, _)| *token == Token::Sign(':')).map_or(0, |colon| colon + 1);
            close.and_then(|_| mailbox(&inside[route..]))
        }
    };
    Some(found.map_or_else(|| Entry::Invalid(value[*from..end].trim_end().to_owned()), Entry::Valid))
}

/// The entries of an address list; groups are dissolved.
pub(crate) fn list(value: &str) -> Vec<Entry> {
    let tokens = tokens(value);
    let mut entries = Vec::new();
    let mut from = 0;
    let mut in_angle = false;
    for (place, (token, at)) in tokens.iter().enumerate() {
        match token {
            Token::Sign('<') => in_angle = true,
            Token::Sign('>') => in_angle = false,
            Token::Sign(',' | ';') if !in_angle => {
                entries.extend(entry(value, &tokens[from..place], *at));
                from = place + 1;
            }
            Token::Sign(':') if !in_angle => from = place + 1,
            _ => {}
        }
    }
    entries.extend(entry(value, &tokens[from..], value.len()));
    entries
}

fn is_atom(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|letter| {
            !letter.is_ascii() || letter.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(letter)
        })
}

fn is_domain(domain: &str) -> bool {
    if let Some(literal) = domain.strip_prefix('[').and_then(|domain| domain.strip_suffix(']')) {
        return !literal.is_empty()
            && literal.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:-".contains(&byte));
    }
    domain.len() <= 255
        && domain.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .chars()
                    .all(|letter| !letter.is_ascii() || letter.is_ascii_alphanumeric() || "-_".contains(letter))
        })
}

/// The one address of a text such as `anna@server1.com` or `Anna <anna@server1.com>`, as an envelope has it (RFC 5228
/// §2.4.2.3); none where there is none or more than one.
pub(crate) fn single(text: &str) -> Option<String> {
    if text.chars().any(char::is_control) || text.contains(';') || text.contains(',') && !text.contains('"') {
        return None;
    }
    let entries = list(text);
    let [Entry::Valid(Mailbox { local, domain })] = entries.as_slice() else { return None };
    if local.len() > 64 || !is_domain(domain) {
        return None;
    }
    if local.split('.').all(is_atom) {
        return Some(format!("{local}@{domain}"));
    }
    let escaped = local.replace('\\', "\\\\").replace('"', "\\\"");
    Some(format!("\"{escaped}\"@{domain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(value: &str) -> Vec<String> {
        list(value)
            .into_iter()
            .map(|entry| match entry {
                Entry::Valid(mailbox) => mailbox.text(),
                Entry::Invalid(text) => format!("? {text}"),
            })
            .collect()
    }

    #[test]
    fn rfc5322_appendix_a_examples() {
        let cases: [(&str, &[&str]); 12] = [
            ("John Doe <jdoe@machine.example>", &["jdoe@machine.example"]),
            (
                "Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>",
                &["mary@x.test", "jdoe@example.org", "one@y.test"],
            ),
            ("A Group:Ed Jones <joe@where.test>,joe@where.test;", &["joe@where.test", "joe@where.test"]),
            ("Undisclosed recipients:;", &[]),
            ("\"Joe Q. Public\" <john.q.public@example.com>", &["john.q.public@example.com"]),
            ("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", &["pete@silly.test"]),
            (
                "<@node.test,@b.test:mary @ example.net>, , jdoe@test . example",
                &["mary@example.net", "jdoe@test.example"],
            ),
            ("\"a b\"@c.example", &["a b@c.example"]),
            ("a@[192.0.2.1]", &["a@[192.0.2.1]"]),
            ("nobody", &["? nobody"]),
            ("Anna <anna>, b@c.example", &["? Anna <anna>", "b@c.example"]),
            ("", &[]),
        ];
        for (value, expected) in cases {
            assert_eq!(addresses(value), expected, "{value}");
        }
    }

    #[test]
    fn a_single_address_is_what_an_envelope_takes() {
        assert_eq!(single("anna@server1.com").as_deref(), Some("anna@server1.com"));
        assert_eq!(single("Anna <anna@server1.com>").as_deref(), Some("anna@server1.com"));
        assert_eq!(single("\"an na\"@server1.com").as_deref(), Some("\"an na\"@server1.com"));
        for wrong in
            ["", "anna", "@server1.com", "a@b@", "a@b, c@d", "a@b\r\nX: y", "a@-b", "a@b..c", "a b@c", "g: a@b;"]
        {
            assert_eq!(single(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn envelope_addresses_lose_their_quoting() {
        let mailbox = Mailbox::of_envelope("\"a\\\"@b\"@c.example").unwrap();
        assert_eq!((mailbox.local.as_str(), mailbox.domain.as_str()), ("a\"@b", "c.example"));
        assert_eq!(Mailbox::of_envelope(""), None);
    }
}

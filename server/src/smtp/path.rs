//! Reverse-paths and forward-paths (RFC 5321 §4.1.2). Called by [`super::command`].

use paquebot_config::{Address, Domain};

/// Where a message should go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardPath {
    /// A mailbox; a source route before it was read and ignored (RFC 5321 §3.3).
    Mailbox(Address),
    /// `<postmaster>` without a domain, in any case (RFC 5321 §4.1.1.3, §4.5.1).
    Postmaster,
}

/// As SMTP writes it.
impl std::fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mailbox(address) => write!(f, "<{address}>"),
            Self::Postmaster => f.write_str("<postmaster>"),
        }
    }
}

/// Why a path cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// It is not in angle brackets, or something other than parameters follows it.
    Brackets,
    /// What is between the brackets is not an address.
    Mailbox,
}

/// Divides `<path> parameters` into what is between the brackets and what follows them.
///
/// # Errors
/// [`PathError::Brackets`] when there is no complete `<…>` at the beginning.
pub fn split(text: &str) -> Result<(&str, &str), PathError> {
    let inside = text.strip_prefix('<').ok_or(PathError::Brackets)?;
    let end = end_of_path(inside).ok_or(PathError::Brackets)?;
    let rest = &inside[end + 1..];
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(PathError::Brackets);
    }
    Ok((&inside[..end], rest.trim_matches(' ')))
}

/// Where the closing bracket is: a quoted local part may hold brackets itself.
fn end_of_path(inside: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (position, byte) in inside.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(position),
            _ => {}
        }
    }
    None
}

/// Reads what is between the brackets of MAIL FROM; `None` is the null reverse-path.
///
/// # Errors
/// [`PathError::Mailbox`] when it is neither empty nor an address.
pub fn reverse(inside: &str) -> Result<Option<Address>, PathError> {
    if inside.is_empty() { Ok(None) } else { mailbox(inside).map(Some) }
}

/// Reads what is between the brackets of RCPT TO.
///
/// # Errors
/// [`PathError::Mailbox`] when it is neither an address nor `postmaster`.
pub fn forward(inside: &str) -> Result<ForwardPath, PathError> {
    if inside.eq_ignore_ascii_case("postmaster") {
        return Ok(ForwardPath::Postmaster);
    }
    mailbox(inside).map(ForwardPath::Mailbox)
}

fn mailbox(inside: &str) -> Result<Address, PathError> {
    let text = if inside.starts_with('@') { without_route(inside)? } else { inside };
    Address::parse(text).map_err(|_| PathError::Mailbox)
}

/// `@a.example,@b.example:user@c.example` without the route, which has to be one.
fn without_route(text: &str) -> Result<&str, PathError> {
    let (route, mailbox) = text.split_once(':').ok_or(PathError::Mailbox)?;
    let is_hop = |hop: &str| hop.strip_prefix('@').is_some_and(|domain| Domain::parse(domain).is_ok());
    if route.split(',').all(is_hop) { Ok(mailbox) } else { Err(PathError::Mailbox) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, PathError> {
        let (inside, _) = split(text)?;
        Ok(match forward(inside)? {
            ForwardPath::Mailbox(address) => address.to_string(),
            ForwardPath::Postmaster => "postmaster".to_owned(),
        })
    }

    #[test]
    fn forward_paths() {
        for (text, expected) in [
            ("<anna@server1.com>", "anna@server1.com"),
            ("<Anna@Server1.COM>", "Anna@server1.com"),
            ("<postmaster>", "postmaster"),
            ("<PostMaster>", "postmaster"),
            ("<@a.example,@b.example:anna@server1.com>", "anna@server1.com"),
            ("<@a.example:\"a:b\"@server1.com>", "\"a:b\"@server1.com"),
            ("<\"a>b\"@server1.com> X=1", "\"a>b\"@server1.com"),
            ("<\"a\\\">b\"@server1.com>", "\"a\\\">b\"@server1.com"),
            ("<\"a@b c\"@server1.com>", "\"a@b c\"@server1.com"),
            ("<anna@[192.0.2.1]>", "anna@[192.0.2.1]"),
            ("<anna@[IPv6:2001:db8::1]>", "anna@[ipv6:2001:db8::1]"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn bad_paths() {
        for (text, expected) in [
            ("anna@server1.com", PathError::Brackets),
            ("", PathError::Brackets),
            ("<anna@server1.com", PathError::Brackets),
            ("<\"anna@server1.com>", PathError::Brackets),
            ("<anna@server1.com>x", PathError::Brackets),
            ("<anna>", PathError::Mailbox),
            ("<>", PathError::Mailbox),
            ("<@server1.com>", PathError::Mailbox),
            ("<@a.example anna@server1.com>", PathError::Mailbox),
            ("<@a_b:anna@server1.com>", PathError::Mailbox),
            ("<anna@>", PathError::Mailbox),
            ("<an na@server1.com>", PathError::Mailbox),
            ("<anna@server1..com>", PathError::Mailbox),
        ] {
            assert_eq!(read(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn the_null_reverse_path() {
        assert_eq!(reverse(""), Ok(None));
        assert_eq!(split("<> SIZE=1"), Ok(("", "SIZE=1")));
    }
}

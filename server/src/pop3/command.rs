//! Lines to commands (RFC 1939 §9, RFC 2449 §5, RFC 2595 §4, RFC 5034 §4, RFC 6856 §2 and §3). Pure; used by
//! [`super::machine`].

use super::phrase::Phrase;
use crate::credentials::Password;

/// A command as the client sent it. It has no `Debug`: it may hold a password.
pub enum Command {
    /// `CAPA`
    Capa,
    /// `USER name`
    User(String),
    /// `PASS string`, spaces included (RFC 1939 §7).
    Pass(Password),
    /// `AUTH mechanism [initial-response]`
    Auth {
        /// In upper case.
        mechanism: String,
        /// Base64, or `=` for an empty one.
        initial: Option<Vec<u8>>,
    },
    /// `STLS`
    Stls,
    /// `UTF8`
    Utf8,
    /// `LANG [range]`
    Lang(Option<String>),
    /// `STAT`
    Stat,
    /// `LIST [msg]`
    List(Option<usize>),
    /// `UIDL [msg]`
    Uidl(Option<usize>),
    /// `RETR msg`
    Retr(usize),
    /// `TOP msg n`
    Top(usize, u64),
    /// `DELE msg`
    Dele(usize),
    /// `RSET`
    Rset,
    /// `NOOP`
    Noop,
    /// `QUIT`
    Quit,
}

impl Command {
    /// Reads a line without its CRLF.
    ///
    /// # Errors
    /// Why it is not a command.
    pub fn parse(line: &[u8]) -> Result<Self, Phrase> {
        let (keyword, argument) = match memchr::memchr(b' ', line) {
            Some(space) => (&line[..space], Some(&line[space + 1..])),
            None => (line, None),
        };
        let keyword = keyword.to_ascii_uppercase();
        // A password may hold any octet but NUL and those that end the line.
        let acceptable = |octet: &u8| !octet.is_ascii_control() || keyword == b"PASS" && *octet == b'\t';
        if !line.iter().all(acceptable) {
            return Err(Phrase::OneLine);
        }
        let alone = |command: Self| match argument {
            None | Some(b"") => Ok(command),
            Some(_) => Err(Phrase::NoArgument),
        };
        match keyword.as_slice() {
            b"CAPA" => alone(Self::Capa),
            b"STLS" => alone(Self::Stls),
            b"UTF8" => alone(Self::Utf8),
            b"LANG" => lang(argument),
            b"STAT" => alone(Self::Stat),
            b"RSET" => alone(Self::Rset),
            b"NOOP" => alone(Self::Noop),
            b"QUIT" => alone(Self::Quit),
            b"USER" => user(argument),
            b"PASS" => match argument {
                Some(password) if !password.is_empty() => Ok(Self::Pass(Password::new(password.to_vec()))),
                _ => Err(Phrase::PasswordWanted),
            },
            b"AUTH" => auth(argument),
            b"LIST" => optional_number(argument).map(Self::List),
            b"UIDL" => optional_number(argument).map(Self::Uidl),
            b"RETR" => number(argument).map(Self::Retr),
            b"DELE" => number(argument).map(Self::Dele),
            b"TOP" => top(argument),
            _ => Err(Phrase::UnknownCommand),
        }
    }
}

fn user(argument: Option<&[u8]>) -> Result<Command, Phrase> {
    let name = argument.and_then(|name| std::str::from_utf8(name).ok()).map(str::trim).filter(|name| !name.is_empty());
    name.map(|name| Command::User(name.to_owned())).ok_or(Phrase::LoginWanted)
}

fn auth(argument: Option<&[u8]>) -> Result<Command, Phrase> {
    let mut words = argument.unwrap_or_default().splitn(2, |octet| *octet == b' ');
    let mechanism = words.next().unwrap_or_default().to_ascii_uppercase();
    match String::from_utf8(mechanism) {
        Ok(mechanism) if !mechanism.is_empty() => {
            Ok(Command::Auth { mechanism, initial: words.next().map(<[u8]>::to_vec) })
        }
        _ => Err(Phrase::MechanismWanted),
    }
}

fn lang(argument: Option<&[u8]>) -> Result<Command, Phrase> {
    let range = argument.filter(|range| !range.is_empty());
    let range = range.map(|range| std::str::from_utf8(range).map(str::to_owned)).transpose();
    range.map(Command::Lang).map_err(|_| Phrase::UnknownLanguage)
}

fn optional_number(argument: Option<&[u8]>) -> Result<Option<usize>, Phrase> {
    match argument {
        None | Some(b"") => Ok(None),
        Some(_) => number(argument).map(Some),
    }
}

fn number(argument: Option<&[u8]>) -> Result<usize, Phrase> {
    let message = decimal(argument.unwrap_or_default()).ok_or(Phrase::NumberWanted)?;
    usize::try_from(message).map_err(|_| Phrase::NumberWanted)
}

fn top(argument: Option<&[u8]>) -> Result<Command, Phrase> {
    let wanted = Phrase::TopWanted;
    let argument = argument.unwrap_or_default();
    let space = memchr::memchr(b' ', argument).ok_or(wanted)?;
    let message = number(Some(&argument[..space])).map_err(|_| wanted)?;
    let lines = decimal(argument[space + 1..].trim_ascii()).ok_or(wanted)?;
    Ok(Command::Top(message, lines))
}

/// Digits only: no sign, no leading `+`. Numbers beyond 64 bits are as good as the largest.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(std::str::from_utf8(text).ok()?.parse().unwrap_or(u64::MAX))
}

//! Command lines (RFC 5321 §4.1) into values. Called by [`super::machine`] with a line that had its CRLF taken off. What the
//! parameters of MAIL and RCPT say is read in [`parameters`].

pub mod parameters;
pub mod xtext;

use jiff::Timestamp;
use paquebot_config::Address;

use super::path::{self, ForwardPath};
use super::reply::Reply;
use crate::store::envelope::{BodyType, ByMode, Notify, OriginalRecipient, Ret};

/// A command that is well formed in itself; whether it may come now is the machine's affair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// HELO with the client's name.
    Helo(String),
    /// EHLO with the client's name.
    Ehlo(String),
    /// MAIL FROM.
    Mail(Mail),
    /// RCPT TO.
    Rcpt(Recipient),
    /// DATA.
    Data,
    /// BDAT (RFC 3030): a chunk of content follows the line.
    Bdat {
        /// Octets of the chunk.
        octets: u64,
        /// Whether it is the last one.
        last: bool,
    },
    /// RSET.
    Rset,
    /// NOOP; its argument says nothing.
    Noop,
    /// QUIT.
    Quit,
    /// VRFY with something to verify.
    Vrfy,
    /// EXPN.
    Expn,
    /// HELP.
    Help,
    /// STARTTLS (RFC 3207).
    StartTls,
    /// AUTH (RFC 4954).
    Auth {
        /// The name of the mechanism, upper case.
        mechanism: String,
        /// The initial response, base64 as it came.
        initial: Option<String>,
    },
}

/// MAIL FROM with its parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mail {
    /// The reverse-path; `None` is the null one.
    pub reverse_path: Option<Address>,
    /// `SIZE=` (RFC 1870): octets that will come. Saturates.
    pub size: Option<u64>,
    /// `BODY=` (RFC 6152, RFC 3030).
    pub body: BodyType,
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
    /// `REQUIRETLS` (RFC 8689).
    pub require_tls: bool,
    /// `MT-PRIORITY=` (RFC 6710).
    pub priority: Option<i8>,
    /// `RET=` (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// `ENVID=` (RFC 3461 §4.4), decoded.
    pub envelope_id: Option<String>,
    /// `HOLDFOR=` or `HOLDUNTIL=` (RFC 4865).
    pub hold: Option<Hold>,
    /// `BY=` (RFC 2852).
    pub by: Option<By>,
}

/// How long a message is to be held (RFC 4865 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// So many seconds.
    For(u32),
    /// Until then.
    Until(Timestamp),
}

/// `BY=seconds;mode` (RFC 2852 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct By {
    /// Seconds from now; those that have passed are negative.
    pub seconds: i64,
    /// What happens then.
    pub mode: ByMode,
    /// `T`: reports of relaying are wanted.
    pub trace: bool,
}

/// RCPT TO with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The forward-path.
    pub path: ForwardPath,
    /// `NOTIFY=` (RFC 3461 §4.1).
    pub notify: Notify,
    /// `ORCPT=` (RFC 3461 §4.2).
    pub original: Option<OriginalRecipient>,
}

/// Why a line is not a command. Each has its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandError {
    /// Octets that no command has: bare CR or LF, NUL, or not UTF-8.
    Octets,
    /// The verb is not known.
    Unknown,
    /// The arguments are wrong; this is how they should look.
    Arguments(&'static str),
    /// The reverse-path is not an address.
    ReversePath,
    /// The forward-path is not an address.
    ForwardPath,
    /// A parameter is not known here, or its value is not.
    Parameter,
    /// BDAT with a size that cannot be read: where its chunk ends nobody knows.
    ChunkSize,
    /// An address has characters that need SMTPUTF8, which MAIL did not say.
    NotAscii,
}

impl CommandError {
    /// What the client is told.
    #[must_use]
    pub fn reply(self) -> Reply {
        match self {
            Self::Octets => Reply::new(500, 5, 2, "a command is one line of text that ends with CR LF"),
            Self::Unknown => Reply::new(500, 5, 1, "command not recognized"),
            Self::Arguments(usage) => Reply::new(501, 5, 4, format!("syntax: {usage}")),
            Self::ReversePath => Reply::new(501, 1, 7, "that sender is not a valid address"),
            Self::ForwardPath => Reply::new(501, 1, 3, "that recipient is not a valid address"),
            Self::Parameter => Reply::new(555, 5, 4, "parameter or its value not recognized or not implemented"),
            Self::ChunkSize => Reply::new(501, 5, 4, format!("syntax: {BDAT_USAGE}")),
            Self::NotAscii => Reply::new(553, 6, 7, "an address with non-ASCII characters needs SMTPUTF8"),
        }
    }
}

const MAIL_USAGE: &str = "MAIL FROM:<address> [parameters]";
const RCPT_USAGE: &str = "RCPT TO:<address> [parameters]";
const BDAT_USAGE: &str = "BDAT octets [LAST]";

/// The extensions with parameters that a session offers; what belongs to another one is not recognized.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offers {
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// AUTH (RFC 4954).
    pub auth: bool,
    /// REQUIRETLS (RFC 8689 §3: under TLS only).
    pub require_tls: bool,
    /// FUTURERELEASE (RFC 4865).
    pub future_release: bool,
}

/// Reads one line.
///
/// # Errors
/// [`CommandError`], whose reply the client should get.
pub fn parse(line: &[u8], offers: Offers) -> Result<Command, CommandError> {
    if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err(CommandError::Octets);
    }
    let line = std::str::from_utf8(line).map_err(|_| CommandError::Octets)?.trim_end_matches(' ');
    let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
    let bare = |command: Command, usage| {
        if argument.is_empty() { Ok(command) } else { Err(CommandError::Arguments(usage)) }
    };
    match verb.to_ascii_uppercase().as_str() {
        "HELO" => client_name(argument).map(Command::Helo).ok_or(CommandError::Arguments("HELO hostname")),
        "EHLO" => client_name(argument).map(Command::Ehlo).ok_or(CommandError::Arguments("EHLO hostname")),
        "MAIL" => mail(argument, offers).map(Command::Mail),
        "RCPT" => recipient(argument, offers).map(Command::Rcpt),
        "BDAT" => chunk(argument).ok_or(CommandError::ChunkSize),
        "DATA" => bare(Command::Data, "DATA"),
        "RSET" => bare(Command::Rset, "RSET"),
        "QUIT" => bare(Command::Quit, "QUIT"),
        "NOOP" => Ok(Command::Noop),
        "HELP" => Ok(Command::Help),
        "VRFY" if argument.is_empty() => Err(CommandError::Arguments("VRFY address")),
        "VRFY" => Ok(Command::Vrfy),
        "EXPN" => Ok(Command::Expn),
        "STARTTLS" => bare(Command::StartTls, "STARTTLS"),
        "AUTH" => auth(argument),
        _ => Err(CommandError::Unknown),
    }
}

/// What the client calls itself. Clients behind address translation, with underscores and with literals all have to get
/// in; what could break a `Received` field does not.
fn client_name(argument: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
    let valid = !argument.is_empty() && argument.len() <= 255 && argument.bytes().all(allowed);
    valid.then(|| argument.to_owned())
}

/// What follows `FROM:` or `TO:`. One or more spaces before the bracket are not in the grammar, but in many clients.
fn after_keyword<'a>(argument: &'a str, keyword: &str) -> Option<&'a str> {
    let (found, rest) = argument.trim_start_matches(' ').split_once(':')?;
    found.trim_end_matches(' ').eq_ignore_ascii_case(keyword).then(|| rest.trim_start_matches(' '))
}

fn mail(argument: &str, offers: Offers) -> Result<Mail, CommandError> {
    let text = after_keyword(argument, "FROM").ok_or(CommandError::Arguments(MAIL_USAGE))?;
    let (inside, parameters) = path::split(text).map_err(|_| CommandError::Arguments(MAIL_USAGE))?;
    let reverse_path = path::reverse(inside).map_err(|_| CommandError::ReversePath)?;
    let mut mail = Mail { reverse_path, ..Mail::default() };
    each_parameter(parameters, MAIL_USAGE, |keyword, value| parameters::mail(&mut mail, keyword, value, offers))?;
    let is_ascii = mail.reverse_path.as_ref().is_none_or(Address::is_ascii);
    if is_ascii || mail.smtputf8 { Ok(mail) } else { Err(CommandError::NotAscii) }
}

fn recipient(argument: &str, offers: Offers) -> Result<Recipient, CommandError> {
    let text = after_keyword(argument, "TO").ok_or(CommandError::Arguments(RCPT_USAGE))?;
    let (inside, parameters) = path::split(text).map_err(|_| CommandError::Arguments(RCPT_USAGE))?;
    let path = path::forward(inside).map_err(|_| CommandError::ForwardPath)?;
    let mut recipient = Recipient { path, notify: Notify::default(), original: None };
    each_parameter(parameters, RCPT_USAGE, |keyword, value| {
        parameters::recipient(&mut recipient, keyword, value, offers)
    })?;
    Ok(recipient)
}

/// `BDAT SP chunk-size [SP end-marker]` (RFC 3030 §2).
fn chunk(argument: &str) -> Option<Command> {
    let mut words = argument.split(' ').filter(|word| !word.is_empty());
    let size = words.next().filter(|size| size.len() <= 20 && size.bytes().all(|byte| byte.is_ascii_digit()))?;
    let octets = size.parse().ok()?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return None,
    };
    words.next().is_none().then_some(Command::Bdat { octets, last })
}

/// Gives each parameter to `take`, none of them twice.
fn each_parameter(
    parameters: &str,
    usage: &'static str,
    mut take: impl FnMut(&str, Option<&str>) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let mut seen = Vec::new();
    for parameter in parameters.split(' ').filter(|parameter| !parameter.is_empty()) {
        let (keyword, value) = keyword_and_value(parameter).ok_or(CommandError::Arguments(usage))?;
        if seen.contains(&keyword) {
            return Err(CommandError::Arguments(usage));
        }
        take(&keyword, value)?;
        seen.push(keyword);
    }
    Ok(())
}

/// `esmtp-keyword ["=" esmtp-value]` (RFC 5321 §4.1.2); the keyword in upper case.
fn keyword_and_value(parameter: &str) -> Option<(String, Option<&str>)> {
    let (keyword, value) = match parameter.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (parameter, None),
    };
    let first = keyword.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let all = keyword.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let valid_value = value.is_none_or(|value| !value.is_empty() && !value.contains('='));
    (first && all && valid_value).then(|| (keyword.to_ascii_uppercase(), value))
}

fn auth(argument: &str) -> Result<Command, CommandError> {
    let mut words = argument.split(' ').filter(|word| !word.is_empty());
    let mechanism = words.next().ok_or(CommandError::Arguments("AUTH mechanism [initial-response]"))?;
    let initial = words.next().map(str::to_owned);
    if words.next().is_some() {
        return Err(CommandError::Arguments("AUTH mechanism [initial-response]"));
    }
    Ok(Command::Auth { mechanism: mechanism.to_ascii_uppercase(), initial })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(line: &str) -> String {
        match parse(line.as_bytes(), Offers::default()) {
            Ok(_) => "ok".to_owned(),
            Err(error) => {
                let reply = error.reply();
                format!("{} {}", reply.code(), reply.enhanced().unwrap())
            }
        }
    }

    #[test]
    fn well_formed_and_malformed_lines() {
        for (line, expected) in [
            ("EHLO client.example", "ok"),
            ("ehlo [192.0.2.1]", "ok"),
            ("HELO my_laptop", "ok"),
            ("EHLO", "501 5.5.4"),
            ("EHLO a b", "501 5.5.4"),
            ("HELO (evil)", "501 5.5.4"),
            ("MAIL FROM:<>", "ok"),
            ("mail from:<a@b.example>", "ok"),
            ("MAIL FROM: <a@b.example> SIZE=10 BODY=8BITMIME", "ok"),
            ("MAIL FROM:<a@b.example> AUTH=<>", "555 5.5.4"),
            ("MAIL FROM:<a@b.example> SIZE=99999999999999999999", "ok"),
            ("MAIL", "501 5.5.4"),
            ("MAIL FROM:", "501 5.5.4"),
            ("MAIL TO:<a@b.example>", "501 5.5.4"),
            ("MAIL FROM:a@b.example", "501 5.5.4"),
            ("MAIL FROM:<a@b.example>SIZE=1", "501 5.5.4"),
            ("MAIL FROM:<a@b.example> SIZE=", "501 5.5.4"),
            ("MAIL FROM:<a@b.example> SIZE=-1", "501 5.5.4"),
            ("MAIL FROM:<a@b.example> SIZE=1 SIZE=1", "501 5.5.4"),
            ("MAIL FROM:<a@b.example> SIZE", "501 5.5.4"),
            ("MAIL FROM:<a@b.example> =1", "501 5.5.4"),
            ("MAIL FROM:<a@b.example> BODY=BINARYMIME", "ok"),
            ("MAIL FROM:<a@b.example> BODY=9BIT", "555 5.5.4"),
            ("MAIL FROM:<a@b.example> SMTPUTF8", "555 5.5.4"),
            ("MAIL FROM:<a@b.example> RET=FULL", "ok"),
            ("MAIL FROM:<a@b.example> REQUIRETLS", "555 5.5.4"),
            ("MAIL FROM:<a@b.example> HOLDFOR=5", "555 5.5.4"),
            ("MAIL FROM:<a b@b.example>", "501 5.1.7"),
            ("MAIL FROM:<ü@b.example>", "553 5.6.7"),
            ("RCPT TO:<a@b.example>", "ok"),
            ("RCPT TO:<Postmaster>", "ok"),
            ("RCPT TO:<@r.example:a@b.example>", "ok"),
            ("RCPT TO:<>", "501 5.1.3"),
            ("RCPT TO:<a@b.example> NOTIFY=NEVER", "ok"),
            ("RCPT TO:<a@b.example> NOTIFY=NEVER NOTIFY=NEVER", "501 5.5.4"),
            ("RCPT TO:<a@b.example> SIZE=1", "555 5.5.4"),
            ("RCPT TO:a@b.example", "501 5.5.4"),
            ("RCPT", "501 5.5.4"),
            ("BDAT 0 LAST", "ok"),
            ("bdat 18446744073709551615", "ok"),
            ("BDAT", "501 5.5.4"),
            ("BDAT -1", "501 5.5.4"),
            ("BDAT +1", "501 5.5.4"),
            ("BDAT 1 2", "501 5.5.4"),
            ("BDAT 1 LAST 2", "501 5.5.4"),
            ("BDAT 99999999999999999999", "501 5.5.4"),
            ("DATA", "ok"),
            ("DATA  ", "ok"),
            ("DATA now", "501 5.5.4"),
            ("NOOP anything", "ok"),
            ("QUIT now", "501 5.5.4"),
            ("VRFY", "501 5.5.4"),
            ("VRFY anna", "ok"),
            ("STARTTLS x", "501 5.5.4"),
            ("AUTH", "501 5.5.4"),
            ("AUTH PLAIN a b", "501 5.5.4"),
            ("GET / HTTP/1.1", "500 5.5.1"),
            ("", "500 5.5.1"),
            ("NOOP\nNOOP", "500 5.5.2"),
            ("NOOP\rNOOP", "500 5.5.2"),
            ("NOOP\0", "500 5.5.2"),
        ] {
            assert_eq!(code(line), expected, "{line:?}");
        }
    }

    #[test]
    fn parameters_of_extensions_that_are_offered() {
        let offers = Offers { smtputf8: true, auth: true, ..Offers::default() };
        let line = "MAIL FROM:<ü@b.example> SMTPUTF8".as_bytes();
        assert!(matches!(parse(line, offers), Ok(Command::Mail(Mail { smtputf8: true, .. }))));
        assert_eq!(parse(line, Offers::default()), Err(CommandError::Parameter));
        assert_eq!(parse("MAIL FROM:<ü@b.example>".as_bytes(), offers), Err(CommandError::NotAscii));
        let line = b"MAIL FROM:<a@b.example> AUTH=<>";
        assert!(matches!(parse(line, offers), Ok(Command::Mail(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_command_or_an_error(line in proptest::collection::vec(any::<u8>(), 0..600), every: bool) {
            let _ = parse(&line, Offers { smtputf8: every, auth: every, require_tls: every, future_release: every });
        }

        #[test]
        fn nearly_commands_never_panic(verb in "(?i)(MAIL FROM:|RCPT TO:|EHLO |AUTH |BDAT )", rest in "[ <>@:,\"\\\\a-z.=ü\\[\\]0-9+-]{0,80}") {
            let _ = parse(format!("{verb}{rest}").as_bytes(), Offers { smtputf8: true, auth: true, ..Offers::default() });
        }
    }
}

//! SMTP smuggling: whatever looks like the end of the data, but is not CRLF.CRLF, ends nothing (RFC 5321 §2.3.8, §4.1.1.4).
//! A server may take the whole as one message or refuse it; what it may never do is to take what follows as commands.

use anyhow::{Result, bail, ensure};

use super::super::Requirement;
use super::super::target::Target;
use super::Session;
use super::Start::Data;

const SECTION: &str = "RFC 5321 §4.1.1.4";

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::octets(SECTION, "LF.LF does not end the data", one_message, b"\n.\n"),
    Requirement::octets(SECTION, "LF.CRLF does not end the data", one_message, b"\n.\r\n"),
    Requirement::octets(SECTION, "CRLF.LF does not end the data", one_message, b"\r\n.\n"),
    Requirement::octets(SECTION, "CR.CR does not end the data", one_message, b"\r.\r"),
    Requirement::octets(SECTION, "CR.CRLF does not end the data", one_message, b"\r.\r\n"),
    Requirement::octets(SECTION, "CRLF.CR does not end the data", one_message, b"\r\n.\r"),
    Requirement::octets(SECTION, "CR.LF does not end the data", one_message, b"\r.\n"),
    Requirement::octets(SECTION, "LF.CR does not end the data", one_message, b"\n.\r"),
    Requirement::octets(SECTION, "CRLF.CRCRLF does not end the data", one_message, b"\r\n.\r\r\n"),
    Requirement::octets(SECTION, "CRCRLF.CRCRLF does not end the data", one_message, b"\r\r\n.\r\r\n"),
    Requirement::octets(SECTION, "LFLF.CRLF does not end the data", one_message, b"\n\n.\r\n"),
    Requirement::octets(SECTION, "CRLF NUL.CRLF does not end the data", one_message, b"\r\n\0.\r\n"),
    Requirement::octets(SECTION, "CRLF. NUL CRLF does not end the data", one_message, b"\r\n.\0\r\n"),
    Requirement::octets(SECTION, "CRLF..CRLF does not end the data", one_message, b"\r\n..\r\n"),
    Requirement::octets(SECTION, "CRLF. CRLF with a space does not end the data", one_message, b"\r\n. \r\n"),
    Requirement::octets(SECTION, "a vertical tab or form feed is no line end", one_message, b"\x0b.\x0b\x0c.\x0c"),
    Requirement::octets(
        SECTION,
        "U+0085 and U+2028 are no line ends",
        one_message,
        b"\xc2\x85.\xc2\x85\xe2\x80\xa8.\xe2\x80\xa8",
    ),
    Requirement::octets(
        SECTION,
        "a dot after the header's bare LF does not end the data",
        one_message,
        b"\n\n.\n\r\n.\n",
    ),
    Requirement::function(SECTION, "the end may come an octet at a time", the_end_in_octets),
    Requirement::function(SECTION, "what follows the end at once is the next command", the_next_command),
];

/// All of this is one message or none: exactly one reply comes before that to QUIT.
fn one_message(target: &Target, variant: &[u8]) -> Result<()> {
    let mut session = Session::at(target, Data)?;
    let smuggled = target
        .fill("MAIL FROM:<{sender}>\r\nRCPT TO:<{served}>\r\nDATA\r\nSubject: smuggled\r\n\r\nsecond\r\n.\r\nQUIT\r\n");
    let whole = [b"Subject: first\r\n\r\nfirst", variant, smuggled.as_bytes()].concat();
    if session.connection.send(&whole).is_err() {
        return Ok(());
    }
    let Some(first) = session.reply_or_end()? else { return Ok(()) };
    ensure!(first.is("250|4|5"), "the data is answered {first}");
    match session.reply_or_end() {
        // Refused, and the connection with it; what it had not read may have been lost with a reset.
        Ok(None) if first.code >= 400 => Ok(()),
        Err(_) if first.code >= 400 => Ok(()),
        Ok(Some(second)) if second.is("221|421") => session.connection.expect_end(),
        Ok(second) => bail!("what follows was taken as commands: {second:?} after {first}"),
        Err(error) => Err(error),
    }
}

fn the_end_in_octets(target: &Target) -> Result<()> {
    let mut session = Session::at(target, Data)?;
    session.connection.send(b"Subject: slow end\r\n\r\ntext")?;
    for octet in b"\r\n.\r\n" {
        session.connection.send(&[*octet])?;
    }
    session.reply()?.expect("250")?;
    session.say("QUIT")?.expect("221")?;
    session.connection.expect_end()
}

fn the_next_command(target: &Target) -> Result<()> {
    let mut session = Session::at(target, Data)?;
    session.raw(b"Subject: end\r\n\r\ntext\r\n.\r\nNOOP\r\nQUIT\r\n")?.expect("250")?;
    session.reply()?.expect("250")?;
    session.reply()?.expect("221")?;
    session.connection.expect_end()
}

//! RFC 6531: SMTPUTF8.

use anyhow::{Result, ensure};

use super::super::Need::{Keyword, KeywordAndMaildrop};
use super::super::Requirement;
use super::super::target::Target;
use super::Start::{Mail, Ready};
use super::{Session, delivered, marker};

const UTF8: super::super::Need = Keyword("SMTPUTF8");

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::function("RFC 6531 §3.1", "a server with SMTPUTF8 offers 8BITMIME", with_8bitmime).needs(UTF8),
    Requirement::dialogue(
        "RFC 6531 §3.4",
        "MAIL takes SMTPUTF8, which has no value",
        Ready,
        &[
            ("MAIL FROM:<{sender}> SMTPUTF8=1", "501|555"),
            ("MAIL FROM:<{sender}> SMTPUTF8", "250"),
            ("RSET", "250"),
            ("MAIL FROM:<{sender}> BODY=8BITMIME SMTPUTF8", "250"),
        ],
    )
    .needs(UTF8),
    Requirement::dialogue(
        "RFC 6531 §3.5",
        "a recipient in UTF-8 without SMTPUTF8 is refused with 550 or 553",
        Mail,
        &[("RCPT TO:<jürgen@{served-domain}>", "55|501"), ("RCPT TO:<{served}>", "250")],
    )
    .needs(UTF8),
    Requirement::dialogue(
        "RFC 6531 §3.5",
        "with SMTPUTF8 a recipient in UTF-8 is one that is here or not",
        Ready,
        &[("MAIL FROM:<{sender}> SMTPUTF8", "250"), ("RCPT TO:<jürgen@{served-domain}>", "250|550")],
    )
    .needs(UTF8),
    Requirement::function("RFC 6531 §3.3", "an address that is not UTF-8 is refused, and the session lives", not_utf8)
        .needs(UTF8),
    Requirement::function(
        "RFC 6531 §3.6",
        "a header in UTF-8 is delivered as it came, with UTF8SMTP in the Received field",
        a_header_in_utf8,
    )
    .needs(KeywordAndMaildrop("SMTPUTF8")),
];

fn with_8bitmime(target: &Target) -> Result<()> {
    let session = Session::ready(target)?;
    ensure!(session.parameter("8BITMIME").is_some(), "8BITMIME is not offered");
    Ok(())
}

fn not_utf8(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    session.say(&target.fill("MAIL FROM:<{sender}> SMTPUTF8"))?.expect("250")?;
    let line = [b"RCPT TO:<".as_slice(), b"\xff\xfe\xc0@", target.fill("{served-domain}>\r\n").as_bytes()].concat();
    session.raw(&line)?.expect("5")?;
    session.say("NOOP")?.expect("250")?;
    Ok(())
}

fn a_header_in_utf8(target: &Target) -> Result<()> {
    let marker = marker();
    let text = format!(
        "Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <{marker}@sender.example>\r\nSubject: Grüße ✉\r\nFrom: Jürgen <jürgen@example.org>\r\n\r\nText\r\n.\r\n"
    );
    Session::ready(target)?.message(target, " BODY=8BITMIME SMTPUTF8", text.as_bytes())?.expect("250")?;
    let message = delivered(target, &marker)?;
    let sent = text.trim_end_matches(".\r\n").as_bytes();
    ensure!(message.ends_with(sent), "the header changed");
    let header = String::from_utf8_lossy(&message).into_owned();
    ensure!(header.contains("with UTF8SMTP"), "no Received field says UTF8SMTP (RFC 6531 §4.3)");
    Ok(())
}

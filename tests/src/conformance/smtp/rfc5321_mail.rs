//! RFC 5321 §4.4, §4.5.2 and §6: the message itself, from DATA to the maildrop. Most of it is seen in the maildrop only.

use anyhow::{Context as _, Result, ensure};

use super::super::Need::Maildrop;
use super::super::Requirement;
use super::super::client::show;
use super::super::target::Target;
use super::Start::Data;
use super::{Session, carries, delivered, found, marker};

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::octets(
        "RFC 5321 §4.5.2",
        "a leading dot that was doubled is delivered once",
        the_text_arrives,
        b"..one\r\n...two\r\n..\r\n x.three\r\n",
    )
    .needs(Maildrop),
    Requirement::octets(
        "RFC 5321 §4.5.2",
        "a dot that does not begin a line is text",
        the_text_arrives,
        b"a.\r\n .\r\nb.c\r\n",
    )
    .needs(Maildrop),
    Requirement::octets(
        "RFC 5321 §4.5.2",
        "a single leading dot that nobody doubled is removed",
        a_single_leading_dot,
        b".x\r\n",
    )
    .needs(Maildrop),
    Requirement::octets(
        "RFC 5321 §2.3.1",
        "text is delivered unchanged: spaces at line ends, tabs, empty lines, a line of 998 octets",
        the_text_arrives,
        b"trailing  \r\n\t\r\n\r\n\r\nFrom here\r\n>From there\r\nlast\r\n",
    )
    .needs(Maildrop),
    Requirement::function("RFC 5321 §4.1.1.4", "a message without any text is one message", an_empty_message),
    Requirement::function(
        "RFC 5321 §4.1.1.4",
        "a message that the connection's end cuts is not delivered",
        a_message_that_is_cut,
    )
    .needs(Maildrop),
    Requirement::function(
        "RFC 5321 §4.4",
        "the delivered message begins with Return-Path and Received: from, by, with, and a date",
        trace_fields,
    )
    .needs(Maildrop),
    Requirement::function(
        "RFC 5321 §3.3",
        "of two recipients, one refused, the accepted one receives the message once",
        one_refused_recipient,
    )
    .needs(Maildrop),
    Requirement::function(
        "RFC 5321 §4.1.1.3",
        "a recipient that is named twice receives the message, once",
        named_twice,
    )
    .needs(Maildrop),
    Requirement::function(
        "RFC 5321 §6.3",
        "a message with 120 Received fields goes in a loop: 554",
        many_received_fields,
    ),
    Requirement::function(
        "RFC 5321 §6.3",
        "a message with 20 Received fields does not go in a loop",
        some_received_fields,
    ),
    Requirement::dialogue(
        "RFC 2046 §5.1",
        "MIME parts within parts within parts are the receiver's affair: one reply",
        Data,
        &[
            (
                concat!(
                    "Subject: bomb\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n",
                    "--a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/mixed; boundary=c\r\n",
                    "\r\n--c\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n.\r\n"
                ),
                "250|55",
            ),
            ("NOOP", "250"),
        ],
    ),
    Requirement::function(
        "RFC 2046 §5.1",
        "ten thousand nested parts and ten thousand header fields cost one reply",
        a_mime_bomb,
    ),
];

fn the_text_arrives(target: &Target, wire: &[u8]) -> Result<()> {
    let mut meant = Vec::new();
    for line in wire.split_inclusive(|octet| *octet == b'\n') {
        meant.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    carries(target, "", &[wire, b".\r\n"].concat(), &meant)
}

fn a_single_leading_dot(target: &Target, wire: &[u8]) -> Result<()> {
    the_text_arrives(target, wire)
}

fn an_empty_message(target: &Target) -> Result<()> {
    let mut session = Session::at(target, Data)?;
    session.raw(b".\r\n")?.expect("250|55")?;
    session.say("NOOP")?.expect("250")?;
    Ok(())
}

fn a_message_that_is_cut(target: &Target) -> Result<()> {
    let (cut, whole) = (marker(), marker());
    let mut session = Session::at(target, Data)?;
    session.connection.send(format!("Subject: {cut}\r\n\r\nall but the last dot\r\n").as_bytes())?;
    drop(session);
    let mut session = Session::ready(target)?;
    session.message(target, "", format!("Subject: {whole}\r\n\r\n.\r\n").as_bytes())?.expect("250")?;
    delivered(target, &whole)?;
    ensure!(found(target, &cut)?.is_empty(), "half a message was delivered");
    Ok(())
}

fn trace_fields(target: &Target) -> Result<()> {
    let marker = marker();
    let mut session = Session::ready(target)?;
    session.message(target, "", format!("Subject: {marker}\r\n\r\n.\r\n").as_bytes())?.expect("250")?;
    let message = delivered(target, &marker)?;
    let text = String::from_utf8_lossy(&message).into_owned();
    let unfolded = text.replace("\r\n ", " ").replace("\r\n\t", " ");
    let header: Vec<&str> = unfolded.lines().take_while(|line| !line.is_empty()).collect();
    let first = header.first().copied().unwrap_or_default();
    let expected = target.fill("Return-Path: <{sender}>");
    ensure!(first.eq_ignore_ascii_case(&expected), "the first line is {first:?} instead of {expected:?}");
    let received =
        header.iter().find(|line| line.to_ascii_lowercase().starts_with("received:")).context("no Received")?;
    for word in ["from ", " by ", " with ", ";"] {
        ensure!(received.contains(word), "Received has no {word:?}: {received}");
    }
    let with = received.split(" with ").nth(1).unwrap_or_default();
    let protocol = with.split([' ', ';']).next().unwrap_or_default();
    let known =
        ["SMTP", "ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA", "UTF8SMTP", "UTF8SMTPS", "UTF8SMTPA", "UTF8SMTPSA", "LMTP"];
    ensure!(
        known.contains(&protocol.to_ascii_uppercase().as_str()),
        "Received says with {protocol:?}, which RFC 3848 does not know"
    );
    Ok(())
}

fn one_refused_recipient(target: &Target) -> Result<()> {
    let marker = marker();
    let mut session = Session::at(target, super::Start::Mail)?;
    session.say(&target.fill("RCPT TO:<{unknown}>"))?.expect("55")?;
    session.say(&target.fill("RCPT TO:<{served}>"))?.expect("250")?;
    session.say("DATA")?.expect("354")?;
    session.raw(format!("Subject: {marker}\r\n\r\n.\r\n").as_bytes())?.expect("250")?;
    delivered(target, &marker)?;
    Ok(())
}

fn named_twice(target: &Target) -> Result<()> {
    let (marker, second) = (marker(), marker());
    let mut session = Session::at(target, super::Start::Mail)?;
    session.say(&target.fill("RCPT TO:<{served}>"))?.expect("250")?;
    session.say(&target.fill("RCPT TO:<{served}>"))?.expect("250")?;
    session.say("DATA")?.expect("354")?;
    session.raw(format!("Subject: {marker}\r\n\r\n.\r\n").as_bytes())?.expect("250")?;
    session.message(target, "", format!("Subject: {second}\r\n\r\n.\r\n").as_bytes())?.expect("250")?;
    delivered(target, &second)?;
    let copies = found(target, &marker)?.len();
    ensure!(copies == 1, "{copies} copies were delivered");
    Ok(())
}

fn received_fields(count: usize) -> String {
    let field = "Received: from a.example by b.example; Mon, 1 Jan 2024 00:00:00 +0000\r\n";
    format!("{}Subject: traveller\r\n\r\ntext\r\n.\r\n", field.repeat(count))
}

fn many_received_fields(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    session.message(target, "", received_fields(120).as_bytes())?.expect("55")?;
    session.say("NOOP")?.expect("250")?;
    Ok(())
}

fn some_received_fields(target: &Target) -> Result<()> {
    Session::ready(target)?.message(target, "", received_fields(20).as_bytes())?.expect("250")?;
    Ok(())
}

fn a_mime_bomb(target: &Target) -> Result<()> {
    let mut text = String::from("Subject: bomb\r\nMIME-Version: 1.0\r\n");
    for number in 0..10_000 {
        text += &format!("X-Field-{number}: x\r\n");
    }
    text += "Content-Type: multipart/mixed; boundary=\"b0\"\r\n\r\n";
    for number in 0..10_000 {
        text += &format!("--b{number}\r\nContent-Type: multipart/mixed; boundary=\"b{}\"\r\n\r\n", number + 1);
    }
    text += ".\r\n";
    let mut session = Session::ready(target)?;
    let reply = session.message(target, "", text.as_bytes())?;
    ensure!(reply.is("250|55"), "a MIME bomb is answered {}", show(reply.to_string().as_bytes()));
    session.say("NOOP")?.expect("250")?;
    Ok(())
}

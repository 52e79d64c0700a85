//! RFC 5321 §2.3.8, §4.5.3 and §7.8: what a line is, how much of everything a server takes, and that it bounds the rest.

use anyhow::{Result, bail, ensure};

use super::super::Requirement;
use super::super::target::Target;
use super::Session;
use super::Start::{Mail, Ready};

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::octets(
        "RFC 5321 §2.3.8",
        "LF alone does not end a command line",
        one_reply_with_an_error,
        b"NOOP\nNOOP\r\n",
    ),
    Requirement::octets(
        "RFC 5321 §2.3.8",
        "CR alone does not end a command line",
        one_reply_with_an_error,
        b"NOOP\rNOOP\r\n",
    ),
    Requirement::function("RFC 5321 §4.5.3.1.4", "a command line of 512 octets is taken", a_line_of_512_octets),
    Requirement::function(
        "RFC 5321 §4.5.3.1.9",
        "a command line that is too long is answered 500, once, and the session lives",
        a_line_that_is_too_long,
    ),
    Requirement::function(
        "RFC 5321 §4.5.3.1.9",
        "a command line of 100,000 octets is answered 500, once, or ends the session; others are served",
        a_line_of_100_000_octets,
    ),
    Requirement::function(
        "RFC 5321 §4.5.3.1.1",
        "a local part of 64 octets is no syntax error",
        a_local_part_of_64_octets,
    ),
    Requirement::function("RFC 5321 §4.5.3.1.2", "a domain of 253 octets is no syntax error", a_domain_of_253_octets),
    Requirement::function("RFC 5321 §4.5.3.1.6", "text lines of 1000 octets are taken", text_lines_of_1000_octets),
    Requirement::function("RFC 5321 §4.5.3.1.7", "a message of 64 KiB is taken", a_message_of_64_kib),
    Requirement::function("RFC 5321 §4.5.3.1.8", "100 recipients of one message are taken", a_hundred_recipients),
    Requirement::dialogue(
        "RFC 5321 §4.3.2",
        "spaces at the end of a command are ignored",
        Ready,
        &[("NOOP  ", "250"), ("RSET ", "250"), ("MAIL FROM:<{sender}> ", "250")],
    ),
    Requirement::function(
        "RFC 5321 §7.8",
        "addresses of every shape are answered, and the session lives",
        addresses_of_every_shape,
    ),
    Requirement::octets(
        "RFC 5321 §7.8",
        "a client that says only nonsense is sent away with 421 at last",
        sent_away,
        b"TURTLE\r\n",
    ),
    Requirement::function("RFC 5321 §7.8", "an octet at a time is as good as a line at a time", an_octet_at_a_time),
    Requirement::dialogue(
        "RFC 5321 §4.5.3.1",
        "an empty line is no command, and the session lives",
        Mail,
        &[("\r\n", "500|501|502|503"), ("RCPT TO:<{served}>", "250")],
    ),
];

/// Whatever the octets are, they are one line, which is no command.
fn one_reply_with_an_error(target: &Target, octets: &[u8]) -> Result<()> {
    let mut session = Session::ready(target)?;
    session.raw(octets)?.expect("5")?;
    // Had there been a second reply, it would be read here.
    session.say("RSET")?.expect("250")?;
    session.say("QUIT")?.expect("221")?;
    session.connection.expect_end()
}

fn a_line_of_512_octets(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    session.say(&format!("NOOP {}", "x".repeat(512 - 2 - 5)))?.expect("250")?;
    Ok(())
}

fn a_line_that_is_too_long(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    session.say(&format!("NOOP {}", "x".repeat(20_000)))?.expect("500")?;
    session.say("RSET")?.expect("250")?;
    Ok(())
}

fn a_line_of_100_000_octets(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    let line = format!("MAIL FROM:<{}@example.org>\r\n", "x".repeat(100_000));
    // A server may close before it has read all.
    if session.connection.send(line.as_bytes()).is_ok()
        && let Ok(Some(reply)) = session.reply_or_end()
    {
        reply.expect("500|501|421|552|55")?;
    }
    Session::ready(target)?.say("NOOP")?.expect("250")?;
    Ok(())
}

fn a_local_part_of_64_octets(target: &Target) -> Result<()> {
    let mut session = Session::at(target, Mail)?;
    let line = format!("RCPT TO:<{}@{{served-domain}}>", "x".repeat(64));
    session.say(&target.fill(&line))?.expect("250|550|551|553|554")?;
    Ok(())
}

fn a_domain_of_253_octets(target: &Target) -> Result<()> {
    let mut session = Session::at(target, Mail)?;
    let label = "x".repeat(49);
    let domain = format!("{label}.{label}.{label}.{label}.{label}.{}", "y".repeat(3));
    session.say(&format!("RCPT TO:<x@{domain}>"))?.expect("25|45|55")?;
    Ok(())
}

fn text_lines_of_1000_octets(target: &Target) -> Result<()> {
    let text = format!("Subject: long lines\r\n\r\n{}\r\n.\r\n", "x".repeat(998));
    Session::ready(target)?.message(target, "", text.as_bytes())?.expect("250")?;
    Ok(())
}

fn a_message_of_64_kib(target: &Target) -> Result<()> {
    let text = format!("Subject: 64 KiB\r\n\r\n{}.\r\n", "0123456789abcdef0123456789abcd\r\n".repeat(2048));
    Session::ready(target)?.message(target, "", text.as_bytes())?.expect("250")?;
    Ok(())
}

fn a_hundred_recipients(target: &Target) -> Result<()> {
    let mut session = Session::at(target, Mail)?;
    for number in 1..=100 {
        let reply = session.say(&target.fill("RCPT TO:<{served}>"))?;
        ensure!(reply.code == 250, "recipient {number} is answered {reply}");
    }
    Ok(())
}

/// Each has some reply of its own, and none ends the session.
fn addresses_of_every_shape(target: &Target) -> Result<()> {
    let shapes = [
        "<>",
        "<@>",
        "<a@>",
        "<@a>",
        "<a@@b>",
        "<a@b@c.example>",
        "<.a@b.example>",
        "<a.@b.example>",
        "<a..b@c.example>",
        "<a@b..example>",
        "<a@-b.example>",
        "<a@b-.example>",
        "<a@b_c.example>",
        "<\"\"@b.example>",
        "<\"a@b.example>",
        "<\"a\"b@c.example>",
        "<a@[256.1.1.1]>",
        "<a@[]>",
        "<a@[IPv6:::]>",
        "<a@[IPv6:xyz]>",
        "<a@[tag:content]>",
        "<(comment)a@b.example>",
        "<a@b.example.>",
        "<a@1>",
        "<a@1.2.3.4>",
        "<a\\@b.example>",
        "<a@b.example",
        "a@b.example>",
        "<<a@b.example>>",
        "<a@b.example> <c@d.example>",
        "<a,b@c.example>",
        "<a:b@c.example>",
        "<@a:b@c.example>",
        "<@a,b:c@d.example>",
        "<a%b@c.example>",
        "<a!b@c.example>",
        "<|id@b.example>",
        "</etc/passwd@b.example>",
        "<$(id)@b.example>",
        "<a@b.example\t>",
        "<\u{7f}@b.example>",
        "<a@xn--zzzzzz.example>",
        "<a@%00.example>",
        "< a@b.example >",
        "<a @b.example>",
        "<a@ b.example>",
        "<*@*>",
        "<a@*.example>",
        "<'@b.example>",
        "<-f@b.example>",
    ];
    let mut session = Session::ready(target)?;
    for (number, shape) in shapes.iter().enumerate() {
        // Servers bound the errors of one session; these are meant to be read, not to be counted.
        if number % 4 == 0 {
            session = Session::at(target, Mail)?;
        }
        let reply = session.say(&format!("RCPT TO:{shape}"))?;
        ensure!(matches!(reply.code, 250 | 450..=599), "RCPT TO:{shape} is answered {reply}");
    }
    session.say("RSET")?.expect("250")?;
    Ok(())
}

fn sent_away(target: &Target, nonsense: &[u8]) -> Result<()> {
    let mut session = Session::ready(target)?;
    for _ in 0..2000 {
        if session.connection.send(nonsense).is_err() {
            return Ok(());
        }
        match session.reply_or_end()? {
            None => return Ok(()),
            Some(reply) if reply.code == 421 => return session.connection.expect_end(),
            Some(reply) => reply.expect("5")?,
        };
    }
    bail!("after 2000 lines of nonsense the session goes on")
}

fn an_octet_at_a_time(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    for (line, expected) in [("NOOP\r\n", "250"), ("MAIL FROM:<{sender}>\r\n", "250"), ("RSET\r\n", "250")] {
        for octet in target.fill(line).as_bytes() {
            session.connection.send(&[*octet])?;
        }
        session.reply()?.expect(expected)?;
    }
    Ok(())
}

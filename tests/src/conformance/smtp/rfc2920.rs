//! RFC 2920: PIPELINING.

use anyhow::{Result, ensure};

use super::super::Need::{Keyword, KeywordAndMaildrop};
use super::super::Requirement;
use super::super::target::Target;
use super::{Session, delivered, marker};

const PIPELINING: super::super::Need = Keyword("PIPELINING");

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::function(
        "RFC 2920 §3.1",
        "MAIL, RCPT, RCPT and DATA in one packet are answered each, in order",
        a_group_is_answered_in_order,
    )
    .needs(PIPELINING),
    Requirement::function(
        "RFC 2920 §3.1",
        "where every recipient is refused, a pipelined DATA is refused too: 503 or 554",
        data_without_recipients,
    )
    .needs(PIPELINING),
    Requirement::function(
        "RFC 2920 §3.1",
        "RSET, MAIL, RCPT … may follow the final dot in the same packet",
        a_group_after_the_final_dot,
    )
    .needs(PIPELINING),
    Requirement::function(
        "RFC 2920 §3.2",
        "an error in the middle of a group changes no other reply",
        an_error_within_a_group,
    )
    .needs(PIPELINING),
    Requirement::function(
        "RFC 2920 §3.2",
        "the group may be divided anywhere: each division has the same replies",
        any_division,
    )
    .needs(PIPELINING),
    Requirement::function("RFC 2920 §3.2", "100 messages in one write are 100 messages", many_messages)
        .needs(KeywordAndMaildrop("PIPELINING")),
];

fn a_group_is_answered_in_order(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    let group = "MAIL FROM:<{sender}>\r\nRCPT TO:<{unknown}>\r\nRCPT TO:<{served}>\r\nDATA\r\n";
    session.raw(target.fill(group).as_bytes())?.expect("250")?;
    session.reply()?.expect("550")?;
    session.reply()?.expect("250")?;
    session.reply()?.expect("354")?;
    session.raw(b"Subject: group\r\n\r\n.\r\n")?.expect("250")?;
    Ok(())
}

fn data_without_recipients(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    let group = "MAIL FROM:<{sender}>\r\nRCPT TO:<{unknown}>\r\nDATA\r\n";
    session.raw(target.fill(group).as_bytes())?.expect("250")?;
    session.reply()?.expect("550")?;
    let reply = session.reply()?;
    if reply.code == 354 {
        // RFC 2920 §3.1 lets a server that said 354 refuse the message itself.
        session.raw(b".\r\n")?.expect("554|503")?;
    } else {
        reply.expect("503|554")?;
    }
    session.say("RSET")?.expect("250")?;
    Ok(())
}

fn a_group_after_the_final_dot(target: &Target) -> Result<()> {
    let mut session = Session::at(target, super::Start::Data)?;
    let text = "Subject: one\r\n\r\n.\r\nRSET\r\nMAIL FROM:<{sender}>\r\nRCPT TO:<{served}>\r\nQUIT\r\n";
    session.raw(target.fill(text).as_bytes())?.expect("250")?;
    for expected in ["250", "250", "250", "221"] {
        session.reply()?.expect(expected)?;
    }
    session.connection.expect_end()
}

fn an_error_within_a_group(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    let group = "NOOP\r\nTURTLE\r\nMAIL FROM:<{sender}>\r\nRCPT\r\nRCPT TO:<{served}>\r\nRSET\r\n";
    session.connection.send(target.fill(group).as_bytes())?;
    for expected in ["250", "500", "250", "500|501", "250", "250"] {
        session.reply()?.expect(expected)?;
    }
    Ok(())
}

fn any_division(target: &Target) -> Result<()> {
    let group = target.fill("MAIL FROM:<{sender}>\r\nRCPT TO:<{served}>\r\nRSET\r\n");
    let mut session = Session::ready(target)?;
    for cut in 1..group.len() {
        let (first, second) = group.split_at(cut);
        session.connection.send(first.as_bytes())?;
        session.connection.send(second.as_bytes())?;
        for number in 1..=3 {
            let reply = session.reply()?;
            ensure!(reply.code == 250, "divided after octet {cut}, reply {number} is {reply}");
        }
    }
    Ok(())
}

fn many_messages(target: &Target) -> Result<()> {
    let marker = marker();
    let one = target.fill("MAIL FROM:<{sender}>\r\nRCPT TO:<{served}>\r\nDATA\r\n");
    let mut session = Session::ready(target)?;
    // DATA ends a group (RFC 2920 §3.1): each message is a group and a text.
    for number in 0..100 {
        session.connection.send(one.as_bytes())?;
        for expected in ["250", "250", "354"] {
            session.reply()?.expect(expected)?;
        }
        session.raw(format!("Subject: {marker}-{number}-\r\n\r\n.\r\n").as_bytes())?.expect("250")?;
    }
    for number in 0..100 {
        delivered(target, &format!("{marker}-{number}-"))?;
    }
    Ok(())
}

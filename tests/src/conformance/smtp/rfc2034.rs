//! RFC 2034: ENHANCEDSTATUSCODES.

use anyhow::{Result, ensure};

use super::super::Need::Keyword;
use super::super::Requirement;
use super::super::target::Target;
use super::{Reply, Session};

const CODES: super::super::Need = Keyword("ENHANCEDSTATUSCODES");

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::function(
        "RFC 2034 §4",
        "every line of a 2xx, 4xx and 5xx reply begins with a status code of its own class",
        every_line_has_a_code,
    )
    .needs(CODES),
    Requirement::function("RFC 2034 §4", "the replies to EHLO and HELO, and 354, have none", some_have_none)
        .needs(CODES),
    Requirement::function("RFC 3463 §3.2", "a recipient that is not here is 5.1.1", an_unknown_recipient).needs(CODES),
    Requirement::function("RFC 3463 §3.6", "unknown commands and bad arguments are X.5.X", protocol_errors)
        .needs(CODES),
];

fn every_line_has_a_code(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    let commands = [
        "NOOP",
        "RSET",
        "TURTLE",
        "RCPT TO:<{served}>",
        "MAIL FROM:<{sender}>",
        "MAIL FROM:<{sender}>",
        "RCPT TO:<{unknown}>",
        "RCPT TO:<{served}>",
        "RCPT TO:<",
        "VRFY {served-local}",
        "RSET",
        "QUIT",
    ];
    for command in commands {
        let reply = session.say(&target.fill(command))?;
        for line in &reply.lines {
            let code = Reply::enhanced(line);
            ensure!(code.is_some(), "{command} is answered without a status code: {reply}");
            let class = code.and_then(|code| code.split('.').next());
            ensure!(class == Some(&reply.code.to_string()[..1]), "{command}: the class differs from the code: {reply}");
        }
    }
    Ok(())
}

fn some_have_none(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    for (command, expected) in [
        ("EHLO conformance.example", "250"),
        ("HELO conformance.example", "250"),
        ("MAIL FROM:<{sender}>", "250"),
        ("RCPT TO:<{served}>", "250"),
        ("DATA", "354"),
    ] {
        let reply = session.say(&target.fill(command))?;
        reply.expect(expected)?;
        let may_have = command.starts_with("MAIL") || command.starts_with("RCPT");
        ensure!(may_have || reply.lines.iter().all(|line| Reply::enhanced(line).is_none()), "{command}: {reply}");
    }
    Ok(())
}

fn an_unknown_recipient(target: &Target) -> Result<()> {
    let mut session = Session::at(target, super::Start::Mail)?;
    session.say(&target.fill("RCPT TO:<{unknown}>"))?.expect("550 5.1.1")?;
    Ok(())
}

fn protocol_errors(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    session.say("TURTLE")?.expect("500 5.5.")?;
    session.say("EHLO")?.expect("501 5.5.")?;
    session.say("RCPT TO:<x@example.org>")?.expect("503 5.5.1")?;
    session.say(&target.fill("MAIL FROM:<{sender}> X-UNKNOWN=1"))?.expect("555 5.5.4")?;
    Ok(())
}

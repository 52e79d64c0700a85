//! RFC 3207: STARTTLS. Its sessions begin in clear, however the suite was told to protect the others.

use anyhow::{Result, ensure};

use super::super::Need::ClearKeyword;
use super::super::Requirement;
use super::super::target::Target;
use super::Session;
use super::Start::Clear;

const STARTTLS: super::super::Need = ClearKeyword("STARTTLS");

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::dialogue(
        "RFC 3207 §4",
        "STARTTLS with a parameter is a syntax error",
        Clear,
        &[("STARTTLS now", "501"), ("NOOP", "250")],
    )
    .needs(STARTTLS),
    Requirement::function("RFC 3207 §4", "STARTTLS is answered 220, and TLS begins", tls_begins).needs(STARTTLS),
    Requirement::function("RFC 3207 §4.2", "under TLS, STARTTLS is not offered again", not_offered_again)
        .needs(STARTTLS),
    Requirement::function("RFC 3207 §4.2", "under TLS, STARTTLS is refused: 503 or 554", refused_under_tls)
        .needs(STARTTLS),
    Requirement::function(
        "RFC 3207 §4.2",
        "what was said before TLS is forgotten: EHLO and MAIL have to come anew",
        all_is_forgotten,
    )
    .needs(STARTTLS),
    Requirement::function("RFC 3207 §6", "commands that follow STARTTLS in clear are thrown away", injected_commands)
        .needs(STARTTLS),
    Requirement::function("RFC 3207 §4.1", "a handshake that fails harms nobody else", a_failed_handshake)
        .needs(STARTTLS),
    Requirement::function("RFC 3207 §4.2", "a transaction that was open in clear is gone", the_transaction_is_gone)
        .needs(STARTTLS),
];

fn tls_begins(target: &Target) -> Result<()> {
    let mut session = Session::clear(target)?;
    session.start_tls(target)?;
    session.hello()?;
    session.say("NOOP")?.expect("250")?;
    session.say("QUIT")?.expect("221")?;
    Ok(())
}

fn not_offered_again(target: &Target) -> Result<()> {
    let mut session = Session::clear(target)?;
    session.start_tls(target)?;
    session.hello()?;
    ensure!(session.parameter("STARTTLS").is_none(), "STARTTLS is offered under TLS");
    Ok(())
}

fn refused_under_tls(target: &Target) -> Result<()> {
    let mut session = Session::clear(target)?;
    session.start_tls(target)?;
    session.hello()?;
    session.say("STARTTLS")?.expect("503|554|502")?;
    session.say("NOOP")?.expect("250")?;
    Ok(())
}

fn all_is_forgotten(target: &Target) -> Result<()> {
    let mut session = Session::clear(target)?;
    session.start_tls(target)?;
    session.say(&target.fill("MAIL FROM:<{sender}>"))?.expect("503|530")?;
    Ok(())
}

fn injected_commands(target: &Target) -> Result<()> {
    let mut session = Session::clear(target)?;
    session.raw(b"STARTTLS\r\nEHLO injected.example\r\nNOOP\r\n")?.expect("220")?;
    // A server may refuse to go on instead; what it may not do is to answer what nobody protected.
    if session.connection.start_tls(&target.port.host).is_err() {
        return Ok(());
    }
    let reply = session.say("RSET")?;
    reply.expect("250|503|530")?;
    ensure!(!reply.lines.iter().any(|line| line.contains("PIPELINING")), "the injected EHLO was answered: {reply:?}");
    session.say("QUIT")?.expect("221")?;
    session.connection.expect_end()
}

fn a_failed_handshake(target: &Target) -> Result<()> {
    let mut session = Session::clear(target)?;
    session.say("STARTTLS")?.expect("220")?;
    session.connection.send(b"this is no ClientHello\r\n")?;
    drop(session);
    tls_begins(target)
}

fn the_transaction_is_gone(target: &Target) -> Result<()> {
    let mut session = Session::clear(target)?;
    let reply = session.say(&target.fill("MAIL FROM:<{sender}>"))?;
    session.start_tls(target)?;
    session.hello()?;
    session.say(&target.fill("RCPT TO:<{served}>"))?.expect("503|530")?;
    ensure!(reply.is("250|530|538|550|553"), "MAIL in clear is answered {reply}");
    Ok(())
}

//! RFC 2595 §4: STLS. Its sessions begin in clear.

use anyhow::{Result, ensure};

use super::super::Need::ClearKeyword;
use super::super::Requirement;
use super::super::target::Target;
use super::Session;
use super::Start::Clear;

const STLS: super::super::Need = ClearKeyword("STLS");

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::function("RFC 2595 §4", "STLS is answered +OK, and TLS begins, without another greeting", tls_begins)
        .needs(STLS),
    Requirement::function("RFC 2595 §4", "under TLS, STLS is neither offered nor accepted", not_again).needs(STLS),
    Requirement::function("RFC 2595 §4", "after the login, STLS is refused", after_the_login).needs(STLS),
    Requirement::function(
        "RFC 2595 §4",
        "what was said in clear is forgotten: USER has to come anew",
        all_is_forgotten,
    )
    .needs(STLS),
    Requirement::function("RFC 2595 §4", "commands that follow STLS in clear are thrown away", injected).needs(STLS),
    Requirement::pop3(
        "RFC 2595 §2.3",
        "a login in clear is refused where STLS is offered",
        Clear,
        &[("USER {user}", "+OK|-ERR"), ("PASS {password}", "-ERR")],
    )
    .needs(STLS),
    Requirement::pop3("RFC 2595 §4", "STLS takes no argument", Clear, &[("STLS now", "-ERR"), ("QUIT", "+OK")])
        .needs(STLS),
];

fn upgraded(target: &Target) -> Result<Session> {
    let mut session = Session::connect(target)?;
    session.ok("STLS")?;
    session.connection.start_tls(&target.port.host)?;
    Ok(session)
}

fn tls_begins(target: &Target) -> Result<()> {
    let mut session = upgraded(target)?;
    session.log_in(target)?;
    session.stat()?;
    session.ok("QUIT")?;
    Ok(())
}

fn not_again(target: &Target) -> Result<()> {
    let mut session = upgraded(target)?;
    let lines = session.list("CAPA")?;
    ensure!(!lines.iter().any(|line| line == "STLS"), "STLS is offered under TLS");
    session.err("STLS")?;
    Ok(())
}

fn after_the_login(target: &Target) -> Result<()> {
    let mut session = upgraded(target)?;
    session.log_in(target)?;
    session.err("STLS")?;
    Ok(())
}

fn all_is_forgotten(target: &Target) -> Result<()> {
    let mut session = Session::connect(target)?;
    // Whether it is refused in clear or not, it does not count later.
    session.say(&target.fill("USER {user}"))?;
    session.ok("STLS")?;
    session.connection.start_tls(&target.port.host)?;
    session.err(&target.fill("PASS {password}"))?;
    Ok(())
}

fn injected(target: &Target) -> Result<()> {
    let mut session = Session::connect(target)?;
    session.connection.send(b"STLS\r\nCAPA\r\n")?;
    ensure!(session.answer()?.starts_with("+OK"), "STLS was refused");
    // A server may refuse to go on instead.
    if session.connection.start_tls(&target.port.host).is_err() {
        return Ok(());
    }
    let answer = session.say("TURTLE")?;
    ensure!(answer.starts_with("-ERR"), "the injected command was answered: {answer}");
    session.ok("QUIT")?;
    session.connection.expect_end()
}

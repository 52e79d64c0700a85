//! RFC 5034: AUTH, with PLAIN (RFC 4616).

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::Need::Keyword;
use super::super::Requirement;
use super::super::target::Target;
use super::Session;
use super::Start::{Authorization, Transaction};

const SASL: super::super::Need = Keyword("SASL");

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::function("RFC 5034 §4", "PLAIN with an initial response opens the maildrop", initial_response)
        .needs(SASL),
    Requirement::function(
        "RFC 5034 §4",
        "PLAIN without one is asked for it with +, and opens the maildrop",
        with_a_challenge,
    )
    .needs(SASL),
    Requirement::pop3(
        "RFC 5034 §4",
        "* cancels the exchange",
        Authorization,
        &[("AUTH PLAIN", "+"), ("*", "-ERR"), ("CAPA", "lines")],
    )
    .needs(SASL),
    Requirement::pop3(
        "RFC 5034 §4",
        "what is no base64 is refused",
        Authorization,
        &[("AUTH PLAIN !!!!", "-ERR"), ("AUTH PLAIN", "+"), ("????", "-ERR"), ("CAPA", "lines")],
    )
    .needs(SASL),
    Requirement::pop3(
        "RFC 5034 §4",
        "a mechanism that is not known is refused",
        Authorization,
        &[("AUTH X-UNKNOWN", "-ERR"), ("CAPA", "lines")],
    )
    .needs(SASL),
    Requirement::pop3(
        "RFC 5034 §4",
        "AUTH after the login is refused",
        Transaction,
        &[("AUTH PLAIN", "-ERR"), ("STAT", "+OK")],
    )
    .needs(SASL),
    Requirement::function(
        "RFC 5034 §4",
        "a wrong password is refused, and the right one then opens the maildrop",
        wrong_password,
    )
    .needs(SASL),
    Requirement::function(
        "RFC 5034 §4",
        "an initial response that does not fit a command line comes as an answer",
        long_response,
    )
    .needs(SASL),
];

fn encoded(user: &str, password: &str) -> String {
    STANDARD.encode(format!("\0{user}\0{password}"))
}

fn initial_response(target: &Target) -> Result<()> {
    let login = target.login()?;
    let mut session = Session::protected(target)?;
    session.ok(&format!("AUTH PLAIN {}", encoded(&login.user, &login.password)))?;
    session.stat()?;
    session.ok("QUIT")?;
    Ok(())
}

fn with_a_challenge(target: &Target) -> Result<()> {
    let login = target.login()?;
    let mut session = Session::protected(target)?;
    let challenge = session.say("auth plain")?;
    ensure!(challenge.trim_end() == "+", "the challenge of PLAIN is {challenge:?}");
    session.ok(&encoded(&login.user, &login.password))?;
    session.stat()?;
    session.ok("QUIT")?;
    Ok(())
}

fn wrong_password(target: &Target) -> Result<()> {
    let login = target.login()?;
    let mut session = Session::protected(target)?;
    session.err(&format!("AUTH PLAIN {}", encoded(&login.user, "wrong")))?;
    session.ok(&format!("AUTH PLAIN {}", encoded(&login.user, &login.password)))?;
    session.ok("QUIT")?;
    Ok(())
}

fn long_response(target: &Target) -> Result<()> {
    let mut session = Session::protected(target)?;
    let challenge = session.say("AUTH PLAIN")?;
    ensure!(challenge.starts_with('+') && !challenge.starts_with("+OK"), "{challenge}");
    session.err(&encoded("nobody@example.org", &"x".repeat(1000)))?;
    session.list("CAPA")?;
    Ok(())
}

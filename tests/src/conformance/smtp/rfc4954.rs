//! RFC 4954: AUTH, with PLAIN (RFC 4616).

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::Need::Login;
use super::super::Requirement;
use super::super::target::Target;
use super::Session;
use super::Start::{Mail, Ready};

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::function(
        "RFC 4954 §3",
        "AUTH lists its mechanisms, PLAIN among them, where a login may be sent",
        lists,
    )
    .needs(Login),
    Requirement::function(
        "RFC 4954 §4",
        "a mechanism with clear-text passwords is not offered, and refused, without TLS",
        refused_in_clear,
    )
    .needs(Login),
    Requirement::function("RFC 4954 §4", "PLAIN with an initial response: 235", initial_response).needs(Login),
    Requirement::function("RFC 4954 §4", "PLAIN without one: 334 with nothing, then 235", with_a_challenge)
        .needs(Login),
    Requirement::function("RFC 4954 §6", "a wrong password is refused with 535, and the session lives", wrong_password)
        .needs(Login),
    Requirement::function(
        "RFC 4954 §9",
        "who does not exist is answered as who has another password",
        nobody_is_told_apart,
    )
    .needs(Login),
    Requirement::function("RFC 4954 §4", "* cancels the exchange: 501", cancelled).needs(Login),
    Requirement::function("RFC 4954 §4", "what is no base64 is a syntax error: 501", no_base64).needs(Login),
    Requirement::function("RFC 4954 §4", "a mechanism that is not known is refused with 504", unknown_mechanism)
        .needs(Login),
    Requirement::function("RFC 4954 §4", "a response of 12,280 octets is taken: 535", a_long_response).needs(Login),
    Requirement::function("RFC 4616 §2", "a response of PLAIN without its parts is refused", plain_without_parts)
        .needs(Login),
    Requirement::dialogue("RFC 4954 §4", "AUTH after AUTH is an order error", Ready, &[("AUTH PLAIN", "503")])
        .needs(Login),
    Requirement::dialogue(
        "RFC 4954 §4",
        "AUTH within a transaction is an order error",
        Mail,
        &[("AUTH PLAIN", "503"), ("RCPT TO:<{served}>", "250")],
    )
    .needs(Login),
    Requirement::dialogue(
        "RFC 4954 §5",
        "MAIL takes the AUTH parameter",
        Ready,
        &[
            ("MAIL FROM:<{sender}> AUTH=<>", "250"),
            ("RSET", "250"),
            ("MAIL FROM:<{sender}> AUTH=e+3Dmc2@example.com", "250"),
        ],
    )
    .needs(Login),
    Requirement::function("RFC 4954 §9", "guessing ends: 421, or the connection does", guessing_ends).needs(Login),
];

fn encoded(user: &str, password: &str) -> String {
    STANDARD.encode(format!("\0{user}\0{password}"))
}

fn lists(target: &Target) -> Result<()> {
    let session = Session::protected(target)?;
    let mechanisms = session.parameter("AUTH").context("AUTH is not offered")?;
    ensure!(mechanisms.split(' ').any(|name| name == "PLAIN"), "AUTH {mechanisms}");
    Ok(())
}

fn refused_in_clear(target: &Target) -> Result<()> {
    if target.port.tls != super::super::target::Tls::Starttls {
        return Ok(());
    }
    let mut session = Session::clear(target)?;
    let offered = session.parameter("AUTH").unwrap_or_default().to_owned();
    ensure!(!offered.split(' ').any(|name| matches!(name, "PLAIN" | "LOGIN")), "AUTH {offered} is offered in clear");
    session.say("AUTH PLAIN")?.expect("538|530|503|502|504|523|454")?;
    Ok(())
}

fn initial_response(target: &Target) -> Result<()> {
    let login = target.login()?;
    let mut session = Session::protected(target)?;
    session.say(&format!("AUTH PLAIN {}", encoded(&login.user, &login.password)))?.expect("235")?;
    session.say(&target.fill("MAIL FROM:<{sender}>"))?.expect("250")?;
    Ok(())
}

fn with_a_challenge(target: &Target) -> Result<()> {
    let login = target.login()?;
    let mut session = Session::protected(target)?;
    let challenge = session.say("auth plain")?;
    challenge.expect("334")?;
    ensure!(challenge.lines == [""], "the challenge of PLAIN is {challenge:?}");
    session.say(&encoded(&login.user, &login.password))?.expect("235")?;
    Ok(())
}

fn wrong_password(target: &Target) -> Result<()> {
    let login = target.login()?;
    let mut session = Session::protected(target)?;
    session.say(&format!("AUTH PLAIN {}", encoded(&login.user, "not the password")))?.expect("535")?;
    session.say("NOOP")?.expect("250")?;
    session.say(&target.fill("MAIL FROM:<{sender}>"))?.expect("530|503")?;
    Ok(())
}

fn nobody_is_told_apart(target: &Target) -> Result<()> {
    let login = target.login()?;
    let mut session = Session::protected(target)?;
    let wrong = session.say(&format!("AUTH PLAIN {}", encoded(&login.user, "not the password")))?;
    let nobody = session.say(&format!("AUTH PLAIN {}", encoded(&target.unknown, "not the password")))?;
    ensure!(wrong == nobody, "{wrong} differs from {nobody}");
    Ok(())
}

fn cancelled(target: &Target) -> Result<()> {
    let mut session = Session::protected(target)?;
    session.say("AUTH PLAIN")?.expect("334")?;
    session.say("*")?.expect("501")?;
    session.say("NOOP")?.expect("250")?;
    Ok(())
}

fn no_base64(target: &Target) -> Result<()> {
    let mut session = Session::protected(target)?;
    session.say("AUTH PLAIN !!!!")?.expect("501")?;
    session.say("AUTH PLAIN")?.expect("334")?;
    session.say("????")?.expect("501")?;
    session.say("NOOP")?.expect("250")?;
    Ok(())
}

fn unknown_mechanism(target: &Target) -> Result<()> {
    let mut session = Session::protected(target)?;
    session.say("AUTH X-UNKNOWN")?.expect("504")?;
    session.say("NOOP")?.expect("250")?;
    Ok(())
}

fn a_long_response(target: &Target) -> Result<()> {
    let mut session = Session::protected(target)?;
    session.say("AUTH PLAIN")?.expect("334")?;
    let response = STANDARD.encode(format!("\0x\0{}", "y".repeat(12_280 * 3 / 4 - 3)));
    // RFC 4616 §2 bounds a password at 255 characters' worth of sense; a server may say that it is malformed.
    session.say(&response)?.expect("535|501")?;
    session.say("NOOP")?.expect("250")?;
    Ok(())
}

fn plain_without_parts(target: &Target) -> Result<()> {
    let mut session = Session::protected(target)?;
    session.say(&format!("AUTH PLAIN {}", STANDARD.encode("no parts at all")))?.expect("501|535")?;
    session.say("AUTH PLAIN =")?.expect("501|535")?;
    session.say("NOOP")?.expect("250")?;
    Ok(())
}

fn guessing_ends(target: &Target) -> Result<()> {
    let mut session = Session::protected(target)?;
    for number in 0..50 {
        if session
            .connection
            .send(format!("AUTH PLAIN {}\r\n", encoded("nobody", &number.to_string())).as_bytes())
            .is_err()
        {
            return Ok(());
        }
        match session.reply_or_end()? {
            None => return Ok(()),
            Some(reply) if reply.code == 421 => return Ok(()),
            Some(reply) => reply.expect("535|454|503|501")?,
        };
    }
    anyhow::bail!("50 logins could be tried in one session")
}

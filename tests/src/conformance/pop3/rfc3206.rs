//! RFC 3206: AUTH-RESP-CODE.

use anyhow::{Result, ensure};

use super::super::Need::Keyword;
use super::super::Requirement;
use super::super::target::Target;
use super::Session;

const AUTH: super::super::Need = Keyword("AUTH-RESP-CODE");

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::function("RFC 3206 §4", "a wrong password is answered -ERR [AUTH]", wrong_password).needs(AUTH),
    Requirement::function("RFC 3206 §4", "who does not exist is answered as who has another password", nobody)
        .needs(AUTH),
    Requirement::function("RFC 1939 §13", "guessing ends: the connection does", guessing_ends),
];

fn refused(session: &mut Session, user: &str) -> Result<String> {
    let first = session.say(&format!("USER {user}"))?;
    // USER may be refused already, but not for some only.
    let second = session.err("PASS not the password")?;
    Ok(format!("{first} {second}"))
}

fn wrong_password(target: &Target) -> Result<()> {
    let answer = refused(&mut Session::protected(target)?, &target.login()?.user)?;
    ensure!(answer.contains("-ERR [AUTH]"), "{answer}");
    Ok(())
}

fn nobody(target: &Target) -> Result<()> {
    let wrong = refused(&mut Session::protected(target)?, &target.login()?.user)?;
    let nobody = refused(&mut Session::protected(target)?, &target.unknown)?;
    ensure!(wrong == nobody, "{wrong:?} differs from {nobody:?}");
    Ok(())
}

fn guessing_ends(target: &Target) -> Result<()> {
    let mut session = Session::protected(target)?;
    for number in 0..50 {
        let lines = format!("USER nobody\r\nPASS {number}\r\n");
        if session.connection.send(lines.as_bytes()).is_err() {
            return Ok(());
        }
        for _ in 0..2 {
            match session.connection.line() {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Ok(()),
            }
        }
    }
    anyhow::bail!("50 logins could be tried in one session")
}

//! RFC 2449: CAPA, and that what it says is true.

use anyhow::{Context as _, Result, ensure};

use super::super::Need::Keyword;
use super::super::Requirement;
use super::super::target::Target;
use super::Session;
use super::Start::{Authorization, Transaction};

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::pop3(
        "RFC 2449 §5",
        "CAPA is answered before the login",
        Authorization,
        &[("CAPA", "lines"), ("QUIT", "+OK")],
    ),
    Requirement::pop3(
        "RFC 2449 §5",
        "CAPA is answered after the login",
        Transaction,
        &[("CAPA", "lines"), ("NOOP", "+OK")],
    ),
    Requirement::function("RFC 2449 §3", "each capability is a name with arguments, in printable ASCII", well_formed),
    Requirement::function(
        "RFC 2449 §5",
        "capabilities that are there before the login are there after it, but for STLS and SASL",
        constant,
    ),
    Requirement::pop3("RFC 2449 §6.1", "TOP is there when CAPA says so", Transaction, &[("TOP 1 0", "lines")])
        .needs(Keyword("TOP")),
    Requirement::pop3(
        "RFC 2449 §6.2",
        "USER is there when CAPA says so",
        Authorization,
        &[("USER {user}", "+OK"), ("PASS {password}", "+OK")],
    )
    .needs(Keyword("USER")),
    Requirement::function("RFC 2449 §6.3", "SASL lists mechanisms, and AUTH knows each", sasl).needs(Keyword("SASL")),
    Requirement::function("RFC 2449 §6.4", "RESP-CODES: a second session is told [IN-USE]", in_use)
        .needs(Keyword("RESP-CODES")),
    Requirement::function("RFC 2449 §6.5", "LOGIN-DELAY is a number of seconds, and kept", login_delay)
        .needs(Keyword("LOGIN-DELAY")),
    Requirement::function("RFC 2449 §6.6", "PIPELINING: many commands in one packet are answered in order", pipelining)
        .needs(Keyword("PIPELINING")),
    Requirement::function("RFC 2449 §6.6", "PIPELINING: the login may be in the same packet", pipelined_login)
        .needs(Keyword("PIPELINING")),
    Requirement::function("RFC 2449 §6.7", "EXPIRE is NEVER or a number of days", expire).needs(Keyword("EXPIRE")),
    Requirement::pop3(
        "RFC 2449 §6.8",
        "UIDL is there when CAPA says so",
        Transaction,
        &[("UIDL", "lines"), ("UIDL 1", "+OK 1 ")],
    )
    .needs(Keyword("UIDL")),
    Requirement::function("RFC 2449 §6.9", "IMPLEMENTATION says something", implementation)
        .needs(Keyword("IMPLEMENTATION")),
    Requirement::pop3(
        "RFC 2449 §4",
        "a command line of 255 octets is a command",
        Transaction,
        &[(LONG, "+OK|-ERR"), ("NOOP", "+OK")],
    ),
];

/// 255 octets with its CRLF; LIST refuses the number, if nothing else.
const LONG: &str = concat!(
    "LIST 00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    "00000000000000000000000000000000000000000000000001"
);

fn well_formed(target: &Target) -> Result<()> {
    for line in Session::capable(target)?.capabilities {
        let name = line.split(' ').next().unwrap_or_default();
        ensure!(!name.is_empty() && line.bytes().all(|octet| (0x20..=0x7e).contains(&octet)), "CAPA lists {line:?}");
    }
    Ok(())
}

fn constant(target: &Target) -> Result<()> {
    let mut session = Session::protected(target)?;
    let before = session.list("CAPA")?;
    session.log_in(target)?;
    let after = session.list("CAPA")?;
    for line in before {
        let name = line.split(' ').next().unwrap_or_default();
        // What is about the login may go with it (RFC 2449 §5 marks each as "both" or not).
        if !["STLS", "SASL", "USER", "LOGIN-DELAY", "EXPIRE"].contains(&name) {
            ensure!(after.contains(&line), "{line:?} is not there after the login");
        }
    }
    Ok(())
}

fn sasl(target: &Target) -> Result<()> {
    let mut session = Session::protected(target)?;
    let lines = session.list("CAPA")?;
    let line = lines.iter().find(|line| line.starts_with("SASL")).context("SASL is not offered before the login")?;
    let mechanisms: Vec<&str> = line.split(' ').skip(1).collect();
    ensure!(!mechanisms.is_empty(), "SASL lists nothing");
    for mechanism in mechanisms {
        let answer = session.say(&format!("AUTH {mechanism}"))?;
        ensure!(answer.starts_with('+') && !answer.starts_with("+OK"), "AUTH {mechanism} is answered {answer:?}");
        session.err("*")?;
    }
    Ok(())
}

fn in_use(target: &Target) -> Result<()> {
    let _first = Session::open(target)?;
    let mut second = Session::protected(target)?;
    let login = target.login()?;
    second.ok(&format!("USER {}", login.user))?;
    let answer = second.err(&format!("PASS {}", login.password))?;
    ensure!(answer.starts_with("-ERR [IN-USE]"), "{answer}");
    Ok(())
}

fn login_delay(target: &Target) -> Result<()> {
    let session = Session::capable(target)?;
    let delay = session.capability("LOGIN-DELAY").unwrap_or_default();
    let seconds: u32 =
        delay.split(' ').next().unwrap_or_default().parse().with_context(|| format!("LOGIN-DELAY {delay}"))?;
    drop(session);
    if seconds == 0 {
        // Then the next login is never too early.
        super::rfc1939::free_again(target)?;
    }
    Ok(())
}

fn pipelining(target: &Target) -> Result<()> {
    let mut session = Session::open(target)?;
    let (count, octets) = session.stat()?;
    session.connection.send(b"STAT\r\nNOOP\r\nRETR 999999\r\nLIST\r\nUIDL\r\nRETR 1\r\nTOP 1 0\r\nSTAT\r\nQUIT\r\n")?;
    let expected = format!("+OK {count} {octets}");
    ensure!(session.answer()?.starts_with(&expected), "the first STAT");
    ensure!(session.answer()?.starts_with("+OK"), "NOOP");
    ensure!(session.answer()?.starts_with("-ERR"), "RETR of what is not there");
    for command in ["LIST", "UIDL", "RETR", "TOP"] {
        ensure!(session.answer()?.starts_with("+OK"), "{command}");
        session.data()?;
    }
    ensure!(session.answer()?.starts_with(&expected), "the last STAT");
    ensure!(session.answer()?.starts_with("+OK"), "QUIT");
    session.connection.expect_end()
}

fn pipelined_login(target: &Target) -> Result<()> {
    let mut session = Session::protected(target)?;
    session.connection.send(target.fill("USER {user}\r\nPASS {password}\r\nSTAT\r\nQUIT\r\n").as_bytes())?;
    for command in ["USER", "PASS", "STAT", "QUIT"] {
        let answer = session.answer()?;
        ensure!(answer.starts_with("+OK"), "{command} is answered {answer:?}");
    }
    session.connection.expect_end()
}

fn expire(target: &Target) -> Result<()> {
    let session = Session::capable(target)?;
    let expire = session.capability("EXPIRE").unwrap_or_default();
    let first = expire.split(' ').next().unwrap_or_default();
    ensure!(first == "NEVER" || first.parse::<u32>().is_ok(), "EXPIRE {expire}");
    Ok(())
}

fn implementation(target: &Target) -> Result<()> {
    let session = Session::capable(target)?;
    ensure!(session.capability("IMPLEMENTATION").is_some_and(|text| !text.is_empty()), "IMPLEMENTATION says nothing");
    Ok(())
}

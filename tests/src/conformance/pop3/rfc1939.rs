//! RFC 1939, all but UPDATE.

use std::collections::HashSet;

use anyhow::{Context as _, Result, ensure};

use super::super::Requirement;
use super::super::client::show;
use super::super::target::Target;
use super::Start::{Authorization, Transaction};
use super::{Session, samples};

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::pop3(
        "RFC 1939 §3",
        "commands are taken in any case",
        Authorization,
        &[("uSeR {user}", "+OK"), ("pAsS {password}", "+OK"), ("nOoP", "+OK"), ("quit", "+OK"), ("", "closed")],
    ),
    Requirement::pop3(
        "RFC 1939 §3",
        "a command that is not known is answered -ERR, in both states, and the session lives",
        Authorization,
        &[
            ("TURTLE", "-ERR"),
            ("\r\n", "-ERR"),
            ("USER {user}", "+OK"),
            ("PASS {password}", "+OK"),
            ("TURTLE", "-ERR"),
            ("STAT", "+OK"),
        ],
    ),
    Requirement::pop3(
        "RFC 1939 §3",
        "a command of the other state is answered -ERR",
        Authorization,
        &[
            ("STAT", "-ERR"),
            ("DELE 1", "-ERR"),
            ("USER {user}", "+OK"),
            ("PASS {password}", "+OK"),
            ("USER {user}", "-ERR"),
        ],
    ),
    Requirement::pop3(
        "RFC 1939 §4",
        "QUIT before the login is answered +OK, and the server closes",
        Authorization,
        &[("QUIT", "+OK"), ("", "closed")],
    ),
    Requirement::pop3("RFC 1939 §7", "PASS without USER is refused", Authorization, &[("PASS {password}", "-ERR")]),
    Requirement::pop3(
        "RFC 1939 §7",
        "USER and PASS without arguments are refused",
        Authorization,
        &[
            ("USER", "-ERR"),
            ("USER {user}", "+OK"),
            ("PASS", "-ERR"),
            ("USER {user}", "+OK"),
            ("PASS {password}", "+OK"),
        ],
    ),
    Requirement::pop3(
        "RFC 1939 §7",
        "after a wrong password the right one opens the maildrop in the same session",
        Authorization,
        &[
            ("USER {user}", "+OK"),
            ("PASS wrong", "-ERR"),
            ("USER {user}", "+OK"),
            ("PASS {password}", "+OK"),
            ("STAT", "+OK"),
        ],
    ),
    Requirement::function("RFC 1939 §4", "a maildrop that is open is refused to a second session", exclusive),
    Requirement::function("RFC 1939 §4", "a maildrop is free again when its session ends, however it ends", free_again),
    Requirement::function("RFC 1939 §5", "STAT counts what LIST lists, in messages and octets", stat_and_list),
    Requirement::function("RFC 1939 §5", "LIST with a number is one line, the same", list_with_a_number),
    Requirement::pop3(
        "RFC 1939 §5",
        "numbers of messages that are not there are refused by LIST, RETR, DELE, TOP and UIDL",
        Transaction,
        &[
            ("LIST 999999", "-ERR"),
            ("RETR 999999", "-ERR"),
            ("DELE 999999", "-ERR"),
            ("TOP 999999 0", "-ERR"),
            ("UIDL 999999", "-ERR"),
            ("RETR 0", "-ERR"),
            ("NOOP", "+OK"),
        ],
    ),
    Requirement::pop3(
        "RFC 1939 §5",
        "what is no number is refused",
        Transaction,
        &[("RETR", "-ERR"), ("RETR x", "-ERR"), ("RETR -1", "-ERR"), ("DELE", "-ERR"), ("NOOP", "+OK")],
    ),
    Requirement::pop3(
        "RFC 1939 §5",
        "a number beyond 64 bits is refused",
        Transaction,
        &[("RETR 99999999999999999999", "-ERR"), ("LIST 18446744073709551617", "-ERR"), ("NOOP", "+OK")],
    ),
    Requirement::function("RFC 1939 §5", "RETR sends the message as it is, and as many octets as LIST says", retr),
    Requirement::function("RFC 1939 §3", "a line that begins with a dot is sent with another", byte_stuffing),
    Requirement::function("RFC 1939 §7", "TOP n 0 is the header and the empty line", top_0),
    Requirement::function("RFC 1939 §7", "TOP n k is k lines of the body; more than there are is all", top_k),
    Requirement::pop3(
        "RFC 1939 §7",
        "TOP without a number of lines, or with a negative one, is refused",
        Transaction,
        &[("TOP 1", "-ERR"), ("TOP 1 -1", "-ERR"), ("TOP", "-ERR"), ("NOOP", "+OK")],
    ),
    Requirement::function("RFC 1939 §7", "unique-ids are 1 to 70 characters from 0x21 to 0x7E, each once", unique_ids),
    Requirement::function("RFC 1939 §7", "unique-ids are the same in the next session", unique_ids_last),
    Requirement::function(
        "RFC 1939 §5",
        "a message that is marked is refused, and out of STAT, LIST and UIDL; the numbers of others stay",
        marked,
    ),
    Requirement::function("RFC 1939 §5", "RSET unmarks, and STAT is as before", rset),
    Requirement::function(
        "RFC 1939 §3",
        "a command line that is too long is answered -ERR, or ends the session",
        long_line,
    ),
    Requirement::function("RFC 1939 §3", "LF alone does not end a command", bare_lf),
];

fn exclusive(target: &Target) -> Result<()> {
    let mut first = Session::open(target)?;
    let mut second = Session::protected(target)?;
    let login = target.login()?;
    second.ok(&format!("USER {}", login.user))?;
    second.err(&format!("PASS {}", login.password))?;
    first.ok("NOOP")?;
    Ok(())
}

pub(super) fn free_again(target: &Target) -> Result<()> {
    Session::open(target)?.ok("QUIT")?;
    drop(Session::open(target)?);
    // The end of a connection is seen when it is seen.
    let deadline = std::time::Instant::now() + target.patience;
    loop {
        match Session::open(target) {
            Ok(_) => return Ok(()),
            Err(error) if std::time::Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(100)),
        }
    }
}

fn stat_and_list(target: &Target) -> Result<()> {
    let mut session = Session::open(target)?;
    let (count, octets) = session.stat()?;
    let list = session.numbered("LIST")?;
    ensure!(list.len() as u64 == count, "STAT says {count} messages, LIST {}", list.len());
    let sizes = list.iter().map(|(_, size)| size.split(' ').next().unwrap_or_default().parse::<u64>());
    let sum: u64 = sizes.sum::<Result<u64, _>>()?;
    ensure!(sum == octets, "STAT says {octets} octets, LIST {sum}");
    let numbers: Vec<u64> = list.iter().map(|(number, _)| *number).collect();
    ensure!(numbers == (1..=count).collect::<Vec<_>>(), "the numbers are {numbers:?}");
    Ok(())
}

fn list_with_a_number(target: &Target) -> Result<()> {
    let mut session = Session::open(target)?;
    for command in ["LIST", "UIDL"] {
        let (number, word) = session.numbered(command)?.into_iter().next_back().context("the maildrop is empty")?;
        let one = session.ok(&format!("{command} {number}"))?;
        ensure!(one == format!("{number} {word}"), "{command} {number} says {one:?}");
    }
    Ok(())
}

fn retr(target: &Target) -> Result<()> {
    let mut session = Session::open(target)?;
    for sample in samples::all() {
        let number = session.sample(sample)?;
        let message = session.fetch(&format!("RETR {number}"))?;
        ensure!(message.ends_with(&sample.text()), "{:?} changed: {}", sample.subject, show(&message));
        let listed = session.ok(&format!("LIST {number}"))?;
        ensure!(listed == format!("{number} {}", message.len()), "LIST says {listed:?}, RETR sent {}", message.len());
    }
    Ok(())
}

fn byte_stuffing(target: &Target) -> Result<()> {
    let mut session = Session::open(target)?;
    let number = session.sample(&samples::DOTS)?;
    // A dot that is not doubled is an error of `data`.
    let message = session.fetch(&format!("RETR {number}"))?;
    ensure!(message.ends_with(&samples::DOTS.text()), "{}", show(&message));
    session.ok("NOOP")?;
    Ok(())
}

fn top_0(target: &Target) -> Result<()> {
    let mut session = Session::open(target)?;
    let number = session.sample(&samples::LINES)?;
    let top = session.fetch(&format!("TOP {number} 0"))?;
    ensure!(top.ends_with(b"To: all\r\n\r\n"), "{}", show(&top));
    Ok(())
}

fn top_k(target: &Target) -> Result<()> {
    let mut session = Session::open(target)?;
    let number = session.sample(&samples::LINES)?;
    for (lines, expected) in [("1", "one\r\n"), ("2", "one\r\ntwo\r\n"), ("3", "one\r\ntwo\r\n\r\n")] {
        let top = session.fetch(&format!("TOP {number} {lines}"))?;
        ensure!(top.ends_with(format!("To: all\r\n\r\n{expected}").as_bytes()), "TOP {lines}: {}", show(&top));
    }
    let whole = session.fetch(&format!("RETR {number}"))?;
    for lines in ["4", "99999"] {
        ensure!(session.fetch(&format!("TOP {number} {lines}"))? == whole, "TOP {lines} is not the whole message");
    }
    Ok(())
}

fn unique_ids(target: &Target) -> Result<()> {
    let ids = Session::open(target)?.numbered("UIDL")?;
    for (_, id) in &ids {
        let right = (1..=70).contains(&id.len()) && id.bytes().all(|octet| (0x21..=0x7e).contains(&octet));
        ensure!(right, "{id:?} is no unique-id");
    }
    let distinct: HashSet<&String> = ids.iter().map(|(_, id)| id).collect();
    ensure!(distinct.len() == ids.len(), "two messages have one unique-id");
    Ok(())
}

fn unique_ids_last(target: &Target) -> Result<()> {
    let mut session = Session::open(target)?;
    let before = session.numbered("UIDL")?;
    session.ok("QUIT")?;
    ensure!(Session::open(target)?.numbered("UIDL")? == before, "the unique-ids have changed");
    Ok(())
}

fn marked(target: &Target) -> Result<()> {
    let mut session = Session::open(target)?;
    let before = (session.stat()?, session.numbered("LIST")?, session.numbered("UIDL")?);
    session.ok("DELE 1")?;
    for command in ["LIST 1", "UIDL 1", "RETR 1", "TOP 1 0", "DELE 1"] {
        session.err(command)?;
    }
    let size: u64 = before.1[0].1.parse()?;
    ensure!(session.stat()? == (before.0.0 - 1, before.0.1 - size), "STAT counts the message that is marked");
    ensure!(session.numbered("LIST")? == before.1[1..], "LIST is not what it was without the first");
    ensure!(session.numbered("UIDL")? == before.2[1..], "UIDL is not what it was without the first");
    // No QUIT: nothing is deleted.
    Ok(())
}

fn rset(target: &Target) -> Result<()> {
    let mut session = Session::open(target)?;
    let before = session.stat()?;
    session.ok("DELE 1")?;
    session.ok("RSET")?;
    ensure!(session.stat()? == before, "STAT differs after RSET");
    session.ok("TOP 1 0")?;
    session.data()?;
    session.ok("QUIT")?;
    ensure!(Session::open(target)?.stat()? == before, "RSET did not keep the message");
    Ok(())
}

fn long_line(target: &Target) -> Result<()> {
    let mut session = Session::open(target)?;
    let line = format!("NOOP {}\r\n", "x".repeat(100_000));
    if session.connection.send(line.as_bytes()).is_ok()
        && let Ok(Some(answer)) = session.connection.line()
    {
        ensure!(answer.starts_with(b"-ERR"), "answered {}", show(&answer));
    }
    drop(session);
    free_again(target)
}

fn bare_lf(target: &Target) -> Result<()> {
    let mut session = Session::open(target)?;
    session.connection.send(b"NOOP\nNOOP\r\n")?;
    ensure!(session.answer()?.starts_with("-ERR"), "two lines were made of one");
    session.connection.send(b"QUIT\r\n")?;
    ensure!(session.answer()?.starts_with("+OK"), "QUIT was refused");
    session.connection.expect_end()
}

//! RFC 1870: SIZE.

use anyhow::{Context as _, Result, ensure};

use super::super::Need::Keyword;
use super::super::Requirement;
use super::super::target::Target;
use super::Session;
use super::Start::Ready;

const SIZE: super::super::Need = Keyword("SIZE");
/// A server that takes more than this is not sent a message that is too large.
const LARGEST_TRIED: u64 = 64 << 20;

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::function("RFC 1870 §4", "SIZE's parameter is absent or a number", the_parameter_is_a_number)
        .needs(SIZE),
    Requirement::dialogue(
        "RFC 1870 §6.1",
        "a size within the limit is accepted with MAIL",
        Ready,
        &[("MAIL FROM:<{sender}> SIZE=1000", "250"), ("RSET", "250"), ("mail from:<{sender}> size=0", "250")],
    )
    .needs(SIZE),
    Requirement::function(
        "RFC 1870 §6.1",
        "a size above the limit is refused with MAIL: 552, and another MAIL may follow",
        above_the_limit,
    )
    .needs(SIZE),
    Requirement::dialogue(
        "RFC 1870 §3",
        "a size of 20 digits is a number: 552",
        Ready,
        &[("MAIL FROM:<{sender}> SIZE=99999999999999999999", "552"), ("MAIL FROM:<{sender}>", "250")],
    )
    .needs(SIZE),
    Requirement::dialogue(
        "RFC 1870 §3",
        "a size that is no number is a syntax error",
        Ready,
        &[
            ("MAIL FROM:<{sender}> SIZE=many", "501|555"),
            ("MAIL FROM:<{sender}> SIZE=-1", "501|555"),
            ("MAIL FROM:<{sender}> SIZE=", "501|555"),
            ("MAIL FROM:<{sender}>", "250"),
        ],
    )
    .needs(SIZE),
    Requirement::function(
        "RFC 1870 §6.3",
        "a message larger than the limit is refused with 552 after its end, and the session lives",
        a_message_that_is_too_large,
    )
    .needs(SIZE),
    Requirement::function(
        "RFC 1870 §6.3",
        "a message that is larger than its SIZE said, but within the limit, is not refused for it",
        larger_than_declared,
    )
    .needs(SIZE),
];

fn limit(session: &Session) -> Result<u64> {
    let parameter = session.parameter("SIZE").context("no SIZE")?;
    if parameter.is_empty() { Ok(0) } else { parameter.parse().with_context(|| format!("SIZE {parameter}")) }
}

fn the_parameter_is_a_number(target: &Target) -> Result<()> {
    limit(&Session::ready(target)?).map(|_| ())
}

fn above_the_limit(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    let limit = limit(&session)?;
    // 0 is no limit (RFC 1870 §4).
    if limit > 0 {
        session.say(&target.fill(&format!("MAIL FROM:<{{sender}}> SIZE={}", limit + 1)))?.expect("552")?;
        session.say(&target.fill(&format!("MAIL FROM:<{{sender}}> SIZE={limit}")))?.expect("250|452")?;
    }
    Ok(())
}

fn a_message_that_is_too_large(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    let limit = limit(&session)?;
    if limit == 0 || limit > LARGEST_TRIED {
        return Ok(());
    }
    session.say(&target.fill("MAIL FROM:<{sender}>"))?.expect("250")?;
    session.say(&target.fill("RCPT TO:<{served}>"))?.expect("250")?;
    session.say("DATA")?.expect("354")?;
    let line = [b"x".repeat(998).as_slice(), b"\r\n"].concat();
    for _ in 0..=limit / 1000 {
        session.connection.send(&line)?;
    }
    session.raw(b".\r\n")?.expect("552")?;
    session.say("NOOP")?.expect("250")?;
    Ok(())
}

fn larger_than_declared(target: &Target) -> Result<()> {
    let text = format!("Subject: larger\r\n\r\n{}.\r\n", "0123456789\r\n".repeat(100));
    let reply = Session::ready(target)?.message(target, " SIZE=10", text.as_bytes())?;
    ensure!(reply.code == 250, "{reply}");
    Ok(())
}

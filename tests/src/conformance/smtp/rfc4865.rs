//! RFC 4865: FUTURERELEASE.

use anyhow::{Context as _, Result, ensure};

use super::super::Need::{Keyword, KeywordAndMaildrop};
use super::super::Requirement;
use super::super::target::Target;
use super::Start::Ready;
use super::{Session, delivered, found, marker};

const FUTURE: super::super::Need = Keyword("FUTURERELEASE");

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::function("RFC 4865 §4", "FUTURERELEASE says the longest interval and the last date", the_parameters)
        .needs(FUTURE),
    Requirement::dialogue(
        "RFC 4865 §5",
        "HOLDFOR takes a number of seconds",
        Ready,
        &[("MAIL FROM:<{sender}> HOLDFOR=60", "250"), ("RSET", "250"), ("MAIL FROM:<{sender}> holdfor=1", "250")],
    )
    .needs(FUTURE),
    Requirement::function("RFC 4865 §5", "HOLDUNTIL takes a date within the bounds", hold_until).needs(FUTURE),
    Requirement::dialogue(
        "RFC 4865 §5",
        "HOLDFOR and HOLDUNTIL together, or what is neither a number nor a date, are syntax errors",
        Ready,
        &[
            ("MAIL FROM:<{sender}> HOLDFOR=60 HOLDUNTIL=2026-12-01T00:00:00Z", "501"),
            ("MAIL FROM:<{sender}> HOLDFOR=soon", "501"),
            ("MAIL FROM:<{sender}> HOLDFOR=-1", "501"),
            ("MAIL FROM:<{sender}> HOLDFOR=0", "501"),
            ("MAIL FROM:<{sender}> HOLDUNTIL=tomorrow", "501"),
            ("MAIL FROM:<{sender}>", "250"),
        ],
    )
    .needs(FUTURE),
    Requirement::function("RFC 4865 §5", "an interval beyond the longest is refused", too_long).needs(FUTURE),
    Requirement::function(
        "RFC 4865 §3",
        "a held message is accepted, is not delivered before its time, and then is",
        held,
    )
    .needs(KeywordAndMaildrop("FUTURERELEASE")),
];

fn bounds(session: &Session) -> Result<(u64, jiff::Timestamp)> {
    let parameters = session.parameter("FUTURERELEASE").context("FUTURERELEASE is not offered")?;
    let (interval, date) = parameters.split_once(' ').context("FUTURERELEASE has two parameters")?;
    Ok((interval.parse().context("the longest interval")?, date.parse().context("the last date")?))
}

fn the_parameters(target: &Target) -> Result<()> {
    let (interval, date) = bounds(&Session::ready(target)?)?;
    ensure!(interval > 0, "the longest interval is 0");
    ensure!(date > jiff::Timestamp::now(), "the last date {date} has passed");
    Ok(())
}

fn hold_until(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    let date = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 60)?;
    session.say(&target.fill(&format!("MAIL FROM:<{{sender}}> HOLDUNTIL={date}")))?.expect("250")?;
    Ok(())
}

fn too_long(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    let (interval, _) = bounds(&session)?;
    session.say(&target.fill(&format!("MAIL FROM:<{{sender}}> HOLDFOR={}", interval + 1)))?.expect("5")?;
    session.say(&target.fill("MAIL FROM:<{sender}> HOLDUNTIL=9999-12-31T23:59:59Z"))?.expect("5")?;
    session.say(&target.fill("MAIL FROM:<{sender}>"))?.expect("250")?;
    Ok(())
}

fn held(target: &Target) -> Result<()> {
    let (now, later) = (marker(), marker());
    let begin = std::time::Instant::now();
    let mut session = Session::ready(target)?;
    session.message(target, " HOLDFOR=6", format!("Subject: {later}\r\n\r\n.\r\n").as_bytes())?.expect("250")?;
    session.message(target, "", format!("Subject: {now}\r\n\r\n.\r\n").as_bytes())?.expect("250")?;
    delivered(target, &now)?;
    let early = !found(target, &later)?.is_empty();
    // On a machine that was too slow to look in time, nothing was seen.
    ensure!(!early || begin.elapsed().as_secs() >= 6, "the message came before its time");
    if !early {
        delivered(target, &later)?;
        ensure!(begin.elapsed().as_secs() >= 5, "the message came before its time");
    }
    Ok(())
}

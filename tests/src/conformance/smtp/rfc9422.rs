//! RFC 9422: LIMITS.

use anyhow::{Context as _, Result, ensure};

use super::super::Need::Keyword;
use super::super::Requirement;
use super::super::target::Target;
use super::{Session, Start};

const LIMITS: super::super::Need = Keyword("LIMITS");
/// More recipients than this are not tried.
const MOST_TRIED: u32 = 5_000;

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::function("RFC 9422 §3", "each limit is NAME=VALUE, a number above 0 where it is a count", well_formed)
        .needs(LIMITS),
    Requirement::function("RFC 9422 §4.2", "RCPTMAX is kept: so many recipients are taken", as_many_as_promised)
        .needs(LIMITS),
    Requirement::function("RFC 9422 §4.2", "RCPTMAX is the limit: one more is refused with 452", one_more)
        .needs(LIMITS),
];

fn limits(session: &Session) -> Result<Vec<(String, String)>> {
    let parameters = session.parameter("LIMITS").context("LIMITS is not offered")?;
    let pairs = parameters.split(' ').filter(|word| !word.is_empty());
    pairs
        .map(|word| {
            let (name, value) = word.split_once('=').with_context(|| format!("{word:?} has no value"))?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

fn well_formed(target: &Target) -> Result<()> {
    let session = Session::ready(target)?;
    for (name, value) in limits(&session)? {
        if ["RCPTMAX", "MAILMAX", "RCPTDOMAINMAX"].contains(&name.as_str()) {
            let number: u32 = value.parse().with_context(|| format!("{name}={value}"))?;
            ensure!((1..=999_999).contains(&number), "{name}={value} is not from 1 to 999999");
        }
    }
    Ok(())
}

/// How many recipients a session is promised; nothing where there is no promise.
fn promised(session: &Session) -> Result<Option<u32>> {
    let limit = limits(session)?.into_iter().find(|(name, _)| name == "RCPTMAX");
    let number = limit.map(|(_, value)| value.parse::<u32>()).transpose()?;
    Ok(number.filter(|number| *number <= MOST_TRIED))
}

/// Adds recipients; each has a subaddress of its own, so that none is the same as another.
fn add(session: &mut Session, target: &Target, count: u32) -> Result<()> {
    for number in 1..=count {
        let reply = session.say(&target.fill(&format!("RCPT TO:<{{served-local}}+{number}@{{served-domain}}>")))?;
        ensure!(reply.code == 250, "recipient {number} is answered {reply}");
    }
    Ok(())
}

fn as_many_as_promised(target: &Target) -> Result<()> {
    let mut session = Session::at(target, Start::Mail)?;
    if let Some(count) = promised(&session)? {
        add(&mut session, target, count)?;
    }
    Ok(())
}

fn one_more(target: &Target) -> Result<()> {
    let mut session = Session::at(target, Start::Mail)?;
    if let Some(count) = promised(&session)? {
        add(&mut session, target, count)?;
        session.say(&target.fill("RCPT TO:<{served-local}+last@{served-domain}>"))?.expect("452")?;
        session.say("NOOP")?.expect("250")?;
    }
    Ok(())
}

//! RFC 6856: UTF8 and LANG.

use anyhow::{Context as _, Result, ensure};

use super::super::Need::Keyword;
use super::super::Requirement;
use super::super::target::Target;
use super::Start::{Authorization, Transaction};
use super::{Session, samples};

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::pop3(
        "RFC 6856 §2.1",
        "UTF8 is answered +OK before the login",
        Authorization,
        &[("UTF8", "+OK"), ("USER {user}", "+OK"), ("PASS {password}", "+OK")],
    )
    .needs(Keyword("UTF8")),
    Requirement::pop3(
        "RFC 6856 §2.1",
        "UTF8 after the login is refused",
        Transaction,
        &[("UTF8", "-ERR"), ("STAT", "+OK")],
    )
    .needs(Keyword("UTF8")),
    Requirement::pop3(
        "RFC 6856 §2.1",
        "UTF8 takes no argument",
        Authorization,
        &[("UTF8 now", "-ERR"), ("UTF8", "+OK")],
    )
    .needs(Keyword("UTF8")),
    Requirement::function("RFC 6856 §2.1", "in UTF-8 mode a message is sent as it is", as_it_is).needs(Keyword("UTF8")),
    Requirement::function(
        "RFC 6856 §2.2",
        "UTF8 USER: names and passwords in UTF-8 are read, and refused when wrong",
        utf8_user,
    )
    .needs(Keyword("UTF8")),
    Requirement::function("RFC 6856 §3", "LANG lists languages, each with a name in itself", languages)
        .needs(Keyword("LANG")),
    Requirement::function("RFC 6856 §3", "LANG with a listed language is answered +OK and its tag", chosen)
        .needs(Keyword("LANG")),
    Requirement::pop3(
        "RFC 6856 §3",
        "LANG with a language that is not there is refused; the session lives",
        Authorization,
        &[("LANG x-nobody-speaks-this", "-ERR"), ("CAPA", "lines")],
    )
    .needs(Keyword("LANG")),
    Requirement::pop3(
        "RFC 6856 §3",
        "LANG * chooses the server's preference",
        Transaction,
        &[("LANG *", "+OK"), ("NOOP", "+OK")],
    )
    .needs(Keyword("LANG")),
];

fn as_it_is(target: &Target) -> Result<()> {
    let mut session = Session::protected(target)?;
    session.ok("UTF8")?;
    session.log_in(target)?;
    let number = session.sample(&samples::WIDE)?;
    let message = session.fetch(&format!("RETR {number}"))?;
    ensure!(message.ends_with(&samples::WIDE.text()), "the message changed");
    session.ok("QUIT")?;
    Ok(())
}

fn utf8_user(target: &Target) -> Result<()> {
    let mut session = Session::protected(target)?;
    session.ok("UTF8")?;
    session.say("USER jürgen@example.org")?;
    session.err("PASS Straße")?;
    session.list("CAPA")?;
    Ok(())
}

fn tags(target: &Target) -> Result<Vec<String>> {
    let mut session = Session::protected(target)?;
    let lines = session.list("LANG")?;
    lines
        .iter()
        .map(|line| {
            let (tag, name) = line.split_once(' ').with_context(|| format!("LANG lists {line:?}"))?;
            ensure!(!tag.is_empty() && !name.is_empty(), "LANG lists {line:?}");
            Ok(tag.to_owned())
        })
        .collect()
}

fn languages(target: &Target) -> Result<()> {
    ensure!(!tags(target)?.is_empty(), "LANG lists nothing");
    Ok(())
}

fn chosen(target: &Target) -> Result<()> {
    for tag in tags(target)? {
        let answer = Session::protected(target)?.ok(&format!("LANG {tag}"))?;
        ensure!(
            answer.split(' ').next().is_some_and(|first| first.eq_ignore_ascii_case(&tag)),
            "LANG {tag} is answered {answer:?}"
        );
    }
    Ok(())
}

//! RFC 3461: DSN.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::super::Need::{Keyword, KeywordAndMaildrop};
use super::super::Requirement;
use super::super::target::Target;
use super::Start::{Mail, Ready, Recipient};
use super::{Session, delivered, found, marker};

const DSN: super::super::Need = Keyword("DSN");

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::dialogue(
        "RFC 3461 §4.1",
        "NOTIFY takes NEVER, or a list of SUCCESS, FAILURE and DELAY",
        Mail,
        &[
            ("RCPT TO:<{served}> NOTIFY=NEVER", "250"),
            ("RCPT TO:<{served}> NOTIFY=SUCCESS", "250"),
            ("RCPT TO:<{served}> NOTIFY=FAILURE,DELAY", "250"),
            ("RCPT TO:<{served}> notify=success,failure,delay", "250"),
        ],
    )
    .needs(DSN),
    Requirement::dialogue(
        "RFC 3461 §4.1",
        "NOTIFY with NEVER among others, with other words or with nothing is a syntax error",
        Mail,
        &[
            ("RCPT TO:<{served}> NOTIFY=NEVER,SUCCESS", "501"),
            ("RCPT TO:<{served}> NOTIFY=SOMETIMES", "501"),
            ("RCPT TO:<{served}> NOTIFY=", "501"),
            ("RCPT TO:<{served}> NOTIFY=SUCCESS NOTIFY=FAILURE", "501"),
            ("RCPT TO:<{served}>", "250"),
        ],
    )
    .needs(DSN),
    Requirement::dialogue(
        "RFC 3461 §4.2",
        "ORCPT takes an address type and an address as xtext",
        Mail,
        &[
            ("RCPT TO:<{served}> ORCPT=rfc822;someone+2Belse@example.org", "250"),
            ("RCPT TO:<{served}> NOTIFY=SUCCESS ORCPT=rfc822;a@example.org", "250"),
        ],
    )
    .needs(DSN),
    Requirement::dialogue(
        "RFC 3461 §4.2",
        "ORCPT without a type, or with what is no xtext, is a syntax error",
        Mail,
        &[
            ("RCPT TO:<{served}> ORCPT=a@example.org", "501"),
            ("RCPT TO:<{served}> ORCPT=rfc822;a+ZZ@example.org", "501"),
            ("RCPT TO:<{served}> ORCPT=rfc822;a=b@example.org", "501"),
            ("RCPT TO:<{served}>", "250"),
        ],
    )
    .needs(DSN),
    Requirement::dialogue(
        "RFC 3461 §4.3",
        "RET takes FULL and HDRS, and nothing else",
        Ready,
        &[
            ("MAIL FROM:<{sender}> RET=FULL", "250"),
            ("RSET", "250"),
            ("MAIL FROM:<{sender}> RET=hdrs", "250"),
            ("RSET", "250"),
            ("MAIL FROM:<{sender}> RET=HALF", "501"),
            ("MAIL FROM:<{sender}> RET=FULL RET=HDRS", "501"),
        ],
    )
    .needs(DSN),
    Requirement::dialogue(
        "RFC 3461 §4.4",
        "ENVID takes up to 100 octets of xtext",
        Ready,
        &[
            ("MAIL FROM:<{sender}> ENVID=QQ314159", "250"),
            ("RSET", "250"),
            ("MAIL FROM:<{sender}> RET=HDRS ENVID=a+2Bb+3D", "250"),
            ("RSET", "250"),
            ("MAIL FROM:<{sender}> ENVID=a+zz", "501"),
            ("MAIL FROM:<{sender}> ENVID=", "501"),
            ("MAIL FROM:<{sender}> ENVID=a ENVID=b", "501"),
        ],
    )
    .needs(DSN),
    Requirement::function("RFC 3461 §4.4", "an ENVID of 101 octets is a syntax error", a_long_envelope_id).needs(DSN),
    Requirement::function("RFC 3461 §4.2", "an ORCPT of 500 octets is taken", a_long_original_recipient).needs(DSN),
    Requirement::dialogue(
        "RFC 3461 §5",
        "the parameters do not change what is accepted",
        Recipient,
        &[("DATA", "354"), ("Subject: a\r\n\r\n.\r\n", "250")],
    )
    .needs(DSN),
    Requirement::function(
        "RFC 3461 §6.2",
        "NOTIFY=SUCCESS brings a report of delivery with ENVID and ORCPT as they were given",
        a_report_of_delivery,
    )
    .needs(KeywordAndMaildrop("DSN")),
    Requirement::function(
        "RFC 3461 §6.2",
        "NOTIFY=FAILURE, NOTIFY=NEVER and no NOTIFY bring no report of delivery",
        no_report,
    )
    .needs(KeywordAndMaildrop("DSN")),
];

fn a_long_envelope_id(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    session.say(&target.fill(&format!("MAIL FROM:<{{sender}}> ENVID={}", "x".repeat(101))))?.expect("501")?;
    session.say(&target.fill(&format!("MAIL FROM:<{{sender}}> ENVID={}", "x".repeat(100))))?.expect("250")?;
    Ok(())
}

fn a_long_original_recipient(target: &Target) -> Result<()> {
    let mut session = Session::at(target, Mail)?;
    let original = format!("rfc822;{}@example.org", "x".repeat(480));
    session.say(&target.fill(&format!("RCPT TO:<{{served}}> ORCPT={original}")))?.expect("250")?;
    Ok(())
}

/// Sends a message to the maildrop's owner whose report would come to the same maildrop.
fn send(target: &Target, envelope_id: &str, notify: &str) -> Result<String> {
    let marker = marker();
    let mut session = Session::ready(target)?;
    session.say(&target.fill(&format!("MAIL FROM:<{{served}}> RET=HDRS ENVID={envelope_id}")))?.expect("250")?;
    let recipient = format!("RCPT TO:<{{served}}>{notify} ORCPT=rfc822;first@example.org");
    session.say(&target.fill(&recipient))?.expect("250")?;
    session.say("DATA")?.expect("354")?;
    // In the body, which a report with RET=HDRS does not bring back.
    session.raw(format!("Subject: reported\r\n\r\nthe body {marker}\r\n.\r\n").as_bytes())?.expect("250")?;
    delivered(target, &marker)?;
    Ok(marker)
}

fn a_report_of_delivery(target: &Target) -> Result<()> {
    let envelope_id = format!("ID-{}", marker());
    send(target, &envelope_id, " NOTIFY=SUCCESS")?;
    let report =
        String::from_utf8_lossy(&delivered(target, &format!("Original-Envelope-Id: {envelope_id}"))?).into_owned();
    let lower = report.to_ascii_lowercase();
    for expected in [
        "multipart/report",
        "report-type=delivery-status",
        "message/delivery-status",
        "reporting-mta:",
        "original-recipient: rfc822;first@example.org",
        "final-recipient: rfc822;",
        "action: delivered",
        "status: 2.",
    ] {
        let found = lower.replace("; ", ";").replace('"', "").contains(&expected.replace("; ", ";"));
        ensure!(found, "the report does not say {expected:?}:\n{report}");
    }
    ensure!(!report.contains("the body"), "RET=HDRS, but the report has the body");
    Ok(())
}

fn no_report(target: &Target) -> Result<()> {
    let mut ids = Vec::new();
    for notify in ["", " NOTIFY=NEVER", " NOTIFY=FAILURE", " NOTIFY=FAILURE,DELAY"] {
        let id = format!("ID-{}", marker());
        send(target, &id, notify)?;
        ids.push(id);
    }
    // One that is reported, sent last: when its report is there, the others' would be.
    let last = format!("ID-{}", marker());
    send(target, &last, " NOTIFY=SUCCESS")?;
    delivered(target, &format!("Original-Envelope-Id: {last}"))?;
    let begin = Instant::now();
    for id in ids {
        ensure!(
            found(target, &format!("Original-Envelope-Id: {id}"))?.is_empty(),
            "a report that nobody asked for came"
        );
        ensure!(begin.elapsed() < Duration::from_secs(60), "the maildrop answers too slowly");
    }
    Ok(())
}

//! RFC 8689: REQUIRETLS.

use anyhow::{Result, ensure};

use super::super::Need::Keyword;
use super::super::Requirement;
use super::super::target::{Target, Tls};
use super::Session;
use super::Start::Ready;

const REQUIRETLS: super::super::Need = Keyword("REQUIRETLS");

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::function("RFC 8689 §2", "REQUIRETLS is offered under TLS only", under_tls_only).needs(REQUIRETLS),
    Requirement::dialogue(
        "RFC 8689 §3",
        "MAIL takes REQUIRETLS, which has no value",
        Ready,
        &[
            ("MAIL FROM:<{sender}> REQUIRETLS=1", "501|555"),
            ("MAIL FROM:<{sender}> REQUIRETLS", "250"),
            ("RSET", "250"),
        ],
    )
    .needs(REQUIRETLS),
    Requirement::dialogue(
        "RFC 8689 §4.2",
        "a message that requires TLS is accepted for a mailbox here",
        Ready,
        &[
            ("MAIL FROM:<{sender}> REQUIRETLS", "250"),
            ("RCPT TO:<{served}>", "250"),
            ("DATA", "354"),
            ("Subject: under seal\r\n\r\n.\r\n", "250"),
        ],
    )
    .needs(REQUIRETLS),
    Requirement::dialogue(
        "RFC 8689 §5",
        "the TLS-Required field is taken",
        Ready,
        &[
            ("MAIL FROM:<{sender}>", "250"),
            ("RCPT TO:<{served}>", "250"),
            ("DATA", "354"),
            ("Subject: open\r\nTLS-Required: No\r\n\r\n.\r\n", "250"),
        ],
    )
    .needs(REQUIRETLS),
];

fn under_tls_only(target: &Target) -> Result<()> {
    ensure!(target.port.tls != Tls::None, "REQUIRETLS is offered in clear");
    if target.port.tls == Tls::Starttls {
        let mut session = Session::clear(target)?;
        ensure!(session.parameter("REQUIRETLS").is_none(), "REQUIRETLS is offered in clear");
        session.say(&target.fill("MAIL FROM:<{sender}> REQUIRETLS"))?.expect("5")?;
    }
    Ok(())
}

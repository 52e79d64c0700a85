//! RFC 2852: DELIVERBY.

use super::super::Need::Keyword;
use super::super::Requirement;
use super::Start::Ready;

const DELIVER_BY: super::super::Need = Keyword("DELIVERBY");

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::dialogue(
        "RFC 2852 §4",
        "BY takes seconds and a mode: R or N, each with T or without",
        Ready,
        &[
            ("MAIL FROM:<{sender}> BY=86400;R", "250"),
            ("RSET", "250"),
            ("MAIL FROM:<{sender}> BY=86400;N", "250"),
            ("RSET", "250"),
            ("MAIL FROM:<{sender}> BY=86400;RT", "250"),
            ("RSET", "250"),
            ("MAIL FROM:<{sender}> by=86400;nt", "250"),
        ],
    )
    .needs(DELIVER_BY),
    Requirement::dialogue(
        "RFC 2852 §4",
        "a time that has passed is possible where the sender is only told, mode N",
        Ready,
        &[("MAIL FROM:<{sender}> BY=-120;N", "250"), ("RSET", "250")],
    )
    .needs(DELIVER_BY),
    Requirement::dialogue(
        "RFC 2852 §4",
        "where the message is to be returned, mode R, a time that has passed is a syntax error",
        Ready,
        &[
            ("MAIL FROM:<{sender}> BY=0;R", "501"),
            ("MAIL FROM:<{sender}> BY=-1;R", "501"),
            ("MAIL FROM:<{sender}>", "250"),
        ],
    )
    .needs(DELIVER_BY),
    Requirement::dialogue(
        "RFC 2852 §4",
        "another form, and BY twice, are syntax errors",
        Ready,
        &[
            ("MAIL FROM:<{sender}> BY=120", "501"),
            ("MAIL FROM:<{sender}> BY=;R", "501"),
            ("MAIL FROM:<{sender}> BY=120;X", "501"),
            ("MAIL FROM:<{sender}> BY=9999999999;R", "501"),
            ("MAIL FROM:<{sender}> BY=120;R BY=120;R", "501"),
            ("MAIL FROM:<{sender}> BY", "501"),
            ("MAIL FROM:<{sender}>", "250"),
        ],
    )
    .needs(DELIVER_BY),
    Requirement::dialogue(
        "RFC 2852 §5",
        "a message with a deadline is accepted for a mailbox here",
        Ready,
        &[
            ("MAIL FROM:<{sender}> BY=86400;R", "250"),
            ("RCPT TO:<{served}>", "250"),
            ("DATA", "354"),
            ("Subject: in time\r\n\r\n.\r\n", "250"),
        ],
    )
    .needs(DELIVER_BY),
];

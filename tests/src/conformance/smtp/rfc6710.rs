//! RFC 6710: MT-PRIORITY.

use super::super::Need::Keyword;
use super::super::Requirement;
use super::Start::Ready;

const PRIORITY: super::super::Need = Keyword("MT-PRIORITY");

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::dialogue(
        "RFC 6710 §3",
        "MAIL takes a priority from -9 to 9",
        Ready,
        &[
            ("MAIL FROM:<{sender}> MT-PRIORITY=0", "250"),
            ("RSET", "250"),
            ("MAIL FROM:<{sender}> MT-PRIORITY=9", "250"),
            ("RSET", "250"),
            ("MAIL FROM:<{sender}> mt-priority=-9", "250"),
            ("RSET", "250"),
        ],
    )
    .needs(PRIORITY),
    Requirement::dialogue(
        "RFC 6710 §3",
        "what is no priority is a syntax error",
        Ready,
        &[
            ("MAIL FROM:<{sender}> MT-PRIORITY=10", "501"),
            ("MAIL FROM:<{sender}> MT-PRIORITY=-10", "501"),
            ("MAIL FROM:<{sender}> MT-PRIORITY=high", "501"),
            ("MAIL FROM:<{sender}> MT-PRIORITY=", "501"),
            ("MAIL FROM:<{sender}> MT-PRIORITY", "501"),
            ("MAIL FROM:<{sender}>", "250"),
        ],
    )
    .needs(PRIORITY),
    Requirement::dialogue(
        "RFC 6710 §3",
        "a priority may be given once",
        Ready,
        &[("MAIL FROM:<{sender}> MT-PRIORITY=1 MT-PRIORITY=2", "501")],
    )
    .needs(PRIORITY),
    Requirement::dialogue(
        "RFC 6710 §4.1",
        "a message with a priority is accepted",
        Ready,
        &[
            ("MAIL FROM:<{sender}> MT-PRIORITY=3", "250"),
            ("RCPT TO:<{served}>", "250"),
            ("DATA", "354"),
            ("Subject: first class\r\n\r\n.\r\n", "250"),
        ],
    )
    .needs(PRIORITY),
];

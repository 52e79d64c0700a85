//! RFC 6152: 8BITMIME.

use anyhow::Result;

use super::super::Need::{Keyword, KeywordAndMaildrop};
use super::super::Requirement;
use super::super::target::Target;
use super::Start::Ready;
use super::carries;

const EIGHT_BIT: super::super::Need = Keyword("8BITMIME");

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::dialogue(
        "RFC 6152 §2",
        "BODY=7BIT and BODY=8BITMIME are accepted, in any case",
        Ready,
        &[
            ("MAIL FROM:<{sender}> BODY=7BIT", "250"),
            ("RSET", "250"),
            ("MAIL FROM:<{sender}> BODY=8BITMIME", "250"),
            ("RSET", "250"),
            ("MAIL FROM:<{sender}> body=8bitmime", "250"),
        ],
    )
    .needs(EIGHT_BIT),
    Requirement::dialogue(
        "RFC 6152 §2",
        "another body-value is refused: 501, 504 or 555",
        Ready,
        &[
            ("MAIL FROM:<{sender}> BODY=9BIT", "501|504|555"),
            ("MAIL FROM:<{sender}> BODY=", "501|504|555"),
            ("MAIL FROM:<{sender}> BODY", "501|504|555"),
            ("MAIL FROM:<{sender}>", "250"),
        ],
    )
    .needs(EIGHT_BIT),
    Requirement::dialogue(
        "RFC 5321 §4.1.1.11",
        "a parameter that is given twice is a syntax error",
        Ready,
        &[("MAIL FROM:<{sender}> BODY=7BIT BODY=8BITMIME", "501|555")],
    )
    .needs(EIGHT_BIT),
    Requirement::octets(
        "RFC 6152 §3",
        "octets above 127 are delivered as they came",
        eight_bits_arrive,
        b"Gr\xc3\xbc\xc3\x9fe \xff\xfe\x80\r\n",
    )
    .needs(KeywordAndMaildrop("8BITMIME")),
];

fn eight_bits_arrive(target: &Target, text: &[u8]) -> Result<()> {
    carries(target, " BODY=8BITMIME", &[text, b".\r\n"].concat(), text)
}

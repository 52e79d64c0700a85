//! RFC 3030: CHUNKING and BINARYMIME.

use anyhow::{Result, ensure};

use super::super::Need::{Keyword, KeywordAndMaildrop};
use super::super::Requirement;
use super::super::client::show;
use super::super::target::Target;
use super::Start::{Mail, Ready, Recipient};
use super::{Session, delivered, marker};

const CHUNKING: super::super::Need = Keyword("CHUNKING");
const BINARY: super::super::Need = Keyword("BINARYMIME");

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::dialogue(
        "RFC 3030 §2",
        "a message may be one chunk, and the transaction is over then",
        Recipient,
        &[
            ("BDAT 14 LAST\r\nSubject: a\r\n\r\n", "250"),
            ("RCPT TO:<{served}>", "503"),
            ("MAIL FROM:<{sender}>", "250"),
        ],
    )
    .needs(CHUNKING),
    Requirement::dialogue(
        "RFC 3030 §2",
        "each chunk has its reply; the last one may be empty",
        Recipient,
        &[
            ("BDAT 14\r\nSubject: a\r\n\r\n", "250"),
            ("BDAT 6\r\nfour\r\n", "250"),
            ("BDAT 0 LAST", "250"),
            ("NOOP", "250"),
        ],
    )
    .needs(CHUNKING),
    Requirement::dialogue(
        "RFC 3030 §2",
        "the keywords are taken in any case",
        Recipient,
        &[("bdat 14 last\r\nSubject: a\r\n\r\n", "250"), ("NOOP", "250")],
    )
    .needs(CHUNKING),
    Requirement::dialogue(
        "RFC 3030 §2",
        "BDAT without recipients is refused with 503 or 554, and its octets are not commands",
        Mail,
        &[("BDAT 6 LAST\r\nNOOP\r\n", "503|554"), ("RSET", "250"), ("MAIL FROM:<{sender}>", "250")],
    )
    .needs(CHUNKING),
    Requirement::dialogue(
        "RFC 3030 §2",
        "BDAT before MAIL is refused with 503, and its octets are not commands",
        Ready,
        &[("BDAT 6 LAST\r\nNOOP\r\n", "503"), ("RSET", "250")],
    )
    .needs(CHUNKING),
    Requirement::dialogue(
        "RFC 3030 §2",
        "DATA after BDAT in one transaction is an order error",
        Recipient,
        &[("BDAT 14\r\nSubject: a\r\n\r\n", "250"), ("DATA", "503"), ("RSET", "250")],
    )
    .needs(CHUNKING),
    Requirement::dialogue(
        "RFC 3030 §2",
        "MAIL and RCPT within a series of chunks are order errors",
        Recipient,
        &[
            ("BDAT 14\r\nSubject: a\r\n\r\n", "250"),
            ("RCPT TO:<{served}>", "503"),
            ("MAIL FROM:<{sender}>", "503"),
            ("RSET", "250"),
        ],
    )
    .needs(CHUNKING),
    Requirement::dialogue(
        "RFC 3030 §2",
        "RSET within a series of chunks forgets them",
        Recipient,
        &[
            ("BDAT 14\r\nSubject: a\r\n\r\n", "250"),
            ("RSET", "250"),
            ("BDAT 0 LAST", "503"),
            ("MAIL FROM:<{sender}>", "250"),
        ],
    )
    .needs(CHUNKING),
    Requirement::function(
        "RFC 3030 §2",
        "BDAT without a number is a syntax error; the server may close, since it cannot know where the chunk ends",
        without_a_number,
    )
    .needs(CHUNKING),
    Requirement::function("RFC 3030 §4.2", "MAIL, RCPT and chunks may be pipelined in one packet", pipelined_chunks)
        .needs(CHUNKING),
    Requirement::function(
        "RFC 3030 §2",
        "a chunk may be divided anywhere, and what looks like a command within it is none",
        a_divided_chunk,
    )
    .needs(KeywordAndMaildrop("CHUNKING")),
    Requirement::octets(
        "RFC 3030 §2",
        "dots are not doubled in chunks: a line that is a dot is text",
        chunks_arrive,
        b".\r\n..\r\n.x\r\n\r\n.\r\n",
    )
    .needs(KeywordAndMaildrop("CHUNKING")),
    Requirement::function("RFC 3030 §2", "a chunk beyond the limit on size is refused with 552", a_chunk_too_large)
        .needs(CHUNKING),
    Requirement::dialogue(
        "RFC 3030 §3",
        "BODY=BINARYMIME is accepted, and DATA is refused then: 503",
        Ready,
        &[
            ("MAIL FROM:<{sender}> BODY=BINARYMIME", "250"),
            ("RCPT TO:<{served}>", "250"),
            ("DATA", "503"),
            ("RSET", "250"),
        ],
    )
    .needs(BINARY),
    Requirement::function("RFC 3030 §3", "a server with BINARYMIME offers CHUNKING", with_chunking).needs(BINARY),
    Requirement::octets(
        "RFC 3030 §3",
        "a binary body is delivered, or comes back: never another one",
        binary_arrives,
        b"nul \0, bare \n, bare \r, \xff\x80, and an end without CRLF",
    )
    .needs(KeywordAndMaildrop("BINARYMIME")),
];

fn without_a_number(target: &Target) -> Result<()> {
    for command in ["BDAT", "BDAT many", "BDAT -1"] {
        Session::at(target, Recipient)?.say(command)?.expect("501|421|521")?;
    }
    Ok(())
}

fn pipelined_chunks(target: &Target) -> Result<()> {
    let mut session = Session::ready(target)?;
    let group =
        "MAIL FROM:<{sender}>\r\nRCPT TO:<{served}>\r\nBDAT 14\r\nSubject: a\r\n\r\nBDAT 6 LAST\r\nfour\r\nNOOP\r\n";
    session.connection.send(target.fill(group).as_bytes())?;
    for number in 1..=5 {
        let reply = session.reply()?;
        ensure!(reply.code == 250, "reply {number} is {reply}");
    }
    Ok(())
}

fn chunked(target: &Target, parameters: &str, text: &[u8]) -> Result<Vec<u8>> {
    let marker = marker();
    let header = format!(
        "Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nFrom: <suite@sender.example>\r\nMessage-ID: <{marker}@sender.example>\r\n\
         Subject: {marker}\r\n\r\n"
    );
    let mut session = Session::ready(target)?;
    session.say(&target.fill(&format!("MAIL FROM:<{{sender}}>{parameters}")))?.expect("250")?;
    session.say(&target.fill("RCPT TO:<{served}>"))?.expect("250")?;
    session.raw(format!("BDAT {}\r\n{header}", header.len()).as_bytes())?.expect("250")?;
    session.raw(&[format!("BDAT {} LAST\r\n", text.len()).as_bytes(), text].concat())?.expect("250")?;
    delivered(target, &marker)
}

fn chunks_arrive(target: &Target, text: &[u8]) -> Result<()> {
    let message = chunked(target, "", text)?;
    ensure!(message.ends_with(text), "delivered: {}", show(&message[message.len().saturating_sub(80)..]));
    Ok(())
}

fn a_divided_chunk(target: &Target) -> Result<()> {
    let marker = marker();
    let mut session = Session::at(target, Recipient)?;
    let text = format!(
        "Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nFrom: <s@sender.example>\r\nMessage-ID: <{marker}@sender.example>\r\n\r\nQUIT\r\n.\r\nBDAT 3 LAST\r\nRSET\r\n"
    );
    let whole = format!("BDAT {} LAST\r\n{text}NOOP\r\n", text.len());
    for octet in whole.as_bytes() {
        session.connection.send(&[*octet])?;
    }
    session.reply()?.expect("250")?;
    session.reply()?.expect("250")?;
    let message = delivered(target, &marker)?;
    ensure!(message.ends_with(text.as_bytes()), "delivered: {}", show(&message));
    Ok(())
}

fn a_chunk_too_large(target: &Target) -> Result<()> {
    let mut session = Session::at(target, Recipient)?;
    let Some(limit) = session.parameter("SIZE").and_then(|size| size.parse::<u64>().ok()) else { return Ok(()) };
    if limit == 0 || limit > 64 << 20 {
        return Ok(());
    }
    session.connection.send(format!("BDAT {} LAST\r\n", limit + 1).as_bytes())?;
    let piece = vec![b'x'; 65_536];
    let mut left = limit + 1;
    while left > 0 {
        let count = left.min(piece.len() as u64);
        // A server may refuse before it has everything, and close.
        if session.connection.send(&piece[..usize::try_from(count)?]).is_err() {
            break;
        }
        left -= count;
    }
    session.reply()?.expect("552")?;
    Ok(())
}

fn with_chunking(target: &Target) -> Result<()> {
    ensure!(Session::ready(target)?.parameter("CHUNKING").is_some(), "CHUNKING is not offered");
    Ok(())
}

fn binary_arrives(target: &Target, text: &[u8]) -> Result<()> {
    let message = chunked(target, " BODY=BINARYMIME", text)?;
    // POP3 ends what it sends with CRLF, whatever the message's last line.
    let found = message.windows(text.len()).any(|window| window == text);
    ensure!(found, "delivered: {}", show(&message[message.len().saturating_sub(120)..]));
    Ok(())
}

//! CHUNKING and BINARYMIME (RFC 3030).

use super::*;

const TO_RCPT: &[u8] = b"EHLO c\r\nMAIL FROM:<x@else.example>\r\nRCPT TO:<anna@server1.com>\r\n";

fn at_rcpt() -> World {
    let mut world = after_greeting(settings(), false);
    world.feed(TO_RCPT);
    assert_eq!(world.codes(), ["250", "250 2.1.0", "250 2.1.5"]);
    world
}

#[test]
fn a_message_in_pipelined_chunks() {
    let mut world = at_rcpt();
    world.feed(b"BDAT 9\r\nSubject: BDAT 5\r\nx\r\n\r\nBDAT 0\r\nBDAT 5 LAST\r\n.\r\n.\nQUIT\r\n");
    assert_eq!(world.codes(), ["250 2.0.0", "250 2.0.0", "250 2.0.0", "550 5.6.11", "221 2.0.0"], "a bare LF is in it");
    let mut world = at_rcpt();
    world.feed(b"BDAT 9\r\nSubject: BDAT 5\r\nx\r\n\r\nBDAT 0\r\nBDAT 5 last\r\n.\r\n..MAIL FROM:<>\r\n");
    assert_eq!(world.codes(), ["250 2.0.0", "250 2.0.0", "250 2.0.0", "250 2.0.0", "250 2.1.0"]);
    assert_eq!(world.messages[0].1, b"Subject: x\r\n\r\n.\r\n..\r\n", "dots are not stuffed, and the last line ends");
}

#[test]
fn binary_octets_are_kept_as_they_are() {
    let mut world = after_greeting(settings(), false);
    world.feed(b"EHLO c\r\nMAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<anna@server1.com>\r\nDATA\r\n");
    assert_eq!(
        world.codes(),
        ["250", "250 2.1.0", "250 2.1.5", "503 5.5.1"],
        "only BDAT carries it (RFC 3030 section 3)"
    );
    world.feed(b"BDAT 4\r\n\r\0\n\xffBDAT 3 LAST\r\n\n.\r");
    assert_eq!(world.codes(), ["250 2.0.0", "250 2.0.0"]);
    assert_eq!(world.messages[0].1, b"\r\0\n\xff\n.\r");
    assert_eq!(world.messages[0].0.mail.body, BodyType::BinaryMime);
}

/// It is stored as it will be fetched (RFC 1939 §11), however the chunks divide it.
#[test]
fn the_last_line_ends() {
    for wire in [
        &b"BDAT 3 LAST\r\na\r\n"[..],
        b"BDAT 1\r\naBDAT 0 LAST\r\n",
        b"BDAT 2\r\na\rBDAT 1 LAST\r\n\n",
        b"BDAT 3\r\na\r\nBDAT 0 LAST\r\n",
        b"BDAT 1 LAST\r\na",
    ] {
        let mut world = at_rcpt();
        world.feed(wire);
        assert_eq!(world.codes().last().unwrap(), "250 2.0.0");
        assert_eq!((world.messages[0].1.as_slice(), world.messages[0].0.octets), (&b"a\r\n"[..], 3), "{wire:?}");
    }
}

#[test]
fn an_empty_message() {
    let mut world = at_rcpt();
    world.feed(b"BDAT 0 LAST\r\n");
    assert_eq!((world.codes(), world.messages[0].1.len()), (vec!["250 2.0.0".to_owned()], 0));
}

#[test]
fn a_refused_chunk_is_no_command() {
    let mut world = after_greeting(settings(), false);
    world.feed(b"BDAT 6\r\nQUIT\r\nEHLO c\r\nBDAT 6 LAST\r\nQUIT\r\nMAIL FROM:<>\r\nBDAT 6\r\nQUIT\r\n");
    assert_eq!(world.codes(), ["503 5.5.1", "250", "503 5.5.1", "250 2.1.0", "554 5.5.1"]);
    assert!(!world.closed && world.spool.is_none());
}

#[test]
fn after_an_error_in_the_middle_the_rest_is_refused() {
    let mut world = at_rcpt();
    world.feed(b"BDAT 3\r\na\nbBDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\n");
    assert_eq!(world.codes(), ["550 5.6.11", "503 5.5.1", "503 5.5.1"]);
    assert!(world.messages.is_empty() && world.spool.is_none() && !world.closed);
    world.feed(&TO_RCPT[8..]);
    world.feed(b"BDAT 2 LAST\r\nok");
    assert_eq!(world.codes(), ["250 2.1.0", "250 2.1.5", "250 2.0.0"]);
}

#[test]
fn rset_forgets_the_chunks() {
    let mut world = at_rcpt();
    world.feed(b"BDAT 3\r\nabcRSET\r\nBDAT 0 LAST\r\n");
    assert_eq!(world.codes(), ["250 2.0.0", "250 2.0.0", "503 5.5.1"]);
    assert!(world.spool.is_none() && world.messages.is_empty());
}

#[test]
fn nothing_else_comes_between_chunks() {
    let mut world = at_rcpt();
    world.feed(b"BDAT 3\r\nabcDATA\r\nRCPT TO:<tom@server1.com>\r\nMAIL FROM:<>\r\nNOOP\r\nBDAT 3 LAST\r\ndef");
    assert_eq!(world.codes(), ["250 2.0.0", "503 5.5.1", "503 5.5.1", "503 5.5.1", "250 2.0.0", "250 2.0.0"]);
    assert_eq!((world.messages[0].1.as_slice(), world.messages[0].0.recipients.len()), (&b"abcdef\r\n"[..], 1));
}

#[test]
fn the_size_of_all_chunks_together_is_bounded() {
    let mut world = at_rcpt();
    for _ in 0..2 {
        world.feed(b"BDAT 5000\r\n");
        world.feed(&[b'x'; 5_000]);
    }
    world.feed(b"BDAT 1\r\nx");
    assert_eq!(world.codes(), ["250 2.0.0", "250 2.0.0", "552 5.3.4"]);
    assert!(world.spool.is_none() && !world.closed);
    // What is announced is more than anybody passes over.
    let mut world = at_rcpt();
    world.feed(b"BDAT 18446744073709551615 LAST\r\nx");
    assert_eq!(world.codes(), ["552 5.3.4", "421 4.3.4"]);
    assert!(world.closed);
}

#[test]
fn a_size_that_cannot_be_read_ends_the_session() {
    for line in ["BDAT", "BDAT ten", "BDAT -1 LAST", "BDAT 1 FIRST", "BDAT 184467440737095516150"] {
        let mut world = at_rcpt();
        world.feed(format!("{line}\r\nQUIT\r\n").as_bytes());
        assert_eq!(world.codes(), ["501 5.5.4", "421 4.5.4"], "{line}");
        assert!(world.closed && world.messages.is_empty());
    }
}

#[test]
fn chunks_that_cannot_be_kept() {
    for wire in [&b"BDAT 3\r\nabc"[..], b"BDAT 3 LAST\r\nabc"] {
        let mut world = at_rcpt();
        world.broken_disk = true;
        world.feed(wire);
        assert_eq!(world.codes(), ["452 4.3.1"]);
        world.feed(b"BDAT 1 LAST\r\nx");
        assert_eq!(world.codes(), ["503 5.5.1"]);
        assert!(world.messages.is_empty() && world.spool.is_none() && !world.closed);
    }
}

#[test]
fn many_small_chunks_are_no_idle_commands() {
    let mut world = at_rcpt();
    world.feed(&b"BDAT 1\r\nx".repeat(5_000));
    world.feed(b"BDAT 0 LAST\r\n");
    assert_eq!(world.codes().last().unwrap(), "250 2.0.0");
    assert_eq!(world.messages[0].1.len(), 5_002);
}

#[test]
fn shutting_down_waits_for_the_last_chunk() {
    let mut world = at_rcpt();
    world.feed(b"BDAT 3\r\nabc");
    world.machine.shut_down();
    world.settle();
    assert_eq!(world.codes(), ["250 2.0.0"]);
    assert!(world.machine.has_message_in_flight() && world.machine.is_receiving());
    world.feed(b"BDAT 3 LAST\r\ndef");
    assert_eq!(world.codes(), ["250 2.0.0", "421 4.3.2"]);
    assert_eq!(world.messages[0].1, b"abcdef\r\n");
}

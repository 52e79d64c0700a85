//! POP3: the machine as a whole, and what RETR and TOP send.

use paquebot_server::pop3::machine::{Machine, Output, Security, Settings};
use paquebot_server::pop3::text::{Extent, Transfer};
use paquebot_server::store::{MaildropEntry, StoreError};

use crate::input::Input;

/// The machine: the replies do not depend on how the bytes are divided, and each is one.
pub fn server(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (logged_in, fails, step) = (input.flag(), input.flag(), usize::from(input.byte()).max(1));
    let mut input = input.rest().to_vec();
    if logged_in {
        input.splice(0..0, *b"USER tom@server1.com\r\nPASS x\r\n");
    }
    let whole = converse(input.chunks(input.len().max(1)), fails);
    assert_eq!(converse(input.chunks(step), fails), whole);
}

fn converse<'a>(pieces: impl Iterator<Item = &'a [u8]>, fails: bool) -> Vec<u8> {
    let settings = Settings { security: Security::Tls, clear_text_logins: false, login_delay: 0 };
    let mut machine = Machine::new("mail.server1.com", settings);
    let mut sent = Vec::new();
    let mut is_over = run(&mut machine, &mut sent, fails);
    for piece in pieces {
        if is_over {
            break;
        }
        machine.feed(piece);
        is_over = run(&mut machine, &mut sent, fails);
    }
    assert!(sent.starts_with(b"+OK"));
    assert!(sent.ends_with(b"\r\n"));
    sent
}

/// Carries out what the machine asks for; `true`: the end.
fn run(machine: &mut Machine, sent: &mut Vec<u8>, fails: bool) -> bool {
    loop {
        match machine.next_output() {
            Output::NeedBytes => return false,
            Output::Close => return true,
            Output::Send(bytes) => sent.extend_from_slice(&bytes),
            Output::Login { .. } => machine.logged_in(entries()),
            Output::StartTls => machine.tls_started(),
            Output::Retrieve { index, .. } => {
                let octets = entries().get(index).expect("a message that is not there").octets;
                let failure = StoreError::Failed("no".to_owned());
                machine.message_opened(if fails { Err((&failure).into()) } else { Ok(Some(octets)) });
            }
            Output::Update { keys } => {
                assert!(keys.iter().all(|key| entries().iter().any(|entry| entry.key == *key)));
                let failure = StoreError::DiskFull;
                machine.updated(if fails { Err(&failure) } else { Ok(()) });
            }
        }
    }
}

fn entries() -> Vec<MaildropEntry> {
    let entry = |key: i64| MaildropEntry { key, run: 1, octets: key.unsigned_abs() * 100 };
    (1..=3).map(entry).collect()
}

/// A message as it is sent, with the stuffing taken off again, is the message.
pub fn transfer(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (is_top, lines, step) = (input.flag(), u64::from(input.byte()), usize::from(input.byte()).max(1));
    let message = input.rest();
    let extent = if is_top { Extent::Top(lines) } else { Extent::Whole };
    let sent = transferred(message, extent, message.len().max(1));
    assert_eq!(transferred(message, extent, step), sent, "it depends on the pieces");
    let body = sent.strip_suffix(b".\r\n").expect("no final dot");
    assert!(body.is_empty() || body.ends_with(b"\r\n"));
    // Dots after a bare CR or LF are stuffed too, for clients that take those for line ends.
    let is_text = message
        .iter()
        .zip(message.iter().skip(1).chain([&0]))
        .all(|(one, next)| *one != b'\r' || *next == b'\n')
        && message.iter().zip([&0].into_iter().chain(message)).all(|(one, before)| *one != b'\n' || *before == b'\r');
    if !is_top && is_text {
        let mut plain = Vec::new();
        for line in lines_of(body) {
            plain.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        let is_line_ended = message.is_empty() || message.ends_with(b"\r\n");
        assert!(plain == message || !is_line_ended && plain.starts_with(message));
    }
}

/// The lines of a text, each with its CRLF.
fn lines_of(mut text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(end) = text.windows(2).position(|pair| pair == b"\r\n") {
        let (line, rest) = text.split_at(end + 2);
        lines.push(line);
        text = rest;
    }
    lines.push(text);
    lines
}

fn transferred(message: &[u8], extent: Extent, step: usize) -> Vec<u8> {
    let mut transfer = Transfer::new(extent);
    let mut sent = Vec::new();
    for piece in message.chunks(step) {
        transfer.push(piece, &mut sent);
    }
    transfer.finish(&mut sent);
    sent
}

//! The messages that probes send and compare. Pure.

use jiff::Timestamp;

/// The text with CR LF at the end of each line, also of the last one.
pub fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(text.len() + text.len() / 32);
    for line in text.split_inclusive(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        message.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        message.extend_from_slice(b"\r\n");
    }
    message
}

/// A message as it goes over the wire after DATA: dots doubled, the final dot at its end (RFC 5321 §4.5.2).
pub fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(message.len() + 64);
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

/// A message that exists once, with what tends to be damaged on the way: leading dots, 8-bit octets, a line of 998, and
/// blanks at the end of lines.
pub fn unique(mailbox: &str, token: &str, now: Timestamp) -> Vec<u8> {
    let date = now.strftime("%a, %d %b %Y %H:%M:%S +0000");
    let long = "x".repeat(998);
    let text = format!(
        "Date: {date}\nFrom: <{mailbox}>\nTo: <{mailbox}>\nSubject: Paquebot probe\nMessage-ID: <{token}@probe.invalid>\n\
         MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n\
         {token}\n.\n..\n.leading dot\nÜber acht Bit: äöü €\nblanks at the end  \n{long}\n\nend\n"
    );
    with_crlf(text.as_bytes())
}

/// Whether what was fetched is what was sent, with nothing but trace fields before it.
///
/// # Errors
/// Where they differ.
pub fn compare(sent: &[u8], fetched: &[u8]) -> Result<(), String> {
    let Some(trace) = fetched.strip_suffix(sent) else {
        let same = sent.iter().rev().zip(fetched.iter().rev()).take_while(|(a, b)| a == b).count();
        return Err(format!("only the last {same} of {} octets are the same", sent.len()));
    };
    let is_trace =
        |line: &[u8]| [&b"Return-Path:"[..], b"Received:", b"\t", b" "].iter().any(|start| line.starts_with(start));
    let lines = trace.split_inclusive(|octet| *octet == b'\n');
    if trace.is_empty() || !lines.clone().all(is_trace) {
        return Err("what stands before it is not Return-Path and Received fields".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends() {
        assert_eq!(with_crlf(b"a\nb\r\nc"), b"a\r\nb\r\nc\r\n");
        assert_eq!(with_crlf(b""), b"");
        assert_eq!(stuffed(b".\r\na\r\n"), b"..\r\na\r\n.\r\n");
    }

    #[test]
    fn comparison() {
        let sent = unique("anna@server1.com", "token", Timestamp::UNIX_EPOCH);
        let with = |prefix: &str| [prefix.as_bytes(), &sent].concat();
        assert_eq!(compare(&sent, &with("Return-Path: <a@b>\r\nReceived: from x\r\n\tby y; z\r\n")), Ok(()));
        assert!(compare(&sent, &with("X-Spam: yes\r\n")).is_err());
        assert!(compare(&sent, &sent).is_err(), "without trace fields it was not delivered");
        assert!(compare(&sent, &sent[1..]).is_err());
    }
}

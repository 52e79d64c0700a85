//! The messages that the POP3 suite wants in the maildrop. `conformance samples` writes them into a directory or sends
//! them by SMTP. A server may put fields before them; the rest has to stay as it is.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::super::smtp;
use super::super::target::Target;

/// One message.
pub struct Sample {
    /// Its subject, by which it is found.
    pub subject: &'static str,
    /// What follows the Subject field: more fields, the empty line, the body.
    pub rest: &'static str,
}

/// Lines that begin with dots, or are one.
pub const DOTS: Sample = Sample {
    subject: "conformance dots",
    rest: "From: suite@example.org\r\n\r\n.\r\n..\r\n.leading\r\n\r\n...\r\nlast\r\n.\r\n",
};
/// Four lines, for TOP.
pub const LINES: Sample = Sample {
    subject: "conformance lines",
    rest: "From: suite@example.org\r\nTo: all\r\n\r\none\r\ntwo\r\n\r\nfour\r\n",
};
/// No body.
pub const EMPTY: Sample = Sample { subject: "conformance empty", rest: "From: suite@example.org\r\n\r\n" };
/// 8-bit octets and a long line.
pub const WIDE: Sample = Sample {
    subject: "conformance wide",
    rest: concat!(
        "From: suite@example.org\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n",
        "Content-Transfer-Encoding: 8bit\r\n\r\nGr\u{fc}\u{df}e \u{2709}\r\n",
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\r\n"
    ),
};
/// Two that are deleted.
pub const DELETED: [Sample; 2] = [
    Sample { subject: "conformance to be deleted 1", rest: "\r\nfirst\r\n" },
    Sample { subject: "conformance to be deleted 2", rest: "\r\nsecond\r\n" },
];

impl Sample {
    /// The message.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        format!("Subject: {}\r\n{}", self.subject, self.rest).into_bytes()
    }
}

/// All of them.
#[must_use]
pub fn all() -> Vec<&'static Sample> {
    vec![&DOTS, &LINES, &EMPTY, &WIDE, &DELETED[0], &DELETED[1]]
}

/// Writes them as files.
///
/// # Errors
/// When the directory cannot be written to.
pub fn write(directory: &Path) -> Result<()> {
    for (number, sample) in all().iter().enumerate() {
        let path = directory.join(format!("{number}.eml"));
        std::fs::write(&path, sample.text()).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Sends them to the served recipient.
///
/// # Errors
/// When the server refuses them.
pub fn send(target: &Target) -> Result<()> {
    for sample in all() {
        let mut wire = Vec::new();
        for line in sample.text().split_inclusive(|octet| *octet == b'\n') {
            if line.starts_with(b".") {
                wire.push(b'.');
            }
            wire.extend_from_slice(line);
        }
        wire.extend_from_slice(b".\r\n");
        smtp::Session::ready(target)?.message(target, " BODY=8BITMIME", &wire)?.expect("250")?;
    }
    Ok(())
}

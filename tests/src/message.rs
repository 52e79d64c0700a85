//! Real messages, and whether what came out of a maildrop is what went in.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::kubernetes::run;

/// A message with CRLF line ends, as it goes over the wire.
#[derive(Clone)]
pub struct Message {
    /// What is special about it.
    pub title: String,
    /// Its octets.
    pub octets: Vec<u8>,
}

impl Message {
    fn new(title: &str, octets: Vec<u8>) -> Self {
        Self { title: title.to_owned(), octets }
    }
}

/// A short text, with a Message-ID made of `id`.
#[must_use]
pub fn text(from: &str, to: &[&str], subject: &str, id: &str) -> Vec<u8> {
    format!("{}Hello from {from}.\r\n", header(from, to, subject, id)).into_bytes()
}

fn header(from: &str, to: &[&str], subject: &str, id: &str) -> String {
    let to: Vec<String> = to.iter().map(|address| format!("<{address}>")).collect();
    format!(
        "From: <{from}>\r\nTo: {}\r\nSubject: {subject}\r\nMessage-ID: <{id}@client.test>\r\n\
         Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\n",
        to.join(", ")
    )
}

/// What a mail program makes of a text with umlauts and two attachments: a small text and `size` octets of noise.
#[must_use]
pub fn with_attachments(from: &str, to: &[&str], size: usize) -> Vec<u8> {
    let mut out = header(from, to, "=?UTF-8?Q?Gr=C3=BC=C3=9Fe_aus_dem_Hafen?=", "with-attachments");
    out.push_str("Content-Type: multipart/mixed; boundary=\"=_part\"\r\n\r\nThis is a multi-part message.\r\n");
    out.push_str("--=_part\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
    out.push_str("Grüße! Der Dampfer läuft aus: 20 €, 港へ.\r\n..and a line that begins with dots\r\n.\u{20}\r\n");
    out.push_str("--=_part\r\nContent-Type: text/csv; name=list.csv\r\n");
    out.push_str("Content-Disposition: attachment; filename=list.csv\r\n\r\nport,day\r\nMarseille,1\r\n");
    out.push_str("--=_part\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n");
    out.push_str("Content-Disposition: attachment; filename*=utf-8''gr%C3%BC%C3%9Fe.bin\r\n\r\n");
    push_base64_lines(&mut out, &noise(size));
    out.push_str("--=_part--\r\n");
    out.into_bytes()
}

fn push_base64_lines(out: &mut String, octets: &[u8]) {
    // 57 octets make the 76 characters of a line (RFC 2045 §6.8).
    for piece in octets.chunks(57) {
        let _ = write!(out, "{}\r\n", STANDARD.encode(piece));
    }
}

/// Octets without a pattern, the same each time (xorshift).
#[must_use]
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Messages that have hurt mail servers before.
#[must_use]
pub fn difficult(from: &str, to: &[&str]) -> Vec<Message> {
    let header = |id: &str| header(from, to, id, id).into_bytes();
    let with_body = |id: &str, body: &[u8]| [&header(id), b"\r\n".as_slice(), body].concat();
    let long_line = [b"x".repeat(998).as_slice(), b"\r\n"].concat();
    vec![
        Message::new("multipart, attachments, UTF-8", with_attachments(from, to, 100_000)),
        Message::new("raw 8-bit (Latin-1)", with_body("latin-1", b"Gr\xfc\xdfe, caf\xe9 \xa4\r\n\xff\xfe\x80\r\n")),
        Message::new(
            "UTF-8 in the header",
            [&header("utf-8-header"), "X-Hafen: Zürich, 港\r\n\r\nbody\r\n".as_bytes()].concat(),
        ),
        Message::new("lines of 998 octets", with_body("long-lines", &long_line.repeat(50))),
        Message::new("leading dots", with_body("dots", b".\r\n..\r\n...\r\n.x\r\n\r\n.\r\n..end\r\n.\r\n")),
        Message::new(
            "blank lines and trailing spaces",
            with_body("blanks", b"\r\n\r\n \t \r\ntext  \r\n\t\r\n\r\n\r\n"),
        ),
        Message::new("no body", header("no-body")),
        Message::new("no header", b"\r\nonly a body\r\n".to_vec()),
        Message::new(
            "a body that looks like SMTP",
            with_body("smtp-body", b"RSET\r\nQUIT\r\nMAIL FROM:<a@b.c>\r\nDATA\r\n"),
        ),
        Message::new(
            "a folded header of 8 KB",
            [&header("folded"), folded_header().as_bytes(), b"\r\nbody\r\n"].concat(),
        ),
        Message::new("25 MB", with_attachments(from, to, 18_500_000)),
    ]
}

fn folded_header() -> String {
    let mut out = "References:".to_owned();
    for number in 0..200 {
        let _ = write!(out, "\r\n <{number:030}@client.test>");
    }
    out + "\r\n"
}

/// Messages that we did not make: Python's `email` package composes some, and its own test data are taken where the
/// interpreter has them (Debian packs them separately). Empty where there is no Python.
///
/// # Errors
/// When Python is there and fails.
pub fn from_python(to: &str) -> Result<Vec<Message>> {
    if Command::new("python3").arg("--version").output().is_err() {
        return Ok(Vec::new());
    }
    let directory = tempfile::tempdir()?;
    let mut command = Command::new("python3");
    command.arg("-c").arg(PYTHON).arg(directory.path()).arg(to);
    run(command, None)?;
    let mut files: Vec<_> = std::fs::read_dir(directory.path())?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    files.iter().map(|file| read_message(&file.path())).collect()
}

fn read_message(path: &Path) -> Result<Message> {
    let title = path.file_name().context("a file without a name")?.to_string_lossy().into_owned();
    Ok(Message { title, octets: std::fs::read(path)? })
}

/// Line ends become CRLF, which is what a mail program does on sending.
const PYTHON: &str = r#"
import email.message, email.policy, glob, os, re, sys
target, to = sys.argv[1], sys.argv[2]

def save(name, octets):
    octets = re.sub(rb"\r\n|\r|\n", b"\r\n", octets)
    if octets.strip() and b"\0" not in octets and max(map(len, octets.split(b"\r\n"))) <= 998:
        open(os.path.join(target, name), "wb").write(octets if octets.endswith(b"\r\n") else octets + b"\r\n")

for name, policy in (("smtp", email.policy.SMTP), ("smtputf8", email.policy.SMTPUTF8)):
    message = email.message.EmailMessage(policy=policy)
    message["From"], message["To"], message["Subject"] = "tom@server1.com", to, "Größe, naïve façade"
    message.set_content("Zażółć gęślą jaźń\n.\n..\n" * 20)
    message.add_alternative("<p>Zażółć <b>gęślą</b> jaźń</p>", subtype="html")
    message.add_attachment(bytes(range(256)) * 40, maintype="image", subtype="png", filename="größe.png")
    save("python-" + name, message.as_bytes())

try:
    import test.test_email
    for path in sorted(glob.glob(os.path.join(os.path.dirname(test.test_email.__file__), "data", "msg_*.txt"))):
        save("python-" + os.path.basename(path), open(path, "rb").read())
except ImportError:
    pass
"#;

/// Whether a fetched message is the one that was sent, behind trace headers (RFC 5321 §4.4) and nothing else.
///
/// # Errors
/// When it is not; the error says where the two part.
pub fn check_delivered(fetched: &[u8], sent: &[u8]) -> Result<()> {
    let trace_length =
        fetched.len().checked_sub(sent.len()).context("what was fetched is shorter than what was sent")?;
    let (trace, body) = fetched.split_at(trace_length);
    if body != sent {
        let common = body.iter().zip(sent).take_while(|(a, b)| a == b).count();
        anyhow::bail!("what was fetched differs from what was sent at octet {common} of {}", sent.len());
    }
    let trace = String::from_utf8_lossy(trace);
    ensure!(trace.ends_with("\r\n"), "the trace headers do not end with a line: {trace:?}");
    let names = header_names(&trace);
    ensure!(names.first().is_some_and(|name| name == "return-path"), "Return-Path does not come first: {names:?}");
    ensure!(names.iter().skip(1).all(|name| name == "received"), "headers that are no trace were added: {names:?}");
    ensure!(names.len() >= 2, "no Received header was added: {names:?}");
    Ok(())
}

/// The trace headers that stand before a message that was sent.
#[must_use]
pub fn trace_of(fetched: &[u8], sent: &[u8]) -> String {
    String::from_utf8_lossy(&fetched[..fetched.len().saturating_sub(sent.len())]).into_owned()
}

fn header_names(text: &str) -> Vec<String> {
    text.split("\r\n")
        .filter(|line| !line.is_empty() && !line.starts_with([' ', '\t']))
        .map(|line| line.split(':').next().unwrap_or_default().to_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &[u8] = b"Return-Path: <a@b.org>\r\nReceived: from c\r\n\tby d; now\r\n";

    #[test]
    fn trace_headers_may_be_added_and_nothing_else() {
        let sent = b"Subject: x\r\n\r\nbody\r\n".as_slice();
        check_delivered(&[TRACE, sent].concat(), sent).unwrap();
        assert!(check_delivered(sent, sent).is_err());
        assert!(check_delivered(&[TRACE, b"X-Spam: no\r\n", sent].concat(), sent).is_err());
        assert!(check_delivered(&[TRACE, b"Subject: x\r\n\r\nBody\r\n".as_slice()].concat(), sent).is_err());
        assert!(check_delivered(&[TRACE, sent, b"\r\n"].concat(), sent).is_err());
    }

    #[test]
    fn difficult_messages_are_whole_lines_of_legal_length() {
        for message in difficult("a@b.org", &["c@d.org"]) {
            assert!(message.octets.ends_with(b"\r\n"), "{}", message.title);
            let lines = message.octets.split(|octet| *octet == b'\n');
            assert!(lines.clone().all(|line| line.len() <= 999), "{}", message.title);
            assert!(lines.filter(|line| !line.is_empty()).all(|line| line.ends_with(b"\r")), "{}", message.title);
        }
    }
}

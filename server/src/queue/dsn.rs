//! Delivery status notifications (RFC 3461 §6, RFC 3462, RFC 3464; RFC 6533 where an address is not ASCII): what a sender
//! is told when a message is delayed or could not be delivered. Pure: from facts to the bytes of a message. Called by
//! [`super::outcome`].

use std::fmt::Write;

use jiff::Timestamp;
use paquebot_config::{Address, Domain};

use super::status::Refusal;
use crate::store::MessageId;
use crate::trace::date;

/// Characters of a peer's text that are repeated: a header line must stay below 998 octets (RFC 5322 §2.1.1).
const MAX_DIAGNOSTIC: usize = 400;

/// What is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The recipients do not get the message.
    Failed,
    /// They have not got it yet; it is tried until then.
    Delayed {
        /// When the queue gives up.
        until: Timestamp,
    },
}

/// The facts of one report.
#[derive(Debug)]
pub struct Report<'a> {
    /// What is reported.
    pub kind: Kind,
    /// Names the report.
    pub id: &'a MessageId,
    /// The server that reports.
    pub hostname: &'a Domain,
    /// The sender of the original message.
    pub to: &'a Address,
    /// Who is concerned, and what was met.
    pub recipients: &'a [(Address, Refusal)],
    /// The original's id here.
    pub original_id: &'a MessageId,
    /// When the original was accepted.
    pub arrived_at: Timestamp,
    /// The original's header, as received.
    pub original_header: &'a [u8],
    /// Now.
    pub at: Timestamp,
}

impl Report<'_> {
    /// The report as a message with CRLF line ends.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let international = !self.to.is_ascii() || self.recipients.iter().any(|(address, _)| !address.is_ascii());
        let boundary = format!("report-{}", self.id);
        let mut text = String::new();
        self.write_header(&mut text, &boundary);
        self.write_explanation(&mut text, &boundary);
        self.write_status(&mut text, &boundary, international);
        let kind = if international { "message/global-headers" } else { "text/rfc822-headers" };
        let encoding = encoding(self.original_header.is_ascii());
        let _ = write!(text, "--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
        let mut message = text.into_bytes();
        message.extend_from_slice(self.original_header);
        if !self.original_header.ends_with(b"\r\n") {
            message.extend_from_slice(b"\r\n");
        }
        message.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        message
    }

    // Writing to a String cannot fail.
    fn write_header(&self, text: &mut String, boundary: &str) {
        let subject = match self.kind {
            Kind::Failed => "Your message could not be delivered",
            Kind::Delayed { .. } => "Your message is delayed",
        };
        let _ = write!(
            text,
            "Date: {date}\r\nFrom: Mail Delivery System <MAILER-DAEMON@{host}>\r\nTo: <{to}>\r\nSubject: {subject}\r\n\
             Message-ID: <{id}@{host}>\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n\r\n",
            date = date(self.at),
            host = self.hostname,
            to = self.to,
            id = self.id,
        );
    }

    fn write_explanation(&self, text: &mut String, boundary: &str) {
        let mut words = format!("This is the mail server {}.\r\n\r\n", self.hostname);
        let arrived = date(self.arrived_at);
        let _ = match self.kind {
            Kind::Failed => write!(
                words,
                "The message that you sent on {arrived}\r\ncould not be delivered to the following recipients.\r\n\
                 It will not be tried again.\r\n"
            ),
            Kind::Delayed { until } => write!(
                words,
                "The message that you sent on {arrived}\r\nhas not been delivered to the following recipients yet.\r\n\
                 You need do nothing: it is tried until {}.\r\n",
                date(until)
            ),
        };
        for (address, refusal) in self.recipients {
            let _ = write!(words, "\r\n  <{address}>\r\n    {}\r\n", explanation(refusal));
        }
        let encoding = encoding(words.is_ascii());
        let _ = write!(
            text,
            "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n\
             {words}\r\n"
        );
    }

    fn write_status(&self, text: &mut String, boundary: &str, international: bool) {
        let (kind, address_type) = if international {
            ("message/global-delivery-status", "utf-8")
        } else {
            ("message/delivery-status", "rfc822")
        };
        let encoding = encoding(!international);
        let _ = write!(
            text,
            "--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n\
             Reporting-MTA: dns; {}\r\nX-Paquebot-Message-ID: {}\r\nArrival-Date: {}\r\n",
            self.hostname,
            self.original_id,
            date(self.arrived_at),
        );
        for (address, refusal) in self.recipients {
            let action = if self.kind == Kind::Failed { "failed" } else { "delayed" };
            let _ = write!(
                text,
                "\r\nFinal-Recipient: {address_type}; {address}\r\nAction: {action}\r\nStatus: {}\r\n",
                refusal.status()
            );
            if let Some(host) = &refusal.host {
                let _ = write!(text, "Remote-MTA: dns; {host}\r\n");
            }
            let (kind, code) = (if refusal.said_by_host { "smtp" } else { "x-paquebot" }, refusal.code);
            let _ = write!(
                text,
                "Diagnostic-Code: {kind}; {code} {} {}\r\nLast-Attempt-Date: {}\r\n",
                refusal.status(),
                diagnostic(&refusal.text),
                date(self.at)
            );
            if let Kind::Delayed { until } = self.kind {
                let _ = write!(text, "Will-Retry-Until: {}\r\n", date(until));
            }
        }
        text.push_str("\r\n");
    }
}

/// For people.
fn explanation(refusal: &Refusal) -> String {
    let (code, status, text) = (refusal.code, refusal.status(), diagnostic(&refusal.text));
    match &refusal.host {
        Some(host) if refusal.said_by_host => format!("{host} said: {code} {status} {text}"),
        Some(host) => format!("{host}: {text} ({status})"),
        None => format!("{text} ({status})"),
    }
}

/// A peer's text as it may stand in a header field: short, printable ASCII.
fn diagnostic(text: &str) -> String {
    text.chars().take(MAX_DIAGNOSTIC).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
}

fn encoding(is_ascii: bool) -> &'static str {
    if is_ascii { "7bit" } else { "8bit" }
}

/// The header of a message: what comes before the first empty line, whole lines only, at most `limit` octets.
#[must_use]
pub fn header_of(beginning: &[u8], limit: usize) -> &[u8] {
    let end = memchr::memmem::find(beginning, b"\r\n\r\n").map_or(beginning.len(), |end| end + 2);
    let header = &beginning[..end.min(limit)];
    let whole = memchr::memmem::rfind(header, b"\r\n").map_or(0, |end| end + 2);
    &header[..whole]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kind: Kind, recipients: &[(&str, Refusal)], header: &[u8]) -> String {
        let recipients: Vec<_> =
            recipients.iter().map(|(text, refusal)| (Address::parse(text).unwrap(), refusal.clone())).collect();
        let message = Report {
            kind,
            id: &MessageId::from_stored("new".to_owned()),
            hostname: &Domain::parse("mx.server1.com").unwrap(),
            to: &Address::parse("tom@server1.com").unwrap(),
            recipients: &recipients,
            original_id: &MessageId::from_stored("old".to_owned()),
            arrived_at: Timestamp::UNIX_EPOCH,
            original_header: header,
            at: "2026-11-23T13:05:09Z".parse().unwrap(),
        }
        .message();
        String::from_utf8(message).unwrap()
    }

    fn said() -> Refusal {
        Refusal { said_by_host: true, ..Refusal::permanent(1, 1, "no such user: \u{e9}\u{7}").at("mx.server2.com") }
    }

    #[test]
    fn a_failure_says_who_what_and_which_message() {
        let header = b"Subject: hi\r\nFrom: tom@server1.com\r\n";
        let own = Refusal::permanent(4, 7, "x".repeat(2000));
        let text = report(Kind::Failed, &[("jack@server2.com", said()), ("o@s.example", own)], header);
        let wanted = [
            "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"report-new\"\r\n",
            "\r\nAuto-Submitted: auto-replied\r\n",
            "mx.server2.com said: 550 5.1.1 no such user: ??\r\n",
            "Reporting-MTA: dns; mx.server1.com\r\nX-Paquebot-Message-ID: old\r\n",
            "\r\n\r\nFinal-Recipient: rfc822; jack@server2.com\r\nAction: failed\r\nStatus: 5.1.1\r\n\
             Remote-MTA: dns; mx.server2.com\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user: ??\r\n",
            "Final-Recipient: rfc822; o@s.example\r\nAction: failed\r\nStatus: 5.4.7\r\nDiagnostic-Code: x-paquebot; 550",
            "Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 7bit\r\n\r\nSubject: hi\r\nFrom: tom@server1.com\r\n\r\n--report-new--\r\n",
        ];
        for part in wanted {
            assert!(text.contains(part), "{part}\nin\n{text}");
        }
        assert_eq!(text.matches("--report-new\r\n").count(), 3);
        assert!(text.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n'])));
    }

    #[test]
    fn a_delay_says_until_when() {
        let until = "2026-11-28T13:05:09Z".parse().unwrap();
        let text = report(Kind::Delayed { until }, &[("jack@server2.com", Refusal::transient(4, 1, "busy"))], b"");
        assert!(text.contains("Action: delayed\r\nStatus: 4.4.1\r\n"));
        assert!(text.contains("Will-Retry-Until: Sat, 28 Nov 2026 13:05:09 +0000\r\n"));
        assert!(text.contains("Subject: Your message is delayed\r\n"));
    }

    #[test]
    fn rfc_6533_addresses_that_are_not_ascii_are_written_in_utf_8() {
        let text = report(Kind::Failed, &[("j\u{e4}ck@server2.com", said())], "Subject: \u{e4}\r\n".as_bytes());
        assert!(text.contains("Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n"));
        assert!(text.contains("Final-Recipient: utf-8; j\u{e4}ck@server2.com\r\n"));
        assert!(text.contains("Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n"));
    }

    #[test]
    fn the_header_ends_at_the_empty_line_or_at_the_limit() {
        assert_eq!(header_of(b"A: 1\r\nB: 2\r\n\r\nbody\r\n\r\n", 100), b"A: 1\r\nB: 2\r\n");
        assert_eq!(header_of(b"A: 1\r\nB: 2\r\n\r\nbody", 8), b"A: 1\r\n");
        assert_eq!(header_of(b"no line", 100), b"");
    }
}

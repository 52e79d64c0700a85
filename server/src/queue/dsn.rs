//! Delivery status notifications (RFC 3461 §6, RFC 3462, RFC 3464; RFC 6533 where an address is not ASCII): what a sender
//! is told about what became of a message. Pure: from facts to the bytes of a message. Called by
//! [`super::outcome`].

use std::borrow::Cow;
use std::fmt::Write;

use jiff::Timestamp;
use paquebot_config::{Address, Domain};

use super::convert::{LONGEST_LINE, Target, fits};
use super::status::Refusal;
use crate::store::{MessageId, RemoteRecipient};
use crate::trace::date;

/// Characters of a peer's text that are repeated: a header line must stay below 998 octets (RFC 5322 §2.1.1).
const MAX_DIAGNOSTIC: usize = 400;

/// What is reported of a recipient (RFC 3464 §2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// He does not get the message.
    Failed,
    /// He has not got it yet; it is tried until then.
    Delayed {
        /// When the queue gives up.
        until: Timestamp,
    },
    /// It went to a server that will not tell what becomes of it (RFC 3461 §5.2.2).
    Relayed,
    /// It is in his maildrop.
    Delivered,
    /// It went to the members of a list or an alias.
    Expanded,
}

impl Action {
    fn keyword(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed { .. } => "delayed",
            Self::Relayed => "relayed",
            Self::Delivered => "delivered",
            Self::Expanded => "expanded",
        }
    }

    /// For people: what became of the recipients that follow.
    fn sentence(self) -> String {
        match self {
            Self::Failed => "could not be delivered to the following recipients.\r\n\
                             It will not be tried again.\r\n"
                .to_owned(),
            Self::Delayed { until } => format!(
                "has not been delivered to the following recipients yet.\r\n\
                 You need do nothing: it is tried until {}.\r\n",
                date(until)
            ),
            Self::Relayed => "was passed on for the following recipients, to servers that do not tell\r\n\
                              what becomes of it.\r\n"
                .to_owned(),
            Self::Delivered => "was delivered to the following recipients.\r\n".to_owned(),
            Self::Expanded => "was delivered to the following lists, which pass it on.\r\n".to_owned(),
        }
    }

    /// The worst gives a report its subject.
    fn rank(self) -> u8 {
        match self {
            Self::Failed => 0,
            Self::Delayed { .. } => 1,
            Self::Relayed => 2,
            Self::Expanded => 3,
            Self::Delivered => 4,
        }
    }
}

/// What a recipient's server said, or what we found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The host that it is about.
    pub host: Option<String>,
    /// Whether that host said it.
    pub said_by_host: bool,
    /// A reply: code, enhanced status code, text.
    pub text: String,
}

/// One recipient in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Who is concerned.
    pub recipient: RemoteRecipient,
    /// What became of the message.
    pub action: Action,
    /// The enhanced status code: `5.1.1`.
    pub status: String,
    /// Why, where there is something to say.
    pub diagnosis: Option<Diagnosis>,
}

impl Reported {
    /// One that a refusal tells about.
    #[must_use]
    pub fn refused(recipient: &RemoteRecipient, action: Action, refusal: &Refusal) -> Self {
        let text = format!("{} {} {}", refusal.code, refusal.status(), refusal.text);
        let diagnosis = Diagnosis { host: refusal.host.clone(), said_by_host: refusal.said_by_host, text };
        Self { recipient: recipient.clone(), action, status: refusal.status(), diagnosis: Some(diagnosis) }
    }

    /// One that was delivered here: to a maildrop, or to the members of an alias.
    #[must_use]
    pub fn delivered(recipient: &RemoteRecipient, action: Action) -> Self {
        Self { recipient: recipient.clone(), action, status: "2.0.0".to_owned(), diagnosis: None }
    }

    /// One whose message a server took that reports nothing.
    #[must_use]
    pub fn relayed(recipient: &RemoteRecipient, host: &str, reply: &str) -> Self {
        let diagnosis = Diagnosis { host: Some(host.to_owned()), said_by_host: true, text: reply.to_owned() };
        Self {
            recipient: recipient.clone(),
            action: Action::Relayed,
            status: "2.0.0".to_owned(),
            diagnosis: Some(diagnosis),
        }
    }

    fn is_ascii(&self) -> bool {
        let original = self.recipient.original.as_ref();
        self.recipient.address.is_ascii() && original.is_none_or(|original| original.address.is_ascii())
    }
}

/// What of the original comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Original<'a> {
    /// Its header.
    Header(&'a [u8]),
    /// All of it: lines, or it is not the message any more.
    Whole(&'a [u8]),
}

impl<'a> Original<'a> {
    fn octets(self) -> &'a [u8] {
        match self {
            Self::Header(octets) | Self::Whole(octets) => octets,
        }
    }

    /// RFC 3462 §3, RFC 6533 §3.
    fn content_type(self, international: bool) -> &'static str {
        match (self, international) {
            (Self::Header(_), false) => "text/rfc822-headers",
            (Self::Header(_), true) => "message/global-headers",
            (Self::Whole(_), false) => "message/rfc822",
            (Self::Whole(_), true) => "message/global",
        }
    }
}

/// The facts of one report.
#[derive(Debug)]
pub struct Report<'a> {
    /// Names the report.
    pub id: &'a MessageId,
    /// The server that reports.
    pub hostname: &'a Domain,
    /// The sender of the original message.
    pub to: &'a Address,
    /// Who is concerned, and what became of it.
    pub recipients: &'a [Reported],
    /// What the sender called the transaction (`ENVID=`).
    pub envelope_id: Option<&'a str>,
    /// The original's id here.
    pub original_id: &'a MessageId,
    /// When the original was accepted.
    pub arrived_at: Timestamp,
    /// What comes back.
    pub original: Original<'a>,
    /// Now.
    pub at: Timestamp,
}

impl Report<'_> {
    /// Whether it needs SMTPUTF8: RFC 6533 gives it other types then.
    #[must_use]
    pub fn is_international(&self) -> bool {
        !self.to.is_ascii() || !self.recipients.iter().all(Reported::is_ascii)
    }

    /// The report as a message with CRLF line ends.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let international = self.is_international();
        let boundary = format!("report-{}", self.id);
        let mut text = String::new();
        self.write_header(&mut text, &boundary);
        self.write_explanation(&mut text, &boundary);
        self.write_status(&mut text, &boundary, international);
        let original = lines(self.original.octets());
        let header_is_ascii = header_of(&original, original.len()).is_ascii();
        let kind = self.original.content_type(international || !header_is_ascii);
        let encoding = encoding(original.is_ascii());
        let _ = write!(text, "--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
        let mut message = text.into_bytes();
        message.extend_from_slice(&original);
        if !original.ends_with(b"\r\n") {
            message.extend_from_slice(b"\r\n");
        }
        message.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        message
    }

    // Writing to a String cannot fail.
    fn write_header(&self, text: &mut String, boundary: &str) {
        let worst = self.recipients.iter().map(|reported| reported.action).min_by_key(|action| action.rank());
        let subject = match worst {
            Some(Action::Failed) | None => "Your message could not be delivered",
            Some(Action::Delayed { .. }) => "Your message is delayed",
            Some(Action::Relayed) => "Your message was passed on",
            Some(Action::Delivered | Action::Expanded) => "Your message was delivered",
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
        let mut words = format!("This is the mail server {}.\r\n", self.hostname);
        let mut recipients: Vec<&Reported> = self.recipients.iter().collect();
        recipients.sort_by_key(|reported| reported.action.rank());
        for same in recipients.chunk_by(|one, other| one.action == other.action) {
            let Some(first) = same.first() else { continue };
            let (arrived, sentence) = (date(self.arrived_at), first.action.sentence());
            let _ = write!(words, "\r\nThe message that you sent on {arrived}\r\n{sentence}");
            for reported in same {
                let _ = write!(words, "\r\n  <{}>\r\n", reported.recipient.address);
                if let Some(diagnosis) = &reported.diagnosis {
                    let _ = write!(words, "    {}\r\n", explanation(diagnosis));
                }
            }
        }
        let encoding = encoding(words.is_ascii());
        let _ = write!(
            text,
            "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n\
             {words}\r\n"
        );
    }

    fn write_status(&self, text: &mut String, boundary: &str, international: bool) {
        let kind = if international { "message/global-delivery-status" } else { "message/delivery-status" };
        let encoding = encoding(!international);
        let _ = write!(text, "--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
        if let Some(id) = self.envelope_id {
            let _ = write!(text, "Original-Envelope-Id: {}\r\n", diagnostic(id));
        }
        let _ = write!(
            text,
            "Reporting-MTA: dns; {}\r\nX-Paquebot-Message-ID: {}\r\nArrival-Date: {}\r\n",
            self.hostname,
            self.original_id,
            date(self.arrived_at),
        );
        for reported in self.recipients {
            self.write_recipient(text, reported, international);
        }
        text.push_str("\r\n");
    }

    fn write_recipient(&self, text: &mut String, reported: &Reported, international: bool) {
        text.push_str("\r\n");
        if let Some(original) = &reported.recipient.original {
            let end = original.address.floor_char_boundary(MAX_DIAGNOSTIC);
            let address: String = original.address[..end].chars().filter(|c| !c.is_control()).collect();
            let _ = write!(text, "Original-Recipient: {}; {address}\r\n", diagnostic(&original.kind));
        }
        let address_type = if international { "utf-8" } else { "rfc822" };
        let _ = write!(
            text,
            "Final-Recipient: {address_type}; {}\r\nAction: {}\r\nStatus: {}\r\n",
            reported.recipient.address,
            reported.action.keyword(),
            reported.status
        );
        if let Some(diagnosis) = &reported.diagnosis {
            if let Some(host) = &diagnosis.host {
                let _ = write!(text, "Remote-MTA: dns; {}\r\n", diagnostic(host));
            }
            let kind = if diagnosis.said_by_host { "smtp" } else { "x-paquebot" };
            let _ = write!(text, "Diagnostic-Code: {kind}; {}\r\n", diagnostic(&diagnosis.text));
        }
        let _ = write!(text, "Last-Attempt-Date: {}\r\n", date(self.at));
        if let Action::Delayed { until } = reported.action {
            let _ = write!(text, "Will-Retry-Until: {}\r\n", date(until));
        }
    }
}

/// For people.
fn explanation(diagnosis: &Diagnosis) -> String {
    let text = diagnostic(&diagnosis.text);
    match &diagnosis.host {
        Some(host) if diagnosis.said_by_host => format!("{} said: {text}", diagnostic(host)),
        Some(host) => format!("{}: {text}", diagnostic(host)),
        None => text,
    }
}

/// A peer's text as it may stand in a header field: short, printable ASCII.
fn diagnostic(text: &str) -> String {
    text.chars().take(MAX_DIAGNOSTIC).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
}

/// Content that came as octets (RFC 3030) as lines: a report goes by DATA and is not converted, and what its author put
/// there must not end it, for a forged sender would get the rest. Lines are cut at their longest (RFC 5321 §4.5.3.1.6).
fn lines(octets: &[u8]) -> Cow<'_, [u8]> {
    if fits(octets, Target::EightBit) {
        return Cow::Borrowed(octets);
    }
    let mut lines = Vec::with_capacity(octets.len() + 2);
    let mut rest = octets;
    while !rest.is_empty() {
        let end = memchr::memmem::find(rest, b"\r\n").unwrap_or(rest.len());
        let shown = rest[..end].iter().take(LONGEST_LINE);
        lines.extend(shown.map(|octet| if matches!(octet, b'\r' | b'\n' | 0) { b'?' } else { *octet }));
        lines.extend_from_slice(b"\r\n");
        rest = rest.get(end + 2..).unwrap_or_default();
    }
    Cow::Owned(lines)
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
    use crate::store::envelope::OriginalRecipient;

    fn reported(action: Action, recipients: &[(&str, Refusal)]) -> Vec<Reported> {
        let one = |(text, refusal): &(&str, Refusal)| {
            Reported::refused(&Address::parse(text).unwrap().into(), action, refusal)
        };
        recipients.iter().map(one).collect()
    }

    fn report(recipients: &[Reported], original: Original<'_>) -> String {
        let message = Report {
            id: &MessageId::from_stored("new".to_owned()),
            hostname: &Domain::parse("mx.server1.com").unwrap(),
            to: &Address::parse("tom@server1.com").unwrap(),
            recipients,
            envelope_id: Some("QQ314\r\nX: 1"),
            original_id: &MessageId::from_stored("old".to_owned()),
            arrived_at: Timestamp::UNIX_EPOCH,
            original,
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
        let text = report(
            &reported(Action::Failed, &[("jack@server2.com", said()), ("o@s.example", own)]),
            Original::Header(header),
        );
        let wanted = [
            "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"report-new\"\r\n",
            "\r\nAuto-Submitted: auto-replied\r\n",
            "mx.server2.com said: 550 5.1.1 no such user: ??\r\n",
            "Original-Envelope-Id: QQ314??X: 1\r\nReporting-MTA: dns; mx.server1.com\r\nX-Paquebot-Message-ID: old\r\n",
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
    fn nothing_in_a_report_ends_it_early() {
        let headers = ["X: a\n.\nMAIL FROM:<tom@server1.com>\r\nY: \0b\rc\r\n", "X: a\r", &"x".repeat(3000)];
        for header in headers {
            for host in ["mx\n.\r.example", &"h".repeat(2000)] {
                let mut refused = reported(Action::Failed, &[("jack@server2.com", said().at(host))]);
                let address = "\u{1f4e6}".repeat(400);
                refused[0].recipient.original = Some(OriginalRecipient { kind: "utf-8\n".to_owned(), address });
                let text = report(&refused, Original::Header(header.as_bytes()));
                assert!(fits(text.as_bytes(), Target::EightBit), "{text:?}");
            }
        }
        let text = report(
            &reported(Action::Failed, &[("jack@server2.com", said())]),
            Original::Header(b"X: a\nb\r\nY: c\r\n"),
        );
        assert!(text.contains("\r\n\r\nX: a?b\r\nY: c\r\n"), "{text}");
    }

    #[test]
    fn a_delay_says_until_when() {
        let until = "2026-11-28T13:05:09Z".parse().unwrap();
        let text = report(
            &reported(Action::Delayed { until }, &[("jack@server2.com", Refusal::transient(4, 1, "busy"))]),
            Original::Header(b""),
        );
        assert!(text.contains("Action: delayed\r\nStatus: 4.4.1\r\n"));
        assert!(text.contains("Will-Retry-Until: Sat, 28 Nov 2026 13:05:09 +0000\r\n"));
        assert!(text.contains("Subject: Your message is delayed\r\n"));
    }

    #[test]
    fn rfc_6533_addresses_that_are_not_ascii_are_written_in_utf_8() {
        let text = report(
            &reported(Action::Failed, &[("j\u{e4}ck@server2.com", said())]),
            Original::Header("Subject: \u{e4}\r\n".as_bytes()),
        );
        assert!(text.contains("Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n"));
        assert!(text.contains("Final-Recipient: utf-8; j\u{e4}ck@server2.com\r\n"));
        assert!(text.contains("Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n"));
    }

    #[test]
    fn one_report_tells_of_all_recipients_whatever_became_of_them() {
        let recipient = RemoteRecipient {
            original: Some(OriginalRecipient { kind: "rfc822".to_owned(), address: "j@old.example".to_owned() }),
            ..Address::parse("jack@server2.com").unwrap().into()
        };
        let mut recipients = reported(Action::Failed, &[("gone@server2.com", said())]);
        recipients.insert(0, Reported::relayed(&recipient, "mx.server2.com", "250 2.0.0 taken"));
        recipients.push(Reported::delivered(&recipient, Action::Delivered));
        let text = report(&recipients, Original::Whole(b"Subject: a\r\n\r\nbody\r\n"));
        let wanted = [
            "Subject: Your message could not be delivered\r\n",
            "was passed on for the following recipients",
            "was delivered to the following recipients",
            "\r\n\r\nOriginal-Recipient: rfc822; j@old.example\r\nFinal-Recipient: rfc822; jack@server2.com\r\n\
             Action: relayed\r\nStatus: 2.0.0\r\nRemote-MTA: dns; mx.server2.com\r\nDiagnostic-Code: smtp; 250 2.0.0 taken\r\n",
            "Action: delivered\r\nStatus: 2.0.0\r\nLast-Attempt-Date: ",
            "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\nSubject: a\r\n\r\nbody\r\n\r\n--report-new--\r\n",
        ];
        for part in wanted {
            assert!(text.contains(part), "{part}\nin\n{text}");
        }
    }

    #[test]
    fn the_header_ends_at_the_empty_line_or_at_the_limit() {
        assert_eq!(header_of(b"A: 1\r\nB: 2\r\n\r\nbody\r\n\r\n", 100), b"A: 1\r\nB: 2\r\n");
        assert_eq!(header_of(b"A: 1\r\nB: 2\r\n\r\nbody", 8), b"A: 1\r\n");
        assert_eq!(header_of(b"no line", 100), b"");
    }
}

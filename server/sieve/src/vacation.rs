//! Replies while the owner is away (RFC 5230): whether one may be sent, and the message itself (RFC 3834).

use crate::address::{self, Entry};
use crate::date;
use crate::header::{self, Header};
use crate::message::Delivery;
use crate::words;

/// A reply. Its reverse-path is the null one, so that nothing answers it (RFC 5230 §5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VacationReply {
    /// To whom: the sender of the envelope, `local@domain`.
    pub to: String,
    /// The `From` field: what the script says, or the address that the message was sent to.
    pub from: String,
    /// The subject, not encoded.
    pub subject: String,
    /// What the owner wrote; with `mime` it begins with MIME header fields.
    pub reason: String,
    /// Whether `reason` is a MIME entity (RFC 5230 §4.5).
    pub mime: bool,
    /// The `Message-ID` of what is answered.
    pub in_reply_to: Option<String>,
    /// The `References` that the reply carries.
    pub references: Option<String>,
}

/// Whether a text is a sender that programs write from (RFC 5230 §4.6, RFC 3834 §2).
fn is_program(local: &str) -> bool {
    let local = local.to_ascii_lowercase();
    matches!(local.as_str(), "mailer-daemon" | "listserv" | "majordomo" | "owner" | "request")
        || local.starts_with("owner-")
        || local.ends_with("-request")
        || local.ends_with("-relay")
        || local.ends_with("-owner")
}

/// Whether the header says that a program or a list sent the message.
fn is_automatic(header: &Header<'_>) -> bool {
    let any = |name: &str, wanted: fn(&str) -> bool| {
        header.named(name).any(|field| {
            let text = field.text().to_ascii_lowercase();
            wanted(text.split([';', ' ', '\t', '(']).next().unwrap_or(""))
        })
    };
    // RFC 3834 §5: anything but "no" is automatic.
    any("auto-submitted", |value| value != "no")
        || any("precedence", |value| matches!(value, "bulk" | "junk" | "list"))
        || header.named("x-auto-response-suppress").any(|field| {
            let text = field.text().to_ascii_lowercase();
            text.split(',').any(|value| matches!(value.trim(), "all" | "oof"))
        })
        // RFC 2369, 2919: every field of a list.
        || header.fields().iter().any(|field| field.name().get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"list-")))
}

/// Whether the message may be answered: a person sent it, to one of the owner's addresses (RFC 5230 §4.5, §4.6). `header`
/// is the received one, so that a script cannot edit a loop into being.
pub(crate) fn may_reply(header: &Header<'_>, delivery: &Delivery<'_>, addresses: &[String]) -> bool {
    let sender = delivery.reverse_path;
    let Some((local, _)) = sender.rsplit_once('@') else { return false };
    let own: Vec<&str> = std::iter::once(delivery.recipient)
        .chain(delivery.addresses.iter().map(String::as_str))
        .chain(addresses.iter().map(String::as_str))
        .collect();
    let is_own = |address: &str| own.iter().any(|own| own.eq_ignore_ascii_case(address));
    if is_program(local) || is_own(sender) || is_automatic(header) {
        return false;
    }
    let recipients = ["to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc"];
    recipients.iter().flat_map(|name| header.named(name)).any(|field| {
        address::list(&field.text()).iter().any(|entry| match entry {
            Entry::Valid(mailbox) => is_own(&mailbox.text()),
            Entry::Invalid(_) => false,
        })
    })
}

/// Message ids of a field, one after another, without anything else.
fn message_ids(value: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('<') {
        let Some((id, after)) = after.split_once('>') else { break };
        if !id.is_empty() && id.len() < 500 && id.bytes().all(|byte| byte.is_ascii_graphic()) {
            ids.push(format!("<{id}>"));
        }
        rest = after;
    }
    ids
}

impl VacationReply {
    /// Puts a reply together; `header` is what the script sees.
    pub(crate) fn new(
        header: &Header<'_>,
        delivery: &Delivery<'_>,
        from: Option<String>,
        subject: Option<String>,
        reason: String,
        mime: bool,
    ) -> Self {
        // References of RFC 5322 §3.6.4, of which the last ones matter.
        const REFERENCES: usize = 20;
        let field = |name: &str| header.first(name).map(header::Field::text).unwrap_or_default();
        let in_reply_to = message_ids(&field("message-id")).into_iter().next();
        let mut references = message_ids(&field("references"));
        if references.is_empty() {
            references = message_ids(&field("in-reply-to"));
            references.truncate(1);
        }
        references.extend(in_reply_to.clone());
        let references = references.split_off(references.len().saturating_sub(REFERENCES));
        // RFC 5230 §5.2.
        let subject = subject.unwrap_or_else(|| match header.first("subject").map(header::Field::decoded) {
            Some(subject) if !subject.is_empty() => format!("Auto: {}", subject.chars().take(200).collect::<String>()),
            _ => "Automated reply".to_owned(),
        });
        Self {
            to: delivery.reverse_path.to_owned(),
            from: from.unwrap_or_else(|| {
                delivery.addresses.first().map_or_else(|| delivery.recipient.to_owned(), Clone::clone)
            }),
            subject,
            reason,
            mime,
            in_reply_to,
            references: (!references.is_empty()).then(|| references.join(" ")),
        }
    }

    /// The address within [`VacationReply::from`], which the server must know for one of the owner's (RFC 5230 §4.1).
    #[must_use]
    pub fn from_address(&self) -> Option<String> {
        address::single(&self.from)
    }

    /// The whole message, with CRLF line ends. `message_id` is `<left@right>`; `now` is in seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn to_octets(&self, message_id: &str, now: i64) -> Vec<u8> {
        let mut text = header::field("From", &from_field(&self.from));
        text += &header::field("To", &self.to);
        text += &header::field("Subject", &self.subject);
        if let Some(date) = date::at(now, 0) {
            text += &header::field("Date", &date::rfc5322(&date));
        }
        text += &header::field("Message-ID", message_id);
        for (name, value) in [("In-Reply-To", &self.in_reply_to), ("References", &self.references)] {
            if let Some(value) = value {
                text += &header::field(name, value);
            }
        }
        // RFC 3834 §3.1.7: what keeps two vacations from answering each other.
        text += "Auto-Submitted: auto-replied (vacation)\r\n";
        text += "X-Auto-Response-Suppress: All\r\n";
        text += "MIME-Version: 1.0\r\n";
        if self.mime {
            // An entity has its own encoding, so only its line ends can be mended.
            let reason = with_line_ends(&self.reason);
            let (header, offset) = Header::parse(reason.as_bytes());
            let mut octets = text.into_bytes();
            for field in header.fields() {
                // The entity's own fields only: it must not say who sent the message.
                if field.name().get(..8).is_some_and(|name| name.eq_ignore_ascii_case(b"content-")) {
                    octets.extend_from_slice(field.name());
                    octets.extend_from_slice(b": ");
                    octets.extend_from_slice(&field.unfolded());
                    octets.extend_from_slice(b"\r\n");
                }
            }
            octets.extend_from_slice(b"\r\n");
            octets.extend_from_slice(&reason.as_bytes()[offset..]);
            if !octets.ends_with(b"\r\n") {
                octets.extend_from_slice(b"\r\n");
            }
            return octets;
        }
        text += "Content-Type: text/plain; charset=utf-8\r\n";
        let lines = self.reason.split("\r\n");
        // A variable may carry anything from the message: what is no line in itself is not sent as one.
        let is_text = lines.clone().all(|line| line.len() <= 998 && !line.contains(['\r', '\n', '\0']));
        if self.reason.is_ascii() && is_text {
            text += "\r\n";
            text += &self.reason;
        } else {
            text += "Content-Transfer-Encoding: base64\r\n\r\n";
            let encoded = words::to_base64(self.reason.as_bytes());
            for line in encoded.as_bytes().chunks(76) {
                text.extend(line.iter().map(|byte| char::from(*byte)));
                text += "\r\n";
            }
        }
        if !text.ends_with("\r\n") {
            text += "\r\n";
        }
        text.into_bytes()
    }
}

/// A text whose lines all end with CRLF, without NULs.
fn with_line_ends(text: &str) -> String {
    let text = text.replace('\0', "").replace("\r\n", "\n").replace('\r', "\n");
    text.replace('\n', "\r\n")
}

/// The `From` field's value: the display name encoded where it must be, the address as it is.
fn from_field(from: &str) -> String {
    match from.rsplit_once('<') {
        Some((name, address)) if !from.is_ascii() => {
            let name = words::encode(name.trim().trim_matches('"'));
            format!("{name} <{address}")
        }
        _ => from.to_owned(),
    }
}

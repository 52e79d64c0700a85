//! The report to a sender whose message a filter rejected after others had received it (RFC 5429 §2.2, RFC 8098): where
//! the only recipient rejects, the protocol says so instead. Pure.

use super::{Case, actions};
use crate::store::{Derived, MessageId};
use crate::trace::date;

/// Octets of a reason that are repeated.
const REASON: usize = 4_096;

/// The report; none for the null reverse-path, which must not be answered.
pub(super) fn report(case: &Case<'_>, reason: &str) -> Option<Derived> {
    let to = case.incoming.reverse_path?.clone();
    let id = MessageId::generate();
    let hostname = &case.configuration.server.hostname;
    let recipient = case.recipient;
    let mut end = reason.len().min(REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let reason = reason[..end].replace('\0', "").replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n");
    let boundary = format!("disposition-{id}");
    let kind = if recipient.is_ascii() { "rfc822" } else { "utf-8" };
    let text = format!(
        "From: <postmaster@{hostname}>\r\n\
         To: <{to}>\r\n\
         Subject: Your message was rejected\r\n\
         Date: {date}\r\n\
         Message-ID: <{id}@{hostname}>\r\n\
         Auto-Submitted: auto-replied (rejected)\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=disposition-notification;\r\n boundary=\"{boundary}\"\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         \r\n\
         Your message to <{recipient}> was rejected by the recipient's filter, which says:\r\n\
         \r\n\
         {reason}\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: message/disposition-notification\r\n\
         \r\n\
         Reporting-UA: {hostname}; Paquebot\r\n\
         Final-Recipient: {kind}; {recipient}\r\n\
         Disposition: automatic-action/MDN-sent-automatically; deleted\r\n\
         \r\n\
         --{boundary}--\r\n",
        date = date(case.incoming.received_at),
    );
    Some(actions::own(case, id, text.into_bytes(), to))
}

//! What a sender is told at once: where he asked for it (`NOTIFY=SUCCESS`), that a message is in the maildrops here, or
//! went to the members of an alias (RFC 3461 §5.2.7); and that one goes round and is not sent on again. Called by [`super::accepting`]; the report is part of the same transaction.

use bytes::Bytes;
use paquebot_config::Configuration;

use crate::delivery::filter::Incoming;
use crate::queue::dsn::{self, Action, Original, Reported};
use crate::queue::outcome;
use crate::queue::status::Refusal;
use crate::store::outgoing::QueuedMessage;
use crate::store::{Body, Content, Derived, MessageId, RemoteRecipient, StoreError};

/// Octets of the original's header that come back.
const HEADER: u64 = 64 * 1024;

/// The report of success to these recipients, or to those for whom they stand (`true`), and of those whom a loop cut off,
/// where somebody wants one.
///
/// # Errors
/// [`StoreError`] when the message's file cannot be read.
pub(super) async fn at_once(
    configuration: &Configuration,
    succeeded: &[(RemoteRecipient, bool)],
    cut: &[RemoteRecipient],
    incoming: &Incoming<'_>,
) -> Result<Option<Derived>, StoreError> {
    let round = Refusal::permanent(4, 6, "the message goes round in a loop: it was sent on from here before");
    for recipient in cut {
        tracing::warn!(message_id = %incoming.id, recipient = %recipient.address, "not sent on again: the message goes round");
    }
    let failed = cut.iter().filter(|recipient| recipient.notify.on_failure());
    let failed = failed.map(|recipient| Reported::refused(recipient, Action::Failed, &round));
    let reported: Vec<Reported> = succeeded
        .iter()
        .map(|(recipient, expanded)| {
            Reported::delivered(recipient, if *expanded { Action::Expanded } else { Action::Delivered })
        })
        .chain(failed)
        .collect();
    if reported.is_empty() || incoming.reverse_path.is_none() {
        return Ok(None);
    }
    let beginning = incoming.beginning(HEADER).await?;
    // RET is about failures; with a success the header is enough (RFC 3461 §4.3).
    let original = Original::Header(dsn::header_of(&beginning, beginning.len()));
    let message = QueuedMessage {
        id: incoming.id.clone(),
        received_at: incoming.received_at,
        reverse_path: incoming.reverse_path.cloned(),
        sender_tenant: None,
        declared: incoming.declared.clone(),
        octets: incoming.octets,
    };
    let at = incoming.received_at;
    let notice = outcome::notice(configuration, &message, original, &reported, MessageId::generate(), at);
    // A sender here that has no mailbox any more is told nothing: the message itself has arrived.
    let Ok(notice) = notice else { return Ok(None) };
    let report = notice.acceptance();
    let Body::Memory(text) = report.body else { return Ok(None) };
    Ok(Some(Derived {
        id: report.id,
        reverse_path: None,
        sender_tenant: None,
        trace: Bytes::new(),
        content: Content::Own(text.bytes().clone()),
        declared: report.declared,
        local: report.local,
        remote: report.remote,
    }))
}

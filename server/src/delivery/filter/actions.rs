//! What the actions of a filter mean for the store. Pure.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use paquebot_config::Address;
use paquebot_sieve::{Action, EditedHeader, Effect, Outcome};

use super::{Case, Filtered, disposition};
use crate::delivery::arrival::onward_path;
use crate::relay;
use crate::store::{Content, Declared, Derived, Folder, LocalDelivery, MaildropName, MessageId, Remembrance};

/// How a duplicate's id is remembered: no two pairs have the same text, since a handle has no line end.
pub(super) fn duplicate_key(handle: &str, id: &str) -> String {
    format!("duplicate {}:{handle}{id}", handle.len())
}

/// How a vacation's sender is remembered.
pub(super) fn vacation_key(handle: &str, sender: &str) -> String {
    format!("vacation {}:{handle}{sender}", handle.len())
}

/// What is known of a delivery beside its filter.
pub(super) struct Whole<'a> {
    /// The delivery as it would be without a filter.
    pub(super) delivery: &'a LocalDelivery,
    /// Where the body begins behind trace fields and header.
    pub(super) body_offset: usize,
    /// The addresses that have sent the message on before, lower case.
    pub(super) passed: &'a [String],
}

/// Adds what an outcome asks for. `alone`: nobody else receives the message, so that it can be refused.
pub(super) fn carry_out(outcome: Outcome, case: &Case<'_>, whole: &Whole<'_>, alone: bool, filtered: &mut Filtered) {
    // The octets of the message as received, without the trace fields, that an edited header replaces.
    let Whole { delivery: whole, body_offset, passed } = *whole;
    let has_passed = |address: &Address| passed.contains(&address.canonical());
    let replaced = body_offset.saturating_sub(case.incoming.trace.len()) as u64;
    let mut is_discarded = true;
    for action in outcome.actions {
        is_discarded &= matches!(action, Action::Discard | Action::Vacation(_));
        match action {
            Action::Keep { header, .. } => {
                keep(filtered, local(whole, Folder::inbox(), header, replaced));
            }
            Action::FileInto { folder, header, .. } => {
                let folder = Folder::parse(&folder).unwrap_or_else(Folder::inbox);
                filtered.local.push(local(whole, folder, header, replaced));
            }
            Action::Redirect { address, header } => match Address::parse(&address) {
                Ok(to) if has_passed(case.mailbox) || has_passed(&to) => {
                    tracing::info!(message_id = %case.incoming.id, mailbox = %case.mailbox, %to, "the message was there before; kept instead of redirected");
                    keep(filtered, local(whole, Folder::inbox(), header, replaced));
                }
                Ok(to) => {
                    filtered.redirected.push((case.mailbox.clone(), to.clone()));
                    filtered.derived.push(redirected(case, to, header, replaced));
                }
                Err(error) => {
                    // It must not be lost for a name that only the filter takes for one.
                    tracing::warn!(message_id = %case.incoming.id, mailbox = %case.mailbox, address, %error, "cannot be redirected to; kept");
                    keep(filtered, local(whole, Folder::inbox(), header, replaced));
                }
            },
            Action::Reject { reason, .. } if alone => filtered.refusal = Some(reason),
            Action::Reject { reason, .. } => {
                filtered.rejected.push(case.mailbox.clone());
                filtered.derived.extend(disposition::report(case, &reason));
            }
            Action::Vacation(reply) => filtered.derived.extend(replied(case, &reply)),
            Action::Discard => {}
        }
    }
    if filtered.refusal.is_some() {
        return;
    }
    if is_discarded {
        filtered.discarded.push(case.mailbox.clone());
    }
    filtered.remember.extend(outcome.effects.into_iter().map(|effect| remembrance(case, effect)));
}

/// Several actions that keep a message keep it once.
fn keep(filtered: &mut Filtered, delivery: LocalDelivery) {
    if filtered.local.iter().all(|known| known.maildrop != delivery.maildrop) {
        filtered.local.push(delivery);
    }
}

fn local(whole: &LocalDelivery, folder: Folder, header: EditedHeader, replaced: u64) -> LocalDelivery {
    let mailbox = whole.maildrop.mailbox.clone();
    let maildrop = MaildropName { mailbox, folder };
    match header {
        None => LocalDelivery { maildrop, ..whole.clone() },
        Some(header) => {
            let fields = [&whole.fields[..], &header[..]].concat();
            LocalDelivery { maildrop, fields: fields.into(), body_from: Some(replaced), ..whole.clone() }
        }
    }
}

fn redirected(case: &Case<'_>, to: Address, header: EditedHeader, replaced: u64) -> Derived {
    let (trace, from) = match &header {
        None => (&case.incoming.trace[..], 0),
        Some(header) => (&header[..], replaced),
    };
    // Tells the message should it come back here.
    let trace = [format!("Delivered-To: {}\r\n", case.mailbox.canonical()).as_bytes(), trace].concat().into();
    Derived {
        id: MessageId::generate(),
        reverse_path: onward_path(
            case.configuration,
            case.incoming.reverse_path,
            case.mailbox,
            case.incoming.received_at,
        ),
        sender_tenant: None,
        trace,
        content: Content::Same { from },
        declared: case.incoming.declared.clone(),
        local: Vec::new(),
        remote: vec![to.into()],
    }
}

fn replied(case: &Case<'_>, reply: &paquebot_sieve::VacationReply) -> Option<Derived> {
    let to = case.incoming.reverse_path?.clone();
    let id = MessageId::generate();
    let message_id = format!("<{id}@{}>", case.configuration.server.hostname);
    let now = case.incoming.received_at.as_second();
    let octets = if may_be_from(case, reply) {
        reply.to_octets(&message_id, now)
    } else {
        tracing::warn!(message_id = %case.incoming.id, mailbox = %case.mailbox, from = reply.from, "a vacation reply may not be sent as somebody else; sent as the mailbox");
        let mut reply = reply.clone();
        reply.from = case.mailbox.to_string();
        reply.to_octets(&message_id, now)
    };
    Some(own(case, id, octets, to))
}

/// Whether the mailbox may send as the one whom a reply names in its `From` (RFC 5230 §4.1).
fn may_be_from(case: &Case<'_>, reply: &paquebot_sieve::VacationReply) -> bool {
    let Some(from) = reply.from_address().and_then(|from| Address::parse(&from).ok()) else { return false };
    let owns = |mailbox| relay::owns(case.configuration, mailbox, Some(&from));
    from.canonical() == case.mailbox.canonical() || case.configuration.mailbox(case.mailbox).is_some_and(owns)
}

/// A message of our own: with the null reverse-path, so that nothing answers it. What had to be sent with TLS is not
/// answered without (RFC 8689 §5).
pub(super) fn own(case: &Case<'_>, id: MessageId, octets: Vec<u8>, to: Address) -> Derived {
    let require_tls = case.incoming.declared.require_tls;
    let declared = Declared { smtputf8: !to.is_ascii(), require_tls, ..Declared::eight_bit(!octets.is_ascii()) };
    Derived {
        id,
        reverse_path: None,
        sender_tenant: None,
        trace: Bytes::new(),
        content: Content::Own(octets.into()),
        declared,
        local: Vec::new(),
        remote: vec![to.into()],
    }
}

fn remembrance(case: &Case<'_>, effect: Effect) -> Remembrance {
    let (what, seconds) = match effect {
        Effect::RememberDuplicate { handle, id, seconds } => (duplicate_key(&handle, &id), seconds),
        Effect::RememberVacation { handle, sender, seconds } => (vacation_key(&handle, &sender), seconds),
    };
    let time = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    let until = case.incoming.received_at.saturating_add(time).unwrap_or(Timestamp::MAX);
    Remembrance { mailbox: case.name.clone(), what, until }
}

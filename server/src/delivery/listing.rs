//! What a maildrop's listing will say of a message with a header in UTF-8 to a client that has not said UTF8: found out where
//! the message is delivered, for a listing cannot read all messages (RFC 1939 §5 and §11: the octets that RETR sends). Called
//! by [`crate::smtp::session`] and [`crate::queue`].

use super::filter::Incoming;
use crate::pop3::surrogate::{self, LONGEST_HEADER};
use crate::store::{LocalDelivery, StoreError};

/// Octets of a message's beginning in which its header ends, or is too long to be rewritten: POP3 reads it in pieces.
const BEGINNING: u64 = (LONGEST_HEADER + 64 * 1024) as u64;

/// Notes with each delivery how long it is with a header in ASCII, where its sender declared SMTPUTF8.
///
/// # Errors
/// [`StoreError`] when the message cannot be read.
pub async fn note_growth(incoming: &Incoming<'_>, deliveries: &mut [LocalDelivery]) -> Result<(), StoreError> {
    if !incoming.declared.smtputf8 || deliveries.is_empty() {
        return Ok(());
    }
    let beginning = incoming.beginning(BEGINNING).await?;
    let trace = incoming.trace.len();
    let is_whole = beginning.len() as u64 == trace as u64 + incoming.octets;
    note(trace, &beginning, is_whole, deliveries);
    Ok(())
}

/// The same for a message of which so many octets are trace fields, and of which the beginning, or all, is at hand.
pub fn note(trace: usize, beginning: &[u8], is_whole: bool, deliveries: &mut [LocalDelivery]) {
    for delivery in deliveries {
        let from =
            delivery.body_from.map_or(0, |from| usize::try_from(from).unwrap_or(usize::MAX).saturating_add(trace));
        let rest = beginning.get(from..).unwrap_or_default();
        // An edited header is whole in the fields, also where the rest of the message is not at hand.
        let is_whole = is_whole && from <= beginning.len();
        delivery.ascii_growth = surrogate::growth(&[&delivery.fields[..], rest].concat(), is_whole);
    }
}

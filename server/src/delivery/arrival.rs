//! What becomes of a message that came for recipients here, at the door or out of the queue: forwardings under a
//! reverse-path of ours, and what filters make of it. Called by [`crate::smtp::session`] and [`crate::queue`], so that both
//! deliver in the same way.

use jiff::Timestamp;
use paquebot_config::{Address, Configuration};

use super::distribution::Distribution;
use super::filter::{Filtered, Filters, Incoming};
use super::{Plan, srs};
use crate::store::{Content, Derived, MessageId, RemoteRecipient, Store, StoreError};

/// Distributes a message: filters decide about the maildrops, and what aliases and mailboxes send on is derived of it.
///
/// # Errors
/// [`StoreError`] when what filters ask cannot be answered: the message must not be taken.
pub async fn distribute(
    filters: &Filters,
    store: &dyn Store,
    configuration: &Configuration,
    distribution: &Distribution,
    incoming: &Incoming<'_>,
) -> Result<Filtered, StoreError> {
    let mut filtered = filters.apply(store, configuration, &distribution.plan(), incoming).await?;
    if filtered.refusal.is_none() {
        filtered.derived.splice(0..0, forwards(configuration, distribution, incoming));
    }
    Ok(filtered)
}

/// One message for each alias or mailbox that sends on. `Delivered-To` says so, and tells the message should it come back.
fn forwards(configuration: &Configuration, distribution: &Distribution, incoming: &Incoming<'_>) -> Vec<Derived> {
    let forward = |(via, remote): (Address, Vec<RemoteRecipient>)| Derived {
        id: MessageId::generate(),
        reverse_path: onward_path(configuration, incoming.reverse_path, &via, incoming.received_at),
        sender_tenant: None,
        trace: [format!("Delivered-To: {}\r\n", via.canonical()).as_bytes(), incoming.trace].concat().into(),
        content: Content::Same { from: 0 },
        declared: incoming.declared.clone(),
        local: Vec::new(),
        remote,
    };
    distribution.forwards().into_iter().map(forward).collect()
}

/// The reverse-path under which an address here sends a message on, so that SPF holds at the next server (SRS). A sender of
/// ours keeps its own: our servers may send for it. So does the null one.
#[must_use]
pub fn onward_path(
    configuration: &Configuration,
    reverse_path: Option<&Address>,
    via: &Address,
    at: Timestamp,
) -> Option<Address> {
    let sender = reverse_path?;
    let is_ours = configuration.domain(sender.domain()).is_some();
    let rewritten = srs::rewrite(&configuration.secrets.srs_keys, sender, via.domain(), at).filter(|_| !is_ours);
    Some(rewritten.unwrap_or_else(|| sender.clone()))
}

/// Who hears what becomes of a message: the sender, also where an address of ours stands for it since a message was sent on
/// ([`onward_path`]). `None`: that address is not one that we made, or has expired.
#[must_use]
pub fn original_sender(configuration: &Configuration, reverse_path: &Address, at: Timestamp) -> Option<Address> {
    let keys = &configuration.secrets.srs_keys;
    let is_ours = configuration.domain(reverse_path.domain()).is_some();
    if keys.is_empty() || !is_ours || !srs::is_rewritten(reverse_path.local_part()) {
        return Some(reverse_path.clone());
    }
    srs::restore(keys, reverse_path.local_part(), at).ok()
}

/// Where a report to a sender goes at once; `None`: it leads to nobody here. Where filters or forwardings have to see it, it
/// goes through the queue, which delivers it like other mail.
#[must_use]
pub fn plan_of_report(configuration: &Configuration, sender: &Address) -> Option<Plan> {
    let plan = super::expand(configuration, sender).ok()?;
    let is_simple = plan.remote.is_empty()
        && plan.local.iter().all(|maildrop| !super::filter::is_filtered(configuration, &maildrop.address));
    Some(if is_simple { plan } else { Plan { local: Vec::new(), remote: vec![sender.clone()] } })
}

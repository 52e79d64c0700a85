//! Recipients whose domain is served here: their maildrops were full, their mail was held, a filter or a forwarding here led
//! to them, or their domain was not served yet when the message was accepted. They get it as at the door. Used by [`super`]
//! alone.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use paquebot_config::{Address, Configuration, Resolution};

use super::super::client::machine::{Accepted, Taker};
use super::super::status::Refusal;
use super::Courier;
use super::letter::{Letter, unreadable};
use super::settle::{Done, Elsewhere, OverQuota};
use crate::delivery::arrival;
use crate::delivery::distribution::Distribution;
use crate::delivery::filter::{Incoming, IncomingBody};
use crate::delivery::{self, Undeliverable, listing};
use crate::smtp::content::HeaderReader;
use crate::smtp::machine::EnvelopeRecipient;
use crate::store::envelope::{ByMode, Notify, Route};
use crate::store::outgoing::{MessageNumber, QueuedMessage, QueuedRecipient};
use crate::store::{Declared, Result};

impl Courier {
    /// Each recipient by himself, for one full maildrop must not hold up the others.
    pub(super) async fn deliver_here(&self, configuration: &Configuration, letters: VecDeque<Letter>) {
        for letter in letters {
            let number = letter.number();
            let Some(message) = self.known(number).await else {
                self.unsettled.give_up(letter.recipients().iter().map(|recipient| recipient.key));
                continue;
            };
            for recipient in letter.into_recipients() {
                self.deliver_one_here(configuration, number, &message, recipient).await;
            }
        }
    }

    /// One recipient. Where he stands for several, those who have room get the message, and the full ones' rows wait.
    async fn deliver_one_here(
        &self,
        configuration: &Configuration,
        number: MessageNumber,
        message: &Arc<QueuedMessage>,
        recipient: QueuedRecipient,
    ) {
        if delivery::has_changed_hands(
            configuration,
            &recipient.recipient.address,
            recipient.recipient.tenant.as_deref(),
        ) {
            self.return_to_former(configuration, number, message, recipient).await;
            return;
        }
        let mut full: Vec<Address> = Vec::new();
        loop {
            let (outcome, elsewhere) =
                match self.distribute_here(configuration, number, message, &recipient, &full).await {
                    Ok((taker, elsewhere)) => (Ok(Accepted { taker, reply: "delivered here".to_owned() }), elsewhere),
                    Err(refusal) => (Err(refusal), Elsewhere::default()),
                };
            let done =
                Done { number, message: Some(Arc::clone(message)), attempts: vec![(recipient.clone(), outcome)] };
            match self.settle_one(configuration, done, elsewhere).await {
                // Each time one more is full; without local deliveries there is no quota.
                Err(OverQuota(owner)) if !full.contains(&owner) => full.push(owner),
                _ => return,
            }
        }
    }

    /// The address is another tenant's by now, who gets nothing of what was its former owner's, nor a report of it: a sender of
    /// the same domain has changed hands with it, also where nobody wrote down whose he was.
    async fn return_to_former(
        &self,
        configuration: &Configuration,
        number: MessageNumber,
        message: &Arc<QueuedMessage>,
        mut recipient: QueuedRecipient,
    ) {
        let address = recipient.recipient.address.clone();
        tracing::warn!(message_id = %message.id, recipient = %address, "the address has changed hands since the message was accepted");
        let is_of_domain = |sender: &Address| sender.domain() == address.domain();
        if message.sender_tenant.is_none() && message.reverse_path.as_ref().is_some_and(is_of_domain) {
            self.count("unreported", 1);
            recipient.recipient.notify = Notify::Never;
        }
        let outcome = Err(refusal_of(Undeliverable::Unknown, &address));
        let done = Done { number, message: Some(Arc::clone(message)), attempts: vec![(recipient, outcome)] };
        // Nothing is delivered here, so that there is no quota.
        let _ = self.settle_one(configuration, done, Elsewhere::default()).await;
    }

    /// What becomes of a message for a recipient here, and who has it then.
    async fn distribute_here(
        &self,
        configuration: &Configuration,
        number: MessageNumber,
        message: &QueuedMessage,
        row: &QueuedRecipient,
        full: &[Address],
    ) -> std::result::Result<(Taker, Elsewhere), Refusal> {
        let recipient = &row.recipient;
        // RFC 2852 §4.1.2.1: what is late by now comes back.
        let by = message.declared.deliver_by.filter(|by| by.mode == ByMode::Return);
        if by.is_some_and(|by| by.at <= self.environment.clock.now()) {
            return Err(Refusal::permanent(4, 7, "the time by which it had to be delivered is over".to_owned()));
        }
        let refused = |reason| refusal_of(reason, &recipient.address);
        let named = EnvelopeRecipient {
            address: recipient.address.clone(),
            notify: recipient.notify,
            original: recipient.original.clone(),
            // The way out was for the address itself, which needs none.
            route: None,
        };
        let mut distribution = match recipient.route {
            Some(Route::Maildrop) => match configuration.resolve(&recipient.address) {
                Resolution::Suspended => return Err(refused(Undeliverable::Suspended)),
                _ => Distribution::of_maildrop(configuration, &named).ok_or_else(|| refused(Undeliverable::Unknown))?,
            },
            _ => {
                delivery::expand(configuration, &recipient.address).map_err(refused)?;
                Distribution::new(configuration, &[named])
            }
        };
        let is_filtered = distribution
            .plan()
            .local
            .iter()
            .any(|maildrop| delivery::filter::is_filtered(configuration, &maildrop.address));
        let mut beginning = Vec::new();
        if is_filtered || !distribution.forwards().is_empty() || message.declared.smtputf8 {
            beginning = self.beginning(number).await.map_err(|error| unreadable(&error))?;
            let mut header = HeaderReader::default();
            header.look(&beginning);
            distribution.break_loops(configuration, &header.passage().delivered_to);
        }
        if distribution.is_empty() {
            return Err(refused(Undeliverable::Loop));
        }
        let stands_for_one = distribution.plan().is_one_maildrop();
        distribution.defer(|maildrop| full.contains(&maildrop.address));
        if stands_for_one && let Some(owner) = full.first() {
            return Err(Refusal::transient(2, 2, format!("the mailbox {owner} is full")));
        }
        // The trace fields are part of what is read, and count as part of the message.
        let incoming = Incoming {
            id: &message.id,
            received_at: self.environment.clock.now(),
            reverse_path: message.reverse_path.as_ref(),
            trace: &Bytes::new(),
            body: IncomingBody::Beginning(&beginning),
            octets: message.octets,
            // What comes of it is not held again.
            declared: &Declared { hold_until: None, ..message.declared.clone() },
            recipients: std::slice::from_ref(&recipient.address),
        };
        let filtered = arrival::distribute(&self.filters, &*self.store, configuration, &distribution, &incoming).await;
        let mut filtered = filtered.map_err(|error| unreadable(&error))?;
        listing::note_growth(&incoming, &mut filtered.local).await.map_err(|error| unreadable(&error))?;
        if let Some(reason) = &filtered.refusal {
            return Err(Refusal::permanent(7, 1, format!("rejected by the recipient's filter: {}", one_line(reason))));
        }
        let taker = match distribution.succeeded(&filtered.rejected).first() {
            Some((_, true)) => Taker::Members,
            Some((_, false)) => Taker::Maildrop,
            None => Taker::Onward,
        };
        let mut remote = distribution.remote();
        for same in remote.iter_mut().filter(|other| other.address == recipient.address) {
            same.tenant.clone_from(&recipient.tenant);
        }
        Ok((taker, Elsewhere { remote, filtered }))
    }

    /// As much of a message as filters may see.
    async fn beginning(&self, number: MessageNumber) -> Result<Vec<u8>> {
        let mut reader = self.store.read_queued(number).await?;
        let mut beginning = Vec::new();
        while (beginning.len() as u64) < self.filters.seen_octets()
            && let Some(piece) = reader.next().await?
        {
            beginning.extend_from_slice(&piece);
        }
        Ok(beginning)
    }
}

/// A filter's reason as it can stand in a reply.
fn one_line(reason: &str) -> String {
    reason.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn refusal_of(reason: Undeliverable, address: &Address) -> Refusal {
    match reason {
        Undeliverable::Unknown => Refusal::permanent(1, 1, format!("there is no mailbox {address} here")),
        Undeliverable::Loop | Undeliverable::TooMany => {
            Refusal::permanent(4, 6, format!("the address {address} leads in a circle or to too many others"))
        }
        Undeliverable::Suspended => Refusal::transient(2, 1, format!("{address} is suspended")),
    }
}

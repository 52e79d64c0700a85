//! Recipients whose domain is served here by now, though it was not when their message was accepted. Used by [`super`]
//! alone.

use std::collections::VecDeque;
use std::sync::Arc;

use paquebot_config::{Address, Configuration};

use super::super::client::machine::{Accepted, Taker};
use super::super::status::Refusal;
use super::Courier;
use super::letter::Letter;
use super::settle::{Done, Elsewhere, OverQuota};
use crate::delivery::{self, Undeliverable};
use crate::store::RemoteRecipient;

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
                let mut elsewhere = Elsewhere::default();
                let address = &recipient.recipient.address;
                let outcome = match delivery::expand(configuration, address) {
                    Ok(plan) => {
                        elsewhere.local = delivery::local_deliveries(&plan, message.reverse_path.as_ref());
                        // The sender's wishes about reports stay with the recipient that he named.
                        elsewhere.remote = plan.remote.into_iter().map(RemoteRecipient::from).collect();
                        Ok(Accepted { taker: Taker::Maildrop, reply: "delivered here".to_owned() })
                    }
                    Err(reason) => Err(refusal_of(reason, address)),
                };
                let done = |outcome| Done {
                    number,
                    message: Some(Arc::clone(&message)),
                    attempts: vec![(recipient.clone(), outcome)],
                };
                if let Err(OverQuota(owner)) = self.settle_one(configuration, done(outcome), elsewhere).await {
                    let refusal = Refusal::transient(2, 2, format!("the mailbox {owner} is full"));
                    // Without local deliveries there is no quota.
                    let _ = self.settle_one(configuration, done(Err(refusal)), Elsewhere::default()).await;
                }
            }
        }
    }
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

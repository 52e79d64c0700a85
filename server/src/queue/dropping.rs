//! Rows that a person dropped leave the queue, with a report to the sender where it was asked for. Called by
//! [`super::worker`] for rows that no attempt has.

use std::collections::BTreeMap;

use super::delivery::Courier;
use super::status::Refusal;
use crate::store::StoreError;
use crate::store::outgoing::{Dropped, Settlement};

impl Courier {
    /// Takes the rows out. What the store does not take now stays marked, and is tried again.
    pub(super) async fn drop_rows(&self, rows: Vec<Dropped>) {
        let (told, silent): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.notify);
        let keys: Vec<i64> = silent.iter().map(|row| row.recipient.key).collect();
        if !keys.is_empty() {
            let settled = self.store.settle(Settlement { finished: keys.clone(), ..Settlement::default() }).await;
            match settled {
                Ok(()) => self.count("dropped", keys.len() as u64),
                Err(error) => self.give_up(keys, &error),
            }
        }
        let mut by_message: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in told {
            by_message.entry(row.recipient.message).or_default().push(row.recipient);
        }
        let configuration = self.configuration.snapshot();
        let refusal = Refusal::permanent(7, 0, "the administrator of the sending server has removed it from the queue");
        for (message, recipients) in by_message {
            let outcomes = recipients.iter().map(|_| Err(refusal.clone())).collect();
            self.settle(&configuration, message, recipients, outcomes).await;
        }
    }

    fn give_up(&self, keys: Vec<i64>, error: &StoreError) {
        tracing::error!(%error, rows = keys.len(), "rows that a person dropped stay in the queue until the next start");
        self.unsettled.give_up(keys);
    }
}

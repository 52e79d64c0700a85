//! Rows that a person dropped leave the queue, with a report to the sender where it was asked for. Called by
//! [`super::worker`] for rows that no attempt has.

use std::collections::BTreeMap;

use super::delivery::Courier;
use super::status::Refusal;
use crate::store::outgoing::{Dropped, Settlement};
use crate::store::{Result, StoreError};

impl Courier {
    /// Takes the rows out. It waits for nothing: whoever calls it has other work.
    ///
    /// # Errors
    /// Those that may pass, as a volume without room. Rows that are not out by then stay marked, and are to be tried again.
    pub(super) async fn drop_rows(&self, rows: Vec<Dropped>) -> Result<()> {
        let (told, silent): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.notify);
        self.take_out(silent.iter().map(|row| row.recipient.key).collect()).await?;
        let mut by_message: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in told {
            by_message.entry(row.recipient.message).or_default().push(row.recipient);
        }
        let configuration = self.configuration.snapshot();
        let refusal = Refusal::permanent(7, 0, "the administrator of the sending server has removed it from the queue");
        self.settle_refused(&configuration, by_message, &refusal).await
    }

    /// In one transaction, or where a row spoils it for the others, each for itself.
    async fn take_out(&self, keys: Vec<i64>) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        match self.store.settle(Settlement { finished: keys.clone(), ..Settlement::default() }).await {
            Ok(()) => self.count("dropped", keys.len() as u64),
            Err(error @ StoreError::DiskFull) => return Err(error),
            Err(_) if keys.len() > 1 => {
                for key in keys {
                    Box::pin(self.take_out(vec![key])).await?;
                }
            }
            Err(error) if self.is_final(&error) || self.takes_other_work().await => {
                tracing::error!(%error, row = ?keys, "a row that a person dropped stays in the queue until the next start");
                self.unsettled.give_up(keys);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

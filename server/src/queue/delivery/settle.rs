//! What attempts met becomes durable: outcomes are taken as they come, as many at once as wait. Used by [`super`] alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use paquebot_config::{Address, Configuration};
use tokio::sync::mpsc;

use super::super::client::machine::Outcome;
use super::super::convert::{Target, fits};
use super::super::dsn::{Action, Original, Reported, header_of};
use super::super::outcome::{Decision, Notice, decide, notice};
use super::super::schedule::Schedule;
use super::super::status::Refusal;
use super::Courier;
use super::letter::read_whole;
use crate::delivery::{Sender, filter::Filtered};
use crate::store::envelope::Ret;
use crate::store::outgoing::{MessageNumber, QueuedMessage, QueuedRecipient, Settlement};
use crate::store::{MessageId, RemoteRecipient, Result, StoreError};

/// Octets of the original's header that a report repeats.
const REPORTED_HEADER: usize = 32 * 1024;
/// The largest message that a report returns whole (`RET=FULL`).
const RETURNED: u64 = 1024 * 1024;
/// How long to wait before a settlement is tried again that the store could not take.
const SETTLE_AGAIN: Duration = Duration::from_secs(5);
/// Messages whose outcomes are settled in one transaction, at most.
const TOGETHER: usize = 64;
/// Octets of reports in one transaction, beyond which no further message joins: whole messages may come back.
const REPORTED_TOGETHER: usize = 4 * 1024 * 1024;
/// The outcome of one message is given up when the store has refused it so often while it took other work.
const REFUSALS: usize = 4;

/// What became of a message in an attempt.
pub(super) struct Done {
    pub(super) number: MessageNumber,
    /// What is known of it, where it was read.
    pub(super) message: Option<Arc<QueuedMessage>>,
    pub(super) attempts: Vec<(QueuedRecipient, Outcome)>,
}

/// A maildrop here has no room for a message from the queue.
pub(super) struct OverQuota(pub(super) Address);

/// What an address that is served here leads to.
#[derive(Default)]
pub(super) struct Elsewhere {
    /// What filters and forwardings made of it.
    pub(super) filtered: Filtered,
    /// To whom the message goes as it is.
    pub(super) remote: Vec<RemoteRecipient>,
}

/// Everything that is settled about one message.
struct Entry {
    number: MessageNumber,
    message: Arc<QueuedMessage>,
    attempts: Vec<(QueuedRecipient, Outcome)>,
    decision: Decision,
    notice: Option<Notice>,
    elsewhere: Elsewhere,
}

impl Courier {
    /// Settles until nothing comes any more.
    pub(super) async fn settle_as_they_come(&self, configuration: &Configuration, mut done: mpsc::Receiver<Done>) {
        let mut waiting = Vec::new();
        while done.recv_many(&mut waiting, TOGETHER).await > 0 {
            let mut entries = Vec::with_capacity(waiting.len());
            for done in waiting.drain(..) {
                entries.extend(self.entry(configuration, done, Elsewhere::default()).await);
                if reported(&entries) > REPORTED_TOGETHER {
                    let _ = self.settle_entries(std::mem::take(&mut entries)).await;
                }
            }
            // Without local deliveries there is no quota.
            let _ = self.settle_entries(entries).await;
        }
    }

    /// Settles that recipients are refused, many messages together. It waits for nothing.
    ///
    /// # Errors
    /// Those that may pass. What is not settled by then is as it was.
    pub(in super::super) async fn settle_refused(
        &self,
        configuration: &Configuration,
        messages: BTreeMap<MessageNumber, Vec<QueuedRecipient>>,
        refusal: &Refusal,
    ) -> Result<()> {
        let mut entries = Vec::new();
        for (number, recipients) in messages {
            let message = match self.store.queued_message(number).await {
                Ok(message) => Some(Arc::new(message)),
                Err(error) if self.is_final(&error) => {
                    tracing::error!(%error, "a queued message cannot be read; it waits for the next start");
                    self.unsettled.give_up(recipients.iter().map(|recipient| recipient.key));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let attempts = recipients.into_iter().map(|recipient| (recipient, Err(refusal.clone()))).collect();
            entries.extend(self.entry(configuration, Done { number, message, attempts }, Elsewhere::default()).await);
            if reported(&entries) > REPORTED_TOGETHER {
                self.settle_once(std::mem::take(&mut entries)).await?;
            }
        }
        self.settle_once(entries).await
    }

    /// One transaction for all, or where one of them spoils it, one for each.
    async fn settle_once(&self, entries: Vec<Entry>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        match self.store.settle(settlement(&entries, self.environment.clock.now())).await {
            Ok(()) => entries.iter().for_each(|entry| self.record(entry)),
            Err(error @ StoreError::DiskFull) => return Err(error),
            Err(_) if entries.len() > 1 => {
                for entry in entries {
                    Box::pin(self.settle_once(vec![entry])).await?;
                }
            }
            Err(error) if self.is_final(&error) || self.takes_other_work().await => self.give_up(&entries, &error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Settles one message by itself.
    pub(super) async fn settle_one(
        &self,
        configuration: &Configuration,
        done: Done,
        elsewhere: Elsewhere,
    ) -> std::result::Result<(), OverQuota> {
        let entry = self.entry(configuration, done, elsewhere).await;
        self.settle_entries(entry.into_iter().collect()).await
    }

    /// Decides. `None` when the store will not tell before the next start what the message is.
    async fn entry(&self, configuration: &Configuration, done: Done, mut elsewhere: Elsewhere) -> Option<Entry> {
        let Done { number, message, attempts } = done;
        let message = match message {
            Some(message) => message,
            None => match self.known(number).await {
                Some(message) => message,
                None => {
                    self.unsettled.give_up(attempts.iter().map(|(recipient, _)| recipient.key));
                    return None;
                }
            },
        };
        let outbound = &configuration.server.outbound;
        let schedule = Schedule {
            max_age: Duration::from_secs(outbound.max_age_seconds),
            delay_warning: Duration::from_secs(outbound.delay_warning_seconds),
        };
        let now = self.environment.clock.now();
        let decision = decide(&message, &attempts, schedule, now, self.random());
        let notice = match decision.reported.is_empty() {
            true => None,
            false => self.notice(configuration, number, &message, &decision.reported, now).await,
        };
        let sender = Sender::of_queued(&message);
        sender.note_tenants(configuration, &mut elsewhere.remote);
        sender.note_tenants_of_derived(configuration, &mut elsewhere.filtered.derived);
        Some(Entry { number, message, attempts, decision, notice, elsewhere })
    }

    /// One transaction for all, or where the store takes it not, one for each.
    async fn settle_entries(&self, entries: Vec<Entry>) -> std::result::Result<(), OverQuota> {
        if entries.is_empty() {
            return Ok(());
        }
        match self.settle_until_durable(&entries).await {
            Ok(()) => entries.iter().for_each(|entry| self.record(entry)),
            Err(StoreError::OverQuota(owner)) => return Err(OverQuota(owner)),
            Err(_) if entries.len() > 1 => {
                // One of them spoils it for the others.
                for entry in entries {
                    Box::pin(self.settle_entries(vec![entry])).await?;
                }
            }
            Err(error) => self.give_up(&entries, &error),
        }
        Ok(())
    }

    fn give_up(&self, entries: &[Entry], error: &StoreError) {
        for entry in entries {
            tracing::error!(message_id = %entry.message.id, %error, "the outcome of a delivery cannot be kept; \
                its recipients wait for the next start");
            self.unsettled.give_up(entry.attempts.iter().map(|(recipient, _)| recipient.key));
        }
    }

    /// Whether the store does what it is asked in general, so that a refusal is about what it was asked.
    pub(in super::super) async fn takes_other_work(&self) -> bool {
        self.store.settle(Settlement::default()).await.is_ok()
    }

    /// The store may have no room for a moment. Until it has, the rows stay claimed: sending again what was delivered
    /// would be worse than waiting. At the end of the process it is tried until the attempt is cut.
    ///
    /// # Errors
    /// Those that stay as long as the process runs, and where one of several spoils it for the others.
    async fn settle_until_durable(&self, entries: &[Entry]) -> Result<()> {
        let (mut waiting, mut refusals) = (None, 0);
        loop {
            match self.store.settle(settlement(entries, self.environment.clock.now())).await {
                Ok(()) => return Ok(()),
                Err(error @ StoreError::OverQuota(_)) => return Err(error),
                Err(error) if self.is_final(&error) => return Err(error),
                Err(error @ StoreError::Failed(_)) if entries.len() > 1 => return Err(error),
                Err(error) => {
                    tracing::warn!(messages = entries.len(), %error, "outcomes of deliveries are not kept yet");
                    if matches!(error, StoreError::Failed(_)) && self.takes_other_work().await {
                        refusals += 1;
                    }
                    if refusals >= REFUSALS {
                        // Else one message would keep all others from being sent.
                        return Err(error);
                    }
                }
            }
            waiting.get_or_insert_with(|| self.unsettled.wait());
            tokio::time::sleep(SETTLE_AGAIN).await;
        }
    }

    /// What the store knows of a message; `None` when it will not tell before the next start.
    pub(super) async fn known(&self, number: MessageNumber) -> Option<Arc<QueuedMessage>> {
        let mut waiting = None;
        loop {
            match self.store.queued_message(number).await {
                Ok(message) => return Some(Arc::new(message)),
                Err(error) if self.is_final(&error) => {
                    tracing::error!(%error, "a queued message cannot be read; it waits for the next start");
                    return None;
                }
                Err(error) => tracing::warn!(%error, "a queued message cannot be read yet"),
            }
            waiting.get_or_insert_with(|| self.unsettled.wait());
            tokio::time::sleep(SETTLE_AGAIN).await;
        }
    }

    /// Whether the store will say the same as long as the process runs.
    pub(in super::super) fn is_final(&self, error: &StoreError) -> bool {
        matches!(error, StoreError::NotFound | StoreError::Corrupt(_)) || !self.store.can_settle()
    }

    async fn notice(
        &self,
        configuration: &Configuration,
        number: MessageNumber,
        message: &QueuedMessage,
        reported: &[Reported],
        now: Timestamp,
    ) -> Option<Notice> {
        let whole = self.returned(number, message, reported).await;
        let header = if whole.is_none() { self.original_header(number).await.unwrap_or_default() } else { Vec::new() };
        let original = whole.as_deref().map_or(Original::Header(&header), Original::Whole);
        match notice(configuration, message, original, reported, MessageId::generate(), now) {
            Ok(notice) => {
                tracing::info!(message_id = %message.id, report_id = %notice.id(), "the sender is told");
                Some(notice)
            }
            Err(reason) => {
                tracing::warn!(message_id = %message.id, ?reason, "the sender cannot be told; the report is dropped");
                self.count("unreported", 1);
                None
            }
        }
    }

    /// The whole message, where the sender wants it back (RFC 3461 §6.2: with a failure only) and it can go into a report.
    /// What was to be kept from others' eyes does not come back (RFC 8689 §5).
    async fn returned(
        &self,
        number: MessageNumber,
        message: &QueuedMessage,
        reported: &[Reported],
    ) -> Option<bytes::Bytes> {
        let is_wanted = message.declared.ret == Some(Ret::Full)
            && !message.declared.require_tls
            && message.octets <= RETURNED
            && message.reverse_path.is_some()
            && reported.iter().any(|reported| reported.action == Action::Failed);
        if !is_wanted {
            return None;
        }
        let whole = read_whole(&*self.store, number, message.octets).await.ok()?;
        fits(&whole, Target::EightBit).then_some(whole)
    }

    async fn original_header(&self, number: MessageNumber) -> Result<Vec<u8>> {
        let mut reader = self.store.read_queued(number).await?;
        // The first piece has the trace fields and at least as much of the message as is repeated.
        let mut beginning = Vec::new();
        while beginning.len() < REPORTED_HEADER
            && let Some(piece) = reader.next().await?
        {
            beginning.extend_from_slice(&piece);
        }
        Ok(header_of(&beginning, REPORTED_HEADER).to_vec())
    }

    /// What happened, in logs and numbers.
    fn record(&self, entry: &Entry) {
        let message_id = &entry.message.id;
        for (recipient, outcome) in &entry.attempts {
            let (to, attempt) = (&recipient.recipient.address, recipient.attempts.saturating_add(1));
            match outcome {
                Ok(accepted) => {
                    self.count("sent", 1);
                    tracing::info!(%message_id, recipient = %to, attempt, reply = %accepted.reply, "delivered");
                }
                Err(refusal) if entry.decision.finished.contains(&recipient.key) => {
                    self.count("bounced", 1);
                    tracing::warn!(%message_id, recipient = %to, attempt, reply = %refusal, "bounced");
                }
                Err(refusal) => {
                    self.count("deferred", 1);
                    let due = entry.decision.deferred.iter().find(|deferral| deferral.key == recipient.key);
                    let next = due.map(|deferral| deferral.due.to_string()).unwrap_or_default();
                    tracing::info!(%message_id, recipient = %to, attempt, reply = %refusal, next, "deferred");
                }
            }
        }
        entry.elsewhere.filtered.log(message_id);
        let copies = entry.elsewhere.filtered.local.len() + entry.notice.as_ref().map_or(0, Notice::copies);
        self.metrics.delivered.inc_by(copies as u64);
    }
}

/// Octets of reports among them.
fn reported(entries: &[Entry]) -> usize {
    entries.iter().filter_map(|entry| entry.notice.as_ref()).map(Notice::octets).sum()
}

/// What the store is asked for.
fn settlement(entries: &[Entry], at: Timestamp) -> Settlement {
    let mut settlement = Settlement { at, ..Settlement::default() };
    for entry in entries {
        settlement.finished.extend_from_slice(&entry.decision.finished);
        settlement.deferred.extend_from_slice(&entry.decision.deferred);
        let Elsewhere { filtered, remote } = &entry.elsewhere;
        settlement.derived.extend(filtered.derived.iter().map(|derived| (entry.number, derived.clone())));
        settlement.remember.extend_from_slice(&filtered.remember);
        settlement.delivered_here.extend(filtered.local.iter().map(|delivery| (entry.number, delivery.clone())));
        settlement.redirected.extend(remote.iter().map(|recipient| (entry.number, recipient.clone())));
        settlement.reports.extend(entry.notice.as_ref().map(Notice::acceptance));
    }
    settlement
}

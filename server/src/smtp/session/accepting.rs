//! What a session does with the content of a message: the spool while it comes, one transaction of the store at its end.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::{Address, Configuration};

use super::{Session, Transaction, out_of_step, path, reporting};
use crate::delivery::distribution::Distribution;
use crate::delivery::filter::{Filtered, Incoming, IncomingBody};
use crate::delivery::{self, Plan, Sender, arrival, listing};
use crate::smtp::command::{Hold, Mail};
use crate::smtp::machine::Envelope;
use crate::smtp::policy;
use crate::smtp::reply::Reply;
use crate::store::envelope::{Declared, DeliverBy};
use crate::store::{Acceptance, MailboxName, MessageId, Spool, StoreError};
use crate::trace::{Received, Transmission};

impl Session {
    pub(super) async fn open_spool(&mut self, limit: u64) -> Result<(), Reply> {
        let spool = self.services.store.spool(limit).await.map_err(|error| self.store_failure(&error))?;
        self.spool = Some(spool);
        Ok(())
    }

    pub(super) async fn append(&mut self, octets: &[u8]) -> Result<(), Reply> {
        // After a failure there is no spool, and what comes is thrown away.
        let Some(spool) = &mut self.spool else { return Ok(()) };
        let Err(error) = spool.append(octets).await else { return Ok(()) };
        self.spool = None;
        self.count_message("deferred");
        Err(self.store_failure(&error))
    }

    /// The end of a message: the plan, the trace fields, one transaction of the store. The reply is positive only when the
    /// message is on stable storage.
    pub(super) async fn commit(&mut self, envelope: Envelope) -> Reply {
        let (Some(transaction), Some(spool)) = (self.transaction.take(), self.spool.take()) else {
            return out_of_step();
        };
        let id = MessageId::generate();
        let durable = self.make_durable(&id, &envelope, &transaction, spool).await;
        durable.unwrap_or_else(|error| {
            let reply = policy::store_failure(&error);
            tracing::warn!(message_id = %id, %error, %reply, "the message could not be stored");
            self.count_message("deferred");
            reply
        })
    }

    async fn make_durable(
        &mut self,
        id: &MessageId,
        envelope: &Envelope,
        transaction: &Transaction,
        spool: Box<dyn Spool>,
    ) -> Result<Reply, StoreError> {
        let configuration = &*transaction.configuration;
        let body = spool.finish().await?;
        let received_at = Timestamp::now();
        let declared = declared(&envelope.mail, transaction.begun);
        let is_held = declared.hold_until.is_some_and(|until| until > received_at);
        let mut distribution = match is_held {
            true => Distribution::held(&envelope.recipients),
            false => Distribution::new(configuration, &envelope.recipients),
        };
        let cut = distribution.break_loops(configuration, &envelope.passage.delivered_to);
        if distribution.is_empty() {
            self.count_message("refused");
            return Ok(Reply::new(554, 4, 6, "the message goes round in a loop: it was sent on from here before"));
        }
        let trace = Bytes::from(self.received(configuration, envelope, id, received_at));
        let plan = distribution.plan();
        if plan.is_one_maildrop()
            && let [delivery] = delivery::local_deliveries(&plan, envelope.mail.reverse_path.as_ref()).as_slice()
            && let Some(quota) = delivery.quota
            && envelope.octets + trace.len() as u64 + delivery.fields.len() as u64 > quota
        {
            // It would never fit, so nobody should try again for days.
            self.count_message("refused");
            return Ok(policy::larger_than_quota());
        }
        let recipients: Vec<_> = envelope.recipients.iter().map(|recipient| recipient.address.clone()).collect();
        let incoming = Incoming {
            id,
            received_at,
            reverse_path: envelope.mail.reverse_path.as_ref(),
            trace: &trace,
            body: IncomingBody::Whole(&body),
            octets: envelope.octets,
            declared: &declared,
            recipients: &recipients,
        };
        let mut filtered = self.distribute(configuration, &mut distribution, &incoming).await?;
        let plan = distribution.plan();
        if let Some(reason) = &filtered.refusal {
            tracing::info!(message_id = %id, "refused by the recipient's filter");
            self.count_message("refused");
            return Ok(rejected(reason));
        }
        listing::note_growth(&incoming, &mut filtered.local).await?;
        let is_queued = !plan.remote.is_empty() || filtered.derived.iter().any(|derived| !derived.remote.is_empty());
        let succeeded = distribution.succeeded(&filtered.rejected);
        filtered.derived.extend(reporting::at_once(configuration, &succeeded, &cut, &incoming).await?);
        let wakes_queue = !plan.remote.is_empty() || filtered.derived.iter().any(|derived| !derived.remote.is_empty());
        let sender = Sender::now(configuration, envelope.mail.reverse_path.as_ref());
        let mut acceptance = Acceptance {
            id: id.clone(),
            received_at,
            reverse_path: envelope.mail.reverse_path.clone(),
            sender_tenant: sender.tenant.map(Into::into),
            trace,
            body,
            declared,
            local: filtered.local.clone(),
            remote: distribution.remote(),
            derived: std::mem::take(&mut filtered.derived),
            remember: std::mem::take(&mut filtered.remember),
        };
        sender.note_tenants(configuration, &mut acceptance.remote);
        sender.note_tenants_of_derived(configuration, &mut acceptance.derived);
        self.store(acceptance).await?;
        if wakes_queue {
            self.services.queue.notify_one();
        }
        Ok(self.accepted(id, envelope, &plan, &filtered, is_queued))
    }

    /// Makes an acceptance durable.
    async fn store(&self, acceptance: Acceptance) -> Result<(), StoreError> {
        let is_for_somebody =
            !acceptance.derived.is_empty() || !acceptance.local.is_empty() || !acceptance.remote.is_empty();
        if !is_for_somebody && acceptance.remember.is_empty() {
            // The filter threw it away: that is its recipient's wish, and there is nothing to store.
            return Ok(());
        }
        self.services.store.commit(acceptance).await
    }

    /// Where a message has several maildrops, a full one gets it from the queue when it has room again. One alone has its
    /// answer from the store, which also refuses what comes at the same moment: the client tries again.
    async fn distribute(
        &self,
        configuration: &Configuration,
        distribution: &mut Distribution,
        incoming: &Incoming<'_>,
    ) -> Result<Filtered, StoreError> {
        let (filters, store) = (&self.services.filters, &*self.services.store);
        loop {
            let filtered = arrival::distribute(filters, store, configuration, distribution, incoming).await?;
            if filtered.refusal.is_some() || distribution.plan().is_one_maildrop() {
                return Ok(filtered);
            }
            let full = self.full_maildrops(&filtered, incoming).await?;
            if full.is_empty() {
                return Ok(filtered);
            }
            // Those that are left are fewer each time.
            distribution.defer(|maildrop| full.contains(&maildrop.address));
        }
    }

    /// The mailboxes that have no room for all that filters put into their folders.
    async fn full_maildrops(
        &self,
        filtered: &Filtered,
        incoming: &Incoming<'_>,
    ) -> Result<HashSet<Address>, StoreError> {
        let mut wanted: HashMap<&MailboxName, (u64, u64)> = HashMap::new();
        for delivery in &filtered.local {
            let Some(quota) = delivery.quota else { continue };
            let (_, octets) = wanted.entry(&delivery.maildrop.mailbox).or_insert((quota, 0));
            *octets += delivery.octets(incoming.trace.len() as u64, incoming.octets);
        }
        let mut full = HashSet::new();
        for (mailbox, (quota, octets)) in wanted {
            let usage = self.services.store.usage(mailbox).await?;
            if policy::quota(quota, usage, Some(octets)).is_err() {
                full.insert(mailbox.address.clone());
            }
        }
        Ok(full)
    }

    fn accepted(
        &self,
        id: &MessageId,
        envelope: &Envelope,
        plan: &Plan,
        filtered: &Filtered,
        is_queued: bool,
    ) -> Reply {
        let metrics = &self.services.metrics;
        self.count_message("accepted");
        metrics.message_octets.inc_by(envelope.octets);
        metrics.delivered.inc_by(filtered.local.len() as u64);
        tracing::info!(
            message_id = %id,
            from = %path(envelope.mail.reverse_path.as_ref()),
            recipients = envelope.recipients.len(),
            octets = envelope.octets,
            user = self.user.as_ref().map(|user| tracing::field::display(&user.mailbox)),
            tls = self.tls,
            "message accepted"
        );
        filtered.log(id);
        let what = match (plan.local.is_empty(), is_queued) {
            (false, false) => "delivered",
            (true, _) => "queued",
            (false, true) => "delivered and queued",
        };
        Reply::new(250, 0, 0, format!("{id} {what}"))
    }

    fn received(&self, configuration: &Configuration, envelope: &Envelope, id: &MessageId, at: Timestamp) -> String {
        let recipient = match envelope.recipients.as_slice() {
            [only] => Some(&only.address),
            _ => None,
        };
        Received {
            client_name: &envelope.client_name,
            client: self.client.ip(),
            hostname: &configuration.server.hostname,
            transmission: Transmission {
                extended: envelope.extended,
                tls: self.tls.is_some(),
                authenticated: self.user.is_some(),
                smtputf8: envelope.mail.smtputf8,
            },
            tls: self.tls.as_deref(),
            id,
            recipient,
            at,
        }
        .field()
    }
}

/// The reply where the only recipient's filter refuses the message (RFC 5429 §2.1): its reason on one line, in ASCII.
fn rejected(reason: &str) -> Reply {
    const CHARACTERS: usize = 400;
    let words: Vec<&str> = reason.split_whitespace().collect();
    let printable = |letter: char| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' };
    let text: String = words.join(" ").chars().take(CHARACTERS).map(printable).collect();
    Reply::new(550, 7, 1, format!("rejected by the recipient's filter: {text}"))
}

/// What the next hop and the queue are told of a message whose transaction began then.
fn declared(mail: &Mail, begun: Timestamp) -> Declared {
    let later = |seconds: i64| begun.saturating_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
    Declared {
        body: mail.body,
        smtputf8: mail.smtputf8,
        require_tls: mail.require_tls,
        priority: mail.priority,
        ret: mail.ret,
        envelope_id: mail.envelope_id.clone(),
        hold_until: mail.hold.map(|hold| match hold {
            Hold::For(seconds) => later(i64::from(seconds)),
            Hold::Until(at) => at,
        }),
        deliver_by: mail.by.map(|by| DeliverBy { at: later(by.seconds), mode: by.mode, trace: by.trace }),
    }
}

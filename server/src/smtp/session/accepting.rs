//! What a session does with the content of a message: the spool while it comes, one transaction of the store at its end.

use bytes::Bytes;
use paquebot_config::Configuration;

use super::{Session, Transaction, out_of_step, path};
use crate::delivery::filter::{Filtered, Incoming};
use crate::delivery::{self, Plan};
use crate::smtp::command::{Hold, Mail};
use crate::smtp::machine::Envelope;
use crate::smtp::policy;
use crate::smtp::reply::Reply;
use crate::store::envelope::{Declared, DeliverBy, RemoteRecipient};
use crate::store::{Acceptance, MessageId, Spool, StoreError};
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
        let recipients: Vec<_> = envelope.recipients.iter().map(|recipient| recipient.address.clone()).collect();
        let mut plan = delivery::plan(configuration, &recipients);
        self.queue_for_full_maildrops(&mut plan, envelope.octets).await?;
        let received_at = jiff::Timestamp::now();
        let trace: Bytes = self.received(configuration, envelope, id, received_at).into();
        let declared = declared(&envelope.mail, transaction.begun);
        let reverse_path = envelope.mail.reverse_path.as_ref();
        let incoming = Incoming {
            id,
            received_at,
            reverse_path,
            redirect_path: reverse_path,
            trace: &trace,
            body: &body,
            octets: envelope.octets,
            declared: &declared,
            recipients: &recipients,
        };
        let filtered = self.services.filters.apply(&*self.services.store, configuration, &plan, &incoming).await?;
        if let Some(reason) = &filtered.refusal {
            tracing::info!(message_id = %id, "refused by the recipient's filter");
            self.count_message("refused");
            return Ok(rejected(reason));
        }
        let Filtered { local, derived, remember, .. } = filtered;
        let acceptance = Acceptance {
            id: id.clone(),
            received_at,
            reverse_path: envelope.mail.reverse_path.clone(),
            trace,
            body,
            declared,
            local,
            remote: remote(&plan, envelope),
            derived,
            remember,
        };
        self.store(acceptance).await?;
        Ok(self.accepted(id, envelope, &plan))
    }

    /// Makes an acceptance durable, and lets the queue know of what came of it.
    async fn store(&self, acceptance: Acceptance) -> Result<(), StoreError> {
        let has_derived = !acceptance.derived.is_empty();
        let is_for_somebody = has_derived || !acceptance.local.is_empty() || !acceptance.remote.is_empty();
        if !is_for_somebody && acceptance.remember.is_empty() {
            // The filter threw it away: that is its recipient's wish, and there is nothing to store.
            tracing::info!(message_id = %acceptance.id, "discarded by the recipient's filter");
            return Ok(());
        }
        self.services.store.commit(acceptance).await?;
        if has_derived {
            self.services.queue.notify_one();
        }
        Ok(())
    }

    /// Where a message has several maildrops, a full one gets it from the queue when it has room again. One alone has its
    /// answer from the store.
    async fn queue_for_full_maildrops(&self, plan: &mut Plan, octets: u64) -> Result<(), StoreError> {
        if plan.is_one_maildrop() {
            return Ok(());
        }
        for maildrop in std::mem::take(&mut plan.local) {
            let is_full = match maildrop.quota {
                Some(quota) => {
                    let usage = self.services.store.usage(&maildrop.address).await?;
                    policy::quota(quota, usage, Some(octets)).is_err()
                }
                None => false,
            };
            if is_full {
                plan.remote.push(maildrop.address);
            } else {
                plan.local.push(maildrop);
            }
        }
        Ok(())
    }

    fn accepted(&self, id: &MessageId, envelope: &Envelope, plan: &Plan) -> Reply {
        let metrics = &self.services.metrics;
        self.count_message("accepted");
        metrics.message_octets.inc_by(envelope.octets);
        metrics.delivered.inc_by(plan.local.len() as u64);
        tracing::info!(
            message_id = %id,
            from = %path(envelope.mail.reverse_path.as_ref()),
            recipients = envelope.recipients.len(),
            octets = envelope.octets,
            user = self.user.as_ref().map(|user| tracing::field::display(&user.mailbox)),
            tls = self.tls,
            "message accepted"
        );
        for maildrop in &plan.local {
            tracing::info!(message_id = %id, maildrop = %maildrop.address, "delivered");
        }
        if !plan.remote.is_empty() {
            self.services.queue.notify_one();
        }
        let what = match (plan.local.is_empty(), plan.remote.is_empty()) {
            (false, true) => "delivered",
            (true, false) => "queued",
            _ => "delivered and queued",
        };
        Reply::new(250, 0, 0, format!("{id} {what}"))
    }

    fn received(
        &self,
        configuration: &Configuration,
        envelope: &Envelope,
        id: &MessageId,
        at: jiff::Timestamp,
    ) -> String {
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
fn declared(mail: &Mail, begun: jiff::Timestamp) -> Declared {
    let later =
        |seconds: i64| begun.saturating_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(jiff::Timestamp::MAX);
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

/// The queue's recipients, with what was asked for those that RCPT named.
fn remote(plan: &Plan, envelope: &Envelope) -> Vec<RemoteRecipient> {
    let asked = |address: &paquebot_config::Address| {
        let named = envelope.recipients.iter().find(|recipient| recipient.address == *address);
        named.map(|recipient| RemoteRecipient {
            address: address.clone(),
            notify: recipient.notify,
            original: recipient.original.clone(),
            route: recipient.route.clone(),
        })
    };
    plan.remote.iter().map(|address| asked(address).unwrap_or_else(|| address.clone().into())).collect()
}

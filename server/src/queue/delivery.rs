//! One delivery attempt: some recipients of one destination, from the lookup of its servers to what the store settles.
//! I/O; what is decided is decided in [`super::routing`], [`super::client`] and [`super::outcome`]. Called by
//! [`super::worker`].

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use paquebot_config::{Address, Configuration, Domain};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::machine::{Outcome, Transaction};
use super::client::session::{Connection, Dialer, Timeouts, inspect};
use super::dsn::{Kind, header_of};
use super::environment::Environment;
use super::outcome::{Decision, Notice, decide, notice};
use super::resolver::Router;
use super::routing::NextHop;
use super::schedule::Schedule;
use super::status::{Refusal, Severity};
use super::unsettled::Unsettled;
use crate::delivery::{self, Undeliverable};
use crate::live::LiveConfiguration;
use crate::metrics::{ByResult, Metrics, Word};
use crate::store::outgoing::{MessageNumber, QueueStore, QueuedMessage, QueuedRecipient, Settlement};
use crate::store::{LocalDelivery, MessageId, Result, StoreError};

/// Octets of the original's header that a report repeats.
const REPORTED_HEADER: usize = 32 * 1024;
/// No further server is asked and no further message begun after this time: slow destinations must not keep the places of
/// others.
const ATTEMPT: Duration = Duration::from_secs(30 * 60);
/// How long to wait before a settlement is tried again that the store could not take.
const SETTLE_AGAIN: Duration = Duration::from_secs(5);

/// What every attempt works with.
pub struct Courier {
    pub(super) store: Arc<dyn QueueStore>,
    pub(super) configuration: LiveConfiguration,
    pub(super) metrics: Arc<Metrics>,
    pub(super) router: Router,
    pub(super) environment: Environment,
    pub(super) tls: Arc<rustls::ClientConfig>,
    /// Cancelled at shutdown: an attempt ends at once, or after the message that a server is taking.
    pub(super) stop: CancellationToken,
    /// Outcomes that the store does not take.
    pub(super) unsettled: Unsettled,
}

/// How an attempt ended for the destination as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Some server of it answered, or nobody has to be asked.
    Reached,
    /// Some server answered that it wants less mail at once: 421, or an enhanced code 4.7.x.
    PushedBack,
    /// No server could be reached.
    Unreachable,
}

/// A maildrop here has no room for a message from the queue.
struct OverQuota(Address);

/// A message and those of its recipients that are in this attempt.
type Group = (MessageNumber, Vec<QueuedRecipient>);

impl Courier {
    /// Whether a message may be sent now: the process does not end, and what becomes of it can be recorded.
    pub(super) fn may_send(&self) -> bool {
        !self.stop.is_cancelled() && self.store.can_settle() && !self.unsettled.is_awaited()
    }

    fn random(&self) -> u64 {
        self.environment.chance.number()
    }

    /// Makes the attempt. When it returns, everything that was learnt is settled, or in `unsettled`.
    pub async fn attempt(&self, destination: &Domain, recipients: Vec<QueuedRecipient>) -> Destination {
        let configuration = self.configuration.snapshot();
        let groups = by_message(recipients);
        if configuration.domain(destination).is_some() {
            // It was not when the message was accepted.
            self.deliver_here(&configuration, groups).await;
            return Destination::Reached;
        }
        let server = &configuration.server;
        let own_names = [Some(&server.hostname), server.outbound.ehlo_name.as_ref()];
        let own_names: Vec<&str> = own_names.into_iter().flatten().map(Domain::as_str).collect();
        let resolvers: &[SocketAddr] = &server.resolvers.addresses;
        let route = tokio::select! {
            biased;
            // Nothing was tried: the rows stay as they are.
            () = self.stop.cancelled() => return Destination::Reached,
            route = self.router.route(destination, resolvers, &own_names, &server.outbound.allowed_networks, self.random()) => route,
        };
        match route {
            Ok(hops) => self.deliver_there(&configuration, hops, groups).await,
            Err(refusal) => {
                self.refuse_all(&configuration, groups, &refusal).await;
                match refusal.severity() {
                    Severity::Transient => Destination::Unreachable,
                    Severity::Permanent => Destination::Reached,
                }
            }
        }
    }

    /// One connection for all messages where possible; the next server when one fails.
    async fn deliver_there(
        &self,
        configuration: &Configuration,
        hops: Vec<NextHop>,
        mut groups: VecDeque<Group>,
    ) -> Destination {
        let server = &configuration.server;
        let dialer = Dialer {
            network: Arc::clone(&self.environment.network),
            ehlo_name: server.outbound.ehlo_name.as_ref().unwrap_or(&server.hostname).to_string(),
            port: server.outbound.port,
            tls: Arc::clone(&self.tls),
            timeouts: Timeouts::default(),
        };
        let until = Instant::now() + ATTEMPT;
        let mut failure: Option<Refusal> = None;
        let (mut reached, mut pushed_back) = (Destination::Unreachable, false);
        for hop in hops {
            if groups.is_empty() || !self.may_send() || Instant::now() >= until {
                break;
            }
            let left = match self.connect(&dialer, &hop).await {
                Ok(connection) => {
                    reached = Destination::Reached;
                    self.deliver_by(configuration, &dialer, &hop, connection, (until, &mut pushed_back), &mut groups)
                        .await
                }
                Err(refusal) => Err(refusal),
            };
            if let Err(refusal) = left {
                pushed_back |= pushes_back(&refusal);
                failure = Some(milder(failure, refusal));
            }
        }
        if self.may_send() {
            let unreachable = || Refusal::transient(4, 1, "no server of the destination could be reached");
            self.refuse_all(configuration, groups, &failure.unwrap_or_else(unreachable)).await;
        }
        if reached == Destination::Reached && pushed_back { Destination::PushedBack } else { reached }
    }

    /// Sends what it can by one server. What is left in `groups` was not offered to it.
    async fn deliver_by(
        &self,
        configuration: &Configuration,
        dialer: &Dialer,
        hop: &NextHop,
        mut connection: Connection,
        (until, pushed_back): (Instant, &mut bool),
        groups: &mut VecDeque<Group>,
    ) -> std::result::Result<(), Refusal> {
        let mut is_fresh = true;
        while let Some((message, recipients)) = groups.pop_front() {
            if !self.may_send() {
                // Nothing was tried: the rows stay as they are.
                break;
            }
            if Instant::now() >= until {
                groups.push_front((message, recipients));
                let text = "the server is slow; the rest of its mail is sent later";
                return Err(Refusal::transient(4, 2, text).at(&hop.host));
            }
            let outcomes = self.send(&mut connection, message, &recipients).await;
            *pushed_back |= outcomes.iter().any(|outcome| outcome.as_ref().is_err_and(pushes_back));
            match if connection.is_open() { None } else { unanswered(&outcomes) } {
                // Servers may end a connection after some messages; that says nothing about this one. Where it is the
                // first, another server may take it (RFC 5321 §5.1).
                Some(refusal) if !connection.has_begun_content() => {
                    groups.push_front((message, recipients));
                    if is_fresh {
                        return Err(refusal);
                    }
                }
                // Sent again at once it might be delivered twice.
                lost => {
                    self.settle(configuration, message, recipients, outcomes).await;
                    is_fresh = false;
                    if let Some(refusal) = lost {
                        return Err(refusal);
                    }
                }
            }
            if !connection.is_open() && !groups.is_empty() {
                connection = self.connect(dialer, hop).await?;
                is_fresh = true;
            }
        }
        connection.quit().await;
        Ok(())
    }

    /// Connects, unless the process ends.
    async fn connect(&self, dialer: &Dialer, hop: &NextHop) -> std::result::Result<Connection, Refusal> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Refusal::transient(3, 2, "the sending server is shut down")),
            connected = dialer.connect(hop) => connected,
        }
    }

    async fn send(
        &self,
        connection: &mut Connection,
        number: MessageNumber,
        recipients: &[QueuedRecipient],
    ) -> Vec<Outcome> {
        match self.try_send(connection, number, recipients).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                let refusal = Refusal::transient(3, 0, error.to_string());
                recipients.iter().map(|_| Err(refusal.clone())).collect()
            }
        }
    }

    async fn try_send(
        &self,
        connection: &mut Connection,
        number: MessageNumber,
        recipients: &[QueuedRecipient],
    ) -> Result<Vec<Outcome>> {
        let message = self.store.queued_message(number).await?;
        let found = if connection.needs_inspection(&message.declared) {
            Some(inspect(&mut *self.store.read_queued(number).await?).await?)
        } else {
            None
        };
        let transaction = Transaction {
            reverse_path: message.reverse_path,
            recipients: recipients.iter().map(|recipient| recipient.recipient.address.clone()).collect(),
            declared: message.declared,
            found,
            octets: message.octets,
        };
        let mut reader = self.store.read_queued(number).await?;
        Ok(connection.deliver(transaction, &mut *reader, &self.stop).await)
    }

    /// Recipients whose domain is served here by now: each by itself, for one full maildrop must not hold up the others.
    async fn deliver_here(&self, configuration: &Configuration, groups: VecDeque<Group>) {
        for (number, recipients) in groups {
            let Some(message) = self.known(number).await else {
                self.unsettled.give_up(recipients.iter().map(|recipient| recipient.key));
                continue;
            };
            for recipient in recipients {
                let (mut local, mut remote) = (Vec::new(), Vec::new());
                let outcome = match delivery::expand(configuration, &recipient.recipient.address) {
                    Ok(plan) => {
                        local = delivery::local_deliveries(&plan, message.reverse_path.as_ref());
                        remote = plan.remote;
                        Ok("delivered here".to_owned())
                    }
                    Err(reason) => Err(refusal_of(reason, &recipient.recipient.address)),
                };
                let attempts = vec![(recipient.clone(), outcome)];
                let settled = self.settle_with(configuration, number, &message, attempts, local, remote).await;
                if let Err(OverQuota(owner)) = settled {
                    let refusal = Refusal::transient(2, 2, format!("the mailbox {owner} is full"));
                    self.settle(configuration, number, vec![recipient], vec![Err(refusal)]).await;
                }
            }
        }
    }

    async fn refuse_all(&self, configuration: &Configuration, groups: VecDeque<Group>, refusal: &Refusal) {
        for (message, recipients) in groups {
            let outcomes = recipients.iter().map(|_| Err(refusal.clone())).collect();
            self.settle(configuration, message, recipients, outcomes).await;
        }
    }

    pub(super) async fn settle(
        &self,
        configuration: &Configuration,
        number: MessageNumber,
        recipients: Vec<QueuedRecipient>,
        outcomes: Vec<Outcome>,
    ) {
        let Some(message) = self.known(number).await else {
            return self.unsettled.give_up(recipients.iter().map(|recipient| recipient.key));
        };
        let attempts = recipients.into_iter().zip(outcomes).collect();
        // Without local deliveries there is no quota.
        let _ = self.settle_with(configuration, number, &message, attempts, Vec::new(), Vec::new()).await;
    }

    /// What the store knows of a message; `None` when it will not tell before the next start.
    async fn known(&self, number: MessageNumber) -> Option<QueuedMessage> {
        let mut waiting = None;
        loop {
            match self.store.queued_message(number).await {
                Ok(message) => return Some(message),
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
    fn is_final(&self, error: &StoreError) -> bool {
        matches!(error, StoreError::NotFound | StoreError::Corrupt(_)) || !self.store.can_settle()
    }

    async fn settle_with(
        &self,
        configuration: &Configuration,
        number: MessageNumber,
        message: &QueuedMessage,
        attempts: Vec<(QueuedRecipient, Outcome)>,
        local: Vec<LocalDelivery>,
        remote: Vec<Address>,
    ) -> std::result::Result<(), OverQuota> {
        let outbound = &configuration.server.outbound;
        let schedule = Schedule {
            max_age: Duration::from_secs(outbound.max_age_seconds),
            delay_warning: Duration::from_secs(outbound.delay_warning_seconds),
        };
        let now = self.environment.clock.now();
        let decision = decide(message, &attempts, schedule, now, self.random());
        let until = schedule.expiry(message.received_at);
        let mut notices = Vec::new();
        for (kind, recipients) in [(Kind::Failed, &decision.failed), (Kind::Delayed { until }, &decision.delayed)] {
            if !recipients.is_empty() {
                notices.extend(self.notice(configuration, number, message, kind, recipients, now).await);
            }
        }
        let settlement = || Settlement {
            finished: decision.finished.clone(),
            deferred: decision.deferred.clone(),
            delivered_here: local.iter().map(|delivery| (number, delivery.clone())).collect(),
            redirected: remote.iter().map(|address| (number, address.clone().into())).collect(),
            reports: notices.iter().map(Notice::acceptance).collect(),
        };
        self.settle_until_durable(message, settlement).await?;
        self.record(message, &attempts, &decision);
        let copies = local.len() + notices.iter().map(Notice::copies).sum::<usize>();
        self.metrics.delivered.inc_by(copies as u64);
        Ok(())
    }

    /// The store may have no room for a moment. Until it has, the rows stay claimed: sending again what was delivered
    /// would be worse than waiting. At the end of the process it is tried until the attempt is cut.
    async fn settle_until_durable(
        &self,
        message: &QueuedMessage,
        settlement: impl Fn() -> Settlement,
    ) -> std::result::Result<(), OverQuota> {
        let mut waiting = None;
        loop {
            match self.store.settle(settlement()).await {
                Ok(()) => return Ok(()),
                Err(StoreError::OverQuota(owner)) => return Err(OverQuota(owner)),
                Err(error) if self.is_final(&error) => {
                    tracing::error!(message_id = %message.id, %error, "the outcome of a delivery cannot be kept; its \
                        recipients wait for the next start");
                    self.unsettled.give_up(settlement().keys());
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(message_id = %message.id, %error, "the outcome of a delivery is not kept yet");
                }
            }
            waiting.get_or_insert_with(|| self.unsettled.wait());
            tokio::time::sleep(SETTLE_AGAIN).await;
        }
    }

    async fn notice(
        &self,
        configuration: &Configuration,
        number: MessageNumber,
        message: &QueuedMessage,
        kind: Kind,
        recipients: &[(Address, Refusal)],
        now: Timestamp,
    ) -> Option<Notice> {
        let header = self.original_header(number).await.unwrap_or_default();
        match notice(configuration, message, &header, kind, recipients, MessageId::generate(), now) {
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

    fn record(&self, message: &QueuedMessage, attempts: &[(QueuedRecipient, Outcome)], decision: &Decision) {
        for (recipient, outcome) in attempts {
            let (message_id, to, attempt) =
                (&message.id, &recipient.recipient.address, recipient.attempts.saturating_add(1));
            match outcome {
                Ok(reply) => {
                    self.count("sent", 1);
                    tracing::info!(%message_id, recipient = %to, attempt, %reply, "delivered");
                }
                Err(refusal) if decision.finished.contains(&recipient.key) => {
                    self.count("bounced", 1);
                    tracing::warn!(%message_id, recipient = %to, attempt, reply = %refusal, "bounced");
                }
                Err(refusal) => {
                    self.count("deferred", 1);
                    let due = decision.deferred.iter().find(|deferral| deferral.key == recipient.key);
                    let next = due.map(|deferral| deferral.due.to_string()).unwrap_or_default();
                    tracing::info!(%message_id, recipient = %to, attempt, reply = %refusal, next, "deferred");
                }
            }
        }
    }

    pub(super) fn count(&self, result: &'static str, by: u64) {
        self.metrics.outbound.get_or_create(&ByResult { result: Word(result) }).inc_by(by);
    }
}

/// The recipients by message, in the order in which the messages first appear: it is that of their priorities.
fn by_message(recipients: Vec<QueuedRecipient>) -> VecDeque<Group> {
    let (mut groups, mut places) = (VecDeque::<Group>::new(), HashMap::new());
    for recipient in recipients {
        let place = *places.entry(recipient.message).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, of_message)) => of_message.push(recipient),
            None => groups.push_back((recipient.message, vec![recipient])),
        }
    }
    groups
}

/// Whether a server wants less mail at once: it is closing (421), or its policy is against it now (RFC 3463: 4.7.x).
fn pushes_back(refusal: &Refusal) -> bool {
    refusal.said_by_host && (refusal.code == 421 || matches!(refusal.enhanced, (4, 7, _)))
}

/// Of what the servers of a destination met, what counts: mail comes back only when each refused it for good.
fn milder(before: Option<Refusal>, now: Refusal) -> Refusal {
    match before {
        Some(before) if now.severity() == Severity::Permanent && before.severity() == Severity::Transient => before,
        _ => now,
    }
}

/// What ended a connection before the server said anything about any recipient; `None` when it did.
fn unanswered(outcomes: &[Outcome]) -> Option<Refusal> {
    let ended = |outcome: &Outcome| match outcome {
        Err(refusal) if !refusal.said_by_host || refusal.code == 421 => Some(refusal.clone()),
        _ => None,
    };
    let mut endings = outcomes.iter().map(ended).collect::<Option<Vec<_>>>()?;
    endings.pop()
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

//! One delivery attempt: some recipients of one destination, from the lookup of its servers to what the store settles.
//! I/O; what is decided is decided in [`super::routing`], [`super::client`] and [`super::outcome`]. Called by
//! [`super::worker`].
//!
//! While one message is sent the next is read, and the outcomes of those before it are settled, many at once.

mod here;
mod letter;
mod pool;
mod settle;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use paquebot_config::{Configuration, Domain, SmartHost, SmartHostTls};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::letter::Letter;
use self::pool::Key;
pub(super) use self::pool::Pool;
use self::settle::Done;
use super::client::machine::{Outcome, Protection};
use super::client::session::{Connection, Dialer, Timeouts};
use super::client::tls::Tls;
use super::environment::Environment;
use super::resolver::Router;
use super::routing::NextHop;
use super::routing::way::Way;
use super::status::{Refusal, Severity};
use super::unsettled::Unsettled;
use crate::delivery::filter::Filters;
use crate::live::LiveConfiguration;
use crate::metrics::{ByResult, Metrics, Word};
use crate::store::envelope::Route;
use crate::store::outgoing::{MessageNumber, QueueStore, QueuedRecipient};

/// No further server is asked and no further message begun after this time: slow destinations must not keep the places of
/// others.
const ATTEMPT: Duration = Duration::from_secs(30 * 60);
/// Messages that were sent and are not settled yet, at most: a crash sends them again.
const UNSETTLED: usize = 32;

/// KiB that messages take which are in memory to be converted, all attempts together.
pub(super) const CONVERTING: usize = 64 * 1024;

/// What every attempt works with.
pub struct Courier {
    pub(super) store: Arc<dyn QueueStore>,
    pub(super) configuration: LiveConfiguration,
    pub(super) metrics: Arc<Metrics>,
    /// Those of the mailboxes here.
    pub(super) filters: Filters,
    pub(super) router: Router,
    pub(super) environment: Environment,
    pub(super) tls: Tls,
    /// Connections that were left open.
    pub(super) pool: Pool,
    /// Cancelled at shutdown: an attempt ends at once, or after the message that a server is taking.
    pub(super) stop: CancellationToken,
    /// Outcomes that the store does not take.
    pub(super) unsettled: Unsettled,
    /// Permits of 1 KiB of [`CONVERTING`].
    pub(super) converting: Arc<Semaphore>,
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

/// An attempt that goes one way.
struct Attempt<'a> {
    courier: &'a Courier,
    configuration: &'a Configuration,
    done: &'a mpsc::Sender<Done>,
    /// Whether some server wants less mail at once.
    pushed_back: AtomicBool,
}

impl Courier {
    /// Whether a message may be sent now: the process does not end, and what becomes of it can be recorded.
    pub(super) fn may_send(&self) -> bool {
        !self.stop.is_cancelled() && self.store.can_settle() && !self.unsettled.is_awaited()
    }

    fn random(&self) -> u64 {
        self.environment.chance.number()
    }

    pub(super) fn count(&self, result: &'static str, by: u64) {
        self.metrics.outbound.get_or_create(&ByResult { result: Word(result) }).inc_by(by);
    }

    /// Makes the attempt. When it returns, everything that was learnt is settled, or in `unsettled`.
    pub async fn attempt(&self, destination: &Domain, recipients: Vec<QueuedRecipient>) -> Destination {
        let configuration = self.configuration.snapshot();
        let is_rerouted = |recipient: &QueuedRecipient| matches!(recipient.recipient.route, Some(Route::Host { .. }));
        let is_served = configuration.domain(destination).is_some();
        // A domain may be served that was not when the message was accepted.
        let (here, there): (Vec<_>, Vec<_>) =
            recipients.into_iter().partition(|recipient| is_served && !is_rerouted(recipient));
        self.deliver_here(&configuration, letters(here)).await;
        let (done, settled) = mpsc::channel(UNSETTLED);
        let send = async {
            let done = done;
            let attempt = Attempt {
                courier: self,
                configuration: &configuration,
                done: &done,
                pushed_back: AtomicBool::new(false),
            };
            attempt.run(destination, there).await
        };
        let (reached, ()) = tokio::join!(send, self.settle_as_they_come(&configuration, settled));
        reached
    }
}

/// The recipients by message, in the order in which the messages first appear: it is that of their priorities.
fn letters(recipients: Vec<QueuedRecipient>) -> VecDeque<Letter> {
    let (mut letters, mut places) = (Vec::<(MessageNumber, Vec<QueuedRecipient>)>::new(), HashMap::new());
    for recipient in recipients {
        let place = *places.entry(recipient.message).or_insert(letters.len());
        match letters.get_mut(place) {
            Some((_, of_message)) => of_message.push(recipient),
            None => letters.push((recipient.message, vec![recipient])),
        }
    }
    letters.into_iter().map(|(message, recipients)| Letter::new(message, recipients)).collect()
}

/// Addresses that whoever runs the server may name as a smart host's: any.
fn any_network() -> Vec<IpNet> {
    [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
        .into_iter()
        .filter_map(|address| IpNet::new(address, 0).ok())
        .collect()
}

impl Attempt<'_> {
    async fn run(&self, destination: &Domain, recipients: Vec<QueuedRecipient>) -> Destination {
        let mut ways: Vec<(Way, Vec<QueuedRecipient>)> = Vec::new();
        for recipient in recipients {
            let way = Way::of(self.configuration, recipient.recipient.route.as_ref());
            match ways.iter_mut().find(|(known, _)| *known == way) {
                Some((_, same)) => same.push(recipient),
                None => ways.push((way, vec![recipient])),
            }
        }
        let mut reached = if ways.is_empty() { Destination::Reached } else { Destination::Unreachable };
        for (way, recipients) in ways {
            if self.go(&way, destination, letters(recipients)).await == Destination::Reached {
                reached = Destination::Reached;
            }
        }
        let pushed_back = self.pushed_back.load(Ordering::Relaxed);
        if reached == Destination::Reached && pushed_back { Destination::PushedBack } else { reached }
    }

    /// Takes notice of what a server thinks of the amount of mail.
    fn hear(&self, refusal: &Refusal) {
        if pushes_back(refusal) {
            self.pushed_back.store(true, Ordering::Relaxed);
        }
    }

    async fn go(&self, way: &Way, destination: &Domain, letters: VecDeque<Letter>) -> Destination {
        let stop = &self.courier.stop;
        let prepared = match self.dialer(way) {
            Ok(dialer) => tokio::select! {
                biased;
                // Nothing was tried: the rows stay as they are.
                () = stop.cancelled() => return Destination::Reached,
                hops = self.hops(way, destination) => hops.map(|hops| (dialer, hops)),
            },
            Err(refusal) => Err(refusal),
        };
        match prepared {
            Ok((dialer, hops)) => self.deliver(&dialer, hops, letters).await,
            Err(refusal) => {
                self.refuse_all(letters, &refusal).await;
                match refusal.severity() {
                    Severity::Transient => Destination::Unreachable,
                    Severity::Permanent => Destination::Reached,
                }
            }
        }
    }

    async fn hops(&self, way: &Way, destination: &Domain) -> Result<Vec<NextHop>, Refusal> {
        let server = &self.configuration.server;
        let resolvers: &[SocketAddr] = &server.resolvers.addresses;
        let (router, random) = (&self.courier.router, self.courier.random());
        let allowed = &server.outbound.allowed_networks;
        match way {
            Way::MailExchangers => {
                let own_names = [Some(&server.hostname), server.outbound.ehlo_name.as_ref()];
                let own_names: Vec<&str> = own_names.into_iter().flatten().map(Domain::as_str).collect();
                router.route(destination, resolvers, &own_names, allowed, random).await
            }
            Way::Host { host, by_administrator: true } => {
                router.route_to(&host.host, resolvers, &any_network(), random).await
            }
            Way::Host { host, by_administrator: false } => {
                router.route_to(&host.host, resolvers, allowed, random).await
            }
        }
    }

    /// How the servers of this way are spoken to.
    fn dialer(&self, way: &Way) -> Result<Dialer, Refusal> {
        let server = &self.configuration.server;
        let mut dialer = Dialer {
            network: Arc::clone(&self.courier.environment.network),
            ehlo_name: server.outbound.ehlo_name.as_ref().unwrap_or(&server.hostname).to_string(),
            port: server.outbound.port,
            protection: Protection::WhereOffered,
            tls: self.courier.tls.opportunistic(),
            credentials: None,
            listening: server.listeners.iter().map(|listener| listener.port).collect(),
            timeouts: Timeouts::default(),
        };
        if let Way::Host { host, .. } = way {
            self.speak_to(host, &mut dialer)?;
        }
        Ok(dialer)
    }

    fn speak_to(&self, host: &SmartHost, dialer: &mut Dialer) -> Result<(), Refusal> {
        dialer.port = host.port;
        dialer.protection = match host.tls {
            // Whoever stands in between would get the login for a certificate of his own.
            SmartHostTls::Opportunistic if host.credentials.is_some() => Protection::Required,
            SmartHostTls::Opportunistic => Protection::WhereOffered,
            SmartHostTls::Required => Protection::Required,
            SmartHostTls::Implicit => Protection::FromTheBeginning,
        };
        if dialer.protection != Protection::WhereOffered {
            let trusted = self.configuration.server.outbound.trusted_certificates.as_deref();
            dialer.tls = self.courier.tls.verified(trusted).map_err(|reason| {
                Refusal::transient(
                    7,
                    5,
                    format!("the certificates in outbound.trustedCertificates cannot be read: {reason}"),
                )
            })?;
        }
        if let Some(name) = &host.credentials {
            let login = self.configuration.secrets.logins.get(name).cloned().ok_or_else(|| {
                let text = format!("the login {name} of the smart host {} is not in secrets.json", host.host);
                Refusal::transient(7, 0, text)
            })?;
            dialer.credentials = Some(login.into());
        }
        Ok(())
    }

    /// One connection for all messages where possible; the next server when one fails.
    async fn deliver(&self, dialer: &Dialer, hops: Vec<NextHop>, mut letters: VecDeque<Letter>) -> Destination {
        let until = Instant::now() + ATTEMPT;
        let mut failure: Option<Refusal> = None;
        let mut reached = Destination::Unreachable;
        for hop in hops {
            if letters.is_empty() || !self.courier.may_send() || Instant::now() >= until {
                break;
            }
            let left = match self.courier.pool.take(&Key::new(dialer, &hop)) {
                Some(connection) => {
                    reached = Destination::Reached;
                    self.deliver_by(dialer, &hop, connection, false, until, &mut letters).await
                }
                None => match self.connect(dialer, &hop).await {
                    Ok(connection) => {
                        reached = Destination::Reached;
                        self.deliver_by(dialer, &hop, connection, true, until, &mut letters).await
                    }
                    Err(refusal) => Err(refusal),
                },
            };
            if let Err(refusal) = left {
                self.hear(&refusal);
                failure = Some(milder(failure, refusal));
            }
        }
        if self.courier.may_send() {
            let unreachable = || Refusal::transient(4, 1, "no server of the destination could be reached");
            self.refuse_all(letters, &failure.unwrap_or_else(unreachable)).await;
        }
        reached
    }

    /// Sends what it can by one server. What is left in `letters` was not offered to it.
    async fn deliver_by(
        &self,
        dialer: &Dialer,
        hop: &NextHop,
        mut connection: Connection,
        mut is_fresh: bool,
        until: Instant,
        letters: &mut VecDeque<Letter>,
    ) -> Result<(), Refusal> {
        letter::read_ahead(self.courier, letters).await;
        while let Some(mut letter) = letters.pop_front() {
            if !self.courier.may_send() {
                // Nothing was tried: the rows stay as they are.
                break;
            }
            if Instant::now() >= until {
                letters.push_front(letter);
                let text = "the server is slow; the rest of its mail is sent later";
                return Err(Refusal::transient(4, 2, text).at(&hop.host));
            }
            if !connection.is_open() || connection.is_used_up() {
                letters.push_front(letter);
                connection.quit().await;
                connection = self.connect(dialer, hop).await?;
                is_fresh = true;
                continue;
            }
            letters.push_some_front(letter.split_off(connection.max_recipients()));
            let read_ahead = letter::read_ahead(self.courier, letters);
            let (mut outcomes, ()) = tokio::join!(letter.send(self.courier, &mut connection), read_ahead);
            outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).for_each(|refusal| self.hear(refusal));
            let lost = if connection.is_open() { None } else { unanswered(&outcomes) };
            if let Some(refusal) = lost.clone().filter(|_| !connection.has_begun_content()) {
                // Servers may end a connection after some messages; that says nothing about this one. Where it is the
                // first, another server may take it (RFC 5321 §5.1).
                letters.push_front(letter);
                if is_fresh {
                    return Err(refusal);
                }
                continue;
            }
            // Sent again at once it might be delivered twice: unless the server only took enough recipients.
            letters.push_some_front(letter.take_back_too_many(&mut outcomes));
            self.done(letter, outcomes).await;
            is_fresh = false;
            if let Some(refusal) = lost {
                return Err(refusal);
            }
        }
        self.leave(dialer, hop, connection).await;
        Ok(())
    }

    /// Keeps the connection for what comes next, or says goodbye.
    async fn leave(&self, dialer: &Dialer, hop: &NextHop, connection: Connection) {
        if connection.is_open() && !connection.is_used_up() && !self.courier.stop.is_cancelled() {
            self.courier.pool.put(Key::new(dialer, hop), connection);
        } else {
            connection.quit().await;
        }
    }

    /// Connects, unless the process ends.
    async fn connect(&self, dialer: &Dialer, hop: &NextHop) -> Result<Connection, Refusal> {
        tokio::select! {
            biased;
            () = self.courier.stop.cancelled() => Err(Refusal::transient(3, 2, "the sending server is shut down")),
            connected = dialer.connect(hop) => connected,
        }
    }

    async fn refuse_all(&self, letters: VecDeque<Letter>, refusal: &Refusal) {
        for letter in letters {
            let outcomes = letter.recipients().iter().map(|_| Err(refusal.clone())).collect();
            self.done(letter, outcomes).await;
        }
    }

    /// Hands over what is to be settled. Whoever settles waits for the last word, so it is always taken.
    async fn done(&self, letter: Letter, outcomes: Vec<Outcome>) {
        let _ = self.done.send(letter.done(outcomes)).await;
    }
}

/// Puts letters before the others.
trait PushSome {
    fn push_some_front(&mut self, letter: Option<Letter>);
}

impl PushSome for VecDeque<Letter> {
    fn push_some_front(&mut self, letter: Option<Letter>) {
        if let Some(letter) = letter {
            self.push_front(letter);
        }
    }
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

//! The scheduler of outbound mail: looks for what is due, gives it to attempts by destination within bounds, and rests
//! destinations that cannot be reached. What is claimed is known here alone: after a crash everything is due again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use paquebot_config::Domain;
use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::client::tls;
use super::delivery::{Courier, Destination};
use super::environment::Environment;
use super::resolver::Router;
use super::schedule::{later, waiting_time};
use super::unsettled::Unsettled;
use crate::live::LiveConfiguration;
use crate::metrics::Metrics;
use crate::store::Result;
use crate::store::outgoing::{QueueStore, QueuedRecipient};

/// Attempts at once, over all destinations: each is one connection and some 200 KiB.
const ATTEMPTS: usize = 64;
/// Attempts at once for one destination: more would look like an attack to many servers.
const PER_DESTINATION: usize = 4;
/// Recipients in one attempt. RFC 5321 §4.5.3.1.8 lets a server refuse more than 100 in one transaction.
const BATCH: usize = 100;
/// The queue is looked at after this time at the latest, and after an error of the store.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Failures of a destination are forgotten so long after it could have been tried again.
const FORGET_AFTER: Duration = Duration::from_secs(2 * 60 * 60);
/// How often the queue is counted for metrics.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// The running queue.
pub struct Queue {
    stop: CancellationToken,
    scheduler: JoinHandle<()>,
}

impl Queue {
    /// Starts to deliver what waits in the store. `wake` is notified when new mail is there.
    ///
    /// # Errors
    /// When the cryptographic library is not usable.
    pub fn start(
        store: Arc<dyn QueueStore>,
        configuration: LiveConfiguration,
        metrics: Arc<Metrics>,
        wake: Arc<Notify>,
    ) -> std::result::Result<Self, rustls::Error> {
        Self::start_in(Environment::real(), store, configuration, metrics, wake)
    }

    /// Like [`Queue::start`], in an environment of the caller's.
    ///
    /// # Errors
    /// When the cryptographic library is not usable.
    pub fn start_in(
        environment: Environment,
        store: Arc<dyn QueueStore>,
        configuration: LiveConfiguration,
        metrics: Arc<Metrics>,
        wake: Arc<Notify>,
    ) -> std::result::Result<Self, rustls::Error> {
        let stop = CancellationToken::new();
        let courier = Courier {
            store,
            configuration,
            metrics,
            router: Router::new(Arc::clone(&environment.dns)),
            environment,
            tls: tls::opportunistic()?,
            stop: stop.clone(),
            unsettled: Unsettled::default(),
        };
        let scheduler = Scheduler {
            courier: Arc::new(courier),
            attempts: JoinSet::new(),
            running: HashMap::new(),
            claimed: HashSet::new(),
            destinations: HashMap::new(),
            counted: None,
        };
        Ok(Self { stop, scheduler: tokio::spawn(scheduler.run(wake)) })
    }

    /// Starts nothing new, lets messages that are being sent finish, and gives up on them after `patience`: what was not
    /// settled by then is sent again after the next start.
    pub async fn shutdown(mut self, patience: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(patience, &mut self.scheduler).await.is_err() {
            tracing::warn!("outbound connections did not end in time; they are cut");
            // The attempts belong to the scheduler and end with it.
            self.scheduler.abort();
            let _ = self.scheduler.await;
        }
    }
}

/// What is known about a destination while it is of interest.
#[derive(Debug, Default)]
struct State {
    attempts: usize,
    /// Attempts in a row that reached none of its servers.
    failures: u32,
    /// Nothing is tried before.
    resting_until: Option<Timestamp>,
}

impl State {
    /// Failures count as long as they are recent; without them there is nothing to remember.
    fn is_of_interest(&self, now: Timestamp) -> bool {
        let failed = self.failures > 0 && self.resting_until.is_some_and(|until| later(until, FORGET_AFTER) > now);
        self.attempts > 0 || failed
    }
}

/// An attempt that runs.
struct Running {
    destination: Domain,
    keys: Vec<i64>,
}

struct Scheduler {
    courier: Arc<Courier>,
    attempts: JoinSet<Destination>,
    running: HashMap<Id, Running>,
    claimed: HashSet<i64>,
    destinations: HashMap<Domain, State>,
    counted: Option<tokio::time::Instant>,
}

impl Scheduler {
    async fn run(mut self, wake: Arc<Notify>) {
        let stop = self.courier.stop.clone();
        while !stop.is_cancelled() {
            let pause = match self.start_what_is_due(self.courier.environment.clock.now()).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!(%error, "the queue cannot be read; trying again");
                    LOOK_AGAIN
                }
            };
            tokio::select! {
                // The same events lead to the same course.
                biased;
                () = stop.cancelled() => {}
                Some(ended) = self.attempts.join_next_with_id(), if !self.attempts.is_empty() => self.ended(ended),
                () = wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        while let Some(ended) = self.attempts.join_next_with_id().await {
            self.ended(ended);
        }
    }

    /// Starts attempts for what is due; gives how long nothing more will be.
    async fn start_what_is_due(&mut self, now: Timestamp) -> Result<Duration> {
        self.destinations.retain(|_, state| state.is_of_interest(now));
        // Without a store that takes outcomes there is nothing to start.
        let may_send = self.courier.may_send();
        let destinations = if may_send { self.courier.store.due_destinations(now).await? } else { Vec::new() };
        for destination in destinations {
            while self.attempts.len() < ATTEMPTS && self.may_start(&destination, now) {
                let batch = self.claim(&destination, now).await?;
                if batch.is_empty() {
                    break;
                }
                self.start(&destination, batch);
            }
        }
        self.count().await?;
        if !may_send {
            return Ok(LOOK_AGAIN);
        }
        let next_due = self.courier.store.next_due(now).await?;
        let resting = self.destinations.values().filter_map(|state| state.resting_until).filter(|until| *until > now);
        let next = resting.chain(next_due).min();
        let pause = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok()).unwrap_or(LOOK_AGAIN);
        Ok(pause.min(LOOK_AGAIN))
    }

    fn may_start(&self, destination: &Domain, now: Timestamp) -> bool {
        self.destinations.get(destination).is_none_or(|state| {
            // While it is not known to be reachable again, one attempt finds out for all.
            let most = if state.failures > 0 { 1 } else { PER_DESTINATION };
            state.attempts < most && state.resting_until.is_none_or(|until| until <= now)
        })
    }

    async fn claim(&self, destination: &Domain, now: Timestamp) -> Result<Vec<QueuedRecipient>> {
        let running = self.running.values().filter(|running| running.destination == *destination);
        let claimed: usize = running.map(|running| running.keys.len()).sum();
        let given_up = self.courier.unsettled.given_up();
        let most = claimed + given_up.len() + BATCH;
        let mut due = self.courier.store.due_recipients(destination, now, most).await?;
        due.retain(|recipient| !self.claimed.contains(&recipient.key) && !given_up.contains(&recipient.key));
        due.truncate(BATCH);
        Ok(due)
    }

    fn start(&mut self, destination: &Domain, batch: Vec<QueuedRecipient>) {
        let keys: Vec<i64> = batch.iter().map(|recipient| recipient.key).collect();
        self.claimed.extend(&keys);
        self.destinations.entry(destination.clone()).or_default().attempts += 1;
        let (courier, domain) = (Arc::clone(&self.courier), destination.clone());
        let handle = self.attempts.spawn(async move { courier.attempt(&domain, batch).await });
        self.running.insert(handle.id(), Running { destination: destination.clone(), keys });
    }

    fn ended(&mut self, ended: std::result::Result<(Id, Destination), JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => {
                tracing::error!(%error, "a delivery attempt broke off; it is repeated");
                (error.id(), Destination::Unreachable)
            }
        };
        let Some(running) = self.running.remove(&id) else { return };
        for key in &running.keys {
            self.claimed.remove(key);
        }
        let state = self.destinations.entry(running.destination).or_default();
        state.attempts = state.attempts.saturating_sub(1);
        match outcome {
            Destination::Reached => (state.failures, state.resting_until) = (0, None),
            Destination::Unreachable => {
                state.failures = state.failures.saturating_add(1);
                let environment = &self.courier.environment;
                let rest = waiting_time(state.failures, environment.chance.number());
                state.resting_until = Some(later(environment.clock.now(), rest));
            }
        }
    }

    async fn count(&mut self) -> Result<()> {
        if self.counted.is_none_or(|counted| counted.elapsed() >= COUNT_EVERY) {
            let counts = self.courier.store.queue_counts().await?;
            self.courier.metrics.queued.set(i64::try_from(counts.recipients).unwrap_or(i64::MAX));
            self.counted = Some(tokio::time::Instant::now());
        }
        Ok(())
    }
}

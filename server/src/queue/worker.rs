//! The scheduler of outbound mail: looks for what has become due, gives it to attempts by destination within bounds, and
//! rests destinations that cannot be reached. What is claimed is known here alone: after a crash everything is due again.
//! Whose turn it is says [`super::destinations`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::tls::Tls;
use super::control::Control;
use super::delivery::{CONVERTING, Courier, Destination, Pool};
use super::destinations::Destinations;
use super::environment::Environment;
use super::resolver::Router;
use super::unsettled::Unsettled;
use crate::delivery::filter::Filters;
use crate::live::LiveConfiguration;
use crate::metrics::{ByState, Metrics, Word};
use crate::store::Result;
use crate::store::outgoing::{Looked, QueueDestination, QueueStore, QueuedRecipient, Wanted};

/// Recipients in one attempt. RFC 5321 §4.5.3.1.8 lets a server refuse more than 100 in one transaction.
const BATCH: usize = 100;
/// Rows that a person dropped which are handled together; between such rounds attempts begin and end.
const DROPPED: usize = 100;
/// The queue is looked at again so long after an error of the store.
const AFTER_ERROR: Duration = Duration::from_secs(30);
/// The whole queue is looked at after this time at the latest. Nothing depends on it: all that becomes due is announced, or
/// found by its time.
const LOOK_AT_ALL: Duration = Duration::from_secs(5 * 60);
/// The queue is counted for metrics so long after it has changed.
const COUNT_AFTER: Duration = Duration::from_secs(10);

/// The running queue.
pub struct Queue {
    stop: CancellationToken,
    control: Control,
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
        filters: Filters,
        wake: Arc<Notify>,
    ) -> std::result::Result<Self, rustls::Error> {
        Self::start_in(Environment::real(), store, configuration, metrics, filters, wake)
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
        filters: Filters,
        wake: Arc<Notify>,
    ) -> std::result::Result<Self, rustls::Error> {
        let stop = CancellationToken::new();
        let courier = Courier {
            store,
            configuration,
            metrics,
            filters,
            router: Router::new(Arc::clone(&environment.dns)),
            environment,
            tls: Tls::new()?,
            pool: Pool::default(),
            stop: stop.clone(),
            unsettled: Unsettled::default(),
            converting: Arc::new(Semaphore::new(CONVERTING)),
        };
        let control = Control::new(Arc::clone(&wake));
        let scheduler = Scheduler {
            courier: Arc::new(courier),
            control: control.clone(),
            attempts: JoinSet::new(),
            running: HashMap::new(),
            destinations: Destinations::default(),
            looked: Looked::default(),
            looked_at_all: None,
            is_told: true,
            may_be_dropped: true,
            drop_again_at: None,
            count_at: Some(Instant::now()),
        };
        Ok(Self { stop, control, scheduler: tokio::spawn(scheduler.run(wake)) })
    }

    /// By which the scheduler is told what a person did.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
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

    /// Ends at once, as the process does when it is killed.
    pub async fn abort(mut self) {
        self.scheduler.abort();
        let _ = (&mut self.scheduler).await;
    }
}

/// An attempt that runs.
struct Running {
    destination: QueueDestination,
    was_suspect: bool,
    keys: Vec<i64>,
    since: Instant,
}

struct Scheduler {
    courier: Arc<Courier>,
    control: Control,
    attempts: JoinSet<Destination>,
    running: HashMap<Id, Running>,
    destinations: Destinations,
    looked: Looked,
    looked_at_all: Option<Instant>,
    /// New mail was announced.
    is_told: bool,
    /// Rows may have been dropped that are not gone yet.
    may_be_dropped: bool,
    /// When the next round of them is due: at once where more are there, later where the store had no room.
    drop_again_at: Option<Instant>,
    /// When the queue is counted next; `None` while nothing changes.
    count_at: Option<Instant>,
}

impl Scheduler {
    async fn run(mut self, wake: Arc<Notify>) {
        let stop = self.courier.stop.clone();
        while !stop.is_cancelled() {
            let pause = match self.pass(self.courier.environment.clock.now()).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!(%error, "the queue cannot be read; trying again");
                    self.is_told = true;
                    AFTER_ERROR
                }
            };
            tokio::select! {
                // The same events lead to the same course.
                biased;
                () = stop.cancelled() => {}
                Some(ended) = self.attempts.join_next_with_id(), if !self.attempts.is_empty() => self.ended(ended),
                () = wake.notified() => self.is_told = true,
                () = tokio::time::sleep(pause) => self.is_told = true,
            }
        }
        while let Some(ended) = self.attempts.join_next_with_id().await {
            self.ended(ended);
        }
    }

    /// Starts attempts for what is due; gives how long nothing more will be.
    async fn pass(&mut self, now: Timestamp) -> Result<Duration> {
        self.destinations.tidy(now);
        self.count().await?;
        // Without a store that takes outcomes there is nothing to start.
        if !self.courier.may_send() {
            return Ok(AFTER_ERROR);
        }
        self.heed_control(now);
        self.drop_rows().await?;
        self.look(now).await?;
        while let Some((destination, turn)) = self.destinations.next(now) {
            self.start(destination, turn, now).await?;
        }
        let next = self.destinations.next_rested().into_iter().chain(self.courier.store.next_due(now).await?).min();
        let pause = next.map_or(LOOK_AT_ALL, |next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
        let others = self.count_at.into_iter().chain(self.drop_again_at).min();
        let until_others = others.map(|at| at.saturating_duration_since(Instant::now()));
        Ok(pause.min(LOOK_AT_ALL).min(until_others.unwrap_or(LOOK_AT_ALL)))
    }

    /// What a person did.
    fn heed_control(&mut self, now: Timestamp) {
        let touched = self.control.take();
        self.may_be_dropped |= touched.dropped;
        for destination in touched.destinations {
            self.destinations.end_rest(&destination, now);
            self.destinations.due(&destination, now);
            self.changed();
        }
    }

    /// Finds what has become due.
    async fn look(&mut self, now: Timestamp) -> Result<()> {
        let all = self.looked_at_all.is_none_or(|looked| looked.elapsed() >= LOOK_AT_ALL);
        if !self.is_told && !all {
            return Ok(());
        }
        let last = if all { Looked::default() } else { self.looked };
        let (due, looked) = self.courier.store.newly_due(last, now).await?;
        if all {
            self.looked_at_all = Some(Instant::now());
        }
        if looked.key != self.looked.key {
            self.changed();
        }
        (self.looked, self.is_told) = (looked, false);
        for destination in &due {
            self.destinations.due(destination, now);
        }
        Ok(())
    }

    /// Starts an attempt, unless there is nothing to do, or not now.
    async fn start(&mut self, destination: QueueDestination, turn: String, now: Timestamp) -> Result<()> {
        if !self.destinations.may_start(&destination, now) {
            // It goes where it has to wait.
            self.destinations.due(&destination, now);
            return Ok(());
        }
        let wanted =
            Wanted { destination: destination.clone(), now, except: self.claimed(&destination), limit: BATCH, turn };
        let claim = match self.courier.store.claimable(wanted).await {
            Ok(claim) => claim,
            Err(error) => {
                // It is still due.
                self.destinations.due(&destination, now);
                return Err(error);
            }
        };
        if claim.recipients.is_empty() {
            return Ok(());
        }
        let is_full = claim.recipients.len() >= BATCH;
        let keys = claim.recipients.iter().map(|recipient| recipient.key).collect();
        let was_suspect = self.destinations.started(&destination, claim.turn);
        let handle = self.attempts.spawn(attempt(Arc::clone(&self.courier), destination.clone(), claim.recipients));
        if is_full {
            self.destinations.due(&destination, now);
        }
        self.running.insert(handle.id(), Running { destination, was_suspect, keys, since: Instant::now() });
        Ok(())
    }

    /// Rows of a destination that nobody else may take. A row may have been given another way out during its attempt, so
    /// that those of the whole domain count.
    fn claimed(&self, destination: &QueueDestination) -> HashSet<i64> {
        let running = self.running.values().filter(|running| running.destination.domain == destination.domain);
        let mut claimed = self.courier.unsettled.given_up();
        claimed.extend(running.flat_map(|running| &running.keys));
        claimed
    }

    fn ended(&mut self, ended: std::result::Result<(Id, Destination), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(running) = self.running.remove(&id) else { return };
        let outcome = ended.map_or_else(
            |error| {
                // Servers may have taken messages of it whose outcomes died with it: done again, they would come twice,
                // and what broke it off would do so for ever.
                tracing::error!(%error, rows = ?running.keys, destination = %running.destination.domain,
                    "a delivery attempt broke off by a defect; its recipients wait for the next start");
                self.courier.unsettled.give_up(running.keys.iter().copied());
                Destination::Unreachable
            },
            |(_, outcome)| outcome,
        );
        let environment = &self.courier.environment;
        self.destinations.ended(
            &running.destination,
            running.was_suspect,
            outcome,
            running.since.elapsed(),
            environment.clock.now(),
            environment.chance.number(),
        );
        // Reports may have been made, and rows that a person dropped meanwhile may go.
        self.is_told = true;
        self.changed();
    }

    /// Takes out some of what a person dropped and no attempt has.
    async fn drop_rows(&mut self) -> Result<()> {
        if !self.may_be_dropped || self.drop_again_at.is_some_and(|at| at > Instant::now()) {
            return Ok(());
        }
        let mut except = self.courier.unsettled.given_up();
        except.extend(self.running.values().flat_map(|running| &running.keys));
        let rows = self.courier.store.dropped(except, DROPPED).await?;
        if rows.is_empty() {
            // Those that are in attempts go when these end.
            self.may_be_dropped = !self.running.is_empty();
            self.drop_again_at = None;
            return Ok(());
        }
        let pause = match self.courier.drop_rows(rows).await {
            Ok(()) => Duration::ZERO,
            Err(error) => {
                tracing::warn!(%error, "rows that a person dropped cannot leave the queue yet; trying again");
                AFTER_ERROR
            }
        };
        self.drop_again_at = Some(Instant::now() + pause);
        self.changed();
        Ok(())
    }

    /// The queue is not what was counted last.
    fn changed(&mut self) {
        self.count_at.get_or_insert_with(|| Instant::now() + COUNT_AFTER);
    }

    async fn count(&mut self) -> Result<()> {
        let metrics = &self.courier.metrics;
        metrics.resting_destinations.set(i64::try_from(self.destinations.resting()).unwrap_or(i64::MAX));
        metrics.outbound_attempts.set(i64::try_from(self.running.len()).unwrap_or(i64::MAX));
        if self.count_at.is_some_and(|at| at <= Instant::now()) {
            let counts = self.courier.store.queue_counts().await?;
            let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            metrics.queued.set(number(counts.recipients));
            for (state, count) in [("deferred", counts.deferred), ("held", counts.held)] {
                metrics.queued_by_state.get_or_create(&ByState { state: Word(state) }).set(number(count));
            }
            metrics.oldest_queued.set(counts.oldest.map_or(0, Timestamp::as_second));
            self.count_at = None;
        }
        Ok(())
    }
}

async fn attempt(courier: Arc<Courier>, destination: QueueDestination, batch: Vec<QueuedRecipient>) -> Destination {
    courier.attempt(&destination.domain, batch).await
}

//! The engine: the one task that owns the index and everything that was observed. It takes inputs one after another, and
//! after each handful starts what follows from them: passes over MailServers, looks at DNS, reads of Secrets, writes of
//! statuses. Those run beside it and report back as inputs, so nothing here waits, and no lock is held over an await.
//!
//! - [`objects`]: what the watches say; - [`servers`]: what is known of each MailServer; - [`recovery`]: what lies there at the
//!   start; - [`passes`]: when it is written; - [`pods`], [`arrival`]: what pods serve, what has arrived where;
//! - [`domains`]: DNS; - [`exposure`]: who connects, and the probe; - [`mailboxes`], [`secrets`]: Secrets;
//! - [`statuses`]: what is reported;
//! - [`operations`]: pauses, certificates that end; - [`reclaim`]: mail that goes with its object.

mod arrival;
mod domains;
mod endpoints;
mod exposure;
mod filters;
mod holding;
mod mailboxes;
mod named_reads;
mod objects;
mod operations;
mod passes;
mod pods;
pub mod reclaim;
mod recovery;
mod reverse;
mod secrets;
mod servers;
mod statuses;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::runtime::events::Recorder;
use paquebot_crds::Kind;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::allowance::Allowance;
use super::configz::Poller;
use super::dns_worker::DnsWorker;
use super::endpoints_worker::EndpointsWorker;
use super::health::Health;
use super::hold_off::HoldOff;
use super::input::Input;
use super::refused_statuses::RefusedStatuses;
use super::status_turns::StatusTurns;
use super::timers::Timers;
use super::turns::Turns;
use crate::credentials::Hasher;
use crate::directory::{Changes, Directory, NamespacedName, ObjectKey, Options, SecretUse};
use crate::dns::seen;
use crate::metrics::Metrics;
use crate::render::Defaults;

/// How often the engine turns when nothing happens.
const IDLE: Duration = Duration::from_secs(5);
/// Inputs that are taken in before what follows from them is started.
const BATCH: usize = 2048;
/// Statuses that are written in a second over a long time: a new fleet does not fill the API server's queues.
const STATUSES_PER_SECOND: u32 = 400;
/// Events that are published in a second over a long time; what they tell is in the statuses as well.
const EVENTS_PER_SECOND: u32 = 5;
/// Secrets of mailboxes that are read together; and so many others and ConfigMaps.
const SECRET_READS: usize = 16;
/// Domains whose records are looked at together, and how many of them may be one namespace's: name servers that do not
/// answer take half a minute each, and are mostly the same tenant's.
const LOOKS_AT_ONCE: usize = 32;
const LOOKS_OF_ONE: usize = 8;
/// Finalizers that are written together.
const FINALIZER_WRITES: usize = 16;
/// Events that are published together.
const EVENTS_AT_ONCE: usize = 8;

/// What the engine is started with.
pub struct Settings {
    /// The MailServer of objects that name none.
    pub default_server: Option<NamespacedName>,
    /// What MailServers get that do not say it themselves.
    pub defaults: Defaults,
    /// How DNS is asked.
    pub dns: seen::Settings,
    /// The port of `/configz` in the server pods: the one that they are rendered with, but for tests.
    pub pod_admin_port: u16,
    /// Passwords that are hashed together.
    pub hashes_at_once: usize,
}

/// What the engine works with.
pub struct Tools {
    /// The API server.
    pub client: Client,
    /// Publishes events.
    pub recorder: Recorder,
    /// Asks pods.
    pub poller: Poller,
    /// Whether the process lives.
    pub health: Arc<Health>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Writes what external-dns publishes.
    pub endpoints: EndpointsWorker,
}

/// What is due at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Timer {
    /// A pass over a MailServer, because one failed or the last complete one is long ago.
    Pass(NamespacedName),
    /// Whether somebody has touched a MailServer's objects.
    Drift(NamespacedName),
    /// A pass over a MailServer, for what nothing watches.
    Look(NamespacedName),
    /// A MailServer whose inputs have settled.
    Settled(NamespacedName),
    /// A question to a pod.
    Poll(NamespacedName, NamespacedName),
    /// A look at a MailDomain's records.
    Dns(NamespacedName),
    /// A look at which `DNSEndpoint`s there are.
    Endpoints,
    /// A MailDomain's `DNSEndpoint`, again.
    Endpoint(NamespacedName),
    /// A look at the names of a MailServer's addresses.
    Reverse(NamespacedName),
    /// A Mailbox's Secret, again.
    Credentials(NamespacedName),
    /// The ConfigMap of a Mailbox's filter, again.
    Filter(NamespacedName),
    /// A Secret that a MailServer or RelayPolicy names, again.
    Secret(SecretUse),
    /// A look at how a MailServer stands towards the world.
    Exposure(NamespacedName),
    /// The next step for an object whose mail goes with it.
    Reclaim(ObjectKey),
    /// A status, again.
    Status(ObjectKey),
    /// More statuses may be written.
    Statuses,
    /// Mailboxes' Secrets may be read again.
    Reads,
    /// The statuses of a MailServer's objects that were held back for a moment.
    Held(NamespacedName),
    /// The recovery of a MailServer, again.
    Recover(NamespacedName),
}

/// See the module's documentation.
pub struct Engine {
    tools: Tools,
    defaults: Defaults,
    sender: mpsc::Sender<Input>,
    hasher: Hasher,
    /// Whose Secrets are read next.
    secret_turns: Turns<NamespacedName>,
    /// What objects name beside that, and whose is read next.
    named_reads: Turns<named_reads::NamedRead>,
    dns: DnsWorker,
    /// Whose records are looked at next.
    dns_turns: Turns<NamespacedName>,
    directory: Directory,
    /// Watches that have not reported everything yet.
    unsynced: usize,
    objects: HashMap<ObjectKey, objects::Live>,
    undecodable: HashMap<ObjectKey, (i64, String)>,
    ranges: objects::Ranges,
    secret_versions: HashMap<NamespacedName, String>,
    config_map_versions: HashMap<NamespacedName, String>,
    servers: HashMap<NamespacedName, servers::ServerState>,
    observed: HashMap<NamespacedName, pods::Observed>,
    pod_servers: HashMap<NamespacedName, NamespacedName>,
    /// Where an object's entry was when it was last looked at.
    homes: HashMap<ObjectKey, NamespacedName>,
    mailboxes: HashMap<NamespacedName, mailboxes::CredentialState>,
    filters: HashMap<NamespacedName, filters::FilterState>,
    secrets: HashMap<SecretUse, secrets::SecretState>,
    domains: HashMap<NamespacedName, domains::DomainState>,
    exposures: HashMap<NamespacedName, exposure::ExposureState>,
    /// Objects whose mail goes with them.
    reclaims: HashMap<ObjectKey, reclaim::Reclaim>,
    finalizer_writes: Arc<Semaphore>,
    /// Who has the pods of a MailServer erase mail, and whose turn it is.
    erasures: HashMap<NamespacedName, reclaim::Erasures>,
    endpoints: endpoints::Endpoints,
    reverse: HashMap<NamespacedName, reverse::ReverseState>,
    /// Whose status is to be looked at.
    status_dirty: StatusTurns,
    status_busy: HashSet<ObjectKey>,
    /// How many statuses may be written.
    status_writes: Allowance,
    /// Until when no status is written and no mailbox's Secret read, because the API server is away.
    hold_off: HoldOff,
    /// Those that are refused by themselves.
    status_refused: RefusedStatuses,
    /// How many events may be published.
    events: Allowance,
    publications: Arc<Semaphore>,
    timers: Timers<Timer>,
    /// Writes that have begun.
    writes: TaskTracker,
}

impl Engine {
    /// An engine that knows nothing yet and acts only after `watches` of [`Input::Complete`].
    #[must_use]
    pub fn new(tools: Tools, settings: Settings, sender: mpsc::Sender<Input>, watches: usize) -> Self {
        let operator_namespace = settings.defaults.operator_namespace.clone();
        let options = Options { default_server: settings.default_server, operator_namespace, ..Options::default() };
        Self {
            tools,
            defaults: settings.defaults,
            sender,
            hasher: Hasher::new(settings.hashes_at_once),
            secret_turns: Turns::new(SECRET_READS, SECRET_READS),
            named_reads: Turns::new(SECRET_READS, SECRET_READS),
            dns: DnsWorker::new(settings.dns),
            dns_turns: Turns::new(LOOKS_AT_ONCE, LOOKS_OF_ONE),
            directory: Directory::new(options),
            unsynced: watches,
            objects: HashMap::new(),
            undecodable: HashMap::new(),
            ranges: objects::Ranges::default(),
            secret_versions: HashMap::new(),
            config_map_versions: HashMap::new(),
            servers: HashMap::new(),
            observed: HashMap::new(),
            pod_servers: HashMap::new(),
            homes: HashMap::new(),
            mailboxes: HashMap::new(),
            filters: HashMap::new(),
            secrets: HashMap::new(),
            domains: HashMap::new(),
            exposures: HashMap::new(),
            reclaims: HashMap::new(),
            finalizer_writes: Arc::new(Semaphore::new(FINALIZER_WRITES)),
            erasures: HashMap::new(),
            endpoints: endpoints::Endpoints::default(),
            reverse: HashMap::new(),
            status_dirty: StatusTurns::default(),
            status_busy: HashSet::new(),
            hold_off: HoldOff::default(),
            status_refused: RefusedStatuses::default(),
            status_writes: Allowance::new(STATUSES_PER_SECOND, 2 * STATUSES_PER_SECOND),
            events: Allowance::new(EVENTS_PER_SECOND, 20 * EVENTS_PER_SECOND),
            publications: Arc::new(Semaphore::new(EVENTS_AT_ONCE)),
            timers: Timers::default(),
            writes: TaskTracker::new(),
        }
    }

    /// Turns until it is told to stop, and then waits for the writes that have begun.
    pub async fn run(mut self, mut inputs: mpsc::Receiver<Input>, stop: CancellationToken) {
        self.turn(&mut inputs, &stop).await;
        // Nobody takes in any more what comes of them.
        drop(inputs);
        self.writes.close();
        self.writes.wait().await;
    }

    async fn turn(&mut self, inputs: &mut mpsc::Receiver<Input>, stop: &CancellationToken) {
        loop {
            let idle = Instant::now() + IDLE;
            let until = self.timers.next().map_or(idle, |due| due.min(idle));
            tokio::select! {
                input = inputs.recv() => {
                    let Some(input) = input else { return };
                    self.take(input);
                    for _ in 1..BATCH {
                        let Ok(input) = inputs.try_recv() else { break };
                        self.take(input);
                    }
                }
                () = tokio::time::sleep_until(until) => {}
                () = stop.cancelled() => return,
            }
            self.tools.health.beat();
            self.fire_timers();
            if self.is_synced() {
                self.start_passes();
                self.write_statuses();
            }
        }
    }

    fn is_synced(&self) -> bool {
        self.unsynced == 0
    }

    /// Starts work beside the engine that writes: the process does not end before it has.
    fn start_writing(&self, work: impl Future<Output = Input> + Send + 'static) {
        let sender = self.sender.clone();
        self.writes.spawn(async move {
            let input = work.await;
            let _ = sender.send(input).await;
        });
    }

    /// Starts work beside the engine; what comes of it is an input.
    fn start(&self, work: impl Future<Output = Input> + Send + 'static) {
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let input = work.await;
            // Nobody listens any more when the process ends.
            let _ = sender.send(input).await;
        });
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Complete(watch) => self.watch_complete(watch),
            Input::Mail(object) => self.mail_applied(object),
            Input::MailDeleted(key) => self.mail_deleted(&key),
            Input::Undecodable(object) => self.mail_undecodable(object),
            Input::Namespace(name, labels) => {
                let changes = self.directory.apply_namespace(&name, labels);
                self.absorb(changes);
            }
            Input::NamespaceDeleted(name) => {
                let changes = self.directory.delete_namespace(&name);
                self.absorb(changes);
            }
            Input::Pod(pod) => self.pod_applied(*pod),
            Input::PodDeleted(name) => self.pod_deleted(&name),
            Input::Node(node) => self.node_applied(&node),
            Input::NodeDeleted(name) => self.node_deleted(&name),
            Input::ServiceRange(range) => self.service_range_applied(&range),
            Input::ServiceRangeDeleted(name) => self.service_range_deleted(&name),
            Input::StatefulSet(set) => self.stateful_set_applied(*set),
            Input::Service(service) => self.service_applied(*service),
            Input::Owned(kind, metadata) => self.owned_applied(kind, &metadata),
            Input::OwnedDeleted(kind, name) => self.owned_deleted(kind, &name),
            Input::Secret(metadata) => self.secret_applied(&metadata),
            Input::SecretDeleted(name) => self.secret_deleted(&name),
            Input::Recovered(server, recovered) => self.recovered(&server, recovered),
            Input::PassDone(done) => self.pass_done(*done),
            Input::CertificateSeen(server, judged) => self.certificate_seen(&server, judged),
            Input::Configz(server, pod, answer) => self.pod_answered(&server, &pod, answer),
            Input::Credentials(read) => self.credentials_read(read),
            Input::ConfigMap(metadata) => self.config_map_applied(&metadata),
            Input::ConfigMapDeleted(name) => self.config_map_deleted(&name),
            Input::Filter(read) => self.filter_read(read),
            Input::SecretRead(read) => self.secret_read(*read),
            Input::Reclaimed(key, done) => self.reclaimed(&key, done),
            Input::Looked(looked) => self.looked(*looked),
            Input::Exposure(looked) => self.exposure_looked(*looked),
            Input::Endpoints(survey) => self.endpoints_surveyed(survey),
            Input::Endpoint(done) => self.endpoint_done(done),
            Input::LookedBack(looked) => self.looked_back(*looked),
            Input::Status(written) => self.status_written(*written),
        }
    }

    fn watch_complete(&mut self, watch: &'static str) {
        if self.unsynced == 0 {
            return;
        }
        self.unsynced -= 1;
        tracing::debug!(watch, left = self.unsynced, "a watch has reported everything");
        if self.unsynced == 0 {
            tracing::info!(objects = self.objects.len(), "all watches have reported everything");
            self.tools.health.synced();
            self.ranges_changed();
            self.survey_endpoints();
            let servers: Vec<NamespacedName> = self.directory.servers().cloned().collect();
            for server in servers {
                self.recover(&server);
            }
            self.check_all_credentials();
            self.check_all_filters();
            self.check_all_secrets();
        }
    }

    fn fire_timers(&mut self) {
        let now = Instant::now();
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Pass(server) => self.pass_due(&server),
                Timer::Drift(server) => self.drift_due(&server),
                Timer::Look(server) => {
                    if let Some(state) = self.servers.get_mut(&server) {
                        state.touch(now);
                    }
                }
                // That the engine turns is all.
                Timer::Settled(_) | Timer::Statuses => {}
                Timer::Reads => self.start_reads(),
                Timer::Poll(server, pod) => self.poll(&server, &pod),
                Timer::Dns(domain) => self.look(&domain),
                Timer::Endpoints => self.survey_endpoints(),
                Timer::Endpoint(domain) => self.refresh_endpoint(&domain),
                Timer::Reverse(server) => self.look_back(&server),
                Timer::Credentials(mailbox) => self.check_credentials(&mailbox),
                Timer::Filter(mailbox) => self.check_filter(&mailbox),
                Timer::Secret(used) => self.check_secret(&used),
                Timer::Exposure(server) => self.exposure_due(&server),
                Timer::Reclaim(key) => self.reclaim(&key),
                Timer::Status(key) => drop(self.status_dirty.insert(key)),
                Timer::Held(server) => self.release(&server),
                Timer::Recover(server) => self.recover(&server),
            }
        }
    }

    /// Takes in what the index says has changed.
    fn absorb(&mut self, changes: Changes) {
        let now = Instant::now();
        for (server, files) in &changes.servers {
            if let Some(entry) = self.directory.server(server) {
                // Its NetworkPolicy lets the pods reach the ports of the rules' smart hosts.
                let opens_ports =
                    files.relay && entry.spec.network_policy.as_ref().is_some_and(|policy| policy.enabled);
                let state = self.server_state(server);
                state.change(files, now);
                if opens_ports {
                    state.concerns_workload();
                }
                if files.relay || files.server {
                    self.probe_soon(server, now);
                }
            } else if let Some(state) = self.servers.get_mut(server) {
                state.discard();
            }
        }
        // Their place in the configuration stays as it is, so that a domain is not on its way to the pods for as long as
        // mailboxes are added to it.
        for name in &changes.counted {
            let key = ObjectKey::new(Kind::MailDomain, name.clone());
            self.reclaim_soon(&key);
            self.status_dirty.insert(key);
        }
        for key in &changes.statuses {
            self.reclaim_soon(key);
            if self.directory.report(key).is_none() {
                continue;
            }
            self.move_home(key, &changes);
            self.status_dirty.insert(key.clone());
            match key.kind {
                Kind::MailServer => {
                    self.refresh_domains_of(&key.name);
                    self.refresh_reverse(&key.name);
                    self.check_secrets_of(key);
                }
                Kind::MailDomain => self.refresh_dns(&key.name),
                Kind::Mailbox => {
                    self.check_credentials(&key.name);
                    self.check_filter(&key.name);
                }
                Kind::RelayPolicy => self.check_secrets_of(key),
                Kind::MailAlias => {}
            }
        }
    }

    /// Notes that an object's entry is to be rendered again, and where it no longer is.
    fn move_home(&mut self, key: &ObjectKey, changes: &Changes) {
        let place = self.directory.place(key).map(|(server, _)| server);
        let before = match &place {
            Some(server) => self.homes.insert(key.clone(), server.clone()),
            None => self.homes.remove(key),
        };
        if before != place
            && let Some(state) = before.and_then(|server| self.servers.get_mut(&server))
        {
            state.forget(key);
        }
        if let Some(server) = place
            && changes.servers.contains_key(&server)
        {
            self.server_state(&server).await_render(key.clone(), Instant::now());
        }
    }
}

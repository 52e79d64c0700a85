//! MailServers: when a pass is made, what pods are asked, and what has arrived where.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use paquebot_config::bundle::{RELAY_FILE, SERVER_FILE};
use paquebot_config::{Bundle, ShardName};
use paquebot_crds::Kind;
use tokio::time::Instant;

use super::{Engine, Timer};
use crate::controllers::apply::{Applied, Target};
use crate::controllers::availability::is_ready;
use crate::controllers::beside::{Absent, Beside};
use crate::controllers::certificate::Judged;
use crate::controllers::configz::Configz;
use crate::controllers::input::Input;
use crate::controllers::propagation::{History, Need};
use crate::controllers::server_worker::{self, Failure, Pass, PassDone, Recovered, Scope};
use crate::directory::{Accepted, DirtyFiles, NamespacedName, ObjectKey};
use crate::render::{self, RenderError, names};

/// A server's objects are compared with what they should be this often even when nobody seems to have touched them; it
/// also renews the certificate in time.
pub(super) const RESYNC: Duration = Duration::from_secs(3600);
/// How long a change waits for Secrets that are being read and passwords that are being hashed, so that a new mailbox is
/// written once: long enough for one, longer while many wait, and never long enough for somebody to notice. Relay rules
/// and what the MailServer says wait for nobody's password.
const SETTLE: Duration = Duration::from_millis(300);
const SETTLE_FOR_EACH: Duration = Duration::from_millis(1);
const LONGEST_SETTLE: Duration = Duration::from_secs(2);
/// How soon a directory that could not be read is read again, and from which failure on that is said in statuses.
const RECOVER_RETRY: Duration = Duration::from_secs(5);
const TELLING_FAILURES: u32 = 3;
/// How soon it is looked whether somebody has touched an object while it was written.
const DRIFT_CHECK: Duration = Duration::from_secs(2);
/// The longest wait before a failed pass is made again.
pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// How often a pod is asked while something is on its way to it, and how often otherwise.
const POLL_EAGER: Duration = Duration::from_millis(100);
/// How many times in a row it is asked that often, and then twenty times more seldom, without anything new.
const EAGER_POLLS: u32 = 60;
const POLL_SLOW: Duration = Duration::from_secs(15);
/// How long a pod may have an old revision before it is nudged again.
const NUDGE_AGAIN: Duration = Duration::from_secs(3);
/// How often it is nudged for one revision; the kubelet looks by itself each minute.
const MOST_NUDGES: u32 = 5;
/// How long the next configuration waits for the one before it to arrive at the pods. A pod that reads its files while
/// others are being written gets half of one set and half of the next, and has to be told again.
const ON_ITS_WAY: Duration = Duration::from_millis(1500);
/// How long a pod may refuse a configuration before that counts: files of one set arrive one after the other.
const REJECTION: Duration = Duration::from_secs(5);

/// What is known of one MailServer's configuration.
#[derive(Default)]
pub struct ServerState {
    /// Its directory was read after this process began, so that nobody is locked out by the first pass.
    pub recovered: bool,
    /// Since when something is to be written.
    dirty_since: Option<Instant>,
    /// More than the configuration is to be looked at.
    everything: bool,
    /// When the configuration was written last.
    pub written_at: Option<Instant>,
    /// The files as they were rendered last, and which of them have changed since.
    bundle: Option<Bundle>,
    dirty_files: DirtyFiles,
    /// How often the relay rules or the ports have changed, how often they had when the configuration was rendered last, and
    /// when it was written last.
    rules: [u64; 3],
    busy: bool,
    failures: u32,
    /// Why the last pass could not write the configuration.
    pub failure: Option<Failure>,
    /// What cannot be written as it is, is not tried again sooner, however often something else changes.
    not_before: Option<Instant>,
    /// Why the last pass could not write the certificate or the objects that run the server.
    pub workload_failure: Option<Failure>,
    known: HashMap<Target, Applied>,
    seen: HashMap<Target, String>,
    /// The Secrets of shards that are there, or may be.
    shards: BTreeSet<String>,
    /// A budget of disruptions that is not wanted was looked for and is gone.
    budget_is_gone: bool,
    /// The same for a Certificate of cert-manager's.
    certificate_is_gone: bool,
    /// The size that the claims of its pods are known to have.
    volume_size: Option<paquebot_crds::Quantity>,
    /// The certificate of which it was said that it ends soon.
    pub told_of: Option<String>,
    /// What is known to be gone, or impossible, beside the workload.
    pub absent: Absent,
    /// The certificate, as the last pass saw it.
    pub certificate: Option<Judged>,
    history: History,
    /// The revision that is being written.
    writing: Option<String>,
    /// The revision that was written last.
    pub revision: Option<String>,
    /// Objects whose entry is not rendered yet, and since when.
    pub awaiting: BTreeMap<ObjectKey, Instant>,
    /// Objects whose entry is rendered, in a configuration that is not written yet.
    pub unwritten: BTreeSet<ObjectKey>,
    /// Objects whose entry has not arrived at every pod yet.
    pub needs: BTreeMap<ObjectKey, Underway>,
    /// When the MailServer's status followed the revision last.
    pub revisions_told: Option<Instant>,
    /// How many mailboxes were said to wait for their Secrets, and when.
    pub unread_told: Option<(usize, Instant)>,
    /// How the pods stood when it was last told.
    told: Standing,
    /// The digests of the files in the index that was there when this process began.
    found: HashMap<String, String>,
    /// Objects whose file was the same when this process began as it was rendered first, and whose entry has not changed
    /// since then.
    pub carried: BTreeSet<ObjectKey>,
    /// Objects whose status waits for what is not known yet.
    pub held: BTreeSet<ObjectKey>,
    /// The MailServer is being deleted, and its objects with it: nothing is made anew.
    pub deleting: bool,
}

/// An entry on its way to the pods.
#[derive(Debug, Clone)]
pub struct Underway {
    /// What they need to have.
    pub need: Need,
    /// When the watch reported what it is made from.
    pub since: Instant,
    /// How many pods had it when it was last told.
    arrived: usize,
    /// It is there since before this process began, so that nobody knows since when.
    is_old: bool,
}

/// What statuses say of the pods beside what has arrived.
#[derive(Debug, Default, PartialEq, Eq)]
struct Standing {
    ready: usize,
    refusal: Option<(String, String)>,
}

impl ServerState {
    /// Something is to be looked at, and perhaps to be written.
    pub fn touch(&mut self, now: Instant) {
        self.everything = true;
        self.dirty_since.get_or_insert(now);
    }

    /// An object's entry is to be rendered again.
    pub fn await_render(&mut self, key: ObjectKey, now: Instant) {
        self.carried.remove(&key);
        let since = self.needs.get(&key).map_or(now, |underway| underway.since);
        self.awaiting.entry(key).or_insert(since);
    }

    /// Since when an object is on its way, if it is.
    pub fn underway_since(&self, key: &ObjectKey) -> Option<Instant> {
        self.awaiting.get(key).copied().or_else(|| self.needs.get(key).map(|underway| underway.since))
    }

    /// Files of the configuration have changed.
    pub fn change(&mut self, files: &DirtyFiles, now: Instant) {
        self.dirty_files.merge(files.clone());
        self.everything |= files.server;
        if files.server {
            // Perhaps that mends it.
            self.not_before = None;
        }
        if files.relay || files.server {
            self.rules[0] += 1;
        }
        self.dirty_since.get_or_insert(now);
    }

    /// More than the configuration follows from a change: the objects that run the server are looked at as well.
    pub fn concerns_workload(&mut self) {
        self.everything = true;
    }

    /// Notes a failure, and until when nothing is tried; returns the wait.
    fn fail(&mut self, failure: Failure, now: Instant) -> Duration {
        self.dirty_since = None;
        self.everything = true;
        let delay = self.retry_after();
        self.not_before = failure.invalid.then_some(now + delay);
        self.failure = Some(failure);
        delay
    }

    /// Whether what is to be written has more in it than what mailboxes and domains say. The first configuration of a
    /// process has everything in it, and would be written twice.
    fn is_urgent(&self) -> bool {
        self.bundle.is_some() && (self.dirty_files.relay || self.dirty_files.server)
    }

    /// Since when something is to be written that may be tried now.
    fn due_since(&self, now: Instant) -> Option<Instant> {
        let free = self.recovered && !self.busy && !self.deleting && self.not_before.is_none_or(|time| time <= now);
        self.dirty_since.filter(|_| free)
    }

    /// The MailServer is not there: its files are rendered from scratch if it comes back.
    pub fn discard(&mut self) {
        self.bundle = None;
    }

    /// An object is no longer here.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.awaiting.remove(key);
        self.unwritten.remove(key);
        self.carried.remove(key);
        self.needs.remove(key);
        self.held.remove(key);
    }

    /// Whether what is known of an object lies in the configuration.
    pub fn has_written(&self, key: &ObjectKey) -> bool {
        self.revision.is_some() && !self.awaiting.contains_key(key) && !self.unwritten.contains(key)
    }

    /// Whether the relay rules and the ports lie in the configuration as they are now.
    fn has_written_rules(&self) -> bool {
        let [changed, _, written] = self.rules;
        changed == written
    }

    /// What pods need to have for the relay rules and the ports as they are now, if those lie in the configuration.
    pub fn written_rules(&self) -> Option<[Need; 2]> {
        let written = self.revision.is_some() && self.has_written_rules();
        written.then(|| [RELAY_FILE, SERVER_FILE].map(|file| self.history.need(file)))
    }

    /// Whether a pod has them, whatever else it waits for.
    pub fn serves_rules(&self, configz: &Configz, rules: &[Need; 2]) -> bool {
        rules.iter().all(|need| self.history.has(&configz.digests, need))
    }

    /// Whether this server has written an object.
    pub fn owns(&self, target: &Target) -> bool {
        self.known.contains_key(target) || self.seen.contains_key(target)
    }

    /// How long to wait after one failure more.
    fn retry_after(&mut self) -> Duration {
        self.failures += 1;
        Duration::from_secs(1 << self.failures.min(6)).min(LONGEST_RETRY)
    }

    /// A look at something of it has begun, or has ended; what else is due waits meanwhile.
    pub fn set_looking(&mut self, looking: bool) {
        self.busy = looking;
        if looking {
            self.dirty_since = None;
        }
    }

    fn has_drifted(&self) -> bool {
        self.known.iter().any(|(target, applied)| self.seen.get(target).is_some_and(|seen| *seen != applied.token))
    }
}

/// What the watches say about one MailServer's objects.
#[derive(Default)]
pub struct Observed {
    /// Its StatefulSet.
    pub set: Option<StatefulSet>,
    /// Its public Service.
    pub service: Option<Service>,
    /// Its pods.
    pub pods: BTreeMap<NamespacedName, PodState>,
}

/// What is known of one pod.
#[derive(Default)]
pub struct PodState {
    /// The pod, without what is not needed.
    pub pod: Pod,
    /// What it answered last; absent: it was not asked yet.
    pub answer: Option<Result<Configz, String>>,
    refusing_since: Option<Instant>,
    asking: bool,
    polls: u32,
    nudged: Option<(String, u32, Instant)>,
}

impl PodState {
    /// Takes in the pod as it is now. Another pod of the same name has not been asked yet.
    pub fn replace(&mut self, pod: Pod) {
        if self.pod.metadata.uid != pod.metadata.uid {
            *self = Self::default();
        }
        self.pod = pod;
    }

    /// Where it answers.
    pub(super) fn address(&self) -> Option<std::net::IpAddr> {
        let status = self.pod.status.as_ref()?;
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        if ended { None } else { status.pod_ip.as_ref()?.parse().ok() }
    }

    /// The configuration that it serves.
    pub fn configz(&self) -> Option<&Configz> {
        self.answer.as_ref().and_then(|answer| answer.as_ref().ok())
    }

    /// Whether it serves this revision with this certificate, and has no other files before it: while somebody has changed
    /// them, the old revision stays in force and what is refused is not what was written.
    fn serves(&self, revision: &String, certificate: Option<&String>) -> bool {
        self.configz().is_some_and(|configz| {
            let served = configz.certificate.as_ref().map(|certificate| &certificate.sha256);
            configz.revision.as_ref() == Some(revision)
                && configz.error.is_none()
                && (served.is_none() || certificate.is_none() || served == certificate)
        })
    }

    /// Why it refuses the newest configuration, if it does so for good.
    pub fn refusal(&self, wanted: Option<&String>, now: Instant) -> Option<&str> {
        let configz = self.configz()?;
        let since = self.refusing_since?;
        let refuses = configz.revision.as_ref() != wanted && now.duration_since(since) >= REJECTION;
        configz.error.as_deref().filter(|_| refuses)
    }
}

impl Observed {
    /// The pods that serve.
    pub fn ready(&self) -> impl Iterator<Item = (&NamespacedName, &PodState)> {
        self.pods.iter().filter(|(_, state)| is_ready(&state.pod))
    }

    /// The first pod that refuses the newest configuration, and its words.
    pub fn refusal(&self, revision: Option<&String>, now: Instant) -> Option<(String, String)> {
        self.pods.iter().find_map(|(name, pod)| Some((name.name.clone(), pod.refusal(revision, now)?.to_owned())))
    }

    /// Whether every pod that could answer has been asked.
    pub fn asked(&self) -> bool {
        self.ready().all(|(_, state)| state.answer.is_some())
    }
}

impl Engine {
    pub(super) fn server_state(&mut self, server: &NamespacedName) -> &mut ServerState {
        self.servers.entry(server.clone()).or_default()
    }

    /// Reads what lies in a server's directory.
    pub(super) fn recover(&mut self, server: &NamespacedName) {
        if self.directory.server(server).is_none() || self.server_state(server).recovered {
            return;
        }
        let (client, server) = (self.tools.client.clone(), server.clone());
        self.start(async move {
            let recovered = server_worker::recover(client, server.clone()).await;
            Input::Recovered(server, recovered)
        });
    }

    pub(super) fn recovered(&mut self, server: &NamespacedName, result: Result<Recovered, Failure>) {
        if self.directory.server(server).is_none() {
            self.servers.remove(server);
            self.check_all_credentials();
            return;
        }
        match result {
            Ok(recovered) => {
                let state = self.server_state(server);
                state.recovered = true;
                state.failures = 0;
                state.failure = None;
                state.found = recovered.digests.clone();
                state.shards = recovered.shards.iter().cloned().collect();
                // One that no index names and that has no label of its content is taken away with the others.
                let secrets = state.seen.iter().filter(|(target, token)| target.kind == "Secret" && !token.is_empty());
                state.shards.extend(secrets.map(|(target, _)| target.name.name.clone()));
                state.touch(Instant::now());
                for (domain, filters) in &recovered.filters {
                    let changes = self.directory.recall_filters(server, domain, filters);
                    self.absorb(changes);
                }
                self.restore_verifiers(&recovered);
                self.restore_logins(server, recovered.logins);
                if let Some((reference, pem)) = recovered.authorities {
                    self.restore_authorities(server, &reference, pem);
                }
                self.check_all_credentials();
            }
            Err(failure) => {
                tracing::warn!(%server, error = failure.message, "a server's directory could not be read; it is tried again");
                self.tools.metrics.errors.inc();
                self.timers.set(Timer::Recover(server.clone()), Instant::now() + RECOVER_RETRY);
                let state = self.server_state(server);
                state.failures += 1;
                // One that passes is not worth a change of every status.
                if state.failures >= TELLING_FAILURES {
                    let message = format!("what lies in the server's directory cannot be read: {}", failure.message);
                    state.failure = Some(Failure { message, invalid: false });
                    self.status_dirty.insert(ObjectKey::new(Kind::MailServer, server.clone()));
                    self.release(server);
                }
            }
        }
    }

    pub(super) fn pass_due(&mut self, server: &NamespacedName) {
        let Some(state) = self.servers.get_mut(server) else { return };
        if state.failure.is_none() && state.workload_failure.is_none() {
            // The hourly look reads every object again.
            state.known.clear();
            state.budget_is_gone = false;
            state.certificate_is_gone = false;
            state.volume_size = None;
            state.absent = Absent::default();
        }
        state.touch(Instant::now());
    }

    pub(super) fn drift_due(&mut self, server: &NamespacedName) {
        let Some(state) = self.servers.get_mut(server) else { return };
        let now = Instant::now();
        if state.busy {
            self.timers.set(Timer::Drift(server.clone()), now + DRIFT_CHECK);
        } else if state.has_drifted() {
            tracing::info!(%server, "somebody has changed an object of the server; it is looked at");
            state.touch(now);
        }
    }

    pub(super) fn version_seen(&mut self, server: &NamespacedName, target: Target, token: String) {
        let Some(state) = self.servers.get_mut(server) else { return };
        let foreign = state.known.get(&target).is_some_and(|applied| applied.token != token);
        state.seen.insert(target, token);
        if foreign && !state.busy {
            self.timers.set_by(Timer::Drift(server.clone()), Instant::now() + Duration::from_millis(100));
        }
    }

    /// Starts a pass over each server that needs one.
    pub(super) fn start_passes(&mut self) {
        let now = Instant::now();
        let due: Vec<(NamespacedName, Instant)> =
            self.servers.iter().filter_map(|(server, state)| Some((server.clone(), state.due_since(now)?))).collect();
        for (server, since) in due {
            let mailboxes = self.directory.pending_count(&server);
            let own = self.directory.has_unread_secrets(&server);
            let urgent = self.servers.get(&server).is_some_and(ServerState::is_urgent);
            let settled = since + settling(mailboxes, own, urgent);
            if now < settled {
                self.timers.set_by(Timer::Settled(server), settled);
                continue;
            }
            if let Some(arrival) = self.waits_for_arrival(&server).filter(|arrival| now < *arrival) {
                self.timers.set_by(Timer::Settled(server), arrival);
                continue;
            }
            self.start_pass(&server);
        }
    }

    /// Whether a configuration is being written.
    pub(super) fn is_writing(&self) -> bool {
        self.servers.values().any(|state| state.busy)
    }

    /// Until when the next configuration waits for the last one, while that is on its way.
    fn waits_for_arrival(&self, server: &NamespacedName) -> Option<Instant> {
        let state = self.servers.get(server)?;
        let revision = state.revision.as_ref()?;
        let mut ready = self.observed.get(server)?.ready();
        let arrives = |pod: &PodState| pod.configz().is_some_and(|configz| configz.revision.as_ref() != Some(revision));
        if ready.any(|(_, pod)| arrives(pod)) { Some(state.written_at? + ON_ITS_WAY) } else { None }
    }

    /// The files of a server's configuration; only those that have changed are written anew.
    fn render(&mut self, server: &NamespacedName) -> Result<Bundle, RenderError> {
        let state = self.servers.entry(server.clone()).or_default();
        let dirty = std::mem::take(&mut state.dirty_files);
        let Some(mut bundle) = state.bundle.take() else { return render::bundle(&self.directory, server) };
        match render::refresh(&mut bundle, &self.directory, server, &dirty) {
            Ok(()) => Ok(bundle),
            Err(error) => {
                // It is as it was, and what has changed since is tried again.
                state.bundle = Some(bundle);
                state.dirty_files.merge(dirty);
                Err(error)
            }
        }
    }

    fn start_pass(&mut self, server: &NamespacedName) {
        if self.directory.accepted_server(server).is_none() {
            // What runs stays as it is.
            let state = self.server_state(server);
            state.dirty_since = None;
            self.release(server);
            return;
        }
        if self.is_paused(server) {
            return self.look_at_certificate(server);
        }
        let bundle = match self.render(server) {
            Ok(bundle) => bundle,
            Err(error) => {
                let failure = Failure { message: error.to_string(), invalid: true };
                self.pass_failed(server, failure);
                return;
            }
        };
        let Some(accepted) = self.directory.accepted_server(server) else { return };
        let configuration = render::configuration(&accepted, &bundle);
        let mut workload = render::workload(&accepted, &self.defaults);
        if let Some(live) = self.observed.get(server).and_then(|observed| observed.set.as_ref()) {
            render::volumes::keep_templates(&mut workload.stateful_set, live);
        }
        let rules: Vec<_> = self.directory.relay_rules(server).map(Accepted::into_inner).collect();
        let mut beside = Beside {
            network_policy: render::network_policy(&accepted, &self.defaults, rules),
            pod_monitor: render::pod_monitor::pod_monitor(&accepted),
            absent: Absent::default(),
        };
        let entry = accepted.into_inner().clone();
        let empty: Vec<String> = configuration.empty_shards(&entry).collect();
        self.rendered(server, &bundle);
        let state = self.server_state(server);
        state.bundle = Some(bundle);
        state.rules[1] = state.rules[0];
        state.dirty_since = None;
        state.busy = true;
        let seen = &state.seen;
        state.known.retain(|target, applied| seen.get(target).is_none_or(|seen| *seen == applied.token));
        let stale_shards = empty.into_iter().filter(|name| state.shards.contains(name)).collect();
        // A shard counts as there until it is known to be deleted.
        let files = configuration.secrets.keys();
        state.shards.extend(files.map(|file| render::secret_name(&server.name, file)));
        let budget_is_gone = state.budget_is_gone && workload.disruption_budget.is_none();
        beside.absent = state.absent.clone();
        let volumes = render::volumes::wanted(&entry);
        let volumes = (state.volume_size.as_ref() != Some(&volumes.size)).then_some(volumes);
        let certificate_is_gone = state.certificate_is_gone;
        let known = state.known.clone();
        let scope = if std::mem::take(&mut state.everything) { Scope::Everything } else { Scope::Configuration };
        self.tools.metrics.passes.inc();
        let client = self.tools.client.clone();
        let pass = Pass {
            server: entry,
            workload,
            configuration,
            known,
            stale_shards,
            budget_is_gone,
            certificate_is_gone,
            volumes,
            beside,
            scope,
        };
        self.start_writing(async move { Input::PassDone(Box::new(Box::pin(server_worker::run(client, pass)).await)) });
    }

    /// Notes what the new contents of the files are, and which objects are waiting for them.
    fn rendered(&mut self, server: &NamespacedName, bundle: &Bundle) {
        let state = self.servers.entry(server.clone()).or_default();
        for entry in &bundle.index().shards {
            state.history.record(&entry.name, &entry.sha256);
        }
        for shard in ShardName::all().map(|shard| shard.to_string()) {
            if !bundle.files().contains_key(&shard) {
                state.history.record_absent(&shard);
            }
        }
        let is_first = state.revision.is_none() && state.writing.is_none();
        state.writing = Some(bundle.revision().to_string());
        let found = std::mem::take(&mut state.found);
        let entries = &bundle.index().shards;
        let unchanged = |file: &str| {
            entries.iter().find(|entry| entry.name == file).is_some_and(|entry| found.get(file) == Some(&entry.sha256))
        };
        for (key, since) in std::mem::take(&mut state.awaiting) {
            state.unwritten.insert(key.clone());
            if let Some((_, file)) = self.directory.place(&key) {
                // What a MailServer says of itself is about its pods as they are now.
                if is_first && key.kind != Kind::MailServer && unchanged(&file) {
                    state.carried.insert(key.clone());
                }
                let need = state.history.need(&file);
                state.needs.insert(key, Underway { need, since, arrived: 0, is_old: is_first });
            }
        }
    }

    fn pass_failed(&mut self, server: &NamespacedName, failure: Failure) {
        let now = Instant::now();
        tracing::warn!(%server, error = failure.message, "a MailServer's configuration could not be written; it is tried again");
        let delay = self.server_state(server).fail(failure, now);
        self.tools.metrics.errors.inc();
        self.timers.set(Timer::Pass(server.clone()), now + delay);
        self.status_dirty.insert(ObjectKey::new(Kind::MailServer, server.clone()));
        self.release(server);
    }

    pub(super) fn pass_done(&mut self, done: PassDone) {
        let server = done.server;
        let Some(state) = self.servers.get_mut(&server) else { return };
        state.busy = false;
        // Who comes nearer need not wait ever longer: what is as it should be is not asked for again.
        if done.written > 0 || done.known.len() > state.known.len() {
            state.failures = 0;
        }
        state.known = done.known;
        if done.certificate.is_some() {
            state.certificate = done.certificate;
        }
        if done.scope == Scope::Everything {
            state.workload_failure = done.workload.err();
        }
        state.shards.retain(|shard| !done.gone_shards.contains(shard));
        state.budget_is_gone = done.budget_is_gone;
        state.certificate_is_gone = done.certificate_is_gone;
        state.volume_size = done.volume_size.or(state.volume_size.take());
        state.absent = done.absent;
        self.tools.metrics.objects_written.inc_by(u64::try_from(done.written).unwrap_or(u64::MAX));
        match done.configuration {
            Ok(()) => self.configuration_written(&server, done.scope),
            Err(failure) => self.pass_failed(&server, failure),
        }
        if let Some(wait) = done.look_again {
            self.timers.set(Timer::Look(server.clone()), Instant::now() + wait);
        }
        self.tell_of_its_end(&server);
    }

    /// The pods are told, also when the objects that run them could not be written.
    fn configuration_written(&mut self, server: &NamespacedName, scope: Scope) {
        let now = Instant::now();
        let state = self.server_state(server);
        state.failure = None;
        state.not_before = None;
        state.revision = state.writing.take();
        state.rules[2] = state.rules[1];
        state.written_at = Some(now);
        // Their statuses may now say what the directory was made from.
        let written = std::mem::take(&mut state.unwritten);
        let next = match state.workload_failure.clone().filter(|_| scope == Scope::Everything) {
            None => {
                state.failures = 0;
                RESYNC
            }
            Some(failure) => {
                tracing::warn!(%server, error = failure.message, "a MailServer's workload could not be written; it is tried again");
                state.retry_after()
            }
        };
        let failed = state.workload_failure.is_some() && scope == Scope::Everything;
        // What was seen while it was written may be older than the write, or newer.
        if state.has_drifted() {
            self.timers.set(Timer::Drift(server.clone()), now + DRIFT_CHECK);
        }
        if failed {
            self.tools.metrics.errors.inc();
        }
        // What is due for the rest is not put off by changes of the configuration.
        match scope {
            Scope::Everything => self.timers.set(Timer::Pass(server.clone()), now + next),
            Scope::Configuration => self.timers.set_by(Timer::Pass(server.clone()), now + next),
        }
        let pods: Vec<NamespacedName> =
            self.observed.get(server).into_iter().flat_map(|observed| observed.pods.keys().cloned()).collect();
        for pod in pods {
            self.nudge(server, &pod, now);
            self.timers.set(Timer::Poll(server.clone(), pod), now + POLL_EAGER);
        }
        self.status_dirty.extend(written);
        self.server_observed(server);
    }

    /// Has the kubelet refresh the volume of a pod that does not serve the newest revision.
    fn nudge(&mut self, server: &NamespacedName, pod: &NamespacedName, now: Instant) {
        if self.is_paused(server) {
            return;
        }
        let Some((revision, certificate)) = self.wanted_in_pods(server) else { return };
        let Some(state) = self.observed.get_mut(server).and_then(|observed| observed.pods.get_mut(pod)) else { return };
        let serves = state.serves(&revision, certificate.as_ref());
        let annotations = state.pod.metadata.annotations.as_ref();
        let told = annotations.and_then(|annotations| annotations.get(names::REVISION_ANNOTATION)) == Some(&revision);
        let attempt = match &state.nudged {
            Some((nudged, _, at)) if *nudged == revision && now.duration_since(*at) < NUDGE_AGAIN => return,
            Some((nudged, attempt, _)) if *nudged == revision && *attempt >= MOST_NUDGES => return,
            Some((nudged, attempt, _)) if *nudged == revision => attempt + 1,
            _ if told => 1,
            _ => 0,
        };
        if serves || state.address().is_none() {
            return;
        }
        state.nudged = Some((revision.clone(), attempt, now));
        let (client, pod) = (self.tools.client.clone(), pod.clone());
        self.writes.spawn(async move {
            if let Err(error) = server_worker::nudge(client, pod.clone(), revision, attempt).await {
                tracing::warn!(%pod, %error, "a pod could not be annotated; the kubelet refreshes its files later");
            }
        });
    }

    /// The revision and the digest of the certificate that pods should serve.
    fn wanted_in_pods(&self, server: &NamespacedName) -> Option<(String, Option<String>)> {
        let state = self.servers.get(server)?;
        let certificate = state.certificate.as_ref().and_then(|judged| judged.sha256.clone());
        Some((state.revision.clone()?, certificate))
    }

    pub(super) fn poll(&mut self, server: &NamespacedName, pod: &NamespacedName) {
        let Some(state) = self.observed.get_mut(server).and_then(|observed| observed.pods.get_mut(pod)) else { return };
        let Some(address) = state.address().filter(|_| !state.asking) else { return };
        state.asking = true;
        state.polls = state.polls.saturating_add(1);
        let (poller, server, pod) = (self.tools.poller.clone(), server.clone(), pod.clone());
        self.start(async move {
            let answer = poller.ask(address).await;
            Input::Configz(server, pod, answer)
        });
    }

    pub(super) fn pod_answered(
        &mut self,
        server: &NamespacedName,
        pod: &NamespacedName,
        answer: Result<Configz, String>,
    ) {
        let now = Instant::now();
        let wanted = self.wanted_in_pods(server);
        let revision = wanted.as_ref().map(|(revision, _)| revision.clone());
        let Some(state) = self.observed.get_mut(server).and_then(|observed| observed.pods.get_mut(pod)) else { return };
        state.asking = false;
        let refuses = answer.as_ref().is_ok_and(|configz| configz.error.is_some());
        let was_refusing = state.refusal(revision.as_ref(), now).is_some();
        state.refusing_since = if refuses { state.refusing_since.or(Some(now)) } else { None };
        let changed = state.answer.as_ref() != Some(&answer);
        state.answer = Some(answer);
        let is_refusing = state.refusal(revision.as_ref(), now).is_some();
        let current = wanted.is_some_and(|(revision, certificate)| state.serves(&revision, certificate.as_ref()));
        if changed || current {
            state.polls = 0;
        }
        let next = match state.polls {
            _ if current => POLL_SLOW,
            0..EAGER_POLLS => POLL_EAGER,
            _ => POLL_EAGER * 20,
        };
        self.timers.set(Timer::Poll(server.clone(), pod.clone()), now + next);
        if !current {
            self.nudge(server, pod, now);
        }
        if changed || was_refusing != is_refusing {
            self.server_observed(server);
        }
    }

    /// Something about a server's pods or objects is new: what has arrived, and whose status speaks of it.
    pub(super) fn server_observed(&mut self, server: &NamespacedName) {
        self.status_dirty.insert(ObjectKey::new(Kind::MailServer, server.clone()));
        self.look_when_ready(server);
        self.release(server);
        let (Some(state), Some(observed)) = (self.servers.get_mut(server), self.observed.get(server)) else { return };
        let ready: Vec<&PodState> = observed.ready().map(|(_, pod)| pod).collect();
        let now = Instant::now();
        let refusal = observed.refusal(state.revision.as_ref(), now);
        let standing = Standing { ready: ready.len(), refusal };
        let differs = standing != state.told;
        state.told = standing;
        let history = &state.history;
        let mut counts: HashMap<Need, usize> = HashMap::new();
        let (dirty, effective) = (&mut self.status_dirty, &self.tools.metrics.effective_seconds);
        let (reclaims, timers) = (&self.reclaims, &mut self.timers);
        // What waits is told where it stands, and what has arrived is told so once.
        state.needs.retain(|key, underway| {
            let arrived = *counts.entry(underway.need.clone()).or_insert_with(|| {
                let has = |pod: &&&PodState| pod.configz().is_some_and(|c| history.has(&c.digests, &underway.need));
                ready.iter().filter(has).count()
            });
            let is_there = arrived == ready.len() && !ready.is_empty();
            if differs || is_there || arrived != underway.arrived {
                dirty.insert(key.clone());
            }
            underway.arrived = arrived;
            if is_there && reclaims.contains_key(key) {
                timers.set_by(Timer::Reclaim(key.clone()), now);
            }
            if is_there && !underway.is_old {
                effective.observe(now.duration_since(underway.since).as_secs_f64());
            }
            !is_there
        });
    }

    /// Statuses that waited for something may be looked at again.
    pub(super) fn release(&mut self, server: &NamespacedName) {
        if let Some(state) = self.servers.get_mut(server) {
            self.status_dirty.extend(std::mem::take(&mut state.held));
        }
    }

    /// How many of the ready pods have what an object needs.
    pub(super) fn arrived(&self, server: &NamespacedName, need: &Need) -> (usize, usize) {
        let (Some(state), Some(observed)) = (self.servers.get(server), self.observed.get(server)) else {
            return (0, 0);
        };
        let has = |pod: &PodState| pod.configz().is_some_and(|configz| state.history.has(&configz.digests, need));
        let ready = observed.ready().count();
        (observed.ready().filter(|(_, pod)| has(pod)).count(), ready)
    }
}

/// How long a change waits for the Secrets of so many mailboxes, and for one that the server's own files need.
fn settling(mailboxes: usize, own: bool, urgent: bool) -> Duration {
    let unread = if urgent { 0 } else { mailboxes } + usize::from(own);
    match u32::try_from(unread).unwrap_or(u32::MAX) {
        0 => Duration::ZERO,
        unread => SETTLE_FOR_EACH.saturating_mul(unread).clamp(SETTLE, LONGEST_SETTLE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_waits_for_one_password_hardly_and_for_many_a_while() {
        let waits = [0, 1, 20, 1000, usize::MAX - 1].map(|mailboxes| settling(mailboxes, false, false).as_millis());
        assert_eq!(waits, [0, 300, 300, 1000, 2000]);
        assert_eq!(settling(1000, true, false).as_millis(), 1001);
    }

    #[test]
    fn rules_and_the_server_s_own_words_wait_for_nobody_s_password() {
        assert_eq!(settling(100_000, false, true), Duration::ZERO);
        assert_eq!(settling(100_000, true, true), SETTLE, "a login of their own is read in a moment");
        let server: paquebot_crds::MailServer = serde_json::from_value(serde_json::json!({
            "apiVersion": "paquebot.dev/v1alpha1", "kind": "MailServer",
            "metadata": { "name": "default", "namespace": "mail" }, "spec": { "hostname": "mx.server1.com" },
        }))
        .unwrap();
        let mut directory = crate::directory::Directory::new(crate::directory::Options::default());
        directory.apply(server);
        let bundle = render::bundle(&directory, &NamespacedName::new("mail", "default")).unwrap();
        let urgent = |relay: bool, server: bool, is_first: bool| {
            let mut state = ServerState { bundle: (!is_first).then(|| bundle.clone()), ..ServerState::default() };
            state.change(&DirtyFiles { relay, server, ..DirtyFiles::default() }, Instant::now());
            state.is_urgent()
        };
        assert!(urgent(true, false, false) && urgent(false, true, false));
        assert!(!urgent(false, false, false), "a mailbox");
        assert!(!urgent(true, true, true), "everything, when nothing was written before");
    }

    #[test]
    fn a_pod_has_the_rules_also_while_mailboxes_are_on_their_way_to_it() {
        let mut state = ServerState::default();
        assert_eq!(state.written_rules(), None, "nothing is written yet");
        for (file, digest) in [(RELAY_FILE, "rules"), (SERVER_FILE, "ports"), ("directory-0a", "one")] {
            state.history.record(file, digest);
        }
        state.revision = Some("first".to_owned());
        let rules = state.written_rules().unwrap();
        let digests = |relay: &str| {
            [(RELAY_FILE, relay), (SERVER_FILE, "ports"), ("directory-0a", "one")]
                .map(|(file, digest)| (file.to_owned(), digest.to_owned()))
                .into()
        };
        let pod = |relay| Configz { revision: Some("first".to_owned()), digests: digests(relay), ..Configz::default() };
        assert!(state.serves_rules(&pod("rules"), &rules));
        // A mailbox is written.
        state.history.record("directory-0a", "two");
        state.revision = Some("second".to_owned());
        assert_eq!(state.written_rules().as_ref(), Some(&rules));
        assert!(state.serves_rules(&pod("rules"), &rules));
        // A rule is, and is not written yet at first.
        state.change(&DirtyFiles { relay: true, ..DirtyFiles::default() }, Instant::now());
        assert_eq!(state.written_rules(), None);
        state.history.record(RELAY_FILE, "others");
        (state.rules[1], state.rules[2]) = (state.rules[0], state.rules[0]);
        let others = state.written_rules().unwrap();
        assert!(
            others != rules
                && !state.serves_rules(&pod("rules"), &others)
                && state.serves_rules(&pod("others"), &others)
        );
    }

    #[test]
    fn what_cannot_be_written_waits_whatever_else_changes_but_the_server_itself() {
        let now = Instant::now();
        let failure = |invalid| Failure { message: "too large".to_owned(), invalid };
        let files = |server| DirtyFiles { server, ..DirtyFiles::default() };
        let mut state = ServerState { recovered: true, ..ServerState::default() };
        state.change(&files(false), now);
        assert_eq!(state.due_since(now), Some(now));
        let wait = state.fail(failure(true), now);
        state.change(&files(false), now);
        assert_eq!(state.due_since(now), None, "somebody's change does not render everything again");
        assert_eq!(state.due_since(now + wait), Some(now));
        state.change(&files(true), now);
        assert_eq!(state.due_since(now), Some(now));
        // What an API server could not take may be taken the next time.
        state.fail(failure(false), now);
        state.change(&files(false), now);
        assert_eq!(state.due_since(now), Some(now));
    }
}

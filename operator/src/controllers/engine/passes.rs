//! When a MailServer's objects are written, and what comes of it: a pass renders what has changed, and a worker writes it.

use std::time::Duration;

use paquebot_config::{Bundle, ShardName};
use paquebot_crds::Kind;
use tokio::time::Instant;

use super::pods::{POLL_EAGER, PodState};
use super::servers::{ServerState, Underway};
use super::{Engine, Timer};
use crate::controllers::apply::Target;
use crate::controllers::beside::{Absent, Beside};
use crate::controllers::input::Input;
use crate::controllers::server_worker::{self, Failure, Pass, PassDone, Scope};
use crate::directory::{Accepted, NamespacedName, ObjectKey};
use crate::render::{self, RenderError};

/// A server's objects are compared with what they should be this often even when nobody seems to have touched them; it
/// also renews the certificate in time.
pub(super) const RESYNC: Duration = Duration::from_secs(3600);
/// How long a change waits for Secrets that are being read and passwords that are being hashed, so that a new mailbox is
/// written once: long enough for one, longer while many wait, and never long enough for somebody to notice. Relay rules
/// and what the MailServer says wait for nobody's password.
const SETTLE: Duration = Duration::from_millis(300);
const SETTLE_FOR_EACH: Duration = Duration::from_millis(1);
const LONGEST_SETTLE: Duration = Duration::from_secs(2);
/// How soon it is looked whether somebody has touched an object while it was written.
const DRIFT_CHECK: Duration = Duration::from_secs(2);
/// How long the next configuration waits for the one before it to arrive at the pods. A pod that reads its files while
/// others are being written gets half of one set and half of the next, and has to be told again.
const ON_ITS_WAY: Duration = Duration::from_millis(1500);

impl Engine {
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
            Ok(()) => {
                self.api_server_answered();
                self.configuration_written(&server, done.scope);
            }
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
    fn what_is_urgent_waits_for_nobody_s_password() {
        assert_eq!(settling(100_000, false, true), Duration::ZERO);
        assert_eq!(settling(100_000, true, true), SETTLE, "a login of the server's own is read in a moment");
    }
}

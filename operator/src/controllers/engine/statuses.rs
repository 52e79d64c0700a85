//! What is reported: which statuses are to be looked at, what they are made of, and events about the changes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::runtime::events::{Event, EventType};
use paquebot_crds::Kind;
use paquebot_crds::conditions::{self, ConditionType, ConditionUpdate, Reason};
use paquebot_crds::mail_server::{CertificateStatus, ConfigurationStatus};
use paquebot_crds::mailbox::CredentialSource;
use tokio::time::Instant;

use super::objects::{Live, is_older};
use super::{Engine, Timer};
use crate::controllers::availability;
use crate::controllers::calls::{CallError, Failed, within_deadline};
use crate::controllers::certificate::Judged;
use crate::controllers::input::Input;
use crate::controllers::remembered::Remembered;
use crate::controllers::status::{self, Facts, ServerFacts, Status, StatusWritten};
use crate::directory::{NamespacedName, ObjectKey, Refusal, Report, Verdict, sentence};
use crate::render::{names, pod_monitor};

/// Statuses that are written together, and while a configuration is: those are in nobody's way to what is effective.
const AT_ONCE: usize = 32;
const BESIDE_CONFIGURATION: usize = 8;
/// How long after a pause a status is written again that began it.
const AWAY_RETRY: Duration = Duration::from_secs(5);
/// How long writing pauses when too many statuses were written.
const STATUS_PAUSE: Duration = Duration::from_millis(50);
/// From how many mailboxes on it is said that their Secrets are still to be read, and how often.
const MANY_UNREAD: usize = 100;
const PROGRESS_TOLD: Duration = Duration::from_secs(10);
/// How long an object may be on its way to the pods before that is said: most arrive sooner, and need one write less.
const GRACE: Duration = Duration::from_secs(3);
/// How often a MailServer's status follows the revisions of a configuration that keeps changing.
const REVISIONS_TOLD: Duration = Duration::from_secs(4);
/// An event is named after its object, with a dot and a time of sixteen digits, and no name is longer than 253.
const LONGEST_NAME_WITH_EVENTS: usize = 253 - 17;

impl Engine {
    /// Writes the statuses that differ from what is there.
    pub(super) fn write_statuses(&mut self) {
        let now = Timestamp::now();
        let mut later = Vec::new();
        let at_once = if self.is_writing() { BESIDE_CONFIGURATION } else { AT_ONCE };
        let at_once = self.hold_off.at_once(at_once, Instant::now());
        while self.status_busy.len() < at_once {
            let Some(key) = self.status_dirty.pop() else { break };
            if self.status_busy.contains(&key) {
                later.push(key);
                continue;
            }
            let Some(wanted) = self.wanted_status(&key, now) else { continue };
            let Some(live) = self.objects.get(&key) else { continue };
            let present = live.status.status();
            if present == wanted {
                continue;
            }
            if let Err(wait) = self.status_writes.take(Instant::now()) {
                later.push(key);
                self.timers.set_by(Timer::Statuses, Instant::now() + wait.max(STATUS_PAUSE));
                break;
            }
            self.status_busy.insert(key.clone());
            self.tools.metrics.status_writes.inc();
            let (client, before) = (self.tools.client.clone(), present.conditions().to_vec());
            self.start_writing(
                async move { Input::Status(Box::new(status::write(client, key, wanted, before).await)) },
            );
        }
        self.status_dirty.extend(later);
    }

    /// The status that an object should have; `None` while something that it speaks of is not known yet.
    fn wanted_status(&mut self, key: &ObjectKey, now: Timestamp) -> Option<Status> {
        if let Some((generation, error)) = self.undecodable.get(key) {
            let present = self.objects.get(key)?.status.status();
            return Some(status::undecodable(key.kind, *generation, error, &present, now));
        }
        let mut report = self.directory.report(key)?;
        if key.kind == Kind::MailDomain && self.endpoint_is_unknown(&key.name) {
            return None;
        }
        let is_new = self.objects.get(key).is_none_or(|live| live.status.conditions().is_empty());
        if !is_new && self.waits_for_secrets(key) {
            return None;
        }
        let programmed = self.programmed(key, &report)?;
        let facts = self.facts(key);
        let mut programmed = programmed;
        if key.kind == Kind::MailServer {
            self.add_failure(&key.name, &mut report);
            self.add_absent_apis(&key.name, &mut report);
            programmed.message.push_str(&self.progress(&key.name));
        }
        if let Some(going) = self.going(key) {
            report.verdict = going;
        }
        let present = self.objects.get(key)?.status.status();
        Some(status::wanted(key, &report, programmed, &facts, &present, now))
    }

    /// An object that the API server refuses makes the MailServer one that cannot be, and one whose Secret is missing is
    /// not what it says.
    fn add_failure(&self, server: &NamespacedName, report: &mut Report) {
        if let Some(refusal) = self.directory.secret_refusal(server).filter(|_| report.verdict.is_accepted()) {
            report.verdict = Verdict::Refused(refusal);
        }
        let state = self.servers.get(server);
        let failures = state.iter().flat_map(|state| [&state.failure, &state.workload_failure]).flatten();
        if let Some(failure) = failures.into_iter().find(|failure| failure.invalid && report.verdict.is_accepted()) {
            let message = format!("{} What runs stays as it is.", sentence(&failure.message));
            report.verdict = Verdict::Refused(Refusal { reason: Reason::InvalidSpec, message });
        }
    }

    /// What is asked for and cannot be had in this cluster is said.
    fn add_absent_apis(&self, server: &NamespacedName, report: &mut Report) {
        let absent = self.servers.get(server).is_some_and(|state| state.absent.apis.contains("PodMonitor"));
        let Some(entry) = self.directory.server(server).filter(|_| absent) else { return };
        if let Verdict::Accepted { message, .. } = &mut report.verdict
            && pod_monitor::is_wanted(entry)
        {
            message.push_str(
                " spec.monitoring.podMonitor has no effect: the cluster does not know the kind PodMonitor; install the \
                 Prometheus operator, which is looked for each hour, or have the pods' admin port scraped otherwise.",
            );
        }
    }

    /// The condition `Programmed`; `None` while it is not known where the object stands and what it says may still be so.
    fn programmed(&mut self, key: &ObjectKey, report: &Report) -> Option<ConditionUpdate> {
        const TYPE: ConditionType = ConditionType::Programmed;
        // A RelayPolicy that is refused in part is in force for the rest, and so are a MailDomain whose scripts are and a
        // Mailbox whose forwarding is. What is not in force at all has no place.
        let in_force =
            matches!(key.kind, Kind::RelayPolicy | Kind::MailDomain | Kind::Mailbox) || report.verdict.is_accepted();
        let Some((server, _)) = self.directory.place(key).filter(|_| in_force) else {
            let message = format!("The {} is not in force, see Accepted.", key.kind);
            return Some(ConditionUpdate::unknown(TYPE, Reason::Pending, message));
        };
        let accepted = self.directory.accepted_server(&server).is_some();
        let is_new = self.objects.get(key).is_none_or(|live| live.status.conditions().is_empty());
        let state = self.servers.entry(server.clone()).or_default();
        let unwritten = !state.has_written(key);
        let moment = state.underway_since(key).map(|since| since + GRACE).filter(|until| Instant::now() < *until);
        if unwritten && !accepted {
            let message = format!(
                "MailServer {server} is not accepted, see its conditions; until it is, what runs stays as it is."
            );
            return Some(ConditionUpdate::unknown(TYPE, Reason::Propagating, message));
        }
        if unwritten && self.directory.server(&server).is_some_and(|entry| entry.spec.is_paused()) {
            let message = format!(
                "MailServer {server} is paused (spec.operations.paused); until it is resumed, what runs stays as it is."
            );
            return Some(ConditionUpdate::unknown(TYPE, Reason::Propagating, message));
        }
        // What lies in the configuration stays in force, whatever becomes of the next one.
        if let Some(failure) = state.failure.as_ref().filter(|_| unwritten || key.kind == Kind::MailServer) {
            state.held.insert(key.clone());
            let message = format!("The configuration could not be written: {}", failure.message);
            return Some(ConditionUpdate::unknown(TYPE, Reason::Propagating, message));
        }
        if let Some(failure) = state.workload_failure.as_ref().filter(|_| key.kind == Kind::MailServer) {
            let message = format!("An object of the server could not be written: {}", failure.message);
            return Some(ConditionUpdate::unknown(TYPE, Reason::Propagating, message));
        }
        let asked = self.observed.get(&server).is_none_or(super::pods::Observed::asked);
        if unwritten || !asked {
            state.held.insert(key.clone());
            if let Some(until) = moment {
                self.timers.set_by(Timer::Held(server), until);
                return None;
            }
            let message = "The configuration with it is being written.";
            return is_new.then(|| ConditionUpdate::unknown(TYPE, Reason::Pending, message));
        }
        let need = state.needs.get(key).map(|underway| underway.need.clone());
        let update = self.where_it_stands(key, &server, need);
        // What arrives in a moment is told once.
        if let Some(until) = moment.filter(|_| update.reason == Reason::Propagating && key.kind != Kind::MailServer) {
            self.server_state(&server).held.insert(key.clone());
            self.timers.set_by(Timer::Held(server), until);
            return None;
        }
        Some(update)
    }

    fn where_it_stands(
        &self,
        key: &ObjectKey,
        server: &NamespacedName,
        need: Option<crate::controllers::propagation::Need>,
    ) -> ConditionUpdate {
        const TYPE: ConditionType = ConditionType::Programmed;
        let of_server = key.kind == Kind::MailServer;
        if self.is_carried_over(key, server) {
            return ConditionUpdate::yes(TYPE, Reason::Programmed, "Every ready pod serves it.");
        }
        let refusal = self.refusal(server);
        let ready = self.observed.get(server).map_or(0, |observed| observed.ready().count());
        match (need, refusal) {
            // What has arrived stays arrived, whatever becomes of the pods; the MailServer itself says how they are.
            (None, _) if !of_server => ConditionUpdate::yes(TYPE, Reason::Programmed, "Every ready pod serves it."),
            (_, Some((pod, words))) => ConditionUpdate::no(
                TYPE,
                Reason::ReplicaRejected,
                format!("Pod {pod} refused the configuration and serves the last good one: {words}"),
            ),
            (_, None) if ready == 0 => {
                let message = format!("No pod of MailServer {} is ready.", server.name);
                ConditionUpdate::no(TYPE, Reason::NoReadyReplicas, message)
            }
            (None, None) => ConditionUpdate::yes(TYPE, Reason::Programmed, "Every ready pod serves it."),
            (Some(need), None) => {
                let (arrived, ready) = self.arrived(server, &need);
                let message = format!("{arrived} of {ready} replicas serve it.");
                if arrived == ready {
                    ConditionUpdate::yes(TYPE, Reason::Programmed, "Every ready pod serves it.")
                } else {
                    ConditionUpdate::unknown(TYPE, Reason::Propagating, message)
                }
            }
        }
    }

    /// Whether the object had arrived before this process began, and nothing has changed about it since then.
    fn is_carried_over(&self, key: &ObjectKey, server: &NamespacedName) -> bool {
        let carried = self.servers.get(server).is_some_and(|state| state.carried.contains(key));
        let Some(live) = self.objects.get(key).filter(|_| carried) else { return false };
        let generation = self.directory.report(key).map(|report| report.generation);
        conditions::find(&live.status.conditions(), ConditionType::Programmed)
            .is_some_and(|condition| condition.status == "True" && condition.observed_generation == generation)
    }

    /// The first pod that refuses the newest configuration, and its words.
    fn refusal(&self, server: &NamespacedName) -> Option<(String, String)> {
        let revision = self.servers.get(server)?.revision.as_ref();
        self.observed.get(server)?.refusal(revision, Instant::now())
    }

    /// How many mailboxes wait for their Secrets to be read and hashed, when that takes a while. The number moves each ten
    /// seconds, however many are read in between.
    fn progress(&mut self, server: &NamespacedName) -> String {
        let now = Instant::now();
        let left = self.directory.pending_count(server);
        let all = self.directory.record_count(server);
        let state = self.server_state(server);
        if left < MANY_UNREAD {
            state.unread_told = None;
            return String::new();
        }
        let told = match state.unread_told {
            Some((told, at)) if now < at + PROGRESS_TOLD => told,
            _ => left,
        };
        if state.unread_told.is_none_or(|(_, at)| now >= at + PROGRESS_TOLD) {
            state.unread_told = Some((left, now));
            self.timers.set_by(Timer::Status(ObjectKey::new(Kind::MailServer, server.clone())), now + PROGRESS_TOLD);
        }
        format!(
            " Passwords are being hashed: {told} of {all} mailboxes and aliases wait for it, and cannot log in until then."
        )
    }

    fn facts(&self, key: &ObjectKey) -> Facts {
        match key.kind {
            Kind::MailServer => {
                self.server_facts(&key.name).map_or(Facts::None, |facts| Facts::Server(Box::new(facts)))
            }
            Kind::MailDomain => Facts::Domain(Box::new(self.domain_facts(&key.name))),
            Kind::Mailbox => {
                let spec = self.directory.mailbox(&key.name).map(|entry| &entry.spec);
                let source = spec.and_then(|spec| spec.credentials.as_ref()?.source());
                let server = self.directory.place(key).and_then(|(server, _)| self.servers.get(&server));
                Facts::Mailbox {
                    generated: matches!(source, Some(CredentialSource::Generate(_))),
                    written: server.is_some_and(|state| state.has_written(key)),
                }
            }
            Kind::MailAlias | Kind::RelayPolicy => Facts::None,
        }
    }

    fn server_facts(&self, server: &NamespacedName) -> Option<ServerFacts> {
        let spec = &self.directory.server(server)?.spec;
        let state = self.servers.get(server);
        let observed = self.observed.get(server);
        let pods: Vec<&Pod> =
            observed.iter().flat_map(|observed| observed.pods.values()).map(|state| &state.pod).collect();
        let set = observed.and_then(|observed| observed.set.as_ref());
        let service = observed.and_then(|observed| observed.service.as_ref());
        let judged = state.and_then(|state| state.certificate.clone());
        let certificate = judged.as_ref().and_then(|judged| {
            Some(CertificateStatus { not_after: Time(judged.not_after?), names: judged.names.clone() })
        });
        let mut updates = vec![judged.unwrap_or_else(Judged::unknown).condition];
        updates.extend(availability::conditions(spec, set, &pods));
        updates.extend(self.exposure_updates(server));
        updates.extend(self.reverse_verdict(server));
        let revision = state.filter(|state| !self.is_moving(server, state)).and_then(|state| state.revision.clone());
        let configuration = revision.map(|revision| ConfigurationStatus {
            replicas_programmed: observed.map_or(0, |observed| {
                let serving = observed.ready().filter(|(_, pod)| {
                    pod.configz().is_some_and(|configz| configz.revision.as_ref() == Some(&revision))
                });
                i32::try_from(serving.count()).unwrap_or(i32::MAX)
            }),
            revision,
        });
        let ready = pods.iter().filter(|pod| availability::is_ready(pod)).count();
        Some(ServerFacts {
            updates,
            paused: spec.is_paused(),
            replicas: i32::try_from(pods.len()).unwrap_or(i32::MAX),
            ready_replicas: i32::try_from(ready).unwrap_or(i32::MAX),
            selector: names::selector_text(&server.name),
            addresses: availability::addresses(service),
            configuration,
            certificate,
        })
    }

    /// Whether the configuration is on its way, or was told a moment ago: then the status stays with the revision that it
    /// has, and is looked at again.
    fn is_moving(&self, server: &NamespacedName, state: &super::servers::ServerState) -> bool {
        let now = Instant::now();
        let told = state.revisions_told.is_some_and(|told| now < told + REVISIONS_TOLD);
        let fresh = state.written_at.is_some_and(|written| now < written + GRACE);
        let serves =
            |pod: &super::pods::PodState| pod.configz().is_some_and(|configz| configz.revision == state.revision);
        let arrived = self.observed.get(server).is_none_or(|observed| observed.ready().all(|(_, pod)| serves(pod)));
        told || (fresh && !arrived)
    }

    pub(super) fn status_written(&mut self, written: StatusWritten) {
        self.status_busy.remove(&written.key);
        match written.result {
            Ok(Some(metadata)) => {
                self.api_server_answered();
                self.status_refused.forget(&written.key);
                let Some(live) = self.objects.get_mut(&written.key) else { return };
                let version = metadata.resource_version.unwrap_or_default();
                if let (Status::MailServer(told), Status::MailServer(was)) = (&written.status, &live.status.status())
                    && told.configuration != was.configuration
                    && let Some(state) = self.servers.get_mut(&written.key.name)
                {
                    let now = Instant::now();
                    state.revisions_told = Some(now);
                    self.timers.set(Timer::Status(written.key.clone()), now + REVISIONS_TOLD);
                }
                live.status = Remembered::new(written.status);
                if !is_older(&version, &live.version) {
                    live.version = version;
                }
                self.tell(&written.key, &written.before);
                // What has changed since the write began is looked at again.
                self.status_dirty.insert(written.key);
            }
            // It is gone; its watch will say so.
            Ok(None) => self.api_server_answered(),
            Err(error) => self.status_failed(written.key, &error),
        }
    }

    fn status_failed(&mut self, key: ObjectKey, error: &CallError) {
        self.api_server_failed(&key, error);
        let now = Instant::now();
        if error.failed() == Failed::Away {
            // After the pause another one's turn comes first: perhaps this is about this object after all.
            let next = self.hold_off.pausing(now).unwrap_or(now) + AWAY_RETRY;
            return self.timers.set(Timer::Status(key), next);
        }
        let (pause, is_news) = self.status_refused.refused(&key, error.to_string(), error.is_invalid());
        if is_news {
            tracing::warn!(object = %key, %error, "a status could not be written; it is tried ever more seldom");
        }
        self.timers.set(Timer::Status(key), now + pause);
    }

    /// An event when `Ready` has become something else.
    fn tell(&mut self, key: &ObjectKey, before: &[Condition]) {
        let Some(live) = self.objects.get(key) else { return };
        let present = live.status.conditions();
        let Some(ready) = conditions::find(&present, ConditionType::Ready) else { return };
        let was = conditions::find(before, ConditionType::Ready);
        let same = was.is_some_and(|was| was.status == ready.status && was.reason == ready.reason);
        if same || ready.status == "Unknown" {
            return;
        }
        // Tenants cannot silence what is said of the servers.
        if key.kind != Kind::MailServer && self.events.take(Instant::now()).is_err() {
            return;
        }
        let type_ = if ready.status == "True" { EventType::Normal } else { EventType::Warning };
        self.announce(key, type_, "Report", &ready.reason, &ready.message);
    }

    /// Publishes an event about an object, when it is its turn.
    pub(super) fn announce(&self, key: &ObjectKey, type_: EventType, action: &str, reason: &str, note: &str) {
        let Some(live) = self.objects.get(key) else { return };
        if key.name.name.len() > LONGEST_NAME_WITH_EVENTS {
            tracing::debug!(object = %key, reason, "its name leaves no room for the name of an event");
            return;
        }
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(bounded(note)),
            action: action.to_owned(),
            secondary: None,
        };
        let (recorder, reference, key) = (self.tools.recorder.clone(), reference(key, live), key.clone());
        let publications = Arc::clone(&self.publications);
        tokio::spawn(async move {
            let _turn = publications.acquire().await;
            if let Err(error) = within_deadline(recorder.publish(&event, &reference)).await {
                tracing::warn!(object = %key, event = event.reason, %error, "an event could not be published");
            }
        });
    }
}

/// What an event's note may hold.
fn bounded(message: &str) -> String {
    let end = message.floor_char_boundary(message.len().min(1024));
    message.get(..end).unwrap_or_default().to_owned()
}

fn reference(key: &ObjectKey, live: &Live) -> ObjectReference {
    let resource = status::resource(key.kind);
    ObjectReference {
        api_version: Some(resource.api_version),
        kind: Some(resource.kind),
        name: Some(key.name.name.clone()),
        namespace: Some(key.name.namespace.clone()),
        uid: Some(live.uid.clone()),
        resource_version: None,
        field_path: None,
    }
}

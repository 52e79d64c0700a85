//! The pods of a MailServer: what the watches say of them, what they serve, and how they are told that there is something
//! new.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use tokio::time::Instant;

use super::{Engine, Timer};
use crate::controllers::availability::is_ready;
use crate::controllers::configz::Configz;
use crate::controllers::input::Input;
use crate::controllers::server_worker;
use crate::directory::NamespacedName;
use crate::render::names;

/// How often a pod is asked while something is on its way to it, and how often otherwise.
pub(super) const POLL_EAGER: Duration = Duration::from_millis(100);
/// How many times in a row it is asked that often, and then twenty times more seldom, without anything new.
const EAGER_POLLS: u32 = 60;
const POLL_SLOW: Duration = Duration::from_secs(15);
/// How long a pod may have an old revision before it is nudged again.
const NUDGE_AGAIN: Duration = Duration::from_secs(3);
/// How often it is nudged for one revision; the kubelet looks by itself each minute.
const MOST_NUDGES: u32 = 5;
/// How long a pod may refuse a configuration before that counts: files of one set arrive one after the other.
const REJECTION: Duration = Duration::from_secs(5);

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
    /// Has the kubelet refresh the volume of a pod that does not serve the newest revision.
    pub(super) fn nudge(&mut self, server: &NamespacedName, pod: &NamespacedName, now: Instant) {
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
}

//! How servers stand towards the world: when they are looked at, and what is made of it (see [`crate::exposure`]).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::events::EventType;
use paquebot_config::RelaySource;
use paquebot_crds::Kind;
use paquebot_crds::conditions::{self, ConditionStatus, ConditionType, ConditionUpdate, Reason};
use paquebot_crds::mail_server::{Listener, Protocol, ProxyProtocolMode};
use tokio::time::Instant;

use super::pods::PodState;
use super::{Engine, Timer};
use crate::controllers::exposure_worker::{self, Look, Looked, Probe, ProbePort};
use crate::controllers::input::Input;
use crate::controllers::propagation::Need;
use crate::controllers::token::Token;
use crate::directory::{NamespacedName, ObjectKey};
use crate::exposure::dialogue::{Finding, Plan};
use crate::exposure::relay_closed::{RelayClosed, Standing};
use crate::exposure::schedule::{AFTER_CHANGE, Outcome, ProbeSchedule};
use crate::exposure::source_address::{SourceAddress, balancers, way};
use crate::render::ports::container_ports;

/// How soon pods that have become ready are looked at.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// The probe's name in EHLO; nobody has it (RFC 2606).
const NAME: &str = "operator.paquebot.invalid";

/// What is known of one MailServer.
#[derive(Default)]
pub struct ExposureState {
    source: SourceAddress,
    said: Option<ConditionUpdate>,
    closed: RelayClosed,
    token: Option<Token>,
    looking: bool,
    scheduled: bool,
    probes: ProbeSchedule,
}

/// Whether a stranger may try to relay there: for submission everybody has to authenticate, whatever relay rules say.
fn is_probed(listener: &Listener) -> bool {
    listener.protocol == Protocol::Smtp
}

impl Engine {
    /// What the MailServer's status says of it.
    pub(super) fn exposure_updates(&self, server: &NamespacedName) -> Vec<ConditionUpdate> {
        let Some(state) = self.exposures.get(server) else { return Vec::new() };
        state.said.iter().chain(state.closed.condition()).cloned().collect()
    }

    /// Judges anew whether clients keep their addresses: the Service, the listeners, the cluster's addresses or what was
    /// seen may have changed.
    pub(super) fn refresh_exposure(&mut self, server: &NamespacedName) {
        let now = Instant::now();
        let Some(entry) = self.directory.server(server) else { return };
        let ranges = self.directory.cluster_ranges();
        let service = self.observed.get(server).and_then(|observed| observed.service.as_ref());
        let way = service.map(|service| way(service, &entry.spec.listeners, ranges));
        let carried = || {
            let key = ObjectKey::new(Kind::MailServer, server.clone());
            let live = self.objects.get(&key)?;
            let conditions = live.status.conditions();
            let condition = conditions::find(&conditions, ConditionType::SourceIPPreserved)?;
            let age = Timestamp::now().duration_since(condition.last_transition_time.0);
            let age = Duration::try_from(age).unwrap_or_default();
            let since = now.checked_sub(age).unwrap_or(now);
            Some(SourceAddress::carried(Reason::from_word(&condition.reason)?, condition.message.clone(), since))
        };
        let state = self
            .exposures
            .entry(server.clone())
            .or_insert_with(|| ExposureState { source: carried().unwrap_or_default(), ..ExposureState::default() });
        state.source.set_way(way, now);
        let said = state.source.condition(ranges, now);
        let preserved = said.status == ConditionStatus::True;
        if state.said.as_ref() != Some(&said) {
            state.said = Some(said);
            self.status_dirty.insert(ObjectKey::new(Kind::MailServer, server.clone()));
        }
        let changes = self.directory.set_source_preserved(server, preserved);
        self.absorb(changes);
    }

    pub(super) fn refresh_exposures(&mut self) {
        let servers: Vec<NamespacedName> = self.directory.servers().cloned().collect();
        for server in servers {
            self.refresh_exposure(&server);
        }
    }

    pub(super) fn forget_exposure(&mut self, server: &NamespacedName) {
        self.exposures.remove(server);
        self.count_open_relays();
    }

    /// The relay rules have changed, or the ports.
    pub(super) fn probe_soon(&mut self, server: &NamespacedName, now: Instant) {
        let Some(state) = self.exposures.get_mut(server) else { return };
        state.probes.soon();
        state.scheduled = true;
        self.timers.set_by(Timer::Exposure(server.clone()), now + AFTER_CHANGE);
    }

    /// Looks at a server as soon as there is something to look at, or what a probe has waited for.
    pub(super) fn look_when_ready(&mut self, server: &NamespacedName) {
        let Some(state) = self.exposures.get(server).filter(|state| !state.looking) else { return };
        let ready = match (state.scheduled, state.probes.is_waiting()) {
            (false, _) => self.observed.get(server).is_some_and(|observed| observed.ready().next().is_some()),
            (true, true) => self.pods_to_look_at(server).1.is_some(),
            (true, false) => false,
        };
        let Some(state) = self.exposures.get_mut(server).filter(|_| ready) else { return };
        state.scheduled = true;
        self.timers.set_by(Timer::Exposure(server.clone()), Instant::now() + FIRST_LOOK);
    }

    pub(super) fn exposure_due(&mut self, server: &NamespacedName) {
        let now = Instant::now();
        let (pods, rules) = self.pods_to_look_at(server);
        let due = self.exposures.get(server).is_some_and(|state| state.probes.is_due(now));
        let probe = if due && rules.is_some() { self.probe(server) } else { None };
        let Some(state) = self.exposures.get_mut(server) else { return };
        state.scheduled = false;
        if state.looking || pods.is_empty() {
            return;
        }
        state.looking = true;
        state.probes.begin();
        self.tools
            .metrics
            .relay_probes
            .inc_by(probe.as_ref().map_or(0, |probe| (probe.ports.len() * pods.len()) as u64));
        let look = Look { server: server.clone(), token: state.token.clone(), pods, rules, probe };
        let (client, poller) = (self.tools.client.clone(), self.tools.poller.clone());
        self.start(async move { Input::Exposure(Box::new(exposure_worker::run(client, poller, look).await)) });
    }

    /// The ready pods with their addresses, and the relay rules and ports that they all serve, if those are written as they are
    /// now. What else is on its way to the pods does not matter: mailboxes may change all the time.
    fn pods_to_look_at(&self, server: &NamespacedName) -> (Vec<(NamespacedName, IpAddr)>, Option<[Need; 2]>) {
        let Some(observed) = self.observed.get(server).filter(|_| self.is_synced()) else { return (Vec::new(), None) };
        let pods = observed.ready().filter_map(|(name, pod)| Some((name.clone(), pod.address()?))).collect();
        let rules = self.servers.get(server).and_then(|state| {
            let rules = state.written_rules()?;
            let serves = |pod: &PodState| pod.configz().is_some_and(|configz| state.serves_rules(configz, &rules));
            observed.ready().all(|(_, pod)| serves(pod)).then_some(rules)
        });
        (pods, rules)
    }

    /// What is asked, and where: at the ports for other servers. `None`: there are none.
    fn probe(&self, server: &NamespacedName) -> Option<Probe> {
        let entry = self.directory.accepted_server(server)?;
        let listeners = &entry.spec.listeners;
        let trusted = |listener: &Listener| {
            let proxy = &listener.proxy_protocol;
            let required = proxy.mode == ProxyProtocolMode::Required;
            required.then(|| proxy.trusted_cidrs.iter().map(paquebot_crds::Cidr::network).collect())
        };
        let ports: Vec<ProbePort> = listeners
            .iter()
            .zip(container_ports(listeners))
            .filter(|(listener, _)| is_probed(listener))
            .map(|(listener, port)| ProbePort { listener: listener.name.clone(), port, trusted: trusted(listener) })
            .collect();
        // Nobody can serve a domain that nobody knew before, so that a recipient in it is always one elsewhere.
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).ok()?;
        let domain = format!("{:016x}.invalid", u64::from_be_bytes(random));
        // An open relay may be open only to who borrows the name of a domain that is served.
        let served = self.directory.domain_configs(server, None).next();
        let borrowed = served.map(|config| format!("postmaster@{}", config.domain));
        let senders = [Some(format!("probe@{domain}")), borrowed].into_iter().flatten().collect();
        let plan = Plan { name: NAME.to_owned(), senders, recipient: format!("probe@{domain}") };
        (!ports.is_empty()).then_some(Probe { plan, ports })
    }

    pub(super) fn exposure_looked(&mut self, looked: Looked) {
        let (now, server) = (Instant::now(), &looked.server);
        let addresses: BTreeSet<IpAddr> = looked
            .peers
            .iter()
            .flat_map(|peers| &peers.listeners)
            .flat_map(|listener| &listener.peers)
            .map(|peer| peer.address.to_canonical())
            .collect();
        let mut known = self.directory.known_around(&addresses);
        let service = self.observed.get(server).and_then(|observed| observed.service.as_ref());
        known.balancers = service.map(balancers).unwrap_or_default();
        // What has changed in the meantime makes a finding one about the past.
        let current = looked.rules.is_some() && self.pods_to_look_at(server).1 == looked.rules;
        let admitted = self.admitted_by_rules(server, &looked.own);
        let portless =
            self.directory.accepted_server(server).is_some_and(|entry| !entry.spec.listeners.iter().any(is_probed));
        let Some(state) = self.exposures.get_mut(server) else { return };
        state.looking = false;
        state.token = looked.token;
        for peers in &looked.peers {
            state.source.observe(peers, &known, now);
        }
        let (before, stood) = (state.closed.condition().cloned(), state.closed.standing());
        let current = current && !state.probes.has_changed();
        let outcome = match &looked.probed {
            Some(probed) if current => {
                state.closed.take(probed, &admitted);
                let unclear = probed.iter().any(|probed| matches!(probed.finding, Finding::Unclear(_)));
                Outcome::Counts { unclear }
            }
            Some(_) => Outcome::TooEarly,
            None if !state.probes.is_due(now) => Outcome::NotDue,
            None if looked.rules.is_some() => Outcome::NothingThere,
            None => Outcome::TooEarly,
        };
        state.probes.end(outcome, now);
        // The pods' rules are the newest, but perhaps others by the time that the look has ended.
        if portless && current {
            state.closed.nothing_there();
        }
        let (after, stands) = (state.closed.condition().cloned(), state.closed.standing());
        self.refresh_exposure(server);
        self.schedule_look(server, now);
        if before != after {
            self.status_dirty.insert(ObjectKey::new(Kind::MailServer, server.clone()));
            self.count_open_relays();
        }
        if let Some(after) = after.filter(|_| stood != stands) {
            self.tell_of_probe(server, stands, &after);
        }
    }

    fn schedule_look(&mut self, server: &NamespacedName, now: Instant) {
        let Some(state) = self.exposures.get_mut(server) else { return };
        let proven = state.said.as_ref().is_some_and(|said| said.status != ConditionStatus::Unknown);
        let next = state.probes.next_look(proven, now);
        state.scheduled = true;
        self.timers.set_by(Timer::Exposure(server.clone()), now + next);
    }

    /// Those of the operator's addresses that a relay rule of the server admits.
    fn admitted_by_rules(&self, server: &NamespacedName, own: &[IpAddr]) -> Vec<IpAddr> {
        let admits = |address: &IpAddr| {
            self.directory.relay_rules(server).any(|rule| {
                rule.from.iter().any(|source| match source {
                    RelaySource::Networks(networks) => networks.iter().any(|network| network.contains(address)),
                    _ => false,
                })
            })
        };
        own.iter().copied().filter(admits).collect()
    }

    fn count_open_relays(&self) {
        let count = |standing: Standing| {
            let count = self.exposures.values().filter(|state| state.closed.standing() == standing).count();
            i64::try_from(count).unwrap_or(i64::MAX)
        };
        self.tools.metrics.open_relays.set(count(Standing::Open));
        self.tools.metrics.blind_probes.set(count(Standing::Blind));
    }

    /// A warning when a server has become an open relay, or one of which nobody can tell.
    fn tell_of_probe(&self, server: &NamespacedName, stands: Standing, after: &ConditionUpdate) {
        match stands {
            Standing::Open => tracing::error!(%server, finding = after.message, "a server is an open relay"),
            Standing::Blind => tracing::warn!(%server, finding = after.message, "the probe for an open relay is blind"),
            Standing::Neither => return,
        }
        let key = ObjectKey::new(Kind::MailServer, server.clone());
        self.announce(&key, EventType::Warning, "Probe", after.reason.as_str(), &after.message);
    }
}

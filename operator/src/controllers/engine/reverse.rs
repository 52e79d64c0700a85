//! Reverse DNS of MailServers: when the names of a server's addresses are looked at, and what is reported.

use std::time::Duration;

use paquebot_crds::Kind;
use paquebot_crds::conditions::{self, ConditionUpdate};
use paquebot_crds::mail_server::DnsMode;
use tokio::time::Instant;

use super::{Engine, Timer};
use crate::controllers::availability::dns_addresses;
use crate::controllers::dns_worker::{LookedBack, Whom};
use crate::controllers::input::Input;
use crate::directory::{NamespacedName, ObjectKey};
use crate::dns::reverse::{self, Reverse};
use crate::dns::schedule::{Outcome, Schedule};
use crate::jitter::jitter;

/// The most that the first look after a change waits.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How soon it is tried again when nobody could be asked.
const RETRY: Duration = Duration::from_secs(30);

/// What is known of one server's addresses.
pub struct ReverseState {
    /// What is looked at, or what is reported without a look.
    wanted: Result<Reverse, ConditionUpdate>,
    schedule: Schedule,
    busy: bool,
    verdict: Option<ConditionUpdate>,
}

impl Engine {
    /// A MailServer or its Service has changed.
    pub(super) fn refresh_reverse(&mut self, server: &NamespacedName) {
        let Some(spec) = self.directory.server(server).map(|entry| &entry.spec) else {
            self.forget_reverse(server);
            return;
        };
        let service = self.observed.get(server).and_then(|observed| observed.service.as_ref());
        let wanted = match spec.dns.mode {
            DnsMode::Disabled => Err(reverse::disabled()),
            DnsMode::Report | DnsMode::ExternalDNS => reverse::wanted(spec.hostname.as_str(), &dns_addresses(service)),
        };
        if self.reverse.get(server).is_some_and(|state| state.wanted == wanted) {
            return;
        }
        let timer = Timer::Reverse(server.clone());
        match &wanted {
            Ok(_) => self.timers.set(timer, Instant::now() + FIRST_LOOK.mul_f64(jitter())),
            Err(_) => self.timers.clear(&timer),
        }
        let verdict = wanted.as_ref().err().cloned();
        let state = ReverseState { wanted, schedule: Schedule::default(), busy: false, verdict };
        self.reverse.insert(server.clone(), state);
        self.status_dirty.insert(ObjectKey::new(Kind::MailServer, server.clone()));
    }

    pub(super) fn forget_reverse(&mut self, server: &NamespacedName) {
        self.reverse.remove(server);
        self.timers.clear(&Timer::Reverse(server.clone()));
    }

    /// `ReverseDNSReady`; absent while nobody has looked and what the status says may still be so.
    pub(super) fn reverse_verdict(&self, server: &NamespacedName) -> Option<ConditionUpdate> {
        self.reverse.get(server).and_then(|state| state.verdict.clone())
    }

    /// Starts a look.
    pub(super) fn look_back(&mut self, server: &NamespacedName) {
        let whom = self.directory.server(server).map(|entry| Whom::new(&entry.spec.dns));
        let (Some(whom), Some(state)) = (whom, self.reverse.get_mut(server)) else { return };
        let Some(wanted) = state.wanted.as_ref().ok().filter(|_| !state.busy).cloned() else { return };
        state.busy = true;
        let (worker, server) = (self.dns.clone(), server.clone());
        self.start(async move { Input::LookedBack(Box::new(worker.look_back(server, wanted, whom).await)) });
    }

    pub(super) fn looked_back(&mut self, looked: LookedBack) {
        let server = looked.server;
        let interval = self.directory.server(&server).map(|entry| entry.spec.dns.verify_interval.to_std());
        let (Some(interval), Some(state)) = (interval, self.reverse.get_mut(&server)) else { return };
        // It was asked before a change, whose own look is due already.
        if state.wanted.as_ref() != Ok(&looked.wanted) {
            return;
        }
        state.busy = false;
        let now = Instant::now();
        let verdict = match looked.seen {
            Ok(seen) => reverse::verdict(&looked.wanted, &seen),
            Err(error) => {
                tracing::warn!(%server, error, "DNS cannot be asked");
                self.tools.metrics.errors.inc();
                self.timers.set(Timer::Reverse(server), now + RETRY);
                return;
            }
        };
        let key = ObjectKey::new(Kind::MailServer, server.clone());
        let present = self.objects.get(&key).map(|live| live.status.conditions()).unwrap_or_default();
        let was_right = |verdict: &ConditionUpdate| conditions::is_true(&present, verdict.condition_type);
        if state.schedule.absorb(std::slice::from_ref(&verdict), was_right) == Outcome::Report {
            state.verdict = Some(verdict);
            self.status_dirty.insert(key);
        }
        let delay = state.schedule.delay(interval, false, jitter());
        self.timers.set(Timer::Reverse(server), now + delay);
    }
}

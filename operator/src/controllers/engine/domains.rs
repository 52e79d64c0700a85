//! DNS of MailDomains: when a domain is looked at, and what of it is reported.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use paquebot_crds::Kind;
use paquebot_crds::conditions::{self, ConditionUpdate};
use paquebot_crds::mail_domain::DnsStatus;
use paquebot_crds::mail_server::{DnsMode, ServerDns};
use tokio::time::Instant;

use super::{Engine, Timer};
use crate::controllers::availability::dns_addresses;
use crate::controllers::dns_worker::{Looked, resolver_addresses};
use crate::controllers::input::Input;
use crate::controllers::status::{DnsFacts, unseen_records};
use crate::directory::{NamespacedName, ObjectKey};
use crate::dns::compare::{Comparison, compare, disabled};
use crate::dns::schedule::{Outcome, Schedule};
use crate::dns::wanted::{Wanted, wanted};
use crate::dns::zone::zone_file;

/// The most that the first looks after a change are spread: an owner waits for them.
const FIRST_LOOK: Duration = Duration::from_millis(300);
/// By how much more for each domain that there is, so that a restart does not ask about thousands at once.
const SPREAD_PER_DOMAIN: Duration = Duration::from_millis(10);

/// What is known of one domain's records.
pub struct DomainState {
    wanted: Wanted,
    schedule: Schedule,
    busy: bool,
    /// What is to be reported; absent while nobody has looked.
    pub facts: Option<DnsFacts>,
}

/// A number in 0..1 that differs from domain to domain and from time to time.
fn jitter(key: &impl Hash) -> f64 {
    let hash = RandomState::new().hash_one(key);
    f64::from(u32::try_from(hash & 0xffff).unwrap_or_default()) / 65_536.0
}

impl Engine {
    /// A MailDomain, its server or the server's address has changed.
    pub(super) fn refresh_dns(&mut self, domain: &NamespacedName) {
        let Some((wanted, dns)) = self.wanted_records(domain) else {
            self.forget_dns(domain);
            return;
        };
        let off = self.dns_mode(domain, &dns) == DnsMode::Disabled;
        let present = self.domains.get(domain).filter(|state| state.wanted == wanted);
        if present.is_some_and(|state| off == self.is_off(state)) {
            return;
        }
        self.status_dirty.insert(ObjectKey::new(Kind::MailDomain, domain.clone()));
        let zone = Some(zone_file(&wanted));
        // What was seen of other records says nothing about these. At the start nobody has looked yet, and what the status
        // says is carried over.
        let seen_before = self.domains.get(domain).is_some_and(|state| state.facts.is_some());
        let updates = match (off, seen_before) {
            (true, _) => Some(disabled()),
            (false, true) => Some(unseen_records("The records are looked up again: others are wanted now.")),
            (false, false) => None,
        };
        let status = DnsStatus { zone_file: zone, ..DnsStatus::default() };
        let facts = updates.map(|updates| DnsFacts { updates, dns: status });
        let state = DomainState { wanted, schedule: Schedule::default(), busy: false, facts };
        let spread = FIRST_LOOK + SPREAD_PER_DOMAIN * u32::try_from(self.domains.len()).unwrap_or(u32::MAX);
        self.domains.insert(domain.clone(), state);
        if off {
            self.timers.clear(&Timer::Dns(domain.clone()));
        } else {
            let delay = spread.min(dns.verify_interval.to_std()).mul_f64(jitter(domain));
            self.timers.set(Timer::Dns(domain.clone()), Instant::now() + delay);
        }
    }

    fn is_off(&self, state: &DomainState) -> bool {
        state.facts.as_ref().is_some_and(|facts| facts.updates == disabled())
    }

    pub(super) fn refresh_domains_of(&mut self, server: &NamespacedName) {
        let domains: Vec<NamespacedName> =
            self.directory.accepted_domains(server).map(|domain| domain.name.clone()).collect();
        for domain in domains {
            self.refresh_dns(&domain);
        }
    }

    pub(super) fn forget_dns(&mut self, domain: &NamespacedName) {
        self.domains.remove(domain);
        self.timers.clear(&Timer::Dns(domain.clone()));
    }

    fn wanted_records(&self, domain: &NamespacedName) -> Option<(Wanted, ServerDns)> {
        let (server, _) = self.directory.place(&ObjectKey::new(Kind::MailDomain, domain.clone()))?;
        let spec = &self.directory.domain(domain)?.spec;
        let server_spec = &self.directory.server(&server)?.spec;
        let service = self.observed.get(&server).and_then(|observed| observed.service.as_ref());
        let hostname = server_spec.hostname.as_str();
        let wanted = wanted(spec.domain.as_str(), &spec.dns, hostname, dns_addresses(service));
        Some((wanted, server_spec.dns.clone()))
    }

    fn dns_mode(&self, domain: &NamespacedName, server: &ServerDns) -> DnsMode {
        self.directory.domain(domain).and_then(|entry| entry.spec.dns.mode).unwrap_or(server.mode)
    }

    /// Starts a look.
    pub(super) fn look(&mut self, domain: &NamespacedName) {
        let Some((_, dns)) = self.wanted_records(domain) else { return };
        let Some(state) = self.domains.get_mut(domain).filter(|state| !state.busy) else { return };
        state.busy = true;
        let (worker, wanted, domain) = (self.dns.clone(), state.wanted.clone(), domain.clone());
        let resolvers = resolver_addresses(&dns.resolvers);
        self.tools.metrics.dns_looks.inc();
        self.start(async move { Input::Looked(Box::new(worker.look(domain, wanted, resolvers).await)) });
    }

    pub(super) fn looked(&mut self, looked: Looked) {
        let Some(state) = self.domains.get_mut(&looked.domain) else { return };
        state.busy = false;
        let off = state.facts.as_ref().is_some_and(|facts| facts.updates == disabled());
        if state.wanted != looked.wanted || off {
            // It was asked before a change; the timer of the change is set already.
            return;
        }
        let seen = match looked.seen {
            Ok(seen) => seen,
            Err(error) => {
                tracing::warn!(domain = %looked.domain, error, "DNS cannot be asked");
                self.tools.metrics.errors.inc();
                self.timers.set(Timer::Dns(looked.domain), Instant::now() + Duration::from_secs(30));
                return;
            }
        };
        let comparison = compare(&looked.wanted, &seen);
        let key = ObjectKey::new(Kind::MailDomain, looked.domain.clone());
        let present = self.objects.get(&key).map(|live| live.status.conditions()).unwrap_or_default();
        let was_right = |verdict: &ConditionUpdate| conditions::is_true(present, verdict.condition_type);
        if state.schedule.absorb(&comparison.verdicts, was_right) == Outcome::Report {
            state.facts = Some(facts(&looked.wanted, seen.nameservers, comparison));
            self.status_dirty.insert(key);
        }
        let schedule = state.schedule.clone();
        if let Some((_, dns)) = self.wanted_records(&looked.domain) {
            let delay = schedule.delay(dns.verify_interval.to_std(), jitter(&looked.domain));
            self.timers.set(Timer::Dns(looked.domain), Instant::now() + delay);
        }
    }
}

fn facts(wanted: &Wanted, mut nameservers: Vec<String>, comparison: Comparison) -> DnsFacts {
    nameservers.truncate(16);
    let dns =
        DnsStatus { nameservers, last_verified: None, records: comparison.records, zone_file: Some(zone_file(wanted)) };
    DnsFacts { updates: comparison.verdicts, dns }
}

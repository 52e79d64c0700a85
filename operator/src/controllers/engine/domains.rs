//! DNS of MailDomains: when a domain is looked at, and what of it is reported.

use std::time::Duration;

use paquebot_crds::conditions::{self, ConditionStatus, ConditionType, ConditionUpdate, Reason};
use paquebot_crds::mail_domain::DnsStatus;
use paquebot_crds::mail_server::{DnsMode, ServerDns};
use paquebot_crds::{Kind, MailDomainStatus};
use tokio::time::Instant;

use super::{Engine, Timer};
use crate::controllers::availability::dns_addresses;
use crate::controllers::dns_worker::{Looked, Whom};
use crate::controllers::input::Input;
use crate::controllers::status::{DnsFacts, DomainFacts, Status, unseen_records};
use crate::directory::{NamespacedName, ObjectKey};
use crate::dns::compare::{Comparison, compare, disabled};
use crate::dns::ownership::{self, Proof};
use crate::dns::schedule::{Outcome, Schedule};
use crate::dns::wanted::{LookedAt, Wanted, wanted};
use crate::dns::zone::zone_file;
use crate::jitter::jitter;

/// The most that the first looks after a change are spread: an owner waits for them.
const FIRST_LOOK: Duration = Duration::from_millis(300);
/// By how much more for each domain that there is, so that a restart does not ask about thousands at once.
const SPREAD_PER_DOMAIN: Duration = Duration::from_millis(10);

/// What is known of one domain's records.
pub struct DomainState {
    wanted: Wanted,
    schedule: Schedule,
    proof: Proof,
    busy: bool,
    /// What is to be reported of the records; absent while nobody has looked.
    facts: Option<DnsFacts>,
    /// What is to be reported of the proof; absent while nobody has looked.
    ownership: Option<ConditionUpdate>,
}

impl DomainState {
    /// The records that are wanted.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }
}

impl Engine {
    /// A MailDomain, its server or the server's address has changed.
    pub(super) fn refresh_dns(&mut self, domain: &NamespacedName) {
        let Some((wanted, dns)) = self.wanted_records(domain) else {
            self.forget_dns(domain);
            return;
        };
        let before = self.domains.get(domain);
        if before.is_some_and(|state| state.wanted == wanted) {
            // Nothing else is wanted, but perhaps in another way.
            self.refresh_endpoint(domain);
            return;
        }
        self.status_dirty.insert(ObjectKey::new(Kind::MailDomain, domain.clone()));
        // What was seen of other records says nothing about these. At the start nobody has looked yet, and what the status
        // says is carried over.
        let seen_before = before.is_some_and(|state| state.facts.is_some());
        let updates = match (wanted.looked_at, seen_before) {
            (LookedAt::Nothing | LookedAt::Ownership, _) => Some(disabled()),
            (LookedAt::Everything, true) => {
                Some(unseen_records("The records are looked up again: others are wanted now."))
            }
            (LookedAt::Everything, false) => None,
        };
        let status = DnsStatus { zone_file: Some(zone_file(&wanted)), ..DnsStatus::default() };
        let facts = updates.map(|updates| DnsFacts { updates, dns: status });
        let off = wanted.looked_at == LookedAt::Nothing;
        let delay = self.first_look(domain, &wanted, &dns);
        let (proof, ownership) = match self.domains.remove(domain) {
            Some(state) if state.wanted.challenge() == wanted.challenge() => (state.proof, state.ownership),
            _ => (Proof::new(self.directory.is_proven(domain)), None),
        };
        let state = DomainState { wanted, schedule: Schedule::default(), proof, busy: false, facts, ownership };
        self.domains.insert(domain.clone(), state);
        if off {
            self.timers.clear(&Timer::Dns(domain.clone()));
        } else {
            self.timers.set(Timer::Dns(domain.clone()), Instant::now() + delay);
        }
        self.refresh_endpoint(domain);
    }

    /// How long the first look at what is wanted now waits. Somebody may be waiting for a new domain; one that was right
    /// when another process looked last is looked at in its turn, so that a restart asks about no more domains at a time
    /// than any other minute.
    fn first_look(&self, domain: &NamespacedName, wanted: &Wanted, dns: &ServerDns) -> Duration {
        let interval = dns.verify_interval.to_std();
        let live = self.objects.get(&ObjectKey::new(Kind::MailDomain, domain.clone()));
        let settled = live.is_some_and(|live| match live.status.status() {
            Status::MailDomain(status) => {
                let same = status.dns.as_ref().and_then(|dns| dns.zone_file.as_ref()) == Some(&zone_file(wanted));
                let current = status.conditions.iter().all(|condition| condition.observed_generation.is_some());
                same && current && conditions::is_true(&status.conditions, ConditionType::DNSReady)
            }
            _ => false,
        });
        if settled && !self.domains.contains_key(domain) {
            return interval.mul_f64(jitter());
        }
        let spread = FIRST_LOOK + SPREAD_PER_DOMAIN * u32::try_from(self.domains.len()).unwrap_or(u32::MAX);
        spread.min(interval).mul_f64(jitter())
    }

    /// The MailDomains of a server, whether they are served or wait for their proof.
    pub(super) fn refresh_domains_of(&mut self, server: &NamespacedName) {
        let domains: Vec<NamespacedName> = self.directory.domains_of(server).cloned().collect();
        for domain in domains {
            self.refresh_dns(&domain);
        }
    }

    pub(super) fn forget_dns(&mut self, domain: &NamespacedName) {
        self.domains.remove(domain);
        self.timers.clear(&Timer::Dns(domain.clone()));
        self.forget_endpoint(domain);
    }

    /// What the status of a MailDomain says was seen of its proof before this process began still holds.
    pub(super) fn restore_proof(&mut self, domain: &NamespacedName, status: &Status) {
        let verified = conditions::find(status.conditions(), ConditionType::OwnershipVerified)
            .is_some_and(|condition| condition.reason == Reason::Verified.as_str());
        // Nobody could look it up; the records tell whether it was ever seen.
        let seen = verified || matches!(status, Status::MailDomain(status) if was_proven(status));
        if seen {
            let changes = self.directory.set_proven(domain, true);
            self.absorb(changes);
            // Where the MailServer was seen before, what is wanted of the domain was made without the proof.
            if let Some(state) = self.domains.get_mut(domain) {
                state.proof = Proof::new(true);
            }
        }
    }

    fn wanted_records(&self, domain: &NamespacedName) -> Option<(Wanted, ServerDns)> {
        let key = ObjectKey::new(Kind::MailDomain, domain.clone());
        let served = self.directory.place(&key).map(|(server, _)| server);
        let proof = self.directory.requires_proof(domain);
        let server = served.clone().or_else(|| self.directory.claimed_on(domain).filter(|_| proof))?;
        let entry = self.directory.domain(domain)?;
        let server_spec = &self.directory.server(&server)?.spec;
        let service = self.observed.get(&server).and_then(|observed| observed.service.as_ref());
        let hostname = server_spec.hostname.as_str();
        let name = entry.spec.domain.as_str();
        let mut wanted = wanted(name, &entry.spec.dns, hostname, dns_addresses(service));
        if proof {
            wanted = wanted.with_challenge(ownership::challenge(name, &domain.namespace, &entry.meta.uid));
        }
        let everything = served.is_some() || self.directory.waits_for_proof(domain);
        let off = entry.spec.dns.mode.unwrap_or(server_spec.dns.mode) == DnsMode::Disabled;
        let looked_at = match (everything && !off, proof) {
            (true, _) => LookedAt::Everything,
            (false, true) => LookedAt::Ownership,
            (false, false) => LookedAt::Nothing,
        };
        Some((wanted.looked_at(looked_at), server_spec.dns.clone()))
    }

    /// What the status of a MailDomain says of DNS.
    pub(super) fn domain_facts(&self, domain: &NamespacedName) -> DomainFacts {
        let state = self.domains.get(domain);
        let ownership = if self.directory.requires_proof(domain) {
            state.and_then(|state| state.ownership.clone()).or_else(|| self.unseen_proof(domain))
        } else {
            Some(ownership::not_required())
        };
        DomainFacts {
            ownership,
            records: state.and_then(|state| state.facts.clone()),
            remark: self.endpoint_remark(domain),
        }
    }

    /// What is said of a proof that nobody has looked for yet, unless the status speaks of it already.
    fn unseen_proof(&self, domain: &NamespacedName) -> Option<ConditionUpdate> {
        const TYPE: ConditionType = ConditionType::OwnershipVerified;
        let live = self.objects.get(&ObjectKey::new(Kind::MailDomain, domain.clone()))?;
        let conditions = live.status.conditions();
        let present = conditions::find(&conditions, TYPE);
        let speaks = present.is_some_and(|present| {
            [Reason::Verified, Reason::ChallengeMissing, Reason::LookupFailed]
                .iter()
                .any(|reason| present.reason == reason.as_str())
        });
        let message = "The record that proves the ownership has not been looked up yet.";
        (!speaks).then(|| ConditionUpdate::unknown(TYPE, Reason::Pending, message))
    }

    /// Looks at a domain's records, when it is its turn.
    pub(super) fn look(&mut self, domain: &NamespacedName) {
        if self.domains.get(domain).is_some_and(|state| !state.busy) {
            self.dns_turns.push(domain.clone());
            self.start_looks();
        }
    }

    fn start_looks(&mut self) {
        while let Some(domain) = self.dns_turns.start() {
            if !self.start_look(&domain) {
                self.dns_turns.done(&domain);
            }
        }
    }

    /// Starts a look; whether there is still something to look at.
    fn start_look(&mut self, domain: &NamespacedName) -> bool {
        let Some((_, dns)) = self.wanted_records(domain) else { return false };
        let is_due = |state: &&mut DomainState| !state.busy && state.wanted.looked_at != LookedAt::Nothing;
        let Some(state) = self.domains.get_mut(domain).filter(is_due) else { return false };
        state.busy = true;
        let (worker, wanted, domain) = (self.dns.clone(), state.wanted.clone(), domain.clone());
        let whom = Whom::new(&dns);
        self.tools.metrics.dns_looks.inc();
        self.start(async move { Input::Looked(Box::new(worker.look(domain, wanted, whom).await)) });
        true
    }

    pub(super) fn looked(&mut self, looked: Looked) {
        let domain = looked.domain;
        self.dns_turns.done(&domain);
        self.start_looks();
        let interval = self.wanted_records(&domain).map(|(_, dns)| dns.verify_interval.to_std());
        let (Some(state), Some(interval)) = (self.domains.get_mut(&domain), interval) else { return };
        // After a change another look may be under way; the timer of the change is set already.
        if state.wanted != looked.wanted || state.wanted.looked_at == LookedAt::Nothing {
            return;
        }
        state.busy = false;
        let now = Instant::now();
        let seen = match looked.seen {
            Ok(seen) => seen,
            Err(error) => {
                tracing::warn!(%domain, error, "DNS cannot be asked");
                self.tools.metrics.errors.inc();
                self.timers.set(Timer::Dns(domain), now + Duration::from_secs(30));
                return;
            }
        };
        let comparison = compare(&looked.wanted, &seen);
        let key = ObjectKey::new(Kind::MailDomain, domain.clone());
        let present = self.objects.get(&key).map(|live| live.status.conditions()).unwrap_or_default();
        let was_right = |verdict: &ConditionUpdate| conditions::is_true(&present, verdict.condition_type);
        let seen_of_proof = comparison.ownership.clone();
        let missing = seen_of_proof.as_ref().is_some_and(|verdict| verdict.status != ConditionStatus::True);
        state.ownership = seen_of_proof.map(|verdict| state.proof.absorb(verdict, interval, now));
        let proven = state.proof.is_held() && state.ownership.is_some();
        if state.schedule.absorb(&comparison.verdicts, was_right) == Outcome::Report {
            state.facts = Some(facts(&looked.wanted, seen.nameservers, comparison));
        }
        self.status_dirty.insert(key);
        let delay = state.schedule.delay(interval, missing, jitter());
        self.timers.set(Timer::Dns(domain.clone()), now + delay);
        if looked.wanted.challenge().is_some() {
            let changes = self.directory.set_proven(&domain, proven);
            self.absorb(changes);
        }
    }
}

/// Whether a status remembers a proof: the record was as wanted when it was seen last.
fn was_proven(status: &MailDomainStatus) -> bool {
    let unknown = conditions::find(&status.conditions, ConditionType::OwnershipVerified)
        .is_some_and(|condition| condition.reason == Reason::LookupFailed.as_str());
    unknown && conditions::find(&status.conditions, ConditionType::Accepted).is_some_and(|c| c.status == "True")
}

fn facts(wanted: &Wanted, mut nameservers: Vec<String>, comparison: Comparison) -> DnsFacts {
    nameservers.truncate(16);
    let dns =
        DnsStatus { nameservers, last_verified: None, records: comparison.records, zone_file: Some(zone_file(wanted)) };
    DnsFacts { updates: comparison.verdicts, dns }
}

//! `dns.mode: ExternalDNS`: which MailDomains have a `DNSEndpoint`, and what is said where they cannot.
//!
//! A MailDomain has one when its MailServer says so, or when it says so itself and its owner has proven that the domain is
//! theirs: otherwise everybody who may write a MailDomain could have external-dns write into any zone that it manages.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use paquebot_crds::Kind;
use paquebot_crds::mail_server::DnsMode;
use tokio::time::Instant;

use super::{Engine, Timer};
use crate::controllers::apply::Applied;
use crate::controllers::calls::CallError;
use crate::controllers::endpoints_worker::{API_VERSION, EndpointDone, Survey};
use crate::controllers::input::Input;
use crate::directory::{NamespacedName, ObjectKey};
use crate::dns::endpoint;

/// How often it is looked what is there: somebody may have installed the API, or touched what was written.
const SURVEY: Duration = Duration::from_mins(5);
/// How often where somebody waits for the API.
const MISSED: Duration = Duration::from_secs(30);
/// How soon a survey that failed is made again, and a `DNSEndpoint` written whose write failed for the first time.
const RETRY: Duration = Duration::from_secs(10);

/// What is known of all `DNSEndpoint`s.
#[derive(Default)]
pub struct Endpoints {
    /// Whether the API exists; absent while nobody has looked.
    exists: Option<bool>,
    /// What the last survey found, and its versions.
    live: HashMap<NamespacedName, String>,
    /// What was written.
    known: HashMap<NamespacedName, Applied>,
    busy: BTreeSet<NamespacedName>,
    /// Those that changed while they were busy.
    again: BTreeSet<NamespacedName>,
    failures: HashMap<NamespacedName, Failure>,
    /// Whether nobody could look when it was tried last.
    survey_failed: bool,
}

/// A `DNSEndpoint` that could not be written.
#[derive(Debug)]
struct Failure {
    message: String,
    /// How long it waits until it is tried again.
    wait: Duration,
}

impl Endpoints {
    /// Whether it is not known yet whether the API exists, and soon will be.
    fn is_unknown(&self) -> bool {
        self.exists.is_none() && !self.survey_failed
    }

    /// Notes what became of a write: whether there is something new to say, and how soon it is tried again.
    fn note(&mut self, domain: &NamespacedName, error: Option<String>) -> (bool, Option<Duration>) {
        let before = self.failures.remove(domain);
        let news = before.as_ref().map(|failure| &failure.message) != error.as_ref();
        let wait = before.map_or(RETRY, |failure| (failure.wait * 2).min(SURVEY));
        let Some(message) = error else { return (news, None) };
        self.failures.insert(domain.clone(), Failure { message, wait });
        (news, Some(wait))
    }
}

/// What is wanted of one MailDomain.
enum Want {
    Endpoint,
    /// It is asked for and not allowed.
    Forbidden,
    Nothing,
    /// The domain is not served now: what is published stays as it is.
    AsItIs,
}

impl Engine {
    fn endpoint_wanted(&self, domain: &NamespacedName) -> Want {
        let key = ObjectKey::new(Kind::MailDomain, domain.clone());
        let Some(entry) = self.directory.domain(domain) else { return Want::AsItIs };
        let server = self.directory.place(&key).and_then(|(server, _)| self.directory.server(&server));
        let own = entry.spec.dns.mode;
        match server.map(|server| server.spec.dns.mode) {
            None if own.is_some_and(|mode| mode != DnsMode::ExternalDNS) => Want::Nothing,
            None => Want::AsItIs,
            Some(mode) if own.unwrap_or(mode) != DnsMode::ExternalDNS => Want::Nothing,
            Some(DnsMode::ExternalDNS) => Want::Endpoint,
            Some(_) if self.directory.requires_proof(domain) && self.directory.is_proven(domain) => Want::Endpoint,
            Some(_) => Want::Forbidden,
        }
    }

    /// Whether it is not known yet what is to be said about a MailDomain's `DNSEndpoint`.
    pub(super) fn endpoint_is_unknown(&self, domain: &NamespacedName) -> bool {
        self.endpoints.is_unknown() && matches!(self.endpoint_wanted(domain), Want::Endpoint)
    }

    /// What stands in the way of a `DNSEndpoint`, for the message of `Accepted`.
    pub(super) fn endpoint_remark(&self, domain: &NamespacedName) -> Option<String> {
        match self.endpoint_wanted(domain) {
            Want::Forbidden => Some(
                "dns.mode ExternalDNS has no effect: the MailServer's own dns.mode must be ExternalDNS, or \
                 dns.requireOwnership be set and the ownership proven. Publish the records of status.dns.zoneFile yourself."
                    .to_owned(),
            ),
            Want::Endpoint if self.endpoints.exists == Some(false) => Some(format!(
                "dns.mode ExternalDNS has no effect: the API server has no {API_VERSION}. Install the definitions of \
                 external-dns, or publish the records of status.dns.zoneFile yourself."
            )),
            Want::Endpoint if self.endpoints.exists.is_none() && self.endpoints.survey_failed => Some(format!(
                "dns.mode ExternalDNS has no effect yet: it could not be found out whether the API server has \
                 {API_VERSION}, and the operator's log says why. It is tried again."
            )),
            Want::Endpoint => {
                let failure = &self.endpoints.failures.get(domain)?.message;
                Some(format!("DNSEndpoint {} could not be written: {failure}.", domain.name))
            }
            Want::Nothing | Want::AsItIs => None,
        }
    }

    pub(super) fn survey_endpoints(&mut self) {
        let worker = self.tools.endpoints.clone();
        self.start(async move { Input::Endpoints(worker.survey().await) });
    }

    pub(super) fn endpoints_surveyed(&mut self, result: Result<Survey, CallError>) {
        let now = Instant::now();
        let survey = match result {
            Ok(survey) => survey,
            Err(error) => {
                tracing::warn!(%error, "it could not be found out which DNSEndpoints there are; it is tried again");
                self.tools.metrics.errors.inc();
                self.timers.set(Timer::Endpoints, now + RETRY);
                // Nothing else that there is to say of the domains waits for it.
                if !std::mem::replace(&mut self.endpoints.survey_failed, true) {
                    let domains = self.domains.keys().map(|domain| ObjectKey::new(Kind::MailDomain, domain.clone()));
                    self.status_dirty.extend(domains);
                }
                return;
            }
        };
        let exists = Some(survey.is_some());
        let missed = survey.is_none() && self.domains.keys().any(|domain| self.endpoint_remark(domain).is_some());
        self.timers.set(Timer::Endpoints, now + if missed { MISSED } else { SURVEY });
        let news = self.endpoints.exists != exists;
        self.endpoints.exists = exists;
        self.endpoints.survey_failed = false;
        let live: HashMap<NamespacedName, String> = survey.unwrap_or_default().into_iter().collect();
        // What somebody has touched since it was written is looked at again.
        self.endpoints.known.retain(|name, applied| live.get(name) == Some(&applied.token));
        let there: Vec<NamespacedName> = live.keys().cloned().collect();
        self.endpoints.live = live;
        let domains: Vec<NamespacedName> = self.domains.keys().cloned().chain(there).collect();
        for domain in domains {
            self.refresh_endpoint(&domain);
            if news {
                self.status_dirty.insert(ObjectKey::new(Kind::MailDomain, domain));
            }
        }
    }

    /// Something that a MailDomain's `DNSEndpoint` is made of has changed.
    pub(super) fn refresh_endpoint(&mut self, domain: &NamespacedName) {
        if self.endpoints.exists != Some(true) {
            return;
        }
        if self.endpoints.busy.contains(domain) {
            self.endpoints.again.insert(domain.clone());
            return;
        }
        let uid = self.directory.domain(domain).map(|entry| entry.meta.uid.clone());
        let worker = self.tools.endpoints.clone();
        match (self.endpoint_wanted(domain), self.domains.get(domain), uid) {
            (Want::Endpoint, Some(state), Some(uid)) => {
                let (spec, known) = (endpoint::spec(state.wanted()), self.endpoints.known.get(domain).cloned());
                self.endpoints.busy.insert(domain.clone());
                let domain = domain.clone();
                self.start_writing(async move { Input::Endpoint(worker.apply(domain, uid, spec, known).await) });
            }
            (Want::Nothing | Want::Forbidden, _, Some(uid)) if self.endpoints.live.contains_key(domain) => {
                self.endpoints.busy.insert(domain.clone());
                let domain = domain.clone();
                self.start_writing(async move { Input::Endpoint(worker.delete(domain, uid).await) });
            }
            _ => {}
        }
    }

    /// A MailDomain is not here any more, or nobody serves it.
    pub(super) fn forget_endpoint(&mut self, domain: &NamespacedName) {
        self.endpoints.failures.remove(domain);
        self.timers.clear(&Timer::Endpoint(domain.clone()));
    }

    pub(super) fn endpoint_done(&mut self, done: EndpointDone) {
        let domain = done.domain;
        self.endpoints.busy.remove(&domain);
        let failure = match done.result {
            Ok(Some(applied)) => {
                self.endpoints.live.insert(domain.clone(), applied.token.clone());
                self.endpoints.known.insert(domain.clone(), applied);
                None
            }
            Ok(None) => {
                self.endpoints.live.remove(&domain);
                self.endpoints.known.remove(&domain);
                None
            }
            Err(error) => {
                tracing::warn!(%domain, error, "a DNSEndpoint could not be written; it is tried again");
                self.tools.metrics.errors.inc();
                Some(error)
            }
        };
        // Nobody tries again for a MailDomain that was deleted meanwhile.
        let failure = failure.filter(|_| self.directory.domain(&domain).is_some());
        let (news, again) = self.endpoints.note(&domain, failure);
        if news {
            self.status_dirty.insert(ObjectKey::new(Kind::MailDomain, domain.clone()));
        }
        let timer = Timer::Endpoint(domain.clone());
        match again {
            Some(wait) => self.timers.set(timer, Instant::now() + wait),
            None => self.timers.clear(&timer),
        }
        if self.endpoints.again.remove(&domain) {
            self.refresh_endpoint(&domain);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survey_that_fails_holds_nothing_back() {
        let mut endpoints = Endpoints::default();
        assert!(endpoints.is_unknown(), "nobody has looked yet");
        endpoints.survey_failed = true;
        assert!(!endpoints.is_unknown());
    }

    #[test]
    fn a_write_that_fails_is_tried_again_soon_and_then_more_seldom() {
        let (mut endpoints, domain) = (Endpoints::default(), NamespacedName::new("one", "d"));
        let mut note = |error: Option<&str>| endpoints.note(&domain, error.map(str::to_owned));
        assert_eq!(note(None), (false, None));
        assert_eq!(note(Some("no")), (true, Some(RETRY)));
        assert_eq!(note(Some("no")), (false, Some(RETRY * 2)), "that was said already");
        assert_eq!(note(Some("never")), (true, Some(RETRY * 4)));
        for _ in 0..8 {
            note(Some("never"));
        }
        assert_eq!(note(Some("never")), (false, Some(SURVEY)));
        assert_eq!(note(None), (true, None));
        assert_eq!(note(Some("no")), (true, Some(RETRY)));
        endpoints.failures.remove(&domain);
        assert!(endpoints.failures.is_empty());
    }
}

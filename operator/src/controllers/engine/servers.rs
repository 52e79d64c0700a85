//! What is known of one MailServer: what is to be written, what was written, and who waits for it. [`super::passes`]
//! writes it, [`super::pods`] and [`super::arrival`] see where it has arrived, [`super::recovery`] fills it at first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use paquebot_config::Bundle;
use paquebot_config::bundle::{RELAY_FILE, SERVER_FILE};
use tokio::time::Instant;

use super::Engine;
use crate::controllers::apply::{Applied, Target};
use crate::controllers::beside::Absent;
use crate::controllers::certificate::Judged;
use crate::controllers::configz::Configz;
use crate::controllers::propagation::{History, Need};
use crate::controllers::server_worker::Failure;
use crate::directory::{DirtyFiles, NamespacedName, ObjectKey};

/// The longest wait before a failed pass is made again.
pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What is known of one MailServer's configuration.
#[derive(Default)]
pub struct ServerState {
    /// Its directory was read after this process began, so that nobody is locked out by the first pass.
    pub recovered: bool,
    /// Since when something is to be written.
    pub(super) dirty_since: Option<Instant>,
    /// More than the configuration is to be looked at.
    pub(super) everything: bool,
    /// When the configuration was written last.
    pub written_at: Option<Instant>,
    /// The files as they were rendered last, and which of them have changed since.
    pub(super) bundle: Option<Bundle>,
    pub(super) dirty_files: DirtyFiles,
    /// How often the relay rules or the ports have changed, how often they had when the configuration was rendered last, and
    /// when it was written last.
    pub(super) rules: [u64; 3],
    pub(super) busy: bool,
    pub(super) failures: u32,
    /// Why the last pass could not write the configuration.
    pub failure: Option<Failure>,
    /// What cannot be written as it is, is not tried again sooner, however often something else changes.
    pub(super) not_before: Option<Instant>,
    /// Why the last pass could not write the certificate or the objects that run the server.
    pub workload_failure: Option<Failure>,
    pub(super) known: HashMap<Target, Applied>,
    pub(super) seen: HashMap<Target, String>,
    /// The Secrets of shards that are there, or may be.
    pub(super) shards: BTreeSet<String>,
    /// A budget of disruptions that is not wanted was looked for and is gone.
    pub(super) budget_is_gone: bool,
    /// The same for a Certificate of cert-manager's.
    pub(super) certificate_is_gone: bool,
    /// The size that the claims of its pods are known to have.
    pub(super) volume_size: Option<paquebot_crds::Quantity>,
    /// The certificate of which it was said that it ends soon.
    pub told_of: Option<String>,
    /// What is known to be gone, or impossible, beside the workload.
    pub absent: Absent,
    /// The certificate, as the last pass saw it.
    pub certificate: Option<Judged>,
    pub(super) history: History,
    /// The revision that is being written.
    pub(super) writing: Option<String>,
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
    pub(super) told: Standing,
    /// The digests of the files in the index that was there when this process began.
    pub(super) found: HashMap<String, String>,
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
    pub(super) arrived: usize,
    /// It is there since before this process began, so that nobody knows since when.
    pub(super) is_old: bool,
}

/// What statuses say of the pods beside what has arrived.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) ready: usize,
    pub(super) refusal: Option<(String, String)>,
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
    pub(super) fn fail(&mut self, failure: Failure, now: Instant) -> Duration {
        self.dirty_since = None;
        self.everything = true;
        let delay = self.retry_after();
        self.not_before = failure.invalid.then_some(now + delay);
        self.failure = Some(failure);
        delay
    }

    /// Whether what is to be written has more in it than what mailboxes and domains say. The first configuration of a
    /// process has everything in it, and would be written twice.
    pub(super) fn is_urgent(&self) -> bool {
        self.bundle.is_some() && (self.dirty_files.relay || self.dirty_files.server)
    }

    /// Since when something is to be written that may be tried now.
    pub(super) fn due_since(&self, now: Instant) -> Option<Instant> {
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
    pub(super) fn retry_after(&mut self) -> Duration {
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

    pub(super) fn has_drifted(&self) -> bool {
        self.known.iter().any(|(target, applied)| self.seen.get(target).is_some_and(|seen| *seen != applied.token))
    }
}

impl Engine {
    pub(super) fn server_state(&mut self, server: &NamespacedName) -> &mut ServerState {
        self.servers.entry(server.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn rules_and_the_server_s_own_words_are_urgent_once_something_was_written() {
        let server: paquebot_crds::MailServer = serde_json::from_value(serde_json::json!({
            "apiVersion": "paquebot.dev/v1alpha1", "kind": "MailServer",
            "metadata": { "name": "default", "namespace": "mail" }, "spec": { "hostname": "mx.server1.com" },
        }))
        .unwrap();
        let mut directory = crate::directory::Directory::new(crate::directory::Options::default());
        directory.apply(server);
        let bundle = crate::render::bundle(&directory, &NamespacedName::new("mail", "default")).unwrap();
        let urgent = |relay: bool, server: bool, is_first: bool| {
            let mut state = ServerState { bundle: (!is_first).then(|| bundle.clone()), ..ServerState::default() };
            state.change(&DirtyFiles { relay, server, ..DirtyFiles::default() }, Instant::now());
            state.is_urgent()
        };
        assert!(urgent(true, false, false) && urgent(false, true, false));
        assert!(!urgent(false, false, false), "a mailbox");
        assert!(!urgent(true, true, true), "everything, when nothing was written before");
    }
}

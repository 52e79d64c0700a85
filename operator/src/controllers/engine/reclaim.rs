//! `reclaimPolicy: Delete`: mail that goes with its Mailbox or MailDomain. Such an object has a finalizer. Once somebody
//! deletes it, it counts as suspended, so that no mail comes and nobody logs in; when every ready pod knows that, the pods
//! erase the mail, and the finalizer goes. Each step is found again from what is there, and done again after a crash.
//!
//! It waits while no pod can answer, and says so in `Accepted`. It does not wait for a MailServer that is gone or going:
//! there is nobody left to ask, and the mail stays on the volume. Nor does an object that has lost its address erase the mail
//! of the one that has it now. An event says where mail is kept. Whoever takes the finalizer away keeps the mail.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::events::EventType;
use paquebot_crds::Kind;
use paquebot_crds::conditions::Reason;
use paquebot_crds::references::ReclaimPolicy;
use tokio::time::Instant;

use super::{Engine, Timer};
use crate::controllers::eraser::{self, Eraser};
use crate::controllers::input::Input;
use crate::controllers::turns::Turns;
use crate::directory::{Details, NamespacedName, Object, ObjectKey, Refusal, Verdict};

/// Keeps an object until its mail is erased.
pub const FINALIZER: &str = "paquebot.dev/erase-mail";
/// How soon a step that could not be done is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How long the pods may take to learn of the suspension before that is said.
const PATIENCE: Duration = Duration::from_secs(30);

/// An object whose mail goes with it, or that still has the finalizer.
#[derive(Debug, Default)]
pub struct Reclaim {
    uid: String,
    version: String,
    finalizers: Vec<String>,
    erases: bool,
    deleting: bool,
    /// The server that keeps its mail, and whose mail that is, as the server is asked for it.
    target: Option<(NamespacedName, String)>,
    busy: bool,
    erased: bool,
    waits: Option<String>,
    /// Since when the pods are to learn of the suspension.
    untold_since: Option<Instant>,
    /// Whether it was said that its mail stays.
    said_kept: bool,
}

/// Objects whose mail is erased together on one server, and how many of them may be one namespace's: who deletes ten
/// thousand mailboxes keeps nobody else's waiting.
const ERASED_AT_ONCE: usize = 2;
const ERASED_OF_ONE: usize = 1;

/// Whose mail one MailServer erases next.
pub struct Erasures {
    eraser: Arc<Eraser>,
    turns: Turns<ObjectKey>,
}

/// What came of a step.
#[derive(Debug)]
pub enum Done {
    /// The finalizers were written, or were not because the object is another one by now.
    Finalizers(Result<bool, String>),
    /// The mail was erased by this server.
    Erased(NamespacedName, Result<(), String>),
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    AddFinalizer,
    RemoveFinalizer,
    /// There is nobody to ask; the sentence says why.
    KeepMail(String),
    Wait(String),
    /// The pods do not know of the suspension yet.
    Untold,
    Erase {
        server: NamespacedName,
        pods: Vec<IpAddr>,
        whose: String,
    },
}

/// What the server of an object's mail is like.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Keeper {
    /// The object has no mail anywhere that is known.
    Nobody,
    Gone,
    /// Another object has the address now, on the same server and for the same tenant.
    Another,
    Paused,
    Stopped,
    /// It does not know yet that the object is suspended.
    Untold,
    Serving(Vec<IpAddr>),
}

impl Reclaim {
    fn has_finalizer(&self) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    }

    fn is_going(&self) -> bool {
        self.deleting && self.erases && self.has_finalizer()
    }

    /// `mailboxes`: how many of a MailDomain are still there.
    fn next(&self, keeper: &Keeper, mailboxes: usize) -> Step {
        match (self.erases, self.has_finalizer(), self.deleting) {
            (true, false, false) => return Step::AddFinalizer,
            (false, true, _) => return Step::RemoveFinalizer,
            (true, true, true) => {}
            _ => return Step::Nothing,
        }
        if self.erased {
            return Step::RemoveFinalizer;
        }
        let Some((server, whose)) = &self.target else {
            return Step::KeepMail(
                "It is not in force, and nobody knows where mail of it would be: nothing is erased, and what it may have \
                 kept before stays on the volume of its MailServer."
                    .to_owned(),
            );
        };
        let by_hand =
            format!("; to keep the mail instead, set spec.reclaimPolicy to Retain or remove the finalizer {FINALIZER}");
        match keeper {
            Keeper::Another => Step::KeepMail(format!(
                "{whose} is another object's by now, and its mail as well: nothing is erased. The mail goes with that object."
            )),
            Keeper::Nobody | Keeper::Gone => Step::KeepMail(format!(
                "MailServer {server} is gone, so that nobody can erase the mail of {whose}: it stays on the server's volume."
            )),
            _ if mailboxes > 0 => {
                Step::Wait(format!("{mailboxes} mailboxes of the domain are still there: delete them first{by_hand}"))
            }
            Keeper::Paused => Step::Wait(format!("MailServer {server} is paused (spec.operations.paused){by_hand}")),
            Keeper::Stopped => Step::Wait(format!("MailServer {server} is stopped: start it{by_hand}")),
            Keeper::Serving(pods) if pods.is_empty() => {
                Step::Wait(format!("no pod of MailServer {server} is ready{by_hand}"))
            }
            Keeper::Untold => Step::Untold,
            Keeper::Serving(pods) => Step::Erase { server: server.clone(), pods: pods.clone(), whose: whose.clone() },
        }
    }
}

impl Engine {
    /// Notes what an object's metadata say. One that goes counts as suspended.
    pub(super) fn note_reclaim(&mut self, object: &mut Object, metadata: &ObjectMeta) {
        let (policy, suspended) = match object {
            Object::Mailbox(entry) => (entry.spec.reclaim_policy, &mut entry.spec.suspended),
            Object::MailDomain(entry) => (entry.spec.reclaim_policy, &mut entry.spec.suspended),
            _ => return,
        };
        let finalizers = metadata.finalizers.clone().unwrap_or_default();
        let uid = metadata.uid.clone().unwrap_or_default();
        let mut reclaim = Reclaim {
            version: metadata.resource_version.clone().unwrap_or_default(),
            finalizers,
            erases: policy == ReclaimPolicy::Delete,
            deleting: metadata.deletion_timestamp.is_some(),
            ..Reclaim::default()
        };
        let going = reclaim.is_going();
        // Also after its mail is gone, while somebody else's finalizer keeps it.
        *suspended |= reclaim.deleting && reclaim.erases;
        let (erases, held) = (reclaim.erases, reclaim.has_finalizer());
        let key = object.key();
        if !erases && !held {
            self.reclaims.remove(&key);
            return;
        }
        if let Some(before) = self.reclaims.remove(&key).filter(|before| before.uid == uid) {
            reclaim.target = before.target;
            reclaim.busy = before.busy;
            reclaim.erased = before.erased;
            reclaim.waits = before.waits;
            reclaim.untold_since = before.untold_since;
            reclaim.said_kept = before.said_kept;
        }
        reclaim.uid = uid;
        self.reclaims.insert(key.clone(), reclaim);
        if going {
            self.status_dirty.insert(key.clone());
        }
        self.timers.set_by(Timer::Reclaim(key), Instant::now());
    }

    pub(super) fn forget_reclaim(&mut self, key: &ObjectKey) {
        self.reclaims.remove(key);
    }

    /// Something about an object may have changed.
    pub(super) fn reclaim_soon(&mut self, key: &ObjectKey) {
        if self.reclaims.contains_key(key) {
            self.timers.set_by(Timer::Reclaim(key.clone()), Instant::now());
        }
    }

    /// Why an object is still there that somebody has deleted.
    pub(super) fn going(&self, key: &ObjectKey) -> Option<Verdict> {
        let reclaim = self.reclaims.get(key).filter(|reclaim| reclaim.is_going())?;
        let message = match &reclaim.waits {
            Some(why) => format!("It is deleted, and its mail is to be erased. That waits: {why}."),
            None => "It is deleted, and its mail is being erased.".to_owned(),
        };
        Some(Verdict::Refused(Refusal { reason: Reason::Deleting, message }))
    }

    /// Does the next step for an object.
    pub(super) fn reclaim(&mut self, key: &ObjectKey) {
        if !self.is_synced() {
            self.timers.set_by(Timer::Reclaim(key.clone()), Instant::now() + RETRY);
            return;
        }
        let (target, mailboxes) = self.mail_of(key);
        let Some(reclaim) = self.reclaims.get_mut(key) else { return };
        // What is not in force any more, because its MailDomain went first, still has mail where it was.
        reclaim.target = target.or(reclaim.target.take());
        if reclaim.busy {
            return;
        }
        let keeper = self.keeper(key);
        let Some(reclaim) = self.reclaims.get_mut(key) else { return };
        let now = Instant::now();
        let step = reclaim.next(&keeper, mailboxes);
        if step != Step::Untold {
            reclaim.untold_since = None;
        }
        let waits = match &step {
            Step::Wait(why) => Some(why.clone()),
            // Most pods know in a moment; what hinders the others is in Programmed.
            Step::Untold if now >= *reclaim.untold_since.get_or_insert(now) + PATIENCE => {
                Some("not every pod has learnt yet that it is suspended; see the condition Programmed".to_owned())
            }
            _ => None,
        };
        if waits.is_some() && reclaim.waits != waits {
            reclaim.waits = waits;
            self.status_dirty.insert(key.clone());
        }
        match step {
            Step::Nothing => {}
            Step::Wait(_) | Step::Untold => self.timers.set(Timer::Reclaim(key.clone()), now + RETRY),
            Step::AddFinalizer => self.write_finalizers(key, true),
            Step::RemoveFinalizer => self.write_finalizers(key, false),
            Step::KeepMail(why) => {
                if !std::mem::replace(&mut reclaim.said_kept, true) {
                    self.announce(key, EventType::Warning, "Report", "MailKept", &why);
                }
                self.write_finalizers(key, false);
            }
            Step::Erase { server, .. } => {
                let (client, poller) = (self.tools.client.clone(), self.tools.poller.clone());
                let erasures = self.erasures.entry(server.clone()).or_insert_with(|| Erasures {
                    eraser: Arc::new(Eraser::new(client, poller, server.clone())),
                    turns: Turns::new(ERASED_AT_ONCE, ERASED_OF_ONE),
                });
                erasures.turns.push(key.clone());
                self.start_erasures(&server);
            }
        }
    }

    /// Where an object's mail is, and how many mailboxes a MailDomain still has.
    fn mail_of(&self, key: &ObjectKey) -> (Option<(NamespacedName, String)>, usize) {
        let Some((server, _)) = self.directory.place(key) else { return (None, 0) };
        match (key.kind, self.directory.report(key).map(|report| report.details)) {
            (Kind::Mailbox, Some(Details::Mailbox { address: Some(address), .. })) => {
                (Some((server, address.to_string())), 0)
            }
            (Kind::MailDomain, Some(Details::MailDomain { mailboxes, .. })) => {
                let domain = self.directory.domain(&key.name).map(|entry| format!("@{}", entry.spec.domain));
                (domain.map(|domain| (server, domain)), mailboxes)
            }
            _ => (None, 0),
        }
    }

    /// How the server of an object's mail stands towards it.
    fn keeper(&self, key: &ObjectKey) -> Keeper {
        let target = self.reclaims.get(key).and_then(|reclaim| reclaim.target.as_ref());
        let Some((server, whose)) = target else { return Keeper::Nobody };
        let (entry, state) = (self.directory.server(server), self.servers.get(server));
        let Some(entry) = entry.filter(|_| state.is_none_or(|state| !state.deleting)) else { return Keeper::Gone };
        if self.directory.is_of_another(key, server, whose, &self.tenant_of(key)) {
            return Keeper::Another;
        }
        if entry.spec.is_paused() {
            return Keeper::Paused;
        }
        if entry.spec.wanted_replicas() == 0 {
            return Keeper::Stopped;
        }
        let ready = self.observed.get(server).into_iter().flat_map(|observed| observed.ready());
        let pods: Vec<IpAddr> = ready.filter_map(|(_, pod)| pod.address()).collect();
        let told = state.is_some_and(|state| state.has_written(key) && !state.needs.contains_key(key));
        if told || pods.is_empty() { Keeper::Serving(pods) } else { Keeper::Untold }
    }

    fn write_finalizers(&mut self, key: &ObjectKey, wanted: bool) {
        let Some(reclaim) = self.reclaims.get_mut(key) else { return };
        reclaim.busy = true;
        let mut finalizers = reclaim.finalizers.clone();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        if wanted {
            finalizers.push(FINALIZER.to_owned());
        }
        let (client, key, version) = (self.tools.client.clone(), key.clone(), reclaim.version.clone());
        let turns = Arc::clone(&self.finalizer_writes);
        self.start_writing(async move {
            let _turn = turns.acquire().await;
            let result = eraser::write_finalizers(client, &key, &version, &finalizers).await;
            Input::Reclaimed(key, Done::Finalizers(result))
        });
    }

    fn start_erasures(&mut self, server: &NamespacedName) {
        while let Some(key) = self.erasures.get_mut(server).and_then(|erasures| erasures.turns.start()) {
            if !self.start_erasing(&key, server) {
                // Something has changed while it waited.
                self.timers.set_by(Timer::Reclaim(key.clone()), Instant::now() + RETRY);
                if let Some(erasures) = self.erasures.get_mut(server) {
                    erasures.turns.done(&key);
                }
            }
        }
    }

    /// Starts to erase what it is the turn of; whether there is still something to erase there.
    fn start_erasing(&mut self, key: &ObjectKey, server: &NamespacedName) -> bool {
        let (keeper, (_, mailboxes), tenant) = (self.keeper(key), self.mail_of(key), self.tenant_of(key));
        let step =
            self.reclaims.get(key).filter(|reclaim| !reclaim.busy).map(|reclaim| reclaim.next(&keeper, mailboxes));
        let Some(Step::Erase { server: at, pods, whose }) = step else { return false };
        let eraser = self.erasures.get(server).filter(|_| at == *server).map(|erasures| Arc::clone(&erasures.eraser));
        let (Some(eraser), Some(reclaim)) = (eraser, self.reclaims.get_mut(key)) else { return false };
        reclaim.busy = true;
        let key = key.clone();
        self.start(async move {
            let result = eraser.erase(&pods, &whose, &tenant).await;
            Input::Reclaimed(key, Done::Erased(at, result))
        });
        true
    }

    /// Whose mail it is that goes with an object: the namespace of the MailDomain.
    fn tenant_of(&self, key: &ObjectKey) -> String {
        let domain = self.directory.mailbox(&key.name).filter(|_| key.kind == Kind::Mailbox);
        let domain = domain.map(|entry| NamespacedName::of_reference(&entry.spec.domain_ref, &key.name.namespace));
        domain.map_or_else(|| key.name.namespace.clone(), |domain| domain.namespace.clone())
    }

    pub(super) fn reclaimed(&mut self, key: &ObjectKey, done: Done) {
        if let Done::Erased(server, _) = &done
            && let Some(erasures) = self.erasures.get_mut(server)
        {
            erasures.turns.done(key);
            self.start_erasures(server);
        }
        let Some(reclaim) = self.reclaims.get_mut(key) else { return };
        reclaim.busy = false;
        let failure = match done {
            Done::Erased(_, Ok(())) => {
                reclaim.erased = true;
                None
            }
            // The watch tells what the object is like now, or has told it already.
            Done::Finalizers(Ok(_)) => {
                self.timers.set(Timer::Reclaim(key.clone()), Instant::now() + RETRY);
                return;
            }
            Done::Finalizers(Err(why)) => {
                tracing::warn!(object = %key, why, "finalizers could not be written; they are tried again");
                self.tools.metrics.errors.inc();
                Some(why)
            }
            Done::Erased(_, Err(why)) => Some(why),
        };
        let wait = failure.as_ref().map_or(Duration::ZERO, |_| RETRY);
        if failure.is_some() && reclaim.waits != failure {
            reclaim.waits = failure;
            self.status_dirty.insert(key.clone());
        }
        self.timers.set(Timer::Reclaim(key.clone()), Instant::now() + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> NamespacedName {
        NamespacedName::new("mail", "default")
    }

    fn going() -> Reclaim {
        Reclaim {
            finalizers: vec!["other".to_owned(), FINALIZER.to_owned()],
            erases: true,
            deleting: true,
            target: Some((server(), "anna@server1.com".to_owned())),
            ..Reclaim::default()
        }
    }

    #[test]
    fn the_finalizer_is_there_for_delete_alone() {
        let keeper = Keeper::Serving(Vec::new());
        let next = |erases: bool, held: bool, deleting: bool| {
            let finalizers = if held { vec![FINALIZER.to_owned()] } else { Vec::new() };
            Reclaim { erases, finalizers, deleting, ..Reclaim::default() }.next(&keeper, 0)
        };
        assert_eq!(next(true, false, false), Step::AddFinalizer);
        assert_eq!(next(true, true, false), Step::Nothing);
        assert_eq!(next(false, true, false), Step::RemoveFinalizer);
        assert_eq!(next(false, true, true), Step::RemoveFinalizer, "Retain keeps the mail, even now");
        assert_eq!(next(true, false, true), Step::Nothing, "too late: finalizers cannot be added any more");
        assert!(matches!(next(true, true, true), Step::KeepMail(why) if why.contains("nothing is erased")));
    }

    #[test]
    fn the_loser_of_a_conflict_neither_waits_nor_erases_what_is_not_its_own() {
        let Step::KeepMail(why) = going().next(&Keeper::Another, 0) else { panic!("it does not let go") };
        assert!(why.contains("another object's"), "{why}");
        assert!(matches!(going().next(&Keeper::Another, 2), Step::KeepMail(_)), "its mailboxes lost as well");
        // Who keeps the mail after all keeps it without a word.
        assert_eq!(Reclaim { erases: false, ..going() }.next(&Keeper::Another, 0), Step::RemoveFinalizer);
    }

    #[test]
    fn nobody_is_asked_before_the_pods_know_of_the_suspension() {
        assert_eq!(going().next(&Keeper::Untold, 0), Step::Untold);
        assert!(matches!(going().next(&Keeper::Untold, 1), Step::Wait(why) if why.contains("1 mailboxes")));
    }

    #[test]
    fn mail_is_erased_by_who_keeps_it_and_nothing_waits_for_a_server_that_is_gone() {
        let pod: IpAddr = "192.0.2.1".parse().unwrap();
        let whose = "anna@server1.com".to_owned();
        let erase = Step::Erase { server: server(), pods: vec![pod], whose };
        assert_eq!(going().next(&Keeper::Serving(vec![pod]), 0), erase);
        assert_eq!(Reclaim { erased: true, ..going() }.next(&Keeper::Gone, 0), Step::RemoveFinalizer);
        assert!(
            matches!(going().next(&Keeper::Gone, 0), Step::KeepMail(why) if why.contains("stays on the server's volume"))
        );
        for (keeper, mailboxes, words) in [
            (Keeper::Paused, 0, "paused"),
            (Keeper::Stopped, 0, "start it"),
            (Keeper::Serving(Vec::new()), 0, "no pod"),
            (Keeper::Serving(vec![pod]), 2, "2 mailboxes"),
        ] {
            let Step::Wait(why) = going().next(&keeper, mailboxes) else { panic!("{keeper:?} does not wait") };
            assert!(why.contains(words) && why.contains(FINALIZER), "{why}");
        }
    }
}

//! The Secrets of mailboxes: which are to be read, and what came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use paquebot_config::Verifier;
use paquebot_crds::Kind;
use paquebot_crds::conditions::{self, ConditionType};
use paquebot_crds::mailbox::{CredentialSource, Credentials};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::objects::is_older;
use super::{Engine, Timer};
use crate::controllers::calls::{CallError, Failed};
use crate::controllers::credentials_worker::{CredentialsRead, Job, Made, run};
use crate::controllers::input::Input;
use crate::controllers::server_worker::{Recovered, RecoveredVerifiers};
use crate::controllers::status::Status;
use crate::credentials::Access;
use crate::directory::{CredentialOutcome, CredentialsReport, Details, NamespacedName, ObjectKey, SecretVersion};

/// How soon a Secret that could not be read is read again.
const RETRY: Duration = Duration::from_secs(5);

/// What is known of one mailbox's Secrets.
#[derive(Default)]
pub struct CredentialState {
    /// What the spec said, and the versions of the Secrets, when they were last read; absent: they were not.
    read: Option<(Fingerprint, Versions)>,
    /// The versions that the watch had reported when that read began; kept while one of the Secrets is not there.
    reported: Versions,
    /// What was made of them.
    made: Made,
    phase: Phase,
}

/// The resourceVersions of Secrets by name; `None`: there is no such Secret. There are one or two, so that this takes a
/// tenth of the room of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Versions(Box<[Version]>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    secret: Box<str>,
    version: Option<Box<str>>,
}

impl Versions {
    fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|of| (&*of.secret, of.version.as_deref()))
    }

    /// `None`: the Secret is none of these.
    fn get(&self, name: &str) -> Option<Option<&str>> {
        self.iter().find(|(known, _)| *known == name).map(|(_, version)| version)
    }

    fn are_all_there(&self) -> bool {
        self.iter().all(|(_, version)| version.is_some())
    }
}

impl FromIterator<(String, Option<String>)> for Versions {
    fn from_iter<T: IntoIterator<Item = (String, Option<String>)>>(versions: T) -> Self {
        let boxed = |(name, version): (String, Option<String>)| Version {
            secret: name.into(),
            version: version.map(Into::into),
        };
        Self(versions.into_iter().map(boxed).collect())
    }
}

/// Equal for equal credentials, in less room than they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint([u8; 16]);

impl Fingerprint {
    fn of(credentials: &Credentials) -> Self {
        // Credentials are plain fields, which JSON can always say.
        let digest = Sha256::digest(serde_json::to_vec(credentials).unwrap_or_default());
        let mut first = [0; 16];
        first.copy_from_slice(&digest[..16]);
        Self(first)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing is to be done.
    #[default]
    Idle,
    /// A read waits for its turn.
    Waiting,
    /// A read is under way.
    Running,
}

/// What an earlier process has left for one mailbox.
struct Restorable {
    verifiers: RecoveredVerifiers,
    versions: Vec<SecretVersion>,
    /// What they were made from, when that is what is there now.
    current: Option<(Credentials, Versions)>,
}

impl CredentialState {
    /// Makes the Secrets be read again.
    pub fn forget(&mut self) {
        self.read = None;
    }

    /// Whether there is something that has not been read yet. A version that is older than the one that was read is a
    /// watch that lags behind.
    fn needs_read(&self, credentials: &Credentials, watched: &Versions) -> bool {
        let is_of = |of: &Fingerprint| *of == Fingerprint::of(credentials);
        let Some((_, read)) = self.read.as_ref().filter(|(of, _)| is_of(of)) else { return true };
        watched.iter().any(|(name, version)| match read.get(name) {
            None => true,
            Some(Some(read)) => version.is_some_and(|version| version != read && !is_older(version, read)),
            // There was none: the watch is about to say that it went, or reports another.
            Some(None) => version.is_some() && Some(version) != self.reported.get(name),
        })
    }
}

impl Engine {
    pub(super) fn check_all_credentials(&mut self) {
        let mailboxes: Vec<NamespacedName> =
            self.directory.objects().into_iter().filter(|key| key.kind == Kind::Mailbox).map(|key| key.name).collect();
        for mailbox in mailboxes {
            self.check_credentials(&mailbox);
        }
    }

    /// Reads a mailbox's Secrets, when it is its turn, if there is something new to read.
    pub(super) fn check_credentials(&mut self, mailbox: &NamespacedName) {
        if !self.is_synced() || !self.is_recovered(mailbox) {
            return;
        }
        let Some(entry) = self.directory.mailbox(mailbox) else { return };
        let Some(credentials) = entry.spec.credentials.clone().filter(|given| given.sources().next().is_some()) else {
            self.mailboxes.remove(mailbox);
            return;
        };
        // What is to be generated says where the server is.
        if matches!(credentials.source(), Some(CredentialSource::Generate(_))) && self.access(mailbox).is_none() {
            return;
        }
        let pending = self.is_pending(mailbox);
        let versions = self.versions_of(mailbox, &credentials);
        let state = self.mailboxes.entry(mailbox.clone()).or_default();
        if state.phase == Phase::Idle && (pending || state.needs_read(&credentials, &versions)) {
            state.phase = Phase::Waiting;
            self.secret_turns.push(mailbox.clone());
            self.start_reads();
        }
    }

    /// What the watch says of the Secrets that a mailbox names.
    fn versions_of(&self, mailbox: &NamespacedName, credentials: &Credentials) -> Versions {
        let version = |name: &str| self.secret_versions.get(&NamespacedName::new(&mailbox.namespace, name)).cloned();
        credentials.sources().map(|source| (source.secret_name().to_owned(), version(source.secret_name()))).collect()
    }

    /// Starts the reads whose turn it is.
    pub(super) fn start_reads(&mut self) {
        let at_once = self.hold_off.at_once(usize::MAX, Instant::now());
        while self.secret_turns.running() < at_once
            && let Some(mailbox) = self.secret_turns.start()
        {
            let Some(job) = self.credentials_job(&mailbox) else {
                self.secret_turns.done(&mailbox);
                continue;
            };
            self.tools.metrics.secret_reads.inc();
            let (client, hasher) = (self.tools.client.clone(), self.hasher.clone());
            self.start(async move { Input::Credentials(run(client, hasher, job).await) });
        }
    }

    /// What is to be done for a mailbox whose turn it is; `None`: nothing any more.
    fn credentials_job(&mut self, mailbox: &NamespacedName) -> Option<Job> {
        let entry = self.directory.mailbox(mailbox);
        let wanted = entry.and_then(|entry| Some((entry.meta.uid.clone(), entry.spec.credentials.clone()?)));
        let versions = wanted.as_ref().map(|(_, credentials)| self.versions_of(mailbox, credentials));
        let access = self.access(mailbox);
        let state = self.mailboxes.get_mut(mailbox).filter(|state| state.phase == Phase::Waiting)?;
        state.phase = Phase::Idle;
        let (uid, credentials) = wanted?;
        state.phase = Phase::Running;
        state.reported = versions.unwrap_or_default();
        Some(Job { mailbox: mailbox.clone(), uid, credentials, access, made: state.made.clone() })
    }

    /// Whether what an earlier process has left for a mailbox was read: its server's directory, or all while it has none.
    fn is_recovered(&self, mailbox: &NamespacedName) -> bool {
        match self.directory.place(&ObjectKey::new(Kind::Mailbox, mailbox.clone())) {
            Some((server, _)) => self.servers.get(&server).is_some_and(|state| state.recovered),
            None => self.servers.values().all(|state| state.recovered),
        }
    }

    /// Whether the index has never heard of the mailbox's Secret, or has forgotten it.
    fn is_pending(&self, mailbox: &NamespacedName) -> bool {
        let report = self.directory.report(&ObjectKey::new(Kind::Mailbox, mailbox.clone()));
        let details = report.map(|report| report.details);
        matches!(details, Some(Details::Mailbox { credentials: CredentialsReport::Pending, .. }))
    }

    fn access(&self, mailbox: &NamespacedName) -> Option<Access> {
        let key = ObjectKey::new(Kind::Mailbox, mailbox.clone());
        let Details::Mailbox { address: Some(address), .. } = self.directory.report(&key)?.details else { return None };
        let (server, _) = self.directory.place(&key)?;
        let spec = &self.directory.server(&server)?.spec;
        Some(Access {
            address: address.to_string(),
            host: format!("{}.{}.svc", server.name, server.namespace),
            hostname: spec.hostname.as_str().to_owned(),
            ports: spec.listeners.iter().map(|listener| (listener.name.clone(), listener.port)).collect(),
        })
    }

    pub(super) fn credentials_read(&mut self, read: CredentialsRead) {
        self.secret_turns.done(&read.mailbox);
        if let Some(state) = self.mailboxes.get_mut(&read.mailbox) {
            state.phase = if state.phase == Phase::Running { Phase::Idle } else { state.phase };
            self.take_credentials(read);
        }
        self.start_reads();
    }

    fn take_credentials(&mut self, read: CredentialsRead) {
        let Some(state) = self.mailboxes.get_mut(&read.mailbox) else { return };
        match read.outcome {
            Ok(outcome) => {
                let versions: Versions = read.versions.into_iter().collect();
                if versions.are_all_there() {
                    state.reported = Versions::default();
                }
                state.read = Some((Fingerprint::of(&read.credentials), versions));
                state.made = read.made;
                let changes = self.directory.apply_credentials(&read.mailbox, outcome);
                self.absorb(changes);
                self.check_credentials(&read.mailbox);
                self.api_server_answered();
            }
            Err(error) => self.read_failed(read.mailbox, &error),
        }
    }

    fn read_failed(&mut self, mailbox: NamespacedName, error: &CallError) {
        let key = ObjectKey::new(Kind::Mailbox, mailbox);
        self.api_server_failed(&key, error);
        match self.mailboxes.get_mut(&key.name) {
            Some(state) if state.phase == Phase::Idle && error.failed() == Failed::Away => {
                state.phase = Phase::Waiting;
                self.secret_turns.push(key.name);
            }
            _ => {
                tracing::warn!(object = %key, %error, "a Secret could not be read; it is tried again");
                self.timers.set(Timer::Credentials(key.name), Instant::now() + RETRY);
            }
        }
    }

    /// Takes over verifiers that lie in a server's directory, so that a restart does not hash again. They are current
    /// when the mailbox's status says that they were made from the Secret and the spec of now.
    pub(super) fn restore_verifiers(&mut self, recovered: &Recovered) {
        let mailboxes: Vec<ObjectKey> =
            self.directory.objects().into_iter().filter(|key| key.kind == Kind::Mailbox).collect();
        for key in mailboxes {
            if self.mailboxes.contains_key(&key.name) {
                continue;
            }
            let Some(found) = self.restorable(&key, recovered) else { continue };
            let RecoveredVerifiers { own, app_passwords, .. } = found.verifiers;
            if let Some((credentials, versions)) = found.current {
                let made = made_of(&credentials, &versions, &own, &app_passwords);
                let read = Some((Fingerprint::of(&credentials), versions));
                let state = CredentialState { read, made, ..CredentialState::default() };
                self.mailboxes.insert(key.name.clone(), state);
            }
            let outcome = CredentialOutcome::Ready { verifiers: own, app_passwords, versions: found.versions };
            let changes = self.directory.apply_credentials(&key.name, outcome);
            self.absorb(changes);
        }
    }

    fn restorable(&self, key: &ObjectKey, recovered: &Recovered) -> Option<Restorable> {
        let report = self.directory.report(key)?;
        let Details::Mailbox { address: Some(address), .. } = &report.details else { return None };
        let entry = self.directory.mailbox(&key.name)?;
        // The same address may be another tenant's by now, and that one's passwords open nothing here.
        let domain = NamespacedName::of_reference(&entry.spec.domain_ref, &key.name.namespace);
        let of_tenant = |found: &&RecoveredVerifiers| found.tenant == domain.namespace;
        let verifiers = recovered.verifiers.get(&address.canonical()).filter(of_tenant)?.clone();
        let credentials = entry.spec.credentials.clone()?;
        let Status::Mailbox(status) = self.objects.get(key)?.status.status() else { return None };
        let versions: Vec<SecretVersion> = status
            .credentials
            .iter()
            .map(|used| SecretVersion {
                name: used.secret_name.clone(),
                resource_version: used.resource_version.clone(),
            })
            .collect();
        let ready = conditions::find(&status.conditions, ConditionType::CredentialsReady)?;
        let is_current = ready.status == "True" && ready.observed_generation == Some(report.generation);
        let used = |source: CredentialSource<'_>| {
            let used = versions.iter().find(|version| version.name == source.secret_name())?;
            // A Secret that went meanwhile is reported by no watch any more.
            let secret = NamespacedName::new(&key.name.namespace, source.secret_name());
            self.secret_versions.get(&secret)?;
            Some((used.name.clone(), Some(used.resource_version.clone())))
        };
        let current: Option<Versions> = credentials.sources().map(used).collect();
        let current = current.filter(|_| is_current).map(|versions| (credentials, versions));
        Some(Restorable { verifiers, versions, current })
    }
}

/// The verifiers by what they were made from.
fn made_of(
    credentials: &Credentials,
    versions: &Versions,
    own: &[Verifier],
    app_passwords: &BTreeMap<String, Verifier>,
) -> Made {
    let mut made = Made::default();
    for source in credentials.sources().filter(|source| !matches!(source, CredentialSource::PasswordHash(_))) {
        let verifier = match source.app_password() {
            Some(name) => app_passwords.get(name),
            None => own.first(),
        };
        if let (Some(Some(version)), Some(verifier)) = (versions.get(source.secret_name()), verifier) {
            made.set(source, version, verifier.clone());
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_went_is_not_read_again_until_the_watch_says_something_new() {
        let credentials: Credentials =
            serde_json::from_value(serde_json::json!({ "passwordSecretRef": { "name": "anna" } })).unwrap();
        let version = |text: &str| Some(text.to_owned());
        let versions = |version: Option<String>| Versions::from_iter([("anna".to_owned(), version)]);
        let state = |read: Option<String>, reported: Option<String>| CredentialState {
            read: Some((Fingerprint::of(&credentials), versions(read))),
            reported: versions(reported),
            ..CredentialState::default()
        };
        for (sentence, state, watched, needed) in [
            ("never read", CredentialState::default(), version("5"), true),
            ("read as it is", state(version("5"), version("5")), version("5"), false),
            ("changed since then", state(version("5"), version("5")), version("6"), true),
            ("the watch lags behind", state(version("6"), version("5")), version("5"), false),
            ("it was not there, and still is not", state(None, None), None, false),
            ("it was not there, and now is", state(None, None), version("7"), true),
            ("it is gone, and the watch does not know yet", state(None, version("5")), version("5"), false),
            ("it is gone, and there is another", state(None, version("5")), version("7"), true),
        ] {
            assert_eq!(state.needs_read(&credentials, &versions(watched)), needed, "{sentence}");
        }
    }
}

//! The Secrets of mailboxes: which are to be read, and what came of it.

use std::sync::Arc;
use std::time::Duration;

use paquebot_config::Verifier;
use paquebot_crds::Kind;
use paquebot_crds::conditions::{self, ConditionType};
use paquebot_crds::mailbox::{CredentialSource, Credentials};
use tokio::time::Instant;

use super::objects::is_older;
use super::{Engine, Timer};
use crate::controllers::credentials_worker::{CredentialsRead, Job, run};
use crate::controllers::input::Input;
use crate::controllers::server_worker::Recovered;
use crate::controllers::status::Status;
use crate::credentials::Access;
use crate::directory::{CredentialOutcome, CredentialsReport, Details, NamespacedName, ObjectKey, SecretVersion};

/// How soon a Secret that could not be read is read again.
const RETRY: Duration = Duration::from_secs(5);

/// What is known of one mailbox's Secret.
#[derive(Default)]
pub struct CredentialState {
    /// What the spec said, and the version of the Secret, when it was last read; absent: it was not.
    read: Option<(Credentials, Option<String>)>,
    /// The version that the watch had reported when that read began.
    reported: Option<String>,
    busy: bool,
}

/// What an earlier process has left for one mailbox.
struct Restorable {
    verifiers: Vec<Verifier>,
    versions: Vec<SecretVersion>,
    /// What they were made from, when that is what is there now.
    current: Option<(Credentials, String)>,
}

impl CredentialState {
    /// Makes the Secret be read again.
    pub fn forget(&mut self) {
        self.read = None;
    }

    /// Whether there is something that has not been read yet. A version that is older than the one that was read is a
    /// watch that lags behind.
    fn needs_read(&self, credentials: &Credentials, version: Option<&String>) -> bool {
        match &self.read {
            None => true,
            Some((read, _)) if read != credentials => true,
            Some((_, Some(read))) => version.is_some_and(|version| version != read && !is_older(version, read)),
            // There was none: the watch is about to say that it went, or reports another.
            Some((_, None)) => version.is_some() && version != self.reported.as_ref(),
        }
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

    /// Reads a mailbox's Secret if there is something new to read.
    pub(super) fn check_credentials(&mut self, mailbox: &NamespacedName) {
        if !self.is_synced() || !self.is_recovered(mailbox) {
            return;
        }
        let Some(entry) = self.directory.mailbox(mailbox) else { return };
        let Some(credentials) = entry.spec.credentials.clone().filter(|credentials| credentials.source().is_some())
        else {
            self.mailboxes.remove(mailbox);
            return;
        };
        let Some(source) = credentials.source() else { return };
        let secret = NamespacedName::new(&mailbox.namespace, source.secret_name());
        let access = self.access(mailbox);
        // What is to be generated says where the server is.
        if matches!(source, CredentialSource::Generate(_)) && access.is_none() {
            return;
        }
        let pending = self.is_pending(mailbox);
        let version = self.secret_versions.get(&secret).cloned();
        let state = self.mailboxes.entry(mailbox.clone()).or_default();
        if state.busy || !(pending || state.needs_read(&credentials, version.as_ref())) {
            return;
        }
        state.busy = true;
        state.reported = version;
        let job = Job { mailbox: mailbox.clone(), uid: entry.meta.uid.clone(), credentials, access };
        self.tools.metrics.secret_reads.inc();
        let (client, hasher, reads) = (self.tools.client.clone(), self.hasher.clone(), Arc::clone(&self.secret_reads));
        self.start(async move {
            let _turn = reads.acquire().await;
            Input::Credentials(run(client, hasher, job).await)
        });
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
        let Some(state) = self.mailboxes.get_mut(&read.mailbox) else { return };
        state.busy = false;
        match read.outcome {
            Ok(outcome) => {
                state.read = Some((read.credentials, read.version));
                let changes = self.directory.apply_credentials(&read.mailbox, outcome);
                self.absorb(changes);
                self.check_credentials(&read.mailbox);
            }
            Err(error) => {
                tracing::warn!(mailbox = %read.mailbox, error, "a Secret could not be read; it is tried again");
                self.tools.metrics.errors.inc();
                self.timers.set(Timer::Credentials(read.mailbox), Instant::now() + RETRY);
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
            let outcome = CredentialOutcome::Ready { verifiers: found.verifiers, versions: found.versions };
            let changes = self.directory.apply_credentials(&key.name, outcome);
            if let Some((credentials, version)) = found.current {
                let read = Some((credentials, Some(version)));
                self.mailboxes.insert(key.name.clone(), CredentialState { read, ..CredentialState::default() });
            }
            self.absorb(changes);
        }
    }

    fn restorable(&self, key: &ObjectKey, recovered: &Recovered) -> Option<Restorable> {
        let report = self.directory.report(key)?;
        let Details::Mailbox { address: Some(address), .. } = &report.details else { return None };
        let verifiers = recovered.verifiers.get(&address.canonical())?.clone();
        let credentials = self.directory.mailbox(&key.name)?.spec.credentials.clone()?;
        let secret_name = credentials.source()?.secret_name().to_owned();
        let Status::Mailbox(status) = &self.objects.get(key)?.status else { return None };
        let versions: Vec<SecretVersion> = status
            .credentials
            .iter()
            .map(|used| SecretVersion {
                name: used.secret_name.clone(),
                resource_version: used.resource_version.clone(),
            })
            .collect();
        let ready = conditions::find(&status.conditions, ConditionType::CredentialsReady)?;
        let used = versions.iter().find(|version| version.name == secret_name);
        let current = used
            .filter(|_| ready.status == "True" && ready.observed_generation == Some(report.generation))
            // A Secret that went meanwhile is reported by no watch any more.
            .filter(|_| self.secret_versions.contains_key(&NamespacedName::new(&key.name.namespace, &secret_name)))
            .map(|used| (credentials, used.resource_version.clone()));
        Some(Restorable { verifiers, versions, current })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_went_is_not_read_again_until_the_watch_says_something_new() {
        let credentials: Credentials =
            serde_json::from_value(serde_json::json!({ "passwordSecretRef": { "name": "anna" } })).unwrap();
        let version = |text: &str| Some(text.to_owned());
        let state = |read: Option<String>, reported: Option<String>| CredentialState {
            read: Some((credentials.clone(), read)),
            reported,
            busy: false,
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
            assert_eq!(state.needs_read(&credentials, watched.as_ref()), needed, "{sentence}");
        }
    }
}

//! The Secrets that MailServers and RelayPolicies name: which are to be read, and what came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use paquebot_config::Login;
use tokio::time::Instant;

use super::named_reads::NamedRead;
use super::objects::is_older;
use super::{Engine, Timer};
use crate::controllers::secrets_worker::SecretRead;
use crate::directory::{NamespacedName, ObjectKey, SecretPurpose, SecretReference, SecretUse};

/// How soon a Secret that could not be read is read again.
const RETRY: Duration = Duration::from_secs(5);

/// What is known of one Secret that an object names.
#[derive(Default)]
pub struct SecretState {
    /// What the spec said, and the version of the Secret, when it was last read; absent: it was not.
    read: Option<(SecretReference, Option<String>)>,
    /// The version that the watch had reported when that read began.
    reported: Option<String>,
    busy: bool,
    /// It could not be read when it was tried last.
    failed: bool,
}

impl SecretState {
    fn needs_read(&self, reference: &SecretReference, version: Option<&String>) -> bool {
        match &self.read {
            None => true,
            Some((read, _)) if read != reference => true,
            Some((_, Some(read))) => version.is_some_and(|version| version != read && !is_older(version, read)),
            Some((_, None)) => version.is_some() && version != self.reported.as_ref(),
        }
    }
}

impl Engine {
    pub(super) fn check_all_secrets(&mut self) {
        let uses: Vec<SecretUse> = self.directory.secret_uses().cloned().collect();
        for used in uses {
            self.check_secret(&used);
        }
    }

    /// Reads what an object names if there is something new to read.
    pub(super) fn check_secrets_of(&mut self, object: &ObjectKey) {
        for purpose in SecretPurpose::ALL {
            self.check_secret(&SecretUse { object: object.clone(), purpose });
        }
    }

    pub(super) fn check_secret(&mut self, used: &SecretUse) {
        if !self.is_synced() {
            return;
        }
        let Some(reference) = self.directory.secret_reference(used) else {
            self.secrets.remove(used);
            return;
        };
        let secret = NamespacedName::new(&used.object.name.namespace, &reference.name);
        let version = self.secret_versions.get(&secret).cloned();
        // What is named anew counts as never read, also when it was read before another was named.
        let unread = self.directory.is_unread(used);
        let state = self.secrets.entry(used.clone()).or_default();
        if state.busy || !(unread || state.needs_read(&reference, version.as_ref())) {
            return;
        }
        state.busy = true;
        state.reported = version;
        self.read_named(NamedRead::Secret(used.clone()));
    }

    pub(super) fn secret_read(&mut self, read: SecretRead) {
        self.named_read(&NamedRead::Secret(read.used.clone()));
        let Some(state) = self.secrets.get_mut(&read.used) else { return };
        state.busy = false;
        state.failed = read.outcome.is_err();
        match read.outcome {
            Ok(outcome) => {
                state.read = Some((read.reference.clone(), read.version));
                let changes = self.directory.apply_secret(&read.used, &read.reference, outcome);
                self.absorb(changes);
                self.check_secret(&read.used);
            }
            Err(error) => {
                tracing::warn!(object = %read.used.object, error, "a Secret could not be read; it is tried again");
                self.tools.metrics.errors.inc();
                self.status_dirty.insert(read.used.object.clone());
                self.timers.set(Timer::Secret(read.used), Instant::now() + RETRY);
            }
        }
    }

    /// Whether what an object names in Secrets is about to be read, so that what its status says may still be so.
    pub(super) fn waits_for_secrets(&self, object: &ObjectKey) -> bool {
        SecretPurpose::ALL.into_iter().any(|purpose| {
            let used = SecretUse { object: object.clone(), purpose };
            self.directory.is_unread(&used) && !self.secrets.get(&used).is_some_and(|state| state.failed)
        })
    }

    /// A Secret has changed, or is gone.
    pub(super) fn named_secret_changed(&mut self, secret: &NamespacedName, gone: bool) {
        let uses: Vec<SecretUse> = self.directory.uses_of_secret(secret).cloned().collect();
        for used in uses {
            if gone && let Some(state) = self.secrets.get_mut(&used) {
                state.read = None;
            }
            self.check_secret(&used);
        }
    }

    /// Takes over the logins that lie in a server's Secret, so that a restart takes nothing out of force.
    pub(super) fn restore_logins(&mut self, server: &NamespacedName, logins: BTreeMap<String, Login>) {
        let changes = self.directory.restore_logins(server, logins);
        self.absorb(changes);
    }

    /// The same for the authorities of clients' certificates.
    pub(super) fn restore_authorities(&mut self, server: &NamespacedName, reference: &SecretReference, pem: String) {
        let changes = self.directory.restore_authorities(server, reference, pem);
        self.absorb(changes);
    }

    pub(super) fn forget_secrets_of(&mut self, object: &ObjectKey) {
        self.secrets.retain(|used, _| used.object != *object);
    }
}

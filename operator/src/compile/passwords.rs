//! Verifiers for the passwords of manifests. A verifier that the output has already is kept where it still fits, so that
//! equal manifests give an equal configuration, and none is made twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use paquebot_config::{Configuration, Verifier};

use super::Compiled;
use crate::credentials::{self, HashError, Hasher, Material, Password, together};
use crate::directory::{CredentialFailure, CredentialOutcome, Details, NamespacedName, ObjectKey, SecretVersion};

/// What is remembered from one run to the next.
pub struct Passwords {
    hasher: Hasher,
    /// What a mailbox's Secret held under a key, and what came of it.
    known: HashMap<Place, (Vec<u8>, Verifier)>,
}

/// A Mailbox, a Secret that it names, and the key in it.
type Place = (NamespacedName, String, String);

/// What the passwords of one mailbox have given so far.
#[derive(Default)]
struct Found {
    own: Option<Verifier>,
    app_passwords: BTreeMap<String, Verifier>,
    secrets: BTreeSet<String>,
    failures: Vec<CredentialFailure>,
}

/// A password that is to be hashed, and the verifier that it opened before.
struct Open {
    place: Place,
    app_password: Option<String>,
    value: Vec<u8>,
    password: Password,
    earlier: Option<Verifier>,
}

impl Passwords {
    /// At most so many passwords are worked on together.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self { hasher: Hasher::new(at_once), known: HashMap::new() }
    }

    /// Only looks whether each password can be read; nothing is hashed.
    pub fn check(compiled: &mut Compiled, secrets: &BTreeMap<NamespacedName, Secret>) {
        for mailbox in compiled.mailboxes_with_credentials() {
            let sources = compiled.sources_of(&mailbox);
            let failures = sources.filter_map(|source| {
                let secret = secrets.get(&NamespacedName::new(&mailbox.namespace, source.secret_name()));
                credentials::material(source, &mailbox.namespace, secret).err()
            });
            if let Some(failure) = together(failures.collect()) {
                compiled.set_credentials(&mailbox, CredentialOutcome::failed(failure));
            }
        }
    }

    /// Gives every mailbox its verifiers.
    ///
    /// # Errors
    /// [`HashError`] when hashing does not work at all.
    pub async fn resolve(
        &mut self,
        compiled: &mut Compiled,
        secrets: &BTreeMap<NamespacedName, Secret>,
        earlier: Option<&Configuration>,
    ) -> Result<(), HashError> {
        let (mut all, mut open) = (BTreeMap::new(), Vec::new());
        for mailbox in compiled.mailboxes_with_credentials() {
            let found = self.look(compiled, &mailbox, secrets, earlier, &mut open);
            all.insert(mailbox, found);
        }
        let hasher = &self.hasher;
        let made = join_all(open.into_iter().map(|open| async move {
            let verifier = match open.earlier {
                Some(earlier) => earlier,
                None => hasher.hash(open.password).await?,
            };
            Ok::<_, HashError>((open.place, open.app_password, open.value, verifier))
        }));
        for result in made.await {
            let (place, app_password, value, verifier) = result?;
            if let Some(found) = all.get_mut(&place.0) {
                found.take(app_password.as_deref(), verifier.clone());
            }
            self.known.insert(place, (value, verifier));
        }
        for (mailbox, found) in all {
            compiled.set_credentials(&mailbox, found.outcome());
        }
        Ok(())
    }

    /// What of a mailbox's passwords is known; the rest is to be hashed.
    fn look(
        &self,
        compiled: &Compiled,
        mailbox: &NamespacedName,
        secrets: &BTreeMap<NamespacedName, Secret>,
        earlier: Option<&Configuration>,
        open: &mut Vec<Open>,
    ) -> Found {
        let mut found = Found::default();
        for source in compiled.sources_of(mailbox) {
            let (name, key) = (source.secret_name().to_owned(), source.key().to_owned());
            let secret = secrets.get(&NamespacedName::new(&mailbox.namespace, &name));
            let app_password = source.app_password().map(str::to_owned);
            match credentials::material(source, &mailbox.namespace, secret) {
                Err(failure) => {
                    found.failures.push(failure);
                    continue;
                }
                Ok(Material::Verifier(verifier)) => found.take(app_password.as_deref(), verifier),
                Ok(Material::Password(password)) => {
                    let value =
                        secret.and_then(|secret| secret.data.as_ref()?.get(&key)).cloned().unwrap_or_default().0;
                    let place = (mailbox.clone(), name.clone(), key);
                    match self.known.get(&place).filter(|(known, _)| *known == value) {
                        Some((_, verifier)) => found.take(app_password.as_deref(), verifier.clone()),
                        None => {
                            let earlier = earlier
                                .and_then(|earlier| verifier_of(compiled, mailbox, app_password.as_deref(), earlier))
                                .filter(|earlier| opens(&value, earlier));
                            open.push(Open { place, app_password, value, password, earlier });
                        }
                    }
                }
            }
            found.secrets.insert(name);
        }
        found
    }
}

impl Found {
    fn take(&mut self, app_password: Option<&str>, verifier: Verifier) {
        match app_password {
            Some(name) => drop(self.app_passwords.insert(name.to_owned(), verifier)),
            None => self.own = Some(verifier),
        }
    }

    fn outcome(self) -> CredentialOutcome {
        let version = |name| SecretVersion { name, resource_version: String::new() };
        let versions = self.secrets.into_iter().map(version).collect();
        let (own, app_passwords) = (self.own.map(|own| vec![own]), self.app_passwords);
        match together(self.failures) {
            None => CredentialOutcome::Ready { verifiers: own.unwrap_or_default(), app_passwords, versions },
            Some(failure) => CredentialOutcome::Partly { verifiers: own, app_passwords, versions, failure },
        }
    }
}

/// The verifier of a mailbox's password in the configuration that was written before.
fn verifier_of(
    compiled: &Compiled,
    mailbox: &NamespacedName,
    app_password: Option<&str>,
    earlier: &Configuration,
) -> Option<Verifier> {
    let key = ObjectKey::new(paquebot_crds::Kind::Mailbox, mailbox.clone());
    let Details::Mailbox { address: Some(address), .. } = compiled.directory.report(&key)?.details else { return None };
    let record = earlier.mailbox(&address)?;
    match app_password {
        None => record.verifiers.first().cloned(),
        Some(name) => record.app_passwords.iter().find(|app| app.name == name).map(|app| app.verifier.clone()),
    }
}

/// Whether the password in a Secret opens a verifier. A line end at its end does not belong to it, as where passwords
/// are hashed; were the two to differ, the password would be hashed once more.
fn opens(value: &[u8], verifier: &Verifier) -> bool {
    let password = value.strip_suffix(b"\n").unwrap_or(value);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    PasswordHash::new(verifier.expose()).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

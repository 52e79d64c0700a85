//! Verifiers for the passwords of manifests. A verifier that the output has already is kept where it still fits, so that
//! equal manifests give an equal configuration, and none is made twice.

use std::collections::{BTreeMap, HashMap};

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use futures::future::join_all;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use paquebot_config::{Configuration, Verifier};
use paquebot_crds::mailbox::CredentialSource;

use super::Compiled;
use crate::credentials::{self, HashError, Hasher, Material, Password};
use crate::directory::{CredentialOutcome, Details, NamespacedName, ObjectKey, SecretVersion};

/// What is remembered from one run to the next.
pub struct Passwords {
    hasher: Hasher,
    /// What a mailbox's Secret held, and what came of it.
    known: HashMap<NamespacedName, (String, BTreeMap<String, ByteString>, Verifier)>,
}

/// A password, and the verifier that it opened before.
struct Open {
    mailbox: NamespacedName,
    secret: String,
    data: BTreeMap<String, ByteString>,
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
            let Some(source) = compiled.source_of(&mailbox) else { continue };
            let secret = secrets.get(&NamespacedName::new(&mailbox.namespace, source.secret_name()));
            if let Err(failure) = credentials::material(source, &mailbox.namespace, secret) {
                compiled.set_credentials(&mailbox, CredentialOutcome::Failed(failure));
            }
        }
    }

    /// Gives every mailbox its verifier.
    ///
    /// # Errors
    /// [`HashError`] when hashing does not work at all.
    pub async fn resolve(
        &mut self,
        compiled: &mut Compiled,
        secrets: &BTreeMap<NamespacedName, Secret>,
        earlier: Option<&Configuration>,
    ) -> Result<(), HashError> {
        let mut open = Vec::new();
        for mailbox in compiled.mailboxes_with_credentials() {
            let Some(source) = compiled.source_of(&mailbox) else { continue };
            let name = source.secret_name().to_owned();
            let secret = secrets.get(&NamespacedName::new(&mailbox.namespace, &name));
            let data = secret.and_then(|secret| secret.data.clone()).unwrap_or_default();
            match credentials::material(source, &mailbox.namespace, secret) {
                Err(failure) => compiled.set_credentials(&mailbox, CredentialOutcome::Failed(failure)),
                Ok(Material::Verifier(verifier)) => compiled.set_credentials(&mailbox, ready(verifier, name)),
                Ok(Material::Password(password)) => match self.known.get(&mailbox) {
                    Some((secret, known, verifier)) if *secret == name && *known == data => {
                        compiled.set_credentials(&mailbox, ready(verifier.clone(), name));
                    }
                    _ => {
                        let earlier = earlier.and_then(|earlier| verifier_of(compiled, &mailbox, earlier));
                        let earlier = earlier.filter(|earlier| opens(source_key(compiled, &mailbox), &data, earlier));
                        open.push(Open { mailbox, secret: name, data, password, earlier });
                    }
                },
            }
        }
        let hasher = &self.hasher;
        let made = join_all(open.into_iter().map(|open| async move {
            let verifier = match open.earlier {
                Some(earlier) => earlier,
                None => hasher.hash(open.password).await?,
            };
            Ok::<_, HashError>((open.mailbox, open.secret, open.data, verifier))
        }));
        for result in made.await {
            let (mailbox, secret, data, verifier) = result?;
            compiled.set_credentials(&mailbox, ready(verifier.clone(), secret.clone()));
            self.known.insert(mailbox, (secret, data, verifier));
        }
        Ok(())
    }
}

fn ready(verifier: Verifier, secret: String) -> CredentialOutcome {
    let version = SecretVersion { name: secret, resource_version: String::new() };
    CredentialOutcome::Ready { verifiers: vec![verifier], versions: vec![version] }
}

/// The verifier of a mailbox in the configuration that was written before.
fn verifier_of(compiled: &Compiled, mailbox: &NamespacedName, earlier: &Configuration) -> Option<Verifier> {
    let key = ObjectKey::new(paquebot_crds::Kind::Mailbox, mailbox.clone());
    let Details::Mailbox { address: Some(address), .. } = compiled.directory.report(&key)?.details else { return None };
    earlier.mailbox(&address)?.verifiers.first().cloned()
}

/// The key of the Secret that holds a mailbox's password.
fn source_key<'a>(compiled: &'a Compiled, mailbox: &NamespacedName) -> &'a str {
    match compiled.source_of(mailbox) {
        Some(CredentialSource::Password(reference)) => &reference.key,
        _ => "password",
    }
}

/// Whether the password in a Secret opens a verifier. A line end at its end does not belong to it, as where passwords
/// are hashed; were the two to differ, the password would be hashed once more.
fn opens(key: &str, data: &BTreeMap<String, ByteString>, verifier: &Verifier) -> bool {
    let Some(ByteString(password)) = data.get(key) else { return false };
    let password = password.strip_suffix(b"\n").unwrap_or(password);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    PasswordHash::new(verifier.expose()).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

//! Reads the Secrets of one mailbox, makes the one that is to be generated, and hashes what they hold. Started by the
//! engine, which learns the outcome as an input.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, PostParams};
use kube::{Client, Resource};
use paquebot_config::Verifier;
use paquebot_crds::Mailbox;
use paquebot_crds::mailbox::{CredentialSource, Credentials};

use super::calls::{CallError, optional, within_deadline};
use crate::credentials::{Access, HashError, Hasher, Material, generated, material, together};
use crate::directory::{CredentialOutcome, NamespacedName, SecretVersion};

/// Verifiers that were made from passwords: what is in here is not hashed again. Mostly one.
#[derive(Debug, Clone, Default)]
pub struct Made(Box<[MadeVerifier]>);

#[derive(Debug, Clone)]
struct MadeVerifier {
    secret: Box<str>,
    key: Box<str>,
    /// The Secret's resourceVersion.
    version: Box<str>,
    verifier: Verifier,
}

impl Made {
    /// What was made from this version of a source.
    #[must_use]
    pub fn get(&self, source: CredentialSource<'_>, version: &str) -> Option<&Verifier> {
        let of_source = |made: &&MadeVerifier| *made.secret == *source.secret_name() && *made.key == *source.key();
        self.0.iter().find(of_source).filter(|made| *made.version == *version).map(|made| &made.verifier)
    }

    /// Notes what was made from a version of a source.
    pub fn set(&mut self, source: CredentialSource<'_>, version: &str, verifier: Verifier) {
        let (secret, key) = (source.secret_name(), source.key());
        let others = std::mem::take(&mut self.0).into_iter();
        let others = others.filter(|made| *made.secret != *secret || *made.key != *key);
        let one = MadeVerifier { secret: secret.into(), key: key.into(), version: version.into(), verifier };
        self.0 = others.chain([one]).collect();
    }
}

/// What is to be done for one mailbox.
pub struct Job {
    /// The Mailbox.
    pub mailbox: NamespacedName,
    /// Its `metadata.uid`, for the owner of a generated Secret.
    pub uid: String,
    /// What its spec says.
    pub credentials: Credentials,
    /// What a generated Secret says; absent while the address or the server is not known.
    pub access: Option<Access>,
    /// What was made before.
    pub made: Made,
}

/// What came of it.
pub struct CredentialsRead {
    /// The Mailbox.
    pub mailbox: NamespacedName,
    /// What its spec said.
    pub credentials: Credentials,
    /// The Secrets' resourceVersions as they were read, by name; `None`: there was no such Secret.
    pub versions: BTreeMap<String, Option<String>>,
    /// What was made from them.
    pub made: Made,
    /// For the index; an error is tried again.
    pub outcome: Result<CredentialOutcome, CallError>,
}

/// Does one job.
pub async fn run(client: Client, hasher: Hasher, job: Job) -> CredentialsRead {
    let (mut versions, mut made) = (BTreeMap::new(), Made::default());
    let outcome = match read(client, &job, &mut versions).await {
        Ok(secrets) => outcome(&hasher, &job, &secrets, &mut made).await.map_err(CallError::from),
        Err(error) => Err(error),
    };
    CredentialsRead { mailbox: job.mailbox, credentials: job.credentials, versions, made, outcome }
}

type Secrets = BTreeMap<String, Option<Secret>>;

/// The Secrets that the credentials name, each read once.
async fn read(
    client: Client,
    job: &Job,
    versions: &mut BTreeMap<String, Option<String>>,
) -> Result<Secrets, CallError> {
    let api: Api<Secret> = Api::namespaced(client, &job.mailbox.namespace);
    let mut secrets = Secrets::new();
    for source in job.credentials.sources() {
        let name = source.secret_name();
        if secrets.contains_key(name) {
            continue;
        }
        let mut secret = optional(api.get(name)).await?;
        if secret.is_none()
            && let (CredentialSource::Generate(_), Some(access)) = (source, &job.access)
        {
            secret = create(&api, job, name, access).await?;
        }
        versions.insert(name.to_owned(), version(secret.as_ref()));
        secrets.insert(name.to_owned(), secret);
    }
    Ok(secrets)
}

fn version(secret: Option<&Secret>) -> Option<String> {
    secret.and_then(|secret| secret.metadata.resource_version.clone())
}

/// What the Secrets give.
async fn outcome(
    hasher: &Hasher,
    job: &Job,
    secrets: &Secrets,
    made: &mut Made,
) -> Result<CredentialOutcome, HashError> {
    let (mut own, mut app_passwords, mut used) = (None, BTreeMap::new(), BTreeMap::new());
    let mut failures = Vec::new();
    for source in job.credentials.sources() {
        let secret = secrets.get(source.secret_name()).and_then(Option::as_ref);
        let version = version(secret).unwrap_or_default();
        let verifier = match material(source, &job.mailbox.namespace, secret) {
            Err(failure) => {
                failures.push(failure);
                continue;
            }
            Ok(Material::Verifier(verifier)) => verifier,
            Ok(Material::Password(password)) => {
                let earlier = job.made.get(source, &version).or_else(|| made.get(source, &version));
                let verifier = match earlier.filter(|_| !version.is_empty()) {
                    Some(verifier) => verifier.clone(),
                    None => hasher.hash(password).await?,
                };
                made.set(source, &version, verifier.clone());
                verifier
            }
        };
        used.insert(source.secret_name().to_owned(), version);
        match source.app_password() {
            Some(name) => drop(app_passwords.insert(name.to_owned(), verifier)),
            None => own = Some(vec![verifier]),
        }
    }
    let versions = used.into_iter().map(|(name, resource_version)| SecretVersion { name, resource_version }).collect();
    Ok(match together(failures) {
        None => CredentialOutcome::Ready { verifiers: own.unwrap_or_default(), app_passwords, versions },
        Some(failure) => CredentialOutcome::Partly { verifiers: own, app_passwords, versions, failure },
    })
}

/// Creates, never overwrites: who was faster has decided on the password.
async fn create(api: &Api<Secret>, job: &Job, name: &str, access: &Access) -> Result<Option<Secret>, CallError> {
    let data: BTreeMap<String, ByteString> = generated(access)?;
    let labels =
        [("app.kubernetes.io/managed-by", "paquebot-operator"), ("app.kubernetes.io/component", "mailbox-credentials")];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(job.mailbox.namespace.clone()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            owner_references: Some(vec![owner(job)]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    match within_deadline(api.create(&PostParams::default(), &secret)).await {
        Ok(created) => Ok(Some(created)),
        Err(error) if error.code() == Some(409) => optional(api.get(name)).await,
        Err(error) => Err(error),
    }
}

fn owner(job: &Job) -> OwnerReference {
    OwnerReference {
        api_version: Mailbox::api_version(&()).into_owned(),
        kind: Mailbox::kind(&()).into_owned(),
        name: job.mailbox.name.clone(),
        uid: job.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

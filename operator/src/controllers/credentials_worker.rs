//! Reads the Secret of one mailbox, makes it when it is to be generated, and hashes what it holds. Started by the engine,
//! which learns the outcome as an input.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, PostParams};
use kube::{Client, Resource};
use paquebot_crds::Mailbox;
use paquebot_crds::mailbox::{CredentialSource, Credentials};

use super::apply::{CallError, optional, within_deadline};
use crate::credentials::{Access, Hasher, Material, generated, material};
use crate::directory::{CredentialOutcome, NamespacedName, SecretVersion};

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
}

/// What came of it.
pub struct CredentialsRead {
    /// The Mailbox.
    pub mailbox: NamespacedName,
    /// What its spec said.
    pub credentials: Credentials,
    /// The Secret's resourceVersion as it was read; `None`: there was no Secret.
    pub version: Option<String>,
    /// For the index; an error is tried again.
    pub outcome: Result<CredentialOutcome, String>,
}

/// Does one job.
pub async fn run(client: Client, hasher: Hasher, job: Job) -> CredentialsRead {
    let mut version = None;
    let outcome = read(client, &hasher, &job, &mut version).await;
    CredentialsRead { mailbox: job.mailbox, credentials: job.credentials, version, outcome }
}

async fn read(
    client: Client,
    hasher: &Hasher,
    job: &Job,
    version: &mut Option<String>,
) -> Result<CredentialOutcome, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let Some(source) = job.credentials.source() else {
        return Ok(CredentialOutcome::Ready { verifiers: Vec::new(), versions: Vec::new() });
    };
    let api: Api<Secret> = Api::namespaced(client, &job.mailbox.namespace);
    let mut secret = optional(api.get(source.secret_name())).await.map_err(|error| text(&error))?;
    if secret.is_none()
        && let (CredentialSource::Generate(_), Some(access)) = (source, &job.access)
    {
        secret = create(&api, job, source.secret_name(), access).await.map_err(|error| text(&error))?;
    }
    version.clone_from(&secret.as_ref().and_then(|secret| secret.metadata.resource_version.clone()));
    let verifier = match material(source, &job.mailbox.namespace, secret.as_ref()) {
        Ok(Material::Verifier(verifier)) => verifier,
        Ok(Material::Password(password)) => hasher.hash(password).await.map_err(|error| text(&error))?,
        Err(failure) => return Ok(CredentialOutcome::Failed(failure)),
    };
    let used =
        SecretVersion { name: source.secret_name().to_owned(), resource_version: version.clone().unwrap_or_default() };
    Ok(CredentialOutcome::Ready { verifiers: vec![verifier], versions: vec![used] })
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

//! Writes the objects of one MailServer, in the order in which the pods need them, and recovers what lies there when the
//! operator starts. Started by the engine, at most once at a time for each server.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use paquebot_config::bundle::{SECRETS_FILE, SERVER_FILE};
use paquebot_config::{Filters, Login, Record, Secrets, ServerConfig, ShardName, Verifier};
use paquebot_crds::mail_server::{CertManager, CertificateSource};
use serde_json::json;

use super::apply::{Applied, Applier, Desired, Outcome, Target};
use super::beside::{Absent, Beside, is_foreign_api};
use super::calls::{CallError, optional, within_deadline};
use super::certificate::{self, Judged};
use super::{apis, cert_manager, volumes_worker};
use crate::credentials;
use crate::directory::{NamespacedName, SecretReference};
use crate::render::volumes::Volumes;
use crate::render::{self, Configuration, Server, Workload, names};

/// The field manager of everything that a MailServer owns.
const MANAGER: &str = "paquebot-operator-server";
/// Files of a configuration that are written together: each is held in memory meanwhile.
const FILES_AT_ONCE: usize = 4;

/// Why a pass ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For people.
    pub message: String,
    /// The API server refused an object; the same will be refused again.
    pub invalid: bool,
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self { message: error.to_string(), invalid: error.is_invalid() }
    }
}

/// What is to be written.
pub struct Pass {
    /// The MailServer.
    pub server: Server,
    /// The objects that run it.
    pub workload: Workload,
    /// The objects that carry its configuration.
    pub configuration: Configuration,
    /// What is remembered of the objects since the last pass.
    pub known: HashMap<Target, Applied>,
    /// The Secrets of shards without records that are still there.
    pub stale_shards: Vec<String>,
    /// A budget that is not wanted is known to be gone.
    pub budget_is_gone: bool,
    /// A Certificate that is not wanted is known to be gone.
    pub certificate_is_gone: bool,
    /// The claims of the pods, unless they are known to be as wanted.
    pub volumes: Option<Volumes>,
    /// What may stand beside the workload.
    pub beside: Beside,
    /// What is looked at beside the configuration.
    pub scope: Scope,
}

/// What a pass looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The configuration, the certificate, the keys and the objects that run the server.
    Everything,
    /// The configuration: nothing else has changed since the last pass.
    Configuration,
}

/// What came of it.
pub struct PassDone {
    /// The MailServer.
    pub server: NamespacedName,
    /// What is to be remembered of the objects.
    pub known: HashMap<Target, Applied>,
    /// The certificate, as far as the pass came.
    pub certificate: Option<Judged>,
    /// How many objects were written.
    pub written: usize,
    /// The Secrets of shards that are gone now.
    pub gone_shards: Vec<String>,
    /// A budget that is not wanted is gone.
    pub budget_is_gone: bool,
    /// A Certificate that is not wanted is gone.
    pub certificate_is_gone: bool,
    /// The size that each claim has.
    pub volume_size: Option<paquebot_crds::Quantity>,
    /// When to look again at what nothing watches.
    pub look_again: Option<Duration>,
    /// What is known to be gone, or impossible, beside the workload.
    pub absent: Absent,
    /// Whether the configuration is as wanted: what the domains, mailboxes, aliases and policies say.
    pub configuration: Result<(), Failure>,
    /// Whether the certificate and the objects that run the server are; this is nobody's concern but the MailServer's.
    pub workload: Result<(), Failure>,
    /// What the pass looked at.
    pub scope: Scope,
}

/// Does one pass.
pub async fn run(client: Client, pass: Pass) -> PassDone {
    let mut work = Work {
        applier: Applier::new(client.clone(), MANAGER),
        client,
        known: pass.known.clone(),
        certificate: None,
        written: 0,
        gone_shards: Vec::new(),
        budget_is_gone: pass.budget_is_gone,
        certificate_is_gone: pass.certificate_is_gone,
        volume_size: None,
        look_again: None,
        absent: pass.beside.absent.clone(),
    };
    let (configuration, workload) = work.all(&pass).await;
    PassDone {
        server: pass.server.name,
        known: work.known,
        certificate: work.certificate,
        written: work.written,
        gone_shards: work.gone_shards,
        budget_is_gone: work.budget_is_gone,
        certificate_is_gone: work.certificate_is_gone,
        volume_size: work.volume_size,
        look_again: work.look_again,
        absent: work.absent,
        configuration,
        workload,
        scope: pass.scope,
    }
}

struct Work {
    client: Client,
    applier: Applier,
    known: HashMap<Target, Applied>,
    certificate: Option<Judged>,
    written: usize,
    gone_shards: Vec<String>,
    budget_is_gone: bool,
    certificate_is_gone: bool,
    volume_size: Option<paquebot_crds::Quantity>,
    look_again: Option<Duration>,
    absent: Absent,
}

impl Work {
    /// What is wrong with the certificate or the workload keeps no mailbox from changing.
    async fn all(&mut self, pass: &Pass) -> (Result<(), Failure>, Result<(), Failure>) {
        if pass.scope == Scope::Configuration {
            return (self.configuration(pass).await, Ok(()));
        }
        let certificate = self.certificate(&pass.server).await.and(self.keys(&pass.server).await);
        if let Err(failure) = self.configuration(pass).await {
            return (Err(failure), certificate);
        }
        (Ok(()), certificate.and(self.workload(pass).await))
    }

    async fn configuration(&mut self, pass: &Pass) -> Result<(), Failure> {
        self.secrets(pass).await?;
        let configuration = &pass.configuration;
        // The index speaks of all the others, so it comes last.
        self.apply(Desired::new(&configuration.config_map)?).await?;
        for shard in &pass.stale_shards {
            let name = NamespacedName::new(&pass.server.name.namespace, shard);
            self.known.remove(&Target { kind: "Secret".to_owned(), name: name.clone() });
            self.applier.delete::<Secret>(&name, &names::metadata(&pass.server, shard.clone())).await?;
            self.gone_shards.push(shard.clone());
        }
        Ok(())
    }

    /// Writes the files that have changed, a few at a time: one after another they would keep everybody's change waiting while
    /// one tenant's changes touch them all.
    async fn secrets(&mut self, pass: &Pass) -> Result<(), Failure> {
        let (configuration, applier) = (&pass.configuration, &self.applier);
        let mut writes = Vec::new();
        for (file, digest) in &configuration.secrets {
            let name = render::secret_name(&pass.server.name.name, file);
            let name = NamespacedName::new(&pass.server.name.namespace, &name);
            let known = self.known.get(&Target { kind: "Secret".to_owned(), name });
            if !known.is_some_and(|known| known.is_made_from(digest)) {
                writes.push(async move {
                    let desired = Desired::new(&configuration.secret(&pass.server, file))?.made_from(digest);
                    written(applier, desired, known).await
                });
            }
        }
        let done: Vec<Result<(Target, Outcome), Failure>> =
            stream::iter(writes).buffer_unordered(FILES_AT_ONCE).collect().await;
        let mut failed = Ok(());
        for result in done {
            match result {
                Ok((target, outcome)) => self.remember(target, outcome),
                Err(failure) => failed = failed.and(Err(failure)),
            }
        }
        failed
    }

    /// Writes each object that can be written: one that the API server refuses does not keep the others from it.
    async fn workload(&mut self, pass: &Pass) -> Result<(), Failure> {
        let (server, workload) = (&pass.server, &pass.workload);
        let mut wanted = vec![
            Desired::new(&workload.service_account)?,
            Desired::new(&workload.headless_service)?,
            Desired::new(&workload.service)?,
            Desired::new(&workload.stateful_set)?,
        ];
        if let Some(budget) = &workload.disruption_budget {
            wanted.push(Desired::new(budget)?);
        }
        let mut refused = Ok(());
        for desired in wanted {
            match self.apply(desired).await {
                Err(failure) if failure.invalid => refused = refused.and(Err(failure)),
                applied => applied?,
            }
        }
        if workload.disruption_budget.is_none() && !self.budget_is_gone {
            let target = Target { kind: "PodDisruptionBudget".to_owned(), name: server.name.clone() };
            self.known.remove(&target);
            let ours = names::metadata(server, server.name.name.clone());
            self.applier.delete::<PodDisruptionBudget>(&server.name, &ours).await?;
            self.budget_is_gone = true;
        }
        let volumes = self.volumes(pass).await;
        refused.and(volumes).and(self.beside(pass).await)
    }

    async fn volumes(&mut self, pass: &Pass) -> Result<(), Failure> {
        let Some(volumes) = &pass.volumes else { return Ok(()) };
        let grown = volumes_worker::grow(&self.client, &pass.server.name, volumes).await?;
        self.written += grown.written;
        self.volume_size = grown.settled.then(|| volumes.size.clone());
        Ok(())
    }

    /// Writes what is wanted beside the workload, and takes away what is not.
    async fn beside(&mut self, pass: &Pass) -> Result<(), Failure> {
        let wanted = pass.beside.desired().map_err(Failure::from)?;
        for (resource, desired) in wanted {
            let kind = resource.kind.clone();
            match desired {
                Some(desired) => {
                    if self.absent.apis.contains(&kind) {
                        continue;
                    }
                    self.absent.objects.remove(&kind);
                    let written = self.known.contains_key(&desired.target);
                    if !written && is_foreign_api(&resource) && !apis::has(&self.client, &resource).await? {
                        self.absent.apis.insert(kind);
                        continue;
                    }
                    let target = desired.target.clone();
                    let applied = self.apply(desired).await;
                    if applied.is_err() && is_foreign_api(&resource) {
                        // Perhaps the kind has gone since it was written: the next pass asks.
                        self.known.remove(&target);
                    }
                    applied?;
                }
                None if self.absent.objects.contains(&kind) => {}
                None => {
                    if !is_foreign_api(&resource) || apis::has(&self.client, &resource).await? {
                        let name = &pass.server.name;
                        self.known.remove(&Target { kind: kind.clone(), name: name.clone() });
                        let ours = names::metadata(&pass.server, name.name.clone());
                        self.applier.delete_as(&resource, name, &ours).await?;
                    }
                    self.absent.objects.insert(kind.clone());
                    self.absent.apis.remove(&kind);
                }
            }
        }
        Ok(())
    }

    async fn apply(&mut self, desired: Desired) -> Result<(), Failure> {
        let known = self.known.get(&desired.target);
        let (target, outcome) = written(&self.applier, desired, known).await?;
        self.remember(target, outcome);
        Ok(())
    }

    fn remember(&mut self, target: Target, outcome: Outcome) {
        if matches!(outcome, Outcome::Written(_)) {
            self.written += 1;
        }
        self.known.insert(target, outcome.applied());
    }

    /// Makes the server's keys where there are none. They are never written again: senders that were rewritten with the old
    /// key would lead nowhere. Whoever wants others deletes the Secret.
    async fn keys(&mut self, server: &Server) -> Result<(), Failure> {
        let name = names::keys_secret(&server.name.name);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &server.name.namespace);
        if optional(api.get_metadata(&name)).await?.is_some() {
            return Ok(());
        }
        let random = || {
            let failed = |error: credentials::HashError| Failure { message: error.to_string(), invalid: false };
            credentials::random_password().map_err(failed)
        };
        let data = [(names::QUEUE_TOKEN_KEY, random()?), (names::SRS_KEY, random()?)];
        let secret = Secret {
            metadata: names::metadata(server, name),
            type_: Some("Opaque".to_owned()),
            data: Some(data.map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec()))).into()),
            ..Secret::default()
        };
        match within_deadline(api.create(&PostParams::default(), &secret)).await {
            Ok(_) => self.written += 1,
            // Somebody else was faster.
            Err(error) if error.code() == Some(409) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Judges the certificate; makes it first where it is ours to make.
    async fn certificate(&mut self, server: &Server) -> Result<(), Failure> {
        let secret_name = names::tls_secret(server);
        let own = is_own(server);
        let asked = match server.spec.tls.source() {
            CertificateSource::CertManager(source) => Some(self.ask_cert_manager(server, source).await),
            CertificateSource::Secret(_) | CertificateSource::SelfSigned => None,
        };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &server.name.namespace);
        let now = Timestamp::now();
        let mut secret = optional(api.get(&secret_name)).await?;
        if own {
            let wanted = render::certificate::names(server);
            let judged = secret.as_ref().map(|secret| judge(server, secret, &secret_name, own, now));
            if judged.is_none_or(|judged| certificate::needs_renewal(&judged, &wanted, now)) {
                let pair = certificate::self_signed(&wanted, now)
                    .map_err(|error| Failure { message: error.to_string(), invalid: false })?;
                let made = tls_secret(server, &secret_name, &pair);
                secret = Some(match secret {
                    None => self.create_certificate(&api, made).await?,
                    Some(_) => {
                        // Never compared: the old content is what is to go.
                        let target = Target {
                            kind: "Secret".to_owned(),
                            name: NamespacedName::new(&server.name.namespace, &secret_name),
                        };
                        self.known.remove(&target);
                        self.apply(Desired::new(&made)?).await?;
                        made
                    }
                });
            }
        }
        let judged = secret.as_ref().map(|secret| judge(server, secret, &secret_name, own, now));
        match asked {
            None => {
                let absent = || certificate::absent(&server.name.namespace, &secret_name);
                self.certificate = Some(judged.unwrap_or_else(absent));
                // What is left behind does no harm to the server; the next pass tries again.
                if let Err(failure) = self.withdraw_from_cert_manager(server).await {
                    let (server, error) = (&server.name, failure.message);
                    tracing::warn!(%server, error, "an earlier Certificate could not be looked for");
                }
                Ok(())
            }
            Some(Ok(words)) => {
                if judged.is_none() || words.as_ref().is_none_or(|words| !words.is_ready) {
                    self.look_again = Some(CERTIFICATE_AGAIN);
                }
                self.certificate = Some(cert_manager::judged(server, judged, words.as_ref()));
                Ok(())
            }
            // What is in use is judged all the same.
            Some(Err(failure)) => {
                self.certificate = Some(judged.unwrap_or_else(Judged::unknown));
                Err(failure)
            }
        }
    }

    /// Asks cert-manager for a certificate; what it says, or `None` where it is not installed.
    async fn ask_cert_manager(
        &mut self,
        server: &Server,
        source: &CertManager,
    ) -> Result<Option<cert_manager::Words>, Failure> {
        self.certificate_is_gone = false;
        if !apis::has(&self.client, &cert_manager::resource()).await? {
            return Ok(None);
        }
        self.apply(cert_manager::desired(server, source)?).await?;
        Ok(Some(cert_manager::read(&self.client, server).await?))
    }

    /// Takes back what was asked of cert-manager before another source was named.
    async fn withdraw_from_cert_manager(&mut self, server: &Server) -> Result<(), Failure> {
        if self.certificate_is_gone {
            return Ok(());
        }
        if apis::has(&self.client, &cert_manager::resource()).await? {
            let resource = cert_manager::resource();
            self.known.remove(&Target { kind: resource.kind.clone(), name: server.name.clone() });
            let ours = names::metadata(server, server.name.name.clone());
            self.applier.delete_as(&resource, &server.name, &ours).await?;
        }
        self.certificate_is_gone = true;
        Ok(())
    }

    /// Where there seemed to be no certificate, one that is there after all is not overwritten: another process, or this
    /// one before it crashed, may have been faster.
    async fn create_certificate(&mut self, api: &Api<Secret>, made: Secret) -> Result<Secret, Failure> {
        let name = made.metadata.name.clone().unwrap_or_default();
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match within_deadline(api.create(&parameters, &made)).await {
            Ok(created) => {
                self.written += 1;
                Ok(created)
            }
            Err(error) if error.code() == Some(409) => Ok(within_deadline(api.get(&name)).await?),
            Err(error) => Err(error.into()),
        }
    }
}

async fn written(applier: &Applier, desired: Desired, known: Option<&Applied>) -> Result<(Target, Outcome), Failure> {
    match applier.apply(&desired, known).await {
        Ok(outcome) => Ok((desired.target, outcome)),
        Err(error) => Err(Failure {
            message: format!("{} could not be written: {error}", desired.target),
            invalid: error.is_invalid(),
        }),
    }
}

/// How soon it is looked again whether cert-manager has issued. Its Secret is watched; this is for its words.
const CERTIFICATE_AGAIN: Duration = Duration::from_secs(10);

fn is_own(server: &Server) -> bool {
    matches!(server.spec.tls.source(), CertificateSource::SelfSigned)
}

/// Looks at the certificate of a paused server, and writes nothing.
///
/// # Errors
/// What the API server says.
pub async fn look_at_certificate(client: Client, server: Server) -> Result<Judged, Failure> {
    let name = names::tls_secret(&server);
    let api: Api<Secret> = Api::namespaced(client, &server.name.namespace);
    Ok(match optional(api.get(&name)).await? {
        Some(secret) => judge(&server, &secret, &name, is_own(&server), Timestamp::now()),
        None => certificate::absent(&server.name.namespace, &name),
    })
}

fn judge(server: &Server, secret: &Secret, name: &str, own: bool, now: Timestamp) -> Judged {
    let data = |key: &str| {
        secret.data.as_ref().and_then(|data| data.get(key)).map(|value| value.0.as_slice()).unwrap_or_default()
    };
    certificate::judge(data("tls.crt"), data("tls.key"), server.spec.hostname.as_str(), own, now, name)
}

fn tls_secret(server: &Server, name: &str, pair: &certificate::KeyPairPem) -> Secret {
    let data = [("tls.crt", pair.certificate.clone()), ("tls.key", pair.key.to_vec())];
    Secret {
        metadata: names::metadata(server, name.to_owned()),
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data.map(|(key, value)| (key.to_owned(), ByteString(value))).into()),
        ..Secret::default()
    }
}

/// What lay in a server's directory when the operator started.
pub struct Recovered {
    /// Verifiers by canonical address, so that nothing is hashed again.
    pub verifiers: HashMap<String, RecoveredVerifiers>,
    /// The scripts around those of mailboxes by domain: they stay in force while newer ones are wrong.
    pub filters: HashMap<String, Filters>,
    /// The Secrets of shards that exist.
    pub shards: Vec<String>,
    /// The logins in `secrets.json`, so that a Secret that went meanwhile keeps its last good login.
    pub logins: BTreeMap<String, Login>,
    /// The authorities of clients' certificates in `server.json`, for the same reason, and whose they are.
    pub authorities: Option<(SecretReference, String)>,
    /// The digests of the files in the index that is there.
    pub digests: HashMap<String, String>,
}

/// What opens one mailbox.
#[derive(Clone)]
pub struct RecoveredVerifiers {
    /// Whose mailbox it is.
    pub tenant: String,
    /// Its own password's.
    pub own: Vec<Verifier>,
    /// Those of its app passwords, by name.
    pub app_passwords: BTreeMap<String, Verifier>,
}

/// Reads a server's directory. A line that cannot be read is passed over: its mailbox is hashed again. Secrets that the
/// index names are read also where somebody has taken their label, or an operator wrote them that knew none.
///
/// # Errors
/// What the API server says.
pub async fn recover(client: Client, server: NamespacedName) -> Result<Recovered, Failure> {
    let config: Api<ConfigMap> = Api::namespaced(client.clone(), &server.namespace);
    let config = optional(config.get(&names::config_map(&server.name))).await?;
    let api: Api<Secret> = Api::namespaced(client, &server.namespace);
    // Not the server's keys, nor its certificate: nothing of them is needed here.
    let (label, content) = names::FILE_LABEL;
    let labels = names::labels(&server.name).into_iter().chain([(label.to_owned(), content.to_owned())]);
    let selector = labels.map(|(key, value)| format!("{key}={value}"));
    let selector = selector.collect::<Vec<_>>().join(",");
    let mut recovered = Recovered {
        verifiers: HashMap::new(),
        filters: HashMap::new(),
        shards: Vec::new(),
        logins: BTreeMap::new(),
        authorities: config.as_ref().and_then(authorities),
        digests: digests(config),
    };
    let mut parameters = ListParams::default().labels(&selector).limit(16);
    loop {
        let page = within_deadline(api.list(&parameters)).await?;
        for secret in page.items {
            recovered.take(&server, secret);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => break,
        }
    }
    for name in recovered.unlisted(&server.name) {
        if let Some(secret) = optional(api.get(&name)).await? {
            recovered.take(&server, secret);
        }
    }
    Ok(recovered)
}

/// Authorities of which it is not said whose they are, are nobody's.
fn authorities(config: &ConfigMap) -> Option<(SecretReference, String)> {
    let of = config.metadata.annotations.as_ref()?.get(names::AUTHORITIES_ANNOTATION)?;
    let (name, key) = of.split_once('/')?;
    let text = config.data.as_ref()?.get(SERVER_FILE)?;
    let pem = serde_json::from_str::<ServerConfig>(text).ok()?.tls.client_authorities?;
    Some((SecretReference { name: name.to_owned(), key: Some(key.to_owned()) }, pem))
}

/// The digests of a ConfigMap's index; none where it cannot be read.
fn digests(config: Option<ConfigMap>) -> HashMap<String, String> {
    let text = config.and_then(|config| config.data?.remove(paquebot_config::bundle::INDEX_FILE));
    let index: Option<paquebot_config::Index> = text.and_then(|text| serde_json::from_str(&text).ok());
    index.into_iter().flat_map(|index| index.shards).map(|entry| (entry.name, entry.sha256)).collect()
}

impl Recovered {
    /// The Secrets with files of the index that no list has brought.
    fn unlisted(&self, server: &str) -> Vec<String> {
        let names = self.digests.keys().filter_map(|file| render::secret_of_file(server, file));
        names.filter(|name| !self.shards.contains(name)).collect()
    }

    fn take(&mut self, server: &NamespacedName, secret: Secret) {
        let name = secret.metadata.name.unwrap_or_default();
        let Some(file) = name.strip_prefix(&format!("{}-", server.name)) else { return };
        if name == names::secrets_secret(&server.name) {
            let bytes = secret.data.and_then(|mut data| data.remove(SECRETS_FILE)).unwrap_or_default().0;
            self.logins = serde_json::from_slice::<Secrets>(&bytes).map(|secrets| secrets.logins).unwrap_or_default();
            self.shards.push(name);
            return;
        }
        if ShardName::from_file_name(file).is_none() {
            return;
        }
        let bytes = secret.data.and_then(|mut data| data.remove(file)).unwrap_or_default().0;
        for line in bytes.split(|byte| *byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Record::Mailbox(mailbox)) if !mailbox.verifiers.is_empty() => {
                    let address = mailbox.address.canonical();
                    let app_passwords = mailbox.app_passwords.into_iter().map(|app| (app.name, app.verifier)).collect();
                    let (tenant, own) = (mailbox.tenant, mailbox.verifiers);
                    self.verifiers.insert(address, RecoveredVerifiers { tenant, own, app_passwords });
                }
                Ok(Record::Domain(domain)) if domain.filters != Filters::default() => {
                    self.filters.insert(domain.domain.to_string(), domain.filters);
                }
                _ => {}
            }
        }
        self.shards.push(name);
    }
}

/// Changes the annotation of a pod, so that the kubelet refreshes its volumes now.
///
/// # Errors
/// What the API server says.
pub async fn nudge(client: Client, pod: NamespacedName, revision: String, attempt: u32) -> Result<(), CallError> {
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace);
    let mut annotations: BTreeMap<&str, String> = BTreeMap::from([(names::REVISION_ANNOTATION, revision)]);
    if attempt > 0 {
        annotations.insert(ATTEMPT_ANNOTATION, attempt.to_string());
    }
    let patch = json!({ "metadata": { "annotations": annotations } });
    optional(api.patch(&pod.name, &PatchParams::default(), &Patch::Merge(&patch))).await.map(drop)
}

/// Changes when the first annotation was not enough.
const ATTEMPT_ANNOTATION: &str = "paquebot.dev/config-refresh-attempt";

//! What the scenarios share: namespaces, objects, an operator that runs, and pods that only answer `/configz`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use paquebot_config::bundle::digest;
use paquebot_config::{Index, Record, ShardName};
use paquebot_crds::conditions::{self, ConditionType};
use paquebot_operator::controllers;
use paquebot_operator::controllers::engine::Settings;
use paquebot_operator::controllers::health::Health;
use paquebot_operator::controllers::watches::Scope;
use paquebot_operator::dns::seen;
use paquebot_operator::metrics::Metrics;
use paquebot_operator::render::Defaults;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// How long anything may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(60);

/// The API server with our definitions.
pub async fn install_definitions(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in paquebot_crds::manifest::definitions() {
        let name = definition.metadata.name.clone().unwrap();
        let parameters = PatchParams::apply("test").force();
        api.patch(&name, &parameters, &Patch::Apply(&definition)).await.unwrap();
        eventually(&format!("{name} is established"), async || {
            let status = api.get(&name).await.ok()?.status?;
            status.conditions?.iter().any(|c| c.type_ == "Established" && c.status == "True").then_some(())
        })
        .await;
    }
}

/// Waits until something is there.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, look).await
}

/// The same for what is known to take its time.
pub async fn eventually_within<T>(patience: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begin.elapsed() < patience, "this did not happen within {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A namespace of one scenario.
#[derive(Clone)]
pub struct Space {
    pub client: Client,
    pub name: String,
}

impl Space {
    pub async fn new(client: &Client, name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        Self { client: client.clone(), name }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// As `kubectl apply` does it.
    pub async fn apply<K>(&self, name: &str, fields: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let mut body = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": { "name": name, "namespace": self.name },
        });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let parameters = PatchParams::apply("person").force();
        self.api::<K>().patch(name, &parameters, &Patch::Apply(&body)).await.unwrap()
    }

    pub async fn get<K>(&self, name: &str) -> Option<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        self.api::<K>().get_opt(name).await.unwrap()
    }

    /// Waits until an object exists.
    pub async fn exists<K>(&self, name: &str) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        eventually(&format!("{} {name} exists", K::kind(&())), async || self.get::<K>(name).await).await
    }

    /// Waits until a condition has a status and a reason.
    pub async fn condition<K>(&self, name: &str, kind: ConditionType, status: &str, reason: &str) -> String
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let wanted = format!("{} {name} has {kind}={status} {reason}", K::kind(&()));
        let mut last = String::new();
        let begin = Instant::now();
        loop {
            let object = serde_json::to_value(self.get::<K>(name).await).unwrap();
            let list = object.pointer("/status/conditions").cloned().unwrap_or_else(|| json!([]));
            let list: Vec<_> = serde_json::from_value(list).unwrap();
            if let Some(found) = conditions::find(&list, kind) {
                if found.status == status && found.reason == reason {
                    return found.message.clone();
                }
                last = format!("{} {}: {}", found.status, found.reason, found.message);
            }
            assert!(begin.elapsed() < PATIENCE, "this did not happen: {wanted}; it is {last}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A MailServer whose DNS nobody answers for.
    pub async fn server(&self, name: &str) -> paquebot_crds::MailServer {
        let spec = json!({
            "hostname": format!("{name}.server1.com"),
            "dns": { "resolvers": ["127.0.0.1:1"] },
        });
        self.apply(name, json!({ "spec": spec })).await
    }

    pub async fn domain(&self, domain: &str, server: &str) -> paquebot_crds::MailDomain {
        self.apply(domain, json!({ "spec": { "domain": domain, "serverRef": { "name": server } } })).await
    }

    /// A Mailbox whose password lies in a Secret of its name.
    pub async fn mailbox(&self, name: &str, domain: &str) -> paquebot_crds::Mailbox {
        let credentials = json!({ "passwordSecretRef": { "name": name } });
        let spec = json!({ "domainRef": { "name": domain }, "localPart": name, "credentials": credentials });
        self.apply(name, json!({ "spec": spec })).await
    }

    pub async fn secret(&self, name: &str, key: &str, value: &str) -> Secret {
        self.apply(name, json!({ "stringData": { key: value } })).await
    }

    /// The index that was written for a server.
    pub async fn index(&self, server: &str) -> Option<Index> {
        let config: ConfigMap = self.get(&format!("{server}-config")).await?;
        serde_json::from_str(config.data?.get("index.json")?).ok()
    }

    /// The lines of a server's directory by address.
    pub async fn records(&self, server: &str) -> BTreeMap<String, Record> {
        let mut records = BTreeMap::new();
        for entry in self.index(server).await.map(|index| index.shards).unwrap_or_default() {
            if !entry.name.starts_with("directory-") {
                continue;
            }
            let secret: Option<Secret> = self.get(&format!("{server}-{}", entry.name)).await;
            let bytes = secret.and_then(|secret| secret.data?.remove(&entry.name)).unwrap_or_default().0;
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let record: Record = serde_json::from_slice(line).unwrap();
                records.insert(record.key(), record);
            }
        }
        records
    }

    /// The verifier of a mailbox, as it lies in the one file that the index names for it.
    pub async fn verifier(&self, server: &str, address: &str) -> Option<String> {
        let shard = ShardName::of(address).to_string();
        let listed = self.index(server).await?.shards.into_iter().find(|entry| entry.name == shard)?;
        let secret: Secret = self.get(&format!("{server}-{shard}")).await?;
        let bytes = secret.data?.remove(&shard)?.0;
        if digest(&bytes) != listed.sha256 {
            return None;
        }
        let mut records = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        match records.find(|record: &Record| record.key() == address)? {
            Record::Mailbox(mailbox) => mailbox.verifiers.first().map(|verifier| verifier.expose().to_owned()),
            Record::Domain(_) | Record::Alias(_) => None,
        }
    }

    /// A pod as the StatefulSet's controller, the kubelet and the server would make it: ready, at loopback, serving what
    /// was written last.
    pub async fn pod(&self, server: &str) {
        let name = format!("{server}-0");
        let labels = paquebot_operator::render::names::labels(server);
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": name, "labels": labels },
            "spec": { "serviceAccountName": format!("{server}-server"), "automountServiceAccountToken": false, "containers": [{ "name": "server", "image": "localhost/none:test" }] },
        }))
        .unwrap();
        self.api::<Pod>().create(&PostParams::default(), &pod).await.unwrap();
        let status = json!({ "status": {
            "phase": "Running", "podIP": "127.0.0.1", "podIPs": [{ "ip": "127.0.0.1" }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        }});
        self.api::<Pod>().patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }
}

/// The server part of a pod: it answers with the newest configuration that was written.
pub async fn serve_configz(space: &Space, server: &str) -> u16 {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().route("/configz", get(configz)).with_state((space.clone(), server.to_owned()));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    port
}

/// A server that keeps what it has now, whatever is written.
pub async fn serve_frozen_configz(space: &Space, server: &str) -> u16 {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = configz(State((space.clone(), server.to_owned()))).await.0;
    let router = Router::new().route("/configz", get(async move || Json(answer.clone())));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    port
}

/// The same, which refuses what is written from now on in these words.
pub async fn serve_refusing_configz(space: &Space, server: &str, words: &str) -> u16 {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut answer = configz(State((space.clone(), server.to_owned()))).await.0;
    answer["error"] = json!(words);
    let router = Router::new().route("/configz", get(async move || Json(answer.clone())));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    port
}

/// What such a server answers.
pub async fn configz(State((space, server)): State<(Space, String)>) -> Json<Value> {
    let Some(index) = space.index(&server).await else {
        return Json(json!({ "revision": null, "error": "nothing yet" }));
    };
    let digests: BTreeMap<String, String> = index.shards.into_iter().map(|entry| (entry.name, entry.sha256)).collect();
    Json(json!({ "revision": index.revision.as_str(), "error": null, "digests": digests }))
}

/// How an operator of a test works.
pub fn settings(pod_admin_port: u16) -> Settings {
    Settings {
        default_server: None,
        defaults: Defaults { image: "localhost/paquebot-server:test".to_owned(), operator_namespace: None },
        dns: seen::Settings { timeout: Duration::from_millis(200), ..seen::Settings::default() },
        pod_admin_port,
        hashes_at_once: 2,
    }
}

/// An operator inside this process, that looks after one namespace.
pub struct Operator {
    pub metrics: Arc<Metrics>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), controllers::StartError>>,
}

impl Operator {
    pub fn start(space: &Space, pod_admin_port: u16) -> Self {
        let dns = seen::Settings { timeout: Duration::from_millis(200), ..seen::Settings::default() };
        Self::start_asking(space, pod_admin_port, dns)
    }

    /// One that asks name servers in another way.
    pub fn start_asking(space: &Space, pod_admin_port: u16, dns: seen::Settings) -> Self {
        Self::start_in(space, &[], pod_admin_port, dns)
    }

    /// One that looks after further namespaces as well.
    pub fn start_in(space: &Space, further: &[&Space], pod_admin_port: u16, dns: seen::Settings) -> Self {
        let namespaces = [space].into_iter().chain(further.iter().copied()).map(|space| space.name.clone()).collect();
        let metrics = Arc::new(Metrics::default());
        let stop = CancellationToken::new();
        let settings = Settings { dns, ..settings(pod_admin_port) };
        let work = controllers::run(
            space.client.clone(),
            settings,
            Scope::Namespaces(namespaces),
            Arc::new(Health::default()),
            Arc::clone(&metrics),
            None,
            stop.clone(),
        );
        Self { metrics, stop, task: tokio::spawn(work) }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

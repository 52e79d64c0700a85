//! The table and what else only an API server can tell: defaults, columns, short names, field selectors, subresources.

use std::path::Path;
use std::time::Duration;
use std::{fs, process};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt};
use paquebot_crds::{Kind, MailAlias, MailDomain, MailServer, Mailbox, RelayPolicy, manifest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cases::{self, CASES, CHANGES, smallest};
use crate::readable::unreadable;
use crate::samples::{examples, largest};
use crate::server::ApiServer;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_real_api_server_keeps_the_rules() {
    let server = ApiServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let problems = runtime.block_on(async {
        let world = World::new(server.client().await).await;
        let mut problems = Vec::new();
        world.refuses_and_accepts(&mut problems).await;
        world.refuses_changes(&mut problems).await;
        world.takes_the_examples(&mut problems).await;
        world.takes_the_largest(&mut problems).await;
        world.fills_in_defaults(&mut problems).await;
        world.selects_by_field(&mut problems).await;
        world.keeps_status_apart(&mut problems).await;
        world.prints_columns(&mut problems).await;
        world.knows_short_names(&mut problems).await;
        world.end().await;
        problems
    });
    drop(server);
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// An API server with our definitions, and a namespace for what the test creates.
struct World {
    client: Client,
    namespace: String,
}

fn resource(kind: Kind) -> ApiResource {
    match kind {
        Kind::MailServer => ApiResource::erase::<MailServer>(&()),
        Kind::MailDomain => ApiResource::erase::<MailDomain>(&()),
        Kind::Mailbox => ApiResource::erase::<Mailbox>(&()),
        Kind::MailAlias => ApiResource::erase::<MailAlias>(&()),
        Kind::RelayPolicy => ApiResource::erase::<RelayPolicy>(&()),
    }
}

fn object(kind: Kind, name: &str, spec: Value) -> DynamicObject {
    DynamicObject::new(name, &resource(kind)).data(json!({"spec": spec}))
}

fn dry_run() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

/// What the API server said, in its own words.
fn refusal<T>(result: Result<T, kube::Error>) -> Option<String> {
    match result {
        Ok(_) => None,
        Err(kube::Error::Api(status)) => Some(status.message.clone()),
        Err(error) => panic!("the API server cannot be talked to: {error}"),
    }
}

fn compare(problems: &mut Vec<String>, what: &str, wanted: Option<&str>, said: Option<&str>) {
    match (wanted, said) {
        (None, None) => {}
        (None, Some(said)) => problems.push(format!("{what}: should be accepted, but: {said}")),
        (Some(wanted), None) => problems.push(format!("{what}: should be refused with: {wanted}")),
        (Some(wanted), Some(said)) if said.contains(wanted) => {}
        (Some(wanted), Some(said)) => problems.push(format!("{what}: should be refused with: {wanted}\n  but: {said}")),
    }
}

impl World {
    async fn new(client: Client) -> Self {
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for file in manifest::files().unwrap() {
            // What is applied is what is in the repository, as a person would apply it.
            let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file.name)).unwrap();
            let definition: CustomResourceDefinition = serde_saphyr::from_str(&text).unwrap();
            let name = definition.name_any();
            let applied = definitions
                .patch(&name, &PatchParams::apply("paquebot-crds-test").force(), &Patch::Apply(&definition))
                .await;
            applied.unwrap_or_else(|error| panic!("the API server does not take {}: {error}", file.name));
            let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
            let established = tokio::time::timeout(PATIENCE, established).await;
            established.expect("the definition is established in time").unwrap();
        }
        let namespace = format!("paquebot-crds-{}", process::id());
        let metadata = ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() };
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await.unwrap();
        let world = Self { client, namespace };
        for kind in Kind::ALL {
            world.wait_until_served(kind).await;
        }
        world
    }

    /// The endpoint appears a moment after the definition is established.
    async fn wait_until_served(&self, kind: Kind) {
        let api = self.api(kind);
        let served = async {
            while let Err(error) = api.list(&ListParams::default()).await {
                assert!(matches!(&error, kube::Error::Api(status) if status.code == 404), "{kind}: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, served).await.unwrap_or_else(|_| panic!("{kind} is not served in time"));
    }

    async fn end(&self) {
        for kind in Kind::ALL {
            self.api(kind).delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await.unwrap();
    }

    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource(kind))
    }

    fn typed<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn create(&self, kind: Kind, name: &str, difference: &str) {
        let wanted = object(kind, name, cases::spec(kind, difference));
        let created = self.api(kind).create(&PostParams::default(), &wanted).await;
        created.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
    }

    async fn refuses_and_accepts(&self, problems: &mut Vec<String>) {
        for case in CASES {
            let wanted = object(case.kind, "case", cases::spec(case.kind, case.spec));
            let result = self.api(case.kind).create(&dry_run(), &wanted).await;
            let what = format!("{}: {}", case.kind, case.name);
            if let Ok(stored) = &result
                && let Some(problem) = unreadable(case.kind, &stored.data["spec"])
            {
                problems.push(format!("{what}: accepted, but our types cannot read it: {problem}"));
            }
            compare(problems, &what, case.refusal, refusal(result).as_deref());
        }
    }

    async fn refuses_changes(&self, problems: &mut Vec<String>) {
        for kind in Kind::ALL {
            self.create(kind, "change", "{}").await;
        }
        for change in CHANGES {
            let spec: Value = serde_saphyr::from_str(change.patch).unwrap();
            let parameters = PatchParams { dry_run: true, ..PatchParams::default() };
            let patch = json!({"spec": spec});
            let result = self.api(change.kind).patch("change", &parameters, &Patch::Merge(&patch)).await;
            compare(problems, &format!("{}: {}", change.kind, change.name), change.refusal, refusal(result).as_deref());
        }
    }

    async fn takes_the_examples(&self, problems: &mut Vec<String>) {
        for (what, kind, manifest) in examples() {
            let wanted = object(kind, "example", manifest["spec"].clone());
            let said = refusal(self.api(kind).create(&dry_run(), &wanted).await);
            compare(problems, &what, None, said.as_deref());
        }
    }

    /// Rules have a budget at run time too: the largest objects that the bounds allow must fit.
    async fn takes_the_largest(&self, problems: &mut Vec<String>) {
        for (kind, spec) in largest() {
            let said = refusal(self.api(kind).create(&dry_run(), &object(kind, "largest", spec)).await);
            compare(problems, &format!("{kind}: the largest"), None, said.as_deref());
        }
    }

    /// Reading a manifest without an API server gives the same defaults as with one.
    async fn fills_in_defaults(&self, problems: &mut Vec<String>) {
        self.same_defaults::<MailServer>(Kind::MailServer, problems).await;
        self.same_defaults::<MailDomain>(Kind::MailDomain, problems).await;
        self.same_defaults::<Mailbox>(Kind::Mailbox, problems).await;
        self.same_defaults::<MailAlias>(Kind::MailAlias, problems).await;
        self.same_defaults::<RelayPolicy>(Kind::RelayPolicy, problems).await;
    }

    async fn same_defaults<K: Serialize + DeserializeOwned>(&self, kind: Kind, problems: &mut Vec<String>) {
        let manifest = object(kind, "defaults", smallest(kind));
        let stored = self.api(kind).create(&dry_run(), &manifest).await.unwrap();
        let ours: K = serde_json::from_value(serde_json::to_value(&manifest).unwrap()).unwrap();
        let ours = serde_json::to_value(&ours).unwrap();
        if ours["spec"] != stored.data["spec"] {
            problems
                .push(format!("{kind}: our defaults are {}\n  the API server's {}", ours["spec"], stored.data["spec"]));
        }
    }

    async fn selects_by_field(&self, problems: &mut Vec<String>) {
        self.create(Kind::MailDomain, "one", "{domain: one.example, serverRef: {name: first}}").await;
        self.create(Kind::MailDomain, "two", "{domain: two.example, serverRef: {name: second}}").await;
        self.create(Kind::Mailbox, "one", "{domainRef: {name: one}}").await;
        self.create(Kind::MailAlias, "one", "{domainRef: {name: one}}").await;
        self.create(Kind::RelayPolicy, "one", "{serverRef: {name: first}}").await;
        for (kind, selector) in [
            (Kind::MailDomain, "spec.domain=one.example"),
            (Kind::MailDomain, "spec.serverRef.name=first"),
            (Kind::Mailbox, "spec.domainRef.name=one"),
            (Kind::MailAlias, "spec.domainRef.name=one"),
            (Kind::RelayPolicy, "spec.serverRef.name=first"),
        ] {
            let found = self.api(kind).list(&ListParams::default().fields(selector)).await.unwrap();
            let names: Vec<String> = found.iter().map(ResourceExt::name_any).collect();
            if names != ["one"] {
                problems.push(format!("{kind} selected by {selector} gives {names:?}"));
            }
        }
    }

    /// A status is written on its own, its conditions are a map by type, and a MailServer can be scaled.
    async fn keeps_status_apart(&self, problems: &mut Vec<String>) {
        let generation = |object: &DynamicObject| object.metadata.generation;
        for kind in Kind::ALL {
            let api = self.api(kind);
            let before = api.get("change").await.unwrap();
            let status = json!({"status": {"conditions": [condition("Ready"), condition("DNSReady")]}});
            let written = api.patch_status("change", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
            if generation(&written) != generation(&before) {
                problems.push(format!("{kind}: a write of the status moved the generation"));
            }
            let twice = json!({"status": {"conditions": [condition("Ready"), condition("Ready")]}});
            let refused = refusal(api.patch_status("change", &PatchParams::default(), &Patch::Merge(&twice)).await);
            compare(
                problems,
                &format!("{kind}: two conditions of one type"),
                Some("Duplicate value"),
                refused.as_deref(),
            );
        }
        let servers = self.typed::<MailServer>();
        let status = json!({"status": {"replicas": 1, "readyReplicas": 1, "selector": "app=mail"}});
        servers.patch_status("change", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        let scale = servers.get_scale("change").await.unwrap();
        let (wanted, observed) = (scale.spec.and_then(|spec| spec.replicas), scale.status);
        let observed = observed.map(|status| (status.replicas, status.selector.unwrap_or_default()));
        if wanted != Some(1) || observed != Some((1, "app=mail".to_owned())) {
            problems.push(format!("the scale of a MailServer is {wanted:?}, {observed:?}"));
        }
    }

    async fn prints_columns(&self, problems: &mut Vec<String>) {
        let address = json!({"status": {"addresses": [{"type": "IPAddress", "value": "192.0.2.25"}],
            "conditions": [condition("Ready"), condition("SourceIPPreserved")]}});
        let servers = self.api(Kind::MailServer);
        servers.patch_status("change", &PatchParams::default(), &Patch::Merge(&address)).await.unwrap();
        let mailboxes = self.api(Kind::Mailbox);
        let address = json!({"status": {"address": "anna@example.com"}});
        mailboxes.patch_status("change", &PatchParams::default(), &Patch::Merge(&address)).await.unwrap();
        let policy = json!({"spec": {"serverRef": {"name": "default"}}});
        let policies = self.api(Kind::RelayPolicy);
        policies.patch("change", &PatchParams::default(), &Patch::Merge(&policy)).await.unwrap();
        let expected: [(Kind, &[(&str, Value)]); 5] = [
            (
                Kind::MailServer,
                &[
                    ("Ready", json!("True")),
                    ("Replicas", json!(1)),
                    ("Address", json!("192.0.2.25")),
                    ("SourceIP", json!("True")),
                    ("Age", Value::Null),
                ],
            ),
            (
                Kind::MailDomain,
                &[
                    ("Domain", json!("example.com")),
                    ("Ready", json!("True")),
                    ("Reason", json!("Ready")),
                    ("DNS", json!("True")),
                    ("Mailboxes", Value::Null),
                    ("Age", Value::Null),
                ],
            ),
            (
                Kind::Mailbox,
                &[
                    ("Address", json!("anna@example.com")),
                    ("Ready", json!("True")),
                    ("Reason", json!("Ready")),
                    ("Age", Value::Null),
                ],
            ),
            (Kind::MailAlias, &[("Address", Value::Null), ("Ready", json!("True")), ("Reason", json!("Ready"))]),
            (Kind::RelayPolicy, &[("Server", json!("default")), ("Ready", json!("True")), ("Reason", json!("Ready"))]),
        ];
        for (kind, columns) in expected {
            let table = self.table(kind).await;
            let names: Vec<&str> =
                values(&table["columnDefinitions"]).skip(1).filter_map(|column| column["name"].as_str()).collect();
            let wanted: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
            if names != wanted {
                problems.push(format!("{kind} has the columns {names:?}, not {wanted:?}"));
            }
            let Some(row) = values(&table["rows"]).find(|row| row["cells"][0] == "change") else {
                problems.push(format!("{kind}: no row in {table}"));
                continue;
            };
            for (cell, (name, value)) in values(&row["cells"]).skip(1).zip(columns) {
                if !value.is_null() && cell != value {
                    problems.push(format!("{kind}: the column {name} shows {cell}, not {value}"));
                }
            }
        }
    }

    /// What `kubectl get` asks for.
    async fn table(&self, kind: Kind) -> Value {
        let url = format!("/apis/paquebot.dev/v1alpha1/namespaces/{}/{}", self.namespace, resource(kind).plural);
        let request = http::Request::get(url)
            .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(Vec::new())
            .unwrap();
        self.client.request(request).await.unwrap()
    }

    async fn knows_short_names(&self, problems: &mut Vec<String>) {
        let resources = self.client.list_api_group_resources("paquebot.dev/v1alpha1").await.unwrap().resources;
        for (kind, short) in Kind::ALL.into_iter().zip(["ms", "md", "mbx", "malias", "rp"]) {
            let resource =
                resources.iter().find(|resource| resource.kind == kind.as_str() && !resource.name.contains('/'));
            let names = resource.and_then(|resource| resource.short_names.clone()).unwrap_or_default();
            let categories = resource.and_then(|resource| resource.categories.clone()).unwrap_or_default();
            if names != [short] || categories != ["mail"] || !resource.is_some_and(|resource| resource.namespaced) {
                problems.push(format!("{kind} has the short names {names:?} and the categories {categories:?}"));
            }
        }
    }
}

fn values(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn condition(condition_type: &str) -> Value {
    json!({"type": condition_type, "status": "True", "reason": "Ready", "message": "It is.",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1})
}

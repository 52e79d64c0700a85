//! What administrators do with a server that runs: pause it, stop it, enlarge its volume, have cert-manager look after its
//! certificate.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use paquebot_crds::conditions::ConditionType as Type;
use paquebot_crds::{MailDomain, MailServer, Mailbox};
use serde_json::{Value, json};

use crate::world::{Operator, Space, eventually, serve_configz};

async fn server(space: &Space, more: Value) {
    let mut spec = json!({ "hostname": "mx1.server1.com", "dns": { "resolvers": ["127.0.0.1:1"] } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    space.apply::<MailServer>("mx1", json!({ "spec": spec })).await;
}

async fn replicas(space: &Space) -> Option<i32> {
    space.exists::<StatefulSet>("mx1").await.spec.unwrap().replicas
}

pub async fn a_paused_server_is_left_alone(client: &Client) {
    let space = Space::new(client, "paused").await;
    let port = serve_configz(&space, "mx1").await;
    let operator = Operator::start(&space, port);
    server(&space, json!({})).await;
    space.domain("server1.com", "mx1").await;
    space.exists::<StatefulSet>("mx1").await;
    space.pod("mx1").await;
    space.condition::<MailServer>("mx1", Type::Paused, "False", "NotPaused").await;
    space.condition::<MailDomain>("server1.com", Type::Ready, "True", "Ready").await;

    server(&space, json!({ "operations": { "paused": true }, "resources": { "requests": { "cpu": "77m" } } })).await;
    let words = space.condition::<MailServer>("mx1", Type::Paused, "True", "Paused").await;
    assert!(words.contains("spec.operations.paused"), "{words}");
    let before = space.index("mx1").await.unwrap().revision;
    let version = |set: StatefulSet| set.metadata.resource_version;
    let set_before = version(space.exists("mx1").await);
    let written = operator.metrics.objects_written.get();
    let spec = json!({ "domainRef": { "name": "server1.com" }, "localPart": "anna" });
    space.apply::<Mailbox>("anna", json!({ "spec": spec })).await;
    let words = space.condition::<Mailbox>("anna", Type::Programmed, "Unknown", "Propagating").await;
    assert!(words.contains("paused"), "{words}");
    space.condition::<Mailbox>("anna", Type::Accepted, "True", "Accepted").await;
    space.condition::<MailServer>("mx1", Type::CertificateReady, "True", "SelfSigned").await;
    assert_eq!(space.index("mx1").await.unwrap().revision, before, "the configuration was written");
    assert_eq!(version(space.exists("mx1").await), set_before, "the workload was written");
    assert_eq!(operator.metrics.objects_written.get(), written);
    operator.stop().await;

    // A new operator leaves it alone as well, whatever is missing.
    space.api::<Secret>().delete("mx1-tls", &DeleteParams::default()).await.unwrap();
    let operator = Operator::start(&space, port);
    space.condition::<MailServer>("mx1", Type::CertificateReady, "False", "NotFound").await;
    assert_eq!(operator.metrics.objects_written.get(), 0);

    server(&space, json!({ "resources": { "requests": { "cpu": "77m" } } })).await;
    space.condition::<Mailbox>("anna", Type::Ready, "True", "Ready").await;
    space.condition::<MailServer>("mx1", Type::CertificateReady, "True", "SelfSigned").await;
    eventually("resuming catches up with the workload", async || {
        let set = serde_json::to_value(space.get::<StatefulSet>("mx1").await?).unwrap();
        let cpu = set.pointer("/spec/template/spec/containers/0/resources/requests/cpu").cloned();
        (cpu == Some(json!("77m"))).then_some(())
    })
    .await;
    operator.stop().await;
}

pub async fn a_stopped_server_says_so(client: &Client) {
    let space = Space::new(client, "stopped").await;
    let port = serve_configz(&space, "mx1").await;
    let operator = Operator::start(&space, port);
    server(&space, json!({ "operations": { "stopped": true } })).await;
    let words = space.condition::<MailServer>("mx1", Type::Available, "False", "Stopped").await;
    assert!(words.contains("spec.operations.stopped") && words.contains("mail is kept"), "{words}");
    assert_eq!(replicas(&space).await, Some(0));
    let set: StatefulSet = space.exists("mx1").await;
    let retention = set.spec.unwrap().persistent_volume_claim_retention_policy.unwrap();
    assert_eq!(retention.when_deleted.as_deref(), Some("Retain"));
    assert_eq!(retention.when_scaled.as_deref(), Some("Retain"));
    // `kubectl scale` does not start it.
    let api = space.api::<MailServer>();
    let scale = json!({ "spec": { "replicas": 1 } });
    api.patch_scale("mx1", &PatchParams::default(), &Patch::Merge(&scale)).await.unwrap();
    space.condition::<MailServer>("mx1", Type::Ready, "False", "Stopped").await;
    assert_eq!(replicas(&space).await, Some(0));

    server(&space, json!({})).await;
    eventually("the server is started", async || (replicas(&space).await == Some(1)).then_some(())).await;
    space.condition::<MailServer>("mx1", Type::Available, "False", "PodsNotReady").await;
    operator.stop().await;
}

async fn storage_class(client: &Client, name: &str, expands: bool) -> String {
    let name = format!("{name}-{}", std::process::id());
    let class: StorageClass = serde_json::from_value(json!({
        "metadata": { "name": name }, "provisioner": "test.paquebot.dev", "allowVolumeExpansion": expands,
    }))
    .unwrap();
    Api::<StorageClass>::all(client.clone()).create(&PostParams::default(), &class).await.unwrap();
    name
}

/// What the StatefulSet controller and a provisioner would make.
async fn bound_claim(space: &Space, class: &str, size: &str) {
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": { "name": "data-mx1-0" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class, "volumeName": "volume-1",
            "resources": { "requests": { "storage": size } },
        },
    }))
    .unwrap();
    let api = space.api::<PersistentVolumeClaim>();
    api.create(&PostParams::default(), &claim).await.unwrap();
    let status = json!({ "status": { "phase": "Bound", "capacity": { "storage": size } } });
    api.patch_status("data-mx1-0", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

fn storage(class: &str, size: &str) -> Value {
    json!({ "storage": { "embedded": { "size": size, "storageClassName": class } } })
}

async fn claimed(space: &Space) -> Value {
    let claim = serde_json::to_value(space.exists::<PersistentVolumeClaim>("data-mx1-0").await).unwrap();
    claim.pointer("/spec/resources/requests/storage").cloned().unwrap()
}

pub async fn volumes_grow(client: &Client) {
    let class = storage_class(client, "grows", true).await;
    let space = Space::new(client, "volumes").await;
    let port = serve_configz(&space, "mx1").await;
    let operator = Operator::start(&space, port);
    bound_claim(&space, &class, "1Gi").await;
    server(&space, storage(&class, "1Gi")).await;
    space.exists::<StatefulSet>("mx1").await;
    space.pod("mx1").await;
    space.condition::<MailServer>("mx1", Type::Ready, "True", "Ready").await;

    server(&space, storage(&class, "2Gi")).await;
    eventually("the claim is enlarged", async || (claimed(&space).await == json!("2Gi")).then_some(())).await;
    space.condition::<MailServer>("mx1", Type::Ready, "True", "Ready").await;
    let set = serde_json::to_value(space.exists::<StatefulSet>("mx1").await).unwrap();
    let template = set.pointer("/spec/volumeClaimTemplates/0/spec/resources/requests/storage");
    assert_eq!(template, Some(&json!("1Gi")), "the template stays as it was made");

    server(&space, storage(&class, "1Gi")).await;
    let words = space.condition::<MailServer>("mx1", Type::Accepted, "False", "InvalidSpec").await;
    assert!(words.contains("cannot shrink") && words.contains("set it to 2Gi"), "{words}");
    assert_eq!(claimed(&space).await, json!("2Gi"));
    server(&space, storage(&class, "2Gi")).await;
    space.condition::<MailServer>("mx1", Type::Accepted, "True", "Accepted").await;
    operator.stop().await;

    let class = storage_class(client, "stays", false).await;
    let space = Space::new(client, "volumes-stay").await;
    let port = serve_configz(&space, "mx1").await;
    let operator = Operator::start(&space, port);
    bound_claim(&space, &class, "1Gi").await;
    server(&space, storage(&class, "3Gi")).await;
    let words = space.condition::<MailServer>("mx1", Type::Accepted, "False", "InvalidSpec").await;
    assert!(words.contains("allowVolumeExpansion") && words.contains(&class), "{words}");
    operator.stop().await;
}

/// As much of cert-manager's definition as the operator uses.
async fn install_cert_manager(client: &Client) {
    let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": { "name": "certificates.cert-manager.io" },
        "spec": {
            "group": "cert-manager.io", "scope": "Namespaced",
            "names": { "plural": "certificates", "singular": "certificate", "kind": "Certificate" },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": {
                    "type": "object", "properties": { "spec": anything, "status": anything },
                } },
            }],
        },
    }))
    .unwrap();
    Api::<CustomResourceDefinition>::all(client.clone()).create(&PostParams::default(), &definition).await.unwrap();
}

fn certificates(space: &Space) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "cert-manager.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "cert-manager.io/v1".to_owned(),
        kind: "Certificate".to_owned(),
        plural: "certificates".to_owned(),
    };
    Api::namespaced_with(space.client.clone(), &space.name, &resource)
}

async fn certificate_says(space: &Space, ready: &str, message: &str) {
    let condition = json!({ "type": "Ready", "status": ready, "reason": "Test", "message": message });
    let status = json!({ "status": { "conditions": [condition] } });
    certificates(space).patch_status("mx1", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

/// What an issuer would put into the Secret.
async fn issue(space: &Space, days: u64) {
    let mut parameters = rcgen::CertificateParams::new(vec!["mx1.server1.com".to_owned()]).unwrap();
    let now = std::time::SystemTime::now();
    parameters.not_before = (now - Duration::from_hours(24 * 80)).into();
    parameters.not_after = (now + Duration::from_hours(24 * days)).into();
    let key = rcgen::KeyPair::generate().unwrap();
    let data = [("tls.crt", parameters.self_signed(&key).unwrap().pem()), ("tls.key", key.serialize_pem())];
    let data = data.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())));
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "mx1-certificate" }, "type": "kubernetes.io/tls",
        "data": std::collections::BTreeMap::from(data),
    });
    let parameters = PatchParams::apply("cert-manager").force();
    space.api::<Secret>().patch("mx1-certificate", &parameters, &Patch::Apply(&secret)).await.unwrap();
}

pub async fn cert_manager_is_asked(client: &Client) {
    let space = Space::new(client, "certmanager").await;
    let port = serve_configz(&space, "mx1").await;
    let operator = Operator::start(&space, port);
    let asked = || json!({ "tls": { "certManager": { "issuerRef": { "name": "ca", "kind": "ClusterIssuer" } } } });
    server(&space, asked()).await;
    eventually("it is said that cert-manager is missing", async || {
        let words = space.condition::<MailServer>("mx1", Type::CertificateReady, "Unknown", "Issuing").await;
        words.contains("cert-manager is not installed").then_some(())
    })
    .await;
    space.exists::<StatefulSet>("mx1").await;
    assert!(space.get::<Secret>("mx1-tls").await.is_none(), "the operator signs nothing itself");

    install_cert_manager(client).await;
    let certificate =
        eventually("a Certificate is asked for", async || certificates(&space).get_opt("mx1").await.ok().flatten())
            .await;
    assert_eq!(certificate.metadata.owner_references.as_ref().unwrap()[0].kind, "MailServer");
    let spec = certificate.data.get("spec").unwrap();
    assert_eq!(spec.get("secretName"), Some(&json!("mx1-certificate")));
    assert_eq!(spec.get("dnsNames"), Some(&json!(["mx1.server1.com"])));
    assert_eq!(
        spec.get("issuerRef"),
        Some(&json!({ "name": "ca", "kind": "ClusterIssuer", "group": "cert-manager.io" }))
    );

    certificate_says(&space, "False", "the issuer ca was not found").await;
    eventually("cert-manager's own words are told", async || {
        let words = space.condition::<MailServer>("mx1", Type::CertificateReady, "Unknown", "Issuing").await;
        words.contains("the issuer ca was not found").then_some(())
    })
    .await;
    certificate_says(&space, "True", "Certificate is up to date and has not expired").await;
    issue(&space, 60).await;
    space.condition::<MailServer>("mx1", Type::CertificateReady, "True", "Valid").await;
    let status = space.get::<MailServer>("mx1").await.unwrap().status.unwrap();
    assert_eq!(status.certificate.unwrap().names, ["mx1.server1.com"]);

    // One that ends soon is spoken of.
    issue(&space, 5).await;
    eventually("the condition and an event tell that the certificate ends soon", async || {
        use k8s_openapi::api::events::v1::Event;
        let words = space.condition::<MailServer>("mx1", Type::CertificateReady, "True", "Valid").await;
        let events = space.api::<Event>().list(&kube::api::ListParams::default()).await.unwrap();
        let told = events.iter().any(|event| event.reason.as_deref() == Some("CertificateEndsSoon"));
        (told && words.contains("ends soon")).then_some(())
    })
    .await;

    // Another source: what was asked of cert-manager is taken back.
    server(&space, json!({})).await;
    eventually("the Certificate is gone", async || {
        certificates(&space).get_opt("mx1").await.unwrap().is_none().then_some(())
    })
    .await;
    space.condition::<MailServer>("mx1", Type::CertificateReady, "True", "SelfSigned").await;
    operator.stop().await;
}

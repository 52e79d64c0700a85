//! What is applied, and what comes of it.

use std::collections::BTreeMap;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordVerifier};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Client, Resource};
use paquebot_config::ShardName;
use paquebot_crds::conditions::ConditionType as Type;
use paquebot_crds::{MailAlias, MailDomain, MailServer, Mailbox, RelayPolicy};
use serde_json::json;

use crate::world::{Operator, Space, eventually, serve_configz};

/// The whole way for one server, then a new operator that has nothing to do.
pub async fn objects_become_a_server(client: &Client) {
    let space = Space::new(client, "whole").await;
    let port = serve_configz(&space, "mx1").await;
    let operator = Operator::start(&space, port);
    space.secret("anna", "password", "anna-password").await;
    space.server("mx1").await;
    space.domain("server1.com", "mx1").await;
    space.mailbox("anna", "server1.com").await;
    let alias = json!({ "domainRef": { "name": "server1.com" }, "localPart": "info", "targets": [{ "mailboxRef": { "name": "anna" } }] });
    space.apply::<MailAlias>("info", json!({ "spec": alias })).await;
    let policy = json!({ "serverRef": { "name": "mx1" }, "from": [{ "cidrs": ["192.0.2.0/24"] }] });
    space.apply::<RelayPolicy>("office", json!({ "spec": policy })).await;

    let set: StatefulSet = space.exists("mx1").await;
    assert_eq!(set.metadata.owner_references.unwrap()[0].kind, "MailServer");
    space.exists::<Service>("mx1").await;
    space.exists::<Service>("mx1-pods").await;
    space.exists::<ServiceAccount>("mx1-server").await;
    space.exists::<PodDisruptionBudget>("mx1").await;
    let tls: Secret = space.exists("mx1-tls").await;
    assert_eq!(tls.type_.as_deref(), Some("kubernetes.io/tls"));
    space.condition::<MailServer>("mx1", Type::CertificateReady, "True", "SelfSigned").await;
    space.condition::<MailServer>("mx1", Type::Available, "False", "PodsNotReady").await;
    space.condition::<MailServer>("mx1", Type::Programmed, "False", "NoReadyReplicas").await;
    space.condition::<Mailbox>("anna", Type::CredentialsReady, "True", "Hashed").await;
    space.condition::<Mailbox>("anna", Type::Ready, "False", "NoReadyReplicas").await;
    space.condition::<MailDomain>("server1.com", Type::DNSReady, "Unknown", "LookupFailed").await;

    space.pod("mx1").await;
    space.condition::<MailServer>("mx1", Type::Ready, "True", "Ready").await;
    space.condition::<MailDomain>("server1.com", Type::Programmed, "True", "Programmed").await;
    space.condition::<MailDomain>("server1.com", Type::OwnershipVerified, "True", "NotRequired").await;
    space.condition::<Mailbox>("anna", Type::Ready, "True", "Ready").await;
    space.condition::<MailAlias>("info", Type::Ready, "True", "Ready").await;
    space.condition::<RelayPolicy>("office", Type::Ready, "True", "Ready").await;
    let domain: MailDomain = space.get("server1.com").await.unwrap();
    let status = domain.status.unwrap();
    assert_eq!((status.mailbox_count, status.alias_count), (1, 1));
    let zone = status.dns.unwrap().zone_file.unwrap();
    assert!(zone.contains("server1.com. 3600 IN MX 10 mx1.server1.com."), "{zone}");
    let revision = space.index("mx1").await.unwrap().revision.to_string();
    let status = eventually("the status follows the revision", async || {
        let status = space.get::<MailServer>("mx1").await?.status?;
        (status.configuration.as_ref()?.revision == revision).then_some(status)
    })
    .await;
    assert_eq!((status.replicas, status.ready_replicas), (1, 1));
    assert_eq!(status.addresses.len(), 1);
    assert!(status.certificate.unwrap().names.contains(&"mx1.server1.com".to_owned()));
    eventually("an event tells that the mailbox is ready", async || {
        let events = space.api::<Event>().list(&ListParams::default()).await.unwrap();
        let tells = |event: &Event| {
            let about = event.regarding.as_ref().and_then(|about| about.kind.as_deref()) == Some("Mailbox");
            about && event.reason.as_deref() == Some("Ready")
        };
        events.iter().any(tells).then_some(())
    })
    .await;
    operator.stop().await;

    second_operator_writes_nothing(&space, port).await;
}

/// A new operator over an unchanged world, and then one mailbox more, which tells that all before it was looked at.
async fn second_operator_writes_nothing(space: &Space, port: u16) {
    let before = versions(space).await;
    let operator = Operator::start(space, port);
    eventually("the domain's records are looked at", async || (operator.metrics.dns_looks.get() > 0).then_some(()))
        .await;
    let spec = json!({ "domainRef": { "name": "server1.com" }, "localPart": "marker" });
    space.apply::<Mailbox>("marker", json!({ "spec": spec })).await;
    space.condition::<Mailbox>("marker", Type::Ready, "True", "Ready").await;
    space.condition::<Mailbox>("marker", Type::CredentialsReady, "True", "ReceiveOnly").await;
    assert_eq!(operator.metrics.secret_reads.get(), 0, "a restart must not hash again");
    let after = versions(space).await;
    let changed: Vec<&String> =
        before.iter().filter(|(name, version)| after.get(*name) != Some(version)).map(|(name, _)| name).collect();
    let expected = ["ConfigMap mx1-config", "MailDomain server1.com", "MailServer mx1", "Pod mx1-0"];
    assert!(changed.iter().all(|name| expected.contains(&name.as_str())), "{changed:?} were written");
    let shard_and_config = 2;
    assert_eq!(operator.metrics.objects_written.get(), shard_and_config);
    operator.stop().await;
}

/// The resourceVersion of everything in a namespace that the operator writes.
async fn versions(space: &Space) -> BTreeMap<String, String> {
    fn erase<K: Resource<DynamicType = ()>>() -> ApiResource {
        ApiResource::erase::<K>(&())
    }
    let kinds = [
        erase::<MailServer>(),
        erase::<MailDomain>(),
        erase::<Mailbox>(),
        erase::<MailAlias>(),
        erase::<RelayPolicy>(),
        erase::<StatefulSet>(),
        erase::<Service>(),
        erase::<ServiceAccount>(),
        erase::<PodDisruptionBudget>(),
        erase::<ConfigMap>(),
        erase::<Secret>(),
        erase::<Pod>(),
    ];
    let mut versions = BTreeMap::new();
    for kind in kinds {
        let api: Api<DynamicObject> = Api::namespaced_with(space.client.clone(), &space.name, &kind);
        for object in api.list(&ListParams::default()).await.unwrap() {
            let name = object.metadata.name.unwrap();
            versions.insert(format!("{} {name}", kind.kind), object.metadata.resource_version.unwrap());
        }
    }
    versions
}

fn opens(verifier: &str, password: &str) -> bool {
    let hash = PasswordHash::new(verifier).unwrap();
    Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
}

pub async fn passwords_follow_their_secrets(client: &Client) {
    let space = Space::new(client, "passwords").await;
    let operator = Operator::start(&space, 1);
    space.server("mx1").await;
    space.domain("server1.com", "mx1").await;
    space.mailbox("tom", "server1.com").await;
    let message = space.condition::<Mailbox>("tom", Type::CredentialsReady, "False", "SecretNotFound").await;
    assert!(message.contains("Secret tom does not exist"), "{message}");

    space.secret("tom", "password", "first").await;
    space.condition::<Mailbox>("tom", Type::CredentialsReady, "True", "Hashed").await;
    let has = async |password: &str| {
        let what = format!("the directory has the verifier of {password}");
        eventually(&what, async || {
            let verifier = space.verifier("mx1", "tom@server1.com").await?;
            opens(&verifier, password).then_some(())
        })
        .await;
    };
    has("first").await;
    let changed = space.secret("tom", "password", "second").await;
    has("second").await;
    eventually("the status names the Secret's version", async || {
        let status = space.get::<Mailbox>("tom").await?.status?;
        (Some(&status.credentials.first()?.resource_version) == changed.metadata.resource_version.as_ref())
            .then_some(())
    })
    .await;

    // The Secret loses its key: the old password keeps working.
    let patch = json!({ "data": { "password": null, "other": "eA==" } });
    space.api::<Secret>().patch("tom", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    space.condition::<Mailbox>("tom", Type::CredentialsReady, "False", "SecretKeyMissing").await;
    has("second").await;
    operator.stop().await;
    // Also when the operator starts anew.
    let operator = Operator::start(&space, 1);
    eventually("the Secret was read", async || (operator.metrics.secret_reads.get() > 0).then_some(())).await;
    space.condition::<Mailbox>("tom", Type::CredentialsReady, "False", "SecretKeyMissing").await;
    has("second").await;

    let credentials = json!({ "generate": { "secretName": "jack-access" } });
    let spec = json!({ "domainRef": { "name": "server1.com" }, "localPart": "jack", "credentials": credentials });
    space.apply::<Mailbox>("jack", json!({ "spec": spec })).await;
    space.condition::<Mailbox>("jack", Type::CredentialsReady, "True", "Generated").await;
    let secret: Secret = space.exists("jack-access").await;
    let text = |key: &str| String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap();
    assert_eq!((text("username"), text("host")), ("jack@server1.com".to_owned(), format!("mx1.{}.svc", space.name)));
    eventually("the generated password opens the mailbox", async || {
        let verifier = space.verifier("mx1", "jack@server1.com").await?;
        opens(&verifier, &text("password")).then_some(())
    })
    .await;
    operator.stop().await;
}

pub async fn references_heal(client: &Client) {
    let space = Space::new(client, "references").await;
    let operator = Operator::start(&space, 1);
    space.mailbox("anna", "server1.com").await;
    space.condition::<Mailbox>("anna", Type::Accepted, "False", "DomainNotFound").await;
    space.domain("server1.com", "mx1").await;
    space.condition::<MailDomain>("server1.com", Type::Accepted, "False", "ServerNotFound").await;
    space.condition::<MailDomain>("server1.com", Type::DNSReady, "Unknown", "Verifying").await;
    space.server("mx1").await;
    space.condition::<MailDomain>("server1.com", Type::Accepted, "True", "Accepted").await;
    space.condition::<Mailbox>("anna", Type::Accepted, "True", "Accepted").await;

    // A second claim for the same domain and the same address: the older has it.
    let spec = json!({ "domain": "server1.com", "serverRef": { "name": "mx1" } });
    space.apply::<MailDomain>("zz-later", json!({ "spec": spec })).await;
    space.condition::<MailDomain>("zz-later", Type::Accepted, "False", "DomainConflict").await;
    let spec = json!({ "domainRef": { "name": "server1.com" }, "localPart": "anna" });
    space.apply::<Mailbox>("zz-anna", json!({ "spec": spec })).await;
    space.condition::<Mailbox>("zz-anna", Type::Accepted, "False", "AddressConflict").await;
    space.api::<Mailbox>().delete("anna", &DeleteParams::default()).await.unwrap();
    space.condition::<Mailbox>("zz-anna", Type::Accepted, "True", "Accepted").await;
    operator.stop().await;
}

pub async fn drift_is_put_right(client: &Client) {
    let space = Space::new(client, "drift").await;
    let operator = Operator::start(&space, 1);
    space.server("mx1").await;
    space.domain("server1.com", "mx1").await;
    space.condition::<MailDomain>("server1.com", Type::Accepted, "True", "Accepted").await;
    space.exists::<PodDisruptionBudget>("mx1").await;
    let shard = ShardName::of("server1.com").to_string();
    let index = eventually("the domain is in the configuration", async || {
        let index = space.index("mx1").await?;
        let has_domain = index.shards.iter().any(|entry| entry.name == shard && entry.records == 1);
        has_domain.then_some(index)
    })
    .await;

    let patch = json!({ "data": { "index.json": "{}" } });
    space.api::<ConfigMap>().patch("mx1-config", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    eventually("the ConfigMap is put right", async || (space.index("mx1").await? == index).then_some(())).await;
    let patch = json!({ "spec": { "template": { "spec": { "terminationGracePeriodSeconds": 1 } } } });
    space.api::<StatefulSet>().patch("mx1", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    eventually("the StatefulSet is put right", async || {
        let set: StatefulSet = space.get("mx1").await?;
        (set.spec?.template.spec?.termination_grace_period_seconds? > 1).then_some(())
    })
    .await;
    space.api::<Service>().delete("mx1", &DeleteParams::default()).await.unwrap();
    space.exists::<Service>("mx1").await;
    space.api::<Secret>().delete(&format!("mx1-{shard}"), &DeleteParams::default()).await.unwrap();
    space.exists::<Secret>(&format!("mx1-{shard}")).await;
    operator.stop().await;
}

/// Names that somebody else has are said, and nobody's mail waits for them.
pub async fn objects_of_others_are_left_alone(client: &Client) {
    let space = Space::new(client, "others").await;
    let operator = Operator::start(&space, 1);
    let theirs = json!({ "type": "Opaque", "stringData": { "tls.key": "a person's own key" } });
    let before: Secret = space.apply("mx1-tls", theirs).await;
    space.server("mx1").await;
    space.domain("server1.com", "mx1").await;
    let message = space.condition::<MailServer>("mx1", Type::Accepted, "False", "InvalidSpec").await;
    assert!(message.contains(&format!("Secret {}/mx1-tls", space.name)), "{message}");
    let after: Secret = space.get("mx1-tls").await.unwrap();
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    space.api::<Secret>().delete("mx1-tls", &DeleteParams::default()).await.unwrap();
    space.condition::<MailServer>("mx1", Type::CertificateReady, "True", "SelfSigned").await;
    space.condition::<MailServer>("mx1", Type::Accepted, "True", "Accepted").await;
    operator.stop().await;
}

/// What the API server refuses of a server's own objects keeps no mailbox from changing.
pub async fn a_refused_workload_holds_nobody_up(client: &Client) {
    let space = Space::new(client, "refused-workload").await;
    let port = serve_configz(&space, "mx1").await;
    let operator = Operator::start(&space, port);
    space.server("mx1").await;
    space.domain("server1.com", "mx1").await;
    space.exists::<StatefulSet>("mx1").await;
    space.pod("mx1").await;
    space.condition::<MailServer>("mx1", Type::Ready, "True", "Ready").await;
    let spec = |service: serde_json::Value| json!({ "spec": { "hostname": "mx1.server1.com", "service": service } });
    let beyond_the_range = json!({ "type": "NodePort", "nodePorts": { "smtp": 40025 } });
    space.apply::<MailServer>("mx1", spec(beyond_the_range)).await;
    let message = space.condition::<MailServer>("mx1", Type::Accepted, "False", "InvalidSpec").await;
    assert!(message.contains("Service") && message.contains("40025"), "{message}");
    let anna = json!({ "domainRef": { "name": "server1.com" }, "localPart": "anna" });
    space.apply::<Mailbox>("anna", json!({ "spec": anna })).await;
    space.condition::<Mailbox>("anna", Type::Programmed, "True", "Programmed").await;
    space.apply::<MailServer>("mx1", spec(json!({ "type": "ClusterIP" }))).await;
    space.condition::<MailServer>("mx1", Type::Ready, "True", "Ready").await;
    operator.stop().await;
}

pub async fn deletion_retains(client: &Client) {
    let space = Space::new(client, "deletion").await;
    let operator = Operator::start(&space, 1);
    space.server("mx1").await;
    space.domain("server1.com", "mx1").await;
    let spec = json!({ "domainRef": { "name": "server1.com" }, "localPart": "anna" });
    space.apply::<Mailbox>("anna", json!({ "spec": spec })).await;
    let present = async |is: bool| {
        eventually(&format!("anna's record is there: {is}"), async || {
            (space.records("mx1").await.contains_key("anna@server1.com") == is).then_some(())
        })
        .await;
    };
    present(true).await;
    let set: StatefulSet = space.exists("mx1").await;
    let policy = set.spec.unwrap().persistent_volume_claim_retention_policy;
    assert!(policy.is_none_or(|policy| policy.when_deleted.as_deref() != Some("Delete")));
    space.api::<Mailbox>().delete("anna", &DeleteParams::default()).await.unwrap();
    present(false).await;
    let shard = format!("mx1-{}", ShardName::of("anna@server1.com"));
    eventually("the empty shard's Secret is gone", async || {
        let secrets = space.api::<Secret>().list(&ListParams::default()).await.unwrap();
        secrets.iter().all(|secret| secret.metadata.name.as_deref() != Some(&shard)).then_some(())
    })
    .await;
    space.apply::<Mailbox>("anna", json!({ "spec": spec })).await;
    present(true).await;

    // What is not wanted any more goes also when the operator was away meanwhile.
    space.exists::<PodDisruptionBudget>("mx1").await;
    operator.stop().await;
    let spec = json!({ "hostname": "mx1.server1.com", "dns": { "resolvers": ["127.0.0.1:1"] }, "disruptionBudget": { "mode": "Disabled" } });
    space.apply::<MailServer>("mx1", json!({ "spec": spec })).await;
    let operator = Operator::start(&space, 1);
    eventually("the budget is gone", async || space.get::<PodDisruptionBudget>("mx1").await.is_none().then_some(()))
        .await;

    // The server goes with its objects (garbage collection is not part of this world), and nothing is made anew.
    space.api::<MailServer>().delete("mx1", &DeleteParams::default()).await.unwrap();
    space.condition::<MailDomain>("server1.com", Type::Accepted, "False", "ServerNotFound").await;
    space.api::<Service>().delete("mx1", &DeleteParams::default()).await.unwrap();
    let written = operator.metrics.objects_written.get();
    space.domain("server2.com", "mx1").await;
    space.condition::<MailDomain>("server2.com", Type::Accepted, "False", "ServerNotFound").await;
    assert_eq!(operator.metrics.objects_written.get(), written);
    assert!(space.get::<Service>("mx1").await.is_none());
    operator.stop().await;
}

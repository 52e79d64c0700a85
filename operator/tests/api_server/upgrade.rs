//! A new operator over what an older one has left: Secrets of the configuration without the label that tells them.

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use paquebot_config::ShardName;
use paquebot_crds::Mailbox;
use paquebot_crds::conditions::ConditionType as Type;
use paquebot_operator::render::names::FILE_LABEL;
use serde_json::json;

use crate::world::{Operator, Space, eventually};

const ADDRESS: &str = "anna@server1.com";

pub async fn secrets_without_their_label_are_recovered(client: &Client) {
    let space = Space::new(client, "unlabelled").await;
    let operator = Operator::start(&space, 1);
    space.secret("anna", "password", "anna-password").await;
    space.server("mx1").await;
    space.domain("server1.com", "mx1").await;
    space.mailbox("anna", "server1.com").await;
    let verifier = eventually("the directory has the verifier", async || space.verifier("mx1", ADDRESS).await).await;
    eventually("the status says what the directory was made from", async || {
        let status = space.get::<Mailbox>("anna").await?.status?;
        (!status.credentials.is_empty()).then_some(())
    })
    .await;
    operator.stop().await;

    // Nothing is hashed again.
    let shard = format!("mx1-{}", ShardName::of(ADDRESS));
    take_label(&space, &shard).await;
    let orphan = orphan(&space, &shard).await;
    let operator = Operator::start(&space, 1);
    eventually("the label is there again", async || {
        let labels = space.get::<Secret>(&shard).await?.metadata.labels?;
        (labels.get(FILE_LABEL.0).map(String::as_str) == Some(FILE_LABEL.1)).then_some(())
    })
    .await;
    assert_eq!(operator.metrics.secret_reads.get(), 0, "a restart must not hash again");
    assert_eq!(space.verifier("mx1", ADDRESS).await.as_ref(), Some(&verifier));
    eventually("what no index names is gone", async || space.get::<Secret>(&orphan).await.is_none().then_some(()))
        .await;
    operator.stop().await;

    // And the last good password stays, whose Secret went meanwhile.
    take_label(&space, &shard).await;
    space.api::<Secret>().delete("anna", &DeleteParams::default()).await.unwrap();
    let operator = Operator::start(&space, 1);
    space.condition::<Mailbox>("anna", Type::CredentialsReady, "False", "SecretNotFound").await;
    let spec = json!({ "domainRef": { "name": "server1.com" }, "localPart": "marker" });
    space.apply::<Mailbox>("marker", json!({ "spec": spec })).await;
    eventually("a later change is written", async || {
        space.records("mx1").await.contains_key("marker@server1.com").then_some(())
    })
    .await;
    assert_eq!(space.verifier("mx1", ADDRESS).await, Some(verifier));
    operator.stop().await;
}

async fn take_label(space: &Space, secret: &str) {
    let patch = json!({ "metadata": { "labels": { FILE_LABEL.0: null } } });
    space.api::<Secret>().patch(secret, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

/// A shard that the index does not name any more, beside the one that is given, and without the label too.
async fn orphan(space: &Space, beside: &str) -> String {
    let index = space.index("mx1").await.unwrap();
    let is_named = |shard: &ShardName| index.shards.iter().any(|entry| entry.name == shard.to_string());
    let shard = ShardName::all().find(|shard| !is_named(shard)).unwrap();
    let like: Secret = space.get(beside).await.unwrap();
    let name = format!("mx1-{shard}");
    let metadata = ObjectMeta {
        name: Some(name.clone()),
        labels: like.metadata.labels,
        owner_references: like.metadata.owner_references,
        ..ObjectMeta::default()
    };
    let secret = Secret { metadata, type_: like.type_, ..Secret::default() };
    space.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    name
}

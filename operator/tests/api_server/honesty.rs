//! Statuses say what was observed: where nothing can be written, and where something changed while nobody looked.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::DeleteParams;
use paquebot_config::ShardName;
use paquebot_crds::conditions::ConditionType as Type;
use paquebot_crds::{MailDomain, MailServer, Mailbox, RelayPolicy};
use serde_json::json;

use crate::world::{Operator, Space, eventually, serve_configz, serve_frozen_configz, serve_refusing_configz};

async fn server(space: &Space, refused: bool) {
    let spec = json!({
        "hostname": "mx1.server1.com",
        "dns": { "resolvers": ["127.0.0.1:1"] },
        "outbound": { "dane": { "mode": if refused { "Enabled" } else { "Disabled" } } },
    });
    space.apply::<MailServer>("mx1", json!({ "spec": spec })).await;
}

async fn mailbox(space: &Space, quota: &str) {
    let spec = json!({ "domainRef": { "name": "server1.com" }, "localPart": "anna", "quota": quota });
    space.apply::<Mailbox>("anna", json!({ "spec": spec })).await;
}

pub async fn refused_servers_objects_have_statuses(client: &Client) {
    let space = Space::new(client, "refused").await;
    let port = serve_configz(&space, "mx1").await;
    let operator = Operator::start(&space, port);
    server(&space, true).await;
    space.domain("server1.com", "mx1").await;
    mailbox(&space, "1Gi").await;
    space.condition::<MailServer>("mx1", Type::Accepted, "False", "InvalidSpec").await;
    let words = space.condition::<MailDomain>("server1.com", Type::Programmed, "Unknown", "Propagating").await;
    assert!(words.contains("mx1 is not accepted"), "{words}");
    space.condition::<Mailbox>("anna", Type::Programmed, "Unknown", "Propagating").await;
    space.condition::<Mailbox>("anna", Type::Accepted, "True", "Accepted").await;

    server(&space, false).await;
    space.exists::<StatefulSet>("mx1").await;
    space.pod("mx1").await;
    space.condition::<MailDomain>("server1.com", Type::Ready, "True", "Ready").await;
    space.condition::<Mailbox>("anna", Type::Ready, "True", "Ready").await;
    // Refused again, the server runs on; what changes now is not written, and that is said.
    server(&space, true).await;
    space.condition::<MailServer>("mx1", Type::Accepted, "False", "InvalidSpec").await;
    mailbox(&space, "2Gi").await;
    space.condition::<Mailbox>("anna", Type::Programmed, "Unknown", "Propagating").await;
    space.condition::<MailDomain>("server1.com", Type::Programmed, "True", "Programmed").await;
    server(&space, false).await;
    space.condition::<Mailbox>("anna", Type::Ready, "True", "Ready").await;

    // A policy that admits nobody now is in force, and so is what is left of one that is refused in part.
    let pods =
        json!({ "serverRef": { "name": "mx1" }, "from": [{ "podSelector": { "matchLabels": { "app": "x" } } }] });
    space.apply::<RelayPolicy>("pods", json!({ "spec": pods })).await;
    space.condition::<RelayPolicy>("pods", Type::Ready, "True", "Ready").await;
    let networks = json!({ "serverRef": { "name": "mx1" }, "from": [{ "cidrs": ["192.0.2.0/24", "127.0.0.0/8"] }] });
    space.apply::<RelayPolicy>("networks", json!({ "spec": networks })).await;
    space.condition::<RelayPolicy>("networks", Type::Accepted, "False", "OpenRelayRefused").await;
    space.condition::<RelayPolicy>("networks", Type::Programmed, "True", "Programmed").await;
    operator.stop().await;
}

pub async fn what_changed_meanwhile_is_observed(client: &Client) {
    let space = Space::new(client, "meanwhile").await;
    let port = serve_configz(&space, "mx1").await;
    let operator = Operator::start(&space, port);
    space.server("mx1").await;
    space.domain("server1.com", "mx1").await;
    space.secret("tom", "password", "first").await;
    space.mailbox("tom", "server1.com").await;
    space.exists::<StatefulSet>("mx1").await;
    space.pod("mx1").await;
    space.condition::<Mailbox>("tom", Type::Ready, "True", "Ready").await;
    space.condition::<MailDomain>("server1.com", Type::Ready, "True", "Ready").await;
    operator.stop().await;

    // The domain's default quota is part of the mailbox's entry. This pod never gets the new one.
    let spec = json!({
        "domain": "server1.com", "serverRef": { "name": "mx1" }, "limits": { "defaultQuota": "3Gi" },
    });
    space.apply::<MailDomain>("server1.com", json!({ "spec": spec })).await;
    space.api::<Secret>().delete("tom", &DeleteParams::default()).await.unwrap();
    let frozen = serve_frozen_configz(&space, "mx1").await;
    let operator = Operator::start(&space, frozen);
    let words = space.condition::<Mailbox>("tom", Type::Programmed, "Unknown", "Propagating").await;
    assert_eq!(words, "0 of 1 replicas serve it.");
    space.condition::<Mailbox>("tom", Type::CredentialsReady, "False", "SecretNotFound").await;
    operator.stop().await;
}

/// A pod that refuses what is written: its own words are told of what it does not serve, and of nothing else.
pub async fn a_refusal_is_told_in_the_servers_own_words(client: &Client) {
    let space = Space::new(client, "rejected").await;
    let port = serve_configz(&space, "mx1").await;
    let operator = Operator::start(&space, port);
    space.server("mx1").await;
    space.domain("server1.com", "mx1").await;
    space.exists::<StatefulSet>("mx1").await;
    space.pod("mx1").await;
    space.condition::<MailServer>("mx1", Type::Ready, "True", "Ready").await;
    space.condition::<MailDomain>("server1.com", Type::Ready, "True", "Ready").await;
    operator.stop().await;

    let refusing = serve_refusing_configz(&space, "mx1", "directory-07: line 3 has no address").await;
    let operator = Operator::start(&space, refusing);
    mailbox(&space, "1Gi").await;
    for words in [
        space.condition::<Mailbox>("anna", Type::Programmed, "False", "ReplicaRejected").await,
        space.condition::<Mailbox>("anna", Type::Ready, "False", "ReplicaRejected").await,
        space.condition::<MailServer>("mx1", Type::Programmed, "False", "ReplicaRejected").await,
    ] {
        assert!(words.contains("Pod mx1-0") && words.contains("directory-07: line 3 has no address"), "{words}");
    }
    space.condition::<MailDomain>("server1.com", Type::Programmed, "True", "Programmed").await;
    operator.stop().await;
    let operator = Operator::start(&space, port);
    space.condition::<Mailbox>("anna", Type::Ready, "True", "Ready").await;
    operator.stop().await;
}

/// The mailboxes' entries lie in the same file as the domain's, so that it is rewritten with each of them.
pub async fn a_domain_is_not_on_its_way_with_its_mailboxes(client: &Client) {
    let space = Space::new(client, "counted").await;
    let port = serve_configz(&space, "mx1").await;
    let operator = Operator::start(&space, port);
    space.server("mx1").await;
    space.domain("server1.com", "mx1").await;
    space.exists::<StatefulSet>("mx1").await;
    space.pod("mx1").await;
    space.condition::<MailDomain>("server1.com", Type::Ready, "True", "Ready").await;
    operator.stop().await;

    // From here on the pod gets nothing new: what is on its way stays on its way.
    let frozen = serve_frozen_configz(&space, "mx1").await;
    let operator = Operator::start(&space, frozen);
    eventually("a pass", async || (operator.metrics.passes.get() > 0).then_some(())).await;
    let names = (0..).map(|number| format!("m{number}"));
    let beside_domain =
        names.filter(|name| ShardName::of(&format!("{name}@server1.com")) == ShardName::of("server1.com"));
    for (before, name) in beside_domain.take(2).enumerate() {
        let spec = json!({ "domainRef": { "name": "server1.com" }, "localPart": name });
        space.apply::<Mailbox>(&name, json!({ "spec": spec })).await;
        let words = space.condition::<Mailbox>(&name, Type::Programmed, "Unknown", "Propagating").await;
        assert_eq!(words, "0 of 1 replicas serve it.");
        eventually("the domain counts it", async || {
            let status = space.get::<MailDomain>("server1.com").await?.status?;
            (usize::try_from(status.mailbox_count) == Ok(before + 1)).then_some(())
        })
        .await;
        space.condition::<MailDomain>("server1.com", Type::Programmed, "True", "Programmed").await;
    }
    operator.stop().await;
}

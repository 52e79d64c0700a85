//! Many mailboxes at once: their passwords are hashed a few at a time while the MailServer says how far that is, and then
//! one change touches what it is about and nothing else.

use std::collections::BTreeMap;

use futures::StreamExt;
use http::Method;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Client, Config, Resource, ResourceExt};
use paquebot_crds::conditions::{self, ConditionType as Type};
use paquebot_crds::{MailAlias, MailDomain, MailServer, Mailbox};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::support::gate::Gate;
use crate::world::{Operator, Space, eventually, serve_configz};

const MAILBOXES: usize = 300;
/// How the MailServer says that it waits for passwords.
const SAID: &str = "Passwords are being hashed: ";

/// What one change of a Mailbox may cost at most, in objects and in statuses: the shard, the index, the Mailbox, and the
/// MailServer's revision, some of them again where something else became due at the same time.
const FEW: u64 = 10;

pub async fn a_fleet_is_hashed_in_the_open_and_one_change_is_one(client: &Client, config: &Config) {
    let space = Space::new(client, "fleet").await;
    let port = serve_configz(&space, "mx1").await;
    space.server("mx1").await;
    space.domain("server1.com", "mx1").await;
    let names: Vec<String> = (0..MAILBOXES).map(|number| format!("box{number}")).collect();
    futures::stream::iter(&names)
        .for_each_concurrent(16, async |name| {
            space.secret(name, "password", &format!("password of {name}")).await;
            space.mailbox(name, "server1.com").await;
        })
        .await;
    // However fast the machine is, no password is read before that was seen.
    let gate = Gate::new();
    gate.hold(Method::GET, "/secrets/box");
    let operator = Operator::start(&gate.before(config, &space), port);
    eventually("the MailServer says how many passwords are still to be hashed", async || {
        let message = programmed(&space).await?;
        let (told, _) = message.split_once(SAID)?.1.split_once(" of ")?;
        let told: usize = told.parse().unwrap();
        (told == MAILBOXES).then_some(())
    })
    .await;
    gate.open();
    space.exists::<ServiceAccount>("mx1-server").await;
    space.pod("mx1").await;
    let mut before = 0;
    while before < MAILBOXES {
        before = eventually("more mailboxes are ready", async || {
            let ready = ready(&space).await;
            (ready > before).then_some(ready)
        })
        .await;
    }
    eventually("nothing is to be hashed any more", async || (!programmed(&space).await?.contains(SAID)).then_some(()))
        .await;

    // What is looked at beside it is known by now.
    space.condition::<MailDomain>("server1.com", Type::DNSReady, "Unknown", "LookupFailed").await;
    space.condition::<MailServer>("mx1", Type::RelayClosed, "Unknown", "NotProbed").await;
    let revision = async || space.index("mx1").await.unwrap().revision.to_string();
    told(&space, &revision().await).await;
    let (secrets, maps) = (versions::<Secret>(&space).await, versions::<ConfigMap>(&space).await);
    let mailboxes = versions::<Mailbox>(&space).await;
    let domains = (versions::<MailDomain>(&space).await, versions::<MailAlias>(&space).await);
    let written = operator.metrics.objects_written.get();
    let statuses = operator.metrics.status_writes.get();
    let old = revision().await;
    let spec = json!({ "domainRef": { "name": "server1.com" }, "localPart": "box7", "quota": "2Gi",
        "credentials": { "passwordSecretRef": { "name": "box7" } } });
    let generation = space.apply::<Mailbox>("box7", json!({ "spec": spec })).await.metadata.generation;
    eventually("the change is served", async || {
        let status = space.get::<Mailbox>("box7").await?.status?;
        let served = conditions::find(&status.conditions, Type::Programmed)?;
        (served.status == "True" && served.observed_generation == generation).then_some(())
    })
    .await;
    assert_ne!(revision().await, old);
    told(&space, &revision().await).await;
    let shards = changed(&secrets, &versions::<Secret>(&space).await);
    assert!(matches!(&shards[..], [one] if one.starts_with("mx1-directory-")), "{shards:?}");
    assert_eq!(changed(&maps, &versions::<ConfigMap>(&space).await), ["mx1-config"]);
    assert_eq!(changed(&mailboxes, &versions::<Mailbox>(&space).await), ["box7"], "somebody else's status was written");
    assert_eq!(domains, (versions::<MailDomain>(&space).await, versions::<MailAlias>(&space).await));
    let written = operator.metrics.objects_written.get() - written;
    assert!((2..FEW).contains(&written), "one shard and the index: {written}");
    let statuses = operator.metrics.status_writes.get() - statuses;
    assert!((2..FEW).contains(&statuses), "the Mailbox, and the MailServer's revision: {statuses}");
    operator.stop().await;
}

/// What the MailServer says of its configuration.
async fn programmed(space: &Space) -> Option<String> {
    let status = space.get::<MailServer>("mx1").await?.status?;
    Some(conditions::find(&status.conditions, Type::Programmed)?.message.clone())
}

/// Waits until the MailServer's status speaks of a revision.
async fn told(space: &Space, revision: &str) {
    eventually("the MailServer's status has the revision", async || {
        let status = space.get::<MailServer>("mx1").await?.status?;
        let configuration = status.configuration?;
        (configuration.revision == revision && configuration.replicas_programmed == 1).then_some(())
    })
    .await;
}

async fn ready(space: &Space) -> usize {
    let mailboxes = space.api::<Mailbox>().list(&ListParams::default()).await.unwrap();
    let is_ready = |mailbox: &Mailbox| {
        let conditions = mailbox.status.as_ref().map(|status| &status.conditions[..]).unwrap_or_default();
        conditions::find(conditions, Type::Ready).is_some_and(|ready| ready.status == "True")
    };
    mailboxes.iter().filter(|mailbox| is_ready(mailbox)).count()
}

/// The resourceVersion of each object of a kind.
async fn versions<K>(space: &Space) -> BTreeMap<String, String>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let all = space.api::<K>().list(&ListParams::default()).await.unwrap();
    all.iter().map(|object| (object.name_any(), object.resource_version().unwrap())).collect()
}

fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

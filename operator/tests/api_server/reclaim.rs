//! `reclaimPolicy: Delete`: what the operator asks the pods for, what it waits for, and that nothing hangs.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{delete, get};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::Client;
use kube::api::{DeleteParams, ListParams};
use paquebot_config::Record;
use paquebot_crds::conditions::ConditionType as Type;
use paquebot_crds::{MailDomain, MailServer, Mailbox};
use paquebot_operator::dns::seen;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::world::{Operator, Space, configz, eventually};

/// What was asked of the pod: whose mail, with which header, and whether the mailbox was suspended then.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// A pod that answers `/configz` as it should, and notes what it is to erase. It has done so at once.
async fn serve(space: &Space) -> (u16, Asked) {
    serve_slowly(space, Arc::new(Semaphore::new(Semaphore::MAX_PERMITS))).await
}

/// The same, but each answer waits for a permit.
async fn serve_slowly(space: &Space, permits: Arc<Semaphore>) -> (u16, Asked) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Asked::default();
    let state = (space.clone(), asked.clone(), permits);
    let maildrops = Router::new().route("/maildrops/{whose}", delete(erase)).with_state(state);
    let router =
        Router::new().route("/configz", get(configz)).with_state((space.clone(), "mx1".to_owned())).merge(maildrops);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (port, asked)
}

async fn erase(
    State((space, asked, permits)): State<(Space, Asked, Arc<Semaphore>)>,
    Path(whose): Path<String>,
    headers: HeaderMap,
) -> (StatusCode, String) {
    let in_service = match space.records("mx1").await.get(&whose) {
        Some(Record::Mailbox(mailbox)) => !mailbox.suspended,
        _ => false,
    };
    if in_service {
        return (StatusCode::CONFLICT, json!({ "error": "in service" }).to_string());
    }
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    asked.lock().unwrap().push((whose, shown));
    permits.acquire().await.unwrap().forget();
    (StatusCode::OK, json!({ "messages": 3 }).to_string())
}

async fn mailbox(space: &Space, name: &str, policy: &str) {
    let spec = json!({ "domainRef": { "name": "server1.com" }, "localPart": name, "reclaimPolicy": policy });
    space.apply::<Mailbox>(name, json!({ "spec": spec })).await;
}

fn finalizers(object: &impl kube::Resource) -> Vec<String> {
    object.meta().finalizers.clone().unwrap_or_default()
}

async fn gone(space: &Space, name: &str) {
    eventually(&format!("Mailbox {name} is gone"), async || space.get::<Mailbox>(name).await.is_none().then_some(()))
        .await;
}

pub async fn mail_goes_with_its_object(client: &Client) {
    let space = Space::new(client, "reclaim").await;
    let (port, asked) = serve(&space).await;
    let operator = Operator::start(&space, port);
    space.server("mx1").await;
    space.domain("server1.com", "mx1").await;
    for (name, policy) in [("anna", "Delete"), ("eve", "Retain"), ("lost", "Delete"), ("tom", "Delete")] {
        mailbox(&space, name, policy).await;
    }
    space.exists::<StatefulSet>("mx1").await;
    for name in ["anna", "lost", "tom"] {
        eventually("the finalizer is there", async || {
            (finalizers(&space.exists::<Mailbox>(name).await) == ["paquebot.dev/erase-mail"]).then_some(())
        })
        .await;
    }
    let api = space.api::<Mailbox>();
    let delete = async |name: &str| api.delete(name, &DeleteParams::default()).await.unwrap();

    // No pod is ready: it waits, and says so. The finalizer can be taken away by hand.
    delete("anna").await;
    let words = space.condition::<Mailbox>("anna", Type::Accepted, "False", "Deleting").await;
    assert!(words.contains("no pod of MailServer") && words.contains("paquebot.dev/erase-mail"), "{words}");
    delete("lost").await;
    space.condition::<Mailbox>("lost", Type::Accepted, "False", "Deleting").await;
    let by_hand: Value = json!({ "metadata": { "finalizers": null } });
    api.patch("lost", &Default::default(), &kube::api::Patch::Merge(&by_hand)).await.unwrap();
    gone(&space, "lost").await;
    // Another operator goes on where this one stops.
    operator.stop().await;
    let operator = Operator::start(&space, port);
    space.pod("mx1").await;
    gone(&space, "anna").await;
    let secret: Secret = space.exists("mx1-keys").await;
    let token = String::from_utf8(secret.data.unwrap().remove("token").unwrap().0).unwrap();
    assert_eq!(*asked.lock().unwrap(), [("anna@server1.com".to_owned(), format!("Bearer {token}"))]);
    eventually("the address leaves the directory", async || {
        let records = space.records("mx1").await;
        (!records.keys().any(|key| key.contains("anna@")) && records.keys().any(|key| key.contains("eve@")))
            .then_some(())
    })
    .await;

    // Retain has no finalizer, and erases nothing.
    assert!(finalizers(&space.exists::<Mailbox>("eve").await).is_empty());
    delete("eve").await;
    gone(&space, "eve").await;
    // A domain waits for its mailboxes, and then all of it goes.
    let spec = json!({ "domain": "server1.com", "serverRef": { "name": "mx1" }, "reclaimPolicy": "Delete" });
    space.apply::<MailDomain>("server1.com", json!({ "spec": spec })).await;
    eventually("the domain has the finalizer", async || {
        (!finalizers(&space.exists::<MailDomain>("server1.com").await).is_empty()).then_some(())
    })
    .await;
    space.api::<MailDomain>().delete("server1.com", &DeleteParams::default()).await.unwrap();
    let words = space.condition::<MailDomain>("server1.com", Type::Accepted, "False", "Deleting").await;
    assert!(words.contains("delete them first") || words.contains("being erased"), "{words}");
    delete("tom").await;
    gone(&space, "tom").await;
    eventually("the domain is gone", async || space.get::<MailDomain>("server1.com").await.is_none().then_some(()))
        .await;
    let whose: Vec<String> = asked.lock().unwrap().iter().map(|(whose, _)| whose.clone()).collect();
    assert_eq!(whose, ["anna@server1.com", "tom@server1.com", "@server1.com"]);

    // Nothing waits for a server that is gone: the mail stays where it is, and an event says so.
    space.domain("server1.com", "mx1").await;
    mailbox(&space, "sue", "Delete").await;
    space.condition::<Mailbox>("sue", Type::Ready, "True", "Ready").await;
    space.api::<MailServer>().delete("mx1", &DeleteParams::default()).await.unwrap();
    delete("sue").await;
    gone(&space, "sue").await;
    assert_eq!(asked.lock().unwrap().len(), 3);
    eventually("an event tells that the mail stays", async || {
        let events = space.api::<Event>().list(&ListParams::default()).await.unwrap();
        events.iter().any(|event| event.reason.as_deref() == Some("MailKept")).then_some(())
    })
    .await;
    operator.stop().await;
}

/// Somebody deletes many mailboxes, and the pod is slow: the one of another namespace does not wait for them.
pub async fn erasures_take_turns(client: &Client) {
    let (space, other) = (Space::new(client, "turns").await, Space::new(client, "turns-other").await);
    let permits = Arc::new(Semaphore::new(0));
    let (port, asked) = serve_slowly(&space, Arc::clone(&permits)).await;
    let dns = seen::Settings { timeout: Duration::from_millis(200), ..seen::Settings::default() };
    let operator = Operator::start_in(&space, &[&other], port, dns);
    space.server("mx1").await;
    let spec =
        json!({ "domain": "server1.com", "serverRef": { "name": "mx1" }, "allowedNamespaces": { "from": "All" } });
    space.apply::<MailDomain>("server1.com", json!({ "spec": spec })).await;
    space.exists::<StatefulSet>("mx1").await;
    space.pod("mx1").await;
    let many: Vec<String> = (0..8).map(|number| format!("many-{number}")).collect();
    for name in &many {
        mailbox(&space, name, "Delete").await;
    }
    let domain = json!({ "name": "server1.com", "namespace": space.name });
    let spec = json!({ "domainRef": domain, "localPart": "one", "reclaimPolicy": "Delete" });
    other.apply::<Mailbox>("one", json!({ "spec": spec })).await;
    for name in &many {
        space.condition::<Mailbox>(name, Type::Ready, "True", "Ready").await;
    }
    other.condition::<Mailbox>("one", Type::Ready, "True", "Ready").await;
    for name in &many {
        space.api::<Mailbox>().delete(name, &DeleteParams::default()).await.unwrap();
    }
    let is_asked = |whose: &str| asked.lock().unwrap().iter().any(|(asked, _)| asked.starts_with(whose));
    eventually("the first of many is being erased", async || is_asked("many-").then_some(())).await;
    other.api::<Mailbox>().delete("one", &DeleteParams::default()).await.unwrap();
    eventually("the other's is being erased as well", async || is_asked("one@").then_some(())).await;
    assert_eq!(asked.lock().unwrap().len(), 2, "nobody has all places");
    permits.add_permits(100);
    gone(&other, "one").await;
    for name in &many {
        gone(&space, name).await;
    }
    operator.stop().await;
}

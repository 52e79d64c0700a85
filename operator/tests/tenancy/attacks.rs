//! What a tenant tries who means harm, and what comes of it.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Client, Resource};
use paquebot_config::Record;
use paquebot_crds::conditions::ConditionType as Type;
use paquebot_crds::{MailAlias, MailDomain, MailServer, Mailbox, RelayPolicy};
use serde_json::{Value, json};

use crate::stage::Stage;
use crate::world::eventually;

/// How the API server refuses.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Forbidden,
    Invalid,
    Taken,
}

/// Tries to apply an object as somebody.
async fn attempt(client: &Client, namespace: &str, kind: &ApiResource, name: &str, fields: Value) -> Answer {
    let mut body = json!({ "apiVersion": kind.api_version, "kind": kind.kind,
        "metadata": { "name": name, "namespace": namespace } });
    for (field, value) in fields.as_object().unwrap() {
        match (field.as_str(), value) {
            ("metadata", Value::Object(more)) => body["metadata"].as_object_mut().unwrap().extend(more.clone()),
            _ => body[field] = value.clone(),
        }
    }
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, kind);
    match api.patch(name, &PatchParams::apply("person").force(), &Patch::Apply(&body)).await {
        Ok(_) => Answer::Taken,
        Err(kube::Error::Api(status)) if status.code == 403 => Answer::Forbidden,
        Err(kube::Error::Api(status)) if [400, 413, 422, 500].contains(&status.code) => Answer::Invalid,
        Err(error) => panic!("{name}: {error}"),
    }
}

fn kind<K: Resource<DynamicType = ()>>() -> ApiResource {
    ApiResource::erase::<K>(&())
}

pub async fn each_is_refused(stage: &Stage) {
    let (hostile, good) = (&stage.hostile, &stage.good);
    let own = json!({ "name": "evil.example" });
    let mailbox = |extra: Value| {
        let mut spec = json!({ "domainRef": own, "localPart": "m" });
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({ "spec": spec })
    };
    // The API server itself refuses.
    let (platform, theirs) = (&stage.platform.name, &good.name);
    let cidrs = json!({ "spec": { "serverRef": { "name": "mx1", "namespace": platform }, "from": [{ "cidrs": ["192.0.2.0/24"] }] } });
    for (what, namespace, kind, fields, expected) in [
        ("another's namespace", theirs, kind::<Mailbox>(), mailbox(json!({})), Answer::Forbidden),
        (
            "the server",
            platform,
            kind::<MailServer>(),
            json!({ "spec": { "hostname": "evil.example" } }),
            Answer::Forbidden,
        ),
        (
            "a server of its own",
            &hostile.name,
            kind::<MailServer>(),
            json!({ "spec": { "hostname": "evil.example" } }),
            Answer::Forbidden,
        ),
        ("a relay policy", &hostile.name, kind::<RelayPolicy>(), cidrs, Answer::Forbidden),
        (
            "another's Secret",
            &hostile.name,
            kind::<Mailbox>(),
            mailbox(json!({ "credentials": { "passwordSecretRef": { "name": "anna", "namespace": theirs } } })),
            Answer::Invalid,
        ),
        (
            "a megabyte of annotation",
            &hostile.name,
            kind::<Mailbox>(),
            json!({ "metadata": { "annotations": { "a": "x".repeat(1 << 20) } }, "spec": { "domainRef": own, "localPart": "m" } }),
            Answer::Invalid,
        ),
        (
            "a huge local part",
            &hostile.name,
            kind::<Mailbox>(),
            mailbox(json!({ "localPart": "x".repeat(100_000) })),
            Answer::Invalid,
        ),
        (
            "a huge script",
            &hostile.name,
            kind::<Mailbox>(),
            mailbox(json!({ "filter": { "sieve": "#".repeat(70_000) } })),
            Answer::Invalid,
        ),
        (
            "a thousand addresses to lend",
            &hostile.name,
            kind::<Mailbox>(),
            mailbox(json!({ "sendAs": { "allowed": vec!["a@evil.example"; 1000] } })),
            Answer::Invalid,
        ),
    ] {
        assert_eq!(attempt(&hostile.client, namespace, &kind, "attack", fields).await, expected, "{what}");
    }
    conditions(stage).await;
    lent_names(stage).await;
    // Somebody who may make relay policies asks for the whole Internet in pieces.
    let pieces =
        |from: Value| json!({ "spec": { "serverRef": { "name": "mx1", "namespace": platform }, "from": from } });
    let guest = stage.user("guest");
    let halves = pieces(json!([{ "cidrs": ["0.0.0.0/1", "128.0.0.0/1"] }]));
    assert_eq!(attempt(&guest, &hostile.name, &kind::<RelayPolicy>(), "halves", halves).await, Answer::Invalid);
    let eighths: Vec<String> =
        (1..224).filter(|net| ![10, 127].contains(net)).map(|net| format!("{net}.0.0.0/8")).collect();
    let from: Vec<Value> = eighths.chunks(64).map(|cidrs| json!({ "cidrs": cidrs })).collect();
    let all = attempt(&guest, &hostile.name, &kind::<RelayPolicy>(), "halves", pieces(json!(from))).await;
    assert_eq!(all, Answer::Taken);
    hostile.condition::<RelayPolicy>("halves", Type::Accepted, "False", "OpenRelayRefused").await;
    // Nothing of it reached the other tenant.
    good.condition::<MailDomain>("good.example", Type::Accepted, "True", "Accepted").await;
    good.condition::<Mailbox>("anna", Type::Accepted, "True", "Accepted").await;
    let records = stage.platform.records("mx1").await;
    for address in ["anna@good.example", "anna@shared.example", "info@good.example"] {
        assert!(records.contains_key(address), "{address}");
    }
}

/// What the operator refuses, with the reason and without a word of others' objects.
async fn conditions(stage: &Stage) {
    let (hostile, theirs) = (&stage.hostile, &stage.good.name);
    let server = json!({ "name": "mx1", "namespace": stage.platform.name });
    hostile.apply::<MailDomain>("claim", json!({ "spec": { "domain": "good.example", "serverRef": server } })).await;
    let message = hostile.condition::<MailDomain>("claim", Type::Accepted, "False", "DomainConflict").await;
    assert!(!message.contains(theirs), "{message}");
    let good_domain = json!({ "name": "good.example", "namespace": theirs });
    for (name, domain, local_part, reason) in [
        // Its name goes before those of the flood, which may be made in the same second.
        ("again-anna", stage.shared(), "anna", "AddressConflict"),
        ("subaddress", stage.shared(), "anna+news", "AddressConflict"),
        ("their-domain", good_domain, "boss", "NamespaceNotAllowed"),
        ("in-the-claim", json!({ "name": "claim" }), "anna", "DomainNotFound"),
    ] {
        let spec = json!({ "domainRef": domain, "localPart": local_part });
        hostile.apply::<Mailbox>(name, json!({ "spec": spec })).await;
        let message = hostile.condition::<Mailbox>(name, Type::Accepted, "False", reason).await;
        assert!(!message.contains("shared-anna"), "{message}");
    }
    // That a mailbox is there and that it is not are told in the same words.
    let mut told = Vec::new();
    for name in ["anna", "ghost"] {
        let target = json!([{ "mailboxRef": { "name": name, "namespace": theirs } }]);
        let spec = json!({ "domainRef": { "name": "evil.example" }, "localPart": "probe", "targets": target });
        hostile.apply::<MailAlias>("probe", json!({ "spec": spec })).await;
        let message = eventually("the probe is answered", async || {
            let message = hostile.condition::<MailAlias>("probe", Type::Accepted, "False", "InvalidSpec").await;
            message.contains(&format!("/{name},")).then_some(message)
        })
        .await;
        told.push(message.replace(name, "X"));
    }
    assert_eq!(told[0], told[1]);
}

/// Foreign senders have no effect, whether anybody has them or not.
async fn lent_names(stage: &Stage) {
    let hostile = &stage.hostile;
    let listed = ["anna@good.example", "anna@shared.example", "anna+x@shared.example", "boss@bank.example"];
    let granted = ["free@shared.example", "any@evil.example"];
    let all: Vec<&str> = listed.into_iter().chain(granted).collect();
    let spec =
        json!({ "domainRef": { "name": "evil.example" }, "localPart": "borrower", "sendAs": { "allowed": all } });
    hostile.apply::<Mailbox>("borrower", json!({ "spec": spec })).await;
    let message = hostile.condition::<Mailbox>("borrower", Type::Accepted, "True", "Accepted").await;
    assert!(message.contains(&format!("no effect for {}:", listed.join(", "))), "{message}");
    eventually("only what the tenant speaks for is lent", async || {
        match stage.platform.records("mx1").await.remove("borrower@evil.example")? {
            Record::Mailbox(mailbox) => {
                let lent: Vec<String> = mailbox.send_as.into_iter().map(String::from).collect();
                (lent == granted).then_some(())
            }
            _ => None,
        }
    })
    .await;
}

pub async fn rings(stage: &Stage) {
    let hostile = &stage.hostile;
    let domain = json!({ "name": "evil.example" });
    for (name, target) in
        [("ring1", "ring2+x@evil.example"), ("ring2", "ring3@evil.example"), ("into", "ring1+y@evil.example")]
    {
        let spec = json!({ "domainRef": domain, "localPart": name, "targets": [{ "address": target }] });
        hostile.apply::<MailAlias>(name, json!({ "spec": spec })).await;
    }
    let forwarding = json!({ "to": ["ring1@evil.example"], "keepCopy": false });
    let spec = json!({ "domainRef": domain, "localPart": "ring3", "forwarding": forwarding });
    hostile.apply::<Mailbox>("ring3", json!({ "spec": spec })).await;
    for name in ["ring1", "ring2"] {
        hostile.condition::<MailAlias>(name, Type::Accepted, "False", "AliasLoop").await;
    }
    hostile.condition::<MailAlias>("into", Type::Accepted, "True", "Accepted").await;
    let spec = json!({ "domainRef": domain, "localPart": "ring3" });
    hostile.apply::<Mailbox>("ring3", json!({ "spec": spec })).await;
    for name in ["ring1", "ring2"] {
        hostile.condition::<MailAlias>(name, Type::Accepted, "True", "Accepted").await;
    }
}

/// Mailboxes that the hostile tenant makes: half claim one address, half are over the limit.
const FLOOD: usize = 1000;
/// How long a change of the other tenant may take meanwhile, with an API server that is slow itself. Measured: a second or two.
const SLOWEST: Duration = Duration::from_secs(30);

pub async fn a_flood_keeps_nobody_out(stage: &Stage) {
    let (client, namespace, domain) = (stage.hostile.client.clone(), stage.hostile.name.clone(), stage.shared());
    let flood = tokio::spawn(async move {
        let api: Api<Mailbox> = Api::namespaced(client, &namespace);
        let create = |number: usize| {
            let local_part = if number.is_multiple_of(2) { "anna".to_owned() } else { format!("flood-{number}") };
            let credentials = json!({ "passwordSecretRef": { "name": "missing" } });
            let spec = json!({ "domainRef": domain, "localPart": local_part, "credentials": credentials });
            let body: Mailbox = serde_json::from_value(json!({
                "apiVersion": "paquebot.dev/v1alpha1", "kind": "Mailbox",
                "metadata": { "name": format!("flood-{number}") }, "spec": spec,
            }))
            .unwrap();
            let api = api.clone();
            async move { drop(api.create(&PostParams::default(), &body).await.unwrap()) }
        };
        stream::iter(0..FLOOD).for_each_concurrent(16, create).await;
    });
    let mut slowest = Duration::ZERO;
    let mut number = 0;
    while number < 3 || !flood.is_finished() {
        number += 1;
        let name = format!("calm-{number}");
        stage.good.secret(&name, "password", "calm").await;
        stage.good.mailbox(&name, "good.example").await;
        let begin = Instant::now();
        let address = format!("{name}@good.example");
        eventually(&format!("{address} can log in"), async || stage.platform.verifier("mx1", &address).await).await;
        slowest = slowest.max(begin.elapsed());
    }
    flood.await.unwrap();
    eprintln!("    {number} changes of the other tenant meanwhile, the slowest effective after {slowest:?}");
    assert!(slowest < SLOWEST, "a change of the other tenant took {slowest:?}");
    let shared = eventually("the flood is judged", async || {
        let last = format!("flood-{}", FLOOD - 1);
        let judged: Mailbox = stage.hostile.get(&last).await?;
        judged.status?.conditions.iter().any(|condition| condition.reason == "LimitExceeded").then_some(())?;
        stage.platform.get::<MailDomain>("shared").await
    })
    .await;
    assert!(shared.status.unwrap().mailbox_count <= 50);
}

/// Statuses and events of the hostile tenant's objects never name what is the other's, but for what it wrote itself.
pub async fn nobody_was_told_of_others(stage: &Stage) {
    let theirs = &stage.good.name;
    for kind in [kind::<MailDomain>(), kind::<Mailbox>(), kind::<MailAlias>(), kind::<RelayPolicy>()] {
        let api: Api<DynamicObject> = Api::namespaced_with(stage.hostile.client.clone(), &stage.hostile.name, &kind);
        for object in api.list(&ListParams::default()).await.unwrap_or_else(|error| panic!("{}: {error}", kind.kind)) {
            let wrote_it = object.data["spec"].to_string().contains(theirs.as_str());
            let status = object.data["status"].to_string();
            assert!(wrote_it || !status.contains(theirs.as_str()), "{:?}: {status}", object.metadata.name);
        }
    }
    let events: Api<Event> = Api::namespaced(stage.admin.clone(), &stage.hostile.name);
    for event in events.list(&ListParams::default()).await.unwrap() {
        let name = event.regarding.as_ref().and_then(|about| about.name.clone()).unwrap_or_default();
        let note = event.note.unwrap_or_default();
        assert!(
            ["probe", "their-domain"].contains(&name.as_str()) || !note.contains(theirs.as_str()),
            "{name}: {note}"
        );
    }
}

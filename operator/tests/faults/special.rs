//! What needs a story of its own: an API server that is away, two leaders, an object that cannot be understood.

use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, Config, ResourceExt};
use paquebot_crds::conditions::{self, ConditionType as Type};
use paquebot_crds::{MailDomain, Mailbox};
use paquebot_operator::controllers::health::Health;
use serde_json::{Value, json};

use crate::crashes::Reference;
use crate::plan::Plan;
use crate::scenarios::Scenario;
use crate::stage::Stage;
use crate::support::world::{eventually, eventually_within, install_definitions};

/// How long the API server is away: longer than the longest distance between two tries of a watch.
const AWAY: Duration = Duration::from_secs(35);
/// How many requests may be made meanwhile: the watches try ever more seldom.
const MOST_REQUESTS: usize = 1500;

/// All requests fail for a while, and all watches are cut; meanwhile a person goes on. Returns what it took to recover.
pub async fn outage(config: &Config, added: &Reference) -> Result<String, String> {
    let mut stage = Stage::new(config, "outage").await;
    let operator = stage.operator(Plan::default());
    stage.install().await;
    Scenario::Install.noticed(&stage).await;
    stage.rests(&[&operator]).await?;
    let requests = || {
        let mut requests = 0;
        operator.faults.each(|_| requests += 1);
        requests
    };
    let before = requests();
    operator.faults.set_away(true);
    Scenario::MailboxAdded.act(&mut stage, 1).await;
    stage.set_password("anna", 1).await;
    // That nothing works for so long is what is tested.
    tokio::time::sleep(AWAY).await;
    let asked = requests() - before;
    if asked > MOST_REQUESTS {
        return Err(format!("{asked} requests to an API server that is away"));
    }
    if let Some(illness) = operator.health.illness() {
        return Err(format!("a restart would not help, but liveness says: {illness}"));
    }
    operator.faults.set_away(false);
    let begin = Instant::now();
    stage.reaches(&added.after, &[&operator]).await?;
    let leaks = stage.leaks(&[(&operator.faults, operator.metrics.encode().unwrap())]).await;
    if !leaks.is_empty() {
        return Err(leaks.join("\n"));
    }
    operator.stop().await;
    Ok(format!("{asked} requests while away, recovered {} s after it was back", begin.elapsed().as_secs()))
}

/// Mailboxes whose statuses are to be written when the API server goes: more than are written at once by however fast a
/// machine.
const MANY: usize = 1500;
/// Requests that may be made then: those under way, one try after each pause, and what watches and passes ask.
const MOST_TRIES: usize = 800;

/// The API server goes while many statuses wait to be written: they are not all tried again and again.
pub async fn unwritten_statuses(config: &Config) -> Result<String, String> {
    let mut stage = Stage::new(config, "unwritten").await;
    let operator = stage.operator(Plan::default());
    stage.install().await;
    stage.rests(&[&operator]).await?;
    operator.stop().await;
    for number in 0..MANY {
        let spec = json!({ "domainRef": { "name": "server1.com" }, "localPart": format!("many-{number}") });
        stage.space.apply::<Mailbox>(&format!("many-{number}"), json!({ "spec": spec })).await;
    }
    let operator = stage.operator(Plan::default());
    let begun = async || operator.faults.writes().iter().any(|write| write.contains("mailboxes/many-")).then_some(());
    eventually("the first of the statuses is written", begun).await;
    let requests = || {
        let mut requests = 0;
        operator.faults.each(|_| requests += 1);
        requests
    };
    operator.faults.set_away(true);
    let before = requests();
    // That nothing works for so long is what is tested.
    tokio::time::sleep(AWAY).await;
    let asked = requests() - before;
    operator.faults.set_away(false);
    if asked > MOST_TRIES {
        return Err(format!("{asked} requests while {MANY} statuses could not be written"));
    }
    let begin = Instant::now();
    eventually("all of them are ready", async || {
        let mailboxes = stage.space.api::<Mailbox>().list(&ListParams::default()).await.unwrap();
        let is_ready = |mailbox: &Mailbox| {
            let conditions = mailbox.status.as_ref().map(|status| &status.conditions[..]).unwrap_or_default();
            conditions::find(conditions, Type::Ready).is_some_and(|ready| ready.status == "True")
        };
        let many = mailboxes.iter().filter(|mailbox| mailbox.name_any().starts_with("many-"));
        (many.filter(|mailbox| is_ready(mailbox)).count() == MANY).then_some(())
    })
    .await;
    operator.stop().await;
    Ok(format!("{asked} requests while away, all written {} s after it was back", begin.elapsed().as_secs()))
}

/// How long watches may fail in a row here; the operator that people run waits for ten minutes.
const LONGEST_FAILURE: Duration = Duration::from_secs(12);

/// How long it may take until a watch counts as well that is there again and has nothing to say.
const LONGEST_RECOVERY: Duration = Duration::from_secs(180);

/// Watches that fail for longer than a process may: liveness names one, though the engine turns, and is silent again when
/// they are back, without a restart.
pub async fn liveness(config: &Config) -> Result<String, String> {
    let mut stage = Stage::new(config, "liveness").await;
    let operator = stage.operator_with(Plan::default(), Health::with_watch_failure(LONGEST_FAILURE));
    stage.install().await;
    stage.rests(&[&operator]).await?;
    if let Some(illness) = operator.health.illness() {
        return Err(format!("all is well, but liveness says: {illness}"));
    }
    operator.faults.set_away(true);
    let begin = Instant::now();
    let words = eventually("liveness says that watches fail", async || operator.health.illness()).await;
    let after = begin.elapsed();
    if after < LONGEST_FAILURE || !words.starts_with("the watch of ") {
        return Err(format!("after {} s liveness says: {words}", after.as_secs()));
    }
    operator.faults.set_away(false);
    let begin = Instant::now();
    let is_well = async || operator.health.illness().is_none().then_some(());
    eventually_within(LONGEST_RECOVERY, "liveness is silent again", is_well).await;
    let recovered = begin.elapsed();
    stage.set_password("anna", 1).await;
    Scenario::MailboxAdded.act(&mut stage, 1).await;
    stage.rests(&[&operator]).await?;
    operator.stop().await;
    Ok(format!("said after {} s, silent {} s after it was back", after.as_secs(), recovered.as_secs()))
}

/// Two operators that both believe to lead, through an installation and a change.
pub async fn two_leaders(config: &Config, installed: &Reference, changed: &Reference) -> Result<String, String> {
    let mut stage = Stage::new(config, "leaders").await;
    let operators = [stage.operator(Plan::default()), stage.operator(Plan::default())];
    let both = [&operators[0], &operators[1]];
    stage.install().await;
    stage.reaches(&installed.after, &both).await?;
    stage.rests(&both).await?;
    Scenario::PasswordChanged.act(&mut stage, 1).await;
    stage.reaches(&changed.after, &both).await.map_err(|error| format!("after the change: {error}"))?;
    let end = stage.rests(&both).await?;
    let differences = changed.after.differences(&end);
    if !differences.is_empty() {
        return Err(differences.join("\n    "));
    }
    let written: usize = both.iter().map(|operator| operator.faults.writes().len()).sum();
    let alone = installed.writes.len() + changed.writes.len();
    if written > 4 * alone {
        return Err(format!("{written} writes by two, {alone} by one"));
    }
    let [one, two] = operators;
    one.stop().await;
    two.stop().await;
    Ok(format!("{written} writes by two, {alone} by one"))
}

/// Where the definition is weakened: a field without rules of its own.
const WEAK: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/protocols";

/// An object that cannot be understood, as another release or a weakened definition leaves one. The last run: it changes
/// the definition that all share.
pub async fn undecodable(config: &Config) -> Result<String, String> {
    let client = &Client::try_from(config.clone()).unwrap();
    let mut stage = Stage::new(config, "undecodable").await;
    let operator = stage.operator(Plan::default());
    stage.install().await;
    Scenario::Install.noticed(&stage).await;
    weaken(client).await;
    let space = stage.space.clone();
    eventually("the API server takes the odd mailbox", async || {
        let mailboxes: Api<kube::api::DynamicObject> =
            Api::namespaced_with(space.client.clone(), &space.name, &kube::core::ApiResource::erase::<Mailbox>(&()));
        let odd = json!({
            "apiVersion": "paquebot.dev/v1alpha1", "kind": "Mailbox", "metadata": { "name": "odd" },
            "spec": { "domainRef": { "name": "server1.com" }, "localPart": "odd", "protocols": { "pop3": 7 } },
        });
        mailboxes.patch("odd", &PatchParams::apply("person").force(), &Patch::Apply(&odd)).await.ok()
    })
    .await;
    // As it comes over the watch, and as it lies in a list.
    odd_is_named_and_others_go_on(&mut stage, 1).await;
    operator.stop().await;
    let operator = stage.operator(Plan::default());
    stage.knows(&operator).await;
    stage.delete::<Mailbox>("tom").await;
    stage.set_password("tom", 2).await;
    odd_is_named_and_others_go_on(&mut stage, 2).await;
    let raw: Value = dynamic(&stage).await;
    operator.stop().await;
    stage.space.api::<kube::core::PartialObjectMeta<Mailbox>>().delete("odd", &Default::default()).await.unwrap();
    install_definitions(client).await;
    let words = raw.pointer("/status/conditions/0/message").and_then(Value::as_str).unwrap_or_default();
    Ok(format!("the object says: {words}"))
}

async fn odd_is_named_and_others_go_on(stage: &mut Stage, round: usize) {
    eventually("the odd mailbox is told to be so", async || {
        let conditions = dynamic(stage).await.pointer("/status/conditions")?.clone();
        let accepted = conditions.as_array()?.iter().find(|condition| condition["type"] == "Accepted")?.clone();
        (accepted["status"] == "False" && accepted["reason"] == "InvalidSpec").then_some(())
    })
    .await;
    Scenario::MailboxAdded.act(stage, round).await;
    stage.space.condition::<Mailbox>("tom", Type::Ready, "True", "Ready").await;
    stage.space.condition::<MailDomain>("server1.com", Type::Ready, "True", "Ready").await;
}

/// The odd mailbox as it is.
async fn dynamic(stage: &Stage) -> Value {
    let resource = kube::core::ApiResource::erase::<Mailbox>(&());
    let mailboxes: Api<kube::api::DynamicObject> =
        Api::namespaced_with(stage.space.client.clone(), &stage.space.name, &resource);
    serde_json::to_value(mailboxes.get("odd").await.unwrap()).unwrap()
}

async fn weaken(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let all = paquebot_crds::manifest::definitions();
    let definition = all.into_iter().find(|definition| definition.spec.names.kind == "Mailbox").unwrap();
    let mut weak = serde_json::to_value(definition).unwrap();
    *weak.pointer_mut(WEAK).unwrap() = json!({ "x-kubernetes-preserve-unknown-fields": true });
    let parameters = PatchParams::apply("test").force();
    definitions.patch("mailboxes.paquebot.dev", &parameters, &Patch::Apply(&weak)).await.unwrap();
}

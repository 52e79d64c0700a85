//! The whole operator on a real API server, which looks at the real name servers: whose a domain is, what external-dns
//! gets, reverse DNS.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use paquebot_crds::conditions::ConditionType as Type;
use paquebot_crds::mail_domain::DnsRecordPurpose;
use paquebot_crds::{MailDomain, MailServer};
use paquebot_operator::dns::seen::Settings;
use serde_json::{Value, json};

use crate::bind::{RESOLVER, World, Zones, zone};
use crate::support::external_dns;
use crate::support::world::{Operator, Space, eventually, serve_configz};

const TXT: u16 = 16;

fn settings(world: &World) -> Settings {
    Settings { timeout: Duration::from_secs(2), deadline: Duration::from_secs(30), authoritative_port: world.port }
}

/// A MailServer that asks the resolver of the test.
async fn server(space: &Space, world: &World, dns: Value, more: Value) {
    let mut spec = json!({ "hostname": "mx.right.test", "dns": { "resolvers": [format!("{RESOLVER}:{}", world.port)], "verifyInterval": "1s" } });
    spec["dns"].as_object_mut().unwrap().extend(dns.as_object().unwrap().clone());
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    space.apply::<MailServer>("mx1", json!({ "spec": spec })).await;
}

async fn domain(space: &Space, name: &str, domain: &str, dns: Value) {
    let spec = json!({ "domain": domain, "serverRef": { "name": "mx1" }, "dns": dns });
    space.apply::<MailDomain>(name, json!({ "spec": spec })).await;
}

/// The record that proves a claim, as its status asks for it.
async fn challenge(space: &Space, name: &str) -> String {
    eventually("the status asks for a proof", async || {
        let dns = space.get::<MailDomain>(name).await?.status?.dns?;
        let record = dns.records.into_iter().find(|record| record.purpose == DnsRecordPurpose::Ownership)?;
        assert_eq!(record.name, "_paquebot-challenge.owned.test");
        assert!(dns.zone_file?.contains(&record.values[0]), "the zone text has it too");
        record.values.into_iter().next()
    })
    .await
}

async fn serves(space: &Space, domain: &str) -> bool {
    space.records("mx1").await.keys().any(|name| name == domain)
}

/// Two MailDomains claim a domain; the one whose owner publishes the proof gets it, and keeps it over a restart.
pub async fn ownership_decides(client: &Client, world: &World, mut zones: Zones) {
    let space = Space::new(client, "ownership").await;
    let port = serve_configz(&space, "mx1").await;
    let operator = Operator::start_asking(&space, port, settings(world));
    server(&space, world, json!({ "requireOwnership": true }), json!({})).await;
    space.exists::<Service>("mx1").await;
    space.pod("mx1").await;
    space.condition::<MailServer>("mx1", Type::Ready, "True", "Ready").await;
    space.condition::<MailServer>("mx1", Type::ReverseDNSReady, "Unknown", "NoPublicAddress").await;
    for name in ["squatter", "owner"] {
        domain(&space, name, "owned.test", json!({})).await;
        let words = space.condition::<MailDomain>(name, Type::Ready, "False", "ChallengeMissing").await;
        assert!(words.contains("_paquebot-challenge.owned.test. IN TXT"), "{words}");
        space.condition::<MailDomain>(name, Type::Accepted, "Unknown", "Pending").await;
    }
    assert!(!serves(&space, "owned.test").await);
    let (squatters, owners) = (challenge(&space, "squatter").await, challenge(&space, "owner").await);
    assert_ne!(squatters, owners);

    zone(&mut zones, "owned.test", format!("_paquebot-challenge IN TXT \"{owners}\""));
    world.publish(&zones, "_paquebot-challenge.owned.test", TXT);
    space.condition::<MailDomain>("owner", Type::OwnershipVerified, "True", "Verified").await;
    space.condition::<MailDomain>("owner", Type::Ready, "True", "Ready").await;
    let words = space.condition::<MailDomain>("squatter", Type::Accepted, "False", "DomainConflict").await;
    assert!(words.contains("proven in DNS"), "{words}");
    assert!(serves(&space, "owned.test").await);
    operator.stop().await;

    // Another process knows it from the status, before anybody is asked.
    let index = space.index("mx1").await.unwrap();
    let nobody = Settings { authoritative_port: 1, ..settings(world) };
    let operator = Operator::start_asking(&space, port, nobody);
    space.condition::<MailDomain>("owner", Type::OwnershipVerified, "Unknown", "LookupFailed").await;
    assert_eq!(space.index("mx1").await.unwrap(), index, "silence takes nothing out of service");
    operator.stop().await;

    // The proof is withdrawn: after three looks nobody has the domain.
    zone(&mut zones, "owned.test", "www IN A 192.0.2.1");
    world.publish(&zones, "www.owned.test", 1);
    let operator = Operator::start_asking(&space, port, settings(world));
    space.condition::<MailDomain>("owner", Type::OwnershipVerified, "False", "ChallengeMissing").await;
    eventually("the domain is served no more", async || (!serves(&space, "owned.test").await).then_some(())).await;
    operator.stop().await;
}

pub async fn external_dns_is_fed(client: &Client, world: &World) {
    let space = Space::new(client, "endpoints").await;
    let port = serve_configz(&space, "mx1").await;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &space.name, &external_dns::resource());
    let operator = Operator::start_asking(&space, port, settings(world));
    server(&space, world, json!({ "mode": "ExternalDNS" }), json!({})).await;
    domain(&space, "missing", "missing.test", json!({})).await;
    domain(&space, "silent", "wrong.test", json!({ "mode": "Disabled" })).await;
    // It says so where the API does not exist, and looks all the same.
    let words = space.condition::<MailDomain>("missing", Type::Accepted, "True", "Accepted").await;
    let words = if words.contains("externaldns") {
        words
    } else {
        eventually("it is said that the API is missing", async || {
            let message = space.condition::<MailDomain>("missing", Type::Accepted, "True", "Accepted").await;
            message.contains("externaldns.k8s.io/v1alpha1").then_some(message)
        })
        .await
    };
    assert!(words.contains("Install the definitions"), "{words}");
    space.condition::<MailDomain>("missing", Type::DNSReady, "False", "RecordMissing").await;
    space.condition::<MailDomain>("silent", Type::DNSReady, "True", "Disabled").await;
    operator.stop().await;

    external_dns::install(client).await;
    let operator = Operator::start_asking(&space, port, settings(world));
    let written = eventually("the DNSEndpoint is written", async || api.get_opt("missing").await.unwrap()).await;
    assert_eq!(written.metadata.owner_references.as_ref().unwrap()[0].kind, "MailDomain");
    let spec = &written.data["spec"]["endpoints"];
    assert_eq!(
        spec[0],
        json!({ "dnsName": "missing.test", "recordTTL": 3600, "recordType": "MX", "targets": ["10 mx.right.test"] })
    );
    assert_eq!(spec[1]["targets"], json!(["\"v=spf1 mx ~all\""]));
    space.condition::<MailDomain>("missing", Type::DNSReady, "False", "RecordMissing").await;
    eventually("the remark goes", async || {
        let message = space.condition::<MailDomain>("missing", Type::Accepted, "True", "Accepted").await;
        (!message.contains("externaldns")).then_some(())
    })
    .await;
    assert!(api.get_opt("silent").await.unwrap().is_none());

    // A changed record is written, an unchanged world is not.
    domain(&space, "missing", "missing.test", json!({ "dmarc": { "policy": "Reject" } })).await;
    let changed = eventually("the DNSEndpoint follows", async || {
        let live = api.get_opt("missing").await.unwrap()?;
        live.data["spec"].to_string().contains("p=reject").then_some(live)
    })
    .await;
    operator.stop().await;
    let operator = Operator::start_asking(&space, port, settings(world));
    eventually("the records are looked at", async || (operator.metrics.dns_looks.get() > 0).then_some(())).await;
    let again = api.get("missing").await.unwrap();
    assert_eq!(again.metadata.resource_version, changed.metadata.resource_version);

    // Somebody else's object of the name is left alone, and that is said.
    domain(&space, "missing", "missing.test", json!({ "mode": "Report" })).await;
    eventually("the DNSEndpoint is taken back", async || api.get_opt("missing").await.unwrap().is_none().then_some(()))
        .await;
    let foreign = json!({ "apiVersion": "externaldns.k8s.io/v1alpha1", "kind": "DNSEndpoint", "metadata": { "name": "missing" }, "spec": { "endpoints": [] } });
    let foreign: DynamicObject = serde_json::from_value(foreign).unwrap();
    api.create(&PostParams::default(), &foreign).await.unwrap();
    domain(&space, "missing", "missing.test", json!({})).await;
    eventually("it is said that the name is taken", async || {
        let message = space.condition::<MailDomain>("missing", Type::Accepted, "True", "Accepted").await;
        message.contains("somebody else's").then_some(())
    })
    .await;
    assert_eq!(api.get("missing").await.unwrap().data["spec"]["endpoints"], json!([]));
    // A MailDomain alone may not have it: whoever writes one would write into every zone of external-dns.
    api.delete("missing", &DeleteParams::default()).await.unwrap();
    server(&space, world, json!({ "mode": "Report" }), json!({})).await;
    domain(&space, "missing", "missing.test", json!({ "mode": "ExternalDNS" })).await;
    eventually("it is said what is to be done", async || {
        let message = space.condition::<MailDomain>("missing", Type::Accepted, "True", "Accepted").await;
        message.contains("the MailServer's own dns.mode").then_some(())
    })
    .await;
    assert!(api.get_opt("missing").await.unwrap().is_none());
    operator.stop().await;
}

pub async fn reverse_names_of_a_load_balancer(client: &Client, world: &World) {
    let space = Space::new(client, "reverse").await;
    let port = serve_configz(&space, "mx1").await;
    let operator = Operator::start_asking(&space, port, settings(world));
    server(&space, world, json!({}), json!({ "service": { "type": "LoadBalancer" } })).await;
    space.exists::<Service>("mx1").await;
    let words = space.condition::<MailServer>("mx1", Type::ReverseDNSReady, "Unknown", "NoPublicAddress").await;
    assert!(words.contains("no address yet"), "{words}");
    for (address, status, reason) in
        [("192.0.2.99", "False", "Missing"), ("192.0.2.8", "False", "Mismatch"), ("192.0.2.7", "True", "Matches")]
    {
        let balanced = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": address }] } } });
        let api = space.api::<Service>();
        api.patch_status("mx1", &PatchParams::default(), &Patch::Merge(&balanced)).await.unwrap();
        let words = space.condition::<MailServer>("mx1", Type::ReverseDNSReady, status, reason).await;
        assert!(reason == "Matches" || words.contains(address), "{words}");
    }
    server(&space, world, json!({ "mode": "Disabled" }), json!({ "service": { "type": "LoadBalancer" } })).await;
    space.condition::<MailServer>("mx1", Type::ReverseDNSReady, "True", "Disabled").await;
    operator.stop().await;
}

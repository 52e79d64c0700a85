//! How a server stands towards the world: what is measured of its clients' addresses, which networks are admitted then, the
//! probe for an open relay; and the variants of its Service.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use paquebot_crds::conditions::ConditionType as Type;
use paquebot_crds::{MailServer, RelayPolicy};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::world::{Operator, Space, configz, eventually};

/// A node of this test; no client of another scenario has its address.
const NODE: &str = "203.0.113.200";

/// What the server in the pod says and does.
#[derive(Clone, Default)]
struct Pretence {
    /// The clients of the SMTP listener.
    peers: Arc<Mutex<Vec<&'static str>>>,
    /// Whether it takes anybody's mail.
    open: Arc<Mutex<bool>>,
}

/// Answers `/configz` and, to who has the token, `/peers`; yields the port.
async fn serve_admin(space: &Space, pretence: &Pretence) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new()
        .route("/configz", get(configz))
        .with_state((space.clone(), "mx1".to_owned()))
        .merge(Router::new().route("/peers", get(peers)).with_state((space.clone(), pretence.clone())));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    port
}

async fn peers(State((space, pretence)): State<(Space, Pretence)>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    let keys: Option<Secret> = space.get("mx1-keys").await;
    let token = keys.and_then(|keys| keys.data?.remove("token")).unwrap_or_default().0;
    let wanted = format!("Bearer {}", String::from_utf8(token).unwrap());
    if headers.get("authorization").is_none_or(|shown| shown.as_bytes() != wanted.as_bytes()) {
        return (StatusCode::UNAUTHORIZED, Json(json!({})));
    }
    let peer = |address: &&str| json!({"address": address, "byProxy": false, "connections": 1, "secondsAgo": 0});
    let peers: Vec<Value> = pretence.peers.lock().unwrap().iter().map(peer).collect();
    let listener = json!({"name": "smtp", "protocol": "SMTP", "proxyProtocol": false, "peers": peers});
    (StatusCode::OK, Json(json!({"client": "127.0.0.1", "listeners": [listener]})))
}

/// Speaks as much SMTP as the probe needs; yields the port. A DATA would never be answered.
async fn serve_smtp(pretence: &Pretence) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (port, open) = (listener.local_addr().unwrap().port(), Arc::clone(&pretence.open));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let open = Arc::clone(&open);
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                stream.get_mut().write_all(b"220 mx1 ESMTP\r\n").await.unwrap();
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                    let answer = match line.get(..4).unwrap_or_default() {
                        "EHLO" => "250-mx1\r\n250 SIZE\r\n",
                        "RCPT" if *open.lock().unwrap() => "250 2.1.5 ok\r\n",
                        "RCPT" => "553 5.7.1 no\r\n",
                        "MAIL" | "RSET" => "250 2.0.0 ok\r\n",
                        "QUIT" => return,
                        _ => panic!("the probe said {line}"),
                    };
                    stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
                    line.clear();
                }
            });
        }
    });
    port
}

async fn policy(space: &Space, name: &str, from: Value) {
    let spec = json!({ "serverRef": { "name": "mx1" }, "from": [from] });
    space.apply::<RelayPolicy>(name, json!({ "spec": spec })).await;
}

/// Whether the rules that were written admit a network.
async fn rules_hold(space: &Space, network: &str) -> bool {
    let config: Option<ConfigMap> = space.get("mx1-config").await;
    let text = config.and_then(|config| config.data?.remove("relay.json")).unwrap_or_default();
    text.contains(network)
}

async fn make_node(client: &Client) {
    let api: Api<Node> = Api::all(client.clone());
    let node = json!({ "metadata": { "name": "exposure" }, "spec": { "podCIDR": "203.0.113.0/28" } });
    api.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
    let status = json!({ "status": { "addresses": [{ "type": "InternalIP", "address": NODE }] } });
    api.patch_status("exposure", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

pub async fn clients_addresses_are_measured_and_strangers_refused(client: &Client) {
    make_node(client).await;
    let space = Space::new(client, "exposure").await;
    let pretence = Pretence::default();
    let (admin, smtp) = (serve_admin(&space, &pretence).await, serve_smtp(&pretence).await);
    let operator = Operator::start(&space, admin);
    let spec = json!({
        "hostname": "mx1.server1.com",
        "dns": { "mode": "Disabled" },
        "service": { "type": "NodePort" },
        "listeners": [{ "name": "smtp", "protocol": "SMTP", "port": smtp }],
    });
    space.apply::<MailServer>("mx1", json!({ "spec": spec })).await;
    space.domain("server1.com", "mx1").await;
    policy(&space, "nodes", json!({ "cidrs": [format!("{NODE}/32")] })).await;
    space.exists::<Service>("mx1").await;
    space.pod("mx1").await;
    space.condition::<MailServer>("mx1", Type::SourceIPPreserved, "Unknown", "NoTrafficYet").await;
    space.condition::<MailServer>("mx1", Type::RelayClosed, "True", "ProbeRefused").await;
    let words = space.condition::<RelayPolicy>("nodes", Type::Accepted, "False", "OpenRelayRefused").await;
    assert!(words.contains("SourceIPPreserved"), "{words}");
    assert!(!rules_hold(&space, NODE).await);
    let ready = space.condition::<MailServer>("mx1", Type::Ready, "True", "Ready").await;
    assert!(!ready.is_empty());

    // A client of the Internet shows that it keeps its address: now the node's address is the node's alone.
    *pretence.peers.lock().unwrap() = vec!["192.0.2.99"];
    policy(&space, "office", json!({ "cidrs": ["198.51.100.0/24"] })).await;
    space.condition::<MailServer>("mx1", Type::SourceIPPreserved, "True", "TrafficPolicyLocal").await;
    space.condition::<RelayPolicy>("nodes", Type::Ready, "True", "Ready").await;
    assert!(rules_hold(&space, NODE).await);

    // One that appears with the node's address takes the proof away, and with it the rule.
    pretence.peers.lock().unwrap().push(NODE);
    policy(&space, "office", json!({ "cidrs": ["198.51.100.0/25"] })).await;
    let words = space.condition::<MailServer>("mx1", Type::SourceIPPreserved, "False", "ObservedNodeSourceIP").await;
    assert!(words.contains(NODE), "{words}");
    space.condition::<RelayPolicy>("nodes", Type::Accepted, "False", "OpenRelayRefused").await;
    eventually("the node's address is no longer admitted", async || (!rules_hold(&space, NODE).await).then_some(()))
        .await;

    an_open_relay_is_found(&space, &pretence, &operator).await;
    operator.stop().await;
    // What was measured holds over a restart: neither the status nor the rules are written anew.
    let before = space.get::<MailServer>("mx1").await.unwrap().status;
    *pretence.peers.lock().unwrap() = Vec::new();
    let operator = Operator::start(&space, admin);
    eventually("it is probed again", async || (operator.metrics.relay_probes.get() > 0).then_some(())).await;
    policy(&space, "office", json!({ "cidrs": ["198.51.100.0/26"] })).await;
    space.condition::<RelayPolicy>("office", Type::Ready, "True", "Ready").await;
    let source = |status: &Option<paquebot_crds::mail_server::MailServerStatus>| {
        let conditions = &status.as_ref().unwrap().conditions;
        paquebot_crds::conditions::find(conditions, Type::SourceIPPreserved).cloned()
    };
    assert_eq!(source(&space.get::<MailServer>("mx1").await.unwrap().status), source(&before));
    // Without a port for strangers nothing is said of what was found at one.
    let mut spec = spec;
    spec["listeners"] = json!([{ "name": "pop3", "protocol": "POP3", "port": 1110 }]);
    space.apply::<MailServer>("mx1", json!({ "spec": spec })).await;
    let words = space.condition::<MailServer>("mx1", Type::RelayClosed, "Unknown", "NotProbed").await;
    assert!(words.contains("No listener has the protocol SMTP"), "{words}");
    assert_eq!(operator.metrics.blind_probes.get(), 0);
    operator.stop().await;
    Api::<Node>::all(client.clone()).delete("exposure", &DeleteParams::default()).await.unwrap();
}

async fn an_open_relay_is_found(space: &Space, pretence: &Pretence, operator: &Operator) {
    *pretence.open.lock().unwrap() = true;
    policy(space, "office", json!({ "cidrs": ["198.51.100.128/25"] })).await;
    let words = space.condition::<MailServer>("mx1", Type::RelayClosed, "False", "OpenRelay").await;
    assert!(words.contains("mx1-0") && words.contains("250 2.1.5 ok"), "{words}");
    assert_eq!(operator.metrics.open_relays.get(), 1);
    eventually("a warning tells of it", async || {
        let events = space.api::<Event>().list(&ListParams::default()).await.unwrap();
        let warns =
            |event: &Event| event.reason.as_deref() == Some("OpenRelay") && event.type_.as_deref() == Some("Warning");
        events.iter().any(warns).then_some(())
    })
    .await;
    // A server that is an open relay still serves: Ready is about something else.
    space.condition::<MailServer>("mx1", Type::Ready, "True", "Ready").await;
    // Where a policy admits the operator itself, that it is let through proves nothing. The pod has its address here.
    policy(space, "pods", json!({ "podSelector": { "matchLabels": { "app.kubernetes.io/instance": "mx1" } } })).await;
    let words = space.condition::<MailServer>("mx1", Type::RelayClosed, "Unknown", "NotProbed").await;
    assert!(words.contains("127.0.0.1"), "{words}");
    assert_eq!((operator.metrics.open_relays.get(), operator.metrics.blind_probes.get()), (0, 1));
    *pretence.open.lock().unwrap() = false;
    space.api::<RelayPolicy>().delete("pods", &DeleteParams::default()).await.unwrap();
    space.condition::<MailServer>("mx1", Type::RelayClosed, "True", "ProbeRefused").await;
}

/// Waits until the Service is as it should be.
async fn service(space: &Space, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, async || {
        let service = serde_json::to_value(space.get::<Service>("mx1").await?).unwrap();
        is_wanted(&service).then_some(service)
    })
    .await
}

async fn server_with(space: &Space, service: Value) {
    let spec = json!({ "hostname": "mx1.server1.com", "dns": { "mode": "Disabled" }, "service": service });
    space.apply::<MailServer>("mx1", json!({ "spec": spec })).await;
}

pub async fn a_service_has_its_variants_and_goes_back(client: &Client) {
    let space = Space::new(client, "service").await;
    let operator = Operator::start(&space, 1);
    server_with(&space, json!({})).await;
    service(&space, "a ClusterIP", |service| service["spec"]["type"] == "ClusterIP").await;

    server_with(&space, json!({ "type": "NodePort", "nodePorts": { "smtp": 30_925 }, "annotations": { "a": "b" } }))
        .await;
    let made = service(&space, "a NodePort", |service| service["spec"]["type"] == "NodePort").await;
    assert_eq!(
        (&made["spec"]["ports"][0]["nodePort"], &made["spec"]["externalTrafficPolicy"]),
        (&json!(30_925), &json!("Local"))
    );
    assert_eq!(made["metadata"]["annotations"]["a"], "b");
    let others = made["spec"]["ports"].as_array().unwrap();
    assert!(others.iter().all(|port| port["nodePort"].as_u64().unwrap() > 0), "Kubernetes chooses the others: {made}");

    let balanced = |class: &str, policy: &str| json!({ "type": "LoadBalancer", "loadBalancerClass": class, "externalTrafficPolicy": policy, "ipFamilyPolicy": "PreferDualStack" });
    server_with(&space, balanced("example.com/one", "Local")).await;
    let made = service(&space, "a LoadBalancer", |service| service["spec"]["type"] == "LoadBalancer").await;
    assert_eq!(made["spec"]["loadBalancerClass"], "example.com/one");
    assert_eq!(made["spec"]["ipFamilyPolicy"], "PreferDualStack");
    assert!(made["spec"]["healthCheckNodePort"].as_u64().unwrap() > 0, "{made}");
    assert!(made["metadata"]["annotations"].get("a").is_none(), "an annotation that is no longer wanted goes: {made}");

    // A class cannot be changed: that is said, and what runs stays.
    server_with(&space, balanced("example.com/two", "Local")).await;
    let words = space.condition::<MailServer>("mx1", Type::Accepted, "False", "InvalidSpec").await;
    assert!(words.contains("Service") && words.contains("loadBalancerClass"), "{words}");
    service(&space, "the old class", |service| service["spec"]["loadBalancerClass"] == "example.com/one").await;
    server_with(&space, balanced("example.com/one", "Cluster")).await;
    space.condition::<MailServer>("mx1", Type::Accepted, "True", "Accepted").await;
    service(&space, "the other policy", |service| {
        service["spec"]["externalTrafficPolicy"] == "Cluster"
            && service["spec"]["healthCheckNodePort"].as_u64().is_none_or(|port| port == 0)
    })
    .await;
    space.condition::<MailServer>("mx1", Type::SourceIPPreserved, "False", "TrafficPolicyCluster").await;

    server_with(&space, json!({ "type": "ClusterIP", "externalTrafficPolicy": "Cluster" })).await;
    let made = service(&space, "a ClusterIP again", |service| service["spec"]["type"] == "ClusterIP").await;
    for field in ["externalTrafficPolicy", "loadBalancerClass", "healthCheckNodePort"] {
        assert!(made["spec"].get(field).is_none_or(|value| *value == json!(0)), "{field} is left: {made}");
    }
    assert!(made["spec"]["ports"].as_array().unwrap().iter().all(|port| port.get("nodePort").is_none()), "{made}");
    // This API server has addresses of one family only, and says so.
    server_with(&space, json!({ "ipFamilyPolicy": "RequireDualStack" })).await;
    let words = space.condition::<MailServer>("mx1", Type::Accepted, "False", "InvalidSpec").await;
    assert!(words.contains("ipFamilyPolicy"), "{words}");
    server_with(&space, json!({})).await;
    space.condition::<MailServer>("mx1", Type::Accepted, "True", "Accepted").await;
    operator.stop().await;

    let before = space.get::<Service>("mx1").await.unwrap().metadata.resource_version;
    let operator = Operator::start(&space, 1);
    eventually("a pass", async || (operator.metrics.passes.get() > 0).then_some(())).await;
    policy(&space, "marker", json!({ "cidrs": ["198.51.100.0/24"] })).await;
    eventually("the marker", async || rules_hold(&space, "198.51.100.0/24").await.then_some(())).await;
    assert_eq!(space.get::<Service>("mx1").await.unwrap().metadata.resource_version, before);
    operator.stop().await;
}

/// The kind of the Prometheus operator, as much of it as an API server has to know.
async fn install_pod_monitors(client: &Client) {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "podmonitors.monitoring.coreos.com" },
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": { "kind": "PodMonitor", "plural": "podmonitors", "singular": "podmonitor" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }],
        },
    });
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    api.create(&PostParams::default(), &serde_json::from_value(definition).unwrap()).await.unwrap();
    eventually("PodMonitors are served", async || {
        let kinds = client.list_api_group_resources("monitoring.coreos.com/v1").await.ok()?;
        kinds.resources.iter().any(|kind| kind.kind == "PodMonitor").then_some(())
    })
    .await;
}

pub async fn what_stands_beside_a_server_comes_and_goes(client: &Client) {
    let space = Space::new(client, "beside").await;
    let with = async |beside: Value| {
        let mut spec = json!({ "hostname": "mx1.server1.com", "dns": { "mode": "Disabled" } });
        spec.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
        space.apply::<MailServer>("mx1", json!({ "spec": spec })).await;
    };
    let operator = Operator::start(&space, 1);
    let wanted = json!({ "networkPolicy": { "enabled": true }, "monitoring": { "podMonitor": { "mode": "Enabled" } } });
    with(wanted.clone()).await;
    let policy: NetworkPolicy = space.exists("mx1").await;
    assert_eq!(policy.metadata.owner_references.unwrap()[0].kind, "MailServer");
    eventually("the missing kind is named", async || {
        let status = space.get::<MailServer>("mx1").await?.status?;
        let accepted = paquebot_crds::conditions::find(&status.conditions, Type::Accepted)?.clone();
        (accepted.status == "True" && accepted.message.contains("spec.monitoring.podMonitor")).then_some(())
    })
    .await;
    // Somebody deletes it: it comes back. Nobody wants it any more: it goes.
    space.api::<NetworkPolicy>().delete("mx1", &DeleteParams::default()).await.unwrap();
    space.exists::<NetworkPolicy>("mx1").await;
    with(json!({})).await;
    eventually("the NetworkPolicy is gone", async || space.get::<NetworkPolicy>("mx1").await.is_none().then_some(()))
        .await;
    operator.stop().await;

    install_pod_monitors(client).await;
    with(wanted).await;
    let operator = Operator::start(&space, 1);
    let monitors: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &space.name, &paquebot_operator::render::pod_monitor::resource());
    let made = eventually("the PodMonitor", async || monitors.get_opt("mx1").await.unwrap()).await;
    assert_eq!(made.data["spec"]["podMetricsEndpoints"][0]["port"], "admin");
    let written = operator.metrics.objects_written.get();
    self::policy(&space, "marker", json!({ "cidrs": ["198.51.100.0/24"] })).await;
    eventually("the marker", async || rules_hold(&space, "198.51.100.0/24").await.then_some(())).await;
    eventually("its pass", async || (operator.metrics.objects_written.get() > written).then_some(())).await;
    assert_eq!(monitors.get("mx1").await.unwrap().metadata.resource_version, made.metadata.resource_version);
    with(json!({})).await;
    eventually("the PodMonitor is gone", async || monitors.get_opt("mx1").await.unwrap().is_none().then_some(())).await;
    operator.stop().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.delete("podmonitors.monitoring.coreos.com", &DeleteParams::default()).await.unwrap();
}

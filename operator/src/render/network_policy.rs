//! The NetworkPolicy of a server's pods: who may reach them, and whom they may reach. Rendered where
//! `spec.networkPolicy.enabled` says so.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use paquebot_config::RelayRule;

use super::Server;
use super::names::{ADMIN_PORT, metadata, selector};
use super::ports::container_ports;
use super::workload::Defaults;
use crate::directory::{Accepted, MAIL_PORTS, OPERATOR_LABELS};

/// DNS; some clusters' own servers listen on 5353 behind port 53 of their Service, and policies see the pods' port.
const DNS: [u16; 2] = [53, 5353];

/// Renders it; `None` where none is wanted, so that an existing one is to be deleted. `rules` are the relay rules that are in
/// force: smart hosts of the server's own namespace may have ports of their own. What another namespace writes opens none: the
/// port would be open to every address, the cluster's API server among them.
#[must_use]
pub fn network_policy<'a>(
    server: &Accepted<&Server>,
    defaults: &Defaults,
    rules: impl IntoIterator<Item = &'a RelayRule>,
) -> Option<NetworkPolicy> {
    let server: &Server = server;
    let wanted = server.spec.network_policy.as_ref().is_some_and(|policy| policy.enabled);
    wanted.then(|| NetworkPolicy {
        metadata: metadata(server, server.name.name.clone()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labelled(selector(&server.name.name))),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(ingress(server, defaults)),
            egress: Some(egress(server, rules)),
        }),
    })
}

fn ingress(server: &Server, defaults: &Defaults) -> Vec<NetworkPolicyIngressRule> {
    // Nobody's address is asked here: who may do what is for the server to say.
    let mail = container_ports(&server.spec.listeners).into_iter().map(|port| on("TCP", port)).collect();
    let everyone = NetworkPolicyIngressRule { ports: Some(mail), from: None };
    let monitored = server.spec.monitoring.as_ref().and_then(|monitoring| monitoring.pod_monitor.as_ref());
    let asks = if monitored.is_some_and(|monitor| monitor.mode.is_enabled()) {
        // Prometheus may run anywhere in the cluster; metrics tell no secret, and the rest needs a token.
        NetworkPolicyPeer { namespace_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() }
    } else {
        operator(defaults)
    };
    let admin = NetworkPolicyIngressRule { ports: Some(vec![on("TCP", ADMIN_PORT)]), from: Some(vec![asks]) };
    vec![everyone, admin]
}

/// The operator's pods.
fn operator(defaults: &Defaults) -> NetworkPolicyPeer {
    let namespace = defaults.operator_namespace.as_ref();
    let named = namespace.map(|name| [("kubernetes.io/metadata.name".to_owned(), name.clone())].into());
    NetworkPolicyPeer {
        pod_selector: Some(labelled(OPERATOR_LABELS.map(|(key, value)| (key.to_owned(), value.to_owned())).into())),
        namespace_selector: Some(named.map_or_else(LabelSelector::default, labelled)),
        ..NetworkPolicyPeer::default()
    }
}

fn egress<'a>(server: &Server, rules: impl IntoIterator<Item = &'a RelayRule>) -> Vec<NetworkPolicyEgressRule> {
    let names = DNS.iter().flat_map(|port| [on("UDP", *port), on("TCP", *port)]).collect();
    let own_rules = rules.into_iter().filter(|rule| !rule.confined);
    let upstreams = own_rules.filter_map(|rule| rule.upstream.as_ref()).map(|host| host.port);
    let own = server.spec.outbound.smart_host.as_ref().map(|host| host.port);
    let mail: BTreeSet<u16> = MAIL_PORTS.into_iter().chain(upstreams).chain(own).collect();
    // Behind their Service's port 25 other servers of ours listen on a port of the pod, which is the one that counts.
    let ours = [
        ("app.kubernetes.io/name".to_owned(), "paquebot-server".to_owned()),
        ("app.kubernetes.io/component".to_owned(), "server".to_owned()),
    ];
    let servers = NetworkPolicyPeer {
        pod_selector: Some(labelled(ours.into())),
        namespace_selector: Some(LabelSelector::default()),
        ..NetworkPolicyPeer::default()
    };
    vec![
        NetworkPolicyEgressRule { ports: Some(names), to: None },
        NetworkPolicyEgressRule { ports: Some(mail.into_iter().map(|port| on("TCP", port)).collect()), to: None },
        NetworkPolicyEgressRule { ports: None, to: Some(vec![servers]) },
    ]
}

fn labelled(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}

fn on(protocol: &str, port: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(port))),
        protocol: Some(protocol.to_owned()),
        end_port: None,
    }
}

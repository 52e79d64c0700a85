//! The two Services of a server.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use paquebot_crds::mail_server::ServiceType;

use super::Server;
use super::names::{self, ADMIN_PORT, ADMIN_PORT_NAME, metadata, selector};
use super::ports::container_ports;

/// The Service that clients and other servers reach.
pub(super) fn public(server: &Server) -> Service {
    let wanted = &server.spec.service;
    let outside = wanted.type_ != ServiceType::ClusterIP;
    let ports = server.spec.listeners.iter().map(|listener| ServicePort {
        name: Some(listener.name.clone()),
        port: i32::from(listener.port),
        target_port: Some(IntOrString::String(listener.name.clone())),
        node_port: wanted.node_ports.get(&listener.name).filter(|_| outside).map(|port| i32::from(*port)),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    });
    let mut metadata = metadata(server, server.name.name.clone());
    metadata.annotations = (!wanted.annotations.is_empty()).then(|| wanted.annotations.clone());
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(wanted.type_.as_str().to_owned()),
            selector: Some(selector(&server.name.name)),
            ports: Some(ports.collect()),
            // The API server refuses it for a Service without ports outside the cluster.
            external_traffic_policy: outside.then(|| wanted.external_traffic_policy.as_str().to_owned()),
            load_balancer_class: wanted
                .load_balancer_class
                .clone()
                .filter(|_| wanted.type_ == ServiceType::LoadBalancer),
            ip_family_policy: wanted.ip_family_policy.map(|policy| policy.as_str().to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The Service that gives the pods their names. It lists pods that are not ready too: their names must not come and go.
pub(super) fn headless(server: &Server) -> Service {
    let port = |name: &str, port: u16| ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(port),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    let container_ports = container_ports(&server.spec.listeners);
    let ports = server.spec.listeners.iter().zip(container_ports).map(|(listener, at)| port(&listener.name, at));
    Service {
        metadata: metadata(server, names::headless_service(&server.name.name)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(selector(&server.name.name)),
            ports: Some(ports.chain([port(ADMIN_PORT_NAME, ADMIN_PORT)]).collect()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

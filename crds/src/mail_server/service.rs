//! The Service of a MailServer.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// The Service that clients and other mail servers reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// `ClusterIP`: inside the cluster only. `NodePort`: on each node. `LoadBalancer`: at an address of its own.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// `Local` keeps the client's address; `Cluster` hides it behind the node's. For NodePort and LoadBalancer.
    #[serde(default)]
    pub external_traffic_policy: ExternalTrafficPolicy,
    /// Annotations of the Service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::string_map")]
    pub annotations: BTreeMap<String, String>,
    /// The load balancer's class. Default: the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub load_balancer_class: Option<String>,
    /// IPv4, IPv6 or both. Default: the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// Node ports by listener name. Default: Kubernetes chooses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::port_map")]
    pub node_ports: BTreeMap<String, u16>,
}

/// The type of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Inside the cluster only.
    #[default]
    ClusterIP,
    /// On each node.
    NodePort,
    /// At an address of its own.
    LoadBalancer,
}

impl ServiceType {
    /// The type as Services spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// How traffic from outside is spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTrafficPolicy {
    /// To pods of the node that received it: the client's address is kept.
    #[default]
    Local,
    /// To any pod: the client's address is replaced by the node's.
    Cluster,
}

impl ExternalTrafficPolicy {
    /// The policy as Services spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "Local",
            Self::Cluster => "Cluster",
        }
    }
}

/// Which address families a Service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IpFamilyPolicy {
    /// One family.
    SingleStack,
    /// Both where the cluster has both.
    PreferDualStack,
    /// Both, or an error.
    RequireDualStack,
}

impl IpFamilyPolicy {
    /// The policy as Services spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SingleStack => "SingleStack",
            Self::PreferDualStack => "PreferDualStack",
            Self::RequireDualStack => "RequireDualStack",
        }
    }
}

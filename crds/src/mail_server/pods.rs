//! The pods of a MailServer: their image, what is added to them, and how they end.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, PodSecurityContext, SecurityContext, Toleration, TopologySpreadConstraint};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::references::Toggle;
use crate::schema;

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// At each start.
    Always,
    /// When the node does not hold it.
    IfNotPresent,
    /// Never: the node must hold it.
    Never,
}

impl ImagePullPolicy {
    /// The policy as pod specs spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// Settings of the pods beyond what the operator computes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels and annotations that are added to the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<PodTemplateMetadata>,
    /// Node labels that a node must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::string_map")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::embedded_list::<Toleration>")]
    pub tolerations: Vec<Toleration>,
    /// Nodes and pods that these pods prefer or avoid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::embedded::<Affinity>")]
    pub affinity: Option<Affinity>,
    /// How the pods spread over zones and nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::embedded_list::<TopologySpreadConstraint>")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// The PriorityClass of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// The RuntimeClass of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
    /// Overrides of the pods' security context; fields that are absent keep the operator's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::embedded::<PodSecurityContext>")]
    pub security_context: Option<PodSecurityContext>,
    /// Overrides of the server container's security context; fields that are absent keep the operator's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::embedded::<SecurityContext>")]
    pub container_security_context: Option<SecurityContext>,
}

/// Labels and annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PodTemplateMetadata {
    /// Labels; those that the operator selects by cannot be changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::string_map")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::string_map")]
    pub annotations: BTreeMap<String, String>,
}

/// How a pod ends. The pod's grace period is computed from both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Shutdown {
    /// How long the pod keeps accepting after it was told to end, while the Service forgets it.
    #[serde(default = "default_pre_stop_delay")]
    pub pre_stop_delay: Duration,
    /// How long sessions in progress may take to end.
    #[serde(default = "default_drain_timeout")]
    pub drain_timeout: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { pre_stop_delay: default_pre_stop_delay(), drain_timeout: default_drain_timeout() }
    }
}

fn default_pre_stop_delay() -> Duration {
    std::time::Duration::from_secs(5).into()
}

fn default_drain_timeout() -> Duration {
    std::time::Duration::from_secs(60).into()
}

/// How many pods a voluntary disruption may take away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DisruptionBudget {
    /// `Enabled`: a PodDisruptionBudget is made. `Disabled`: none.
    #[serde(default = "Toggle::enabled")]
    pub mode: Toggle,
    /// The most pods that may be away at a time.
    #[serde(default = "default_max_unavailable")]
    #[schemars(range(min = 0, max = 64))]
    pub max_unavailable: i32,
}

impl Default for DisruptionBudget {
    fn default() -> Self {
        Self { mode: Toggle::Enabled, max_unavailable: default_max_unavailable() }
    }
}

fn default_max_unavailable() -> i32 {
    1
}

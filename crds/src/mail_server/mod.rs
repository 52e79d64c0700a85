//! `MailServer`: one data plane, that is pods, Services, storage, TLS and listeners.

mod listener;
mod outbound;
mod pods;
mod service;
mod storage;
mod tls;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::listener::{Listener, Protocol, ProxyProtocol, ProxyProtocolMode, default_listeners};
pub use self::outbound::{Outbound, OutboundFeature, SmartHost};
pub use self::pods::{DisruptionBudget, ImagePullPolicy, PodTemplate, PodTemplateMetadata, Shutdown};
pub use self::service::{ExternalTrafficPolicy, IpFamilyPolicy, Service, ServiceType};
pub use self::storage::{EmbeddedStorage, ObjectStore, PostgresStorage, Storage, StorageKind};
pub use self::tls::{
    AuthoritiesReference, CertManager, CertificateSource, IssuerKind, IssuerReference, SelfSigned, Tls, TlsVersion,
};
use crate::duration::Duration;
use crate::names::DomainName;
use crate::quantity::Quantity;
use crate::references::{AllowedNamespaces, Filters, LocalReference, Toggle};
use crate::rules;
use crate::schema;

/// One data plane: the pods that receive, store, serve and send mail, and how they are reached.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "paquebot.dev",
    version = "v1alpha1",
    kind = "MailServer",
    plural = "mailservers",
    shortname = "ms",
    category = "mail",
    namespaced,
    status = "MailServerStatus",
    derive = "PartialEq",
    doc = "One data plane: the pods that receive, store, serve and send mail, and how they are reached.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.addresses[0].value"),
    printcolumn(
        name = "SourceIP",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"SourceIPPreserved\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::REPLICAS_NEED_POSTGRES,
    validation = rules::NODE_PORTS_ARE_LISTENERS
)]
pub struct MailServerSpec {
    /// The server's name in greetings, EHLO, Received lines and the MX guidance, such as `mx1.example.net`.
    pub hostname: DomainName,
    /// The server's image. Default: the one that the operator was released with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// When the image is pulled. Default: Kubernetes' own rule for the image's tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets of this namespace with registry credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalReference>,
    /// CPU and memory of the server container. Default: the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::embedded::<ResourceRequirements>")]
    pub resources: Option<ResourceRequirements>,
    /// Labels, annotations, scheduling and security settings of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// How many pods serve. More than one needs `storage.postgres`.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 64))]
    pub replicas: i32,
    /// Where mail and the queue are kept. Default: embedded, 20Gi.
    #[serde(default)]
    pub storage: Storage,
    /// Where the server listens. Default: SMTP 25, submission 587, submissions 465, POP3 110, POP3S 995.
    #[serde(default = "default_listeners")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = rules::LISTENER_NAMES_DIFFER,
        validation = rules::LISTENER_PORTS_DIFFER
    )]
    pub listeners: Vec<Listener>,
    /// The Service that clients and other mail servers reach.
    #[serde(default)]
    pub service: Service,
    /// The certificate. Default: one that the operator signs itself.
    #[serde(default)]
    pub tls: Tls,
    /// How mail leaves for other servers.
    #[serde(default)]
    pub outbound: Outbound,
    /// What one client, session or message may use.
    #[serde(default)]
    pub limits: ServerLimits,
    /// Sieve scripts that run before and after those of every domain and mailbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<Filters>,
    /// Whose MailDomains and RelayPolicies may attach to this server.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,
    /// How DNS records are looked after, for the domains that do not say it themselves.
    #[serde(default)]
    pub dns: ServerDns,
    /// How a pod ends.
    #[serde(default)]
    pub shutdown: Shutdown,
    /// Switches for maintenance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<Operations>,
    /// How metrics are collected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Monitoring>,
    /// The NetworkPolicy of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicy>,
    /// How many pods a voluntary disruption may take away.
    #[serde(default)]
    pub disruption_budget: DisruptionBudget,
}

impl MailServerSpec {
    /// Whether the operator leaves the server's objects alone.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.operations.as_ref().is_some_and(|operations| operations.paused)
    }

    /// Whether no pod is to run, whatever `replicas` says.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.operations.as_ref().is_some_and(|operations| operations.stopped)
    }

    /// How many pods are to run.
    #[must_use]
    pub fn wanted_replicas(&self) -> i32 {
        if self.is_stopped() { 0 } else { self.replicas }
    }
}

fn default_replicas() -> i32 {
    1
}

/// What one client, session or message may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerLimits {
    /// The largest message that is accepted, in bytes.
    #[serde(default = "default_max_message_size")]
    pub max_message_size: Quantity,
    /// The most recipients of one message; RFC 5321 section 4.5.3.1.8 asks for at least 100.
    #[serde(default = "default_max_recipients")]
    #[schemars(range(min = 100, max = 100_000))]
    pub max_recipients: u32,
    /// The most connections at a time, over all listeners of a pod.
    #[serde(default = "default_connections")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: u32,
    /// The most connections at a time from one client address.
    #[serde(default = "default_per_client_connections")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_client_connections: u32,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_message_size: default_max_message_size(),
            max_recipients: default_max_recipients(),
            connections: default_connections(),
            per_client_connections: default_per_client_connections(),
        }
    }
}

fn default_max_message_size() -> Quantity {
    Quantity::from_bytes(50 << 20)
}

fn default_max_recipients() -> u32 {
    1000
}

fn default_connections() -> u32 {
    1000
}

/// Many clients may share one address behind a NAT or a node.
fn default_per_client_connections() -> u32 {
    100
}

/// How DNS records are looked after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerDns {
    /// `Report`: say which records are missing. `ExternalDNS`: also have external-dns write them. `Disabled`: do not look.
    #[serde(default)]
    pub mode: DnsMode,
    /// The resolvers to ask, as address or address:port. Default: the operator's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 2, max = 64)))]
    pub resolvers: Vec<String>,
    /// How often records that were found are looked up again.
    #[serde(default = "default_verify_interval")]
    pub verify_interval: Duration,
    /// Serve a domain only after a TXT record proves that its owner agrees, whatever the MailDomain says.
    #[serde(default)]
    pub require_ownership: bool,
}

impl Default for ServerDns {
    fn default() -> Self {
        Self {
            mode: DnsMode::default(),
            resolvers: Vec::new(),
            verify_interval: default_verify_interval(),
            require_ownership: false,
        }
    }
}

fn default_verify_interval() -> Duration {
    std::time::Duration::from_mins(15).into()
}

/// What is done about DNS records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DnsMode {
    /// Look, and say what is missing.
    #[default]
    Report,
    /// Also have external-dns write them.
    ExternalDNS,
    /// Do not look.
    Disabled,
}

/// Switches for maintenance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Operations {
    /// The operator leaves this server's objects alone: it writes nothing, and pods serve what was written last.
    #[serde(default)]
    pub paused: bool,
    /// No pod runs, whatever `replicas` says; the mail is kept, and mail for it waits at its senders.
    #[serde(default)]
    pub stopped: bool,
}

/// How metrics are collected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// A PodMonitor of the Prometheus operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_monitor: Option<PodMonitor>,
}

/// A PodMonitor of the Prometheus operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PodMonitor {
    /// `Enabled` or `Disabled`.
    pub mode: Toggle,
    /// Labels of the PodMonitor, which a Prometheus selects it by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::string_map")]
    pub labels: BTreeMap<String, String>,
}

/// The NetworkPolicy of the pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkPolicy {
    /// Whether the operator makes one.
    #[serde(default)]
    pub enabled: bool,
}

/// What is observed of a MailServer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MailServerStatus {
    /// What was observed, one entry for each aspect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Pods that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Pods that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// The label selector of the pods, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,
    /// Where the server is reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub addresses: Vec<ServerAddress>,
    /// The configuration that the pods serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<ConfigurationStatus>,
    /// The certificate that the pods serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateStatus>,
}

/// An address that the server is reached at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerAddress {
    /// `IPAddress` or `Hostname`.
    #[serde(rename = "type")]
    pub type_: AddressType,
    /// The address.
    #[schemars(length(max = 253))]
    pub value: String,
}

/// The type of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum AddressType {
    /// IPv4 or IPv6.
    IPAddress,
    /// A name that DNS knows.
    Hostname,
}

/// The configuration that the pods serve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationStatus {
    /// The revision that the operator wrote last.
    #[schemars(length(max = 128))]
    pub revision: String,
    /// Pods that reported this revision.
    pub replicas_programmed: i32,
}

/// The certificate that the pods serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// When it expires.
    #[schemars(schema_with = "schema::date_time")]
    pub not_after: Time,
    /// The names that it is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(max = 253)))]
    pub names: Vec<String>,
}

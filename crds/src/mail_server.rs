//! `MailServer`: one data plane, that is pods, Services, storage, TLS and listeners.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, PodSecurityContext, ResourceRequirements, SecurityContext, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::names::{CIDR_MESSAGE, Cidr, DomainName};
use crate::quantity::Quantity;
use crate::references::{AllowedNamespaces, LocalReference, SecretKeyReference, SmartHostTls, Toggle};
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
    validation = Rule::new(
        "!has(self.replicas) || self.replicas <= 1 || (has(self.storage) && has(self.storage.postgres))"
    )
    .message("more than one replica needs storage.postgres: an embedded store belongs to one pod")
    .field_path(".replicas"),
    validation = Rule::new(
        "!has(self.service) || !has(self.service.nodePorts) || \
         self.service.nodePorts.all(name, self.listeners.exists(listener, listener.name == name))"
    )
    .message("nodePorts must use the names of listeners")
    .field_path(".service.nodePorts")
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
        validation = Rule::new("self.all(one, self.exists_one(other, other.name == one.name))")
            .message("give each listener a name of its own"),
        validation = Rule::new("self.all(one, self.exists_one(other, other.port == one.port))")
            .message("give each listener a port of its own")
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

fn default_replicas() -> i32 {
    1
}

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

/// Where mail and the queue are kept: exactly one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.embedded) != has(self.postgres)")
    .message("give storage either embedded or postgres, not both"))]
pub struct Storage {
    /// On a volume of the pod's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedStorage>,
    /// In a PostgreSQL database, large messages in an object store; then pods hold no state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresStorage>,
}

impl Default for Storage {
    fn default() -> Self {
        Self { embedded: Some(EmbeddedStorage::default()), postgres: None }
    }
}

/// A [`Storage`] for code that matches on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageKind<'a> {
    /// A volume of the pod's own.
    Embedded(&'a EmbeddedStorage),
    /// A database.
    Postgres(&'a PostgresStorage),
}

impl Storage {
    /// The one storage that is given; `None` if it is not exactly one, which the API server refuses.
    #[must_use]
    pub fn kind(&self) -> Option<StorageKind<'_>> {
        match (&self.embedded, &self.postgres) {
            (Some(embedded), None) => Some(StorageKind::Embedded(embedded)),
            (None, Some(postgres)) => Some(StorageKind::Postgres(postgres)),
            _ => None,
        }
    }
}

/// A volume of the pod's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedStorage {
    /// The volume's size.
    #[serde(default = "default_volume_size")]
    pub size: Quantity,
    /// The volume's StorageClass. Default: the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

impl Default for EmbeddedStorage {
    fn default() -> Self {
        Self { size: default_volume_size(), storage_class_name: None }
    }
}

fn default_volume_size() -> Quantity {
    Quantity::from_bytes(20 << 30)
}

/// A PostgreSQL database and an object store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostgresStorage {
    /// The Secret's key that holds the connection URL.
    pub url_secret_ref: SecretKeyReference,
    /// Where large messages are kept. Default: in the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStore>,
}

/// An S3-compatible object store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStore {
    /// The store's URL. Default: the region's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub endpoint: Option<String>,
    /// The bucket's name.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// The bucket's region.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub region: Option<String>,
    /// What the objects' names begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub prefix: Option<String>,
    /// A Secret of this namespace with `accessKeyId` and `secretAccessKey`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
}

/// One port that the server listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// The listener's name, which is also the Service port's: lower case letters, digits and dashes.
    #[schemars(length(min = 1, max = 15))]
    #[x_kube(validation = Rule::new(
        "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$') && self.matches('[a-z]') && !self.contains('--')"
    )
    .message("write the listener's name with lower case letters, digits and single dashes between them, with at least \
              one letter"))]
    pub name: String,
    /// `SMTP`: from other servers, STARTTLS. `Submission`: from users, STARTTLS. `Submissions`: from users, TLS from the
    /// first byte. `POP3`: STLS. `POP3S`: TLS from the first byte.
    pub protocol: Protocol,
    /// The Service's port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Whether a load balancer says by the PROXY protocol who the client is.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
}

impl Listener {
    /// A listener without PROXY protocol.
    #[must_use]
    pub fn new(name: &str, protocol: Protocol, port: u16) -> Self {
        Self { name: name.to_owned(), protocol, port, proxy_protocol: ProxyProtocol::default() }
    }
}

/// The listeners of a server that names none: SMTP 25, submission 587, submissions 465, POP3 110, POP3S 995.
#[must_use]
pub fn default_listeners() -> Vec<Listener> {
    vec![
        Listener::new("smtp", Protocol::Smtp, 25),
        Listener::new("submission", Protocol::Submission, 587),
        Listener::new("submissions", Protocol::Submissions, 465),
        Listener::new("pop3", Protocol::Pop3, 110),
        Listener::new("pop3s", Protocol::Pop3s, 995),
    ]
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// SMTP from other servers, with STARTTLS.
    #[serde(rename = "SMTP")]
    Smtp,
    /// SMTP from users, with STARTTLS and AUTH (RFC 6409).
    Submission,
    /// SMTP from users over TLS from the first byte (RFC 8314).
    Submissions,
    /// POP3 with STLS.
    #[serde(rename = "POP3")]
    Pop3,
    /// POP3 over TLS from the first byte.
    #[serde(rename = "POP3S")]
    Pop3s,
}

/// What is said when everybody would be trusted to name the client's address.
const TRUSTED_CIDR_MESSAGE: &str =
    "trust only your load balancers: a network with the prefix /0 would let anybody claim any address";

/// The PROXY protocol of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.mode) || self.mode != 'Required' || (has(self.trustedCIDRs) && size(self.trustedCIDRs) > 0)"
)
.message("list in trustedCIDRs the load balancers that may send a PROXY header, or set mode to Disabled"))]
pub struct ProxyProtocol {
    /// `Disabled`: clients speak first-hand. `Required`: each connection begins with a PROXY header.
    #[serde(default)]
    pub mode: ProxyProtocolMode,
    /// The load balancers that may send a PROXY header; needed with `Required`.
    #[serde(default, rename = "trustedCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new("self.all(c, isCIDR(c))").message(CIDR_MESSAGE),
        validation = Rule::new("self.all(c, !isCIDR(c) || cidr(c).prefixLength() > 0)").message(TRUSTED_CIDR_MESSAGE)
    )]
    pub trusted_cidrs: Vec<Cidr>,
}

/// Whether connections begin with a PROXY header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProxyProtocolMode {
    /// No header.
    #[default]
    Disabled,
    /// A header, or the connection is closed.
    Required,
}

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

/// Where the certificate comes from: at most one source, and one that the operator signs itself where none is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.secretRef), has(self.certManager), has(self.selfSigned)].filter(given, given).size() <= 1"
)
.message("give tls one of secretRef, certManager and selfSigned, not several"))]
pub struct Tls {
    /// A Secret of this namespace of type `kubernetes.io/tls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
    /// A certificate that cert-manager issues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_manager: Option<CertManager>,
    /// A certificate that the operator signs itself; clients must be told to trust it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_signed: Option<SelfSigned>,
    /// The oldest TLS version that clients may use.
    #[serde(default)]
    pub min_version: TlsVersion,
}

/// A [`Tls`] source for code that matches on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateSource<'a> {
    /// A Secret that someone else fills.
    Secret(&'a LocalReference),
    /// cert-manager.
    CertManager(&'a CertManager),
    /// The operator itself.
    SelfSigned,
}

impl Tls {
    /// Where the certificate comes from; the first that is given, although the API server lets only one pass.
    #[must_use]
    pub fn source(&self) -> CertificateSource<'_> {
        match (&self.secret_ref, &self.cert_manager) {
            (Some(reference), _) => CertificateSource::Secret(reference),
            (None, Some(cert_manager)) => CertificateSource::CertManager(cert_manager),
            (None, None) => CertificateSource::SelfSigned,
        }
    }
}

/// A certificate that cert-manager issues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertManager {
    /// Who issues it.
    pub issuer_ref: IssuerReference,
}

/// A cert-manager issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IssuerReference {
    /// The issuer's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// `Issuer` or `ClusterIssuer`.
    #[serde(default)]
    pub kind: IssuerKind,
}

/// The kind of a cert-manager issuer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IssuerKind {
    /// Of this namespace.
    #[default]
    Issuer,
    /// Of the cluster.
    ClusterIssuer,
}

/// A certificate that the operator signs itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SelfSigned {}

/// A TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    #[serde(rename = "TLS12")]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "TLS13")]
    Tls13,
}

/// How mail leaves for other servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Outbound {
    /// A server that takes all outgoing mail, instead of the recipients' MX hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smart_host: Option<SmartHost>,
    /// The name in outgoing EHLO. Default: `hostname`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ehlo_name: Option<DomainName>,
    /// How long a message is tried before it is returned to its sender.
    #[serde(default = "default_max_age")]
    pub max_age: Duration,
    /// After how long the sender is told that a message is delayed.
    #[serde(default = "default_delay_warning")]
    pub delay_warning: Duration,
    /// Authentication of other servers by TLSA records (RFC 7672).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dane: Option<OutboundFeature>,
    /// Authentication of other servers by MTA-STS (RFC 8461).
    #[serde(rename = "mtaSTS", skip_serializing_if = "Option::is_none")]
    pub mta_sts: Option<OutboundFeature>,
    /// The addresses that outgoing connections come from. Default: the pod's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 2, max = 45)))]
    pub source_addresses: Vec<String>,
}

impl Default for Outbound {
    fn default() -> Self {
        Self {
            smart_host: None,
            ehlo_name: None,
            max_age: default_max_age(),
            delay_warning: default_delay_warning(),
            dane: None,
            mta_sts: None,
            source_addresses: Vec::new(),
        }
    }
}

/// RFC 5321 section 4.5.4.1 asks for at least four to five days.
fn default_max_age() -> Duration {
    std::time::Duration::from_hours(120).into()
}

fn default_delay_warning() -> Duration {
    std::time::Duration::from_hours(4).into()
}

/// A server that takes mail for us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SmartHost {
    /// Its name.
    pub host: DomainName,
    /// Its port.
    #[serde(default = "default_smart_host_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// How the connection is protected: `Required` (STARTTLS), `Implicit` (port 465) or `Opportunistic`.
    #[serde(default)]
    pub tls: SmartHostTls,
    /// A Secret of this namespace with `username` and `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
}

fn default_smart_host_port() -> u16 {
    587
}

/// A switch of outgoing mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutboundFeature {
    /// `Enabled` or `Disabled`.
    pub mode: Toggle,
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
}

impl Default for ServerDns {
    fn default() -> Self {
        Self { mode: DnsMode::default(), resolvers: Vec::new(), verify_interval: default_verify_interval() }
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

/// Switches for maintenance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Operations {
    /// The operator leaves this server's objects alone.
    #[serde(default)]
    pub paused: bool,
    /// No pod runs; the mail is kept.
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

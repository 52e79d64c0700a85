//! `RelayPolicy`: a relay allow-list.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{Cidr, DomainName, EmailAddress};
use crate::references::{LocalReference, ObjectReference, RateLimit, SmartHostTls};
use crate::rules;
use crate::schema;

/// A relay allow-list: which clients may send to other domains through a MailServer without logging in.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "paquebot.dev",
    version = "v1alpha1",
    kind = "RelayPolicy",
    plural = "relaypolicies",
    shortname = "rp",
    category = "mail",
    namespaced,
    status = "RelayPolicyStatus",
    derive = "PartialEq",
    doc = "A relay allow-list: which clients may send to other domains through a MailServer without logging in.",
    selectable = ".spec.serverRef.name",
    printcolumn(name = "Server", type_ = "string", json_path = ".spec.serverRef.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason")
)]
#[serde(rename_all = "camelCase")]
pub struct RelayPolicySpec {
    /// The MailServer that the clients may use. Default: the operator's default server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_ref: Option<ObjectReference>,
    /// Which clients are admitted; one matching entry is enough.
    #[schemars(length(min = 1, max = 64))]
    pub from: Vec<RelaySource>,
    /// Which envelope senders the clients may use. Without it this policy does not restrict them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub senders: Option<RelaySenders>,
    /// Which recipients the clients may write to. Default: any.
    #[serde(default)]
    pub recipients: RelayRecipients,
    /// How much the clients may send together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// A server that takes these clients' mail, instead of the recipients' MX hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
}

/// One way to be admitted: networks, or pods, or mailboxes, or certificates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::ONE_SOURCE)]
pub struct RelaySource {
    /// Clients with an address in one of these networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(
        validation = rules::ARE_NETWORKS,
        validation = rules::RELAY_IS_NOT_FOR_EVERYBODY
    )]
    pub cidrs: Vec<Cidr>,
    /// Pods with these labels, in this namespace or in those that `namespaceSelector` matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::embedded::<LabelSelector>")]
    pub pod_selector: Option<LabelSelector>,
    /// The namespaces of the pods. Default: this object's own, from which alone a policy outside the MailServer's namespace
    /// admits pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::embedded::<LabelSelector>")]
    pub namespace_selector: Option<LabelSelector>,
    /// Users who logged in with a mailbox of a domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mailboxes: Option<RelayMailboxes>,
    /// Clients with one of these certificates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub client_certificates: Vec<ClientCertificate>,
}

/// A [`RelaySource`] for code that matches on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RelaySourceKind<'a> {
    /// Networks.
    Cidrs(&'a [Cidr]),
    /// Pods by label; an absent selector of pods means every pod, of namespaces the policy's own.
    Pods {
        /// Labels of the pods.
        pods: Option<&'a LabelSelector>,
        /// Labels of their namespaces.
        namespaces: Option<&'a LabelSelector>,
    },
    /// Users who logged in.
    Mailboxes(&'a RelayMailboxes),
    /// Certificates.
    ClientCertificates(&'a [ClientCertificate]),
}

impl RelaySource {
    /// The one source that is given; `None` if it is not exactly one, which the API server refuses.
    #[must_use]
    pub fn kind(&self) -> Option<RelaySourceKind<'_>> {
        let pods =
            (self.pod_selector.is_some() || self.namespace_selector.is_some()).then_some(RelaySourceKind::Pods {
                pods: self.pod_selector.as_ref(),
                namespaces: self.namespace_selector.as_ref(),
            });
        let given = [
            (!self.cidrs.is_empty()).then_some(RelaySourceKind::Cidrs(&self.cidrs)),
            pods,
            self.mailboxes.as_ref().map(RelaySourceKind::Mailboxes),
            (!self.client_certificates.is_empty())
                .then_some(RelaySourceKind::ClientCertificates(&self.client_certificates)),
        ];
        let mut given = given.into_iter().flatten();
        let first = given.next();
        if given.next().is_some() { None } else { first }
    }
}

/// Users who logged in with a mailbox of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RelayMailboxes {
    /// The MailDomain.
    pub domain_ref: ObjectReference,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClientCertificate {
    /// A DNS name among the certificate's alternative names.
    #[serde(rename = "sanDNS")]
    pub san_dns: DomainName,
}

/// Which envelope senders may be used: an address that is listed, or any of a domain that is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::SOME_SENDER)]
pub struct RelaySenders {
    /// Domains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub domains: Vec<DomainName>,
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub addresses: Vec<EmailAddress>,
}

/// Which recipients may be written to: exactly one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::ONE_SET_OF_RECIPIENTS)]
pub struct RelayRecipients {
    /// Every recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub any: Option<AnyRecipient>,
    /// Recipients of these domains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub domains: Vec<DomainName>,
}

impl Default for RelayRecipients {
    fn default() -> Self {
        Self { any: Some(AnyRecipient {}), domains: Vec::new() }
    }
}

/// Every recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnyRecipient {}

/// A server that takes mail for us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upstream {
    /// Its name.
    pub smart_host: DomainName,
    /// Its port.
    #[serde(default = "default_upstream_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// How the connection is protected: `Required` (STARTTLS), `Implicit` (port 465) or `Opportunistic`.
    #[serde(default)]
    pub tls: SmartHostTls,
    /// A Secret of this namespace with `username` and `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
}

fn default_upstream_port() -> u16 {
    587
}

/// What is observed of a RelayPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RelayPolicyStatus {
    /// What was observed, one entry for each aspect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The networks that are admitted, those of selected pods included.
    #[serde(default, rename = "effectiveCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16384), inner(length(max = 43)))]
    pub effective_cidrs: Vec<String>,
    /// The networks that are not, and why.
    #[serde(default, rename = "rejectedCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub rejected_cidrs: Vec<RejectedCidr>,
}

/// A network that is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RejectedCidr {
    /// The network.
    #[schemars(length(max = 43))]
    pub cidr: String,
    /// Why, and what to do.
    #[schemars(length(max = 1024))]
    pub reason: String,
}

//! The certificate of a MailServer.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::references::LocalReference;
use crate::rules;

/// Where the certificate comes from: at most one source, and one that the operator signs itself where none is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::ONE_CERTIFICATE)]
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
    /// A Secret of this namespace with the certificates of authorities, in PEM. Clients of SMTP and submission are asked for
    /// a certificate then, and RelayPolicies may admit those that these authorities vouch for.
    #[serde(default, rename = "clientCASecretRef", skip_serializing_if = "Option::is_none")]
    pub client_ca_secret_ref: Option<AuthoritiesReference>,
}

/// Authorities in a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct AuthoritiesReference {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::OBJECT_NAME)]
    pub name: String,
    /// The key inside the Secret's data.
    #[serde(default = "default_authorities_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_authorities_key() -> String {
    "ca.crt".to_owned()
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct IssuerReference {
    /// The issuer's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::OBJECT_NAME)]
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

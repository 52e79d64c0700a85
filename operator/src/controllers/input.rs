//! Everything that the engine is told. Watches, workers and timers are the senders; the engine is the only reader.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paquebot_crds::{MailAlias, MailDomain, MailServer, Mailbox, RelayPolicy};

use super::calls::CallError;
use super::certificate::Judged;
use super::configz::Configz;
use super::credentials_worker::CredentialsRead;
use super::dns_worker::{Looked, LookedBack};
use super::endpoints_worker::{EndpointDone, Survey};
use super::engine::reclaim::Done;
use super::exposure_worker;
use super::filters_worker::FilterRead;
use super::secrets_worker::SecretRead;
use super::server_worker::{Failure, PassDone, Recovered};
use super::status::StatusWritten;
use crate::directory::{NamespacedName, ObjectKey};

/// One thing that has happened.
pub enum Input {
    /// A watch has reported everything that exists.
    Complete(&'static str),
    /// One of our five kinds was created or changed.
    Mail(MailObject),
    /// It is gone.
    MailDeleted(ObjectKey),
    /// One of our five kinds that cannot be understood.
    Undecodable(Undecodable),
    /// A namespace's labels.
    Namespace(String, BTreeMap<String, String>),
    /// A namespace is gone.
    NamespaceDeleted(String),
    /// Any pod.
    Pod(Box<Pod>),
    /// A pod is gone.
    PodDeleted(NamespacedName),
    /// A node.
    Node(Box<Node>),
    /// A node is gone.
    NodeDeleted(String),
    /// A range of Service addresses.
    ServiceRange(Box<ServiceCIDR>),
    /// It is gone.
    ServiceRangeDeleted(String),
    /// A StatefulSet of ours.
    StatefulSet(Box<StatefulSet>),
    /// A Service of ours.
    Service(Box<Service>),
    /// The metadata of another object of ours.
    Owned(&'static str, Box<ObjectMeta>),
    /// An object of ours is gone.
    OwnedDeleted(&'static str, NamespacedName),
    /// The metadata of any Secret.
    Secret(Box<ObjectMeta>),
    /// A Secret is gone.
    SecretDeleted(NamespacedName),
    /// The metadata of any ConfigMap.
    ConfigMap(Box<ObjectMeta>),
    /// A ConfigMap is gone.
    ConfigMapDeleted(NamespacedName),
    /// What lay in a server's directory before this process started.
    Recovered(NamespacedName, Result<Recovered, Failure>),
    /// A server's objects were written.
    PassDone(Box<PassDone>),
    /// The certificate of a paused server was looked at.
    CertificateSeen(NamespacedName, Result<Judged, Failure>),
    /// A pod answered, or did not.
    Configz(NamespacedName, NamespacedName, Result<Configz, String>),
    /// A mailbox's Secret was read.
    Credentials(CredentialsRead),
    /// The ConfigMap of a mailbox's filter was read.
    Filter(FilterRead),
    /// A Secret that a MailServer or RelayPolicy names was read.
    SecretRead(Box<SecretRead>),
    /// A step for an object whose mail goes with it was done.
    Reclaimed(ObjectKey, Done),
    /// A domain's records were looked at.
    Looked(Box<Looked>),
    /// How a server stands towards the world was looked at.
    Exposure(Box<exposure_worker::Looked>),
    /// Which `DNSEndpoint`s there are.
    Endpoints(Result<Survey, CallError>),
    /// A `DNSEndpoint` was written or deleted, or was not.
    Endpoint(EndpointDone),
    /// The names of a server's addresses were looked at.
    LookedBack(Box<LookedBack>),
    /// A status was written, or was not.
    Status(Box<StatusWritten>),
}

/// One of our five kinds, as the API server has it.
pub enum MailObject {
    /// A MailServer.
    MailServer(Box<MailServer>),
    /// A MailDomain.
    MailDomain(Box<MailDomain>),
    /// A Mailbox.
    Mailbox(Box<Mailbox>),
    /// A MailAlias.
    MailAlias(Box<MailAlias>),
    /// A RelayPolicy.
    RelayPolicy(Box<RelayPolicy>),
}

/// An object that cannot be understood, because somebody weakened the CustomResourceDefinition or it was written by
/// another release.
pub struct Undecodable {
    /// Which one.
    pub key: ObjectKey,
    /// `metadata.generation`.
    pub generation: i64,
    /// What is wrong.
    pub error: String,
}

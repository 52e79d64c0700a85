//! What the objects of a MailServer are called, their labels and their owner.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use paquebot_config::ShardName;
use paquebot_crds::mail_server::CertificateSource;
use paquebot_crds::{GROUP, Kind, VERSION};

use super::Server;

/// The annotation of pods that the operator changes after it has written a configuration, so that the kubelet refreshes
/// the volume at once. Never part of the pod template: changing that would restart the pods.
pub const REVISION_ANNOTATION: &str = "paquebot.dev/config-revision";
/// The annotation of the pod template that changes when the process must be started again to follow `server.json`.
pub const RESTART_ANNOTATION: &str = "paquebot.dev/restart-digest";
/// The container that serves mail.
pub const CONTAINER: &str = "server";
/// The port of health, metrics and `/configz`, in the pods only.
pub const ADMIN_PORT: u16 = 8080;
/// The name of that port.
pub const ADMIN_PORT_NAME: &str = "admin";

/// The headless Service that gives the pods their names.
#[must_use]
pub fn headless_service(server: &str) -> String {
    format!("{server}-pods")
}

/// The pods' account. Its name is never one that a namespace has anyway, such as `default`.
#[must_use]
pub fn service_account(server: &str) -> String {
    format!("{server}-server")
}

/// The ConfigMap with `index.json`, `server.json` and `relay.json`.
#[must_use]
pub fn config_map(server: &str) -> String {
    format!("{server}-config")
}

/// The Secret with `secrets.json`; there is none where there is nothing to say in it.
#[must_use]
pub fn secrets_secret(server: &str) -> String {
    format!("{server}-secrets")
}

/// The Secret with one shard of the directory; its one key is the shard's name.
#[must_use]
pub fn shard_secret(server: &str, shard: ShardName) -> String {
    format!("{server}-{shard}")
}

/// The Secret with the certificate: the one that the MailServer names, cert-manager's, or the operator's own.
#[must_use]
pub fn tls_secret(server: &Server) -> String {
    match server.spec.tls.source() {
        CertificateSource::Secret(reference) => reference.name.clone(),
        // Not the operator's own: each fills a Secret that belongs to it alone.
        CertificateSource::CertManager(_) => format!("{}-certificate", server.name.name),
        CertificateSource::SelfSigned => format!("{}-tls", server.name.name),
    }
}

/// The Secret with what the server keeps to itself: the token of its queue API, and the key of rewritten senders.
#[must_use]
pub fn keys_secret(server: &str) -> String {
    format!("{server}-keys")
}

/// Its key with the token of the queue API.
pub const QUEUE_TOKEN_KEY: &str = "token";
/// Its key with the key of rewritten senders (SRS).
pub const SRS_KEY: &str = "srs";

/// The labels of every object of a MailServer.
#[must_use]
pub fn labels(server: &str) -> BTreeMap<String, String> {
    let mut labels = selector(server);
    labels.insert("app.kubernetes.io/managed-by".to_owned(), "paquebot-operator".to_owned());
    labels.insert("app.kubernetes.io/part-of".to_owned(), "paquebot".to_owned());
    labels
}

/// The label of the Secrets that hold files of the configuration, and so what the operator reads again when it starts. The
/// server's keys and its certificate have none.
pub const FILE_LABEL: (&str, &str) = ("paquebot.dev/content", "configuration");

/// The annotation of the ConfigMap that says of which Secret and key the authorities of clients' certificates in
/// `server.json` are, as `NAME/KEY`: the operator takes them over when it starts, and never for another Secret's.
pub const AUTHORITIES_ANNOTATION: &str = "paquebot.dev/client-authorities-of";

/// The labels that select a MailServer's pods. They never change: a StatefulSet's selector cannot.
#[must_use]
pub fn selector(server: &str) -> BTreeMap<String, String> {
    let labels = [
        ("app.kubernetes.io/name", "paquebot-server"),
        ("app.kubernetes.io/instance", server),
        ("app.kubernetes.io/component", "server"),
    ];
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// The selector as the scale subresource wants it, `key=value,…`.
#[must_use]
pub fn selector_text(server: &str) -> String {
    selector(server).into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Name, namespace, labels and owner of an object of a MailServer.
#[must_use]
pub fn metadata(server: &Server, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(server.name.namespace.clone()),
        labels: Some(labels(&server.name.name)),
        owner_references: Some(vec![owner(server)]),
        ..ObjectMeta::default()
    }
}

/// The MailServer as the controlling owner, so that its objects go when it does. Volumes are claimed by the StatefulSet's
/// template and have no owner: the mail stays.
fn owner(server: &Server) -> OwnerReference {
    OwnerReference {
        api_version: format!("{GROUP}/{VERSION}"),
        kind: Kind::MailServer.as_str().to_owned(),
        name: server.name.name.clone(),
        uid: server.meta.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

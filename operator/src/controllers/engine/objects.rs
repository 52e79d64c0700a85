//! What the watches say about objects.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paquebot_crds::Kind;
use tokio::time::Instant;

use super::{Engine, Timer};
use crate::controllers::apply::{Target, version_token};
use crate::controllers::input::{MailObject, Undecodable};
use crate::controllers::remembered::Remembered;
use crate::controllers::status::Status;
use crate::controllers::watches::name_of;
use crate::directory::{self, ClusterRanges, NamespacedName, Object, ObjectKey};
use crate::render::names;

/// What is kept of an object's own copy of itself.
pub struct Live {
    /// `metadata.uid`.
    pub uid: String,
    /// The newest resourceVersion that is known, read as a number where it is one.
    pub version: String,
    /// The status that the API server has.
    pub status: Remembered,
}

/// The addresses of the cluster itself, by what they were learnt from.
#[derive(Default)]
pub struct Ranges {
    nodes: BTreeMap<String, (Vec<IpNet>, Vec<IpNet>)>,
    services: BTreeMap<String, Vec<IpNet>>,
}

impl Ranges {
    /// Kinds of which nothing was seen: a cluster has at least one of each, but the operator may not be allowed to look.
    fn unread(&self) -> Vec<&'static str> {
        let kinds = [("Node", self.nodes.is_empty()), ("ServiceCIDR", self.services.is_empty())];
        kinds.into_iter().filter(|(_, none)| *none).map(|(kind, _)| kind).collect()
    }

    fn all(&self) -> ClusterRanges {
        ClusterRanges {
            nodes: self.nodes.values().flat_map(|(nodes, _)| nodes.clone()).collect(),
            pods: self.nodes.values().flat_map(|(_, pods)| pods.clone()).collect(),
            services: self.services.values().flatten().copied().collect(),
            unread: self.unread(),
        }
    }
}

/// Whether one resourceVersion is older than another. They are numbers on every API server that keeps its state in
/// etcd; where they are not, nothing is older, and at worst a status is written twice.
#[must_use]
pub fn is_older(one: &str, other: &str) -> bool {
    matches!((one.parse::<u64>(), other.parse::<u64>()), (Ok(one), Ok(other)) if one < other)
}

/// The MailServer that an object of ours belongs to.
fn server_of(metadata: &ObjectMeta) -> Option<NamespacedName> {
    let labels = metadata.labels.as_ref()?;
    let instance = labels.get("app.kubernetes.io/instance")?;
    names::selector(instance)
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        .then(|| NamespacedName::new(metadata.namespace.as_deref().unwrap_or_default(), instance))
}

/// Takes an object apart: for the index, and its status.
fn open(object: MailObject) -> (Object, ObjectMeta, Option<Status>) {
    match object {
        MailObject::MailServer(mut object) => {
            let status = object.status.take().map(|status| Status::MailServer(Box::new(status)));
            let metadata = object.metadata.clone();
            ((*object).into(), metadata, status)
        }
        MailObject::MailDomain(mut object) => {
            let status = object.status.take().map(|status| Status::MailDomain(Box::new(status)));
            let metadata = object.metadata.clone();
            ((*object).into(), metadata, status)
        }
        MailObject::Mailbox(mut object) => {
            let status = object.status.take().map(|status| Status::Mailbox(Box::new(status)));
            let metadata = object.metadata.clone();
            ((*object).into(), metadata, status)
        }
        MailObject::MailAlias(mut object) => {
            let status = object.status.take().map(|status| Status::MailAlias(Box::new(status)));
            let metadata = object.metadata.clone();
            ((*object).into(), metadata, status)
        }
        MailObject::RelayPolicy(mut object) => {
            let status = object.status.take().map(|status| Status::RelayPolicy(Box::new(status)));
            let metadata = object.metadata.clone();
            ((*object).into(), metadata, status)
        }
    }
}

impl Engine {
    pub(super) fn mail_applied(&mut self, object: MailObject) {
        let (mut object, metadata, status) = open(object);
        self.note_reclaim(&mut object, &metadata);
        let key = object.key();
        let uid = metadata.uid.unwrap_or_default();
        let version = metadata.resource_version.unwrap_or_default();
        self.undecodable.remove(&key);
        match self.objects.get_mut(&key) {
            // Our own write is newer than what the watch says.
            Some(live) if live.uid.is_empty() => {
                // Until now it could not be understood.
                let status = Remembered::new(status.unwrap_or_else(|| Status::empty(key.kind)));
                *live = Live { uid, version, status };
                self.status_dirty.insert(key.clone());
            }
            Some(live) if live.uid == uid && is_older(&version, &live.version) => {}
            Some(live) if live.uid == uid => {
                let status = status.unwrap_or_else(|| Status::empty(key.kind));
                live.version = version;
                if live.status.status() != status {
                    live.status = Remembered::new(status);
                    self.status_dirty.insert(key.clone());
                }
            }
            before => {
                let recreated = before.is_some();
                let status = status.unwrap_or_else(|| Status::empty(key.kind));
                self.objects.insert(key.clone(), Live { uid, version, status: Remembered::new(status) });
                if recreated {
                    let changes = self.directory.delete(&key);
                    self.absorb(changes);
                    // What was found out about the one before says nothing of this one.
                    self.forget_observed(&key);
                }
            }
        }
        let is_new_server = key.kind == Kind::MailServer && self.directory.server(&key.name).is_none();
        let is_new_domain = key.kind == Kind::MailDomain && self.directory.domain(&key.name).is_none();
        let changes = self.directory.apply(object);
        self.absorb(changes);
        if is_new_domain && let Some(status) = self.objects.get(&key).map(|live| live.status.status()) {
            self.restore_proof(&key.name, &status);
        }
        if key.kind == Kind::MailServer {
            self.server_state(&key.name).deleting = metadata.deletion_timestamp.is_some();
            self.refresh_exposure(&key.name);
        }
        if is_new_server && self.is_synced() {
            self.recover(&key.name);
        }
    }

    pub(super) fn mail_deleted(&mut self, key: &ObjectKey) {
        self.objects.remove(key);
        self.status_refused.forget(key);
        self.undecodable.remove(key);
        self.status_dirty.remove(key);
        self.forget_reclaim(key);
        let changes = self.directory.delete(key);
        self.absorb(changes);
        if let Some(server) = self.homes.remove(key)
            && let Some(state) = self.servers.get_mut(&server)
        {
            state.forget(key);
        }
        self.forget_observed(key);
    }

    /// Forgets what was found out about an object beside what its spec says.
    fn forget_observed(&mut self, key: &ObjectKey) {
        self.forget_secrets_of(key);
        match key.kind {
            Kind::MailServer => {
                self.servers.remove(&key.name);
                self.forget_exposure(&key.name);
                self.forget_reverse(&key.name);
                self.erasures.remove(&key.name);
            }
            Kind::MailDomain => self.forget_dns(&key.name),
            Kind::Mailbox => {
                self.mailboxes.remove(&key.name);
                self.filters.remove(&key.name);
            }
            Kind::MailAlias | Kind::RelayPolicy => {}
        }
    }

    /// What was known of it before stays in force: nobody's mail stops because of a mistyped object.
    pub(super) fn mail_undecodable(&mut self, object: Undecodable) {
        tracing::warn!(object = %object.key, error = object.error, "an object cannot be understood");
        self.objects.entry(object.key.clone()).or_insert_with(|| Live {
            uid: String::new(),
            version: String::new(),
            status: Remembered::new(Status::empty(object.key.kind)),
        });
        self.status_dirty.insert(object.key.clone());
        self.undecodable.insert(object.key, (object.generation, object.error));
    }

    pub(super) fn pod_applied(&mut self, mut pod: Pod) {
        let name = name_of(&pod.metadata);
        let changes = self.directory.apply_pod(name.clone(), directory_pod(&pod));
        self.absorb(changes);
        let Some(server) = server_of(&pod.metadata) else { return };
        if let Some(spec) = &mut pod.spec {
            spec.containers.clear();
            spec.volumes = None;
        }
        self.pod_servers.insert(name.clone(), server.clone());
        let observed = self.observed.entry(server.clone()).or_default();
        observed.pods.entry(name.clone()).or_default().replace(pod);
        self.timers.set_by(Timer::Poll(server.clone(), name), Instant::now());
        self.server_observed(&server);
    }

    pub(super) fn pod_deleted(&mut self, name: &NamespacedName) {
        let changes = self.directory.delete_pod(name);
        self.absorb(changes);
        if let Some(server) = self.pod_servers.remove(name) {
            if let Some(observed) = self.observed.get_mut(&server) {
                observed.pods.remove(name);
            }
            self.server_observed(&server);
        }
    }

    pub(super) fn node_applied(&mut self, node: &Node) {
        let spec = node.spec.as_ref();
        let mut pods = spec.and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
        pods.extend(spec.and_then(|spec| spec.pod_cidr.clone()));
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let addresses = addresses.filter_map(|address| address.address.parse::<IpAddr>().ok());
        let nodes = addresses.chain(tunnels(node)).map(IpNet::from).collect();
        let name = node.metadata.name.clone().unwrap_or_default();
        self.ranges.nodes.insert(name, (nodes, networks(&pods)));
        self.ranges_changed();
    }

    pub(super) fn node_deleted(&mut self, name: &str) {
        self.ranges.nodes.remove(name);
        self.ranges_changed();
    }

    pub(super) fn service_range_applied(&mut self, range: &ServiceCIDR) {
        let cidrs = range.spec.as_ref().and_then(|spec| spec.cidrs.clone()).unwrap_or_default();
        self.ranges.services.insert(range.metadata.name.clone().unwrap_or_default(), networks(&cidrs));
        self.ranges_changed();
    }

    pub(super) fn service_range_deleted(&mut self, name: &str) {
        self.ranges.services.remove(name);
        self.ranges_changed();
    }

    pub(super) fn ranges_changed(&mut self) {
        let ranges = self.ranges.all();
        if *self.directory.cluster_ranges() == ranges {
            return;
        }
        let changes = self.directory.set_cluster_ranges(ranges);
        self.absorb(changes);
        self.refresh_exposures();
    }

    pub(super) fn stateful_set_applied(&mut self, set: StatefulSet) {
        self.owned_applied("StatefulSet", &set.metadata);
        if let Some(server) = server_of(&set.metadata) {
            self.observed.entry(server.clone()).or_default().set = Some(set);
            self.server_observed(&server);
        }
    }

    pub(super) fn service_applied(&mut self, service: Service) {
        self.owned_applied("Service", &service.metadata);
        // The headless Service has the server's name with an ending.
        if let Some(server) = server_of(&service.metadata)
            && service.metadata.name.as_deref() == Some(&server.name)
        {
            self.observed.entry(server.clone()).or_default().service = Some(service);
            self.refresh_exposure(&server);
            self.server_observed(&server);
            self.refresh_domains_of(&server);
            self.refresh_reverse(&server);
        }
    }

    pub(super) fn owned_applied(&mut self, kind: &str, metadata: &ObjectMeta) {
        if let Some(server) = server_of(metadata) {
            let target = Target { kind: kind.to_owned(), name: name_of(metadata) };
            self.version_seen(&server, target, version_token(metadata));
        }
    }

    pub(super) fn owned_deleted(&mut self, kind: &str, name: &NamespacedName) {
        let target = Target { kind: kind.to_owned(), name: name.clone() };
        let owners: Vec<NamespacedName> = self
            .servers
            .iter()
            .filter(|(server, state)| server.namespace == name.namespace && state.owns(&target))
            .map(|(server, _)| server.clone())
            .collect();
        for server in owners {
            if let Some(observed) = self.observed.get_mut(&server) {
                match kind {
                    "StatefulSet" => observed.set = None,
                    "Service" if server.name == name.name => observed.service = None,
                    _ => {}
                }
            }
            self.version_seen(&server, target.clone(), String::new());
            self.server_observed(&server);
        }
    }

    pub(super) fn secret_applied(&mut self, metadata: &ObjectMeta) {
        let name = name_of(metadata);
        let version = metadata.resource_version.clone().unwrap_or_default();
        self.owned_applied("Secret", metadata);
        if self.secret_versions.insert(name.clone(), version.clone()).as_ref() != Some(&version) {
            self.secret_changed(&name, false);
        }
    }

    pub(super) fn secret_deleted(&mut self, name: &NamespacedName) {
        self.secret_versions.remove(name);
        self.owned_deleted("Secret", name);
        self.secret_changed(name, true);
    }

    fn secret_changed(&mut self, name: &NamespacedName, gone: bool) {
        let mailboxes: Vec<NamespacedName> = self.directory.mailboxes_of_secret(name).cloned().collect();
        for mailbox in mailboxes {
            if gone && let Some(state) = self.mailboxes.get_mut(&mailbox) {
                state.forget();
            }
            self.check_credentials(&mailbox);
        }
        self.named_secret_changed(name, gone);
        let served: Vec<NamespacedName> = self
            .directory
            .servers()
            .filter(|server| server.namespace == name.namespace)
            .filter(|server| self.directory.server(server).is_some_and(|entry| names::tls_secret(entry) == name.name))
            .cloned()
            .collect();
        let now = Instant::now();
        for server in served {
            self.server_state(&server).touch(now);
        }
    }
}

/// The addresses by which a node reaches pods of other nodes, as the common network plugins note them on it.
fn tunnels(node: &Node) -> Vec<IpAddr> {
    const PLUGINS: [&str; 3] = ["projectcalico.org/", "network.cilium.io/", "flannel.alpha.coreos.com/"];
    let annotations = node.metadata.annotations.iter().flatten();
    let theirs = annotations.filter(|(key, _)| PLUGINS.iter().any(|plugin| key.starts_with(plugin)));
    let address = |text: &String| text.split('/').next().and_then(|address| address.parse().ok());
    theirs.filter_map(|(_, value)| address(value)).collect()
}

fn networks(texts: &[String]) -> Vec<IpNet> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn directory_pod(pod: &Pod) -> directory::Pod {
    let status = pod.status.as_ref();
    let addresses = status.iter().flat_map(|status| status.pod_ips.iter().flatten());
    directory::Pod {
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        addresses: addresses.filter_map(|address| address.ip.parse().ok()).collect(),
        running: !matches!(status.and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed")),
        host_network: pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or_default(),
    }
}

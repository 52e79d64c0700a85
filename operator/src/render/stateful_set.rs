//! The pods of a server, under Pod Security `restricted`.

use std::collections::BTreeMap;

use k8s_openapi::DeepMerge;
use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapProjection, Container, ContainerPort, HTTPGetAction, KeyToPath, LocalObjectReference,
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecretProjection, SecurityContext,
    TopologySpreadConstraint, Volume, VolumeMount, VolumeProjection, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use paquebot_config::ShardName;
use paquebot_config::bundle::{INDEX_FILE, RELAY_FILE, SECRETS_FILE, SERVER_FILE, digest};
use paquebot_crds::mail_server::{EmbeddedStorage, Listener, PodTemplate, ProxyProtocolMode, StorageKind};

use super::Server;
use super::names::{self, ADMIN_PORT, ADMIN_PORT_NAME, CONTAINER, RESTART_ANNOTATION, labels, metadata, selector};
use super::ports::container_ports;
use super::workload::Defaults;

/// Where the contract's files and the certificate are mounted.
const CONFIG_DIR: &str = "/etc/paquebot";
/// Where mail and the queue are kept.
const DATA_DIR: &str = "/var/lib/paquebot";
/// The claim of the pods' own volumes.
pub(super) const DATA_VOLUME: &str = "data";
/// The user and group of the image.
const USER: i64 = 65532;
/// Seconds beyond the delay and the drain that a pod may take to commit and leave.
const EXIT_MARGIN: u64 = 10;

pub(super) fn render(server: &Server, defaults: &Defaults) -> StatefulSet {
    let name = &server.name.name;
    StatefulSet {
        metadata: metadata(server, name.clone()),
        spec: Some(StatefulSetSpec {
            replicas: Some(server.spec.wanted_replicas()),
            service_name: Some(names::headless_service(name)),
            selector: LabelSelector { match_labels: Some(selector(name)), ..LabelSelector::default() },
            template: pod_template(server, defaults),
            // A pod that never became ready must not keep its successor from being tried.
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateStatefulSetStrategy {
                    partition: Some(0),
                    ..RollingUpdateStatefulSetStrategy::default()
                }),
            }),
            volume_claim_templates: Some(vec![volume_claim(server)]),
            // The mail outlives the server and its pods.
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Retain".to_owned()),
                when_scaled: Some("Retain".to_owned()),
            }),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

fn pod_template(server: &Server, defaults: &Defaults) -> PodTemplateSpec {
    let given = server.spec.pod_template.clone().unwrap_or_default();
    let extra = given.metadata.clone().unwrap_or_default();
    // Ours come last: what the operator selects by cannot be changed.
    let pod_labels = extra.labels.into_iter().chain(labels(&server.name.name)).collect();
    let annotations: BTreeMap<String, String> =
        extra.annotations.into_iter().chain([(RESTART_ANNOTATION.to_owned(), restart_digest(server))]).collect();
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(pod_spec(server, given, defaults)),
    }
}

/// Changes when and only when the process must be started again: it opens its ports once.
fn restart_digest(server: &Server) -> String {
    let ports = container_ports(&server.spec.listeners);
    let proxies = |listener: &Listener| match listener.proxy_protocol.mode {
        ProxyProtocolMode::Disabled => String::new(),
        ProxyProtocolMode::Required => format!(" {:?}", listener.proxy_protocol.trusted_cidrs),
    };
    let lines = server.spec.listeners.iter().zip(ports);
    let text: String = lines
        .map(|(listener, port)| format!("{} {:?} {port}{}\n", listener.name, listener.protocol, proxies(listener)))
        .collect();
    digest(text.as_bytes()).chars().take(16).collect()
}

fn pod_spec(server: &Server, given: PodTemplate, defaults: &Defaults) -> PodSpec {
    let spec = &server.spec;
    let mut security_context = pod_security_context();
    security_context.merge_from(given.security_context.clone().unwrap_or_default());
    let shutdown = &spec.shutdown;
    let grace = shutdown.pre_stop_delay.whole_seconds() + shutdown.drain_timeout.whole_seconds() + EXIT_MARGIN;
    let secrets = spec.image_pull_secrets.iter().map(|secret| LocalObjectReference { name: secret.name.clone() });
    PodSpec {
        service_account_name: Some(names::service_account(&server.name.name)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(i64::try_from(grace).unwrap_or(i64::MAX)),
        security_context: Some(security_context),
        image_pull_secrets: Some(secrets.collect::<Vec<_>>()).filter(|secrets| !secrets.is_empty()),
        containers: vec![container(server, &given, defaults)],
        volumes: Some(vec![config_volume(server)]),
        node_selector: Some(given.node_selector).filter(|labels| !labels.is_empty()),
        tolerations: Some(given.tolerations).filter(|list| !list.is_empty()),
        affinity: given.affinity,
        topology_spread_constraints: Some(spread(server, given.topology_spread_constraints)),
        priority_class_name: given.priority_class_name,
        runtime_class_name: given.runtime_class_name,
        ..PodSpec::default()
    }
}

/// Pods of one server on different nodes, and in different zones, where that can be had.
fn spread(server: &Server, given: Vec<TopologySpreadConstraint>) -> Vec<TopologySpreadConstraint> {
    if !given.is_empty() {
        return given;
    }
    let over = |topology: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: topology.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(selector(&server.name.name)),
            ..LabelSelector::default()
        }),
        ..TopologySpreadConstraint::default()
    };
    vec![over("kubernetes.io/hostname"), over("topology.kubernetes.io/zone")]
}

fn container(server: &Server, given: &PodTemplate, defaults: &Defaults) -> Container {
    let spec = &server.spec;
    let mut security_context = container_security_context();
    security_context.merge_from(given.container_security_context.clone().unwrap_or_default());
    let port = |name: &str, port: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let listeners = spec.listeners.iter().zip(container_ports(&spec.listeners));
    let mount = |name: &str, path: &str, read_only: Option<bool>| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only,
        ..VolumeMount::default()
    };
    Container {
        name: CONTAINER.to_owned(),
        image: Some(spec.image.clone().unwrap_or_else(|| defaults.image.clone())),
        image_pull_policy: spec.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        args: Some(vec![
            "serve".to_owned(),
            format!("--config-dir={CONFIG_DIR}"),
            format!("--data-dir={DATA_DIR}"),
            format!("--admin-port={ADMIN_PORT}"),
        ]),
        ports: Some(
            listeners
                .map(|(listener, at)| port(&listener.name, at))
                .chain([port(ADMIN_PORT_NAME, ADMIN_PORT)])
                .collect(),
        ),
        resources: Some(spec.resources.clone().unwrap_or_else(default_resources)),
        security_context: Some(security_context),
        volume_mounts: Some(vec![mount("config", CONFIG_DIR, Some(true)), mount(DATA_VOLUME, DATA_DIR, None)]),
        // Five minutes: the database may have to be recovered, or the volume checked.
        startup_probe: Some(probe("/healthz", 1, 300)),
        liveness_probe: Some(probe("/healthz", 10, 6)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        ..Container::default()
    }
}

/// Enough for a small server; a limit of memory is the administrator's choice.
fn default_resources() -> ResourceRequirements {
    let requests = [("cpu", "50m"), ("memory", "64Mi")];
    ResourceRequirements {
        requests: Some(requests.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).into()),
        ..ResourceRequirements::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(ADMIN_PORT_NAME.to_owned()),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}

fn pod_security_context() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // Walking over all mail at each start would take long.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
        ..PodSecurityContext::default()
    }
}

fn container_security_context() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
        ..SecurityContext::default()
    }
}

/// One volume for all files, so that the kubelet swaps them together.
fn config_volume(server: &Server) -> Volume {
    let name = &server.name.name;
    let config_map = VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: names::config_map(name),
            items: Some([INDEX_FILE, SERVER_FILE, RELAY_FILE].map(|file| item(file, file)).into()),
            ..ConfigMapProjection::default()
        }),
        ..VolumeProjection::default()
    };
    let secrets = secret(names::secrets_secret(name), vec![item(SECRETS_FILE, SECRETS_FILE)], true);
    let shards = ShardName::all().map(|shard| {
        let file = shard.to_string();
        secret(names::shard_secret(name, shard), vec![item(&file, &file)], true)
    });
    // Without a certificate the pod starts, and says what it lacks, instead of waiting for a volume.
    let certificate = ["tls.crt", "tls.key"].map(|file| item(file, &format!("tls/{file}")));
    let tls = secret(names::tls_secret(server), certificate.into(), true);
    let keys = [names::QUEUE_TOKEN_KEY, names::SRS_KEY].map(|key| item(key, &format!("admin/{key}")));
    let keys = secret(names::keys_secret(name), keys.into(), true);
    Volume {
        name: "config".to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o440),
            sources: Some([config_map, secrets].into_iter().chain(shards).chain([tls, keys]).collect()),
        }),
        ..Volume::default()
    }
}

fn secret(name: String, items: Vec<KeyToPath>, optional: bool) -> VolumeProjection {
    VolumeProjection {
        secret: Some(SecretProjection { name, items: Some(items), optional: optional.then_some(true) }),
        ..VolumeProjection::default()
    }
}

fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath { key: key.to_owned(), path: path.to_owned(), mode: None }
}

/// What the server keeps mail on; a database takes its place in another release.
pub(super) fn embedded_storage(server: &Server) -> EmbeddedStorage {
    match server.spec.storage.kind() {
        Some(StorageKind::Embedded(embedded)) => embedded.clone(),
        _ => EmbeddedStorage::default(),
    }
}

fn volume_claim(server: &Server) -> PersistentVolumeClaim {
    let storage = embedded_storage(server);
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(DATA_VOLUME.to_owned()),
            labels: Some(selector(&server.name.name)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: storage.storage_class_name,
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), (&storage.size).into())].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

//! What a MailServer's StatefulSet, pods and Service say, as conditions and addresses. Pure.

use std::net::IpAddr;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use paquebot_crds::MailServerSpec;
use paquebot_crds::conditions::{ConditionType, ConditionUpdate, Reason};
use paquebot_crds::mail_server::{AddressType, ServerAddress};

use crate::dns::wanted::ServerAddresses;

/// Whether a pod serves: its Ready condition.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    pod_condition(pod, "Ready").is_some_and(|(status, _)| status == "True")
}

fn pod_condition<'a>(pod: &'a Pod, kind: &str) -> Option<(&'a str, &'a str)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((found.status.as_str(), found.message.as_deref().unwrap_or_default()))
}

/// `Available` and `Progressing`, copied from the pods.
#[must_use]
pub fn conditions(spec: &MailServerSpec, set: Option<&StatefulSet>, pods: &[&Pod]) -> [ConditionUpdate; 2] {
    let wanted = spec.wanted_replicas();
    let status = set.and_then(|set| set.status.as_ref());
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    let ready = i32::try_from(ready).unwrap_or(i32::MAX);
    if wanted == 0 {
        return stopped(spec, pods);
    }
    let (reason, trouble) = trouble(pods);
    let available = if ready > 0 {
        let message = format!("{ready} of {wanted} pods are ready.");
        ConditionUpdate::yes(ConditionType::Available, Reason::PodsReady, message)
    } else {
        ConditionUpdate::no(ConditionType::Available, reason, format!("0 of {wanted} pods are ready. {trouble}"))
    };
    let current = status.is_some_and(|status| {
        status.observed_generation == set.and_then(|set| set.metadata.generation)
            && status.update_revision == status.current_revision.clone().or_else(|| status.update_revision.clone())
    });
    let progressing = if ready < wanted {
        ConditionUpdate::yes(ConditionType::Progressing, reason, trouble)
    } else if current {
        ConditionUpdate::no(ConditionType::Progressing, Reason::Complete, "All pods are as wanted.")
    } else {
        ConditionUpdate::yes(ConditionType::Progressing, Reason::RollingOut, "Pods are being replaced.")
    };
    [available, progressing]
}

/// Of a server that is to have no pods.
fn stopped(spec: &MailServerSpec, pods: &[&Pod]) -> [ConditionUpdate; 2] {
    let cure = if spec.is_stopped() {
        "spec.operations.stopped is true; remove it to start the server"
    } else {
        "spec.replicas is 0; set it to 1 to start the server"
    };
    let message = format!(
        "The server is stopped: {cure}. Its mail is kept, and what is sent to it meanwhile waits at its senders."
    );
    let progressing = match pods.len() {
        0 => ConditionUpdate::no(ConditionType::Progressing, Reason::Complete, "No pod is left, as wanted."),
        left => {
            let message = format!("{left} pods have yet to end.");
            ConditionUpdate::yes(ConditionType::Progressing, Reason::RollingOut, message)
        }
    };
    [ConditionUpdate::no(ConditionType::Available, Reason::Stopped, message), progressing]
}

/// Why pods are not ready: the first that says something special.
fn trouble(pods: &[&Pod]) -> (Reason, String) {
    let waiting: Vec<&&Pod> = pods.iter().filter(|pod| !is_ready(pod)).collect();
    for pod in &waiting {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        if let Some(message) = image_trouble(pod) {
            return (Reason::ImagePullFailed, format!("Pod {name}: {message}"));
        }
        if let Some(("False", message)) = pod_condition(pod, "PodScheduled") {
            let lower = message.to_ascii_lowercase();
            if lower.contains("volume") || lower.contains("persistentvolumeclaim") {
                return (Reason::VolumePending, format!("Pod {name} waits for its volume: {message}"));
            }
            return (Reason::PodsNotReady, format!("Pod {name} cannot be scheduled: {message}"));
        }
    }
    match waiting.first() {
        Some(pod) => {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let detail = container_trouble(pod)
                .or_else(|| pod_condition(pod, "Ready").map(|(_, message)| message.to_owned()))
                .filter(|detail| !detail.is_empty())
                .unwrap_or_else(|| "it is starting".to_owned());
            (Reason::PodsNotReady, format!("Pod {name} is not ready: {detail}"))
        }
        None => (Reason::PodsNotReady, "No pod exists yet.".to_owned()),
    }
}

fn waiting_containers(pod: &Pod) -> impl Iterator<Item = (&str, &str)> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.filter_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        Some((waiting.reason.as_deref().unwrap_or_default(), waiting.message.as_deref().unwrap_or_default()))
    })
}

fn image_trouble(pod: &Pod) -> Option<String> {
    const REASONS: [&str; 5] =
        ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"];
    waiting_containers(pod)
        .find(|(reason, _)| REASONS.contains(reason))
        .map(|(reason, message)| format!("{reason}: {message}"))
}

fn container_trouble(pod: &Pod) -> Option<String> {
    waiting_containers(pod).next().map(|(reason, message)| format!("{reason} {message}").trim().to_owned())
}

/// Where a Service is reached, for `status.addresses`.
#[must_use]
pub fn addresses(service: Option<&Service>) -> Vec<ServerAddress> {
    let Some(service) = service else { return Vec::new() };
    let ip = |value: &str| ServerAddress { type_: AddressType::IPAddress, value: value.to_owned() };
    if service_type(service) == "LoadBalancer" {
        let ingress =
            service.status.iter().filter_map(|status| status.load_balancer.as_ref()?.ingress.as_ref()).flatten();
        return ingress
            .filter_map(|point| match (&point.ip, &point.hostname) {
                (Some(address), _) => Some(ip(address)),
                (None, Some(name)) => Some(ServerAddress { type_: AddressType::Hostname, value: name.clone() }),
                (None, None) => None,
            })
            .take(16)
            .collect();
    }
    let spec = service.spec.as_ref();
    let cluster = spec.and_then(|spec| spec.cluster_ips.clone()).unwrap_or_default();
    cluster.iter().filter(|address| address.parse::<IpAddr>().is_ok()).map(|address| ip(address)).take(16).collect()
}

fn service_type(service: &Service) -> &str {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()).unwrap_or("ClusterIP")
}

/// The same for DNS: only a load balancer's addresses are known to hold outside the cluster.
#[must_use]
pub fn dns_addresses(service: Option<&Service>) -> ServerAddresses {
    let list: Vec<IpAddr> = addresses(service)
        .iter()
        .filter(|address| address.type_ == AddressType::IPAddress)
        .filter_map(|address| address.value.parse().ok())
        .collect();
    match service {
        Some(_) if list.is_empty() => ServerAddresses::Unknown,
        Some(service) if service_type(service) == "LoadBalancer" => ServerAddresses::Public(list),
        Some(_) => ServerAddresses::Inside(list),
        None => ServerAddresses::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use paquebot_crds::conditions::ConditionStatus;
    use serde_json::json;

    use super::*;

    fn pod(status: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "default-0"}, "status": status})).unwrap()
    }

    fn ready() -> Pod {
        pod(&json!({"conditions": [{"type": "Ready", "status": "True"}]}))
    }

    fn stateful_set(updated: &str) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"generation": 2},
            "spec": {"serviceName": "x", "selector": {}, "template": {}},
            "status": {"replicas": 1, "observedGeneration": 2, "currentRevision": "a", "updateRevision": updated}
        }))
        .unwrap()
    }

    fn spec(more: serde_json::Value) -> MailServerSpec {
        let mut spec = json!({"hostname": "mx.example.net"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn pods_trouble_is_copied_with_its_reason() {
        for (status, reason, text) in [
            (json!({}), Reason::PodsNotReady, "starting"),
            (
                json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: pod has unbound immediate PersistentVolumeClaims"}]}),
                Reason::VolumePending,
                "unbound",
            ),
            (
                json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "Insufficient cpu"}]}),
                Reason::PodsNotReady,
                "Insufficient cpu",
            ),
            (
                json!({"containerStatuses": [{"name": "server", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}),
                Reason::ImagePullFailed,
                "no such image",
            ),
            (
                json!({"containerStatuses": [{"name": "server", "image": "x", "imageID": "", "ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}}]}),
                Reason::PodsNotReady,
                "CrashLoopBackOff",
            ),
        ] {
            let pod = pod(&status);
            for condition in conditions(&spec(json!({})), Some(&stateful_set("a")), &[&pod]) {
                assert_eq!(condition.reason, reason, "{status}");
                assert!(condition.message.contains(text), "{}", condition.message);
            }
        }
    }

    #[test]
    fn ready_pods_are_available_and_complete_or_rolling() {
        let pod = ready();
        let [available, progressing] = conditions(&spec(json!({})), Some(&stateful_set("a")), &[&pod]);
        assert_eq!((available.status, available.reason), (ConditionStatus::True, Reason::PodsReady));
        assert_eq!((progressing.status, progressing.reason), (ConditionStatus::False, Reason::Complete));
        let [available, progressing] = conditions(&spec(json!({})), Some(&stateful_set("b")), &[&pod]);
        assert_eq!((available.status, available.reason), (ConditionStatus::True, Reason::PodsReady));
        assert_eq!((progressing.status, progressing.reason), (ConditionStatus::True, Reason::RollingOut));
    }

    #[test]
    fn a_server_without_pods_says_who_wanted_it_so() {
        for (more, words) in [
            (json!({"replicas": 0}), "spec.replicas is 0"),
            (json!({"operations": {"stopped": true}}), "spec.operations.stopped"),
            (json!({"replicas": 0, "operations": {"stopped": true}}), "spec.operations.stopped"),
        ] {
            let [available, progressing] = conditions(&spec(more), None, &[]);
            assert_eq!((available.status, available.reason), (ConditionStatus::False, Reason::Stopped));
            assert!(available.message.contains(words), "{}", available.message);
            assert_eq!(progressing.reason, Reason::Complete);
        }
        let pod = ready();
        let [_, progressing] = conditions(&spec(json!({"operations": {"stopped": true}})), None, &[&pod]);
        assert_eq!((progressing.status, progressing.reason), (ConditionStatus::True, Reason::RollingOut));
    }

    #[test]
    fn addresses_come_from_where_clients_connect() {
        let service = |value| serde_json::from_value::<Service>(value).unwrap();
        let inside = service(json!({"spec": {"type": "ClusterIP", "clusterIPs": ["198.19.0.7"]}}));
        assert_eq!(dns_addresses(Some(&inside)), ServerAddresses::Inside(vec!["198.19.0.7".parse().unwrap()]));
        let waiting = service(json!({"spec": {"type": "LoadBalancer", "clusterIPs": ["198.19.0.7"]}}));
        assert_eq!((addresses(Some(&waiting)), dns_addresses(Some(&waiting))), (vec![], ServerAddresses::Unknown));
        let balanced = service(json!({
            "spec": {"type": "LoadBalancer", "clusterIPs": ["198.19.0.7"]},
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}, {"hostname": "lb.cloud.net"}]}}
        }));
        assert_eq!(addresses(Some(&balanced)).len(), 2);
        assert_eq!(dns_addresses(Some(&balanced)), ServerAddresses::Public(vec!["203.0.113.9".parse().unwrap()]));
        assert_eq!(dns_addresses(None), ServerAddresses::Unknown);
    }
}

//! What is written for a small and for a full MailServer, and what does and does not restart its pods.

use std::collections::BTreeMap;

use paquebot_config::{Configuration as Contract, Protocol};
use paquebot_crds::{MailServer, Mailbox};
use serde::Serialize;
use serde_json::{Value, json};

use super::*;
use crate::directory::{Directory, NamespacedName, Options};

fn directory(spec: Value) -> Directory {
    let server: MailServer = serde_json::from_value(json!({
        "apiVersion": "paquebot.dev/v1alpha1", "kind": "MailServer",
        "metadata": {"name": "default", "namespace": "mail", "uid": "5f0d", "generation": 3},
        "spec": spec,
    }))
    .unwrap();
    let mut directory = Directory::new(Options { default_server: Some(name()), ..Options::default() });
    directory.apply(server);
    let domain: paquebot_crds::MailDomain = serde_json::from_value(json!({
        "apiVersion": "paquebot.dev/v1alpha1", "kind": "MailDomain",
        "metadata": {"name": "d", "namespace": "mail"}, "spec": {"domain": "server1.com"},
    }))
    .unwrap();
    directory.apply(domain);
    directory.apply(mailbox("anna"));
    directory
}

fn mailbox(local_part: &str) -> Mailbox {
    serde_json::from_value(json!({
        "apiVersion": "paquebot.dev/v1alpha1", "kind": "Mailbox",
        "metadata": {"name": local_part, "namespace": "mail"},
        "spec": {"domainRef": {"name": "d"}, "localPart": local_part},
    }))
    .unwrap()
}

fn name() -> NamespacedName {
    NamespacedName::new("mail", "default")
}

fn small() -> Value {
    json!({"hostname": "mx.server1.com"})
}

fn full() -> Value {
    json!({
        "hostname": "mx.server1.com",
        "image": "registry.example/paquebot-server:1", "imagePullPolicy": "Always", "imagePullSecrets": [{"name": "registry"}],
        "resources": {"limits": {"memory": "256Mi"}},
        "podTemplate": {
            "metadata": {
                "labels": {"team": "post", "app.kubernetes.io/name": "mine"},
                "annotations": {"note": "x", "paquebot.dev/restart-digest": "mine"},
            },
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "mail", "operator": "Exists"}],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
            "priorityClassName": "high", "runtimeClassName": "gvisor",
            "securityContext": {"fsGroup": 1000}, "containerSecurityContext": {"runAsUser": 1000},
        },
        "storage": {"embedded": {"size": "100Gi", "storageClassName": "fast"}},
        "listeners": [
            {"name": "smtp", "protocol": "SMTP", "port": 25},
            {"name": "smtp-2025", "protocol": "SMTP", "port": 2025},
            {"name": "pop3s", "protocol": "POP3S", "port": 995},
        ],
        "service": {
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "annotations": {"lb": "public"},
            "loadBalancerClass": "internal.example/lb", "ipFamilyPolicy": "PreferDualStack", "nodePorts": {"smtp": 30025},
        },
        "tls": {"secretRef": {"name": "mx-certificate"}, "minVersion": "TLS13"},
        "shutdown": {"preStopDelay": "15s", "drainTimeout": "2m"},
        "disruptionBudget": {"maxUnavailable": 0},
    })
}

fn rendered(directory: &Directory) -> Workload {
    workload(
        &directory.accepted_server(&name()).unwrap(),
        &Defaults { image: "paquebot-server:dev".to_owned(), operator_namespace: None },
    )
}

fn yaml(value: &impl Serialize) -> String {
    serde_saphyr::to_string(value).unwrap()
}

/// The shards in the middle of the list of volumes all look alike.
fn without_most_shards(text: &str) -> String {
    let parts: Vec<&str> = text.split("          - secret:\n").collect();
    let kept = parts.iter().enumerate().filter(|(index, _)| *index < 4 || *index + 2 > parts.len());
    kept.map(|(_, part)| *part).collect::<Vec<_>>().join("          - secret:\n")
}

fn snapshot(workload: &Workload) -> String {
    let budget = workload.disruption_budget.as_ref().map(yaml).unwrap_or_default();
    [
        yaml(&workload.service_account),
        yaml(&workload.headless_service),
        yaml(&workload.service),
        without_most_shards(&yaml(&workload.stateful_set)),
        budget,
    ]
    .join("---\n")
}

#[test]
fn a_small_server() {
    insta::assert_snapshot!(snapshot(&rendered(&directory(small()))));
}

#[test]
fn no_object_takes_the_place_of_the_namespace_s_own_account() {
    let workload = rendered(&directory(small()));
    let account = workload.service_account.metadata.name;
    assert_eq!((name().name.as_str(), account.as_deref()), ("default", Some("default-server")));
    assert_eq!(workload.stateful_set.spec.unwrap().template.spec.unwrap().service_account_name, account);
}

#[test]
fn a_full_server() {
    insta::assert_snapshot!(snapshot(&rendered(&directory(full()))));
}

#[test]
fn the_configuration_of_a_small_server() {
    let directory = directory(small());
    let bundle = bundle(&directory, &name()).unwrap();
    let configuration = configuration(directory.server(&name()).unwrap(), &bundle);
    let server = directory.server(&name()).unwrap();
    let secrets = configuration.secrets.keys().map(|file| configuration.secret(server, file));
    let shards: Vec<String> = secrets.map(|secret| yaml(&secret)).collect();
    let all = [shards.join("---\n"), yaml(&configuration.config_map)].join("---\n");
    insta::assert_snapshot!(all);
    let empty: Vec<String> = configuration.empty_shards(directory.server(&name()).unwrap()).collect();
    assert_eq!(empty.len() + configuration.secrets.len(), 65, "64 shards, and the Secret with logins");
}

#[test]
fn the_objects_hold_the_files_that_the_server_reads() {
    let directory = directory(full());
    let bundle = bundle(&directory, &name()).unwrap();
    let configuration = configuration(directory.server(&name()).unwrap(), &bundle);
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    files
        .extend(configuration.config_map.data.clone().unwrap().into_iter().map(|(key, text)| (key, text.into_bytes())));
    let server = directory.server(&name()).unwrap();
    for secret in configuration.secrets.keys().map(|file| configuration.secret(server, file)) {
        files.extend(secret.data.unwrap().into_iter().map(|(key, bytes)| (key, bytes.0)));
    }
    let contract = Contract::read(&files, "0.1.0").unwrap();
    assert_eq!(contract.counts(), (1, 1, 0));
    let listeners: Vec<_> = contract.server.listeners.iter().map(|l| (l.name.as_str(), l.protocol, l.port)).collect();
    let expected =
        [("smtp", Protocol::Smtp, 2025), ("smtp-2025", Protocol::Smtp, 2026), ("pop3s", Protocol::Pop3s, 2995)];
    assert_eq!(listeners, expected, "the ports that the pod opens");
}

#[test]
fn mailboxes_and_limits_restart_nothing_and_listeners_do() {
    let mut directory = directory(small());
    let template = |directory: &Directory| rendered(directory).stateful_set.spec.unwrap().template;
    let before = template(&directory);
    let revision = bundle(&directory, &name()).unwrap().revision().clone();
    directory.apply(mailbox("tom"));
    assert_ne!(*bundle(&directory, &name()).unwrap().revision(), revision);
    assert_eq!(template(&directory), before);
    for live in [
        json!({"hostname": "other.example"}),
        json!({"hostname": "mx.server1.com", "limits": {"connections": 5}, "outbound": {"maxAge": "1h"}}),
    ] {
        assert_eq!(template(&super::tests::directory(live)), before, "the server reads it again while it runs");
    }
    let protocol =
        json!({"hostname": "mx.server1.com", "listeners": [{"name": "smtp", "protocol": "Submission", "port": 25}]});
    assert_ne!(template(&super::tests::directory(protocol)), before);
}

#[test]
fn proxies_that_are_trusted_are_told_to_the_server_which_starts_again() {
    let spec = |trusted: &[&str]| {
        let proxy = json!({"mode": "Required", "trustedCIDRs": trusted});
        let listener = |name: &str, port: u16, proxy: Value| json!({"name": name, "protocol": "SMTP", "port": port, "proxyProtocol": proxy});
        let listeners = [listener("smtp", 25, proxy), listener("plain", 2525, json!({"mode": "Disabled"}))];
        directory(json!({"hostname": "mx.server1.com", "listeners": listeners}))
    };
    let one = spec(&["192.0.2.0/24", "2001:db8::1/128"]);
    let listeners = content(&one, &name()).unwrap().server.listeners;
    let trusted = ["192.0.2.0/24", "2001:db8::1/128"].map(|network| network.parse().unwrap()).to_vec();
    assert_eq!(listeners[0].proxy_protocol, Some(paquebot_config::ProxyProtocol { trusted }));
    assert_eq!(listeners[1].proxy_protocol, None);
    let template = |directory: &Directory| rendered(directory).stateful_set.spec.unwrap().template;
    assert_ne!(template(&one), template(&spec(&["192.0.2.0/25"])), "it reads whom it trusts when it opens its ports");
}

#[test]
fn a_network_policy_lets_mail_in_and_out_and_the_operator_to_the_admin_port() {
    let policy = |spec: Value, namespace: Option<&str>| {
        let directory = directory(spec);
        let defaults = Defaults { image: "x".to_owned(), operator_namespace: namespace.map(str::to_owned) };
        let rules: Vec<paquebot_config::RelayRule> = serde_json::from_value(json!([{
            "name": "one/p", "from": [], "recipients": "Any",
            "upstream": {"host": "relay.example", "port": 2526, "tls": "Required"},
        }, {
            "name": "tenant/p", "from": [], "recipients": "Any", "confined": true,
            "upstream": {"host": "relay.example", "port": 6443, "tls": "Required"},
        }]))
        .unwrap();
        network_policy(&directory.accepted_server(&name()).unwrap(), &defaults, &rules)
            .map(|policy| serde_json::to_value(policy).unwrap())
    };
    assert_eq!(policy(small(), None), None);
    let wanted = json!({"hostname": "mx.server1.com", "networkPolicy": {"enabled": true}});
    let made = policy(wanted.clone(), Some("paquebot-system")).unwrap();
    assert_eq!(made["spec"]["podSelector"]["matchLabels"], serde_json::to_value(names::selector("default")).unwrap());
    let ports = |rule: &Value| -> Vec<u64> {
        rule["ports"].as_array().unwrap().iter().map(|port| port["port"].as_u64().unwrap()).collect()
    };
    let (ingress, egress) = (&made["spec"]["ingress"], &made["spec"]["egress"]);
    assert_eq!(
        (ports(&ingress[0]), ingress[0].get("from")),
        (vec![2025, 2587, 2465, 2110, 2995], None),
        "mail is for everybody"
    );
    assert_eq!(ports(&ingress[1]), [8080]);
    let from = json!([{
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "paquebot-system"}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/component": "operator", "app.kubernetes.io/part-of": "paquebot"}},
    }]);
    assert_eq!(ingress[1]["from"], from);
    assert_eq!(
        (ports(&egress[0]), ports(&egress[1])),
        (vec![53, 53, 5353, 5353], vec![25, 465, 587, 2526]),
        "another namespace opens no port"
    );
    assert_eq!(egress[2]["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"], "paquebot-server");
    // Prometheus may run anywhere.
    let mut monitored = wanted;
    monitored["monitoring"] = json!({"podMonitor": {"mode": "Enabled"}});
    assert_eq!(policy(monitored, None).unwrap()["spec"]["ingress"][1]["from"], json!([{"namespaceSelector": {}}]));
}

#[test]
fn a_pod_monitor_has_the_labels_that_a_prometheus_selects_by() {
    let wanted = json!({"mode": "Enabled", "labels": {"team": "post", "app.kubernetes.io/name": "mine"}});
    let directory = directory(json!({"hostname": "mx.server1.com", "monitoring": {"podMonitor": wanted}}));
    let (metadata, body) = pod_monitor::pod_monitor(&directory.accepted_server(&name()).unwrap()).unwrap();
    let labels = metadata.labels.unwrap();
    assert_eq!((labels["team"].as_str(), labels["app.kubernetes.io/name"].as_str()), ("post", "paquebot-server"));
    assert_eq!(body["spec"]["podMetricsEndpoints"][0]["port"], "admin");
    let directory = super::tests::directory(small());
    assert!(pod_monitor::pod_monitor(&directory.accepted_server(&name()).unwrap()).is_none());
}

#[test]
fn a_server_that_is_refused_is_not_rendered() {
    let directory = directory(json!({"hostname": "mx.server1.com", "replicas": 3}));
    assert!(directory.accepted_server(&name()).is_none());
    assert!(matches!(content(&directory, &name()), Err(RenderError::NotAccepted(_))));
}

#[test]
fn a_certificate_is_for_the_host_name_and_the_names_inside_the_cluster() {
    let directory = directory(small());
    let expected = ["mx.server1.com", "default", "default.mail", "default.mail.svc", "default.mail.svc.cluster.local"];
    assert_eq!(certificate::names(directory.server(&name()).unwrap()), expected);
}

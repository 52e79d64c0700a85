//! One sentence for each rule about RelayPolicies.

use super::*;

#[test]
fn relay_policies() {
    use Kind::RelayPolicy;
    let cidr = |cidr: &str| json!([{"cidrs": [cidr]}]);
    check(vec![
        case(
            "networks outside the cluster",
            (RelayPolicy, "one/p"),
            "Accepted",
            &[],
            served(vec![policy("one/p", cidr("192.0.2.0/24"), json!({}))]),
        ),
        case(
            "a policy needs its server",
            (RelayPolicy, "one/p"),
            "NamespaceNotAllowed",
            &["There is no MailServer mail/default", "create it"],
            vec![policy("one/p", cidr("192.0.2.0/24"), json!({}))],
        ),
        case(
            "which admits its namespace",
            (RelayPolicy, "one/p"),
            "NamespaceNotAllowed",
            &["RelayPolicy of namespace one"],
            vec![
                object(Kind::MailServer, "mail/default", 0, json!({"hostname": "a.example"})),
                policy("one/p", cidr("192.0.2.0/24"), json!({})),
            ],
        ),
        case(
            "the whole Internet is refused",
            (RelayPolicy, "one/p"),
            "OpenRelayRefused",
            &["0.0.0.0/0", "open relay", "Nothing of the policy"],
            served(vec![policy("one/p", cidr("0.0.0.0/0"), json!({}))]),
        ),
        case(
            "mailboxes of a domain that is missing",
            (RelayPolicy, "one/p"),
            "DomainNotFound",
            &["MailDomain one/other"],
            served(vec![policy("one/p", json!([{"mailboxes": {"domainRef": {"name": "other"}}}]), json!({}))]),
        ),
        case(
            "mailboxes of a domain that is served",
            (RelayPolicy, "one/p"),
            "Accepted",
            &[],
            served(vec![policy("one/p", json!([{"mailboxes": {"domainRef": {"name": "d"}}}]), json!({}))]),
        ),
        case(
            "pods that do not run yet",
            (RelayPolicy, "one/p"),
            "Accepted",
            &["No running pod is selected now."],
            served(vec![policy("one/p", json!([{"podSelector": {"matchLabels": {"app": "x"}}}]), json!({}))]),
        ),
    ]);
}

#[test]
fn addresses_of_nodes_are_admitted_while_the_server_sees_its_clients_own_and_no_longer() {
    let networks = json!([{"cidrs": ["10.0.0.0/24", "192.0.2.0/24"]}]);
    let mut directory = directory(served(vec![policy("one/p", networks.clone(), json!({}))]));
    directory
        .set_cluster_ranges(ClusterRanges { nodes: vec!["10.0.0.5/32".parse().unwrap()], ..ClusterRanges::default() });
    let effective = |directory: &Directory| match directory.report(&key(Kind::RelayPolicy, "one/p")).unwrap().details {
        Details::RelayPolicy { effective, .. } => effective.len(),
        other => panic!("{other:?}"),
    };
    let refused = |directory: &Directory| {
        assert_eq!(reason(directory, Kind::RelayPolicy, "one/p"), "OpenRelayRefused");
        let words = message(directory, Kind::RelayPolicy, "one/p");
        assert!(words.contains("SourceIPPreserved") && words.contains("10.0.0.0/24"), "{words}");
        assert_eq!(effective(directory), 1);
    };
    refused(&directory);
    let changes = directory.set_source_preserved(&default_server(), true);
    assert!(changes.statuses.contains(&key(Kind::RelayPolicy, "one/p")) && changes.servers[&default_server()].relay);
    assert_eq!((reason(&directory, Kind::RelayPolicy, "one/p").as_str(), effective(&directory)), ("Accepted", 2));
    assert!(directory.set_source_preserved(&default_server(), true).is_empty());
    // What is proven of another server says nothing of this one.
    assert!(directory.set_source_preserved(&NamespacedName::new("mail", "other"), true).is_empty());
    assert!(!directory.set_source_preserved(&default_server(), false).is_empty());
    refused(&directory);
    // A server that is made anew has to prove it anew.
    directory.set_source_preserved(&default_server(), true);
    directory.delete(&key(Kind::MailServer, "mail/default"));
    directory.apply(server("mail/default"));
    refused(&directory);
}

#[test]
fn the_operators_own_pods_are_never_selected() {
    let options = Options { operator_namespace: Some("paquebot-system".to_owned()), ..Options::default() };
    let mut directory = Directory::new(options);
    let everyone = json!([{"podSelector": {}, "namespaceSelector": {}}]);
    directory.apply(server("mail/default"));
    directory.apply_namespace("paquebot-system", BTreeMap::new());
    directory.apply_namespace("elsewhere", BTreeMap::new());
    let pod = |labels: &[(&str, &str)], address: &str| Pod {
        labels: labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect(),
        addresses: vec![address.parse().unwrap()],
        running: true,
        host_network: false,
    };
    let labels = [("app.kubernetes.io/part-of", "paquebot"), ("app.kubernetes.io/component", "operator")];
    directory.apply_pod(NamespacedName::new("paquebot-system", "operator"), pod(&labels, "10.244.0.2"));
    // The policy comes between pods that are there and pods that come.
    directory.apply(policy("mail/p", everyone, json!({})));
    directory.apply_pod(NamespacedName::new("paquebot-system", "operator-2"), pod(&labels, "10.244.0.3"));
    directory.apply_pod(NamespacedName::new("paquebot-system", "other"), pod(&labels[..1], "10.244.0.4"));
    directory.apply_pod(NamespacedName::new("elsewhere", "operator"), pod(&labels, "10.244.0.5"));
    let Details::RelayPolicy { effective, .. } = directory.report(&key(Kind::RelayPolicy, "mail/p")).unwrap().details
    else {
        panic!("no policy");
    };
    let effective: Vec<String> = effective.iter().map(ToString::to_string).collect();
    assert_eq!(effective, ["10.244.0.4/32", "10.244.0.5/32"]);
}

#[test]
fn a_smart_hosts_port_that_the_network_policy_shuts_is_named() {
    let at = |port: u16| json!({"upstream": {"smartHost": "relay.example", "port": port}});
    let network = json!([{"cidrs": ["192.0.2.0/24"]}]);
    let shut = |enabled: bool, name: &str, port: u16| {
        let spec = json!({"hostname": "mx.example.net", "allowedNamespaces": {"from": "All"},
            "networkPolicy": {"enabled": enabled}});
        let server = object(Kind::MailServer, "mail/default", 0, spec);
        let directory = directory(vec![server, policy(name, network.clone(), at(port))]);
        assert_eq!(reason(&directory, Kind::RelayPolicy, name), "Accepted");
        message(&directory, Kind::RelayPolicy, name).contains(&format!("out to port {port}"))
    };
    assert!(shut(true, "one/p", 6443));
    assert!(!shut(true, "one/p", 587) && !shut(true, "mail/p", 6443) && !shut(false, "one/p", 6443));
}

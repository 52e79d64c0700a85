//! What one change leads to: healing, what is to be written again, and whom it does not touch.

use paquebot_config::{CatchAll, RelaySource, ShardName};

use super::*;

fn secret_ready(verifier: &str) -> CredentialOutcome {
    CredentialOutcome::Ready {
        verifiers: vec![paquebot_config::Verifier::new(verifier.to_owned())],
        app_passwords: BTreeMap::new(),
        versions: vec![SecretVersion { name: "s".to_owned(), resource_version: "7".to_owned() }],
    }
}

fn verifiers(directory: &Directory) -> Vec<String> {
    let server = default_server();
    let records = directory.records(&server, None).map(|record| record.into_inner().clone());
    let mailboxes = records.filter_map(|record| match record {
        Record::Mailbox(mailbox) => Some(mailbox.verifiers),
        Record::Domain(_) | Record::Alias(_) => None,
    });
    mailboxes.flatten().map(|verifier| verifier.expose().to_owned()).collect()
}

#[test]
fn what_waits_for_another_object_recovers_when_it_appears() {
    let mut directory =
        directory([mailbox("one/m", 3, "one/d", "a", json!({})), domain("one/d", 2, "a.example", json!({}))]);
    assert_eq!(reason(&directory, Kind::MailDomain, "one/d"), "NamespaceNotAllowed", "or it is not there");
    assert_eq!(reason(&directory, Kind::Mailbox, "one/m"), "DomainNotFound");
    let changes = directory.apply(server("mail/default"));
    assert_eq!(reason(&directory, Kind::Mailbox, "one/m"), "Accepted");
    assert!(changes.statuses.contains(&key(Kind::Mailbox, "one/m")));
    let files = &changes.servers[&default_server()];
    assert!(files.server && files.shards.contains(&ShardName::of("a.example")));
}

#[test]
fn the_younger_one_follows_when_the_older_goes() {
    let mut directory = directory([
        server("mail/default"),
        domain("one/old", 1, "a.example", json!({})),
        domain("one/new", 2, "a.example", json!({})),
        mailbox("one/m", 3, "one/new", "a", json!({})),
    ]);
    assert_eq!(lines(&directory), BTreeMap::new());
    let changes = directory.delete(&key(Kind::MailDomain, "one/old"));
    assert_eq!(reason(&directory, Kind::MailDomain, "one/new"), "Accepted");
    assert_eq!(lines(&directory)["a@a.example"], "mailbox");
    assert!(changes.statuses.contains(&key(Kind::MailDomain, "one/new")));
}

#[test]
fn a_place_that_becomes_free_is_taken_by_the_oldest_that_waits() {
    let limits = json!({"limits": {"maxMailboxes": 1}});
    let mut directory = directory([
        server("mail/default"),
        domain("one/d", 1, "a.example", limits),
        mailbox("one/a", 2, "one/d", "a", json!({})),
        mailbox("one/b", 3, "one/d", "b", json!({})),
        mailbox("one/c", 4, "one/d", "c", json!({})),
    ]);
    let changes = directory.delete(&key(Kind::Mailbox, "one/a"));
    assert_eq!(reason(&directory, Kind::Mailbox, "one/b"), "Accepted");
    assert_eq!(reason(&directory, Kind::Mailbox, "one/c"), "LimitExceeded");
    assert!(!changes.statuses.contains(&key(Kind::Mailbox, "one/c")), "nothing is new about it");
}

#[test]
fn revoking_a_namespace_stops_the_service_and_granting_it_starts_it_again() {
    let gold = json!({"hostname": "mx.a.example", "allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"tier": "gold"}}}});
    let mut directory = directory([
        object(Kind::MailServer, "mail/default", 0, gold),
        domain("one/d", 1, "a.example", json!({})),
        mailbox("one/m", 2, "one/d", "a", json!({})),
    ]);
    let labels: BTreeMap<String, String> = [("tier".to_owned(), "gold".to_owned())].into();
    directory.apply_namespace("one", labels.clone());
    assert_eq!(lines(&directory).len(), 1);
    directory.apply_namespace("one", BTreeMap::new());
    assert_eq!(lines(&directory).len(), 0);
    assert_eq!(reason(&directory, Kind::MailDomain, "one/d"), "NamespaceNotAllowed");
    directory.apply_namespace("one", labels);
    assert_eq!(lines(&directory).len(), 1);
}

#[test]
fn what_is_applied_again_as_it_was_changes_nothing() {
    let objects = [
        server("mail/default"),
        domain("one/d", 1, "a.example", json!({})),
        mailbox("one/m", 2, "one/d", "a", json!({})),
        alias("one/l", 2, "one/d", "l", json!([{"mailboxRef": {"name": "m"}}])),
        policy("one/p", json!([{"cidrs": ["192.0.2.0/24"]}]), json!({})),
    ];
    let mut directory = directory(objects.clone());
    for object in objects {
        let key = object.key();
        assert!(directory.apply(object).is_empty(), "{key}");
    }
    assert!(directory.apply_credentials(&NamespacedName::new("one", "m"), secret_ready("$a")).servers.len() == 1);
    assert!(directory.apply_credentials(&NamespacedName::new("one", "m"), secret_ready("$a")).is_empty());
}

#[test]
fn one_mailbox_touches_its_own_shard_and_nobody_else() {
    let mut directory = directory([server("mail/default"), domain("one/d", 1, "a.example", json!({}))]);
    for number in 0..100 {
        directory.apply(mailbox(&format!("one/m{number}"), 2, "one/d", &format!("user{number}"), json!({})));
    }
    let changes = directory.apply(mailbox("one/new", 3, "one/d", "new", json!({})));
    let shard = ShardName::of("new@a.example");
    let expected = DirtyFiles { shards: [shard].into(), ..DirtyFiles::default() };
    assert_eq!(changes.servers, [(default_server(), expected)].into());
    assert_eq!(changes.statuses, [key(Kind::Mailbox, "one/new")].into());
    assert_eq!(changes.counted, [NamespacedName::new("one", "d")].into(), "the domain counts its mailboxes");
    let place = directory.place(&key(Kind::Mailbox, "one/new"));
    assert_eq!(place, Some((default_server(), shard.to_string())));
}

#[test]
fn a_secret_that_fails_leaves_the_old_password_in_force() {
    let credentials = json!({"credentials": {"passwordSecretRef": {"name": "s"}}});
    let name = NamespacedName::new("one", "m");
    let mut directory = directory([
        server("mail/default"),
        domain("one/d", 1, "a.example", json!({})),
        mailbox("one/m", 2, "one/d", "a", credentials.clone()),
    ]);
    assert_eq!(directory.pending_credentials(&default_server()).collect::<Vec<_>>(), [&name]);
    assert_eq!(directory.mailboxes_of_secret(&NamespacedName::new("one", "s")).collect::<Vec<_>>(), [&name]);
    directory.apply_credentials(&name, secret_ready("$one"));
    assert_eq!(directory.pending_credentials(&default_server()).count(), 0);
    let failure = CredentialFailure {
        reason: paquebot_crds::conditions::Reason::SecretKeyMissing,
        message: "Secret s has no key password.".to_owned(),
    };
    let changes = directory.apply_credentials(&name, CredentialOutcome::failed(failure.clone()));
    assert_eq!(verifiers(&directory), ["$one"]);
    assert!(changes.servers.is_empty() && changes.statuses.len() == 1, "only the status is news");
    let details = directory.report(&key(Kind::Mailbox, "one/m")).unwrap().details;
    assert!(matches!(details, Details::Mailbox { credentials: CredentialsReport::Failed(f), .. } if f == failure));
    directory.apply(mailbox(
        "one/m",
        2,
        "one/d",
        "a",
        json!({"credentials": {"passwordSecretRef": {"name": "other"}}}),
    ));
    assert_eq!(verifiers(&directory), ["$one"], "until the other Secret is read");
    directory.apply(mailbox("one/m", 2, "one/d", "a", json!({})));
    assert_eq!(verifiers(&directory), [""; 0], "without credentials nothing opens it");
}

#[test]
fn domain_settings_reach_the_configuration() {
    let spec = json!({
        "catchAll": {"mailboxRef": {"name": "m"}}, "limits": {"defaultQuota": "2Gi", "maxQuota": "1Gi", "maxMessageSize": "1Mi"},
        "subaddressing": {"mode": "Disabled"},
    });
    let mut directory = directory([
        server("mail/default"),
        domain("one/d", 1, "a.example", spec),
        mailbox(
            "one/m",
            2,
            "one/d",
            "a",
            json!({"protocols": {"pop3": "Disabled"}, "forwarding": {"to": ["x@y.example"], "keepCopy": false}}),
        ),
    ]);
    let config = directory.domain_configs(&default_server(), None).next().unwrap().into_inner().clone();
    assert_eq!(config.catch_all, CatchAll::Mailbox("a@a.example".parse().unwrap()));
    assert_eq!((config.subaddress_separator, config.max_message_size), (None, Some(1 << 20)));
    let Record::Mailbox(record) = directory.records(&default_server(), None).next().unwrap().into_inner().clone()
    else {
        panic!()
    };
    assert_eq!(record.quota, Some(1 << 30), "the default is bounded by the limit");
    assert!(!record.protocols.pop3 && record.protocols.submission);
    assert!(!record.forwarding.unwrap().keep_copy);
    let changes = directory.delete(&key(Kind::Mailbox, "one/m"));
    let config = directory.domain_configs(&default_server(), None).next().unwrap().into_inner().clone();
    assert_eq!(config.catch_all, CatchAll::Reject, "a configuration never names a mailbox that it does not have");
    assert!(changes.servers[&default_server()].shards.contains(&ShardName::of("a.example")));
}

fn networks(directory: &Directory) -> Vec<String> {
    let server = default_server();
    let rules = directory.relay_rules(&server).flat_map(|rule| rule.into_inner().from.clone());
    let networks = rules.filter_map(|source| match source {
        RelaySource::Networks(networks) => Some(networks),
        RelaySource::Mailboxes(_) | RelaySource::ClientCertificates(_) => None,
    });
    networks.flatten().map(|network| network.to_string()).collect()
}

fn pod(labels: &[(&str, &str)], address: &str) -> Pod {
    Pod {
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        addresses: vec![address.parse().unwrap()],
        running: true,
        host_network: false,
    }
}

#[test]
fn pods_are_admitted_by_their_labels_as_long_as_they_have_their_address() {
    let mut directory = directory([
        server("mail/default"),
        policy(
            "one/p",
            json!([{"podSelector": {"matchLabels": {"app": "x"}}}]),
            json!({"recipients": {"domains": ["y.example"]}}),
        ),
    ]);
    directory
        .set_cluster_ranges(ClusterRanges { pods: vec!["10.244.0.0/16".parse().unwrap()], ..ClusterRanges::default() });
    let name = |text: &str| NamespacedName::parse(text).unwrap();
    directory.apply_pod(name("one/in"), pod(&[("app", "x")], "10.244.0.7"));
    directory.apply_pod(name("one/v6"), pod(&[("app", "x")], "fd00::7"));
    directory.apply_pod(name("one/other"), pod(&[("app", "z")], "10.244.0.8"));
    directory.apply_pod(name("two/elsewhere"), pod(&[("app", "x")], "10.244.0.9"));
    assert_eq!(networks(&directory), ["10.244.0.7/32", "fd00::7/128"]);
    directory.apply_pod(name("one/v6"), Pod { running: false, ..pod(&[("app", "x")], "fd00::7") });
    assert_eq!(networks(&directory), ["10.244.0.7/32"], "its address may be another's by now");
    directory.apply_pod(name("one/in"), pod(&[("app", "z")], "10.244.0.7"));
    assert_eq!(networks(&directory), [""; 0]);
    assert_eq!(directory.relay_rules(&default_server()).count(), 0, "a rule that admits nobody is not written");
    let place = directory.place(&key(Kind::RelayPolicy, "one/p"));
    assert_eq!(place, Some((default_server(), "relay.json".to_owned())), "that it is not there arrives, too");
    let unconcerned = directory.apply_pod(name("one/other"), pod(&[("app", "zz")], "10.244.0.8"));
    assert!(unconcerned.is_empty());
}

#[test]
fn pods_of_other_namespaces_are_admitted_by_the_labels_of_those() {
    let source = json!([{"podSelector": {}, "namespaceSelector": {"matchLabels": {"tier": "gold"}}}]);
    let mut directory = directory([server("mail/default"), policy("mail/p", source, json!({}))]);
    directory.apply_pod(NamespacedName::new("two", "pod"), pod(&[], "10.244.0.9"));
    assert_eq!(networks(&directory), [""; 0]);
    directory.apply_namespace("two", [("tier".to_owned(), "gold".to_owned())].into());
    assert_eq!(networks(&directory), ["10.244.0.9/32"]);
    directory.delete_pod(&NamespacedName::new("two", "pod"));
    assert_eq!(networks(&directory), [""; 0]);
}

#[test]
fn a_pod_on_its_nodes_network_is_not_admitted() {
    let mut directory = directory([server("mail/default"), policy("one/p", json!([{"podSelector": {}}]), json!({}))]);
    directory.apply_pod(NamespacedName::new("one", "agent"), Pod { host_network: true, ..pod(&[], "10.0.0.7") });
    assert_eq!(networks(&directory), [""; 0]);
    assert_eq!(reason(&directory, Kind::RelayPolicy, "one/p"), "OpenRelayRefused");
    assert!(message(&directory, Kind::RelayPolicy, "one/p").contains("pod one/agent"));
}

#[test]
fn a_network_of_the_cluster_is_refused_and_the_others_stay_in_force() {
    let mut directory = directory([
        server("mail/default"),
        policy("one/p", json!([{"cidrs": ["192.0.2.0/24", "10.0.0.0/8"]}]), json!({})),
    ]);
    assert_eq!(reason(&directory, Kind::RelayPolicy, "one/p"), "Accepted");
    let ranges = ClusterRanges { nodes: vec!["10.1.0.0/24".parse().unwrap()], ..ClusterRanges::default() };
    let changes = directory.set_cluster_ranges(ranges);
    assert!(changes.servers[&default_server()].relay);
    assert_eq!(reason(&directory, Kind::RelayPolicy, "one/p"), "OpenRelayRefused");
    assert_eq!(networks(&directory), ["192.0.2.0/24"]);
    let Details::RelayPolicy { effective, rejected } =
        directory.report(&key(Kind::RelayPolicy, "one/p")).unwrap().details
    else {
        panic!()
    };
    assert_eq!(effective.len(), 1);
    assert_eq!(rejected[0].network, "10.0.0.0/8");
}

#[test]
fn a_network_in_which_a_pod_runs_is_refused_while_it_runs() {
    let mut directory = directory([
        server("mail/default"),
        policy("one/p", json!([{"cidrs": ["192.0.2.0/24", "172.20.0.0/16"]}]), json!({})),
    ]);
    let (name, other) = (NamespacedName::new("two", "pod"), NamespacedName::new("two", "other"));
    assert_eq!(networks(&directory), ["172.20.0.0/16", "192.0.2.0/24"]);
    let changes = directory.apply_pod(name.clone(), pod(&[], "172.20.3.9"));
    assert!(changes.servers[&default_server()].relay && changes.statuses.contains(&key(Kind::RelayPolicy, "one/p")));
    assert_eq!(networks(&directory), ["192.0.2.0/24"]);
    let message = message(&directory, Kind::RelayPolicy, "one/p");
    assert!(message.contains("172.20.0.0/16: it meets the cluster's pod addresses, of which 172.20.3.9"), "{message}");
    // Two pods of one node's network share its address.
    directory.apply_pod(other.clone(), Pod { host_network: true, ..pod(&[], "172.20.3.9") });
    assert!(directory.delete_pod(&other).is_empty());
    assert_eq!(networks(&directory), ["192.0.2.0/24"]);
    directory.delete_pod(&name);
    assert_eq!(networks(&directory), ["172.20.0.0/16", "192.0.2.0/24"]);
}

#[test]
fn what_is_not_known_of_the_cluster_is_said() {
    let mut directory =
        directory([server("mail/default"), policy("one/p", json!([{"cidrs": ["192.0.2.0/24"]}]), json!({}))]);
    directory.set_cluster_ranges(ClusterRanges { unread: vec!["Node"], ..ClusterRanges::default() });
    assert_eq!(reason(&directory, Kind::RelayPolicy, "one/p"), "Accepted");
    let message = message(&directory, Kind::RelayPolicy, "one/p");
    assert!(message.contains("The operator knows no Node of the cluster"), "{message}");
}

#[test]
fn a_policy_that_selects_too_many_pods_is_refused_alone() {
    let mut directory =
        directory([server("mail/default"), policy("two/good", json!([{"cidrs": ["192.0.2.0/24"]}]), json!({}))]);
    for number in 0..16_385u32 {
        let address = std::net::Ipv4Addr::from(0x0af4_0000 + number).to_string();
        directory.apply_pod(NamespacedName::new("mail", &number.to_string()), pod(&[], &address));
    }
    directory.apply(policy("mail/p", json!([{"podSelector": {}}]), json!({})));
    assert_eq!(reason(&directory, Kind::RelayPolicy, "mail/p"), "LimitExceeded");
    assert_eq!(networks(&directory), ["192.0.2.0/24"]);
    directory.delete_pod(&NamespacedName::new("mail", "7"));
    assert_eq!(reason(&directory, Kind::RelayPolicy, "mail/p"), "Accepted");
    assert_eq!(networks(&directory).len(), 16_385);
}

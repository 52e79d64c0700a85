//! What RelayPolicies become: certificates, limits, senders and recipients, whose domains they may use, and how much room
//! they have together.

use paquebot_config::{RateLimit, RecipientScope, RelayRule, RelaySource};

use super::*;

fn rules(directory: &Directory) -> Vec<RelayRule> {
    directory.relay_rules(&default_server()).map(|rule| rule.into_inner().clone()).collect()
}

fn names(directory: &Directory) -> Vec<String> {
    rules(directory).into_iter().map(|rule| rule.name).collect()
}

fn server_with(more: Value) -> Object {
    let base = json!({"hostname": "mx.example.net", "allowedNamespaces": {"from": "All"}});
    object(Kind::MailServer, "mail/default", 0, merge(base, more))
}

#[test]
fn certificates_admit_where_the_server_asks_for_them() {
    let from =
        json!([{"clientCertificates": [{"sanDNS": "b.example"}, {"sanDNS": "a.example"}, {"sanDNS": "a.example"}]}]);
    let mut directory = directory(served(vec![policy("one/p", from, json!({}))]));
    assert_eq!(reason(&directory, Kind::RelayPolicy, "one/p"), "Accepted");
    let words = message(&directory, Kind::RelayPolicy, "one/p");
    assert!(words.contains("asks no client for a certificate") && words.contains("clientCASecretRef"), "{words}");
    let wanted = ["a.example", "b.example"].map(|name| paquebot_config::Domain::parse(name).unwrap());
    assert_eq!(rules(&directory)[0].from, [RelaySource::ClientCertificates(wanted.to_vec())]);
    let changes = directory.apply(server_with(json!({"tls": {"clientCASecretRef": {"name": "authorities"}}})));
    assert!(changes.statuses.contains(&key(Kind::RelayPolicy, "one/p")));
    assert!(!message(&directory, Kind::RelayPolicy, "one/p").contains("asks no client"));
}

#[test]
fn authorities_follow_their_secret_and_the_last_good_ones_stay() {
    let mut directory = directory([server_with(json!({"tls": {"clientCASecretRef": {"name": "authorities"}}}))]);
    let used = SecretUse { object: key(Kind::MailServer, "mail/default"), purpose: SecretPurpose::ClientAuthorities };
    let reference = directory.secret_reference(&used).unwrap();
    assert_eq!((reference.name.as_str(), reference.key.as_deref()), ("authorities", Some("ca.crt")));
    let authorities = |directory: &Directory| {
        crate::render::content(directory, &default_server()).unwrap().server.tls.client_authorities
    };
    assert_eq!(authorities(&directory), None);
    let changes = directory.apply_secret(&used, &reference, Ok(SecretValue::ClientAuthorities("first".to_owned())));
    assert!(changes.servers[&default_server()].server);
    assert_eq!(authorities(&directory).as_deref(), Some("first"));
    let failure = CredentialFailure {
        reason: paquebot_crds::conditions::Reason::SecretKeyMissing,
        message: "damaged.".to_owned(),
    };
    directory.apply_secret(&used, &reference, Err(failure));
    assert_eq!(authorities(&directory).as_deref(), Some("first"));
    assert!(directory.secret_refusal(&default_server()).unwrap().message.contains("last good authorities stay"));
    directory.apply(server_with(json!({})));
    assert_eq!((authorities(&directory), directory.secret_refusal(&default_server())), (None, None));
}

#[test]
fn limits_senders_and_recipients_are_told_to_the_server() {
    let more = json!({
        "senders": {"domains": ["app.example"], "addresses": ["robot@bots.example"]},
        "recipients": {"domains": ["partner.example"]},
        "rateLimit": {"messagesPerHour": 100},
    });
    let mailbox = mailbox("one/anna", 2, "one/d", "anna", json!({"rateLimit": {"recipientsPerHour": 7}}));
    let directory = directory(served(vec![policy("one/p", json!([{"cidrs": ["192.0.2.0/24"]}]), more), mailbox]));
    let rule = rules(&directory).remove(0);
    let senders = rule.senders.unwrap();
    assert_eq!(
        (senders.domains[0].as_str(), senders.addresses[0].to_string().as_str()),
        ("app.example", "robot@bots.example")
    );
    assert!(matches!(rule.recipients, RecipientScope::Domains(domains) if domains[0].as_str() == "partner.example"));
    assert_eq!(rule.rate_limit, Some(RateLimit { messages_per_hour: Some(100), recipients_per_hour: None }));
    let limit = directory.records(&default_server(), None).find_map(|record| match record.into_inner() {
        Record::Mailbox(mailbox) => mailbox.rate_limit,
        _ => None,
    });
    assert_eq!(limit, Some(RateLimit { messages_per_hour: None, recipients_per_hour: Some(7) }));
}

#[test]
fn a_domain_lends_its_name_to_its_own_namespace_and_to_whom_it_names() {
    let refs = json!([{"name": "near"}, {"name": "far", "namespace": "two"}]);
    let networks = || json!([{"cidrs": ["192.0.2.0/24"]}]);
    let directory = directory([
        server("mail/default"),
        domain("one/d", 1, "server1.com", json!({"relayPolicyRefs": refs})),
        policy("one/own", networks(), json!({})),
        policy("two/far", networks(), json!({})),
        policy("two/other", networks(), json!({})),
        policy("mail/platform", networks(), json!({})),
    ]);
    let config = directory.domain_configs(&default_server(), None).next().unwrap().into_inner().clone();
    let lent: Vec<String> =
        rules(&directory).into_iter().filter(|rule| config.lends_its_name(rule)).map(|rule| rule.name).collect();
    assert_eq!(lent, ["mail/platform", "one/own", "two/far"]);
}

#[test]
fn a_policy_is_told_whose_name_its_clients_may_not_use_and_when_they_may() {
    let senders = json!({"senders": {"domains": ["server1.com", "else.example"]}});
    let lender = |refs: Value| domain("one/d", 1, "server1.com", json!({"relayPolicyRefs": refs}));
    let mut directory = directory([
        server("mail/default"),
        lender(json!([])),
        policy("two/p", json!([{"cidrs": ["192.0.2.0/24"]}]), senders),
    ]);
    let words = |directory: &Directory| message(directory, Kind::RelayPolicy, "two/p");
    let told = words(&directory);
    assert!(told.contains("server1.com is refused") && told.contains("relayPolicyRefs"), "{told}");
    assert!(!told.contains("else.example") && !told.contains("one/d"), "{told}");
    let changes = directory.apply(lender(json!([{"name": "p", "namespace": "two"}])));
    assert!(changes.statuses.contains(&key(Kind::RelayPolicy, "two/p")));
    assert!(!words(&directory).contains("refused"));
    directory.apply(lender(json!([])));
    assert!(words(&directory).contains("server1.com is refused"));
    directory.delete(&key(Kind::MailDomain, "one/d"));
    assert!(!words(&directory).contains("refused"), "a domain elsewhere is not ours to lend");
}

/// A policy with so many networks.
fn large(name: &str, created: u8, networks: usize) -> Object {
    let cidrs = |first: usize, count: usize| -> Vec<String> {
        (first..first + count)
            .map(|number| format!("198.{}.{}.{}/32", 20 + (number >> 16), (number >> 8) & 255, number & 255))
            .collect()
    };
    let from: Vec<Value> = (0..networks.div_ceil(256))
        .map(|part| json!({"cidrs": cidrs(part * 256, 256.min(networks - part * 256))}))
        .collect();
    let spec = json!({"serverRef": {"name": "default", "namespace": "mail"}, "from": from});
    object(Kind::RelayPolicy, name, created, spec)
}

#[test]
fn the_policies_of_a_namespace_and_of_a_server_have_so_much_room_and_older_ones_go_first() {
    // Some 90 KiB each.
    const NETWORKS: usize = 5_000;
    let mut directory = directory([server("mail/default")]);
    directory.apply(large("one/c", 3, NETWORKS));
    directory.apply(large("one/b", 2, NETWORKS));
    assert_eq!(names(&directory), ["one/b"], "the older one goes first, also when it comes later");
    assert_eq!(reason(&directory, Kind::RelayPolicy, "one/c"), "LimitExceeded");
    let words = message(&directory, Kind::RelayPolicy, "one/c");
    assert!(words.contains("of namespace one") && words.contains("wider networks"), "{words}");
    directory.apply(large("one/small", 4, 10));
    directory.apply(large("two/a", 5, NETWORKS));
    assert_eq!(
        names(&directory),
        ["one/b", "one/small", "two/a"],
        "what fits beside it is not held up, nor other tenants"
    );

    // The server's own namespace may take all, and then others wait.
    for (name, created) in [("mail/a", 6), ("mail/b", 7), ("mail/c", 8), ("mail/d", 9), ("mail/e", 10), ("mail/f", 11)]
    {
        directory.apply(large(name, created, NETWORKS));
    }
    directory.apply(large("three/late", 12, NETWORKS));
    assert_eq!(reason(&directory, Kind::RelayPolicy, "three/late"), "LimitExceeded");
    assert!(message(&directory, Kind::RelayPolicy, "three/late").contains("of MailServer mail/default would take"));
    let content = crate::render::content(&directory, &default_server()).unwrap();
    assert!(paquebot_config::Bundle::build(content).is_ok(), "what is in force can be written");

    // It heals.
    let changes = directory.delete(&key(Kind::RelayPolicy, "one/b"));
    assert!(changes.statuses.contains(&key(Kind::RelayPolicy, "one/c")));
    assert!(names(&directory).contains(&"one/c".to_owned()));
    for name in names(&directory) {
        directory.delete(&key(Kind::RelayPolicy, &name));
    }
    assert!(names(&directory).contains(&"three/late".to_owned()));
}

fn everybody() -> Value {
    json!([{"podSelector": {}, "namespaceSelector": {}}])
}

#[test]
fn a_tenants_policy_admits_pods_of_its_own_namespace_alone() {
    let mut directory = directory([server("mail/default"), policy("mallory/capture", everybody(), json!({}))]);
    for (namespace, address) in [("mallory", "10.244.0.1"), ("apps", "10.244.0.2")] {
        directory.apply_namespace(namespace, BTreeMap::new());
        let pod = Pod { addresses: vec![address.parse().unwrap()], running: true, ..Pod::default() };
        directory.apply_pod(NamespacedName::new(namespace, "pod"), pod);
    }
    directory.apply(policy("mallory/later", everybody(), json!({})));
    directory.apply(policy("mail/platform", everybody(), json!({})));
    let effective = |name: &str| match directory.report(&key(Kind::RelayPolicy, name)).unwrap().details {
        Details::RelayPolicy { effective, .. } => effective.iter().map(ToString::to_string).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    for name in ["mallory/capture", "mallory/later"] {
        assert_eq!(effective(name), ["10.244.0.1/32"], "{name}");
        let words = message(&directory, Kind::RelayPolicy, name);
        assert!(words.contains("only those of namespace mallory") && !words.contains("apps"), "{words}");
    }
    assert_eq!(effective("mail/platform"), ["10.244.0.1/32", "10.244.0.2/32"]);
    assert!(!message(&directory, Kind::RelayPolicy, "mail/platform").contains("namespaceSelector"));
}

#[test]
fn rules_of_the_servers_namespace_go_first_and_older_ones_before_younger() {
    let made = |name: &str, created: u8| {
        let spec =
            json!({"serverRef": {"name": "default", "namespace": "mail"}, "from": [{"cidrs": ["192.0.2.0/24"]}]});
        object(Kind::RelayPolicy, name, created, spec)
    };
    let mut directory = directory([
        made("alice/young", 9),
        made("zoe/old", 2),
        made("mail/z", 8),
        made("mail/a", 7),
        server("mail/default"),
    ]);
    let written = |directory: &Directory| {
        let bundle = crate::render::bundle(directory, &default_server()).unwrap();
        let read = paquebot_config::Configuration::read(bundle.files(), "0.1.0").unwrap();
        read.relay.into_iter().map(|rule| rule.name).collect::<Vec<_>>()
    };
    assert_eq!(written(&directory), ["mail/a", "mail/z", "zoe/old", "alice/young"]);
    // One that is made anew under its old name is young.
    let changes = directory.apply(made("zoe/old", 10));
    assert!(changes.servers[&default_server()].relay);
    assert_eq!(written(&directory), ["mail/a", "mail/z", "alice/young", "zoe/old"]);
}

#[test]
fn a_domain_on_another_server_is_not_lent_to_strangers_either() {
    let elsewhere = |refs: Value| {
        let spec = json!({"domain": "bank.example", "serverRef": {"name": "own", "namespace": "bank"}, "relayPolicyRefs": refs});
        object(Kind::MailDomain, "bank/d", 1, spec)
    };
    let senders = json!({"senders": {"domains": ["bank.example", "free.example"], "addresses": ["boss@bank.example"]}});
    let network = || json!([{"cidrs": ["192.0.2.0/24"]}]);
    let mut directory = directory([
        server("mail/default"),
        server("bank/own"),
        policy("two/p", network(), senders.clone()),
        policy("mail/p", network(), senders),
    ]);
    let lent = |directory: &Directory| {
        let scopes = rules(directory).into_iter().map(|rule| rule.senders.unwrap());
        scopes.map(|scope| scope.domains.len() + scope.addresses.len()).collect::<Vec<_>>()
    };
    assert_eq!(lent(&directory), [3, 3], "nobody has it");
    let changes = directory.apply(elsewhere(json!([])));
    assert!(changes.servers[&default_server()].relay && changes.statuses.contains(&key(Kind::RelayPolicy, "two/p")));
    assert_eq!(lent(&directory), [3, 1], "the platform asks nobody");
    let words = message(&directory, Kind::RelayPolicy, "two/p");
    assert!(words.contains("bank.example is refused") && !words.contains("bank/"), "{words}");
    directory.apply(elsewhere(json!([{"name": "p", "namespace": "two"}])));
    assert_eq!(lent(&directory), [3, 3]);
    directory.apply(elsewhere(json!([])));
    directory.delete(&key(Kind::MailDomain, "bank/d"));
    assert_eq!(lent(&directory), [3, 3]);
}

#[test]
fn a_tenant_is_told_as_whom_its_people_may_not_send() {
    let people = json!([{"mailboxes": {"domainRef": {"name": "d"}}}]);
    let senders = json!({"senders": {"domains": ["server1.com", "bank.example"]}});
    let directory = directory(served(vec![policy("one/p", people, senders)]));
    let words = message(&directory, Kind::RelayPolicy, "one/p");
    assert!(
        words.contains("Nobody who logs in sends as bank.example") && words.contains("in namespace mail"),
        "{words}"
    );
}

//! The order of changes does not matter: whatever comes first, the same objects end with the same verdicts and the same
//! content, and nothing remains of what was deleted.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// One thing that can be told to the index.
#[derive(Debug, Clone)]
enum Fact {
    Object(Object),
    Namespace(&'static str, bool),
    Pod(&'static str, Pod),
    Credentials(&'static str, u8),
}

impl Fact {
    /// Facts with the same name replace each other.
    fn name(&self) -> String {
        match self {
            Self::Object(object) => object.key().to_string(),
            Self::Namespace(name, _) => format!("Namespace {name}"),
            Self::Pod(name, _) => format!("Pod {name}"),
            // A mailbox forgets what was known of its Secret when it goes, so that the two belong together.
            Self::Credentials(name, _) => format!("Credentials {name}"),
        }
    }

    fn tell(&self, directory: &mut Directory) -> Changes {
        match self {
            Self::Object(object) => directory.apply(object.clone()),
            Self::Namespace(name, gold) => {
                let labels = if *gold { [("tier".to_owned(), "gold".to_owned())].into() } else { BTreeMap::new() };
                directory.apply_namespace(name, labels)
            }
            Self::Pod(name, pod) => directory.apply_pod(NamespacedName::parse(name).unwrap(), pod.clone()),
            Self::Credentials(name, verifier) => directory.apply_credentials(
                &NamespacedName::parse(name).unwrap(),
                CredentialOutcome::Ready {
                    verifiers: vec![paquebot_config::Verifier::new(format!("$argon2id${verifier}"))],
                    app_passwords: BTreeMap::new(),
                    versions: vec![SecretVersion { name: "s".to_owned(), resource_version: verifier.to_string() }],
                },
            ),
        }
    }

    fn take_back(&self, directory: &mut Directory) -> Changes {
        match self {
            Self::Object(object) => directory.delete(&object.key()),
            Self::Namespace(name, _) => directory.delete_namespace(name),
            Self::Pod(name, _) => directory.delete_pod(&NamespacedName::parse(name).unwrap()),
            Self::Credentials(..) => Changes::default(),
        }
    }
}

const NAMESPACES: [&str; 3] = ["mail", "one", "two"];

fn allowed() -> impl Strategy<Value = Value> {
    select(vec![
        json!({"from": "All"}),
        json!({"from": "Same"}),
        json!({"from": "Selector", "selector": {"matchLabels": {"tier": "gold"}}}),
    ])
}

fn servers() -> impl Strategy<Value = Object> {
    let hostname = select(vec!["mx.example.net", "mx.example.net", "b.example"]);
    let server = (select(vec!["mail/default", "one/own"]), 0..2u8, hostname, allowed(), any::<bool>());
    server.prop_map(|(name, created, hostname, allowed, refused)| {
        let mut spec = json!({"hostname": hostname, "allowedNamespaces": allowed});
        if refused {
            spec["outbound"] = json!({"dane": {"mode": "Enabled"}});
        }
        object(Kind::MailServer, name, created, spec)
    })
}

fn targets() -> impl Strategy<Value = Value> {
    let target = select(vec![
        json!({"mailboxRef": {"name": "m0", "namespace": "one"}}),
        json!({"mailboxRef": {"name": "m1"}}),
        json!({"address": "b@a.example"}),
        json!({"address": "c@a.example"}),
        json!({"address": "a@b.example"}),
        json!({"address": "postmaster@a.example"}),
        json!({"address": "somebody@elsewhere.example"}),
    ]);
    proptest::collection::vec(target, 1..3).prop_map(Value::Array)
}

fn domains() -> impl Strategy<Value = Object> {
    let name = (select(NAMESPACES.to_vec()), 0..2u8).prop_map(|(namespace, number)| format!("{namespace}/d{number}"));
    let server = select(vec![None, Some(("default", "mail")), Some(("own", "one")), Some(("missing", "mail"))]);
    let limit = proptest::option::of(0..3u32);
    (
        name,
        0..4u8,
        select(vec!["a.example", "b.example"]),
        server,
        allowed(),
        limit,
        proptest::option::of(targets()),
        0..4u8,
    )
        .prop_map(|(name, created, domain, server, allowed, limit, postmaster, variant)| {
            let mut spec = json!({"domain": domain, "allowedNamespaces": allowed, "limits": {}});
            if let Some((name, namespace)) = server {
                spec["serverRef"] = json!({"name": name, "namespace": namespace});
            }
            if let Some(limit) = limit {
                spec["limits"] = json!({"maxMailboxes": limit, "maxAliases": limit, "maxQuota": "1Gi"});
            }
            if let Some(postmaster) = postmaster {
                spec["roles"] = json!({"postmaster": postmaster});
            }
            match variant {
                0 => spec["catchAll"] = json!({"mailboxRef": {"name": "m0", "namespace": "one"}}),
                1 => spec["suspended"] = json!(true),
                2 => spec["relayPolicyRefs"] = json!([{"name": "p", "namespace": "two"}]),
                _ => {}
            }
            object(Kind::MailDomain, &name, created, spec)
        })
}

fn domain_reference() -> impl Strategy<Value = Value> {
    (select(NAMESPACES.to_vec()), 0..2u8)
        .prop_map(|(namespace, number)| json!({"namespace": namespace, "name": format!("d{number}")}))
}

fn mailboxes() -> impl Strategy<Value = Object> {
    let name = select(vec!["mail/m0", "one/m0", "one/m1", "two/m0", "two/m1"]);
    let local_part = select(vec!["a", "b", "c", "postmaster"]);
    (name, 0..4u8, domain_reference(), local_part, 0..4u8).prop_map(|(name, created, domain, local_part, variant)| {
        let mut spec = json!({"domainRef": domain, "localPart": local_part});
        match variant {
            0 => spec["quota"] = json!("2Gi"),
            1 => spec["sendAs"] = json!({"allowed": ["boss@a.example", "boss@b.example", "x@elsewhere.example"]}),
            2 => spec["credentials"] = json!({"passwordSecretRef": {"name": "s"}}),
            _ => {}
        }
        object(Kind::Mailbox, name, created, spec)
    })
}

fn aliases() -> impl Strategy<Value = Object> {
    let name = (select(NAMESPACES.to_vec()), 0..3u8).prop_map(|(namespace, number)| format!("{namespace}/l{number}"));
    let local_part = select(vec!["a", "b", "c", "postmaster", "abuse"]);
    (name, 0..4u8, domain_reference(), local_part, targets()).prop_map(
        |(name, created, domain, local_part, targets)| {
            object(
                Kind::MailAlias,
                &name,
                created,
                json!({"domainRef": domain, "localPart": local_part, "targets": targets}),
            )
        },
    )
}

fn policies() -> impl Strategy<Value = Object> {
    let source = prop_oneof![
        select(vec![
            json!({"cidrs": ["192.0.2.0/24", "10.1.0.0/16"]}),
            json!({"cidrs": ["10.244.0.4/30"]}),
            json!({"cidrs": ["57.0.0.0/8"]}),
            json!({"cidrs": ["58.0.0.0/8", "59.0.0.0/8", "60.0.0.0/8"]}),
            json!({"podSelector": {"matchLabels": {"app": "x"}}}),
            json!({"podSelector": {}, "namespaceSelector": {"matchLabels": {"tier": "gold"}}}),
        ]),
        domain_reference().prop_map(|domain| json!({"mailboxes": {"domainRef": domain}})),
    ];
    let server = select(vec![("default", "mail"), ("own", "one")]);
    (select(NAMESPACES.to_vec()), 0..4u8, server, proptest::collection::vec(source, 1..3)).prop_map(
        |(namespace, created, server, from)| {
            let mut spec = json!({"serverRef": {"name": server.0, "namespace": server.1}, "from": from});
            if created > 1 {
                spec["senders"] = json!({"domains": ["a.example", "elsewhere.example"]});
            }
            object(Kind::RelayPolicy, &format!("{namespace}/p"), created, spec)
        },
    )
}

fn pods() -> impl Strategy<Value = Fact> {
    let name = select(vec!["one/pod0", "one/pod1", "two/pod0"]);
    (name, any::<bool>(), any::<bool>(), any::<bool>(), 1..9u8).prop_map(
        |(name, labelled, running, host_network, last)| {
            let labels = if labelled { [("app".to_owned(), "x".to_owned())].into() } else { BTreeMap::new() };
            Fact::Pod(name, Pod { labels, addresses: vec![[10, 244, 0, last].into()], running, host_network })
        },
    )
}

fn fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        2 => servers().prop_map(Fact::Object),
        4 => domains().prop_map(Fact::Object),
        5 => mailboxes().prop_map(Fact::Object),
        5 => aliases().prop_map(Fact::Object),
        2 => policies().prop_map(Fact::Object),
        2 => (select(NAMESPACES.to_vec()), any::<bool>()).prop_map(|(name, gold)| Fact::Namespace(name, gold)),
        1 => pods(),
        1 => (select(vec!["one/m0", "two/m1"]), 0..3u8).prop_map(|(name, verifier)| Fact::Credentials(name, verifier)),
    ]
}

fn empty() -> Directory {
    let ranges = ClusterRanges { nodes: vec!["10.1.0.0/24".parse().unwrap()], ..ClusterRanges::default() };
    Directory::new(Options { default_server: Some(default_server()), ranges, ..Options::default() })
}

/// All that can be seen of an index.
fn view(directory: &Directory) -> BTreeMap<String, String> {
    let reports = directory.objects().into_iter().map(|key| (key.to_string(), format!("{:?}", directory.report(&key))));
    let contents = directory.servers().map(|server| {
        let content = (
            directory.domain_configs(server, None).collect::<Vec<_>>(),
            directory.relay_rules(server).collect::<Vec<_>>(),
            directory.records(server, None).collect::<Vec<_>>(),
        );
        (format!("content of {server}"), format!("{content:?}"))
    });
    reports.chain(contents).collect()
}

/// What the index must look like: the facts told one after the other to an empty one, the last of each name, in an order
/// that is always the same.
fn told_in_order(facts: &BTreeMap<String, Fact>) -> Directory {
    let mut directory = empty();
    for fact in facts.values() {
        fact.tell(&mut directory);
    }
    directory
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_where_its_last_facts_lead(history in history(fact(), 40)) {
        follow(Vec::new(), history)?;
    }

    #[test]
    fn aliases_that_come_and_go_on_circles_end_alike(history in history(circular(), 20)) {
        let server = object(
            Kind::MailServer, "mail/default", 0,
            json!({"hostname": "mx.example.net", "allowedNamespaces": {"from": "All"}}),
        );
        let domain = object(
            Kind::MailDomain, "one/d0", 0,
            json!({"domain": "a.example", "allowedNamespaces": {"from": "All"}}),
        );
        follow(vec![Fact::Object(server), Fact::Object(domain)], history)?;
    }

    #[test]
    fn whatever_is_accepted_makes_a_configuration_that_the_server_reads(
        facts in proptest::collection::vec(fact(), 1..40),
    ) {
        let mut directory = empty();
        for fact in &facts {
            fact.tell(&mut directory);
        }
        for server in directory.servers() {
            if directory.accepted_server(server).is_some() {
                let bundle = crate::render::bundle(&directory, server).unwrap();
                let read = paquebot_config::Configuration::read(bundle.files(), "0.1.0");
                prop_assert!(read.is_ok(), "{:?}", read.err());
            }
        }
    }
}

/// A fact, and perhaps an earlier one that is taken back after it.
type Step = (Fact, Option<Index>);

fn history(fact: impl Strategy<Value = Fact>, longest: usize) -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((fact, proptest::option::weighted(0.2, any::<Index>())), 1..longest)
}

/// Aliases of one domain that name each other, and a MailDomain whose role and limit move among them.
fn circular() -> impl Strategy<Value = Fact> {
    let target =
        select(vec!["a@a.example", "b@a.example", "c@a.example", "postmaster@a.example", "x@elsewhere.example"])
            .prop_map(|address| json!({"address": address}));
    let targets = proptest::collection::vec(target, 1..3).prop_map(Value::Array);
    let alias = (0..4u8, 0..4u8, select(vec!["a", "b", "c"]), targets.clone()).prop_map(
        |(number, created, local_part, targets)| {
            alias(&format!("one/l{number}"), created, "one/d0", local_part, targets)
        },
    );
    let domain = (proptest::option::of(1..4u8), proptest::option::of(targets)).prop_map(|(limit, postmaster)| {
        let mut spec = json!({"domain": "a.example", "allowedNamespaces": {"from": "All"}, "limits": {}});
        if let Some(limit) = limit {
            spec["limits"]["maxAliases"] = json!(limit);
        }
        if let Some(postmaster) = postmaster {
            spec["roles"] = json!({"postmaster": postmaster});
        }
        object(Kind::MailDomain, "one/d0", 0, spec)
    });
    prop_oneof![4 => alias, 1 => domain].prop_map(Fact::Object)
}

/// Tells a history, and compares after each step with an index that was told only what is left of it.
fn follow(start: Vec<Fact>, history: Vec<Step>) -> Result<(), TestCaseError> {
    let mut directory = empty();
    let mut last: BTreeMap<String, Fact> = BTreeMap::new();
    let mut bundles: BTreeMap<NamespacedName, paquebot_config::Bundle> = BTreeMap::new();
    let steps = start.into_iter().map(|fact| (fact, None)).chain(history);
    for (fact, taken_back) in steps.filter(|(fact, _)| !matches!(fact, Fact::Credentials(..))) {
        let before = view(&directory);
        let changes = fact.tell(&mut directory);
        last.insert(fact.name(), fact);
        check_changes(&before, &view(&directory), &changes)?;
        check_bundles(&mut bundles, &directory, changes)?;
        if let Some(index) = taken_back {
            let before = view(&directory);
            let name = index.get(&last.keys().cloned().collect::<Vec<_>>()).clone();
            if let Some(fact) = last.remove(&name) {
                let changes = fact.take_back(&mut directory);
                check_changes(&before, &view(&directory), &changes)?;
                check_bundles(&mut bundles, &directory, changes)?;
            }
        }
        prop_assert_eq!(view(&directory), view(&told_in_order(&last)));
    }
    for fact in last.into_values() {
        fact.take_back(&mut directory);
    }
    prop_assert!(directory.is_blank(), "something remains: {:?}", directory);
    Ok(())
}

/// Whatever looks different after a call is named in its changes.
fn check_changes(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
    changes: &Changes,
) -> Result<(), TestCaseError> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names.into_iter().filter(|name| before.get(*name) != after.get(*name)) {
        let told = match name.strip_prefix("content of ") {
            Some(server) => changes.servers.contains_key(&NamespacedName::parse(server).unwrap()),
            None => {
                let counted = changes.counted.iter().map(|domain| ObjectKey::new(Kind::MailDomain, domain.clone()));
                changes.statuses.iter().cloned().chain(counted).any(|key| key.to_string() == *name)
            }
        };
        prop_assert!(
            told,
            "{} has changed from {:?} to {:?}, and nobody is told: {:?}",
            name,
            before.get(name),
            after.get(name),
            changes
        );
    }
    Ok(())
}

/// A configuration that follows the changes is that which would be rendered from scratch.
fn check_bundles(
    bundles: &mut BTreeMap<NamespacedName, paquebot_config::Bundle>,
    directory: &Directory,
    changes: Changes,
) -> Result<(), TestCaseError> {
    for (server, dirty) in changes.servers {
        let whole = crate::render::bundle(directory, &server).ok();
        match (bundles.remove(&server), whole) {
            (Some(mut bundle), Some(whole)) => {
                crate::render::refresh(&mut bundle, directory, &server, &dirty).unwrap();
                prop_assert!(bundle.files() == whole.files() && bundle.index() == whole.index(), "{dirty:?}");
                bundles.insert(server, bundle);
            }
            (_, Some(whole)) => drop(bundles.insert(server, whole)),
            (_, None) => {}
        }
    }
    Ok(())
}

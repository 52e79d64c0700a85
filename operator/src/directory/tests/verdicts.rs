//! One sentence for each rule of acceptance.

use super::*;

/// Objects, the object in question, the reason that is expected, and words of the message.
struct Case {
    rule: &'static str,
    objects: Vec<Object>,
    about: (Kind, &'static str),
    reason: &'static str,
    words: &'static [&'static str],
}

fn check(cases: Vec<Case>) {
    for Case { rule, objects, about: (kind, name), reason: expected, words } in cases {
        let directory = directory(objects);
        let message = message(&directory, kind, name);
        assert_eq!(reason(&directory, kind, name), expected, "{rule}: {message}");
        for word in words {
            assert!(message.contains(word), "{rule}: {word:?} is not in {message:?}");
        }
    }
}

fn case(
    rule: &'static str,
    about: (Kind, &'static str),
    reason: &'static str,
    words: &'static [&'static str],
    objects: Vec<Object>,
) -> Case {
    Case { rule, objects, about, reason, words }
}

/// mail/default with one/d for server1.com, and more.
fn served(more: Vec<Object>) -> Vec<Object> {
    [server("mail/default"), domain("one/d", 1, "server1.com", json!({}))].into_iter().chain(more).collect()
}

#[test]
fn a_server_with_domains_mailboxes_and_aliases_is_served() {
    let directory = directory([
        server("mail/default"),
        domain("one/d", 1, "server1.com", json!({"roles": {"postmaster": [{"mailboxRef": {"name": "tom"}}]}})),
        domain("two/d", 1, "server2.com", json!({})),
        mailbox("one/tom", 2, "one/d", "tom", json!({})),
        mailbox("one/anna", 2, "one/d", "anna", json!({})),
        mailbox("two/jack", 2, "two/d", "jack", json!({})),
        alias("one/all", 3, "one/d", "all", json!([{"mailboxRef": {"name": "tom"}}, {"address": "jack@server2.com"}])),
    ]);
    let expected = [
        ("all@server1.com", "jack@server2.com tom@server1.com"),
        ("anna@server1.com", "mailbox"),
        ("jack@server2.com", "mailbox"),
        ("postmaster@server1.com", "tom@server1.com"),
        ("tom@server1.com", "mailbox"),
    ];
    let expected: BTreeMap<String, String> = expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    assert_eq!(lines(&directory), expected);
    for key in directory.objects() {
        assert!(directory.report(&key).unwrap().verdict.is_accepted(), "{key}");
    }
    let details = directory.report(&key(Kind::MailDomain, "one/d")).unwrap().details;
    let server = Some(default_server());
    assert_eq!(details, Details::MailDomain { server, mailboxes: 2, aliases: 1 }, "a role is not counted");
}

#[test]
fn servers_and_domains() {
    use Kind::{MailDomain, MailServer};
    let own = |allowed: Value| {
        object(MailServer, "mail/default", 0, json!({"hostname": "a.example", "allowedNamespaces": allowed}))
    };
    let at = |name: &str, namespace: &str| json!({"serverRef": {"name": name, "namespace": namespace}});
    check(vec![
        case(
            "a field that must not be passed over refuses the server",
            (MailServer, "mail/default"),
            "InvalidSpec",
            &["operations.paused"],
            vec![object(
                MailServer,
                "mail/default",
                0,
                json!({"hostname": "a.example", "operations": {"paused": true}}),
            )],
        ),
        case(
            "a field without effect is named",
            (MailServer, "mail/default"),
            "Accepted",
            &["dns.mode"],
            vec![object(
                MailServer,
                "mail/default",
                0,
                json!({"hostname": "a.example", "dns": {"mode": "ExternalDNS"}}),
            )],
        ),
        case(
            "a server's name must do for a Service",
            (MailServer, "mail/mx.one"),
            "InvalidSpec",
            &["begins with a letter"],
            vec![server("mail/mx.one")],
        ),
        case(
            "a domain needs its server",
            (MailDomain, "one/d"),
            "ServerNotFound",
            &["MailServer mail/missing", "create it"],
            vec![domain("one/d", 1, "a.example", at("missing", "mail"))],
        ),
        case(
            "a server that admits its own namespace only admits it",
            (MailDomain, "mail/d"),
            "Accepted",
            &[],
            vec![own(json!({"from": "Same"})), domain("mail/d", 1, "a.example", json!({}))],
        ),
        case(
            "and no other",
            (MailDomain, "one/d"),
            "NamespaceNotAllowed",
            &["mail/default", "namespace one", "spec.allowedNamespaces"],
            vec![own(json!({"from": "Same"})), domain("one/d", 1, "a.example", json!({}))],
        ),
        case(
            "a namespace whose labels are unknown matches no selector",
            (MailDomain, "one/d"),
            "NamespaceNotAllowed",
            &[],
            vec![own(json!({"from": "Selector", "selector": {}})), domain("one/d", 1, "a.example", json!({}))],
        ),
        case(
            "the older of two domains wins",
            (MailDomain, "one/new"),
            "DomainConflict",
            &["one/old", "a.example"],
            vec![
                server("mail/default"),
                domain("one/new", 2, "a.example", json!({})),
                domain("one/old", 1, "a.example", json!({})),
            ],
        ),
        case(
            "on one age the name decides",
            (MailDomain, "one/b"),
            "DomainConflict",
            &["one/a"],
            vec![
                server("mail/default"),
                domain("one/b", 1, "a.example", json!({})),
                domain("one/a", 1, "a.example", json!({})),
            ],
        ),
        case(
            "over all servers",
            (MailDomain, "two/d"),
            "DomainConflict",
            &[],
            vec![
                server("mail/default"),
                server("two/own"),
                domain("one/d", 1, "a.example", json!({})),
                domain("two/d", 2, "a.example", at("own", "two")),
            ],
        ),
        case(
            "an older one that is not admitted takes nothing away",
            (MailDomain, "one/new"),
            "Accepted",
            &[],
            vec![
                server("mail/default"),
                domain("one/old", 1, "a.example", at("missing", "mail")),
                domain("one/new", 2, "a.example", json!({})),
            ],
        ),
        case(
            "nobody for postmaster is said, not refused",
            (MailDomain, "one/d"),
            "Accepted",
            &["postmaster@server1.com", "spec.roles.postmaster"],
            served(vec![]),
        ),
        case(
            "a mailbox postmaster is somebody",
            (MailDomain, "one/d"),
            "Accepted",
            &["serves server1.com."],
            served(vec![mailbox("one/p", 2, "one/d", "postmaster", json!({}))]),
        ),
        case(
            "a catch-all that is missing is said",
            (MailDomain, "one/d"),
            "Accepted",
            &["one/nobody", "does not exist"],
            vec![
                server("mail/default"),
                domain("one/d", 1, "a.example", json!({"catchAll": {"mailboxRef": {"name": "nobody"}}})),
            ],
        ),
        case(
            "suspension is said",
            (MailDomain, "one/d"),
            "Accepted",
            &["suspended"],
            vec![server("mail/default"), domain("one/d", 1, "a.example", json!({"suspended": true}))],
        ),
    ]);
}

#[test]
fn an_older_domain_of_another_namespace_is_not_named() {
    let directory = directory([
        server("mail/default"),
        domain("secret/d", 1, "a.example", json!({})),
        domain("one/d", 2, "a.example", json!({})),
    ]);
    let message = message(&directory, Kind::MailDomain, "one/d");
    assert_eq!(reason(&directory, Kind::MailDomain, "one/d"), "DomainConflict");
    assert!(!message.contains("secret"), "{message}");
}

#[test]
fn mailboxes() {
    use Kind::Mailbox;
    let limited = |limits: Value| {
        vec![
            server("mail/default"),
            domain("one/d", 1, "a.example", json!({"limits": limits, "allowedNamespaces": {"from": "All"}})),
        ]
    };
    let with = |mut objects: Vec<Object>, more: Vec<Object>| {
        objects.extend(more);
        objects
    };
    check(vec![
        case(
            "a mailbox needs its domain",
            (Mailbox, "one/m"),
            "DomainNotFound",
            &["MailDomain one/d", "create it"],
            vec![mailbox("one/m", 1, "one/d", "a", json!({}))],
        ),
        case(
            "which must be accepted itself",
            (Mailbox, "one/m"),
            "DomainNotFound",
            &["not accepted itself"],
            vec![domain("one/d", 1, "a.example", json!({})), mailbox("one/m", 1, "one/d", "a", json!({}))],
        ),
        case(
            "and admit its namespace",
            (Mailbox, "two/m"),
            "NamespaceNotAllowed",
            &["MailDomain one/d", "namespace two"],
            served(vec![mailbox("two/m", 2, "one/d", "a", json!({}))]),
        ),
        case(
            "the older of two mailboxes has the address",
            (Mailbox, "one/new"),
            "AddressConflict",
            &["Mailbox one/old", "a@server1.com"],
            served(vec![
                mailbox("one/new", 3, "one/d", "a", json!({})),
                mailbox("one/old", 2, "one/d", "a", json!({})),
            ]),
        ),
        case(
            "aliases share the addresses",
            (Mailbox, "one/new"),
            "AddressConflict",
            &["MailAlias one/old"],
            served(vec![
                mailbox("one/new", 3, "one/d", "a", json!({})),
                alias("one/old", 2, "one/d", "a", json!([{"address": "x@y.example"}])),
            ]),
        ),
        case(
            "a limit leaves room to the older",
            (Mailbox, "one/old"),
            "Accepted",
            &[],
            with(
                limited(json!({"maxMailboxes": 1})),
                vec![mailbox("one/new", 3, "one/d", "b", json!({})), mailbox("one/old", 2, "one/d", "a", json!({}))],
            ),
        ),
        case(
            "and none to the younger",
            (Mailbox, "one/new"),
            "LimitExceeded",
            &["one/d", "1 mailboxes", "maxMailboxes"],
            with(
                limited(json!({"maxMailboxes": 1})),
                vec![mailbox("one/new", 3, "one/d", "b", json!({})), mailbox("one/old", 2, "one/d", "a", json!({}))],
            ),
        ),
        case(
            "a quota stays below the domain's",
            (Mailbox, "one/m"),
            "QuotaExceedsDomainLimit",
            &["2Gi", "1Gi", "spec.limits.maxQuota"],
            with(limited(json!({"maxQuota": "1Gi"})), vec![mailbox("one/m", 2, "one/d", "a", json!({"quota": "2Gi"}))]),
        ),
        case(
            "a field that must not be passed over refuses the mailbox",
            (Mailbox, "one/m"),
            "InvalidSpec",
            &["spec.filter"],
            served(vec![mailbox("one/m", 2, "one/d", "a", json!({"filter": {"sieve": "keep;"}}))]),
        ),
        case(
            "what a role of the domain names is the role's",
            (Mailbox, "one/m"),
            "AddressConflict",
            &["spec.roles.postmaster", "one/d"],
            vec![
                server("mail/default"),
                domain("one/d", 9, "a.example", json!({"roles": {"postmaster": [{"address": "x@y.example"}]}})),
                mailbox("one/m", 1, "one/d", "postmaster", json!({})),
            ],
        ),
        case(
            "unless it names this very mailbox",
            (Mailbox, "one/m"),
            "Accepted",
            &[],
            vec![
                server("mail/default"),
                domain("one/d", 9, "a.example", json!({"roles": {"postmaster": [{"mailboxRef": {"name": "m"}}]}})),
                mailbox("one/m", 1, "one/d", "postmaster", json!({})),
            ],
        ),
        case(
            "nobody may send as a domain that does not admit them",
            (Mailbox, "one/m"),
            "Accepted",
            &["spec.sendAs", "boss@b.example"],
            served(vec![
                domain("two/d", 1, "b.example", json!({})),
                mailbox("one/m", 2, "one/d", "a", json!({"sendAs": {"allowed": ["boss@b.example"]}})),
            ]),
        ),
        case(
            "suspension is said",
            (Mailbox, "one/m"),
            "Accepted",
            &["suspended"],
            served(vec![mailbox("one/m", 2, "one/d", "a", json!({"suspended": true}))]),
        ),
    ]);
}

#[test]
fn aliases() {
    use Kind::{MailAlias, MailDomain};
    let to = |address: &str| json!([{"address": address}]);
    check(vec![
        case(
            "an alias to somewhere else",
            (MailAlias, "one/l"),
            "Accepted",
            &["a@server1.com"],
            served(vec![alias("one/l", 2, "one/d", "a", to("x@y.example"))]),
        ),
        case(
            "a mailbox that is missing leaves nobody",
            (MailAlias, "one/l"),
            "InvalidSpec",
            &["Mailbox one/m", "nobody receives it"],
            served(vec![alias("one/l", 2, "one/d", "a", json!([{"mailboxRef": {"name": "m"}}]))]),
        ),
        case(
            "or the others",
            (MailAlias, "one/l"),
            "Accepted",
            &["Mailbox one/m", "the other targets"],
            served(vec![alias(
                "one/l",
                2,
                "one/d",
                "a",
                json!([{"mailboxRef": {"name": "m"}}, {"address": "x@y.example"}]),
            )]),
        ),
        case(
            "an alias to itself",
            (MailAlias, "one/l"),
            "AliasLoop",
            &["a@server1.com"],
            served(vec![alias("one/l", 2, "one/d", "a", to("a@server1.com"))]),
        ),
        case(
            "a circle of two",
            (MailAlias, "one/l"),
            "AliasLoop",
            &[],
            served(vec![
                alias("one/l", 2, "one/d", "a", to("B@server1.com")),
                alias("one/k", 2, "one/d", "b", to("a@server1.com")),
            ]),
        ),
        case(
            "a way into a circle is not on it",
            (MailAlias, "one/l"),
            "Accepted",
            &[],
            served(vec![
                alias("one/l", 2, "one/d", "a", to("b@server1.com")),
                alias("one/k", 2, "one/d", "b", to("b@server1.com")),
            ]),
        ),
        case(
            "a circle through a role",
            (MailAlias, "one/l"),
            "AliasLoop",
            &[],
            vec![
                server("mail/default"),
                domain("one/d", 1, "a.example", json!({"roles": {"abuse": [{"address": "a@a.example"}]}})),
                alias("one/l", 2, "one/d", "a", to("abuse@a.example")),
            ],
        ),
        case(
            "is said at the domain too",
            (MailDomain, "one/d"),
            "Accepted",
            &["abuse@a.example leads back to itself"],
            vec![
                server("mail/default"),
                domain("one/d", 1, "a.example", json!({"roles": {"abuse": [{"address": "a@a.example"}]}})),
                alias("one/l", 2, "one/d", "a", to("abuse@a.example")),
            ],
        ),
        case(
            "aliases have a limit of their own",
            (MailAlias, "one/l"),
            "LimitExceeded",
            &["0 aliases", "maxAliases"],
            vec![
                server("mail/default"),
                domain("one/d", 1, "a.example", json!({"limits": {"maxAliases": 0}})),
                alias("one/l", 2, "one/d", "a", to("x@y.example")),
            ],
        ),
    ]);
}

#[test]
fn a_role_that_names_nobody_is_said() {
    let roles = json!({"roles": {"postmaster": [{"mailboxRef": {"name": "tom"}}]}});
    let mut directory = directory([server("mail/default"), domain("one/d", 1, "a.example", roles)]);
    let before = message(&directory, Kind::MailDomain, "one/d");
    assert!(
        before.contains("Mailbox one/tom") && before.contains("Nobody receives mail for postmaster@a.example"),
        "{before}"
    );
    assert_eq!(lines(&directory), BTreeMap::new());
    directory.apply(mailbox("one/tom", 2, "one/d", "tom", json!({})));
    assert_eq!(message(&directory, Kind::MailDomain, "one/d"), "MailServer mail/default serves a.example.");
    assert_eq!(lines(&directory)["postmaster@a.example"], "tom@a.example");
}

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
            "ServerNotFound",
            &["mail/default"],
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
            "a field that must not be passed over",
            (RelayPolicy, "one/p"),
            "InvalidSpec",
            &["spec.upstream"],
            served(vec![policy("one/p", cidr("192.0.2.0/24"), json!({"upstream": {"smartHost": "x.example"}}))]),
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

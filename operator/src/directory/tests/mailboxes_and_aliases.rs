//! One sentence for each rule about addresses.

use super::*;

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
    ]);
}

#[test]
fn mailboxes_and_what_goes_before_them() {
    use Kind::Mailbox;
    check(vec![
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
            "a domain that nobody has here lends its name by a RelayPolicy alone",
            (Mailbox, "one/m"),
            "Accepted",
            &["no effect for boss@bank.example", "a RelayPolicy in namespace mail"],
            served(vec![mailbox("one/m", 2, "one/d", "a", json!({"sendAs": {"allowed": ["boss@bank.example"]}}))]),
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

/// RFC 5321 §4.5.3.1.3: a path of more than 256 octets is none.
#[test]
fn an_address_that_no_path_can_hold_is_refused() {
    let label = "a".repeat(61);
    let long = format!("{label}.{label}.{label}.example");
    assert_eq!(long.len(), 193);
    let objects = |local: usize| {
        vec![
            server("mail/default"),
            domain("one/d", 1, &long, json!({})),
            mailbox("one/m", 2, "one/d", &"b".repeat(local), json!({})),
            alias("one/l", 3, "one/d", &"c".repeat(local), json!([{"address": "x@y.example"}])),
        ]
    };
    for (kind, name) in [(Kind::Mailbox, "one/m"), (Kind::MailAlias, "one/l")] {
        let refused = directory(objects(61));
        assert_eq!(reason(&refused, kind, name), "InvalidSpec");
        let said = message(&refused, kind, name);
        assert!(said.contains("255 octets") && said.contains("shorter spec.localPart"), "{said}");
        assert!(lines(&refused).len() < 2, "{:?}", lines(&refused));
        assert_eq!(reason(&directory(objects(60)), kind, name), "Accepted");
    }
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
fn an_alias_that_becomes_the_postmaster_is_seen_by_the_domain_and_so_is_one_that_was() {
    let targets = || json!([{"address": "help@elsewhere.example"}]);
    let mut directory = directory(served(vec![alias("one/l", 2, "one/d", "a", targets())]));
    let nobody = |directory: &Directory| message(directory, Kind::MailDomain, "one/d").contains("Nobody receives mail");
    assert!(nobody(&directory));
    let changes = directory.apply(alias("one/l", 2, "one/d", "postmaster", targets()));
    assert!(changes.statuses.contains(&key(Kind::MailDomain, "one/d")));
    assert!(!nobody(&directory));
    directory.apply(alias("one/l", 2, "one/d", "a", targets()));
    assert!(nobody(&directory));
}

#[test]
fn a_subaddress_that_is_refused_takes_no_place_and_keeps_no_address() {
    let open = json!({"allowedNamespaces": {"from": "All"}, "limits": {"maxMailboxes": 2}});
    let mut directory = directory(served(vec![
        domain("one/d", 1, "a.example", open.clone()),
        mailbox("good/anna", 2, "one/d", "anna", json!({})),
        mailbox("hostile/news", 3, "one/d", "anna+news", json!({})),
        mailbox("good/tom", 4, "one/d", "tom", json!({})),
    ]));
    assert_eq!(reason(&directory, Kind::Mailbox, "hostile/news"), "AddressConflict");
    assert_eq!(reason(&directory, Kind::Mailbox, "good/tom"), "Accepted", "there are two places");
    directory.delete(&key(Kind::Mailbox, "good/tom"));
    directory.apply(mailbox("good/news", 5, "one/d", "anna+news", json!({})));
    assert_eq!(reason(&directory, Kind::Mailbox, "good/news"), "Accepted", "within one namespace it may be divided");

    // The base goes, and the oldest claim counts; it comes back as a younger one, and changes nothing.
    directory.delete(&key(Kind::Mailbox, "good/anna"));
    assert_eq!(reason(&directory, Kind::Mailbox, "hostile/news"), "Accepted");
    assert_eq!(reason(&directory, Kind::Mailbox, "good/news"), "AddressConflict");
    directory.apply(mailbox("good/anna", 6, "one/d", "anna", json!({})));
    assert_eq!(reason(&directory, Kind::Mailbox, "hostile/news"), "Accepted");
    directory.delete(&key(Kind::Mailbox, "good/anna"));
    directory.apply(mailbox("good/anna", 2, "one/d", "anna", json!({})));
    assert_eq!(reason(&directory, Kind::Mailbox, "hostile/news"), "AddressConflict");
    // Where nothing is divided, it is an address like any other.
    let whole = json!({"allowedNamespaces": {"from": "All"}, "subaddressing": {"mode": "Disabled"}});
    directory.apply(domain("one/d", 1, "a.example", whole));
    assert_eq!(reason(&directory, Kind::Mailbox, "hostile/news"), "Accepted");
    directory.apply(domain("one/d", 1, "a.example", open));
    assert_eq!(reason(&directory, Kind::Mailbox, "hostile/news"), "AddressConflict");
    for name in ["good/anna", "hostile/news", "good/news"] {
        directory.delete(&key(Kind::Mailbox, name));
    }
    assert!(directory.links.details.keys().next().is_none());
}

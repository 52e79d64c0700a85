//! One sentence for each rule about MailServers and MailDomains.

use super::*;

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
            &["outbound.dane"],
            vec![object(
                MailServer,
                "mail/default",
                0,
                json!({"hostname": "a.example", "outbound": {"dane": {"mode": "Enabled"}}}),
            )],
        ),
        case(
            "a resolver is an address, with or without port",
            (MailServer, "mail/default"),
            "InvalidSpec",
            &["spec.dns.resolvers has dns.google"],
            vec![object(
                MailServer,
                "mail/default",
                0,
                json!({"hostname": "a.example", "dns": {"resolvers": ["192.0.2.1:5353", "2001:db8::1", "dns.google"]}}),
            )],
        ),
        case(
            "a field without effect is named",
            (MailDomain, "one/d"),
            "Accepted",
            &["dns.mtaSTS"],
            vec![
                server("mail/default"),
                domain("one/d", 1, "a.example", json!({"dns": {"mtaSTS": {"mode": "Enforce"}}})),
            ],
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
            &["MailServer one/missing", "create it"],
            vec![domain("one/d", 1, "a.example", at("missing", "one"))],
        ),
        case(
            "and is not told whether another namespace has one",
            (MailDomain, "one/d"),
            "NamespaceNotAllowed",
            &["There is no MailServer mail/missing that admits", "namespace one", "create it"],
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
    ]);
}

#[test]
fn domains_in_conflict() {
    use Kind::MailDomain;
    let at = |name: &str, namespace: &str| json!({"serverRef": {"name": name, "namespace": namespace}});
    check(vec![
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
    ]);
}

#[test]
fn remarks_on_domains() {
    use Kind::MailDomain;
    check(vec![
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

/// The server has to know it also while the domain has no mailbox.
#[test]
fn the_line_of_a_domain_says_whose_it_is_and_follows_its_holder() {
    let mut directory = directory([
        server("mail/default"),
        domain("two/d", 2, "a.example", json!({})),
        domain("one/d", 1, "a.example", json!({})),
    ]);
    let tenants = |directory: &Directory| -> Vec<String> {
        let server = default_server();
        directory.domain_configs(&server, None).map(|config| config.into_inner().tenant.clone()).collect()
    };
    assert_eq!(tenants(&directory), ["one"]);
    let changes = directory.delete(&key(Kind::MailDomain, "one/d"));
    assert_eq!(tenants(&directory), ["two"]);
    let shards = &changes.servers[&default_server()].shards;
    assert!(shards.contains(&paquebot_config::ShardName::of("a.example")), "{shards:?}");
}

#[test]
fn the_host_name_of_a_server_is_its_own_namespaces() {
    let mut directory =
        directory([domain("one/d", 1, "mx.example.net", json!({})), domain("mail/d", 2, "mx.example.net", json!({}))]);
    let changes = directory.apply(server("mail/default"));
    assert!(changes.statuses.contains(&key(Kind::MailDomain, "one/d")));
    assert_eq!(reason(&directory, Kind::MailDomain, "one/d"), "DomainConflict");
    assert_eq!(reason(&directory, Kind::MailDomain, "mail/d"), "Accepted", "the tenant's claim keeps it from nobody");
    let words = message(&directory, Kind::MailDomain, "one/d");
    assert!(words.contains("host name of a MailServer of another namespace") && !words.contains("mail/"), "{words}");
    // Another server of that name takes nothing from the older one's owner.
    let spec = json!({"hostname": "mx.example.net"});
    directory.apply(object(Kind::MailServer, "one/own", 9, spec));
    assert_eq!(reason(&directory, Kind::MailDomain, "one/d"), "DomainConflict");
    // It heals.
    let spec = json!({"hostname": "mx2.example.net", "allowedNamespaces": {"from": "All"}});
    directory.apply(object(Kind::MailServer, "mail/default", 0, spec));
    assert_eq!(reason(&directory, Kind::MailDomain, "one/d"), "Accepted");
    directory.apply(server("mail/default"));
    assert_eq!(reason(&directory, Kind::MailDomain, "one/d"), "DomainConflict");
}

#[test]
fn a_younger_server_takes_no_domain_by_its_host_name() {
    let mut directory = directory([server("mail/default"), domain("one/d", 1, "a.example", json!({}))]);
    directory.apply(object(Kind::MailServer, "two/own", 2, json!({"hostname": "a.example"})));
    assert_eq!(reason(&directory, Kind::MailDomain, "one/d"), "Accepted");
    // But whoever serves the domain has the name of his server.
    let spec = json!({"hostname": "a.example", "allowedNamespaces": {"from": "All"}});
    directory.apply(object(Kind::MailServer, "mail/default", 3, spec));
    assert_eq!(reason(&directory, Kind::MailDomain, "one/d"), "DomainConflict");
}

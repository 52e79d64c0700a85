//! That what objects say of their mail is so: suspension, rings of forwardings, quotas, and what is nobody else's to know.

use super::*;

fn verdict(directory: &Directory, kind: Kind, name: &str) -> Verdict {
    directory.report(&key(kind, name)).unwrap().verdict
}

#[test]
fn mailboxes_and_aliases_say_that_their_domain_is_suspended_and_follow_it() {
    let targets = json!([{"address": "x@y.example"}]);
    let mut directory =
        directory(served(vec![mailbox("one/m", 2, "one/d", "a", json!({})), alias("one/l", 3, "one/d", "l", targets)]));
    for suspended in [true, false, true] {
        let changes = directory.apply(domain("one/d", 1, "server1.com", json!({"suspended": suspended})));
        for (kind, name) in [(Kind::Mailbox, "one/m"), (Kind::MailAlias, "one/l")] {
            assert!(changes.statuses.contains(&key(kind, name)), "{name} is told of it");
            let verdict = verdict(&directory, kind, name);
            assert!(matches!(&verdict, Verdict::Accepted { suspended: said, .. } if *said == suspended), "{verdict:?}");
            let says = verdict.message().contains("MailDomain one/d is suspended: mail for it is refused for now");
            assert_eq!(says, suspended, "{}", verdict.message());
        }
    }
}

#[test]
fn a_mailbox_whose_forwarding_leads_back_is_on_a_loop_and_its_owner_still_reads_his_mail() {
    let ring = |to: &str, keep: bool| json!({"forwarding": {"to": [to], "keepCopy": keep}});
    let mut directory = directory(served(vec![
        mailbox("one/a", 2, "one/d", "a", ring("b@server1.com", false)),
        mailbox("one/b", 3, "one/d", "b", ring("a@server1.com", false)),
    ]));
    for name in ["one/a", "one/b"] {
        assert_eq!(reason(&directory, Kind::Mailbox, name), "AliasLoop");
        assert!(message(&directory, Kind::Mailbox, name).contains("set keepCopy"));
        assert!(directory.place(&key(Kind::Mailbox, name)).is_some(), "it stays with the server");
    }
    directory.apply(mailbox("one/b", 3, "one/d", "b", ring("a@server1.com", true)));
    for name in ["one/a", "one/b"] {
        assert_eq!(reason(&directory, Kind::Mailbox, name), "Accepted", "{name}");
    }
}

/// The CustomResourceDefinition refuses these; objects that are there already stay.
#[test]
fn a_mailbox_in_which_nothing_fits_is_refused_and_names_the_field() {
    for (limits, quota, field) in [
        (json!({}), Some("0Gi"), "spec.quota"),
        (json!({"defaultQuota": "0"}), None, "spec.limits.defaultQuota of MailDomain one/d"),
        (json!({"maxQuota": 0}), None, "spec.limits.maxQuota of MailDomain one/d"),
        (json!({"maxQuota": "0.0"}), Some("1Gi"), "spec.limits.maxQuota of MailDomain one/d"),
    ] {
        let spec = quota.map_or(json!({}), |quota| json!({"quota": quota}));
        let objects = |limits: &Value| {
            vec![
                server("mail/default"),
                domain("one/d", 1, "server1.com", json!({"limits": limits})),
                mailbox("one/m", 2, "one/d", "a", spec.clone()),
            ]
        };
        let mut directory = directory(objects(&limits));
        assert_eq!(reason(&directory, Kind::Mailbox, "one/m"), "InvalidSpec");
        let said = message(&directory, Kind::Mailbox, "one/m");
        assert!(said.starts_with(&format!("{field} is 0")), "{said}");
        directory.apply(domain("one/d", 1, "server1.com", json!({"limits": {"maxQuota": "2Gi"}})));
        directory.apply(mailbox("one/m", 2, "one/d", "a", json!({})));
        assert_eq!(reason(&directory, Kind::Mailbox, "one/m"), "Accepted");
    }
}

#[test]
fn whether_an_object_of_another_namespace_is_there_is_told_to_nobody_whom_it_does_not_admit() {
    let private = object(Kind::MailServer, "mail/private", 0, json!({"hostname": "mx2.example.net"}));
    let on = |server: &str| json!({"serverRef": {"name": server, "namespace": "mail"}});
    let directory = directory(served(vec![
        private,
        domain("two/there", 2, "a.example", on("private")),
        domain("two/absent", 2, "b.example", on("nothing")),
        mailbox("two/there", 3, "one/d", "a", json!({})),
        mailbox("two/absent", 3, "one/nothing", "a", json!({})),
        mailbox("one/own", 3, "one/nothing", "a", json!({})),
    ]));
    for (kind, there, absent) in [(Kind::MailDomain, "private", "nothing"), (Kind::Mailbox, "one/d", "one/nothing")] {
        let words = |name: &str, named: &str| message(&directory, kind, name).replace(named, "NAME");
        assert_eq!(words("two/there", there), words("two/absent", absent));
        for name in ["two/there", "two/absent"] {
            assert_eq!(reason(&directory, kind, name), "NamespaceNotAllowed");
        }
    }
    assert_eq!(reason(&directory, Kind::Mailbox, "one/own"), "DomainNotFound", "one's own one may see");
}

#[test]
fn a_sentence_has_one_end() {
    let directory = directory(served(vec![mailbox("one/m", 2, "one/d", "a", json!({"filter": {"sieve": "}"}}))]));
    let report = directory.report(&key(Kind::Mailbox, "one/m")).unwrap();
    let Details::Mailbox { filter: FilterReport::Failed(failure), .. } = report.details else { panic!("{report:?}") };
    assert!(failure.message.contains("too many? Until"), "{}", failure.message);
    for (text, whole) in [("put it back.", "put it back."), ("it is away", "it is away."), ("why?", "why?")] {
        assert_eq!(sentence(text), whole);
    }
}

/// The server expands a recipient to a thousand addresses and refuses what stands for more (550 5.2.4).
#[test]
fn an_alias_that_stands_for_too_many_says_so_whatever_came_first() {
    let many = |group: usize| {
        let named = |number| json!({"address": format!("p{group}-{number}@elsewhere.example")});
        (0..50).map(named).collect::<Vec<_>>()
    };
    let groups = |count: usize| {
        let named = |group| json!({"address": format!("group{group}@server1.com")});
        (0..count).map(named).collect::<Vec<_>>()
    };
    let leaf = |group: usize| alias(&format!("one/g{group}"), 3, "one/d", &format!("group{group}"), json!(many(group)));
    let top = |count: usize| alias("one/top", 2, "one/d", "top", json!(groups(count)));
    let above = alias("one/above", 2, "one/d", "above", json!([{"address": "top+x@server1.com"}]));
    let mut late = directory(served(vec![above.clone(), top(20)]));
    let early = directory(served((0..20).map(leaf).chain([top(20), above.clone()]).collect()));
    for group in 0..20 {
        assert_eq!(reason(&late, Kind::MailAlias, "one/top"), "Accepted", "{group} groups are there");
        late.apply(leaf(group));
    }
    for directory in [&late, &early] {
        for name in ["one/top", "one/above"] {
            assert_eq!(reason(directory, Kind::MailAlias, name), "LimitExceeded", "{name}");
            assert!(message(directory, Kind::MailAlias, name).contains("name fewer in spec.targets"));
            assert!(directory.place(&key(Kind::MailAlias, name)).is_none());
        }
        assert_eq!(reason(directory, Kind::MailAlias, "one/g1"), "Accepted");
    }
    late.apply(top(18));
    assert_eq!(reason(&late, Kind::MailAlias, "one/top"), "Accepted");
    assert_eq!(reason(&late, Kind::MailAlias, "one/above"), "Accepted");
    for name in ["one/top", "one/above"] {
        late.delete(&key(Kind::MailAlias, name));
    }
    assert_eq!(late.expansions.len(), 20);
}

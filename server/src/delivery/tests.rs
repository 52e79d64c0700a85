use super::*;
use crate::smtp::testing::{address, alias, configuration, configuration_of, content};

fn expanded(recipient: &str) -> Result<(Vec<String>, Vec<String>), Undeliverable> {
    let plan = expand(&configuration(Vec::new()), &address(recipient))?;
    let local = plan.local.iter().map(|maildrop| maildrop.address.to_string()).collect();
    Ok((local, plan.remote.iter().map(ToString::to_string).collect()))
}

#[test]
fn recipients_and_what_they_stand_for() {
    let table: [(&str, &[&str], &[&str]); 13] = [
        ("anna@server1.com", &["anna@server1.com"], &[]),
        ("ANNA@Server1.com", &["anna@server1.com"], &[]),
        ("anna+news@server1.com", &["anna@server1.com"], &[]),
        ("\"anna\"@server1.com", &["anna@server1.com"], &[]),
        ("jack@server2.com", &[], &["jack@server2.com"]),
        ("postmaster@server1.com", &["anna@server1.com"], &[]),
        ("team@server1.com", &["tom@server1.com", "anna@server1.com"], &["jack@server2.com"]),
        ("away@server1.com", &[], &["jack@server2.com"]),
        ("both@server1.com", &["both@server1.com", "anna@server1.com"], &["jack@server2.com"]),
        ("self@server1.com", &["self@server1.com"], &["jack@server2.com"]),
        ("whoever@server3.com", &["all@server3.com"], &[]),
        ("half@server1.com", &["anna@server1.com"], &["ghost@server1.com"]),
        ("crew@server1.com", &["anna@server1.com"], &["eve@server1.com", "sue@suspended.example"]),
    ];
    for (recipient, local, remote) in table {
        let (found_local, found_remote) = expanded(recipient).unwrap();
        assert_eq!(
            (found_local, found_remote),
            (local.iter().map(ToString::to_string).collect(), remote.iter().map(ToString::to_string).collect()),
            "{recipient}"
        );
    }
}

#[test]
fn recipients_that_stand_for_nobody() {
    for (recipient, reason) in [
        ("ghost@server1.com", Undeliverable::Unknown),
        ("broken@server1.com", Undeliverable::Unknown),
        ("eve@server1.com", Undeliverable::Suspended),
        ("eves@server1.com", Undeliverable::Suspended),
        ("sue@suspended.example", Undeliverable::Suspended),
        ("circle@server1.com", Undeliverable::Loop),
        ("ping@server1.com", Undeliverable::Loop),
    ] {
        assert_eq!(expanded(recipient), Err(reason), "{recipient}");
    }
}

#[test]
fn an_expansion_has_a_bound() {
    let mut content = content(Vec::new());
    for number in 0..1_100 {
        let target = format!("chain{}@server1.com", number + 1);
        content.records.push(alias(&format!("chain{number}@server1.com"), &[&target]));
    }
    let many: Vec<String> = (0..1_100).map(|number| format!("user{number}@elsewhere.example")).collect();
    content.records.push(alias("list@server1.com", &many.iter().map(String::as_str).collect::<Vec<_>>()));
    let configuration = configuration_of(content);
    assert_eq!(expand(&configuration, &address("chain0@server1.com")), Err(Undeliverable::TooMany));
    assert_eq!(expand(&configuration, &address("list@server1.com")), Err(Undeliverable::TooMany));
}

#[test]
fn nobody_gets_a_message_twice() {
    let recipients =
        ["team@server1.com", "anna+x@server1.com", "jack@server2.com", "tom@server1.com", "half@server1.com"];
    let recipients: Vec<Address> = recipients.iter().map(|text| address(text)).collect();
    let plan = plan(&configuration(Vec::new()), &recipients);
    let local: Vec<String> = plan.local.iter().map(|maildrop| maildrop.address.to_string()).collect();
    assert_eq!(local, ["tom@server1.com", "anna@server1.com"]);
    assert_eq!(plan.remote, [address("jack@server2.com"), address("ghost@server1.com")]);
}

#[test]
fn each_maildrop_gets_a_return_path_and_its_quota() {
    let configuration = configuration(Vec::new());
    let sender = address("x@elsewhere.example");
    let one = local_deliveries(&plan(&configuration, &[address("full@server1.com")]), Some(&sender));
    assert_eq!(one[0].quota, Some(2_000));
    assert_eq!(&one[0].fields[..], b"Return-Path: <x@elsewhere.example>\r\n");
    let two = local_deliveries(&plan(&configuration, &[address("full@server1.com"), address("tom@server1.com")]), None);
    assert!(two.iter().all(|delivery| &delivery.fields[..] == b"Return-Path: <>\r\n"));
    assert_eq!((two[0].quota, two[1].quota), (Some(2_000), None));
}

#[test]
fn aliases_reach_mailboxes_through_aliases_only() {
    let configuration = configuration(Vec::new());
    let reaches = |text: &str, mailbox: &str| match configuration.resolve(&address(text)) {
        Resolution::Alias(alias) => alias_reaches(&configuration, alias, &address(mailbox)),
        other => panic!("{other:?}"),
    };
    assert!(reaches("team@server1.com", "tom@server1.com"));
    assert!(reaches("all-hands@server1.com", "tom@server1.com"));
    assert!(!reaches("postmaster@server1.com", "tom@server1.com"));
    assert!(!reaches("away-alias@server1.com", "jack@server2.com"));
    assert!(!reaches("circle@server1.com", "tom@server1.com"));
}

/// server1.com of this tenant, whether it has mailboxes or not.
fn owned_by(tenant: &str) -> Configuration {
    let mut content = content(Vec::new());
    for domain in content.domains.iter_mut().filter(|domain| domain.domain.as_str() == "server1.com") {
        domain.tenant = tenant.to_owned();
    }
    configuration_of(content)
}

#[test]
fn an_address_has_changed_hands_where_both_tenants_are_known() {
    let ghost = address("ghost@server1.com");
    for (before, now, expected) in [
        (Some("first"), "second", true),
        (Some("first"), "first", false),
        (Some("first"), "", false),
        (None, "second", false),
        (None, "", false),
    ] {
        assert_eq!(has_changed_hands(&owned_by(now), &ghost, before), expected, "{before:?} {now}");
    }
    let elsewhere = address("jack@server2.com");
    assert!(!has_changed_hands(&owned_by("second"), &elsewhere, Some("first")), "not served any more");
}

/// What comes of a queued message is its sender's, not his who has the sender's address by then.
#[test]
fn what_comes_of_a_message_keeps_whose_the_sender_was() {
    let configuration = owned_by("second");
    let (tom, anna) = (address("tom@server1.com"), address("anna@server1.com"));
    let sender = Sender { reverse_path: Some(&tom), tenant: Some("first") };
    assert!(sender.has_changed_hands(&configuration));
    assert!(!Sender::now(&configuration, Some(&tom)).has_changed_hands(&configuration));
    let mut recipients: Vec<RemoteRecipient> = [&tom, &anna].map(|to| to.clone().into()).into();
    sender.note_tenants(&configuration, &mut recipients);
    let tenants: Vec<_> = recipients.iter().map(|recipient| recipient.tenant.as_deref()).collect();
    assert_eq!(tenants, [Some("first"), Some("second")]);
    let derived = |reverse_path: Option<Address>| Derived {
        id: crate::store::MessageId::generate(),
        reverse_path,
        sender_tenant: None,
        trace: Bytes::new(),
        content: crate::store::Content::Same { from: 0 },
        declared: crate::store::Declared::default(),
        local: Vec::new(),
        remote: vec![tom.clone().into()],
    };
    let mut all = [Some(tom.clone()), Some(anna), Some(address("jack@server2.com")), None].map(derived);
    sender.note_tenants_of_derived(&configuration, &mut all);
    let tenants = all.each_ref().map(|derived| derived.sender_tenant.as_deref());
    assert_eq!(tenants, [Some("first"), Some("second"), None, None]);
    assert!(all.iter().all(|derived| derived.remote[0].tenant.as_deref() == Some("first")));
}

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

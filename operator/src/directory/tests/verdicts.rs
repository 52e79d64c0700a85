//! One sentence for each rule of acceptance.

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
    let Some(Report { details: Details::MailDomain { mailboxes, aliases, .. }, .. }) =
        directory.report(&key(Kind::MailDomain, "one/d"))
    else {
        panic!("no report")
    };
    assert_eq!((mailboxes, aliases), (2, 1));
}

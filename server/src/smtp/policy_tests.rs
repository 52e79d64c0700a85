use super::*;
use crate::smtp::testing::{address, configuration, configuration_of, content, domain};

fn said<T>(result: Result<T, Reply>) -> String {
    result.map_or_else(|reply| format!("{} {}", reply.code(), reply.enhanced().unwrap()), |_| "ok".to_owned())
}

fn stranger() -> Client<'static> {
    Client { address: "8.8.8.8".parse().unwrap(), mailbox: None }
}

fn at_rcpt(recipient_text: &str, size: Option<u64>) -> String {
    let mail = Mail { reverse_path: Some(address("x@else.example")), size, ..Mail::default() };
    let path = ForwardPath::Mailbox(address(recipient_text));
    said(recipient(&configuration(Vec::new()), stranger(), &mail, &path).map(drop))
}

#[test]
fn recipients() {
    for (recipient, size, expected) in [
        ("anna@server1.com", None, "ok"),
        ("ghost@server1.com", None, "550 5.1.1"),
        ("jack@server2.com", None, "553 5.7.1"),
        ("eve@server1.com", None, "450 4.2.1"),
        ("sue@suspended.example", None, "450 4.2.1"),
        ("circle@server1.com", None, "554 5.4.6"),
        ("sam@small.example", None, "ok"),
        ("sam@small.example", Some(300), "ok"),
        ("sam@small.example", Some(301), "552 5.3.4"),
        ("ünï@server1.com", None, "553 5.6.7"),
    ] {
        assert_eq!(at_rcpt(recipient, size), expected, "{recipient} {size:?}");
    }
}

#[test]
fn the_sentence_for_domains_that_are_not_served() {
    let mail = Mail::default();
    let path = ForwardPath::Mailbox(address("jack@server2.com"));
    let reply = recipient(&configuration(Vec::new()), stranger(), &mail, &path).unwrap_err();
    assert_eq!(reply.to_string(), "553 5.7.1 sorry, that domain is not in my list of allowed recipient domains");
}

#[test]
fn sizes_at_mail() {
    let configuration = configuration(Vec::new());
    let with = |size| said(sender(&configuration, stranger(), &Mail { size, ..Mail::default() }));
    assert_eq!(with(None), "ok");
    assert_eq!(with(Some(1 << 20)), "ok");
    assert_eq!(with(Some((1 << 20) + 1)), "552 5.3.4");
    assert_eq!(with(Some(u64::MAX)), "552 5.3.4");
}

#[test]
fn quotas() {
    for (used, size, expected) in [
        (0, None, "ok"),
        (1_999, None, "ok"),
        (2_000, None, "452 4.2.2"),
        (2_001, None, "452 4.2.2"),
        (0, Some(2_000), "ok"),
        (0, Some(2_001), "552 5.2.2"),
        (1_000, Some(1_000), "ok"),
        (1_000, Some(1_001), "452 4.2.2"),
        (u64::MAX, Some(1), "452 4.2.2"),
    ] {
        let usage = Usage { messages: 1, octets: used };
        assert_eq!(said(quota(2_000, usage, size)), expected, "{used} {size:?}");
    }
}

#[test]
fn whose_postmaster() {
    assert_eq!(postmaster(&configuration(Vec::new())), Some(address("postmaster@server1.com")));
    let mut elsewhere = content(Vec::new());
    elsewhere.server.hostname = domain("mx.provider.example");
    assert_eq!(postmaster(&configuration_of(elsewhere)), Some(address("postmaster@server1.com")));
    let mut without = content(Vec::new());
    without.records.retain(|record| record.address().local_part().as_str() != "postmaster");
    // The catch-all of server3.com takes it.
    assert_eq!(postmaster(&configuration_of(without.clone())), Some(address("postmaster@server3.com")));
    without.domains.retain(|served| served.domain.as_str() != "server3.com");
    without.records.retain(|record| record.address().domain().as_str() != "server3.com");
    let nobody = configuration_of(without);
    assert_eq!(postmaster(&nobody), None);
    assert_eq!(said(recipient(&nobody, stranger(), &Mail::default(), &ForwardPath::Postmaster).map(drop)), "550 5.1.1");
}

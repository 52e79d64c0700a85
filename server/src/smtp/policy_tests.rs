use super::*;
use crate::smtp::testing::{address, configuration, configuration_of, content, domain};

fn said<T>(result: Result<T, Reply>) -> String {
    result.map_or_else(|reply| format!("{} {}", reply.code(), reply.enhanced().unwrap()), |_| "ok".to_owned())
}

fn stranger() -> Client<'static> {
    Client { address: "8.8.8.8".parse().unwrap(), mailbox: None, certified: &[] }
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
    without.records.retain(|record| record.address().unwrap().local_part().as_str() != "postmaster");
    // The catch-all of server3.com takes it.
    assert_eq!(postmaster(&configuration_of(without.clone())), Some(address("postmaster@server3.com")));
    without.domains.retain(|served| served.domain.as_str() != "server3.com");
    without.records.retain(|record| record.address().unwrap().domain().as_str() != "server3.com");
    let nobody = configuration_of(without);
    assert_eq!(postmaster(&nobody), None);
    assert_eq!(said(recipient(&nobody, stranger(), &Mail::default(), &ForwardPath::Postmaster).map(drop)), "550 5.1.1");
}

#[test]
fn a_tenant_takes_no_mail_for_the_servers_postmaster() {
    let mut content = content(Vec::new());
    content.server.hostname = domain("mx.provider.example");
    content.server.tenant = "platform".to_owned();
    for served in &mut content.domains {
        let own = served.domain.as_str() == "server3.com";
        served.tenant = if own { "platform" } else { "mallory" }.to_owned();
    }
    assert_eq!(postmaster(&configuration_of(content.clone())), Some(address("postmaster@server3.com")));
    // A parent of the host name is no proof of whose it is.
    content.server.hostname = domain("mx.server1.com");
    assert_eq!(postmaster(&configuration_of(content.clone())), Some(address("postmaster@server3.com")));
    content.domains.retain(|served| served.domain.as_str() != "server3.com");
    content.records.retain(|record| record.address().unwrap().domain().as_str() != "server3.com");
    assert_eq!(postmaster(&configuration_of(content)), Some(address("postmaster@server1.com")), "somebody has it");
}

/// A relay rule for everybody: what it does not reach, nobody does.
#[test]
fn this_machine_and_its_link_are_no_destinations() {
    let mut content = content(Vec::new());
    content.relay.push(paquebot_config::RelayRule {
        name: "team/open".to_owned(),
        from: vec![paquebot_config::RelaySource::Networks(vec!["8.8.8.8/32".parse().unwrap()])],
        senders: None,
        recipients: paquebot_config::RecipientScope::Any,
        upstream: None,
        rate_limit: None,
        confined: false,
    });
    let mut configuration = configuration_of(content);
    let mail = Mail { reverse_path: Some(address("x@else.example")), ..Mail::default() };
    let ask = |configuration: &Configuration, domain: &str| {
        let path = ForwardPath::Mailbox(address(&format!("x@{domain}")));
        said(recipient(configuration, stranger(), &mail, &path))
    };
    for refused in [
        "[127.0.0.1]",
        "[127.9.9.9]",
        "[0.0.0.0]",
        "[169.254.1.1]",
        "[224.0.0.1]",
        "[255.255.255.255]",
        "[IPv6:::1]",
        "[IPv6:::]",
        "[IPv6:fe80::1]",
        "[IPv6:ff02::1]",
        "[IPv6:::ffff:127.0.0.1]",
        "[IPv6:::127.0.0.1]",
        "[IPv6:64:ff9b::7f00:1]",
        "[0.1.2.3]",
    ] {
        assert_eq!(ask(&configuration, refused), "550 5.1.2", "{refused}");
    }
    assert_eq!(ask(&configuration, "[192.0.2.1]"), "ok");
    assert_eq!(ask(&configuration, "else.example"), "ok");
    configuration.server.outbound.allowed_networks =
        vec!["127.0.0.0/8".parse().unwrap(), "224.0.0.0/4".parse().unwrap()];
    assert_eq!(ask(&configuration, "[127.0.0.1]"), "ok");
    assert_eq!(ask(&configuration, "[224.0.0.1]"), "550 5.1.2", "many hosts are never one");
}

/// Rewritten senders are an open door for reports with our hash, and for nothing else.
#[test]
fn reports_go_back_to_rewritten_senders() {
    let mut content = content(Vec::new());
    content.secrets.srs_keys = vec![paquebot_config::SecretText::new("key".to_owned())];
    let configuration = configuration_of(content);
    let keys = &configuration.secrets.srs_keys;
    let rewritten = |days: i64| {
        let at = Timestamp::now() - jiff::SignedDuration::from_hours(24 * days);
        srs::rewrite(keys, &address("jack@server2.com"), &domain("server1.com"), at).unwrap()
    };
    let ask = |to: Address, from: Option<&str>| {
        let mail = Mail { reverse_path: from.map(address), ..Mail::default() };
        recipient(&configuration, stranger(), &mail, &ForwardPath::Mailbox(to))
    };
    assert_eq!(ask(rewritten(3), None).unwrap().recipient, address("jack@server2.com"));
    assert_eq!(said(ask(rewritten(3), Some("x@else.example"))), "550 5.1.1");
    assert_eq!(said(ask(rewritten(30), None)), "550 5.1.1");
    assert_eq!(said(ask(address("SRS0=AAAAAA=AA=server2.com=jack@server1.com"), None)), "550 5.1.1");
    assert_eq!(said(ask(address("SRS0=AAAAAA=AA=server2.com=jack@server2.com"), None)), "553 5.7.1");
    // No catch-all takes a forged one.
    assert_eq!(said(ask(address("SRS0=AAAAAA=AA=server2.com=jack@server3.com"), None)), "550 5.1.1");
}

/// RFC 6710: strangers may wait longer, and not push in.
#[test]
fn priorities_are_for_clients_that_are_admitted() {
    let configuration = configuration(Vec::new());
    let tom = configuration.mailbox(&address("tom@server1.com"));
    let asked = |mailbox, priority| {
        let mail = Mail { reverse_path: Some(address("tom@server1.com")), priority: Some(priority), ..Mail::default() };
        sender(&configuration, Client { mailbox, ..stranger() }, &mail).unwrap().priority
    };
    assert_eq!((asked(None, 4), asked(None, -4)), (Some(0), Some(-4)));
    assert_eq!((asked(tom, 4), asked(tom, -4)), (Some(4), Some(-4)));
}

//! Who may relay, from outside: client certificates over real TLS, rate limits, and whose domain a sender may be of.

#![allow(clippy::unwrap_used)]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use paquebot_config::{Domain, RateLimit, RecipientScope, Record, RelayRule, RelaySource, SenderScope};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use support::client::{Client, Identity};
use support::{Server, content, wait_for};

/// An authority, and its certificate in PEM.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { pem: parameters.self_signed(&key).unwrap().pem(), issuer: Issuer::new(parameters, key) }
    }

    fn identity(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let certificate: CertificateDer<'static> = parameters.signed_by(&key, &self.issuer).unwrap().der().clone();
        (vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn rule(name: &str, from: RelaySource) -> RelayRule {
    RelayRule {
        name: name.to_owned(),
        from: vec![from],
        senders: None,
        recipients: RecipientScope::Any,
        upstream: None,
        rate_limit: None,
        confined: false,
    }
}

fn everybody() -> RelaySource {
    RelaySource::Networks(vec!["127.0.0.0/8".parse().unwrap()])
}

fn hello(server: &Server, listener: &str, identity: Option<&Identity>) -> Client {
    let mut client = Client::connect(server.address(listener));
    if listener == "submissions" {
        client.start_tls_as(identity);
        client.reply();
    } else {
        client.reply();
        client.smtp("EHLO client.example");
        assert!(client.smtp("STARTTLS").starts_with("220 "));
        client.start_tls_as(identity);
    }
    assert!(client.smtp("EHLO client.example").starts_with("250 "));
    client
}

/// The replies to MAIL and RCPT of a message for somebody elsewhere.
fn relays(client: &mut Client, sender: &str) -> (String, String) {
    let code = |reply: String| reply.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let mail = code(client.smtp(&format!("MAIL FROM:<{sender}>")));
    let recipient = code(client.smtp("RCPT TO:<jack@server2.com>"));
    client.smtp("RSET");
    (mail, recipient)
}

fn replies(mail: &str, recipient: &str) -> (String, String) {
    (mail.to_owned(), recipient.to_owned())
}

#[test]
fn a_verified_certificate_admits_and_any_other_is_as_none() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let mut content = content::story();
    content.server.tls.client_authorities = Some(ours.pem.clone());
    let senders = SenderScope { domains: vec![domain("app.example")], addresses: Vec::new() };
    let from = RelaySource::ClientCertificates(vec![domain("app.example")]);
    content.relay = vec![RelayRule { senders: Some(senders), ..rule("apps/app", from) }];
    let mut server = Server::start(content);

    let app = ours.identity("app.example", |_| {});
    let (admitted, refused) = (replies("250 2.1.0", "250 2.1.5"), replies("250 2.1.0", "553 5.7.1"));
    let no_login = replies("530 5.7.0", "503 5.5.1");
    for listener in ["smtp", "submission", "submissions"] {
        let mut client = hello(&server, listener, Some(&app));
        assert_eq!(relays(&mut client, "robot@app.example"), admitted, "{listener}");
        assert_eq!(relays(&mut client, "robot@other.example"), refused, "{listener}");
    }
    let expired = ours.identity("app.example", |parameters| parameters.not_after = rcgen::date_time_ymd(2026, 1, 1));
    for (what, identity) in [
        ("no certificate", None),
        ("another authority's", Some(foreign.identity("app.example", |_| {}))),
        ("expired", Some(expired)),
        ("another name", Some(ours.identity("other.example", |_| {}))),
        ("a wildcard", Some(ours.identity("*.example", |_| {}))),
    ] {
        let mut client = hello(&server, "smtp", identity.as_ref());
        assert_eq!(relays(&mut client, "robot@app.example"), refused, "{what}");
        assert!(client.smtp("MAIL FROM:<robot@app.example>").starts_with("250 "), "{what}");
        assert!(client.smtp("RCPT TO:<anna@server1.com>").starts_with("250 "), "{what}: mail for this server goes on");
        for listener in ["submission", "submissions"] {
            let mut client = hello(&server, listener, identity.as_ref());
            assert_eq!(relays(&mut client, "robot@app.example"), no_login, "{what} on {listener}");
        }
    }
    // POP3 asks nobody.
    assert!(Client::connect_tls(server.address("pop3s")).line().unwrap().starts_with("+OK"));

    // Who is not vouched for any more is nobody, also in a session that is open.
    let mut by_smtp = hello(&server, "smtp", Some(&app));
    let mut by_submission = hello(&server, "submission", Some(&app));
    assert_eq!(relays(&mut by_smtp, "robot@app.example"), admitted);
    assert_eq!(relays(&mut by_submission, "robot@app.example"), admitted);
    server.reconfigure(|content| content.server.tls.client_authorities = Some(foreign.pem.clone()));
    wait_for("the new authorities", || (relays(&mut by_smtp, "robot@app.example") == refused).then_some(()));
    assert_eq!(relays(&mut by_submission, "robot@app.example"), no_login);
}

#[test]
fn where_no_rule_names_a_certificate_nobody_is_asked_for_one() {
    let ours = Authority::new();
    let mut content = content::story();
    content.server.tls.client_authorities = Some(ours.pem.clone());
    let server = Server::start(content);
    // One that would not be taken.
    let (mut chain, key) = ours.identity("app.example", |_| {});
    chain.push(CertificateDer::from(vec![0; 20 << 10]));
    for listener in ["smtp", "submission", "submissions"] {
        let mut client = hello(&server, listener, Some(&(chain.clone(), key.clone_key())));
        assert!(client.smtp("NOOP").starts_with("250 "), "{listener}");
    }
}

#[test]
fn a_mailbox_may_send_so_much_an_hour_and_the_rest_later() {
    let mut content = content::story();
    for record in &mut content.records {
        if let Record::Mailbox(mailbox) = record
            && mailbox.address.local_part().as_str() == "tom"
        {
            mailbox.rate_limit = Some(RateLimit { messages_per_hour: Some(3), recipients_per_hour: Some(4) });
        }
    }
    let server = Server::start(content);
    let mut client = hello(&server, "submission", None);
    let response = STANDARD.encode("\0tom@server1.com\0tom-password");
    assert!(client.smtp(&format!("AUTH PLAIN {response}")).starts_with("235 "));
    for (command, expected) in [
        ("MAIL FROM:<tom@server1.com>", "250 2.1.0"),
        ("RCPT TO:<jack@server2.com>", "250 2.1.5"),
        ("RCPT TO:<jill@server2.com>", "250 2.1.5"),
        ("RCPT TO:<ghost@server1.com>", "550 5.1.1"),
        ("RCPT TO:<anna@server1.com>", "250 2.1.5"),
        ("RSET", "250 "),
        ("MAIL FROM:<tom@server1.com>", "250 2.1.0"),
        ("RCPT TO:<anna@server1.com>", "250 2.1.5"),
        (
            "RCPT TO:<jack@server2.com>",
            "452 4.7.1 the limit of 4 recipients an hour is reached; try again in 15 minutes",
        ),
        ("DATA", "354 "),
        ("Subject: x\r\n\r\nthe accepted recipient gets it\r\n.", "250 2.0.0"),
        ("MAIL FROM:<tom@server1.com>", "250 2.1.0"),
        ("RSET", "250 "),
        (
            "MAIL FROM:<tom@server1.com>",
            "452 4.7.1 the limit of 3 messages an hour is reached; try again in 20 minutes",
        ),
    ] {
        let reply = client.smtp(command);
        assert!(reply.starts_with(expected), "{command}: {reply}");
    }
    let mut stranger = hello(&server, "smtp", None);
    assert!(stranger.smtp("MAIL FROM:<x@else.example>").starts_with("250 "));
    assert!(stranger.smtp("RCPT TO:<tom@server1.com>").starts_with("250 "), "what it receives is not limited");
    let metrics = server.get("/metrics").1;
    assert!(metrics.contains("paquebot_rate_limited_total{holder=\"mailbox\"} 2"), "{metrics}");
}

#[test]
fn the_clients_of_a_policy_share_its_limit() {
    let mut content = content::story();
    let limit = RateLimit { messages_per_hour: Some(2), recipients_per_hour: None };
    content.relay = vec![RelayRule { rate_limit: Some(limit), ..rule("office/all", everybody()) }];
    let server = Server::start(content);
    let mut clients = [hello(&server, "smtp", None), hello(&server, "smtp", None)];
    for client in &mut clients {
        assert!(client.smtp("MAIL FROM:<x@else.example>").starts_with("250 "));
        // One message, whatever the number of its recipients; those here are nobody's relaying.
        for recipient in ["anna@server1.com", "jack@server2.com", "jill@server3.example", "joe@server4.example"] {
            let reply = client.smtp(&format!("RCPT TO:<{recipient}>"));
            assert!(reply.starts_with("250 "), "{recipient}: {reply}");
        }
        client.smtp("RSET");
    }
    for client in &mut clients {
        assert!(client.smtp("MAIL FROM:<x@else.example>").starts_with("250 "));
        let reply = client.smtp("RCPT TO:<jack@server2.com>");
        assert_eq!(reply, "452 4.7.1 the limit of 2 messages an hour is reached; try again in 30 minutes");
        assert!(client.smtp("RCPT TO:<anna@server1.com>").starts_with("250 "));
    }
    let metrics = server.get("/metrics").1;
    assert!(metrics.contains("paquebot_rate_limited_total{holder=\"policy\"} 2"), "{metrics}");
}

#[test]
fn a_served_domain_lends_its_name_to_the_policies_that_it_names() {
    let mut content = content::story();
    content.relay = vec![RelayRule { confined: true, ..rule("tenant/apps", everybody()) }];
    let mut server = Server::start(content);
    let (admitted, refused) = (replies("250 2.1.0", "250 2.1.5"), replies("250 2.1.0", "553 5.7.1"));
    let mut client = hello(&server, "smtp", None);
    assert_eq!(relays(&mut client, "x@else.example"), admitted, "a domain elsewhere is not ours to lend");
    assert_eq!(relays(&mut client, "tom@server1.com"), refused);
    for (relayer, expected) in
        [("other/*", &refused), ("tenant/other", &refused), ("tenant/*", &admitted), ("tenant/apps", &admitted)]
    {
        server.reconfigure(|content| content.domains[0].relayers = vec![relayer.to_owned()]);
        assert_eq!(relays(&mut client, "tom@server1.com"), *expected, "{relayer}");
    }
    server.reconfigure(|content| {
        content.domains[0].relayers.clear();
        content.relay[0].confined = false;
    });
    assert_eq!(relays(&mut client, "tom@server1.com"), admitted, "the server's owner asks nobody");
}

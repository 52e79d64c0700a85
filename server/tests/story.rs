//! The story with two real servers and a name server on loopback: Tom at server1.com writes to Anna, his neighbour, and to
//! Jack at server2.com; a stranger is refused, until a relay rule admits him.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, missing_docs)]
#[path = "outbound/dns.rs"]
mod dns;
mod support;

use paquebot_config::{RecipientScope, RelayRule, RelaySource, Resolvers};
use support::client::Client;
use support::{Server, content, wait_for};

use self::dns::Dns;

/// server1.com's server sends to server2.com's, which the name server leads it to.
fn two_servers(dns: &Dns) -> (Server, Server) {
    let mut second = content::story();
    second.server = content::server("mail.server2.com");
    second.domains = vec![content::domain("server2.com")];
    second.records = vec![content::mailbox("jack@server2.com", "jack-password")];
    let second = Server::start(second);
    let mut first = content::story();
    first.server.resolvers = Resolvers { addresses: vec![dns.address] };
    first.server.outbound.port = second.address("smtp").port();
    (Server::start(first), second)
}

fn submit(server: &Server, recipients: &[&str], message: &str) {
    let mut client = Client::connect(server.address("submission"));
    client.reply();
    client.smtp("EHLO client.example");
    assert!(client.smtp("STARTTLS").starts_with("220 "));
    client.start_tls();
    client.smtp("EHLO client.example");
    // \0tom@server1.com\0tom-password
    assert!(client.smtp("AUTH PLAIN AHRvbUBzZXJ2ZXIxLmNvbQB0b20tcGFzc3dvcmQ=").starts_with("235 "));
    assert!(client.smtp("MAIL FROM:<tom@server1.com>").starts_with("250 "));
    for recipient in recipients {
        assert!(client.smtp(&format!("RCPT TO:<{recipient}>")).starts_with("250 "), "{recipient}");
    }
    assert!(client.smtp("DATA").starts_with("354 "));
    client.send(message.as_bytes());
    assert!(client.smtp(".").starts_with("250 "));
}

/// Waits for a message in a maildrop, and takes it out.
fn fetch(server: &Server, login: &str, password: &str) -> String {
    wait_for(&format!("mail for {login}"), || {
        let mut client = Client::connect_tls(server.address("pop3s"));
        client.line();
        client.say(&format!("USER {login}"));
        assert!(client.say(&format!("PASS {password}")).starts_with("+OK"));
        let fetched = client.say("RETR 1").starts_with("+OK").then(|| client.multi_line());
        client.say("DELE 1");
        client.say("QUIT");
        fetched.map(|text| String::from_utf8(text).unwrap())
    })
}

#[test]
fn tom_writes_to_anna_and_jack() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dns = runtime.block_on(Dns::start());
    dns.mx("server2.com", 10, "mail.server2.com");
    dns.a("mail.server2.com", [127, 0, 0, 1]);
    let (mut first, second) = two_servers(&dns);

    let message =
        "From: tom@server1.com\r\nTo: anna@server1.com, jack@server2.com\r\nSubject: news\r\n\r\nGr\u{fc}\u{df}e\r\n";
    submit(&first, &["anna@server1.com", "jack@server2.com"], message);
    let anna = fetch(&first, "anna@server1.com", "anna-password");
    assert!(anna.ends_with(message) && anna.starts_with("Return-Path: <tom@server1.com>\r\n"), "{anna}");
    let jack = fetch(&second, "jack@server2.com", "jack-password");
    assert!(jack.ends_with(message) && jack.starts_with("Return-Path: <tom@server1.com>\r\n"), "{jack}");
    assert_eq!(jack.matches("Received: ").count(), 2, "{jack}");
    // One id follows the message through the log, from accept to delivery.
    let id = |line: &serde_json::Value| line["message_id"].as_str().map(str::to_owned);
    let sent = wait_for("the delivery in the log", || {
        first.log_lines().iter().filter(|line| line.to_string().contains("jack@server2.com")).find_map(id)
    });
    assert!(first.log_lines().iter().filter(|line| id(line).as_ref() == Some(&sent)).count() >= 2, "{}", first.log());

    // Nobody has this name there: Tom is told.
    submit(&first, &["nobody@server2.com"], message);
    let report = fetch(&first, "tom@server1.com", "tom-password");
    assert!(report.contains("multipart/report") && report.contains("5.1.1"), "{report}");
    assert!(report.starts_with("Return-Path: <>\r\n"), "{report}");

    let recipient_of_stranger = |server: &Server| {
        let mut client = Client::connect(server.address("smtp"));
        client.reply();
        client.smtp("EHLO stranger.example");
        client.smtp("MAIL FROM:<stranger@stranger.example>");
        client.smtp("RCPT TO:<jack@server2.com>")
    };
    let refusal = recipient_of_stranger(&first);
    assert_eq!(refusal, "553 5.7.1 sorry, that domain is not in my list of allowed recipient domains");
    first.reconfigure(|content| {
        content.relay.push(RelayRule {
            name: "mail/loopback".to_owned(),
            from: vec![RelaySource::Networks(vec!["127.0.0.0/8".parse().unwrap()])],
            senders: None,
            recipients: RecipientScope::Any,
            upstream: None,
            rate_limit: None,
            confined: false,
        });
    });
    assert!(recipient_of_stranger(&first).starts_with("250 "));
    first.reconfigure(|content| content.relay.clear());
    assert_eq!(recipient_of_stranger(&first), refusal);
}

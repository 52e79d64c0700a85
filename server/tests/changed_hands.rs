//! A domain changes hands while mail for it waits: what was accepted for one tenant's address reaches nobody else who has
//! the same address by then.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use base64::Engine as _;
use paquebot_config::{Address, Content, Record};
use serde_json::{Value, json};
use support::client::Client;
use support::{Home, Server, content, wait_for};

const TOKEN: &str = "a-token-for-tests-only";

/// server1.com of one tenant and server2.com of another.
fn wanted(tenant_of_server1: &str, quota_of_anna: Option<u64>) -> Content {
    let mut wanted = content::story();
    wanted.domains.push(content::domain("server2.com"));
    for name in ["jo@server2.com", "jane@server2.com"] {
        wanted.records.push(content::mailbox(name, "a-password"));
    }
    for record in &mut wanted.records {
        let Record::Mailbox(mailbox) = record else { continue };
        let is_first = mailbox.address.domain().as_str() == "server1.com";
        mailbox.tenant = if is_first { tenant_of_server1 } else { "other" }.to_owned();
        if mailbox.address == Address::parse("anna@server1.com").unwrap() {
            mailbox.quota = quota_of_anna;
        }
    }
    wanted
}

fn start(content: Content) -> Server {
    let home = Home::new(content);
    let directory = home.config_dir().join("admin");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("token"), TOKEN).unwrap();
    Server::start_in(home)
}

fn submit(server: &Server, login: &str, password: &str, parameters: &str, to: &[&str]) {
    let mut client = Client::connect_tls(server.address("submissions"));
    client.reply();
    client.smtp("EHLO client.example");
    let login_line = base64::engine::general_purpose::STANDARD.encode(format!("\0{login}\0{password}"));
    assert!(client.smtp(&format!("AUTH PLAIN {login_line}")).starts_with("235"));
    assert!(client.smtp(&format!("MAIL FROM:<{login}>{parameters}")).starts_with("250"));
    for address in to {
        assert!(client.smtp(&format!("RCPT TO:<{address}>")).starts_with("250"));
    }
    assert!(client.smtp("DATA").starts_with("354"));
    assert!(client.smtp(&format!("Subject: private\r\nFrom: <{login}>\r\n\r\nbetween us\r\n.")).starts_with("250"));
}

/// All that a mailbox has.
fn fetched(server: &Server, login: &str, password: &str) -> Vec<String> {
    let mut client = Client::connect_tls(server.address("pop3s"));
    client.line();
    assert!(client.say(&format!("USER {login}")).starts_with("+OK"));
    assert!(client.say(&format!("PASS {password}")).starts_with("+OK"));
    let count: usize = client.say("STAT").split_whitespace().nth(1).unwrap().parse().unwrap();
    let mut messages = Vec::new();
    for number in 1..=count {
        assert!(client.say(&format!("RETR {number}")).starts_with("+OK"));
        messages.push(String::from_utf8(client.multi_line()).unwrap());
    }
    client.say("QUIT");
    messages
}

fn act(server: &Server, action: &str) {
    let body = json!({"all": true}).to_string();
    let (status, answer) = server.ask_admin("POST", &format!("/queue/{action}"), Some(TOKEN), &body);
    assert_eq!(status, 200, "{answer}");
}

fn counts(server: &Server) -> Value {
    server.ask_admin("GET", "/queue", Some(TOKEN), "").1["counts"].clone()
}

fn until_empty(server: &Server) {
    let nothing = json!({"due": 0, "deferred": 0, "scheduled": 0, "held": 0});
    wait_for("an empty queue", || (counts(server) == nothing).then_some(()));
}

fn tells_of_anna(report: &str) -> bool {
    report.contains("Final-Recipient: rfc822; anna@server1.com\r\nAction: failed\r\nStatus: 5.1.1\r\n")
}

#[test]
fn mail_that_was_held_goes_back_when_the_address_is_somebody_elses() {
    let mut server = start(wanted("first", None));
    submit(&server, "jo@server2.com", "a-password", " HOLDFOR=3600", &["anna@server1.com", "jane@server2.com"]);
    // Its sender has changed hands with it: the report would be somebody else's to read.
    submit(&server, "tom@server1.com", "tom-password", " HOLDFOR=3600", &["anna@server1.com"]);
    server.reconfigure(|content| *content = wanted("second", None));
    assert_eq!(counts(&server)["scheduled"], 3);
    act(&server, "release");
    until_empty(&server);
    assert_eq!(fetched(&server, "anna@server1.com", "anna-password"), Vec::<String>::new());
    assert_eq!(fetched(&server, "tom@server1.com", "tom-password"), Vec::<String>::new());
    let reports = fetched(&server, "jo@server2.com", "a-password");
    assert!(matches!(&reports[..], [report] if tells_of_anna(report)), "{reports:?}");
    assert_eq!(fetched(&server, "jane@server2.com", "a-password").len(), 1, "hers are whose they were");
}

#[test]
fn mail_that_waits_for_room_does_so_for_its_tenant_alone() {
    let mut server = start(wanted("first", Some(1)));
    submit(&server, "jo@server2.com", "a-password", "", &["anna@server1.com", "jane@server2.com"]);
    wait_for("the attempt", || (counts(&server)["deferred"] == 1).then_some(()));
    server.reconfigure(|content| *content = wanted("second", None));
    act(&server, "retry");
    until_empty(&server);
    assert_eq!(fetched(&server, "anna@server1.com", "anna-password"), Vec::<String>::new());
    let reports = fetched(&server, "jo@server2.com", "a-password");
    assert!(matches!(&reports[..], [report] if tells_of_anna(report)), "{reports:?}");
}

#[test]
fn mail_that_waits_for_room_comes_when_the_owner_has_some() {
    let mut server = start(wanted("first", Some(1)));
    submit(&server, "jo@server2.com", "a-password", "", &["anna@server1.com", "jane@server2.com"]);
    wait_for("the attempt", || (counts(&server)["deferred"] == 1).then_some(()));
    server.reconfigure(|content| *content = wanted("first", None));
    act(&server, "retry");
    until_empty(&server);
    assert_eq!(fetched(&server, "anna@server1.com", "anna-password").len(), 1);
    assert_eq!(fetched(&server, "jo@server2.com", "a-password"), Vec::<String>::new());
}

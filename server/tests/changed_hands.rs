//! A domain changes hands while mail for it waits: what was accepted for one tenant's address reaches nobody else who has
//! the same address by then, nor does what is reported of what somebody sent.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use base64::Engine as _;
use paquebot_config::{Address, AliasRecord, Content, Record};
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
    for (domain, tenant) in wanted.domains.iter_mut().zip([tenant_of_server1, "other"]) {
        domain.tenant = tenant.to_owned();
    }
    wanted
}

/// server1.com has no mailbox: what is for Anna goes to Jane.
fn without_mailboxes(tenant_of_server1: &str) -> Content {
    let mut wanted = wanted(tenant_of_server1, None);
    wanted.records.retain(
        |record| !matches!(record, Record::Mailbox(mailbox) if mailbox.address.domain().as_str() == "server1.com"),
    );
    let (anna, jane) = ("anna@server1.com", "jane@server2.com");
    let [address, target] = [anna, jane].map(|text| Address::parse(text).unwrap());
    wanted.records.push(Record::Alias(AliasRecord { address, targets: vec![target] }));
    wanted
}

/// How many reports could not be made.
fn unreported(server: &Server) -> u64 {
    let metrics = server.get("/metrics").1;
    let line = metrics.lines().find_map(|line| line.strip_prefix("paquebot_outbound_total{result=\"unreported\"} "));
    line.map_or(0, |count| count.parse().unwrap())
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
    let header = format!("Subject: private\r\nFrom: <{login}>\r\nTo: <{}>\r\n", to.join(">, <"));
    assert!(client.smtp(&format!("{header}\r\nbetween us\r\n.")).starts_with("250"));
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
    assert_eq!(unreported(&server), 1);
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

#[test]
fn a_domain_that_has_no_mailbox_for_a_moment_is_whose_it_was() {
    let mut server = start(wanted("first", None));
    submit(&server, "jo@server2.com", "a-password", " HOLDFOR=3600", &["anna@server1.com"]);
    server.reconfigure(|content| *content = without_mailboxes("first"));
    act(&server, "release");
    until_empty(&server);
    assert_eq!(fetched(&server, "jane@server2.com", "a-password").len(), 1);
    assert_eq!(fetched(&server, "jo@server2.com", "a-password"), Vec::<String>::new(), "nothing went wrong");
}

#[test]
fn mail_for_a_domain_without_mailboxes_is_its_tenants_too() {
    let mut server = start(without_mailboxes("first"));
    submit(&server, "jo@server2.com", "a-password", " HOLDFOR=3600", &["anna@server1.com"]);
    let listed = server.ask_admin("GET", "/queue", Some(TOKEN), "").1["recipients"][0].clone();
    assert_eq!(listed["tenant"], "first", "{listed}");
    let id = listed["message"].as_str().unwrap();
    let message = server.ask_admin("GET", &format!("/queue/messages/{id}"), Some(TOKEN), "").1;
    assert_eq!(message["senderTenant"], "other", "{message}");
    server.reconfigure(|content| *content = wanted("second", None));
    act(&server, "release");
    until_empty(&server);
    assert_eq!(fetched(&server, "anna@server1.com", "anna-password"), Vec::<String>::new());
    let reports = fetched(&server, "jo@server2.com", "a-password");
    assert!(matches!(&reports[..], [report] if tells_of_anna(report)), "{reports:?}");
}

/// An ordinary failure, and a filter's reply: both are for the one who sent.
#[test]
fn what_is_told_to_a_sender_goes_to_nobody_else_who_has_the_address() {
    let mut server = start(wanted("first", None));
    submit(&server, "tom@server1.com", "tom-password", " HOLDFOR=3600", &["jo@server2.com", "jane@server2.com"]);
    server.reconfigure(|content| {
        *content = wanted("second", None);
        content.records.retain(|record| record.address() != Some(&Address::parse("jo@server2.com").unwrap()));
        for record in &mut content.records {
            let Record::Mailbox(mailbox) = record else { continue };
            if mailbox.address == Address::parse("jane@server2.com").unwrap() {
                mailbox.filter = Some("require \"vacation\"; vacation \"I am away\";".to_owned());
            }
        }
    });
    act(&server, "release");
    until_empty(&server);
    assert_eq!(fetched(&server, "jane@server2.com", "a-password").len(), 1);
    assert_eq!(fetched(&server, "tom@server1.com", "tom-password"), Vec::<String>::new());
    // Of the failure; the reply has the null reverse-path.
    wait_for("the count", || (unreported(&server) >= 1).then_some(()));
}

#[test]
fn what_is_told_to_a_sender_comes_when_the_domain_is_his_again() {
    let mut server = start(wanted("first", None));
    submit(&server, "tom@server1.com", "tom-password", " HOLDFOR=3600", &["jo@server2.com"]);
    for tenant in ["second", "first"] {
        server.reconfigure(|content| {
            *content = wanted(tenant, None);
            content.records.retain(|record| record.address() != Some(&Address::parse("jo@server2.com").unwrap()));
        });
    }
    act(&server, "release");
    until_empty(&server);
    let reports = fetched(&server, "tom@server1.com", "tom-password");
    assert!(matches!(&reports[..], [report] if report.contains("Action: failed")), "{reports:?}");
    assert_eq!(unreported(&server), 0);
}

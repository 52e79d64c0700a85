//! `DELETE /maildrops/…` from outside: whose mail goes for good, and whose does not.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use paquebot_config::Record;
use serde_json::{Value, json};
use support::client::Client;
use support::{DEADLINE, Home, Server, content, wait_for};

const TOKEN: &str = "a-token-for-tests-only";
/// More than the store deletes in one transaction.
const MANY: usize = 300;
const SORTS: &str = "require \"fileinto\"; if header :contains \"subject\" \"list\" { fileinto \"lists\"; }";

/// Status and JSON of the answer.
fn erase(server: &Server, whose: &str, token: Option<&str>) -> (u16, Value) {
    let mut stream = TcpStream::connect(server.address("admin")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "DELETE /maildrops/{whose} HTTP/1.1\r\nHost: localhost\r\n{token}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// Asks until nothing is left; what is decided on may still be going.
fn erase_all(server: &Server, whose: &str) -> u64 {
    let mut messages = 0;
    wait_for("the mail to be gone", || match erase(server, whose, Some(TOKEN)) {
        (200, answer) => {
            messages += answer["messages"].as_u64().unwrap();
            (answer["messages"] == 0).then_some(())
        }
        (423, _) => None,
        (status, answer) => panic!("{status} {answer}"),
    });
    messages
}

/// One message, in as many transactions as there are recipients named.
fn deliver(server: &Server, recipient: &str, subjects: &[&str]) {
    let mut client = Client::connect(server.address("smtp"));
    client.reply();
    client.smtp("EHLO sender.example");
    for subject in subjects {
        assert!(client.smtp("MAIL FROM:<someone@sender.example>").starts_with("250 "));
        assert!(client.smtp(&format!("RCPT TO:<{recipient}>")).starts_with("250 "), "{recipient}");
        assert!(client.smtp("DATA").starts_with("354 "));
        client.send(format!("Subject: {subject}\r\n\r\ntext\r\n").as_bytes());
        assert!(client.smtp(".").starts_with("250 "));
    }
}

/// What `STAT` says, or why nobody logs in.
fn stat(server: &Server, login: &str, password: &str) -> String {
    let mut client = Client::connect_tls(server.address("pop3s"));
    client.line();
    client.say(&format!("USER {login}"));
    let answer = client.say(&format!("PASS {password}"));
    if answer.starts_with("+OK") { client.say("STAT") } else { answer }
}

fn server() -> Server {
    let mut content = content::story();
    content.domains.push(content::domain("server2.com"));
    for name in ["jack", "sue"] {
        content.records.push(content::mailbox(&format!("{name}@server2.com"), "password"));
    }
    suspend_or_not(&mut content.records, "anna@server1.com", false);
    let server = Server::start_in(Home::new(content));
    assert_eq!(erase(&server, "anna@server1.com", Some(TOKEN)).0, 403, "nobody may before there is a token");
    let directory = server.home.config_dir().join("admin");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("token"), TOKEN).unwrap();
    server
}

fn suspend_or_not(records: &mut [Record], address: &str, suspended: bool) {
    for record in records {
        if let Record::Mailbox(mailbox) = record
            && mailbox.address.to_string() == address
        {
            mailbox.suspended = suspended;
            mailbox.filter = Some(SORTS.to_owned());
        }
    }
}

#[test]
fn a_mailbox_that_is_not_in_service_loses_its_mail_and_nobody_else_does() {
    let mut server = server();
    deliver(&server, "anna@server1.com", &["news"; MANY]);
    deliver(&server, "anna@server1.com", &["a list"; 3]);
    deliver(&server, "tom@server1.com", &["news"]);
    assert!(stat(&server, "anna+lists@server1.com", "anna-password").starts_with("+OK 3 "));

    for wrong in [None, Some("a-token-for-tests-onlx")] {
        assert_eq!(erase(&server, "anna@server1.com", wrong).0, 401);
    }
    for wrong in ["anna", "@", "anna@", "a%20b@server1.com"] {
        assert_eq!(erase(&server, wrong, Some(TOKEN)).0, 400, "{wrong}");
    }
    let (status, answer) = erase(&server, "anna@server1.com", Some(TOKEN));
    assert_eq!(status, 409, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("in service"), "{answer}");
    // Who is refused is logged.
    let lines = server.log_lines();
    for (status, by) in [(401, None), (409, Some("admin"))] {
        let is_it = |line: &&Value| {
            let fields = ["uri", "status", "by"].map(|name| line.get(name).cloned().unwrap_or(Value::Null));
            fields == [Value::from("/maildrops/anna@server1.com"), status.into(), by.into()]
        };
        assert!(lines.iter().any(|line| is_it(&line)), "{status} {lines:?}");
    }

    server.reconfigure(|content| suspend_or_not(&mut content.records, "anna@server1.com", true));
    assert_eq!(erase_all(&server, "anna@server1.com"), MANY as u64 + 3);
    assert_eq!(erase(&server, "anna@server1.com", Some(TOKEN)), (200, json!({ "messages": 0 })), "done is done");
    // Who never had mail has none to lose.
    assert_eq!(erase(&server, "nobody@server1.com", Some(TOKEN)), (200, json!({ "messages": 0 })));
    server.reconfigure(|content| suspend_or_not(&mut content.records, "anna@server1.com", false));
    assert_eq!(stat(&server, "anna@server1.com", "anna-password"), "+OK 0 0");
    assert_eq!(stat(&server, "anna+lists@server1.com", "anna-password"), "+OK 0 0");
    assert!(stat(&server, "tom@server1.com", "tom-password").starts_with("+OK 1 "));
    // What went stays gone.
    let server = Server::start_in(server.stop());
    assert_eq!(stat(&server, "anna@server1.com", "anna-password"), "+OK 0 0");
}

#[test]
fn a_domain_that_is_not_in_service_loses_all_its_mail() {
    let mut server = server();
    for recipient in ["jack@server2.com", "sue@server2.com", "tom@server1.com"] {
        deliver(&server, recipient, &["news", "more"]);
    }
    assert_eq!(erase(&server, "@server2.com", Some(TOKEN)).0, 409);
    // A session that is open keeps what it lists.
    let mut session = Client::connect_tls(server.address("pop3s"));
    session.line();
    session.say("USER jack@server2.com");
    assert!(session.say("PASS password").starts_with("+OK"));
    let suspend = |content: &mut paquebot_config::Content, suspended: bool| {
        let domain = content.domains.iter_mut().find(|domain| domain.domain.as_str() == "server2.com").unwrap();
        domain.suspended = suspended;
    };
    server.reconfigure(|content| suspend(content, true));
    session.say("QUIT");
    assert!(erase_all(&server, "@server2.com") >= 2);
    server.reconfigure(|content| suspend(content, false));
    for login in ["jack@server2.com", "sue@server2.com"] {
        assert_eq!(stat(&server, login, "password"), "+OK 0 0");
    }
    assert!(stat(&server, "tom@server1.com", "tom-password").starts_with("+OK 2 "));
}

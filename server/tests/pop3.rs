//! POP3 from outside: a real server, mail that came by SMTP.

#![allow(clippy::unwrap_used)]

mod support;

use support::client::Client;
use support::{Server, content, wait_for};

/// Sends a message to anna@server1.com on port 25, and waits for the 250.
fn send(server: &Server, message: &[u8]) {
    let mut client = Client::connect(server.address("smtp"));
    assert!(client.reply()[0].starts_with("220 "));
    assert!(client.smtp("EHLO client.example").starts_with("250 "));
    assert!(client.smtp("MAIL FROM:<someone@example.net>").starts_with("250 "));
    assert!(client.smtp("RCPT TO:<anna@server1.com>").starts_with("250 "));
    assert!(client.smtp("DATA").starts_with("354 "));
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            client.send(b".");
        }
        client.send(line);
    }
    let reply = client.smtp(".");
    assert!(reply.starts_with("250 "), "{reply}");
    client.smtp("QUIT");
}

fn log_in(server: &Server, user: &str) -> Client {
    let mut client = Client::connect_tls(server.address("pop3s"));
    assert!(client.line().unwrap().starts_with("+OK "));
    assert!(client.say(&format!("USER {user}@server1.com")).starts_with("+OK "));
    let answer = client.say(&format!("PASS {user}-password"));
    assert!(answer.starts_with("+OK "), "{answer}");
    client
}

#[test]
fn what_was_sent_is_fetched_octet_by_octet() {
    let server = Server::start(content::story());
    let long_line = "x".repeat(998);
    let messages: Vec<Vec<u8>> = [
        "Subject: plain\r\n\r\nHello Anna\r\n".to_owned(),
        "Subject: dots\r\n\r\n.\r\n..\r\n.two\r\n...three\r\n\r\n.\r\n".to_owned(),
        format!("Subject: long\r\n\r\n{long_line}\r\nend\r\n"),
        "Subject: =?utf-8?q?8=20bit?=\r\n\r\nGr\u{fc}\u{df}e, \u{1f4ee}\r\n".to_owned(),
        "Subject: empty body\r\n\r\n".to_owned(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect();
    for message in &messages {
        send(&server, message);
    }
    let mut client = log_in(&server, "anna");
    assert!(client.say("LIST").starts_with("+OK 5 messages"));
    let listing = String::from_utf8(client.multi_line()).unwrap();
    for (number, (line, message)) in listing.lines().zip(&messages).enumerate() {
        let number = number + 1;
        let octets: usize = line.split_once(' ').unwrap().1.parse().unwrap();
        assert_eq!(client.say(&format!("RETR {number}")), format!("+OK {octets} octets"));
        let fetched = client.multi_line();
        assert_eq!(fetched.len(), octets, "message {number}");
        assert!(fetched.ends_with(message), "message {number}: {}", String::from_utf8_lossy(&fetched));
        let trace = String::from_utf8(fetched[..fetched.len() - message.len()].to_vec()).unwrap();
        assert!(trace.starts_with("Return-Path: <someone@example.net>\r\nReceived: from client.example"), "{trace}");

        let blank = fetched.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        client.say(&format!("TOP {number} 0"));
        assert_eq!(client.multi_line(), &fetched[..blank]);
        client.say(&format!("TOP {number} 1"));
        let first = fetched[blank..].split_inclusive(|octet| *octet == b'\n').next().unwrap_or_default();
        assert_eq!(client.multi_line(), [&fetched[..blank], first].concat());
    }
    assert!(client.say("QUIT").starts_with("+OK"));
}

#[test]
fn messages_are_deleted_by_quit_and_by_nothing_else() {
    let server = Server::start(content::story());
    for number in 1..=3 {
        send(&server, format!("Subject: {number}\r\n\r\n{number}\r\n").as_bytes());
    }
    let mut client = log_in(&server, "anna");
    client.say("UIDL");
    let unique_ids = String::from_utf8(client.multi_line()).unwrap();
    assert!(client.say("DELE 1").starts_with("+OK"));
    assert!(client.say("DELE 3").starts_with("+OK"));
    drop(client);
    // The lock of the lost session is freed by itself; nothing was deleted.
    let mut client = wait_for("the maildrop to be free", || {
        let mut client = Client::connect_tls(server.address("pop3s"));
        client.line();
        client.say("USER anna@server1.com");
        client.say("PASS anna-password").starts_with("+OK").then_some(client)
    });
    assert!(client.say("STAT").starts_with("+OK 3 "));
    client.say("DELE 1");
    client.say("DELE 3");
    assert_eq!(client.say("QUIT"), "+OK 2 messages deleted, bye");
    let mut client = log_in(&server, "anna");
    client.say("UIDL");
    let left = String::from_utf8(client.multi_line()).unwrap();
    let second = unique_ids.lines().nth(1).unwrap().split_once(' ').unwrap().1;
    assert_eq!(left, format!("1 {second}\r\n"));
    // What arrives during a session appears in the next one.
    send(&server, b"Subject: late\r\n\r\n");
    assert!(client.say("STAT").starts_with("+OK 1 "));
    client.say("QUIT");
    assert!(log_in(&server, "anna").say("STAT").starts_with("+OK 2 "));
}

#[test]
fn a_maildrop_is_open_once() {
    let server = Server::start(content::story());
    let mut first = log_in(&server, "anna");
    let mut second = Client::connect_tls(server.address("pop3s"));
    second.line();
    second.say("USER anna@server1.com");
    let answer = second.say("PASS anna-password");
    assert!(answer.starts_with("-ERR [IN-USE] "), "{answer}");
    assert!(log_in(&server, "tom").say("NOOP").starts_with("+OK"));
    first.say("QUIT");
    second.say("USER anna@server1.com");
    assert!(second.say("PASS anna-password").starts_with("+OK"));
}

#[test]
fn stls_and_its_manners() {
    let server = Server::start(content::story());
    let mut client = Client::connect(server.address("pop3"));
    let greeting = client.line().unwrap();
    assert!(greeting.starts_with("+OK ") && !greeting.contains('<'), "{greeting}");
    client.say("CAPA");
    let before = String::from_utf8(client.multi_line()).unwrap();
    assert!(before.contains("STLS\r\n") && !before.contains("\r\nUSER\r\n"), "{before}");
    assert!(client.say("USER anna@server1.com").starts_with("-ERR [AUTH]"));
    // What is pipelined behind STLS in clear is not heard.
    client.send(b"STLS\r\nUSER anna@server1.com\r\n");
    assert!(client.line().unwrap().starts_with("+OK"));
    client.start_tls();
    assert!(client.say("PASS anna-password").starts_with("-ERR USER"));
    client.say("CAPA");
    let after = String::from_utf8(client.multi_line()).unwrap();
    assert!(after.contains("USER\r\n") && after.contains("SASL PLAIN\r\n") && !after.contains("STLS"), "{after}");
    client.send(b"USER anna@server1.com\r\nPASS anna-password\r\nSTAT\r\nQUIT\r\n");
    for answer in ["+OK", "+OK", "+OK 0 0", "+OK bye"] {
        assert!(client.line().unwrap().starts_with(answer));
    }
    assert_eq!(client.line(), None);
}

#[test]
fn wrong_passwords_cost_time_and_end_the_session() {
    let server = Server::start(content::story());
    let mut client = Client::connect_tls(server.address("pop3s"));
    client.line();
    let mut answers = Vec::new();
    for user in ["anna@server1.com", "nobody@server1.com", "anna@server1.com"] {
        let begin = std::time::Instant::now();
        client.say(&format!("USER {user}"));
        answers.push(client.say("PASS wrong"));
        assert!(begin.elapsed() >= std::time::Duration::from_secs(1));
    }
    assert!(answers[0].starts_with("-ERR [AUTH]"), "{answers:?}");
    assert_eq!(answers[0], answers[1]);
    assert_eq!(client.line(), None);
    log_in(&server, "anna");
    let log = server.log();
    assert!(log.contains("login refused") && !log.contains("anna-password") && !log.contains("argon2"), "{log}");
}

#[test]
fn garbage_is_answered_and_cut() {
    let server = Server::start(content::story());
    let mut client = Client::connect(server.address("pop3"));
    client.line();
    let mut garbage = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\0\xff\xfe\r\n".repeat(20);
    garbage.extend_from_slice(&[b'A'; 100_000]);
    // The server may have closed already.
    let _ = client.try_send(&garbage);
    let answers = String::from_utf8(client.rest()).unwrap();
    assert!(answers.lines().all(|line| line.starts_with("-ERR ")), "{answers}");
    assert!(answers.ends_with("-ERR too many errors; closing\r\n"), "{answers}");
    // A client that says nothing sensible on an implicit-TLS port gets no session, and harms nobody.
    let mut client = Client::connect(server.address("pop3s"));
    client.send(b"USER anna@server1.com\r\n");
    client.rest();
    log_in(&server, "anna");
}

/// MAIL.md: "Complete CAPA that tells the truth", before TLS, before and after the login.
#[test]
fn the_whole_capability_set_is_announced_where_it_holds() {
    let server = Server::start(content::story());
    let capabilities = |client: &mut Client| {
        assert!(client.say("CAPA").starts_with("+OK"));
        String::from_utf8(client.multi_line()).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut clear = Client::connect(server.address("pop3"));
    clear.line();
    let everywhere = [
        "TOP",
        "UIDL",
        "PIPELINING",
        "RESP-CODES",
        "AUTH-RESP-CODE",
        "EXPIRE NEVER",
        "LOGIN-DELAY 0",
        "UTF8 USER",
        "LANG",
        "IMPLEMENTATION Paquebot",
    ];
    let with = |more: &[&str]| {
        let mut all: Vec<String> = everywhere.iter().chain(more).map(|line| (*line).to_owned()).collect();
        all.sort();
        all
    };
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    assert_eq!(sorted(capabilities(&mut clear)), with(&["STLS"]));
    let mut client = Client::connect_tls(server.address("pop3s"));
    client.line();
    assert_eq!(sorted(capabilities(&mut client)), with(&["USER", "SASL PLAIN"]));
    client.say("USER anna@server1.com");
    client.say("PASS anna-password");
    assert_eq!(sorted(capabilities(&mut client)), with(&["USER", "SASL PLAIN"]));
    // What is announced works.
    client.send(b"LANG\r\nUIDL\r\nSTAT\r\n");
    assert!(client.line().unwrap().starts_with("+OK"));
    assert!(String::from_utf8(client.multi_line()).unwrap().contains("de Deutsch\r\n"));
    assert!(client.line().unwrap().starts_with("+OK"));
    assert!(client.multi_line().is_empty());
    assert_eq!(client.line().unwrap(), "+OK 0 0");
    assert_eq!(client.say("LANG de"), "+OK de Antworten sind jetzt deutsch");
    assert_eq!(client.say("QUIT"), "+OK auf Wiedersehen");
}

/// MAIL.md: "Clear-text logins are refused without TLS unless the listener allows them".
#[test]
fn a_listener_may_allow_passwords_in_clear() {
    let mut content = content::story();
    for listener in &mut content.server.listeners {
        listener.clear_text_logins = listener.name == "pop3";
    }
    let server = Server::start(content);
    let mut client = Client::connect(server.address("pop3"));
    client.line();
    client.say("USER anna@server1.com");
    assert!(client.say("PASS anna-password").starts_with("+OK 0 messages"));
    // A folder of her own, empty until a filter puts something there; the inbox stays open beside it.
    let mut client = Client::connect(server.address("pop3"));
    client.line();
    client.say("USER anna+junk@server1.com");
    assert!(client.say("PASS anna-password").starts_with("+OK 0 messages"));
}

/// MAIL.md: "RETR streams; a 50 MB message costs no 50 MB".
#[test]
fn a_large_message_is_fetched_in_little_memory() {
    const OCTETS: usize = 40 << 20;
    let server = Server::start(content::story());
    let mut message = b"Subject: large\r\n\r\n".to_vec();
    while message.len() < OCTETS {
        message.extend_from_slice(&[b'x'; 998]);
        message.extend_from_slice(b"\r\n");
    }
    send(&server, &message);
    let mut client = log_in(&server, "anna");
    server.reset_peak();
    let before = server.peak_resident_kib();
    assert!(client.say("RETR 1").starts_with("+OK "));
    assert!(client.multi_line().ends_with(&message));
    let grown = server.peak_resident_kib().saturating_sub(before);
    assert!(grown < 4 << 10, "{grown} KiB more");
    assert!(client.say("QUIT").starts_with("+OK"));
}

/// Every message of a maildrop is as long as LIST, STAT and RETR say; yields their octets and what they are together.
fn sizes_are_exact(client: &mut Client) -> (usize, Vec<u8>) {
    let answer = client.say("STAT");
    let numbers: Vec<usize> = answer.split(' ').skip(1).map(|number| number.parse().unwrap()).collect();
    assert!(client.say("LIST").starts_with("+OK "));
    let listing = String::from_utf8(client.multi_line()).unwrap();
    let (mut total, mut all) = (0, Vec::new());
    for line in listing.lines() {
        let (number, listed) = line.split_once(' ').unwrap();
        assert_eq!(client.say(&format!("LIST {number}")), format!("+OK {line}"));
        assert_eq!(client.say(&format!("RETR {number}")), format!("+OK {listed} octets"));
        let message = client.multi_line();
        assert_eq!(listed, message.len().to_string(), "message {number}");
        total += message.len();
        all.extend(message);
    }
    assert_eq!(numbers, [listing.lines().count(), total], "{answer}");
    (total, all)
}

/// RFC 1939 §11: also of what a client gets in ASCII that has not said UTF8 (RFC 6856 §4), however it was delivered.
#[test]
fn sizes_are_those_of_what_each_client_gets() {
    let mut wanted = content::story();
    for record in &mut wanted.records {
        if let paquebot_config::Record::Mailbox(mailbox) = record
            && mailbox.address.to_string().starts_with("anna")
        {
            mailbox.filter = Some("require \"editheader\"; addheader \"X-Seen\" \"yes\";".to_owned());
        }
    }
    let server = Server::start(wanted);
    let header = "From: J\u{fc}rgen <someone@example.net>\r\nSubject: Gr\u{fc}\u{df}e\r\n\r\n";
    let messages = [
        format!("{header}Hallo\r\n"),
        format!("{header}does not end"),
        format!("{header}{}", "Hallo, Hallo\r\n".repeat(20_000)),
        "Subject: plain\r\n\r\nHallo\r\n".to_owned(),
    ];
    let mut client = Client::connect_tls(server.address("submissions"));
    client.reply();
    client.smtp("EHLO client.example");
    // tom@server1.com and his password.
    assert!(client.smtp("AUTH PLAIN AHRvbUBzZXJ2ZXIxLmNvbQB0b20tcGFzc3dvcmQ=").starts_with("235"));
    for held in ["", " HOLDFOR=1"] {
        for message in &messages {
            let mail = format!("MAIL FROM:<tom@server1.com> SMTPUTF8 BODY=8BITMIME{held}");
            for command in [&mail, "RCPT TO:<anna@server1.com>", "RCPT TO:<tom@server1.com>"] {
                let reply = client.smtp(command);
                assert!(reply.starts_with("250 "), "{command}: {reply}");
            }
            client.send(format!("BDAT {} LAST\r\n{message}", message.len()).as_bytes());
            let reply = client.reply().join("\n");
            assert!(reply.starts_with("250 "), "{reply}");
        }
    }
    for user in ["anna", "tom"] {
        let mut in_ascii = wait_for("all messages", || {
            let mut client = log_in(&server, user);
            let all = client.say("STAT").starts_with("+OK 8 ");
            if all {
                return Some(client);
            }
            client.say("QUIT");
            None
        });
        let (octets, all) = sizes_are_exact(&mut in_ascii);
        let shown = String::from_utf8(all).unwrap();
        assert_eq!(shown.matches("Subject: =?UTF-8?B?R3LDvMOfZQ==?=\r\n").count(), 6, "{user}");
        assert_eq!(shown.matches("X-Seen: yes\r\n").count(), if user == "anna" { 8 } else { 0 });
        in_ascii.say("QUIT");
        let mut in_utf8 = Client::connect_tls(server.address("pop3s"));
        in_utf8.line();
        assert!(in_utf8.say("UTF8").starts_with("+OK"));
        in_utf8.say(&format!("USER {user}@server1.com"));
        assert!(in_utf8.say(&format!("PASS {user}-password")).starts_with("+OK "));
        let (stored, all) = sizes_are_exact(&mut in_utf8);
        assert!(stored < octets && String::from_utf8(all).unwrap().contains("Subject: Gr\u{fc}\u{df}e\r\n"));
    }
}

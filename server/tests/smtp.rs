//! SMTP and submission from outside: a real server process, its mail fetched by POP3.

#![allow(clippy::unwrap_used)]

mod support;

use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use paquebot_config::{Address, AliasRecord, Domain, Forwarding, MailboxRecord, Record, RelayRule};
use paquebot_config::{RecipientScope, RelaySource, SenderScope};
use support::client::Client;
use support::{Server, content, wait_for};

fn greeted(server: &Server) -> Client {
    let mut client = Client::connect(server.address("smtp"));
    assert!(client.reply()[0].starts_with("220 mail.server1.com ESMTP"));
    assert!(client.smtp("EHLO client.example").starts_with("250 "));
    client
}

fn submitting(server: &Server, user: &str) -> Client {
    let mut client = Client::connect(server.address("submission"));
    client.reply();
    client.smtp("EHLO client.example");
    assert!(client.smtp("STARTTLS").starts_with("220 "));
    client.start_tls();
    client.smtp("EHLO client.example");
    let response = STANDARD.encode(format!("\0{user}@server1.com\0{user}-password"));
    assert!(client.smtp(&format!("AUTH PLAIN {response}")).starts_with("235 2.7.0"));
    client
}

/// Sends commands one by one; each reply has to begin as expected.
fn dialogue(client: &mut Client, steps: &[(&str, &str)]) {
    for (command, expected) in steps {
        let reply = client.smtp(command);
        assert!(reply.starts_with(expected), "{command}: {reply}");
    }
}

fn fetch_all(server: &Server, user: &str) -> Vec<Vec<u8>> {
    let mut client = Client::connect_tls(server.address("pop3s"));
    client.line();
    client.say(&format!("USER {user}@server1.com"));
    let answer = client.say(&format!("PASS {user}-password"));
    assert!(answer.starts_with("+OK"), "{answer}");
    client.say("LIST");
    let count = client.multi_line().split(|octet| *octet == b'\n').count() - 1;
    let fetch = |number| {
        assert!(client.say(&format!("RETR {number}")).starts_with("+OK"));
        client.multi_line()
    };
    let messages = (1..=count).map(fetch).collect();
    client.say("QUIT");
    messages
}

/// The files of bodies in the data directory.
fn body_files(server: &Server) -> usize {
    let mut count = 0;
    let mut waiting = vec![server.home.data_dir()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => waiting.push(entry.path()),
                false
                    if entry.metadata().unwrap().len() > 1 << 20
                        && !entry.path().to_string_lossy().contains("sqlite") =>
                {
                    count += 1
                }
                false => {}
            }
        }
    }
    count
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn mailbox(text: &str) -> MailboxRecord {
    match content::mailbox(text, "x") {
        Record::Mailbox(mailbox) => mailbox,
        Record::Domain(_) | Record::Alias(_) => unreachable!(),
    }
}

#[test]
fn one_message_for_two_mailboxes_pipelined() {
    let server = Server::start(content::story());
    let mut client = Client::connect(server.address("smtp"));
    client.reply();
    client.send(b"EHLO client.example\r\nMAIL FROM:<x@else.example> BODY=8BITMIME\r\nRCPT TO:<anna@server1.com>\r\nRCPT TO:<Tom+list@SERVER1.com>\r\nRCPT TO:<ghost@server1.com>\r\nDATA\r\n");
    assert!(client.reply().iter().any(|line| line == "250-PIPELINING"));
    for expected in ["250 2.1.0", "250 2.1.5", "250 2.1.5", "550 5.1.1", "354 "] {
        let reply = client.reply().pop().unwrap();
        assert!(reply.starts_with(expected), "{reply}");
    }
    let message = "Subject: both\r\n\r\n..dots stay, and 8 bit: ü\r\n".as_bytes();
    client.send(&[b"Subject: both\r\n\r\n...dots stay, and 8 bit: ", "ü".as_bytes(), b"\r\n.\r\nQUIT\r\n"].concat());
    let accepted = client.reply().pop().unwrap();
    assert!(accepted.starts_with("250 2.0.0 "), "{accepted}");
    assert!(client.reply().pop().unwrap().starts_with("221 2.0.0"));
    assert!(client.rest().is_empty());

    let id = accepted.split(' ').nth(2).unwrap();
    for user in ["anna", "tom"] {
        let messages = fetch_all(&server, user);
        assert_eq!(messages.len(), 1);
        let text = String::from_utf8_lossy(&messages[0]).into_owned();
        assert!(messages[0].ends_with(message), "{text}");
        assert!(text.starts_with("Return-Path: <x@else.example>\r\nReceived: from client.example ([127.0.0.1])\r\n\tby mail.server1.com (Paquebot) with ESMTP id "), "{text}");
        assert!(text.contains(id) && !text.contains("\tfor <"), "{text}");
    }
    let logged = server.log_lines();
    let lines: Vec<_> = logged.iter().filter(|line| line["message_id"] == id).collect();
    assert!(lines.iter().any(|line| line["message"] == "message accepted" && line["recipients"] == 2), "{logged:?}");
    assert_eq!(lines.iter().filter(|line| line["message"] == "delivered").count(), 2);
    let (_, metrics) = server.get("/metrics");
    assert!(metrics.contains("paquebot_messages_total{result=\"accepted\"} 1"), "{metrics}");
    assert!(metrics.contains("paquebot_recipients_total{result=\"unknown\"} 1"), "{metrics}");
}

#[test]
fn strangers_relay_nothing_and_a_rule_admits_its_clients() {
    let mut server = Server::start(content::story());
    let refusal = "553 5.7.1 sorry, that domain is not in my list of allowed recipient domains";
    let mut stranger = greeted(&server);
    dialogue(
        &mut stranger,
        &[("MAIL FROM:<tom@server1.com>", "250"), ("RCPT TO:<jack@server2.com>", refusal), ("DATA", "554 5.5.1")],
    );
    server.reconfigure(|content| {
        let senders = SenderScope { domains: vec![Domain::parse("app.example").unwrap()], addresses: Vec::new() };
        content.relay.push(RelayRule {
            name: "apps/printer".to_owned(),
            from: vec![RelaySource::Networks(vec!["127.0.0.1/32".parse().unwrap()])],
            senders: Some(senders),
            recipients: RecipientScope::Any,
            upstream: None,
            rate_limit: None,
            confined: false,
        });
    });
    // The open transaction keeps what held at its MAIL; the next one has the rule.
    dialogue(
        &mut stranger,
        &[
            ("RCPT TO:<jack@server2.com>", refusal),
            ("RSET", "250"),
            ("MAIL FROM:<x@else.example>", "250"),
            ("RCPT TO:<jack@server2.com>", refusal),
            ("RSET", "250"),
            ("MAIL FROM:<printer@app.example>", "250"),
            ("RCPT TO:<jack@server2.com>", "250 2.1.5"),
            ("RSET", "250"),
        ],
    );
    server.reconfigure(|content| content.relay.clear());
    dialogue(&mut stranger, &[("MAIL FROM:<printer@app.example>", "250"), ("RCPT TO:<jack@server2.com>", refusal)]);
}

#[test]
fn submission_takes_mail_from_its_owner_only() {
    let server = Server::start(content::story());
    let mut client = Client::connect(server.address("submission"));
    client.reply();
    client.send(b"EHLO client.example\r\n");
    let offered = client.reply();
    assert!(offered.iter().any(|line| line.contains("STARTTLS")) && !offered.iter().any(|line| line.contains("AUTH")));
    dialogue(&mut client, &[("AUTH PLAIN dGVzdA==", "538 5.7.11"), ("MAIL FROM:<tom@server1.com>", "530 5.7.0")]);
    // What is sent with STARTTLS is thrown away.
    client.send(b"STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@else.example>\r\n");
    assert!(client.reply()[0].starts_with("220 "));
    client.start_tls();
    assert!(client.smtp("MAIL FROM:<tom@server1.com>").starts_with("503 5.5.1"));
    client.send(b"EHLO client.example\r\n");
    assert!(client.reply().iter().any(|line| line.contains("AUTH PLAIN LOGIN")));
    let wrong = STANDARD.encode("\0tom@server1.com\0wrong");
    assert!(client.smtp(&format!("AUTH PLAIN {wrong}")).starts_with("535 5.7.8"));
    dialogue(&mut client, &[("AUTH LOGIN", "334 "), (&STANDARD.encode("tom@server1.com"), "334 ")]);
    dialogue(&mut client, &[(&STANDARD.encode("tom-password"), "235 2.7.0")]);
    dialogue(
        &mut client,
        &[
            ("MAIL FROM:<anna@server1.com>", "553 5.7.1"),
            ("MAIL FROM:<tom@server1.com>", "250"),
            ("RCPT TO:<anna@server1.com>", "250"),
            ("RCPT TO:<jack@server2.com>", "250"),
            ("DATA", "354"),
        ],
    );
    client.send(b"Subject: one copy here, one in the queue\r\n\r\n.\r\n");
    let reply = client.reply().pop().unwrap();
    assert!(reply.starts_with("250 2.0.0 ") && reply.ends_with("delivered and queued"), "{reply}");
    let message = String::from_utf8(fetch_all(&server, "anna").pop().unwrap()).unwrap();
    assert!(message.contains("with ESMTPSA id") && message.contains("(TLS1.3 "), "{message}");
    wait_for("the recipient in the queue", || {
        server.get("/metrics").1.contains("paquebot_queued_recipients 1").then_some(())
    });

    // On 25 nobody logs in; on 465 there is TLS from the start.
    assert!(greeted(&server).smtp("AUTH PLAIN dGVzdA==").starts_with("502 5.5.1"));
    let mut implicit = Client::connect_tls(server.address("submissions"));
    assert!(implicit.reply()[0].starts_with("220 "));
    implicit.send(b"EHLO client.example\r\n");
    let offered = implicit.reply();
    assert!(offered.iter().any(|line| line.contains("AUTH")) && !offered.iter().any(|line| line.contains("STARTTLS")));
}

#[test]
fn rights_end_with_the_mailbox() {
    let mut server = Server::start(content::story());
    let mut tom = submitting(&server, "tom");
    dialogue(&mut tom, &[("MAIL FROM:<tom@server1.com>", "250"), ("RSET", "250")]);
    server.reconfigure(|content| content.records.retain(|record| record.key() != "tom@server1.com"));
    assert!(tom.smtp("MAIL FROM:<tom@server1.com>").starts_with("530 5.7.0"));
}

#[test]
fn aliases_forwarding_and_quotas() {
    let mut content = content::story();
    let alias = |text: &str, targets: &[&str]| {
        let targets = targets.iter().map(|text| address(text)).collect();
        Record::Alias(AliasRecord { address: address(text), targets })
    };
    content.records.push(alias("team@server1.com", &["tom@server1.com", "anna@server1.com"]));
    content.records.push(alias("postmaster@server1.com", &["anna@server1.com"]));
    let forwarding = Forwarding { to: vec![address("anna@server1.com")], keep_copy: false };
    content
        .records
        .push(Record::Mailbox(MailboxRecord { forwarding: Some(forwarding), ..mailbox("away@server1.com") }));
    content.records.push(Record::Mailbox(MailboxRecord { quota: Some(500), ..mailbox("small@server1.com") }));
    content.records.push(Record::Mailbox(MailboxRecord { suspended: true, ..mailbox("eve@server1.com") }));
    let server = Server::start(content);
    let mut client = greeted(&server);
    dialogue(
        &mut client,
        &[
            ("MAIL FROM:<>", "250"),
            ("RCPT TO:<team@server1.com>", "250"),
            ("RCPT TO:<away@server1.com>", "250"),
            ("RCPT TO:<Postmaster>", "250"),
            ("RCPT TO:<eve@server1.com>", "450 4.2.1"),
            ("RCPT TO:<@relay.example:\"anna\"@server1.com>", "250"),
            ("DATA", "354"),
            ("Subject: once each\r\n\r\n.", "250 2.0.0"),
        ],
    );
    for user in ["tom", "anna"] {
        let messages = fetch_all(&server, user);
        assert_eq!(messages.len(), 1, "{user}");
        assert!(messages[0].starts_with(b"Return-Path: <>\r\n"));
    }
    let body = "x".repeat(300);
    dialogue(
        &mut client,
        &[
            ("MAIL FROM:<> SIZE=501", "250"),
            ("RCPT TO:<small@server1.com>", "552 5.2.2"),
            ("RSET", "250"),
            ("MAIL FROM:<>", "250"),
            ("RCPT TO:<small@server1.com>", "250"),
            ("DATA", "354"),
            // It would never fit: nobody should try again for days.
            (&format!("{body}\r\n{body}\r\n."), "552 5.2.2"),
            ("MAIL FROM:<>", "250"),
            ("RCPT TO:<small@server1.com>", "250"),
            ("DATA", "354"),
            (&format!("{}\r\n.", &body[..100]), "250 2.0.0"),
            ("MAIL FROM:<> SIZE=400", "250"),
            ("RCPT TO:<small@server1.com>", "452 4.2.2"),
        ],
    );
}

/// RFC 3030, from outside: what comes in chunks is fetched octet by octet.
#[test]
fn chunks_are_delivered() {
    let server = Server::start(content::story());
    let mut client = greeted(&server);
    client.send(b"MAIL FROM:<x@else.example> BODY=8BITMIME\r\nRCPT TO:<anna@server1.com>\r\nBDAT 15\r\nSubject: x\r\n\r\n.BDAT 6 LAST\r\n\r\n..\r\nNOOP\r\n");
    for expected in ["250 2.1.0", "250 2.1.5", "250 2.0.0 15 octets", "250 2.0.0", "250 2.0.0"] {
        let reply = client.reply().pop().unwrap();
        assert!(reply.starts_with(expected), "{expected}: {reply}");
    }
    let messages = fetch_all(&server, "anna");
    assert!(messages[0].ends_with(b"Subject: x\r\n\r\n.\r\n..\r\n"), "{}", String::from_utf8_lossy(&messages[0]));
}

/// RFC 4865: a held message is in nobody's maildrop before its time, and there after it.
#[test]
fn a_held_message_is_delivered_at_its_time() {
    let server = Server::start(content::story());
    let mut tom = submitting(&server, "tom");
    dialogue(
        &mut tom,
        &[
            ("MAIL FROM:<tom@server1.com> HOLDFOR=2592001", "501 5.5.4"),
            ("MAIL FROM:<tom@server1.com> HOLDFOR=4", "250 2.1.0"),
            ("RCPT TO:<anna@server1.com>", "250"),
            ("DATA", "354"),
            ("Subject: later\r\n\r\n.", "250 2.0.0"),
        ],
    );
    assert!(fetch_all(&server, "anna").is_empty());
    let arrived = wait_for("the held message", || fetch_all(&server, "anna").pop());
    assert!(arrived.ends_with(b"Subject: later\r\n\r\n"));
}

/// A load balancer's client is the one that Received and the limits are about; who is no load balancer is not heard.
#[test]
fn proxied_clients_are_known_by_their_own_address() {
    let mut content = content::story();
    for listener in &mut content.server.listeners {
        let trusted = match listener.name.as_str() {
            "smtp" => "127.0.0.0/8",
            "submission" => "192.0.2.0/24",
            _ => continue,
        };
        listener.proxy_protocol = Some(paquebot_config::ProxyProtocol { trusted: vec![trusted.parse().unwrap()] });
    }
    content.server.limits.per_client_connections = 2;
    let server = Server::start(content);
    let proxied = || {
        let mut client = Client::connect(server.address("smtp"));
        client.send(b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 25\r\n");
        client
    };
    let mut client = proxied();
    assert!(client.reply()[0].starts_with("220 "));
    let mut second = proxied();
    assert!(second.reply()[0].starts_with("220 "));
    assert!(proxied().reply()[0].starts_with("421 4.7.0"), "two from one client");
    dialogue(
        &mut client,
        &[
            ("EHLO client.example", "250"),
            ("MAIL FROM:<>", "250"),
            ("RCPT TO:<anna@server1.com>", "250"),
            ("DATA", "354"),
            ("Subject: x\r\n\r\n.", "250 2.0.0"),
        ],
    );
    let text = String::from_utf8(fetch_all(&server, "anna").remove(0)).unwrap();
    assert!(text.contains("from client.example ([203.0.113.9])"), "{text}");
    let mut without = Client::connect(server.address("smtp"));
    without.send(b"EHLO client.example\r\n");
    assert!(without.rest().is_empty());
    let mut untrusted = Client::connect(server.address("submission"));
    assert!(
        untrusted.try_send(b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 25\r\n").is_err() || untrusted.rest().is_empty()
    );
}

#[test]
fn limits_on_size_and_recipients() {
    let mut content = content::story();
    content.server.limits.max_message_size = 1_000;
    content.records.extend((0..101).map(|number| content::mailbox(&format!("user{number}@server1.com"), "x")));
    let server = Server::start(content);
    let mut client = greeted(&server);
    dialogue(&mut client, &[("MAIL FROM:<> SIZE=1001", "552 5.3.4"), ("MAIL FROM:<> SIZE=1000", "250")]);
    for number in 0..100 {
        assert!(client.smtp(&format!("RCPT TO:<user{number}@server1.com>")).starts_with("250 2.1.5"));
    }
    dialogue(&mut client, &[("RCPT TO:<user100@server1.com>", "452 4.5.3"), ("DATA", "354")]);
    client.send(&b"0123456789\r\n".repeat(100));
    assert!(client.smtp(".").starts_with("552 5.3.4"));
    dialogue(&mut client, &[("NOOP", "250"), ("DATA", "503 5.5.1")]);
    let (_, metrics) = server.get("/metrics");
    assert!(metrics.contains("paquebot_messages_total{result=\"refused\"} 1"), "{metrics}");
}

#[test]
fn a_large_message_costs_no_memory_and_comes_back_whole() {
    let server = Server::start(content::story());
    let line = [&[b'.'][..], &[b'y'; 75], b"\r\n"].concat();
    let message: Vec<u8> = [b"Subject: 25 MB\r\n\r\n".to_vec(), line.repeat(25 * 1024 * 1024 / 78)].concat();
    let before = server.peak_resident_kib();
    let mut client = greeted(&server);
    dialogue(&mut client, &[("MAIL FROM:<>", "250"), ("RCPT TO:<anna@server1.com>", "250"), ("DATA", "354")]);
    client.send(&message.split_inclusive(|octet| *octet == b'\n').fold(Vec::new(), |mut wire, line| {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
        wire
    }));
    assert!(client.smtp(".").starts_with("250 2.0.0"));
    let grown = server.peak_resident_kib() - before;
    assert!(grown < 12 << 10, "receiving 25 MB took {grown} KiB");
    let fetched = fetch_all(&server, "anna").pop().unwrap();
    assert!(fetched.ends_with(&message));
}

#[test]
fn a_connection_lost_before_the_end_leaves_nothing() {
    let server = Server::start(content::story());
    for wire in ["", "MAIL FROM:<>\r\n", "MAIL FROM:<>\r\nRCPT TO:<anna@server1.com>\r\nDATA\r\n"] {
        let mut client = greeted(&server);
        client.send(wire.as_bytes());
        for _ in wire.lines() {
            client.reply();
        }
        if wire.contains("DATA") {
            client.send(&b"0123456789abcdef0123456789abcdef\r\n".repeat(100_000));
            wait_for("the spool file", || (body_files(&server) == 1).then_some(()));
        }
    }
    wait_for("the end of the sessions", || {
        server.get("/metrics").1.contains("paquebot_open_connections{protocol=\"smtp\"} 0").then_some(())
    });
    assert_eq!(body_files(&server), 0);
    assert!(fetch_all(&server, "anna").is_empty());
}

#[test]
fn what_got_250_survives_a_kill() {
    let server = Server::start(content::story());
    let mut client = greeted(&server);
    for number in 0..5 {
        dialogue(&mut client, &[("MAIL FROM:<>", "250"), ("RCPT TO:<anna@server1.com>", "250"), ("DATA", "354")]);
        dialogue(&mut client, &[(&format!("Subject: {number}\r\n\r\n."), "250 2.0.0")]);
    }
    dialogue(&mut client, &[("MAIL FROM:<>", "250"), ("RCPT TO:<anna@server1.com>", "250"), ("DATA", "354")]);
    client.send(b"Subject: never finished\r\n");
    let server = Server::start_in(server.kill());
    let messages = fetch_all(&server, "anna");
    assert_eq!(messages.len(), 5);
    for (number, message) in messages.iter().enumerate() {
        assert!(message.ends_with(format!("Subject: {number}\r\n\r\n").as_bytes()));
    }
}

#[test]
fn sigterm_lets_a_message_finish() {
    let mut server = Server::start(content::story());
    let mut idle = greeted(&server);
    let mut busy = greeted(&server);
    dialogue(&mut busy, &[("MAIL FROM:<>", "250"), ("RCPT TO:<anna@server1.com>", "250"), ("DATA", "354")]);
    busy.send(b"Subject: in flight\r\n");
    server.signal("TERM");
    assert!(idle.reply()[0].starts_with("421 4.3.2"));
    assert!(idle.rest().is_empty());
    busy.send(b"\r\nall of it\r\n");
    assert!(busy.smtp(".").starts_with("250 2.0.0"));
    assert!(busy.reply()[0].starts_with("421 4.3.2"));
    assert!(server.wait().success());
    let server = Server::start_in(server.kill());
    assert!(fetch_all(&server, "anna")[0].ends_with(b"Subject: in flight\r\n\r\nall of it\r\n"));
}

#[test]
fn garbage_gets_an_error_and_no_memory() {
    let server = Server::start(content::story());
    let before = server.peak_resident_kib();
    let mut client = greeted(&server);
    dialogue(&mut client, &[("GET / HTTP/1.1", "500 5.5.1"), ("\u{fc}\0\u{1}", "500 5.5.2"), ("EHLO", "501 5.5.4")]);
    // A line of 20 MB, then a command: the session lives.
    for _ in 0..20 {
        client.send(&[b'x'; 1 << 20]);
    }
    dialogue(&mut client, &[("", "500 5.5.2"), ("NOOP", "250 2.0.0")]);
    // Noise of all octets until the server has had enough.
    let noise: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let noisy: Vec<u8> = noise.chunks(97).flat_map(|chunk| [chunk, b"\r\n"].concat()).collect();
    let _ = client.try_send(&noisy);
    let rest = String::from_utf8_lossy(&client.rest()).into_owned();
    assert!(rest.contains("421 4.7.0 too many errors"), "{rest}");
    assert!(server.peak_resident_kib() - before < 8 << 10);
    // TLS on a plain port, and the other way round.
    let mut plain = Client::connect(server.address("smtp"));
    plain.reply();
    plain.send(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n");
    assert!(plain.reply()[0].starts_with("500 "));
    assert_eq!(server.get("/healthz").0, 200);
    assert!(!server.log().contains("panicked"));
}

#[test]
fn smuggled_ends_deliver_nothing() {
    let server = Server::start(content::story());
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\r\n\0.\r\n"] {
        let mut client = greeted(&server);
        dialogue(&mut client, &[("MAIL FROM:<>", "250"), ("RCPT TO:<anna@server1.com>", "250"), ("DATA", "354")]);
        client.send(
            format!("Subject: 1\r\n\r\none{end}MAIL FROM:<>\r\nRCPT TO:<tom@server1.com>\r\nDATA\r\ntwo\r\n.\r\n")
                .as_bytes(),
        );
        let reply = client.reply().pop().unwrap();
        assert!(reply.starts_with("550 5.6.11"), "{end:?}: {reply}");
        assert!(client.smtp("QUIT").starts_with("221 "));
        assert!(client.rest().is_empty(), "{end:?}");
    }
    assert!(fetch_all(&server, "anna").is_empty() && fetch_all(&server, "tom").is_empty());
}

fn probe(arguments: &[&str], password: Option<&std::path::Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paquebot-server"));
    command.arg("probe").args(arguments);
    if let Some(file) = password {
        command.arg("--password-file").arg(file);
    }
    command.output().unwrap()
}

#[test]
fn the_probe_sends_fetches_and_compares() {
    let server = Server::start(content::story());
    let file = |name: &str, text: &str| {
        let path = server.home.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let password = file("password", "tom-password\n");
    let (smtp, pop3) = (server.address("smtp").to_string(), server.address("pop3").to_string());
    let port = |name: &str| format!("localhost:{}", server.address(name).port());
    let said = |output: &Output| {
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };

    let authority = server.home.certificate_file();
    let trusted = ["--ca-file", authority.to_str().unwrap()];
    let (submission, pop3s) = (port("submission"), port("pop3s"));
    let roundtrip = ["roundtrip", "--smtp", &submission, "--pop3", &pop3s, "--user", "tom@server1.com"];
    let output = probe(&[&roundtrip[..], &trusted].concat(), Some(&password));
    assert!(output.status.success() && said(&output).contains("the same"), "{}", said(&output));
    let output = probe(&roundtrip, Some(&password));
    assert!(!output.status.success() && said(&output).contains("certificate"), "{}", said(&output));
    let pop3_plain = [
        "roundtrip",
        "--smtp",
        &port("submissions"),
        "--smtp-tls",
        "implicit",
        "--pop3",
        &pop3,
        "--pop3-tls",
        "starttls",
    ];
    let output = probe(&[&pop3_plain[..], &["--user", "tom@server1.com", "--insecure-tls"]].concat(), Some(&password));
    assert!(output.status.success(), "{}", said(&output));

    let message = file("message", "Subject: from a file\n\n.dot\n");
    let plain = [
        "send",
        "--server",
        &smtp,
        "--tls",
        "none",
        "--message-file",
        message.to_str().unwrap(),
        "--from",
        "x@else.example",
    ];
    let output = probe(&[&plain[..], &["--to", "tom@server1.com"]].concat(), None);
    assert!(output.status.success() && said(&output).starts_with("250 2.0.0"), "{}", said(&output));
    let output = probe(&[&plain[..], &["--to", "tom@server1.com", "--to", "jack@server2.com"]].concat(), None);
    assert!(!output.status.success() && said(&output).contains("553 5.7.1"), "{}", said(&output));

    let fetch =
        ["fetch", "--server", &pop3s, "--user", "tom@server1.com", "--insecure-tls", "--containing", "from a file"];
    let output = probe(&[&fetch[..], &["--wait", "20", "--delete"]].concat(), Some(&password));
    assert!(output.stdout.ends_with(b"Subject: from a file\r\n\r\n.dot\r\n"), "{}", said(&output));
    let output = probe(&[&fetch[..], &["--wait", "1"]].concat(), Some(&password));
    assert!(
        !output.status.success() && said(&output).contains("no message with \\\"from a file\\\""),
        "{}",
        said(&output)
    );
}

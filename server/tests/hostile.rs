//! Clients that mean no good, or do not know better: the server bounds what they take, and serves the others meanwhile.
//! What a single session may do is the conformance suites' affair; here it is about many of them, and about memory.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::time::{Duration, Instant};

use support::client::Client;
use support::{Server, content, wait_for};

/// What hostile clients may cost beyond what the server has taken before.
const ALLOWED_KIB: u64 = 24 * 1024;

/// One message for anna by SMTP, and its way out by POP3.
fn others_are_served(server: &Server) {
    let begin = Instant::now();
    let mut client = Client::connect(server.address("smtp"));
    assert!(client.reply()[0].starts_with("220 "));
    for (command, expected) in [
        ("EHLO client.example", "250"),
        ("MAIL FROM:<someone@example.net>", "250"),
        ("RCPT TO:<anna@server1.com>", "250"),
        ("DATA", "354"),
    ] {
        assert!(client.smtp(command).starts_with(expected), "{command}");
    }
    client.send(b"Subject: meanwhile\r\n\r\ntext\r\n");
    assert!(client.smtp(".").starts_with("250 "));
    let mut client = Client::connect_tls(server.address("pop3s"));
    client.line();
    client.say("USER anna@server1.com");
    assert!(client.say("PASS anna-password").starts_with("+OK"));
    assert!(client.say("DELE 1").starts_with("+OK"));
    assert!(client.say("QUIT").starts_with("+OK"));
    assert!(begin.elapsed() < Duration::from_secs(30), "others waited {:?}", begin.elapsed());
}

/// Memory after hostile work, compared with what it was after honest work.
fn costs_little(server: &Server, work: impl FnOnce()) {
    others_are_served(server);
    server.reset_peak();
    let before = server.peak_resident_kib();
    work();
    let after = server.peak_resident_kib();
    println!("peak resident memory {before} KiB before, {after} KiB after");
    assert!(after < before + ALLOWED_KIB, "{before} KiB before, {after} KiB after");
}

#[test]
fn ten_thousand_connections_are_bounded() {
    let mut content = content::story();
    content.server.limits.connections = 500;
    let server = Server::start(content);
    let address = server.address("smtp");
    costs_little(&server, || {
        let mut held: Vec<Client> = Vec::new();
        let mut refused = 0;
        for _ in 0..10_000 {
            let mut client = Client::connect(address);
            let line = client.line().unwrap_or_default();
            if line.starts_with("220 ") {
                held.push(client);
            } else {
                assert!(line.starts_with("421 4.7.0 too many connections"), "{line:?}");
                refused += 1;
            }
        }
        assert_eq!((held.len(), refused), (500, 9_500));
        // Who is in stays in, and a place that becomes free is given to the next.
        assert!(held[0].smtp("EHLO client.example").starts_with("250"));
        held.truncate(490);
        wait_for("a free place", || Client::connect(address).line().filter(|line| line.starts_with("220 ")));
        others_are_served(&server);
        assert_eq!(server.get("/readyz").0, 200);
    });
    server.stop();
}

#[test]
fn slow_clients_do_not_hold_up_others() {
    let server = Server::start(content::story());
    costs_little(&server, || {
        // Each stands somewhere else: in the greeting, a command, the data, a login, a TLS handshake.
        let mut slow: Vec<Client> = Vec::new();
        for number in 0..300 {
            let port = ["smtp", "submission", "pop3", "pop3s", "submissions"][number % 5];
            let mut client = Client::connect(server.address(port));
            if port == "smtp" {
                client.reply();
                for command in
                    ["EHLO slow.example", "MAIL FROM:<slow@example.net>", "RCPT TO:<anna@server1.com>", "DATA"]
                {
                    client.smtp(command);
                }
            }
            slow.push(client);
        }
        for octet in b"x: a" {
            for client in &mut slow {
                // A handshake that makes no sense may have been ended already.
                let _ = client.try_send(&[*octet]);
            }
            others_are_served(&server);
        }
    });
    // They are no reason to wait at the end either.
    server.stop();
}

#[test]
fn lines_without_an_end_cost_no_memory() {
    let server = Server::start(content::story());
    costs_little(&server, || {
        let piece = vec![b'x'; 100_000];
        for port in ["smtp", "submission", "pop3"] {
            let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(server.address(port))).collect();
            for client in &mut clients {
                for _ in 0..20 {
                    // The server may have had enough.
                    if client.try_send(&piece).is_err() {
                        break;
                    }
                }
            }
            others_are_served(&server);
        }
    });
    server.stop();
}

#[test]
fn headers_without_an_end_and_parts_within_parts_cost_no_memory() {
    let server = Server::start(content::story());
    costs_little(&server, || {
        let folded = "X-Long: a\r\n ".repeat(2_000);
        let nested: String = (0..2_000)
            .map(|depth| format!("--b{depth}\r\nContent-Type: multipart/mixed; boundary=b{}\r\n\r\n", depth + 1))
            .collect();
        for piece in [folded, nested] {
            let mut client = Client::connect(server.address("smtp"));
            client.reply();
            for command in ["EHLO client.example", "MAIL FROM:<x@example.net>", "RCPT TO:<tom@server1.com>", "DATA"] {
                client.smtp(command);
            }
            client.send(b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b0\r\n");
            for _ in 0..300 {
                client.send(piece.as_bytes());
            }
            let reply = client.smtp("\r\n.");
            assert!(reply.starts_with("250") || reply.starts_with('5'), "{reply}");
            others_are_served(&server);
        }
    });
    server.stop();
}

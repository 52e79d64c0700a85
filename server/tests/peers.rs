//! `GET /peers` from outside: who connected to a real server process, and who may ask.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use support::client::Client;
use support::{DEADLINE, Home, Server, content, wait_for};

const TOKEN: &str = "a-token-for-tests-only";

/// Status and JSON of `GET /peers`.
fn ask(server: &Server, token: Option<&str>) -> (u16, Value) {
    let mut stream = TcpStream::connect(server.address("admin")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "GET /peers HTTP/1.1\r\nHost: localhost\r\n{token}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// The clients of a listener: address, whether a proxy said it, connections.
fn peers(server: &Server, listener: &str) -> Vec<(String, bool, u64)> {
    let (status, answer) = ask(server, Some(TOKEN));
    assert_eq!((status, &answer["client"]), (200, &json!("127.0.0.1")), "{answer}");
    let listed = answer["listeners"].as_array().unwrap();
    let found = listed.iter().find(|entry| entry["name"] == listener).unwrap();
    let list = found["peers"].as_array().unwrap().iter();
    list.map(|peer| {
        assert!(peer["secondsAgo"].as_u64().unwrap() < DEADLINE.as_secs(), "{peer}");
        let address = peer["address"].as_str().unwrap().to_owned();
        (address, peer["byProxy"].as_bool().unwrap(), peer["connections"].as_u64().unwrap())
    })
    .collect()
}

#[test]
fn clients_are_listed_as_they_were_judged_for_who_shows_the_token() {
    let mut content = content::story();
    let trusted = vec!["127.0.0.0/8".parse().unwrap()];
    content.server.listeners[1].proxy_protocol = Some(paquebot_config::ProxyProtocol { trusted });
    let server = Server::start_in(Home::new(content));
    assert_eq!(ask(&server, Some(TOKEN)).0, 403, "nobody may ask before there is a token");
    let directory = server.home.config_dir().join("admin");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("token"), TOKEN).unwrap();
    assert_eq!(ask(&server, None).0, 401);
    assert_eq!(ask(&server, Some("a-token-for-tests-onlx")).0, 401);
    assert_eq!(peers(&server, "smtp"), []);

    for _ in 0..2 {
        assert!(Client::connect(server.address("smtp")).reply()[0].starts_with("220 "));
    }
    let mut proxied = Client::connect(server.address("submission"));
    proxied.send(b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 25\r\n");
    assert!(proxied.reply()[0].starts_with("220 "));
    assert_eq!(peers(&server, "smtp"), [("127.0.0.1".to_owned(), false, 2)]);
    assert_eq!(peers(&server, "submission"), [("203.0.113.9".to_owned(), true, 1)]);
    // A proxy that speaks for itself (version 2, LOCAL), as a health check does.
    let mut health = Client::connect(server.address("submission"));
    health.send(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    wait_for("the health check", || {
        peers(&server, "submission").contains(&("127.0.0.1".to_owned(), false, 1)).then_some(())
    });
    assert_eq!(peers(&server, "pop3"), []);
}

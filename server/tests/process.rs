//! The process from outside: start, failed start, reload, readiness, the end.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use paquebot_config::ShardName;
use support::client::Client;
use support::{Home, Server, content, wait_for};

fn run_to_the_end(arguments: &[&str]) -> (Option<i32>, String) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut child = support::spawn(arguments, log.path());
    let status = wait_for("the failed start", || child.try_wait().unwrap());
    (status.code(), std::fs::read_to_string(log.path()).unwrap())
}

#[test]
fn a_start_that_cannot_succeed_fails_with_a_sentence() {
    let home = Home::new(content::story());
    let config = home.config_dir().to_str().unwrap().to_owned();
    let file = home.directory.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let under_file = file.join("data").to_str().unwrap().to_owned();
    let (code, log) = run_to_the_end(&["--config-dir", &config, "--data-dir", &under_file, "--admin-port", "0"]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(&format!("the mail store in {under_file} cannot be opened")), "{log}");

    // The admin port, and a mail port, that somebody else has.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let data = home.data_dir().to_str().unwrap().to_owned();
    let (code, log) =
        run_to_the_end(&["--config-dir", &config, "--data-dir", &data, "--admin-port", &port.to_string()]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(&format!("admin HTTP cannot open 127.0.0.1:{port}")), "{log}");

    let mut content = content::story();
    content.server.listeners[3].port = port;
    let home = Home::new(content);
    let config = home.config_dir().to_str().unwrap().to_owned();
    let (code, log) = run_to_the_end(&["--config-dir", &config, "--data-dir", &data, "--admin-port", "0"]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("pop3") && log.contains("another process has this port"), "{log}");
}

#[test]
fn two_processes_cannot_have_one_store_and_the_second_takes_over() {
    let first = Server::start(content::story());
    let (config, data) = (first.home.config_dir(), first.home.data_dir());
    // As after a forced deletion: the same volume, another pod.
    let mut second = Server::spawn_on(Home::new(content::story()), &data);
    let (code, text) = wait_for("the second to wait", || {
        Some(second.get("/readyz")).filter(|(_, text)| text.contains("another paquebot-server has the mail store"))
    });
    assert_eq!(code, 503, "{text}");
    assert_eq!(second.get("/healthz").0, 200, "nobody restarts it for that");
    assert!(config.exists() && first.get("/readyz").0 == 200);
    let _home = first.kill();
    second.wait_until_ready();
    second.stop();
}

#[test]
fn the_first_configuration_is_waited_for_with_the_admin_pages_open() {
    let home = Home::empty(content::story());
    let mut server = Server::spawn(home);
    assert_eq!(server.get("/healthz").0, 200);
    let (code, text) = server.get("/readyz");
    assert_eq!(code, 503);
    assert!(text.contains("not ready: there is no configuration"), "{text}");
    let configz = wait_for("the first look", || Some(server.configz()).filter(|page| !page["error"].is_null()));
    assert!(configz["revision"].is_null(), "{configz}");

    // Without a certificate mail ports are open, but nobody can log in, and readiness says so.
    let revision = server.home.write_configuration();
    wait_for("the configuration", || (server.configz()["revision"] == revision).then_some(()));
    let (code, text) = wait_for("the mail ports", || {
        Some(server.get("/readyz")).filter(|(_, text)| !text.contains("the mail ports are not open"))
    });
    assert_eq!(code, 503);
    assert!(text.contains("nobody can log in without TLS: there is no certificate"), "{text}");
    server.home.write_certificate(&content::certificate(&["mail.server1.com"]));
    server.wait_until_ready();
    assert_eq!(server.configz()["counts"]["mailboxes"], 2);
    assert_eq!(server.configz()["version"], env!("CARGO_PKG_VERSION"));
    server.stop();
}

#[test]
fn a_configuration_is_reloaded_without_dropping_a_session() {
    let mut server = Server::start(content::story());
    let mut session = Client::connect_tls(server.address("pop3s"));
    session.line();
    session.say("USER tom@server1.com");
    assert!(session.say("PASS tom-password").starts_with("+OK"));

    let fresh = |server: &Server, user: &str, password: &str| {
        let mut client = Client::connect_tls(server.address("pop3s"));
        client.line();
        client.say(&format!("USER {user}"));
        client.say(&format!("PASS {password}"))
    };
    assert!(fresh(&server, "new@server1.com", "new-password").starts_with("-ERR [AUTH]"));
    server.reconfigure(|content| content.records.push(content::mailbox("new@server1.com", "new-password")));
    assert!(fresh(&server, "new@server1.com", "new-password").starts_with("+OK"));

    // A bad set is refused whole, the old one keeps serving, and /configz says why.
    let shard = ShardName::of("server1.com").to_string();
    let domains = server.home.config_dir().join(&shard);
    let good = std::fs::read(&domains).unwrap();
    let index = server.home.config_dir().join("index.json");
    let good_index = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&domains, b"").unwrap();
    std::fs::write(&index, format!("{good_index} ")).unwrap();
    let configz = wait_for("the refusal", || Some(server.configz()).filter(|page| !page["error"].is_null()));
    assert!(configz["error"].as_str().unwrap().contains(&shard), "{configz}");
    assert!(fresh(&server, "new@server1.com", "new-password").starts_with("+OK"));
    assert_eq!(server.get("/readyz").0, 200);
    std::fs::write(&domains, good).unwrap();
    wait_for("recovery", || server.configz()["error"].is_null().then_some(()));
    assert!(session.say("NOOP").starts_with("+OK"));
}

#[test]
fn a_certificate_is_reloaded() {
    let server = Server::start(content::story());
    let seen = || Client::connect_tls(server.address("pop3s")).certificate.unwrap();
    let first = seen();
    let sha256 = server.configz()["certificate"]["sha256"].clone();
    assert_eq!(sha256, paquebot_config::bundle::digest(&first));
    // A key that is another certificate's changes nothing but /configz.
    let (certificate, key) = content::certificate(&["mail.server1.com"]);
    let key_file = server.home.config_dir().join("tls/tls.key");
    let good_key = std::fs::read(&key_file).unwrap();
    std::fs::write(&key_file, &key).unwrap();
    wait_for("the refusal", || (!server.configz()["certificateError"].is_null()).then_some(()));
    assert_eq!(seen(), first);
    std::fs::write(&key_file, good_key).unwrap();
    server.home.write_certificate(&(certificate, key));
    wait_for("the new certificate", || (server.configz()["certificate"]["sha256"] != sha256).then_some(()));
    assert_ne!(seen(), first);
    assert!(server.configz()["certificateError"].is_null());
}

#[test]
fn sigterm_lets_a_message_finish_and_sends_the_others_away() {
    let mut content = content::story();
    content.server.shutdown.pre_stop_delay_seconds = 2;
    let mut server = Server::start(content);
    let mut sender = Client::connect(server.address("smtp"));
    sender.reply();
    sender.smtp("EHLO client.example");
    sender.smtp("MAIL FROM:<someone@example.net>");
    assert!(sender.smtp("RCPT TO:<anna@server1.com>").starts_with("250"));
    assert!(sender.smtp("DATA").starts_with("354"));
    sender.send(b"Subject: last post\r\n\r\nhalf\r\n");
    let mut reader = Client::connect_tls(server.address("pop3s"));
    reader.line();
    reader.say("USER anna@server1.com");
    assert!(reader.say("PASS anna-password").starts_with("+OK 0 "));

    server.signal("TERM");
    wait_for("readiness to turn", || (server.get("/readyz").0 == 503).then_some(()));
    assert!(server.get("/readyz").1.contains("shutting down"));
    // While endpoints forget the pod, new clients are still served.
    let mut late = Client::connect(server.address("smtp"));
    assert!(late.reply()[0].starts_with("220 "));
    let last = reader.line().unwrap();
    assert!(last.starts_with("-ERR [SYS/TEMP]"), "{last}");
    assert_eq!(reader.line(), None);
    sender.send(b"whole\r\n");
    assert!(sender.smtp(".").starts_with("250 "));
    drop((sender, late));
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());

    let log = server.log();
    let home = std::mem::replace(&mut server.home, Home::empty(content::story()));
    let server = Server::start_in(home);
    let mut reader = Client::connect_tls(server.address("pop3s"));
    reader.line();
    reader.say("USER anna@server1.com");
    assert!(reader.say("PASS anna-password").starts_with("+OK 1 "), "{log}");
}

#[test]
fn a_second_signal_ends_at_once_and_a_stubborn_client_cannot_keep_the_server() {
    let mut content = content::story();
    content.server.shutdown.pre_stop_delay_seconds = 50;
    let mut server = Server::start(content);
    server.signal("TERM");
    wait_for("readiness to turn", || (server.get("/readyz").0 == 503).then_some(()));
    server.signal("TERM");
    let begin = Instant::now();
    assert_eq!(server.wait().code(), Some(1));
    assert!(begin.elapsed() < Duration::from_secs(20));

    let mut content = content::story();
    content.server.shutdown.drain_timeout_seconds = 1;
    let mut server = Server::start(content);
    let mut client = Client::connect(server.address("smtp"));
    client.reply();
    client.smtp("EHLO client.example");
    client.smtp("MAIL FROM:<someone@example.net>");
    client.smtp("RCPT TO:<anna@server1.com>");
    assert!(client.smtp("DATA").starts_with("354"));
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[test]
fn connections_are_limited_and_the_limit_can_be_raised() {
    let mut content = content::story();
    content.server.limits.connections = 2;
    let mut server = Server::start(content);
    let mut first = Client::connect(server.address("pop3"));
    first.line();
    let mut second = Client::connect(server.address("smtp"));
    second.reply();
    let mut third = Client::connect(server.address("pop3"));
    assert_eq!(third.line().unwrap(), "-ERR [SYS/TEMP] too many connections; try again later");
    assert_eq!(third.line(), None);
    let mut third = Client::connect(server.address("smtp"));
    assert_eq!(third.line().unwrap(), "421 4.7.0 too many connections; try again later");
    server.reconfigure(|content| content.server.limits.connections = 3);
    let mut third = Client::connect(server.address("pop3"));
    assert!(third.line().unwrap().starts_with("+OK"));
    drop(first);
    wait_for("a free place", || Client::connect(server.address("pop3")).line().filter(|line| line.starts_with("+OK")));
    let (code, metrics) = server.get("/metrics");
    assert_eq!(code, 200);
    assert!(
        metrics.contains("paquebot_refused_connections_total{protocol=\"smtp\",result=\"too_many\"} 1"),
        "{metrics}"
    );
}

#[test]
fn running_out_of_file_descriptors_is_survived() {
    let mut server = Server::spawn_limited(Home::new(content::story()), 80);
    server.wait_until_ready();
    let address = server.address("pop3");
    let crowd: Vec<_> = (0..120).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    wait_for("the shortage", || server.log().contains("could not be accepted").then_some(()));
    // While it lasts, the server rests instead of trying in a circle.
    let lines = server.log().matches("could not be accepted").count();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let more = server.log().matches("could not be accepted").count() - lines;
    assert!(more <= 30, "{more} attempts in two seconds");
    drop(crowd);
    wait_for("a greeting", || Client::connect(address).line().filter(|line| line.starts_with("+OK")));
    wait_for("readiness", || (support::http_get(server.address("admin"), "/readyz")?.0 == 200).then_some(()));
    server.stop();
}

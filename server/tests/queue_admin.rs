//! The queue's admin API from outside: a real server process whose mail for elsewhere cannot be routed, so that it waits,
//! and a person with HTTP.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use base64::Engine as _;
use serde_json::{Value, json};
use support::client::Client;
use support::{Home, Server, content, wait_for};

const TOKEN: &str = "a-token-for-tests-only";

fn write_token(home: &Home, text: &str) {
    let directory = home.config_dir().join("admin");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("token"), text).unwrap();
}

fn ask(server: &Server, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, Value) {
    server.ask_admin(method, path, token, body)
}

fn get(server: &Server, path: &str) -> Value {
    let (status, answer) = ask(server, "GET", path, Some(TOKEN), "");
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// How many recipients an action touched.
fn act(server: &Server, action: &str, body: &Value) -> u64 {
    let (status, answer) = ask(server, "POST", &format!("/queue/{action}"), Some(TOKEN), &body.to_string());
    assert_eq!(status, 200, "{action} {body}: {answer}");
    answer["touched"].as_u64().unwrap()
}

fn submit(server: &Server, to: &[&str]) {
    let mut client = Client::connect_tls(server.address("submissions"));
    client.reply();
    client.smtp("EHLO client.example");
    let login = base64::engine::general_purpose::STANDARD.encode("\0tom@server1.com\0tom-password");
    assert!(client.smtp(&format!("AUTH PLAIN {login}")).starts_with("235"));
    assert!(client.smtp("MAIL FROM:<tom@server1.com>").starts_with("250"));
    for address in to {
        assert!(client.smtp(&format!("RCPT TO:<{address}>")).starts_with("250"));
    }
    assert!(client.smtp("DATA").starts_with("354"));
    assert!(client.smtp("Subject: for elsewhere\r\nFrom: <tom@server1.com>\r\n\r\nthe body\r\n.").starts_with("250"));
}

fn tom_has(server: &Server) -> u64 {
    let mut client = Client::connect_tls(server.address("pop3s"));
    client.line();
    assert!(client.say("USER tom@server1.com").starts_with("+OK"));
    assert!(client.say("PASS tom-password").starts_with("+OK"));
    let answer = client.say("STAT");
    client.say("QUIT");
    answer.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn recipients(answer: &Value) -> Vec<String> {
    let list = answer["recipients"].as_array().unwrap().iter();
    list.map(|row| row["recipient"].as_str().unwrap().to_owned()).collect()
}

/// A server with a token and mail for jack and jane at one domain and joe at another, tried once without success.
fn waiting() -> Server {
    let mut wanted = content::story();
    // Nobody answers there: each attempt fails at once, whatever this machine's resolvers are.
    wanted.server.resolvers.addresses = vec!["127.0.0.1:1".parse().unwrap()];
    let home = Home::new(wanted);
    write_token(&home, TOKEN);
    let server = Server::start_in(home);
    submit(&server, &["jack@d1.example", "joe@d2.example"]);
    submit(&server, &["jane@d1.example"]);
    wait_for("the first attempts", || (get(&server, "/queue?state=deferred")["counts"]["deferred"] == 3).then_some(()));
    server
}

#[test]
fn nobody_comes_in_without_a_token() {
    let server = Server::start_in(Home::new(content::story()));
    let (status, answer) = ask(&server, "GET", "/queue", Some(TOKEN), "");
    assert_eq!(status, 403);
    assert!(answer["error"].as_str().unwrap().contains("admin/token"), "{answer}");
    write_token(&server.home, TOKEN);
    for (method, path) in
        [("GET", "/queue"), ("GET", "/queue/messages/x"), ("POST", "/queue/drop"), ("GET", "/queue/x")]
    {
        for token in [None, Some("wrong"), Some("a-token-for-tests-onlx")] {
            let (status, answer) = ask(&server, method, path, token, "{\"all\": true, \"notify\": false}");
            assert_eq!(status, 401, "{method} {path} {token:?}");
            assert!(answer["error"].as_str().unwrap().contains("Authorization: Bearer"), "{answer}");
        }
    }
    assert_eq!(get(&server, "/queue")["counts"], json!({"due": 0, "deferred": 0, "scheduled": 0, "held": 0}));
    let (_, metrics) = server.get("/metrics");
    assert!(metrics.contains("paquebot_admin_refused_total 12\n"), "guessing shows: {metrics}");
    write_token(&server.home, "anna another-token-for-tests\n");
    assert_eq!(ask(&server, "GET", "/queue", Some(TOKEN), "").0, 401, "it was changed");
    assert_eq!(ask(&server, "GET", "/queue", Some("another-token-for-tests"), "").0, 200);
    let everything = "x".repeat(100_000);
    assert_eq!(ask(&server, "POST", "/queue/hold", Some("another-token-for-tests"), &everything).0, 413);
}

#[test]
fn what_waits_is_listed_in_pages_and_shown() {
    let server = waiting();
    assert_eq!(recipients(&get(&server, "/queue?destination=d1.example")), ["jack@d1.example", "jane@d1.example"]);
    assert_eq!(recipients(&get(&server, "/queue?recipient=JOE@d2.example")), ["joe@d2.example"]);
    assert_eq!(recipients(&get(&server, "/queue?sender=anna@server1.com")), Vec::<String>::new());
    let first = get(&server, "/queue?limit=2&sender=tom@server1.com");
    assert_eq!(recipients(&first).len(), 2);
    let rest = get(&server, &format!("/queue?limit=2&after={}", first["next"]));
    assert_eq!((recipients(&rest), &rest["next"]), (vec!["jane@d1.example".to_owned()], &Value::Null));
    let row = &rest["recipients"][0];
    assert!(row["attempts"].as_u64().unwrap() >= 1 && row["lastError"].as_str().unwrap().contains("4."), "{row}");
    let id = row["message"].as_str().unwrap();
    let shown = get(&server, &format!("/queue/messages/{id}"));
    assert!(shown["header"].as_str().unwrap().contains("Subject: for elsewhere\r\n"), "{shown}");
    assert_eq!((&shown["sender"], &shown["body"]), (&json!("tom@server1.com"), &Value::Null));
    assert_eq!(recipients(&shown), ["jane@d1.example"]);
    let whole = get(&server, &format!("/queue/messages/{id}?body=true"));
    assert_eq!((&whole["body"], &whole["bodyIsWhole"]), (&json!("the body\r\n"), &json!(true)));
    assert_eq!(ask(&server, "GET", "/queue/messages/nothing", Some(TOKEN), "").0, 404);
    for wrong in ["/queue?limit=1001", "/queue?state=gone", "/queue?destination=a..b", "/queue?colour=red"] {
        assert_eq!(ask(&server, "GET", wrong, Some(TOKEN), "").0, 400, "{wrong}");
    }
}

#[test]
fn recipients_are_held_released_retried_rerouted_and_dropped() {
    let server = waiting();
    for wrong in [
        "",
        "{}",
        "{\"all\": false}",
        "{\"destination\": \"d1.example\", \"wrong\": 1}",
        "{\"all\": true, \"to\": null}",
    ] {
        assert_eq!(ask(&server, "POST", "/queue/hold", Some(TOKEN), wrong).0, 400, "{wrong}");
    }
    let d1 = json!({"destination": "d1.example"});
    assert_eq!(act(&server, "hold", &d1), 2);
    assert_eq!(act(&server, "hold", &d1), 0, "they are held already");
    assert_eq!(get(&server, "/queue")["counts"]["held"], 2);
    assert_eq!(act(&server, "retry", &d1), 0, "what is held is not tried");

    // What is retried is tried again, though its destination rests.
    assert_eq!(act(&server, "retry", &json!({"recipient": "joe@d2.example"})), 1);
    let attempts = |path: &str| get(&server, path)["recipients"][0]["attempts"].as_u64().unwrap();
    wait_for("another attempt", || (attempts("/queue?recipient=joe@d2.example") >= 2).then_some(()));
    assert_eq!(attempts("/queue?recipient=jack@d1.example"), 1, "what is held is not");

    assert_eq!(act(&server, "release", &json!({"recipient": "jack@d1.example"})), 1);
    wait_for("an attempt after the release", || (attempts("/queue?recipient=jack@d1.example") >= 2).then_some(()));

    let away = json!({"destination": "d1.example", "to": {"host": "mx.example.com", "port": 26}});
    assert_eq!(act(&server, "reroute", &away), 2);
    assert_eq!(get(&server, "/queue?state=held")["recipients"][0]["route"], "host:mx.example.com:26");
    assert_eq!(act(&server, "reroute", &json!({"all": true, "to": null})), 2);

    // With a report, or without.
    let no_answer = ask(&server, "POST", "/queue/drop", Some(TOKEN), &d1.to_string());
    assert_eq!(no_answer.0, 400, "whether the sender is told has to be said");
    assert_eq!(act(&server, "drop", &json!({"recipient": "jack@d1.example", "notify": false})), 1);
    assert_eq!(act(&server, "drop", &json!({"recipient": "jane@d1.example", "notify": true})), 1);
    wait_for("the report", || (tom_has(&server) == 1).then_some(()));
    wait_for("an empty queue but for joe", || {
        (recipients(&get(&server, "/queue")) == ["joe@d2.example"]).then_some(())
    });
    assert_eq!(tom_has(&server), 1, "one was dropped silently");
    wait_for("the metrics", || {
        let (_, metrics) = server.get("/metrics");
        let counted = metrics.contains("paquebot_queue_actions_total{result=\"drop\"} 2");
        (counted && metrics.contains("paquebot_queued_recipients 1\n")).then_some(())
    });
    let logged = server.log_lines();
    let by_hand: Vec<_> = logged.iter().filter(|line| line["message"] == "the queue was changed by hand").collect();
    assert!(by_hand.iter().any(|line| line["who"] == "admin" && line["action"] == "drop"), "{by_hand:?}");
    assert!(!server.log().contains(TOKEN));
}

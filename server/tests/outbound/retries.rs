//! RFC 5321 §4.5.4.1, §4.2.1: what is tried again, what is not, and when it ends.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deferred_is_delivered_later_and_its_delay_reported_once() {
    let world = World::new(says("451 4.7.1 come back later")).await;
    let id = world.send(b"Subject: hi\r\n\r\nhello\r\n", &["jack@server2.com"]).await;
    let rows = world.until_deferred("server2.com", 1).await;
    assert_eq!(rows[0].last_error.as_deref(), Some("mx.server2.com: 451 4.7.1 come back later"));
    let told = world.tom_has(1).await;
    assert!(told[0].contains("Action: delayed\r\nStatus: 4.7.1\r\n"), "{}", told[0]);
    assert!(told[0].contains(&format!("X-Paquebot-Message-ID: {id}\r\n")));
    world.make_due(&rows).await;
    world.until("it was not tried again", async || (world.count("deferred") >= 2).then_some(())).await;
    world.peer.set_rules(Rules::default());
    let rows = world.until_deferred("server2.com", 1).await;
    world.make_due(&rows).await;
    world.until_empty().await;
    assert_eq!(world.peer.taken().len(), 1);
    world.tom_has(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_of_one_message_have_outcomes_of_their_own() {
    let reply = |address: &str| match address.split('@').next().unwrap() {
        "gone" => "550 5.1.1 gone",
        "full" => "452 4.2.2 full",
        _ => "250 ok",
    };
    let world = World::new(Rules { recipient: Arc::new(reply), ..Rules::default() }).await;
    let to = ["full@server2.com", "gone@server2.com", "here@server2.com", "x@nowhere.example"];
    world.send(b"Subject: split\r\n\r\n", &to).await;
    let rows = world.until_deferred("server2.com", 1).await;
    assert_eq!(rows[0].recipient.address, address("full@server2.com"));
    assert_eq!(world.until_taken(1).await[0].recipients, ["here@server2.com"]);
    let told = world.tom_has(2).await.join("\n");
    assert!(told.contains("Final-Recipient: rfc822; gone@server2.com\r\nAction: failed\r\nStatus: 5.1.1\r\n"));
    assert!(told.contains("Final-Recipient: rfc822; full@server2.com\r\nAction: delayed\r\nStatus: 4.2.2\r\n"));
    assert!(told.contains("Final-Recipient: rfc822; x@nowhere.example\r\nAction: failed\r\nStatus: 5.1.2\r\n"));
    assert_eq!(world.store.queue_counts().await.unwrap().recipients, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_old_is_given_up_with_5_4_7() {
    let world = World::new(says("451 4.7.1 later")).await;
    let port = world.peer.address.port();
    world.configuration.replace(configuration(&world.dns, port, &["server1.com"], 0));
    world.send(b"\r\n", &["jack@server2.com"]).await;
    world.until_empty().await;
    let told = world.tom_has(1).await;
    assert!(told[0].contains("Action: failed\r\nStatus: 5.4.7\r\n") && told[0].contains("4.7.1 later"), "{}", told[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_server_may_have_got_is_not_sent_again_at_once() {
    let offered = Arc::new(AtomicUsize::new(0));
    let content = {
        let offered = Arc::clone(&offered);
        move |_: &[u8]| if offered.fetch_add(1, Ordering::SeqCst) == 1 { "" } else { "250 ok" }
    };
    let mut world = World::new(Rules { content: Arc::new(content), ..Rules::default() }).await;
    world.queue.take().unwrap().shutdown(Duration::from_secs(30)).await;
    for body in [b"1", b"2"] {
        world.send(body, &["jack@server2.com"]).await;
    }
    world.start();
    let rows = world.until_deferred("server2.com", 1).await;
    assert!(rows[0].last_error.as_deref().unwrap().contains("4.4.2"), "{rows:?}");
    assert_eq!((world.peer.taken().len(), offered.load(Ordering::SeqCst)), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_after_the_message_defers_it() {
    let world = World::new(Rules { content: Arc::new(|_| ""), ..Rules::default() }).await;
    world.send(b"\r\n", &["jack@server2.com"]).await;
    let rows = world.until_deferred("server2.com", 1).await;
    assert!(rows[0].last_error.as_deref().unwrap().contains("4.4.2"), "{rows:?}");
    world.peer.set_rules(Rules { content: Arc::new(|_| "554 5.6.0 bad content"), ..Rules::default() });
    world.make_due(&rows).await;
    world.until_empty().await;
    assert!(world.tom_has(2).await[1].contains("Status: 5.6.0\r\n"));
}

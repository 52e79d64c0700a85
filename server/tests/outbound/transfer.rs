//! RFC 5321 §3.3, §4.1.1.4, §4.5.2: how a message goes over a connection, and many over one.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_arrives_as_it_was_stored_once_for_all_recipients_of_a_domain() {
    let world = World::new(Rules { slowly: true, ..Rules::default() }).await;
    let body = b"Subject: hi\r\n\r\n.leading dot\r\n..two\r\n.\r\n8-bit: \xc3\xa4\r\n";
    let declared = Declared::eight_bit(true);
    world.send_as(Some("tom@server1.com"), body, declared, &["jack@server2.com", "jill@server2.com"]).await;
    world.until_empty().await;
    let taken = world.peer.taken();
    assert_eq!(taken.len(), 1);
    let size = TRACE.len() + body.len();
    assert_eq!(taken[0].mail, format!("MAIL FROM:<tom@server1.com> SIZE={size} BODY=8BITMIME"));
    assert_eq!(taken[0].recipients, ["jack@server2.com", "jill@server2.com"]);
    assert_eq!(taken[0].content, [TRACE.as_bytes(), body].concat());
    assert_eq!(world.count("sent"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_is_streamed_whole() {
    let world = World::new(Rules::default()).await;
    let body = b"a line that is repeated, and begins\r\n.with a dot now and then\r\n".repeat(80_000);
    world.send(&body, &["jack@server2.com"]).await;
    world.until_empty().await;
    assert!(world.peer.taken()[0].content == [TRACE.as_bytes(), &body].concat());
    let files = std::fs::read_dir(world.directory.path().join("bodies")).unwrap().count();
    assert_eq!(files, 0, "its file goes with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_many_messages_and_is_replaced_when_the_server_has_enough() {
    let mut world = World::new(Rules { messages_per_connection: 4, ..Rules::default() }).await;
    world.queue.take().unwrap().shutdown(Duration::from_secs(30)).await;
    for number in 0..10 {
        world.send(format!("{number}").as_bytes(), &["jack@server2.com"]).await;
    }
    world.start();
    world.until_empty().await;
    let taken = world.peer.taken();
    let numbers: Vec<String> = (0..10).map(|number| format!("{TRACE}{number}\r\n")).collect();
    assert_eq!(taken.iter().map(|taken| String::from_utf8_lossy(&taken.content)).collect::<Vec<_>>(), numbers);
    let connections: Vec<usize> = taken.iter().map(|taken| taken.connection).collect();
    assert_eq!(connections, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_message_is_never_taken_for_a_whole_one() {
    let mut world = World::new(Rules::default()).await;
    world.queue.take().unwrap().shutdown(Duration::from_secs(30)).await;
    world.send(&b"a line\r\n".repeat(50_000), &["jack@server2.com"]).await;
    let file = std::fs::read_dir(world.directory.path().join("bodies")).unwrap().next().unwrap().unwrap().path();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(100_000).unwrap();
    world.start();
    let rows = world.until_deferred("server2.com", 1).await;
    assert!(rows[0].last_error.as_deref().unwrap().contains("damaged"), "{rows:?}");
    assert!(world.peer.taken().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_for_the_next_message_and_replaced_when_the_server_closed_it() {
    let world = World::new(Rules::default()).await;
    for number in 1..=2 {
        world.send(b"\r\n", &["jack@server2.com"]).await;
        world.until_taken(number).await;
        world.until_empty().await;
    }
    world.peer.set_rules(Rules::default());
    world.send(b"\r\n", &["jack@server2.com"]).await;
    world.until_empty().await;
    let connections: Vec<usize> = world.peer.taken().iter().map(|taken| taken.connection).collect();
    assert_eq!((connections, world.count("deferred")), (vec![0, 0, 1], 0));
}

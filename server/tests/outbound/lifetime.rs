//! The end of the process and a store that fails: nothing is lost, nothing is sent whose outcome cannot be kept.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_recipient_whose_outcome_cannot_be_kept_is_not_tried_again_by_this_process() {
    let (rules, has_arrived, go) = waits();
    let world = World::new(rules).await;
    let arrived = || tokio::task::block_in_place(|| has_arrived.recv_timeout(Duration::from_secs(60))).unwrap();
    world.send(b"\r\n", &["jack@server2.com"]).await;
    arrived();
    let database = rusqlite::Connection::open(world.directory.path().join("mail.db")).unwrap();
    database.busy_timeout(Duration::from_secs(30)).unwrap();
    database.execute_batch("PRAGMA foreign_keys = OFF; DELETE FROM message").unwrap();
    go.send(()).unwrap();
    world.until_taken(1).await;
    world.send(b"\r\n", &["jill@server2.com"]).await;
    arrived();
    go.send(()).unwrap();
    let taken = world.until_taken(2).await;
    world
        .until("the second was not settled", async || {
            (world.store.queue_counts().await.unwrap().recipients == 1).then_some(())
        })
        .await;
    assert_eq!(taken[1].recipients, ["jill@server2.com"]);
    assert_eq!(taken[1].connection, 0, "the connection stayed open, and nobody connected in between");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_when_the_outcome_could_not_be_recorded() {
    let mut world = World::new(Rules::default()).await;
    world.queue.take().unwrap().shutdown(Duration::from_secs(30)).await;
    for _ in 0..50 {
        world.send(&[b'x'; 30_000], &["jack@server2.com"]).await;
    }
    world.store.close().await;
    world.store = EmbeddedStore::open(world.directory.path()).unwrap();
    world.send(b"\r\n", &["jill@server2.com"]).await;
    // What is in the log cannot be carried over into this any more.
    let database = std::fs::File::options().write(true).open(world.directory.path().join("mail.db")).unwrap();
    let content = std::fs::read(world.directory.path().join("mail.db")).unwrap();
    database.set_len(8192).unwrap();
    assert!(!world.store.has_room(u64::MAX).await);
    world.store.broken().await;
    // Reading works all the same.
    std::fs::write(world.directory.path().join("mail.db"), content).unwrap();
    world.start();
    world.until("the queue was not looked at", async || (world.metrics.queued.get() == 51).then_some(())).await;
    world.queue.take().unwrap().shutdown(Duration::from_secs(30)).await;
    assert!(world.peer.taken().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_sent_before_the_end_is_sent_after_the_next_start() {
    let mut world = World::new(says("451 4.7.1 later")).await;
    world.send(b"\r\n", &["jack@server2.com"]).await;
    world.until_deferred("server2.com", 1).await;
    world.queue.take().unwrap().shutdown(Duration::from_secs(30)).await;
    world.send(b"two\r\n", &["jill@server2.com"]).await;
    world.store.close().await;
    world.store = EmbeddedStore::open(world.directory.path()).unwrap();
    world.peer.set_rules(Rules::default());
    world.start();
    let taken = world.until_taken(1).await;
    assert_eq!(taken[0].recipients, ["jill@server2.com"], "what is deferred is not due yet");
    let rows = world.until_deferred("server2.com", 1).await;
    world.make_due(&rows).await;
    world.until_empty().await;
    assert_eq!(world.peer.taken()[1].recipients, ["jack@server2.com"]);
}

/// Rules by which the peer waits for a word before it answers the end of a message, and a receiver that hears when it
/// waits.
fn waits() -> (Rules, std::sync::mpsc::Receiver<()>, std::sync::mpsc::Sender<()>) {
    let (arrived, has_arrived) = std::sync::mpsc::channel();
    let (go, may_go) = std::sync::mpsc::channel();
    let may_go = std::sync::Mutex::new(may_go);
    let content = move |_: &[u8]| {
        arrived.send(()).unwrap();
        let answer = tokio::task::block_in_place(|| may_go.lock().unwrap().recv());
        if answer.is_ok() { "250 taken" } else { "" }
    };
    (Rules { content: Arc::new(content), ..Rules::default() }, has_arrived, go)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_message_that_is_being_sent_at_the_end_is_finished_and_settled() {
    let (rules, has_arrived, go) = waits();
    let mut world = World::new(rules).await;
    world.send(b"\r\n", &["jack@server2.com"]).await;
    tokio::task::block_in_place(|| has_arrived.recv_timeout(Duration::from_secs(60))).unwrap();
    let end = tokio::spawn(world.queue.take().unwrap().shutdown(Duration::from_secs(60)));
    world.send(b"\r\n", &["jill@server2.com"]).await;
    go.send(()).unwrap();
    end.await.unwrap();
    assert_eq!(world.peer.taken().len(), 1);
    let left = world.store.due_recipients(&domain("server2.com"), Timestamp::MAX, 10).await.unwrap();
    assert_eq!(left.iter().map(|row| row.recipient.address.to_string()).collect::<Vec<_>>(), ["jill@server2.com"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_peer_that_does_not_answer_does_not_hold_up_the_end() {
    let (rules, has_arrived, go) = waits();
    let mut world = World::new(rules).await;
    world.send(b"\r\n", &["jack@server2.com"]).await;
    tokio::task::block_in_place(|| has_arrived.recv_timeout(Duration::from_secs(60))).unwrap();
    world.queue.take().unwrap().shutdown(Duration::from_millis(100)).await;
    let left = world.store.due_recipients(&domain("server2.com"), Timestamp::now(), 10).await.unwrap();
    assert_eq!((left.len(), left[0].attempts), (1, 0), "it is due as if it had not been tried");
    drop(go);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_message_yet_does_not_hold_up_the_end() {
    let mut world = World::new(Rules::default()).await;
    let silent = tokio::net::TcpListener::bind(("127.0.0.3", world.peer.address.port())).await.unwrap();
    world.dns.mx("silent.example", 10, "silent.example");
    world.dns.a("silent.example", [127, 0, 0, 3]);
    for greeting in ["", "220 hello\r\n250 hello\r\n"] {
        world.send(b"\r\n", &["jack@silent.example"]).await;
        let (mut connection, _) = silent.accept().await.unwrap();
        connection.write_all(greeting.as_bytes()).await.unwrap();
        let mut said = vec![0; if greeting.is_empty() { 0 } else { "EHLO mx.server1.com\r\nMAIL".len() }];
        connection.read_exact(&mut said).await.unwrap();
        let start = Instant::now();
        world.queue.take().unwrap().shutdown(Duration::from_secs(120)).await;
        assert!(start.elapsed() < Duration::from_secs(60), "it waited for the server");
        world.start();
        drop(silent.accept().await.unwrap());
        let rows = world.until_deferred("silent.example", 1).await;
        assert_eq!(rows[0].attempts, 1, "what the end broke off was no attempt");
        let finished = rows.iter().map(|row| row.key).collect();
        world.store.settle(Settlement { finished, ..Settlement::default() }).await.unwrap();
        world.queue.take().unwrap().shutdown(Duration::from_secs(30)).await;
        world.start();
    }
}

//! What the store does not take, for a moment or for good, keeps nothing else from being done.

use std::sync::atomic::AtomicBool;

use paquebot_server::delivery::filter::Filters;
use paquebot_server::store::StoreError;
use paquebot_server::store::embedded::Access;
use paquebot_server::store::outgoing::QueueChange;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn one_outcome_that_the_store_refuses_does_not_stop_all_mail() {
    let world = World::new(Rules::default()).await;
    let database = rusqlite::Connection::open(world.directory.path().join("mail.db")).unwrap();
    database.busy_timeout(Duration::from_secs(30)).unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE DELETE ON recipient WHEN old.address = 'odd@server2.com' \
                  BEGIN SELECT RAISE(ABORT, 'not this one'); END";
    database.execute_batch(refuse).unwrap();
    for to in ["odd@server2.com", "jack@server2.com"] {
        world.send(b"\r\n", &[to]).await;
    }
    world.until_taken(2).await;
    // Nothing is sent while it is not known whether the outcome can be kept; then it goes on.
    world.send(b"\r\n", &["jill@server2.com"]).await;
    let taken = world.until_taken(3).await;
    let odd = taken.iter().filter(|taken| taken.recipients == ["odd@server2.com"]).count();
    assert_eq!(odd, 1, "what was taken is not sent again: {taken:?}");
    world
        .until("others stay in the queue", async || {
            (world.store.queue_counts().await.unwrap().recipients == 1).then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_a_person_drops_leaves_the_queue_when_the_volume_has_room_again() {
    let directory = tempfile::tempdir().unwrap();
    let is_full = Arc::new(AtomicBool::new(false));
    let faults = {
        let is_full = Arc::clone(&is_full);
        move |access| match access {
            Access::Write if is_full.load(Ordering::SeqCst) => Err(StoreError::DiskFull),
            _ => Ok(()),
        }
    };
    let store = EmbeddedStore::open_in_place(directory.path(), Arc::new(faults)).unwrap();
    for number in 0..150 {
        let acceptance = Acceptance {
            id: MessageId::generate(),
            received_at: Timestamp::now(),
            reverse_path: Some(address("tom@server1.com")),
            sender_tenant: None,
            trace: Bytes::new(),
            body: paquebot_server::store::Body::from(Bytes::from_static(b"\r\n")),
            declared: Declared::default(),
            local: Vec::new(),
            remote: vec![address(&format!("jack{number}@server2.com")).into()],
            derived: Vec::new(),
            remember: Vec::new(),
        };
        store.commit(acceptance).await.unwrap();
    }
    let keys = async |notify: bool| {
        let all = store.list_queue(Default::default(), Timestamp::now(), 0, 1000).await.unwrap();
        let keys = all.iter().map(|listed| listed.row.key).filter(|key| (key % 2 == 0) == notify).collect();
        store.change_queue(keys, QueueChange::Drop { notify }).await.unwrap();
    };
    keys(true).await;
    keys(false).await;
    is_full.store(true, Ordering::SeqCst);
    let dns = Dns::start().await;
    let configuration = LiveConfiguration::new(configuration(&dns, 25, &["server1.com"], 432_000));
    let (metrics, wake) = (Arc::new(Metrics::new()), Arc::new(Notify::new()));
    let queue = Queue::start(store.clone(), configuration, metrics, Filters::default(), wake).unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(store.queue_counts().await.unwrap().recipients, 150);
    is_full.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(store.queue_counts().await.unwrap().recipients, 0);
    assert_eq!(store.usage(&address("tom@server1.com").into()).await.unwrap().messages, 75, "half of it with a report");
    queue.shutdown(Duration::from_secs(10)).await;
}

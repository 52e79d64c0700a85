//! The store from outside: what was committed is there, whole and once, and nothing else is.

mod copies;
mod tenants;

use std::collections::HashSet;
use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::Domain;
use proptest::prelude::*;

use super::spool::THRESHOLD;
use super::*;
use crate::store::envelope::{ByMode, DeliverBy, Notify, OriginalRecipient, Ret, Route};
use crate::store::outgoing::{Deferral, QueueStore, Settlement};
use crate::store::{
    Body, BodyType, Content, Declared, Derived, Folder, LocalDelivery, MaildropName, MessageId, Remembrance,
    RemoteRecipient,
};

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn delivery(maildrop: &str) -> LocalDelivery {
    let fields = Bytes::from_static(b"Return-Path: <tom@server1.com>\r\n");
    LocalDelivery { maildrop: address(maildrop).into(), fields, body_from: None, quota: None, ascii_growth: None }
}

/// Bytes that show where one is missing or out of place. They end a line where they are long enough.
fn content(octets: usize) -> Vec<u8> {
    let mut content: Vec<u8> = (0..octets).map(|i| u8::try_from((i ^ (i >> 8) ^ (i >> 16)) & 0xff).unwrap()).collect();
    if let Some(end) = octets.checked_sub(2) {
        content[end..].copy_from_slice(b"\r\n");
    }
    content
}

async fn spooled(store: &EmbeddedStore, bytes: &[u8]) -> Body {
    let mut spool = store.spool(u64::MAX).await.unwrap();
    spool.append(bytes).await.unwrap();
    spool.finish().await.unwrap()
}

fn acceptance(body: Body, local: &[&str], remote: &[&str]) -> Acceptance {
    Acceptance {
        id: MessageId::generate(),
        received_at: Timestamp::now(),
        reverse_path: Some(address("tom@server1.com")),
        sender_tenant: None,
        trace: Bytes::from_static(b"Received: from there\r\n by here\r\n"),
        body,
        declared: Declared::eight_bit(true),
        local: local.iter().map(|name| delivery(name)).collect(),
        remote: remote.iter().map(|name| address(name).into()).collect(),
        derived: Vec::new(),
        remember: Vec::new(),
    }
}

async fn collect(mut reader: Box<dyn MessageReader>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        assert!(piece.len() <= 64 * 1024);
        bytes.extend_from_slice(&piece);
    }
    bytes
}

async fn fetch_all(store: &EmbeddedStore, maildrop: &str) -> Vec<Vec<u8>> {
    let maildrop = address(maildrop);
    let open = store.open_maildrop(&maildrop.clone().into()).await.unwrap();
    let mut messages = Vec::new();
    for entry in &open.entries {
        let bytes = collect(store.read(&maildrop.clone().into(), entry.key).await.unwrap()).await;
        assert_eq!(bytes.len() as u64, entry.octets);
        messages.push(bytes);
    }
    messages
}

fn expected(body: &[u8]) -> Vec<u8> {
    [b"Return-Path: <tom@server1.com>\r\nReceived: from there\r\n by here\r\n", body].concat()
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory.join("bodies")).unwrap().count()
}

#[tokio::test]
async fn what_is_committed_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    for octets in [0, 5, THRESHOLD, THRESHOLD + 1, 1_000_000] {
        let body = spooled(&store, &content(octets)).await;
        store.commit(acceptance(body, &["Anna@server1.com", "jack@server1.com"], &[])).await.unwrap();
    }
    store.close().await;
    assert!(matches!(store.usage(&address("anna@server1.com").into()).await, Err(StoreError::Failed(_))));
    let store = EmbeddedStore::open(directory.path()).unwrap();
    for maildrop in ["anna@server1.com", "\"JACK\"@server1.com"] {
        let messages = fetch_all(&store, maildrop).await;
        let sizes = [0, 5, THRESHOLD, THRESHOLD + 1, 1_000_000];
        assert_eq!(messages, sizes.map(|octets| expected(&content(octets))));
        let usage = store.usage(&address(maildrop).into()).await.unwrap();
        assert_eq!((usage.messages, usage.octets), (5, messages.iter().map(|m| m.len() as u64).sum()));
    }
    assert_eq!(files(directory.path()), 2, "one file per large message, however many maildrops");
}

#[tokio::test]
async fn a_maildrop_is_open_once_and_frees_itself() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let anna = address("anna@server1.com");
    let first = store.open_maildrop(&anna.clone().into()).await.unwrap();
    assert!(matches!(store.open_maildrop(&address("ANNA@server1.com").into()).await, Err(StoreError::MaildropInUse)));
    assert!(store.open_maildrop(&address("jack@server1.com").into()).await.is_ok());
    drop(first);
    assert!(store.open_maildrop(&anna.clone().into()).await.is_ok());
}

#[tokio::test]
async fn deletion_is_all_or_nothing_and_gives_space_back_after_the_last_reference() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let (anna, jack) = (address("anna@server1.com"), address("jack@server1.com"));
    for _ in 0..2 {
        let body = spooled(&store, &content(200_000)).await;
        store.commit(acceptance(body, &["anna@server1.com", "jack@server1.com"], &[])).await.unwrap();
    }
    let keys: Vec<i64> =
        store.open_maildrop(&anna.clone().into()).await.unwrap().entries.iter().map(|entry| entry.key).collect();
    let with_a_stranger = [keys[0], keys[1], 999];
    assert!(matches!(store.delete(&anna.clone().into(), &with_a_stranger).await, Err(StoreError::NotFound)));
    assert!(matches!(store.delete(&jack.clone().into(), &keys).await, Err(StoreError::NotFound)), "another's messages");
    assert_eq!(store.usage(&anna.clone().into()).await.unwrap().messages, 2);

    let reading = store.read(&anna.clone().into(), keys[0]).await.unwrap();
    store.delete(&anna.clone().into(), &keys).await.unwrap();
    assert_eq!(store.usage(&anna.clone().into()).await.unwrap(), Usage::default());
    assert_eq!(files(directory.path()), 2, "Jack still has them");
    let keys: Vec<i64> =
        store.open_maildrop(&jack.clone().into()).await.unwrap().entries.iter().map(|entry| entry.key).collect();
    store.delete(&jack.clone().into(), &keys).await.unwrap();
    assert_eq!(files(directory.path()), 0);
    assert_eq!(collect(reading).await, expected(&content(200_000)), "who reads it reads to the end");
}

#[tokio::test]
async fn unique_ids_are_never_given_twice() {
    let directory = tempfile::tempdir().unwrap();
    let anna = address("anna@server1.com");
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let store = EmbeddedStore::open(directory.path()).unwrap();
        for _ in 0..2 {
            store
                .commit(acceptance(
                    Body::from(Bytes::from_static(b"same")),
                    &["anna@server1.com", "anna@server1.com"],
                    &[],
                ))
                .await
                .unwrap();
        }
        let entries = store.open_maildrop(&anna.clone().into()).await.unwrap().entries;
        assert_eq!(entries.len(), 4);
        for entry in &entries {
            let unique_id = entry.unique_id().to_string();
            assert!(unique_id.len() <= 70 && unique_id.bytes().all(|byte| byte.is_ascii_graphic()));
            assert!(seen.insert(unique_id));
        }
        let keys: Vec<i64> = entries.iter().map(|entry| entry.key).collect();
        store.delete(&anna.clone().into(), &keys).await.unwrap();
        store.close().await;
    }
}

#[tokio::test]
async fn a_quota_refuses_the_whole_acceptance_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let body = content(100);
    let size = expected(&body).len() as u64;
    let limited = |quota| {
        let mut acceptance = acceptance(
            Body::from(Bytes::from(body.clone())),
            &["jack@server1.com", "anna@server1.com"],
            &["x@y.example"],
        );
        acceptance.local[1].quota = Some(quota);
        acceptance
    };
    let fits = store.commit(limited(size));
    let (first, second) = tokio::join!(fits, store.commit(limited(2 * size - 1)));
    first.unwrap();
    assert!(matches!(second, Err(StoreError::OverQuota(who)) if who == address("anna@server1.com")));
    store.commit(limited(2 * size)).await.unwrap();
    for maildrop in ["anna@server1.com", "jack@server1.com"] {
        assert_eq!(fetch_all(&store, maildrop).await.len(), 2);
    }
    assert_eq!(store.queue_counts().await.unwrap().recipients, 2);
}

#[tokio::test]
async fn what_is_not_committed_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let mut unfinished = store.spool(u64::MAX).await.unwrap();
    unfinished.append(&content(300_000)).await.unwrap();
    let finished = spooled(&store, &content(300_000)).await;
    assert_eq!(files(directory.path()), 2);
    drop(unfinished);
    drop(finished);
    // Removed by a thread that may block.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while files(directory.path()) > 0 {
        assert!(std::time::Instant::now() < deadline, "files of no message are left");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let body = spooled(&store, &content(300_000)).await;
    assert!(store.commit(acceptance(body, &[], &[])).await.is_err(), "a message for nobody");
    assert_eq!(files(directory.path()), 0);
    let mut limited = store.spool(10).await.unwrap();
    assert!(limited.append(&content(11)).await.is_err());
}

/// A store whose database file was cut short by somebody else, with mail in its log that cannot be carried over any more.
async fn cut_short(directory: &Path) -> Arc<EmbeddedStore> {
    let store = EmbeddedStore::open(directory).unwrap();
    for _ in 0..300 {
        let body = Body::from(Bytes::from(content(30_000)));
        store.commit(acceptance(body, &["anna@server1.com"], &["a@x.example"])).await.unwrap();
    }
    store.close().await;
    let store = EmbeddedStore::open(directory).unwrap();
    store.commit(acceptance(Body::from(Bytes::new()), &["anna@server1.com"], &[])).await.unwrap();
    std::fs::File::options().write(true).open(directory.join("mail.db")).unwrap().set_len(8192).unwrap();
    store
}

#[tokio::test]
async fn nothing_is_committed_after_room_could_not_be_made_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = cut_short(directory.path()).await;
    assert!(store.commit_work(Work::MakeRoom).await.is_err(), "carrying the log over failed for good");
    assert!(store.commit(acceptance(Body::from(Bytes::new()), &["jack@server1.com"], &[])).await.is_err());
    store.broken().await;
}

#[tokio::test]
async fn damage_that_is_met_while_writing_stops_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = cut_short(directory.path()).await;
    let settlement = Settlement { finished: vec![1], ..Settlement::default() };
    assert!(matches!(store.settle(settlement).await, Err(StoreError::Corrupt(_))));
    tokio::time::timeout(std::time::Duration::from_secs(30), store.broken()).await.unwrap();
}

#[tokio::test]
async fn a_row_of_the_queue_that_cannot_be_read_does_not_stop_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let to = ["a@x.example", "b@x.example", "c@y.example", "d@z.example"];
    store.commit(acceptance(Body::from(Bytes::new()), &[], &to)).await.unwrap();
    let database = rusqlite::Connection::open(directory.path().join("mail.db")).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    database.execute("UPDATE recipient SET domain = 'no domain' WHERE address = 'c@y.example'", []).unwrap();
    database.execute("UPDATE recipient SET address = 'no address' WHERE address = 'a@x.example'", []).unwrap();
    let now = Timestamp::now() + std::time::Duration::from_secs(1);
    let destinations = store.due_destinations(now).await.unwrap();
    assert_eq!(destinations.iter().map(Domain::as_str).collect::<Vec<_>>(), ["x.example", "z.example"]);
    let rows = store.due_recipients(&destinations[0], now, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.recipient.address.to_string()).collect::<Vec<_>>(), ["b@x.example"]);
}

#[tokio::test]
async fn files_of_no_message_go_when_the_store_opens() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let body = spooled(&store, &content(300_000)).await;
    store.commit(acceptance(body, &["anna@server1.com"], &[])).await.unwrap();
    store.close().await;
    std::fs::write(directory.path().join("bodies/0123"), "left by a crash").unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    assert_eq!(files(directory.path()), 1);
    assert_eq!(fetch_all(&store, "anna@server1.com").await, [expected(&content(300_000))]);
}

#[tokio::test]
async fn many_writers_share_transactions_and_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let writers: Vec<_> = (0..32)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for number in 0..20 {
                    let body = format!("{writer} {number}\r\n").into_bytes();
                    let to = format!("user{}@server1.com", writer % 4);
                    store.commit(acceptance(Body::from(Bytes::from(body)), &[&to], &[])).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let mut bodies = HashSet::new();
    for user in 0..4 {
        bodies.extend(fetch_all(&store, &format!("user{user}@server1.com")).await);
    }
    let wanted = (0..32).flat_map(|w| (0..20).map(move |n| expected(format!("{w} {n}\r\n").as_bytes())));
    assert_eq!(bodies, wanted.collect());
}

#[tokio::test]
async fn the_queue_keeps_a_message_until_its_last_recipient_is_settled() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let now = Timestamp::now();
    let body = spooled(&store, &content(100_000)).await;
    let mut incoming = acceptance(body, &["anna@server1.com"], &["a@x.example", "b@x.example", "c@y.example"]);
    incoming.received_at = now;
    let id = incoming.id.clone();
    store.commit(incoming).await.unwrap();
    let destinations = store.due_destinations(now).await.unwrap();
    assert_eq!(destinations.iter().map(ToString::to_string).collect::<Vec<_>>(), ["x.example", "y.example"]);
    let rows = store.due_recipients(&destinations[0], now, 10).await.unwrap();
    assert_eq!(rows.len(), 2);
    let message = store.queued_message(rows[0].message).await.unwrap();
    assert_eq!((message.id, message.octets), (id, 100_000 + 32));
    let sent = collect(store.read_queued(rows[0].message).await.unwrap()).await;
    assert!(sent.starts_with(b"Received: ") && sent.ends_with(&content(100_000)));

    let later = now + std::time::Duration::from_secs(60);
    let deferral = Deferral { key: rows[1].key, due: later, error: "421 busy".to_owned(), warned: true };
    let report = acceptance(Body::from(Bytes::from_static(b"report\r\n")), &["tom@server1.com"], &[]);
    let settlement = Settlement {
        finished: vec![rows[0].key],
        deferred: vec![deferral],
        delivered_here: vec![(rows[0].message, delivery("jack@server1.com"))],
        redirected: vec![(rows[0].message, address("d@z.example").into())],
        reports: vec![report],
        ..Settlement::default()
    };
    store.settle(settlement).await.unwrap();
    let gone = Settlement { finished: vec![rows[0].key], ..Settlement::default() };
    assert!(matches!(store.settle(gone).await, Err(StoreError::NotFound)), "settled once only");
    assert!(store.due_recipients(&destinations[0], now, 10).await.unwrap().is_empty());
    let next = store.next_due(now).await.unwrap().unwrap();
    assert_eq!(next.as_millisecond(), later.as_millisecond());
    let again = store.due_recipients(&destinations[0], later, 10).await.unwrap();
    assert_eq!((again[0].attempts, again[0].warned, again[0].last_error.as_deref()), (1, true, Some("421 busy")));
    assert_eq!(fetch_all(&store, "jack@server1.com").await, [expected(&content(100_000))]);
    assert_eq!(fetch_all(&store, "tom@server1.com").await, [expected(b"report\r\n")]);
    let counts = store.queue_counts().await.unwrap();
    assert_eq!((counts.recipients, counts.deferred), (3, 1));
    assert_eq!(counts.oldest.unwrap().as_millisecond(), now.as_millisecond());

    for maildrop in ["anna@server1.com", "jack@server1.com"] {
        let open = store.open_maildrop(&address(maildrop).into()).await.unwrap();
        store.delete(&address(maildrop).into(), &[open.entries[0].key]).await.unwrap();
    }
    assert_eq!(files(directory.path()), 1);
    for domain in store.due_destinations(later).await.unwrap() {
        let rows = store.due_recipients(&domain, later, 10).await.unwrap();
        let finished = rows.iter().map(|row| row.key).collect();
        store.settle(Settlement { finished, ..Settlement::default() }).await.unwrap();
    }
    assert_eq!(files(directory.path()), 0);
}

#[tokio::test]
async fn a_maildrop_of_100_000_messages_opens_by_its_index() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    store.commit(acceptance(Body::from(Bytes::new()), &["anna@server1.com"], &[])).await.unwrap();
    let database = rusqlite::Connection::open(directory.path().join("mail.db")).unwrap();
    let copies = "INSERT INTO entry (maildrop, message, octets, run, fields)
        WITH RECURSIVE number (value) AS (SELECT 2 UNION ALL SELECT value + 1 FROM number WHERE value < 100000)
        SELECT 1, 1, value, 0, '' FROM number";
    database.execute_batch(&copies.replace("''", "x''")).unwrap();
    let plan = "EXPLAIN QUERY PLAN SELECT key, octets, run FROM entry WHERE maildrop = 1 ORDER BY key";
    let plan: String = database.query_row(plan, [], |row| row.get(3)).unwrap();
    assert!(plan.contains("USING COVERING INDEX entry_listing"), "{plan}");
    let start = std::time::Instant::now();
    let open = store.open_maildrop(&address("anna@server1.com").into()).await.unwrap();
    println!("100,000 entries in {:?}", start.elapsed());
    assert_eq!(open.entries.len(), 100_000);
    assert!(open.entries.is_sorted_by_key(|entry| entry.key));
}

fn refusal(directory: &Path) -> String {
    match EmbeddedStore::open(directory) {
        Ok(_) => panic!("the store opened"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_damaged_or_missing_database_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("mail.db");
    let store = EmbeddedStore::open(directory.path()).unwrap();
    assert!(refusal(directory.path()).contains("another paquebot-server"), "two processes must not share a store");
    for _ in 0..50 {
        store
            .commit(acceptance(Body::from(Bytes::from(content(30_000))), &["anna@server1.com"], &["a@x.example"]))
            .await
            .unwrap();
    }
    store.close().await;
    let good = std::fs::read(&database).unwrap();

    std::fs::write(&database, b"").unwrap();
    assert!(refusal(directory.path()).contains("mail.db: it does not begin"));
    let mut overwritten = good.clone();
    overwritten[8192..16384].fill(0xa5);
    std::fs::write(&database, &overwritten).unwrap();
    assert!(refusal(directory.path()).contains("mail.db"));
    std::fs::write(&database, &good[..good.len() / 2]).unwrap();
    assert!(refusal(directory.path()).contains("mail.db"));
    std::fs::remove_file(&database).unwrap();
    assert!(refusal(directory.path()).contains("mail.db is missing"));
    std::fs::write(&database, &good).unwrap();
    assert_eq!(fetch_all(&EmbeddedStore::open(directory.path()).unwrap(), "anna@server1.com").await.len(), 50);
}

#[test]
fn a_newer_schema_is_refused_with_the_cure() {
    let directory = tempfile::tempdir().unwrap();
    drop(EmbeddedStore::open(directory.path()).unwrap());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let database = rusqlite::Connection::open(directory.path().join("mail.db")).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let mut told = refusal(directory.path());
    while told.contains("locked") && std::time::Instant::now() < deadline {
        std::thread::yield_now();
        told = refusal(directory.path());
    }
    assert!(told.contains("version 99") && told.contains("newer version"), "{told}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn stored_is_what_was_appended_in_any_pieces(
        octets in prop_oneof![0..2000_usize, THRESHOLD - 3..THRESHOLD + 4, 100_000..500_000_usize],
        pieces in prop::collection::vec(1..200_000_usize, 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let store = EmbeddedStore::open(directory.path()).unwrap();
            let body = content(octets);
            let mut spool = store.spool(octets as u64).await.unwrap();
            let mut rest = &body[..];
            for size in pieces.iter().cycle() {
                let (piece, next) = rest.split_at(rest.len().min(*size));
                spool.append(piece).await.unwrap();
                rest = next;
                if rest.is_empty() {
                    break;
                }
            }
            let stored = spool.finish().await.unwrap();
            assert_eq!(matches!(stored, Body::File(_)), octets > THRESHOLD);
            store.commit(acceptance(stored, &["anna@server1.com"], &[])).await.unwrap();
            assert_eq!(fetch_all(&store, "anna@server1.com").await, [expected(&body)]);
        });
    }
}

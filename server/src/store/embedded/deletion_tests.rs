//! Deleting many messages: all or nothing, whatever ends the process, and without keeping others waiting.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use jiff::Timestamp;
use paquebot_config::Address;
use rusqlite::Connection;

use super::deletion::{Deletion, ROUND, finish_all, locate};
use super::tools::{check, repair};
use super::transaction::Work;
use super::{EmbeddedStore, MaildropLock, recovery};
use crate::store::{
    Acceptance, Body, Declared, LocalDelivery, MailboxName, MaildropName, MessageId, Store, StoreError,
};

/// Several rounds, the last of which is not full.
const MANY: usize = 10 * ROUND + 7;

fn maildrop(name: &str) -> MaildropName {
    Address::parse(name).unwrap().into()
}

async fn body(store: &EmbeddedStore, octets: usize) -> Body {
    let mut spool = store.spool(u64::MAX).await.unwrap();
    spool.append(&vec![b'x'; octets]).await.unwrap();
    spool.finish().await.unwrap()
}

fn to(body: Body, names: &[&str]) -> Acceptance {
    let fields = Bytes::from_static(b"Return-Path: <>\r\n");
    let local = names.iter().map(|name| LocalDelivery {
        maildrop: maildrop(name),
        fields: fields.clone(),
        body_from: None,
        quota: None,
        ascii_growth: None,
    });
    Acceptance {
        id: MessageId::generate(),
        received_at: Timestamp::now(),
        reverse_path: None,
        sender_tenant: None,
        trace: Bytes::new(),
        body,
        declared: Declared::default(),
        local: local.collect(),
        remote: Vec::new(),
        derived: Vec::new(),
        remember: Vec::new(),
    }
}

/// Anna has many messages: the first ten are large, and Jack has those too.
async fn filled(directory: &Path) -> Arc<EmbeddedStore> {
    let store = EmbeddedStore::open(directory).unwrap();
    for _ in 0..10 {
        let body = body(&store, 100_000).await;
        store.commit(to(body, &["anna@server1.com", "jack@server1.com"])).await.unwrap();
    }
    let small = || to(Body::from(Bytes::from_static(b"hello\r\n")), &["anna@server1.com"]);
    let commits = join_all((10..MANY).map(|_| store.commit(small()))).await;
    assert!(commits.iter().all(Result::is_ok));
    store
}

async fn keys(store: &EmbeddedStore, name: &str) -> Vec<i64> {
    store.open_maildrop(&maildrop(name)).await.unwrap().entries.iter().map(|entry| entry.key).collect()
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory.join("bodies")).unwrap().count()
}

fn is_whole(directory: &Path) {
    assert_eq!(check::check(directory).unwrap().findings, Vec::<String>::new());
    let database = Connection::open(directory.join("mail.db")).unwrap();
    let unfinished: i64 = database.query_row("SELECT count(*) FROM deletion", [], |row| row.get(0)).unwrap();
    assert_eq!(unfinished, 0);
}

#[tokio::test]
async fn many_messages_go_together_or_stay_together() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path()).await;
    let anna = maildrop("anna@server1.com");
    let mut all = keys(&store, "anna@server1.com").await;
    let foreign = keys(&store, "jack@server1.com").await[3];
    for wrong in [foreign, i64::MAX, all[0]] {
        all.push(wrong);
        assert!(matches!(store.delete(&anna, &all).await, Err(StoreError::NotFound)), "{wrong}");
        all.pop();
    }
    assert_eq!(store.usage(&anna.mailbox).await.unwrap().messages, MANY as u64);
    // All but two, in any order.
    let (kept, going) = all.split_at(2);
    let going: Vec<i64> = going.iter().rev().copied().collect();
    store.delete(&anna, &going).await.unwrap();
    assert_eq!(keys(&store, "anna@server1.com").await, kept);
    assert_eq!(files(directory.path()), 10, "Jack has them");
    let jacks = keys(&store, "jack@server1.com").await;
    store.delete(&maildrop("jack@server1.com"), &jacks).await.unwrap();
    assert_eq!(files(directory.path()), 2);
    store.close().await;
    is_whole(directory.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn others_mail_is_taken_while_many_messages_go() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path()).await;
    let all = keys(&store, "anna@server1.com").await;
    let deletion = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.delete(&maildrop("anna@server1.com"), &all).await }
    });
    let mut taken = 0;
    while !deletion.is_finished() {
        let hello = Body::from(Bytes::from_static(b"hello\r\n"));
        store.commit(to(hello, &["jack@server1.com", "anna@server1.com"])).await.unwrap();
        taken += 1;
    }
    deletion.await.unwrap().unwrap();
    assert!(taken >= 5, "each round lets others in, and there are more than ten: {taken}");
    assert_eq!(keys(&store, "anna@server1.com").await.len(), taken, "what came meanwhile is there");
    assert_eq!(keys(&store, "jack@server1.com").await.len(), 10 + taken);
    store.close().await;
    is_whole(directory.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_a_maildrop_that_is_half_empty() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path()).await;
    let all = keys(&store, "anna@server1.com").await;
    let deletion = tokio::spawn({
        let (store, all) = (Arc::clone(&store), all.clone());
        async move { store.delete(&maildrop("anna@server1.com"), &all).await }
    });
    let until = Instant::now() + Duration::from_secs(60);
    let mut was_in_use = false;
    // The session that asked ends in the middle.
    while store.usage(&maildrop("anna@server1.com").mailbox).await.unwrap().messages == MANY as u64 {
        assert!(Instant::now() < until, "nothing goes");
    }
    deletion.abort();
    loop {
        match store.open_maildrop(&maildrop("anna@server1.com")).await {
            Ok(open) => break assert_eq!(open.entries.len(), 0),
            Err(StoreError::MaildropInUse) => was_in_use = true,
            Err(error) => panic!("{error}"),
        }
        assert!(store.delete(&maildrop("anna@server1.com"), &all).await.is_err());
        assert!(Instant::now() < until, "it is not finished");
    }
    assert!(was_in_use);
    store.close().await;
    is_whole(directory.path());
}

#[tokio::test]
async fn what_was_decided_is_finished_by_the_next_process() {
    for rounds in [0, 1, 9] {
        let directory = tempfile::tempdir().unwrap();
        let store = filled(directory.path()).await;
        let all = keys(&store, "anna@server1.com").await;
        store.close().await;
        // As the committer does it, until the power goes.
        let opened = recovery::open(directory.path()).unwrap();
        let anna = maildrop("anna@server1.com");
        let lock = MaildropLock::take(&Arc::default(), &anna).unwrap();
        let place = locate(&opened.connection, &anna, &all).unwrap();
        let mut deletion = Deletion::new(place, all[..MANY - 1].to_vec(), lock);
        deletion.decide(&opened.connection).unwrap();
        for _ in 0..rounds {
            deletion.perform_round(&opened.connection, &mut Vec::new()).unwrap();
            assert!(!deletion.count_round());
        }
        drop(opened);

        let store = EmbeddedStore::open(directory.path()).unwrap();
        assert_eq!(keys(&store, "anna@server1.com").await, all[MANY - 1..], "after {rounds} rounds");
        assert_eq!(keys(&store, "jack@server1.com").await.len(), 10);
        assert_eq!(files(directory.path()), 10);
        store.close().await;
        is_whole(directory.path());
    }
}

#[tokio::test]
async fn a_deletion_that_is_interrupted_goes_on_when_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path()).await;
    let (anna, all) = (maildrop("anna@server1.com"), keys(&store, "anna@server1.com").await);
    let database = Connection::open(directory.path().join("mail.db")).unwrap();
    database.busy_timeout(Duration::from_secs(30)).unwrap();
    let refuse = format!(
        "CREATE TRIGGER refuse BEFORE DELETE ON entry WHEN OLD.key = {} BEGIN SELECT RAISE(ABORT, 'not now'); END",
        all[3 * ROUND]
    );
    database.execute_batch(&refuse).unwrap();
    let refusal = store.delete(&anna, &all).await.unwrap_err().to_string();
    assert!(refusal.contains("not now"), "{refusal}");
    assert!(matches!(store.open_maildrop(&anna).await, Err(StoreError::MaildropInUse)), "nobody sees half of it");
    let hello = || to(Body::from(Bytes::from_static(b"hello\r\n")), &["jack@server1.com"]);
    store.commit(hello()).await.unwrap();
    assert_eq!(keys(&store, "jack@server1.com").await.len(), 11, "others are served");
    database.execute_batch("DROP TRIGGER refuse").unwrap();
    store.commit(hello()).await.unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while store.open_maildrop(&anna).await.is_err() {
        assert!(Instant::now() < until, "it does not go on");
        tokio::task::yield_now().await;
    }
    assert_eq!(keys(&store, "anna@server1.com").await, Vec::<i64>::new());
    store.close().await;
    is_whole(directory.path());
}

#[tokio::test]
async fn a_maildrop_that_becomes_somebodys_meanwhile_is_emptied_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path()).await;
    let all = keys(&store, "anna@server1.com").await;
    let anna = maildrop("anna@server1.com");
    let lock = MaildropLock::take(&Arc::default(), &anna).unwrap();
    let place = store.readers.query({
        let (anna, all) = (anna.clone(), all.clone());
        move |connection| locate(connection, &anna, &all)
    });
    let mut deletion = Deletion::new(place.await.unwrap(), all.clone(), lock);
    store.close().await;
    let opened = recovery::open(directory.path()).unwrap();
    let owner = MailboxName { tenant: "team-a".into(), ..anna.mailbox };
    deletion.decide(&opened.connection).unwrap();
    deletion.perform_round(&opened.connection, &mut Vec::new()).unwrap();
    assert!(!deletion.count_round());
    // The tenant has a maildrop of its own besides: the messages get another number.
    let own = "INSERT INTO maildrop (name, tenant, messages, octets) VALUES ('anna@server1.com', 'team-a', 0, 0)";
    opened.connection.execute_batch(own).unwrap();
    Work::Claim(owner.clone()).perform(&opened.connection, 1).unwrap();
    loop {
        deletion.perform_round(&opened.connection, &mut Vec::new()).unwrap();
        if deletion.count_round() {
            break;
        }
    }
    drop(opened);
    let store = EmbeddedStore::open(directory.path()).unwrap();
    assert_eq!(store.usage(&owner).await.unwrap(), crate::store::Usage::default());
    store.close().await;
    is_whole(directory.path());
}

#[tokio::test]
async fn an_entry_without_a_message_keeps_no_server_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path()).await;
    let all = keys(&store, "anna@server1.com").await;
    store.close().await;
    let opened = recovery::open(directory.path()).unwrap();
    let anna = maildrop("anna@server1.com");
    let lock = MaildropLock::take(&Arc::default(), &anna).unwrap();
    let place = locate(&opened.connection, &anna, &all).unwrap();
    Deletion::new(place, all.clone(), lock).decide(&opened.connection).unwrap();
    let dangling = "DELETE FROM message WHERE number = (SELECT message FROM entry WHERE key = ?1)";
    opened.connection.execute(dangling, [all[ROUND + 1]]).unwrap();
    drop(opened);
    let store = EmbeddedStore::open(directory.path()).unwrap();
    assert_eq!(keys(&store, "anna@server1.com").await, Vec::<i64>::new());
    assert_eq!(keys(&store, "jack@server1.com").await.len(), 10);
}

/// Neither a row that cannot be read nor one that the database refuses keeps the server from starting, nor others from being
/// finished.
#[tokio::test]
async fn a_deletion_that_cannot_be_finished_keeps_no_server_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path()).await;
    let (all, jacks) = (keys(&store, "anna@server1.com").await, keys(&store, "jack@server1.com").await);
    store.close().await;
    let opened = recovery::open(directory.path()).unwrap();
    for (name, keys) in [("anna@server1.com", &all), ("jack@server1.com", &jacks)] {
        let lock = MaildropLock::take(&Arc::default(), &maildrop(name)).unwrap();
        let place = locate(&opened.connection, &maildrop(name), keys).unwrap();
        Deletion::new(place, keys.clone(), lock).decide(&opened.connection).unwrap();
    }
    opened
        .connection
        .execute_batch(
            "UPDATE deletion SET keys = substr(keys, 1, length(keys) - 3) WHERE first = (SELECT min(first) FROM deletion);
             INSERT INTO deletion (first, maildrop, folder, keys) VALUES (0, 99, 0, x'0000000000000001');",
        )
        .unwrap();
    drop(opened);
    let report = check::check(directory.path()).unwrap();
    let found = |what: &str| report.findings.iter().any(|finding| finding.contains(what));
    assert!(found("its list of messages is cut off") && found("its maildrop is not there"), "{:?}", report.findings);
    assert!(report.notes.iter().any(|note| note.starts_with("3 deletions have begun")), "{:?}", report.notes);

    let store = EmbeddedStore::open(directory.path()).unwrap();
    assert_eq!(keys(&store, "jack@server1.com").await, Vec::<i64>::new(), "the others are finished");
    assert_eq!(keys(&store, "anna@server1.com").await.len(), MANY - 1, "nothing that nobody decided on");
    store.close().await;
    let done = repair::repair(directory.path()).unwrap();
    assert!(done.iter().any(|line| line.starts_with("gave up 1 deletions")), "{done:?}");
    is_whole(directory.path());
}

#[tokio::test]
async fn a_deletion_that_the_database_refuses_can_be_asked_for_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path()).await;
    let all = keys(&store, "anna@server1.com").await;
    store.close().await;
    let opened = recovery::open(directory.path()).unwrap();
    let anna = maildrop("anna@server1.com");
    let lock = MaildropLock::take(&Arc::default(), &anna).unwrap();
    let place = locate(&opened.connection, &anna, &all).unwrap();
    Deletion::new(place, all.clone(), lock).decide(&opened.connection).unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'not now'); END";
    opened.connection.execute_batch(refuse).unwrap();
    drop(opened);
    let store = EmbeddedStore::open(directory.path()).unwrap();
    assert_eq!(keys(&store, "anna@server1.com").await, all, "it is served");
    let database = Connection::open(directory.path().join("mail.db")).unwrap();
    database.busy_timeout(Duration::from_secs(30)).unwrap();
    database.execute_batch("DROP TRIGGER refuse").unwrap();
    store.delete(&anna, &all).await.unwrap();
    assert_eq!(keys(&store, "anna@server1.com").await, Vec::<i64>::new());
    store.close().await;
    is_whole(directory.path());
}

/// The volume has no room when the process starts: what was decided on is neither given up nor seen half gone.
#[tokio::test]
async fn a_deletion_for_which_there_is_no_room_goes_on_when_there_is_some() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path()).await;
    let all = keys(&store, "anna@server1.com").await;
    store.close().await;
    let mut opened = recovery::open(directory.path()).unwrap();
    let anna = maildrop("anna@server1.com");
    let lock = MaildropLock::take(&Arc::default(), &anna).unwrap();
    let place = locate(&opened.connection, &anna, &all).unwrap();
    Deletion::new(place, all.clone(), lock).decide(&opened.connection).unwrap();
    // Each message that goes takes more room than there is.
    opened
        .connection
        .execute_batch(
            "CREATE TABLE ballast (bytes BLOB) STRICT;
             CREATE TRIGGER refuse BEFORE DELETE ON entry BEGIN INSERT INTO ballast VALUES (zeroblob(10000000)); END;",
        )
        .unwrap();
    let pages: i64 = opened.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    opened.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    opened.unfinished = finish_all(&mut opened.connection, &opened.bodies).unwrap();
    assert_eq!(opened.unfinished, [all[0]]);

    let store = EmbeddedStore::serve(directory.path(), opened, None).unwrap();
    assert!(matches!(store.open_maildrop(&anna).await, Err(StoreError::MaildropInUse)), "nobody sees half of it");
    assert_eq!(keys(&store, "jack@server1.com").await.len(), 10, "others are served");
    let database = Connection::open(directory.path().join("mail.db")).unwrap();
    database.busy_timeout(Duration::from_secs(30)).unwrap();
    let begun = || database.query_row("SELECT count(*) FROM deletion", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(begun(), 1, "it is not given up");
    database.execute_batch("DROP TRIGGER refuse; DROP TABLE ballast").unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while store.open_maildrop(&anna).await.is_err() {
        assert!(Instant::now() < until, "it does not go on");
        tokio::task::yield_now().await;
    }
    assert_eq!(keys(&store, "anna@server1.com").await, Vec::<i64>::new());
    store.close().await;
    is_whole(directory.path());
}

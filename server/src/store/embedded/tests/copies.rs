//! The copies of a message: in folders, edited, derived, and what is kept with them.

use super::*;

fn folder(mailbox: &str, name: &str) -> MaildropName {
    MaildropName { mailbox: address(mailbox).into(), folder: Folder::parse(name).unwrap() }
}

async fn fetch_folder(store: &EmbeddedStore, maildrop: &MaildropName) -> Vec<Vec<u8>> {
    let open = store.open_maildrop(maildrop).await.unwrap();
    let mut messages = Vec::new();
    for entry in &open.entries {
        let bytes = collect(store.read(maildrop, entry.key).await.unwrap()).await;
        assert_eq!(bytes.len() as u64, entry.octets);
        messages.push(bytes);
    }
    messages
}

#[tokio::test]
async fn folders_have_messages_of_their_own_and_one_quota() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let junk = folder("anna@server1.com", "Junk");
    let mut message = acceptance(Body::from(Bytes::from_static(b"x\r\n")), &["anna@server1.com"], &[]);
    message.local[0].maildrop = junk.clone();
    store.commit(message).await.unwrap();
    assert_eq!(fetch_folder(&store, &junk).await.len(), 1);
    assert_eq!(fetch_all(&store, "anna@server1.com").await.len(), 0);
    assert_eq!(store.folders(&address("anna@server1.com").into()).await.unwrap(), std::slice::from_ref(&junk.folder));
    let used = store.usage(&address("anna@server1.com").into()).await.unwrap();
    let mut full = acceptance(Body::from(Bytes::from_static(b"x\r\n")), &["anna@server1.com"], &[]);
    full.local[0].quota = Some(used.octets);
    assert!(matches!(store.commit(full).await, Err(StoreError::OverQuota(_))));
    let open = store.open_maildrop(&junk).await.unwrap();
    assert!(store.open_maildrop(&address("anna@server1.com").into()).await.is_ok(), "each has a lock of its own");
    let key = open.entries[0].key;
    let inbox = address("anna@server1.com").into();
    assert!(matches!(store.read(&inbox, key).await, Err(StoreError::NotFound)));
    assert!(matches!(store.delete(&inbox, &[key]).await, Err(StoreError::NotFound)));
    store.delete(&junk, &[key]).await.unwrap();
    assert_eq!(store.usage(&address("anna@server1.com").into()).await.unwrap().messages, 0);
}

#[tokio::test]
async fn a_derived_message_has_the_same_bytes_until_the_last_is_gone() {
    for octets in [100, THRESHOLD + 1000] {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path()).unwrap();
        let bytes = content(octets);
        let body = spooled(&store, &bytes).await;
        let mut message = acceptance(body, &["anna@server1.com"], &[]);
        let mut edited = delivery("jack@server1.com");
        (edited.fields, edited.body_from) = (Bytes::from_static(b"Subject: edited\r\n"), Some(40));
        message.local.push(edited);
        message.derived.push(Derived {
            id: MessageId::generate(),
            reverse_path: Some(address("srs0=x@server1.com")),
            sender_tenant: None,
            trace: Bytes::from_static(b"Received: again\r\n"),
            content: Content::Same { from: 10 },
            declared: Declared::default(),
            local: vec![delivery("tom@server1.com")],
            remote: vec![address("x@elsewhere.example").into()],
        });
        message.derived.push(Derived {
            id: MessageId::generate(),
            reverse_path: None,
            sender_tenant: None,
            trace: Bytes::new(),
            content: Content::Own(Bytes::from_static(b"I am away\r\n")),
            declared: Declared::default(),
            local: vec![delivery("sue@server1.com")],
            remote: Vec::new(),
        });
        store.commit(message).await.unwrap();
        let path = b"Return-Path: <tom@server1.com>\r\n";
        assert_eq!(fetch_all(&store, "jack@server1.com").await, [[b"Subject: edited\r\n", &bytes[40..]].concat()]);
        let derived = [path, &b"Received: again\r\n"[..], &bytes[10..]].concat();
        assert_eq!(fetch_all(&store, "tom@server1.com").await, [derived]);
        assert_eq!(fetch_all(&store, "sue@server1.com").await, [[&path[..], b"I am away\r\n"].concat()]);
        // Without the first copies the others are whole.
        for owner in ["anna@server1.com", "jack@server1.com", "tom@server1.com", "sue@server1.com"] {
            let owner = address(owner).into();
            let key = store.open_maildrop(&owner).await.unwrap().entries[0].key;
            store.delete(&owner, &[key]).await.unwrap();
        }
        let due = Timestamp::now();
        let rows = store.due_recipients(&Domain::parse("elsewhere.example").unwrap(), due, 10).await.unwrap();
        let queued = store.queued_message(rows[0].message).await.unwrap();
        assert_eq!(queued.reverse_path, Some(address("srs0=x@server1.com")));
        let sent = collect(store.read_queued(rows[0].message).await.unwrap()).await;
        assert_eq!((sent.len() as u64, sent), (queued.octets, [b"Received: again\r\n", &bytes[10..]].concat()));
        store.settle(Settlement { finished: vec![rows[0].key], ..Settlement::default() }).await.unwrap();
        store.close().await;
        let connection = Connection::open(directory.path().join("mail.db")).unwrap();
        for table in ["message", "body", "entry", "recipient"] {
            let rows: i64 =
                connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
            assert_eq!(rows, 0, "{table}");
        }
        assert_eq!(std::fs::read_dir(directory.path().join("bodies")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn what_a_sender_asked_for_is_kept_with_the_queue() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let mut message = acceptance(Body::from(Bytes::from_static(b"x\r\n")), &[], &[]);
    let later = Timestamp::from_millisecond(message.received_at.as_millisecond() + 60_000).unwrap();
    message.declared = Declared {
        body: BodyType::BinaryMime,
        smtputf8: true,
        require_tls: true,
        priority: Some(-3),
        ret: Some(Ret::Headers),
        envelope_id: Some("QQ314159".to_owned()),
        hold_until: Some(later),
        deliver_by: Some(DeliverBy { at: later, mode: ByMode::Notify, trace: true }),
    };
    let recipient = RemoteRecipient {
        address: address("x@elsewhere.example"),
        notify: Notify::On { success: true, failure: false, delay: true },
        original: Some(OriginalRecipient { kind: "rfc822".to_owned(), address: "first@x.example".to_owned() }),
        route: Some(Route::Rule("a/b".to_owned())),
        tenant: Some("shop".into()),
    };
    message.remote.push(recipient.clone());
    let declared = message.declared.clone();
    store.commit(message).await.unwrap();
    let domain = Domain::parse("elsewhere.example").unwrap();
    assert_eq!(store.due_recipients(&domain, Timestamp::now(), 10).await.unwrap(), [], "it is held");
    let rows = store.due_recipients(&domain, later, 10).await.unwrap();
    assert_eq!(rows[0].recipient, recipient);
    assert_eq!(store.queued_message(rows[0].message).await.unwrap().declared, declared);
}

#[tokio::test]
async fn filters_remember_until_the_time_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let mut message = acceptance(Body::from(Bytes::from_static(b"x\r\n")), &["anna@server1.com"], &[]);
    let (now, anna) = (message.received_at, address("anna@server1.com"));
    let until = Timestamp::from_second(now.as_second() + 60).unwrap();
    message.remember.push(Remembrance { mailbox: anna.clone().into(), what: "seen <1@x>".to_owned(), until });
    store.commit(message).await.unwrap();
    let asked = ["seen <1@x>".to_owned(), "seen <2@x>".to_owned()];
    assert_eq!(store.remembers(&anna.clone().into(), &asked, now).await.unwrap(), [true, false]);
    assert_eq!(store.remembers(&anna.clone().into(), &asked, until).await.unwrap(), [false, false]);
    assert_eq!(store.remembers(&address("jack@server1.com").into(), &asked, now).await.unwrap(), [false, false]);
}

/// RFC 1939 §3, §11: what POP3 sends ends with CRLF, and its size is told before.
#[tokio::test]
async fn a_last_line_without_an_end_counts_as_it_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let large = [vec![b'x'; THRESHOLD + 1], b"\r".to_vec()].concat();
    for (body, more) in [(&b"no end"[..], 2), (b"\n", 2), (b"end\r\n", 0), (b"", 0), (&large, 2)] {
        let mut message = acceptance(spooled(&store, body).await, &["anna@server1.com"], &["x@y.example"]);
        let mut edited = delivery("jack@server1.com");
        edited.body_from = Some(body.len() as u64);
        message.local.push(edited);
        message.derived.push(Derived {
            id: MessageId::generate(),
            reverse_path: None,
            sender_tenant: None,
            trace: Bytes::from_static(b"Received: again\r\n"),
            content: Content::Same { from: 0 },
            declared: Declared::default(),
            local: vec![delivery("tom@server1.com")],
            remote: Vec::new(),
        });
        store.commit(message).await.unwrap();
        // By way of the queue, too.
        let due = store.due_recipients(&Domain::parse("y.example").unwrap(), Timestamp::now(), 10).await.unwrap();
        let delivered_here = vec![(due[0].message, delivery("sue@server1.com"))];
        let settlement = Settlement { finished: vec![due[0].key], delivered_here, ..Settlement::default() };
        store.settle(settlement).await.unwrap();
        for (name, more) in [("anna", more), ("tom", more), ("sue", more), ("jack", 0)] {
            let maildrop: MaildropName = address(&format!("{name}@server1.com")).into();
            let entry = *store.open_maildrop(&maildrop).await.unwrap().entries.last().unwrap();
            let kept = collect(store.read(&maildrop, entry.key).await.unwrap()).await;
            assert_eq!(entry.octets, kept.len() as u64 + more, "{name}, {} octets", body.len());
            let usage = store.usage(&maildrop.mailbox).await.unwrap();
            let open = store.open_maildrop(&maildrop).await.unwrap();
            assert_eq!(usage.octets, open.entries.iter().map(|entry| entry.octets).sum::<u64>(), "{name}");
        }
    }
    store.close().await;
    assert_eq!(tools::check::check(directory.path()).unwrap().findings, Vec::<String>::new());
}

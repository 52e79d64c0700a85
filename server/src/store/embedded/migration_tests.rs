//! Databases of older versions, with mail in them: what they hold is there after the newest version has opened them.

use std::collections::HashSet;
use std::path::Path;

use jiff::Timestamp;
use paquebot_config::{Address, Domain};
use rusqlite::{Connection, params};

use super::EmbeddedStore;
use super::schema::{self, DATABASE_FILE};
use super::tools::{check, repair};
use crate::store::outgoing::{QueueDestination, QueueStore, Wanted};
use crate::store::{MessageReader, Store};

const FILE: &str = "0189f7b0c0de70008000000000000001";

fn large() -> Vec<u8> {
    b"Subject: large\r\n\r\n".iter().copied().chain(b"a line\r\n".iter().copied().cycle().take(80_000)).collect()
}

/// A store as the first version left it: a small message for Anna and Jack, a large one for Anna and for a server elsewhere,
/// and one from the null reverse-path that was tried.
fn filled(directory: &Path) -> Connection {
    let connection = schema::new_database_of_version_1(&directory.join(DATABASE_FILE)).unwrap();
    std::fs::create_dir(directory.join("bodies")).unwrap();
    std::fs::write(directory.join("bodies").join(FILE), large()).unwrap();
    let message = "INSERT INTO message (id, received_at, reverse_path, eight_bit, smtputf8, trace, body_octets, file, \
                   message_references) VALUES (?1, 1700000000000, ?2, 1, 0, x'583A20310D0A', ?3, ?4, ?5)";
    let tom = Some("tom@server1.com");
    connection.execute(message, params!["a", tom, 8, None::<&str>, 2]).unwrap();
    connection.execute(message, params!["b", tom, large().len() as i64, FILE, 2]).unwrap();
    connection.execute(message, params!["c", None::<&str>, 8, None::<&str>, 1]).unwrap();
    connection.execute("INSERT INTO body VALUES (1, ?1), (3, ?1)", [&b"\r\nhello\n"[..]]).unwrap();
    let octets = (6 + large().len()) as i64;
    connection
        .execute_batch(&format!(
            "INSERT INTO maildrop VALUES (1, 'anna@server1.com', 2, {}), (2, 'jack@server1.com', 1, 14);
             INSERT INTO entry (maildrop, message, octets, run, fields)
                 VALUES (1, 1, 14, 7, x''), (2, 1, 14, 7, x''), (1, 2, {octets}, 7, x'');
             INSERT INTO recipient (message, address, domain, due, attempts, warned, last_error)
                 VALUES (2, 'x@elsewhere.example', 'elsewhere.example', 1700000000000, 0, 0, NULL),
                        (3, 'y@elsewhere.example', 'elsewhere.example', 1700000000001, 2, 1, '451 later');",
            octets + 14
        ))
        .unwrap();
    connection
}

async fn collect(mut reader: Box<dyn MessageReader>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    bytes
}

async fn fetched(store: &EmbeddedStore, mailbox: &str) -> Vec<Vec<u8>> {
    let maildrop = Address::parse(mailbox).unwrap().into();
    let entries = store.open_maildrop(&maildrop).await.unwrap().entries;
    let mut messages = Vec::new();
    for entry in &entries {
        assert!(entry.unique_id().to_string().starts_with("0000000000000007"), "known to clients");
        let whole = collect(store.read(&maildrop, entry.key).await.unwrap()).await;
        let ahead = store.read_ahead(&maildrop, &[entry.key]).await.unwrap().remove(0);
        let mut same = ahead.beginning.to_vec();
        if let Some(rest) = ahead.rest {
            same.extend(collect(rest).await);
        }
        assert_eq!((whole.len() as u64, &same), (entry.octets, &whole));
        messages.push(whole);
    }
    messages
}

async fn holds_its_mail(directory: &Path, version: usize) {
    let store = EmbeddedStore::open(directory).unwrap_or_else(|error| panic!("version {version}: {error}"));
    let small = b"X: 1\r\n\r\nhello\n".to_vec();
    let large = [&b"X: 1\r\n"[..], &large()].concat();
    assert_eq!(fetched(&store, "anna@server1.com").await, [small.clone(), large.clone()], "version {version}");
    assert_eq!(fetched(&store, "jack@server1.com").await, [small], "version {version}");
    let counts = store.queue_counts().await.unwrap();
    assert_eq!((counts.recipients, counts.deferred, counts.held), (2, 1, 0), "version {version}");
    let destination = QueueDestination { domain: Domain::parse("elsewhere.example").unwrap(), route: None };
    let (now, turn) = (Timestamp::now(), String::new());
    let wanted = Wanted { destination, now, except: HashSet::new(), limit: 10, turn };
    let rows = store.claimable(wanted).await.unwrap().recipients;
    let told: Vec<_> = rows.iter().map(|row| (row.recipient.address.to_string(), row.attempts, row.warned)).collect();
    let expected = [("x@elsewhere.example".to_owned(), 0, false), ("y@elsewhere.example".to_owned(), 2, true)];
    assert_eq!(HashSet::from_iter(told), HashSet::from(expected), "version {version}");
    for row in rows {
        assert_eq!(row.recipient.tenant, None, "version {version}: nobody knows");
        let message = store.queued_message(row.message).await.unwrap();
        let (sender, content) = match row.attempts {
            0 => (Some(Address::parse("tom@server1.com").unwrap()), large.clone()),
            _ => (None, b"X: 1\r\n\r\nhello\n".to_vec()),
        };
        assert_eq!((message.reverse_path, message.octets), (sender, content.len() as u64), "version {version}");
        assert_eq!(message.sender_tenant, None, "version {version}: nobody knows");
        assert_eq!(collect(store.read_queued(row.message).await.unwrap()).await, content, "version {version}");
    }
    store.close().await;
    let report = check::check(directory).unwrap();
    assert_eq!(report.findings, Vec::<String>::new(), "version {version}");
    assert!(report.notes.iter().any(|note| note.starts_with("3 messages have no checksums")), "{:?}", report.notes);
    assert_eq!(repair::repair(directory).unwrap(), Vec::<String>::new(), "unknown is not wrong");
}

#[tokio::test]
async fn mail_of_every_older_version_is_there() {
    for version in 1..=schema::newest() {
        let directory = tempfile::tempdir().unwrap();
        let mut connection = filled(directory.path());
        schema::bring_to(&mut connection, &directory.path().join(DATABASE_FILE), version).unwrap();
        drop(connection);
        holds_its_mail(directory.path(), version).await;
        // Once more, by a process that finds it at the newest version.
        holds_its_mail(directory.path(), version).await;
    }
}

#[tokio::test]
async fn mail_that_was_accepted_before_goes_as_other_mail_does() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path()));
    let store = EmbeddedStore::open(directory.path()).unwrap();
    for (mailbox, count) in [("anna@server1.com", 2), ("jack@server1.com", 1)] {
        let maildrop = Address::parse(mailbox).unwrap().into();
        let entries = store.open_maildrop(&maildrop).await.unwrap().entries;
        assert_eq!(entries.len(), count);
        let keys: Vec<i64> = entries.iter().map(|entry| entry.key).collect();
        store.delete(&maildrop, &keys).await.unwrap();
    }
    assert!(directory.path().join("bodies").join(FILE).exists(), "the queue has it");
    store.settle(crate::store::outgoing::Settlement { finished: vec![1, 2], ..Default::default() }).await.unwrap();
    store.close().await;
    assert!(!directory.path().join("bodies").join(FILE).exists());
    let connection = Connection::open(directory.path().join(DATABASE_FILE)).unwrap();
    for table in ["message", "body", "entry", "recipient"] {
        let rows: i64 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "{table}");
    }
}

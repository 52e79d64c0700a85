//! What a volume changed in a message is found, told and set aside.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::Address;
use rusqlite::Connection;

use super::export::{Format, Selection};
use super::tests::{anna, content, deliver, filled, junk, large_file, messages};
use super::{backup, check, export, import, repair};
use crate::store::embedded::EmbeddedStore;
use crate::store::{Acceptance, Body, Content, Declared, Derived, Folder, MessageId, Store};

/// Turns one bit of a file.
fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut octet = [0];
    file.read_exact_at(&mut octet, at).unwrap();
    file.write_all_at(&[octet[0] ^ 0x10], at).unwrap();
}

/// Where in a file some octets are.
fn find(path: &Path, octets: &[u8]) -> u64 {
    memchr::memmem::find(&fs::read(path).unwrap(), octets).unwrap() as u64
}

/// The store's largest message file.
fn largest(directory: &Path) -> PathBuf {
    let files = fs::read_dir(directory.join("bodies")).unwrap().map(|file| file.unwrap().path());
    files.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

fn findings(directory: &Path) -> Vec<String> {
    check::check(directory).unwrap().findings
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_that_turned_in_a_message_file_is_found_by_name_and_offset() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    filled(&data).await;
    let file = largest(&data);
    flip(&file, 150_000);
    let found = findings(&data);
    assert_eq!(found.len(), 1, "{found:?}");
    for words in [file.to_str().unwrap(), "message ", "octets 131072 to 196607 are not what was written"] {
        assert!(found[0].contains(words), "{words}: {found:?}");
    }
    let refusal = backup::backup(&data, &directory.path().join("copy")).unwrap_err().to_string();
    assert!(refusal.contains("131072 to 196607") && refusal.contains("store repair"), "{refusal}");
    let report = export::export(&data, &directory.path().join("out"), Format::Maildir, &Selection::default()).unwrap();
    assert_eq!((report.messages, report.findings.len()), (8, 1));
    assert!(report.findings[0].contains("131072 to 196607") && report.findings[0].contains("/new/"), "{report:?}");

    repair::repair(&data).unwrap();
    assert_eq!(findings(&data), Vec::<String>::new());
    let kept: Vec<PathBuf> = fs::read_dir(data.join("quarantine")).unwrap().map(|file| file.unwrap().path()).collect();
    let kept = |extension: &str| kept.iter().find(|path| path.extension().is_some_and(|end| end == extension)).unwrap();
    assert!(fs::read_to_string(kept("txt")).unwrap().contains("131072 to 196607"));
    let octets = "Received: by us\r\n".len() as u64 + fs::metadata(kept("body")).unwrap().len();
    assert_eq!(fs::metadata(kept("eml")).unwrap().len(), octets, "all of it, as it is now");
    backup::backup(&data, &directory.path().join("copy")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_that_turned_in_a_row_is_found() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).await;
    // SQLite has no checksums: to it the database is whole.
    let database = directory.path().join("mail.db");
    flip(&database, find(&database, &content(0, 100)) + 20);
    let found = findings(directory.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("table body: message ") && found[0].contains("(row 1): its octets 0 to "),
        "{found:?}"
    );
    let target = directory.path().join("mbox");
    let report = export::export(directory.path(), &target, Format::Mbox, &Selection::default()).unwrap();
    assert!(report.findings[0].contains("anna@server1.com.mbox"), "{report:?}");
    repair::repair(directory.path()).unwrap();
    assert_eq!(messages(directory.path(), Folder::inbox()).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_of_a_damaged_or_missing_message_is_set_aside_as_it_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    for number in 0..2 {
        let derived = Derived {
            id: MessageId::from_stored(format!("derived{number}")),
            reverse_path: None,
            sender_tenant: None,
            trace: Bytes::from_static(b"Received: again\r\n"),
            content: Content::Same { from: 5 },
            declared: Declared::default(),
            local: Vec::new(),
            remote: vec![Address::parse("x@elsewhere.example").unwrap().into()],
        };
        let acceptance = Acceptance {
            id: MessageId::generate(),
            received_at: Timestamp::now(),
            reverse_path: None,
            sender_tenant: None,
            trace: Bytes::from_static(b"Received: by us\r\n"),
            body: Body::from(Bytes::from_static(b"X: 1\r\n\r\nhello\r\n")),
            declared: Declared::default(),
            local: Vec::new(),
            remote: vec![Address::parse("y@elsewhere.example").unwrap().into()],
            derived: vec![derived],
            remember: Vec::new(),
        };
        store.commit(acceptance).await.unwrap();
    }
    store.close().await;
    let database = Connection::open(directory.path().join("mail.db")).unwrap();
    // The first derived message belongs to nobody: it goes, and the reference that it holds. The second has no content.
    database.execute_batch("DELETE FROM recipient WHERE message = 2").unwrap();
    database.execute_batch("DELETE FROM recipient WHERE message = 3; DELETE FROM message WHERE number = 3").unwrap();
    drop(database);
    let found = findings(directory.path());
    assert!(
        found.iter().any(|line| line.contains("row 4: the content of message derived1 is that of row 3")),
        "{found:?}"
    );
    repair::repair(directory.path()).unwrap();
    assert_eq!(findings(directory.path()), Vec::<String>::new(), "one repair does it");
    let quarantine = directory.path().join("quarantine");
    assert_eq!(fs::read(quarantine.join("derived0.eml")).unwrap(), b"Received: again\r\n\n\r\nhello\r\n".to_vec());
    assert_eq!(fs::read(quarantine.join("derived1.eml")).unwrap(), b"Received: again\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_touches_nobody_elses_directory() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    filled(&data).await;
    // As it would be called if the end of the name were replaced.
    let precious = directory.path().join("mail.partial");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("notes"), "mine").unwrap();
    backup::backup(&data, &directory.path().join("mail.2026-11-23")).unwrap();
    assert_eq!(fs::read_to_string(precious.join("notes")).unwrap(), "mine");
    let refusal = backup::backup(&data, &directory.path().join("mail")).unwrap_err().to_string();
    assert!(refusal.contains("mail.partial is in the way"), "{refusal}");
    assert_eq!(fs::read_to_string(precious.join("notes")).unwrap(), "mine");
    // What a backup that was cut off left is.
    let left = directory.path().join("tuesday.partial");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("mail.db"), "half").unwrap();
    backup::backup(&data, &directory.path().join("tuesday")).unwrap();
    assert!(!left.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_while_files_are_copied_is_not_in_the_backup() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).await;
    let copy = directory.path().join("copy");
    fs::create_dir_all(copy.join("bodies")).unwrap();
    fs::copy(directory.path().join("mail.db"), copy.join("mail.db")).unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    // Two of the four that have files.
    for folder in [Folder::inbox(), junk()] {
        let maildrop = anna(folder);
        let keys: Vec<i64> =
            store.open_maildrop(&maildrop).await.unwrap().entries.iter().map(|entry| entry.key).collect();
        store.delete(&maildrop, &keys[3..]).await.unwrap();
    }
    let queue = Connection::open(directory.path().join("mail.db")).unwrap();
    queue.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    queue
        .execute_batch("DELETE FROM recipient WHERE message IN (4, 8); DELETE FROM message WHERE number IN (4, 8)")
        .unwrap();
    for file in fs::read_dir(directory.path().join("bodies")).unwrap() {
        let path = file.unwrap().path();
        if fs::metadata(&path).unwrap().len() < 200_000 {
            fs::copy(&path, copy.join("bodies").join(path.file_name().unwrap())).unwrap();
        }
    }
    let copied = Connection::open(copy.join("mail.db")).unwrap();
    backup::forget_deleted(&queue, &copied, &copy.join("bodies")).unwrap();
    drop(copied);
    let report = check::check(&copy).unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!((report.messages, report.entries, report.queued), (6, 6, 6));
    // A file that is missing although the message is there is damage.
    fs::remove_file(large_file(&copy)).unwrap();
    let copied = Connection::open(copy.join("mail.db")).unwrap();
    assert!(backup::forget_deleted(&queue, &copied, &copy.join("bodies")).is_err());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_ends_early_says_how_many_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let (data, source) = (directory.path().join("data"), directory.path().join("Maildir"));
    fs::create_dir(&data).unwrap();
    for part in ["new", "cur"] {
        fs::create_dir_all(source.join(part)).unwrap();
    }
    for number in 0..6 {
        fs::write(source.join("new").join(number.to_string()), format!("Subject: {number}\n\nhello\n")).unwrap();
    }
    let store = EmbeddedStore::open(&data).unwrap();
    deliver(&store, 0, junk()).await;
    store.close().await;
    let database = Connection::open(data.join("mail.db")).unwrap();
    database
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON entry WHEN EXISTS (SELECT 1 FROM body WHERE message = NEW.message
             AND instr(bytes, CAST('Subject: 2' AS BLOB)) > 0) BEGIN SELECT RAISE(ABORT, 'not this one'); END",
        )
        .unwrap();
    drop(database);
    let refusal = import::import(&data, &source, &anna(Folder::inbox()), false).await.unwrap_err().to_string();
    assert!(refusal.contains("after 5 messages") && refusal.contains("not this one"), "{refusal}");
    assert_eq!(messages(&data, Folder::inbox()).await.len(), 5);
}

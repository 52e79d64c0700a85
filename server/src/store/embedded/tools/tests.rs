use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::Address;
use rusqlite::Connection;

use super::export::{Format, Selection};
use super::{backup, check, export, import, repair};
use crate::store::embedded::EmbeddedStore;
use crate::store::{Acceptance, Declared, Folder, LocalDelivery, MaildropName, MessageId, Store};

pub(super) fn anna(folder: Folder) -> MaildropName {
    MaildropName { mailbox: Address::parse("anna@server1.com").unwrap().into(), folder }
}

pub(super) fn junk() -> Folder {
    Folder::parse("junk/mail").unwrap()
}

pub(super) fn content(number: usize, octets: usize) -> Vec<u8> {
    let mut content = format!("Subject: {number}\r\n\r\nFrom here\r\n>From there\r\n.\r\n").into_bytes();
    while content.len() < octets {
        content.extend_from_slice(b"a line of this message\r\n");
    }
    content
}

const SIZES: [usize; 4] = [100, 5_000, 70_000, 300_000];

pub(super) async fn deliver(store: &EmbeddedStore, number: usize, folder: Folder) {
    let mut spool = store.spool(u64::MAX).await.unwrap();
    spool.append(&content(number, SIZES[number % SIZES.len()])).await.unwrap();
    let acceptance = Acceptance {
        id: MessageId::generate(),
        received_at: Timestamp::now(),
        reverse_path: None,
        sender_tenant: None,
        trace: Bytes::from_static(b"Received: by us\r\n"),
        body: spool.finish().await.unwrap(),
        declared: Declared::default(),
        local: vec![LocalDelivery {
            maildrop: anna(folder),
            fields: Bytes::new(),
            body_from: None,
            quota: None,
            ascii_growth: None,
        }],
        remote: vec![Address::parse("x@elsewhere.example").unwrap().into()],
        derived: Vec::new(),
        remember: Vec::new(),
    };
    store.commit(acceptance).await.unwrap();
}

pub(super) async fn filled(directory: &Path) {
    let store = EmbeddedStore::open(directory).unwrap();
    for number in 0..8 {
        deliver(&store, number, if number < 4 { Folder::inbox() } else { junk() }).await;
    }
    store.close().await;
}

/// Contents by unique-id.
pub(super) async fn messages(directory: &Path, folder: Folder) -> BTreeMap<String, Vec<u8>> {
    let store = EmbeddedStore::open(directory).unwrap();
    let maildrop = anna(folder);
    let mut messages = BTreeMap::new();
    for entry in &store.open_maildrop(&maildrop).await.unwrap().entries {
        let mut reader = store.read(&maildrop, entry.key).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(piece) = reader.next().await.unwrap() {
            bytes.extend_from_slice(&piece);
        }
        messages.insert(entry.unique_id().to_string(), bytes);
    }
    store.close().await;
    messages
}

pub(super) fn large_file(directory: &Path) -> std::path::PathBuf {
    let mut files: Vec<_> = fs::read_dir(directory.join("bodies")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_store_is_checked_also_while_it_is_open() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).await;
    let store = EmbeddedStore::open(directory.path()).unwrap();
    deliver(&store, 2, Folder::inbox()).await;
    let report = check::check(directory.path()).unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!((report.messages, report.entries, report.queued), (9, 9, 9));
    assert!(repair::repair(directory.path()).is_err(), "a server has it");
    store.close().await;
    assert!(check::check(&directory.path().join("nowhere")).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_named_and_repaired_without_deleting_mail() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).await;
    let cut = large_file(directory.path());
    fs::File::options().write(true).open(&cut).unwrap().set_len(1000).unwrap();
    let database = Connection::open(directory.path().join("mail.db")).unwrap();
    database.execute_batch("UPDATE maildrop SET octets = octets + 7; DELETE FROM body WHERE message = 1;").unwrap();
    database.execute_batch("UPDATE message SET message_references = 9 WHERE number = 2").unwrap();
    drop(database);

    let report = check::check(directory.path()).unwrap();
    let has = |words: &[&str]| report.findings.iter().any(|finding| words.iter().all(|word| finding.contains(word)));
    assert!(has(&[cut.to_str().unwrap(), "ends at octet 1000"]), "{:?}", report.findings);
    assert!(has(&["table maildrop, row 1", "anna@server1.com"]), "{:?}", report.findings);
    assert!(has(&["table body", "(row 1) is missing"]), "{:?}", report.findings);
    assert!(has(&["table message, row 2", "counts 9 references, and 2"]), "{:?}", report.findings);

    repair::repair(directory.path()).unwrap();
    assert_eq!(check::check(directory.path()).unwrap().findings, Vec::<String>::new());
    assert_eq!(repair::repair(directory.path()).unwrap(), Vec::<String>::new());
    let kept = fs::read_dir(directory.path().join("quarantine")).unwrap();
    let kept: Vec<String> = kept.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(kept.iter().filter(|name| name.ends_with(".eml")).count(), 2, "{kept:?}");
    assert_eq!(messages(directory.path(), Folder::inbox()).await.len(), 2);
    let store = EmbeddedStore::open(directory.path()).unwrap();
    assert_eq!(store.usage(&anna(junk()).mailbox).await.unwrap().messages, 6);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_is_named_by_its_offset() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).await;
    let path = directory.path().join("mail.db");
    let mut bytes = fs::read(&path).unwrap();
    let page = Connection::open(&path).unwrap();
    let root: usize = page
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'entry'", [], |row| row.get::<_, i64>(0))
        .unwrap() as usize;
    drop(page);
    let offset = (root - 1) * 8192;
    bytes[offset..offset + 64].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let report = check::check(directory.path()).unwrap();
    assert!(report.findings.iter().any(|finding| finding.contains("mail.db")), "{:?}", report.findings);
    let refusal = EmbeddedStore::open(directory.path()).err().unwrap().to_string();
    assert!(refusal.contains("mail.db") && refusal.contains(&format!("octet {offset}")), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_database_with_damaged_pages_is_not_repaired() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).await;
    let path = directory.path().join("mail.db");
    let database = Connection::open(&path).unwrap();
    // An index's page: opening a database of more than 128 MiB does not look at it. The schema stays readable.
    let root: i64 = database
        .query_row("SELECT rootpage FROM sqlite_schema WHERE tbl_name = 'entry' AND type = 'index'", [], |row| {
            row.get(0)
        })
        .unwrap();
    database
        .execute_batch("CREATE TABLE filler (octets BLOB); INSERT INTO filler VALUES (zeroblob(140000000))")
        .unwrap();
    database.execute("UPDATE maildrop SET messages = 99", []).unwrap();
    database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(database);
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 64], (root as u64 - 1) * 8192).unwrap();
    drop(file);
    let refusal = repair::repair(directory.path()).unwrap_err().to_string();
    assert!(refusal.contains("mail.db") && refusal.contains("is not repaired here"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_do_not_wait_for_whoever_reads_a_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let database = Connection::open(directory.path().join("mail.db")).unwrap();
    database.busy_timeout(Duration::from_secs(30)).unwrap();
    // Free pages, more than are kept: they are given back, and the log with them, after each transaction.
    database.execute_batch("CREATE TABLE filler (octets BLOB); INSERT INTO filler VALUES (zeroblob(8000000))").unwrap();
    database.execute_batch("DROP TABLE filler").unwrap();
    drop(database);
    let reader = super::snapshot(directory.path()).unwrap();
    let began = Instant::now();
    for _ in 0..4 {
        deliver(&store, 1, junk()).await;
    }
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    drop(reader);
    let size = || fs::metadata(directory.path().join("mail.db")).unwrap().len();
    let until = Instant::now() + Duration::from_secs(30);
    while size() > 4_000_000 {
        assert!(Instant::now() < until, "nothing is given back: {}", size());
        deliver(&store, 0, junk()).await;
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_an_open_store_is_restored_with_its_unique_ids() {
    let directory = tempfile::tempdir().unwrap();
    let (data, copy, other) = (directory.path().join("a"), directory.path().join("b"), directory.path().join("c"));
    fs::create_dir(&data).unwrap();
    filled(&data).await;
    let before = messages(&data, junk()).await;
    let store = EmbeddedStore::open(&data).unwrap();
    assert_eq!(backup::backup(&data, &copy).unwrap().messages, 8);
    deliver(&store, 5, junk()).await;
    store.close().await;
    assert!(backup::backup(&data, &copy).is_err(), "never over another backup");
    assert!(backup::restore(&copy, &data).is_err(), "never over a store");

    backup::restore(&copy, &other).unwrap();
    assert_eq!(messages(&other, junk()).await, before);
    let store = EmbeddedStore::open(&other).unwrap();
    deliver(&store, 5, junk()).await;
    store.close().await;
    let later: Vec<String> = messages(&data, junk()).await.into_keys().collect();
    let fresh = messages(&other, junk()).await.into_keys().find(|id| !before.contains_key(id)).unwrap();
    assert!(!later.contains(&fresh), "a unique-id is never given twice");

    let damaged = large_file(&copy);
    fs::remove_file(damaged).unwrap();
    let refusal = backup::restore(&copy, &directory.path().join("d")).err().unwrap().to_string();
    assert!(refusal.contains("the backup is damaged"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_can_be_imported() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    filled(&data).await;
    let sorted = |messages: BTreeMap<String, Vec<u8>>| {
        let mut contents: Vec<Vec<u8>> = messages.into_values().collect();
        contents.sort();
        contents
    };
    for (format, inbox, folder) in [
        (Format::Maildir, "anna@server1.com", "anna@server1.com/.junk%2fmail"),
        (Format::Mbox, "anna@server1.com.mbox", "anna@server1.com.junk%2fmail.mbox"),
    ] {
        let (target, other) = (directory.path().join(format!("{format:?}")), directory.path().join(inbox));
        fs::create_dir(&other).unwrap();
        assert_eq!(export::export(&data, &target, format, &Selection::default()).unwrap().messages, 8);
        assert!(export::export(&data, &target, format, &Selection::default()).is_err(), "never over something");
        assert_eq!(
            import::import(&other, &target.join(inbox), &anna(Folder::inbox()), false).await.unwrap().messages,
            4
        );
        assert_eq!(import::import(&other, &target.join(folder), &anna(junk()), false).await.unwrap().messages, 4);
        for folder in [Folder::inbox(), junk()] {
            assert_eq!(sorted(messages(&other, folder.clone()).await), sorted(messages(&data, folder).await));
        }
        assert_eq!(check::check(&other).unwrap().findings, Vec::<String>::new());
    }
    let selection = Selection { mailbox: Some(anna(junk()).mailbox.address), folder: Some(junk()), tenant: None };
    assert_eq!(export::export(&data, &directory.path().join("one"), Format::Mbox, &selection).unwrap().messages, 4);
    let nobody = Selection { mailbox: Some(Address::parse("x@server1.com").unwrap()), ..Selection::default() };
    assert!(export::export(&data, &directory.path().join("none"), Format::Mbox, &nobody).is_err());
}

/// Two tenants have had one address: their mail goes out apart, and what comes in says whose it is.
#[tokio::test]
async fn mailboxes_of_several_tenants_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let of = |tenant: &str| {
        let mut name = anna(Folder::inbox());
        name.mailbox.tenant = tenant.into();
        name
    };
    let store = EmbeddedStore::open(&data).unwrap();
    for tenant in ["team-a", "team-b"] {
        let local = vec![LocalDelivery {
            maildrop: of(tenant),
            fields: Bytes::new(),
            body_from: None,
            quota: None,
            ascii_growth: None,
        }];
        let acceptance = Acceptance {
            id: MessageId::generate(),
            received_at: Timestamp::now(),
            reverse_path: None,
            sender_tenant: None,
            trace: Bytes::new(),
            body: crate::store::Body::from(Bytes::from(format!("Subject: {tenant}\r\n\r\nx\r\n"))),
            declared: Declared::default(),
            local,
            remote: Vec::new(),
            derived: Vec::new(),
            remember: Vec::new(),
        };
        store.commit(acceptance).await.unwrap();
    }
    store.close().await;
    let all = directory.path().join("all");
    assert_eq!(export::export(&data, &all, Format::Mbox, &Selection::default()).unwrap().messages, 2);
    for tenant in ["team-a", "team-b"] {
        let text = std::fs::read_to_string(all.join(format!("anna@server1.com {tenant}.mbox"))).unwrap();
        assert!(text.contains(&format!("Subject: {tenant}")), "{text}");
    }
    let only = Selection { tenant: Some("team-a".to_owned()), ..Selection::default() };
    assert_eq!(export::export(&data, &directory.path().join("one"), Format::Mbox, &only).unwrap().messages, 1);
    let source = all.join("anna@server1.com team-a.mbox");
    let refused = import::import(&data, &source, &anna(Folder::inbox()), false).await.unwrap_err().to_string();
    assert!(refused.contains("team-a, team-b") && refused.contains("--tenant"), "{refused}");
    let anna_of_any = Selection { mailbox: Some(of("").mailbox.address), ..Selection::default() };
    let place = directory.path().join("several");
    let unsaid = export::export(&data, &place, Format::Mbox, &anna_of_any).unwrap_err().to_string();
    assert!(unsaid.contains("team-a, team-b") && unsaid.contains("--tenant"), "{unsaid}");
    assert!(!place.exists(), "nothing was written");
    let anna_of_one = Selection { tenant: Some("team-b".to_owned()), ..anna_of_any };
    assert_eq!(export::export(&data, &place, Format::Mbox, &anna_of_one).unwrap().messages, 1);
    let imported = import::import(&data, &source, &of("team-b"), false).await.unwrap();
    assert_eq!((imported.messages, imported.to), (1, of("team-b").mailbox));
    let store = EmbeddedStore::open(&data).unwrap();
    assert_eq!(store.usage(&of("team-b").mailbox).await.unwrap().messages, 2);
    assert_eq!(store.usage(&of("team-a").mailbox).await.unwrap().messages, 1);
}

/// Mail that is nobody's becomes a tenant's only where somebody says so, and whose it became is said.
#[tokio::test]
async fn an_import_says_whose_the_mail_is_and_takes_nobody_elses() {
    let directory = tempfile::tempdir().unwrap();
    let (data, source) = (directory.path().join("data"), directory.path().join("mbox"));
    fs::create_dir(&data).unwrap();
    fs::write(&source, "From x\nSubject: a\n\nb\n\n").unwrap();
    let of = |tenant: &str| {
        let mut name = anna(Folder::inbox());
        name.mailbox.tenant = tenant.into();
        name
    };
    let imported = import::import(&data, &source, &of(""), false).await.unwrap();
    assert_eq!((imported.messages, &*imported.to.tenant), (1, ""));
    let refused = import::import(&data, &source, &of("team-b"), false).await.unwrap_err().to_string();
    assert!(refused.contains("nobody's") && refused.contains("--claim"), "{refused}");
    let counted = async |tenant: &str| {
        let store = EmbeddedStore::open(&data).unwrap();
        let counted = store.usage(&of(tenant).mailbox).await.unwrap().messages;
        store.close().await;
        counted
    };
    assert_eq!(counted("").await, 1);
    assert_eq!(import::import(&data, &source, &of("team-b"), true).await.unwrap().messages, 1);
    assert_eq!((counted("").await, counted("team-b").await), (0, 2));
    let imported = import::import(&data, &source, &of(""), false).await.unwrap();
    assert_eq!(&*imported.to.tenant, "team-b", "the only one that has the address");
}

#[tokio::test]
async fn what_is_set_aside_says_whose_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let store = EmbeddedStore::open(data).unwrap();
    let mut maildrop = anna(Folder::inbox());
    maildrop.mailbox.tenant = "team-a".into();
    let mut spool = store.spool(u64::MAX).await.unwrap();
    spool.append(&content(1, 300_000)).await.unwrap();
    let acceptance = Acceptance {
        id: MessageId::generate(),
        received_at: Timestamp::now(),
        reverse_path: None,
        sender_tenant: None,
        trace: Bytes::new(),
        body: spool.finish().await.unwrap(),
        declared: Declared::default(),
        local: vec![LocalDelivery { maildrop, fields: Bytes::new(), body_from: None, quota: None, ascii_growth: None }],
        remote: Vec::new(),
        derived: Vec::new(),
        remember: Vec::new(),
    };
    store.commit(acceptance).await.unwrap();
    store.close().await;
    fs::remove_file(large_file(data)).unwrap();
    repair::repair(data).unwrap();
    let notes = fs::read_dir(data.join("quarantine")).unwrap().map(|file| file.unwrap().path());
    let note = notes.into_iter().find(|path| path.extension().is_some_and(|suffix| suffix == "txt")).unwrap();
    let text = fs::read_to_string(note).unwrap();
    assert!(text.contains("maildrop: anna@server1.com team-a\n"), "{text}");
}

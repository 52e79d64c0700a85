//! What bringing an old store forward costs: `cargo run --release --example store_migration -- make DIRECTORY [MESSAGES]`
//! fills a store with messages of 1 KiB (1,000,000 of them, a tenth of them named as files, 1,000 in the queue) and takes it
//! back to schema version 3; `… -- open DIRECTORY` opens it as a server does, and says how long that took and how much memory
//! the process had at its height. What each step took is logged.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::Address;
use paquebot_server::store::embedded::EmbeddedStore;
use paquebot_server::store::{Acceptance, Body, Declared, LocalDelivery, MessageId, Store};

/// Clients at the same time.
const WRITERS: u64 = 64;
/// One message in so many waits in the queue besides.
const QUEUED: u64 = 1000;

/// What versions 4 to 10 have added goes. A tenth of the messages is named as files, which version 4 makes an index of.
const BACK_TO_3: &str = "
    DROP INDEX message_file;
    ALTER TABLE message DROP COLUMN checksums;
    ALTER TABLE message DROP COLUMN unended;
    ALTER TABLE message DROP COLUMN sender_tenant;
    DROP TABLE deletion;
    DROP INDEX entry_in_ascii;
    ALTER TABLE entry DROP COLUMN ascii_octets;
    ALTER TABLE recipient DROP COLUMN tenant;
    ALTER TABLE maildrop RENAME TO newer;
    CREATE TABLE maildrop (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        messages INTEGER NOT NULL,
        octets INTEGER NOT NULL
    ) STRICT;
    INSERT INTO maildrop SELECT number, name, messages, octets FROM newer;
    DROP TABLE newer;
    UPDATE message SET file = lower(hex(randomblob(16))) WHERE number % 10 = 0;
    PRAGMA user_version = 3;
";

fn say(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().context("make or open?")?;
    let directory = PathBuf::from(arguments.next().context("which directory?")?).join("store-migration");
    match what.as_str() {
        "make" => make(&directory, arguments.next().map_or(Ok(1_000_000), |text| text.parse())?).await,
        _ => open(&directory).await,
    }
}

async fn make(directory: &Path, messages: u64) -> anyhow::Result<()> {
    let store = EmbeddedStore::open(directory)?;
    fill(&store, messages).await?;
    store.close().await;
    drop(store);
    let database = rusqlite::Connection::open(directory.join("mail.db"))?;
    database.execute_batch(&format!("BEGIN; {BACK_TO_3} COMMIT;"))?;
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    let octets = std::fs::metadata(directory.join("mail.db"))?.len();
    say(&format!("{messages} messages at schema version 3: {} MiB", octets >> 20))?;
    Ok(())
}

async fn open(directory: &Path) -> anyhow::Result<()> {
    // Not that the files are missing whose names were made up.
    tracing_subscriber::fmt().with_env_filter("paquebot_server::store::embedded::schema=info").init();
    let before = highest_kib()?;
    let start = Instant::now();
    let store = EmbeddedStore::open(directory)?;
    let took = start.elapsed().as_secs_f64();
    say(&format!("open after {took:.1} s; memory at its height {} KiB, before {before} KiB", highest_kib()?))?;
    store.close().await;
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

/// The most memory that the process has had.
fn highest_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}

async fn fill(store: &Arc<EmbeddedStore>, count: u64) -> anyhow::Result<()> {
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                for number in (writer..count).step_by(usize::try_from(WRITERS)?) {
                    store.commit(message(number)?).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for writer in writers {
        writer.await??;
    }
    Ok(())
}

fn message(number: u64) -> anyhow::Result<Acceptance> {
    let maildrop = Address::parse(&format!("user{}@server1.com", number % 1000))?.into();
    let fields = Bytes::from_static(b"Return-Path: <tom@server1.com>\r\n");
    let elsewhere = Address::parse("jack@server2.com")?;
    Ok(Acceptance {
        id: MessageId::generate(),
        received_at: Timestamp::now(),
        reverse_path: Some(Address::parse("tom@server1.com")?),
        sender_tenant: None,
        trace: Bytes::from_static(b"Received: from a.example by b.example; Mon, 23 Nov 2026 12:00:00 +0000\r\n"),
        body: Body::from(Bytes::from_static(&[b'x'; 1024])),
        declared: Declared::default(),
        local: vec![LocalDelivery { maildrop, fields, body_from: None, quota: None, ascii_growth: None }],
        remote: if number.is_multiple_of(QUEUED) { vec![elsewhere.into()] } else { Vec::new() },
        derived: Vec::new(),
        remember: Vec::new(),
    })
}

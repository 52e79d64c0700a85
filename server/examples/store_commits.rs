//! How many messages a second the embedded store makes durable:
//! `cargo run --release --example store_commits -- DIRECTORY [WRITERS] [OCTETS] [SECONDS]`.
//! The directory decides: measure on the volume that will hold the mail.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::Address;
use paquebot_server::store::embedded::EmbeddedStore;
use paquebot_server::store::{Acceptance, Declared, LocalDelivery, MessageId, Store};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().context("which directory?")?).join("store-commits");
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (writers, octets, seconds) = (number(64)?, number(4096)?, number(5)?);
    let store = EmbeddedStore::open(&directory)?;
    let (committed, body) = (Arc::new(AtomicU64::new(0)), Bytes::from(vec![b'x'; usize::try_from(octets)?]));
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds);
    let mut tasks = Vec::new();
    for writer in 0..writers {
        let (store, committed, body) = (Arc::clone(&store), Arc::clone(&committed), body.clone());
        tasks.push(tokio::spawn(async move {
            while Instant::now() < end {
                store.commit(message(&store, writer, &body).await?).await?;
                committed.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let rate = f64::from(u32::try_from(committed.load(Ordering::Relaxed))?) / start.elapsed().as_secs_f64();
    store.close().await;
    std::fs::remove_dir_all(&directory)?;
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{writers} writers, {octets} octets: {rate:.0} messages/s")?;
    Ok(())
}

async fn message(store: &EmbeddedStore, writer: u64, body: &Bytes) -> anyhow::Result<Acceptance> {
    let mut spool = store.spool(u64::MAX).await?;
    spool.append(body).await?;
    let maildrop = Address::parse(&format!("user{writer}@server1.com"))?;
    let fields = Bytes::from_static(b"Return-Path: <tom@server1.com>\r\n");
    Ok(Acceptance {
        id: MessageId::generate(),
        received_at: Timestamp::now(),
        reverse_path: Some(Address::parse("tom@server1.com")?),
        sender_tenant: None,
        trace: Bytes::from_static(b"Received: from a.example by b.example; Mon, 23 Nov 2026 12:00:00 +0000\r\n"),
        body: spool.finish().await?,
        declared: Declared::default(),
        local: vec![LocalDelivery {
            maildrop: maildrop.into(),
            fields,
            body_from: None,
            quota: None,
            ascii_growth: None,
        }],
        remote: Vec::new(),
        derived: Vec::new(),
        remember: Vec::new(),
    })
}

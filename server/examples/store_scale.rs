//! What a store costs as it grows: `cargo run --release --example store_scale -- DIRECTORY [MESSAGES]`. Fills a store with
//! messages of 1 KiB (1,000,000 of them), 100,000 in one maildrop, and says how fast at each tenth; then how long start-up,
//! opening that maildrop and deleting all of it take, and how long messages wait that come meanwhile, one after the other.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::Address;
use paquebot_server::store::embedded::EmbeddedStore;
use paquebot_server::store::{Acceptance, Body, Declared, LocalDelivery, MessageId, Store};

/// Messages in the large maildrop.
const LARGE: u64 = 100_000;
/// Clients at the same time.
const WRITERS: u64 = 64;

fn say(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().context("which directory?")?).join("store-scale");
    let messages: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let store = EmbeddedStore::open(&directory)?;
    let step = messages / 10;
    for tenth in 0..10 {
        let start = Instant::now();
        fill(&store, tenth * step, step).await?;
        let rate = f64::from(u32::try_from(step)?) / start.elapsed().as_secs_f64();
        say(&format!("{:>8} messages: {rate:.0} a second, {:.3} ms each", (tenth + 1) * step, 1000.0 / rate))?;
    }
    store.close().await;
    drop(store);

    let start = Instant::now();
    let store = EmbeddedStore::open(&directory)?;
    say(&format!("start-up with {messages}: {:.3} s", start.elapsed().as_secs_f64()))?;
    let large = owner(0)?;
    let start = Instant::now();
    let maildrop = store.open_maildrop(&large.clone().into()).await?;
    say(&format!("a maildrop of {} opens in {:.3} s", maildrop.entries.len(), start.elapsed().as_secs_f64()))?;
    let start = Instant::now();
    let keys: Vec<i64> = maildrop.entries.iter().map(|entry| entry.key).collect();
    let deletion = tokio::spawn({
        let (store, large) = (Arc::clone(&store), large.clone());
        async move { store.delete(&large.into(), &keys).await }
    });
    let mut waits = Vec::new();
    while !deletion.is_finished() {
        let waiting = Instant::now();
        store.commit(message(messages + 1)?).await?;
        waits.push(waiting.elapsed());
    }
    deletion.await??;
    let took = start.elapsed();
    waits.sort_unstable();
    let at = |share: usize| waits.get((waits.len() * share / 100).min(waits.len().saturating_sub(1)));
    let milliseconds = |wait: Option<&Duration>| wait.map_or(0.0, |wait| wait.as_secs_f64() * 1000.0);
    say(&format!(
        "deleting all of it takes {:.3} s; {} messages that come meanwhile wait {:.1} ms (median), {:.1} ms (99 of 100), \
         {:.1} ms (longest)",
        took.as_secs_f64(),
        waits.len(),
        milliseconds(at(50)),
        milliseconds(at(99)),
        milliseconds(waits.last())
    ))?;
    store.close().await;
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

/// Commits messages from the number `first` on.
async fn fill(store: &Arc<EmbeddedStore>, first: u64, count: u64) -> anyhow::Result<()> {
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                for number in (first..first + count).skip(usize::try_from(writer)?).step_by(usize::try_from(WRITERS)?) {
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

/// The first maildrop is the large one.
fn owner(number: u64) -> anyhow::Result<Address> {
    let user = if number < LARGE { 0 } else { number % 1000 };
    Ok(Address::parse(&format!("user{user}@server1.com"))?)
}

fn message(number: u64) -> anyhow::Result<Acceptance> {
    Ok(Acceptance {
        id: MessageId::generate(),
        received_at: Timestamp::now(),
        reverse_path: Some(Address::parse("tom@server1.com")?),
        sender_tenant: None,
        trace: Bytes::from_static(b"Received: from a.example by b.example; Mon, 23 Nov 2026 12:00:00 +0000\r\n"),
        body: Body::from(Bytes::from_static(&[b'x'; 1024])),
        declared: Declared::default(),
        local: vec![LocalDelivery {
            maildrop: owner(number)?.into(),
            fields: Bytes::from_static(b"Return-Path: <tom@server1.com>\r\n"),
            body_from: None,
            quota: None,
            ascii_growth: None,
        }],
        remote: Vec::new(),
        derived: Vec::new(),
        remember: Vec::new(),
    })
}

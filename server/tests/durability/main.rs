//! What the store promises when its process is killed or its volume is full. Both need a process of their own, which is
//! this program again, told by an environment variable which part to play.

// All of this crate is a test, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod crash;
mod disk_full;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::Address;
use paquebot_server::store::embedded::EmbeddedStore;
use paquebot_server::store::{Acceptance, Declared, LocalDelivery, MessageId, Result, Store};

/// Where the part that is played in a process of its own finds its directory.
const DIRECTORY: &str = "PAQUEBOT_TEST_DIRECTORY";

fn anna() -> Address {
    Address::parse("anna@server1.com").unwrap()
}

fn jack() -> Address {
    Address::parse("jack@server1.com").unwrap()
}

/// This program, to run one of its tests alone, which then plays its part in `directory`.
fn again(part: &str, directory: &Path, launcher: &[&str]) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = match launcher {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    command.args(["--exact", part, "--nocapture", "--test-threads=1"]).env(DIRECTORY, directory);
    command
}

/// The content that belongs to an id: anybody can tell whether it is whole.
fn body_of(id: &str, octets: usize) -> Vec<u8> {
    let mut body = format!("Message-ID: <{id}>\r\nX-Octets: {octets}\r\n\r\n").into_bytes();
    body.extend(id.bytes().cycle().take(octets));
    body.extend_from_slice(b"\r\n");
    body
}

/// Commits a message for both maildrops, and for somebody elsewhere when `queued`.
async fn commit(store: &EmbeddedStore, octets: usize, queued: bool) -> Result<String> {
    let id = MessageId::generate();
    let mut spool = store.spool(u64::MAX).await?;
    for piece in body_of(id.as_str(), octets).chunks(7000) {
        spool.append(piece).await?;
    }
    let delivery = |mailbox: Address| LocalDelivery {
        maildrop: mailbox.into(),
        fields: Bytes::new(),
        quota: None,
        ascii_growth: None,
        body_from: None,
    };
    let acceptance = Acceptance {
        id: id.clone(),
        received_at: Timestamp::now(),
        reverse_path: None,
        sender_tenant: None,
        trace: Bytes::new(),
        body: spool.finish().await?,
        declared: Declared::default(),
        local: vec![delivery(anna()), delivery(jack())],
        remote: if queued { vec![Address::parse("x@elsewhere.example").unwrap().into()] } else { Vec::new() },
        derived: Vec::new(),
        remember: Vec::new(),
    };
    store.commit(acceptance).await?;
    Ok(id.as_str().to_owned())
}

/// The messages of a maildrop by id, with their keys and sizes; each must be whole, and there once.
async fn whole_messages(store: &EmbeddedStore, maildrop: &Address) -> HashMap<String, (i64, u64)> {
    let mut messages = HashMap::new();
    let open = store.open_maildrop(&maildrop.clone().into()).await.unwrap();
    for entry in &open.entries {
        let mut reader = store.read(&maildrop.clone().into(), entry.key).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(piece) = reader.next().await.unwrap() {
            bytes.extend_from_slice(&piece);
        }
        let text = String::from_utf8(bytes).unwrap();
        let between = |from: &str, to: &str| text.split_once(from).unwrap().1.split_once(to).unwrap().0.to_owned();
        let (id, octets) = (between("<", ">"), between("X-Octets: ", "\r\n").parse().unwrap());
        assert_eq!(text.as_bytes(), body_of(&id, octets), "{id} is not whole");
        assert_eq!(entry.octets, text.len() as u64);
        assert!(messages.insert(id, (entry.key, entry.octets)).is_none(), "a message is there twice");
    }
    messages
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory.join("bodies")).unwrap().count()
}

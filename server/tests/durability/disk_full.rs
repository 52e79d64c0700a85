//! A full volume: new mail is refused and nothing of it stays, what is there can be read and deleted, and once there is room
//! mail is taken again, without a restart.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use paquebot_server::store::embedded::EmbeddedStore;
use paquebot_server::store::{Store, StoreError};

use super::{DIRECTORY, again, anna, commit, files, jack, whole_messages};

/// Runs the test in a mount namespace of its own, which takes its small volume with it when it ends, however it ends.
#[test]
fn a_full_volume_refuses_new_mail_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    // Whoever is not root becomes it in a user namespace.
    let launcher = ["unshare", "--mount", "--map-root-user", "--"];
    let status = again("disk_full::on_a_small_volume", directory.path(), &launcher).status();
    assert!(status.unwrap().success(), "unshare(1) of util-linux and the right to use it are needed");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_small_volume() {
    // Run by itself it has no volume to fill.
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=40m", "tmpfs"]).arg(directory).status();
    assert!(mount.unwrap().success());
    let store = EmbeddedStore::open(directory).unwrap();
    for octets in [20_000, 200_000] {
        fill_and_recover(&store, directory, octets).await;
    }
    store.close().await;
}

/// Files of refused messages go a moment later, by a thread that may block.
async fn wait_for_files(directory: &Path, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while files(directory) != count {
        assert!(Instant::now() < deadline, "{} files instead of {count}", files(directory));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn fill_and_recover(store: &EmbeddedStore, directory: &Path, octets: usize) {
    assert!(store.has_room(1_000_000).await);
    let mut accepted = Vec::new();
    let refusal = loop {
        match commit(store, octets, false).await {
            Ok(id) => accepted.push(id),
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refusal, StoreError::DiskFull), "{refusal}");
    assert!(accepted.len() * octets > 15_000_000, "{} messages of {octets} octets", accepted.len());
    assert!(!store.has_room(1_000_000).await, "readiness has to turn false");
    assert!(matches!(commit(store, 5_000_000, false).await, Err(StoreError::DiskFull)));

    // The last octet is taken by somebody else.
    let filler = directory.join("filler");
    let _ = std::fs::write(&filler, vec![0; 40 << 20]);
    assert!(matches!(commit(store, octets, true).await, Err(StoreError::DiskFull)));
    std::fs::remove_file(&filler).unwrap();

    let messages = whole_messages(store, &jack()).await;
    assert_eq!(messages.len(), accepted.len(), "nothing half-written");
    assert!(accepted.iter().all(|id| messages.contains_key(id)));
    let large = if octets > 65_536 { accepted.len() } else { 0 };
    wait_for_files(directory, large).await;

    for owner in [anna(), jack()] {
        let keys: Vec<i64> = whole_messages(store, &owner).await.values().map(|(key, _)| *key).collect();
        store.delete(&owner.clone().into(), &keys).await.unwrap();
    }
    assert_eq!(files(directory), 0);
    // Free pages go back to the volume after the deletion.
    let deadline = Instant::now() + Duration::from_secs(60);
    while !store.has_room(20_000_000).await {
        assert!(Instant::now() < deadline, "the room was not given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

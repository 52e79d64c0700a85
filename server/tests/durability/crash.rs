//! Killed in the middle of a load, again and again: what was acknowledged is there once and whole, what was not leaves no
//! half.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use paquebot_server::store::Store;
use paquebot_server::store::embedded::EmbeddedStore;
use paquebot_server::store::outgoing::QueueStore;

use super::{DIRECTORY, again, anna, commit, files, jack, whole_messages};

/// How often the process is killed.
const KILLS: u64 = 8;
/// Small ones, some at the border between database and files, large ones.
const SIZES: [usize; 4] = [1_000, 20_000, 66_000, 300_000];

/// Says on standard output what was acknowledged, one line in one write, until it is killed; alone, it makes a few rounds.
#[tokio::test(flavor = "multi_thread")]
async fn writers_are_told_what_is_durable() {
    let given = std::env::var_os(DIRECTORY);
    let own = tempfile::tempdir().unwrap();
    let directory = given.as_deref().map_or(own.path(), Path::new);
    let rounds = if given.is_some() { usize::MAX } else { 3 };
    let store = EmbeddedStore::open(directory).unwrap();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for round in 0..rounds {
                    let id = commit(&store, SIZES[(writer + round) % SIZES.len()], round % 2 == 0).await.unwrap();
                    say(&format!("+{id}\n"));
                }
            })
        })
        .collect();
    let deleter = Arc::clone(&store);
    let deletions = tokio::spawn(async move {
        for _ in 0..rounds {
            delete_one(&deleter).await;
        }
    });
    for writer in writers {
        writer.await.unwrap();
    }
    deletions.await.unwrap();
}

/// Anna's oldest message goes; Jack keeps his.
async fn delete_one(store: &EmbeddedStore) {
    let open = store.open_maildrop(&anna().into()).await.unwrap();
    let Some(oldest) = open.entries.first() else { return };
    store.delete(&anna().into(), &[oldest.key]).await.unwrap();
    say(&format!("-{}\n", oldest.unique_id()));
}

fn say(line: &str) {
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut deleted) = (HashSet::new(), HashSet::new());
    for kill in 0..KILLS {
        let lines = run_and_kill(directory.path(), 20 + 37 * (kill % 4));
        for line in lines {
            match line.split_at(1) {
                ("+", id) => drop(acknowledged.insert(id.to_owned())),
                ("-", unique_id) => drop(deleted.insert(unique_id.to_owned())),
                _ => {}
            }
        }
        let store = EmbeddedStore::open(directory.path()).unwrap();
        let (annas, jacks) = (whole_messages(&store, &anna()).await, whole_messages(&store, &jack()).await);
        for id in &acknowledged {
            assert!(jacks.contains_key(id), "{id} was acknowledged and is lost");
        }
        assert!(annas.keys().all(|id| jacks.contains_key(id)), "both or none");
        let open = store.open_maildrop(&anna().into()).await.unwrap();
        assert!(
            open.entries.iter().all(|entry| !deleted.contains(&entry.unique_id().to_string())),
            "a deleted message is back"
        );
        // One deletion may have been done without having been acknowledged, for each kill.
        let gone = jacks.len() - annas.len();
        assert!(gone >= deleted.len() && gone as u64 <= deleted.len() as u64 + kill + 1);
        for (owner, messages) in [(anna(), &annas), (jack(), &jacks)] {
            let usage = store.usage(&owner.clone().into()).await.unwrap();
            let octets: u64 = messages.values().map(|(_, octets)| octets).sum();
            assert_eq!((usage.messages, usage.octets), (messages.len() as u64, octets));
        }
        let large = jacks.values().filter(|(_, octets)| *octets > 65_536).count();
        assert_eq!(files(directory.path()), large, "files of messages that were never accepted are left");
        let queued = store.queue_counts().await.unwrap().recipients;
        assert!(queued > 0 && queued <= jacks.len() as u64);
        drop(open);
        store.close().await;
    }
    assert!(acknowledged.len() as u64 >= KILLS * 20 / 2, "too little was done to mean anything");
}

/// Runs the writers until they have said so many lines, and kills them without warning.
fn run_and_kill(directory: &Path, lines: u64) -> Vec<String> {
    let mut child =
        again("crash::writers_are_told_what_is_durable", directory, &[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut said = Vec::new();
    let mut read = |said: &mut Vec<String>| {
        let mut line = String::new();
        let count = output.read_line(&mut line).unwrap();
        // The last line may have been cut: it was not said.
        if let Some(line) = line.strip_suffix('\n') {
            // The test runner begins a line of its own, and does not end it.
            said.extend(line.rsplit(' ').next().filter(|word| word.starts_with(['+', '-'])).map(str::to_owned));
        }
        count > 0
    };
    while (said.len() as u64) < lines {
        assert!(read(&mut said), "the writers ended by themselves");
    }
    child.kill().unwrap();
    while read(&mut said) {}
    child.wait().unwrap();
    said
}

/// Messages of the maildrop that is emptied: so many go in several rounds.
const MANY: usize = 2_000;

/// Empties Anna's maildrop, until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_maildrop_is_emptied() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let store = EmbeddedStore::open(Path::new(&directory)).unwrap();
    let open = store.open_maildrop(&anna().into()).await.unwrap();
    let keys: Vec<i64> = open.entries.iter().map(|entry| entry.key).collect();
    say("-begun\n");
    store.delete(&anna().into(), &keys).await.unwrap();
    say("-gone\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_leaves_all_of_a_maildrop_or_nothing() {
    for delay in [0, 2, 5, 10, 20, 40, 80] {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path()).unwrap();
        let commits = (0..MANY).map(|_| commit(&store, 100, false));
        assert!(futures::future::join_all(commits).await.iter().all(Result::is_ok));
        store.close().await;
        let part = "crash::a_maildrop_is_emptied";
        let mut child = again(part, directory.path(), &[]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.ends_with("-begun")));
        // The moment of the kill, somewhere within the rounds.
        std::thread::sleep(std::time::Duration::from_millis(delay));
        child.kill().unwrap();
        let was_answered = lines.any(|line| line.ends_with("-gone"));
        child.wait().unwrap();
        let store = EmbeddedStore::open(directory.path()).unwrap();
        let (left, jacks) = (whole_messages(&store, &anna()).await.len(), whole_messages(&store, &jack()).await.len());
        assert_eq!(jacks, MANY, "after {delay} ms");
        assert!(left == 0 || left == MANY && !was_answered, "after {delay} ms {left} are left");
        assert_eq!(store.usage(&anna().into()).await.unwrap().messages, left as u64);
        store.close().await;
    }
}

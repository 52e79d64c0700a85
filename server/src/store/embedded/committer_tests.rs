//! What the committer does when the volume fails within the work, not at its end.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::Address;
use rusqlite::ffi;
use rusqlite::functions::FunctionFlags;

use super::super::recovery;
use super::*;
use crate::store::{Acceptance, Body, Declared, MessageId};

fn job(number: usize) -> (Job, oneshot::Receiver<Result<()>>) {
    let acceptance = Acceptance {
        id: MessageId::generate(),
        received_at: Timestamp::UNIX_EPOCH,
        reverse_path: None,
        sender_tenant: None,
        trace: Bytes::new(),
        body: Body::from(Bytes::from_static(b"\r\n")),
        declared: Declared::default(),
        local: Vec::new(),
        remote: vec![Address::parse(&format!("jack{number}@server2.com")).unwrap().into()],
        derived: Vec::new(),
        remember: Vec::new(),
    };
    let (reply, outcome) = oneshot::channel();
    (Job { work: Work::Accept(Box::new(acceptance)), reply }, outcome)
}

#[test]
fn after_an_error_of_the_volume_a_batch_is_not_done_again() {
    let directory = tempfile::tempdir().unwrap();
    let opened = recovery::open(directory.path()).unwrap();
    let mut writer = Writer {
        connection: opened.connection,
        bodies: opened.bodies,
        space: Space::new(directory.path().to_owned()),
        run: 1,
        broken: CancellationToken::new(),
        lock: opened.lock,
        careful: 0,
        deletions: VecDeque::new(),
        stalled: VecDeque::new(),
    };
    // As when the page cache spills and the volume says once that it lost something.
    let inserted = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&inserted);
    let fails_once = move |_: &rusqlite::functions::Context<'_>| match seen.fetch_add(1, Ordering::SeqCst) {
        0 => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), None)),
        _ => Ok(0),
    };
    writer.connection.create_scalar_function("fails_once", 0, FunctionFlags::SQLITE_UTF8, fails_once).unwrap();
    let trigger = "CREATE TEMP TRIGGER fails AFTER INSERT ON main.message BEGIN SELECT fails_once(); END";
    writer.connection.execute_batch(trigger).unwrap();
    let (jobs, outcomes): (Vec<_>, Vec<_>) = (0..2).map(job).unzip();
    writer.commit_together(jobs);
    for mut outcome in outcomes {
        assert!(matches!(outcome.try_recv().unwrap(), Err(StoreError::Volume(_))), "nobody is told that it is kept");
    }
    assert_eq!(inserted.load(Ordering::SeqCst), 1, "nothing is written after it");
    assert!(writer.broken.is_cancelled());
}

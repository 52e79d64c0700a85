//! The one thread that writes. It takes all that waits as one transaction, so that one fsync serves many messages
//! (group commit). Refusals are rare: the work is done without savepoints, which cost a copy of each page that it touches;
//! when a piece of it is refused, all is taken back and done again, each piece within a savepoint of its own, so that the
//! refusal does not touch the others. Deletions of many messages go in rounds, one with each batch ([`super::deletion`]).

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::deletion::Deletion;
use super::error::{is_fatal, was_surely_undone};
use super::schema::BUSY;
use super::space::Space;
use super::transaction::{Unreferenced, Work, to_sql};
use super::volume;
use crate::store::{Result, StoreError};

/// Work in one transaction at most: enough to share an fsync well, few enough that the first does not wait long.
const BATCH: usize = 512;
/// Work that may wait; beyond it, senders wait to hand theirs over. With bodies of up to 64 KiB this bounds memory.
const WAITING: usize = 512;
/// Pages of 8 KiB in the log after which they are carried over into the database: 32 MiB.
const CHECKPOINT_PAGES: i64 = 4096;
/// On a small volume: after one in so many of the free pages, for carrying over may lengthen the database by as much.
const CHECKPOINT_SHARE: u64 = 4;
/// After a refusal so many batches are done with savepoints at once: a full mailbox is often written to again.
const CAREFUL_BATCHES: u32 = 32;
/// Free pages given back to the volume at once: 2 MiB, so that work that comes meanwhile does not wait long.
const VACUUM_PAGES: i64 = 256;
/// How long a deletion waits that could not go on.
const STALLED: Duration = Duration::from_secs(1);
/// Free pages are kept for new mail, up to this share of the database (one in so many).
const FREE_SHARE: i64 = 4;

/// A piece of work and who waits for its outcome.
pub(super) struct Job {
    work: Work,
    reply: oneshot::Sender<Result<()>>,
}

impl Job {
    /// The next round of a deletion for which nobody waits.
    pub(super) fn unfinished(deletion: Deletion) -> Self {
        Self { work: Work::Round(Box::new(deletion)), reply: oneshot::channel().0 }
    }
}

/// What is done with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A query.
    Read,
    /// A transaction.
    Write,
}

/// Asked before each access to a store that works in place: an error is the outcome instead, as if a volume failed.
pub type Faults = Arc<dyn Fn(Access) -> Result<()> + Send + Sync>;

/// Hands work to the committer.
#[derive(Clone)]
pub(super) enum Committer {
    /// A thread of its own.
    Thread(mpsc::Sender<Job>),
    /// Whoever asks does the work, alone: a simulation, in which the same seed must take the same course.
    InPlace(Arc<Mutex<Writer>>, Faults),
}

impl Committer {
    /// Gives the work to the thread; returns when it is durable, or refused.
    pub(super) async fn commit(&self, work: Work) -> Result<()> {
        let (reply, outcome) = oneshot::channel();
        let job = Job { work, reply };
        match self {
            Self::Thread(jobs) => jobs.send(job).await.map_err(|_| stopped())?,
            Self::InPlace(writer, faults) => {
                faults(Access::Write)?;
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                writer.commit_together(vec![job]);
                writer.finish_deletions();
                while writer.tidy() == Tidied::MoreToDo {}
            }
        }
        outcome.await.map_err(|_| stopped())?
    }
}

pub(super) fn stopped() -> StoreError {
    StoreError::Failed("the store is closed".to_owned())
}

/// What the thread works with.
pub(super) struct Writer {
    pub(super) connection: Connection,
    /// Where message files are.
    pub(super) bodies: PathBuf,
    pub(super) space: Space,
    /// Marks the entries that this process makes.
    pub(super) run: i64,
    /// Set when nothing may be written any more.
    pub(super) broken: CancellationToken,
    /// Held until everything is written: no other process may open the store before.
    pub(super) lock: fs::File,
    /// Batches that are done with savepoints from the beginning.
    pub(super) careful: u32,
    /// Deletions that were decided on, each with its next round and whoever waits for the last one.
    pub(super) deletions: VecDeque<Job>,
    /// Deletions whose last round failed, and when the next one is tried, apart from others' work.
    pub(super) stalled: VecDeque<(Instant, Job)>,
}

/// Starts the thread. It ends, with everything committed, when every [`Committer`] is gone.
pub(super) fn start(writer: Writer) -> Result<(Committer, std::thread::JoinHandle<()>)> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let thread = std::thread::Builder::new().name("store-committer".to_owned()).spawn(move || writer.run(receiver))?;
    Ok((Committer::Thread(sender), thread))
}

/// Why a transaction did not come about.
enum Aborted {
    /// Nothing of it was written.
    Cleanly(StoreError),
    /// It may have been written, or the database is damaged.
    Unknown(StoreError),
}

/// Whether tidying up is finished.
#[derive(PartialEq, Eq)]
enum Tidied {
    Done,
    MoreToDo,
}

impl From<rusqlite::Error> for Aborted {
    fn from(error: rusqlite::Error) -> Self {
        if is_fatal(&error) { Self::Unknown(error.into()) } else { Self::Cleanly(error.into()) }
    }
}

impl Aborted {
    /// By what the work itself met.
    fn by_work(error: StoreError) -> Self {
        if is_final(&error) { Self::Unknown(error) } else { Self::Cleanly(error) }
    }

    /// By COMMIT.
    fn by_commit(error: rusqlite::Error) -> Self {
        if was_surely_undone(&error) { Self::Cleanly(error.into()) } else { Self::Unknown(error.into()) }
    }
}

impl Writer {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.next_batch(&mut jobs, &mut batch) {
            self.commit_together(std::mem::take(&mut batch));
            // At the end of the process there is no time for it.
            while self.tidy() == Tidied::MoreToDo && jobs.is_empty() && !jobs.is_closed() {}
        }
        self.close();
    }

    /// Takes what waits, and a round of a deletion; waits itself where there is neither. A round that failed before comes
    /// alone, so that it spoils nobody's work. Whether there is anything: at the end of the process, too, a deletion is
    /// finished, unless it cannot be.
    fn next_batch(&mut self, jobs: &mut mpsc::Receiver<Job>, batch: &mut Vec<Job>) -> bool {
        if let Some((_, round)) = self.stalled.pop_front_if(|(until, _)| *until <= Instant::now()) {
            batch.push(round);
            return true;
        }
        if self.deletions.is_empty() {
            let until = self.stalled.front().map(|(until, _)| *until);
            match receive(jobs, batch, until) {
                Received::Closed => return false,
                // The stalled one's time has come.
                Received::Nothing => batch.extend(self.stalled.pop_front().map(|(_, round)| round)),
                Received::Work => {}
            }
        } else {
            while batch.len() < BATCH
                && let Ok(job) = jobs.try_recv()
            {
                batch.push(job);
            }
        }
        batch.extend(self.deletions.pop_front());
        true
    }

    /// Does all rounds that can be done.
    fn finish_deletions(&mut self) {
        self.deletions.extend(self.stalled.drain(..).map(|(_, round)| round));
        while let Some(round) = self.deletions.pop_front() {
            self.commit_together(vec![round]);
        }
    }

    /// One transaction for the whole batch. Should it fail as a whole, each piece of work gets one of its own.
    fn commit_together(&mut self, mut batch: Vec<Job>) {
        let is_asked_for_room = batch.iter().any(|job| job.work.is_nudge());
        let room = self.has_room_now(is_asked_for_room);
        // After the room was made: that writes too, and may be what fails for good.
        if self.broken.is_cancelled() {
            answer_all(batch, || StoreError::Failed("the store stopped after a failed write; restart".to_owned()));
            return;
        }
        match self.transact(&batch, room) {
            Ok(outcomes) => self.report(batch, outcomes),
            Err(Aborted::Unknown(error)) => self.break_off(batch, &error),
            Err(Aborted::Cleanly(error)) if batch.len() == 1 => {
                self.roll_back();
                self.report(batch, vec![Err(error)]);
            }
            Err(Aborted::Cleanly(_)) => {
                self.roll_back();
                for job in batch.drain(..) {
                    self.commit_together(vec![job]);
                }
            }
        }
    }

    /// Does the work and commits it. The inner results are those of the pieces, in order.
    fn transact(&mut self, batch: &[Job], room: bool) -> std::result::Result<Vec<Result<Unreferenced>>, Aborted> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let outcomes = if batch.len() > 1 && self.careful > 0 {
            self.careful -= 1;
            self.perform_each(batch, room)?
        } else {
            match self.perform_all(batch, room) {
                Ok(outcomes) => outcomes,
                // After an error of the volume nothing is committed: what was written before it may be lost.
                Err(error) if batch.len() == 1 || is_final(&error) => {
                    return Err(Aborted::by_work(error));
                }
                Err(_) => {
                    self.careful = CAREFUL_BATCHES;
                    self.roll_back();
                    self.connection.execute_batch("BEGIN IMMEDIATE")?;
                    self.perform_each(batch, room)?
                }
            }
        };
        self.connection.execute_batch("COMMIT").map_err(Aborted::by_commit)?;
        volume::ask(&self.lock).map_err(|error| Aborted::Unknown(error.into()))?;
        Ok(outcomes)
    }

    /// Does all pieces of work; the first that is refused spoils the transaction.
    fn perform_all(&self, batch: &[Job], room: bool) -> Result<Vec<Result<Unreferenced>>> {
        batch
            .iter()
            .map(|Job { work, .. }| {
                if work.is_new_mail() && !room {
                    return Ok(Err(StoreError::DiskFull));
                }
                work.perform(&self.connection, self.run).map(Ok)
            })
            .collect()
    }

    /// Does each piece of work apart from the others.
    fn perform_each(&self, batch: &[Job], room: bool) -> std::result::Result<Vec<Result<Unreferenced>>, Aborted> {
        batch
            .iter()
            .map(
                |Job { work, .. }| {
                    if work.is_new_mail() && !room { Ok(Err(StoreError::DiskFull)) } else { self.perform_apart(work) }
                },
            )
            .collect()
    }

    /// Does one of several pieces of work; takes back it alone when it is refused.
    fn perform_apart(&self, work: &Work) -> std::result::Result<Result<Unreferenced>, Aborted> {
        self.connection.prepare_cached("SAVEPOINT work")?.execute([])?;
        let outcome = work.perform(&self.connection, self.run);
        if let Err(error) = &outcome {
            if self.connection.is_autocommit() {
                // SQLite has taken the whole transaction back, as it does when the volume is full.
                return Err(Aborted::by_work(error.clone()));
            }
            if is_final(error) {
                return Err(Aborted::Unknown(error.clone()));
            }
            self.connection.prepare_cached("ROLLBACK TO work")?.execute([])?;
        }
        self.connection.prepare_cached("RELEASE work")?.execute([])?;
        Ok(outcome)
    }

    /// Before new mail is refused, or when somebody asks for room, the log gives back what it takes.
    fn has_room_now(&self, is_asked_for_room: bool) -> bool {
        let has_room = || self.space.has_room(0).unwrap_or(true);
        if is_asked_for_room || !has_room() {
            self.shorten_log();
        }
        has_room()
    }

    fn shorten_log(&self) {
        if self.broken.is_cancelled() {
            return;
        }
        if let Err(error) = self.empty_log() {
            self.note(&error);
        }
    }

    /// Carries the whole log over and shortens it to nothing; whether that was possible. It does not wait for readers:
    /// an export holds its snapshot for minutes, and all mail would wait along.
    fn empty_log(&self) -> rusqlite::Result<bool> {
        self.connection.busy_timeout(Duration::ZERO)?;
        let is_busy = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        self.connection.busy_timeout(BUSY)?;
        Ok(is_busy? == 0)
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "the store could not take back a transaction");
            self.broken.cancel();
        }
    }

    /// Answers after the commit; files go when no row names them any more.
    fn report(&mut self, batch: Vec<Job>, outcomes: Vec<Result<Unreferenced>>) {
        for (Job { mut work, reply }, outcome) in batch.into_iter().zip(outcomes) {
            let answer = outcome.map(|unreferenced| {
                work.own_files();
                self.remove(&unreferenced);
            });
            let Some((work, reply)) = self.keep_deleting(work, reply, &answer) else { continue };
            // Files that nobody owns are gone before the answer.
            drop(work);
            // Whoever asked may be gone; what is committed stays so.
            let _ = reply.send(answer);
        }
    }

    /// Keeps a deletion that has rounds left; other work comes back, to be answered.
    fn keep_deleting(
        &mut self,
        work: Work,
        reply: oneshot::Sender<Result<()>>,
        answer: &Result<()>,
    ) -> Option<(Work, oneshot::Sender<Result<()>>)> {
        match (work, answer) {
            (Work::Decide(deletion), Ok(())) => {
                self.deletions.push_back(Job { work: Work::Round(deletion), reply });
                None
            }
            (Work::Round(mut deletion), Ok(())) => {
                if deletion.count_round() {
                    return Some((Work::Round(deletion), reply));
                }
                self.deletions.push_back(Job { work: Work::Round(deletion), reply });
                None
            }
            (Work::Round(mut deletion), Err(error)) => {
                // It is decided: it goes on when it can, here or at the next start. Whoever waits need not.
                deletion.interrupt(error);
                let reason = format!("the deletion was interrupted, and goes on by itself: {error}");
                let _ = reply.send(Err(StoreError::Failed(reason)));
                self.stalled.push_back((Instant::now() + STALLED, Job::unfinished(*deletion)));
                None
            }
            (work, _) => Some((work, reply)),
        }
    }

    fn remove(&self, names: &[String]) {
        for name in names {
            if let Err(error) = fs::remove_file(self.bodies.join(name)) {
                tracing::warn!(file = %name, %error, "a message file could not be removed; the next start tries again");
            }
        }
    }

    /// The transaction may be on disk or not: nobody is told that it is, and its files stay for the next start to judge.
    fn break_off(&self, mut batch: Vec<Job>, error: &StoreError) {
        tracing::error!(%error, "the store stops writing until the process is restarted");
        self.broken.cancel();
        self.roll_back();
        for job in &mut batch {
            job.work.own_files();
        }
        answer_all(batch, || error.clone());
    }

    /// Carries the log over into the database and gives free pages back. Done here rather than by SQLite itself, which
    /// keeps to itself that an fsync failed.
    fn tidy(&self) -> Tidied {
        if self.broken.is_cancelled() {
            return Tidied::Done;
        }
        self.try_tidy().unwrap_or_else(|error| {
            self.note(&error);
            Tidied::Done
        })
    }

    /// An error between transactions.
    fn note(&self, error: &rusqlite::Error) {
        if is_fatal(error) {
            tracing::error!(%error, "the store stops writing until the process is restarted");
            self.broken.cancel();
        } else {
            tracing::warn!(%error, "the store could not be tidied up; it is tried again after the next transaction");
        }
    }

    fn try_tidy(&self) -> rusqlite::Result<Tidied> {
        let number = |pragma: &str, column: usize| -> rusqlite::Result<i64> {
            self.connection.prepare_cached(pragma)?.query_row([], |row| row.get(column))
        };
        let is_full = !self.space.has_room(0).unwrap_or(true);
        let free = number("PRAGMA freelist_count", 0)?;
        let is_wasteful = free >= VACUUM_PAGES && free >= number("PRAGMA page_count", 0)? / FREE_SHARE;
        // What is deleted in rounds is given back when all of it is gone.
        let vacuum = is_wasteful && self.deletions.is_empty() || is_full && free > 0;
        if vacuum && !self.empty_log()? {
            // Somebody reads what the log hides. Moving pages now would only lengthen it.
            return Ok(Tidied::Done);
        }
        if vacuum {
            let mut statement =
                self.connection.prepare_cached(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
        }
        if vacuum || is_full {
            // Only this shortens the files.
            self.empty_log()?;
        } else if number("PRAGMA wal_checkpoint(NOOP)", 1)? >= self.longest_log() {
            number("PRAGMA wal_checkpoint(PASSIVE)", 0)?;
        }
        Ok(if vacuum { Tidied::MoreToDo } else { Tidied::Done })
    }

    /// How many pages the log may have before it is carried over.
    fn longest_log(&self) -> i64 {
        let share = self.space.available().unwrap_or(u64::MAX) / 8192 / CHECKPOINT_SHARE;
        to_sql(share).min(CHECKPOINT_PAGES)
    }

    fn close(self) {
        if !self.broken.is_cancelled()
            && let Err(error) = self.empty_log()
        {
            tracing::warn!(%error, "the store's log stays beside the database; the next start carries it over");
        }
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "the database did not close cleanly");
        }
        drop(self.lock);
    }
}

/// What came while the committer waited.
enum Received {
    Work,
    Nothing,
    Closed,
}

/// Waits for work, until a time where one is given.
fn receive(jobs: &mut mpsc::Receiver<Job>, batch: &mut Vec<Job>, until: Option<Instant>) -> Received {
    let count = match until {
        None => Some(jobs.blocking_recv_many(batch, BATCH)),
        Some(until) => {
            let Ok(clock) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
                // Without one the deletion waits for other work.
                return receive(jobs, batch, None);
            };
            let received = async { tokio::time::timeout_at(until.into(), jobs.recv_many(batch, BATCH)).await };
            clock.block_on(received).ok()
        }
    };
    match count {
        None => Received::Nothing,
        Some(0) => Received::Closed,
        Some(_) => Received::Work,
    }
}

/// Whether nothing may be written after it.
fn is_final(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt(_) | StoreError::Volume(_))
}

fn answer_all(batch: Vec<Job>, error: impl Fn() -> StoreError) {
    for Job { work, reply } in batch {
        drop(work);
        let _ = reply.send(Err(error()));
    }
}

#[cfg(test)]
#[path = "committer_tests.rs"]
mod tests;

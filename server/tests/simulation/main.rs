//! The queue in virtual time: messages live through days of retries in seconds, against name servers, networks and mail
//! servers that fail in every way a seed can think of, while the process is killed and its store refuses. Queue, client,
//! schedule and the store's transactions are the real ones. The same seed takes the same course:
//!
//!     SIMULATION_SEED=17 cargo test -p paquebot-server --test simulation
//!
//! `SIMULATION_SEEDS=1000` tries so many instead of the usual number.

// All of this crate is a test, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::cast_possible_truncation)]

mod chance;
mod ledger;
mod peer;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::{Address, Bundle, Configuration, Content};
use paquebot_server::delivery::filter::Filters;
use paquebot_server::live::LiveConfiguration;
use paquebot_server::metrics::Metrics;
use paquebot_server::queue::Queue;
use paquebot_server::store::embedded::{Access, EmbeddedStore, Faults};
use paquebot_server::store::envelope::Notify;
use paquebot_server::store::outgoing::{ListedRecipient, QueueChange, QueueFilter, QueueStore};
use paquebot_server::store::{Acceptance, Body, Declared, MessageId, RemoteRecipient, Store, StoreError};
use tokio::sync::Notify as Wake;

use self::chance::Chance;
use self::ledger::Fate;
use self::world::{DAY, HOUR, World, domain_name};

/// Seeds that are tried where nothing else is said.
const SEEDS: u64 = 4;
/// Mailboxes here that send.
const SENDERS: u64 = 5;

/// What senders want to be told.
const NOTIFY: [Notify; 4] = [
    Notify::Unspecified,
    Notify::Never,
    Notify::On { success: false, failure: true, delay: false },
    Notify::On { success: false, failure: false, delay: true },
];

/// How large a simulation is.
#[derive(Clone, Copy)]
struct Size {
    messages: u64,
    healthy: usize,
    others: usize,
}

const USUAL: Size = Size { messages: 80, healthy: 4, others: 12 };

#[test]
fn each_recipient_ends_delivered_or_bounced_and_nobody_starves() {
    let variable = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match variable("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..variable("SIMULATION_SEEDS").unwrap_or(SEEDS) + 1,
    };
    for seed in seeds {
        run_or_say(seed, USUAL);
    }
}

#[test]
fn thousands_of_messages_live_through_days() {
    if std::env::var("SIMULATION_SEED").is_err() {
        run_or_say(1, Size { messages: 2000, healthy: 60, others: 2 });
    }
}

#[test]
fn the_same_seed_takes_the_same_course() {
    let size = Size { messages: 20, healthy: 2, others: 4 };
    let course = run_or_say(7, size);
    assert_eq!(course, run_or_say(7, size));
    assert_ne!(course, run_or_say(8, size));
}

/// Runs a seed; should it fail, says how it is repeated.
fn run_or_say(seed: u64, size: Size) -> u64 {
    let started = std::time::Instant::now();
    let outcome = std::panic::catch_unwind(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async { Simulation::new(seed, size).await.run(size).await })
    });
    let report = match outcome {
        Ok(report) => report,
        Err(panic) => {
            println!("replay: SIMULATION_SEED={seed} cargo test -p paquebot-server --test simulation");
            std::panic::resume_unwind(panic);
        }
    };
    let Report { course, wrong, taken, failed, recipients } = report;
    println!(
        "seed {seed}: {recipients} recipients, {taken} delivered, {failed} bounced; course {course:016x}; {:?}",
        started.elapsed()
    );
    assert!(
        wrong.is_empty(),
        "replay: SIMULATION_SEED={seed} cargo test -p paquebot-server --test simulation\n{}",
        wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n")
    );
    course
}

struct Report {
    course: u64,
    wrong: Vec<String>,
    recipients: usize,
    taken: usize,
    failed: usize,
}

/// What happens at a moment.
#[derive(Debug, Clone)]
enum Event {
    Submit,
    /// We end, orderly or not, and come back later.
    Restart {
        killed: bool,
        down: Duration,
    },
    /// The store refuses for so long: writing alone, or reading too.
    Fault {
        time: Duration,
        reads: bool,
    },
    Manage,
}

struct Simulation {
    world: Arc<World>,
    chance: Chance,
    directory: tempfile::TempDir,
    refuses_writes: Arc<AtomicBool>,
    refuses_reads: Arc<AtomicBool>,
    store: Arc<EmbeddedStore>,
    queue: Option<Queue>,
    wake: Arc<Wake>,
    configuration: LiveConfiguration,
    messages: u64,
}

impl Simulation {
    async fn new(seed: u64, size: Size) -> Self {
        let chance = Chance::new(seed);
        let world = World::new(chance.clone(), size.healthy, size.others);
        // Memory, where there is some.
        let memory = std::path::Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let (writes, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let store = EmbeddedStore::open_in_place(directory.path(), faults(&writes, &reads)).unwrap();
        let mut simulation = Self {
            world,
            chance,
            directory,
            refuses_writes: writes,
            refuses_reads: reads,
            store,
            queue: None,
            wake: Arc::new(Wake::new()),
            configuration: LiveConfiguration::new(configuration()),
            messages: 0,
        };
        simulation.start();
        simulation
    }

    fn start(&mut self) {
        let (store, metrics) = (Arc::clone(&self.store), Arc::new(Metrics::new()));
        let (environment, wake) = (self.world.environment(), Arc::clone(&self.wake));
        self.queue = Some(
            Queue::start_in(environment, store, self.configuration.clone(), metrics, Filters::default(), wake).unwrap(),
        );
    }

    async fn run(mut self, size: Size) -> Report {
        for (moment, event) in events(&self.chance, size) {
            tokio::time::sleep_until(self.world.origin + moment).await;
            match event {
                Event::Submit => self.submit().await,
                Event::Restart { killed, down } => self.restart(killed, down).await,
                Event::Fault { time, reads } => self.fault(time, reads),
                Event::Manage => self.manage().await,
            }
        }
        tokio::time::sleep_until(self.world.origin + 9 * DAY).await;
        self.finish().await
    }

    async fn submit(&mut self) {
        let chance = self.chance.clone();
        let number = self.messages;
        self.messages += 1;
        let sender = match chance.below(SENDERS + 1) {
            0 => None,
            number => Some(format!("tom{number}@server1.com")),
        };
        let accepted = self.world.timestamp();
        let hold_until = chance.one_in(8).then(|| accepted + Duration::from_secs(chance.below(DAY.as_secs())));
        let mut recipients = Vec::new();
        for index in 0..1 + chance.below(3) {
            let domain = chance.below(self.world.zones.len() as u64) as usize;
            let notify = chance.pick(&NOTIFY);
            recipients.push((
                format!("m{number}r{index}@{}", domain_name(domain)),
                notify,
                domain < self.world.healthy,
            ));
        }
        let remote = recipients.iter().map(|(text, notify, _)| RemoteRecipient {
            notify: *notify,
            ..RemoteRecipient::from(Address::parse(text).unwrap())
        });
        let acceptance = Acceptance {
            id: MessageId::generate(),
            received_at: accepted,
            reverse_path: sender.as_deref().map(|text| Address::parse(text).unwrap()),
            sender_tenant: None,
            trace: Bytes::from_static(b"Received: by here\r\n"),
            body: Body::from(Bytes::from(format!("Subject: m{number}\r\n\r\n.\r\n{}\r\n", "x".repeat(500)))),
            declared: Declared {
                priority: chance.one_in(3).then(|| chance.below(19) as i8 - 9),
                hold_until,
                ..Declared::default()
            },
            local: Vec::new(),
            remote: remote.collect(),
            derived: Vec::new(),
            remember: Vec::new(),
        };
        if self.store.commit(acceptance).await.is_err() {
            // Nobody was told that it is accepted.
            return;
        }
        let mut ledger = self.world.ledger.lock().unwrap();
        for (address, notify, healthy) in recipients {
            ledger.fates.insert(
                address,
                Fate {
                    sender: sender.clone(),
                    accepted,
                    not_before: hold_until.unwrap_or(accepted),
                    notify,
                    healthy,
                    first_offered: None,
                    last_offered: None,
                    taken: 0,
                    acknowledged: 0,
                    forgotten: 0,
                    held_since: None,
                    was_held: false,
                    dropped: false,
                    failed: 0,
                    delayed: 0,
                    relayed: 0,
                },
            );
        }
        drop(ledger);
        self.wake.notify_one();
    }

    /// Everything of ours ends; what the store has is all that is left.
    async fn restart(&mut self, killed: bool, down: Duration) {
        let begin = self.world.timestamp();
        let queue = self.queue.take().unwrap();
        if killed {
            queue.abort().await;
        } else {
            queue.shutdown(Duration::from_secs(self.chance.below(60))).await;
        }
        self.refuses_reads.store(false, Ordering::Relaxed);
        self.refuses_writes.store(false, Ordering::Relaxed);
        for listed in self.queued().await {
            self.world.ledger.lock().unwrap().survived(&listed.row.recipient.address.to_string());
        }
        self.store.close().await;
        tokio::time::sleep(down).await;
        let faults = faults(&self.refuses_writes, &self.refuses_reads);
        self.store = EmbeddedStore::open_in_place(self.directory.path(), faults).unwrap();
        self.start();
        self.outage(begin, self.world.timestamp());
    }

    fn outage(&self, from: Timestamp, to: Timestamp) {
        self.world.ledger.lock().unwrap().outages.push((from, to));
    }

    fn fault(&self, time: Duration, reads: bool) {
        let (writes, reading) = (Arc::clone(&self.refuses_writes), Arc::clone(&self.refuses_reads));
        writes.store(true, Ordering::Relaxed);
        reading.store(reads, Ordering::Relaxed);
        let now = self.world.timestamp();
        self.outage(now, now + time);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            writes.store(false, Ordering::Relaxed);
            reading.store(false, Ordering::Relaxed);
        });
    }

    async fn queued(&self) -> Vec<ListedRecipient> {
        let now = self.world.timestamp();
        self.store.list_queue(QueueFilter::default(), now, 0, 100_000).await.unwrap_or_default()
    }

    /// A person does something to one of the rows.
    async fn manage(&mut self) {
        let rows = self.queued().await;
        if rows.is_empty() {
            return;
        }
        let row = &rows[self.chance.below(rows.len() as u64) as usize];
        let (address, now) = (row.row.recipient.address.to_string(), self.world.timestamp());
        let change = match self.chance.below(8) {
            0..3 => QueueChange::Hold,
            3 | 4 => QueueChange::Release { now },
            5 | 6 => QueueChange::Retry { now },
            _ => QueueChange::Drop { notify: self.chance.one_in(2) },
        };
        let Ok((count, destinations)) = self.store.change_queue(vec![row.row.key], change.clone()).await else {
            return;
        };
        if count == 0 {
            return;
        }
        {
            let mut ledger = self.world.ledger.lock().unwrap();
            let fate = ledger.fates.get_mut(&address).unwrap();
            match &change {
                QueueChange::Hold => {
                    fate.was_held = true;
                    fate.held_since = Some(now);
                }
                QueueChange::Release { .. } | QueueChange::Retry { .. } => {
                    fate.held_since = None;
                    fate.not_before = fate.not_before.min(now);
                    // It may have rested.
                    fate.was_held = true;
                }
                _ => fate.dropped = true,
            }
        }
        let control = self.queue.as_ref().unwrap().control();
        match change {
            QueueChange::Drop { .. } => control.dropped(),
            _ => control.changed(destinations),
        }
    }

    async fn finish(mut self) -> Report {
        self.queue.take().unwrap().shutdown(HOUR * 2).await;
        let rows = self.queued().await;
        let queued: Vec<String> = rows.iter().map(|row| row.row.recipient.address.to_string()).collect();
        let mut reports = Vec::new();
        for number in 1..=SENDERS {
            reports.extend(self.maildrop(&format!("tom{number}@server1.com")).await);
        }
        let now = self.world.timestamp();
        let mut ledger = self.world.ledger.lock().unwrap();
        reports.iter().for_each(|report| ledger.reported(report));
        let wrong = ledger.judge(now, &queued);
        let count = |what: fn(&Fate) -> bool| ledger.fates.values().filter(|fate| what(fate)).count();
        Report {
            course: ledger.course,
            wrong,
            recipients: ledger.fates.len(),
            taken: count(|fate| fate.taken > 0),
            failed: count(|fate| fate.failed > 0),
        }
    }

    async fn maildrop(&self, owner: &str) -> Vec<String> {
        let name = Address::parse(owner).unwrap().into();
        let open = self.store.open_maildrop(&name).await.unwrap();
        let mut messages = Vec::new();
        for entry in &open.entries {
            let mut reader = self.store.read(&name, entry.key).await.unwrap();
            let mut bytes = Vec::new();
            while let Some(piece) = reader.next().await.unwrap() {
                bytes.extend_from_slice(&piece);
            }
            messages.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        messages
    }
}

fn faults(writes: &Arc<AtomicBool>, reads: &Arc<AtomicBool>) -> Faults {
    let (writes, reads) = (Arc::clone(writes), Arc::clone(reads));
    Arc::new(move |access| match access {
        Access::Write if writes.load(Ordering::Relaxed) => Err(StoreError::DiskFull),
        Access::Read if reads.load(Ordering::Relaxed) => Err(StoreError::Failed("the volume does not answer".into())),
        _ => Ok(()),
    })
}

/// What happens and when, in the first three days.
fn events(chance: &Chance, size: Size) -> Vec<(Duration, Event)> {
    let moment = || Duration::from_millis(chance.below(3 * DAY.as_millis() as u64));
    let mut events: Vec<(Duration, Event)> = (0..size.messages).map(|_| (moment(), Event::Submit)).collect();
    for _ in 0..chance.below(12) {
        let (killed, down) = (chance.one_in(2), Duration::from_secs(chance.below(1800)));
        events.push((moment(), Event::Restart { killed, down }));
    }
    for _ in 0..chance.below(6) {
        let (time, reads) = (Duration::from_secs(chance.below(3600)), chance.one_in(2));
        events.push((moment(), Event::Fault { time, reads }));
    }
    events.extend((0..chance.below(40)).map(|_| (moment(), Event::Manage)));
    events.sort_by_key(|(moment, _)| *moment);
    events
}

fn configuration() -> Configuration {
    let mailbox = |number: u64| {
        serde_json::json!({
            "kind": "Mailbox", "address": format!("tom{number}@server1.com"), "verifiers": [],
            "protocols": {"pop3": true, "submission": true}, "sendAs": [], "suspended": false
        })
    };
    let content = Content {
        server: serde_json::from_value(serde_json::json!({
            "hostname": "mx.server1.com", "listeners": [],
            "limits": {"maxMessageSize": 1 << 20, "maxRecipients": 100, "connections": 10, "perClientConnections": 10,
                       "loginDelaySeconds": 0},
            "outbound": {"maxAgeSeconds": 5 * DAY.as_secs(), "delayWarningSeconds": 4 * HOUR.as_secs(), "port": 25},
            "resolvers": {"addresses": []}, "tls": {"minVersion": "TLS12"},
            "shutdown": {"preStopDelaySeconds": 0, "drainTimeoutSeconds": 10}
        }))
        .unwrap(),
        domains: serde_json::from_value(serde_json::json!([
            {"domain": "server1.com", "catchAll": "Reject", "suspended": false}
        ]))
        .unwrap(),
        relay: Vec::new(),
        records: (1..=SENDERS).map(|number| serde_json::from_value(mailbox(number)).unwrap()).collect(),
        secrets: serde_json::from_value(serde_json::json!({})).unwrap_or_default(),
    };
    Configuration::read(Bundle::build(content).unwrap().files(), env!("CARGO_PKG_VERSION")).unwrap()
}

//! The queue from outside: what the store was given for other servers arrives there once, is tried again, or comes back to
//! its sender. Store, queue, resolver and SMTP client are the real ones; the name server and the other mail servers are on
//! loopback.

// All of this crate is a test, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod dns;
mod peer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::{
    Address, Bundle, Configuration, Content, Domain, DomainConfig, Limits, MailboxRecord, Outbound, Protocols, Record,
    Resolvers, ServerConfig, Shutdown, TlsConfig, TlsVersion,
};
use paquebot_server::live::LiveConfiguration;
use paquebot_server::metrics::Metrics;
use paquebot_server::queue::Queue;
use paquebot_server::store::embedded::EmbeddedStore;
use paquebot_server::store::outgoing::{Deferral, QueueStore, QueuedRecipient, Settlement};
use paquebot_server::store::{Acceptance, Declared, MessageId, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use self::dns::Dns;
use self::peer::{Peer, Rules, Taken, Tls};

const TRACE: &str = "Received: from tom by here\r\n";

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

struct World {
    store: Arc<EmbeddedStore>,
    configuration: LiveConfiguration,
    metrics: Arc<Metrics>,
    wake: Arc<Notify>,
    queue: Option<Queue>,
    dns: Dns,
    peer: Peer,
    directory: tempfile::TempDir,
}

fn configuration(dns: &Dns, port: u16, domains: &[&str], max_age_seconds: u64) -> Configuration {
    let served = |name: &&str| DomainConfig {
        domain: domain(name),
        subaddress_separator: None,
        catch_all: Default::default(),
        max_message_size: None,
        suspended: false,
        filters: paquebot_config::Filters::default(),
        local_parts: paquebot_config::LocalParts::default(),
    };
    let mailbox = |name: &&str| {
        Record::Mailbox(MailboxRecord {
            address: address(&format!("tom@{name}")),
            verifiers: Vec::new(),
            protocols: Protocols { pop3: true, submission: true },
            quota: (*name != "server2.com").then_some(10),
            forwarding: None,
            send_as: Vec::new(),
            suspended: false,
            filter: None,
        })
    };
    let content = Content {
        server: ServerConfig {
            hostname: domain("mx.server1.com"),
            listeners: Vec::new(),
            limits: Limits {
                max_message_size: 1 << 30,
                max_recipients: 100,
                connections: 10,
                per_client_connections: 10,
                login_delay_seconds: 0,
            },
            outbound: Outbound {
                ehlo_name: None,
                max_age_seconds,
                delay_warning_seconds: 0,
                port,
                smart_host: None,
                allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
                trusted_certificates: None,
            },
            resolvers: Resolvers { addresses: vec![dns.address] },
            tls: TlsConfig { min_version: TlsVersion::Tls12 },
            shutdown: Shutdown { pre_stop_delay_seconds: 0, drain_timeout_seconds: 10 },
            filters: paquebot_config::Filters::default(),
        },
        domains: domains.iter().map(served).collect(),
        relay: Vec::new(),
        records: domains.iter().map(mailbox).collect(),
        secrets: paquebot_config::Secrets::default(),
    };
    let bundle = Bundle::build(content).unwrap();
    Configuration::read(bundle.files(), env!("CARGO_PKG_VERSION")).unwrap()
}

impl World {
    /// Serves server1.com; server2.com is at the peer.
    async fn new(rules: Rules) -> Self {
        let _ = tracing_subscriber::fmt().with_test_writer().with_env_filter("paquebot_server=debug").try_init();
        let dns = Dns::start().await;
        let peer = Peer::start("127.0.0.1:0", rules).await;
        dns.mx("server2.com", 10, "mx.server2.com");
        dns.a("mx.server2.com", [127, 0, 0, 1]);
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path()).unwrap();
        let configuration = LiveConfiguration::new(configuration(&dns, peer.address.port(), &["server1.com"], 432_000));
        let (metrics, wake) = (Arc::new(Metrics::new()), Arc::new(Notify::new()));
        let mut world = Self { store, configuration, metrics, wake, queue: None, dns, peer, directory };
        world.start();
        world
    }

    fn start(&mut self) {
        let (metrics, wake) = (Arc::clone(&self.metrics), Arc::clone(&self.wake));
        self.queue = Some(Queue::start(self.store.clone(), self.configuration.clone(), metrics, wake).unwrap());
    }

    async fn send_as(&self, from: Option<&str>, body: &[u8], declared: Declared, to: &[&str]) -> MessageId {
        let mut spool = self.store.spool(u64::MAX).await.unwrap();
        spool.append(body).await.unwrap();
        let id = MessageId::generate();
        let acceptance = Acceptance {
            id: id.clone(),
            received_at: Timestamp::now(),
            reverse_path: from.map(address),
            trace: Bytes::from_static(TRACE.as_bytes()),
            body: spool.finish().await.unwrap(),
            declared,
            local: Vec::new(),
            remote: to.iter().map(|text| address(text).into()).collect(),
            derived: Vec::new(),
            remember: Vec::new(),
        };
        self.store.commit(acceptance).await.unwrap();
        self.wake.notify_one();
        id
    }

    async fn send(&self, body: &[u8], to: &[&str]) -> MessageId {
        self.send_as(Some("tom@server1.com"), body, Declared::default(), to).await
    }

    /// Waits until the condition holds.
    async fn until<T>(&self, what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(found) = check().await {
                return found;
            }
            assert!(Instant::now() < deadline, "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_taken(&self, count: usize) -> Vec<Taken> {
        self.until("the peer did not get the mail", async || {
            let taken = self.peer.taken();
            (taken.len() >= count).then_some(taken)
        })
        .await
    }

    async fn until_empty(&self) {
        self.until("the queue did not become empty", async || {
            (self.store.queue_counts().await.unwrap().recipients == 0).then_some(())
        })
        .await;
    }

    /// Waits for rows that were tried and deferred.
    async fn until_deferred(&self, name: &str, count: usize) -> Vec<QueuedRecipient> {
        self.until("nothing was deferred", async || {
            let rows = self.store.due_recipients(&domain(name), Timestamp::MAX, 100).await.unwrap();
            (rows.len() == count && rows.iter().all(|row| row.attempts > 0)).then_some(rows)
        })
        .await
    }

    /// As if the time until the next attempt had passed.
    async fn make_due(&self, rows: &[QueuedRecipient]) {
        let deferred = rows
            .iter()
            .map(|row| Deferral { key: row.key, due: Timestamp::now(), error: String::new(), warned: row.warned })
            .collect();
        self.store.settle(Settlement { deferred, ..Settlement::default() }).await.unwrap();
        self.wake.notify_one();
    }

    /// What is in the maildrop of tom at a domain, when it holds so many.
    async fn maildrop(&self, name: &str, count: usize) -> Vec<String> {
        let owner = address(&format!("tom@{name}"));
        self.until("the maildrop did not fill", async || {
            (self.store.usage(&owner).await.unwrap().messages >= count as u64).then_some(())
        })
        .await;
        let open = self.store.open_maildrop(&owner.clone().into()).await.unwrap();
        let mut messages = Vec::new();
        for entry in &open.entries {
            let mut reader = self.store.read(&owner.clone().into(), entry.key).await.unwrap();
            let mut bytes = Vec::new();
            while let Some(piece) = reader.next().await.unwrap() {
                bytes.extend_from_slice(&piece);
            }
            messages.push(String::from_utf8(bytes).unwrap());
        }
        messages
    }

    async fn tom_has(&self, count: usize) -> Vec<String> {
        let messages = self.maildrop("server1.com", count).await;
        assert_eq!(messages.len(), count);
        messages
    }

    fn count(&self, result: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let line =
            text.lines().find(|line| line.starts_with(&format!("paquebot_outbound_total{{result=\"{result}\"}}")));
        line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    }
}

fn says(reply: &'static str) -> Rules {
    Rules { recipient: Arc::new(move |_| reply), ..Rules::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_arrives_as_it_was_stored_once_for_all_recipients_of_a_domain() {
    let world = World::new(Rules { slowly: true, ..Rules::default() }).await;
    let body = b"Subject: hi\r\n\r\n.leading dot\r\n..two\r\n.\r\n8-bit: \xc3\xa4\r\n";
    let declared = Declared::eight_bit(true);
    world.send_as(Some("tom@server1.com"), body, declared, &["jack@server2.com", "jill@server2.com"]).await;
    world.until_empty().await;
    let taken = world.peer.taken();
    assert_eq!(taken.len(), 1);
    let size = TRACE.len() + body.len();
    assert_eq!(taken[0].mail, format!("MAIL FROM:<tom@server1.com> SIZE={size} BODY=8BITMIME"));
    assert_eq!(taken[0].recipients, ["jack@server2.com", "jill@server2.com"]);
    assert_eq!(taken[0].content, [TRACE.as_bytes(), body].concat());
    assert_eq!(world.count("sent"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_is_streamed_whole() {
    let world = World::new(Rules::default()).await;
    let body = b"a line that is repeated, and begins\r\n.with a dot now and then\r\n".repeat(80_000);
    world.send(&body, &["jack@server2.com"]).await;
    world.until_empty().await;
    assert!(world.peer.taken()[0].content == [TRACE.as_bytes(), &body].concat());
    let files = std::fs::read_dir(world.directory.path().join("bodies")).unwrap().count();
    assert_eq!(files, 0, "its file goes with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deferred_is_delivered_later_and_its_delay_reported_once() {
    let world = World::new(says("451 4.7.1 come back later")).await;
    let id = world.send(b"Subject: hi\r\n\r\nhello\r\n", &["jack@server2.com"]).await;
    let rows = world.until_deferred("server2.com", 1).await;
    assert_eq!(rows[0].last_error.as_deref(), Some("mx.server2.com: 451 4.7.1 come back later"));
    let told = world.tom_has(1).await;
    assert!(told[0].contains("Action: delayed\r\nStatus: 4.7.1\r\n"), "{}", told[0]);
    assert!(told[0].contains(&format!("X-Paquebot-Message-ID: {id}\r\n")));
    world.make_due(&rows).await;
    world.until("it was not tried again", async || (world.count("deferred") >= 2).then_some(())).await;
    world.peer.set_rules(Rules::default());
    let rows = world.until_deferred("server2.com", 1).await;
    world.make_due(&rows).await;
    world.until_empty().await;
    assert_eq!(world.peer.taken().len(), 1);
    world.tom_has(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_comes_back_to_its_sender_though_his_mailbox_is_full() {
    let world = World::new(says("550 5.1.1 no such user")).await;
    world.send(b"Subject: hi\r\nX-Mark: 7\r\n\r\nnot repeated\r\n", &["jack@server2.com"]).await;
    world.until_empty().await;
    let told = world.tom_has(1).await;
    let wanted = [
        "Return-Path: <>\r\nDate: ",
        "From: Mail Delivery System <MAILER-DAEMON@mx.server1.com>\r\nTo: <tom@server1.com>\r\n",
        "Final-Recipient: rfc822; jack@server2.com\r\nAction: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.server2.com\r\n",
        "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
        "\r\n\r\nReceived: from tom by here\r\nSubject: hi\r\nX-Mark: 7\r\n\r\n--report-",
    ];
    for part in wanted {
        assert!(told[0].contains(part), "{part}\nin\n{}", told[0]);
    }
    assert!(!told[0].contains("not repeated"));
    assert_eq!(world.count("bounced"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_of_one_message_have_outcomes_of_their_own() {
    let reply = |address: &str| match address.split('@').next().unwrap() {
        "gone" => "550 5.1.1 gone",
        "full" => "452 4.2.2 full",
        _ => "250 ok",
    };
    let world = World::new(Rules { recipient: Arc::new(reply), ..Rules::default() }).await;
    let to = ["full@server2.com", "gone@server2.com", "here@server2.com", "x@nowhere.example"];
    world.send(b"Subject: split\r\n\r\n", &to).await;
    let rows = world.until_deferred("server2.com", 1).await;
    assert_eq!(rows[0].recipient.address, address("full@server2.com"));
    assert_eq!(world.until_taken(1).await[0].recipients, ["here@server2.com"]);
    let told = world.tom_has(3).await.join("\n");
    assert!(told.contains("Final-Recipient: rfc822; gone@server2.com\r\nAction: failed\r\nStatus: 5.1.1\r\n"));
    assert!(told.contains("Final-Recipient: rfc822; full@server2.com\r\nAction: delayed\r\nStatus: 4.2.2\r\n"));
    assert!(told.contains("Final-Recipient: rfc822; x@nowhere.example\r\nAction: failed\r\nStatus: 5.1.2\r\n"));
    assert_eq!(world.store.queue_counts().await.unwrap().recipients, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_old_is_given_up_with_5_4_7() {
    let world = World::new(says("451 4.7.1 later")).await;
    let port = world.peer.address.port();
    world.configuration.replace(configuration(&world.dns, port, &["server1.com"], 0));
    world.send(b"\r\n", &["jack@server2.com"]).await;
    world.until_empty().await;
    let told = world.tom_has(1).await;
    assert!(told[0].contains("Action: failed\r\nStatus: 5.4.7\r\n") && told[0].contains("4.7.1 later"), "{}", told[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_about_a_report_and_a_foreign_sender_is_told_by_mail() {
    let reply = |address: &str| if address.starts_with("sender") { "250 ok" } else { "550 5.1.1 no" };
    let world = World::new(Rules { recipient: Arc::new(reply), ..Rules::default() }).await;
    world.send_as(None, b"\r\n", Declared::default(), &["jack@server2.com"]).await;
    world.until_empty().await;
    assert_eq!((world.count("unreported"), world.peer.taken().len()), (1, 0));
    world.send_as(Some("sender@server2.com"), b"\r\n", Declared::default(), &["jack@server2.com"]).await;
    let taken = world.until_taken(1).await;
    assert!(taken[0].mail.starts_with("MAIL FROM:<> "), "{}", taken[0].mail);
    assert_eq!(taken[0].recipients, ["sender@server2.com"]);
    world.until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_exchanger_is_tried_when_the_better_one_does_not_answer() {
    let world = World::new(Rules::default()).await;
    let port = world.peer.address.port();
    let busy = Peer::start(&format!("127.0.0.3:{port}"), Rules { greeting: "421 busy", ..Rules::default() }).await;
    world.dns.mx("two.example", 5, "dead.two.example");
    world.dns.mx("two.example", 10, "busy.two.example");
    world.dns.mx("two.example", 20, "mx.server2.com");
    world.dns.a("dead.two.example", [127, 0, 0, 2]);
    world.dns.a("busy.two.example", [127, 0, 0, 3]);
    world.send(b"\r\n", &["jack@two.example"]).await;
    world.until_empty().await;
    assert_eq!((world.peer.taken().len(), busy.taken().len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_comes_back_only_when_every_exchanger_refused_it_for_good() {
    let world = World::new(Rules::default()).await;
    let port = world.peer.address.port();
    let refuses = || Rules { greeting: "554 5.7.1 not here", ..Rules::default() };
    let _parked = Peer::start(&format!("127.0.0.3:{port}"), refuses()).await;
    world.dns.mx("two.example", 5, "better.two.example");
    world.dns.mx("two.example", 10, "parked.two.example");
    world.dns.a("better.two.example", [127, 0, 0, 2]);
    world.dns.a("parked.two.example", [127, 0, 0, 3]);
    world.send(b"\r\n", &["jack@two.example"]).await;
    let rows = world.until_deferred("two.example", 1).await;
    assert!(rows[0].last_error.as_deref().unwrap().contains("connecting to 127.0.0.2"), "{rows:?}");
    let _other = Peer::start(&format!("127.0.0.4:{port}"), refuses()).await;
    world.dns.mx("three.example", 5, "parked.two.example");
    world.dns.mx("three.example", 10, "other.three.example");
    world.dns.a("other.three.example", [127, 0, 0, 4]);
    world.send(b"\r\n", &["jack@three.example"]).await;
    let told = &world.tom_has(2).await[1];
    assert!(told.contains("Action: failed\r\n") && told.contains("554 5.7.1 not here"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_exchanger_is_tried_when_the_better_one_takes_no_message() {
    let world = World::new(Rules::default()).await;
    let port = world.peer.address.port();
    let rules = Rules { messages_per_connection: 0, ..Rules::default() };
    let better = Peer::start(&format!("127.0.0.2:{port}"), rules).await;
    world.dns.mx("two.example", 5, "better.two.example");
    world.dns.mx("two.example", 20, "mx.server2.com");
    world.dns.a("better.two.example", [127, 0, 0, 2]);
    world.send(b"\r\n", &["jack@two.example"]).await;
    world.until_empty().await;
    assert_eq!((world.peer.taken().len(), better.taken().len(), world.count("deferred")), (1, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_server_may_have_got_is_not_sent_again_at_once() {
    let offered = Arc::new(AtomicUsize::new(0));
    let content = {
        let offered = Arc::clone(&offered);
        move |_: &[u8]| if offered.fetch_add(1, Ordering::SeqCst) == 1 { "" } else { "250 ok" }
    };
    let mut world = World::new(Rules { content: Arc::new(content), ..Rules::default() }).await;
    world.queue.take().unwrap().shutdown(Duration::from_secs(30)).await;
    for body in [b"1", b"2"] {
        world.send(body, &["jack@server2.com"]).await;
    }
    world.start();
    let rows = world.until_deferred("server2.com", 1).await;
    assert!(rows[0].last_error.as_deref().unwrap().contains("4.4.2"), "{rows:?}");
    assert_eq!((world.peer.taken().len(), offered.load(Ordering::SeqCst)), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_recipient_whose_outcome_cannot_be_kept_is_not_tried_again_by_this_process() {
    let (rules, has_arrived, go) = waits();
    let world = World::new(rules).await;
    let arrived = || tokio::task::block_in_place(|| has_arrived.recv_timeout(Duration::from_secs(60))).unwrap();
    world.send(b"\r\n", &["jack@server2.com"]).await;
    arrived();
    let database = rusqlite::Connection::open(world.directory.path().join("mail.db")).unwrap();
    database.busy_timeout(Duration::from_secs(30)).unwrap();
    database.execute_batch("PRAGMA foreign_keys = OFF; DELETE FROM message").unwrap();
    go.send(()).unwrap();
    world.until_taken(1).await;
    world.send(b"\r\n", &["jill@server2.com"]).await;
    arrived();
    go.send(()).unwrap();
    let taken = world.until_taken(2).await;
    world
        .until("the second was not settled", async || {
            (world.store.queue_counts().await.unwrap().recipients == 1).then_some(())
        })
        .await;
    assert_eq!(taken[1].recipients, ["jill@server2.com"]);
    assert_eq!(taken[1].connection, 1, "nobody connected in between");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_when_the_outcome_could_not_be_recorded() {
    let mut world = World::new(Rules::default()).await;
    world.queue.take().unwrap().shutdown(Duration::from_secs(30)).await;
    for _ in 0..50 {
        world.send(&[b'x'; 30_000], &["jack@server2.com"]).await;
    }
    world.store.close().await;
    world.store = EmbeddedStore::open(world.directory.path()).unwrap();
    world.send(b"\r\n", &["jill@server2.com"]).await;
    // What is in the log cannot be carried over into this any more.
    let database = std::fs::File::options().write(true).open(world.directory.path().join("mail.db")).unwrap();
    let content = std::fs::read(world.directory.path().join("mail.db")).unwrap();
    database.set_len(8192).unwrap();
    assert!(!world.store.has_room(u64::MAX).await);
    world.store.broken().await;
    // Reading works all the same.
    std::fs::write(world.directory.path().join("mail.db"), content).unwrap();
    world.start();
    world.until("the queue was not looked at", async || (world.metrics.queued.get() == 51).then_some(())).await;
    world.queue.take().unwrap().shutdown(Duration::from_secs(30)).await;
    assert!(world.peer.taken().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_decides_where_mail_goes_and_what_it_meets() {
    let world = World::new(Rules::default()).await;
    world.dns.mx("null.example", 0, "");
    world.dns.mx("loop.example", 10, "mx.server1.com");
    world.dns.fail("broken.example");
    world.dns.a("implicit.example", [127, 0, 0, 1]);
    world.dns.cname("alias.example", "server2.com");
    for name in ["null.example", "loop.example", "absent.example"] {
        world.send(name.as_bytes(), &[&format!("jack@{name}")]).await;
    }
    let told = world.tom_has(3).await.join("\n");
    for (name, status) in [("null.example", "5.1.10"), ("loop.example", "5.4.6"), ("absent.example", "5.1.2")] {
        let wanted = format!("Final-Recipient: rfc822; jack@{name}\r\nAction: failed\r\nStatus: {status}\r\n");
        assert!(told.contains(&wanted), "{wanted}\nin\n{told}");
    }
    for name in ["implicit.example", "alias.example", "[127.0.0.1]"] {
        world.send(name.as_bytes(), &[&format!("jack@{name}")]).await;
    }
    world.until_empty().await;
    assert_eq!(world.peer.taken().len(), 3);
    world.send(b"\r\n", &["jack@broken.example"]).await;
    let rows = world.until_deferred("broken.example", 1).await;
    assert!(rows[0].last_error.as_deref().unwrap().contains("4.4.3"), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_many_messages_and_is_replaced_when_the_server_has_enough() {
    let mut world = World::new(Rules { messages_per_connection: 4, ..Rules::default() }).await;
    world.queue.take().unwrap().shutdown(Duration::from_secs(30)).await;
    for number in 0..10 {
        world.send(format!("{number}").as_bytes(), &["jack@server2.com"]).await;
    }
    world.start();
    world.until_empty().await;
    let taken = world.peer.taken();
    let numbers: Vec<String> = (0..10).map(|number| format!("{TRACE}{number}\r\n")).collect();
    assert_eq!(taken.iter().map(|taken| String::from_utf8_lossy(&taken.content)).collect::<Vec<_>>(), numbers);
    let connections: Vec<usize> = taken.iter().map(|taken| taken.connection).collect();
    assert_eq!(connections, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]);
}

fn acceptor() -> tokio_rustls::TlsAcceptor {
    let certified = rcgen::generate_simple_self_signed(vec!["other.example".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    Arc::new(config).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_used_where_it_is_offered_and_does_not_stop_mail_where_it_is_broken() {
    let world = World::new(Rules { tls: Some(Tls::Working(acceptor())), ..Rules::default() }).await;
    world.send(b"secret\r\n", &["jack@server2.com"]).await;
    world.until_empty().await;
    assert!(world.peer.taken()[0].encrypted);
    world.peer.set_rules(Rules { tls: Some(Tls::Broken), ..Rules::default() });
    world.send(b"open\r\n", &["jack@server2.com"]).await;
    world.until_empty().await;
    assert!(!world.peer.taken()[1].encrypted);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_the_server_cannot_take_bounces_and_declarations_alone_do_not() {
    let world = World::new(Rules { extensions: Vec::new(), ..Rules::default() }).await;
    let declared = Declared { smtputf8: true, ..Declared::eight_bit(true) };
    let tom = Some("tom@server1.com");
    world.send_as(tom, b"Subject: plain\r\n\r\nplain\r\n", declared.clone(), &["jack@server2.com"]).await;
    world.until_empty().await;
    assert_eq!(world.peer.taken()[0].mail, "MAIL FROM:<tom@server1.com>");
    world.send_as(tom, "Subject: x\r\n\r\n\u{e4}".as_bytes(), declared.clone(), &["jack@server2.com"]).await;
    world.send_as(tom, "Subject: \u{e4}\r\n\r\n".as_bytes(), declared, &["jack@server2.com"]).await;
    let told = world.tom_has(2).await.join("\n");
    assert!(told.contains("Status: 5.6.3\r\n") && told.contains("Status: 5.6.7\r\n"), "{told}");
    assert_eq!(world.peer.taken().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_after_the_message_defers_it() {
    let world = World::new(Rules { content: Arc::new(|_| ""), ..Rules::default() }).await;
    world.send(b"\r\n", &["jack@server2.com"]).await;
    let rows = world.until_deferred("server2.com", 1).await;
    assert!(rows[0].last_error.as_deref().unwrap().contains("4.4.2"), "{rows:?}");
    world.peer.set_rules(Rules { content: Arc::new(|_| "554 5.6.0 bad content"), ..Rules::default() });
    world.make_due(&rows).await;
    world.until_empty().await;
    assert!(world.tom_has(2).await[1].contains("Status: 5.6.0\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_became_ours_is_delivered_here() {
    let world = World::new(says("451 4.7.1 later")).await;
    world.send(b"Subject: home\r\n\r\n", &["tom@server2.com", "ghost@server2.com"]).await;
    let rows = world.until_deferred("server2.com", 2).await;
    let port = world.peer.address.port();
    world.configuration.replace(configuration(&world.dns, port, &["server1.com", "server2.com"], 432_000));
    world.make_due(&rows).await;
    world.until_empty().await;
    let got = world.maildrop("server2.com", 1).await;
    assert_eq!(got, [format!("Return-Path: <tom@server1.com>\r\n{TRACE}Subject: home\r\n\r\n")]);
    assert!(world.tom_has(2).await[1].contains("Final-Recipient: rfc822; ghost@server2.com\r\nAction: failed\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_sent_before_the_end_is_sent_after_the_next_start() {
    let mut world = World::new(says("451 4.7.1 later")).await;
    world.send(b"\r\n", &["jack@server2.com"]).await;
    world.until_deferred("server2.com", 1).await;
    world.queue.take().unwrap().shutdown(Duration::from_secs(30)).await;
    world.send(b"two\r\n", &["jill@server2.com"]).await;
    world.store.close().await;
    world.store = EmbeddedStore::open(world.directory.path()).unwrap();
    world.peer.set_rules(Rules::default());
    world.start();
    let taken = world.until_taken(1).await;
    assert_eq!(taken[0].recipients, ["jill@server2.com"], "what is deferred is not due yet");
    let rows = world.until_deferred("server2.com", 1).await;
    world.make_due(&rows).await;
    world.until_empty().await;
    assert_eq!(world.peer.taken()[1].recipients, ["jack@server2.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_of_a_domain_that_became_ours_defers() {
    let world = World::new(says("451 4.7.1 later")).await;
    world.dns.mx("full.example", 10, "mx.server2.com");
    world.send(b"Subject: home\r\n\r\n", &["tom@full.example"]).await;
    let rows = world.until_deferred("full.example", 1).await;
    let port = world.peer.address.port();
    world.configuration.replace(configuration(&world.dns, port, &["server1.com", "full.example"], 432_000));
    world.make_due(&rows).await;
    world
        .until("it was not tried again", async || {
            let rows = world.store.due_recipients(&domain("full.example"), Timestamp::MAX, 1).await.unwrap();
            rows[0].last_error.as_deref().is_some_and(|error| error.contains("4.2.2")).then_some(())
        })
        .await;
    assert_eq!(world.store.usage(&address("tom@full.example")).await.unwrap().messages, 0);
}

/// Rules by which the peer waits for a word before it answers the end of a message, and a receiver that hears when it
/// waits.
fn waits() -> (Rules, std::sync::mpsc::Receiver<()>, std::sync::mpsc::Sender<()>) {
    let (arrived, has_arrived) = std::sync::mpsc::channel();
    let (go, may_go) = std::sync::mpsc::channel();
    let may_go = std::sync::Mutex::new(may_go);
    let content = move |_: &[u8]| {
        arrived.send(()).unwrap();
        let answer = tokio::task::block_in_place(|| may_go.lock().unwrap().recv());
        if answer.is_ok() { "250 taken" } else { "" }
    };
    (Rules { content: Arc::new(content), ..Rules::default() }, has_arrived, go)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_message_that_is_being_sent_at_the_end_is_finished_and_settled() {
    let (rules, has_arrived, go) = waits();
    let mut world = World::new(rules).await;
    world.send(b"\r\n", &["jack@server2.com"]).await;
    tokio::task::block_in_place(|| has_arrived.recv_timeout(Duration::from_secs(60))).unwrap();
    let end = tokio::spawn(world.queue.take().unwrap().shutdown(Duration::from_secs(60)));
    world.send(b"\r\n", &["jill@server2.com"]).await;
    go.send(()).unwrap();
    end.await.unwrap();
    assert_eq!(world.peer.taken().len(), 1);
    let left = world.store.due_recipients(&domain("server2.com"), Timestamp::MAX, 10).await.unwrap();
    assert_eq!(left.iter().map(|row| row.recipient.address.to_string()).collect::<Vec<_>>(), ["jill@server2.com"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_peer_that_does_not_answer_does_not_hold_up_the_end() {
    let (rules, has_arrived, go) = waits();
    let mut world = World::new(rules).await;
    world.send(b"\r\n", &["jack@server2.com"]).await;
    tokio::task::block_in_place(|| has_arrived.recv_timeout(Duration::from_secs(60))).unwrap();
    world.queue.take().unwrap().shutdown(Duration::from_millis(100)).await;
    let left = world.store.due_recipients(&domain("server2.com"), Timestamp::now(), 10).await.unwrap();
    assert_eq!((left.len(), left[0].attempts), (1, 0), "it is due as if it had not been tried");
    drop(go);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_message_yet_does_not_hold_up_the_end() {
    let mut world = World::new(Rules::default()).await;
    let silent = tokio::net::TcpListener::bind(("127.0.0.3", world.peer.address.port())).await.unwrap();
    world.dns.mx("silent.example", 10, "silent.example");
    world.dns.a("silent.example", [127, 0, 0, 3]);
    for greeting in ["", "220 hello\r\n250 hello\r\n"] {
        world.send(b"\r\n", &["jack@silent.example"]).await;
        let (mut connection, _) = silent.accept().await.unwrap();
        connection.write_all(greeting.as_bytes()).await.unwrap();
        let mut said = vec![0; if greeting.is_empty() { 0 } else { "EHLO mx.server1.com\r\nMAIL".len() }];
        connection.read_exact(&mut said).await.unwrap();
        let start = Instant::now();
        world.queue.take().unwrap().shutdown(Duration::from_secs(120)).await;
        assert!(start.elapsed() < Duration::from_secs(60), "it waited for the server");
        world.start();
        drop(silent.accept().await.unwrap());
        let rows = world.until_deferred("silent.example", 1).await;
        assert_eq!(rows[0].attempts, 1, "what the end broke off was no attempt");
        let finished = rows.iter().map(|row| row.key).collect();
        world.store.settle(Settlement { finished, ..Settlement::default() }).await.unwrap();
        world.queue.take().unwrap().shutdown(Duration::from_secs(30)).await;
        world.start();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_message_is_never_taken_for_a_whole_one() {
    let mut world = World::new(Rules::default()).await;
    world.queue.take().unwrap().shutdown(Duration::from_secs(30)).await;
    world.send(&b"a line\r\n".repeat(50_000), &["jack@server2.com"]).await;
    let file = std::fs::read_dir(world.directory.path().join("bodies")).unwrap().next().unwrap().unwrap().path();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(100_000).unwrap();
    world.start();
    let rows = world.until_deferred("server2.com", 1).await;
    assert!(rows[0].last_error.as_deref().unwrap().contains("damaged"), "{rows:?}");
    assert!(world.peer.taken().is_empty());
}

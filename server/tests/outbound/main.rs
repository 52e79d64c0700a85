//! The queue from outside: what the store was given for other servers arrives there once, is tried again, or comes back to
//! its sender. Store, queue, resolver and SMTP client are the real ones; the name server and the other mail servers are on
//! loopback.

// All of this crate is a test, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod dns;
mod extensions;
mod here;
mod lifetime;
mod peer;
mod refused_work;
mod reports;
mod retries;
mod routing;
mod smart_hosts;
mod transfer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::{
    Address, Bundle, Configuration, Content, Domain, DomainConfig, Limits, MailboxRecord, Outbound, Record, Resolvers,
    ServerConfig, Shutdown, TlsConfig, TlsVersion,
};
use paquebot_server::delivery::filter::Filters;
use paquebot_server::live::LiveConfiguration;
use paquebot_server::metrics::Metrics;
use paquebot_server::queue::Queue;
use paquebot_server::store::embedded::EmbeddedStore;
use paquebot_server::store::outgoing::{Deferral, QueueDestination, QueueStore, QueuedRecipient, Settlement};
use paquebot_server::store::{Acceptance, Declared, MessageId, RemoteRecipient, Store};
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
    read(content(dns, port, domains, max_age_seconds))
}

fn read(content: Content) -> Configuration {
    let bundle = Bundle::build(content).unwrap();
    Configuration::read(bundle.files(), env!("CARGO_PKG_VERSION")).unwrap()
}

fn content(dns: &Dns, port: u16, domains: &[&str], max_age_seconds: u64) -> Content {
    let served = |name: &&str| DomainConfig {
        domain: domain(name),
        tenant: String::new(),
        subaddress_separator: None,
        catch_all: Default::default(),
        max_message_size: None,
        suspended: false,
        filters: paquebot_config::Filters::default(),
        relayers: Vec::new(),
        local_parts: paquebot_config::LocalParts::default(),
    };
    let mailbox = |name: &&str| {
        Record::Mailbox(MailboxRecord {
            quota: (*name != "server2.com").then_some(10),
            ..MailboxRecord::new(address(&format!("tom@{name}")))
        })
    };
    Content {
        server: ServerConfig {
            hostname: domain("mx.server1.com"),
            tenant: String::new(),
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
            tls: TlsConfig { min_version: TlsVersion::Tls12, client_authorities: None },
            shutdown: Shutdown { pre_stop_delay_seconds: 0, drain_timeout_seconds: 10 },
            filters: paquebot_config::Filters::default(),
        },
        domains: domains.iter().map(served).collect(),
        relay: Vec::new(),
        records: domains.iter().map(mailbox).collect(),
        secrets: paquebot_config::Secrets::default(),
    }
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
        self.queue = Some(
            Queue::start(self.store.clone(), self.configuration.clone(), metrics, Filters::default(), wake).unwrap(),
        );
    }

    async fn send_as(&self, from: Option<&str>, body: &[u8], declared: Declared, to: &[&str]) -> MessageId {
        let remote = to.iter().map(|text| address(text).into()).collect();
        self.send_to(from, body, declared, remote).await
    }

    async fn send_to(
        &self,
        from: Option<&str>,
        body: &[u8],
        declared: Declared,
        remote: Vec<RemoteRecipient>,
    ) -> MessageId {
        let mut spool = self.store.spool(u64::MAX).await.unwrap();
        spool.append(body).await.unwrap();
        let id = MessageId::generate();
        let acceptance = Acceptance {
            id: id.clone(),
            received_at: Timestamp::now(),
            reverse_path: from.map(address),
            sender_tenant: None,
            trace: Bytes::from_static(TRACE.as_bytes()),
            body: spool.finish().await.unwrap(),
            declared,
            local: Vec::new(),
            remote,
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
        // The scheduler may have looked past this moment already.
        let mut destinations = Vec::new();
        for row in rows {
            let domain = row.recipient.address.domain().clone();
            destinations.push(QueueDestination { domain, route: row.recipient.route.clone() });
        }
        self.queue.as_ref().unwrap().control().changed(destinations);
    }

    /// What is in the maildrop of tom at a domain, when it holds so many.
    async fn maildrop(&self, name: &str, count: usize) -> Vec<String> {
        let owner = address(&format!("tom@{name}"));
        self.until("the maildrop did not fill", async || {
            (self.store.usage(&owner.clone().into()).await.unwrap().messages >= count as u64).then_some(())
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

    /// The configuration that the world began with, changed.
    fn configure(&self, change: impl FnOnce(&mut Configuration)) {
        let mut configuration = configuration(&self.dns, self.peer.address.port(), &["server1.com"], 432_000);
        change(&mut configuration);
        self.configuration.replace(configuration);
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

/// TLS with a certificate for a name, and the certificate as PEM.
fn acceptor(name: &str) -> (tokio_rustls::TlsAcceptor, String) {
    let certified = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    (Arc::new(config).into(), certified.cert.pem())
}

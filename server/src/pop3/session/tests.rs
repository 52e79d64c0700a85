//! What needs a clock: silence. Time is tokio's paused one, so that ten minutes pass at once.

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use bytes::Bytes;
use futures::StreamExt as _;
use paquebot_config::{Address, Content, Protocol, Record, TlsConfig, TlsVersion, Verifier};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::credentials::Authenticator;
use crate::live::LiveConfiguration;
use crate::metrics::Metrics;
use crate::services::Services;
use crate::smtp::testing;
use crate::store::Declared;
use crate::store::embedded::EmbeddedStore;
use crate::tls::{CERTIFICATE_FILE, Certificates, Files, KEY_FILE};

mod fetching;

/// A POP3 server for one connection, with tom@server1.com (`secret`), and its certificate.
struct Bench {
    directory: TempDir,
    services: SharedServices,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let configuration = LiveConfiguration::new(testing::configuration_of(content_with(b"secret")));
        let services = Services {
            configuration: configuration.clone(),
            store: EmbeddedStore::open(&directory.path().join("data")).unwrap(),
            authenticator: Authenticator::new(configuration),
            certificates: Certificates::default(),
            rates: crate::rate::RateLimits::default(),
            filters: crate::delivery::filter::Filters::default(),
            metrics: Arc::new(Metrics::new()),
            shutdown: CancellationToken::new(),
            queue: Arc::new(Notify::new()),
        };
        Self { directory, services: Arc::new(services) }
    }

    /// A connection whose server side is a session on plain TCP.
    async fn connect(&self) -> TcpStream {
        let (client, server) = pair().await;
        let address = server.peer_addr().unwrap();
        tokio::spawn(run(Stream::Plain(server), address, listener(Protocol::Pop3), Arc::clone(&self.services)));
        client
    }

    /// A connection whose server side is a session under TLS.
    async fn connect_tls(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::create_dir_all(self.directory.path().join("tls")).unwrap();
        std::fs::write(self.directory.path().join(CERTIFICATE_FILE), made.cert.pem()).unwrap();
        std::fs::write(self.directory.path().join(KEY_FILE), made.signing_key.serialize_pem()).unwrap();
        let loaded = Files::read(self.directory.path())
            .unwrap()
            .load(&TlsConfig { min_version: TlsVersion::Tls13, client_authorities: None })
            .unwrap();
        let (client, server) = pair().await;
        let services = Arc::clone(&self.services);
        tokio::spawn(async move {
            let address = server.peer_addr().unwrap();
            let stream = Stream::Plain(server).upgrade(loaded.presented.plain).await.unwrap();
            run(stream, address, listener(Protocol::Pop3s), services).await;
        });
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, client).await.unwrap()
    }
}

fn listener(protocol: Protocol) -> Arc<Listener> {
    Arc::new(Listener {
        name: "test".to_owned(),
        protocol,
        port: 0,
        clear_text_logins: false,
        bare_line_endings: paquebot_config::BareLineEndings::default(),
        proxy_protocol: None,
    })
}

/// A world in which every mailbox has this password.
fn content_with(password: &[u8]) -> Content {
    let mut content = testing::content(Vec::new());
    let params = argon2::Params::new(64, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let hash: PasswordHash = argon2.hash_password(password).unwrap();
    for record in &mut content.records {
        if let Record::Mailbox(mailbox) = record {
            mailbox.verifiers = vec![Verifier::new(hash.to_string())];
        }
    }
    content
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (client, server)
}

async fn line<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    line
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>, text: &str) -> String {
    stream.get_mut().write_all(format!("{text}\r\n").as_bytes()).await.unwrap();
    line(stream).await
}

#[tokio::test]
async fn who_does_not_log_in_has_three_minutes_however_slowly_it_speaks() {
    let bench = Bench::new();
    let mut client = BufReader::new(bench.connect().await);
    assert!(line(&mut client).await.starts_with("+OK "));
    tokio::time::pause();
    let begin = Instant::now();
    for octet in [b"N", b"O"] {
        tokio::time::sleep(Duration::from_secs(50)).await;
        client.get_mut().write_all(octet).await.unwrap();
    }
    // A command gives no more time either.
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert!(say(&mut client, "OP").await.starts_with("-ERR log in"));
    assert!(line(&mut client).await.starts_with("-ERR [SYS/TEMP] nothing was said"));
    assert_eq!(line(&mut client).await, "");
    let waited = begin.elapsed().as_secs();
    assert!((179..190).contains(&waited), "{waited}");
}

#[tokio::test]
async fn who_has_logged_in_has_ten_minutes_after_each_command_and_silence_deletes_nothing() {
    let bench = Bench::new();
    let tom = testing::address("tom@server1.com");
    deliver(&bench, &tom, b"Subject: kept\r\n\r\n").await;
    let mut client = BufReader::new(bench.connect_tls().await);
    assert!(line(&mut client).await.starts_with("+OK "));
    say(&mut client, "USER tom@server1.com").await;
    assert!(say(&mut client, "PASS secret").await.starts_with("+OK 1 "));
    assert!(say(&mut client, "DELE 1").await.starts_with("+OK"));
    tokio::time::pause();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(590)).await;
        assert!(say(&mut client, "NOOP").await.starts_with("+OK"));
    }
    let begin = Instant::now();
    assert!(line(&mut client).await.starts_with("-ERR [SYS/TEMP] nothing was said"));
    let waited = begin.elapsed().as_secs();
    assert!((599..610).contains(&waited), "{waited}");
    tokio::time::resume();
    assert_eq!(bench.services.store.usage(&tom.clone().into()).await.unwrap().messages, 1);
}

#[tokio::test]
async fn a_changed_password_ends_the_session_and_frees_the_maildrop() {
    let bench = Bench::new();
    let tom = testing::address("tom@server1.com");
    deliver(&bench, &tom, b"Subject: kept\r\n\r\n").await;
    let mut client = BufReader::new(bench.connect_tls().await);
    assert!(line(&mut client).await.starts_with("+OK "));
    say(&mut client, "USER tom@server1.com").await;
    assert!(say(&mut client, "PASS secret").await.starts_with("+OK 1 "));
    assert!(say(&mut client, "DELE 1").await.starts_with("+OK"));
    // A reload that leaves the login as it was.
    let mut content = content_with(b"secret");
    let same = bench.services.configuration.snapshot().mailbox(&tom).unwrap().verifiers.clone();
    for record in &mut content.records {
        if let Record::Mailbox(mailbox) = record {
            mailbox.verifiers.clone_from(&same);
        }
    }
    content.server.limits.max_recipients = 7;
    bench.services.configuration.replace(testing::configuration_of(content));
    assert!(say(&mut client, "NOOP").await.starts_with("+OK"));
    bench.services.configuration.replace(testing::configuration_of(content_with(b"another")));
    assert!(say(&mut client, "QUIT").await.starts_with("-ERR [AUTH]"));
    assert_eq!(line(&mut client).await, "");
    assert_eq!(bench.services.store.usage(&tom.clone().into()).await.unwrap().messages, 1);
    assert!(opens_soon(&bench, &tom).await < Duration::from_secs(30));
}

/// A world in which tom has an app password (`phone`) that ends at a time, and is a tenant's.
fn content_with_phone(ends_at: i64, tenant: &str) -> Content {
    let Some(Record::Mailbox(of_phone)) = content_with(b"phone").records.into_iter().next() else {
        panic!("no mailbox")
    };
    let mut content = content_with(b"secret");
    for record in &mut content.records {
        if let Record::Mailbox(mailbox) = record {
            mailbox.tenant = tenant.to_owned();
            let verifier = of_phone.verifiers[0].clone();
            let (name, expires_at) = ("phone".to_owned(), Some(ends_at));
            mailbox.app_passwords =
                vec![paquebot_config::AppPassword { name, verifier, scopes: Vec::new(), expires_at }];
        }
    }
    content
}

#[tokio::test]
async fn a_session_ends_with_its_app_password() {
    let mut bench = Bench::new();
    let time = Arc::new(std::sync::atomic::AtomicI64::new(1_000));
    let services = Arc::get_mut(&mut bench.services).unwrap();
    services.authenticator = services.authenticator.clone().with_time({
        let time = Arc::clone(&time);
        move || jiff::Timestamp::from_second(time.load(std::sync::atomic::Ordering::SeqCst)).unwrap()
    });
    let at = |now| time.store(now, std::sync::atomic::Ordering::SeqCst);
    let tom = testing::address("tom@server1.com");
    deliver(&bench, &tom, b"Subject: kept\r\n\r\n").await;
    bench.services.configuration.replace(testing::configuration_of(content_with_phone(2_000, "")));
    let mut client = BufReader::new(bench.connect_tls().await);
    assert!(line(&mut client).await.starts_with("+OK "));
    say(&mut client, "USER tom@server1.com").await;
    assert!(say(&mut client, "PASS phone").await.starts_with("+OK 1 "));
    assert!(say(&mut client, "DELE 1").await.starts_with("+OK"));
    at(1_999);
    assert!(say(&mut client, "NOOP").await.starts_with("+OK"));
    // It is given more time …
    let mut longer = content_with_phone(3_000, "");
    for (old, new) in content_of(&bench).into_iter().zip(&mut longer.records) {
        if let Record::Mailbox(mailbox) = new {
            mailbox.app_passwords[0].verifier = old;
        }
    }
    bench.services.configuration.replace(testing::configuration_of(longer));
    assert!(say(&mut client, "NOOP").await.starts_with("+OK"));
    at(2_999);
    assert!(say(&mut client, "NOOP").await.starts_with("+OK"));
    // … which is over without a reload.
    at(3_000);
    assert!(say(&mut client, "QUIT").await.starts_with("-ERR [AUTH]"));
    assert_eq!(line(&mut client).await, "");
    assert_eq!(bench.services.store.usage(&tom.into()).await.unwrap().messages, 1);
}

/// The verifier of tom's app password in force, for each record.
fn content_of(bench: &Bench) -> Vec<Verifier> {
    let configuration = bench.services.configuration.snapshot();
    let tom = configuration.mailbox(&testing::address("tom@server1.com")).unwrap();
    vec![tom.app_passwords[0].verifier.clone(); content_with(b"secret").records.len()]
}

/// The domain goes to another tenant while a login waits for its turn: mail that is nobody's becomes nobody's by it.
#[tokio::test]
async fn a_login_of_before_a_reload_opens_nothing_after_it() {
    let mut bench = Bench::new();
    let tom = testing::address("tom@server1.com");
    deliver(&bench, &tom, b"Subject: kept\r\n\r\n").await;
    bench.services.configuration.replace(testing::configuration_of(content_with_phone(i64::MAX, "team-a")));
    let services = Arc::get_mut(&mut bench.services).unwrap();
    let next = testing::configuration_of(content_with_phone(i64::MAX, "team-b"));
    // The time is asked for after the login was looked up.
    services.authenticator = services.authenticator.clone().with_time({
        let (live, next) = (services.configuration.clone(), std::sync::Mutex::new(Some(next)));
        move || {
            next.lock().unwrap().take().into_iter().for_each(|next| live.replace(next));
            jiff::Timestamp::now()
        }
    });
    let mut client = BufReader::new(bench.connect_tls().await);
    assert!(line(&mut client).await.starts_with("+OK "));
    say(&mut client, "USER tom@server1.com").await;
    assert!(say(&mut client, "PASS secret").await.starts_with("-ERR [AUTH]"));
    assert_eq!(bench.services.store.tenants(&tom).await.unwrap(), [""], "it is nobody's still");
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_the_maildrop_after_five_minutes() {
    for octets in [20_000_usize, 16 << 20] {
        let bench = Bench::new();
        let tom = testing::address("tom@server1.com");
        deliver(&bench, &tom, &b"0123456789abcd\r\n".repeat(octets / 16)).await;
        let mut client = BufReader::new(bench.connect_tls().await);
        assert!(line(&mut client).await.starts_with("+OK "));
        say(&mut client, "USER tom@server1.com").await;
        assert!(say(&mut client, "PASS secret").await.starts_with("+OK 1 "));
        // Enough of them fill every buffer on the way, the last one with any rest.
        for _ in 0..(24 << 20) / octets {
            client.get_mut().write_all(b"RETR 1\r\n").await.unwrap();
        }
        tokio::time::pause();
        let waited = opens_soon(&bench, &tom).await;
        assert!(waited < Duration::from_secs(700), "{waited:?}");
        tokio::time::resume();
    }
}

/// How long it takes until a maildrop can be opened.
async fn opens_soon(bench: &Bench, maildrop: &Address) -> Duration {
    let begin = Instant::now();
    while bench.services.store.open_maildrop(&maildrop.clone().into()).await.is_err() {
        assert!(begin.elapsed() < Duration::from_secs(3600), "the maildrop is still in use");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    begin.elapsed()
}

async fn deliver(bench: &Bench, maildrop: &Address, message: &[u8]) {
    deliver_with(bench, maildrop.clone().into(), message, Declared::default()).await;
}

async fn deliver_with(bench: &Bench, maildrop: MaildropName, message: &[u8], declared: Declared) {
    use crate::store::{Acceptance, LocalDelivery, MessageId};
    let store = &bench.services.store;
    let mut spool = store.spool(u64::MAX).await.unwrap();
    spool.append(message).await.unwrap();
    let body = spool.finish().await.unwrap();
    let acceptance = Acceptance {
        id: MessageId::generate(),
        received_at: jiff::Timestamp::now(),
        reverse_path: None,
        sender_tenant: None,
        trace: Bytes::new(),
        body,
        declared,
        local: vec![LocalDelivery { maildrop, fields: Bytes::new(), body_from: None, quota: None, ascii_growth: None }],
        remote: Vec::new(),
        derived: Vec::new(),
        remember: Vec::new(),
    };
    store.commit(acceptance).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maildrop_of_many_messages_opens_at_once_and_is_emptied_in_one_transaction() {
    const MESSAGES: usize = 10_000;
    let bench = Bench::new();
    let tom = testing::address("tom@server1.com");
    let deliveries = futures::stream::iter((0..MESSAGES).map(|_| deliver(&bench, &tom, b"Subject: kept\r\n\r\n")));
    deliveries.buffer_unordered(200).collect::<Vec<()>>().await;
    let mut client = BufReader::new(bench.connect_tls().await);
    line(&mut client).await;
    say(&mut client, "USER tom@server1.com").await;
    let begin = Instant::now();
    assert!(say(&mut client, "PASS secret").await.starts_with("+OK 10000 messages"));
    let opened = begin.elapsed();
    assert!(opened < Duration::from_secs(5), "{opened:?}");
    println!("opened in {opened:?}");
    for number in 1..=MESSAGES {
        client.get_mut().write_all(format!("DELE {number}\r\n").as_bytes()).await.unwrap();
        assert!(line(&mut client).await.starts_with("+OK"));
    }
    let begin = Instant::now();
    assert_eq!(say(&mut client, "QUIT").await, "+OK 10000 messages deleted, bye\r\n");
    println!("deleted in {:?}", begin.elapsed());
    assert_eq!(bench.services.store.usage(&tom.clone().into()).await.unwrap().messages, 0);
}

#[tokio::test]
async fn a_client_is_told_that_the_server_goes_down() {
    let bench = Bench::new();
    let mut client = BufReader::new(bench.connect().await);
    assert!(line(&mut client).await.starts_with("+OK "));
    bench.services.shutdown.cancel();
    assert!(line(&mut client).await.starts_with("-ERR [SYS/TEMP] the server is shutting down"));
    assert_eq!(line(&mut client).await, "");
}

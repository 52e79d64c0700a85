//! The session over a real socket and the embedded store, with a store between that fails when it is told to. What the
//! whole process does is tested from outside, in `server/tests/smtp.rs`.

mod faulty;

use std::sync::Mutex;
use std::time::Duration;

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use paquebot_config::{Record, Verifier};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::faulty::{Fault, Faulty};
use super::*;
use crate::credentials::Authenticator;
use crate::credentials::sasl::Credentials;
use crate::live::LiveConfiguration;
use crate::metrics::Metrics;
use crate::services::Services;
use crate::smtp::machine::AcceptedRecipient;
use crate::smtp::testing::{address, configuration};
use crate::store::Store;
use crate::store::embedded::EmbeddedStore;
use crate::store::outgoing::{QueueStore, Settlement};
use crate::tls::Certificates;

fn on(protocol: Protocol) -> Arc<Listener> {
    Arc::new(Listener {
        name: "test".to_owned(),
        protocol,
        port: 0,
        clear_text_logins: false,
        bare_line_endings: paquebot_config::BareLineEndings::default(),
        proxy_protocol: None,
    })
}

struct World {
    #[expect(dead_code, reason = "removed when the test ends")]
    directory: tempfile::TempDir,
    store: Arc<Faulty>,
    services: SharedServices,
    client: BufReader<TcpStream>,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path()).unwrap();
        let store = Arc::new(Faulty { store, fault: Mutex::new(None) });
        let live = LiveConfiguration::new(configuration(Vec::new()));
        let services = Arc::new(Services {
            configuration: live.clone(),
            store: store.clone(),
            authenticator: Authenticator::new(live),
            certificates: Certificates::default(),
            rates: crate::rate::RateLimits::default(),
            filters: crate::delivery::filter::Filters::default(),
            metrics: Arc::new(Metrics::new()),
            shutdown: CancellationToken::new(),
            queue: Arc::new(Notify::new()),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, peer) = listener.accept().await.unwrap();
        tokio::spawn(run(Stream::Plain(tcp), peer, on(Protocol::Smtp), services.clone()));
        let mut world = Self { directory, store, services, client: BufReader::new(client) };
        assert!(world.reply().await.starts_with("220 "));
        world.say("EHLO client.example", "250 ").await;
        world
    }

    async fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(Duration::from_secs(30), self.client.read_line(&mut line));
            assert!(read.await.unwrap().unwrap() > 0, "the connection ended");
            if line.as_bytes()[3] == b' ' {
                return line;
            }
        }
    }

    async fn say(&mut self, command: &str, expected: &str) {
        self.client.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
        let reply = self.reply().await;
        assert!(reply.starts_with(expected), "{command}: {reply}");
    }

    fn set_fault(&self, fault: Option<Fault>) {
        *self.store.fault.lock().unwrap() = fault;
    }

    /// Whom the queue has to deliver to; they leave it.
    async fn take_queued(&self) -> Vec<String> {
        let now = jiff::Timestamp::now();
        let mut found = Vec::new();
        for destination in self.store.store.due_destinations(now).await.unwrap() {
            let rows = self.store.store.due_recipients(&destination, now, 10).await.unwrap();
            let finished = rows.iter().map(|row| row.key).collect();
            self.store.store.settle(Settlement { finished, ..Settlement::default() }).await.unwrap();
            found.extend(rows.into_iter().map(|row| row.recipient.address.to_string()));
        }
        found
    }

    /// What the queue has for an address.
    async fn queued_for(&self, to: &str) -> Vec<String> {
        let now = jiff::Timestamp::now();
        let domain = address(to).domain().clone();
        let mut found = Vec::new();
        for row in self.store.store.due_recipients(&domain, now, 10).await.unwrap() {
            let mut reader = self.store.store.read_queued(row.message).await.unwrap();
            let mut bytes = Vec::new();
            while let Some(piece) = reader.next().await.unwrap() {
                bytes.extend_from_slice(&piece);
            }
            if row.recipient.address == address(to) {
                found.push(String::from_utf8(bytes).unwrap());
            }
        }
        found
    }

    async fn send(&mut self, from: &str, to: &[&str], reply: &str) {
        self.say(&format!("MAIL FROM:{from}"), "250 ").await;
        for to in to {
            self.say(&format!("RCPT TO:{to}"), "250 ").await;
        }
        self.say("DATA", "354 ").await;
        self.say("Subject: a\r\n\r\nbody\r\n.", reply).await;
    }

    async fn octets(&self, maildrop: &str) -> u64 {
        self.store.store.usage(&address(maildrop).into()).await.unwrap().octets
    }
}

const ANNA: &str = "RCPT TO:<anna@server1.com>";

#[tokio::test]
async fn a_store_that_fails_defers_and_keeps_nothing() {
    let mut world = World::new().await;
    world.set_fault(Some(Fault::NoRoom));
    world.say("MAIL FROM:<> SIZE=100", "452 4.3.1").await;
    world.say(ANNA, "503 5.5.1").await;
    world.set_fault(Some(Fault::Spool));
    world.say("MAIL FROM:<>", "250").await;
    world.say(ANNA, "250").await;
    world.say("DATA", "452 4.3.1").await;
    for (fault, expected) in [
        (Fault::Append, "452 4.3.1"),
        (Fault::Finish, "452 4.3.1"),
        (Fault::CommitFull, "452 4.3.1"),
        (Fault::CommitFailed, "451 4.3.0"),
    ] {
        world.set_fault(Some(fault));
        world.say("MAIL FROM:<>", "250").await;
        world.say(ANNA, "250").await;
        world.say("DATA", "354").await;
        world.say("Subject: lost\r\n\r\n.", expected).await;
    }
    assert_eq!(world.octets("anna@server1.com").await, 0);
    world.set_fault(Some(Fault::Usage));
    world.say("MAIL FROM:<>", "250").await;
    world.say("RCPT TO:<full@server1.com>", "451 4.3.0").await;
    world.set_fault(None);
    world.say(ANNA, "250").await;
    world.say("DATA", "354").await;
    world.say("Subject: kept\r\n\r\n.", "250 2.0.0").await;
    assert!(world.octets("anna@server1.com").await > 0);
}

/// A world in which anna's mailbox has this filter.
async fn filtering(filter: &str) -> World {
    let world = World::new().await;
    let mut content = crate::smtp::testing::content(Vec::new());
    for record in &mut content.records {
        if let paquebot_config::Record::Mailbox(mailbox) = record
            && mailbox.address == address("anna@server1.com")
        {
            mailbox.filter = Some(filter.to_owned());
        }
    }
    world.services.configuration.replace(crate::smtp::testing::configuration_of(content));
    world
}

#[tokio::test]
async fn filters_decide_before_the_reply() {
    let cases = [
        ("keep;", "250 ", true),
        ("discard;", "250 ", false),
        ("redirect \"joe@server3.org\";", "250 ", false),
        (
            "require \"reject\"; reject \"No\nthanks\";",
            "550 5.7.1 rejected by the recipient's filter: No thanks",
            false,
        ),
        ("nonsense;", "250 ", true),
    ];
    for (filter, reply, is_kept) in cases {
        let mut world = filtering(filter).await;
        world.say("MAIL FROM:<jack@server2.com>", "250 ").await;
        world.say("RCPT TO:<anna@server1.com>", "250 ").await;
        world.say("DATA", "354 ").await;
        world.say("Subject: a\r\n\r\nbody\r\n.", reply).await;
        assert_eq!(world.octets("anna@server1.com").await > 0, is_kept, "{filter}");
        let redirected: &[String] = if filter.starts_with("redirect") { &["joe@server3.org".to_owned()] } else { &[] };
        assert_eq!(world.take_queued().await, redirected, "{filter}");
    }
}

const SENDER: &str = "<x@elsewhere.example> ENVID=QQ1";
const ANNA_SUCCESS: &str = "<anna@server1.com> NOTIFY=SUCCESS ORCPT=rfc822;first@list.example";

#[tokio::test]
async fn rfc_3461_5_2_3_success_is_reported_with_the_delivery() {
    // Whoever discards does so in silence (RFC 5228 §4.4).
    for filter in ["keep;", "discard;", "require \"fileinto\"; fileinto \"work\";"] {
        let mut world = filtering(filter).await;
        world.send(SENDER, &[ANNA_SUCCESS, "<tom@server1.com>"], "250 ").await;
        let reports = world.queued_for("x@elsewhere.example").await;
        let [report] = &reports[..] else { panic!("{filter}: {reports:?}") };
        for expected in [
            "report-type=delivery-status",
            "Original-Envelope-Id: QQ1\r\n",
            "Original-Recipient: rfc822; first@list.example\r\nFinal-Recipient: rfc822; anna@server1.com\r\n\
             Action: delivered\r\nStatus: 2.0.0\r\n",
            "Subject: a\r\n",
        ] {
            assert!(report.contains(expected), "{expected:?} is not in {report}");
        }
        assert!(!report.contains("body\r\n") && !report.contains("tom@server1.com"), "{report}");
        assert_eq!(world.services.metrics.delivered.get(), if filter == "discard;" { 1 } else { 2 }, "{filter}");
    }
}

#[tokio::test]
async fn success_is_not_reported_to_nobody_and_not_of_what_was_rejected() {
    let mut world = World::new().await;
    world.send("<>", &[ANNA_SUCCESS], "250 ").await;
    world.send(SENDER, &["<anna@server1.com> NOTIFY=NEVER", "<tom@server1.com> NOTIFY=FAILURE"], "250 ").await;
    assert_eq!(world.take_queued().await, [""; 0]);
    let mut world = filtering("require \"reject\"; reject \"no\";").await;
    world.send(SENDER, &[ANNA_SUCCESS], "550 ").await;
    assert_eq!(world.take_queued().await, [""; 0]);
    world.send(SENDER, &[ANNA_SUCCESS, "<tom@server1.com> NOTIFY=SUCCESS"], "250 ").await;
    let reports = world.queued_for("x@elsewhere.example").await;
    let success: Vec<_> = reports.iter().filter(|report| report.contains("Action: delivered\r\n")).collect();
    let [report] = &success[..] else { panic!("{reports:?}") };
    assert!(report.contains("Final-Recipient: rfc822; tom@") && !report.contains("anna@"), "{report}");
}

/// RFC 3461 §5.2.7.3.
#[tokio::test]
async fn an_alias_for_several_is_reported_as_expanded() {
    let mut world = World::new().await;
    world.send(SENDER, &["<team@server1.com> NOTIFY=SUCCESS"], "250 ").await;
    let report = &world.queued_for("x@elsewhere.example").await[0];
    assert!(report.contains("Final-Recipient: rfc822; team@server1.com\r\nAction: expanded\r\n"), "{report}");
}

#[tokio::test]
async fn the_queue_is_woken_for_remote_recipients_only() {
    let mut world = World::new().await;
    let queue = world.services.queue.clone();
    for (recipient, woken) in [("anna@server1.com", false), ("away@server1.com", true)] {
        world.say("MAIL FROM:<>", "250").await;
        world.say(&format!("RCPT TO:<{recipient}>"), "250").await;
        world.say("DATA", "354").await;
        world.say(".", "250 2.0.0").await;
        let notified = futures::FutureExt::now_or_never(queue.notified()).is_some();
        assert_eq!(notified, woken, "{recipient}");
    }
}

/// What an alias leads to gets the message from the queue where it cannot be delivered to at once.
/// Whoever forwards keeps his quota, and those to whom he forwards get the message once.
#[tokio::test]
async fn a_full_mailbox_that_forwards_waits_alone() {
    let mut world = World::new().await;
    let mut content = crate::smtp::testing::content(Vec::new());
    for record in &mut content.records {
        if let Record::Mailbox(mailbox) = record
            && mailbox.address == address("both@server1.com")
        {
            mailbox.quota = Some(500);
        }
    }
    world.services.configuration.replace(crate::smtp::testing::configuration_of(content));
    world.say("MAIL FROM:<x@elsewhere.example>", "250").await;
    world.say("RCPT TO:<both@server1.com>", "250").await;
    world.say("DATA", "354").await;
    world.say(&format!("Subject: all\r\n\r\n{}.", "text\r\n".repeat(500)), "250 2.0.0").await;
    assert_eq!(world.octets("both@server1.com").await, 0);
    let now = jiff::Timestamp::now();
    let rows = world.store.store.due_recipients(address("both@server1.com").domain(), now, 10).await;
    let routes: Vec<_> = rows.unwrap().into_iter().map(|row| row.recipient.route).collect();
    assert_eq!(routes, [Some(crate::store::envelope::Route::Maildrop)]);
}

/// The trace fields and the field of each copy count, whoever else gets the message.
#[tokio::test]
async fn a_quota_is_exact_with_several_recipients() {
    let mut world = World::new().await;
    let size = 2_000 - "Subject: a\r\n\r\n\r\n".len();
    world.say("MAIL FROM:<x@elsewhere.example>", "250").await;
    world.say("RCPT TO:<full@server1.com>", "250").await;
    world.say("RCPT TO:<anna@server1.com>", "250").await;
    world.say("DATA", "354").await;
    let lines = format!("{}\r\n{}", "x".repeat(900), "x".repeat(size - 902));
    world.say(&format!("Subject: a\r\n\r\n{lines}\r\n."), "250 2.0.0").await;
    assert_eq!(world.octets("full@server1.com").await, 0, "the message alone would just fit");
    assert!(world.octets("anna@server1.com").await > 2_000);
    assert_eq!(world.take_queued().await, ["full@server1.com"]);
}

/// A recipient is delivered to, or its sender is told: RFC 5321 §6.1.
#[tokio::test]
async fn a_recipient_that_the_loop_guard_cuts_off_is_reported() {
    let mut world = World::new().await;
    let mut content = crate::smtp::testing::content(Vec::new());
    content.records.push(crate::smtp::testing::alias("friends@server1.com", &["jack@server2.com"]));
    world.services.configuration.replace(crate::smtp::testing::configuration_of(content));
    for (path, reports) in [("<x@elsewhere.example>", 1), ("<>", 0)] {
        world.say(&format!("MAIL FROM:{path}"), "250").await;
        world.say(ANNA, "250").await;
        world.say("RCPT TO:<friends@server1.com>", "250").await;
        world.say("DATA", "354").await;
        world.say("Delivered-To: friends@server1.com\r\nSubject: a\r\n\r\nbody\r\n.", "250 2.0.0").await;
        let told = world.queued_for("x@elsewhere.example").await;
        assert_eq!(told.len(), reports);
        assert!(told.iter().all(|told| {
            told.contains("Final-Recipient: rfc822; friends@server1.com\r\nAction: failed\r\nStatus: 5.4.6\r\n")
        }));
        world.take_queued().await;
    }
}

#[tokio::test]
async fn no_target_of_an_alias_is_forgotten_or_stands_in_the_way_of_the_others() {
    let mut world = World::new().await;
    for (alias, waiting) in [
        ("everybody@server1.com", &["full@server1.com"][..]),
        ("crew@server1.com", &["eve@server1.com", "sue@suspended.example"]),
        ("half@server1.com", &["ghost@server1.com"]),
    ] {
        let before = world.octets("anna@server1.com").await;
        world.say("MAIL FROM:<x@elsewhere.example> SIZE=3000", "250").await;
        world.say(&format!("RCPT TO:<{alias}>"), "250").await;
        world.say("DATA", "354").await;
        world.say(&format!("Subject: all\r\n\r\n{}.", "text\r\n".repeat(500)), "250 2.0.0").await;
        assert!(world.octets("anna@server1.com").await > before, "{alias}");
        assert_eq!(world.take_queued().await, waiting, "{alias}");
    }
    assert_eq!(world.octets("full@server1.com").await, 0);
    world.say("MAIL FROM:<x@elsewhere.example> SIZE=3000", "250").await;
    world.say("RCPT TO:<full@server1.com>", "552 5.2.2").await;
}

#[tokio::test]
async fn a_reload_takes_effect_with_the_next_transaction() {
    let mut world = World::new().await;
    world.say("MAIL FROM:<>", "250").await;
    let mut content = crate::smtp::testing::content(Vec::new());
    content.records.retain(|record| record.address() != Some(&address("anna@server1.com")));
    content.records.retain(|record| record.address().unwrap().local_part().as_str() != "postmaster");
    world.services.configuration.replace(crate::smtp::testing::configuration_of(content));
    world.say(ANNA, "250").await;
    world.say("DATA", "354").await;
    world.say(".", "250 2.0.0").await;
    world.say("MAIL FROM:<>", "250").await;
    world.say(ANNA, "550 5.1.1").await;
}

#[tokio::test]
async fn a_server_that_shuts_down_says_so_to_idle_clients() {
    let mut world = World::new().await;
    world.services.shutdown.cancel();
    assert!(world.reply().await.starts_with("421 4.3.2"));
}

/// Whoever logged in with a password that was changed since sends no further message.
#[tokio::test]
async fn a_changed_password_ends_the_right_to_send() {
    let world = World::new().await;
    let with_password = |password: &[u8]| {
        let mut content = crate::smtp::testing::content(Vec::new());
        let Record::Mailbox(tom) = &mut content.records[0] else { panic!("tom comes first") };
        let params = argon2::Params::new(64, 1, 1, None).unwrap();
        let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let hash: PasswordHash = argon2.hash_password(password).unwrap();
        tom.verifiers = vec![Verifier::new(hash.to_string())];
        crate::smtp::testing::configuration_of(content)
    };
    world.services.configuration.replace(with_password(b"old"));
    let client = "192.0.2.1:1234".parse().unwrap();
    let mut session = Session::new(client, on(Protocol::Submissions), world.services.clone(), true);
    let password = crate::credentials::Password::new(b"old".to_vec());
    session.authenticate(Credentials { login: "tom@server1.com".to_owned(), password }).await;
    let mail = || Mail { reverse_path: Some(address("tom@server1.com")), ..Mail::default() };
    assert_eq!(session.check_sender(mail()).await, Ok(mail()));
    world.services.configuration.replace(with_password(b"new"));
    assert_eq!(session.check_sender(mail()).await.unwrap_err().code(), 530);
}

fn settle(machine: &mut Machine) {
    while let Some(action) = machine.next_action() {
        match action {
            Action::CheckSender(mail) => machine.sender_answered(Ok(mail)),
            Action::CheckRecipient(_) => {
                let recipient =
                    AcceptedRecipient { address: address("anna@server1.com"), max_message_size: None, route: None };
                machine.recipient_answered(Ok(recipient));
            }
            Action::OpenSpool(_) => machine.spool_answered(Ok(())),
            Action::Commit(_) => machine.commit_answered(Reply::new(250, 0, 0, "ok")),
            _ => {}
        }
    }
}

/// RFC 5321 §4.5.3.2: a command has five minutes as a whole, content three for each piece, and a message an hour.
#[tokio::test]
async fn time_limits() {
    let world = World::new().await;
    let mut machine = Machine::new(settings(&world.services, &on(Protocol::Smtp)), false);
    let begin = Instant::now();
    let minutes = |count: u64| begin + Duration::from_secs(60 * count);
    let mut clock = Clock::new(begin);
    // An octet a minute is no command.
    for minute in 0..4 {
        machine.feed(b"N");
        settle(&mut machine);
        clock.advance(&machine, minutes(minute));
        assert_eq!(clock.deadline, minutes(5));
    }
    machine.feed(b"\r\n");
    settle(&mut machine);
    clock.advance(&machine, minutes(4));
    assert_eq!(clock.deadline, minutes(9));
    machine.feed(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<anna@server1.com>\r\nDATA\r\n");
    settle(&mut machine);
    clock.advance(&machine, minutes(5));
    assert_eq!(clock.deadline, minutes(8));
    for minute in (7..62).step_by(2) {
        machine.feed(b"x");
        settle(&mut machine);
        clock.advance(&machine, minutes(minute));
        assert_eq!(clock.deadline, minutes((minute + 3).min(65)));
    }
    machine.feed(b"\r\n.\r\n");
    settle(&mut machine);
    clock.advance(&machine, minutes(64));
    assert_eq!(clock.deadline, minutes(69));
    // Commands without a message have an hour together.
    for minute in (68..124).step_by(4) {
        machine.feed(b"NOOP\r\n");
        settle(&mut machine);
        clock.advance(&machine, minutes(minute));
        assert_eq!(clock.deadline, minutes((minute + 5).min(124)));
    }
}

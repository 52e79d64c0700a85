use argon2::password_hash::PasswordHasher;
use argon2::{Algorithm, Version};
use paquebot_config::{
    Bundle, Content, Domain, DomainConfig, Limits, Outbound, Record, Resolvers, ServerConfig, Shutdown, TlsConfig,
    TlsVersion, Verifier,
};

use super::*;

fn verifier(password: &str) -> Verifier {
    let params = Params::new(64, 1, 1, None).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash: PasswordHash = argon2.hash_password(password.as_bytes()).unwrap();
    Verifier::new(hash.to_string())
}

fn mailbox(address: &str, verifiers: Vec<Verifier>) -> MailboxRecord {
    MailboxRecord { verifiers, ..MailboxRecord::new(Address::parse(address).unwrap()) }
}

fn configuration(mailboxes: Vec<MailboxRecord>, suspended: bool) -> Configuration {
    let domain = Domain::parse("server1.com").unwrap();
    let content = Content {
        server: ServerConfig {
            hostname: domain.clone(),
            tenant: String::new(),
            listeners: Vec::new(),
            limits: Limits {
                max_message_size: 1,
                max_recipients: 100,
                connections: 1,
                per_client_connections: 1,
                login_delay_seconds: 0,
            },
            outbound: Outbound {
                ehlo_name: None,
                max_age_seconds: 1,
                delay_warning_seconds: 1,
                port: 25,
                smart_host: None,
                allowed_networks: Vec::new(),
                trusted_certificates: None,
            },
            resolvers: Resolvers::default(),
            tls: TlsConfig { min_version: TlsVersion::Tls12, client_authorities: None },
            shutdown: Shutdown { pre_stop_delay_seconds: 0, drain_timeout_seconds: 0 },
            filters: paquebot_config::Filters::default(),
        },
        domains: vec![DomainConfig {
            domain,
            tenant: String::new(),
            subaddress_separator: Some('+'),
            catch_all: paquebot_config::CatchAll::Reject,
            max_message_size: None,
            suspended,
            filters: paquebot_config::Filters::default(),
            relayers: Vec::new(),
            local_parts: paquebot_config::LocalParts::default(),
        }],
        relay: Vec::new(),
        records: mailboxes.into_iter().map(Record::Mailbox).collect(),
        secrets: paquebot_config::Secrets::default(),
    };
    Configuration::read(Bundle::build(content).unwrap().files(), env!("CARGO_PKG_VERSION")).unwrap()
}

fn authenticator(mailboxes: Vec<MailboxRecord>) -> Authenticator {
    let live = LiveConfiguration::new(configuration(mailboxes, false));
    Authenticator::new(live).with_failure_delay(Duration::ZERO)
}

async fn verify(authenticator: &Authenticator, login: &str, password: &str) -> Result<String, Failure> {
    verify_from(authenticator, "192.0.2.1", login, password).await
}

async fn verify_from(
    authenticator: &Authenticator,
    client: &str,
    login: &str,
    password: &str,
) -> Result<String, Failure> {
    let password = Password::new(password.as_bytes().to_vec());
    let verified = authenticator.verify(client.parse().unwrap(), Access::Pop3, login, password).await;
    verified.map(|identity| identity.mailbox.to_string())
}

#[tokio::test]
async fn the_login_is_the_whole_address_in_any_case() {
    let authenticator = authenticator(vec![mailbox("tom@server1.com", vec![verifier("right"), verifier("other")])]);
    for (login, password, expected) in [
        ("tom@server1.com", "right", Ok("tom@server1.com".to_owned())),
        ("Tom@SERVER1.com", "right", Ok("tom@server1.com".to_owned())),
        ("tom@server1.com", "other", Ok("tom@server1.com".to_owned())),
        ("tom@server1.com", "Right", Err(Failure::Rejected)),
        ("tom@server1.com", "right ", Err(Failure::Rejected)),
        ("tom@server1.com", "", Err(Failure::Rejected)),
        ("tom", "right", Err(Failure::Rejected)),
        ("anna@server1.com", "right", Err(Failure::Rejected)),
        ("tom@server2.com", "right", Err(Failure::Rejected)),
        ("", "right", Err(Failure::Rejected)),
    ] {
        assert_eq!(verify(&authenticator, login, password).await, expected, "{login} {password}");
        // The memory of successes changes no answer.
        assert_eq!(verify(&authenticator, login, password).await, expected, "{login} {password}");
    }
    assert_eq!(verify(&authenticator, "tom@server1.com", &"x".repeat(2000)).await, Err(Failure::Rejected));
}

#[tokio::test]
async fn what_is_not_allowed_is_told_only_to_who_knows_the_password() {
    let mut closed = mailbox("closed@server1.com", vec![verifier("right")]);
    closed.protocols.pop3 = false;
    let mut suspended = mailbox("suspended@server1.com", vec![verifier("right")]);
    suspended.suspended = true;
    let authenticator = authenticator(vec![closed, suspended, mailbox("receives@server1.com", Vec::new())]);
    for login in ["closed@server1.com", "suspended@server1.com"] {
        assert_eq!(verify(&authenticator, login, "right").await, Err(Failure::NotPermitted));
        assert_eq!(verify(&authenticator, login, "wrong").await, Err(Failure::Rejected));
    }
    assert_eq!(verify(&authenticator, "receives@server1.com", "").await, Err(Failure::Rejected));
    let (client, password) = ("192.0.2.1".parse().unwrap(), Password::new(b"right".to_vec()));
    let submission = authenticator.verify(client, Access::Submission, "closed@server1.com", password);
    assert!(submission.await.is_ok());
}

#[tokio::test]
async fn a_login_ends_with_its_password_and_its_rights() {
    let old = verifier("old");
    let tom = |verifiers| mailbox("tom@server1.com", verifiers);
    let authenticator = authenticator(vec![tom(vec![old.clone()])]);
    let (client, password) = ("192.0.2.1".parse().unwrap(), Password::new(b"old".to_vec()));
    let identity = authenticator.verify(client, Access::Pop3, "tom@server1.com", password).await.unwrap();
    let holds = |mailboxes, suspended| identity.mailbox_in(&configuration(mailboxes, suspended)).is_some();
    assert!(holds(vec![tom(vec![old.clone()])], false));
    assert!(holds(vec![tom(vec![verifier("new"), old.clone()])], false));
    assert!(!holds(vec![tom(vec![verifier("new")])], false));
    assert!(!holds(vec![], false));
    assert!(!holds(vec![tom(vec![old.clone()])], true));
    let mut closed = tom(vec![old]);
    closed.protocols.pop3 = false;
    assert!(!holds(vec![closed], false));
}

#[tokio::test(start_paused = true)]
async fn a_client_has_one_verification_at_a_time_and_all_have_so_much_memory() {
    let authenticator = authenticator(vec![mailbox("tom@server1.com", vec![verifier("right"), verifier("too")])]);
    let from =
        |client: &'static str, password: &'static str| verify_from(&authenticator, client, "tom@server1.com", password);
    for (busy, neighbour, other) in [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::2"),
        ("192.0.2.3", "192.0.2.3", "127.0.0.1"),
    ] {
        let turn = authenticator.turn_of(busy.parse().unwrap()).await.unwrap();
        assert_eq!(from(neighbour, "wrong").await, Err(Failure::Busy));
        assert_eq!(from(other, "wrong").await, Err(Failure::Rejected));
        assert!(from(other, "right").await.is_ok());
        // What was verified lately needs no turn.
        assert!(from(neighbour, "right").await.is_ok());
        drop(turn);
        assert_eq!(from(neighbour, "wrong").await, Err(Failure::Rejected));
    }
    let taken = authenticator.memory_left.acquire_many(MEMORY_BUDGET - authenticator.smallest_share + 1).await;
    assert_eq!(from("192.0.2.1", "too").await, Err(Failure::Busy));
    drop(taken);
    assert!(from("192.0.2.1", "too").await.is_ok());
}

#[test]
fn what_a_verifier_may_cost() {
    let of = |m: u32, t: u32, p: u32| {
        memory_cost(&format!("$argon2id$v=19$m={m},t={t},p={p}$c29tZXNhbHQxMjM0NQ$AAAAAAAAAAAAAAAAAAAAAA"))
    };
    assert_eq!(of(19_456, 2, 1), Some(19_456));
    assert_eq!(of(65_536, 64, 4), Some(65_536));
    assert_eq!(of(65_537, 1, 1), None);
    assert_eq!(of(64, 65, 1), None);
    assert_eq!(memory_cost("plain"), None);
}

#[tokio::test]
async fn a_change_of_configuration_holds_at_once() {
    let tom = |password| mailbox("tom@server1.com", vec![verifier(password)]);
    let live = LiveConfiguration::new(configuration(vec![tom("old")], false));
    let authenticator = Authenticator::new(live.clone()).with_failure_delay(Duration::ZERO);
    assert!(verify(&authenticator, "tom@server1.com", "old").await.is_ok());
    live.replace(configuration(vec![tom("new")], false));
    assert_eq!(verify(&authenticator, "tom@server1.com", "old").await, Err(Failure::Rejected));
    assert!(verify(&authenticator, "tom@server1.com", "new").await.is_ok());
    live.replace(configuration(vec![tom("new")], true));
    assert_eq!(verify(&authenticator, "tom@server1.com", "new").await, Err(Failure::NotPermitted));
}

#[tokio::test]
async fn a_verifier_that_cannot_be_used_opens_nothing() {
    let broken = ["", "right", "$argon2id$", "$argon2id$v=19$m=99999999,t=1,p=1$c2FsdHNhbHQ$AAAA", "$plain$right"];
    for phc in broken {
        let authenticator = authenticator(vec![mailbox("tom@server1.com", vec![Verifier::new(phc.to_owned())])]);
        assert_eq!(verify(&authenticator, "tom@server1.com", "right").await, Err(Failure::Rejected), "{phc}");
    }
}

#[tokio::test]
async fn an_unknown_login_costs_an_argon2_as_well_and_a_failure_takes_its_time() {
    let delay = Duration::from_millis(300);
    let tom = mailbox("tom@server1.com", vec![verifier("right")]);
    let live = LiveConfiguration::new(configuration(vec![tom], false));
    let authenticator = Authenticator::new(live).with_failure_delay(delay);
    let decoy = PasswordHash::new(&authenticator.decoy).unwrap();
    let params = Params::try_from(&decoy).unwrap();
    assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (19 * 1024, 2, 1));
    assert_eq!(decoy.hash.unwrap().len(), 32);
    for login in ["tom@server1.com", "nobody@server1.com"] {
        let begin = Instant::now();
        assert_eq!(verify(&authenticator, login, "wrong").await, Err(Failure::Rejected));
        assert!(begin.elapsed() >= delay, "{login}");
    }
    let begin = Instant::now();
    assert!(verify(&authenticator, "tom@server1.com", "right").await.is_ok());
    assert!(begin.elapsed() < delay);
}

#[tokio::test]
async fn logins_are_counted() {
    let metrics = Arc::new(Metrics::new());
    let live = LiveConfiguration::new(configuration(vec![mailbox("tom@server1.com", vec![verifier("right")])], false));
    let authenticator = Authenticator::new(live).with_failure_delay(Duration::ZERO).with_metrics(Arc::clone(&metrics));
    let _ = verify(&authenticator, "tom@server1.com", "right").await;
    let _ = verify(&authenticator, "tom@server1.com", "wrong").await;
    let text = metrics.encode().unwrap();
    assert!(text.contains(r#"paquebot_logins_total{protocol="pop3",result="accepted"} 1"#), "{text}");
    assert!(text.contains(r#"paquebot_logins_total{protocol="pop3",result="rejected"} 1"#), "{text}");
}

#[tokio::test]
async fn the_subaddress_of_a_login_names_a_folder_for_pop3() {
    let exact = mailbox("anna+own@server1.com", vec![verifier("other")]);
    let authenticator = authenticator(vec![mailbox("anna@server1.com", vec![verifier("right")]), exact]);
    let log_in = async |access, login: &str, password: &str| {
        let password = Password::new(password.as_bytes().to_vec());
        let verified = authenticator.verify("192.0.2.1".parse().unwrap(), access, login, password).await;
        verified.map(|identity| identity.maildrop().to_string())
    };
    for (login, maildrop) in [
        ("anna@server1.com", "anna@server1.com"),
        ("anna+junk@server1.com", "anna@server1.com (junk)"),
        ("Anna+JUNK@server1.com", "anna@server1.com (junk)"),
        ("anna+inbox@server1.com", "anna@server1.com"),
        ("anna+lists/a b@server1.com", "anna@server1.com (lists/a b)"),
        ("\"anna+a b\"@server1.com", "anna@server1.com (a b)"),
        ("anna+a+b@server1.com", "anna@server1.com (a+b)"),
        ("anna+grün@server1.com", "anna@server1.com (grün)"),
    ] {
        assert_eq!(log_in(Access::Pop3, login, "right").await, Ok(maildrop.to_owned()), "{login}");
        assert_eq!(log_in(Access::Pop3, login, "wrong").await, Err(Failure::Rejected), "{login}");
    }
    assert_eq!(log_in(Access::Pop3, "anna+own@server1.com", "other").await, Ok("anna+own@server1.com".to_owned()));
    for login in ["anna+own@server1.com", "anna+@server1.com", "ghost+junk@server1.com", "anna-junk@server1.com"] {
        assert_eq!(log_in(Access::Pop3, login, "right").await, Err(Failure::Rejected), "{login}");
    }
    let refused = log_in(Access::Submission, "anna+junk@server1.com", "right").await;
    assert_eq!(refused, Err(Failure::Rejected), "a folder sends no mail");
}

#[tokio::test]
async fn a_password_may_be_composed_in_another_way() {
    let authenticator = authenticator(vec![mailbox("tom@server1.com", vec![verifier("gr\u{fc}n")])]);
    assert!(verify(&authenticator, "tom@server1.com", "gr\u{fc}n").await.is_ok());
    assert!(verify(&authenticator, "tom@server1.com", "gru\u{308}n").await.is_ok());
    assert!(verify(&authenticator, "tom@server1.com", "grun").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn logins_to_one_maildrop_keep_their_distance() {
    let authenticator = authenticator(Vec::new());
    let maildrop = |text: &str| MaildropName::from(Address::parse(text).unwrap());
    let delay = Duration::from_secs(30);
    assert_eq!(authenticator.keep_distance(maildrop("anna@server1.com"), delay).await, Ok(()));
    assert_eq!(authenticator.keep_distance(maildrop("anna@server1.com"), delay).await, Err(30));
    assert_eq!(authenticator.keep_distance(maildrop("tom@server1.com"), delay).await, Ok(()));
    tokio::time::advance(Duration::from_millis(29_500)).await;
    assert_eq!(authenticator.keep_distance(maildrop("anna@server1.com"), delay).await, Err(1));
    assert_eq!(authenticator.keep_distance(maildrop("anna@server1.com"), Duration::ZERO).await, Ok(()));
    tokio::time::advance(Duration::from_millis(500)).await;
    assert_eq!(authenticator.keep_distance(maildrop("anna@server1.com"), delay).await, Ok(()));
}

fn app_password(name: &str, scopes: &[Scope], expires_at: Option<i64>) -> AppPassword {
    AppPassword { name: name.to_owned(), verifier: verifier(name), scopes: scopes.to_vec(), expires_at }
}

#[tokio::test]
async fn an_app_password_opens_what_it_is_for_until_it_ends() {
    let now = Timestamp::now().as_second();
    let app_passwords = vec![
        app_password("both", &[], None),
        app_password("fetch", &[Scope::Pop3], Some(now + 3600)),
        app_password("send", &[Scope::Submission], None),
        app_password("over", &[], Some(now - 1)),
    ];
    let tom = MailboxRecord { app_passwords, ..mailbox("tom@server1.com", vec![verifier("own")]) };
    let mut fetch_only = MailboxRecord { verifiers: Vec::new(), ..tom.clone() };
    fetch_only.address = Address::parse("anna@server1.com").unwrap();
    fetch_only.protocols.submission = false;
    let authenticator = authenticator(vec![tom, fetch_only]);
    for (login, password, pop3, submission) in [
        ("tom@server1.com", "own", Ok(()), Ok(())),
        ("tom@server1.com", "both", Ok(()), Ok(())),
        ("tom@server1.com", "fetch", Ok(()), Err(Failure::Rejected)),
        ("tom@server1.com", "send", Err(Failure::Rejected), Ok(())),
        ("tom@server1.com", "over", Err(Failure::Rejected), Err(Failure::Rejected)),
        ("anna@server1.com", "own", Err(Failure::Rejected), Err(Failure::Rejected)),
        ("anna@server1.com", "both", Ok(()), Err(Failure::NotPermitted)),
        ("anna@server1.com", "send", Err(Failure::Rejected), Err(Failure::NotPermitted)),
    ] {
        for (access, expected) in [(Access::Pop3, pop3), (Access::Submission, submission)] {
            let (client, octets) = ("192.0.2.1".parse().unwrap(), Password::new(password.as_bytes().to_vec()));
            let verified = authenticator.verify(client, access, login, octets).await;
            assert_eq!(verified.map(drop), expected, "{login} {password} {access:?}");
        }
    }
}

#[tokio::test]
async fn a_login_ends_with_its_app_password_and_with_its_tenant() {
    let app = |expires_at| vec![app_password("phone", &[Scope::Pop3], expires_at)];
    let tom = |app_passwords, tenant: &str| MailboxRecord {
        app_passwords,
        tenant: tenant.to_owned(),
        ..mailbox("tom@server1.com", vec![verifier("own")])
    };
    let phone = app(None);
    let authenticator = authenticator(vec![tom(phone.clone(), "team-a")]);
    let (client, password) = ("192.0.2.1".parse().unwrap(), Password::new(b"phone".to_vec()));
    let identity = authenticator.verify(client, Access::Pop3, "tom@server1.com", password).await.unwrap();
    assert_eq!(&*identity.maildrop().mailbox.tenant, "team-a");
    let holds = |mailbox| identity.mailbox_in(&configuration(vec![mailbox], false)).is_some();
    let over = phone.iter().cloned().map(|phone| AppPassword { expires_at: Some(1), ..phone }).collect();
    assert!(holds(tom(phone.clone(), "team-a")));
    assert!(!holds(tom(over, "team-a")));
    assert!(!holds(tom(Vec::new(), "team-a")));
    assert!(!holds(tom(phone, "team-b")), "the same password at another tenant's mailbox");
}

#[tokio::test(start_paused = true)]
async fn a_failure_takes_one_turn_and_the_same_time_however_many_passwords_there_are() {
    let app_passwords = (0..16).map(|number| app_password(&format!("app{number}"), &[], None)).collect();
    let many = MailboxRecord { app_passwords, ..mailbox("tom@server1.com", vec![verifier("own"), verifier("next")]) };
    let one = mailbox("anna@server1.com", vec![verifier("own")]);
    let live = LiveConfiguration::new(configuration(vec![many, one], false));
    let authenticator = Authenticator::new(live);
    let mut times = Vec::new();
    // A password that has two forms is tried in both.
    for login in ["tom@server1.com", "anna@server1.com", "nobody@server1.com"] {
        let begun = Instant::now();
        assert_eq!(verify(&authenticator, login, "gru\u{308}n").await, Err(Failure::Rejected));
        times.push(begun.elapsed().as_millis());
    }
    assert!(times.iter().all(|time| time / 10 == times[0] / 10), "{times:?}");
    // Where there is no turn, one deadline holds for all of them.
    let _turn = authenticator.turn_of("192.0.2.1".parse().unwrap()).await.unwrap();
    let begun = Instant::now();
    assert_eq!(verify(&authenticator, "tom@server1.com", "gru\u{308}n").await, Err(Failure::Busy));
    assert!(begun.elapsed() < QUEUE_TIMEOUT * 2, "{:?}", begun.elapsed());
}

#[test]
fn what_takes_longer_is_answered_at_the_next_step() {
    let after = |most, took| answered_after(Duration::from_secs(2), most, Duration::from_millis(took)).as_millis();
    assert_eq!(after(0, 0), 2000);
    assert_eq!(after(1, 1), 2100);
    assert_eq!(after(18, 0), 3800);
    assert_eq!(after(18, 3799), 3800, "all that 18 verifiers take");
    assert_eq!(after(18, 3801), 7600);
    assert_eq!(answered_after(Duration::ZERO, 18, Duration::from_secs(9)), Duration::ZERO);
}

//! The contract from both sides: what is built is read back the same, and what is not whole is refused.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use paquebot_config::{
    Address, AliasRecord, AppPassword, Bundle, CatchAll, Configuration, Content, Domain, DomainConfig, Forwarding,
    Limits, Listener, MOST_VERIFIERS, MailboxRecord, Outbound, Protocol, Protocols, ReadError, RecipientScope, Record,
    RelayRule, RelaySource, Resolution, Resolvers, Scope, SecretText, Secrets, SendAs, SenderScope, ServerConfig,
    ShardName, Shutdown, TlsConfig, TlsVersion, Verifier, directory,
};
use proptest::prelude::*;

const VERSION: &str = "0.1.0";

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn server() -> ServerConfig {
    ServerConfig {
        hostname: Domain::parse("mail.server1.com").unwrap(),
        tenant: String::new(),
        listeners: vec![Listener {
            name: "smtp".to_owned(),
            protocol: Protocol::Smtp,
            port: 2025,
            clear_text_logins: false,
            bare_line_endings: paquebot_config::BareLineEndings::default(),
            proxy_protocol: None,
        }],
        limits: Limits {
            max_message_size: 50 << 20,
            max_recipients: 100,
            connections: 500,
            per_client_connections: 20,
            login_delay_seconds: 0,
        },
        outbound: Outbound {
            ehlo_name: Some(Domain::parse("out.server1.com").unwrap()),
            max_age_seconds: 432_000,
            delay_warning_seconds: 14_400,
            port: 25,
            smart_host: None,
            allowed_networks: Vec::new(),
            trusted_certificates: None,
        },
        resolvers: Resolvers { addresses: vec!["10.96.0.10:53".parse().unwrap()] },
        tls: TlsConfig { min_version: TlsVersion::Tls13, client_authorities: None },
        shutdown: Shutdown { pre_stop_delay_seconds: 5, drain_timeout_seconds: 30 },
        filters: paquebot_config::Filters::default(),
    }
}

fn domain(name: &str) -> DomainConfig {
    DomainConfig {
        domain: Domain::parse(name).unwrap(),
        tenant: String::new(),
        subaddress_separator: Some('+'),
        catch_all: CatchAll::Reject,
        max_message_size: Some(1 << 20),
        suspended: false,
        filters: paquebot_config::Filters::default(),
        relayers: Vec::new(),
        local_parts: paquebot_config::LocalParts::default(),
    }
}

fn mailbox(text: &str) -> MailboxRecord {
    MailboxRecord {
        verifiers: vec![Verifier::new("$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$AAAA".to_owned())],
        protocols: Protocols { pop3: true, submission: false },
        quota: Some(1 << 30),
        forwarding: Some(Forwarding { to: vec![address("jack@server2.com")], keep_copy: true }),
        send_as: vec![
            SendAs::Domain(Domain::parse("server1.com").unwrap()),
            SendAs::Address(address("sales@server1.com")),
        ],
        tenant: "team-a".to_owned(),
        app_passwords: vec![AppPassword {
            name: "phone".to_owned(),
            verifier: Verifier::new("$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$BBBB".to_owned()),
            scopes: vec![Scope::Pop3],
            expires_at: Some(1_900_000_000),
        }],
        retention_seconds: Some(86_400),
        ..MailboxRecord::new(address(text))
    }
}

fn alias(text: &str, targets: &[&str]) -> Record {
    Record::Alias(AliasRecord { address: address(text), targets: targets.iter().map(|text| address(text)).collect() })
}

fn content() -> Content {
    Content {
        server: server(),
        domains: vec![domain("server1.com"), domain("other.example")],
        relay: vec![RelayRule {
            name: "mail/office".to_owned(),
            from: vec![
                RelaySource::Networks(vec!["192.0.2.0/24".parse().unwrap()]),
                RelaySource::Mailboxes(Domain::parse("server1.com").unwrap()),
            ],
            senders: Some(SenderScope {
                domains: vec![Domain::parse("server1.com").unwrap()],
                addresses: vec![address("printer@office.example")],
            }),
            recipients: RecipientScope::Domains(vec![Domain::parse("server2.com").unwrap()]),
            upstream: None,
            rate_limit: None,
            confined: false,
        }],
        records: vec![
            Record::Mailbox(mailbox("tom@server1.com")),
            Record::Mailbox(mailbox("anna@server1.com")),
            alias("all@server1.com", &["tom@server1.com", "anna@server1.com"]),
        ],
        secrets: paquebot_config::Secrets::default(),
    }
}

fn read(files: &BTreeMap<String, Vec<u8>>) -> Result<Configuration, ReadError> {
    Configuration::read(files, VERSION)
}

fn files(content: Content) -> BTreeMap<String, Vec<u8>> {
    Bundle::build(content).unwrap().files().clone()
}

#[test]
fn what_is_built_is_read_back() {
    let wanted = content();
    let bundle = Bundle::build(wanted.clone()).unwrap();
    let configuration = read(bundle.files()).unwrap();
    assert_eq!(&configuration.revision, bundle.revision());
    assert_eq!(configuration.server, wanted.server);
    assert_eq!(configuration.relay, wanted.relay);
    assert_eq!(configuration.counts(), (2, 2, 1));
    assert_eq!(configuration.mailbox(&address("Tom@server1.com")), Some(&mailbox("tom@server1.com")));
    assert_eq!(configuration.domain(&wanted.domains[0].domain), Some(&wanted.domains[0]));
    for (name, digest) in &configuration.digests {
        assert_eq!(digest, &paquebot_config::bundle::digest(&bundle.files()[name]), "{name}");
    }
}

#[test]
fn nothing_that_is_in_a_file_may_be_missing_twice_or_strange() {
    let cases: Vec<(&str, Content, &str)> = vec![
        (
            "a mailbox of a foreign domain",
            Content { records: vec![Record::Mailbox(mailbox("a@foreign.example"))], ..content() },
            "a@foreign.example is of a domain that the set does not have",
        ),
        (
            "a catch-all that is no mailbox",
            Content {
                domains: vec![DomainConfig {
                    catch_all: CatchAll::Mailbox(address("x@server1.com")),
                    ..domain("server1.com")
                }],
                ..content()
            },
            "the catch-all x@server1.com of server1.com is not a mailbox",
        ),
        (
            "a domain twice",
            Content { domains: vec![domain("server1.com"), domain("server1.com")], ..content() },
            "server1.com is there twice",
        ),
        (
            "an address twice, in other spelling",
            Content {
                records: vec![
                    Record::Mailbox(mailbox("tom@server1.com")),
                    alias("\"Tom\"@server1.com", &["a@b.example"]),
                ],
                ..content()
            },
            "tom@server1.com is there twice",
        ),
    ];
    for (name, content, expected) in cases {
        let error = read(&files(content)).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn each_missing_or_changed_file_refuses_the_set_and_is_named() {
    let whole = files(content());
    for name in whole.keys() {
        let mut missing = whole.clone();
        missing.remove(name);
        assert_eq!(read(&missing).unwrap_err(), ReadError::Missing(name.clone()));
        let mut truncated = whole.clone();
        truncated.get_mut(name).unwrap().pop();
        let error = read(&truncated).unwrap_err().to_string();
        assert!(error.contains(name.as_str()), "{name}: {error}");
    }
    assert_eq!(read(&BTreeMap::new()).unwrap_err(), ReadError::Missing("index.json".to_owned()));
}

#[test]
fn a_set_between_two_revisions_is_refused() {
    let old = files(content());
    let mut tom = mailbox("tom@server1.com");
    tom.quota = None;
    let new = files(Content { records: vec![Record::Mailbox(tom)], ..content() });
    let shard = ShardName::of("tom@server1.com").to_string();
    let mut index_first = old.clone();
    index_first.insert("index.json".to_owned(), new["index.json"].clone());
    assert_eq!(read(&index_first).unwrap_err(), ReadError::Mismatch(shard.clone()));
    let mut index_last = new.clone();
    index_last.insert("index.json".to_owned(), old["index.json"].clone());
    assert!(matches!(read(&index_last).unwrap_err(), ReadError::Missing(_) | ReadError::Mismatch(_)));
    // Files that the new index does not name may still lie there.
    let mut left_over = old;
    left_over.extend(new);
    assert_eq!(read(&left_over).unwrap().counts(), (2, 1, 0));
}

fn with_index(change: impl FnOnce(&mut serde_json::Value)) -> ReadError {
    let mut files = files(content());
    let mut index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
    change(&mut index);
    files.insert("index.json".to_owned(), serde_json::to_vec(&index).unwrap());
    read(&files).unwrap_err()
}

#[test]
fn an_index_of_another_kind_is_refused() {
    assert_eq!(with_index(|index| index["formatVersion"] = 2.into()), ReadError::FormatVersion { found: 2 });
    assert_eq!(
        with_index(|index| index["minServerVersion"] = "0.2.0".into()),
        ReadError::ServerTooOld { needed: "0.2.0".to_owned(), running: VERSION.to_owned() }
    );
    assert_eq!(with_index(|index| index["revision"] = "0".into()), ReadError::Mismatch("index.json".to_owned()));
    let error = with_index(|index| index["shards"] = "none".into()).to_string();
    assert!(error.starts_with("index.json line 1: "), "{error}");
}

/// A set whose files were changed by somebody who also mended the index.
fn forged(name: &str, bytes: &[u8], records: usize) -> ReadError {
    let mut files = files(content());
    files.insert(name.to_owned(), bytes.to_vec());
    let mut index: paquebot_config::Index = serde_json::from_slice(&files["index.json"]).unwrap();
    for entry in index.shards.iter_mut().filter(|entry| entry.name == name) {
        entry.sha256 = paquebot_config::bundle::digest(bytes);
        entry.records = records;
    }
    let mut text = Vec::new();
    for entry in &index.shards {
        text.extend_from_slice(entry.name.as_bytes());
        text.extend_from_slice(entry.sha256.as_bytes());
    }
    let mut index = serde_json::to_value(index).unwrap();
    index["revision"] = paquebot_config::bundle::digest(&text)[..16].into();
    files.insert("index.json".to_owned(), serde_json::to_vec(&index).unwrap());
    read(&files).unwrap_err()
}

#[test]
fn a_file_that_says_something_unknown_is_refused_with_its_place() {
    let error = forged("server.json", br#"{"hostname":"a.example","surprise":1}"#, 1).to_string();
    assert!(error.starts_with("server.json line 1: unknown field `surprise`"), "{error}");
    let shard = ShardName::of("server1.com").to_string();
    let error = forged(&shard, b"\n{\"kind\":\"Domain\",\"domain\":\"not a domain\"}", 1).to_string();
    assert!(error.starts_with(&format!("{shard} line 2: the domain is not valid")), "{error}");
    let elsewhere = br#"{"kind":"Domain","domain":"server2.com"}"#;
    let error = forged(&shard, elsewhere, 1).to_string();
    assert!(error.starts_with(&format!("{shard} line 1: server2.com belongs into ")), "{error}");
    let error = forged("relay.json", b"{}", 0).to_string();
    assert!(error.starts_with("relay.json line 1: "), "{error}");
    let shard = ShardName::of("tom@server1.com").to_string();
    let elsewhere = br#"{"kind":"Alias","address":"nobody@server1.com","targets":[]}"#;
    assert_ne!(ShardName::of("nobody@server1.com").to_string(), shard);
    let error = forged(&shard, elsewhere, 1).to_string();
    assert!(error.starts_with(&format!("{shard} line 1: nobody@server1.com belongs into ")), "{error}");
    let tom = serde_json::to_vec(&Record::Mailbox(mailbox("tom@server1.com"))).unwrap();
    assert_eq!(forged(&shard, &tom, 2), ReadError::Mismatch(shard));
}

#[test]
fn addresses_mean_what_the_directory_says() {
    let mut content = content();
    content.domains = vec![
        domain("server1.com"),
        DomainConfig { catch_all: CatchAll::Mailbox(address("tom@server1.com")), ..domain("all.example") },
        DomainConfig { suspended: true, ..domain("closed.example") },
        DomainConfig { subaddress_separator: None, ..domain("plain.example") },
    ];
    content.records.push(Record::Mailbox(MailboxRecord { suspended: true, ..mailbox("away@server1.com") }));
    content.records.push(Record::Mailbox(mailbox("tom@plain.example")));
    let configuration = read(&files(content)).unwrap();
    let meaning = |text: &str| match configuration.resolve(&address(text)) {
        Resolution::NotServed => "not served".to_owned(),
        Resolution::Unknown => "unknown".to_owned(),
        Resolution::Suspended => "suspended".to_owned(),
        Resolution::Mailbox(mailbox) => mailbox.address.to_string(),
        Resolution::Alias(alias) => format!("alias {}", alias.address),
    };
    for (text, expected) in [
        ("tom@server1.com", "tom@server1.com"),
        ("TOM@SERVER1.COM", "tom@server1.com"),
        ("\"tom\"@server1.com", "tom@server1.com"),
        ("tom+list@server1.com", "tom@server1.com"),
        ("tom+a+b@server1.com", "tom@server1.com"),
        ("+tom@server1.com", "unknown"),
        ("all@server1.com", "alias all@server1.com"),
        ("all+x@server1.com", "alias all@server1.com"),
        ("nobody@server1.com", "unknown"),
        ("away@server1.com", "suspended"),
        ("anybody@all.example", "tom@server1.com"),
        ("tom@closed.example", "suspended"),
        ("tom@plain.example", "tom@plain.example"),
        ("tom+x@plain.example", "unknown"),
        ("tom@server2.com", "not served"),
        ("tom@sub.server1.com", "not served"),
        ("tom@[192.0.2.1]", "not served"),
    ] {
        assert_eq!(meaning(text), expected, "{text}");
    }
}

#[test]
fn a_mailbox_has_at_most_eighteen_passwords() {
    let with = |count: usize| {
        let mut content = content();
        let Some(Record::Mailbox(tom)) = content.records.first_mut() else { panic!("no mailbox") };
        tom.app_passwords = vec![tom.app_passwords[0].clone(); count - tom.verifiers.len()];
        read(&files(content))
    };
    assert_eq!(with(MOST_VERIFIERS).unwrap().most_verifiers(), MOST_VERIFIERS);
    let refused = with(MOST_VERIFIERS + 1).unwrap_err().to_string();
    assert!(refused.contains("tom@server1.com has 19 passwords, at most 18 are allowed"), "{refused}");
}

#[test]
fn a_verifier_is_not_printed() {
    let printed = format!("{:?}", mailbox("tom@server1.com"));
    assert!(!printed.contains("argon2id"), "{printed}");
}

#[test]
fn a_directory_takes_a_set_and_gives_it_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    let first = Bundle::build(content()).unwrap();
    paquebot_config::directory::write(&first, &path).unwrap();
    std::fs::write(path.join("tls.crt"), "somebody else's").unwrap();
    assert_eq!(&paquebot_config::directory::read(&path, VERSION).unwrap().revision, first.revision());
    // Fewer shards: those that are not named any more go away, what is not ours stays.
    let second = Bundle::build(Content { records: Vec::new(), ..content() }).unwrap();
    paquebot_config::directory::write(&second, &path).unwrap();
    assert_eq!(&paquebot_config::directory::read(&path, VERSION).unwrap().revision, second.revision());
    let wanted: std::collections::BTreeSet<String> =
        ["server1.com", "other.example"].map(|domain| ShardName::of(domain).to_string()).into();
    let shards = std::fs::read_dir(&path).unwrap().filter(|entry| {
        entry.as_ref().unwrap().file_name().to_str().is_some_and(|name| name.starts_with("directory-"))
    });
    assert_eq!(shards.count(), wanted.len(), "the domains are all that is left");
    assert!(path.join("tls.crt").exists());
    // Nobody else on the machine reads verifiers.
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(path.join(wanted.first().unwrap())).unwrap().permissions().mode() & 0o077, 0);
    let nowhere = paquebot_config::directory::read(&directory.path().join("nowhere"), VERSION).unwrap_err();
    assert_eq!(nowhere, ReadError::Missing("index.json".to_owned()));
}

fn any_records() -> impl Strategy<Value = Vec<Record>> {
    let name = "[a-z][a-z0-9]{0,5}";
    proptest::collection::btree_map(name, any::<bool>(), 0..40).prop_map(|names| {
        let record = |(name, is_mailbox): (String, bool)| {
            let text = format!("{name}@server1.com");
            if is_mailbox { Record::Mailbox(mailbox(&text)) } else { alias(&text, &["tom@elsewhere.example"]) }
        };
        names.into_iter().map(record).collect()
    })
}

proptest! {
    #[test]
    fn any_directory_is_read_back_and_its_order_does_not_matter(
        records in any_records(),
        seed in any::<prop::sample::Index>(),
        tenants in proptest::array::uniform2("[a-z]{0,3}"),
    ) {
        let mut wanted = Content { records: records.clone(), ..content() };
        for (domain, tenant) in wanted.domains.iter_mut().zip(&tenants) {
            domain.tenant.clone_from(tenant);
        }
        let domains = wanted.domains.clone();
        let bundle = Bundle::build(wanted.clone()).unwrap();
        let mut turned = wanted;
        if !turned.records.is_empty() {
            let by = seed.index(turned.records.len());
            turned.records.rotate_left(by);
        }
        turned.domains.reverse();
        let turned = Bundle::build(turned).unwrap();
        prop_assert_eq!(turned.files(), bundle.files());
        let configuration = read(bundle.files()).unwrap();
        for record in &records {
            let expected = match record {
                Record::Mailbox(mailbox) => Resolution::Mailbox(mailbox),
                Record::Alias(alias) => Resolution::Alias(alias),
                Record::Domain(_) => unreachable!(),
            };
            prop_assert_eq!(configuration.resolve(record.address().unwrap()), expected);
        }
        for domain in &domains {
            prop_assert_eq!(configuration.domain(&domain.domain), Some(domain));
            let told = configuration.tenant_of_domain(&domain.domain);
            let by_mailboxes = configuration.mailboxes().any(|mailbox| mailbox.address.domain() == &domain.domain);
            let expected = if domain.tenant.is_empty() && by_mailboxes { "team-a" } else { &domain.tenant };
            prop_assert_eq!(told.unwrap_or_default(), expected);
        }
        let (_, mailboxes, aliases) = configuration.counts();
        prop_assert_eq!(mailboxes + aliases, records.len());
    }

    #[test]
    fn no_changed_octet_goes_unnoticed(
        file in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        flip in 1u8..=255,
    ) {
        let whole = files(content());
        let mut changed = whole.clone();
        let name = whole.keys().nth(file.index(whole.len())).unwrap();
        let bytes = changed.get_mut(name).unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        match read(&changed) {
            Err(_) => {}
            // Only the index vouches for itself, and nothing that it vouches for may be other than it was.
            Ok(configuration) => {
                prop_assert_eq!(name.as_str(), "index.json");
                prop_assert_eq!(&configuration.server, &server());
                prop_assert_eq!(configuration.counts(), (2, 2, 1));
            }
        }
    }

    #[test]
    fn octets_of_any_kind_are_refused_without_a_panic(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut files = files(content());
        files.insert("index.json".to_owned(), octets);
        prop_assert!(read(&files).is_err());
    }
}

#[test]
fn a_name_to_send_as_is_an_address_or_a_domain() {
    let read = |text: &str| SendAs::try_from(text.to_owned());
    for (text, sender, covered) in [
        ("sales@server1.com", "Sales@SERVER1.com", true),
        ("sales@server1.com", "tom@server1.com", false),
        ("@Shop.example", "tom@shop.example", true),
        ("@shop.example", "tom@sub.shop.example", false),
    ] {
        let name = read(text).unwrap();
        assert_eq!(name.covers(&address(sender)), covered, "{text} {sender}");
        assert_eq!(read(&String::from(name.clone())), Ok(name));
    }
    for text in ["", "@", "sales", "sales@", "@server1.com, tom@server1.com"] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn a_servers_own_key_for_rewritten_senders_comes_after_those_of_the_set() {
    let directory = tempfile::tempdir().unwrap();
    let secrets = Secrets { srs_keys: vec![SecretText::new("first".to_owned())], ..Secrets::default() };
    directory::write(&Bundle::build(Content { secrets, ..content() }).unwrap(), directory.path()).unwrap();
    let keys = || -> Vec<String> {
        let configuration = directory::read(directory.path(), "0.1.0").unwrap();
        configuration.secrets.srs_keys.iter().map(|key| key.expose().to_owned()).collect()
    };
    assert_eq!(keys(), ["first"]);
    std::fs::create_dir(directory.path().join("admin")).unwrap();
    std::fs::write(directory.path().join("admin/srs"), "second\n").unwrap();
    assert_eq!(keys(), ["first", "second"]);
}

#[test]
fn a_set_says_whose_an_address_is() {
    let of_team = |name: &str| DomainConfig { tenant: "team-b".to_owned(), ..domain(name) };
    let mut wanted = content();
    wanted.domains.extend([domain("plain.example"), of_team("aliases.example"), of_team("empty.example")]);
    wanted.domains.push(DomainConfig { suspended: true, ..of_team("closed.example") });
    wanted.records.push(Record::Mailbox(MailboxRecord { tenant: String::new(), ..mailbox("jo@plain.example") }));
    wanted.records.push(alias("all@aliases.example", &["tom@server1.com"]));
    let bundle = Bundle::build(wanted).unwrap();
    let configuration = Configuration::read(bundle.files(), VERSION).unwrap();
    let whose = |text: &str| configuration.tenant_of(&address(text)).map(str::to_owned);
    for of_team in ["tom@server1.com", "TOM+news@server1.com", "all@server1.com", "nobody@server1.com"] {
        assert_eq!(whose(of_team).as_deref(), Some("team-a"), "{of_team}");
    }
    for of_domain in ["all@aliases.example", "gone@aliases.example", "x+y@empty.example", "x@closed.example"] {
        assert_eq!(whose(of_domain).as_deref(), Some("team-b"), "{of_domain}: it has no mailbox");
    }
    for of_nobody in ["x@other.example", "x@elsewhere.example", "jo@plain.example"] {
        assert_eq!(whose(of_nobody), None, "{of_nobody}");
    }
}

#[test]
fn a_domain_without_a_tenant_is_written_as_before_there_were_any() {
    let line = |tenant: &str| {
        let config = DomainConfig { tenant: tenant.to_owned(), ..domain("server1.com") };
        serde_json::to_string(&Record::Domain(config)).unwrap()
    };
    assert!(!line("").contains("tenant"), "{}", line(""));
    let read: Record = serde_json::from_str(&line("")).unwrap();
    assert_eq!(read, Record::Domain(domain("server1.com")));
    let read: Record = serde_json::from_str(&line("team-a")).unwrap();
    assert!(matches!(read, Record::Domain(config) if config.tenant == "team-a"));
}

//! A small world for tests of this server: domains, mailboxes and aliases of every kind.

use paquebot_config::{
    Address, AliasRecord, Bundle, CatchAll, Configuration, Content, Domain, DomainConfig, Forwarding, Limits,
    MailboxRecord, Outbound, Record, RelayRule, Resolvers, SendAs, ServerConfig, Shutdown, TlsConfig, TlsVersion,
};

pub(crate) fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

pub(crate) fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

pub(crate) fn mailbox(text: &str) -> MailboxRecord {
    MailboxRecord::new(address(text))
}

fn forwarding(text: &str, to: &[&str], keep_copy: bool) -> Record {
    let forwarding = Forwarding { to: to.iter().map(|text| address(text)).collect(), keep_copy };
    Record::Mailbox(MailboxRecord { forwarding: Some(forwarding), ..mailbox(text) })
}

pub(crate) fn alias(text: &str, targets: &[&str]) -> Record {
    let targets = targets.iter().map(|text| address(text)).collect();
    Record::Alias(AliasRecord { address: address(text), targets })
}

fn served(text: &str) -> DomainConfig {
    DomainConfig {
        domain: domain(text),
        tenant: String::new(),
        subaddress_separator: Some('+'),
        catch_all: CatchAll::Reject,
        max_message_size: None,
        suspended: false,
        filters: paquebot_config::Filters::default(),
        relayers: Vec::new(),
        local_parts: paquebot_config::LocalParts::default(),
    }
}

pub(crate) fn content(relay: Vec<RelayRule>) -> Content {
    let records = vec![
        Record::Mailbox(MailboxRecord {
            send_as: vec![SendAs::Address(address("sales@server1.com")), SendAs::Domain(domain("shop.example"))],
            ..mailbox("tom@server1.com")
        }),
        Record::Mailbox(mailbox("anna@server1.com")),
        Record::Mailbox(MailboxRecord { suspended: true, ..mailbox("eve@server1.com") }),
        Record::Mailbox(MailboxRecord { quota: Some(2_000), ..mailbox("full@server1.com") }),
        Record::Mailbox(mailbox("all@server3.com")),
        Record::Mailbox(mailbox("sue@suspended.example")),
        Record::Mailbox(mailbox("sam@small.example")),
        forwarding("away@server1.com", &["jack@server2.com"], false),
        forwarding("both@server1.com", &["anna@server1.com", "jack@server2.com"], true),
        forwarding("self@server1.com", &["self+copy@server1.com", "jack@server2.com"], false),
        forwarding("ping@server1.com", &["pong@server1.com"], false),
        forwarding("pong@server1.com", &["ping@server1.com"], false),
        alias("postmaster@server1.com", &["anna@server1.com"]),
        alias(
            "team@server1.com",
            &["tom@server1.com", "anna@server1.com", "jack@server2.com", "all-hands@server1.com"],
        ),
        alias("all-hands@server1.com", &["team@server1.com", "anna@server1.com"]),
        alias("circle@server1.com", &["circle2@server1.com"]),
        alias("circle2@server1.com", &["circle@server1.com"]),
        alias("broken@server1.com", &["ghost@server1.com"]),
        alias("half@server1.com", &["ghost@server1.com", "anna@server1.com"]),
        alias("crew@server1.com", &["anna@server1.com", "eve@server1.com", "sue@suspended.example"]),
        alias("everybody@server1.com", &["anna@server1.com", "full@server1.com"]),
        alias("away-alias@server1.com", &["away@server1.com"]),
        alias("eves@server1.com", &["eve@server1.com", "ghost@server1.com"]),
    ];
    Content {
        server: ServerConfig {
            hostname: domain("mx1.server1.com"),
            tenant: String::new(),
            listeners: Vec::new(),
            limits: Limits {
                max_message_size: 1 << 20,
                max_recipients: 100,
                connections: 100,
                per_client_connections: 50,
                login_delay_seconds: 0,
            },
            outbound: Outbound {
                ehlo_name: None,
                max_age_seconds: 432_000,
                delay_warning_seconds: 14_400,
                port: 25,
                smart_host: None,
                allowed_networks: Vec::new(),
                trusted_certificates: None,
            },
            resolvers: Resolvers::default(),
            tls: TlsConfig { min_version: TlsVersion::Tls12, client_authorities: None },
            shutdown: Shutdown { pre_stop_delay_seconds: 0, drain_timeout_seconds: 10 },
            filters: paquebot_config::Filters::default(),
        },
        domains: vec![
            served("server1.com"),
            DomainConfig { catch_all: CatchAll::Mailbox(address("all@server3.com")), ..served("server3.com") },
            DomainConfig { suspended: true, ..served("suspended.example") },
            DomainConfig { max_message_size: Some(300), ..served("small.example") },
        ],
        relay,
        records,
        secrets: paquebot_config::Secrets::default(),
    }
}

pub(crate) fn configuration_of(content: Content) -> Configuration {
    let bundle = Bundle::build(content).unwrap();
    Configuration::read(bundle.files(), env!("CARGO_PKG_VERSION")).unwrap()
}

pub(crate) fn configuration(relay: Vec<RelayRule>) -> Configuration {
    configuration_of(content(relay))
}

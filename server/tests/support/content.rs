//! Configurations for tests: server1.com with tom and anna, as the story has them.

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use paquebot_config::{
    Address, CatchAll, Content, Domain, DomainConfig, Limits, Listener, MailboxRecord, Outbound, Protocol, Record,
    Resolvers, ServerConfig, Shutdown, TlsConfig, TlsVersion, Verifier,
};

/// server1.com, tom@ (`tom-password`) and anna@ (`anna-password`), every listener on a port that the system chooses.
pub fn story() -> Content {
    Content {
        server: server("mail.server1.com"),
        domains: vec![domain("server1.com")],
        relay: Vec::new(),
        records: vec![mailbox("tom@server1.com", "tom-password"), mailbox("anna@server1.com", "anna-password")],
        secrets: paquebot_config::Secrets::default(),
    }
}

pub fn server(hostname: &str) -> ServerConfig {
    let listener = |name: &str, protocol| Listener {
        name: name.to_owned(),
        protocol,
        port: 0,
        clear_text_logins: false,
        bare_line_endings: paquebot_config::BareLineEndings::default(),
        proxy_protocol: None,
    };
    ServerConfig {
        hostname: Domain::parse(hostname).unwrap(),
        tenant: String::new(),
        listeners: vec![
            listener("smtp", Protocol::Smtp),
            listener("submission", Protocol::Submission),
            listener("submissions", Protocol::Submissions),
            listener("pop3", Protocol::Pop3),
            listener("pop3s", Protocol::Pop3s),
        ],
        limits: Limits {
            max_message_size: 50 << 20,
            max_recipients: 100,
            connections: 500,
            per_client_connections: 100,
            login_delay_seconds: 0,
        },
        outbound: Outbound {
            ehlo_name: None,
            max_age_seconds: 432_000,
            delay_warning_seconds: 14_400,
            port: 25,
            smart_host: None,
            allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
            trusted_certificates: None,
        },
        // Nobody answers there: tests that route mail name a resolver of their own.
        resolvers: Resolvers { addresses: vec!["127.0.0.1:1".parse().unwrap()] },
        tls: TlsConfig { min_version: TlsVersion::Tls12, client_authorities: None },
        shutdown: Shutdown { pre_stop_delay_seconds: 0, drain_timeout_seconds: 20 },
        filters: paquebot_config::Filters::default(),
    }
}

pub fn domain(name: &str) -> DomainConfig {
    DomainConfig {
        domain: Domain::parse(name).unwrap(),
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

pub fn mailbox(address: &str, password: &str) -> Record {
    Record::Mailbox(MailboxRecord {
        verifiers: vec![verifier(password)],
        ..MailboxRecord::new(Address::parse(address).unwrap())
    })
}

/// A verifier that costs little: tests are about everything else.
pub fn verifier(password: &str) -> Verifier {
    let params = argon2::Params::new(64, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let hash: PasswordHash = argon2.hash_password(password.as_bytes()).unwrap();
    Verifier::new(hash.to_string())
}

/// A self-signed certificate and its key, in PEM.
pub fn certificate(names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

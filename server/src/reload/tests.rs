use paquebot_config::{
    Bundle, CatchAll, Content, Domain, DomainConfig, Limits, Outbound, Protocol, Resolvers, ServerConfig, Shutdown,
    TlsVersion,
};
use tempfile::TempDir;

use super::*;

fn content(domains: &[&str]) -> Content {
    Content {
        server: ServerConfig {
            hostname: Domain::parse("mail.server1.com").unwrap(),
            tenant: String::new(),
            listeners: vec![Listener {
                name: "smtp".to_owned(),
                protocol: Protocol::Smtp,
                port: 2525,
                clear_text_logins: false,
                bare_line_endings: paquebot_config::BareLineEndings::default(),
                proxy_protocol: None,
            }],
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
        domains: domains
            .iter()
            .map(|domain| DomainConfig {
                domain: Domain::parse(domain).unwrap(),
                tenant: String::new(),
                subaddress_separator: None,
                catch_all: CatchAll::Reject,
                max_message_size: None,
                suspended: false,
                filters: paquebot_config::Filters::default(),
                relayers: Vec::new(),
                local_parts: paquebot_config::LocalParts::default(),
            })
            .collect(),
        relay: Vec::new(),
        records: Vec::new(),
        secrets: paquebot_config::Secrets::default(),
    }
}

struct Bench {
    directory: TempDir,
    watcher: Watcher,
    status: SharedStatus,
    certificates: Certificates,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (status, certificates) = (SharedStatus::default(), Certificates::default());
        let watcher = Watcher::new(directory.path(), certificates.clone(), status.clone(), Arc::new(Metrics::new()));
        Self { directory, watcher, status, certificates }
    }

    fn write(&self, content: Content) -> String {
        let bundle = Bundle::build(content).unwrap();
        paquebot_config::directory::write(&bundle, self.directory.path()).unwrap();
        bundle.revision().to_string()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn domains(&mut self) -> usize {
        self.watcher.poll().unwrap().snapshot().counts().0
    }
}

#[test]
fn the_first_configuration_is_waited_for() {
    let mut bench = Bench::new();
    assert!(bench.watcher.poll().is_none());
    let status = bench.status.get();
    assert_eq!(status.revision, None);
    assert_eq!(status.error.as_deref(), Some("index.json is missing: the set is incomplete"));
    let revision = bench.write(content(&["server1.com"]));
    assert!(bench.watcher.poll().is_some());
    let status = bench.status.get();
    assert_eq!((status.revision.clone(), status.error.clone()), (Some(revision), None));
    assert_eq!(status.counts, Counts { domains: 1, mailboxes: 0, aliases: 0 });
    assert!(status.digests.contains_key("server.json"));
}

#[test]
fn a_half_written_set_is_refused_and_the_last_good_one_stays() {
    let mut bench = Bench::new();
    let first = bench.write(content(&["server1.com"]));
    assert_eq!(bench.domains(), 1);
    let next = Bundle::build(content(&["server1.com", "server2.com"])).unwrap();

    let shard = paquebot_config::ShardName::of("server2.com").to_string();
    // The files of the next set come one by one, in either order: index first, or index last.
    std::fs::write(bench.file("index.json"), &next.files()["index.json"]).unwrap();
    assert_eq!(bench.domains(), 1);
    let status = bench.status.get();
    assert_eq!(status.revision.as_ref(), Some(&first));
    assert!(status.error.as_ref().unwrap().contains(&shard), "{status:?}");

    std::fs::write(bench.file(&shard), &next.files()[&shard]).unwrap();
    assert_eq!(bench.domains(), 2);
    let status = bench.status.get();
    assert_eq!((status.revision.clone(), status.error.clone()), (Some(next.revision().to_string()), None));
}

#[test]
fn garbage_is_refused_with_its_place_and_a_good_set_heals() {
    let mut bench = Bench::new();
    let first = bench.write(content(&["server1.com"]));
    bench.watcher.poll();
    std::fs::write(bench.file("index.json"), "{ this is not JSON").unwrap();
    bench.watcher.poll();
    let status = bench.status.get();
    assert_eq!(status.revision.as_ref(), Some(&first));
    assert!(status.error.as_ref().unwrap().starts_with("index.json line 1:"), "{status:?}");
    // Back to the very same set: nothing is wrong any more.
    assert_eq!(bench.write(content(&["server1.com"])), first);
    bench.watcher.poll();
    assert_eq!(bench.status.get().error, None);
}

#[test]
fn listeners_that_need_a_restart_are_noted() {
    let mut bench = Bench::new();
    bench.write(content(&["server1.com"]));
    bench.watcher.poll();
    assert!(bench.status.get().notes.is_empty());
    let mut other = content(&["server1.com"]);
    other.server.listeners[0].port = 2526;
    bench.write(other);
    bench.watcher.poll();
    assert_eq!(bench.status.get().notes.len(), 1);
    bench.write(content(&["server1.com"]));
    bench.watcher.poll();
    assert!(bench.status.get().notes.is_empty());
}

fn write_certificate(bench: &Bench, certificate: &str, key: &str) {
    std::fs::create_dir_all(bench.file("tls")).unwrap();
    std::fs::write(bench.file("tls/tls.crt"), certificate).unwrap();
    std::fs::write(bench.file("tls/tls.key"), key).unwrap();
}

fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["mail.server1.com".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn a_certificate_is_replaced_only_by_one_that_can_be_used() {
    let mut bench = Bench::new();
    bench.write(content(&["server1.com"]));
    bench.watcher.poll();
    assert!(bench.certificates.server_config().is_none());
    assert!(bench.status.get().certificate_error.as_ref().unwrap().contains("tls/tls.crt"));

    let ((one, one_key), (two, two_key)) = (certificate(), certificate());
    write_certificate(&bench, &one, &one_key);
    bench.watcher.poll();
    let first = bench.status.get().certificate.clone().unwrap();
    let in_force = bench.certificates.server_config().unwrap();

    for (crt, key, reason) in [
        (two.as_str(), one_key.as_str(), "cannot be used together"),
        ("", two_key.as_str(), "it holds no certificate"),
        (two.as_str(), "", "it holds no private key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", two_key.as_str(), "is damaged"),
    ] {
        write_certificate(&bench, crt, key);
        bench.watcher.poll();
        let status = bench.status.get();
        assert!(status.certificate_error.as_ref().unwrap().contains(reason), "{reason}: {status:?}");
        assert_eq!(status.certificate.as_ref(), Some(&first));
        assert!(Arc::ptr_eq(&in_force, &bench.certificates.server_config().unwrap()));
    }

    write_certificate(&bench, &two, &two_key);
    bench.watcher.poll();
    let status = bench.status.get();
    assert_eq!(status.certificate_error, None);
    assert_ne!(status.certificate.as_ref(), Some(&first));
    assert!(!Arc::ptr_eq(&in_force, &bench.certificates.server_config().unwrap()));
}

/// An authority in PEM, and the certificate of a client for which it vouches.
fn authority() -> (String, rustls::pki_types::CertificateDer<'static>) {
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = parameters.self_signed(&key).unwrap().pem();
    let client = rcgen::CertificateParams::new(vec!["app.example".to_owned()]).unwrap();
    let issuer = rcgen::Issuer::new(parameters, key);
    (pem, client.signed_by(&rcgen::KeyPair::generate().unwrap(), &issuer).unwrap().der().clone())
}

fn with_authorities(pem: Option<&str>) -> Content {
    let mut content = content(&["server1.com"]);
    content.server.tls.client_authorities = pem.map(str::to_owned);
    content
}

const NO_PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

#[test]
fn authorities_that_cannot_be_used_keep_no_certificate_from_being_used() {
    let mut bench = Bench::new();
    let ((one, one_key), (two, two_key)) = (certificate(), certificate());
    let (pem, client) = authority();
    // At the start …
    write_certificate(&bench, &one, &one_key);
    bench.write(with_authorities(Some(NO_PEM)));
    bench.watcher.poll();
    assert!(bench.certificates.server_config().is_some());
    assert!(bench.status.get().certificate_error.as_ref().unwrap().contains("tls.clientAuthorities"));
    bench.write(with_authorities(Some(&pem)));
    bench.watcher.poll();
    assert_eq!(bench.status.get().certificate_error, None);
    assert!(bench.certificates.vouch(std::slice::from_ref(&client)).is_some());
    // … and with a renewed certificate.
    let first = bench.status.get().certificate.clone();
    bench.write(with_authorities(Some(NO_PEM)));
    write_certificate(&bench, &two, &two_key);
    bench.watcher.poll();
    let status = bench.status.get();
    assert_ne!(status.certificate, first);
    assert!(status.certificate_error.as_ref().unwrap().contains("tls.clientAuthorities"), "{status:?}");
    assert!(bench.certificates.vouch(&[client]).is_none());
    let plain = bench.certificates.server_config().unwrap();
    assert!(Arc::ptr_eq(&plain, &bench.certificates.asking_config(true).unwrap()), "nobody is asked in vain");
}

#[test]
fn authorities_that_are_taken_away_say_nothing_also_while_the_certificate_cannot_be_used() {
    let ((pem, client), (other, stranger)) = (authority(), authority());
    for next in [None, Some(NO_PEM), Some(other.as_str())] {
        let mut bench = Bench::new();
        let (one, key) = certificate();
        write_certificate(&bench, &one, &key);
        bench.write(with_authorities(Some(&pem)));
        bench.watcher.poll();
        let vouches = |bench: &Bench, client| bench.certificates.vouch(std::slice::from_ref(client)).is_some();
        assert!(vouches(&bench, &client));
        let first = bench.status.get().certificate.clone();
        write_certificate(&bench, &one, "");
        bench.watcher.poll();
        assert!(vouches(&bench, &client), "the last good one stays whole");
        bench.write(with_authorities(next));
        bench.watcher.poll();
        let status = bench.status.get();
        assert!(!vouches(&bench, &client), "{next:?}");
        assert_eq!(vouches(&bench, &stranger), next == Some(other.as_str()));
        assert!(bench.certificates.server_config().is_some());
        assert_eq!(status.certificate, first);
        assert!(status.certificate_error.as_ref().unwrap().contains("no private key"), "{status:?}");
    }
}

/// As the kubelet does it: a directory for each set of files, and a link to the newest.
#[test]
fn what_the_kubelet_has_put_there_is_read_once() {
    let mut bench = Bench::new();
    let path = bench.directory.path().to_owned();
    let place = |name: &str, content: Content| {
        let bundle = Bundle::build(content).unwrap();
        let directory = path.join(name);
        std::fs::create_dir(&directory).unwrap();
        paquebot_config::directory::write(&bundle, &directory).unwrap();
        for file in bundle.files().keys() {
            let link = path.join(file);
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(Path::new("..data").join(file), link).unwrap();
        }
        let (next, data) = (path.join("..data_tmp"), path.join("..data"));
        std::os::unix::fs::symlink(name, &next).unwrap();
        std::fs::rename(next, data).unwrap();
        bundle.revision().to_string()
    };
    let first = place("..1", content(&["server1.com"]));
    assert!(bench.watcher.poll().is_some());
    assert_eq!(bench.status.get().revision.as_ref(), Some(&first));
    // Nobody changes files there; that they are not read again is the point.
    std::fs::remove_file(path.join("..1/index.json")).unwrap();
    for _ in 0..2 * REFUSED_AGAIN {
        bench.watcher.poll();
    }
    assert_eq!((bench.status.get().revision.as_ref(), &bench.status.get().error), (Some(&first), &None));
    let second = place("..2", content(&["server1.com", "server2.com"]));
    bench.watcher.poll();
    assert_eq!(bench.status.get().revision.as_ref(), Some(&second));
    // What could not be read is read again after a while.
    let third = place("..3", content(&["server3.com"]));
    let index = path.join("..3/index.json");
    std::fs::rename(&index, index.with_extension("away")).unwrap();
    bench.watcher.poll();
    assert!(bench.status.get().error.is_some());
    std::fs::rename(index.with_extension("away"), &index).unwrap();
    for _ in 0..REFUSED_AGAIN {
        bench.watcher.poll();
    }
    assert_eq!((bench.status.get().revision.as_ref(), &bench.status.get().error), (Some(&third), &None));
}

//! What the operator says of DNS, against real name servers: BIND with right, missing, wrong, extra, aliased, lame, silent,
//! broken, truncated and contradicting answers, behind a resolver that caches what was not there.
//!
//! `scripts/test unit` unpacks BIND; by hand: `BIND=$(. scripts/common.sh; unpacked bind9 bind9-libs bind9-utils)`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test")]

mod bind;
mod on_cluster;
mod relay;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use bind::{Content, MAIN, OTHER, RESOLVER, SILENT, World, Zones, head, zone};
use paquebot_crds::conditions::{ConditionStatus, ConditionType as Type, Reason};
use paquebot_crds::mail_domain::DnsRecordState;
use paquebot_operator::dns::compare::{Comparison, Seen, compare};
use paquebot_operator::dns::ownership;
use paquebot_operator::dns::reverse::{self, Reverse};
use paquebot_operator::dns::seen::{Looker, Settings};
use paquebot_operator::dns::wanted::{ServerAddresses, Wanted, wanted};
use paquebot_operator::dns::zone::zone_file;

const ADDRESS: &str = "192.0.2.7";
/// What most zones have: everything right but for one thing.
const MX: &str = "@ IN MX 10 mx\nmx IN A 192.0.2.7\n";
const SPF: &str = "@ IN TXT \"v=spf1 mx ~all\"\n";
const DMARC: &str = "_dmarc IN TXT \"v=DMARC1; p=none\"\n";

/// What is wanted for a domain whose server is `mx` in it.
fn wanted_of(domain: &str) -> Wanted {
    wanted_with(domain, "{}")
}

fn wanted_with(domain: &str, dns: &str) -> Wanted {
    let addresses = ServerAddresses::Public(vec![ADDRESS.parse().unwrap()]);
    wanted(domain, &serde_saphyr::from_str(dns).unwrap(), &format!("mx.{domain}"), addresses)
}

/// Long enough that no text fits into one character-string.
fn demanding() -> Wanted {
    let addresses: Vec<String> =
        (0..8).map(|n| format!("a-mailbox-with-a-long-name-for-dmarc-reports-{n}@right.test")).collect();
    let dns = format!("{{dmarc: {{rua: [{0}]}}, tlsRpt: {{rua: [{0}]}}}}", addresses.join(", "));
    wanted_with("right.test", &dns).with_challenge(ownership::challenge("right.test", "tenant", "uid-1"))
}

fn zones() -> Zones {
    let mut zones = Zones::new();
    let mut add = |name: &str, records: String| zone(&mut zones, name, records);
    add("right.test", zone_file(&demanding()));
    add("missing.test", "www IN A 192.0.2.1".to_owned());
    add(
        "wrong.test",
        format!(
            "@ IN MX 10 mx.old.test.\n@ IN TXT \"v=spf1 -all\"\n_dmarc IN TXT \"v=DMARC1; p=maybe\"\nmx IN A {ADDRESS}"
        ),
    );
    add("extra.test", format!("{MX}{SPF}{DMARC}@ IN MX 20 mx.old.test."));
    add("alias.test", format!("@ IN MX 10 mx\nmx IN CNAME lb.missing.test.\n{SPF}{DMARC}"));
    add("bare.test", format!("@ IN MX 10 mx\n{SPF}{DMARC}"));
    add("moved.test", format!("@ IN MX 10 mx\nmx IN A 198.51.100.1\n{SPF}{DMARC}"));
    add("null.test", format!("@ IN MX 0 .\n{SPF}{DMARC}"));
    add("two.test", format!("{MX}{DMARC}{SPF}@ IN TXT \"v=spf1 -all\""));
    // mx, and two includes of four and five: twelve.
    add(
        "many.test",
        format!(
            "{MX}{DMARC}@ IN TXT \"v=spf1 mx include:_a.many.test include:_b.many.test ~all\"\n_a IN TXT \"v=spf1 a:mx.many.test a:mx.many.test/24 mx:many.test mx:many.test/24 -all\"\n_b IN TXT \"v=spf1 include:_c.many.test mx:many.test mx:many.test mx:many.test -all\"\n_c IN TXT \"v=spf1 a:mx.many.test ip4:192.0.2.0/24 -all\""
        ),
    );
    // mx, one include of nine terms behind which nothing counts.
    add(
        "ten.test",
        format!(
            "{MX}{DMARC}@ IN TXT \"v=spf1 mx include:_a.ten.test ~all\"\n_a IN TXT \"v=spf1 {} -all a:x.ten.test\"",
            "mx:ten.test ".repeat(8)
        ),
    );
    add("redirect.test", format!("{MX}{DMARC}@ IN TXT \"v=spf1 mx redirect=_spf.many.test\""));
    let Content::Records(records) = &mut zones.get_mut("many.test").unwrap()[0].1 else { panic!() };
    records.push_str(&format!("\n_spf IN TXT \"v=spf1 {} -all\"", "mx:many.test ".repeat(9)));
    let mut add = |name: &str, records: String| zone(&mut zones, name, records);
    add(
        "void.test",
        format!("{MX}{DMARC}@ IN TXT \"v=spf1 mx a:x.void.test include:y.void.test exists:z.void.test ~all\""),
    );
    add(
        "big.test",
        format!(
            "{MX}{DMARC}{SPF}{}",
            (0..12).map(|n| format!("@ IN TXT \"{n}-{}\"\n", "x".repeat(200))).collect::<String>()
        ),
    );
    add("wild.test", format!("{MX}{SPF}* IN TXT \"v=spf1 -all\"\n* IN MX 10 mx.old.test."));
    add("vendor.test", "reports IN TXT \"v=DMARC1; p=reject\"".to_owned());
    add("pointed.test", format!("{MX}{SPF}"));
    add("appears.test", "www IN A 192.0.2.1".to_owned());
    add(
        "2.0.192.in-addr.arpa",
        "7 IN PTR mx.right.test.\n8 IN PTR host8.isp.test.\n9 IN CNAME 9.0-15\n9.0-15 IN PTR mx.right.test.".to_owned(),
    );
    let good = |domain: &str| Content::Records(zone_file(&wanted_of(domain)));
    let mut serve = |name: &str, servers: Vec<(&'static str, Content)>| drop(zones.insert(name.to_owned(), servers));
    serve("lame.test", vec![(MAIN, good("lame.test")), (OTHER, Content::Nothing)]);
    serve("refused.test", vec![(OTHER, Content::Nothing)]);
    serve("mute.test", vec![(SILENT, Content::Nothing)]);
    serve("halfmute.test", vec![(SILENT, Content::Nothing), (MAIN, good("halfmute.test"))]);
    serve("broken.test", vec![(OTHER, Content::Broken)]);
    serve("halfbroken.test", vec![(OTHER, Content::Broken), (MAIN, good("halfbroken.test"))]);
    serve("differ.test", vec![(MAIN, good("differ.test")), (OTHER, Content::Records(format!("{SPF}{DMARC}")))]);
    // The alias leads to a zone that this server does not have.
    serve("pointed.test", vec![(OTHER, Content::Records(format!("{MX}{SPF}_dmarc IN CNAME reports.vendor.test.")))]);
    zones
}

struct Bench {
    world: World,
}

impl Bench {
    fn looker(&self) -> Looker {
        let settings = Settings {
            timeout: Duration::from_secs(2),
            deadline: Duration::from_secs(60),
            authoritative_port: self.world.port,
        };
        Looker::new(&[(RESOLVER.parse::<std::net::IpAddr>().unwrap(), self.world.port).into()], settings).unwrap()
    }

    async fn look(&self, wanted: &Wanted) -> (Seen, Comparison) {
        let seen = self.looker().look(wanted).await;
        let comparison = compare(wanted, &seen);
        (seen, comparison)
    }

    /// The reason of a part, with words that its message must have.
    async fn expect(&self, domain: &str, parts: &[(Type, ConditionStatus, Reason, &str)]) {
        eprintln!("{domain}");
        let (_, comparison) = self.look(&wanted_of(domain)).await;
        for (part, status, reason, words) in parts {
            let verdict = comparison.verdicts.iter().find(|verdict| verdict.condition_type == *part).unwrap();
            let message = &verdict.message;
            assert_eq!((verdict.status, verdict.reason), (*status, *reason), "{domain} {part}: {message}");
            assert!(message.contains(words), "{domain} {part}: {words:?} is not in {message:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_and_real_name_servers() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let bench = Bench { world: World::start(&zones()).await };
    our_own_zone_text_is_right(&bench).await;
    records_that_are_wrong(&bench).await;
    spf_is_counted(&bench).await;
    servers_that_fail(&bench).await;
    what_appears_is_seen_at_once(&bench).await;
    reverse_names(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_on_a_real_api_server_and_real_name_servers() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut zones = zones();
    zone(&mut zones, "owned.test", "www IN A 192.0.2.1");
    let world = World::start(&zones).await;
    let api_server = support::server::ApiServer::start();
    let client = api_server.client().await;
    support::world::install_definitions(&client).await;
    eprintln!("a proof decides whose a domain is");
    on_cluster::ownership_decides(&client, &world, zones).await;
    eprintln!("external-dns gets what is wanted");
    on_cluster::external_dns_is_fed(&client, &world).await;
    eprintln!("a load balancer's address leads to the host and back");
    on_cluster::reverse_names_of_a_load_balancer(&client, &world).await;
}

async fn our_own_zone_text_is_right(bench: &Bench) {
    let wanted = demanding();
    let text = format!("{}{}", head("right.test", &[(MAIN, Content::Nothing)]), zone_file(&wanted));
    let checked = bench.world.check_zone("right.test", &text).unwrap();
    assert!(text.lines().any(|line| line.matches('"').count() > 2), "a long text is split: {text}");
    assert!(checked.contains("_paquebot-challenge.right.test."), "{checked}");
    let (seen, comparison) = bench.look(&wanted).await;
    assert_eq!(seen.nameservers, ["ns0.right.test"], "{:?}", seen.exchangers);
    let all = comparison.verdicts.iter().chain(&comparison.ownership);
    for verdict in all {
        assert_eq!(verdict.status, ConditionStatus::True, "{verdict:?}");
    }
    for record in &comparison.records {
        assert_eq!(record.state, DnsRecordState::Match, "{record:?}");
        assert!(!record.observed.is_empty() && record.message.is_empty(), "{record:?}");
    }
    // Another tenant's claim to the same domain is not proven by this record.
    let other = wanted_of("right.test").with_challenge(ownership::challenge("right.test", "tenant", "uid-2"));
    assert_eq!(bench.look(&other).await.1.ownership.unwrap().reason, Reason::ChallengeMissing);
}

async fn records_that_are_wrong(bench: &Bench) {
    use ConditionStatus::{False, True};
    let (mx, spf, dmarc) = (Type::MXReady, Type::SPFReady, Type::DMARCReady);
    let missing = "Publish: ";
    bench
        .expect(
            "missing.test",
            &[
                (mx, False, Reason::RecordMissing, "missing.test. IN MX 10 mx.missing.test."),
                (spf, False, Reason::RecordMissing, missing),
                (dmarc, False, Reason::RecordMissing, missing),
                (Type::TLSRPTReady, True, Reason::Disabled, ""),
            ],
        )
        .await;
    bench.expect("nobody.test", &[(mx, False, Reason::RecordMissing, missing)]).await;
    let wrong = [
        (mx, False, Reason::RecordMismatch, "10 mx.old.test"),
        (spf, False, Reason::RecordMismatch, "does not let mx.wrong.test send"),
        (dmarc, False, Reason::RecordMismatch, "p=maybe"),
    ];
    bench.expect("wrong.test", &wrong).await;
    bench.expect("extra.test", &[(mx, False, Reason::ExtraMX, "20 mx.old.test")]).await;
    bench.expect("alias.test", &[(mx, False, Reason::TargetIsCNAME, "lb.missing.test")]).await;
    bench.expect("bare.test", &[(mx, False, Reason::TargetNoAddress, "mx.bare.test. IN A 192.0.2.7")]).await;
    bench.expect("moved.test", &[(mx, False, Reason::RecordMismatch, "198.51.100.1")]).await;
    bench.expect("null.test", &[(mx, False, Reason::RecordMismatch, "0 .")]).await;
    bench.expect("two.test", &[(mx, True, Reason::RecordsMatch, ""), (spf, False, Reason::MultipleSPF, "2 SPF")]).await;
    let wild = [(mx, True, Reason::RecordsMatch, ""), (dmarc, False, Reason::RecordMissing, "_dmarc.wild.test")];
    bench.expect("wild.test", &wild).await;
    let challenged = wanted_of("wild.test").with_challenge(ownership::challenge("wild.test", "tenant", "uid-1"));
    let verdict = bench.look(&challenged).await.1.ownership.unwrap();
    assert_eq!(verdict.reason, Reason::ChallengeMissing, "a wildcard proves nothing: {}", verdict.message);
    bench.expect("pointed.test", &[(dmarc, True, Reason::RecordsMatch, "")]).await;
    // More than fits into a datagram: the servers truncate, and are asked again by TCP.
    bench.expect("big.test", &[(mx, True, Reason::RecordsMatch, ""), (spf, True, Reason::RecordsMatch, "")]).await;
}

async fn spf_is_counted(bench: &Bench) {
    use ConditionStatus::{False, True};
    let spf = Type::SPFReady;
    bench.expect("many.test", &[(spf, False, Reason::TooManyLookups, "at least 1")]).await;
    bench.expect("ten.test", &[(spf, True, Reason::RecordsMatch, "")]).await;
    bench.expect("redirect.test", &[(spf, False, Reason::TooManyLookups, "at least 11")]).await;
    bench.expect("void.test", &[(spf, False, Reason::TooManyLookups, "x.void.test, y.void.test, z.void.test")]).await;
}

async fn servers_that_fail(bench: &Bench) {
    use ConditionStatus::{True, Unknown};
    let (mx, spf) = (Type::MXReady, Type::SPFReady);
    for domain in ["lame.test", "halfmute.test", "halfbroken.test"] {
        bench.expect(domain, &[(mx, True, Reason::RecordsMatch, ""), (spf, True, Reason::RecordsMatch, "")]).await;
    }
    for (domain, words) in [
        ("refused.test", "REFUSED"),
        ("broken.test", "SERVFAIL"),
        ("mute.test", "no answer in time"),
        ("differ.test", "ns0.differ.test and ns1.differ.test answer differently"),
    ] {
        bench.expect(domain, &[(mx, Unknown, Reason::LookupFailed, words)]).await;
    }
}

/// The resolver has heard that there is nothing, and says so for an hour.
async fn what_appears_is_seen_at_once(bench: &Bench) {
    use ConditionStatus::{False, True};
    let (mx, spf, dmarc) = (Type::MXReady, Type::SPFReady, Type::DMARCReady);
    const NS: u16 = 2;
    const RECORD: u16 = 15;
    let no_such_name = Some((3, false));
    let no_such_record = Some((0, false));
    bench.expect("late.test", &[(mx, False, Reason::RecordMissing, "")]).await;
    bench.expect("appears.test", &[(mx, False, Reason::RecordMissing, "")]).await;
    assert_eq!(bench.world.rcode(RESOLVER, "late.test", NS), no_such_name);
    assert_eq!(bench.world.rcode(RESOLVER, "appears.test", RECORD), no_such_record);
    let mut zones = zones();
    for name in ["late.test", "appears.test"] {
        zone(&mut zones, name, zone_file(&wanted_of(name)));
    }
    bench.world.publish(&zones, "late.test", RECORD);
    bench.world.publish(&zones, "appears.test", RECORD);
    assert_eq!(bench.world.rcode(RESOLVER, "late.test", NS), no_such_name, "the resolver still denies it");
    for name in ["late.test", "appears.test"] {
        let right = [mx, spf, dmarc].map(|part| (part, True, Reason::RecordsMatch, ""));
        bench.expect(name, &right).await;
    }
    assert_eq!(bench.world.rcode(RESOLVER, "appears.test", RECORD), no_such_record, "the resolver still denies it");
}

async fn reverse_names(bench: &Bench) {
    let looker = bench.looker();
    for (address, hostname, reason) in [
        (ADDRESS, "mx.right.test", Reason::Matches),
        (ADDRESS, "mx.lame.test", Reason::Mismatch),
        ("192.0.2.8", "mx.right.test", Reason::Mismatch),
        // By the alias of RFC 2317; the host has another address.
        ("192.0.2.9", "mx.right.test", Reason::Mismatch),
        ("192.0.2.99", "mx.right.test", Reason::Missing),
        ("198.51.100.1", "mx.right.test", Reason::Missing),
    ] {
        let wanted = Reverse { hostname: hostname.to_owned(), addresses: vec![address.parse().unwrap()] };
        let seen = looker.look_back(&wanted).await;
        let verdict = reverse::verdict(&wanted, &seen);
        assert_eq!(verdict.reason, reason, "{address} {hostname}: {}", verdict.message);
        if address == "192.0.2.9" {
            assert!(verdict.message.contains("add 192.0.2.9"), "{}", verdict.message);
        }
    }
}

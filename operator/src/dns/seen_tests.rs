//! The looker against real name servers on loopback: one that is the root, a resolver and authoritative at once, and
//! some that misbehave.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::proto::rr::Name;
use hickory_server::proto::serialize::txt::Parser;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use paquebot_crds::conditions::{ConditionStatus, ConditionType, Reason};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::dns::compare::compare;
use crate::dns::wanted::{ServerAddresses, wanted};
use crate::dns::zone::zone_file;

const ADDRESS: &str = "192.0.2.7";
/// Where a server listens and never answers, and where one answers SERVFAIL.
const SILENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);
const FAILING: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 54);

/// How long a server that answers may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

struct World {
    port: u16,
    _server: Server<Catalog>,
    _silent: UdpSocket,
    _failing: tokio::task::JoinHandle<()>,
}

fn zone_handler(name: &str, records: &str) -> InMemoryZoneHandler<TokioRuntimeProvider> {
    let origin = Name::from_ascii(name).unwrap();
    let text = format!("@ 60 IN SOA ns.invalid. hostmaster.invalid. 1 3600 600 86400 60\n{records}\n");
    let (_, records) = Parser::new(text, None, Some(origin.clone())).parse().unwrap();
    InMemoryZoneHandler::new(origin, records, ZoneType::Primary, AxfrPolicy::Deny).unwrap()
}

/// One port for UDP and TCP: what is free for one may be taken for the other.
async fn sockets() -> (UdpSocket, TcpListener, u16) {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = udp.local_addr().unwrap().port();
        if let Ok(tcp) = TcpListener::bind(("127.0.0.1", port)).await {
            return (udp, tcp, port);
        }
    }
    panic!("no port is free for both");
}

impl World {
    /// Serves the zones; each gets a name server of its own at 127.0.0.1 unless its records say otherwise.
    async fn with(zones: &[(&str, &str)]) -> Self {
        let (udp, tcp, port) = sockets().await;
        let mut catalog = Catalog::new();
        let root = zone_handler(".", "@ 60 IN NS ns.invalid.");
        catalog.upsert(Name::root().into(), vec![Arc::new(root)]);
        for (name, records) in zones {
            let servers = if records.contains(" IN NS ") { "" } else { "@ 60 IN NS ns\nns 60 IN A 127.0.0.1" };
            let handler = zone_handler(name, &format!("{servers}\n{records}"));
            catalog.upsert(Name::from_ascii(name).unwrap().into(), vec![Arc::new(handler)]);
        }
        let mut server = Server::new(catalog);
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 4096);
        let silent = UdpSocket::bind((SILENT, port)).await.unwrap();
        let failing = UdpSocket::bind((FAILING, port)).await.unwrap();
        Self { port, _server: server, _silent: silent, _failing: tokio::spawn(answer_servfail(failing)) }
    }

    async fn look(&self, wanted: &Wanted) -> Seen {
        self.look_for(wanted, PATIENCE).await
    }

    async fn look_for(&self, wanted: &Wanted, timeout: Duration) -> Seen {
        let settings = Settings { timeout, deadline: Duration::from_secs(60), authoritative_port: self.port };
        Looker::new(&[([127, 0, 0, 1], self.port).into()], settings).unwrap().look(wanted).await
    }

    /// Where no name server of this machine is asked.
    async fn look_elsewhere(&self, wanted: &Wanted) -> Seen {
        let settings = Settings { timeout: PATIENCE, deadline: Duration::from_secs(60), authoritative_port: self.port };
        let looker = Looker::new(&[([127, 0, 0, 1], self.port).into()], settings).unwrap();
        looker.shunning(Arc::from(["127.0.0.0/8".parse().unwrap()])).look(wanted).await
    }

    async fn verdict(&self, part: ConditionType) -> (ConditionStatus, Reason, String) {
        let wanted = wanted_records();
        let comparison = compare(&wanted, &self.look(&wanted).await);
        let found = comparison.verdicts.into_iter().find(|verdict| verdict.condition_type == part).unwrap();
        (found.status, found.reason, found.message)
    }
}

/// The question back, as an answer with code 2 (RFC 1035 §4.1.1).
async fn answer_servfail(socket: UdpSocket) {
    let mut packet = [0_u8; 512];
    while let Ok((length, from)) = socket.recv_from(&mut packet).await {
        packet[2] |= 0x80;
        packet[3] = 2;
        socket.send_to(&packet[..length], from).await.unwrap();
    }
}

fn wanted_records() -> Wanted {
    let addresses = ServerAddresses::Public(vec![ADDRESS.parse().unwrap()]);
    wanted("server1.com", &serde_saphyr::from_str("{}").unwrap(), "mx1.server1.com", addresses)
}

#[tokio::test]
async fn our_own_zone_text_makes_everything_true() {
    let wanted = wanted_records();
    let world = World::with(&[("server1.com.", &zone_file(&wanted))]).await;
    let seen = world.look(&wanted).await;
    assert_eq!(seen.nameservers, ["ns.server1.com"]);
    let comparison = compare(&wanted, &seen);
    assert!(comparison.verdicts.iter().all(|verdict| verdict.status == ConditionStatus::True), "{comparison:#?}");
}

#[tokio::test]
async fn name_servers_where_nobody_is_to_be_asked_are_not() {
    let wanted = wanted_records();
    let world = World::with(&[("server1.com.", &zone_file(&wanted))]).await;
    let seen = world.look_elsewhere(&wanted).await;
    let Answer::Failed(why) = &seen.texts else { panic!("{seen:?}") };
    assert!(why.contains("unless spec.dns.resolvers"), "{why}");
    let comparison = compare(&wanted, &seen);
    let exchangers = comparison.verdicts.iter().find(|verdict| verdict.condition_type == ConditionType::MXReady);
    assert_eq!(exchangers.map(|verdict| verdict.status), Some(ConditionStatus::Unknown), "{comparison:#?}");
}

#[tokio::test]
async fn a_domain_that_nobody_delegated_misses_everything() {
    let world = World::with(&[]).await;
    for part in [ConditionType::MXReady, ConditionType::SPFReady, ConditionType::DMARCReady] {
        let (status, reason, _) = world.verdict(part).await;
        assert_eq!((status, reason), (ConditionStatus::False, Reason::RecordMissing));
    }
}

#[tokio::test]
async fn faults_of_the_mx_record_have_their_reasons() {
    for (records, reason) in [
        ("@ 60 IN TXT other", Reason::RecordMissing),
        ("@ 60 IN MX 10 old.host.net.", Reason::RecordMismatch),
        ("@ 60 IN MX 10 mx1\n@ 60 IN MX 20 old.host.net.\nmx1 60 IN A 192.0.2.7", Reason::ExtraMX),
        ("@ 60 IN MX 10 mx1\nmx1 60 IN CNAME lb.cloud.net.", Reason::TargetIsCNAME),
        ("@ 60 IN MX 10 mx1", Reason::TargetNoAddress),
        ("@ 60 IN MX 10 mx1\nmx1 60 IN A 198.51.100.1", Reason::RecordMismatch),
        ("@ 60 IN MX 10 mx1\nmx1 60 IN AAAA 2001:db8::1\nmx1 60 IN A 192.0.2.7", Reason::RecordsMatch),
    ] {
        let world = World::with(&[("server1.com.", records)]).await;
        let (_, found, message) = world.verdict(ConditionType::MXReady).await;
        assert_eq!(found, reason, "{records}: {message}");
    }
}

#[tokio::test]
async fn a_host_in_another_zone_is_asked_there() {
    let wanted = wanted("server1.com", &serde_saphyr::from_str("{}").unwrap(), "mx.host.net", ServerAddresses::Unknown);
    let zones = [("server1.com.", "@ 60 IN MX 10 mx.host.net."), ("host.net.", "mx 60 IN A 192.0.2.7")];
    let seen = World::with(&zones).await.look(&wanted).await;
    assert_eq!(seen.hosts["mx.host.net"].addresses, Answer::Found(vec![ADDRESS.parse().unwrap()]));
}

#[tokio::test]
async fn long_texts_and_included_records_are_put_together() {
    let zones = [
        ("server1.com.", "@ 60 IN TXT \"v=spf1 mx include:a.org\" \" include:b.org ~all\""),
        ("a.org.", "@ 60 IN TXT \"v=spf1 a mx ptr exists:x.org include:b.org -all\""),
        ("b.org.", "@ 60 IN TXT \"v=spf1 a mx -all\""),
    ];
    let world = World::with(&zones).await;
    let seen = world.look(&wanted_records()).await;
    assert_eq!(seen.texts, Answer::Found(vec!["v=spf1 mx include:a.org include:b.org ~all".to_owned()]));
    // mx, include a.org (a, mx, ptr, exists, include b.org: a, mx), include b.org: a, mx.
    assert_eq!(world.verdict(ConditionType::SPFReady).await.1, Reason::TooManyLookups);
}

#[tokio::test]
async fn servers_that_do_not_say_leave_it_unknown() {
    for address in [SILENT, FAILING] {
        let records = format!("@ 60 IN NS ns\nns 60 IN A {address}\n@ 60 IN MX 10 mx1");
        let world = World::with(&[("server1.com.", &records)]).await;
        let wanted = wanted_records();
        // Every question to the silent server lasts this long.
        let seen = world.look_for(&wanted, Duration::from_secs(1)).await;
        let verdicts = compare(&wanted, &seen).verdicts;
        for part in [ConditionType::MXReady, ConditionType::SPFReady, ConditionType::DMARCReady] {
            let verdict = verdicts.iter().find(|verdict| verdict.condition_type == part).unwrap();
            let found = (verdict.status, verdict.reason);
            assert_eq!(found, (ConditionStatus::Unknown, Reason::LookupFailed), "{address}");
            assert!(verdict.message.contains("ns.server1.com"), "{}", verdict.message);
        }
    }
}

#[tokio::test]
async fn a_name_server_without_address_leaves_it_unknown() {
    let world = World::with(&[("server1.com.", "@ 60 IN NS ns.nowhere.net.\n@ 60 IN MX 10 mx1")]).await;
    let (status, reason, message) = world.verdict(ConditionType::MXReady).await;
    assert_eq!((status, reason), (ConditionStatus::Unknown, Reason::LookupFailed));
    assert!(message.contains("ns.nowhere.net"), "{message}");
}

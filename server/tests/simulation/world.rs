//! The world around the queue: time that passes when nobody has anything to do, name servers and hosts that behave as the
//! seed says, and change while the days go by.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use paquebot_config::Domain;
use paquebot_server::queue::environment::{Clock, Environment, Network, Stream};
use paquebot_server::queue::resolver::Dns;
use paquebot_server::queue::routing::{Answer, MailExchanger};
use tokio::time::Instant;

use super::chance::Chance;
use super::ledger::Ledger;
use super::peer::{self, Behaviour, Stage};

pub const HOUR: Duration = Duration::from_secs(60 * 60);
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What DNS says of a domain.
#[derive(Debug, Clone)]
pub enum Zone {
    /// Preference and host.
    Mx(Vec<(u16, usize)>),
    /// The domain's own address.
    OnlyAddress(usize),
    NullMx,
    NoSuchName,
    ServerFailure,
    Silence,
}

/// What something is, from these moments on.
pub type Phases<T> = Vec<(Duration, T)>;

fn at<T: Clone>(phases: &Phases<T>, elapsed: Duration) -> T {
    phases.iter().rev().find(|(from, _)| *from <= elapsed).map(|(_, what)| what.clone()).unwrap()
}

pub struct World {
    pub begin: Timestamp,
    pub origin: Instant,
    pub chance: Chance,
    pub ledger: Mutex<Ledger>,
    pub zones: Vec<Phases<Zone>>,
    pub hosts: Vec<Phases<Behaviour>>,
    /// Domains that always work.
    pub healthy: usize,
}

impl World {
    /// `healthy` domains that work always, and `others` that do what the seed says.
    pub fn new(chance: Chance, healthy: usize, others: usize) -> Arc<Self> {
        let mut hosts = Vec::new();
        let mut zones = Vec::new();
        for number in 0..healthy {
            hosts.push(vec![(Duration::ZERO, Behaviour::Healthy)]);
            zones.push(vec![(Duration::ZERO, Zone::Mx(vec![(10, number)]))]);
        }
        for _ in 0..others {
            let first = hosts.len();
            for _ in 0..=chance.below(2) {
                let begin = chance.pick(&[Behaviour::Healthy, behaviour(&chance)]);
                hosts.push(phases(&chance, begin, behaviour));
            }
            let exchangers: Vec<_> = (first..hosts.len()).map(|host| (10 * chance.below(3) as u16, host)).collect();
            zones.push(phases(&chance, Zone::Mx(exchangers.clone()), |chance| zone(chance, &exchangers)));
        }
        let (begin, origin) = ("2026-01-01T00:00:00Z".parse().unwrap(), Instant::now());
        Arc::new(Self { begin, origin, chance, ledger: Mutex::default(), zones, hosts, healthy })
    }

    pub fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    pub fn timestamp(&self) -> Timestamp {
        self.begin + self.elapsed()
    }

    pub fn environment(self: &Arc<Self>) -> Environment {
        Environment {
            clock: self.clone(),
            network: Arc::new(Roads(Arc::clone(self))),
            dns: self.clone(),
            chance: Arc::new(self.chance.clone()),
        }
    }

    async fn latency(&self) {
        tokio::time::sleep(Duration::from_millis(1 + self.chance.below(300))).await;
    }
}

/// Up to three changes in six days.
fn phases<T: Clone>(chance: &Chance, begin: T, other: impl Fn(&Chance) -> T) -> Phases<T> {
    let mut phases = vec![(Duration::ZERO, begin)];
    let mut from = Duration::ZERO;
    for _ in 0..chance.below(4) {
        from += Duration::from_secs(60 + chance.below(2 * DAY.as_secs()));
        phases.push((from, other(chance)));
    }
    phases
}

fn zone(chance: &Chance, exchangers: &[(u16, usize)]) -> Zone {
    match chance.below(12) {
        0 => Zone::ServerFailure,
        1 => Zone::Silence,
        2 => Zone::NoSuchName,
        3 => Zone::NullMx,
        4 | 5 => Zone::OnlyAddress(exchangers[0].1),
        _ => {
            // Another order, or fewer of them.
            let kept = 1 + chance.below(exchangers.len() as u64) as usize;
            Zone::Mx(exchangers.iter().rev().take(kept).map(|(_, host)| (10 * chance.below(3) as u16, *host)).collect())
        }
    }
}

fn behaviour(chance: &Chance) -> Behaviour {
    let stage = chance.pick(&Stage::ALL);
    match chance.below(16) {
        0 => Behaviour::ConnectionRefused,
        1 => Behaviour::ConnectionSilent,
        2 => Behaviour::Silent(stage),
        3 => Behaviour::Garbage(stage),
        4 => Behaviour::CutAfter(chance.below(1500) as usize),
        5 => Behaviour::CutInReply(chance.below(20) as usize),
        6 => Behaviour::Dribble,
        7 => Behaviour::Greylist(Duration::from_secs(60 + chance.below(3600))),
        8 => Behaviour::MessagesPerConnection(chance.below(3) as usize),
        9 => Behaviour::TlsRefused,
        10 => Behaviour::TlsGarbage,
        11 => Behaviour::Answer(stage, chance.pick(&["550 5.1.1 no", "554 5.7.1 never", "552 5.2.2 full"])),
        12 => Behaviour::Answer(stage, chance.pick(&["250 2.0.0 what?", "354 go on", "220 again", "334 "])),
        13 => Behaviour::LateReply(Duration::from_secs(chance.below(1200))),
        _ => Behaviour::Answer(
            stage,
            chance.pick(&["451 4.3.0 later", "421 4.3.2 closing", "450 4.7.1 slow down", "452 4.2.2 full"]),
        ),
    }
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        self.timestamp()
    }
}

pub fn domain_name(number: usize) -> String {
    format!("d{number}.example")
}

fn number_of(name: &str) -> Option<usize> {
    name.strip_prefix(['d', 'h'])?.strip_suffix(".example")?.parse().ok()
}

fn host_address(host: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 1, (host / 250) as u8, (host % 250) as u8 + 1))
}

fn host_at(address: IpAddr) -> Option<usize> {
    let IpAddr::V4(address) = address else { return None };
    let [10, 1, high, low] = address.octets() else { return None };
    Some(usize::from(high) * 250 + usize::from(low) - 1)
}

#[async_trait]
impl Dns for World {
    async fn mail_exchangers(&self, _: &[SocketAddr], domain: &Domain) -> Answer<MailExchanger> {
        self.latency().await;
        let Some(number) = number_of(domain.as_str()) else { return Answer::NoSuchName };
        match at(&self.zones[number], self.elapsed()) {
            Zone::Mx(hosts) => {
                let records = hosts.iter().map(|(preference, host)| MailExchanger {
                    preference: *preference,
                    host: format!("h{host}.example"),
                });
                Answer::Records(records.collect())
            }
            Zone::OnlyAddress(_) => Answer::Records(Vec::new()),
            Zone::NullMx => Answer::Records(vec![MailExchanger { preference: 0, host: String::new() }]),
            Zone::NoSuchName => Answer::NoSuchName,
            Zone::ServerFailure => Answer::Failed("SERVFAIL".to_owned()),
            Zone::Silence => {
                tokio::time::sleep(Duration::from_secs(15)).await;
                Answer::Failed("no answer".to_owned())
            }
        }
    }

    async fn addresses(&self, _: &[SocketAddr], host: &str) -> Answer<IpAddr> {
        self.latency().await;
        let Some(number) = number_of(host) else { return Answer::NoSuchName };
        if host.starts_with('h') {
            return Answer::Records(vec![host_address(number)]);
        }
        match at(&self.zones[number], self.elapsed()) {
            Zone::OnlyAddress(host) => Answer::Records(vec![host_address(host)]),
            _ => Answer::NoSuchName,
        }
    }
}

/// What leads to the hosts.
struct Roads(Arc<World>);

#[async_trait]
impl Network for Roads {
    async fn connect(&self, to: SocketAddr) -> std::io::Result<Box<dyn Stream>> {
        let world = &self.0;
        world.latency().await;
        let host = host_at(to.ip()).unwrap();
        let behaviour = at(&world.hosts[host], world.elapsed());
        match behaviour {
            Behaviour::ConnectionRefused => return Err(std::io::ErrorKind::ConnectionRefused.into()),
            Behaviour::ConnectionSilent => std::future::pending().await,
            _ => {}
        }
        let (ours, theirs) = tokio::io::duplex(4096);
        tokio::spawn(peer::serve(theirs, behaviour, Arc::clone(world)));
        Ok(Box::new(ours))
    }
}

//! Looks at the records of a domain where they are true: at its zone's own authoritative servers, past every cache.
//! The one part of [`crate::dns`] that does I/O. Called by the controllers' DNS worker.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::compare::{Answer, Seen, SeenHost};
use super::spf;
use super::wanted::{Exchanger, Wanted};

/// Name servers of one zone that are asked; more only repeat the same answers.
const MOST_SERVERS: usize = 6;
/// Records of one answer that are read.
const MOST_RECORDS: usize = 64;
/// Domains whose SPF records are followed; more are over RFC 7208's limit anyway.
const MOST_INCLUDES: usize = 20;

/// How long and whom to ask.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long one server may take for one answer.
    pub timeout: Duration,
    /// How long a whole look may take.
    pub deadline: Duration,
    /// The port of authoritative servers: 53 everywhere but in a test network.
    pub authoritative_port: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(3), deadline: Duration::from_secs(30), authoritative_port: 53 }
    }
}

/// Asks about domains.
#[derive(Clone)]
pub struct Looker {
    recursive: TokioResolver,
    settings: Settings,
}

/// The authoritative servers of one zone.
#[derive(Clone)]
struct Zone {
    nameservers: Vec<String>,
    resolver: TokioResolver,
}

/// Where a name's records are.
#[derive(Clone)]
enum Place {
    Zone(Box<Zone>),
    /// No zone holds the name: nobody delegated it.
    Nowhere,
    Unknown(String),
}

impl Looker {
    /// Finds zones through these resolvers, or through those of /etc/resolv.conf where none is given.
    ///
    /// # Errors
    /// What hickory says when the system's configuration cannot be read.
    pub fn new(resolvers: &[SocketAddr], settings: Settings) -> Result<Self, NetError> {
        let config = if resolvers.is_empty() {
            hickory_resolver::system_conf::read_system_conf()?.0
        } else {
            ResolverConfig::from_parts(
                None,
                Vec::new(),
                resolvers.iter().map(|at| name_server(at.ip(), at.port())).collect(),
            )
        };
        let recursive = resolver(config, &settings, true)?;
        Ok(Self { recursive, settings })
    }

    /// Looks at everything that is wanted. Never fails: what could not be learnt is [`Answer::Failed`].
    pub async fn look(&self, wanted: &Wanted) -> Seen {
        let deadline = self.settings.deadline;
        match tokio::time::timeout(deadline, self.look_patiently(wanted)).await {
            Ok(seen) => seen,
            Err(_) => unseen(wanted, &format!("no answer within {} seconds", deadline.as_secs())),
        }
    }

    async fn look_patiently(&self, wanted: &Wanted) -> Seen {
        let place = self.place_of(&wanted.domain).await;
        let dmarc_name = wanted.dmarc_name();
        let mut hosts: Vec<&str> = wanted.exchangers.iter().map(|mx| mx.host.as_str()).collect();
        hosts.dedup();
        let (exchangers, texts, dmarc, hosts) = tokio::join!(
            self.exchangers(&place, &wanted.domain),
            self.texts(&place, &wanted.domain),
            self.texts(&place, &dmarc_name),
            join_all(hosts.into_iter().map(|host| self.host(wanted, &place, host))),
        );
        let included = match &texts {
            Answer::Found(found) => self.included(found).await,
            _ => BTreeMap::new(),
        };
        let nameservers = match place {
            Place::Zone(zone) => zone.nameservers,
            Place::Nowhere | Place::Unknown(_) => Vec::new(),
        };
        Seen { nameservers, exchangers, texts, dmarc, hosts: hosts.into_iter().collect(), included }
    }

    async fn exchangers(&self, place: &Place, domain: &str) -> Answer<Vec<Exchanger>> {
        let answer = ask(place, domain, RecordType::MX).await;
        map(answer, |record| match &record.data {
            RData::MX(mx) => Some(Exchanger { preference: mx.preference, host: text_of(&mx.exchange) }),
            _ => None,
        })
    }

    async fn texts(&self, place: &Place, name: &str) -> Answer<Vec<String>> {
        map(ask(place, name, RecordType::TXT).await, text_record)
    }

    /// The host of an exchanger may lie in another zone, whose servers are then asked.
    async fn host(&self, wanted: &Wanted, domain_place: &Place, host: &str) -> (String, SeenHost) {
        let place = match domain_place {
            Place::Nowhere if wanted.contains(host) => Place::Nowhere,
            Place::Zone(_) | Place::Nowhere | Place::Unknown(_) => self.place_of(host).await,
        };
        let (alias, v4, v6) = tokio::join!(
            ask(&place, host, RecordType::CNAME),
            ask(&place, host, RecordType::A),
            ask(&place, host, RecordType::AAAA),
        );
        let alias_of = match alias {
            Answer::Found(records) => records.iter().find_map(|record| match &record.data {
                RData::CNAME(target) => Some(text_of(&target.0)),
                _ => None,
            }),
            _ => None,
        };
        let address = |record: &Record| record.data.ip_addr();
        let addresses = match (map(v4, address), map(v6, address)) {
            (Answer::Found(mut v4), Answer::Found(v6)) => {
                v4.extend(v6);
                v4.sort();
                Answer::Found(v4)
            }
            (Answer::Found(found), _) | (_, Answer::Found(found)) => Answer::Found(found),
            (Answer::Failed(why), _) | (_, Answer::Failed(why)) => Answer::Failed(why),
            (Answer::Missing, Answer::Missing) => Answer::Missing,
        };
        (host.to_owned(), SeenHost { alias_of, addresses })
    }

    /// The SPF records that ours includes, as receivers would find them: through caches.
    async fn included(&self, texts: &[String]) -> BTreeMap<String, String> {
        let mut known = BTreeMap::new();
        let mut waiting: Vec<String> =
            texts.iter().filter(|text| spf::is_spf(text)).flat_map(|text| spf::includes(text)).collect();
        let mut asked = 0;
        while let Some(domain) = waiting.pop() {
            if known.contains_key(&domain) || asked == MOST_INCLUDES {
                continue;
            }
            asked += 1;
            let answer = lookup(&self.recursive, &domain, RecordType::TXT).await;
            let found =
                answer.ok().and_then(|records| records.iter().filter_map(text_record).find(|text| spf::is_spf(text)));
            if let Some(text) = found {
                waiting.extend(spf::includes(&text));
                known.insert(domain, text);
            }
        }
        known
    }

    /// The zone that holds a name: the nearest name above it, or itself, that has NS records.
    async fn place_of(&self, name: &str) -> Place {
        let mut rest = name;
        loop {
            match lookup(&self.recursive, rest, RecordType::NS).await {
                Ok(records) => {
                    let servers = records.iter().filter_map(|record| match &record.data {
                        RData::NS(server) if text_of(&record.name) == rest => Some(text_of(&server.0)),
                        _ => None,
                    });
                    let mut servers: Vec<String> = servers.take(MOST_SERVERS).collect();
                    if !servers.is_empty() {
                        servers.sort();
                        return self.zone(rest, servers).await;
                    }
                }
                Err(Trouble::None) => {}
                Err(Trouble::Failed(why)) => {
                    return Place::Unknown(format!("the name servers of {rest} were not found: {why}"));
                }
            }
            match rest.split_once('.') {
                Some((_, parent)) => rest = parent,
                None => return Place::Nowhere,
            }
        }
    }

    async fn zone(&self, zone: &str, nameservers: Vec<String>) -> Place {
        let lookups = nameservers
            .iter()
            .flat_map(|server| [RecordType::A, RecordType::AAAA].map(|kind| lookup(&self.recursive, server, kind)));
        let answers = join_all(lookups).await;
        let addresses: Vec<IpAddr> =
            answers.into_iter().flatten().flatten().filter_map(|record| record.data.ip_addr()).collect();
        if addresses.is_empty() {
            return Place::Unknown(format!("the name servers of {zone} ({}) have no address", nameservers.join(", ")));
        }
        let port = self.settings.authoritative_port;
        let servers = addresses.into_iter().take(2 * MOST_SERVERS).map(|ip| name_server(ip, port)).collect();
        match resolver(ResolverConfig::from_parts(None, Vec::new(), servers), &self.settings, false) {
            Ok(resolver) => Place::Zone(Box::new(Zone { nameservers, resolver })),
            Err(error) => Place::Unknown(error.to_string()),
        }
    }
}

fn name_server(ip: IpAddr, port: u16) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(ip);
    for connection in &mut server.connections {
        connection.port = port;
    }
    server
}

fn resolver(config: ResolverConfig, settings: &Settings, recursive: bool) -> Result<TokioResolver, NetError> {
    let mut options = ResolverOpts::default();
    options.timeout = settings.timeout;
    options.attempts = 1;
    // Freshness is the point: a record that was published a second ago is to be seen.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.recursion_desired = recursive;
    options.try_tcp_on_error = true;
    options.ndots = 0;
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build()
}

/// Why there are no records.
enum Trouble {
    /// The servers say that there are none.
    None,
    /// The servers did not say.
    Failed(String),
}

async fn lookup(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Vec<Record>, Trouble> {
    // The dot at the end keeps the search list of /etc/resolv.conf away.
    let complete = Name::from_ascii(format!("{name}.")).map_err(|error| Trouble::Failed(error.to_string()))?;
    match resolver.lookup(complete, kind).await {
        Ok(found) => Ok(found.answers().iter().take(MOST_RECORDS).cloned().collect()),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) if none.soa.is_none() && none.ns.is_some() => {
            Err(Trouble::Failed("the servers referred to others: the delegation changed just now".to_owned()))
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(_))) => Err(Trouble::None),
        Err(NetError::Dns(DnsError::ResponseCode(code))) => Err(Trouble::Failed(format!("the answer was {code}"))),
        Err(NetError::Timeout) => Err(Trouble::Failed("no answer in time".to_owned())),
        Err(error) => Err(Trouble::Failed(error.to_string())),
    }
}

async fn ask(place: &Place, name: &str, kind: RecordType) -> Answer<Vec<Record>> {
    match place {
        Place::Zone(zone) => match lookup(&zone.resolver, name, kind).await {
            Ok(records) => Answer::Found(records),
            Err(Trouble::None) => Answer::Missing,
            Err(Trouble::Failed(why)) => Answer::Failed(format!("asked {}: {why}", zone.nameservers.join(", "))),
        },
        Place::Nowhere => Answer::Missing,
        Place::Unknown(why) => Answer::Failed(why.clone()),
    }
}

/// The wanted part of each record; none at all counts as missing.
fn map<T: Ord>(answer: Answer<Vec<Record>>, part: impl Fn(&Record) -> Option<T>) -> Answer<Vec<T>> {
    match answer {
        Answer::Found(records) => {
            // Servers rotate their answers; an order of our own keeps equal answers equal.
            let mut parts: Vec<T> = records.iter().filter_map(part).collect();
            parts.sort();
            if parts.is_empty() { Answer::Missing } else { Answer::Found(parts) }
        }
        Answer::Missing => Answer::Missing,
        Answer::Failed(why) => Answer::Failed(why),
    }
}

/// A TXT record's strings, joined without a space between them (RFC 7208 §3.3).
fn text_record(record: &Record) -> Option<String> {
    match &record.data {
        RData::TXT(txt) => {
            let octets: Vec<u8> = txt.txt_data.iter().flat_map(|part| part.iter().copied()).collect();
            Some(String::from_utf8_lossy(&octets).into_owned())
        }
        _ => None,
    }
}

/// A name in lower case without the dot at the end; the root is the empty text.
fn text_of(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

fn unseen(wanted: &Wanted, why: &str) -> Seen {
    let failed =
        |mx: &Exchanger| (mx.host.clone(), SeenHost { alias_of: None, addresses: Answer::Failed(why.to_owned()) });
    Seen {
        nameservers: Vec::new(),
        exchangers: Answer::Failed(why.to_owned()),
        texts: Answer::Failed(why.to_owned()),
        dmarc: Answer::Failed(why.to_owned()),
        hosts: wanted.exchangers.iter().map(failed).collect(),
        included: BTreeMap::new(),
    }
}

#[cfg(test)]
#[path = "seen_tests.rs"]
mod tests;

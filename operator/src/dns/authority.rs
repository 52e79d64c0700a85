//! Finds the authoritative servers of a name and asks each of them, past every cache. Called by [`super::seen`] and
//! [`super::reverse`].
//!
//! A resolver's caches are asked only for what lies above: where a zone is and what addresses its servers have. What a
//! resolver says is not there may have been published since, so the rest of the way down is walked at the servers
//! themselves. Each server is asked for itself: one that refuses or is silent takes nothing away, and servers that
//! contradict each other leave it unknown.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use ipnet::IpNet;

use super::compare::Answer;
use super::seen::Settings;

/// Name servers of one zone that are asked; more only repeat the same answers.
const MOST_SERVERS: usize = 6;
/// Records of one answer that are read.
const MOST_RECORDS: usize = 64;
/// How many aliases of a name are followed from zone to zone.
const MOST_ALIASES: usize = 4;
/// How many zones on the way up a resolver may fail to find before it is believed to be of no use.
const MOST_TROUBLES: usize = 3;
/// How long the other servers may take once one has answered.
const OTHERS: Duration = Duration::from_millis(500);

/// The authoritative servers of one zone.
#[derive(Clone)]
pub(super) struct Zone {
    servers: Vec<Server>,
}

#[derive(Clone)]
struct Server {
    name: String,
    resolver: TokioResolver,
}

impl Zone {
    /// The names of the servers.
    pub(super) fn nameservers(&self) -> Vec<String> {
        let mut names: Vec<String> = self.servers.iter().map(|server| server.name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Where a name's records are.
#[derive(Clone)]
pub(super) enum Place {
    /// In this zone.
    Zone(Zone),
    /// No zone holds the name: nobody delegated it.
    Nowhere,
    /// Nobody could say; the text is for people.
    Unknown(String),
}

/// Why there are no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The servers say that there are none.
    None,
    /// The servers did not say.
    Failed(String),
}

/// What a server says about a name below its zone.
enum Delegation {
    /// Other servers have it.
    To(Vec<String>, Vec<(String, IpAddr)>),
    /// It is in the zone itself.
    Own,
    /// There is nothing at or below it.
    NoSuchName,
}

/// What several servers may say of the same records.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Several {
    /// All of them say the same, or nothing is known.
    Agree,
    /// Each may know some: addresses that are handed out in turn.
    Add,
}

/// Asks servers.
#[derive(Clone)]
pub(super) struct Authority {
    recursive: TokioResolver,
    settings: Settings,
    /// Where no name server is asked.
    shunned: Arc<[IpNet]>,
}

impl Authority {
    pub(super) fn new(resolvers: &[SocketAddr], settings: Settings) -> Result<Self, NetError> {
        let config = if resolvers.is_empty() {
            hickory_resolver::system_conf::read_system_conf()?.0
        } else {
            let servers = resolvers.iter().map(|at| name_server(at.ip(), at.port())).collect();
            ResolverConfig::from_parts(None, Vec::new(), servers)
        };
        let recursive = resolver(config, &settings, true)?;
        Ok(Self { recursive, settings, shunned: Arc::default() })
    }

    pub(super) fn shunning(self, shunned: Arc<[IpNet]>) -> Self {
        Self { shunned, ..self }
    }

    fn is_shunned(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.shunned.iter().any(|network| network.contains(&address))
    }

    /// Looks a name up as everybody does: through caches.
    pub(super) async fn cached(&self, name: &str, kind: RecordType) -> Result<Vec<Record>, Trouble> {
        let found = lookup(&self.recursive, name, kind).await?;
        Ok(found.answers().iter().take(MOST_RECORDS).cloned().collect())
    }

    /// The zone that holds a name.
    pub(super) async fn place_of(&self, name: &str) -> Place {
        let mut rest = name;
        let mut troubles = Vec::new();
        let mut zone = loop {
            match self.cached(rest, RecordType::NS).await {
                Ok(records) => {
                    let servers = name_servers(&records, rest);
                    if !servers.is_empty() {
                        match self.zone(rest, servers, &[]).await {
                            Place::Zone(zone) => break zone,
                            other => return other,
                        }
                    }
                }
                Err(Trouble::None) => {}
                // A resolver that gets no answer from the servers of a zone does not say which they are; those above do.
                Err(Trouble::Failed(why)) => {
                    troubles.push(format!("the name servers of {rest} were not found: {why}"));
                }
            }
            match rest.split_once('.').filter(|_| troubles.len() < MOST_TROUBLES) {
                Some((_, parent)) => rest = parent,
                None => return troubles.into_iter().next().map_or(Place::Nowhere, Place::Unknown),
            }
        };
        // What the resolver has not heard of may have been delegated just now.
        for below in names_between(name, rest) {
            match self.delegation(&zone, below).await {
                Delegation::To(servers, glue) => match self.zone(below, servers, &glue).await {
                    Place::Zone(next) => zone = next,
                    other => return other,
                },
                Delegation::Own => {}
                Delegation::NoSuchName => break,
            }
        }
        Place::Zone(zone)
    }

    async fn delegation(&self, zone: &Zone, name: &str) -> Delegation {
        for server in &zone.servers {
            match raw_lookup(&server.resolver, name, RecordType::NS).await {
                Ok(found) => {
                    let message = found.message();
                    let records: Vec<Record> = message.answers.iter().chain(&message.authorities).cloned().collect();
                    let servers = name_servers(&records, name);
                    if !servers.is_empty() {
                        return Delegation::To(servers, addresses(&message.additionals));
                    }
                    return Delegation::Own;
                }
                Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                    let referrals = none.ns.iter().flat_map(|list| list.iter());
                    let (mut servers, mut glue) = (Vec::new(), Vec::new());
                    for referral in referrals {
                        servers.extend(name_servers(std::slice::from_ref(&referral.ns), name));
                        glue.extend(addresses(&referral.glue));
                    }
                    if !servers.is_empty() {
                        return Delegation::To(servers, glue);
                    }
                    return match none.response_code {
                        ResponseCode::NXDomain => Delegation::NoSuchName,
                        _ => Delegation::Own,
                    };
                }
                // The next one may know.
                Err(_) => {}
            }
        }
        Delegation::Own
    }

    async fn zone(&self, zone: &str, mut names: Vec<String>, glue: &[(String, IpAddr)]) -> Place {
        names.sort();
        names.dedup();
        names.truncate(MOST_SERVERS);
        let found = join_all(names.iter().map(|name| self.addresses_of(name, glue))).await;
        let (mut servers, mut shunned) = (Vec::new(), false);
        // The first address of each before the second of any.
        for turn in 0..2 {
            for (name, addresses) in names.iter().zip(&found) {
                let Some(address) = addresses.get(turn).filter(|_| servers.len() < MOST_SERVERS) else { continue };
                if self.is_shunned(*address) {
                    shunned = true;
                    continue;
                }
                let at = name_server(*address, self.settings.authoritative_port);
                match resolver(ResolverConfig::from_parts(None, Vec::new(), vec![at]), &self.settings, false) {
                    Ok(resolver) => servers.push(Server { name: name.clone(), resolver }),
                    Err(error) => return Place::Unknown(error.to_string()),
                }
            }
        }
        if servers.is_empty() && shunned {
            return Place::Unknown(format!(
                "the name servers of {zone} ({}) have loopback or link-local addresses, where nobody is asked unless \
                 spec.dns.resolvers of the MailServer says through whom",
                names.join(", ")
            ));
        }
        if servers.is_empty() {
            return Place::Unknown(format!("the name servers of {zone} ({}) have no address", names.join(", ")));
        }
        Place::Zone(Zone { servers })
    }

    async fn addresses_of(&self, name: &str, glue: &[(String, IpAddr)]) -> Vec<IpAddr> {
        let (v4, v6) = tokio::join!(self.cached(name, RecordType::A), self.cached(name, RecordType::AAAA));
        let mut found: Vec<IpAddr> =
            v4.into_iter().chain(v6).flatten().filter_map(|record| record.data.ip_addr()).collect();
        if found.is_empty() {
            found = glue.iter().filter(|(of, _)| of == name).map(|(_, address)| *address).collect();
        }
        found
    }

    /// Asks every server of a place; `part` takes what is wanted of each record. None at all counts as missing.
    pub(super) async fn ask<T: Ord + Clone + Send>(
        &self,
        place: &Place,
        name: &str,
        kind: RecordType,
        several: Several,
        part: impl Fn(&Record) -> Option<T> + Send + Sync,
    ) -> Answer<Vec<T>> {
        let zone = match place {
            Place::Zone(zone) => zone,
            Place::Nowhere => return Answer::Missing,
            Place::Unknown(why) => return Answer::Failed(why.clone()),
        };
        let mut waiting: FuturesUnordered<_> = zone
            .servers
            .iter()
            .map(|server| {
                let part = &part;
                async move { (server.name.as_str(), authoritative(&server.resolver, name, kind, part).await) }
            })
            .collect();
        let mut answers: Vec<(&str, Result<Vec<T>, String>)> = Vec::new();
        loop {
            let answered = answers.iter().any(|(_, answer)| answer.is_ok());
            let next = if answered {
                tokio::time::timeout(OTHERS, waiting.next()).await.unwrap_or_default()
            } else {
                waiting.next().await
            };
            match next {
                Some(answer) => answers.push(answer),
                None => return merged(answers, several),
            }
        }
    }

    /// The name that a name is an alias of.
    pub(super) async fn alias(&self, place: &Place, name: &str) -> Option<String> {
        self.ask(place, name, RecordType::CNAME, Several::Agree, alias_record).await.found().into_iter().next()
    }

    /// The texts of a name, which may be an alias of one in another zone.
    pub(super) async fn texts(&self, place: &Place, name: &str) -> Answer<Vec<String>> {
        let mut answer = self.ask(place, name, RecordType::TXT, Several::Agree, text_record).await;
        let (mut place, mut name) = (place.clone(), name.to_owned());
        for _ in 0..MOST_ALIASES {
            // A server follows an alias within its own zones only.
            if matches!(answer, Answer::Found(_)) {
                break;
            }
            let Some(target) = self.alias(&place, &name).await else { break };
            place = self.place_of(&target).await;
            answer = self.ask(&place, &target, RecordType::TXT, Several::Agree, text_record).await;
            name = target;
        }
        answer
    }
}

/// The names from the one below a zone down to a name, the shortest first.
fn names_between<'a>(name: &'a str, zone: &str) -> Vec<&'a str> {
    let mut names = Vec::new();
    let mut rest = name;
    while rest != zone {
        names.push(rest);
        match rest.split_once('.') {
            Some((_, parent)) => rest = parent,
            None => break,
        }
    }
    names.reverse();
    names
}

/// What the answers of several servers come to.
fn merged<T: Ord>(answers: Vec<(&str, Result<Vec<T>, String>)>, several: Several) -> Answer<Vec<T>> {
    let (mut found, mut troubles): (Vec<(&str, Vec<T>)>, Vec<String>) = (Vec::new(), Vec::new());
    for (server, answer) in answers {
        match answer {
            Ok(mut parts) => {
                // Servers rotate their answers; an order of our own keeps equal answers equal.
                parts.sort();
                parts.dedup();
                found.push((server, parts));
            }
            Err(why) => troubles.push(format!("{server}: {why}")),
        }
    }
    troubles.sort();
    troubles.dedup();
    let Some((first, parts)) = found.pop() else { return Answer::Failed(format!("asked {}", troubles.join("; "))) };
    if several == Several::Add {
        let mut all: Vec<T> = found.into_iter().flat_map(|(_, parts)| parts).chain(parts).collect();
        all.sort();
        all.dedup();
        return if all.is_empty() { Answer::Missing } else { Answer::Found(all) };
    }
    if let Some((other, _)) = found.iter().find(|(_, others)| *others != parts) {
        let mut pair = [first, other];
        pair.sort_unstable();
        let why = format!(
            "{} and {} answer differently, as they do until all servers have the newest zone",
            pair[0], pair[1]
        );
        return Answer::Failed(why);
    }
    if parts.is_empty() { Answer::Missing } else { Answer::Found(parts) }
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

async fn raw_lookup(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Lookup, NetError> {
    // The dot at the end keeps the search list of /etc/resolv.conf away.
    let complete = Name::from_ascii(format!("{name}."))?;
    resolver.lookup(complete, kind).await
}

async fn lookup(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Lookup, Trouble> {
    match raw_lookup(resolver, name, kind).await {
        Ok(found) => Ok(found),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) if none.soa.is_none() && none.ns.is_some() => {
            Err(Trouble::Failed("it referred to others, the delegation is wrong or has changed just now".to_owned()))
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(_))) => Err(Trouble::None),
        Err(NetError::Dns(DnsError::ResponseCode(code))) => {
            Err(Trouble::Failed(format!("the answer was {}", word(code))))
        }
        Err(NetError::Timeout) => Err(Trouble::Failed("no answer in time".to_owned())),
        Err(error) => Err(Trouble::Failed(error.to_string())),
    }
}

/// A response code as name servers' administrators know it (RFC 1035 §4.1.1).
fn word(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::NotAuth => "NOTAUTH".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        other => other.to_string(),
    }
}

/// What one server answers; nothing found is an empty list.
async fn authoritative<T>(
    resolver: &TokioResolver,
    name: &str,
    kind: RecordType,
    part: &(impl Fn(&Record) -> Option<T> + Sync),
) -> Result<Vec<T>, String> {
    match lookup(resolver, name, kind).await {
        // What it has from a cache may be old: it is no server of the zone, whatever the delegation says.
        Ok(found) if !found.message().authoritative => Err("it is not authoritative for the zone".to_owned()),
        Ok(found) => Ok(found.answers().iter().take(MOST_RECORDS).filter_map(part).collect()),
        Err(Trouble::None) => Ok(Vec::new()),
        Err(Trouble::Failed(why)) => Err(why),
    }
}

fn name_servers(records: &[Record], zone: &str) -> Vec<String> {
    let servers = records.iter().filter_map(|record| match &record.data {
        RData::NS(server) if text_of(&record.name) == zone => Some(text_of(&server.0)),
        _ => None,
    });
    servers.collect()
}

fn addresses(records: &[Record]) -> Vec<(String, IpAddr)> {
    records.iter().filter_map(|record| Some((text_of(&record.name), record.data.ip_addr()?))).collect()
}

/// A TXT record's strings, joined without a space between them (RFC 7208 §3.3).
pub(super) fn text_record(record: &Record) -> Option<String> {
    match &record.data {
        RData::TXT(txt) => {
            let octets: Vec<u8> = txt.txt_data.iter().flat_map(|part| part.iter().copied()).collect();
            Some(String::from_utf8_lossy(&octets).into_owned())
        }
        _ => None,
    }
}

/// The name that a name is an alias of.
pub(super) fn alias_record(record: &Record) -> Option<String> {
    match &record.data {
        RData::CNAME(target) => Some(text_of(&target.0)),
        _ => None,
    }
}

/// A name in lower case without the dot at the end; the root is the empty text.
pub(super) fn text_of(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_is_enough_and_contradictions_are_unknown() {
        let ok = |parts: &[u8]| Ok(parts.to_vec());
        let err = || Err("the answer was REFUSED".to_owned());
        let of = |answers: Vec<(&str, Result<Vec<u8>, String>)>| merged(answers, Several::Agree);
        assert_eq!(of(vec![("a", ok(&[2, 1])), ("b", err())]), Answer::Found(vec![1, 2]));
        assert_eq!(of(vec![("a", ok(&[2, 1])), ("b", ok(&[1, 2]))]), Answer::Found(vec![1, 2]));
        assert_eq!(of(vec![("a", err()), ("b", ok(&[]))]), Answer::Missing);
        let Answer::Failed(why) = of(vec![("b", ok(&[1])), ("a", ok(&[]))]) else { panic!("they contradict") };
        assert!(why.starts_with("a and b answer differently"), "{why}");
        let Answer::Failed(why) = of(vec![("a", err()), ("b", err())]) else { panic!("nobody knows") };
        assert_eq!(why, "asked a: the answer was REFUSED; b: the answer was REFUSED");
        let added = merged(vec![("a", ok(&[1])), ("b", ok(&[2])), ("c", ok(&[]))], Several::Add);
        assert_eq!(added, Answer::Found(vec![1, 2]));
    }

    #[test]
    fn the_way_down_is_walked_label_by_label() {
        assert_eq!(names_between("a.b.c.org", "org"), ["c.org", "b.c.org", "a.b.c.org"]);
        assert!(names_between("org", "org").is_empty());
        assert_eq!(names_between("a.org", ""), ["org", "a.org"]);
    }
}

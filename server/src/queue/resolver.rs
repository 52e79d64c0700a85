//! Asks DNS the questions of [`super::routing`]. Everything that is decided about the answers is decided there.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use ipnet::IpNet;
use paquebot_config::Domain;

use super::routing::{self, Answer, Exchanges, MailExchanger, NextHop};
use super::status::Refusal;

/// Asks name servers. `resolvers` are those of the configuration; none: the system's.
#[async_trait]
pub trait Dns: Send + Sync {
    /// The MX records of a domain.
    async fn mail_exchangers(&self, resolvers: &[SocketAddr], domain: &Domain) -> Answer<MailExchanger>;
    /// The addresses of a host, of both families.
    async fn addresses(&self, resolvers: &[SocketAddr], host: &str) -> Answer<IpAddr>;
}

/// Finds next hops.
pub struct Router {
    dns: Arc<dyn Dns>,
}

impl Router {
    /// Finds them by this.
    #[must_use]
    pub fn new(dns: Arc<dyn Dns>) -> Self {
        Self { dns }
    }

    /// The servers to try for a domain, in order. `resolvers` are those of the configuration; none: the system's.
    /// `allowed` are the loopback and link-local networks that may be sent to.
    ///
    /// # Errors
    /// The reply that every recipient of the domain gets.
    pub async fn route(
        &self,
        domain: &Domain,
        resolvers: &[SocketAddr],
        own_names: &[&str],
        allowed: &[IpNet],
        random: u64,
    ) -> Result<Vec<NextHop>, Refusal> {
        let answer = match domain.is_literal() {
            true => Answer::NoSuchName,
            false => self.dns.mail_exchangers(resolvers, domain).await,
        };
        let hosts = match routing::exchanges(domain, answer, own_names, random)? {
            Exchanges::Literal(address) => {
                let host = (domain.as_str().to_owned(), Answer::Records(vec![address]));
                return routing::next_hops(domain, vec![host], allowed, random);
            }
            Exchanges::Hosts(hosts) => hosts,
        };
        let lookups = hosts.into_iter().map(|host| async {
            let answer = self.dns.addresses(resolvers, &host).await;
            (host, answer)
        });
        routing::next_hops(domain, futures::future::join_all(lookups).await, allowed, random)
    }

    /// The addresses of one host, which is named instead of the recipients' MX hosts. Those of [`Router::route`]'s
    /// arguments mean the same here.
    ///
    /// # Errors
    /// Always transient: that a smart host is not found is a fault of the configuration, not of the recipient.
    pub async fn route_to(
        &self,
        host: &Domain,
        resolvers: &[SocketAddr],
        allowed: &[IpNet],
        random: u64,
    ) -> Result<Vec<NextHop>, Refusal> {
        let answer = match routing::literal(host) {
            Some(address) => Answer::Records(vec![address]),
            None => self.dns.addresses(resolvers, host.as_str()).await,
        };
        let hops = routing::next_hops(host, vec![(host.as_str().to_owned(), answer)], allowed, random);
        hops.map_err(|refusal| {
            Refusal::transient(4, 4, format!("the smart host {host} cannot be reached: {}", refusal.text))
        })
    }
}

/// Real name servers. Those of the configuration may change while it runs.
#[derive(Default)]
pub struct NameServers {
    current: Mutex<Option<(Vec<SocketAddr>, Arc<TokioResolver>)>>,
}

impl NameServers {
    /// The resolver for these, or why there is none.
    fn resolver(&self, addresses: &[SocketAddr]) -> Result<Arc<TokioResolver>, String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, resolver)) = &*current
            && known == addresses
        {
            return Ok(Arc::clone(resolver));
        }
        let built = build(addresses).map_err(|error| format!("the DNS resolver cannot be set up: {error}"))?;
        let resolver = Arc::new(built);
        *current = Some((addresses.to_vec(), Arc::clone(&resolver)));
        Ok(resolver)
    }
}

#[async_trait]
impl Dns for NameServers {
    async fn mail_exchangers(&self, resolvers: &[SocketAddr], domain: &Domain) -> Answer<MailExchanger> {
        match self.resolver(resolvers) {
            Ok(resolver) => mail_exchangers(&resolver, domain).await,
            Err(reason) => Answer::Failed(reason),
        }
    }

    async fn addresses(&self, resolvers: &[SocketAddr], host: &str) -> Answer<IpAddr> {
        match self.resolver(resolvers) {
            Ok(resolver) => addresses(&resolver, host).await,
            Err(reason) => Answer::Failed(reason),
        }
    }
}

fn build(addresses: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if addresses.is_empty() {
        Resolver::builder_tokio()?
    } else {
        let servers = addresses.iter().map(|address| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = address.port();
                connection
            });
            NameServerConfig::new(address.ip(), true, connections.to_vec())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        Resolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    // A pod's hosts file names the pod; mail is routed by DNS alone.
    builder.options_mut().use_hosts_file = ResolveHosts::Never;
    builder.build()
}

async fn mail_exchangers(resolver: &TokioResolver, domain: &Domain) -> Answer<MailExchanger> {
    // The final dot keeps the search list of a pod's resolv.conf out.
    let found = resolver.lookup(format!("{domain}."), RecordType::MX).await;
    answer(found, |data| match data {
        RData::MX(mx) => {
            let host = mx.exchange.to_ascii().trim_end_matches('.').to_ascii_lowercase();
            Some(MailExchanger { preference: mx.preference, host })
        }
        _ => None,
    })
}

async fn addresses(resolver: &TokioResolver, host: &str) -> Answer<IpAddr> {
    let name = format!("{host}.");
    let (six, four) =
        tokio::join!(resolver.lookup(name.as_str(), RecordType::AAAA), resolver.lookup(name.as_str(), RecordType::A));
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    match (answer(six, address), answer(four, address)) {
        (Answer::Records(mut six), Answer::Records(four)) => {
            six.extend(four);
            Answer::Records(six)
        }
        // One family's addresses are enough to deliver.
        (Answer::Records(found), other) | (other, Answer::Records(found)) => {
            if found.is_empty() {
                other
            } else {
                Answer::Records(found)
            }
        }
        (Answer::Failed(reason), _) | (_, Answer::Failed(reason)) => Answer::Failed(reason),
        (Answer::NoSuchName, Answer::NoSuchName) => Answer::NoSuchName,
    }
}

fn answer<T>(
    found: Result<hickory_resolver::lookup::Lookup, NetError>,
    read: impl Fn(&RData) -> Option<T>,
) -> Answer<T> {
    match found {
        Ok(lookup) => Answer::Records(lookup.answers().iter().filter_map(|record| read(&record.data)).collect()),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => match none.response_code {
            ResponseCode::NXDomain => Answer::NoSuchName,
            ResponseCode::NoError => Answer::Records(Vec::new()),
            code => Answer::Failed(code.to_string()),
        },
        Err(error) => Answer::Failed(error.to_string()),
    }
}

//! Looks at the DNS records of one domain, or at the names of one server. Started by the engine, which learns what was seen as an input.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::directory::NamespacedName;
use crate::dns::compare::Seen;
use crate::dns::reverse::{Reverse, SeenReverse};
use crate::dns::seen::{Looker, Settings};
use crate::dns::wanted::Wanted;

/// MailServers whose addresses are looked at together. How many domains are is the engine's affair, which knows whose turn it is.
const SERVERS_AT_ONCE: usize = 8;

/// What was seen of a domain.
pub struct Looked {
    /// The MailDomain.
    pub domain: NamespacedName,
    /// What was wanted when the look began.
    pub wanted: Wanted,
    /// What was seen; an error when nobody could be asked at all.
    pub seen: Result<Seen, String>,
}

/// What was seen of a MailServer's addresses.
pub struct LookedBack {
    /// The MailServer.
    pub server: NamespacedName,
    /// What was wanted when the look began.
    pub wanted: Reverse,
    /// What was seen; an error when nobody could be asked at all.
    pub seen: Result<SeenReverse, String>,
}

/// Looks.
#[derive(Clone)]
pub struct DnsWorker {
    settings: Settings,
    servers: Arc<Semaphore>,
}

impl DnsWorker {
    /// With these time-outs and this port of authoritative servers.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, servers: Arc::new(Semaphore::new(SERVERS_AT_ONCE)) }
    }

    /// Looks at one domain. The resolvers are the MailServer's; none: those of the operator's own system.
    pub async fn look(self, domain: NamespacedName, wanted: Wanted, resolvers: Vec<SocketAddr>) -> Looked {
        let seen = match Looker::new(&resolvers, self.settings.clone()) {
            Ok(looker) => Ok(looker.look(&wanted).await),
            Err(error) => Err(error.to_string()),
        };
        Looked { domain, wanted, seen }
    }

    /// Looks at the names of a MailServer's addresses.
    pub async fn look_back(self, server: NamespacedName, wanted: Reverse, resolvers: Vec<SocketAddr>) -> LookedBack {
        let _permit = self.servers.acquire().await;
        let seen = match Looker::new(&resolvers, self.settings.clone()) {
            Ok(looker) => Ok(looker.look_back(&wanted).await),
            Err(error) => Err(error.to_string()),
        };
        LookedBack { server, wanted, seen }
    }
}

/// Resolvers as people write them: an address, or address:port.
#[must_use]
pub fn resolver_addresses(texts: &[String]) -> Vec<SocketAddr> {
    texts
        .iter()
        .filter_map(|text| text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse().ok()?, 53))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_addresses_with_or_without_port() {
        let texts = ["192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]:54", "ns.a.org"].map(str::to_owned);
        let read: Vec<String> = resolver_addresses(&texts).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["192.0.2.1:53", "192.0.2.1:5353", "[2001:db8::1]:53", "[2001:db8::1]:54"]);
    }
}

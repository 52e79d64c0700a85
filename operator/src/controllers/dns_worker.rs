//! Looks at the DNS records of one domain, or at the names of one server. Started by the engine, which learns what was seen as an input.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_resolver::net::NetError;
use ipnet::IpNet;
use paquebot_crds::mail_server::ServerDns;
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

/// Whom to ask, and whom not.
#[derive(Debug, Clone)]
pub struct Whom {
    /// The MailServer's resolvers; none: those of the operator's own system.
    resolvers: Vec<SocketAddr>,
    /// Where no name server is asked.
    shunned: Arc<[IpNet]>,
}

/// The machine itself and its link (RFC 6890), where clouds keep what their machines may know. A private network may well be
/// where an organisation's name servers are, and so may the cluster: its DNS answers every pod that asks.
const NOBODYS: [&str; 6] = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "::/128", "::1/128", "fe80::/10"];

impl Whom {
    /// As a MailServer says. Whoever owns a domain chooses the addresses of its name servers, and reads what they answer in
    /// the status: so nothing on the operator's own machine is asked, unless the owner of the MailServer has named resolvers.
    #[must_use]
    pub fn new(dns: &ServerDns) -> Self {
        let resolvers = resolver_addresses(&dns.resolvers);
        if !resolvers.is_empty() {
            return Self { resolvers, shunned: Arc::default() };
        }
        let shunned = NOBODYS.iter().filter_map(|network| network.parse().ok()).collect();
        Self { resolvers, shunned }
    }
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

    fn looker(&self, whom: &Whom) -> Result<Looker, NetError> {
        let looker = Looker::new(&whom.resolvers, self.settings.clone())?;
        Ok(looker.shunning(Arc::clone(&whom.shunned)))
    }

    /// Looks at one domain.
    pub async fn look(self, domain: NamespacedName, wanted: Wanted, whom: Whom) -> Looked {
        let seen = match self.looker(&whom) {
            Ok(looker) => Ok(looker.look(&wanted).await),
            Err(error) => Err(error.to_string()),
        };
        Looked { domain, wanted, seen }
    }

    /// Looks at the names of a MailServer's addresses.
    pub async fn look_back(self, server: NamespacedName, wanted: Reverse, whom: Whom) -> LookedBack {
        let _permit = self.servers.acquire().await;
        let seen = match self.looker(&whom) {
            Ok(looker) => Ok(looker.look_back(&wanted).await),
            Err(error) => Err(error.to_string()),
        };
        LookedBack { server, wanted, seen }
    }
}

/// Resolvers as people write them: an address, or address:port.
fn resolver_addresses(texts: &[String]) -> Vec<SocketAddr> {
    texts
        .iter()
        .filter_map(|text| text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse().ok()?, 53))))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn the_machine_itself_is_not_asked_unless_the_server_names_resolvers() {
        let dns = |value| serde_json::from_value::<ServerDns>(value).unwrap();
        let own = Whom::new(&dns(serde_json::json!({}))).shunned;
        let is_shunned =
            |address: &str| own.iter().any(|network| network.contains(&address.parse::<IpAddr>().unwrap()));
        for address in ["169.254.169.254", "127.0.0.1", "::1", "fe80::1", "0.0.0.0"] {
            assert!(is_shunned(address), "{address}");
        }
        for address in ["10.96.0.10", "192.168.7.10", "203.0.113.1", "2001:db8::1"] {
            assert!(!is_shunned(address), "{address}");
        }
        assert!(Whom::new(&dns(serde_json::json!({ "resolvers": ["10.96.0.10"] }))).shunned.is_empty());
    }

    #[test]
    fn resolvers_are_addresses_with_or_without_port() {
        let texts = ["192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]:54", "ns.a.org"].map(str::to_owned);
        let read: Vec<String> = resolver_addresses(&texts).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["192.0.2.1:53", "192.0.2.1:5353", "[2001:db8::1]:53", "[2001:db8::1]:54"]);
    }
}

//! What a server answers to `GET /peers`, and what kind of address a client has.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use paquebot_config::Protocol;
use serde::Deserialize;

use crate::directory::{ClusterRanges, is_of_the_internet};

/// The clients of one pod.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Peers {
    /// The address under which the operator's own question came.
    pub client: IpAddr,
    /// The clients of each listener.
    #[serde(default)]
    pub listeners: Vec<ListenerPeers>,
}

/// The clients of one listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerPeers {
    /// What it speaks.
    pub protocol: Protocol,
    /// Whether a PROXY header is required there.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Who connected.
    #[serde(default)]
    pub peers: Vec<Peer>,
}

/// One client.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its address, as the server judged it.
    pub address: IpAddr,
    /// Whether a PROXY header said so.
    #[serde(default)]
    pub by_proxy: bool,
    /// Seconds since it connected last.
    pub seconds_ago: u64,
}

/// Whether messages come in by this protocol, so that relay rules are asked.
#[must_use]
pub fn takes_mail(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Smtp | Protocol::Submission | Protocol::Submissions => true,
        Protocol::Pop3 | Protocol::Pop3s => false,
    }
}

/// What an address says of the client that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A node's own address, or one by which a node reaches its pods: anybody may stand behind it.
    Node,
    /// In the networks of pods and Services.
    Inside,
    /// Nowhere in the cluster: a client with its own address.
    Outside,
    /// It says nothing: not given by a proxy, or this pod itself (a port-forward).
    Unsaid,
}

/// What is known of the cluster's addresses while peers are judged.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Of nodes, pods and Services.
    pub ranges: ClusterRanges,
    /// Addresses of pods, those on a node's network left out, as far as they are among the peers.
    pub pods: BTreeSet<IpAddr>,
    /// The neighbourhoods of these pods, see [`neighbourhood`].
    pub near_pods: BTreeSet<IpNet>,
    /// The addresses of the load balancer in front of the server.
    pub balancers: BTreeSet<IpAddr>,
}

/// The addresses around one: not every network for pods is announced by the nodes, but pods, and the addresses by which
/// nodes reach them, live side by side.
#[must_use]
pub fn neighbourhood(address: IpAddr) -> Option<IpNet> {
    let length = if address.is_ipv4() { 24 } else { 64 };
    IpNet::new(address, length).ok().map(|network| network.trunc())
}

impl Known {
    /// What an address says.
    #[must_use]
    pub fn origin(&self, address: IpAddr) -> Origin {
        let address = address.to_canonical();
        let is_in = |ranges: &[IpNet]| ranges.iter().any(|range| range.contains(&address));
        if address.is_unspecified() || address.is_loopback() {
            Origin::Unsaid
        } else if self.pods.contains(&address) {
            Origin::Inside
        } else if is_in(&self.ranges.nodes) || self.is_gateway(address) {
            Origin::Node
        } else if is_in(&self.ranges.pods)
            || is_in(&self.ranges.services)
            || neighbourhood(address).is_some_and(|network| self.near_pods.contains(&network))
        {
            Origin::Inside
        } else {
            Origin::Outside
        }
    }

    /// Whether nobody but a client of the Internet can have the address: a private one may be that of a load balancer, or of
    /// something that translates addresses, with anybody behind it.
    #[must_use]
    pub fn is_client_of_the_internet(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_of_the_internet(address) && !self.balancers.contains(&address)
    }

    /// Whether it is the address by which a node reaches its pods: that of the bridge is the first of the node's network
    /// for pods, that of an overlay is the network's own. Where the nodes announce no network, pods live in one all the same.
    fn is_gateway(&self, address: IpAddr) -> bool {
        let around = neighbourhood(address).filter(|network| self.near_pods.contains(network));
        self.ranges.pods.iter().chain(&around).any(|range| {
            let network = range.network();
            address == network || Some(address) == next(network)
        })
    }
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn known() -> Known {
        Known {
            ranges: ClusterRanges {
                nodes: vec!["10.0.0.5/32".parse().unwrap()],
                pods: vec!["10.244.3.0/24".parse().unwrap(), "fd00:10:0:3::/64".parse().unwrap()],
                services: vec!["10.96.0.0/12".parse().unwrap()],
                unread: Vec::new(),
            },
            pods: ["10.244.3.1", "172.20.9.9"].map(|address| address.parse().unwrap()).into(),
            near_pods: ["172.20.9.0/24".parse().unwrap()].into(),
            balancers: BTreeSet::new(),
        }
    }

    #[test]
    fn an_address_says_where_its_client_is() {
        let mut known = known();
        for (address, origin) in [
            ("203.0.113.9", Origin::Outside),
            ("10.0.0.6", Origin::Outside),
            ("10.0.0.5", Origin::Node),
            ("::ffff:10.0.0.5", Origin::Node),
            ("10.244.3.0", Origin::Node),
            ("10.244.3.1", Origin::Inside),
            ("10.244.3.77", Origin::Inside),
            ("fd00:10:0:3::1", Origin::Node),
            ("fd00:10:0:3::7", Origin::Inside),
            ("10.96.0.10", Origin::Inside),
            ("172.20.9.9", Origin::Inside),
            ("172.20.9.64", Origin::Inside),
            ("172.20.9.0", Origin::Node),
            ("172.20.9.1", Origin::Node),
            ("172.20.10.1", Origin::Outside),
            ("172.20.10.64", Origin::Outside),
            ("0.0.0.0", Origin::Unsaid),
            ("::1", Origin::Unsaid),
        ] {
            assert_eq!(known.origin(address.parse().unwrap()), origin, "{address}");
        }
        known.pods.clear();
        assert_eq!(known.origin("10.244.3.1".parse().unwrap()), Origin::Node, "no pod has it: the bridge does");
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(text in "\\PC{0,200}", address: u32, seconds: u64) {
            let _ = serde_json::from_str::<Peers>(&text);
            let address = IpAddr::V4(address.into());
            let text = format!(
                r#"{{"client":"{address}","listeners":[{{"name":"smtp","protocol":"SMTP","proxyProtocol":true,
                "peers":[{{"address":"{address}","byProxy":true,"connections":1,"secondsAgo":{seconds}}}]}}]}}"#
            );
            let read: Peers = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read.listeners[0].peers[0].address, read.client);
        }
    }
}

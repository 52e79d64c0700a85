//! Which networks a RelayPolicy may admit (DESIGN §2, promise 2). Pure arithmetic on networks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::IpNet;
use paquebot_crds::Cidr;
use paquebot_crds::rules::SHORTEST_RELAY_PREFIX;

use super::input::ClusterRanges;
use super::verdict::RejectedNetwork;

/// The addresses of pods that run, each with the number of pods that have it: those on one node's network share one.
#[derive(Debug, Default)]
pub(super) struct PodAddresses(BTreeMap<IpAddr, usize>);

impl PodAddresses {
    /// Returns whether the address is new.
    pub(super) fn add(&mut self, address: IpAddr) -> bool {
        let pods = self.0.entry(address).or_default();
        *pods += 1;
        *pods == 1
    }

    /// Returns whether no pod has the address any more.
    pub(super) fn remove(&mut self, address: IpAddr) -> bool {
        let Some(pods) = self.0.get_mut(&address) else { return false };
        *pods -= 1;
        let gone = *pods == 0;
        if gone {
            self.0.remove(&address);
        }
        gone
    }

    /// The lowest address that lies in a network.
    fn first_inside(&self, network: &IpNet) -> Option<&IpAddr> {
        self.0.range(network.network()..=network.broadcast()).map(|(address, _)| address).next()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Divides the networks that a policy lists into those that may be admitted and those that may not. `pods` are addresses of
/// pods that run: not every network for pods is announced by the nodes. `preserved`: the server is proven to see its
/// clients' own addresses, so that a node's or pod's address is that of nobody else. Networks of Services are never
/// admitted: no client has such an address, and whoever lists one means something else.
pub(super) fn judge(
    cidrs: &[&Cidr],
    ranges: &ClusterRanges,
    pods: &PodAddresses,
    preserved: bool,
) -> (Vec<IpNet>, Vec<RejectedNetwork>) {
    let mut effective = Vec::new();
    let mut rejected = Vec::new();
    for cidr in cidrs {
        match objection(cidr, ranges, pods, preserved) {
            None => effective.push(cidr.network()),
            Some(reason) => rejected.push(RejectedNetwork { network: cidr.as_str().to_owned(), reason }),
        }
    }
    effective.sort();
    effective.dedup();
    rejected.sort();
    rejected.dedup();
    (effective, rejected)
}

/// Networks in which no client of the Internet is: this host, private use, shared use, loopback, link local, multicast
/// and reserved (RFC 6890); of IPv6 all but global unicast (RFC 4291 section 2.4).
const NOT_THE_INTERNET: [&str; 11] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/3",
    "::/3",
    "4000::/2",
    "8000::/1",
];

/// The shortest prefixes of networks that may be admitted; of IPv6 for those of the Internet. How much several networks may
/// hold together says [`super::network_budget`].
const SHORTEST_V4: u8 = SHORTEST_RELAY_PREFIX;
const SHORTEST_V6: u8 = 20;

/// Whether a client of the Internet may have an address.
#[must_use]
pub fn is_of_the_internet(address: IpAddr) -> bool {
    !elsewhere().iter().any(|network| network.contains(&address))
}

/// [`NOT_THE_INTERNET`], of which no two meet.
fn elsewhere() -> &'static [IpNet] {
    static ELSEWHERE: LazyLock<Vec<IpNet>> =
        LazyLock::new(|| NOT_THE_INTERNET.iter().filter_map(|network| network.parse().ok()).collect());
    &ELSEWHERE
}

/// Networks whose addresses mean addresses of somebody else, or are everybody's, with what they are: 6to4 (RFC 3056), the
/// translated ones (RFC 6052, RFC 8215), Teredo (RFC 4380), IPv4 in IPv6 (RFC 4291 section 2.5.5), and loopback.
const NOBODYS_OWN: [(&str, &str); 8] = [
    ("127.0.0.0/8", "loopback"),
    ("::1/128", "loopback"),
    ("2002::/16", "6to4"),
    ("64:ff9b::/96", "translated IPv4"),
    ("64:ff9b:1::/48", "translated IPv4"),
    ("2001::/32", "Teredo"),
    ("::/96", "IPv4-compatible"),
    ("::ffff:0:0/96", "IPv4-mapped"),
];

/// The first of these that a network meets.
fn nobodys_own(network: &IpNet) -> Option<&'static (&'static str, &'static str)> {
    NOBODYS_OWN.iter().find(|(other, _)| other.parse().is_ok_and(|other: IpNet| meets(network, &other)))
}

/// How many addresses of the Internet a network holds; of IPv6 networks of 64 bits, a part of one counting as one.
pub(super) fn public_size(network: &IpNet) -> usize {
    let size = |network: &IpNet| match network {
        IpNet::V4(network) => 1_usize << (32 - network.prefix_len()),
        IpNet::V6(network) => {
            1_usize.checked_shl(u32::from(64_u8.saturating_sub(network.prefix_len()))).unwrap_or(usize::MAX)
        }
    };
    let elsewhere = elsewhere();
    if elsewhere.iter().any(|other| other.contains(network)) {
        return 0;
    }
    let private = elsewhere.iter().filter(|other| network.contains(*other)).map(size);
    private.fold(size(network), usize::saturating_sub)
}

/// Whether a network holds so many addresses of the Internet that no one has them all.
fn is_wide(network: &IpNet) -> bool {
    match network {
        IpNet::V4(network) => network.prefix_len() < SHORTEST_V4,
        // 2000::/3 is what the Internet uses.
        IpNet::V6(network) => {
            network.prefix_len() < SHORTEST_V6 && (network.prefix_len() < 3 || network.addr().octets()[0] >> 5 == 1)
        }
    }
}

fn objection(cidr: &Cidr, ranges: &ClusterRanges, pods: &PodAddresses, preserved: bool) -> Option<String> {
    if cidr.is_everything() {
        return Some("it admits everybody, which would be an open relay; list the clients' own networks".to_owned());
    }
    if is_wide(&cidr.network()) {
        return Some(format!(
            "it is as wide as a part of the Internet, which would be an open relay; list the clients' own networks, \
             with prefixes of /{SHORTEST_V4} and longer, for IPv6 of /{SHORTEST_V6} and longer"
        ));
    }
    let network = cidr.network();
    if let Some((other, kind)) = nobodys_own(&network) {
        return Some(format!(
            "it meets the {kind} addresses {other}, which are no client's own; list the addresses that the clients appear with"
        ));
    }
    if let Some(range) = ranges.services.iter().find(|range| meets(&network, range)) {
        return Some(format!(
            "it meets the cluster's Service addresses {range}, which no client has; list the clients' own networks"
        ));
    }
    if preserved {
        return None;
    }
    let kinds = [("node", &ranges.nodes), ("pod", &ranges.pods)];
    let met = kinds.into_iter().find_map(|(kind, ranges)| {
        let met = ranges.iter().find(|range| meets(&network, range))?;
        Some(format!("{kind} addresses {met}"))
    });
    let met = met.or_else(|| Some(format!("pod addresses, of which {} is one", pods.first_inside(&network)?)));
    met.map(|met| {
        format!(
            "it meets the cluster's {met}, behind which clients from anywhere may appear; admit pods by podSelector and \
             users by mailboxes, or have the MailServer's SourceIPPreserved become True"
        )
    })
}

/// Networks meet when one contains the other: they never overlap in part.
#[must_use]
pub fn meets(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(cidrs: &[&str]) -> (Vec<String>, Vec<String>) {
        judged_where(false, cidrs)
    }

    fn judged_where(preserved: bool, cidrs: &[&str]) -> (Vec<String>, Vec<String>) {
        let ranges = ClusterRanges {
            nodes: vec!["10.0.0.0/24".parse().unwrap()],
            pods: vec!["10.244.0.0/16".parse().unwrap(), "fd00:10::/56".parse().unwrap()],
            services: vec!["10.96.0.0/12".parse().unwrap()],
            unread: Vec::new(),
        };
        let mut pods = PodAddresses::default();
        for address in ["172.20.3.9", "fd00:20::9"] {
            pods.add(address.parse().unwrap());
        }
        let cidrs: Vec<Cidr> = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        let (effective, rejected) = judge(&cidrs.iter().collect::<Vec<_>>(), &ranges, &pods, preserved);
        (
            effective.iter().map(ToString::to_string).collect(),
            rejected.into_iter().map(|rejected| rejected.network).collect(),
        )
    }

    #[test]
    fn networks_outside_the_cluster_are_admitted_and_those_that_meet_it_are_not() {
        let table: [(&str, &str, bool); 31] = [
            ("a network outside the cluster", "192.0.2.0/24", true),
            ("a network of the other family", "2001:db8::/64", true),
            ("the nodes' network", "10.0.0.0/24", false),
            ("one node", "10.0.0.7/32", false),
            ("a network that holds the nodes'", "10.0.0.0/8", false),
            ("a part of the pods' network", "10.244.3.0/24", false),
            ("a pod's IPv6 address", "fd00:10::5/128", false),
            ("a Service's address", "10.96.0.10/32", false),
            ("a network in which a pod runs, though no node announces it", "172.20.0.0/16", false),
            ("its neighbour", "172.21.0.0/16", true),
            ("the address of that pod", "172.20.3.9/32", false),
            ("the same by IPv6", "fd00:20::/64", false),
            ("a private network", "192.168.0.0/16", true),
            ("all unique local addresses but the cluster's", "fd80::/9", true),
            ("a provider's IPv4 network", "57.0.0.0/8", true),
            ("a provider's IPv6 network", "2a00:1000::/20", true),
            ("two providers' IPv6 networks", "2a00::/19", false),
            ("an address that stands for an IPv4 address by 6to4", "2002:c000:201::/48", false),
            ("the same by NAT64", "64:ff9b::c000:201/128", false),
            ("the same by a NAT64 of one's own", "64:ff9b:1::/64", false),
            ("the same by Teredo", "2001:0:c000:201::/64", false),
            ("what holds Teredo's", "2001::/20", false),
            ("IPv4-compatible addresses", "::192.0.2.0/120", false),
            ("what holds both", "::/3", false),
            ("loopback", "127.0.0.1/32", false),
            ("loopback by IPv6", "::1/128", false),
            ("all of IPv6 that is in use", "2000::/3", false),
            ("a large part of it", "2a00::/12", false),
            ("half of IPv4", "128.0.0.0/1", false),
            ("everybody", "0.0.0.0/0", false),
            ("everybody by IPv6", "::/0", false),
        ];
        for (sentence, cidr, admitted) in table {
            let (effective, rejected) = judged(&[cidr]);
            assert_eq!((effective.len(), rejected.len()), if admitted { (1, 0) } else { (0, 1) }, "{sentence}");
        }
    }

    #[test]
    fn where_addresses_are_preserved_nodes_and_pods_are_admitted_and_services_are_not() {
        for (cidr, admitted) in [
            ("10.0.0.7/32", true),
            ("10.244.0.0/16", true),
            ("172.20.3.9/32", true),
            ("fd00:10::5/128", true),
            ("10.96.0.10/32", false),
            ("10.0.0.0/8", false),
            ("0.0.0.0/0", false),
        ] {
            let (effective, rejected) = judged_where(true, &[cidr]);
            assert_eq!((effective.len(), rejected.len()), if admitted { (1, 0) } else { (0, 1) }, "{cidr}");
        }
    }

    #[test]
    fn one_bad_network_does_not_take_the_good_ones_away() {
        let (effective, rejected) = judged(&["198.51.100.7/24", "10.244.0.0/16", "192.0.2.1/32"]);
        assert_eq!(effective, ["192.0.2.1/32", "198.51.100.0/24"], "host bits are cleared");
        assert_eq!(rejected, ["10.244.0.0/16"]);
    }

    #[test]
    fn only_addresses_of_the_internet_count() {
        for (network, size) in [
            ("192.0.2.7/32", 1),
            ("57.0.0.0/8", 1 << 24),
            ("192.0.0.0/8", (1 << 24) - (1 << 16)),
            ("10.1.0.0/16", 0),
            ("100.64.0.0/10", 0),
            ("0.0.0.0/0", (1 << 32) - (1 << 29) - 3 * (1 << 24) - (1 << 22) - (1 << 20) - 2 * (1 << 16)),
            ("2a00::/20", 1 << 44),
            ("2a00::1/128", 1),
            ("2000::/3", 1 << 61),
            ("fd00::/8", 0),
        ] {
            assert_eq!(public_size(&network.parse().unwrap()), size, "{network}");
        }
    }

    #[test]
    fn the_internet_in_pieces_is_still_the_internet() {
        let (effective, rejected) = judged(&["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/2"]);
        assert!(effective.is_empty());
        assert_eq!(rejected.len(), 3);
    }
}

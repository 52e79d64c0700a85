//! Which addresses mail is sent to. Anybody may publish any address in DNS: a name that leads to this machine, to its
//! neighbours on the link or to nobody must not make the server talk to them. Pure. Used by [`super::next_hops`], and by
//! [`crate::smtp::policy`] for address literals.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Whether mail may be sent to an address: every host of the Internet and of private networks, and what `allowed` names
/// among loopback and link-local addresses.
#[must_use]
pub fn is_permitted(address: IpAddr, allowed: &[IpNet]) -> bool {
    let reached = reached(address);
    let address = address.to_canonical();
    let is_allowed = || allowed.iter().any(|network| network.contains(&address) || network.contains(&reached));
    is_one_host(address) && (!is_local(reached) || is_allowed())
}

/// Neither the unspecified address, nor one of many hosts.
#[must_use]
pub fn is_one_host(address: IpAddr) -> bool {
    let address = reached(address);
    let is_this_network = matches!(address, IpAddr::V4(four) if four.octets()[0] == 0);
    !address.is_unspecified()
        && !is_this_network
        && !address.is_multicast()
        && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Whom a connection reaches in the end: the IPv4 host, where a gateway takes it out of an IPv6 address.
fn reached(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => embedded(six).map_or(IpAddr::V6(six), IpAddr::V4),
        four @ IpAddr::V4(_) => four,
    }
}

/// The IPv4 address within an IPv6 one: NAT64 (RFC 6052 §2.1, RFC 8215), 6to4 (RFC 3056), and the old form
/// (RFC 4291 §2.5.5.1).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let at = |place: usize| Ipv4Addr::new(octets[place], octets[place + 1], octets[place + 2], octets[place + 3]);
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0x64, 0xff9b, 1, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0, ..] => Some(at(12)),
        [0x2002, ..] => Some(at(2)),
        _ => None,
    }
}

/// Loopback and link-local: the machine itself and what stands beside it (clouds give credentials at 169.254.169.254).
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => four.is_loopback() || four.is_link_local(),
        IpAddr::V6(six) => six.is_loopback() || six.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_the_internet_and_of_private_networks_are_permitted() {
        for text in [
            "192.0.2.1",
            "10.0.0.1",
            "172.16.3.4",
            "192.168.1.1",
            "2001:db8::1",
            "fd00::1",
            "100.64.0.1",
            "64:ff9b::c000:201",
        ] {
            assert!(is_permitted(text.parse().unwrap(), &[]), "{text}");
        }
    }

    #[test]
    fn loopback_and_link_local_are_permitted_only_where_the_configuration_names_them() {
        let allowed: Vec<IpNet> = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::1",
        ] {
            assert!(!is_permitted(text.parse().unwrap(), &[]), "{text}");
            assert!(is_permitted(text.parse().unwrap(), &allowed), "{text}");
        }
        for text in ["169.254.169.254", "fe80::1", "64:ff9b::a9fe:a9fe"] {
            assert!(!is_permitted(text.parse().unwrap(), &allowed), "{text}");
        }
    }

    #[test]
    fn addresses_of_nobody_and_of_many_are_never_permitted() {
        let everything: Vec<IpNet> = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        for text in ["0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "64:ff9b::e000:1"] {
            assert!(!is_permitted(text.parse().unwrap(), &everything), "{text}");
        }
    }
}

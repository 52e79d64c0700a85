//! Reverse DNS of a MailServer: each of its public addresses leads to its host name, and that name back to the address
//! (forward-confirmed). Others' servers refuse or distrust mail from an address whose name does not say so. The verdict is
//! pure; [`Looker::look_back`] asks.

use std::net::{IpAddr, Ipv4Addr};

use futures::future::join_all;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use paquebot_crds::conditions::{ConditionType, ConditionUpdate, Reason};

use super::authority::{Several, text_of};
use super::compare::{Answer, list};
use super::seen::Looker;
use super::wanted::ServerAddresses;

const TYPE: ConditionType = ConditionType::ReverseDNSReady;
/// Addresses of one server that are looked at.
const MOST_ADDRESSES: usize = 16;

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reverse {
    /// The MailServer's host name.
    pub hostname: String,
    /// Its public addresses; never empty.
    pub addresses: Vec<IpAddr>,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenReverse {
    /// The names of each address (PTR records).
    pub names: Vec<(IpAddr, Answer<Vec<String>>)>,
    /// The addresses of the host name.
    pub forward: Answer<Vec<IpAddr>>,
}

/// What is to be looked at for a server, or why nothing is.
///
/// # Errors
/// The condition, when there is no address that the world knows.
pub fn wanted(hostname: &str, addresses: &ServerAddresses) -> Result<Reverse, ConditionUpdate> {
    let no_address = |message: &str| Err(ConditionUpdate::unknown(TYPE, Reason::NoPublicAddress, message));
    let list = match addresses {
        ServerAddresses::Unknown => {
            return no_address("The server's Service has no address yet. It is looked up when it has one.");
        }
        ServerAddresses::Inside(_) => {
            return no_address(
                "The server's Service has no address outside the cluster, so that only you know which address mail leaves from: have its PTR record name the host.",
            );
        }
        ServerAddresses::Public(list) => list,
    };
    let public: Vec<IpAddr> = list.iter().filter(|ip| is_public(**ip)).take(MOST_ADDRESSES).copied().collect();
    if public.is_empty() {
        return no_address("The server is reached at private addresses only, which have no names in the world's DNS.");
    }
    Ok(Reverse { hostname: hostname.to_owned(), addresses: public })
}

/// What is reported where nobody looks.
#[must_use]
pub fn disabled() -> ConditionUpdate {
    ConditionUpdate::yes(TYPE, Reason::Disabled, "Reverse DNS is not looked at: spec.dns.mode is Disabled.")
}

/// Whether an address is meant for the whole world: not one of RFC 1918, 6598, 4193, 3927, 4291 or loopback.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip == Ipv4Addr::UNSPECIFIED || shared)
        }
        IpAddr::V6(ip) => {
            !(ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified())
        }
    }
}

/// The name under which an address has its names (RFC 1035 §3.5, RFC 3596 §2.5).
#[must_use]
pub fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            let labels: Vec<String> = nibbles.map(|nibble| format!("{nibble:x}")).collect();
            format!("{}.ip6.arpa", labels.join("."))
        }
    }
}

/// The verdict: the worst of what was seen, with the cure.
#[must_use]
pub fn verdict(wanted: &Reverse, seen: &SeenReverse) -> ConditionUpdate {
    let host = &wanted.hostname;
    let advice =
        |ip: &IpAddr| format!("Have whoever gave you the address publish: {}. IN PTR {host}.", reverse_name(*ip));
    let mut failure = None;
    for (ip, names) in &seen.names {
        match names {
            Answer::Found(names) if names.contains(host) => {}
            Answer::Found(names) => {
                let message =
                    format!("The name of {ip} is {}, not {host}. {}", list(names.iter().cloned()), advice(ip));
                return ConditionUpdate::no(TYPE, Reason::Mismatch, message);
            }
            Answer::Missing => {
                return ConditionUpdate::no(TYPE, Reason::Missing, format!("{ip} has no name (PTR). {}", advice(ip)));
            }
            Answer::Failed(why) => failure = failure.or_else(|| Some(format!("the name of {ip}: {why}"))),
        }
    }
    match &seen.forward {
        Answer::Failed(why) => failure = failure.or_else(|| Some(format!("the addresses of {host}: {why}"))),
        Answer::Missing => {
            let message = format!("{host} has no A or AAAA record, so that the names of its addresses prove nothing.");
            return ConditionUpdate::no(TYPE, Reason::Mismatch, message);
        }
        Answer::Found(forward) => {
            if let Some(ip) = wanted.addresses.iter().find(|ip| !forward.contains(ip)) {
                let seen = list(forward.iter().map(ToString::to_string));
                let message = format!(
                    "The name of {ip} is {host}, whose address is {seen}: add {ip} to the A and AAAA records of {host}."
                );
                return ConditionUpdate::no(TYPE, Reason::Mismatch, message);
            }
        }
    }
    match failure {
        Some(why) => {
            let message = format!("Could not look up {why}. It is tried again.");
            ConditionUpdate::unknown(TYPE, Reason::LookupFailed, message)
        }
        None => {
            let message = format!("Every public address of the server leads to {host} and back.");
            ConditionUpdate::yes(TYPE, Reason::Matches, message)
        }
    }
}

impl Looker {
    /// Looks up the names of the addresses and the addresses of the name. Never fails, as [`Looker::look`].
    pub async fn look_back(&self, wanted: &Reverse) -> SeenReverse {
        let deadline = self.settings.deadline;
        let ask = async {
            let names = join_all(wanted.addresses.iter().map(|ip| self.names_of(*ip)));
            let (names, forward) = tokio::join!(names, self.addresses_of(&wanted.hostname));
            SeenReverse { names, forward }
        };
        tokio::time::timeout(deadline, ask).await.unwrap_or_else(|_| {
            let why = format!("no answer within {} seconds", deadline.as_secs());
            let names = wanted.addresses.iter().map(|ip| (*ip, Answer::Failed(why.clone()))).collect();
            SeenReverse { names, forward: Answer::Failed(why) }
        })
    }

    async fn names_of(&self, ip: IpAddr) -> (IpAddr, Answer<Vec<String>>) {
        let name = reverse_name(ip);
        let place = self.authority.place_of(&name).await;
        let pointer = |record: &Record| match &record.data {
            RData::PTR(target) => Some(text_of(&target.0)),
            _ => None,
        };
        let mut answer = self.authority.ask(&place, &name, RecordType::PTR, Several::Agree, pointer).await;
        if !matches!(answer, Answer::Found(_))
            && let Some(target) = self.authority.alias(&place, &name).await
        {
            // RFC 2317: a network smaller than /24 has its names in a zone of its own.
            let place = self.authority.place_of(&target).await;
            answer = self.authority.ask(&place, &target, RecordType::PTR, Several::Agree, pointer).await;
        }
        (ip, answer)
    }
}

#[cfg(test)]
mod tests {
    use paquebot_crds::conditions::ConditionStatus;
    use proptest::prelude::*;

    use super::*;

    const OUR: &str = "192.0.2.7";

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_public_addresses_are_looked_at() {
        let public = ServerAddresses::Public(addresses(&[OUR, "10.0.0.1", "2001:db8::7", "fd00::1", "100.64.3.3"]));
        let wanted_of = |seen: &ServerAddresses| wanted("mx.a.org", seen);
        assert_eq!(wanted_of(&public).unwrap().addresses, addresses(&[OUR, "2001:db8::7"]));
        for none in [
            ServerAddresses::Unknown,
            ServerAddresses::Inside(addresses(&[OUR])),
            ServerAddresses::Public(addresses(&["192.168.1.9", "fe80::1", "127.0.0.1"])),
            ServerAddresses::Public(Vec::new()),
        ] {
            let update = wanted_of(&none).unwrap_err();
            assert_eq!((update.status, update.reason), (ConditionStatus::Unknown, Reason::NoPublicAddress));
        }
    }

    #[test]
    fn verdicts_have_their_reasons() {
        use ConditionStatus::{False, True, Unknown};
        let wanted = Reverse { hostname: "mx.a.org".to_owned(), addresses: addresses(&[OUR]) };
        let names = |names: &[&str]| Answer::Found(names.iter().map(|&name| name.to_owned()).collect());
        let forward = |texts: &[&str]| Answer::Found(addresses(texts));
        let failed = || Answer::Failed("SERVFAIL".to_owned());
        for (seen, back, status, reason, words) in [
            (names(&["mx.a.org"]), forward(&[OUR]), True, Reason::Matches, "and back"),
            (names(&["old.a.org", "mx.a.org"]), forward(&["192.0.2.1", OUR]), True, Reason::Matches, ""),
            (Answer::Missing, forward(&[OUR]), False, Reason::Missing, "7.2.0.192.in-addr.arpa. IN PTR mx.a.org."),
            (names(&["host7.isp.net"]), forward(&[OUR]), False, Reason::Mismatch, "host7.isp.net"),
            (names(&["mx.a.org"]), forward(&["192.0.2.1"]), False, Reason::Mismatch, "add 192.0.2.7"),
            (names(&["mx.a.org"]), Answer::Missing, False, Reason::Mismatch, "no A or AAAA"),
            (failed(), forward(&[OUR]), Unknown, Reason::LookupFailed, "SERVFAIL"),
            (names(&["mx.a.org"]), Answer::Failed("SERVFAIL".to_owned()), Unknown, Reason::LookupFailed, "mx.a.org"),
            (failed(), forward(&["192.0.2.1"]), False, Reason::Mismatch, "add 192.0.2.7"),
        ] {
            let found = verdict(&wanted, &SeenReverse { names: vec![(wanted.addresses[0], seen)], forward: back });
            assert_eq!((found.status, found.reason), (status, reason), "{}", found.message);
            assert!(found.message.contains(words), "{}", found.message);
        }
    }

    #[test]
    fn names_of_addresses_are_those_of_the_standards() {
        assert_eq!(reverse_name("192.0.2.7".parse().unwrap()), "7.2.0.192.in-addr.arpa");
        let long = reverse_name("2001:db8::567:89ab".parse().unwrap());
        assert_eq!(long, "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
    }

    proptest! {
        #[test]
        fn any_address_has_a_name(v4 in any::<[u8; 4]>(), v6 in any::<[u8; 16]>()) {
            prop_assert_eq!(reverse_name(IpAddr::from(v4)).split('.').count(), 6);
            prop_assert_eq!(reverse_name(IpAddr::from(v6)).split('.').count(), 34);
        }
    }
}

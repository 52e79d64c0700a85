//! Where mail for a domain goes (RFC 5321 §5, RFC 7505). Pure: DNS answers and chance are arguments; [`super::resolver`]
//! asks the questions. First [`exchanges`] turns the answer for MX into names, then [`next_hops`] turns the answers for
//! their addresses into an ordered list. [`way`] says where a smart host stands in for all of that, [`address`] which
//! addresses are never spoken to.

pub mod address;
pub mod way;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use paquebot_config::Domain;

use self::address::{is_one_host, is_permitted};

use super::status::Refusal;

/// Addresses that are tried for one destination at most: a domain with hundreds must not hold a delivery for hours.
const MAX_HOPS: usize = 10;
/// Mail exchangers whose addresses are looked up at most, for the same reason.
const MAX_EXCHANGES: usize = 10;

/// What DNS said to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// Records, aliases followed; may be none though the name exists.
    Records(Vec<T>),
    /// The name does not exist (NXDOMAIN).
    NoSuchName,
    /// No answer could be had: SERVFAIL, REFUSED, a time-out.
    Failed(String),
}

/// An MX record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailExchanger {
    /// Lower is tried first.
    pub preference: u16,
    /// The host, without a trailing dot; empty stands for the root, which a null MX names.
    pub host: String,
}

/// A server to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// Its name, as the MX record gives it.
    pub host: String,
    /// One of its addresses.
    pub address: IpAddr,
}

/// Where to look for addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchanges {
    /// These hosts, in the order in which they are tried.
    Hosts(Vec<String>),
    /// The domain is an address literal (RFC 5321 §4.1.3): no DNS is needed.
    Literal(IpAddr),
}

/// The hosts that take mail for `domain`, from what DNS said to the question for its MX records. `own_names` are those
/// by which this server is known.
///
/// # Errors
/// The reply that every recipient of the domain gets.
pub fn exchanges(
    domain: &Domain,
    answer: Answer<MailExchanger>,
    own_names: &[&str],
    random: u64,
) -> Result<Exchanges, Refusal> {
    if domain.is_literal() {
        let refusal = || Refusal::permanent(1, 2, format!("{domain} is not the address of a host"));
        return literal(domain).map(Exchanges::Literal).ok_or_else(refusal);
    }
    let mut records = match answer {
        Answer::Records(records) => records,
        Answer::NoSuchName => return Err(no_such_domain(domain)),
        Answer::Failed(reason) => {
            return Err(Refusal::transient(
                4,
                3,
                format!("the MX records of {domain} could not be looked up: {reason}"),
            ));
        }
    };
    if records.is_empty() {
        // RFC 5321 §5.1: the domain itself is its only exchanger, with preference 0.
        records.push(MailExchanger { preference: 0, host: domain.as_str().to_owned() });
    }
    if records.iter().all(|record| record.host.is_empty()) {
        let text = format!("{domain} does not accept mail (null MX)");
        return Err(Refusal { code: 556, ..Refusal::permanent(1, 10, text) });
    }
    // RFC 7505 §3 forbids a null MX beside others; those are what the owner means.
    records.retain(|record| !record.host.is_empty());
    cut_at_own_name(domain, &mut records, own_names)?;
    let mut chance = Chance(random);
    chance.shuffle(&mut records);
    records.sort_by_key(|record| record.preference);
    records.truncate(MAX_EXCHANGES);
    Ok(Exchanges::Hosts(records.into_iter().map(|record| record.host).collect()))
}

/// RFC 5321 §5.1: where this server is among the exchangers, those of its own preference and worse ones are not tried:
/// they would send the mail back to it.
fn cut_at_own_name(domain: &Domain, records: &mut Vec<MailExchanger>, own_names: &[&str]) -> Result<(), Refusal> {
    let is_own = |record: &&MailExchanger| own_names.iter().any(|own| record.host.eq_ignore_ascii_case(own));
    let Some(own) = records.iter().filter(is_own).map(|record| record.preference).min() else { return Ok(()) };
    records.retain(|record| record.preference < own);
    if records.is_empty() {
        let text = format!(
            "the best mail exchanger of {domain} is this server, which does not serve that domain: mail would loop"
        );
        return Err(Refusal::permanent(4, 6, text));
    }
    Ok(())
}

/// The servers to try, in order, from what DNS said about the addresses of each host. Loopback and link-local addresses
/// count only where `allowed` names them.
///
/// # Errors
/// When no host has an address: for good when DNS said so for each, else for now.
pub fn next_hops(
    domain: &Domain,
    hosts: Vec<(String, Answer<IpAddr>)>,
    allowed: &[IpNet],
    random: u64,
) -> Result<Vec<NextHop>, Refusal> {
    let mut chance = Chance(random);
    let (mut hops, mut failure, mut missing, mut forbidden) = (Vec::new(), None, 0, None);
    let asked = hosts.len();
    for (host, answer) in hosts {
        match answer {
            Answer::Records(mut addresses) => {
                addresses.retain(|address| {
                    let is_permitted = is_permitted(*address, allowed);
                    if !is_permitted {
                        forbidden = Some(*address);
                    }
                    is_permitted
                });
                let usable = in_order(addresses, &mut chance);
                hops.extend(usable.into_iter().map(|address| NextHop { host: host.clone(), address }));
            }
            Answer::NoSuchName => missing += 1,
            Answer::Failed(reason) => failure = Some(format!("the address of {host} could not be looked up: {reason}")),
        }
    }
    hops.truncate(MAX_HOPS);
    if !hops.is_empty() {
        return Ok(hops);
    }
    Err(match failure {
        Some(reason) => Refusal::transient(4, 3, reason),
        None if missing == 1 && asked == 1 => no_such_domain(domain),
        None => match forbidden {
            Some(address) => Refusal::permanent(4, 4, not_a_host(domain, address)),
            None => Refusal::permanent(4, 4, format!("no mail exchanger of {domain} has an address")),
        },
    })
}

/// IPv6 and IPv4 in turn, so that a family without a way out costs one attempt, not all; equals in random order.
fn in_order(addresses: Vec<IpAddr>, chance: &mut Chance) -> Vec<IpAddr> {
    let (mut six, mut four): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    chance.shuffle(&mut six);
    chance.shuffle(&mut four);
    let length = six.len().max(four.len());
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    (0..length).flat_map(|_| [six.next(), four.next()]).flatten().collect()
}

/// Why the addresses that a domain has are of no use.
fn not_a_host(domain: &Domain, address: IpAddr) -> String {
    let what = if is_one_host(address) { "the sending server's own machine or network" } else { "no single host" };
    format!("mail for {domain} cannot be routed: its address {address} means {what}")
}

/// The address that an address literal (RFC 5321 §4.1.3) means; `None` for names and for addresses of no host.
#[must_use]
pub fn literal(domain: &Domain) -> Option<IpAddr> {
    let inside = domain.as_str().strip_prefix('[')?.strip_suffix(']')?;
    let address = match inside.strip_prefix("ipv6:") {
        Some(text) => text.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
        None => inside.parse::<Ipv4Addr>().map(IpAddr::V4).ok(),
    };
    address.filter(|address| is_one_host(*address))
}

fn no_such_domain(domain: &Domain) -> Refusal {
    Refusal::permanent(1, 2, format!("the domain {domain} does not exist"))
}

/// Numbers from a seed (SplitMix64): chance that a test can repeat.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Fisher and Yates.
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.next() % (last as u64 + 1)).unwrap_or(0);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    fn mx(records: &[(u16, &str)]) -> Answer<MailExchanger> {
        let record =
            |(preference, host): &(u16, &str)| MailExchanger { preference: *preference, host: (*host).to_owned() };
        Answer::Records(records.iter().map(record).collect())
    }

    fn route(answer: Answer<MailExchanger>, random: u64) -> Result<Vec<String>, Refusal> {
        match exchanges(&domain("d.example"), answer, &["me.example"], random)? {
            Exchanges::Hosts(hosts) => Ok(hosts),
            Exchanges::Literal(address) => panic!("{address}"),
        }
    }

    fn refused(outcome: Result<Vec<String>, Refusal>) -> (u16, String) {
        let refusal = outcome.unwrap_err();
        (refusal.code, refusal.status())
    }

    #[test]
    fn rfc_5321_5_1_preference_orders_and_equals_are_shuffled() {
        let records = [(20, "c"), (10, "a"), (10, "b"), (5, "first")];
        let mut orders = std::collections::HashSet::new();
        for random in 0..64 {
            let hosts = route(mx(&records), random).unwrap();
            assert_eq!((hosts[0].as_str(), hosts[3].as_str()), ("first", "c"));
            orders.insert(hosts);
        }
        assert_eq!(orders.len(), 2, "both orders of the equals are taken");
    }

    #[test]
    fn rfc_5321_5_1_without_mx_the_domain_is_its_own_exchanger() {
        assert_eq!(route(mx(&[]), 0).unwrap(), ["d.example"]);
    }

    #[test]
    fn rfc_7505_a_null_mx_refuses_for_good() {
        assert_eq!(refused(route(mx(&[(0, "")]), 0)), (556, "5.1.10".to_owned()));
        assert_eq!(route(mx(&[(0, ""), (10, "a")]), 0).unwrap(), ["a"]);
    }

    #[test]
    fn rfc_5321_5_1_our_own_name_cuts_the_list() {
        let records = [(10, "a"), (20, "ME.example"), (20, "equal"), (30, "worse")];
        assert_eq!(route(mx(&records), 3).unwrap(), ["a"]);
        assert_eq!(refused(route(mx(&[(10, "me.example"), (20, "worse")]), 0)), (550, "5.4.6".to_owned()));
        let implicit = exchanges(&domain("me.example"), mx(&[]), &["me.example"], 0);
        assert_eq!(implicit.unwrap_err().status(), "5.4.6");
    }

    #[test]
    fn a_name_that_does_not_exist_bounces_and_a_failing_resolver_defers() {
        assert_eq!(refused(route(Answer::NoSuchName, 0)), (550, "5.1.2".to_owned()));
        assert_eq!(refused(route(Answer::Failed("SERVFAIL".to_owned()), 0)), (451, "4.4.3".to_owned()));
    }

    #[test]
    fn rfc_5321_4_1_3_address_literals_need_no_dns() {
        let found = |text| exchanges(&domain(text), Answer::NoSuchName, &[], 0);
        assert_eq!(found("[192.0.2.1]"), Ok(Exchanges::Literal("192.0.2.1".parse().unwrap())));
        assert_eq!(found("[IPv6:2001:db8::1]"), Ok(Exchanges::Literal("2001:db8::1".parse().unwrap())));
        assert_eq!(found("[0.0.0.0]").unwrap_err().status(), "5.1.2");
    }

    fn addresses(list: &[&str]) -> Answer<IpAddr> {
        Answer::Records(list.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn hops(hosts: Vec<(&str, Answer<IpAddr>)>) -> Result<Vec<String>, Refusal> {
        let hosts = hosts.into_iter().map(|(host, answer)| (host.to_owned(), answer)).collect();
        Ok(next_hops(&domain("d.example"), hosts, &[], 1)?
            .into_iter()
            .map(|hop| format!("{} {}", hop.host, hop.address))
            .collect())
    }

    #[test]
    fn addresses_keep_the_order_of_their_hosts_and_the_families_take_turns() {
        let found = hops(vec![
            ("a", addresses(&["192.0.2.1", "2001:db8::1", "192.0.2.1"])),
            ("gone", Answer::NoSuchName),
            ("slow", Answer::Failed("time-out".to_owned())),
            ("b", addresses(&["192.0.2.2", "0.0.0.0", "224.0.0.1"])),
        ]);
        assert_eq!(found.unwrap(), ["a 2001:db8::1", "a 192.0.2.1", "a 192.0.2.1", "b 192.0.2.2"]);
    }

    #[test]
    fn addresses_of_this_machine_are_no_next_hops() {
        let refusal = hops(vec![("a", addresses(&["127.0.0.1", "::1", "169.254.1.1"]))]).unwrap_err();
        assert_eq!(refusal.status(), "5.4.4");
        assert!(refusal.text.contains("own machine"), "{}", refusal.text);
        assert_eq!(hops(vec![("a", addresses(&["127.0.0.1", "10.0.0.1"]))]).unwrap(), ["a 10.0.0.1"]);
    }

    #[test]
    fn hosts_without_addresses_bounce_unless_dns_may_know_more_later() {
        let status = |hosts| hops(hosts).unwrap_err().status();
        assert_eq!(status(vec![("d.example", Answer::NoSuchName)]), "5.1.2");
        assert_eq!(status(vec![("a", Answer::NoSuchName), ("b", addresses(&[]))]), "5.4.4");
        assert_eq!(status(vec![("a", Answer::NoSuchName), ("b", Answer::Failed("time-out".to_owned()))]), "4.4.3");
    }

    proptest! {
        #[test]
        fn any_records_give_a_sorted_bounded_list_without_ourselves(
            records in prop::collection::vec((0..4_u16, "[a-d]|me.example|"), 0..40), random: u64,
        ) {
            let list: Vec<(u16, &str)> = records.iter().map(|(preference, host)| (*preference, host.as_str())).collect();
            if let Ok(hosts) = route(mx(&list), random) {
                prop_assert!(!hosts.is_empty() && hosts.len() <= MAX_EXCHANGES);
                prop_assert!(hosts.iter().all(|host| host != "me.example" && !host.is_empty()));
                let best = list.iter().filter(|(_, host)| !host.is_empty()).map(|(preference, _)| preference).min();
                prop_assert!(list.is_empty() || list.iter().any(|(p, host)| Some(p) == best && *host == hosts[0]));
            }
        }
    }
}

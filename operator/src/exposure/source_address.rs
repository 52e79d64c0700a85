//! `SourceIPPreserved`: whether clients appear at the pods with their own addresses. Decided by the way to the pods, as
//! the Service and the listeners have it, and by what the servers saw.
//!
//! What counts as proof (docs/exposure.md tells people):
//! - The way must keep addresses: `externalTrafficPolicy: Local`, or a PROXY header on every port that takes mail.
//! - A client from outside the cluster must have been seen to appear so. A promise alone is none: load balancers may hide
//!   their clients in front of any Service. Without PROXY headers it must be a client of the Internet: a private address
//!   may be that of a load balancer which hides everybody, or of a health check.
//! - No client may have appeared with a node's address within the last hour. A program on a node's own network looks the
//!   same as a client that is hidden behind the node, and counts as one: to refuse is the safe side.
//!
//! What was once proven holds while the way stays the same, so that a restart or a quiet night changes nothing; what
//! speaks against it counts at once.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use paquebot_crds::conditions::{ConditionType, ConditionUpdate, Reason};
use paquebot_crds::mail_server::{Listener, ProxyProtocolMode};
use tokio::time::Instant;

use super::peers::{Known, Origin, Peers, takes_mail};
use crate::directory::{ClusterRanges, meets};
use crate::render;

const TYPE: ConditionType = ConditionType::SourceIPPreserved;
/// How long a client that appeared with a node's address speaks against the proof.
const HELD_AGAINST: Duration = Duration::from_secs(3600);

/// How long what an earlier process has held against it stands at least, so that the pods can be asked who came since.
const UNTIL_ASKED: Duration = Duration::from_secs(300);

/// How clients come to the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From inside the cluster only.
    Inside,
    /// Through node ports or a load balancer, whose clients keep their addresses.
    Local,
    /// The same, but they do not keep them.
    Cluster,
    /// A proxy says who they are.
    Proxy,
    /// It would, but whoever reaches a node port may say so too.
    Forgeable,
}

/// The way that a Service and listeners make.
#[must_use]
pub fn way(service: &Service, listeners: &[Listener], ranges: &ClusterRanges) -> Way {
    let spec = service.spec.as_ref();
    let outside = !matches!(spec.and_then(|spec| spec.type_.as_deref()), None | Some("ClusterIP"));
    let local = spec.and_then(|spec| spec.external_traffic_policy.as_deref()) == Some("Local");
    let taking_mail = || listeners.iter().filter(|listener| takes_mail(render::protocol(listener.protocol)));
    let proxied = |listener: &Listener| listener.proxy_protocol.mode == ProxyProtocolMode::Required;
    if taking_mail().next().is_some() && taking_mail().all(proxied) {
        let trusted = taking_mail().flat_map(|listener| &listener.proxy_protocol.trusted_cidrs);
        let mut own = trusted.map(paquebot_crds::Cidr::network).filter(|network| meets_own(network, ranges));
        return if outside && !local && own.next().is_some() { Way::Forgeable } else { Way::Proxy };
    }
    match (outside, local) {
        (false, _) => Way::Inside,
        (true, true) => Way::Local,
        (true, false) => Way::Cluster,
    }
}

/// The addresses of the load balancer in front of a Service.
#[must_use]
pub fn balancers(service: &Service) -> BTreeSet<IpAddr> {
    let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    ingress.into_iter().flatten().filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect()
}

/// Whether a network holds addresses that a node may lend to a client.
fn meets_own(network: &IpNet, ranges: &ClusterRanges) -> bool {
    let mut own = ranges.nodes.iter().chain(&ranges.pods);
    own.any(|range| meets(network, range))
}

/// What was seen of one server's clients.
#[derive(Debug, Clone, Default)]
pub struct SourceAddress {
    way: Option<Way>,
    /// When the way became another; what was seen before says nothing of it.
    since: Option<Instant>,
    /// A client kept its own address.
    kept: bool,
    /// A client appeared with a node's address: when last, and what is said of it.
    hidden: Option<(Instant, String)>,
    /// What an earlier process has said, and since when it has.
    carried: Option<(Reason, String, Instant)>,
}

impl SourceAddress {
    /// Goes on from what an earlier process has said since a time.
    #[must_use]
    pub fn carried(reason: Reason, message: String, since: Instant) -> Self {
        Self { carried: Some((reason, message, since)), ..Self::default() }
    }

    /// Takes in the way that clients come; `None`: there is no Service.
    pub fn set_way(&mut self, way: Option<Way>, now: Instant) {
        if way == self.way || way.is_none() {
            return;
        }
        if self.way.is_some() {
            *self = Self { way, since: Some(now), ..Self::default() };
            return;
        }
        self.way = way;
        match (self.carried.take(), way) {
            // The pods still know of clients that came since, and are asked soon.
            (Some((Reason::ObservedNodeSourceIP, message, since)), _) => {
                let soon = now.checked_sub(HELD_AGAINST - UNTIL_ASKED).unwrap_or(now);
                self.hidden = Some((since.max(soon), message));
            }
            (Some((Reason::TrafficPolicyLocal, ..)), Some(Way::Local))
            | (Some((Reason::ProxyProtocol, ..)), Some(Way::Proxy)) => self.kept = true,
            // Another way than that process saw.
            (Some(_), _) => self.since = Some(now),
            (None, _) => {}
        }
    }

    /// Takes in what a pod has seen.
    pub fn observe(&mut self, peers: &Peers, known: &Known, now: Instant) {
        let Some(way) = self.way else { return };
        for (listener, peer) in peers.listeners.iter().flat_map(|of| of.peers.iter().map(move |peer| (of, peer))) {
            let seen = now.checked_sub(Duration::from_secs(peer.seconds_ago)).unwrap_or(now);
            let is_old = self.since.is_some_and(|since| seen <= since) || now.duration_since(seen) >= HELD_AGAINST;
            // A proxy that speaks for itself is no client.
            let speaks = peer.by_proxy == listener.proxy_protocol;
            let counts = way != Way::Proxy || (peer.by_proxy && takes_mail(listener.protocol));
            if is_old || !speaks || !counts || peer.address == peers.client {
                continue;
            }
            match known.origin(peer.address) {
                Origin::Node => self.hide(peer.address, seen),
                Origin::Outside => self.kept |= way == Way::Proxy || known.is_client_of_the_internet(peer.address),
                // That a proxy says it is what is to be seen, wherever its client is.
                Origin::Inside => self.kept |= way == Way::Proxy,
                Origin::Unsaid => {}
            }
        }
    }

    fn hide(&mut self, address: IpAddr, seen: Instant) {
        match &mut self.hidden {
            Some((last, _)) => *last = seen.max(*last),
            None => {
                let message = format!(
                    "A client appeared with the address {address}, which is a node's: anybody may stand behind it, so that relay \
                     rules cannot tell clients apart by CIDR. Keep what is between clients and the Service from hiding \
                     addresses, or use the PROXY protocol. A program on a node's own network looks the same; the finding \
                     goes an hour after the last such client."
                );
                self.hidden = Some((seen, message));
            }
        }
    }

    /// The condition.
    #[must_use]
    pub fn condition(&mut self, ranges: &ClusterRanges, now: Instant) -> ConditionUpdate {
        if self.hidden.as_ref().is_some_and(|(last, _)| now.duration_since(*last) >= HELD_AGAINST) {
            self.hidden = None;
        }
        let unknown = |message: &str| ConditionUpdate::unknown(TYPE, Reason::NoTrafficYet, message);
        let Some(way) = self.way else {
            return ConditionUpdate::unknown(TYPE, Reason::Pending, "The Service has not been seen yet.");
        };
        match (way, &self.hidden) {
            (Way::Cluster, _) => ConditionUpdate::no(
                TYPE,
                Reason::TrafficPolicyCluster,
                "The Service has externalTrafficPolicy Cluster, so that clients appear with a node's address: relay rules by CIDR cannot tell them apart. Set spec.service.externalTrafficPolicy to Local.",
            ),
            (Way::Forgeable, _) => ConditionUpdate::no(
                TYPE,
                Reason::TrafficPolicyCluster,
                "The Service has externalTrafficPolicy Cluster and the listeners' trustedCIDRs hold addresses of nodes or pods: whoever reaches a node port appears with one, and may send any PROXY header. Set spec.service.externalTrafficPolicy to Local, or trust the load balancers' own addresses only.",
            ),
            (_, Some((_, message))) => ConditionUpdate::no(TYPE, Reason::ObservedNodeSourceIP, message.clone()),
            (Way::Inside, None) => unknown(
                "The Service is for clients inside the cluster; that their addresses are kept cannot be proven there. Admit pods by podSelector.",
            ),
            (_, None) if ranges.unread.contains(&"Node") => unknown(
                "The operator knows no nodes (it may not list them), so that it cannot tell their addresses from those of clients.",
            ),
            (Way::Local, None) if self.kept => ConditionUpdate::yes(
                TYPE,
                Reason::TrafficPolicyLocal,
                "The Service has externalTrafficPolicy Local, and clients of the Internet were seen with their own addresses.",
            ),
            (Way::Proxy, None) if self.kept => ConditionUpdate::yes(
                TYPE,
                Reason::ProxyProtocol,
                "Every port that takes mail requires a PROXY header, and trusted proxies were seen to send it.",
            ),
            (Way::Local, None) => unknown(
                "The Service has externalTrafficPolicy Local, but no client of the Internet has connected yet to show that it keeps its address. Private addresses show nothing: a load balancer that hides its clients has one too.",
            ),
            (Way::Proxy, None) => {
                unknown("Every port that takes mail requires a PROXY header, but no trusted proxy has sent one yet.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use paquebot_crds::conditions::ConditionStatus;
    use serde_json::json;

    use super::*;

    fn known() -> Known {
        Known {
            ranges: ClusterRanges {
                nodes: vec!["10.0.0.5/32".parse().unwrap()],
                pods: vec!["10.244.3.0/24".parse().unwrap()],
                services: vec!["10.96.0.0/12".parse().unwrap()],
                unread: Vec::new(),
            },
            balancers: BTreeSet::from(["198.51.100.4".parse().unwrap()]),
            ..Known::default()
        }
    }

    /// Clients of the SMTP port; `~` before an address: a proxy says so.
    fn seen(required: bool, clients: &[(&str, u64)]) -> Peers {
        let peers: Vec<_> = clients
            .iter()
            .map(|(address, seconds)| {
                json!({"address": address.trim_start_matches('~'), "byProxy": address.starts_with('~'),
                    "connections": 1, "secondsAgo": seconds})
            })
            .collect();
        serde_json::from_value(json!({"client": "10.244.3.9", "listeners": [
            {"name": "smtp", "protocol": "SMTP", "proxyProtocol": required, "peers": peers}]}))
        .unwrap()
    }

    fn words(source: &mut SourceAddress, now: Instant) -> (ConditionStatus, Reason) {
        let update = source.condition(&known().ranges, now);
        (update.status, update.reason)
    }

    #[test]
    fn what_clients_show_is_judged_by_the_way_they_come() {
        use ConditionStatus::{False, True, Unknown};
        let now = Instant::now();
        for (way, required, clients, expected) in [
            (Way::Local, false, &[][..], (Unknown, Reason::NoTrafficYet)),
            (Way::Local, false, &[("203.0.113.9", 5)], (True, Reason::TrafficPolicyLocal)),
            (Way::Local, false, &[("10.244.3.7", 5)], (Unknown, Reason::NoTrafficYet)),
            (Way::Local, false, &[("10.0.7.12", 5), ("192.168.1.2", 5)], (Unknown, Reason::NoTrafficYet)),
            (Way::Local, false, &[("100.64.0.1", 5), ("fd12::7", 5)], (Unknown, Reason::NoTrafficYet)),
            (Way::Local, false, &[("::ffff:10.0.7.12", 5)], (Unknown, Reason::NoTrafficYet)),
            (Way::Local, false, &[("198.51.100.4", 5)], (Unknown, Reason::NoTrafficYet)),
            (Way::Local, false, &[("198.51.100.4", 5), ("2001:db8::9", 5)], (True, Reason::TrafficPolicyLocal)),
            (Way::Proxy, true, &[("~10.0.7.12", 5)], (True, Reason::ProxyProtocol)),
            (Way::Local, false, &[("10.244.3.9", 5)], (Unknown, Reason::NoTrafficYet)),
            (Way::Local, false, &[("203.0.113.9", 5), ("10.0.0.5", 9)], (False, Reason::ObservedNodeSourceIP)),
            (Way::Local, false, &[("10.244.3.1", 5)], (False, Reason::ObservedNodeSourceIP)),
            (Way::Local, false, &[("203.0.113.9", 5), ("10.0.0.5", 3600)], (True, Reason::TrafficPolicyLocal)),
            (Way::Cluster, false, &[("203.0.113.9", 5)], (False, Reason::TrafficPolicyCluster)),
            (Way::Forgeable, true, &[("~203.0.113.9", 5)], (False, Reason::TrafficPolicyCluster)),
            (Way::Inside, false, &[("10.244.3.7", 5)], (Unknown, Reason::NoTrafficYet)),
            (Way::Inside, false, &[("10.0.0.5", 5)], (False, Reason::ObservedNodeSourceIP)),
            (Way::Proxy, true, &[], (Unknown, Reason::NoTrafficYet)),
            (Way::Proxy, true, &[("~203.0.113.9", 5)], (True, Reason::ProxyProtocol)),
            (Way::Proxy, true, &[("10.0.0.5", 5)], (Unknown, Reason::NoTrafficYet)),
            (Way::Proxy, true, &[("~0.0.0.0", 5)], (Unknown, Reason::NoTrafficYet)),
            (Way::Proxy, true, &[("~203.0.113.9", 5), ("~10.0.0.5", 5)], (False, Reason::ObservedNodeSourceIP)),
        ] {
            let mut source = SourceAddress::default();
            source.set_way(Some(way), now);
            source.observe(&seen(required, clients), &known(), now);
            assert_eq!(words(&mut source, now), expected, "{way:?} {clients:?}");
        }
    }

    #[test]
    fn what_is_proven_holds_and_what_is_hidden_is_held_against_it_for_an_hour() {
        use ConditionStatus::{False, True, Unknown};
        let begin = Instant::now() + Duration::from_secs(86_400);
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut source = SourceAddress::default();
        source.set_way(Some(Way::Local), begin);
        source.observe(&seen(false, &[("203.0.113.9", 0)]), &known(), begin);
        source.observe(&seen(false, &[]), &known(), at(9000));
        assert_eq!(words(&mut source, at(9000)).0, True, "a quiet night changes nothing");
        source.observe(&seen(false, &[("10.0.0.5", 100)]), &known(), at(10_000));
        let first = source.condition(&known().ranges, at(10_000));
        assert_eq!(first.status, False);
        source.observe(&seen(false, &[("10.244.3.1", 0)]), &known(), at(11_000));
        assert_eq!(source.condition(&known().ranges, at(11_000)), first, "the words do not follow each client");
        assert_eq!(words(&mut source, at(14_599)).0, False);
        assert_eq!(words(&mut source, at(14_600)).0, True);

        // Another way begins anew: what was seen before says nothing of it.
        source.set_way(Some(Way::Cluster), at(15_000));
        source.set_way(Some(Way::Local), at(15_010));
        source.observe(&seen(false, &[("203.0.113.9", 30), ("10.0.0.5", 30)]), &known(), at(15_030));
        assert_eq!(words(&mut source, at(15_030)), (Unknown, Reason::NoTrafficYet));
        source.observe(&seen(false, &[("203.0.113.9", 5)]), &known(), at(15_040));
        assert_eq!(words(&mut source, at(15_040)).0, True);
    }

    #[test]
    fn an_earlier_process_word_counts_while_the_way_is_the_same() {
        use ConditionStatus::{False, True, Unknown};
        let now = Instant::now();
        for (reason, way, expected) in [
            (Reason::TrafficPolicyLocal, Way::Local, True),
            (Reason::TrafficPolicyLocal, Way::Cluster, False),
            (Reason::TrafficPolicyLocal, Way::Proxy, Unknown),
            (Reason::ProxyProtocol, Way::Proxy, True),
            (Reason::ProxyProtocol, Way::Local, Unknown),
            (Reason::NoTrafficYet, Way::Local, Unknown),
            (Reason::ObservedNodeSourceIP, Way::Local, False),
        ] {
            let mut source = SourceAddress::carried(reason, "as it was said".to_owned(), now);
            source.set_way(Some(way), now);
            let update = source.condition(&known().ranges, now);
            assert_eq!(update.status, expected, "{reason} {way:?}");
            assert!(reason != Reason::ObservedNodeSourceIP || update.message == "as it was said");
        }
    }

    #[test]
    fn restarts_do_not_hold_a_hidden_client_against_it_for_ever() {
        let begin = Instant::now() + Duration::from_secs(86_400);
        let at = |seconds| begin + Duration::from_secs(seconds);
        let restarted = |now| {
            let mut source = SourceAddress::carried(Reason::ObservedNodeSourceIP, "as it was said".to_owned(), begin);
            source.set_way(Some(Way::Local), now);
            source
        };
        let mut source = restarted(at(1800));
        assert_eq!(words(&mut source, at(3599)).1, Reason::ObservedNodeSourceIP);
        assert_eq!(words(&mut source, at(3600)).1, Reason::NoTrafficYet, "the hour began before the restart");
        // Said for longer than that: there were others since, whom the pods may know.
        let mut source = restarted(at(9000));
        assert_eq!(words(&mut source, at(9299)).1, Reason::ObservedNodeSourceIP);
        source.observe(&seen(false, &[("10.0.0.5", 600)]), &known(), at(9200));
        assert_eq!(words(&mut source, at(12_199)).1, Reason::ObservedNodeSourceIP);
        assert_eq!(words(&mut source, at(12_200)).1, Reason::NoTrafficYet);
        assert_eq!(words(&mut restarted(at(9000)), at(9300)).1, Reason::NoTrafficYet);
    }

    #[test]
    fn without_nodes_nothing_is_proven() {
        let now = Instant::now();
        let mut source = SourceAddress::default();
        source.set_way(Some(Way::Local), now);
        source.observe(&seen(false, &[("203.0.113.9", 0)]), &known(), now);
        let ranges = ClusterRanges { unread: vec!["Node"], ..ClusterRanges::default() };
        assert_eq!(source.condition(&ranges, now).status, ConditionStatus::Unknown);
    }

    #[test]
    fn the_load_balancers_addresses_are_those_of_the_service() {
        let service =
            json!({"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.4"}, {"hostname": "lb.example"}]}}});
        let addresses = balancers(&serde_json::from_value(service).unwrap());
        assert_eq!(addresses, BTreeSet::from(["198.51.100.4".parse().unwrap()]));
        assert!(balancers(&Service::default()).is_empty());
    }

    #[test]
    fn the_way_follows_from_the_service_and_the_listeners() {
        let ranges = known().ranges;
        let listener = |name: &str, protocol: &str, trusted: Option<&str>| -> Listener {
            let proxy = trusted.map_or(json!({}), |cidr| json!({"mode": "Required", "trustedCIDRs": [cidr]}));
            serde_json::from_value(json!({"name": name, "protocol": protocol, "port": 25, "proxyProtocol": proxy}))
                .unwrap()
        };
        let plain = vec![listener("smtp", "SMTP", None), listener("pop3", "POP3", None)];
        let balanced = vec![listener("smtp", "SMTP", Some("192.0.2.0/24")), listener("pop3", "POP3", None)];
        let half = vec![listener("smtp", "SMTP", Some("192.0.2.0/24")), listener("submission", "Submission", None)];
        let nodes = vec![listener("smtp", "SMTP", Some("10.0.0.0/16"))];
        for (kind, policy, listeners, expected) in [
            ("ClusterIP", None, &plain, Way::Inside),
            ("NodePort", Some("Local"), &plain, Way::Local),
            ("LoadBalancer", Some("Cluster"), &plain, Way::Cluster),
            ("LoadBalancer", None, &plain, Way::Cluster),
            ("LoadBalancer", Some("Cluster"), &balanced, Way::Proxy),
            ("ClusterIP", None, &balanced, Way::Proxy),
            ("LoadBalancer", Some("Cluster"), &half, Way::Cluster),
            ("LoadBalancer", Some("Cluster"), &nodes, Way::Forgeable),
            ("LoadBalancer", Some("Local"), &nodes, Way::Proxy),
        ] {
            let service = serde_json::from_value(json!({"spec": {"type": kind, "externalTrafficPolicy": policy}}));
            assert_eq!(way(&service.unwrap(), listeners, &ranges), expected, "{kind} {policy:?} {listeners:?}");
        }
    }
}

//! How much of the Internet the RelayPolicies of one MailServer may admit by `cidrs`. A list of networks that leaves out a few
//! admits everybody all the same, and so do several policies that share the Internet among them: therefore what counts is
//! how many public addresses they admit together. [`super::budget`] says who goes first; the policies of the server's own
//! namespace, which are the platform's, go before the tenants'.

use ipnet::IpNet;
use paquebot_crds::Kind;

use super::Directory;
use super::budget::{Bound, Budget, Rank, Room};
use super::key::{NamespacedName, Seniority};
use super::networks::public_size;
use super::state::{Task, Work};
use super::verdict::RejectedNetwork;

/// Public IPv4 addresses of the policies of one namespace: a /8.
const V4_OF_NAMESPACE: usize = 1 << 24;
/// Public IPv6 networks of 64 bits of the policies of one namespace: a /20.
const V6_OF_NAMESPACE: usize = 1 << 44;
/// All policies of a server may have so many times that.
const NAMESPACES: usize = 4;

/// Who goes before whom: the server's own namespace, then the older.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NetworkRank {
    guest: bool,
    seniority: Seniority,
}

impl Rank for NetworkRank {
    fn namespace(&self) -> &str {
        self.seniority.namespace()
    }
}

/// What the policies of one server admit of the Internet.
#[derive(Debug)]
pub(super) struct NetworkBudget {
    v4: Budget<NetworkRank>,
    v6: Budget<NetworkRank>,
}

impl NetworkBudget {
    fn new() -> Self {
        let budget = |of_namespace: usize| {
            Budget::new(Room { octets: of_namespace * NAMESPACES, of_namespace, ordinary: usize::MAX })
        };
        Self { v4: budget(V4_OF_NAMESPACE), v6: budget(V6_OF_NAMESPACE) }
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    fn bound(&self, rank: &NetworkRank, network: &IpNet) -> Option<Bound> {
        match network {
            IpNet::V4(_) => self.v4.bound(rank),
            IpNet::V6(_) => self.v6.bound(rank),
        }
    }
}

/// Public IPv4 addresses and IPv6 networks of 64 bits in these networks; `None` where there are none.
fn sizes(networks: &[IpNet]) -> (Option<usize>, Option<usize>) {
    let (mut v4, mut v6) = (0_usize, 0_usize);
    for network in IpNet::aggregate(&networks.to_vec()) {
        let sum = if matches!(network, IpNet::V4(_)) { &mut v4 } else { &mut v6 };
        *sum = sum.saturating_add(public_size(&network));
    }
    ((v4 > 0).then_some(v4), (v6 > 0).then_some(v6))
}

impl Directory {
    /// Notes what a policy lists of the Internet, or that it lists nothing any more (`server` is `None`), and divides what it
    /// lists into what has room and what has not. Others for whom that makes a difference are judged again.
    pub(super) fn weigh_networks(
        &mut self,
        name: &NamespacedName,
        server: Option<&NamespacedName>,
        networks: Vec<IpNet>,
        work: &mut Work,
    ) -> (Vec<IpNet>, Vec<RejectedNetwork>) {
        let (v4, v6) = sizes(&networks);
        let new = server.zip(self.policies.get(name)).filter(|_| v4.is_some() || v6.is_some()).map(|(server, node)| {
            let seniority = node.entry.seniority(Kind::RelayPolicy);
            (server.clone(), NetworkRank { guest: name.namespace != server.namespace, seniority })
        });
        if let Some((server, rank)) = self.network_weights.get(name).cloned()
            && new.as_ref() != Some(&(server.clone(), rank.clone()))
        {
            self.count_networks(&server, &rank, (None, None), work);
            self.network_weights.remove(name);
        }
        let Some((server, rank)) = new else { return (networks, Vec::new()) };
        self.network_weights.insert(name.clone(), (server.clone(), rank.clone()));
        self.count_networks(&server, &rank, (v4, v6), work);
        let budget = self.network_budgets.get(&server);
        let (mut fitting, mut rejected) = (Vec::new(), Vec::new());
        for network in networks {
            let bound = budget.and_then(|budget| budget.bound(&rank, &network)).filter(|_| public_size(&network) > 0);
            match bound {
                None => fitting.push(network),
                Some(bound) => rejected.push(RejectedNetwork {
                    network: network.to_string(),
                    reason: too_much(bound, &server, &name.namespace),
                }),
            }
        }
        (fitting, rejected)
    }

    fn count_networks(
        &mut self,
        server: &NamespacedName,
        rank: &NetworkRank,
        (v4, v6): (Option<usize>, Option<usize>),
        work: &mut Work,
    ) {
        let budget = self.network_budgets.entry(server.clone()).or_insert_with(NetworkBudget::new);
        let mut changed = budget.v4.set(rank.clone(), v4, &server.namespace);
        changed.extend(budget.v6.set(rank.clone(), v6, &server.namespace));
        if budget.is_empty() {
            self.network_budgets.remove(server);
        }
        let others = changed.into_iter().filter(|other| other != rank);
        work.add_all(others.map(|other| Task::Policy(other.seniority.key().name)));
    }
}

fn too_much(bound: Bound, server: &NamespacedName, namespace: &str) -> String {
    let whose = match bound {
        Bound::Namespace => {
            format!(
                "with it the RelayPolicies of namespace {namespace} would admit more of the Internet than one IPv4 /8 or IPv6 /20"
            )
        }
        Bound::Server => format!(
            "with it the RelayPolicies of MailServer {server} would admit more of the Internet than {NAMESPACES} IPv4 /8 or \
             IPv6 /20, and those of its own namespace and older ones go first"
        ),
    };
    format!("{whose}, which would be an open relay; list the clients' own networks alone, or have the clients log in")
}

//! How much the RelayPolicies of one MailServer may take. All their rules share one file of the configuration and all their
//! logins another, which have to fit into one object: whoever fills them would keep everybody's changes from being written.
//! [`super::budget`] says who goes first.

use paquebot_config::{Login, RelayRule};
use paquebot_crds::Kind;
use paquebot_crds::conditions::Reason;

use super::Directory;
use super::budget::{Bound, Budget, Room};
use super::key::{NamespacedName, Seniority};
use super::state::{Task, Work};
use super::verdict::Refusal;

/// Octets of all rules and logins of a server. The object has 1 MiB, which the index and the server's own words share.
const MOST_OCTETS: usize = 640 << 10;
/// Octets of those of one namespace: some ten thousand addresses.
const MOST_OF_NAMESPACE: usize = MOST_OCTETS / 4;

/// The room is the server's; what counts is octets alone.
const ROOM: Room = Room { octets: MOST_OCTETS, of_namespace: MOST_OF_NAMESPACE, ordinary: usize::MAX };

/// What the policies of one server take.
pub(super) type RelayBudget = Budget<Seniority>;

/// Octets that a rule takes in the files, its login included.
fn octets(rule: &RelayRule, login: Option<&(String, Login)>) -> usize {
    // JSON can say all that these hold; what could not be written would be refused there.
    let length = |json: Result<Vec<u8>, serde_json::Error>| json.map_or(MOST_OCTETS, |json| json.len() + 2);
    length(serde_json::to_vec(rule)) + login.map_or(0, |login| length(serde_json::to_vec(login)))
}

impl Directory {
    /// Notes what a policy takes, or that it takes nothing any more; others for whom that makes a difference are judged again.
    ///
    /// # Errors
    /// That it does not fit.
    pub(super) fn weigh_rule(
        &mut self,
        name: &NamespacedName,
        rule: Option<&(NamespacedName, RelayRule)>,
        work: &mut Work,
    ) -> Result<(), Refusal> {
        let rank = self.policies.get(name).map(|node| node.entry.seniority(Kind::RelayPolicy));
        let login = rule.and_then(|_| self.login_of_policy(name));
        let new = rule.zip(rank).map(|((server, rule), rank)| (server.clone(), rank, octets(rule, login.as_ref())));
        let place = new.as_ref().map(|(server, rank, _)| (server, rank));
        if let Some((server, rank)) = self.rule_weights.get(name).cloned()
            && place != Some((&server, &rank))
        {
            self.weigh(&server, &rank, None, work);
            self.rule_weights.remove(name);
        }
        let Some((server, rank, octets)) = new else { return Ok(()) };
        self.rule_weights.insert(name.clone(), (server.clone(), rank.clone()));
        self.weigh(&server, &rank, Some(octets), work);
        match self.relay_budgets.get(&server).and_then(|budget| budget.bound(&rank)) {
            Some(bound) => Err(too_large(bound, &server, &name.namespace)),
            None => Ok(()),
        }
    }

    fn weigh(&mut self, server: &NamespacedName, rank: &Seniority, octets: Option<usize>, work: &mut Work) {
        let budget = self.relay_budgets.entry(server.clone()).or_insert_with(|| Budget::new(ROOM));
        let changed = budget.set(rank.clone(), octets, &server.namespace);
        if budget.is_empty() {
            self.relay_budgets.remove(server);
        }
        work.add_all(changed.into_iter().filter(|other| other != rank).map(|other| Task::Policy(other.key().name)));
    }
}

fn too_large(bound: Bound, server: &NamespacedName, namespace: &str) -> Refusal {
    let what = match bound {
        Bound::Server => {
            format!("With it the RelayPolicies of MailServer {server} would take more than {MOST_OCTETS} octets")
        }
        Bound::Namespace => format!(
            "With it the RelayPolicies of namespace {namespace} would take more than {MOST_OF_NAMESPACE} octets of MailServer \
             {server}"
        ),
    };
    let message = format!(
        "{what}, and older ones go first. List fewer and wider networks, select fewer pods, or delete another policy. \
         Nothing of the policy is in force."
    );
    Refusal::new(Reason::LimitExceeded, message)
}

//! How much the lines of one file of a MailServer's directory may take: its Mailboxes, MailAliases, roles and MailDomains
//! whose names lead to that file. A tenant chooses names, and a line may hold scripts and long lists. Whatever fits can be
//! written, so that nobody's lines keep another's change from being written.

use paquebot_config::bundle::MAX_FILE_SIZE;
use paquebot_config::{DomainConfig, Record, ShardName};
use paquebot_crds::Kind;
use paquebot_crds::conditions::Reason;

use super::Directory;
use super::budget::{Bound, Budget, Rank, Room};
use super::key::{NamespacedName, ObjectKey, Seniority};
use super::state::{AliasSource, RecordSource, Role, Task, Work};
use super::verdict::Refusal;

/// A hundred thousand mailboxes take a third of this. One namespace gets half, and large lines, as those with scripts are,
/// a quarter.
const ROOM: Room = Room { octets: MAX_FILE_SIZE, of_namespace: MAX_FILE_SIZE / 2, ordinary: 2 << 10 };
/// What the address of a catch-all may take in a MailDomain's line. It always counts: whether the line fits must not depend
/// on whether the mailbox's does.
const CATCH_ALL: usize = 1 << 10;

/// Whose line: an object's own, or that of a role of a MailDomain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Line {
    object: ObjectKey,
    role: Option<Role>,
}

/// A line and its age.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LineRank {
    seniority: Seniority,
    role: Option<Role>,
}

/// The room in one file.
pub(super) type RecordBudget = Budget<LineRank>;

impl Rank for LineRank {
    fn namespace(&self) -> &str {
        self.seniority.namespace()
    }
}

impl LineRank {
    fn task(&self) -> Task {
        let ObjectKey { kind, name } = self.seniority.key();
        match (kind, self.role) {
            (_, Some(role)) => Task::Alias(AliasSource::Role(name, role)),
            (Kind::Mailbox, None) => Task::Mailbox(name),
            (Kind::MailAlias, None) => Task::Alias(AliasSource::Alias(name)),
            (_, None) => Task::Domain(name),
        }
    }
}

impl Line {
    pub(super) fn of_domain(name: &NamespacedName) -> Self {
        Self { object: ObjectKey::new(Kind::MailDomain, name.clone()), role: None }
    }

    pub(super) fn of_record(source: &RecordSource) -> Self {
        let (kind, name, role) = match source {
            RecordSource::Mailbox(name) => (Kind::Mailbox, name, None),
            RecordSource::Alias(AliasSource::Alias(name)) => (Kind::MailAlias, name, None),
            RecordSource::Alias(AliasSource::Role(name, role)) => (Kind::MailDomain, name, Some(*role)),
        };
        Self { object: ObjectKey::new(kind, name.clone()), role }
    }
}

/// Where a line is to be, and what it takes there.
pub(super) type Weight = (NamespacedName, ShardName, usize);

/// What a record takes.
pub(super) fn of_record((server, record): &(NamespacedName, Record)) -> Weight {
    (server.clone(), record.shard(), octets(record))
}

/// What a MailDomain's line takes.
pub(super) fn of_config((server, config): &(NamespacedName, DomainConfig)) -> Weight {
    let line = Record::Domain(DomainConfig { catch_all: paquebot_config::CatchAll::Reject, ..config.clone() });
    (server.clone(), ShardName::of(config.domain.as_str()), octets(&line) + CATCH_ALL)
}

/// The octets of a line, its end included. JSON can say all that a record holds; what could not be written fits nowhere.
fn octets(record: &Record) -> usize {
    serde_json::to_vec(record).map_or(MAX_FILE_SIZE, |json| json.len() + 1)
}

impl Directory {
    /// Notes what a line takes, or that it takes nothing any more; others for whom that makes a difference are judged again.
    ///
    /// # Errors
    /// That it does not fit.
    pub(super) fn weigh_line(&mut self, line: Line, new: Option<Weight>, work: &mut Work) -> Result<(), Refusal> {
        let rank = self.line_rank(&line);
        let place = new.as_ref().zip(rank.as_ref()).map(|((server, shard, _), rank)| (server, shard, rank));
        if let Some((server, shard, rank)) = self.line_weights.get(&line).cloned()
            && place != Some((&server, &shard, &rank))
        {
            self.weigh_in_shard(&server, shard, &rank, None, work);
            self.line_weights.remove(&line);
        }
        let Some(((server, shard, octets), rank)) = new.zip(rank) else { return Ok(()) };
        self.weigh_in_shard(&server, shard, &rank, Some(octets), work);
        self.line_weights.insert(line, (server.clone(), shard, rank.clone()));
        match self.record_budgets.get(&(server.clone(), shard)).and_then(|budget| budget.bound(&rank)) {
            Some(bound) => Err(too_large(bound, &server, shard, rank.namespace())),
            None => Ok(()),
        }
    }

    fn line_rank(&self, line: &Line) -> Option<LineRank> {
        let ObjectKey { kind, name } = &line.object;
        let seniority = match kind {
            Kind::Mailbox => self.mailboxes.get(name)?.entry.seniority(*kind),
            Kind::MailAlias => self.aliases.get(name)?.entry.seniority(*kind),
            _ => self.domains.get(name)?.entry.seniority(*kind),
        };
        Some(LineRank { seniority, role: line.role })
    }

    fn weigh_in_shard(
        &mut self,
        server: &NamespacedName,
        shard: ShardName,
        rank: &LineRank,
        octets: Option<usize>,
        work: &mut Work,
    ) {
        let place = (server.clone(), shard);
        let budget = self.record_budgets.entry(place.clone()).or_insert_with(|| Budget::new(ROOM));
        let changed = budget.set(rank.clone(), octets, &server.namespace);
        if budget.is_empty() {
            self.record_budgets.remove(&place);
        }
        work.add_all(changed.into_iter().filter(|other| other != rank).map(|other| other.task()));
    }
}

fn too_large(bound: Bound, server: &NamespacedName, shard: ShardName, namespace: &str) -> Refusal {
    let what = match bound {
        Bound::Server => {
            format!("With it the file {shard} of MailServer {server} would be larger than one Secret can be")
        }
        Bound::Namespace => format!(
            "With it namespace {namespace} would take more than its share of the file {shard} of MailServer {server}, which \
             is {} octets, where what has more than {} counts twice",
            ROOM.of_namespace, ROOM.ordinary
        ),
    };
    let message = format!(
        "{what}, and older objects go first. Shorten its filter or its lists of addresses or those of others, choose another \
         name, or delete another object. Nothing of it is in force."
    );
    Refusal::new(Reason::LimitExceeded, message)
}

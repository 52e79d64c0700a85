//! Conditions: their types, their stable reasons, and the pure helpers that keep a list of them.
//!
//! The operator's controllers call [`ensure`] at the first sight of an object, [`set_condition`] for each thing they
//! observe, and [`refresh_ready`] last. Types and reasons are an interface that people script against: a name is never
//! changed, and [`reasons`] says which reason may stand beside which type and status.

mod table;
#[cfg(test)]
mod tests;
mod words;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

pub use self::table::{DNS_PARTS, Reasons, condition_types, reasons, required_for_ready};
pub use self::words::{ConditionStatus, ConditionType, Reason};
use crate::Kind;
use crate::schema::MESSAGE_MAXIMUM;

/// What is to be said about one aspect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionUpdate {
    /// The aspect.
    pub condition_type: ConditionType,
    /// Its status.
    pub status: ConditionStatus,
    /// Why, in one stable word.
    pub reason: Reason,
    /// Why, in a sentence that names the object and the cure.
    pub message: String,
}

impl ConditionUpdate {
    /// An update with a status of any kind.
    pub fn new(
        condition_type: ConditionType,
        status: ConditionStatus,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self { condition_type, status, reason, message: message.into() }
    }

    /// It is so.
    pub fn yes(condition_type: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self::new(condition_type, ConditionStatus::True, reason, message)
    }

    /// It is not so.
    pub fn no(condition_type: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self::new(condition_type, ConditionStatus::False, reason, message)
    }

    /// It is not known.
    pub fn unknown(condition_type: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self::new(condition_type, ConditionStatus::Unknown, reason, message)
    }

    /// Nothing was observed yet.
    #[must_use]
    pub fn pending(condition_type: ConditionType) -> Self {
        Self::unknown(condition_type, Reason::Pending, "Not observed yet.")
    }
}

/// Puts an update into the list: `lastTransitionTime` moves to `now` only when `status` changes.
///
/// `generation` is the `metadata.generation` that the update was computed from. Returns whether anything changed.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    update: &ConditionUpdate,
    generation: Option<i64>,
    now: Timestamp,
) -> bool {
    let mut wanted = Condition {
        type_: update.condition_type.as_str().to_owned(),
        status: update.status.as_str().to_owned(),
        reason: update.reason.as_str().to_owned(),
        message: bounded(&update.message).to_owned(),
        observed_generation: generation,
        last_transition_time: Time(whole_second(now)),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == wanted.type_) {
        Some(present) => {
            if present.status == wanted.status {
                wanted.last_transition_time = present.last_transition_time.clone();
            }
            let changed = *present != wanted;
            *present = wanted;
            changed
        }
        None => {
            conditions.push(wanted);
            true
        }
    }
}

/// Kubernetes writes times of objects to the second; finer ones would differ after each read.
fn whole_second(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// The message, cut at the longest that a condition may hold.
fn bounded(message: &str) -> &str {
    let end = message.floor_char_boundary(MESSAGE_MAXIMUM.min(message.len()));
    message.get(..end).unwrap_or_default()
}

/// Gives the list the kind's whole set, in the kind's order: what is missing becomes `Unknown/Pending`, what the kind
/// does not have (left by another release) goes. Returns whether anything changed.
pub fn ensure(conditions: &mut Vec<Condition>, kind: Kind, generation: Option<i64>, now: Timestamp) -> bool {
    let before = conditions.clone();
    let mut whole = Vec::new();
    for condition_type in condition_types(kind) {
        match conditions.iter().find(|condition| condition.type_ == condition_type.as_str()) {
            Some(present) => whole.push(present.clone()),
            None => {
                set_condition(&mut whole, &ConditionUpdate::pending(*condition_type), generation, now);
            }
        }
    }
    *conditions = whole;
    *conditions != before
}

/// The kind's whole set, each `Unknown/Pending`: what a new object gets.
#[must_use]
pub fn initial_conditions(kind: Kind, generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let mut conditions = Vec::new();
    ensure(&mut conditions, kind, generation, now);
    conditions
}

/// The condition of a type in a list.
#[must_use]
pub fn find(conditions: &[Condition], condition_type: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == condition_type.as_str())
}

/// Whether the list says `True` of a type.
#[must_use]
pub fn is_true(conditions: &[Condition], condition_type: ConditionType) -> bool {
    find(conditions, condition_type).is_some_and(|condition| condition.status == ConditionStatus::True.as_str())
}

/// `Ready`, as the conditions say it: the first that is False copied with reason and message, else the first that is
/// not known, else True.
#[must_use]
pub fn ready(kind: Kind, conditions: &[Condition]) -> ConditionUpdate {
    summary(ConditionType::Ready, required_for_ready(kind), conditions)
        .unwrap_or_else(|| ConditionUpdate::yes(ConditionType::Ready, Reason::Ready, ready_message(kind)))
}

/// `DNSReady`, as the conditions of the single records say it: the first that is False copied, else the first that is
/// not known, else True; `Disabled` when nobody looks at any.
#[must_use]
pub fn dns_ready(conditions: &[Condition]) -> ConditionUpdate {
    summary(ConditionType::DNSReady, &DNS_PARTS, conditions).unwrap_or_else(|| {
        let disabled = DNS_PARTS
            .iter()
            .all(|part| find(conditions, *part).is_some_and(|condition| condition.reason == Reason::Disabled.as_str()));
        if disabled {
            ConditionUpdate::yes(ConditionType::DNSReady, Reason::Disabled, "DNS records are not looked at.")
        } else {
            ConditionUpdate::yes(ConditionType::DNSReady, Reason::RecordsMatch, "All wanted DNS records are published.")
        }
    })
}

const fn ready_message(kind: Kind) -> &'static str {
    match kind {
        Kind::MailServer => "The server serves.",
        Kind::MailDomain => "The domain is served; DNSReady says whether the world can find it.",
        Kind::Mailbox => "The mailbox receives mail.",
        Kind::MailAlias => "The alias is in effect.",
        Kind::RelayPolicy => "The policy is in effect.",
    }
}

/// The first part that is False, else the first that is Unknown or missing; `None` if all are True.
fn summary(whole: ConditionType, parts: &[ConditionType], conditions: &[Condition]) -> Option<ConditionUpdate> {
    let with_status = |status: ConditionStatus| {
        parts.iter().find_map(|part| {
            let condition = match find(conditions, *part) {
                Some(condition) => condition.clone(),
                // A part that nobody reported is not known.
                None if status == ConditionStatus::Unknown => return Some(ConditionUpdate::pending(whole)),
                None => return None,
            };
            (condition.status == status.as_str()).then(|| {
                let reason = Reason::from_word(&condition.reason).unwrap_or(Reason::Pending);
                ConditionUpdate::new(whole, status, reason, condition.message)
            })
        })
    };
    with_status(ConditionStatus::False).or_else(|| with_status(ConditionStatus::Unknown))
}

/// Recomputes `Ready` from the rest of the list. Call it last. Returns whether anything changed.
pub fn refresh_ready(conditions: &mut Vec<Condition>, kind: Kind, generation: Option<i64>, now: Timestamp) -> bool {
    let update = ready(kind, conditions);
    set_condition(conditions, &update, generation, now)
}

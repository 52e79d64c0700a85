//! Statuses as the engine keeps them between two looks. Written out, the conditions of a mailbox take more room than
//! everything else that is known of it, and most of their text is the same for all.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use paquebot_crds::conditions::{ConditionStatus, ConditionType, Reason};
use paquebot_crds::mailbox::CredentialStatus;
use paquebot_crds::{MailAliasStatus, MailboxStatus};

use super::status::Status;
use crate::intern::Interner;

/// The messages that are in use.
static MESSAGES: LazyLock<Interner<str>> = LazyLock::new(Interner::default);

/// A status, packed where it is of a kind of which there are many.
#[derive(Debug)]
pub struct Remembered(Kept);

#[derive(Debug)]
enum Kept {
    Whole(Status),
    Mailbox { conditions: Box<[Packed]>, address: Option<Box<str>>, credentials: Box<[(Box<str>, Box<str>)]> },
    MailAlias { conditions: Box<[Packed]>, address: Option<Box<str>> },
}

#[derive(Debug)]
struct Packed {
    condition_type: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    generation: Option<i64>,
    since: i64,
    message: Arc<str>,
}

impl Remembered {
    /// Packs a status.
    #[must_use]
    pub fn new(status: Status) -> Self {
        let packed = pack(status.conditions());
        Self(match (status, packed) {
            (Status::Mailbox(status), Some(conditions)) => Kept::Mailbox {
                conditions,
                address: status.address.map(String::into_boxed_str),
                credentials: status
                    .credentials
                    .into_iter()
                    .map(|used| (used.secret_name.into_boxed_str(), used.resource_version.into_boxed_str()))
                    .collect(),
            },
            (Status::MailAlias(status), Some(conditions)) => {
                Kept::MailAlias { conditions, address: status.address.map(String::into_boxed_str) }
            }
            (status, _) => Kept::Whole(status),
        })
    }

    /// The status as it was.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.0 {
            Kept::Whole(status) => status.clone(),
            Kept::Mailbox { conditions, address, credentials } => Status::Mailbox(Box::new(MailboxStatus {
                conditions: unpack(conditions),
                address: address.as_deref().map(str::to_owned),
                credentials: credentials
                    .iter()
                    .map(|(name, version)| CredentialStatus {
                        secret_name: name.to_string(),
                        resource_version: version.to_string(),
                    })
                    .collect(),
            })),
            Kept::MailAlias { conditions, address } => Status::MailAlias(Box::new(MailAliasStatus {
                conditions: unpack(conditions),
                address: address.as_deref().map(str::to_owned),
            })),
        }
    }

    /// Its conditions.
    #[must_use]
    pub fn conditions(&self) -> Vec<Condition> {
        match &self.0 {
            Kept::Whole(status) => status.conditions().to_vec(),
            Kept::Mailbox { conditions, .. } | Kept::MailAlias { conditions, .. } => unpack(conditions),
        }
    }
}

/// `None` where a word or a time is none of ours, perhaps of another release: such a status is kept as it is.
fn pack(conditions: &[Condition]) -> Option<Box<[Packed]>> {
    let packed = conditions.iter().map(|condition| {
        let since = condition.last_transition_time.0;
        (since.subsec_nanosecond() == 0).then_some(())?;
        Some(Packed {
            condition_type: ConditionType::from_word(&condition.type_)?,
            status: status_of(&condition.status)?,
            reason: Reason::from_word(&condition.reason)?,
            generation: condition.observed_generation,
            since: since.as_second(),
            message: MESSAGES.share(condition.message.as_str()),
        })
    });
    packed.collect()
}

fn status_of(word: &str) -> Option<ConditionStatus> {
    let all = [ConditionStatus::True, ConditionStatus::False, ConditionStatus::Unknown];
    all.into_iter().find(|status| status.as_str() == word)
}

fn unpack(conditions: &[Packed]) -> Vec<Condition> {
    let time = |since| Time(Timestamp::from_second(since).unwrap_or_default());
    conditions
        .iter()
        .map(|packed| Condition {
            type_: packed.condition_type.as_str().to_owned(),
            status: packed.status.as_str().to_owned(),
            reason: packed.reason.as_str().to_owned(),
            message: packed.message.to_string(),
            observed_generation: packed.generation,
            last_transition_time: time(packed.since),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(reason: &str, nanosecond: i32) -> Condition {
        Condition {
            type_: "Ready".to_owned(),
            status: "False".to_owned(),
            reason: reason.to_owned(),
            message: "the Secret is missing".to_owned(),
            observed_generation: Some(3),
            last_transition_time: Time(Timestamp::new(1_700_000_000, nanosecond).unwrap()),
        }
    }

    #[test]
    fn what_is_remembered_is_what_was_there() {
        let used = CredentialStatus { secret_name: "anna".to_owned(), resource_version: "7".to_owned() };
        let mailbox = |conditions| {
            let address = Some("anna@server1.com".to_owned());
            Status::Mailbox(Box::new(MailboxStatus { conditions, address, credentials: vec![used.clone()] }))
        };
        let alias = MailAliasStatus { conditions: vec![condition("Pending", 0)], address: None };
        for status in [
            mailbox(Vec::new()),
            mailbox(vec![condition("SecretNotFound", 0), condition("Pending", 0)]),
            mailbox(vec![condition("SomethingOfAnotherRelease", 0)]),
            mailbox(vec![condition("Pending", 5)]),
            Status::MailAlias(Box::new(alias)),
            Status::MailServer(Box::default()),
        ] {
            let remembered = Remembered::new(status.clone());
            assert_eq!(remembered.status(), status);
            assert_eq!(remembered.conditions(), status.conditions());
        }
    }
}

//! The status that an object should have. Pure; what nobody has observed stays as it was. [`super`] offers it to the engine.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use paquebot_crds::conditions::{self, ConditionStatus, ConditionType, ConditionUpdate, Reason};
use paquebot_crds::mail_domain::DnsStatus;
use paquebot_crds::mailbox::CredentialStatus;
use paquebot_crds::relay_policy::RejectedCidr;
use paquebot_crds::{
    Kind, MailAliasStatus, MailDomainStatus, MailServerStatus, MailboxStatus, ObjectReference, RelayPolicyStatus,
};

use super::{Facts, ServerFacts, Status};
use crate::directory::{
    CredentialsReport, Details, FilterReport, NamespacedName, ObjectKey, Report, SecretVersion, Verdict,
};

/// What `status.effectiveCIDRs` and `status.rejectedCIDRs` may hold.
const MOST_EFFECTIVE: usize = 16_384;
const MOST_REJECTED: usize = 1024;

/// The status that an object should have. What nobody has observed stays as it was in `present`.
#[must_use]
pub fn wanted(
    key: &ObjectKey,
    report: &Report,
    programmed: ConditionUpdate,
    facts: &Facts,
    present: &Status,
    now: Timestamp,
) -> Status {
    let mut updates = vec![accepted(report, facts), programmed];
    updates.extend(kind_updates(key.kind, report, facts));
    updates.retain(|update| !is_only_unseen(update, present.conditions(), report.generation));
    let mut conditions = next_conditions(key.kind, present.conditions(), &updates, report.generation, now);
    if matches!(report.verdict, Verdict::Accepted { suspended: true, .. }) {
        say_suspended(&mut conditions, report.generation, now);
    }
    match (&report.details, present, facts) {
        (_, Status::MailServer(present), Facts::Server(facts)) => {
            Status::MailServer(Box::new(server_status(conditions, present, facts)))
        }
        (Details::MailDomain { server, mailboxes, aliases }, Status::MailDomain(present), facts) => {
            let counts = (number(*mailboxes), number(*aliases));
            Status::MailDomain(Box::new(domain_status(conditions, server.as_ref(), counts, present, facts, now)))
        }
        (Details::Mailbox { address, versions, .. }, present, facts) => Status::Mailbox(Box::new(MailboxStatus {
            conditions,
            address: address.as_ref().map(ToString::to_string),
            credentials: credentials_used(versions, present, facts),
        })),
        (Details::MailAlias { address }, _, _) => Status::MailAlias(Box::new(MailAliasStatus {
            conditions,
            address: address.as_ref().map(ToString::to_string),
        })),
        (Details::RelayPolicy { effective, rejected }, _, _) => Status::RelayPolicy(Box::new(RelayPolicyStatus {
            conditions,
            effective_cidrs: effective.iter().take(MOST_EFFECTIVE).map(ToString::to_string).collect(),
            rejected_cidrs: rejected
                .iter()
                .take(MOST_REJECTED)
                .map(|rejected| RejectedCidr { cidr: rejected.network.clone(), reason: rejected.reason.clone() })
                .collect(),
        })),
        // The facts of another kind: only the conditions are sure.
        (_, present, _) => with_conditions(present.clone(), conditions),
    }
}

/// The status of an object that cannot be understood.
#[must_use]
pub fn undecodable(kind: Kind, generation: i64, error: &str, present: &Status, now: Timestamp) -> Status {
    let message = format!(
        "The object cannot be understood: {error}. Correct it, or install the CustomResourceDefinitions of this release."
    );
    let update = ConditionUpdate::no(ConditionType::Accepted, Reason::InvalidSpec, message);
    let conditions = next_conditions(kind, present.conditions(), &[update], generation, now);
    with_conditions(present.clone(), conditions)
}

fn with_conditions(mut status: Status, wanted: Vec<Condition>) -> Status {
    match &mut status {
        Status::MailServer(status) => status.conditions = wanted,
        Status::MailDomain(status) => status.conditions = wanted,
        Status::Mailbox(status) => status.conditions = wanted,
        Status::MailAlias(status) => status.conditions = wanted,
        Status::RelayPolicy(status) => status.conditions = wanted,
    }
    status
}

fn next_conditions(
    kind: Kind,
    present: &[Condition],
    updates: &[ConditionUpdate],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let generation = Some(generation);
    let mut list = present.to_vec();
    conditions::ensure(&mut list, kind, generation, now);
    for update in updates {
        conditions::set_condition(&mut list, update, generation, now);
    }
    if kind == Kind::MailDomain {
        let dns = dns_ready(&list, generation);
        conditions::set_condition(&mut list, &dns, generation, now);
    }
    conditions::refresh_ready(&mut list, kind, generation, now);
    list
}

/// What is suspended is ready, for that is what its owner wants, and does not receive mail.
fn say_suspended(conditions: &mut Vec<Condition>, generation: i64, now: Timestamp) {
    if conditions::is_true(conditions, ConditionType::Ready) {
        let message = "It is as wanted, and suspended: its mail is refused for now, see Accepted.";
        let update = ConditionUpdate::yes(ConditionType::Ready, Reason::Ready, message);
        conditions::set_condition(conditions, &update, Some(generation), now);
    }
}

/// Whether an update only says that this process has not read a Secret or a ConfigMap yet, while the status says what an
/// earlier one has seen for the same generation: that still stands.
fn is_only_unseen(update: &ConditionUpdate, present: &[Condition], generation: i64) -> bool {
    let read = matches!(update.condition_type, ConditionType::CredentialsReady | ConditionType::FilterReady);
    let seen = |condition: &Condition| {
        condition.reason != Reason::Pending.as_str() && condition.observed_generation == Some(generation)
    };
    read && update.reason == Reason::Pending && conditions::find(present, update.condition_type).is_some_and(seen)
}

/// The Secrets that the server's directory was made from; those that the status names while others are on their way.
fn credentials_used(versions: &[SecretVersion], present: &Status, facts: &Facts) -> Vec<CredentialStatus> {
    match (present, facts) {
        (Status::Mailbox(present), Facts::Mailbox { written: false, .. }) => present.credentials.clone(),
        _ => versions
            .iter()
            .map(|version| CredentialStatus {
                secret_name: version.name.clone(),
                resource_version: version.resource_version.clone(),
            })
            .collect(),
    }
}

/// Before the first look at what this generation wants, `DNSReady` says that it is under way.
fn dns_ready(list: &[Condition], generation: Option<i64>) -> ConditionUpdate {
    let is_unseen = |part: &ConditionType| {
        conditions::find(list, *part).is_none_or(|condition| condition.observed_generation != generation)
    };
    let unseen = conditions::find(list, ConditionType::MXReady)
        .is_none_or(|condition| condition.reason == Reason::Pending.as_str());
    if unseen || conditions::DNS_PARTS.iter().any(is_unseen) {
        let message = "The records have not been looked up yet.";
        return ConditionUpdate::unknown(ConditionType::DNSReady, Reason::Verifying, message);
    }
    conditions::dns_ready(list)
}

fn accepted(report: &Report, facts: &Facts) -> ConditionUpdate {
    let mut message = report.verdict.message().to_owned();
    if let Facts::Domain(facts) = facts
        && let Some(remark) = facts.remark.as_ref().filter(|_| report.verdict.is_accepted())
    {
        message = format!("{message} {remark}");
    }
    let status = if report.verdict.is_accepted() {
        ConditionStatus::True
    } else if report.verdict.reason() == Reason::Pending {
        ConditionStatus::Unknown
    } else {
        ConditionStatus::False
    };
    ConditionUpdate::new(ConditionType::Accepted, status, report.verdict.reason(), message)
}

fn kind_updates(kind: Kind, report: &Report, facts: &Facts) -> Vec<ConditionUpdate> {
    match (kind, facts) {
        (Kind::MailServer, Facts::Server(facts)) => {
            let mut updates = facts.updates.clone();
            updates.push(paused(facts.paused));
            updates
        }
        (Kind::MailDomain, Facts::Domain(facts)) => {
            let mut updates: Vec<ConditionUpdate> = facts.ownership.clone().into_iter().collect();
            // One that waits for its proof may have everything published together.
            if !report.verdict.is_accepted() && report.verdict.reason() != Reason::Pending {
                updates
                    .extend(unseen_records("The domain is not in force, see Accepted; nobody looks at its records."));
            } else if let Some(records) = &facts.records {
                updates.extend(records.updates.clone());
            }
            updates
        }
        (Kind::Mailbox, facts) => {
            let generated = matches!(facts, Facts::Mailbox { generated: true, .. });
            vec![credentials(report, generated), filter(report)]
        }
        _ => Vec::new(),
    }
}

pub(super) fn paused(asked: bool) -> ConditionUpdate {
    const TYPE: ConditionType = ConditionType::Paused;
    if asked {
        let message = "spec.operations.paused is true: the operator writes none of the server's objects, its certificate \
                       among them; pods serve what was written last. Set it to false to catch up.";
        ConditionUpdate::yes(TYPE, Reason::Paused, message)
    } else {
        ConditionUpdate::no(TYPE, Reason::NotPaused, "The operator looks after the server.")
    }
}

fn filter(report: &Report) -> ConditionUpdate {
    const TYPE: ConditionType = ConditionType::FilterReady;
    let Details::Mailbox { filter, .. } = &report.details else { return ConditionUpdate::pending(TYPE) };
    match filter {
        FilterReport::NoFilter => ConditionUpdate::yes(TYPE, Reason::NoFilter, "The mailbox has no script."),
        FilterReport::Pending => {
            ConditionUpdate::unknown(TYPE, Reason::Pending, "The ConfigMap has not been read yet.")
        }
        FilterReport::Compiled => ConditionUpdate::yes(TYPE, Reason::Compiled, "The script sorts the mailbox's mail."),
        FilterReport::Failed(failure) => ConditionUpdate::no(TYPE, failure.reason, failure.message.clone()),
    }
}

/// Every part of `DNSReady` while nobody has looked at what is wanted now.
pub fn unseen_records(message: &str) -> Vec<ConditionUpdate> {
    conditions::DNS_PARTS.map(|part| ConditionUpdate::unknown(part, Reason::Pending, message)).into()
}

fn credentials(report: &Report, generated: bool) -> ConditionUpdate {
    const TYPE: ConditionType = ConditionType::CredentialsReady;
    let Details::Mailbox { credentials, .. } = &report.details else { return ConditionUpdate::pending(TYPE) };
    match credentials {
        CredentialsReport::ReceiveOnly => {
            ConditionUpdate::yes(TYPE, Reason::ReceiveOnly, "The mailbox has no password: it receives only.")
        }
        CredentialsReport::Pending => {
            ConditionUpdate::unknown(TYPE, Reason::Pending, "The Secret has not been read yet.")
        }
        CredentialsReport::Ready if generated => {
            ConditionUpdate::yes(TYPE, Reason::Generated, "The Secret that the operator made opens the mailbox.")
        }
        CredentialsReport::Ready => {
            ConditionUpdate::yes(TYPE, Reason::Hashed, "The password in the Secret opens the mailbox.")
        }
        CredentialsReport::Failed(failure) => ConditionUpdate::no(TYPE, failure.reason, failure.message.clone()),
    }
}

fn server_status(conditions: Vec<Condition>, present: &MailServerStatus, facts: &ServerFacts) -> MailServerStatus {
    MailServerStatus {
        conditions,
        replicas: facts.replicas,
        ready_replicas: facts.ready_replicas,
        selector: Some(facts.selector.clone()),
        addresses: facts.addresses.clone(),
        configuration: facts.configuration.clone().or_else(|| present.configuration.clone()),
        certificate: facts.certificate.clone().or_else(|| present.certificate.clone()),
    }
}

fn domain_status(
    conditions: Vec<Condition>,
    server: Option<&NamespacedName>,
    (mailbox_count, alias_count): (u32, u32),
    present: &MailDomainStatus,
    facts: &Facts,
    now: Timestamp,
) -> MailDomainStatus {
    let dns = match facts {
        Facts::Domain(facts) => match &facts.records {
            Some(records) => Some(with_time(&records.dns, present.dns.as_ref(), now)),
            None => present.dns.clone(),
        },
        _ => present.dns.clone(),
    };
    let server_ref =
        server.map(|server| ObjectReference { name: server.name.clone(), namespace: Some(server.namespace.clone()) });
    MailDomainStatus { conditions, server_ref, mailbox_count, alias_count, dkim: None, dns }
}

/// `lastVerified` moves only with what it speaks of: no heartbeat.
fn with_time(dns: &DnsStatus, present: Option<&DnsStatus>, now: Timestamp) -> DnsStatus {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    let mut dns = dns.clone();
    dns.last_verified = present.and_then(|present| present.last_verified.clone());
    if present != Some(&dns) || dns.last_verified.is_none() {
        dns.last_verified = Timestamp::from_second(now.as_second()).ok().map(Time);
    }
    dns
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

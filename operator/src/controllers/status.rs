//! What is written into an object's `status`: made from what is known, compared with what is there, written by
//! server-side apply. [`wanted`] is pure; [`write`] does the one call.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, ObjectMeta};
use kube::{Client, Resource};
use paquebot_crds::conditions::{self, ConditionStatus, ConditionType, ConditionUpdate, Reason};
use paquebot_crds::mail_domain::DnsStatus;
use paquebot_crds::mail_server::{CertificateStatus, ConfigurationStatus, ServerAddress};
use paquebot_crds::mailbox::CredentialStatus;
use paquebot_crds::relay_policy::RejectedCidr;
use paquebot_crds::{
    Kind, MailAlias, MailAliasStatus, MailDomain, MailDomainStatus, MailServer, MailServerStatus, Mailbox,
    MailboxStatus, ObjectReference, RelayPolicy, RelayPolicyStatus,
};
use serde_json::{Value, json};

use super::apply::{CallError, within_deadline};
use crate::directory::{CredentialsReport, Details, FilterReport, NamespacedName, ObjectKey, Report, SecretVersion};

/// The field manager of all statuses.
const MANAGER: &str = "paquebot-operator-status";
/// What `status.effectiveCIDRs` and `status.rejectedCIDRs` may hold.
const MOST_EFFECTIVE: usize = 16_384;
const MOST_REJECTED: usize = 1024;

/// A status of one of the five kinds.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// Of a MailServer.
    MailServer(Box<MailServerStatus>),
    /// Of a MailDomain.
    MailDomain(Box<MailDomainStatus>),
    /// Of a Mailbox.
    Mailbox(Box<MailboxStatus>),
    /// Of a MailAlias.
    MailAlias(Box<MailAliasStatus>),
    /// Of a RelayPolicy.
    RelayPolicy(Box<RelayPolicyStatus>),
}

impl Status {
    /// The status of an object that has none yet.
    #[must_use]
    pub fn empty(kind: Kind) -> Self {
        match kind {
            Kind::MailServer => Self::MailServer(Box::default()),
            Kind::MailDomain => Self::MailDomain(Box::default()),
            Kind::Mailbox => Self::Mailbox(Box::default()),
            Kind::MailAlias => Self::MailAlias(Box::default()),
            Kind::RelayPolicy => Self::RelayPolicy(Box::default()),
        }
    }

    /// Its conditions.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        match self {
            Self::MailServer(status) => &status.conditions,
            Self::MailDomain(status) => &status.conditions,
            Self::Mailbox(status) => &status.conditions,
            Self::MailAlias(status) => &status.conditions,
            Self::RelayPolicy(status) => &status.conditions,
        }
    }

    fn to_value(&self) -> Result<Value, serde_json::Error> {
        match self {
            Self::MailServer(status) => serde_json::to_value(status),
            Self::MailDomain(status) => serde_json::to_value(status),
            Self::Mailbox(status) => serde_json::to_value(status),
            Self::MailAlias(status) => serde_json::to_value(status),
            Self::RelayPolicy(status) => serde_json::to_value(status),
        }
    }
}

/// What was observed of a MailServer, beside the index's report.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerFacts {
    /// CertificateReady, Available, Progressing, SourceIPPreserved, RelayClosed; a type that is missing stays as it is.
    pub updates: Vec<ConditionUpdate>,
    /// Whether the MailServer asks for a pause.
    pub paused: bool,
    /// Pods that exist.
    pub replicas: i32,
    /// Pods that are ready.
    pub ready_replicas: i32,
    /// The label selector of the pods.
    pub selector: String,
    /// Where it is reached.
    pub addresses: Vec<ServerAddress>,
    /// What was written, and how many pods serve it.
    pub configuration: Option<ConfigurationStatus>,
    /// The certificate.
    pub certificate: Option<CertificateStatus>,
}

/// What was observed of a MailDomain's records; absent while nobody has looked.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsFacts {
    /// MXReady and so on.
    pub updates: Vec<ConditionUpdate>,
    /// `status.dns`, its `lastVerified` left to this module.
    pub dns: DnsStatus,
}

/// What was observed of a MailDomain.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DomainFacts {
    /// `OwnershipVerified`; absent while nobody has looked and what the status says may still be so.
    pub ownership: Option<ConditionUpdate>,
    /// Its records; absent while nobody has looked.
    pub records: Option<DnsFacts>,
    /// What else people should know, for the message of `Accepted`.
    pub remark: Option<String>,
}

/// What only one kind has, beside the index's report.
#[derive(Debug, Clone, PartialEq)]
pub enum Facts {
    /// Nothing more.
    None,
    /// Of a MailServer.
    Server(Box<ServerFacts>),
    /// Of a MailDomain.
    Domain(Box<DomainFacts>),
    /// Of a Mailbox.
    Mailbox {
        /// `credentials.generate` is its source: the operator made the Secret.
        generated: bool,
        /// What its Secrets gave lies in the server's directory. Before that, `status.credentials` does not name them: the
        /// next process believes that the directory was made from what is named there.
        written: bool,
    },
}

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
    let conditions = next_conditions(key.kind, present.conditions(), &updates, report.generation, now);
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

fn paused(asked: bool) -> ConditionUpdate {
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

/// What became of writing a status.
pub struct StatusWritten {
    /// Whose.
    pub key: ObjectKey,
    /// What was written.
    pub status: Status,
    /// The conditions that were there before.
    pub before: Vec<Condition>,
    /// The object's metadata after it; `None` when the object is gone.
    pub result: Result<Option<ObjectMeta>, CallError>,
}

/// Writes a status.
pub async fn write(client: Client, key: ObjectKey, status: Status, before: Vec<Condition>) -> StatusWritten {
    let result = patch(client, &key, &status).await;
    StatusWritten { key, status, before, result }
}

async fn patch(client: Client, key: &ObjectKey, status: &Status) -> Result<Option<ObjectMeta>, CallError> {
    let resource = resource(key.kind);
    let api: Api<DynamicObject> = Api::namespaced_with(client, &key.name.namespace, &resource);
    let body = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": { "name": key.name.name, "namespace": key.name.namespace },
        "status": status.to_value()?,
    });
    let parameters = PatchParams::apply(MANAGER).force();
    match within_deadline(api.patch_status(&key.name.name, &parameters, &Patch::Apply(&body))).await {
        Ok(object) => Ok(Some(object.metadata)),
        Err(error) if error.code() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How the API server knows a kind.
#[must_use]
pub fn resource(kind: Kind) -> ApiResource {
    fn erase<K: Resource<DynamicType = ()>>() -> ApiResource {
        ApiResource::erase::<K>(&())
    }
    match kind {
        Kind::MailServer => erase::<MailServer>(),
        Kind::MailDomain => erase::<MailDomain>(),
        Kind::Mailbox => erase::<Mailbox>(),
        Kind::MailAlias => erase::<MailAlias>(),
        Kind::RelayPolicy => erase::<RelayPolicy>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{CredentialFailure, FilterFailure, Refusal, Verdict};

    const TYPE: ConditionType = ConditionType::Accepted;

    fn key() -> ObjectKey {
        ObjectKey::new(Kind::MailDomain, NamespacedName::new("mail", "a.org"))
    }

    fn report(verdict: Verdict) -> Report {
        Report { generation: 3, verdict, details: Details::MailDomain { server: None, mailboxes: 2, aliases: 1 } }
    }

    fn accepted_report() -> Report {
        report(Verdict::Accepted { message: "served".to_owned() })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn programmed() -> ConditionUpdate {
        ConditionUpdate::yes(ConditionType::Programmed, Reason::Programmed, "Every ready pod serves it.")
    }

    fn facts(zone: &str) -> Facts {
        let updates = crate::dns::compare::disabled();
        let dns = DnsStatus { zone_file: Some(zone.to_owned()), ..DnsStatus::default() };
        let ownership = Some(crate::dns::ownership::not_required());
        Facts::Domain(Box::new(DomainFacts { ownership, records: Some(DnsFacts { updates, dns }), remark: None }))
    }

    fn verified(status: &Status) -> i64 {
        let Status::MailDomain(status) = status else { panic!("another kind") };
        status.dns.as_ref().unwrap().last_verified.as_ref().unwrap().0.as_second()
    }

    #[test]
    fn a_second_look_at_the_same_changes_nothing() {
        let empty = Status::empty(Kind::MailDomain);
        let first = wanted(&key(), &accepted_report(), programmed(), &facts("zone"), &empty, at(100));
        let second = wanted(&key(), &accepted_report(), programmed(), &facts("zone"), &first, at(200));
        assert_eq!(first, second);
        assert_eq!(verified(&second), 100);
        let third = wanted(&key(), &accepted_report(), programmed(), &facts("other"), &second, at(300));
        assert_eq!(verified(&third), 300);
    }

    #[test]
    fn every_condition_is_there_from_the_first_time_on() {
        let empty = Status::empty(Kind::MailDomain);
        let status = wanted(&key(), &accepted_report(), programmed(), &Facts::Domain(Box::default()), &empty, at(100));
        let types: Vec<&str> = status.conditions().iter().map(|condition| condition.type_.as_str()).collect();
        let all: Vec<&str> = conditions::condition_types(Kind::MailDomain).iter().map(|kind| kind.as_str()).collect();
        assert_eq!(types, all);
        assert!(status.conditions().iter().all(|condition| condition.observed_generation == Some(3)));
        let dns = conditions::find(status.conditions(), ConditionType::DNSReady).unwrap();
        assert_eq!((dns.status.as_str(), dns.reason.as_str()), ("Unknown", "Verifying"));
    }

    #[test]
    fn a_refusal_is_copied_into_ready_and_moves_the_transition_time() {
        let empty = Status::empty(Kind::MailDomain);
        let good = wanted(&key(), &accepted_report(), programmed(), &facts("zone"), &empty, at(100));
        let refusal = Refusal { reason: Reason::DomainConflict, message: "another has it".to_owned() };
        let bad = wanted(&key(), &report(Verdict::Refused(refusal)), programmed(), &facts("zone"), &good, at(200));
        let ready = conditions::find(bad.conditions(), ConditionType::Ready).unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "DomainConflict"));
        assert_eq!(ready.last_transition_time.0.as_second(), 200);
        let kept = conditions::find(bad.conditions(), ConditionType::Programmed).unwrap();
        assert_eq!(kept.last_transition_time.0.as_second(), 100);
    }

    fn dns_ready_of(status: &Status) -> (String, String, Option<i64>) {
        let dns = conditions::find(status.conditions(), ConditionType::DNSReady).unwrap();
        (dns.status.clone(), dns.reason.clone(), dns.observed_generation)
    }

    #[test]
    fn dns_is_not_ready_for_a_generation_that_nobody_has_looked_at() {
        let verifying = |generation| ("Unknown".to_owned(), "Verifying".to_owned(), Some(generation));
        let empty = Status::empty(Kind::MailDomain);
        let seen = wanted(&key(), &accepted_report(), programmed(), &facts("zone"), &empty, at(100));
        assert_eq!(dns_ready_of(&seen), ("True".to_owned(), "Disabled".to_owned(), Some(3)));
        // Nobody has looked since the operator began: what was seen of this generation still stands.
        let carried = wanted(&key(), &accepted_report(), programmed(), &Facts::Domain(Box::default()), &seen, at(200));
        assert_eq!(dns_ready_of(&carried).0, "True");
        let edited = Report { generation: 4, ..accepted_report() };
        let unseen = wanted(&key(), &edited, programmed(), &Facts::Domain(Box::default()), &seen, at(200));
        assert_eq!(dns_ready_of(&unseen), verifying(4));
        let refusal = Refusal { reason: Reason::DomainConflict, message: "another has it".to_owned() };
        let refused = report(Verdict::Refused(refusal));
        let refused = wanted(&key(), &refused, programmed(), &Facts::Domain(Box::default()), &seen, at(200));
        assert_eq!(dns_ready_of(&refused), verifying(3));
    }

    #[test]
    fn a_mailbox_names_only_what_was_written_and_keeps_what_an_earlier_process_saw() {
        let key = ObjectKey::new(Kind::Mailbox, NamespacedName::new("mail", "anna"));
        let report = |credentials: CredentialsReport, version: &str| Report {
            generation: 3,
            verdict: Verdict::Accepted { message: "served".to_owned() },
            details: Details::Mailbox {
                address: None,
                versions: vec![SecretVersion { name: "anna".to_owned(), resource_version: version.to_owned() }],
                credentials,
                filter: FilterReport::NoFilter,
            },
        };
        let status = |report: &Report, written: bool, present: &Status| {
            let facts = Facts::Mailbox { generated: false, written };
            wanted(&key, report, programmed(), &facts, present, at(100))
        };
        let used = |status: &Status| {
            let Status::Mailbox(status) = status else { panic!("another kind") };
            status.credentials.iter().map(|used| used.resource_version.clone()).collect::<Vec<_>>()
        };
        let reason = |status: &Status| {
            conditions::find(status.conditions(), ConditionType::CredentialsReady).unwrap().reason.clone()
        };
        let first = status(&report(CredentialsReport::Ready, "1"), false, &Status::empty(Kind::Mailbox));
        assert_eq!((used(&first), reason(&first)), (vec![], "Hashed".to_owned()));
        let written = status(&report(CredentialsReport::Ready, "1"), true, &first);
        assert_eq!(used(&written), ["1"]);
        assert_eq!(used(&status(&report(CredentialsReport::Ready, "2"), false, &written)), ["1"]);
        // The next process has not read the Secret yet.
        assert_eq!(status(&report(CredentialsReport::Pending, "1"), false, &written), written);
        let edited = Report { generation: 4, ..report(CredentialsReport::Pending, "1") };
        assert_eq!(reason(&status(&edited, false, &written)), "Pending");
    }

    #[test]
    fn each_report_of_a_mailbox_has_its_condition() {
        let key = ObjectKey::new(Kind::Mailbox, NamespacedName::new("mail", "anna"));
        let status = |credentials: CredentialsReport, filter: FilterReport, generated: bool| {
            let details = Details::Mailbox { address: None, versions: Vec::new(), credentials, filter };
            let verdict = Verdict::Accepted { message: "served".to_owned() };
            let report = Report { generation: 3, verdict, details };
            let facts = Facts::Mailbox { generated, written: true };
            wanted(&key, &report, programmed(), &facts, &Status::empty(Kind::Mailbox), at(100))
        };
        let words = |status: &Status, part: ConditionType| {
            let condition = conditions::find(status.conditions(), part).unwrap();
            (condition.status.clone(), condition.reason.clone())
        };
        let is = |status: &str, reason: Reason| (status.to_owned(), reason.to_string());
        let wrong = |reason: Reason| CredentialFailure { reason, message: "See the Secret.".to_owned() };
        for (report, generated, expected) in [
            (CredentialsReport::ReceiveOnly, false, is("True", Reason::ReceiveOnly)),
            (CredentialsReport::Ready, false, is("True", Reason::Hashed)),
            (CredentialsReport::Ready, true, is("True", Reason::Generated)),
            (CredentialsReport::Pending, false, is("Unknown", Reason::Pending)),
            (CredentialsReport::Failed(wrong(Reason::EmptyPassword)), false, is("False", Reason::EmptyPassword)),
            (CredentialsReport::Failed(wrong(Reason::UnsupportedHash)), false, is("False", Reason::UnsupportedHash)),
        ] {
            let status = status(report.clone(), FilterReport::NoFilter, generated);
            assert_eq!(words(&status, ConditionType::CredentialsReady), expected, "{report:?}");
            assert_eq!(words(&status, ConditionType::Ready).0, expected.0, "{report:?}");
        }
        let wrong = |reason: Reason| FilterFailure { reason, message: "Line 3, column 7.".to_owned() };
        for (report, expected) in [
            (FilterReport::NoFilter, is("True", Reason::NoFilter)),
            (FilterReport::Compiled, is("True", Reason::Compiled)),
            (FilterReport::Pending, is("Unknown", Reason::Pending)),
            (FilterReport::Failed(wrong(Reason::ScriptInvalid)), is("False", Reason::ScriptInvalid)),
            (FilterReport::Failed(wrong(Reason::ConfigMapNotFound)), is("False", Reason::ConfigMapNotFound)),
        ] {
            let status = status(CredentialsReport::Ready, report.clone(), false);
            assert_eq!(words(&status, ConditionType::FilterReady), expected, "{report:?}");
            assert_eq!(words(&status, ConditionType::Ready).0, expected.0, "{report:?}");
        }
    }

    #[test]
    fn a_field_that_is_not_in_force_is_not_said_to_be_absent() {
        let words = |update: ConditionUpdate| (update.status.to_string(), update.reason);
        assert_eq!(words(paused(false)), ("False".to_owned(), Reason::NotPaused));
        assert_eq!(words(paused(true)), ("True".to_owned(), Reason::Paused));
    }

    #[test]
    fn what_cannot_be_understood_says_so() {
        let status = undecodable(Kind::Mailbox, 7, "missing field localPart", &Status::empty(Kind::Mailbox), at(1));
        let accepted = conditions::find(status.conditions(), TYPE).unwrap();
        assert_eq!((accepted.status.as_str(), accepted.reason.as_str()), ("False", "InvalidSpec"));
        assert!(accepted.message.contains("localPart") && accepted.observed_generation == Some(7));
    }
}

//! What the statuses of objects say, and when they stay as they are.

use jiff::Timestamp;
use paquebot_crds::Kind;
use paquebot_crds::conditions::{self, ConditionType, ConditionUpdate, Reason};
use paquebot_crds::mail_domain::DnsStatus;

use super::wanted::paused;
use super::*;
use crate::directory::{
    CredentialFailure, CredentialsReport, Details, FilterFailure, FilterReport, NamespacedName, ObjectKey, Refusal,
    Report, SecretVersion, Verdict,
};

const TYPE: ConditionType = ConditionType::Accepted;

fn key() -> ObjectKey {
    ObjectKey::new(Kind::MailDomain, NamespacedName::new("mail", "a.org"))
}

fn report(verdict: Verdict) -> Report {
    Report { generation: 3, verdict, details: Details::MailDomain { server: None, mailboxes: 2, aliases: 1 } }
}

fn accepted_report() -> Report {
    report(Verdict::Accepted { message: "served".to_owned(), suspended: false })
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
fn what_is_suspended_is_not_said_to_receive_mail() {
    let key = ObjectKey::new(Kind::Mailbox, NamespacedName::new("one", "anna"));
    let said = |suspended| {
        let details = Details::Mailbox {
            address: None,
            versions: Vec::new(),
            credentials: CredentialsReport::ReceiveOnly,
            filter: FilterReport::NoFilter,
        };
        let report = Report { details, ..report(Verdict::Accepted { message: "kept".to_owned(), suspended }) };
        let facts = Facts::Mailbox { generated: false, written: true };
        let status = wanted(&key, &report, programmed(), &facts, &Status::empty(Kind::Mailbox), at(100));
        let ready = conditions::find(status.conditions(), ConditionType::Ready).unwrap().clone();
        (ready.status, ready.message)
    };
    assert_eq!(said(false), ("True".to_owned(), "The mailbox receives mail.".to_owned()));
    let (status, message) = said(true);
    assert_eq!(status, "True");
    assert!(message.contains("suspended: its mail is refused for now"), "{message}");
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
        verdict: Verdict::Accepted { message: "served".to_owned(), suspended: false },
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
        let verdict = Verdict::Accepted { message: "served".to_owned(), suspended: false };
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

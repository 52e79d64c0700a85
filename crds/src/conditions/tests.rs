//! What the helpers promise, and the words that people script against.

use jiff::Timestamp;

use super::{
    ConditionStatus, ConditionType, ConditionUpdate, DNS_PARTS, Reason, condition_types, dns_ready, ensure, find,
    initial_conditions, is_true, ready, reasons, refresh_ready, required_for_ready, set_condition,
};
use crate::Kind;
use crate::schema::MESSAGE_MAXIMUM;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn a_new_object_has_its_whole_set_and_nothing_is_known() {
    for kind in Kind::ALL {
        let conditions = initial_conditions(kind, Some(1), at(1));
        let types: Vec<&str> = conditions.iter().map(|condition| condition.type_.as_str()).collect();
        let wanted: Vec<&str> = condition_types(kind).iter().map(|wanted| wanted.as_str()).collect();
        assert_eq!(types, wanted);
        for condition in conditions {
            assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("Unknown", "Pending"));
            assert_eq!(condition.observed_generation, Some(1));
        }
    }
}

#[test]
fn the_transition_time_moves_with_the_status_only() {
    let mut conditions = initial_conditions(Kind::Mailbox, Some(1), at(1));
    let time = |conditions: &[_]| find(conditions, ConditionType::Accepted).unwrap().last_transition_time.0;
    let missing = ConditionUpdate::no(ConditionType::Accepted, Reason::DomainNotFound, "MailDomain a is missing.");
    assert!(set_condition(&mut conditions, &missing, Some(1), at(2)));
    assert_eq!(time(&conditions), at(2));

    let conflict = ConditionUpdate::no(ConditionType::Accepted, Reason::AddressConflict, "Mailbox b is older.");
    assert!(set_condition(&mut conditions, &conflict, Some(2), at(3)));
    assert_eq!(time(&conditions), at(2), "another reason is no transition");
    assert!(!set_condition(&mut conditions, &conflict, Some(2), at(4)), "the same again changes nothing");

    let accepted = ConditionUpdate::yes(ConditionType::Accepted, Reason::Accepted, "");
    assert!(set_condition(&mut conditions, &accepted, Some(2), at(5)));
    assert_eq!(time(&conditions), at(5));
    assert!(is_true(&conditions, ConditionType::Accepted));
}

#[test]
fn a_time_is_written_to_the_second() {
    let mut conditions = Vec::new();
    let now = Timestamp::new(7, 999_999_999).unwrap();
    set_condition(&mut conditions, &ConditionUpdate::pending(ConditionType::Ready), None, now);
    assert_eq!(conditions[0].last_transition_time.0, at(7));
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let mut conditions = Vec::new();
    let long = "é".repeat(MESSAGE_MAXIMUM);
    let update = ConditionUpdate::no(ConditionType::Programmed, Reason::ReplicaRejected, format!("x{long}"));
    set_condition(&mut conditions, &update, None, at(1));
    assert_eq!(conditions[0].message.len(), MESSAGE_MAXIMUM - 1);
}

#[test]
fn a_set_of_another_release_is_made_whole() {
    let mut conditions = initial_conditions(Kind::MailAlias, Some(1), at(1));
    conditions.remove(0);
    conditions[0].type_ = "Forgotten".to_owned();
    assert!(ensure(&mut conditions, Kind::MailAlias, Some(1), at(2)));
    let types: Vec<&str> = conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(types, ["Accepted", "Programmed", "Ready"]);
    assert_eq!(conditions[2].last_transition_time.0, at(1), "what was there stays");
    assert!(!ensure(&mut conditions, Kind::MailAlias, Some(1), at(3)));
}

#[test]
fn ready_copies_the_first_failure_else_what_is_not_known() {
    let mut conditions = initial_conditions(Kind::Mailbox, Some(1), at(1));
    assert_eq!(ready(Kind::Mailbox, &conditions).reason, Reason::Pending);
    set_condition(&mut conditions, &ConditionUpdate::yes(ConditionType::Accepted, Reason::Accepted, ""), None, at(1));
    let propagating = ConditionUpdate::unknown(ConditionType::Programmed, Reason::Propagating, "0 of 1 replicas");
    set_condition(&mut conditions, &propagating, None, at(1));
    let no_key =
        ConditionUpdate::no(ConditionType::CredentialsReady, Reason::SecretKeyMissing, "Secret a has no key b.");
    set_condition(&mut conditions, &no_key, None, at(1));
    let summary = ready(Kind::Mailbox, &conditions);
    assert_eq!((summary.status, summary.reason), (ConditionStatus::False, Reason::SecretKeyMissing));
    assert_eq!(summary.message, "Secret a has no key b.");

    for (condition_type, reason) in
        [(ConditionType::CredentialsReady, Reason::Hashed), (ConditionType::FilterReady, Reason::NoFilter)]
    {
        set_condition(&mut conditions, &ConditionUpdate::yes(condition_type, reason, ""), None, at(1));
    }
    assert_eq!(ready(Kind::Mailbox, &conditions).reason, Reason::Propagating);
    let programmed = ConditionUpdate::yes(ConditionType::Programmed, Reason::Programmed, "");
    set_condition(&mut conditions, &programmed, None, at(1));
    assert!(refresh_ready(&mut conditions, Kind::Mailbox, Some(1), at(2)));
    assert!(is_true(&conditions, ConditionType::Ready));
}

#[test]
fn a_list_without_the_parts_is_not_ready() {
    assert_eq!(ready(Kind::MailServer, &[]).status, ConditionStatus::Unknown);
    assert_eq!(dns_ready(&[]).status, ConditionStatus::Unknown);
}

#[test]
fn a_domain_is_ready_before_its_dns() {
    let mut conditions = initial_conditions(Kind::MailDomain, Some(1), at(1));
    for (condition_type, reason) in [
        (ConditionType::Accepted, Reason::Accepted),
        (ConditionType::OwnershipVerified, Reason::NotRequired),
        (ConditionType::Programmed, Reason::Programmed),
    ] {
        set_condition(&mut conditions, &ConditionUpdate::yes(condition_type, reason, ""), None, at(1));
    }
    assert_eq!(ready(Kind::MailDomain, &conditions).status, ConditionStatus::True);
    assert_eq!(dns_ready(&conditions).status, ConditionStatus::Unknown);
}

#[test]
fn dns_is_ready_when_each_record_is_and_disabled_when_none_is_looked_at() {
    let mut conditions = Vec::new();
    for part in DNS_PARTS {
        set_condition(&mut conditions, &ConditionUpdate::yes(part, Reason::Disabled, ""), None, at(1));
    }
    assert_eq!(dns_ready(&conditions).reason, Reason::Disabled);
    let found = ConditionUpdate::yes(ConditionType::MXReady, Reason::RecordsMatch, "");
    set_condition(&mut conditions, &found, None, at(1));
    assert_eq!(dns_ready(&conditions).reason, Reason::RecordsMatch);
    let missing = ConditionUpdate::no(ConditionType::SPFReady, Reason::RecordMissing, "Publish the record.");
    set_condition(&mut conditions, &missing, None, at(1));
    assert_eq!(dns_ready(&conditions).reason, Reason::RecordMissing);
    assert_eq!(dns_ready(&conditions).message, "Publish the record.");
}

#[test]
fn dns_ready_copies_the_first_part_that_fails_else_the_first_that_is_not_known() {
    let right = || {
        let mut conditions = Vec::new();
        for part in DNS_PARTS {
            set_condition(&mut conditions, &ConditionUpdate::yes(part, Reason::RecordsMatch, ""), None, at(1));
        }
        conditions
    };
    for reason in reasons(ConditionType::MXReady).when_unknown {
        let mut conditions = right();
        let unknown = ConditionUpdate::unknown(ConditionType::DMARCReady, *reason, "nobody knows");
        set_condition(&mut conditions, &unknown, None, at(1));
        let summary = dns_ready(&conditions);
        assert_eq!((summary.status, summary.reason), (ConditionStatus::Unknown, *reason));
        // What fails goes before it, whatever its place.
        for reason in reasons(ConditionType::MXReady).when_false {
            let wrong = ConditionUpdate::no(ConditionType::TLSRPTReady, *reason, "publish it");
            set_condition(&mut conditions, &wrong, None, at(1));
            let summary = dns_ready(&conditions);
            assert_eq!((summary.status, summary.reason), (ConditionStatus::False, *reason));
            assert_eq!(summary.message, "publish it");
        }
    }
}

/// Every word that people may script against, as the table in the documentation lists them.
#[test]
fn words_are_stable() {
    type Words = &'static [&'static str];
    let table: [(&str, Words, Words, Words); 12] = [
        (
            "Accepted",
            &["Accepted"],
            &[
                "DomainConflict",
                "AddressConflict",
                "NamespaceNotAllowed",
                "ServerNotFound",
                "DomainNotFound",
                "InvalidSpec",
                "LimitExceeded",
                "QuotaExceedsDomainLimit",
                "OpenRelayRefused",
                "AliasLoop",
                "SecretNotFound",
                "SecretKeyMissing",
                "Deleting",
            ],
            &[],
        ),
        (
            "CredentialsReady",
            &["Hashed", "Generated", "ReceiveOnly"],
            &["SecretNotFound", "SecretKeyMissing", "EmptyPassword", "UnsupportedHash"],
            &[],
        ),
        ("FilterReady", &["Compiled", "NoFilter"], &["ScriptInvalid", "ConfigMapNotFound"], &[]),
        ("Programmed", &["Programmed"], &["NoReadyReplicas", "ReplicaRejected"], &["Propagating"]),
        ("OwnershipVerified", &["Verified", "NotRequired"], &["ChallengeMissing"], &["LookupFailed"]),
        (
            "MXReady",
            &["RecordsMatch", "Disabled"],
            &[
                "RecordMissing",
                "RecordMismatch",
                "ExtraMX",
                "MultipleSPF",
                "TooManyLookups",
                "TargetIsCNAME",
                "TargetNoAddress",
            ],
            &["LookupFailed", "ServerAddressUnknown"],
        ),
        (
            "SourceIPPreserved",
            &["TrafficPolicyLocal", "ProxyProtocol"],
            &["TrafficPolicyCluster", "ObservedNodeSourceIP"],
            &["NoTrafficYet"],
        ),
        ("RelayClosed", &["ProbeRefused"], &["OpenRelay"], &["NotProbed"]),
        (
            "CertificateReady",
            &["Valid", "SelfSigned"],
            &["NotFound", "Expired", "NameMismatch", "KeyMismatch"],
            &["Issuing"],
        ),
        ("ReverseDNSReady", &["Matches", "Disabled"], &["Missing", "Mismatch"], &["NoPublicAddress", "LookupFailed"]),
        ("Available", &["PodsReady"], &["PodsNotReady", "Stopped", "VolumePending", "ImagePullFailed"], &[]),
        ("Paused", &["Paused"], &["NotPaused"], &[]),
    ];
    let words = |reasons: &[Reason]| reasons.iter().map(|reason| reason.as_str()).collect::<Vec<_>>();
    for (name, when_true, when_false, when_unknown) in table {
        let reasons = reasons(ConditionType::from_word(name).unwrap());
        assert_eq!(words(reasons.when_true), when_true, "{name}");
        assert_eq!(words(reasons.when_false), when_false, "{name}");
        assert_eq!(words(reasons.when_unknown), when_unknown, "{name}");
    }
    let records = reasons(ConditionType::MXReady);
    for part in DNS_PARTS {
        assert_eq!(reasons(part), records, "{part}");
    }
    for kind in Kind::ALL {
        assert!(required_for_ready(kind).iter().all(|required| condition_types(kind).contains(required)));
    }
    for reason in Reason::ALL {
        assert_eq!(Reason::from_word(reason.as_str()), Some(*reason));
    }
}

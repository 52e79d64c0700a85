use paquebot_crds::conditions::{self, ConditionStatus};

use super::*;
use crate::dns::wanted::wanted;
use crate::dns::zone::zone_file;

const ADDRESS: &str = "192.0.2.1";

fn wanted_with(yaml: &str, addresses: ServerAddresses) -> Wanted {
    wanted("a.org", &serde_saphyr::from_str(yaml).unwrap(), "mx.a.org", addresses)
}

fn public() -> ServerAddresses {
    ServerAddresses::Public(vec![ADDRESS.parse().unwrap()])
}

fn host(address: &str) -> SeenHost {
    SeenHost { alias_of: None, addresses: Answer::Found(vec![address.parse().unwrap()]) }
}

fn exchangers(list: &[(u16, &str)]) -> Answer<Vec<Exchanger>> {
    Answer::Found(list.iter().map(|&(preference, host)| Exchanger { preference, host: host.to_owned() }).collect())
}

fn texts_of(list: &[&str]) -> Answer<Vec<String>> {
    Answer::Found(list.iter().map(|&text| text.to_owned()).collect())
}

fn right() -> Seen {
    Seen {
        nameservers: vec!["ns.a.org".to_owned()],
        exchangers: exchangers(&[(10, "mx.a.org")]),
        texts: texts_of(&["google-site-verification=x", "v=spf1 mx ~all"]),
        dmarc: texts_of(&["v=DMARC1; p=none"]),
        hosts: [("mx.a.org".to_owned(), host(ADDRESS))].into(),
        included: BTreeMap::new(),
        void: BTreeSet::new(),
        further: BTreeMap::new(),
    }
}

fn verdict(comparison: &Comparison, part: ConditionType) -> (ConditionStatus, Reason, String) {
    let found = comparison.verdicts.iter().find(|verdict| verdict.condition_type == part).unwrap();
    (found.status, found.reason, found.message.clone())
}

#[test]
fn published_records_match() {
    let comparison = compare(&wanted_with("{}", public()), &right());
    assert!(comparison.verdicts.iter().all(|verdict| verdict.status == ConditionStatus::True), "{comparison:?}");
    assert!(comparison.records.iter().all(|record| record.state == DnsRecordState::Match && record.message.is_empty()));
    assert_eq!(comparison.records[0].observed, ["10 mx.a.org"]);
}

#[test]
fn nothing_published_names_each_record_to_publish() {
    let nothing = Seen {
        exchangers: Answer::Missing,
        texts: Answer::Missing,
        dmarc: Answer::Missing,
        hosts: [("mx.a.org".to_owned(), SeenHost { alias_of: None, addresses: Answer::Missing })].into(),
        ..right()
    };
    let comparison = compare(&wanted_with("{}", public()), &nothing);
    for (part, line) in [
        (ConditionType::MXReady, "a.org. IN MX 10 mx.a.org."),
        (ConditionType::SPFReady, "a.org. IN TXT \"v=spf1 mx ~all\""),
        (ConditionType::DMARCReady, "_dmarc.a.org. IN TXT \"v=DMARC1; p=none\""),
    ] {
        let (status, reason, message) = verdict(&comparison, part);
        assert_eq!((status, reason), (ConditionStatus::False, Reason::RecordMissing));
        assert!(message.contains(line), "{message}");
    }
    assert!(comparison.records.iter().all(|record| record.state == DnsRecordState::Missing));
}

/// MX records, the host of the first, the server's addresses; status, reason, and a part of the message.
type MxCase<'a> = (&'a [(u16, &'a str)], SeenHost, ServerAddresses, ConditionStatus, Reason, &'a str);

/// Each way that MX can be wrong, by its reason.
#[test]
fn mx_reasons() {
    use ConditionStatus::{False, True, Unknown};
    let alias = SeenHost { alias_of: Some("lb.cloud.net".to_owned()), addresses: host(ADDRESS).addresses };
    let bare = SeenHost { alias_of: None, addresses: Answer::Missing };
    let silent = SeenHost { alias_of: None, addresses: Answer::Failed("timed out".to_owned()) };
    let inside = ServerAddresses::Inside(vec![ADDRESS.parse().unwrap()]);
    let one: &[(u16, &str)] = &[(10, "mx.a.org")];
    let cases: &[MxCase] = &[
        (one, host(ADDRESS), public(), True, Reason::RecordsMatch, ""),
        (&[(5, "mx.a.org")], host(ADDRESS), public(), True, Reason::RecordsMatch, ""),
        (&[(10, "old.host.net")], host(ADDRESS), public(), False, Reason::RecordMismatch, "10 old.host.net"),
        (&[(0, "")], host(ADDRESS), public(), False, Reason::RecordMismatch, "0 ."),
        (&[(10, "mx.a.org"), (20, "old.host.net")], host(ADDRESS), public(), False, Reason::ExtraMX, "old.host.net"),
        (one, alias, public(), False, Reason::TargetIsCNAME, "lb.cloud.net"),
        (one, bare.clone(), public(), False, Reason::TargetNoAddress, "mx.a.org. IN A 192.0.2.1"),
        (one, bare, ServerAddresses::Unknown, Unknown, Reason::ServerAddressUnknown, "no address yet"),
        (one, silent, public(), Unknown, Reason::LookupFailed, "timed out"),
        (one, host("198.51.100.9"), public(), False, Reason::RecordMismatch, "198.51.100.9"),
        (one, host("198.51.100.9"), inside, True, Reason::RecordsMatch, ""),
    ];
    for (mx, target, addresses, status, reason, text) in cases {
        let hosts = [("mx.a.org".to_owned(), target.clone())].into();
        let seen = Seen { exchangers: exchangers(mx), hosts, ..right() };
        let comparison = compare(&wanted_with("{}", addresses.clone()), &seen);
        let (found_status, found_reason, message) = verdict(&comparison, ConditionType::MXReady);
        assert_eq!((found_status, found_reason), (*status, *reason), "{mx:?} {target:?}");
        assert!(message.contains(text), "{message}");
    }
}

#[test]
fn order_of_several_exchangers_counts_their_numbers_do_not() {
    let wanted = wanted_with("{mx: [{host: mx.a.org, preference: 10}, {host: b.b.org, preference: 20}]}", public());
    let hosts: BTreeMap<String, SeenHost> =
        [("mx.a.org".to_owned(), host(ADDRESS)), ("b.b.org".to_owned(), host("192.0.2.9"))].into();
    for (mx, reason) in [
        ([(1, "mx.a.org"), (5, "b.b.org")], Reason::RecordsMatch),
        ([(20, "mx.a.org"), (10, "b.b.org")], Reason::RecordMismatch),
        ([(10, "mx.a.org"), (10, "b.b.org")], Reason::RecordMismatch),
    ] {
        let seen = Seen { exchangers: exchangers(&mx), hosts: hosts.clone(), ..right() };
        assert_eq!(verdict(&compare(&wanted, &seen), ConditionType::MXReady).1, reason, "{mx:?}");
    }
}

#[test]
fn spf_and_dmarc_reasons() {
    let wanted = wanted_with("{}", public());
    let many = format!("v=spf1 mx {} ~all", (0..10).map(|n| format!("a:h{n}.org")).collect::<Vec<_>>().join(" "));
    for (texts, reason) in [
        (texts_of(&["v=spf1 mx -all"]), Reason::RecordsMatch),
        (texts_of(&["something"]), Reason::RecordMissing),
        (texts_of(&["v=spf1 -all"]), Reason::RecordMismatch),
        (texts_of(&["v=spf1 mx ~all", "v=spf1 mx -all"]), Reason::MultipleSPF),
        (texts_of(&[&many]), Reason::TooManyLookups),
        (Answer::Failed("SERVFAIL".to_owned()), Reason::LookupFailed),
    ] {
        let seen = Seen { texts: texts.clone(), ..right() };
        assert_eq!(verdict(&compare(&wanted, &seen), ConditionType::SPFReady).1, reason, "{texts:?}");
    }
    for (texts, reason) in [
        (texts_of(&["v=DMARC1; p=reject"]), Reason::RecordsMatch),
        (texts_of(&["v=spf1 mx"]), Reason::RecordMissing),
        (texts_of(&["v=DMARC1"]), Reason::RecordMismatch),
        (texts_of(&["v=DMARC1; p=none", "v=DMARC1; p=reject"]), Reason::RecordMismatch),
        (Answer::Failed("SERVFAIL".to_owned()), Reason::LookupFailed),
    ] {
        let seen = Seen { dmarc: texts.clone(), ..right() };
        assert_eq!(verdict(&compare(&wanted, &seen), ConditionType::DMARCReady).1, reason, "{texts:?}");
    }
}

/// Every verdict uses a reason that the API documents for its type and status.
#[test]
fn reasons_are_documented() {
    let answers = [texts_of(&["v=spf1 mx ~all", "v=DMARC1; p=none"]), Answer::Missing, Answer::Failed("x".to_owned())];
    for answer in answers {
        let seen = Seen { texts: answer.clone(), dmarc: answer.clone(), ..right() };
        for verdict in compare(&wanted_with("{}", public()), &seen).verdicts.into_iter().chain(disabled()) {
            let reasons = conditions::reasons(verdict.condition_type);
            let allowed = match verdict.status {
                ConditionStatus::True => reasons.when_true,
                ConditionStatus::False => reasons.when_false,
                ConditionStatus::Unknown => reasons.when_unknown,
            };
            assert!(allowed.contains(&verdict.reason), "{verdict:?}");
        }
    }
}

/// What this release does not do is not said to be in order.
#[test]
fn dkim_and_mta_sts_say_that_they_are_not_looked_at() {
    use ConditionStatus::{True, Unknown};
    let comparison = compare(&wanted_with("{}", public()), &right());
    for part in [ConditionType::DKIMReady, ConditionType::MTASTSReady, ConditionType::TLSRPTReady] {
        let (status, reason, message) = verdict(&comparison, part);
        assert_eq!((status, reason), (True, Reason::Disabled), "{part}: {message}");
    }
    let comparison = compare(&wanted_with("{mtaSTS: {mode: Testing}}", public()), &right());
    let (status, reason, message) = verdict(&comparison, ConditionType::MTASTSReady);
    assert_eq!((status, reason), (Unknown, Reason::Pending));
    assert!(message.contains("spec.dns.mtaSTS") && message.contains("remove it"), "{message}");
}

#[test]
fn what_others_publish_is_bounded() {
    let long = "x".repeat(5000);
    let texts = vec![format!("v=spf1 {long}"); 100];
    let seen = Seen { texts: Answer::Found(texts), ..right() };
    let comparison = compare(&wanted_with("{}", public()), &seen);
    let record = comparison.records.iter().find(|record| record.purpose == DnsRecordPurpose::SPF).unwrap();
    assert!(record.observed.len() <= 32 && record.observed.iter().all(|value| value.len() <= 4096));
}

/// Each way that a record beside the others can be wrong, as data.
#[test]
fn further_records_have_their_reasons() {
    use ConditionStatus::{False, True, Unknown};
    let wanted = wanted_with("{tlsRpt: {rua: [tls@a.org]}}", public()).with_challenge("proof=1".to_owned());
    let (proof, reports) = ("_paquebot-challenge.a.org", "_smtp._tls.a.org");
    for (name, part, texts, status, reason, words) in [
        (proof, ConditionType::OwnershipVerified, texts_of(&["x", "proof=1"]), True, Reason::Verified, ""),
        (
            proof,
            ConditionType::OwnershipVerified,
            Answer::Missing,
            False,
            Reason::ChallengeMissing,
            "IN TXT \"proof=1\"",
        ),
        (proof, ConditionType::OwnershipVerified, texts_of(&["proof=2"]), False, Reason::ChallengeMissing, "proof=2"),
        (
            proof,
            ConditionType::OwnershipVerified,
            Answer::Failed("REFUSED".to_owned()),
            Unknown,
            Reason::LookupFailed,
            "REFUSED",
        ),
        (
            reports,
            ConditionType::TLSRPTReady,
            texts_of(&["v=TLSRPTv1; rua=mailto:tls@a.org"]),
            True,
            Reason::RecordsMatch,
            "",
        ),
        (reports, ConditionType::TLSRPTReady, texts_of(&["unrelated"]), False, Reason::RecordMissing, "v=TLSRPTv1"),
        (
            reports,
            ConditionType::TLSRPTReady,
            texts_of(&["v=TLSRPTv1; rua=mailto:x@a.org"]),
            False,
            Reason::RecordMismatch,
            "mailto:tls@a.org",
        ),
        (
            reports,
            ConditionType::TLSRPTReady,
            texts_of(&["v=TLSRPTv1", "v=TLSRPTv1"]),
            False,
            Reason::RecordMismatch,
            "2 such records",
        ),
    ] {
        let further = [((name.to_owned(), RecordType::Txt), texts)].into();
        let comparison = compare(&wanted, &Seen { further, ..right() });
        let all = comparison.verdicts.iter().chain(&comparison.ownership);
        let found = all.into_iter().find(|verdict| verdict.condition_type == part).unwrap();
        assert_eq!((found.status, found.reason), (status, reason), "{}", found.message);
        assert!(found.message.contains(words), "{}", found.message);
        let record = comparison.records.iter().find(|record| record.name == name).unwrap();
        assert_eq!(record.state == DnsRecordState::Match, status == True, "{record:?}");
        assert_eq!(record.message.is_empty(), status == True, "{record:?}");
    }
}

#[test]
fn what_is_not_looked_at_is_not_reported() {
    let wanted = wanted_with("{}", public()).with_challenge("proof=1".to_owned()).looked_at(LookedAt::Ownership);
    let further = [(("_paquebot-challenge.a.org".to_owned(), RecordType::Txt), texts_of(&["proof=1"]))].into();
    let comparison = compare(&wanted, &Seen { further, ..right() });
    assert_eq!(comparison.records.len(), 1);
    assert_eq!(comparison.verdicts, disabled());
    assert_eq!(comparison.ownership.unwrap().reason, Reason::Verified);
    let off = wanted.looked_at(LookedAt::Nothing);
    assert!(compare(&off, &right()).ownership.is_none() && compare(&off, &right()).records.is_empty());
    assert!(off.records().len() > 1, "the zone text is whole whatever is looked at");
}

#[test]
fn questions_that_find_nothing_are_counted() {
    let wanted = wanted_with("{}", public());
    let texts = texts_of(&["v=spf1 mx a:x.org a:y.org a:z.org ~all"]);
    let void = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    for (void, reason) in [
        (void(&["x.org", "y.org"]), Reason::RecordsMatch),
        (void(&["x.org", "y.org", "z.org"]), Reason::TooManyLookups),
    ] {
        let comparison = compare(&wanted, &Seen { texts: texts.clone(), void, ..right() });
        assert_eq!(verdict(&comparison, ConditionType::SPFReady).1, reason);
    }
}

/// RFC 1035 §2.3.4: what has no name in DNS is neither asked to be published nor looked up in vain.
#[test]
fn a_domain_that_is_too_long_for_a_record_says_so_and_names_none_that_cannot_be() {
    let label = "a".repeat(61);
    let domain = format!("{label}.{label}.{label}.{}.example", "a".repeat(59));
    assert_eq!(domain.len(), 253);
    let dns = serde_saphyr::from_str("tlsRpt: {rua: [tls@a.org]}").unwrap();
    let wanted = wanted(&domain, &dns, "mx.a.org", public()).with_challenge("proof".to_owned());
    let failed = || Answer::Failed("the name is too long".to_owned());
    let seen = Seen { dmarc: failed(), ..right() };
    let comparison = compare(&wanted, &seen);
    assert!(comparison.records.iter().all(|record| record.name.len() <= 253), "{comparison:?}");
    assert_eq!(comparison.records.len(), 2, "MX and SPF");
    for part in [ConditionType::DMARCReady, ConditionType::TLSRPTReady] {
        let (status, reason, message) = verdict(&comparison, part);
        assert_eq!((status, reason), (ConditionStatus::False, Reason::RecordMissing), "{message}");
        assert!(message.contains("DNS admits 253") && message.contains("shorter domain"), "{message}");
    }
    let ownership = comparison.ownership.unwrap();
    assert_eq!(ownership.reason, Reason::ChallengeMissing);
    assert!(ownership.message.contains("Serve a shorter domain."), "{}", ownership.message);
    assert!(!zone_file(&wanted).contains("_dmarc"), "{}", zone_file(&wanted));
    let alone = compare(&wanted.looked_at(LookedAt::Ownership), &seen);
    assert!(alone.records.is_empty() && alone.ownership.is_some());
}

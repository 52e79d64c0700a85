//! The verdicts on records beside MX, SPF and DMARC, for [`super::compare`]. Pure.

use paquebot_crds::conditions::{ConditionType, ConditionUpdate, Reason};
use paquebot_crds::mail_domain::{DnsRecordState, DnsRecordStatus};

use super::compare::{Answer, Seen, bounded, failed, list, texts};
use super::tls_report;
use super::wanted::{Check, Further, RecordType, Wanted, unnameable};
use super::zone::strings;

/// DKIMReady, MTASTSReady and TLSRPTReady.
pub(super) fn verdicts(wanted: &Wanted, seen: &Seen) -> Vec<ConditionUpdate> {
    let found = |part: ConditionType| wanted.further.iter().find(|further| further.condition == part);
    let of = |part: ConditionType, otherwise: ConditionUpdate| {
        found(part).map_or(otherwise, |further| verdict(further, seen, &wanted.domain))
    };
    let off = |part, why: &str| ConditionUpdate::yes(part, Reason::Disabled, why);
    let mta_sts = if wanted.mta_sts {
        let message = "spec.dns.mtaSTS is set, and no server publishes an MTA-STS policy in this release; remove it.";
        ConditionUpdate::unknown(ConditionType::MTASTSReady, Reason::Pending, message)
    } else {
        off(ConditionType::MTASTSReady, "No MTA-STS record is wanted: spec.dns.mtaSTS is not set.")
    };
    vec![
        of(
            ConditionType::DKIMReady,
            off(ConditionType::DKIMReady, "No DKIM record is wanted: spec.dkim.mode is Disabled."),
        ),
        of(ConditionType::MTASTSReady, mta_sts),
        of(
            ConditionType::TLSRPTReady,
            off(ConditionType::TLSRPTReady, "No TLS report record is wanted: spec.dns.tlsRpt is not set."),
        ),
    ]
}

/// `OwnershipVerified`, where a proof is asked for and looked at.
pub(super) fn ownership_verdict(wanted: &Wanted, seen: &Seen) -> Option<ConditionUpdate> {
    wanted
        .further_looked_at()
        .find(|further| further.condition == ConditionType::OwnershipVerified)
        .map(|further| verdict(further, seen, &wanted.domain))
}

fn answer(further: &Further, seen: &Seen) -> Answer<Vec<String>> {
    let key = (further.record.name.clone(), further.record.kind);
    let answer = seen.further.get(&key).cloned().unwrap_or_else(|| Answer::Failed("nobody was asked".to_owned()));
    match further.check {
        Check::TlsReports(_) => texts(&answer, tls_report::is_tls_report),
        Check::Contains => answer,
    }
}

/// What keeps the records that were found from doing what is wanted; `None`: nothing.
fn shortcoming(further: &Further, found: &[String]) -> Option<String> {
    match (&further.check, found) {
        (Check::TlsReports(rua), [one]) => {
            tls_report::shortcoming(one, rua).map(|why| format!("the record \"{one}\" does not do it: {why}"))
        }
        // RFC 8460 §3: with more than one, none applies.
        (Check::TlsReports(_), several) => {
            Some(format!("there are {} such records, so that none applies", several.len()))
        }
        (Check::Contains, found) => {
            let missing = further.record.values.iter().any(|value| !found.contains(value));
            missing.then(|| format!("the name has other records, {}, and not this one", list(found.iter().cloned())))
        }
    }
}

/// The records as lines of a zone file.
fn advice(further: &Further) -> String {
    let record = &further.record;
    let data = |value: &String| if record.kind == RecordType::Txt { strings(value) } else { value.clone() };
    let lines =
        record.values.iter().map(|value| format!("{}. IN {} {}", record.name, record.kind.as_str(), data(value)));
    lines.collect::<Vec<_>>().join("; ")
}

fn verdict(further: &Further, seen: &Seen, domain: &str) -> ConditionUpdate {
    let (part, name, kind) = (further.condition, &further.record.name, further.record.kind.as_str());
    let proof = part == ConditionType::OwnershipVerified;
    let (right, missing, wrong) = if proof {
        (Reason::Verified, Reason::ChallengeMissing, Reason::ChallengeMissing)
    } else {
        (Reason::RecordsMatch, Reason::RecordMissing, Reason::RecordMismatch)
    };
    let purpose = if proof { format!(", which proves whose {domain} is") } else { String::new() };
    if let Some(why) = unnameable(name) {
        let cure =
            if proof { "Serve a shorter domain." } else { "Take spec.dns.tlsRpt out, or serve a shorter domain." };
        return ConditionUpdate::no(part, missing, format!("{why}. {cure}"));
    }
    match answer(further, seen) {
        Answer::Failed(why) => failed(part, &format!("the {kind} records of {name}"), &why),
        Answer::Missing => {
            let message = format!("{name} has no such {kind} record{purpose}. Publish: {}", advice(further));
            ConditionUpdate::no(part, missing, message)
        }
        Answer::Found(found) => match shortcoming(further, &found) {
            Some(why) => {
                let message = format!(
                    "The {kind} record of {name}{purpose} is missing or wrong: {why}. Publish: {}",
                    advice(further)
                );
                ConditionUpdate::no(part, wrong, message)
            }
            None if proof => ConditionUpdate::yes(
                part,
                right,
                format!("The owner of {domain} has published the record that proves it."),
            ),
            None => ConditionUpdate::yes(part, right, format!("The {kind} records of {name} are as wanted.")),
        },
    }
}

/// The entry in `status.dns.records`.
pub(super) fn record_of(further: &Further, seen: &Seen, domain: &str) -> DnsRecordStatus {
    let record = &further.record;
    let observed = answer(further, seen);
    let state = match &observed {
        Answer::Failed(_) => DnsRecordState::Unknown,
        Answer::Missing => DnsRecordState::Missing,
        Answer::Found(found) if shortcoming(further, found).is_none() => DnsRecordState::Match,
        Answer::Found(_) => DnsRecordState::Mismatch,
    };
    let message = match state {
        DnsRecordState::Match => String::new(),
        _ => verdict(further, seen, domain).message,
    };
    DnsRecordStatus {
        purpose: record.purpose,
        type_: record.kind.as_str().to_owned(),
        name: record.name.clone(),
        ttl: record.ttl,
        values: record.values.clone(),
        observed: bounded(observed.found()),
        state,
        message: bounded(vec![message]).pop().unwrap_or_default(),
    }
}

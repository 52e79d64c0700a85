//! What is wanted against what was seen: a state for each record, a verdict for each condition. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use paquebot_crds::conditions::{ConditionType, ConditionUpdate, DNS_PARTS, Reason};
use paquebot_crds::mail_domain::{DnsRecordPurpose, DnsRecordState, DnsRecordStatus};

use super::further::{ownership_verdict, record_of, verdicts};
use super::wanted::{Exchanger, LookedAt, RecordType, ServerAddresses, Wanted, WantedRecord, unnameable};
use super::{dmarc, spf};

/// What one question was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// There are such records.
    Found(T),
    /// The servers say that there are none: NXDOMAIN, or the name without such records.
    Missing,
    /// The servers did not say: no answer in time, SERVFAIL, REFUSED. The text says which, for people.
    Failed(String),
}

impl<T: Default + Clone> Answer<T> {
    /// What was found; nothing in the other cases.
    #[must_use]
    pub fn found(&self) -> T {
        match self {
            Self::Found(found) => found.clone(),
            Self::Missing | Self::Failed(_) => T::default(),
        }
    }
}

/// What is known of an exchanger's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenHost {
    /// The name that it is an alias of.
    pub alias_of: Option<String>,
    /// Its addresses.
    pub addresses: Answer<Vec<IpAddr>>,
}

/// Everything that was seen of one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The servers that were asked.
    pub nameservers: Vec<String>,
    /// The MX records, by preference.
    pub exchangers: Answer<Vec<Exchanger>>,
    /// The TXT records of the domain.
    pub texts: Answer<Vec<String>>,
    /// The TXT records at `_dmarc`.
    pub dmarc: Answer<Vec<String>>,
    /// The hosts of the wanted exchangers.
    pub hosts: BTreeMap<String, SeenHost>,
    /// The SPF records of the domains that ours includes, as far as they were found.
    pub included: BTreeMap<String, String>,
    /// The names that our SPF record asks about, directly or by what it includes, and that have nothing.
    pub void: BTreeSet<String>,
    /// What further names have, in the form of zone files but for TXT, which is the plain text.
    pub further: BTreeMap<(String, RecordType), Answer<Vec<String>>>,
}

/// What is to be reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// `status.dns.records`.
    pub records: Vec<DnsRecordStatus>,
    /// All of `DNS_PARTS`.
    pub verdicts: Vec<ConditionUpdate>,
    /// `OwnershipVerified`; absent where no proof is asked for.
    pub ownership: Option<ConditionUpdate>,
}

/// Compares.
#[must_use]
pub fn compare(wanted: &Wanted, seen: &Seen) -> Comparison {
    let ownership = ownership_verdict(wanted, seen);
    if wanted.looked_at != LookedAt::Everything {
        let records = further_records(wanted, seen);
        return Comparison { records, verdicts: disabled(), ownership };
    }
    let fault = exchangers_fault(wanted, seen);
    let judged = Judged {
        exchangers_differ: fault.is_some(),
        mx: fault.unwrap_or_else(|| hosts_verdict(wanted, seen)),
        spf: spf_verdict(wanted, seen),
        dmarc: dmarc_verdict(wanted, seen),
    };
    let status = |record: &WantedRecord| {
        let further = wanted.further.iter().find(|further| further.record == *record);
        further.map_or_else(
            || record_status(record, wanted, seen, &judged),
            |further| record_of(further, seen, &wanted.domain),
        )
    };
    let records = wanted.records().iter().map(status).collect();
    let verdicts = [judged.mx, judged.spf, judged.dmarc].into_iter().chain(verdicts(wanted, seen)).collect();
    Comparison { records, verdicts, ownership }
}

/// The further records that are looked at, as far as there can be such.
fn further_records(wanted: &Wanted, seen: &Seen) -> Vec<DnsRecordStatus> {
    let possible = wanted.further_looked_at().filter(|further| unnameable(&further.record.name).is_none());
    possible.map(|further| record_of(further, seen, &wanted.domain)).collect()
}

/// The verdicts on one domain's records.
struct Judged {
    /// The MX records themselves are not as wanted; otherwise what `mx` says is about their hosts.
    exchangers_differ: bool,
    mx: ConditionUpdate,
    spf: ConditionUpdate,
    dmarc: ConditionUpdate,
}

/// What is reported of a domain whose records nobody looks at.
#[must_use]
pub fn disabled() -> Vec<ConditionUpdate> {
    let off = "DNS records are not looked at: dns.mode is Disabled.";
    DNS_PARTS.iter().map(|part| ConditionUpdate::yes(*part, Reason::Disabled, off)).collect()
}

/// What is wrong with the MX records themselves; `None`: nothing.
fn exchangers_fault(wanted: &Wanted, seen: &Seen) -> Option<ConditionUpdate> {
    const TYPE: ConditionType = ConditionType::MXReady;
    let domain = &wanted.domain;
    let advice = wanted.exchangers.iter().map(|mx| mx_line(domain, mx)).collect::<Vec<_>>().join("; ");
    let found = match &seen.exchangers {
        Answer::Found(found) => found,
        Answer::Missing => {
            let message = format!("{domain} has no MX record. Publish: {advice}");
            return Some(ConditionUpdate::no(TYPE, Reason::RecordMissing, message));
        }
        Answer::Failed(why) => return Some(failed(TYPE, &format!("the MX records of {domain}"), why)),
    };
    if let Some(missing) = wanted.exchangers.iter().find(|mx| !found.iter().any(|seen| seen.host == mx.host)) {
        let seen = list(found.iter().map(mx_text));
        let line = mx_line(domain, missing);
        let message =
            format!("The MX records of {domain} are {seen}; {} is not among them. Publish: {line}", missing.host);
        return Some(ConditionUpdate::no(TYPE, Reason::RecordMismatch, message));
    }
    if let Some(extra) = found.iter().find(|mx| !wanted.exchangers.iter().any(|wanted| wanted.host == mx.host)) {
        let message = format!(
            "{domain} has a further MX record, {}: mail sent there does not reach this server. Remove it, or name it in spec.dns.mx.",
            mx_text(extra)
        );
        return Some(ConditionUpdate::no(TYPE, Reason::ExtraMX, message));
    }
    if ranks(found) != ranks(&wanted.exchangers) {
        let seen = list(found.iter().map(mx_text));
        let message = format!("The MX records of {domain} are {seen}, in another order than wanted. Publish: {advice}");
        return Some(ConditionUpdate::no(TYPE, Reason::RecordMismatch, message));
    }
    None
}

/// The verdict on the hosts of exchangers that are as wanted.
fn hosts_verdict(wanted: &Wanted, seen: &Seen) -> ConditionUpdate {
    wanted.exchangers.iter().find_map(|mx| host_verdict(wanted, &mx.host, seen.hosts.get(&mx.host))).unwrap_or_else(
        || {
            let message = format!("The MX records of {} are as wanted.", wanted.domain);
            ConditionUpdate::yes(ConditionType::MXReady, Reason::RecordsMatch, message)
        },
    )
}

/// Which hosts are tried before which: the numbers themselves do not matter (RFC 5321 §5.1).
fn ranks(exchangers: &[Exchanger]) -> BTreeMap<&str, usize> {
    let mut preferences: Vec<u16> = exchangers.iter().map(|mx| mx.preference).collect();
    preferences.sort_unstable();
    preferences.dedup();
    let rank = |mx: &Exchanger| preferences.iter().position(|preference| *preference == mx.preference);
    exchangers.iter().filter_map(|mx| Some((mx.host.as_str(), rank(mx)?))).collect()
}

/// What is wrong with the host of a wanted exchanger; `None`: nothing.
fn host_verdict(wanted: &Wanted, host: &str, seen: Option<&SeenHost>) -> Option<ConditionUpdate> {
    const TYPE: ConditionType = ConditionType::MXReady;
    let Some(seen) = seen else {
        return Some(failed(TYPE, &format!("the addresses of {host}"), "nobody was asked"));
    };
    if let Some(target) = &seen.alias_of {
        // RFC 5321 §5.1, RFC 2181 §10.3.
        let message = format!(
            "The MX record of {} leads to {host}, which is an alias (CNAME) of {target}; many servers refuse that. Give {host} A or AAAA records of its own.",
            wanted.domain
        );
        return Some(ConditionUpdate::no(TYPE, Reason::TargetIsCNAME, message));
    }
    let addresses = match &seen.addresses {
        Answer::Found(addresses) => addresses,
        Answer::Failed(why) => return Some(failed(TYPE, &format!("the addresses of {host}"), why)),
        Answer::Missing => return Some(no_address(wanted, host)),
    };
    match &wanted.addresses {
        ServerAddresses::Public(own) if host == wanted.hostname && !own.iter().any(|ip| addresses.contains(ip)) => {
            let message = format!(
                "{host} has the address {}, but the MailServer is reached at {}. Correct the A and AAAA records of {host}.",
                list(addresses.iter().map(ToString::to_string)),
                list(own.iter().map(ToString::to_string)),
            );
            Some(ConditionUpdate::no(TYPE, Reason::RecordMismatch, message))
        }
        _ => None,
    }
}

fn no_address(wanted: &Wanted, host: &str) -> ConditionUpdate {
    const TYPE: ConditionType = ConditionType::MXReady;
    if host != wanted.hostname {
        let message = format!("The MX host {host} has no A or AAAA record. Publish its address.");
        return ConditionUpdate::no(TYPE, Reason::TargetNoAddress, message);
    }
    match wanted.addresses.list() {
        [] => ConditionUpdate::unknown(
            TYPE,
            Reason::ServerAddressUnknown,
            format!(
                "The MX host {host} has no A or AAAA record, and the MailServer has no address yet that could be published. Wait for its Service to get one, or publish the address yourself."
            ),
        ),
        addresses => {
            let lines =
                addresses.iter().map(|ip| format!("{host}. IN {} {ip}", if ip.is_ipv4() { "A" } else { "AAAA" }));
            let message = format!(
                "The MX host {host} has no A or AAAA record. Publish: {}",
                lines.collect::<Vec<_>>().join("; ")
            );
            ConditionUpdate::no(TYPE, Reason::TargetNoAddress, message)
        }
    }
}

fn spf_verdict(wanted: &Wanted, seen: &Seen) -> ConditionUpdate {
    const TYPE: ConditionType = ConditionType::SPFReady;
    let domain = &wanted.domain;
    let Some(policy) = &wanted.spf else {
        return ConditionUpdate::yes(TYPE, Reason::Disabled, "SPF is not looked at: spec.dns.spf.mode is Disabled.");
    };
    let advice = format!("{domain}. IN TXT \"{}\"", policy.text(&wanted.hostname));
    if let Answer::Failed(why) = &seen.texts {
        return failed(TYPE, &format!("the TXT records of {domain}"), why);
    }
    let found: Vec<String> = seen.texts.found().into_iter().filter(|text| spf::is_spf(text)).collect();
    match found.as_slice() {
        [] => {
            ConditionUpdate::no(TYPE, Reason::RecordMissing, format!("{domain} has no SPF record. Publish: {advice}"))
        }
        [text] => match spf::shortcoming(text, wanted, policy) {
            Some(why) => ConditionUpdate::no(
                TYPE,
                Reason::RecordMismatch,
                format!("The SPF record of {domain} is \"{text}\": {why}. Publish: {advice}"),
            ),
            None if seen.void.len() > spf::VOID_LIMIT => ConditionUpdate::no(
                TYPE,
                Reason::TooManyLookups,
                format!(
                    "The SPF record of {domain} asks about names that have nothing ({}); with more than {} receivers take it for an error (RFC 7208, section 4.6.4). Remove those terms.",
                    list(seen.void.iter().cloned()),
                    spf::VOID_LIMIT
                ),
            ),
            None if spf::lookups(text, &seen.included) > spf::LOOKUP_LIMIT => ConditionUpdate::no(
                TYPE,
                Reason::TooManyLookups,
                format!(
                    "The SPF record of {domain} needs at least {} lookups, and receivers take more than {} for an error (RFC 7208, section 4.6.4). Remove includes from it.",
                    spf::lookups(text, &seen.included),
                    spf::LOOKUP_LIMIT
                ),
            ),
            None => ConditionUpdate::yes(
                TYPE,
                Reason::RecordsMatch,
                format!("The SPF record of {domain} lets {} send.", wanted.hostname),
            ),
        },
        several => ConditionUpdate::no(
            TYPE,
            Reason::MultipleSPF,
            format!(
                "{domain} has {} SPF records ({}), which receivers take for an error (RFC 7208, section 4.5). Keep one: {advice}",
                several.len(),
                list(several.iter().map(|text| format!("\"{text}\""))),
            ),
        ),
    }
}

fn dmarc_verdict(wanted: &Wanted, seen: &Seen) -> ConditionUpdate {
    const TYPE: ConditionType = ConditionType::DMARCReady;
    let Some(policy) = &wanted.dmarc else {
        return ConditionUpdate::yes(
            TYPE,
            Reason::Disabled,
            "DMARC is not looked at: spec.dns.dmarc.mode is Disabled.",
        );
    };
    let name = wanted.dmarc_name();
    if let Some(why) = unnameable(&name) {
        let message = format!("{why}. Set spec.dns.dmarc.mode to Disabled, or serve a shorter domain.");
        return ConditionUpdate::no(TYPE, Reason::RecordMissing, message);
    }
    let advice = format!("{name}. IN TXT \"{}\"", policy.text());
    if let Answer::Failed(why) = &seen.dmarc {
        return failed(TYPE, &format!("the TXT records of {name}"), why);
    }
    let found: Vec<String> = seen.dmarc.found().into_iter().filter(|text| dmarc::is_dmarc(text)).collect();
    match found.as_slice() {
        [] => {
            ConditionUpdate::no(TYPE, Reason::RecordMissing, format!("{name} has no DMARC record. Publish: {advice}"))
        }
        [text] => match dmarc::shortcoming(text, policy) {
            Some(why) => ConditionUpdate::no(
                TYPE,
                Reason::RecordMismatch,
                format!("The DMARC record of {name} is \"{text}\": {why}. Publish: {advice}"),
            ),
            None => ConditionUpdate::yes(
                TYPE,
                Reason::RecordsMatch,
                format!("The DMARC record of {} is as wanted.", wanted.domain),
            ),
        },
        // RFC 7489 §6.6.3: with more than one, none applies.
        several => ConditionUpdate::no(
            TYPE,
            Reason::RecordMismatch,
            format!("{name} has {} DMARC records, so that none applies. Keep one: {advice}", several.len()),
        ),
    }
}

pub(super) fn failed(part: ConditionType, what: &str, why: &str) -> ConditionUpdate {
    let message = format!("Could not look up {what}: {why}. It is tried again.");
    ConditionUpdate::unknown(part, Reason::LookupFailed, message)
}

fn mx_text(mx: &Exchanger) -> String {
    format!("{} {}", mx.preference, if mx.host.is_empty() { "." } else { &mx.host })
}

fn mx_line(domain: &str, mx: &Exchanger) -> String {
    format!("{domain}. IN MX {} {}.", mx.preference, mx.host)
}

/// Values for a message: the first few.
pub(super) fn list(values: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 5;
    let mut values: Vec<String> = values.collect();
    let more = values.len().saturating_sub(SHOWN);
    values.truncate(SHOWN);
    let mut text = values.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn record_status(record: &WantedRecord, wanted: &Wanted, seen: &Seen, judged: &Judged) -> DnsRecordStatus {
    let (observed, verdict) = match (record.purpose, record.kind) {
        (_, RecordType::A | RecordType::Aaaa) => (host_values(record, seen), &judged.mx),
        (DnsRecordPurpose::SPF, _) => (texts(&seen.texts, spf::is_spf), &judged.spf),
        (DnsRecordPurpose::DMARC, _) => (texts(&seen.dmarc, dmarc::is_dmarc), &judged.dmarc),
        _ => (values(&seen.exchangers, mx_text), &judged.mx),
    };
    let state = match &observed {
        Answer::Failed(_) => DnsRecordState::Unknown,
        Answer::Missing => DnsRecordState::Missing,
        Answer::Found(values) => found_state(record, values, wanted, judged),
    };
    let message = match state {
        DnsRecordState::Match => String::new(),
        DnsRecordState::Missing if matches!(record.kind, RecordType::A | RecordType::Aaaa) => {
            let (name, kind) = (&record.name, record.kind.as_str());
            let lines = record.values.iter().map(|ip| format!("{name}. IN {kind} {ip}"));
            format!("{name} has no {kind} record. Publish: {}", lines.collect::<Vec<_>>().join("; "))
        }
        _ => verdict.message.clone(),
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

fn found_state(record: &WantedRecord, values: &[String], wanted: &Wanted, judged: &Judged) -> DnsRecordState {
    let right = match (record.kind, record.purpose) {
        // Only a public address can be told to be wrong.
        (RecordType::A | RecordType::Aaaa, _) => {
            !matches!(wanted.addresses, ServerAddresses::Public(_))
                || record.values.iter().any(|ip| values.contains(ip))
        }
        (RecordType::Mx, _) => !judged.exchangers_differ,
        (RecordType::Txt, DnsRecordPurpose::SPF) => judged.spf.reason == Reason::RecordsMatch,
        (RecordType::Txt | RecordType::Tlsa | RecordType::Srv | RecordType::Caa, _) => {
            judged.dmarc.reason == Reason::RecordsMatch
        }
    };
    if right { DnsRecordState::Match } else { DnsRecordState::Mismatch }
}

fn values<T>(answer: &Answer<Vec<T>>, text: impl Fn(&T) -> String) -> Answer<Vec<String>> {
    match answer {
        Answer::Found(found) => Answer::Found(found.iter().map(text).collect()),
        Answer::Missing => Answer::Missing,
        Answer::Failed(why) => Answer::Failed(why.clone()),
    }
}

pub(super) fn texts(answer: &Answer<Vec<String>>, is: impl Fn(&str) -> bool) -> Answer<Vec<String>> {
    match answer {
        Answer::Found(found) => {
            let found: Vec<String> = found.iter().filter(|text| is(text)).cloned().collect();
            if found.is_empty() { Answer::Missing } else { Answer::Found(found) }
        }
        other => other.clone(),
    }
}

fn host_values(record: &WantedRecord, seen: &Seen) -> Answer<Vec<String>> {
    let Some(host) = seen.hosts.get(&record.name) else { return Answer::Failed("nobody was asked".to_owned()) };
    match &host.addresses {
        Answer::Found(addresses) => {
            let of_kind = addresses.iter().filter(|ip| ip.is_ipv4() == (record.kind == RecordType::A));
            let found: Vec<String> = of_kind.map(ToString::to_string).collect();
            if found.is_empty() { Answer::Missing } else { Answer::Found(found) }
        }
        Answer::Missing => Answer::Missing,
        Answer::Failed(why) => Answer::Failed(why.clone()),
    }
}

/// What a status may hold: 32 values of 4096 characters. What others publish is not ours to trust.
pub(super) fn bounded(mut values: Vec<String>) -> Vec<String> {
    values.truncate(32);
    for value in &mut values {
        let end = value.floor_char_boundary(value.len().min(1024));
        value.truncate(end);
    }
    values
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;

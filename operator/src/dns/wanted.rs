//! The records that a MailDomain and its MailServer call for. Pure.

use std::net::IpAddr;

use paquebot_crds::conditions::ConditionType;
use paquebot_crds::mail_domain::{DmarcPolicy, DnsRecordPurpose, DomainDns, MtaStsMode, SpfAll};

use super::{ownership, tls_report};
use crate::uri::percent_encoded;

/// Seconds that resolvers may keep our records: long enough to be kind, short enough that a move takes an hour.
pub const TTL: u32 = 3600;
/// The longest name in DNS, as text without a dot at the end.
const LONGEST_NAME: usize = 253;

/// Where a MailServer is reached, as far as the operator knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddresses {
    /// Nothing is known yet: the load balancer has no address.
    Unknown,
    /// Addresses that hold inside the cluster only; what DNS should say outside is the administrator's knowledge.
    Inside(Vec<IpAddr>),
    /// Addresses that the world reaches the server at.
    Public(Vec<IpAddr>),
}

impl ServerAddresses {
    /// The addresses to suggest.
    #[must_use]
    pub fn list(&self) -> &[IpAddr] {
        match self {
            Self::Unknown => &[],
            Self::Inside(addresses) | Self::Public(addresses) => addresses,
        }
    }
}

/// The type of a record that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordType {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// A mail exchanger.
    Mx,
    /// Text: SPF, DMARC and others.
    Txt,
    /// The certificate of a server (RFC 6698).
    Tlsa,
    /// Where a service is (RFC 2782).
    Srv,
    /// Who may issue certificates (RFC 8659).
    Caa,
}

impl RecordType {
    /// The type as zone files spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Mx => "MX",
            Self::Txt => "TXT",
            Self::Tlsa => "TLSA",
            Self::Srv => "SRV",
            Self::Caa => "CAA",
        }
    }
}

/// One record set that is wanted, in the form of `status.dns.records`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedRecord {
    /// What it is for.
    pub purpose: DnsRecordPurpose,
    /// Its type.
    pub kind: RecordType,
    /// Its full name, without a dot at the end.
    pub name: String,
    /// Seconds.
    pub ttl: u32,
    /// `10 mx1.example.net` for MX, the text for TXT, the address for A and AAAA, what zone files have for the others.
    pub values: Vec<String>,
}

/// A record set beside those of MX, SPF and DMARC: it is looked up and compared by what is said here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Further {
    /// The record set.
    pub record: WantedRecord,
    /// The condition that speaks of it.
    pub condition: ConditionType,
    /// When what was seen does what is wanted.
    pub check: Check,
}

/// When a record set does what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Every wanted value is among those that were seen.
    Contains,
    /// One record of RFC 8460 sends reports to all of these addresses.
    TlsReports(Vec<String>),
}

/// What is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LookedAt {
    /// Everything that is wanted.
    #[default]
    Everything,
    /// The proof of ownership alone: `dns.mode` is Disabled, or somebody else has the domain so far.
    Ownership,
    /// Nothing: `dns.mode` is Disabled.
    Nothing,
}

/// A mail exchanger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exchanger {
    /// Hosts with a lower number are tried first.
    pub preference: u16,
    /// The host, lower case, no dot at the end.
    pub host: String,
}

/// The SPF policy that is wanted (RFC 7208).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedSpf {
    /// Domains to include.
    pub include: Vec<String>,
    /// What all other senders are.
    pub all: SpfAll,
    /// Whether `mx` covers the server: it is one of the wanted exchangers. Otherwise `a:` names it.
    pub by_mx: bool,
}

/// The DMARC policy that is wanted (RFC 7489).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedDmarc {
    /// What receivers should do with mail that fails.
    pub policy: DmarcPolicy,
    /// Where reports go.
    pub rua: Vec<String>,
}

/// Everything that is wanted for one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The domain.
    pub domain: String,
    /// The MailServer's host name.
    pub hostname: String,
    /// Where the host is reached.
    pub addresses: ServerAddresses,
    /// The exchangers, by preference.
    pub exchangers: Vec<Exchanger>,
    /// `None`: SPF is somebody else's matter.
    pub spf: Option<WantedSpf>,
    /// `None`: DMARC is somebody else's matter.
    pub dmarc: Option<WantedDmarc>,
    /// Records beside those.
    pub further: Vec<Further>,
    /// Whether an MTA-STS policy is asked for, which no server serves yet.
    pub mta_sts: bool,
    /// What is looked at.
    pub looked_at: LookedAt,
}

/// What is wanted for `domain`, served by the host `hostname`.
#[must_use]
pub fn wanted(domain: &str, dns: &DomainDns, hostname: &str, addresses: ServerAddresses) -> Wanted {
    let mut exchangers: Vec<Exchanger> = dns
        .mx
        .iter()
        .map(|record| Exchanger { preference: record.preference, host: record.host.as_str().to_owned() })
        .collect();
    if exchangers.is_empty() {
        exchangers.push(Exchanger { preference: 10, host: hostname.to_owned() });
    }
    exchangers.sort();
    exchangers.dedup_by(|a, b| a.host == b.host);
    let by_mx = exchangers.iter().any(|exchanger| exchanger.host == hostname);
    let spf = dns.spf.mode.is_enabled().then(|| WantedSpf {
        include: dns.spf.include.iter().map(|name| name.as_str().to_owned()).collect(),
        all: dns.spf.all,
        by_mx,
    });
    let dmarc = dns.dmarc.mode.is_enabled().then(|| WantedDmarc {
        policy: dns.dmarc.policy,
        rua: dns.dmarc.rua.iter().map(|address| address.as_str().to_owned()).collect(),
    });
    Wanted {
        domain: domain.to_owned(),
        hostname: hostname.to_owned(),
        addresses,
        exchangers,
        spf,
        dmarc,
        further: dns.tls_rpt.iter().map(|reports| tls_reports(domain, &reports.rua)).collect(),
        mta_sts: dns.mta_sts.as_ref().is_some_and(|policy| policy.mode != MtaStsMode::Disabled),
        looked_at: LookedAt::Everything,
    }
}

fn tls_reports(domain: &str, rua: &[paquebot_crds::EmailAddress]) -> Further {
    let rua: Vec<String> = rua.iter().map(|address| address.as_str().to_owned()).collect();
    Further {
        record: text(DnsRecordPurpose::TLSRPT, tls_report::name(domain), tls_report::text(&rua)),
        condition: ConditionType::TLSRPTReady,
        check: Check::TlsReports(rua),
    }
}

impl Wanted {
    /// With the record that proves the claim to the domain.
    #[must_use]
    pub fn with_challenge(mut self, challenge: String) -> Self {
        self.further.push(Further {
            record: text(DnsRecordPurpose::Ownership, ownership::name(&self.domain), challenge),
            condition: ConditionType::OwnershipVerified,
            check: Check::Contains,
        });
        self
    }

    /// With less that is looked at.
    #[must_use]
    pub fn looked_at(mut self, looked_at: LookedAt) -> Self {
        self.looked_at = looked_at;
        self
    }

    /// The value of the record that proves the claim, where a proof is asked for.
    #[must_use]
    pub fn challenge(&self) -> Option<&String> {
        let proof = self.further.iter().find(|further| further.condition == ConditionType::OwnershipVerified)?;
        proof.record.values.first()
    }

    /// The further records that are looked at.
    pub fn further_looked_at(&self) -> impl Iterator<Item = &Further> {
        let only_ownership = self.looked_at == LookedAt::Ownership;
        let none = self.looked_at == LookedAt::Nothing;
        self.further
            .iter()
            .filter(move |further| !none && (!only_ownership || further.condition == ConditionType::OwnershipVerified))
    }

    /// Whether a name lies in the domain, so that its records belong into the same zone file.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        name == self.domain || name.strip_suffix(&self.domain).is_some_and(|front| front.ends_with('.'))
    }

    /// Whether the server's host name is an exchanger whose address records belong into this domain.
    #[must_use]
    pub fn holds_host(&self) -> bool {
        self.contains(&self.hostname) && self.exchangers.iter().any(|exchanger| exchanger.host == self.hostname)
    }

    /// The name of the DMARC record (RFC 7489 §6.1).
    #[must_use]
    pub fn dmarc_name(&self) -> String {
        format!("_dmarc.{}", self.domain)
    }

    /// The record sets, in the order of the zone file.
    #[must_use]
    pub fn records(&self) -> Vec<WantedRecord> {
        let mut records = vec![WantedRecord {
            purpose: DnsRecordPurpose::MX,
            kind: RecordType::Mx,
            name: self.domain.clone(),
            ttl: TTL,
            values: self.exchangers.iter().map(|mx| format!("{} {}", mx.preference, mx.host)).collect(),
        }];
        if self.holds_host() {
            records.extend(self.address_records());
        }
        if let Some(spf) = &self.spf {
            records.push(text(DnsRecordPurpose::SPF, self.domain.clone(), spf.text(&self.hostname)));
        }
        if let Some(dmarc) = &self.dmarc {
            records.push(text(DnsRecordPurpose::DMARC, self.dmarc_name(), dmarc.text()));
        }
        records.extend(self.further.iter().map(|further| further.record.clone()));
        // What no zone can hold is not published; the verdict on it says so.
        records.retain(|record| unnameable(&record.name).is_none());
        records
    }

    fn address_records(&self) -> Vec<WantedRecord> {
        let of = |kind: RecordType| {
            let values: Vec<String> = self
                .addresses
                .list()
                .iter()
                .filter(|address| address.is_ipv4() == (kind == RecordType::A))
                .map(ToString::to_string)
                .collect();
            (!values.is_empty()).then(|| WantedRecord {
                purpose: DnsRecordPurpose::MX,
                kind,
                name: self.hostname.clone(),
                ttl: TTL,
                values,
            })
        };
        [of(RecordType::A), of(RecordType::Aaaa)].into_iter().flatten().collect()
    }
}

/// Why a record of this name can be in no zone, if that is so: DNS has room for 255 octets on the wire (RFC 1035 §2.3.4),
/// which are 253 in text. A long domain leaves too little for the label in front.
#[must_use]
pub fn unnameable(name: &str) -> Option<String> {
    (name.len() > LONGEST_NAME).then(|| {
        format!("{name} has {} octets, and DNS admits {LONGEST_NAME}: nobody can publish such a record", name.len())
    })
}

fn text(purpose: DnsRecordPurpose, name: String, value: String) -> WantedRecord {
    WantedRecord { purpose, kind: RecordType::Txt, name, ttl: TTL, values: vec![value] }
}

impl WantedSpf {
    /// The record's text.
    #[must_use]
    pub fn text(&self, hostname: &str) -> String {
        let mut terms = vec!["v=spf1".to_owned()];
        terms.push(if self.by_mx { "mx".to_owned() } else { format!("a:{hostname}") });
        terms.extend(self.include.iter().map(|domain| format!("include:{domain}")));
        terms.push(match self.all {
            SpfAll::SoftFail => "~all".to_owned(),
            SpfAll::Fail => "-all".to_owned(),
        });
        terms.join(" ")
    }
}

impl WantedDmarc {
    /// The record's text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("v=DMARC1; p={}", self.policy.as_record_value());
        if !self.rua.is_empty() {
            let addresses: Vec<String> = self.rua.iter().map(|address| mailto(address)).collect();
            text.push_str("; rua=");
            text.push_str(&addresses.join(","));
        }
        text
    }
}

/// An address as a URI in a list of them.
pub(super) fn mailto(address: &str) -> String {
    format!("mailto:{}", percent_encoded(address, KEPT_IN_ADDRESS))
}

/// What stays as it is in an address inside a DMARC URI: `,` and `!` divide URIs and sizes there, `;` divides tags
/// (RFC 7489 §6.2), and `%` and others have a meaning in every URI (RFC 6068 §2).
const KEPT_IN_ADDRESS: &[u8] = b"@.-_~+*'$=";

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(yaml: &str) -> DomainDns {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn default_server_gives_mx_spf_and_dmarc() {
        let wanted = wanted(
            "server1.com",
            &dns("{}"),
            "mx1.server1.com",
            ServerAddresses::Inside(vec!["198.19.0.7".parse().unwrap(), "2001:db8::7".parse().unwrap()]),
        );
        let lines: Vec<String> =
            wanted.records().iter().map(|r| format!("{} {} {}", r.name, r.kind.as_str(), r.values.join("|"))).collect();
        assert_eq!(
            lines,
            [
                "server1.com MX 10 mx1.server1.com",
                "mx1.server1.com A 198.19.0.7",
                "mx1.server1.com AAAA 2001:db8::7",
                "server1.com TXT v=spf1 mx ~all",
                "_dmarc.server1.com TXT v=DMARC1; p=none",
            ]
        );
    }

    #[test]
    fn host_outside_the_domain_gets_no_address_record() {
        for host in ["mx1.example.net", "mx.notserver1.com"] {
            let wanted =
                wanted("server1.com", &dns("{}"), host, ServerAddresses::Public(vec!["192.0.2.1".parse().unwrap()]));
            assert!(!wanted.records().iter().any(|record| record.kind == RecordType::A), "{host}");
        }
    }

    #[test]
    fn own_exchangers_includes_and_reports_are_taken() {
        let yaml = "{mx: [{host: b.filter.net, preference: 20}, {host: a.filter.net}], spf: {include: [spf.crm.org], all: Fail}, dmarc: {policy: Reject, rua: [a!b@x.org]}}";
        let records = wanted("server1.com", &dns(yaml), "mx1.example.net", ServerAddresses::Unknown).records();
        assert_eq!(records[0].values, ["10 a.filter.net", "20 b.filter.net"]);
        assert_eq!(records[1].values, ["v=spf1 a:mx1.example.net include:spf.crm.org -all"]);
        assert_eq!(records[2].values, ["v=DMARC1; p=reject; rua=mailto:a%21b@x.org"]);
    }

    #[test]
    fn disabled_parts_are_not_wanted() {
        let records = wanted(
            "a.org",
            &dns("{spf: {mode: Disabled}, dmarc: {mode: Disabled}}"),
            "mx.b.org",
            ServerAddresses::Unknown,
        )
        .records();
        assert_eq!(records.len(), 1);
    }
}

//! The wanted records as external-dns takes them: the spec of a `DNSEndpoint` (externaldns.k8s.io/v1alpha1). Pure.

use paquebot_crds::mail_domain::DnsRecordPurpose;
use serde_json::{Value, json};

use super::wanted::{RecordType, ServerAddresses, Wanted, WantedRecord};
use super::zone::strings;

/// The endpoints that external-dns is to publish.
///
/// The proof of ownership is never among them: whoever may write a MailDomain would prove with it every domain whose zone
/// external-dns may write. Addresses that hold inside the cluster only are nothing for the world's DNS.
#[must_use]
pub fn spec(wanted: &Wanted) -> Value {
    let public = matches!(wanted.addresses, ServerAddresses::Public(_));
    let endpoints: Vec<Value> = wanted
        .records()
        .iter()
        .filter(|record| record.purpose != DnsRecordPurpose::Ownership)
        .filter(|record| public || !matches!(record.kind, RecordType::A | RecordType::Aaaa))
        .map(endpoint)
        .collect();
    json!({ "endpoints": endpoints })
}

fn endpoint(record: &WantedRecord) -> Value {
    // A TXT target carries its own quotes: without them external-dns makes three strings of an SPF record, and cuts others
    // at their first semicolon.
    let target = |value: &String| if record.kind == RecordType::Txt { strings(value) } else { value.clone() };
    json!({
        "dnsName": record.name,
        "recordTTL": record.ttl,
        "recordType": record.kind.as_str(),
        "targets": record.values.iter().map(target).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::wanted::wanted;

    fn wanted_at(addresses: ServerAddresses) -> Wanted {
        let dns = serde_saphyr::from_str("{tlsRpt: {rua: [tls@a.org]}}").unwrap();
        wanted("a.org", &dns, "mx.a.org", addresses).with_challenge("paquebot-challenge=1".to_owned())
    }

    fn lines(spec: &Value) -> Vec<String> {
        let endpoints = spec["endpoints"].as_array().unwrap().iter();
        endpoints
            .map(|it| {
                format!("{} {} {}", it["dnsName"].as_str().unwrap(), it["recordType"].as_str().unwrap(), it["targets"])
            })
            .collect()
    }

    #[test]
    fn everything_but_the_proof_is_published() {
        let spec = spec(&wanted_at(ServerAddresses::Public(vec!["192.0.2.7".parse().unwrap()])));
        assert_eq!(
            lines(&spec),
            [
                r#"a.org MX ["10 mx.a.org"]"#,
                r#"mx.a.org A ["192.0.2.7"]"#,
                r#"a.org TXT ["\"v=spf1 mx ~all\""]"#,
                r#"_dmarc.a.org TXT ["\"v=DMARC1; p=none\""]"#,
                r#"_smtp._tls.a.org TXT ["\"v=TLSRPTv1; rua=mailto:tls@a.org\""]"#,
            ]
        );
        assert_eq!(spec["endpoints"][0]["recordTTL"], 3600);
    }

    #[test]
    fn addresses_inside_the_cluster_are_not_published() {
        let spec = spec(&wanted_at(ServerAddresses::Inside(vec!["198.19.0.7".parse().unwrap()])));
        assert!(!lines(&spec).iter().any(|line| line.contains(" A ")), "{spec}");
    }
}

//! Whole objects: the manifests of `examples/`, and the largest that the bounds allow.

use std::fs;
use std::path::Path;

use paquebot_crds::Kind::{self, MailAlias, MailDomain, MailServer, Mailbox, RelayPolicy};
use serde_json::{Value, json};

/// Specs with lists as long and strings as long as the bounds allow.
pub fn largest() -> Vec<(Kind, Value)> {
    let network =
        |number: usize| format!("2001:0db8:1234:5678:9abc:def0:{:04x}:{:04x}/128", number >> 16, number & 0xffff);
    let networks = |count: usize| (0..count).map(network).collect::<Vec<_>>();
    let label = "a".repeat(60);
    let domain = format!("{label}.{label}.{label}.{label}.example");
    let address = format!("{}@{domain}", "b".repeat(64));
    let listeners: Vec<Value> = (1..=16)
        .map(|number| {
            let proxy = json!({"mode": "Required", "trustedCIDRs": networks(64)});
            json!({"name": format!("listener-{number:06}"), "protocol": "SMTP", "port": number, "proxyProtocol": proxy})
        })
        .collect();
    let sources: Vec<Value> = (0..64).map(|_| json!({"cidrs": networks(256)})).collect();
    let many = |value: Value, count: usize| vec![value; count];
    vec![
        (MailServer, json!({"hostname": domain, "listeners": listeners})),
        (
            MailDomain,
            json!({
                "domain": domain,
                "roles": {"postmaster": many(json!({"address": address}), 16), "abuse": many(json!({"address": address}), 16)},
                "dns": {"mx": many(json!({"host": domain}), 16), "dmarc": {"rua": many(json!(address), 8)}},
            }),
        ),
        (
            Mailbox,
            json!({
                "domainRef": {"name": "c".repeat(253), "namespace": "d".repeat(63)},
                "localPart": "e".repeat(64),
                "forwarding": {"to": many(json!(address), 32)},
                "sendAs": {"allowed": many(json!(address), 64)},
            }),
        ),
        (
            MailAlias,
            json!({
                "domainRef": {"name": "example-com"},
                "localPart": "info",
                "targets": many(json!({"address": address}), 256),
            }),
        ),
        (
            RelayPolicy,
            json!({
                "from": sources,
                "senders": {"domains": many(json!(domain), 256), "addresses": many(json!(address), 256)},
                "recipients": {"domains": many(json!(domain), 256)},
            }),
        ),
    ]
}

/// The objects of our kinds in `examples/`, each with a name to speak of it.
pub fn examples() -> Vec<(String, Kind, Value)> {
    let mut found = Vec::new();
    collect_examples(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples"), &mut found);
    assert!(!found.is_empty(), "there are no examples");
    found
}

fn collect_examples(directory: &Path, found: &mut Vec<(String, Kind, Value)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_examples(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = fs::read_to_string(&path).unwrap();
            let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
            for object in objects {
                let kind = Kind::ALL.into_iter().find(|kind| object["kind"] == kind.as_str());
                if let Some(kind) = kind.filter(|_| object["apiVersion"] == "paquebot.dev/v1alpha1") {
                    let name = object["metadata"]["name"].as_str().unwrap_or_default();
                    found.push((format!("{}: {kind} {name}", path.display()), kind, object));
                }
            }
        }
    }
}

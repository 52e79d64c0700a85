//! The fields that this release does not honour: one place, so that none is silently ignored.
//!
//! The operator calls the function of the kind for each object. [`Severity::Refused`]: acting without the field would be
//! dangerous, so the object gets `Accepted=False InvalidSpec`. [`Severity::Ignored`]: it does no harm, so the object is
//! accepted and the message of `Accepted` names the field. A later release takes an entry away here when it honours the
//! field.

use crate::mail_alias::MailAliasSpec;
use crate::mail_domain::{MailDomainSpec, MtaStsMode};
use crate::mail_server::{MailServerSpec, OutboundFeature};
use crate::mailbox::MailboxSpec;
use crate::relay_policy::RelayPolicySpec;

/// What is done about a field that is not honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The object is not accepted.
    Refused,
    /// The object is accepted, and its condition says that the field has no effect.
    Ignored,
}

/// A field that is set to something that this release does not honour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedField {
    /// Where it stands, such as `spec.listeners[2].proxyProtocol`.
    pub path: String,
    /// What is missing, and what to do instead.
    pub note: &'static str,
    /// What is done about it.
    pub severity: Severity,
}

/// Collects fields under `spec`.
#[derive(Default)]
struct Findings(Vec<UnsupportedField>);

impl Findings {
    fn refuse(&mut self, set: bool, path: &str, note: &'static str) {
        self.add(set, path, note, Severity::Refused);
    }

    fn ignore(&mut self, set: bool, path: &str, note: &'static str) {
        self.add(set, path, note, Severity::Ignored);
    }

    fn add(&mut self, set: bool, path: &str, note: &'static str, severity: Severity) {
        if set {
            self.0.push(UnsupportedField { path: format!("spec.{path}"), note, severity });
        }
    }
}

/// The unsupported fields that a MailServer sets.
#[must_use]
pub fn mail_server(spec: &MailServerSpec) -> Vec<UnsupportedField> {
    let mut found = Findings::default();
    found.refuse(spec.storage.postgres.is_some(), "storage.postgres", "use storage.embedded");
    found.refuse(spec.replicas > 1, "replicas", "one pod serves; set it to 1");
    let enabled = |feature: &Option<OutboundFeature>| feature.as_ref().is_some_and(|feature| feature.mode.is_enabled());
    found.refuse(enabled(&spec.outbound.dane), "outbound.dane", "outgoing TLS is opportunistic; set mode: Disabled");
    found.refuse(
        enabled(&spec.outbound.mta_sts),
        "outbound.mtaSTS",
        "outgoing TLS is opportunistic; set mode: Disabled",
    );
    found.refuse(
        !spec.outbound.source_addresses.is_empty(),
        "outbound.sourceAddresses",
        "connections come from the pod's address; remove it",
    );
    found.0
}

/// The unsupported fields that a MailDomain sets.
#[must_use]
pub fn mail_domain(spec: &MailDomainSpec) -> Vec<UnsupportedField> {
    let mut found = Findings::default();
    found.refuse(spec.dkim.mode.is_enabled(), "dkim.mode", "mail would leave unsigned; set it to Disabled");
    found.refuse(!spec.dkim.existing_keys.is_empty(), "dkim.existingKeys", "mail would leave unsigned; remove it");
    found.ignore(
        spec.dns.mta_sts.as_ref().is_some_and(|policy| policy.mode != MtaStsMode::Disabled),
        "dns.mtaSTS",
        "no MTA-STS policy is served or looked up",
    );
    found.0
}

/// The unsupported fields that a Mailbox sets: there are none.
#[must_use]
pub fn mailbox(_spec: &MailboxSpec) -> Vec<UnsupportedField> {
    Vec::new()
}

/// The unsupported fields that a MailAlias sets: there are none.
#[must_use]
pub fn mail_alias(_spec: &MailAliasSpec) -> Vec<UnsupportedField> {
    Vec::new()
}

/// The unsupported fields that a RelayPolicy sets: there are none.
#[must_use]
pub fn relay_policy(_spec: &RelayPolicySpec) -> Vec<UnsupportedField> {
    Vec::new()
}

/// The message for `Accepted=False InvalidSpec`, if any field is refused.
#[must_use]
pub fn refusal(fields: &[UnsupportedField]) -> Option<String> {
    list(fields, Severity::Refused).map(|fields| format!("Not supported in this release: {fields}."))
}

/// What follows in the message of `Accepted=True`, if any field is ignored.
#[must_use]
pub fn remark(fields: &[UnsupportedField]) -> Option<String> {
    list(fields, Severity::Ignored).map(|fields| format!("Not honoured in this release: {fields}."))
}

fn list(fields: &[UnsupportedField], severity: Severity) -> Option<String> {
    let listed: Vec<String> = fields
        .iter()
        .filter(|field| field.severity == severity)
        .map(|field| format!("{} ({})", field.path, field.note))
        .collect();
    (!listed.is_empty()).then(|| listed.join("; "))
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::{Severity, UnsupportedField, mail_domain, mail_server, mailbox, refusal, relay_policy, remark};

    /// What is found in the smallest spec with something on top.
    fn found<S: DeserializeOwned>(
        check: impl Fn(&S) -> Vec<UnsupportedField>,
        smallest: &Value,
        extra: Value,
    ) -> Vec<(String, Severity)> {
        let mut spec = smallest.clone();
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let spec: S = serde_json::from_value(spec).unwrap();
        check(&spec).into_iter().map(|field| (field.path, field.severity)).collect()
    }

    fn refused(path: &str) -> Vec<(String, Severity)> {
        vec![(path.to_owned(), Severity::Refused)]
    }

    fn ignored(path: &str) -> Vec<(String, Severity)> {
        vec![(path.to_owned(), Severity::Ignored)]
    }

    #[test]
    fn of_a_server() {
        let of = |extra| found(mail_server, &json!({"hostname": "mx.example.net"}), extra);
        assert_eq!(of(json!({})), []);
        let postgres = json!({"storage": {"postgres": {"urlSecretRef": {"name": "a", "key": "b"}}}});
        assert_eq!(of(postgres), refused("spec.storage.postgres"));
        assert_eq!(of(json!({"replicas": 2})), refused("spec.replicas"));
        assert_eq!(of(json!({"outbound": {"dane": {"mode": "Enabled"}}})), refused("spec.outbound.dane"));
        assert_eq!(of(json!({"outbound": {"dane": {"mode": "Disabled"}}})), []);
        assert_eq!(of(json!({"outbound": {"mtaSTS": {"mode": "Enabled"}}})), refused("spec.outbound.mtaSTS"));
        assert_eq!(
            of(json!({"outbound": {"sourceAddresses": ["192.0.2.1"]}})),
            refused("spec.outbound.sourceAddresses")
        );
        let honoured = json!({"operations": {"paused": true, "stopped": true},
            "tls": {"certManager": {"issuerRef": {"name": "a"}}}});
        assert_eq!(of(honoured), []);
    }

    #[test]
    fn of_a_domain() {
        let of = |extra| found(mail_domain, &json!({"domain": "example.com"}), extra);
        assert_eq!(of(json!({})), []);
        assert_eq!(of(json!({"dkim": {"mode": "Enabled"}})), refused("spec.dkim.mode"));
        let keys = json!([{"selector": "a", "secretRef": {"name": "b"}}]);
        assert_eq!(of(json!({"dkim": {"existingKeys": keys}})), refused("spec.dkim.existingKeys"));
        assert_eq!(of(json!({"dns": {"mtaSTS": {"mode": "Enforce"}}})), ignored("spec.dns.mtaSTS"));
        assert_eq!(of(json!({"reclaimPolicy": "Delete"})), []);
    }

    #[test]
    fn of_a_mailbox() {
        let of = |extra| found(mailbox, &json!({"domainRef": {"name": "a"}, "localPart": "b"}), extra);
        assert_eq!(of(json!({"quota": "1Gi", "suspended": true, "sendAs": {"allowed": ["a@example.com"]}})), []);
        assert_eq!(of(json!({"filter": {"sieve": "keep;"}})), []);
        assert_eq!(of(json!({"reclaimPolicy": "Delete"})), []);
    }

    #[test]
    fn of_a_policy() {
        let of = |extra| found(relay_policy, &json!({"from": [{"cidrs": ["192.0.2.0/24"]}]}), extra);
        assert_eq!(
            of(json!({"senders": {"domains": ["example.com"]}, "recipients": {"domains": ["example.org"]}})),
            []
        );
    }

    #[test]
    fn messages_name_the_field_and_the_cure() {
        let spec =
            json!({"domain": "example.com", "dkim": {"mode": "Enabled"}, "dns": {"mtaSTS": {"mode": "Enforce"}}});
        let fields = mail_domain(&serde_json::from_value(spec).unwrap());
        assert_eq!(
            refusal(&fields).unwrap(),
            "Not supported in this release: spec.dkim.mode (mail would leave unsigned; set it to Disabled)."
        );
        assert_eq!(
            remark(&fields).unwrap(),
            "Not honoured in this release: spec.dns.mtaSTS (no MTA-STS policy is served or looked up)."
        );
        assert_eq!((refusal(&[]), remark(&[])), (None, None));
    }
}

//! The certificate that cert-manager issues for a MailServer: the Certificate object that asks for it, and what its status
//! says. Its API is touched only where it exists, and nothing watches it: the Secret that it fills is watched anyway.
//! Called by the passes over a MailServer.

use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use paquebot_crds::conditions::{ConditionStatus, ConditionType, ConditionUpdate, Reason};
use paquebot_crds::mail_server::{CertManager, IssuerKind};
use serde_json::{Value, json};

use super::apply::Desired;
use super::calls::{CallError, optional};
use super::certificate::Judged;
use crate::render::{Server, names};

/// The group and version that the Certificate is written in.
const API_VERSION: &str = "cert-manager.io/v1";
/// What of cert-manager's words goes into a message of ours.
const MOST_WORDS: usize = 512;

/// How the API server knows the kind.
#[must_use]
pub fn resource() -> ApiResource {
    ApiResource {
        group: "cert-manager.io".to_owned(),
        version: "v1".to_owned(),
        api_version: API_VERSION.to_owned(),
        kind: "Certificate".to_owned(),
        plural: "certificates".to_owned(),
    }
}

/// The Certificate of a server. It is for the host name alone: an issuer that the world trusts signs no names of the
/// cluster's inside.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn desired(server: &Server, source: &CertManager) -> Result<Desired, CallError> {
    let issuer = &source.issuer_ref;
    let kind = match issuer.kind {
        IssuerKind::Issuer => "Issuer",
        IssuerKind::ClusterIssuer => "ClusterIssuer",
    };
    let spec = json!({
        "secretName": names::tls_secret(server),
        "dnsNames": [server.spec.hostname.to_string()],
        "issuerRef": { "name": issuer.name, "kind": kind, "group": "cert-manager.io" },
        "usages": ["server auth", "digital signature", "key encipherment"],
    });
    Desired::raw(resource(), names::metadata(server, server.name.name.clone()), &json!({ "spec": spec }))
}

/// What a Certificate says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// Its condition `Ready`.
    pub is_ready: bool,
    /// Why not; cert-manager's own words.
    pub message: String,
}

/// Reads what a server's Certificate says.
///
/// # Errors
/// What the API server says.
pub async fn read(client: &Client, server: &Server) -> Result<Words, CallError> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &server.name.namespace, &resource());
    let certificate = optional(api.get(&server.name.name)).await?;
    Ok(words(certificate.map(|certificate| certificate.data).unwrap_or_default().get("status")))
}

fn words(status: Option<&Value>) -> Words {
    let conditions = status.and_then(|status| status.get("conditions")).and_then(Value::as_array);
    let find = |kind: &str| {
        conditions.into_iter().flatten().find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
    };
    let text = |condition: &Value, field: &str| {
        condition.get(field).and_then(Value::as_str).unwrap_or_default().trim().to_owned()
    };
    let is_ready = find("Ready").is_some_and(|condition| text(condition, "status") == "True");
    let said: Vec<String> = ["Ready", "Issuing"]
        .into_iter()
        .filter_map(find)
        .map(|condition| text(condition, "message"))
        .filter(|message| !message.is_empty())
        .collect();
    let mut message = said.join(" ");
    message.truncate(message.floor_char_boundary(MOST_WORDS));
    if message.is_empty() {
        "nothing yet; is the cert-manager controller running?".clone_into(&mut message);
    }
    Words { is_ready, message }
}

/// The verdict on what lies in the Secret, with what cert-manager says about it; `words` is `None` where its API does not
/// exist.
#[must_use]
pub fn judged(server: &Server, secret: Option<Judged>, words: Option<&Words>) -> Judged {
    const TYPE: ConditionType = ConditionType::CertificateReady;
    let name = &server.name.name;
    let trouble = match words {
        None => Some(
            "cert-manager is not installed: the API server has no cert-manager.io/v1. Install it, or name a Secret in \
             spec.tls.secretRef."
                .to_owned(),
        ),
        Some(words) if !words.is_ready => Some(format!("Certificate {name} is not ready: {}", words.message)),
        Some(_) => None,
    };
    match (secret, trouble) {
        (None, trouble) => {
            let message = trouble.unwrap_or_else(|| format!("Certificate {name} is ready, its Secret is on its way."));
            let condition = ConditionUpdate::unknown(TYPE, Reason::Issuing, message);
            Judged { condition, ..Judged::unknown() }
        }
        (Some(judged), None) => judged,
        // What is there stays in use; somebody should still know that no newer one comes.
        (Some(mut judged), Some(trouble)) => {
            if judged.condition.status == ConditionStatus::True {
                judged.condition.message = format!("{} {trouble}", judged.condition.message);
            } else {
                judged.condition =
                    ConditionUpdate::unknown(TYPE, Reason::Issuing, format!("{} {trouble}", judged.condition.message));
            }
            judged
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cert_managers_own_words_are_told() {
        let condition =
            |kind: &str, status: &str, message: &str| json!({"type": kind, "status": status, "message": message});
        let of = |conditions: Value| words(Some(&json!({ "conditions": conditions })));
        let waiting = of(json!([
            condition("Issuing", "True", "Issuing certificate as Secret does not exist"),
            condition("Ready", "False", "The issuer \"ca\" was not found"),
        ]));
        assert!(!waiting.is_ready);
        assert_eq!(waiting.message, "The issuer \"ca\" was not found Issuing certificate as Secret does not exist");
        assert!(of(json!([condition("Ready", "True", "Certificate is up to date")])).is_ready);
        for nothing in [None, Some(&json!({})), Some(&json!({"conditions": "no list"}))] {
            let said = words(nothing);
            assert!(!said.is_ready && said.message.contains("is the cert-manager controller running"));
        }
        let long = of(json!([condition("Ready", "False", &"ä".repeat(4096))]));
        assert!(long.message.len() <= MOST_WORDS, "bounded");
    }
}

//! What a tenant's Secrets open.

use paquebot_config::{Record, Scope};
use paquebot_crds::Mailbox;
use paquebot_crds::conditions::ConditionType as Type;
use serde_json::json;

use crate::stage::Stage;
use crate::world::eventually;

pub async fn app_passwords(stage: &Stage) {
    let good = &stage.good;
    good.secret("sue", "password", "sues-password").await;
    let phone = json!({ "name": "phone", "secretRef": { "name": "sue-phone", "key": "secret" }, "scopes": ["POP3"],
        "expiresAt": "2030-01-01T00:00:00Z" });
    let credentials = json!({ "passwordSecretRef": { "name": "sue" }, "appPasswords": [phone] });
    let spec = json!({ "domainRef": { "name": "good.example" }, "localPart": "sue", "credentials": credentials,
        "retention": { "maxAge": "720h" } });
    good.apply::<Mailbox>("sue", json!({ "spec": spec })).await;
    let message = good.condition::<Mailbox>("sue", Type::CredentialsReady, "False", "SecretNotFound").await;
    assert!(message.contains("App password phone: Secret sue-phone"), "{message}");
    let record = async || match stage.platform.records("mx1").await.remove("sue@good.example")? {
        Record::Mailbox(mailbox) => Some(mailbox),
        _ => None,
    };
    let sue = eventually("the own password opens it meanwhile", async || {
        record().await.filter(|sue| !sue.verifiers.is_empty())
    })
    .await;
    assert_eq!((sue.app_passwords.len(), sue.retention_seconds, &sue.tenant), (0, Some(2_592_000), &good.name));
    good.secret("sue-phone", "secret", "sues-phone").await;
    good.condition::<Mailbox>("sue", Type::CredentialsReady, "True", "Hashed").await;
    let with =
        eventually("the app password is there", async || record().await.filter(|sue| sue.app_passwords.len() == 1))
            .await;
    assert_eq!(with.verifiers, sue.verifiers, "nothing is hashed again");
    let phone = &with.app_passwords[0];
    assert_eq!(
        (phone.name.as_str(), &phone.scopes[..], phone.expires_at),
        ("phone", &[Scope::Pop3][..], Some(1_893_456_000))
    );
    let spec = json!({ "domainRef": { "name": "good.example" }, "localPart": "sue",
        "credentials": { "passwordSecretRef": { "name": "sue" } } });
    good.apply::<Mailbox>("sue", json!({ "spec": spec })).await;
    eventually("what is taken away opens nothing", async || {
        record().await.filter(|sue| sue.app_passwords.is_empty() && sue.retention_seconds.is_none())
    })
    .await;
}

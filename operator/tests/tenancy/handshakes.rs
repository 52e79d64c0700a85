//! Who admits whom, and what becomes of it when that changes.

use kube::api::DeleteParams;
use paquebot_config::{Record, Scope};
use paquebot_crds::conditions::ConditionType as Type;
use paquebot_crds::{MailDomain, Mailbox};
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

pub async fn limits_and_conflicts(stage: &Stage) {
    let patch = json!({ "spec": { "limits": { "maxMailboxes": 5 } } });
    let api = stage.platform.api::<MailDomain>();
    api.patch("shared", &Default::default(), &kube::api::Patch::Merge(&patch)).await.unwrap();
    eventually("the limit that was lowered holds", async || {
        let shared: MailDomain = stage.platform.get("shared").await?;
        (shared.status?.mailbox_count == 5).then_some(())
    })
    .await;
    // The oldest keep their places, and the other tenant's is the oldest.
    stage.good.condition::<Mailbox>("shared-anna", Type::Accepted, "True", "Accepted").await;
    // The winner goes, and the next one has the address; its mail is kept apart by the record of its MailDomain's tenant.
    stage.good.api::<Mailbox>().delete("shared-anna", &DeleteParams::default()).await.unwrap();
    stage.hostile.condition::<Mailbox>("again-anna", Type::Accepted, "True", "Accepted").await;
    stage.good.api::<MailDomain>().delete("good.example", &DeleteParams::default()).await.unwrap();
    stage.hostile.condition::<MailDomain>("claim", Type::Accepted, "True", "Accepted").await;
    stage.hostile.condition::<Mailbox>("in-the-claim", Type::Accepted, "True", "Accepted").await;
    stage.good.condition::<Mailbox>("anna", Type::Accepted, "False", "DomainNotFound").await;
    eventually("the new owner's maildrop is another one", async || {
        match stage.platform.records("mx1").await.remove("anna@good.example")? {
            Record::Mailbox(mailbox) => {
                (mailbox.tenant == stage.hostile.name && mailbox.verifiers.is_empty()).then_some(())
            }
            _ => None,
        }
    })
    .await;
}

pub async fn revocation(stage: &Stage) {
    stage.label(&stage.hostile.name, "no").await;
    for name in ["evil.example", "claim"] {
        stage.hostile.condition::<MailDomain>(name, Type::Accepted, "False", "NamespaceNotAllowed").await;
    }
    stage.hostile.condition::<Mailbox>("again-anna", Type::Accepted, "False", "NamespaceNotAllowed").await;
    eventually("nothing of it is served", async || {
        let records = stage.platform.records("mx1").await;
        records.keys().all(|address| !address.ends_with("@evil.example")).then_some(())
    })
    .await;
    stage.label(&stage.hostile.name, "yes").await;
    stage.hostile.condition::<MailDomain>("evil.example", Type::Accepted, "True", "Accepted").await;
    eventually("it is served again", async || {
        stage.platform.records("mx1").await.contains_key("borrower@evil.example").then_some(())
    })
    .await;
}

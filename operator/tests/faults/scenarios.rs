//! The main scenarios: what is there before, what a person does then, and how it is undone for the next time.

use k8s_openapi::api::core::v1::Secret;
use paquebot_crds::conditions::ConditionType as Type;
use paquebot_crds::{MailDomain, MailServer, Mailbox, RelayPolicy};
use serde_json::json;

use crate::pods::SERVER;
use crate::stage::Stage;
use crate::support::world::eventually;

/// Whose mail goes with the mailbox, and whose stays.
const ERASED: &str = "rob@server1.com";
const KEPT: &str = "anna@server1.com";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    Install,
    PasswordChanged,
    MailboxAdded,
    MailboxDeleted,
    ConflictHeals,
    PolicyChanged,
    CertificateLost,
    MailErased,
    SmartHostLogin,
    RecordsPublished,
    RecordsTakenBack,
    ServerDeleted,
}

impl Scenario {
    pub const ALL: [Self; 12] = [
        Self::Install,
        Self::PasswordChanged,
        Self::MailboxAdded,
        Self::MailboxDeleted,
        Self::ConflictHeals,
        Self::PolicyChanged,
        Self::CertificateLost,
        Self::MailErased,
        Self::SmartHostLogin,
        Self::RecordsPublished,
        Self::RecordsTakenBack,
        Self::ServerDeleted,
    ];

    pub fn sentence(self) -> &'static str {
        match self {
            Self::Install => "a server with a domain, mailboxes, an alias and a relay policy is installed",
            Self::PasswordChanged => "a password and a password hash are changed",
            Self::MailboxAdded => "a mailbox is added",
            Self::MailboxDeleted => "a mailbox is deleted",
            Self::ConflictHeals => "the winner of a conflict is deleted",
            Self::PolicyChanged => "a relay policy is changed",
            Self::CertificateLost => "the self-signed certificate is deleted",
            Self::MailErased => "a mailbox is deleted whose mail goes with it",
            Self::SmartHostLogin => "the password of a relay policy's smart host is changed",
            Self::RecordsPublished => "external-dns is to publish the records",
            Self::RecordsTakenBack => "external-dns is to publish them no more",
            Self::ServerDeleted => "the MailServer is deleted",
        }
    }

    /// What is there beside the installation.
    pub async fn given(self, stage: &mut Stage) {
        match self {
            Self::MailboxDeleted => self.undo(stage, 0).await,
            Self::ConflictHeals => self.conflict(stage).await,
            Self::MailErased => self.undo(stage, 0).await,
            Self::SmartHostLogin => {
                stage.set_login(0).await;
                stage.policy_with_smart_host().await;
                stage.space.condition::<RelayPolicy>("branch", Type::Ready, "True", "Ready").await;
            }
            Self::RecordsTakenBack => self.undo(stage, 0).await,
            _ => {}
        }
    }

    /// What the person does. The installation is the only scenario that begins with nothing.
    pub async fn act(self, stage: &mut Stage, round: usize) {
        match self {
            Self::Install => stage.install().await,
            Self::PasswordChanged => {
                stage.set_password("anna", round).await;
                stage.set_hash("kim", round).await;
            }
            Self::MailboxAdded => {
                stage.set_password("tom", round).await;
                stage.space.mailbox("tom", "server1.com").await;
            }
            Self::MailboxDeleted => stage.delete::<Mailbox>("tom").await,
            Self::ConflictHeals => stage.delete::<Mailbox>("anna").await,
            Self::PolicyChanged => stage.policy("198.51.100.0/24").await,
            Self::CertificateLost => stage.delete::<Secret>("mx1-tls").await,
            Self::MailErased => {
                for whose in [KEPT, ERASED] {
                    stage.pods.deliver(whose).await;
                }
                stage.delete::<Mailbox>("rob").await;
            }
            Self::SmartHostLogin => stage.set_login(round).await,
            Self::RecordsPublished => stage.dns_mode("ExternalDNS").await,
            Self::RecordsTakenBack => stage.dns_mode("Report").await,
            Self::ServerDeleted => stage.delete::<MailServer>(SERVER).await,
        }
    }

    /// Waits until it can be seen that the operator has noticed; then the world comes to rest.
    pub async fn noticed(self, stage: &Stage) {
        let space = &stage.space;
        match self {
            Self::Install => {
                space.condition::<MailServer>(SERVER, Type::Ready, "True", "Ready").await;
                space.condition::<MailDomain>("server1.com", Type::DNSReady, "Unknown", "LookupFailed").await;
                drop(space.condition::<Mailbox>("jack", Type::Ready, "True", "Ready").await);
            }
            Self::MailboxAdded => drop(space.condition::<Mailbox>("tom", Type::Ready, "True", "Ready").await),
            Self::ConflictHeals => drop(space.condition::<Mailbox>("zz-anna", Type::Ready, "True", "Ready").await),
            Self::CertificateLost => drop(space.exists::<Secret>("mx1-tls").await),
            Self::ServerDeleted => {
                drop(space.condition::<MailDomain>("server1.com", Type::Accepted, "False", "ServerNotFound").await);
            }
            Self::MailErased => {
                eventually("the mailbox is gone", async || space.get::<Mailbox>("rob").await.is_none().then_some(()))
                    .await;
            }
            Self::PasswordChanged
            | Self::MailboxDeleted
            | Self::PolicyChanged
            | Self::SmartHostLogin
            | Self::RecordsPublished
            | Self::RecordsTakenBack => {}
        }
    }

    /// What is not in the objects, and is not as it should be at the end.
    pub async fn wrong(self, stage: &Stage) -> Result<(), String> {
        let mail = stage.pods.mail().await;
        match self {
            Self::MailErased if mail != [KEPT] => Err(format!("there is mail of {mail:?}")),
            _ => Ok(()),
        }
    }

    /// Brings back what was there before.
    pub async fn undo(self, stage: &mut Stage, round: usize) {
        match self {
            Self::MailboxAdded => {
                stage.delete::<Mailbox>("tom").await;
                stage.delete::<Secret>("tom").await;
            }
            Self::MailboxDeleted => {
                stage.set_password("tom", round).await;
                drop(stage.space.mailbox("tom", "server1.com").await);
            }
            Self::ConflictHeals => {
                stage.delete::<Mailbox>("zz-anna").await;
                stage.space.mailbox("anna", "server1.com").await;
                self.conflict(stage).await;
            }
            Self::PolicyChanged => stage.policy("192.0.2.0/24").await,
            Self::ServerDeleted => drop(stage.space.server(SERVER).await),
            Self::MailErased => stage.mailbox_to_erase("rob").await,
            Self::SmartHostLogin => stage.set_login(0).await,
            Self::RecordsPublished => stage.dns_mode("Report").await,
            Self::RecordsTakenBack => stage.dns_mode("ExternalDNS").await,
            Self::Install | Self::PasswordChanged | Self::CertificateLost => {}
        }
    }

    /// A second claim for an address, which is the younger one.
    async fn conflict(self, stage: &Stage) {
        let credentials = json!({ "passwordSecretRef": { "name": "anna" } });
        stage.mailbox("zz-anna", "anna", credentials).await;
    }
}

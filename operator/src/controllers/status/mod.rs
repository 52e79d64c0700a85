//! What an object's `status` says: [`wanted`] makes it from what is known, purely; [`write`](write()) writes it by server-side
//! apply. The engine calls both: it compares what is wanted with what is there in between.
//!
//! Here: what a status is, and what is observed of an object beside the index's report.

mod wanted;
mod write;

#[cfg(test)]
mod tests;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use paquebot_crds::conditions::ConditionUpdate;
use paquebot_crds::mail_domain::DnsStatus;
use paquebot_crds::mail_server::{CertificateStatus, ConfigurationStatus, ServerAddress};
use paquebot_crds::{Kind, MailAliasStatus, MailDomainStatus, MailServerStatus, MailboxStatus, RelayPolicyStatus};
use serde_json::Value;

pub use self::wanted::{undecodable, unseen_records, wanted};
pub use self::write::{StatusWritten, resource, write};

/// A status of one of the five kinds.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// Of a MailServer.
    MailServer(Box<MailServerStatus>),
    /// Of a MailDomain.
    MailDomain(Box<MailDomainStatus>),
    /// Of a Mailbox.
    Mailbox(Box<MailboxStatus>),
    /// Of a MailAlias.
    MailAlias(Box<MailAliasStatus>),
    /// Of a RelayPolicy.
    RelayPolicy(Box<RelayPolicyStatus>),
}

impl Status {
    /// The status of an object that has none yet.
    #[must_use]
    pub fn empty(kind: Kind) -> Self {
        match kind {
            Kind::MailServer => Self::MailServer(Box::default()),
            Kind::MailDomain => Self::MailDomain(Box::default()),
            Kind::Mailbox => Self::Mailbox(Box::default()),
            Kind::MailAlias => Self::MailAlias(Box::default()),
            Kind::RelayPolicy => Self::RelayPolicy(Box::default()),
        }
    }

    /// Its conditions.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        match self {
            Self::MailServer(status) => &status.conditions,
            Self::MailDomain(status) => &status.conditions,
            Self::Mailbox(status) => &status.conditions,
            Self::MailAlias(status) => &status.conditions,
            Self::RelayPolicy(status) => &status.conditions,
        }
    }

    fn to_value(&self) -> Result<Value, serde_json::Error> {
        match self {
            Self::MailServer(status) => serde_json::to_value(status),
            Self::MailDomain(status) => serde_json::to_value(status),
            Self::Mailbox(status) => serde_json::to_value(status),
            Self::MailAlias(status) => serde_json::to_value(status),
            Self::RelayPolicy(status) => serde_json::to_value(status),
        }
    }
}

/// What was observed of a MailServer, beside the index's report.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerFacts {
    /// CertificateReady, Available, Progressing, SourceIPPreserved, RelayClosed; a type that is missing stays as it is.
    pub updates: Vec<ConditionUpdate>,
    /// Whether the MailServer asks for a pause.
    pub paused: bool,
    /// Pods that exist.
    pub replicas: i32,
    /// Pods that are ready.
    pub ready_replicas: i32,
    /// The label selector of the pods.
    pub selector: String,
    /// Where it is reached.
    pub addresses: Vec<ServerAddress>,
    /// What was written, and how many pods serve it.
    pub configuration: Option<ConfigurationStatus>,
    /// The certificate.
    pub certificate: Option<CertificateStatus>,
}

/// What was observed of a MailDomain's records; absent while nobody has looked.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsFacts {
    /// MXReady and so on.
    pub updates: Vec<ConditionUpdate>,
    /// `status.dns`, its `lastVerified` left to this module.
    pub dns: DnsStatus,
}

/// What was observed of a MailDomain.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DomainFacts {
    /// `OwnershipVerified`; absent while nobody has looked and what the status says may still be so.
    pub ownership: Option<ConditionUpdate>,
    /// Its records; absent while nobody has looked.
    pub records: Option<DnsFacts>,
    /// What else people should know, for the message of `Accepted`.
    pub remark: Option<String>,
}

/// What only one kind has, beside the index's report.
#[derive(Debug, Clone, PartialEq)]
pub enum Facts {
    /// Nothing more.
    None,
    /// Of a MailServer.
    Server(Box<ServerFacts>),
    /// Of a MailDomain.
    Domain(Box<DomainFacts>),
    /// Of a Mailbox.
    Mailbox {
        /// `credentials.generate` is its source: the operator made the Secret.
        generated: bool,
        /// What its Secrets gave lies in the server's directory. Before that, `status.credentials` does not name them: the
        /// next process believes that the directory was made from what is named there.
        written: bool,
    },
}

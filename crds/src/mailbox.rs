//! `Mailbox`: one maildrop and login.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::names::{EmailAddress, LocalPart};
use crate::quantity::Quantity;
use crate::references::{ObjectReference, RateLimit, ReclaimPolicy, SecretKeyReference, Toggle};
use crate::rules;
use crate::schema;

/// One maildrop and login.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "paquebot.dev",
    version = "v1alpha1",
    kind = "Mailbox",
    plural = "mailboxes",
    shortname = "mbx",
    category = "mail",
    namespaced,
    status = "MailboxStatus",
    derive = "PartialEq",
    doc = "One maildrop and login.",
    selectable = ".spec.domainRef.name",
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct MailboxSpec {
    /// The MailDomain that the address belongs to. It cannot be changed.
    #[x_kube(validation = rules::DOMAIN_REF_STAYS)]
    pub domain_ref: ObjectReference,
    /// The part of the address before the `@`, in lower case. It cannot be changed.
    #[x_kube(validation = rules::LOCAL_PART_STAYS)]
    pub local_part: LocalPart,
    /// How the owner proves who they are. Without it the mailbox receives only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// What the owner may use.
    #[serde(default)]
    pub protocols: Protocols,
    /// How many bytes the maildrop may hold. Default: the domain's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::ROOM_FOR_MAIL)]
    pub quota: Option<Quantity>,
    /// Where else mail goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarding: Option<Forwarding>,
    /// Which other sender addresses the owner may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_as: Option<SendAs>,
    /// A Sieve script (RFC 5228) that sorts incoming mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// How much the owner may send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// How long mail is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// What becomes of the mail when this object is deleted: `Retain` keeps it, `Delete` deletes it.
    #[serde(default)]
    pub reclaim_policy: ReclaimPolicy,
    /// Stops logins and delivery, and keeps the mail.
    #[serde(default)]
    pub suspended: bool,
}

/// How the owner proves who they are: one of the first three, and any number of app passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::ONE_CREDENTIAL)]
pub struct Credentials {
    /// A Secret of this namespace with the password in clear; only a hash of it leaves the Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<PasswordSecretReference>,
    /// A Secret of this namespace with an argon2id hash in PHC form (`$argon2id$...`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_hash_secret_ref: Option<PasswordHashSecretReference>,
    /// A Secret of this namespace that the operator makes if it is missing, and never overwrites.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate: Option<GeneratedSecret>,
    /// Further passwords for single programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub app_passwords: Vec<AppPassword>,
}

/// The source of one of a mailbox's passwords, for code that matches on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialSource<'a> {
    /// A clear password in a Secret.
    Password(&'a PasswordSecretReference),
    /// A hash in a Secret.
    PasswordHash(&'a PasswordHashSecretReference),
    /// A Secret that the operator makes.
    Generate(&'a GeneratedSecret),
    /// A clear password for one program, in a Secret.
    AppPassword(&'a AppPassword),
}

impl Credentials {
    /// All sources: that of the own password, and those of the app passwords.
    pub fn sources(&self) -> impl Iterator<Item = CredentialSource<'_>> {
        self.source().into_iter().chain(self.app_passwords.iter().map(CredentialSource::AppPassword))
    }

    /// The one source of the own password that is given; `None` if there is none.
    #[must_use]
    pub fn source(&self) -> Option<CredentialSource<'_>> {
        let password = self.password_secret_ref.as_ref().map(CredentialSource::Password);
        let hash = self.password_hash_secret_ref.as_ref().map(CredentialSource::PasswordHash);
        let generate = self.generate.as_ref().map(CredentialSource::Generate);
        password.or(hash).or(generate)
    }
}

/// The key of a generated Secret that holds the password.
pub const GENERATED_PASSWORD_KEY: &str = "password";

impl CredentialSource<'_> {
    /// The name of the Secret, which lives in the mailbox's own namespace.
    #[must_use]
    pub fn secret_name(&self) -> &str {
        match self {
            Self::Password(reference) => &reference.name,
            Self::PasswordHash(reference) => &reference.name,
            Self::Generate(generated) => &generated.secret_name,
            Self::AppPassword(password) => &password.secret_ref.name,
        }
    }

    /// The key inside the Secret's data.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Password(reference) => &reference.key,
            Self::PasswordHash(reference) => &reference.key,
            Self::Generate(_) => GENERATED_PASSWORD_KEY,
            Self::AppPassword(password) => &password.secret_ref.key,
        }
    }

    /// Which app password it is; `None`: the mailbox's own.
    #[must_use]
    pub fn app_password(&self) -> Option<&str> {
        match self {
            Self::AppPassword(password) => Some(&password.name),
            _ => None,
        }
    }
}

/// A password in a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
pub struct PasswordSecretReference {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::OBJECT_NAME)]
    pub name: String,
    /// The key inside the Secret's data.
    #[serde(default = "default_password_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_password_key() -> String {
    "password".to_owned()
}

/// A password hash in a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
pub struct PasswordHashSecretReference {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::OBJECT_NAME)]
    pub name: String,
    /// The key inside the Secret's data.
    #[serde(default = "default_password_hash_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_password_hash_key() -> String {
    "passwordHash".to_owned()
}

/// A Secret that the operator makes: username, password, host, ports and URI, as an app mounts it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GeneratedSecret {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::OBJECT_NAME)]
    pub secret_name: String,
}

/// A password for one program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppPassword {
    /// What it is for, such as `phone`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The Secret of this namespace with the password in clear. While it is missing an earlier password works on: take the
    /// entry away to end it.
    pub secret_ref: SecretKeyReference,
    /// What it opens. Default: everything that the mailbox may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub scopes: Vec<AppPasswordScope>,
    /// When it stops working, by the server's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub expires_at: Option<Time>,
}

/// What an app password opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AppPasswordScope {
    /// Fetching mail.
    #[serde(rename = "POP3")]
    Pop3,
    /// Sending mail.
    Submission,
}

/// What the owner may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Protocols {
    /// Fetching by POP3.
    #[serde(default = "Toggle::enabled")]
    pub pop3: Toggle,
    /// Sending by submission.
    #[serde(default = "Toggle::enabled")]
    pub submission: Toggle,
}

impl Default for Protocols {
    fn default() -> Self {
        Self { pop3: Toggle::Enabled, submission: Toggle::Enabled }
    }
}

/// Where else mail goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Forwarding {
    /// The addresses.
    #[schemars(length(min = 1, max = 32))]
    pub to: Vec<EmailAddress>,
    /// Whether the mailbox keeps the message as well.
    #[serde(default = "default_keep_copy")]
    pub keep_copy: bool,
}

fn default_keep_copy() -> bool {
    true
}

/// Which other sender addresses the owner may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SendAs {
    /// The addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub allowed: Vec<EmailAddress>,
}

/// A Sieve script (RFC 5228): exactly one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::ONE_FILTER)]
pub struct Filter {
    /// The script itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub sieve: Option<String>,
    /// A ConfigMap of this namespace that holds the script.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapKeyReference>,
}

/// One key of a ConfigMap of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct ConfigMapKeyReference {
    /// The ConfigMap's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::OBJECT_NAME)]
    pub name: String,
    /// The key inside the ConfigMap's data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// How long mail is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Messages older than this are deleted, counted from when the server received them. It happens within minutes, and not
    /// while somebody has the maildrop open.
    pub max_age: Duration,
}

/// What is observed of a Mailbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MailboxStatus {
    /// What was observed, one entry for each aspect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The mailbox's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub address: Option<String>,
    /// The versions of the Secrets that the servers' verifiers were made from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 17))]
    pub credentials: Vec<CredentialStatus>,
}

/// The version of a Secret that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialStatus {
    /// The Secret's name.
    #[schemars(length(max = 253))]
    pub secret_name: String,
    /// The Secret's resourceVersion.
    #[schemars(length(max = 128))]
    pub resource_version: String,
}

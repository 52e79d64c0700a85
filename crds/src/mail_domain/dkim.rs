//! The DKIM keys of a MailDomain (RFC 6376): what is asked for, and what is observed.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::references::{LocalReference, Toggle};
use crate::rules;

/// DKIM signatures on outgoing mail (RFC 6376).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dkim {
    /// `Enabled`: outgoing mail is signed. `Disabled`: it is not.
    #[serde(default = "Toggle::disabled")]
    pub mode: Toggle,
    /// The algorithms of the keys that are made.
    #[serde(default = "default_algorithms")]
    #[schemars(length(min = 1, max = 2))]
    pub algorithms: Vec<DkimAlgorithm>,
    /// How keys are replaced.
    #[serde(default)]
    pub rotation: DkimRotation,
    /// Keys that exist already, instead of ones that are made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub existing_keys: Vec<DkimExistingKey>,
}

impl Default for Dkim {
    fn default() -> Self {
        Self {
            mode: Toggle::Disabled,
            algorithms: default_algorithms(),
            rotation: DkimRotation::default(),
            existing_keys: Vec::new(),
        }
    }
}

fn default_algorithms() -> Vec<DkimAlgorithm> {
    vec![DkimAlgorithm::Rsa2048, DkimAlgorithm::Ed25519]
}

/// The algorithm of a DKIM key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum DkimAlgorithm {
    /// RSA with 2048 bits (RFC 8301).
    #[serde(rename = "RSA2048")]
    Rsa2048,
    /// Ed25519 (RFC 8463).
    Ed25519,
}

/// How DKIM keys are replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::OVERLAP_IS_SHORTER)]
pub struct DkimRotation {
    /// How long a key signs.
    #[serde(default = "default_rotation_period")]
    pub period: Duration,
    /// How long an old key stays published after the new one signs.
    #[serde(default = "default_rotation_overlap")]
    pub overlap: Duration,
}

impl Default for DkimRotation {
    fn default() -> Self {
        Self { period: default_rotation_period(), overlap: default_rotation_overlap() }
    }
}

/// Half a year.
fn default_rotation_period() -> Duration {
    std::time::Duration::from_hours(4380).into()
}

/// A week: longer than any message waits in a queue.
fn default_rotation_overlap() -> Duration {
    std::time::Duration::from_hours(168).into()
}

/// A DKIM key that exists already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DkimExistingKey {
    /// The name in front of `._domainkey`.
    #[schemars(length(min = 1, max = 63))]
    pub selector: String,
    /// A Secret of this namespace with the private key.
    pub secret_ref: LocalReference,
}

/// The DKIM keys of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DkimStatus {
    /// The selectors that sign now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 63)))]
    pub active: Vec<String>,
    /// Every key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub selectors: Vec<DkimSelectorStatus>,
}

/// One DKIM key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DkimSelectorStatus {
    /// The selector.
    #[schemars(length(max = 63))]
    pub name: String,
    /// The key's algorithm.
    pub algorithm: DkimAlgorithm,
    /// The Secret that holds the key.
    #[schemars(length(max = 253))]
    pub secret_name: String,
    /// `Publishing`, `Active` or `Retiring`.
    pub state: DkimSelectorState,
}

/// Where a DKIM key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DkimSelectorState {
    /// Its record is not visible yet.
    Publishing,
    /// It signs.
    Active,
    /// It signs no more, and stays published.
    Retiring,
}

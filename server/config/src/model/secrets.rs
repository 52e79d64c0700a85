//! What is nobody's business: `secrets.json`, and the verifiers of passwords. None of it can be printed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `secrets.json`: what the server has to know and nobody else. It is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Secrets {
    /// Keys of the addresses that forwarded mail is sent with (Sender Rewriting Scheme): the first signs, all verify.
    /// Without one the reverse-path is left as it is.
    #[serde(default)]
    pub srs_keys: Vec<SecretText>,
    /// Logins at smart hosts, by name.
    #[serde(default)]
    pub logins: std::collections::BTreeMap<String, Login>,
}

/// A login at another server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Login {
    /// The user's name.
    pub username: String,
    /// The password.
    pub password: SecretText,
}

/// Text that is not shown: it has no `Debug` of its content, and only the contract's files hold it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Takes the text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// What proves knowledge of a password without being one: a PHC string such as `$argon2id$…`. Not a secret as a password
/// is, but nobody's business: it has no `Debug` of its content, and only the contract's files hold it.
/// Copies share it: the operator keeps one in several places for each of a fleet's mailboxes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String")]
#[serde(into = "String")]
pub struct Verifier(std::sync::Arc<str>);

impl From<String> for Verifier {
    fn from(phc: String) -> Self {
        Self(phc.into())
    }
}

impl From<Verifier> for String {
    fn from(verifier: Verifier) -> Self {
        verifier.0.as_ref().to_owned()
    }
}

impl Verifier {
    /// Takes a PHC string; whether its algorithm is known is the server's affair.
    #[must_use]
    pub fn new(phc: String) -> Self {
        Self(phc.into())
    }

    /// The PHC string, for the one place that verifies passwords.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

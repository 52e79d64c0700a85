//! What is said about manifests that are not in force.

use std::fmt;

use crate::directory::ObjectKey;

/// Something that keeps an object, or a part of it, from being in force.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, and which of its documents.
    pub source: String,
    /// The object, as far as it could be read.
    pub object: String,
    /// One stable word.
    pub reason: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Problem {
    pub(super) fn of_object(source: String, object: &ObjectKey, reason: &str, message: &str) -> Self {
        Self { source, object: object.to_string(), reason: reason.to_owned(), message: message.to_owned() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}: {}", self.source, self.object, self.reason, self.message)
    }
}

//! Calls to the API server: each has a deadline, and what comes of it is said in the API server's own words. Used by
//! everything here that asks or writes.

use std::time::Duration;

/// How long one call to the API server may take, its retries included.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What a failed call says of the next ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The API server cannot be reached, does not answer, or asks to be left alone: nothing else would succeed either.
    Away,
    /// It has an error of its own, perhaps with this object alone.
    Failing,
    /// It was refused for what it is.
    Refused,
}

/// Why a call to the API server failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer in time.
    #[error("the API server did not answer within {} seconds", DEADLINE.as_secs())]
    Deadline,
    /// The API server refused, or could not be reached.
    #[error("{}", said(.0))]
    Kube(#[from] kube::Error),
    /// A password could not be made.
    #[error("{0}")]
    Password(#[from] crate::credentials::HashError),
    /// An object of that name belongs to somebody else.
    #[error(
        "it is there already and does not belong to this MailServer, so it is left as it is; rename or delete it, or \
         give the MailServer another name"
    )]
    Foreign,
    /// An object could not be written as JSON.
    #[error("an object cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// What the API server says, for people; the library would show its whole answer.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({} {})", status.message, status.code, status.reason),
        error => error.to_string(),
    }
}

impl CallError {
    /// The HTTP status that the API server answered with.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Kube(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }

    /// Whether it is about this call alone, or about the API server.
    #[must_use]
    pub fn failed(&self) -> Failed {
        match self {
            Self::Deadline => Failed::Away,
            Self::Kube(kube::Error::Api(status)) => match status.code {
                401 | 429 | 503 | 504 => Failed::Away,
                500.. => Failed::Failing,
                _ => Failed::Refused,
            },
            Self::Kube(kube::Error::SerdeError(_)) => Failed::Failing,
            Self::Kube(_) => Failed::Away,
            Self::Password(_) | Self::Foreign | Self::Json(_) => Failed::Refused,
        }
    }

    /// Whether the object itself was refused: writing it again will not help.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Foreign) || self.code() == Some(422)
    }
}

/// Gives a call its deadline.
///
/// # Errors
/// [`CallError::Deadline`], or what the call says.
pub async fn within_deadline<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(CallError::Deadline),
    }
}

/// A call that finds something or nothing.
///
/// # Errors
/// As [`within_deadline`], but "not found" is `None`.
pub async fn optional<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<Option<T>, CallError> {
    match within_deadline(call).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_said_in_the_words_of_the_api_server() {
        let status = kube::core::Status {
            code: 500,
            message: "etcd is away".to_owned(),
            reason: "InternalError".to_owned(),
            ..kube::core::Status::default()
        };
        let error = CallError::from(kube::Error::Api(Box::new(status)));
        assert_eq!(error.to_string(), "etcd is away (500 InternalError)");
    }
}

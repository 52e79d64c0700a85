//! The texts of POP3 replies. Used by [`super::machine`].

use bytes::Bytes;

use crate::credentials::Failure;
use crate::store::StoreError;

/// What is said where the client's fault is its order, RFC 3206's codes where a program should act on them.
pub const CLEAR_TEXT: &str = "[AUTH] passwords are taken under TLS only: use STLS first, or the POP3S port";
pub const NO_TLS: &str = "[SYS/TEMP] this server has no certificate now, and takes passwords under TLS only";
pub const WRONG_STATE_LOGIN: &str = "log in first";
pub const WRONG_STATE_LOGGED_IN: &str = "you have logged in already";
pub const NO_SUCH_MESSAGE: &str = "no such message";
pub const TOO_LONG: &str = "the line is too long; a command has at most 255 octets";
pub const TOO_MANY_ERRORS: &str = "too many errors; closing";
pub const TOO_MANY_LOGINS: &str = "[AUTH] too many failed logins; closing";
pub const LOGIN_ENDED: &str = "[AUTH] your password or your rights have changed; log in again";
pub const SHUTTING_DOWN: &str = "[SYS/TEMP] the server is shutting down; nothing was deleted";
pub const IDLE: &str = "[SYS/TEMP] nothing was said for too long; closing, nothing was deleted";

/// A reply that is one line.
pub fn ok(text: impl std::fmt::Display) -> Bytes {
    Bytes::from(format!("+OK {text}\r\n"))
}

/// A refusal.
pub fn err(text: impl std::fmt::Display) -> Bytes {
    Bytes::from(format!("-ERR {text}\r\n"))
}

/// Why a login failed. `[AUTH]` makes a client ask for the password, `[SYS/TEMP]` lets it try again (RFC 3206 §4, §5).
pub fn login_failure(failure: Failure) -> Bytes {
    match failure {
        Failure::Rejected | Failure::NotPermitted => err(format_args!("[AUTH] {failure}")),
        Failure::Busy => err(format_args!("[SYS/TEMP] {failure}")),
    }
}

/// Why the store refused.
pub fn store_failure(error: &StoreError) -> Bytes {
    match error {
        StoreError::MaildropInUse => err(format_args!("[IN-USE] {error}")),
        StoreError::Corrupt(_) => err("[SYS/PERM] the mail store is damaged; the administrator has to act"),
        StoreError::NotFound => err("[SYS/TEMP] the message is gone"),
        StoreError::DiskFull | StoreError::OverQuota(_) | StoreError::Failed(_) => {
            err("[SYS/TEMP] the mail store cannot answer now; try again later")
        }
    }
}

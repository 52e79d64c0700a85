//! The replies of AUTH (RFC 4954). What is exchanged is the same in POP3, and is in [`crate::credentials::sasl`]. Pure; used
//! by [`super::machine`] and [`super::session`].

use super::reply::Reply;
use crate::credentials::Failure;
use crate::credentials::sasl::{Failed, Mechanism};

/// What EHLO says of it.
#[must_use]
pub fn offer() -> String {
    format!("AUTH {}", Mechanism::OF_SUBMISSION.map(Mechanism::name).join(" "))
}

/// To a mechanism that is not offered.
#[must_use]
pub fn unknown_mechanism() -> Reply {
    let names = Mechanism::OF_SUBMISSION.map(Mechanism::name).join(" or ");
    Reply::new(504, 5, 4, format!("that mechanism is not offered; use {names}"))
}

/// To an exchange that is over without a verification.
#[must_use]
pub fn failed(failed: Failed) -> Reply {
    match failed {
        Failed::Cancelled => Reply::new(501, 7, 0, "authentication cancelled"),
        Failed::NotBase64 => Reply::new(501, 5, 2, "that is not base64"),
        Failed::Malformed => rejection(),
    }
}

/// Which part is wrong is not told.
fn rejection() -> Reply {
    Reply::new(535, 7, 8, "the login or the password is wrong")
}

/// What a client is told whose login failed.
#[must_use]
pub fn refusal(failure: Failure) -> Reply {
    match failure {
        Failure::Rejected | Failure::NotPermitted => rejection(),
        Failure::Busy => Reply::new(454, 7, 0, "too many logins at once; try again later"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_exchange_has_its_code() {
        let codes = [Failed::Cancelled, Failed::NotBase64, Failed::Malformed].map(|why| failed(why).code());
        assert_eq!(codes, [501, 501, 535]);
        assert_eq!(failed(Failed::Malformed), refusal(Failure::Rejected), "which part is wrong is not told");
        assert_eq!(offer(), "AUTH PLAIN LOGIN");
    }
}

//! The AUTH exchange (RFC 4954): PLAIN and LOGIN. Pure; held by [`super::machine`] between the lines.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::reply::Reply;
use crate::credentials::sasl::{Credentials, plain, text};
use crate::credentials::{Failure, Password};

/// An exchange that waits for the client's next line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// PLAIN's only response.
    Plain,
    /// LOGIN's user name.
    LoginName,
    /// LOGIN's password; holds the user name.
    LoginPassword(String),
}

/// How an exchange goes on.
#[derive(Debug)]
pub enum Step {
    /// The client has to answer this challenge.
    Challenge(Exchange, Reply),
    /// Everything is there; somebody has to verify it.
    Verify(Credentials),
    /// It is over without a verification.
    Failed(Reply),
}

impl Exchange {
    /// Begins an exchange. `None`: the mechanism is not offered.
    #[must_use]
    pub fn begin(mechanism: &str, initial: Option<&str>) -> Option<Step> {
        let exchange = match mechanism {
            "PLAIN" => Self::Plain,
            "LOGIN" => Self::LoginName,
            _ => return None,
        };
        Some(match initial {
            // RFC 4954 §4: a single `=` is an initial response of no octets.
            Some("=") => exchange.take(b""),
            Some(text) => exchange.respond(text.as_bytes()),
            None => exchange.challenge(),
        })
    }

    fn challenge(self) -> Step {
        // `Username:` and `Password:` in base64, as every client of LOGIN expects them.
        let text = match self {
            Self::Plain => "",
            Self::LoginName => "VXNlcm5hbWU6",
            Self::LoginPassword(_) => "UGFzc3dvcmQ6",
        };
        Step::Challenge(self, Reply::plain(334, text))
    }

    /// Takes the client's line, without its CRLF.
    #[must_use]
    pub fn respond(self, line: &[u8]) -> Step {
        if line == b"*" {
            return Step::Failed(Reply::new(501, 7, 0, "authentication cancelled"));
        }
        match STANDARD.decode(line).map(Zeroizing::new) {
            Ok(octets) => self.take(&octets),
            Err(_) => Step::Failed(Reply::new(501, 5, 2, "that is not base64")),
        }
    }

    fn take(self, octets: &[u8]) -> Step {
        match self {
            Self::Plain => plain(octets).map_or_else(rejected, Step::Verify),
            Self::LoginName => match text(octets) {
                Some(name) => Self::LoginPassword(name).challenge(),
                None => rejected(),
            },
            Self::LoginPassword(login) => Step::Verify(Credentials { login, password: Password::new(octets.to_vec()) }),
        }
    }
}

fn rejected() -> Step {
    Step::Failed(rejection())
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
    use proptest::prelude::*;

    fn outcome(step: Option<Step>) -> String {
        match step {
            None => "not offered".to_owned(),
            Some(Step::Challenge(_, reply) | Step::Failed(reply)) => reply.code().to_string(),
            Some(Step::Verify(credentials)) => credentials.login,
        }
    }

    #[test]
    fn plain_in_one_line_or_two() {
        let response = STANDARD.encode(b"\0tom@server1.com\0tom-password");
        assert_eq!(outcome(Exchange::begin("PLAIN", Some(&response))), "tom@server1.com");
        let Some(Step::Challenge(exchange, reply)) = Exchange::begin("PLAIN", None) else { panic!("no challenge") };
        assert_eq!(reply, Reply::plain(334, ""));
        assert_eq!(outcome(Some(exchange.respond(response.as_bytes()))), "tom@server1.com");
        let same = STANDARD.encode(b"tom@server1.com\0tom@server1.com\0p");
        assert_eq!(outcome(Exchange::begin("PLAIN", Some(&same))), "tom@server1.com");
    }

    #[test]
    fn what_plain_refuses() {
        for (response, expected) in [
            (STANDARD.encode(b"anna@server1.com\0tom@server1.com\0p"), "535"),
            (STANDARD.encode(b"tom@server1.com\0p"), "535"),
            (STANDARD.encode(b"\0\0p"), "535"),
            (STANDARD.encode(b"\0tom\0p\0q"), "535"),
            (STANDARD.encode(b"\0\xff\0p"), "535"),
            ("=".to_owned(), "535"),
            ("*".to_owned(), "501"),
            ("%%%".to_owned(), "501"),
            ("AGE".to_owned(), "501"),
        ] {
            assert_eq!(outcome(Exchange::begin("PLAIN", Some(&response))), expected, "{response}");
        }
        assert_eq!(outcome(Exchange::begin("CRAM-MD5", None)), "not offered");
    }

    #[test]
    fn login_asks_twice_or_once() {
        let Some(Step::Challenge(exchange, reply)) = Exchange::begin("LOGIN", None) else { panic!("no challenge") };
        assert_eq!(reply, Reply::plain(334, "VXNlcm5hbWU6"));
        let Step::Challenge(exchange, reply) = exchange.respond(STANDARD.encode("tom").as_bytes()) else { panic!() };
        assert_eq!(reply, Reply::plain(334, "UGFzc3dvcmQ6"));
        assert_eq!(outcome(Some(exchange.clone().respond(STANDARD.encode("p").as_bytes()))), "tom");
        assert_eq!(outcome(Some(exchange.respond(b"*"))), "501");
        let initial = STANDARD.encode("tom");
        assert_eq!(outcome(Exchange::begin("LOGIN", Some(&initial))), "334");
    }

    proptest! {
        #[test]
        fn any_response_is_answered(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            for exchange in [Exchange::Plain, Exchange::LoginName, Exchange::LoginPassword("x".to_owned())] {
                let _ = exchange.clone().respond(&line);
                let _ = exchange.take(&line);
            }
        }
    }
}

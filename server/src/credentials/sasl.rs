//! SASL exchanges (RFC 4422): which mechanisms there are, and what a client sends in them. Pure; used by AUTH of SMTP and
//! of POP3. A mechanism of several steps, such as SCRAM (RFC 5802), is another variant of [`Mechanism`] and [`Exchange`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Password;

/// A mechanism that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// PLAIN (RFC 4616): under TLS, or where clear text is allowed.
    Plain,
}

impl Mechanism {
    /// What is offered, the strongest first.
    pub const ALL: [Self; 1] = [Self::Plain];

    /// Its registered name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
        }
    }

    /// The mechanism of a name, in any case.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }
}

/// An exchange that waits for the client's next answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// PLAIN's only message.
    Plain,
}

/// How an exchange goes on.
#[derive(Debug)]
pub enum Step {
    /// The client has to answer this challenge, in base64.
    Challenge(Exchange, String),
    /// Everything is there; somebody has to verify it.
    Verify(Credentials),
    /// It is over: why.
    Failed(Failed),
}

/// Why an exchange is over without a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The client said `*` (RFC 5034 §4).
    Cancelled,
    /// The answer is not base64.
    NotBase64,
    /// The answer is not the mechanism's.
    Malformed,
}

impl Exchange {
    /// Begins. `initial` is the initial response in base64; a single `=` stands for one of no octets (RFC 5034 §4).
    #[must_use]
    pub fn begin(mechanism: Mechanism, initial: Option<&[u8]>) -> Step {
        let exchange = match mechanism {
            Mechanism::Plain => Self::Plain,
        };
        match initial {
            Some(b"=") => exchange.take(b""),
            Some(answer) => exchange.respond(answer),
            // The client speaks first in PLAIN: the challenge is empty.
            None => Step::Challenge(exchange, String::new()),
        }
    }

    /// Takes the client's line, without its CRLF.
    #[must_use]
    pub fn respond(self, line: &[u8]) -> Step {
        if line == b"*" {
            return Step::Failed(Failed::Cancelled);
        }
        match STANDARD.decode(line).map(Zeroizing::new) {
            Ok(octets) => self.take(&octets),
            Err(_) => Step::Failed(Failed::NotBase64),
        }
    }

    fn take(self, octets: &[u8]) -> Step {
        match self {
            Self::Plain => plain(octets).map_or(Step::Failed(Failed::Malformed), Step::Verify),
        }
    }
}

/// What a client claims to be.
pub struct Credentials {
    /// The login: the address of a mailbox.
    pub login: String,
    /// What should prove it.
    pub password: Password,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("login", &self.login).finish_non_exhaustive()
    }
}

/// The message of PLAIN: `[authzid] NUL authcid NUL passwd` (RFC 4616 §2). To act for another is not offered: authzid is
/// authcid or nothing.
#[must_use]
pub fn plain(octets: &[u8]) -> Option<Credentials> {
    let mut parts = octets.splitn(3, |octet| *octet == 0);
    let (authzid, authcid, password) = (parts.next()?, parts.next()?, parts.next()?);
    let for_itself = authzid.is_empty() || authzid.eq_ignore_ascii_case(authcid);
    if !for_itself || password.is_empty() || password.contains(&0) {
        return None;
    }
    Some(Credentials { login: text(authcid)?, password: Password::new(password.to_vec()) })
}

/// A login as text; there is no empty one.
#[must_use]
pub fn text(octets: &[u8]) -> Option<String> {
    std::str::from_utf8(octets).ok().filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_answer_is_taken(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Exchange::Plain.respond(&line);
            let _ = Exchange::Plain.take(&line);
        }

        #[test]
        fn what_plain_carries_comes_out(login in "[a-z@.ä]{1,20}", password in "[^\0]{1,20}") {
            let answer = STANDARD.encode(format!("\0{login}\0{password}"));
            let Step::Verify(credentials) = Exchange::begin(Mechanism::Plain, Some(answer.as_bytes())) else {
                panic!("not taken")
            };
            prop_assert_eq!(credentials.login, login);
            prop_assert_eq!(credentials.password.expose(), password.as_bytes());
        }
    }
}

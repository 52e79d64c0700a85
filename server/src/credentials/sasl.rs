//! SASL exchanges (RFC 4422): which mechanisms there are, and what a client sends in them. Pure; used by AUTH of SMTP and
//! of POP3, each of which says what it offers and puts challenges and failures into its own words. A mechanism of several
//! steps, such as SCRAM (RFC 5802), is another variant of [`Mechanism`] and [`Exchange`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Password;

/// A mechanism that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// PLAIN (RFC 4616): under TLS, or where clear text is allowed.
    Plain,
    /// LOGIN, which no RFC has and old mail programs know alone: under TLS.
    Login,
}

impl Mechanism {
    /// What submission offers.
    pub const OF_SUBMISSION: [Self; 2] = [Self::Plain, Self::Login];
    /// What POP3 offers: who knows no PLAIN there has USER and PASS.
    pub const OF_POP3: [Self; 1] = [Self::Plain];

    /// Its registered name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }

    /// The one of these mechanisms that has a name, in any case.
    #[must_use]
    pub fn find(offered: &[Self], name: &str) -> Option<Self> {
        offered.iter().copied().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }
}

/// An exchange that waits for the client's next answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// PLAIN's only message.
    Plain,
    /// LOGIN's user name.
    LoginName,
    /// LOGIN's password; holds the user name.
    LoginPassword(String),
}

/// How an exchange goes on.
#[derive(Debug)]
pub enum Step {
    /// The client has to answer this challenge, in base64.
    Challenge(Exchange, &'static str),
    /// Everything is there; somebody has to verify it.
    Verify(Credentials),
    /// It is over: why.
    Failed(Failed),
}

/// Why an exchange is over without a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The client said `*` (RFC 4954 §4, RFC 5034 §4).
    Cancelled,
    /// The answer is not base64.
    NotBase64,
    /// The answer is not the mechanism's.
    Malformed,
}

impl Exchange {
    /// Begins. `initial` is the initial response in base64; a single `=` stands for one of no octets (RFC 4954 §4, RFC 5034
    /// §4).
    #[must_use]
    pub fn begin(mechanism: Mechanism, initial: Option<&[u8]>) -> Step {
        let exchange = match mechanism {
            Mechanism::Plain => Self::Plain,
            Mechanism::Login => Self::LoginName,
        };
        match initial {
            Some(b"=") => exchange.take(b""),
            Some(answer) => exchange.respond(answer),
            None => exchange.challenge(),
        }
    }

    fn challenge(self) -> Step {
        let text = match self {
            // The client speaks first.
            Self::Plain => "",
            // `Username:` and `Password:`, as every client of LOGIN expects them.
            Self::LoginName => "VXNlcm5hbWU6",
            Self::LoginPassword(_) => "UGFzc3dvcmQ6",
        };
        Step::Challenge(self, text)
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
            Self::LoginName => match text(octets) {
                Some(name) => Self::LoginPassword(name).challenge(),
                None => Step::Failed(Failed::Malformed),
            },
            Self::LoginPassword(login) => Step::Verify(Credentials { login, password: Password::new(octets.to_vec()) }),
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
fn plain(octets: &[u8]) -> Option<Credentials> {
    let mut parts = octets.splitn(3, |octet| *octet == 0);
    let (authzid, authcid, password) = (parts.next()?, parts.next()?, parts.next()?);
    let for_itself = authzid.is_empty() || authzid.eq_ignore_ascii_case(authcid);
    if !for_itself || password.is_empty() || password.contains(&0) {
        return None;
    }
    Some(Credentials { login: text(authcid)?, password: Password::new(password.to_vec()) })
}

/// A login as text; there is no empty one.
fn text(octets: &[u8]) -> Option<String> {
    std::str::from_utf8(octets).ok().filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn begin(mechanism: Mechanism, initial: Option<&str>) -> Step {
        Exchange::begin(mechanism, initial.map(str::as_bytes))
    }

    fn outcome(step: Step) -> String {
        match step {
            Step::Challenge(_, challenge) => challenge.to_owned(),
            Step::Failed(failed) => format!("{failed:?}"),
            Step::Verify(credentials) => credentials.login,
        }
    }

    #[test]
    fn plain_in_one_line_or_two() {
        let response = STANDARD.encode(b"\0tom@server1.com\0tom-password");
        assert_eq!(outcome(begin(Mechanism::Plain, Some(&response))), "tom@server1.com");
        let Step::Challenge(exchange, "") = begin(Mechanism::Plain, None) else { panic!("no empty challenge") };
        assert_eq!(outcome(exchange.respond(response.as_bytes())), "tom@server1.com");
        let same = STANDARD.encode(b"tom@server1.com\0tom@server1.com\0p");
        assert_eq!(outcome(begin(Mechanism::Plain, Some(&same))), "tom@server1.com");
    }

    #[test]
    fn what_plain_refuses() {
        for (response, expected) in [
            (STANDARD.encode(b"anna@server1.com\0tom@server1.com\0p"), "Malformed"),
            (STANDARD.encode(b"tom@server1.com\0p"), "Malformed"),
            (STANDARD.encode(b"\0\0p"), "Malformed"),
            (STANDARD.encode(b"\0tom\0p\0q"), "Malformed"),
            (STANDARD.encode(b"\0\xff\0p"), "Malformed"),
            ("=".to_owned(), "Malformed"),
            ("*".to_owned(), "Cancelled"),
            ("%%%".to_owned(), "NotBase64"),
            ("AGE".to_owned(), "NotBase64"),
        ] {
            assert_eq!(outcome(begin(Mechanism::Plain, Some(&response))), expected, "{response}");
        }
    }

    #[test]
    fn login_asks_twice_or_once() {
        let Step::Challenge(exchange, "VXNlcm5hbWU6") = begin(Mechanism::Login, None) else { panic!("no challenge") };
        let Step::Challenge(exchange, "UGFzc3dvcmQ6") = exchange.respond(STANDARD.encode("tom").as_bytes()) else {
            panic!("no challenge")
        };
        assert_eq!(outcome(exchange.clone().respond(STANDARD.encode("p").as_bytes())), "tom");
        assert_eq!(outcome(exchange.respond(b"*")), "Cancelled");
        let initial = STANDARD.encode("tom");
        assert_eq!(outcome(begin(Mechanism::Login, Some(&initial))), "UGFzc3dvcmQ6");
    }

    #[test]
    fn what_is_offered_is_found_in_any_case() {
        assert_eq!(Mechanism::find(&Mechanism::OF_SUBMISSION, "login"), Some(Mechanism::Login));
        assert_eq!(Mechanism::find(&Mechanism::OF_POP3, "Plain"), Some(Mechanism::Plain));
        assert_eq!(Mechanism::find(&Mechanism::OF_POP3, "LOGIN"), None);
        assert_eq!(Mechanism::find(&Mechanism::OF_SUBMISSION, "CRAM-MD5"), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_taken(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            for exchange in [Exchange::Plain, Exchange::LoginName, Exchange::LoginPassword("x".to_owned())] {
                let _ = exchange.clone().respond(&line);
                let _ = exchange.take(&line);
            }
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

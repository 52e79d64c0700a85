//! The client's side of AUTH (RFC 4954): PLAIN (RFC 4616) where it is offered, else LOGIN. Pure. Used by
//! [`super::machine`], and only when the connection is encrypted.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use paquebot_config::Login;
use zeroize::Zeroizing;

use super::super::status::Refusal;
use super::capabilities::Capabilities;
use super::reply::Reply;

/// A line with a secret in it: it is written to the connection and nowhere else.
#[derive(PartialEq, Eq)]
pub struct SecretLine(Zeroizing<Vec<u8>>);

impl SecretLine {
    fn new(before: &str, secret: &[u8]) -> Self {
        let encoded = Zeroizing::new(STANDARD.encode(secret));
        let mut line = Zeroizing::new(Vec::with_capacity(before.len() + encoded.len() + 2));
        line.extend_from_slice(before.as_bytes());
        line.extend_from_slice(encoded.as_bytes());
        line.extend_from_slice(b"\r\n");
        Self(line)
    }

    /// The octets, line end included.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretLine(…)")
    }
}

/// A login, as the machine keeps it. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(Login);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl From<Login> for Credentials {
    fn from(login: Login) -> Self {
        Self(login)
    }
}

/// Where an exchange is: what the next 334 asks for.
#[derive(Debug)]
pub(super) enum Authentication {
    /// Nothing more.
    Plain,
    /// The user's name, then the password.
    Username(Credentials),
    /// The password.
    Password(Credentials),
    /// Everything was said.
    Done,
}

impl Authentication {
    /// The first line, by the best mechanism that is offered.
    pub(super) fn begin(credentials: Credentials, offered: &Capabilities) -> Option<(Self, SecretLine)> {
        if offered.auth_plain {
            let Login { username, password } = &credentials.0;
            let message = Zeroizing::new(format!("\0{username}\0{}", password.expose()));
            return Some((Self::Plain, SecretLine::new("AUTH PLAIN ", message.as_bytes())));
        }
        offered.auth_login.then(|| (Self::Username(credentials), SecretLine::new("AUTH LOGIN", b"")))
    }

    /// The next line; `None` when the login was accepted.
    ///
    /// # Errors
    /// Always transient: a wrong login is a fault of the configuration, not of the recipient.
    pub(super) fn on_reply(&mut self, reply: &Reply, host: &str) -> Result<Option<SecretLine>, Refusal> {
        if reply.is_positive() {
            return Ok(None);
        }
        let line = match (std::mem::replace(self, Self::Done), reply.code) {
            (Self::Username(credentials), 334) => {
                let line = SecretLine::new("", credentials.0.username.as_bytes());
                *self = Self::Password(credentials);
                line
            }
            (Self::Password(credentials), 334) => SecretLine::new("", credentials.0.password.expose().as_bytes()),
            _ => {
                let said = reply.refusal(host);
                let text =
                    format!("the server does not accept the login: {} {} {}", reply.code, said.status(), said.text);
                return Err(Refusal { said_by_host: true, ..Refusal::transient(7, 0, text).at(host) });
            }
        };
        Ok(Some(line))
    }
}

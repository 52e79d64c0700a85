//! What a client sends in a SASL exchange. Pure; used by AUTH of SMTP and of POP3.

use super::Password;

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

//! Trace fields (RFC 5321 §4.4): `Received`, which every accepted message gets, and `Return-Path`, which final delivery
//! adds; and the date as all header fields have it. Pure; called by [`crate::smtp::session`], [`crate::delivery`] and
//! [`crate::queue::dsn`].

use std::fmt::Write;
use std::net::IpAddr;

use jiff::Timestamp;
use paquebot_config::{Address, Domain};

use crate::store::MessageId;

/// How a message came, for the `with` clause (RFC 3848, RFC 6531 §4.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transmission {
    /// EHLO rather than HELO.
    pub extended: bool,
    /// Under TLS.
    pub tls: bool,
    /// After AUTH.
    pub authenticated: bool,
    /// With SMTPUTF8.
    pub smtputf8: bool,
}

impl Transmission {
    /// The registered name.
    #[must_use]
    pub fn keyword(self) -> String {
        if !self.extended {
            return "SMTP".to_owned();
        }
        let base = if self.smtputf8 { "UTF8SMTP" } else { "ESMTP" };
        format!("{base}{}{}", if self.tls { "S" } else { "" }, if self.authenticated { "A" } else { "" })
    }
}

/// What a `Received` field tells.
#[derive(Debug)]
pub struct Received<'a> {
    /// What the client called itself.
    pub client_name: &'a str,
    /// Where it connected from.
    pub client: IpAddr,
    /// Our name.
    pub hostname: &'a Domain,
    /// How the message came.
    pub transmission: Transmission,
    /// TLS version and cipher suite, where there was TLS.
    pub tls: Option<&'a str>,
    /// Our name for the message.
    pub id: &'a MessageId,
    /// The recipient, where there was one only: more would tell each about the others (RFC 5321 §7.6).
    pub recipient: Option<&'a Address>,
    /// When.
    pub at: Timestamp,
}

impl Received<'_> {
    /// The field with its CRLF, folded so that each line is short.
    #[must_use]
    pub fn field(&self) -> String {
        let mut field = format!(
            "Received: from {} ({})\r\n\tby {} (Paquebot) with {} id {}",
            self.client_name,
            address_literal(self.client),
            self.hostname,
            self.transmission.keyword(),
            self.id
        );
        // Writing to a String cannot fail.
        if let Some(tls) = self.tls {
            let _ = write!(field, "\r\n\t({tls})");
        }
        if let Some(recipient) = self.recipient {
            let _ = write!(field, "\r\n\tfor <{recipient}>");
        }
        let _ = write!(field, ";\r\n\t{}\r\n", date(self.at));
        field
    }
}

/// An address literal (RFC 5321 §4.1.3).
fn address_literal(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}

/// A date as RFC 5322 §3.3 writes it, in UTC.
#[must_use]
pub fn date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// The `Return-Path` field with its CRLF; `None` is the null reverse-path.
#[must_use]
pub fn return_path(reverse_path: Option<&Address>) -> String {
    match reverse_path {
        Some(address) => format!("Return-Path: <{address}>\r\n"),
        None => "Return-Path: <>\r\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(recipient: Option<&Address>, transmission: Transmission, client: &str) -> String {
        Received {
            client_name: "client.example",
            client: client.parse().unwrap(),
            hostname: &Domain::parse("mx1.server1.com").unwrap(),
            transmission,
            tls: transmission.tls.then_some("TLS1.3 TLS13_AES_256_GCM_SHA384"),
            id: &MessageId::from_stored("0123".to_owned()),
            recipient,
            at: "2026-11-23T13:05:09Z".parse().unwrap(),
        }
        .field()
    }

    #[test]
    fn a_received_field() {
        let anna = Address::parse("anna@server1.com").unwrap();
        let transmission = Transmission { extended: true, tls: true, authenticated: true, smtputf8: false };
        assert_eq!(
            received(Some(&anna), transmission, "::ffff:192.0.2.7"),
            "Received: from client.example ([192.0.2.7])\r\n\tby mx1.server1.com (Paquebot) with ESMTPSA id 0123\r\n\
             \t(TLS1.3 TLS13_AES_256_GCM_SHA384)\r\n\tfor <anna@server1.com>;\r\n\tMon, 23 Nov 2026 13:05:09 +0000\r\n"
        );
        let plain = received(None, Transmission::default(), "2001:db8::7");
        assert!(plain.contains("([IPv6:2001:db8::7])") && plain.contains("with SMTP id") && !plain.contains("for <"));
    }

    #[test]
    fn with_clauses() {
        let of =
            |extended, tls, authenticated, smtputf8| Transmission { extended, tls, authenticated, smtputf8 }.keyword();
        assert_eq!(of(true, false, false, false), "ESMTP");
        assert_eq!(of(true, true, false, false), "ESMTPS");
        assert_eq!(of(true, false, true, false), "ESMTPA");
        assert_eq!(of(true, true, true, true), "UTF8SMTPSA");
        assert_eq!(of(false, false, false, false), "SMTP");
    }
}

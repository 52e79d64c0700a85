//! What a server's EHLO reply offers (RFC 5321 §4.1.1.1 and the extensions' own documents). Pure.

use crate::store::BodyType;

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The largest message (RFC 1870); `None` where nothing was said or there is no limit.
    pub size: Option<u64>,
    /// `SIZE` is understood at MAIL.
    pub size_offered: bool,
    /// RFC 6152.
    pub eight_bit: bool,
    /// RFC 3030 §2.
    pub chunking: bool,
    /// RFC 3030 §3.
    pub binary: bool,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 8689.
    pub require_tls: bool,
    /// RFC 6710.
    pub priority: bool,
    /// RFC 2852: the least number of seconds that it promises anything for; 0 where it did not say.
    pub deliver_by: Option<u64>,
    /// RFC 4954 with RFC 4616.
    pub auth_plain: bool,
    /// The older mechanism of two questions.
    pub auth_login: bool,
    /// Recipients of one transaction at most (RFC 9422).
    pub max_recipients: Option<usize>,
    /// Transactions of one connection at most (RFC 9422).
    pub max_messages: Option<usize>,
}

impl Capabilities {
    /// Reads the lines of the reply after the first.
    #[must_use]
    pub fn read(lines: &[String]) -> Self {
        let mut capabilities = Self::default();
        for line in lines {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
            capabilities.read_keyword(&keyword, words);
        }
        capabilities
    }

    /// What content it carries.
    #[must_use]
    pub fn carries(&self) -> BodyType {
        match (self.chunking && self.binary, self.eight_bit) {
            (true, _) => BodyType::BinaryMime,
            (false, true) => BodyType::EightBitMime,
            (false, false) => BodyType::SevenBit,
        }
    }

    fn read_keyword<'a>(&mut self, keyword: &str, mut words: impl Iterator<Item = &'a str>) {
        match keyword {
            "SIZE" => {
                self.size_offered = true;
                // RFC 1870 §3: zero says that there is no fixed limit.
                self.size = words.next().and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0);
            }
            "8BITMIME" => self.eight_bit = true,
            "CHUNKING" => self.chunking = true,
            "BINARYMIME" => self.binary = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "PIPELINING" => self.pipelining = true,
            "STARTTLS" => self.starttls = true,
            "DSN" => self.dsn = true,
            "REQUIRETLS" => self.require_tls = true,
            "MT-PRIORITY" => self.priority = true,
            "DELIVERBY" => self.deliver_by = Some(words.next().and_then(|least| least.parse().ok()).unwrap_or(0)),
            "AUTH" => words.for_each(|mechanism| match mechanism.to_ascii_uppercase().as_str() {
                "PLAIN" => self.auth_plain = true,
                "LOGIN" => self.auth_login = true,
                _ => {}
            }),
            "LIMITS" => words.for_each(|limit| self.read_limit(limit)),
            _ => {}
        }
    }

    /// RFC 9422 §3: what is not understood is passed over. A limit of nothing would mean that no mail is taken at all.
    fn read_limit(&mut self, limit: &str) {
        let Some((name, value)) = limit.split_once('=') else { return };
        let value = value.parse().ok().filter(|value| *value > 0);
        match name.to_ascii_uppercase().as_str() {
            "RCPTMAX" => self.max_recipients = value,
            "MAILMAX" => self.max_messages = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &[&str]) -> Capabilities {
        Capabilities::read(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_each_extension_says() {
        let all = read(&[
            "size 1000",
            "8BITMIME",
            "CHUNKING",
            "BINARYMIME",
            "SMTPUTF8",
            "PIPELINING",
            "STARTTLS",
            "DSN",
            "REQUIRETLS",
            "MT-PRIORITY MIXER",
            "DELIVERBY 60",
            "AUTH PLAIN login XOAUTH2",
            "LIMITS MAILMAX=5 RCPTMAX=20 OTHER=1",
            "X",
        ]);
        assert_eq!((all.size, all.size_offered, all.deliver_by), (Some(1000), true, Some(60)));
        assert_eq!((all.max_messages, all.max_recipients), (Some(5), Some(20)));
        assert!(all.auth_plain && all.auth_login && all.dsn && all.require_tls && all.priority && all.starttls);
        assert_eq!(all.carries(), BodyType::BinaryMime);
        assert_eq!(read(&["CHUNKING", "8BITMIME"]).carries(), BodyType::EightBitMime);
        assert_eq!(read(&["BINARYMIME"]).carries(), BodyType::SevenBit);
        assert_eq!(read(&["SIZE 0", "LIMITS RCPTMAX=0"]), Capabilities { size_offered: true, ..read(&[]) });
        assert_eq!(read(&["DELIVERBY"]).deliver_by, Some(0));
    }

    proptest! {
        #[test]
        fn any_lines_are_read(lines in prop::collection::vec("(LIMITS|SIZE|AUTH|DELIVERBY|) ?[ -~]{0,40}", 0..10)) {
            let capabilities = Capabilities::read(&lines);
            prop_assert!(capabilities.max_recipients != Some(0) && capabilities.size != Some(0));
        }
    }
}

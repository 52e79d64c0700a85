//! What a delivery attempt met, in the words of SMTP: a reply code, an enhanced status code (RFC 3463) and a text. Peers
//! say it, or we do where no peer was reached. Used by everything in the queue.

use std::fmt;

/// Whether another attempt makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It may pass: 4yz.
    Transient,
    /// It will not: 5yz.
    Permanent,
}

/// A refusal of a recipient, a message or a whole destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The SMTP reply code, 400 to 599.
    pub code: u16,
    /// The enhanced status code: class, subject, detail.
    pub enhanced: (u8, u16, u16),
    /// What is wrong: one line, without codes.
    pub text: String,
    /// The host that it is about, where one was spoken to.
    pub host: Option<String>,
    /// Whether that host said it; else we found out ourselves.
    pub said_by_host: bool,
}

impl Refusal {
    /// One that we found out ourselves, that may pass: `4.subject.detail`.
    #[must_use]
    pub fn transient(subject: u16, detail: u16, text: impl Into<String>) -> Self {
        Self { code: 451, enhanced: (4, subject, detail), text: text.into(), host: None, said_by_host: false }
    }

    /// One that we found out ourselves, that will not pass: `5.subject.detail`.
    #[must_use]
    pub fn permanent(subject: u16, detail: u16, text: impl Into<String>) -> Self {
        Self { code: 550, enhanced: (5, subject, detail), text: text.into(), host: None, said_by_host: false }
    }

    /// The same with the host that it is about.
    #[must_use]
    pub fn at(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Whether another attempt makes sense.
    #[must_use]
    pub fn severity(&self) -> Severity {
        if self.code >= 500 { Severity::Permanent } else { Severity::Transient }
    }

    /// The enhanced status code as text: `5.1.1`.
    #[must_use]
    pub fn status(&self) -> String {
        let (class, subject, detail) = self.enhanced;
        format!("{class}.{subject}.{detail}")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            write!(f, "{host}: ")?;
        }
        write!(f, "{} {} {}", self.code, self.status(), self.text)
    }
}

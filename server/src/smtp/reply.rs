//! Replies (RFC 5321 §4.2) with enhanced status codes (RFC 2034, RFC 3463). The machine and the policy make them.

use std::borrow::Cow;
use std::fmt;

/// A piece of reply text is cut here, so that a reply line stays within 512 octets (RFC 5321 §4.5.3.1.5).
const MAX_TEXT: usize = 480;

/// What the server says to one command: one or more lines with one code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    lines: Vec<Cow<'static, str>>,
}

/// An enhanced status code (RFC 3463): class, subject, detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Reply {
    /// A reply of one line with an enhanced status code, whose class is that of the code.
    #[must_use]
    pub fn new(code: u16, subject: u16, detail: u16, text: impl Into<Cow<'static, str>>) -> Self {
        // The class of the enhanced code is the first digit of the reply code (RFC 2034 §3).
        let class = u8::try_from(code / 100).unwrap_or(5);
        Self { code, enhanced: Some(EnhancedCode(class, subject, detail)), lines: vec![text.into()] }
    }

    /// A reply without an enhanced status code: greeting, EHLO, 354 and 334 have none (RFC 2034 §4).
    #[must_use]
    pub fn plain(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced: None, lines: vec![text.into()] }
    }

    /// The same reply with another line at its end.
    #[must_use]
    pub fn line(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.lines.push(text.into());
        self
    }

    /// The reply code.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status code, where the reply has one.
    #[must_use]
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// Whether the command was carried out (2xx) or goes on (3xx).
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// Adds the lines as they are on the wire.
    pub fn write(&self, output: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (number, text) in self.lines.iter().enumerate() {
            let separator = if number == last { ' ' } else { '-' };
            output.extend_from_slice(format!("{:03}{separator}", self.code).as_bytes());
            if let Some(enhanced) = self.enhanced {
                output.extend_from_slice(format!("{enhanced} ").as_bytes());
            }
            // Nothing that a peer sent may end our line for us.
            output.extend(text.bytes().filter(|byte| !byte.is_ascii_control()).take(MAX_TEXT));
            output.extend_from_slice(b"\r\n");
        }
    }
}

/// One line for logs: code, enhanced code and first line.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        self.lines.first().map_or(Ok(()), |text| write!(f, " {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(reply: &Reply) -> String {
        let mut output = Vec::new();
        reply.write(&mut output);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn replies_on_the_wire() {
        assert_eq!(wire(&Reply::new(250, 2, 0, "done")), "250 2.2.0 done\r\n");
        assert_eq!(wire(&Reply::new(452, 5, 3, "too many recipients")), "452 4.5.3 too many recipients\r\n");
        assert_eq!(
            wire(&Reply::plain(250, "mx.example").line("PIPELINING").line("HELP")),
            "250-mx.example\r\n250-PIPELINING\r\n250 HELP\r\n"
        );
        assert_eq!(wire(&Reply::plain(334, "")), "334 \r\n");
    }

    #[test]
    fn text_cannot_end_a_line_or_make_it_too_long() {
        assert_eq!(wire(&Reply::new(250, 0, 0, "a\r\n250 b")), "250 2.0.0 a250 b\r\n");
        assert!(wire(&Reply::new(250, 0, 0, "x".repeat(10_000))).len() <= 512);
    }
}

//! Replies of an SMTP server (RFC 5321 §4.2): from bytes as they come to whole replies. Pure, and bounded: a peer cannot
//! make it keep more than one reply of limited size.

use super::super::status::Refusal;

/// The longest reply, all lines together. RFC 5321 §4.5.3.1.5 promises 512 octets a line; real EHLO replies have some
/// twenty lines.
const MAX_REPLY: usize = 32 * 1024;

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// The text of each line, after the code.
    pub lines: Vec<String>,
}

/// What arrived is not an SMTP reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// No code, or different codes in one reply.
    #[error("the server sent something that is not an SMTP reply")]
    Malformed,
    /// More than is kept.
    #[error("the server sent a reply that is too long")]
    TooLong,
}

impl Reply {
    /// 2yz.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// The reply as a refusal by `host`. A positive or intermediate reply where it does not belong counts as a transient
    /// failure (RFC 5321 §4.3.2 asks to be lenient; delivering on a misunderstanding would be worse).
    #[must_use]
    pub fn refusal(&self, host: &str) -> Refusal {
        let code = if (400..600).contains(&self.code) { self.code } else { 451 };
        let class = if code >= 500 { 5 } else { 4 };
        let mut enhanced = None;
        let texts: Vec<&str> = self
            .lines
            .iter()
            .map(|line| {
                let (status, text) = split_enhanced(line);
                enhanced = enhanced.or(status);
                text
            })
            .collect();
        // RFC 2034 §4: the class must agree with the code; where it does not, the code is what counts.
        let enhanced = enhanced.filter(|(said, _, _)| *said == class).unwrap_or((class, 0, 0));
        let text = texts.join(" ").trim().to_owned();
        Refusal { code, enhanced, text, host: Some(host.to_owned()), said_by_host: true }
    }
}

/// `5.1.1 text` into its parts (RFC 2034 §4).
fn split_enhanced(line: &str) -> (Option<(u8, u16, u16)>, &str) {
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut numbers = first.split('.');
    let mut next = || {
        let text = numbers.next()?;
        let valid = !text.is_empty() && text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        if valid { text.parse::<u16>().ok() } else { None }
    };
    match (next(), next(), next(), numbers.next()) {
        (Some(class @ (2 | 4 | 5)), Some(subject), Some(detail), None) => {
            (u8::try_from(class).ok().map(|class| (class, subject, detail)), rest)
        }
        _ => (None, line),
    }
}

/// Puts replies together.
#[derive(Debug, Default)]
pub struct ReplyReader {
    buffer: Vec<u8>,
    lines: Vec<String>,
    code: Option<u16>,
    octets: usize,
}

impl ReplyReader {
    /// Takes bytes as they come from the connection.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole reply, if it is there.
    ///
    /// # Errors
    /// [`ReplyError`]: the connection is of no use any more.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, ReplyError> {
        // Some servers end lines with a bare LF; a reply is not a place where that can do harm.
        while let Some(end) = memchr::memchr(b'\n', &self.buffer) {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            self.octets += line.len();
            if self.octets > MAX_REPLY {
                return Err(ReplyError::TooLong);
            }
            if let Some(reply) = self.take_line(&line)? {
                return Ok(Some(reply));
            }
        }
        if self.octets + self.buffer.len() > MAX_REPLY { Err(ReplyError::TooLong) } else { Ok(None) }
    }

    /// Whether bytes are there that belong to no reply yet.
    #[must_use]
    pub fn has_leftover(&self) -> bool {
        !self.buffer.is_empty() || self.code.is_some()
    }

    fn take_line(&mut self, line: &[u8]) -> Result<Option<Reply>, ReplyError> {
        let line = line.trim_ascii_end();
        let code = parse_code(line).ok_or(ReplyError::Malformed)?;
        if *self.code.get_or_insert(code) != code {
            return Err(ReplyError::Malformed);
        }
        let is_last = match line.get(3) {
            None | Some(b' ') => true,
            Some(b'-') => false,
            Some(_) => return Err(ReplyError::Malformed),
        };
        self.lines.push(printable(line.get(4..).unwrap_or_default()));
        if !is_last {
            return Ok(None);
        }
        self.code = None;
        self.octets = 0;
        Ok(Some(Reply { code, lines: std::mem::take(&mut self.lines) }))
    }
}

fn parse_code(line: &[u8]) -> Option<u16> {
    let digits = line.get(..3)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    (200..600).contains(&code).then_some(code)
}

/// A peer's text goes into logs and reports: control characters do not.
fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Vec<Reply>, ReplyError> {
        let mut reader = ReplyReader::default();
        reader.feed(bytes);
        let mut replies = Vec::new();
        while let Some(reply) = reader.next_reply()? {
            replies.push(reply);
        }
        Ok(replies)
    }

    #[test]
    fn replies_of_one_and_of_many_lines() {
        let replies = read(b"220 hello\r\n250-a\r\n250-b c\r\n250\r\n354\n").unwrap();
        let seen: Vec<(u16, usize)> = replies.iter().map(|reply| (reply.code, reply.lines.len())).collect();
        assert_eq!(seen, [(220, 1), (250, 3), (354, 1)]);
        assert_eq!(replies[1].lines, ["a", "b c", ""]);
    }

    #[test]
    fn what_is_not_a_reply_is_refused() {
        for bad in ["hello\r\n", "25\r\n", "250x\r\n", "250-a\r\n251 b\r\n", "999 a\r\n", "\r\n", "1.0 a\r\n"] {
            assert_eq!(read(bad.as_bytes()), Err(ReplyError::Malformed), "{bad}");
        }
        assert_eq!(read(&vec![b'2'; MAX_REPLY + 1]), Err(ReplyError::TooLong));
        assert_eq!(read(&b"250-aaaaaaaaaaaa\r\n".repeat(MAX_REPLY / 18 + 1)), Err(ReplyError::TooLong));
    }

    #[test]
    fn enhanced_codes_are_read_where_they_agree() {
        let refusal = |text: &str| read(text.as_bytes()).unwrap()[0].refusal("mx.example");
        let given = refusal("550-5.1.1 No such\r\n550 5.1.1 user\r\n");
        assert_eq!((given.status().as_str(), given.text.as_str()), ("5.1.1", "No such user"));
        assert_eq!(refusal("550 no\r\n").status(), "5.0.0");
        assert_eq!(refusal("450 5.1.1 odd\r\n").status(), "4.0.0");
        assert_eq!(refusal("450 4.1111.1 odd\r\n").text, "4.1111.1 odd");
        assert_eq!(refusal("250 what\r\n").code, 451);
        assert_eq!(refusal("550 a\x1bb\r\n").text, "a b");
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_replies(
            cuts in prop::collection::vec(0..80_usize, 0..10),
            bytes in prop_oneof![
                Just(b"220 a b\r\n250-x\r\n250-SIZE 10\r\n250 y\r\n550 5.1.1 no\r\n".to_vec()),
                prop::collection::vec(any::<u8>(), 0..80),
            ],
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < bytes.len()).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut reader = ReplyReader::default();
            let mut replies = Vec::new();
            let mut outcome = Ok(());
            'pieces: for pair in cuts.windows(2) {
                reader.feed(&bytes[pair[0]..pair[1]]);
                loop {
                    match reader.next_reply() {
                        Ok(Some(reply)) => replies.push(reply),
                        Ok(None) => break,
                        Err(error) => {
                            outcome = Err(error);
                            break 'pieces;
                        }
                    }
                }
            }
            prop_assert_eq!(outcome.map(|()| replies), read(&bytes));
        }
    }
}

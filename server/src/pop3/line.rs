//! Bytes to lines. A line ends at CRLF and nowhere else (RFC 1939 §3), and is bounded. Used by [`super::machine`].

/// The longest command, CRLF included (RFC 2449 §4).
pub const MAX_COMMAND: usize = 255;
/// The longest answer in an AUTH exchange, CRLF included (RFC 5034 §4 asks for room for 12288 octets of base64).
pub const MAX_AUTH_ANSWER: usize = 12_288 + 2;

/// What came out of the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A whole line, without its CRLF. It may hold any octets but CRLF.
    Whole(Vec<u8>),
    /// A line went over its bound. Reported once, at once; the rest of it is thrown away.
    TooLong,
}

/// Collects bytes and gives out lines. It holds at most what one `feed` brought and one line.
#[derive(Default)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Octets from the start of `buffer` in which no CRLF begins.
    searched: usize,
    /// Inside a line that was too long.
    skipping: bool,
}

impl Lines {
    /// Takes bytes as they came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Forgets what came and was not yet used (STLS: it was not encrypted).
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.searched = 0;
        self.skipping = false;
    }

    /// The next line that is no longer than `limit` octets with its CRLF; `None` when more bytes are needed.
    pub fn next(&mut self, limit: usize) -> Option<Line> {
        loop {
            let end = memchr::memmem::find(&self.buffer[self.searched..], b"\r\n").map(|at| self.searched + at);
            match end {
                Some(end) => {
                    let rest = self.buffer.split_off(end + 2);
                    let mut line = std::mem::replace(&mut self.buffer, rest);
                    self.searched = 0;
                    let length = line.len();
                    line.truncate(end);
                    if std::mem::take(&mut self.skipping) {
                        continue;
                    }
                    return Some(if length <= limit { Line::Whole(line) } else { Line::TooLong });
                }
                None if self.buffer.len() >= limit => {
                    // A CR at the end may be the first half of this line's end.
                    let keep = usize::from(self.buffer.last() == Some(&b'\r'));
                    self.buffer.drain(..self.buffer.len() - keep);
                    self.searched = 0;
                    if !std::mem::replace(&mut self.skipping, true) {
                        return Some(Line::TooLong);
                    }
                    return None;
                }
                None => {
                    if self.skipping {
                        let keep = usize::from(self.buffer.last() == Some(&b'\r'));
                        self.buffer.drain(..self.buffer.len() - keep);
                    }
                    self.searched = self.buffer.len().saturating_sub(1);
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(pieces: &[&[u8]], limit: usize) -> Vec<Line> {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for piece in pieces {
            lines.feed(piece);
            while let Some(line) = lines.next(limit) {
                out.push(line);
            }
        }
        out
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.as_bytes().to_vec())
    }

    #[test]
    fn only_crlf_ends_a_line() {
        assert_eq!(all(&[b"a\nb\rc\r\nd\r", b"\n\r\n"], 255), [whole("a\nb\rc"), whole("d"), whole("")]);
    }

    #[test]
    fn a_long_line_is_reported_once_and_the_next_is_whole() {
        let long = [b'x'; 600];
        assert_eq!(all(&[&long, &long, b"\r", b"\nNOOP\r\n"], 255), [Line::TooLong, whole("NOOP")]);
        // 253 octets and CRLF fit into 255; one more does not.
        let fits = "y".repeat(253);
        assert_eq!(
            all(&[format!("{fits}\r\ny{fits}\r\nz\r\n").as_bytes()], 255),
            [whole(&fits), Line::TooLong, whole("z")]
        );
    }

    proptest! {
        #[test]
        fn the_lines_do_not_depend_on_how_the_bytes_arrive(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a'), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(all(&pieces, 16), all(&[&bytes], 16));
        }
    }
}

//! Bytes to lines. A line ends at CRLF and nowhere else (RFC 1939 §3), and is bounded. Used by [`super::machine`].

use zeroize::Zeroize as _;

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
    /// Where the next line begins: what is before was given out.
    start: usize,
    /// Octets from `start` on in which no CRLF begins.
    searched: usize,
    /// Inside a line that was too long.
    skipping: bool,
}

impl Lines {
    /// Takes bytes as they came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Forgets what came and was not yet used (STLS: it was not encrypted), and what could not be used again.
    pub fn clear(&mut self) {
        self.wipe();
        self.skipping = false;
    }

    /// Gives memory back, where nothing waits in it.
    pub fn trim(&mut self) {
        if self.start == self.buffer.len() {
            self.wipe();
        }
    }

    /// Passwords were in it.
    fn wipe(&mut self) {
        self.buffer.zeroize();
        *self = Self { skipping: self.skipping, ..Self::default() };
    }

    /// The next line that is no longer than `limit` octets with its CRLF; `None` when more bytes are needed.
    pub fn next(&mut self, limit: usize) -> Option<Line> {
        loop {
            let rest = &self.buffer[self.start..];
            let Some(end) = memchr::memmem::find(&rest[self.searched..], b"\r\n").map(|at| self.searched + at) else {
                return self.without_end(limit);
            };
            let is_rest_of_long = std::mem::take(&mut self.skipping);
            let line = (end + 2 <= limit && !is_rest_of_long).then(|| rest[..end].to_vec());
            self.start += end + 2;
            self.searched = 0;
            if !is_rest_of_long {
                return Some(line.map_or(Line::TooLong, Line::Whole));
            }
        }
    }

    /// There is no line's end in what is here.
    fn without_end(&mut self, limit: usize) -> Option<Line> {
        let length = self.buffer.len() - self.start;
        let is_too_long = length >= limit;
        if is_too_long || self.skipping {
            // A CR at the end may be the first half of this line's end.
            let keep = usize::from(self.buffer[self.start..].last() == Some(&b'\r'));
            self.start = self.buffer.len() - keep;
            self.searched = 0;
            let reported = std::mem::replace(&mut self.skipping, true);
            return (!reported).then_some(Line::TooLong);
        }
        self.searched = length.saturating_sub(1);
        None
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

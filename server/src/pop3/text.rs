//! A stored message as RETR and TOP send it: byte-stuffed (RFC 1939 §3), ended with a line that is a dot, and for TOP cut
//! after the header and some lines. Pure: pieces in, pieces out; a message is never whole in memory.

/// How much of a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it: RETR.
    Whole,
    /// The header, the empty line, and so many lines of the body: TOP.
    Top(u64),
}

/// Where the last octet was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    LineStart,
    Inside,
    /// After a CR. Should no LF follow, it ends no line; the dot after it is guarded as well.
    AfterCr,
    /// After an LF that no CR came before. It ends no line (RFC 1939 §3); but a client that thinks it does must not take a
    /// dot for the message's end, and what follows for our replies.
    AfterLf,
}

/// Takes a message's pieces in order and gives what is to be sent.
#[derive(Debug)]
pub struct Transfer {
    extent: Extent,
    at: At,
    in_header: bool,
    /// Octets of the line so far, CR excluded: an empty line ends the header.
    line_is_empty: bool,
    complete: bool,
}

impl Transfer {
    /// Begins a message.
    #[must_use]
    pub fn new(extent: Extent) -> Self {
        Self { extent, at: At::LineStart, in_header: true, line_is_empty: true, complete: false }
    }

    /// Whether the rest of the message is not wanted: TOP has had its lines.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes a piece, and adds its part of what is sent to `out`.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        out.reserve(piece.len() + piece.len() / 64 + 8);
        let mut rest = piece;
        while !rest.is_empty() && !self.complete {
            if self.at == At::Inside {
                let run = self.plain_run(rest);
                out.extend_from_slice(&rest[..run]);
                rest = &rest[run..];
            }
            let Some((&octet, after)) = rest.split_first() else { break };
            rest = after;
            self.octet(octet, out);
        }
    }

    /// How many octets can be copied as they are, from inside a line on. Who wants all of the message need only know where
    /// a line begins with a dot, and what the piece ends with.
    fn plain_run(&self, rest: &[u8]) -> usize {
        if self.extent != Extent::Whole {
            return memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        }
        let end = rest.len().saturating_sub(2);
        let follows_an_end = |dot: &usize| *dot > 0 && matches!(rest[dot - 1], b'\r' | b'\n');
        // The last two octets decide about the first one of the next piece.
        memchr::memchr_iter(b'.', rest).find(follows_an_end).map_or(end, |dot| dot - 1)
    }

    fn octet(&mut self, octet: u8, out: &mut Vec<u8>) {
        if octet == b'.' && matches!(self.at, At::LineStart | At::AfterLf | At::AfterCr) {
            out.push(b'.');
        }
        out.push(octet);
        match (self.at, octet) {
            (At::AfterCr, b'\n') => self.end_line(),
            (_, b'\r') => {
                // A CR that no LF follows belongs to the line.
                self.line_is_empty &= self.at == At::LineStart;
                self.at = At::AfterCr;
            }
            (_, octet) => {
                self.line_is_empty = false;
                self.at = if octet == b'\n' { At::AfterLf } else { At::Inside };
            }
        }
    }

    fn end_line(&mut self) {
        let ends_header = self.in_header && self.line_is_empty;
        self.at = At::LineStart;
        self.line_is_empty = true;
        let Extent::Top(lines) = &mut self.extent else { return };
        if ends_header {
            self.in_header = false;
        } else if !self.in_header {
            *lines -= 1;
        }
        self.complete = !self.in_header && *lines == 0;
    }

    /// Adds the end of what is sent: a line's end where the message has none, and the dot.
    pub fn finish(self, out: &mut Vec<u8>) {
        if self.at != At::LineStart {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn send(extent: Extent, pieces: &[&[u8]]) -> Vec<u8> {
        let mut transfer = Transfer::new(extent);
        let mut out = Vec::new();
        for piece in pieces {
            transfer.push(piece, &mut out);
        }
        transfer.finish(&mut out);
        out
    }

    /// The obvious way: all lines in memory.
    fn model(extent: Extent, message: &[u8]) -> Vec<u8> {
        let text: Vec<u8> = message.to_vec();
        let mut lines: Vec<Vec<u8>> = Vec::new();
        let mut line = Vec::new();
        for (at, octet) in text.iter().enumerate() {
            line.push(*octet);
            if *octet == b'\n' && at > 0 && text[at - 1] == b'\r' {
                lines.push(std::mem::take(&mut line));
            }
        }
        if !line.is_empty() {
            line.extend_from_slice(b"\r\n");
            lines.push(line);
        }
        if let Extent::Top(count) = extent
            && let Some(blank) = lines.iter().position(|line| line == b"\r\n")
        {
            lines.truncate(blank + 1 + usize::try_from(count).unwrap());
        }
        let mut out = Vec::new();
        for line in lines {
            let mut last = b'\n';
            for octet in line {
                // A bare LF or CR ends no line, but a dot after it is stuffed as well.
                if octet == b'.' && matches!(last, b'\r' | b'\n') {
                    out.push(b'.');
                }
                out.push(octet);
                last = octet;
            }
        }
        out.extend_from_slice(b".\r\n");
        out
    }

    #[test]
    fn examples() {
        let message = b"A: 1\r\n.B: 2\r\n\r\none\r\n.two\r\n..\r\nthree";
        assert_eq!(send(Extent::Whole, &[message]), b"A: 1\r\n..B: 2\r\n\r\none\r\n..two\r\n...\r\nthree\r\n.\r\n");
        assert_eq!(send(Extent::Top(0), &[message]), b"A: 1\r\n..B: 2\r\n\r\n.\r\n");
        assert_eq!(send(Extent::Top(2), &[message]), b"A: 1\r\n..B: 2\r\n\r\none\r\n..two\r\n.\r\n");
        assert_eq!(send(Extent::Top(9), &[message]), send(Extent::Whole, &[message]));
        assert_eq!(send(Extent::Top(3), &[b"A: 1\r\n"]), b"A: 1\r\n.\r\n");
        assert_eq!(send(Extent::Top(1), &[b"\r\nx\r\ny\r\n"]), b"\r\nx\r\n.\r\n");
        assert_eq!(send(Extent::Whole, &[]), b".\r\n");
        // A client that takes a bare LF for a line's end must not see the message's end there.
        assert_eq!(send(Extent::Whole, &[b"\r\na\n.\r\n+OK"]), b"\r\na\n..\r\n+OK\r\n.\r\n");
        // Nor one that takes a bare CR for it.
        assert_eq!(send(Extent::Whole, &[b"\r\na\r.\r+OK"]), b"\r\na\r..\r+OK\r\n.\r\n");
        assert_eq!(send(Extent::Top(9), &[b"\r\na\r", b".\r+OK"]), b"\r\na\r..\r+OK\r\n.\r\n");
    }

    proptest! {
        #[test]
        fn it_equals_the_obvious_way_however_the_message_is_cut(
            lines in proptest::collection::vec("[.a:\r\n]{0,4}", 0..12),
            tail in "[.a\r\n]{0,3}",
            count in 0u64..6,
            whole in any::<bool>(),
            cut in 0usize..60,
        ) {
            let message = lines.iter().map(|line| format!("{line}\r\n")).collect::<String>() + &tail;
            let bytes = message.as_bytes();
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let (second, third) = second.split_at(second.len().min(2));
            let extent = if whole { Extent::Whole } else { Extent::Top(count) };
            prop_assert_eq!(send(extent, &[first, second, third]), model(extent, bytes));
        }
    }
}

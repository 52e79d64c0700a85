//! Dot-stuffing (RFC 5321 §4.5.2): a message as it goes over the wire after DATA.

/// Turns the pieces of a message into what is sent.
#[derive(Debug)]
pub struct DotStuffer {
    /// The octets before, as far as they matter: a message begins like a line.
    last: [u8; 2],
}

impl Default for DotStuffer {
    fn default() -> Self {
        Self { last: *b"\r\n" }
    }
}

impl DotStuffer {
    /// Appends a piece to `wire`, with a dot doubled wherever a line begins with one.
    pub fn push(&mut self, piece: &[u8], wire: &mut Vec<u8>) {
        let mut copied = 0;
        for at in memchr::memchr_iter(b'.', piece) {
            if self.before(piece, at) == *b"\r\n" {
                wire.extend_from_slice(&piece[copied..at]);
                wire.push(b'.');
                copied = at;
            }
        }
        wire.extend_from_slice(&piece[copied..]);
        self.last = self.before(piece, piece.len());
    }

    /// Appends the end of the message, and the end of a line that has none.
    pub fn finish(self, wire: &mut Vec<u8>) {
        if self.last != *b"\r\n" {
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b".\r\n");
    }

    /// The two octets before a place in the piece.
    fn before(&self, piece: &[u8], at: usize) -> [u8; 2] {
        match at {
            0 => self.last,
            1 => [self.last[1], piece[0]],
            _ => [piece[at - 2], piece[at - 1]],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stuffed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let (mut stuffer, mut wire) = (DotStuffer::default(), Vec::new());
        for piece in pieces {
            stuffer.push(piece, &mut wire);
        }
        stuffer.finish(&mut wire);
        wire
    }

    /// What a server makes of it: RFC 5321 §4.5.2, from its own side.
    fn unstuffed(wire: &[u8]) -> Vec<u8> {
        let body = wire.strip_suffix(b".\r\n").unwrap();
        let mut message = Vec::new();
        for line in body.split_inclusive(|byte| *byte == b'\n') {
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        message
    }

    #[test]
    fn dots_are_doubled_at_the_beginning_of_lines_only() {
        assert_eq!(stuffed([&b".a\r\n.\r\nb.c\r\n..\r\n"[..]]), b"..a\r\n..\r\nb.c\r\n...\r\n.\r\n");
        assert_eq!(stuffed([&b"no end"[..]]), b"no end\r\n.\r\n");
        assert_eq!(stuffed([&b""[..]]), b".\r\n");
        assert_eq!(stuffed([&b"a\r"[..], b"\n", b".", b"\r\n"]), b"a\r\n..\r\n.\r\n");
    }

    proptest! {
        #[test]
        fn any_pieces_come_out_as_they_went_in(
            lines in prop::collection::vec("[.a ]{0,4}", 0..12), cuts in prop::collection::vec(0..80_usize, 0..8),
        ) {
            let message: Vec<u8> = lines.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < message.len()).collect();
            cuts.extend([0, message.len()]);
            cuts.sort_unstable();
            let wire = stuffed(cuts.windows(2).map(|pair| &message[pair[0]..pair[1]]));
            prop_assert_eq!(&wire, &stuffed([&message[..]]));
            prop_assert_eq!(unstuffed(&wire), message);
            let ends = wire.windows(5).filter(|window| *window == b"\r\n.\r\n").count();
            prop_assert!(ends == 1 || wire == b".\r\n");
        }
    }
}

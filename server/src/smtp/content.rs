//! What follows DATA: the end found, dot-stuffing undone (RFC 5321 §4.5.2), and everything that smuggling needs refused.
//! Called by [`super::machine`]; works on any split of the bytes, and keeps none of them.

use memchr::memchr3;

/// What makes a message one that is refused. Two servers that disagree about where a line ends disagree about where a
/// message ends: that is SMTP smuggling. So what is not a line by RFC 5321 §2.3.8 is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A CR that no LF follows.
    BareCr,
    /// A LF without CR before it.
    BareLf,
    /// A NUL octet (RFC 5321 §4.1.1.4 with RFC 5322 §2.2).
    Nul,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LineStart,
    /// A dot at the start of a line.
    Dot,
    /// A dot and CR at the start of a line.
    DotCr,
    Text,
    /// CR within or after text.
    Cr,
}

/// Takes the octets between `354` and the final dot.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    fault: Option<Fault>,
}

impl Default for Decoder {
    fn default() -> Self {
        // The CRLF of the DATA command counts as the one before a final dot (RFC 5321 §4.1.1.4).
        Self { state: State::LineStart, fault: None }
    }
}

impl Decoder {
    /// Reads from `input` and adds the message's own octets to `output`. Returns how many were read and whether the
    /// final dot was among them; without it, all were.
    pub fn decode(&mut self, input: &[u8], output: &mut Vec<u8>) -> (usize, bool) {
        let mut position = 0;
        while let Some(&byte) = input.get(position) {
            match (self.state, byte) {
                (State::LineStart, b'.') => self.state = State::Dot,
                (State::Dot, b'\r') => self.state = State::DotCr,
                (State::DotCr, b'\n') => return (position + 1, true),
                (State::Cr, b'\n') => {
                    output.extend_from_slice(b"\r\n");
                    self.state = State::LineStart;
                }
                (State::DotCr | State::Cr, b'\r') => {
                    self.found(Fault::BareCr);
                    self.state = State::Cr;
                }
                (State::DotCr | State::Cr, _) => {
                    self.found(Fault::BareCr);
                    self.state = State::Text;
                    continue;
                }
                (State::LineStart | State::Dot | State::Text, _) => {
                    position += self.text(&input[position..], output);
                    continue;
                }
            }
            position += 1;
        }
        (position, false)
    }

    /// Takes text up to and with the first octet that needs a decision; returns how many octets that were.
    fn text(&mut self, input: &[u8], output: &mut Vec<u8>) -> usize {
        let run = memchr3(b'\r', b'\n', 0, input).unwrap_or(input.len());
        output.extend_from_slice(&input[..run]);
        self.state = State::Text;
        match input.get(run) {
            Some(b'\r') => self.state = State::Cr,
            Some(b'\n') => self.found(Fault::BareLf),
            Some(_) => self.found(Fault::Nul),
            None => return run,
        }
        run + 1
    }

    fn found(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// The first thing that was wrong so far.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }
}

/// Counts `Received` fields in the header section, to find loops (RFC 5321 §6.3). Sees the decoded octets.
#[derive(Debug, Default)]
pub struct ReceivedCounter {
    /// How many octets of the current line were compared with `received:`; `None`: the line is something else.
    matched: Option<usize>,
    inside_line: bool,
    /// How many octets the line has, as far as it matters for the empty one that ends the header section.
    line_length: usize,
    done: bool,
    count: u32,
}

impl ReceivedCounter {
    const NAME: &'static [u8] = b"received:";

    /// Looks at the next octets.
    pub fn look(&mut self, octets: &[u8]) {
        for &byte in octets {
            if self.done {
                return;
            }
            if !self.inside_line {
                (self.inside_line, self.matched, self.line_length) = (true, Some(0), 0);
            }
            match byte {
                b'\n' => {
                    self.done = self.line_length == 0;
                    self.inside_line = false;
                }
                b'\r' => {}
                _ => self.text(byte),
            }
        }
    }

    fn text(&mut self, byte: u8) {
        self.line_length += 1;
        let Some(matched) = self.matched else { return };
        let same = Self::NAME.get(matched).is_some_and(|expected| byte.to_ascii_lowercase() == *expected);
        self.matched = same.then_some(matched + 1);
        if self.matched == Some(Self::NAME.len()) {
            self.count += 1;
            self.matched = None;
        }
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Dot-stuffing as a client does it (RFC 5321 §4.5.2).
    fn stuff(message: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        for line in message.split_inclusive(|byte| *byte == b'\n') {
            if line.starts_with(b".") {
                wire.push(b'.');
            }
            wire.extend_from_slice(line);
        }
        wire.extend_from_slice(b".\r\n");
        wire
    }

    fn decode(wire: &[u8]) -> (Vec<u8>, usize, bool, Option<Fault>) {
        let (mut decoder, mut output) = (Decoder::default(), Vec::new());
        let (read, ended) = decoder.decode(wire, &mut output);
        (output, read, ended, decoder.fault())
    }

    #[test]
    fn the_empty_message_and_dots() {
        assert_eq!(decode(b".\r\n"), (b"".to_vec(), 3, true, None));
        assert_eq!(decode(b"..\r\n...a\r\n.\r\n"), (b".\r\n..a\r\n".to_vec(), 13, true, None));
        assert_eq!(decode(b".a\r\n.\r\nQUIT\r\n"), (b"a\r\n".to_vec(), 7, true, None));
        assert_eq!(decode(b"a\r\n."), (b"a\r\n".to_vec(), 4, false, None));
    }

    /// Each of these ends a message for some server. Here none does: the end is the CRLF.CRLF behind it, the whole is
    /// one message, and it is refused.
    #[test]
    fn smuggled_ends_are_no_ends() {
        for (sequence, fault) in [
            (&b"\n.\n"[..], Fault::BareLf),
            (b"\n.\r\n", Fault::BareLf),
            (b"\r\n.\n", Fault::BareLf),
            (b"\r.\r", Fault::BareCr),
            (b"\r.\r\n", Fault::BareCr),
            (b"\r\n.\r", Fault::BareCr),
            (b"\r\r\n.\r\r\n", Fault::BareCr),
            (b"\r\n.\r\r\n", Fault::BareCr),
            (b"\n\n.\r\n", Fault::BareLf),
            (b"\r\n.\n\r\n", Fault::BareLf),
            (b"\r\n.\0\r\n", Fault::Nul),
            (b"\r\n\0.\r\n", Fault::Nul),
            (b"\r\n.\r\0\n", Fault::BareCr),
            (b"\n.\r", Fault::BareLf),
            (b"\r.\n", Fault::BareCr),
        ] {
            let wire = [b"one", sequence, b"MAIL FROM:<a@b.example>\r\n.\r\n"].concat();
            let (_, read, ended, found) = decode(&wire);
            assert_eq!((read, ended, found), (wire.len(), true, Some(fault)), "{sequence:?}");
        }
    }

    /// CR CR LF . CR LF has a true CRLF.CRLF behind its bare CR: it ends there, and is refused.
    #[test]
    fn a_true_end_behind_a_bare_cr() {
        let (_, read, ended, fault) = decode(b"one\r\r\n.\r\nQUIT\r\n");
        assert_eq!((read, ended, fault), (9, true, Some(Fault::BareCr)));
    }

    #[test]
    fn received_fields_are_counted_in_the_header_section_only() {
        let count = |text: &[u8]| {
            let mut counter = ReceivedCounter::default();
            counter.look(text);
            counter.count()
        };
        assert_eq!(count(b"Received: a\r\n b\r\nRECEIVED:c\r\nSubject: x\r\n\r\nReceived: no\r\n"), 2);
        assert_eq!(count(b"X-Received: a\r\nReceived-SPF: b\r\n Received: folded\r\n"), 0);
        assert_eq!(count(b"\r\nReceived: body\r\n"), 0);
    }

    fn lines() -> impl Strategy<Value = Vec<u8>> {
        let octet = prop_oneof![Just(b'.'), 1..=9u8, 11..=12u8, 14..=255u8];
        // Some lines go to and beyond the 998 octets of RFC 5322 §2.1.1.
        let filler = prop_oneof![3 => Just(0), 1 => 900..1100usize];
        let line = (proptest::collection::vec(octet, 0..20), filler).prop_map(|(mut line, filler)| {
            line.resize(line.len() + filler, b'x');
            line.extend_from_slice(b"\r\n");
            line
        });
        proptest::collection::vec(line, 0..8).prop_map(|lines| lines.concat())
    }

    proptest! {
        #[test]
        fn what_is_sent_is_what_comes_out(message in lines(), cut in 1..50usize) {
            let wire = [stuff(&message), b"RSET\r\n".to_vec()].concat();
            let (mut decoder, mut output, mut read) = (Decoder::default(), Vec::new(), 0);
            for piece in wire.chunks(cut) {
                let (taken, ended) = decoder.decode(piece, &mut output);
                read += taken;
                if ended { break }
            }
            prop_assert_eq!(output, message);
            prop_assert_eq!(read, wire.len() - 6);
            prop_assert_eq!(decoder.fault(), None);
        }

        #[test]
        fn any_octets_in_any_split_decode_alike(wire in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(0), any::<u8>()], 0..200), cut in 1..9usize) {
            let whole = decode(&wire);
            let (mut decoder, mut output, mut read, mut end) = (Decoder::default(), Vec::new(), 0, false);
            for piece in wire.chunks(cut) {
                let (taken, ended) = decoder.decode(piece, &mut output);
                read += taken;
                if ended { end = true; break }
            }
            prop_assert_eq!((output, read, end, decoder.fault()), whole);
        }
    }
}

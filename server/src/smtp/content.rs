//! What follows DATA or a BDAT: the end found and dot-stuffing undone (RFC 5321 §4.5.2), and everything that smuggling
//! needs refused. Called by [`super::machine`]; works on any split of the bytes, and keeps none of them.

use memchr::memchr3;
use paquebot_config::BareLineEndings;

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
    bare: BareLineEndings,
    fault: Option<Fault>,
}

impl Decoder {
    /// For a message whose bare CRs and LFs meet this fate. In no case does one of them begin or end a line with a dot.
    #[must_use]
    pub fn new(bare: BareLineEndings) -> Self {
        // The CRLF of the DATA command counts as the one before a final dot (RFC 5321 §4.1.1.4).
        Self { state: State::LineStart, bare, fault: None }
    }

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
                    self.bare(Fault::BareCr, output);
                    self.state = State::Cr;
                }
                (State::DotCr | State::Cr, _) => {
                    self.bare(Fault::BareCr, output);
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

    /// Reads octets of a chunk (RFC 3030), where a dot is a dot, and adds the message's own to `output`.
    pub fn decode_chunk(&mut self, input: &[u8], output: &mut Vec<u8>) {
        let mut position = 0;
        while let Some(&byte) = input.get(position) {
            match (self.state, byte) {
                (State::Cr, b'\n') => {
                    output.extend_from_slice(b"\r\n");
                    self.state = State::Text;
                    position += 1;
                }
                (State::Cr, _) => {
                    self.bare(Fault::BareCr, output);
                    self.state = State::Text;
                }
                _ => position += self.text(&input[position..], output),
            }
        }
    }

    /// The last chunk has ended.
    pub fn finish_chunks(&mut self, output: &mut Vec<u8>) {
        if self.state == State::Cr {
            self.bare(Fault::BareCr, output);
            self.state = State::Text;
        }
    }

    /// Takes text up to and with the first octet that needs a decision; returns how many octets that were.
    fn text(&mut self, input: &[u8], output: &mut Vec<u8>) -> usize {
        let run = memchr3(b'\r', b'\n', 0, input).unwrap_or(input.len());
        output.extend_from_slice(&input[..run]);
        self.state = State::Text;
        match input.get(run) {
            Some(b'\r') => self.state = State::Cr,
            Some(b'\n') => self.bare(Fault::BareLf, output),
            Some(_) => self.found(Fault::Nul),
            None => return run,
        }
        run + 1
    }

    fn bare(&mut self, fault: Fault, output: &mut Vec<u8>) {
        match self.bare {
            BareLineEndings::Refuse => self.found(fault),
            BareLineEndings::Normalise => output.extend_from_slice(b"\r\n"),
        }
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

/// What the machine and the delivery want to know of a message's header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passage {
    /// How many `Received` fields there are, to find loops (RFC 5321 §6.3).
    pub received: u32,
    /// What `Delivered-To` fields say, lower case: the mailboxes and aliases that have sent the message on.
    pub delivered_to: Vec<String>,
}

/// Finds in a header section which way the message came. Sees the decoded octets; keeps the beginning of one line.
#[derive(Debug, Default)]
pub struct HeaderReader {
    line: Vec<u8>,
    done: bool,
    passage: Passage,
}

/// Octets of a header line that are looked at: `Delivered-To` and an address of the greatest length.
const LINE_BEGINNING: usize = 400;
/// `Delivered-To` fields that are kept: a message that has more goes round.
const DELIVERED_TO_FIELDS: usize = 100;

impl HeaderReader {
    /// Looks at the next octets.
    pub fn look(&mut self, mut octets: &[u8]) {
        while !self.done && !octets.is_empty() {
            let end = memchr::memchr(b'\n', octets);
            let (line, rest) = octets.split_at(end.map_or(octets.len(), |end| end + 1));
            let room = LINE_BEGINNING.saturating_sub(self.line.len());
            self.line.extend_from_slice(&line[..line.len().min(room)]);
            octets = rest;
            if end.is_some() {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.done = line.is_empty();
        if field(line, b"received").is_some() {
            self.passage.received += 1;
        } else if let Some(value) = field(line, b"delivered-to")
            && self.passage.delivered_to.len() < DELIVERED_TO_FIELDS
        {
            self.passage.delivered_to.push(String::from_utf8_lossy(value).trim().to_lowercase());
        }
        self.line.clear();
    }

    /// How many `Received` fields there were so far.
    #[must_use]
    pub fn received(&self) -> u32 {
        self.passage.received
    }

    /// What was found.
    #[must_use]
    pub fn passage(self) -> Passage {
        self.passage
    }
}

/// What follows the colon of a field of this name, which is in lower case.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    found.eq_ignore_ascii_case(name).then(|| rest.strip_prefix(b":")).flatten()
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
        let (mut decoder, mut output) = (Decoder::new(BareLineEndings::Refuse), Vec::new());
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
    fn normalised_endings_never_end_a_message() {
        for (sent, kept) in [
            (&b"a\n.\nb\r\n.\r\n"[..], &b"a\r\n.\r\nb\r\n"[..]),
            (b"a\n.\r\nb\r\n.\r\n", b"a\r\n.\r\nb\r\n"),
            (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\r\nb\r\n"),
            (b"a\r.\rb\r\n.\r\n", b"a\r\n.\r\nb\r\n"),
            (b"a\r\n.\rb\r\n.\r\n", b"a\r\n\r\nb\r\n"),
            (b"a\r\r\n.\r\n", b"a\r\n\r\n"),
        ] {
            let (mut decoder, mut output) = (Decoder::new(BareLineEndings::Normalise), Vec::new());
            let (read, ended) = decoder.decode(sent, &mut output);
            assert_eq!((read, ended, decoder.fault()), (sent.len(), true, None), "{sent:?}");
            assert_eq!(output, kept, "{sent:?}");
        }
    }

    #[test]
    fn chunks_have_lines_but_no_dots() {
        for (sent, kept, fault) in [
            (&b".\r\n..a\r\n.\r\n"[..], &b".\r\n..a\r\n.\r\n"[..], None),
            (b"no end", b"no end", None),
            (b"a\nb", b"ab", Some(Fault::BareLf)),
            (b"a\rb", b"ab", Some(Fault::BareCr)),
            (b"a\r", b"a", Some(Fault::BareCr)),
            (b"a\0", b"a", Some(Fault::Nul)),
        ] {
            let (mut decoder, mut output) = (Decoder::new(BareLineEndings::Refuse), Vec::new());
            sent.chunks(1).for_each(|octet| decoder.decode_chunk(octet, &mut output));
            decoder.finish_chunks(&mut output);
            assert_eq!((output.as_slice(), decoder.fault()), (kept, fault), "{sent:?}");
        }
    }

    #[test]
    fn the_header_section_says_which_way_a_message_came() {
        let passage = |text: &[u8], cut: usize| {
            let mut reader = HeaderReader::default();
            text.chunks(cut).for_each(|piece| reader.look(piece));
            reader.passage()
        };
        let long = [b"X: ", &vec![b'x'; 2_000][..], b"\r\nReceived: y\r\nreceived:\r\n\r\nReceived: no\r\n"].concat();
        for cut in [1, 7, 10_000] {
            let count = |text: &[u8]| passage(text, cut).received;
            assert_eq!(count(b"Received: a\r\n b\r\nRECEIVED:c\r\nSubject: x\r\n\r\nReceived: no\r\n"), 2);
            assert_eq!(count(b"X-Received: a\r\nReceived-SPF: b\r\n Received: folded\r\n"), 0);
            assert_eq!(count(b"\r\nReceived: body\r\n"), 0);
            assert_eq!(count(&long), 2);
            let passage =
                passage(b"Delivered-To: Anna@server1.com\r\nA: b\r\ndelivered-to:b@c\r\n\r\nDelivered-To: d\r\n", cut);
            assert_eq!(passage.delivered_to, ["anna@server1.com", "b@c"]);
        }
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
            let (mut decoder, mut output, mut read) = (Decoder::new(BareLineEndings::Refuse), Vec::new(), 0);
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
            let (mut decoder, mut output, mut read, mut end) = (Decoder::new(BareLineEndings::Refuse), Vec::new(), 0, false);
            for piece in wire.chunks(cut) {
                let (taken, ended) = decoder.decode(piece, &mut output);
                read += taken;
                if ended { end = true; break }
            }
            prop_assert_eq!((output, read, end, decoder.fault()), whole);
        }
    }
}

//! Inputs from inputs, without coverage: what the tests use for a brief look at each run. The same seed gives the same
//! inputs.

/// Words that parsers look for.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b".",
    b"\r\n.\r\n",
    b"\n.\n",
    b"\0",
    b"\xff",
    b"\xc3\xa4",
    b"<",
    b">",
    b"@",
    b"\"",
    b"\\",
    b":",
    b";",
    b"=",
    b" ",
    b"250 ",
    b"250-",
    b"354 go\r\n",
    b"421 bye\r\n",
    b"BDAT 3 LAST\r\n",
    b"DATA\r\n",
    b"RSET\r\n",
    b"QUIT\r\n",
    b"STARTTLS\r\n",
    b"18446744073709551616",
    b"-1",
    b"text:\r\n",
    b"${1}",
    b"*",
    b"[",
    b"]",
    b"{",
    b"}",
];

/// Makes inputs from others.
pub struct Mutator(u64);

impl Mutator {
    /// A course of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit` (which is not 0).
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap_or(0)
    }

    /// One of the inputs, changed in some places, of at most `longest` octets.
    pub fn next(&mut self, inputs: &[Vec<u8>], longest: usize) -> Vec<u8> {
        let mut bytes = inputs.get(self.below(inputs.len())).cloned().unwrap_or_default();
        for _ in 0..=self.below(6) {
            self.change(&mut bytes, inputs);
        }
        bytes.truncate(longest);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let end = at + self.below(bytes.len() - at + 1).min(32);
        match self.below(6) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (self.0 % 8);
                }
            }
            2 => {
                let word = WORDS[self.below(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            3 => {
                let piece = bytes[at..end].to_vec();
                let times = self.below(8);
                bytes.splice(at..at, piece.repeat(times));
            }
            4 => {
                let word = WORDS[self.below(WORDS.len())];
                bytes.splice(at..end, word.iter().copied());
            }
            _ => {
                let other = inputs.get(self.below(inputs.len())).cloned().unwrap_or_default();
                let from = self.below(other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
        }
    }
}

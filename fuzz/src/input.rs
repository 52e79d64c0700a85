//! Takes values from the fuzzer's bytes. When they are used up there are zeros, so that every input is one.

/// Bytes that are used from the front.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Takes all bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// One octet.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Whether the lowest bit of an octet is set.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number of 64 bits.
    pub fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// Up to so many octets, of which the first octet says how many.
    pub fn piece(&mut self, most: usize) -> &'a [u8] {
        let length = usize::from(self.byte()).min(most).min(self.0.len());
        let (piece, rest) = self.0.split_at(length);
        self.0 = rest;
        piece
    }

    /// As text, what is not UTF-8 replaced.
    pub fn text(&mut self, most: usize) -> String {
        String::from_utf8_lossy(self.piece(most)).into_owned()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}

//! Checksums of message contents: what a volume changed without saying so is found by [`super::embedded::tools`]. A content
//! has one CRC-32 (that of IEEE 802.3) for each [`PIECE`] of it, so that a finding names the place, and so that it is computed
//! while the content is received. They are against accidents: whoever can write to the volume can compute them too.

use std::ops::Range;

use crc32fast::Hasher;

/// Octets that share a checksum.
const PIECE: u64 = 64 * 1024;
/// Octets of one checksum.
const SIZE: usize = 4;

/// Adds up contents that come in parts of any size.
#[derive(Debug, Default)]
pub(in crate::store) struct Summing {
    complete: Vec<u8>,
    current: Hasher,
    /// Octets of the current piece.
    octets: u64,
}

impl Summing {
    /// Takes the next octets.
    pub(in crate::store) fn add(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let room = usize::try_from(PIECE - self.octets).unwrap_or(usize::MAX);
            let (now, later) = octets.split_at(octets.len().min(room));
            self.current.update(now);
            self.octets += now.len() as u64;
            if self.octets == PIECE {
                self.end_piece();
            }
            octets = later;
        }
    }

    /// The checksums of the pieces, one after the other, the highest octet of each first. None for an empty content.
    pub(in crate::store) fn finish(mut self) -> Vec<u8> {
        if self.octets > 0 {
            self.end_piece();
        }
        self.complete
    }

    fn end_piece(&mut self) {
        let checksum = std::mem::take(&mut self.current).finalize();
        self.complete.extend_from_slice(&checksum.to_be_bytes());
        self.octets = 0;
    }
}

/// The checksums of a content that is whole in memory.
pub(in crate::store) fn of(content: &[u8]) -> Vec<u8> {
    let mut summing = Summing::default();
    summing.add(content);
    summing.finish()
}

/// The first octets of a content that are not what was written; `None` where the checksums agree.
pub(in crate::store) fn first_difference(written: &[u8], found: &[u8], octets: u64) -> Option<Range<u64>> {
    if written == found {
        return None;
    }
    let differs = |(a, b): (&[u8], &[u8])| a != b;
    let pieces = || written.chunks(SIZE).zip(found.chunks(SIZE));
    // Where one is longer than the other, what comes after the shorter one is unknown.
    let piece = pieces().position(differs).unwrap_or_else(|| pieces().count()) as u64;
    Some(piece * PIECE..octets.min((piece + 1) * PIECE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_the_crc_that_everybody_computes() {
        assert_eq!(of(b"123456789"), [0xcb, 0xf4, 0x39, 0x26]);
        assert!(of(b"").is_empty());
        assert_eq!(of(&[0; 65_536]).len(), 4);
        assert_eq!(of(&[0; 65_537]).len(), 8);
    }

    #[test]
    fn a_difference_is_found_in_its_piece() {
        let mut content = vec![b'a'; 200_000];
        let written = of(&content);
        assert_eq!(first_difference(&written, &of(&content), 200_000), None);
        for (at, piece) in [(0, 0..65_536), (65_536, 65_536..131_072), (199_999, 196_608..200_000)] {
            content[at] ^= 1;
            assert_eq!(first_difference(&written, &of(&content), 200_000), Some(piece));
            content[at] ^= 1;
        }
        assert_eq!(first_difference(&written[..4], &written, 200_000), Some(65_536..131_072), "checksums were cut");
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_content_came(
            cuts in proptest::collection::vec(0usize..150_000, 0..6),
            octets in 0usize..150_000,
        ) {
            let content: Vec<u8> = (0..octets).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(octets)).collect();
            cuts.extend([0, octets]);
            cuts.sort_unstable();
            let mut summing = Summing::default();
            for pair in cuts.windows(2) {
                summing.add(&content[pair[0]..pair[1]]);
            }
            prop_assert_eq!(summing.finish(), of(&content));
        }
    }
}

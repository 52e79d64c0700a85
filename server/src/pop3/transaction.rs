//! The TRANSACTION state (RFC 1939 §5): the messages of an open maildrop, which of them are marked, and their listings.
//! Pure; held by [`super::machine`].

use std::fmt::Write as _;

use bytes::Bytes;

use crate::store::MaildropEntry;

/// Octets of a listing that are given out at a time.
const LISTING_PIECE: usize = 16 * 1024;

/// The messages as they were at the login, by number from 1.
pub(super) struct Transaction {
    entries: Vec<MaildropEntry>,
    deleted: Vec<bool>,
}

impl Transaction {
    pub(super) fn new(entries: Vec<MaildropEntry>) -> Self {
        Self { deleted: vec![false; entries.len()], entries }
    }

    /// The message of this number, unless it is marked or was never there.
    pub(super) fn find(&self, number: usize) -> Option<&MaildropEntry> {
        let index = number.checked_sub(1)?;
        let entry = self.entries.get(index)?;
        (!self.deleted[index]).then_some(entry)
    }

    /// The message at a position, marked or not.
    pub(super) fn entry(&self, index: usize) -> Option<&MaildropEntry> {
        self.entries.get(index)
    }

    /// The messages from a position on that are not marked.
    pub(super) fn kept_from(&self, index: usize) -> impl Iterator<Item = &MaildropEntry> {
        let from = index.min(self.entries.len());
        self.entries[from..].iter().zip(&self.deleted[from..]).filter(|(_, deleted)| !**deleted).map(|(entry, _)| entry)
    }

    /// How many messages are not marked, and their octets.
    pub(super) fn total(&self) -> (u64, u64) {
        let kept = self.entries.iter().zip(&self.deleted).filter(|(_, deleted)| !**deleted);
        kept.fold((0, 0), |(count, octets): (u64, u64), (entry, _)| (count + 1, octets.saturating_add(entry.octets)))
    }

    /// Marks the message of this number, if there is one.
    pub(super) fn mark(&mut self, number: usize) {
        if let Some(deleted) = number.checked_sub(1).and_then(|index| self.deleted.get_mut(index)) {
            *deleted = true;
        }
    }

    /// RSET.
    pub(super) fn unmark_all(&mut self) {
        self.deleted.fill(false);
    }

    /// The store's numbers of the messages that are marked.
    pub(super) fn marked(&self) -> Vec<i64> {
        self.entries.iter().zip(&self.deleted).filter(|(_, deleted)| **deleted).map(|(entry, _)| entry.key).collect()
    }
}

/// Which listing.
#[derive(Clone, Copy)]
pub(super) enum ListingKind {
    Scan,
    UniqueId,
}

/// A listing that is being sent.
pub(super) struct Listing {
    kind: ListingKind,
    next: usize,
}

impl Listing {
    pub(super) fn new(kind: ListingKind) -> Self {
        Self { kind, next: 0 }
    }

    pub(super) fn is_complete(&self, transaction: &Transaction) -> bool {
        self.next == transaction.entries.len()
    }

    /// Another piece, the last one with the final dot: 100,000 lines are never in memory at once.
    pub(super) fn next_piece(&mut self, transaction: &Transaction) -> Bytes {
        let mut piece = String::with_capacity(LISTING_PIECE + 128);
        while let Some(entry) = transaction.entries.get(self.next)
            && piece.len() < LISTING_PIECE
        {
            self.next += 1;
            if transaction.deleted[self.next - 1] {
                continue;
            }
            // Writing into a String does not fail.
            let _ = match self.kind {
                ListingKind::Scan => write!(piece, "{} {}\r\n", self.next, entry.octets),
                ListingKind::UniqueId => write!(piece, "{} {}\r\n", self.next, entry.unique_id()),
            };
        }
        if self.is_complete(transaction) {
            piece.push_str(".\r\n");
        }
        Bytes::from(piece)
    }
}

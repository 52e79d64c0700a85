//! Messages that were read before the client asked for them: who fetches one after the other gets the next ones from
//! memory. Held by [`super::session`]; bounded for a session and for all sessions together.

use std::collections::VecDeque;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::machine::Machine;
use crate::store::{MaildropName, Result, Store, StoreError, StoredMessage};

/// Messages that are read at once, at most.
const MESSAGES: usize = 64;
/// Octets of one session's messages.
const OCTETS: u64 = 128 * 1024;
/// Octets of all sessions' messages, in KiB.
const ALL_SESSIONS_KIB: usize = 16 * 1024;

/// What all sessions may have ahead together; a session that gets none of it reads message by message.
static SPACE: Semaphore = Semaphore::const_new(ALL_SESSIONS_KIB);

/// One session's messages.
#[derive(Default)]
pub(super) struct ReadAhead {
    messages: VecDeque<StoredMessage>,
    space: Option<SemaphorePermit<'static>>,
    /// The position that would be the next one of a client that fetches in order.
    expected: usize,
}

impl ReadAhead {
    /// The message at a position, from memory or from the store.
    ///
    /// # Errors
    /// What the store says.
    pub(super) async fn open(
        &mut self,
        store: &dyn Store,
        maildrop: &MaildropName,
        machine: &Machine,
        index: usize,
    ) -> Result<StoredMessage> {
        let in_order = std::mem::replace(&mut self.expected, index + 1) == index;
        let key = machine.entries_from(index).next().map(|entry| entry.key).ok_or(StoreError::NotFound)?;
        while let Some(message) = self.messages.pop_front() {
            if message.key == key {
                return Ok(message);
            }
        }
        self.clear();
        let keys = if in_order { self.keys_that_fit(machine, index) } else { vec![key] };
        self.messages = store.read_ahead(maildrop, &keys).await?.into();
        self.messages.pop_front().filter(|message| message.key == key).ok_or(StoreError::NotFound)
    }

    /// The message at a position and those after it, as far as there is space for them.
    fn keys_that_fit(&mut self, machine: &Machine, index: usize) -> Vec<i64> {
        let mut octets = 0;
        let mut keys = Vec::new();
        for entry in machine.entries_from(index).take(MESSAGES) {
            octets += entry.octets;
            if octets > OCTETS && !keys.is_empty() {
                octets -= entry.octets;
                break;
            }
            keys.push(entry.key);
        }
        // At most OCTETS where there are several.
        let kib = u32::try_from(octets.div_ceil(1024)).unwrap_or(u32::MAX);
        if keys.len() > 1 {
            match SPACE.try_acquire_many(kib) {
                Ok(permit) => self.space = Some(permit),
                Err(_) => keys.truncate(1),
            }
        }
        keys
    }

    /// Gives the memory back.
    pub(super) fn clear(&mut self) {
        self.messages = VecDeque::new();
        self.space = None;
    }
}

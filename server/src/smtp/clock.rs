//! How long an SMTP session may wait for its client. Pure; asked by [`super::session`] before each read.

use tokio::time::Instant;

use super::bounds;
use super::machine::Machine;

/// The time limits of one session.
pub(super) struct Clock {
    /// When the next read has to be over.
    pub(super) deadline: Instant,
    lines: u64,
    message_since: Option<Instant>,
    /// When the session began, or the last message ended.
    idle_since: Instant,
}

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        Self { deadline: now + bounds::COMMAND_TIMEOUT, lines: 0, message_since: None, idle_since: now }
    }

    /// Sets the deadline for the next read: a command has its time for the whole line, commands between two messages have
    /// theirs together, and content has it for each piece and for the whole message.
    pub(super) fn advance(&mut self, machine: &Machine, now: Instant) {
        if machine.is_receiving() {
            let since = *self.message_since.get_or_insert(now);
            self.deadline = (now + bounds::DATA_BLOCK_TIMEOUT).min(since + bounds::MESSAGE_TIMEOUT);
        } else if self.message_since.take().is_some() {
            self.idle_since = now;
            self.deadline = now + bounds::COMMAND_TIMEOUT;
        } else if machine.lines() != self.lines {
            self.deadline = (now + bounds::COMMAND_TIMEOUT).min(self.idle_since + bounds::IDLE_TIMEOUT);
        }
        self.lines = machine.lines();
    }
}

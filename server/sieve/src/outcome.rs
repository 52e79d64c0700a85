//! What a run came to: actions in their order, and what must be remembered.

use std::sync::Arc;

use crate::error::RuntimeError;

/// The header section that takes the place of the message's own, up to and with the empty line; none where the script did
/// not change it. The original's octets from [`crate::Message::body_offset`] follow it.
pub type EditedHeader = Option<Arc<[u8]>>;

/// How a message is refused (RFC 5429).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectKind {
    /// By a report to the sender, or in the protocol where that is possible.
    Reject,
    /// In the protocol where that is possible; a report only where it is not.
    Ereject,
}

/// One thing to do with the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Put it into the inbox.
    Keep {
        /// Whether no command asked for it (RFC 5228 §2.10.2).
        implicit: bool,
        /// The edited header.
        header: EditedHeader,
    },
    /// Put it into a folder that is not the inbox.
    FileInto {
        /// The folder, as the script writes it.
        folder: String,
        /// Make the folder if there is none (RFC 5490 §3.2).
        create: bool,
        /// The edited header.
        header: EditedHeader,
    },
    /// Send it on.
    Redirect {
        /// To `local@domain`.
        address: String,
        /// The edited header.
        header: EditedHeader,
    },
    /// Throw it away, silently. Other actions stand all the same; there is nothing to do for this one.
    Discard,
    /// Refuse it. No other action of the same script stands beside it.
    Reject {
        /// What the sender reads.
        reason: String,
        /// How.
        kind: RejectKind,
    },
    /// Answer the sender. The guards against loops have been asked and allow it.
    Vacation(Box<crate::VacationReply>),
}

/// What must be stored together with the deliveries, so that later runs know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// [`crate::Environment::is_duplicate`] answers yes for this handle and id from now on.
    RememberDuplicate {
        /// The namespace that the script gave; else empty.
        handle: String,
        /// The id.
        id: String,
        /// For how long, counted from now.
        seconds: u64,
    },
    /// [`crate::Environment::has_replied`] answers yes for this handle and sender from now on.
    RememberVacation {
        /// Which of the owner's replies it was.
        handle: String,
        /// Who was answered.
        sender: String,
        /// For how long, counted from now.
        seconds: u64,
    },
}

/// What to do with a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// In the order of the script; the implicit keep is last. Never two for the same folder or address.
    pub actions: Vec<Action>,
    /// To be remembered if the actions are taken.
    pub effects: Vec<Effect>,
    /// Why a script was ended: the message is kept in the inbox then. In a sequence: the first such error.
    pub error: Option<RuntimeError>,
    /// Which script of a sequence the error is in, from 0.
    pub failed_script: Option<usize>,
}

impl Outcome {
    /// Whether the message goes nowhere: neither a folder nor an address nor back.
    #[must_use]
    pub fn is_discarded(&self) -> bool {
        !self.actions.iter().any(|action| {
            matches!(
                action,
                Action::Keep { .. } | Action::FileInto { .. } | Action::Redirect { .. } | Action::Reject { .. }
            )
        })
    }

    /// Whether it goes into the inbox.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Keep { .. }))
    }
}

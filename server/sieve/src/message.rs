//! The message that scripts look at, and the circumstances of its delivery.

use crate::header::Header;

/// A message as it arrived: its header section, and as much of its body as the caller has.
#[derive(Debug, Clone)]
pub struct Message<'m> {
    pub(crate) header: Header<'m>,
    pub(crate) body: &'m [u8],
    pub(crate) body_offset: usize,
    pub(crate) size: u64,
}

impl<'m> Message<'m> {
    /// Reads the header section of `octets`, which may be only the beginning of the message: all of the header, and what
    /// the `body` test may read ([`crate::Limits::body_octets`]). `size` is that of the whole message in octets.
    #[must_use]
    pub fn new(octets: &'m [u8], size: u64) -> Self {
        let (header, body_offset) = Header::parse(octets);
        Self { header, body: &octets[body_offset..], body_offset, size }
    }

    /// Where the body begins, in octets from the beginning: what follows an edited header.
    #[must_use]
    pub fn body_offset(&self) -> usize {
        self.body_offset
    }
}

/// One delivery of a message into one mailbox.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'d> {
    /// The envelope's sender, `local@domain`; empty is the null reverse-path.
    pub reverse_path: &'d str,
    /// The envelope's recipient that led to this mailbox, `local@domain`.
    pub recipient: &'d str,
    /// Addresses of the mailbox's owner besides the recipient: for the guards of `vacation`, and the first one is what it
    /// answers from.
    pub addresses: &'d [String],
    /// What stands between user and detail in a local part (RFC 5233 §4); empty where there is nothing of the kind.
    pub separator: &'d str,
    /// The time, in seconds since 1970-01-01 UTC.
    pub now: i64,
    /// The local time zone's seconds east of Greenwich (RFC 5260 §4.1).
    pub utc_offset: i32,
}

/// What only the caller knows. [`crate::Script::needs`] says before a run which of it can be asked.
pub trait Environment {
    /// Whether the mailbox has this folder (RFC 5490 §3.1). Not asked for the inbox.
    fn folder_exists(&self, folder: &str) -> bool;

    /// Whether [`crate::Effect::RememberDuplicate`] with these values is stored and its time has not passed.
    fn is_duplicate(&self, handle: &str, id: &str) -> bool;

    /// Whether [`crate::Effect::RememberVacation`] with these values is stored and its time has not passed.
    fn has_replied(&self, handle: &str, sender: &str) -> bool;

    /// An item of RFC 5183 §4.1 such as `domain`, `host`, `location`, `phase`, `remote-host` or `remote-ip`; none where
    /// it is not known. `name` and `version` are answered without it.
    fn item(&self, name: &str) -> Option<String> {
        let _ = name;
        None
    }
}

/// Knows nothing: no folder, nothing seen before. For checks and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nothing;

impl Environment for Nothing {
    fn folder_exists(&self, _folder: &str) -> bool {
        false
    }

    fn is_duplicate(&self, _handle: &str, _id: &str) -> bool {
        false
    }

    fn has_replied(&self, _handle: &str, _sender: &str) -> bool {
        false
    }
}

//! What a script may cost. The defaults suit a mailbox's owner; who runs the server may narrow them.

/// Bounds for compiling and running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of a script's text.
    pub script_octets: usize,
    /// Blocks and tests inside one another. RFC 5228 §2.10.7 wants at least 15.
    pub nesting: usize,
    /// Strings in one list.
    pub list_items: usize,
    /// Different variables of one script. RFC 5229 §6 wants at least 128.
    pub variables: usize,
    /// Octets of one variable, after which it is cut. RFC 5229 §6 wants at least 4,000 characters.
    pub variable_octets: usize,
    /// Steps of one run: a command or test is one, and so is each 4 KiB that is searched and each 256 comparisons of a
    /// wildcard match.
    pub steps: u64,
    /// Actions of one run.
    pub actions: usize,
    /// `redirect`s of one run. RFC 5228 §10 asks for a small number, so that scripts cannot multiply mail.
    pub redirects: usize,
    /// Octets of the body that the `body` test reads; the rest is not seen.
    pub body_octets: usize,
    /// Octets that `addheader` may add in one run.
    pub added_header_octets: usize,
    /// Characters of a folder's name.
    pub folder_characters: usize,
    /// Seconds that `duplicate` remembers at most; a longer time is shortened (RFC 7352 §3.3).
    pub duplicate_seconds: u64,
    /// Shortest time between two `vacation` replies to one sender, in seconds (RFC 5230 §4.1, RFC 6131 §2).
    pub vacation_least_seconds: u64,
    /// Longest time between two `vacation` replies to one sender, in seconds.
    pub vacation_most_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            script_octets: 64 * 1024,
            nesting: 32,
            list_items: 1_000,
            variables: 256,
            variable_octets: 16 * 1024,
            steps: 100_000,
            actions: 32,
            redirects: 5,
            body_octets: 1024 * 1024,
            added_header_octets: 64 * 1024,
            folder_characters: 64,
            duplicate_seconds: 90 * DAY,
            vacation_least_seconds: 60,
            vacation_most_seconds: 90 * DAY,
        }
    }
}

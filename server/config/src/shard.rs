//! Which of the 64 directory shards holds a domain or an address. Used by [`crate::bundle`] to write and to check what is read.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The number of directory shards. Part of the contract: 64 keeps each below 1 MiB at 100,000 mailboxes.
pub const SHARD_COUNT: u8 = 64;

/// The name of a shard's file: `directory-00` to `directory-3f`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShardName(u8);

impl ShardName {
    /// The shard of a domain's name or of a canonical address (see [`crate::model::Record::key`]).
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes())[0] % SHARD_COUNT)
    }

    /// All shards, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SHARD_COUNT).map(Self)
    }

    /// Reads a shard's file name; `None` for any other name.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        let digits = name.strip_prefix("directory-").filter(|digits| digits.len() == 2)?;
        Self::all()
            .find(|shard| u8::from_str_radix(digits, 16) == Ok(shard.0))
            .filter(|shard| shard.to_string() == name)
    }

    /// The position of the shard, 0 to 63.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for ShardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "directory-{:02x}", self.0)
    }
}

//! The configuration contract (DESIGN §5): the files that tell a mail server what to do.
//!
//! The operator (and the `compile` command) build a [`Bundle`] from a [`Content`]; the server reads the same files
//! back into a [`Configuration`]. Both sides go through this crate, so that neither can misunderstand the other. The only
//! I/O is in [`directory`]; everything else turns values into bytes and bytes into values.

pub mod address;
pub mod bundle;
pub mod configuration;
pub mod directory;
pub mod model;
mod shard;

pub use address::{Address, AddressError, Domain, LocalPart};
pub use bundle::{BuildError, Bundle, Content, FORMAT_VERSION, Index, IndexEntry, Revision, Update};
pub use configuration::{Configuration, ReadError, Resolution};
pub use model::{
    AliasRecord, AppPassword, BareLineEndings, CatchAll, DomainConfig, Filters, Forwarding, Limits, Listener,
    LocalParts, Login, MOST_VERIFIERS, MailboxRecord, Outbound, Protocol, Protocols, ProxyProtocol, RateLimit,
    RecipientScope, Record, RelayRule, RelaySource, Resolvers, Scope, SecretText, Secrets, SendAs, SenderScope,
    ServerConfig, Shutdown, SmartHost, SmartHostTls, TlsConfig, TlsVersion, Verifier,
};
pub use shard::{SHARD_COUNT, ShardName};

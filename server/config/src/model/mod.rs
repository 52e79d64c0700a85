//! What the files of the contract say, as types. Plain data: no lookups, no I/O. One module for each file of the contract and
//! for what many records have in common; [`crate`] names all of it.

mod domain;
mod mailbox;
mod relay;
mod secrets;
mod server;

pub use self::domain::{AliasRecord, CatchAll, DomainConfig, LocalParts, Record};
pub use self::mailbox::{AppPassword, Forwarding, MOST_VERIFIERS, MailboxRecord, Protocols, RateLimit, Scope, SendAs};
pub use self::relay::{RecipientScope, RelayRule, RelaySource, SenderScope};
pub use self::secrets::{Login, SecretText, Secrets, Verifier};
pub use self::server::{
    BareLineEndings, Filters, Limits, Listener, Outbound, Protocol, ProxyProtocol, Resolvers, ServerConfig, Shutdown,
    SmartHost, SmartHostTls, TlsConfig, TlsVersion,
};

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// What nobody said needs not be written: sets of before the field existed stay as they are.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

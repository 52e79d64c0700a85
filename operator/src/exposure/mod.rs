//! How a server stands towards the world: whether it sees its clients' own addresses, and whether it relays for strangers.
//! Pure: what was seen goes in, with the time at which it was; conditions come out. The controllers do the asking.
//!
//! - [`peers`]: what a server says of its clients; - [`source_address`]: the condition `SourceIPPreserved`;
//! - [`dialogue`]: the probe's conversation; - [`relay_closed`]: the condition `RelayClosed`;
//! - [`schedule`]: when it is probed.

pub mod dialogue;
pub mod peers;
pub mod relay_closed;
pub mod schedule;
pub mod source_address;

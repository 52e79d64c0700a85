//! Mail for other servers. [`worker`] finds what is due and starts attempts ([`delivery`]); what they decide is pure:
//! [`schedule`], [`routing`], [`outcome`], [`dsn`], and the protocol machine of [`client`]. `main` starts it; sessions wake it
//! through [`crate::services::Services::queue`] after a commit with recipients elsewhere.

pub mod client;
pub mod control;
pub mod convert;
pub mod delivery;
mod destinations;
mod dropping;
pub mod dsn;
pub mod environment;
pub mod outcome;
pub mod resolver;
pub mod routing;
pub mod schedule;
pub mod status;
mod unsettled;
pub mod window;
pub mod worker;

pub use worker::Queue;

//! SMTP (RFC 5321), receiving: the protocol machine without I/O, and its session.
//!
//! [`machine`] turns bytes into replies and actions; it knows no clock, socket or store. [`session`] is the I/O shell
//! around it, started by `listen` for each connection. What may be sent by whom is decided in [`policy`], which asks
//! [`crate::relay`] and [`crate::delivery`]. The other modules are the pieces of the protocol: [`command`] and [`path`]
//! parse, [`reply`] writes, [`content`] takes DATA apart, [`sasl`] answers AUTH, `clock` keeps the time limits.

pub mod bounds;
mod clock;
pub mod command;
pub mod content;
pub mod machine;
pub mod path;
pub mod policy;
pub mod reply;
pub mod sasl;
pub mod session;
#[cfg(test)]
pub(crate) mod testing;

pub use session::run;

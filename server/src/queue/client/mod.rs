//! The SMTP client (RFC 5321): [`reply`] and [`machine`] are pure, [`session`] is their I/O, [`rehearsal`]
//! their theatre.

pub mod authentication;
pub mod capabilities;
mod command;
pub mod dot;
pub mod machine;
#[cfg(test)]
mod machine_tests;
pub mod rehearsal;
pub mod reply;
pub mod session;
pub mod tls;

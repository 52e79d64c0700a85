//! The SMTP client (RFC 5321): [`reply`] and [`machine`] are pure, [`session`] is their I/O.

pub mod dot;
pub mod machine;
#[cfg(test)]
mod machine_tests;
pub mod reply;
pub mod session;
pub mod tls;

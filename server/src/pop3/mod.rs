//! POP3 (RFC 1939, with RFC 2449, 2595, 3206, 5034 and 6856): the protocol machine without I/O, and its session.
//!
//! [`machine`] turns bytes into replies and actions; [`text`] turns a stored message into what RETR and TOP send;
//! [`session`] is the I/O between them, the client and the store.

mod ahead;
pub mod command;
pub mod language;
pub mod line;
pub mod machine;
pub mod phrase;
pub mod session;
pub mod surrogate;
pub mod text;
mod transaction;

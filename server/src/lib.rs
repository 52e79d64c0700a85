//! The mail server (DESIGN §6): SMTP in and out, a durable queue and store, POP3.
//!
//! Protocol machines ([`smtp`], [`pop3`]) and decisions ([`relay`], [`delivery`]) are pure. Their sessions, the
//! [`store`], the [`queue`] and [`admin`] are the I/O around them; `main` wires everything together through
//! [`services`].

pub mod admin;
pub mod credentials;
pub mod delivery;
pub mod listen;
pub mod live;
pub mod log_lines;
pub mod metrics;
pub mod net;
pub mod pop3;
pub mod probe;
pub mod queue;
pub mod rate;
pub mod relay;
pub mod reload;
pub mod retention;
pub mod services;
pub mod smtp;
pub mod store;
pub mod tls;
pub mod trace;

//! Opens the listeners, bounds connections, hands them to their sessions, and drains them on SIGTERM.
//!
//! A session is `async fn run(stream: net::Stream, client: SocketAddr, protocol: Protocol, services: SharedServices)` of
//! [`crate::smtp`] or [`crate::pop3`]. `stream` is under TLS already where the protocol has implicit TLS; `client` is
//! canonical ([`crate::net::canonical`]). The session greets, ends itself when `services.shutdown` is cancelled, and
//! bounds its own time.

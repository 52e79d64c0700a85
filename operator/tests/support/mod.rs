//! What the test binaries share that run the operator against a real API server: the server itself, and a world of
//! namespaces, objects, operators and pods. Each takes it in by `#[path = "../support/mod.rs"] mod support;`.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod external_dns;
pub mod gate;
pub mod server;
pub mod world;

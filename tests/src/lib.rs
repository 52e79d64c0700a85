//! What the black-box suites are made of. They know Paquebot from outside only: its chart, its objects, its ports.
//!
//! - [`conformance`]: what RFCs ask of any SMTP and POP3 server, section by section;
//! - [`wire`], [`endpoint`], [`smtp`], [`pop3`]: mail clients of our own, which share no code with the server;
//! - [`message`]: real messages, and whether what came out is what went in;
//! - [`kubernetes`], [`forward`]: a cluster, by kubectl and helm, and ports of its Services;
//! - [`report`]: one line for each step, with its seconds;
//! - [`story`]: the story that always works, told once: `make demo` shows it, the end-to-end suite asserts it.

pub mod conformance;
pub mod endpoint;
pub mod forward;
pub mod kubernetes;
pub mod message;
pub mod pop3;
pub mod report;
pub mod smtp;
pub mod story;
pub mod wire;

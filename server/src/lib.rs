//! The mail server.

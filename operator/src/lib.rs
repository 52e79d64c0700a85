//! The operator.

pub mod directory;

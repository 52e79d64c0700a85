//! The operator.

pub mod directory;
pub mod render;

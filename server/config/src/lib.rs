//! The configuration contract.

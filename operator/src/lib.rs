//! The operator: turns mail objects into running mail servers, and says in their status what it has observed.
//!
//! Pure: [`directory`] (what is in force), [`render`] (what is written), [`exposure`], most of [`dns`]. I/O: [`controllers`].

pub mod admin;
pub mod api_client;
pub mod compile;
pub mod controllers;
pub mod credentials;
pub mod directory;
pub mod dns;
pub mod exposure;
pub mod intern;
mod jitter;
pub mod leader;
pub mod logging;
pub mod metrics;
pub mod render;
pub mod secrets;
mod uri;

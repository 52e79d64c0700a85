//! Turns the index and a MailServer into what is written: the configuration contract, and the Kubernetes objects of the
//! server. Pure: equal input gives equal output, so that a comparison tells whether anything is to be written.
//!
//! - [`content`], [`bundle`] and [`refresh`]: the contract's files of one server (DESIGN §5), from scratch or after a
//!   change;
//! - [`configuration`]: the ConfigMap and Secrets that carry them, written whenever they change;
//! - [`workload`]: StatefulSet, Services and the rest, which depend on the MailServer alone. A change of domains,
//!   mailboxes or rules leaves them as they are: nothing of that restarts a pod;
//! - [`network_policy`] and [`pod_monitor`]: what may stand beside these, or may not;
//! - [`certificate`]: what a self-signed certificate must say.
//!
//! The controllers and the `compile` command call it.

pub mod certificate;
mod configuration;
mod content;
pub mod names;
mod network_policy;
pub mod pod_monitor;
pub mod ports;
mod service;
mod stateful_set;
pub mod volumes;
mod workload;

#[cfg(test)]
mod tests;

pub use configuration::{Configuration, configuration, secret_name, secret_of_file};
pub(crate) use content::protocol;
pub use content::{RenderError, bundle, content, refresh, server_config};
pub use network_policy::network_policy;
pub use workload::{Defaults, Workload, workload};

/// A MailServer as the index keeps it.
pub type Server = crate::directory::Entry<paquebot_crds::MailServerSpec>;

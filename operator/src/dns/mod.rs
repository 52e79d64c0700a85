//! DNS of the domains that are served: what should be published, what is, and what to do about the difference.
//!
//! - [`wanted`] (pure): the records that a MailDomain and its MailServer call for;
//! - [`seen`]: what the zone's own authoritative servers answer, which `authority` finds and asks;
//! - [`compare`] (pure): the two against each other, as record states and condition verdicts;
//! - [`spf`], [`dmarc`], [`tls_report`] (pure): formats of TXT records, read as their RFCs say;
//! - [`ownership`] (pure): the record that proves whose a domain is, and how long a proof is believed;
//! - [`reverse`]: whether a MailServer's addresses lead to its name and back;
//! - [`zone`] (pure): the wanted records as lines of a zone file;
//! - [`endpoint`] (pure): the wanted records as external-dns takes them;
//! - [`schedule`] (pure): when to look again, and when a failure counts.
//!
//! The controllers call [`seen::look`] and report what [`compare::compare`] says.

mod authority;
pub mod compare;
pub mod dmarc;
pub mod endpoint;
mod further;
pub mod ownership;
pub mod reverse;
pub mod schedule;
pub mod seen;
pub mod spf;
pub mod tls_report;
pub mod wanted;
pub mod zone;

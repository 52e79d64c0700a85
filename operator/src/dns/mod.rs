//! DNS of the domains that are served: what should be published, what is, and what to do about the difference.
//!
//! - [`wanted`] (pure): the records that a MailDomain and its MailServer call for;
//! - [`seen`]: what the zone's own authoritative servers answer;
//! - [`compare`] (pure): the two against each other, as record states and condition verdicts;
//! - [`spf`], [`dmarc`] (pure): the two TXT formats, read as their RFCs say;
//! - [`zone`] (pure): the wanted records as lines of a zone file;
//! - [`schedule`] (pure): when to look again, and when a failure counts.
//!
//! The controllers call [`seen::look`] and report what [`compare::compare`] says.

pub mod compare;
pub mod dmarc;
pub mod schedule;
pub mod seen;
pub mod spf;
pub mod wanted;
pub mod zone;

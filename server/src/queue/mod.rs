//! Mail for other servers: the schedule, MX routing, the SMTP client, delivery status notifications.

pub mod client;
pub mod resolver;
pub mod routing;
pub mod schedule;
pub mod status;

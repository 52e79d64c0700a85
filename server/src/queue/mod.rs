//! Mail for other servers: the schedule, MX routing, the SMTP client, delivery status notifications.

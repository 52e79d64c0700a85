//! How long a session waits and how much it takes, with the reason for each number. Used by the machine and the session.

use std::time::Duration;

/// For a complete command line, from the reply before it (RFC 5321 §4.5.3.2.7 asks for 5 minutes at least).
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// For all commands between two messages: a client that says NOOP every few minutes holds a place that others need.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// For the next piece of a message's content (RFC 5321 §4.5.3.2.5: 3 minutes).
pub const DATA_BLOCK_TIMEOUT: Duration = Duration::from_secs(3 * 60);
/// For the whole content of one message: 50 MiB in an hour is 15 kB/s, which any line that carries such messages has.
/// Without it a peer that sends an octet every three minutes would hold its connection for years.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// For the peer to take a reply: it reads them within the time in which it would have sent a command.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Octets of a command line with its CRLF (RFC 5321 §4.5.3.1.4).
pub const COMMAND_LINE: usize = 512;
/// MAIL may be longer by what its extensions add: SIZE 26 (RFC 1870 §3), BODY 17 (RFC 6152 §2), AUTH 500 (RFC 4954 §3),
/// SMTPUTF8 10 (RFC 6531 §3.1), RET 9 and ENVID 107 (RFC 3461 §4), MT-PRIORITY 15 (RFC 6710 §3), HOLDUNTIL 36 (RFC 4865 §3),
/// BY 17 (RFC 2852 §3), REQUIRETLS 11 (RFC 8689 §3).
pub const MAIL_LINE: usize = COMMAND_LINE + 26 + 17 + 500 + 10 + 9 + 107 + 15 + 36 + 17 + 11;
/// RCPT may be longer by ORCPT 507 and NOTIFY 29 (RFC 3461 §4).
pub const RECIPIENT_LINE: usize = COMMAND_LINE + 507 + 29;
/// A line of an AUTH exchange, and AUTH with its initial response (RFC 4954 §4: 12288 octets of base64).
pub const SASL_LINE: usize = 12_288;

/// Commands that are wrong in themselves, since the last accepted message. A person at a keyboard makes fewer, a program makes none.
pub const ERRORS: u32 = 20;
/// Recipients refused since the last accepted message: more is somebody who guesses addresses.
pub const REFUSED_RECIPIENTS: u32 = 200;
/// Failed logins in one session (RFC 4954 §9 asks for a bound).
pub const FAILED_LOGINS: u32 = 5;
/// Commands since the last accepted message, beside one for each recipient that a message may have: a client that does
/// not get on with it holds a connection that others need.
pub const IDLE_COMMANDS: u32 = 1_000;
/// `Received` fields with which a message counts as caught in a loop (RFC 5321 §6.3: at least 100).
pub const RECEIVED_FIELDS: u32 = 100;
/// MAIL commands in one session (`MAILMAX`, RFC 9422): who sends more connects again, perhaps to another server.
pub const MAILS: u32 = 100_000;
/// Domains of one message's recipients (`RCPTDOMAINMAX`, RFC 9422): each is a delivery of its own for the queue. Not below
/// the 100 recipients that RFC 5321 §4.5.3.1.8 asks for.
pub const RECIPIENT_DOMAINS: u32 = 500;
/// Seconds of the shortest `BY=…;R` (RFC 2852 §3): a try at each of some exchangers takes about so long.
pub const SHORTEST_BY: i64 = 60;
/// Seconds for which a message may be held (RFC 4865 §3): 30 days.
pub const LONGEST_HOLD: u32 = 30 * 24 * 60 * 60;

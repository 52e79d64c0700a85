//! Sieve (RFC 5228), the language in which a mailbox's owner says what happens to arriving mail, and most of its extensions
//! ([`extensions`]). A pure library: the time, the message and what is known from before are arguments, and what is to be
//! done is the result. The server runs scripts at delivery; the operator compiles them, to show what is wrong and where.
//!
//! ```
//! use paquebot_sieve::{Action, Delivery, Limits, Message, Nothing, compile, run};
//!
//! let limits = Limits::default();
//! let script = compile("require \"fileinto\"; if header :contains \"Subject\" \"offer\" { fileinto \"junk\"; }", &limits)?;
//! let octets = b"Subject: An offer\r\n\r\nBuy!\r\n";
//! let message = Message::new(octets, octets.len() as u64);
//! let delivery = Delivery {
//!     reverse_path: "shop@server2.com",
//!     recipient: "anna@server1.com",
//!     addresses: &[],
//!     separator: "+",
//!     now: 1_795_000_000,
//!     utc_offset: 0,
//! };
//! let outcome = run(&script, &message, &delivery, &Nothing, &limits);
//! assert!(matches!(&outcome.actions[..], [Action::FileInto { folder, .. }] if folder == "junk"));
//! # Ok::<(), paquebot_sieve::CompileError>(())
//! ```

mod address;
mod body;
mod comparator;
mod compile;
mod date;
mod error;
mod extension;
mod glob;
mod header;
mod lexer;
mod limits;
mod message;
mod outcome;
mod program;
mod run;
mod syntax;
mod vacation;
mod words;

pub use compile::compile;
pub use error::{CompileError, Position, RuntimeError};
pub use extension::extensions;
pub use limits::Limits;
pub use message::{Delivery, Environment, Message, Nothing};
pub use outcome::{Action, EditedHeader, Effect, Outcome, RejectKind};
pub use program::{Needs, Script};
pub use run::{run, run_all};
pub use vacation::VacationReply;

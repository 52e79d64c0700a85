//! The SMTP server as a machine without I/O: bytes in, replies and actions out. [`super::session`] drives it with a
//! socket; tests and fuzzers drive it with anything.
//!
//! [`Machine::feed`] takes what the client sent, [`Machine::next_action`] says what is to be done. Some actions are
//! questions; until the answer comes (`*_answered`, [`Machine::tls_started`]) nothing further is read from the input. The
//! result does not depend on how the bytes are divided.

mod answers;
mod lines;
mod receiving;

use std::collections::VecDeque;
use std::fmt;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use paquebot_config::{Address, BareLineEndings, Domain};
use zeroize::Zeroize as _;

use self::receiving::{Chunk, Receiver};
use super::bounds;
use super::command::{Mail, Recipient};
use super::content::Passage;
use super::reply::Reply;
use crate::credentials::sasl::{Credentials, Exchange};
use crate::store::envelope::{Notify, OriginalRecipient, Route};

/// What a session goes by. A transaction keeps those that were in force at its MAIL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Our name.
    pub hostname: Domain,
    /// Submission (RFC 6409): mail only after AUTH, which only TLS allows.
    pub submission: bool,
    /// There is a certificate, so STARTTLS can be offered.
    pub starttls: bool,
    /// SMTPUTF8 is offered (RFC 6531).
    pub smtputf8: bool,
    /// Octets of the largest message.
    pub max_message_size: u64,
    /// Recipients of one message.
    pub max_recipients: u32,
    /// What happens to a CR or LF that stands alone in a message.
    pub bare_line_endings: BareLineEndings,
    /// How long messages may be held; `None`: FUTURERELEASE is not offered.
    pub future_release: Option<FutureRelease>,
}

/// How long a message may be held (RFC 4865 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FutureRelease {
    /// Seconds.
    pub longest: u32,
    /// That many seconds from now.
    pub latest: Timestamp,
}

/// Something for the session to do.
#[derive(Debug)]
pub enum Action {
    /// Send this; several may go in one packet (RFC 2920 §3.2).
    Reply(Reply),
    /// Send what is outstanding, then begin TLS, then call [`Machine::tls_started`].
    StartTls,
    /// Verify; answer with [`Machine::authentication_answered`].
    Authenticate(Credentials),
    /// May this transaction begin? Answer with [`Machine::sender_answered`].
    CheckSender(Mail),
    /// Is this recipient accepted? Answer with [`Machine::recipient_answered`].
    CheckRecipient(Recipient),
    /// Prepare to take content of at most so many octets; answer with [`Machine::spool_answered`].
    OpenSpool(u64),
    /// The next octets of the message, without dot-stuffing. A failure is told with [`Machine::content_failed`].
    Content(Bytes),
    /// The message is complete: make it durable. Answer with [`Machine::commit_answered`].
    Commit(Envelope),
    /// Forget the content that was taken: the message is refused.
    Discard,
    /// The transaction is over, whichever way.
    Reset,
    /// Send what is outstanding and close.
    Close,
}

/// Everything but the content of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What MAIL said.
    pub mail: Mail,
    /// The accepted recipients, in order, each once.
    pub recipients: Vec<EnvelopeRecipient>,
    /// What the client called itself.
    pub client_name: String,
    /// Whether it said EHLO.
    pub extended: bool,
    /// Octets of the content.
    pub octets: u64,
    /// Which way it came, as its header says.
    pub passage: Passage,
}

/// An accepted recipient of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeRecipient {
    /// Its address.
    pub address: Address,
    /// When the sender wants to be told about it.
    pub notify: Notify,
    /// What the first sender wrote.
    pub original: Option<OriginalRecipient>,
    /// The way out, where it is not the server's own.
    pub route: Option<Route>,
}

impl From<Address> for EnvelopeRecipient {
    /// One of whom nothing more is known.
    fn from(address: Address) -> Self {
        Self { address, notify: Notify::default(), original: None, route: None }
    }
}

/// How a login ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// As this mailbox.
    Accepted(Address),
    /// Not at all, with the reply to send.
    Refused(Reply),
}

/// A recipient that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedRecipient {
    /// Its address.
    pub address: Address,
    /// Octets of the largest message for it, where that is less than the server's.
    pub max_message_size: Option<u64>,
    /// The way out, where it is not the server's own.
    pub route: Option<Route>,
}

#[derive(Debug)]
struct Transaction {
    mail: Mail,
    recipients: Vec<EnvelopeRecipient>,
    /// The recipients' domains, each once.
    domains: Vec<Domain>,
    max_message_size: u64,
    max_recipients: u32,
    /// Between two chunks: what has come so far.
    chunks: Option<Box<Receiver>>,
}

#[derive(Debug)]
enum State {
    /// Command lines.
    Command,
    /// Lines of an AUTH exchange.
    Sasl(Exchange),
    /// Content of a message, after DATA.
    Content(Box<Receiver>),
    /// A chunk of content, after BDAT.
    Chunk(Box<Chunk>),
    /// An answer, before anything else is read.
    Answer(Question),
    /// Nothing: the session is over.
    Closed,
}

#[derive(Debug)]
enum Question {
    Tls,
    Authentication,
    Sender(Mail),
    /// What RCPT asked for.
    Recipient(Notify, Option<OriginalRecipient>),
    Spool,
    /// For a first chunk of so many octets, the last one or not.
    ChunkSpool(u64, bool),
    Commit,
}

#[derive(Debug, Default)]
struct Tally {
    since_message: SinceMessage,
    failed_logins: u32,
    mails: u32,
    lines: u64,
}

/// Counted since the last accepted message: a client that delivers mail may stay.
#[derive(Debug, Default)]
struct SinceMessage {
    commands: u32,
    errors: u32,
    refused_recipients: u32,
}

#[derive(Debug)]
struct Hello {
    name: String,
    extended: bool,
}

/// One client's session. See the module.
pub struct Machine {
    settings: Settings,
    tls: bool,
    hello: Option<Hello>,
    user: Option<Address>,
    /// Something else than a login says who the client is.
    identified: bool,
    transaction: Option<Transaction>,
    state: State,
    input: BytesMut,
    /// The current line is too long: it is thrown away up to its end.
    skipping: bool,
    actions: VecDeque<Action>,
    tally: Tally,
    shutting_down: bool,
}

impl fmt::Debug for Machine {
    /// Without the input, which may be a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Machine");
        shown.field("tls", &self.tls).field("user", &self.user).field("state", &self.state);
        shown.field("tally", &self.tally).finish_non_exhaustive()
    }
}

impl Machine {
    /// A session that begins, under TLS or not. Its first action is the greeting.
    #[must_use]
    pub fn new(settings: Settings, tls: bool) -> Self {
        let greeting = Reply::plain(220, format!("{} ESMTP Paquebot", settings.hostname));
        Self {
            settings,
            tls,
            hello: None,
            user: None,
            identified: false,
            transaction: None,
            state: State::Command,
            input: BytesMut::new(),
            skipping: false,
            actions: VecDeque::from([Action::Reply(greeting)]),
            tally: Tally::default(),
            shutting_down: false,
        }
    }

    /// Changes what the session goes by from the next transaction on.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Whether the client's certificate makes a login unnecessary where one is asked for (RFC 6409 §4.3).
    pub fn identified(&mut self, identified: bool) {
        self.identified = identified;
    }

    /// Takes what the client sent. What a closed session is sent is forgotten.
    pub fn feed(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Closed) {
            self.input.extend_from_slice(bytes);
        }
    }

    /// Gives memory back, where nothing waits in it: a session may be idle for minutes after a large message.
    pub fn trim(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if self.actions.is_empty() {
            self.actions = VecDeque::new();
        }
    }

    /// What is to be done next; `None`: nothing before more input or an answer comes.
    pub fn next_action(&mut self) -> Option<Action> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            match self.state {
                State::Command | State::Sasl(_) => self.read_line()?,
                State::Content(_) if !self.input.is_empty() => self.read_content(),
                State::Chunk(ref chunk) if chunk.is_complete() || !self.input.is_empty() => self.read_chunk(),
                State::Content(_) | State::Chunk(_) | State::Answer(_) | State::Closed => return None,
            }
        }
    }

    /// Whether content of a message is awaited, for which other time limits hold.
    #[must_use]
    pub fn is_receiving(&self) -> bool {
        matches!(self.state, State::Content(_) | State::Chunk(_)) || self.is_between_chunks()
    }

    /// Whether a part of a message has come by BDAT, and the rest is to come.
    fn is_between_chunks(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.chunks.is_some())
    }

    /// Whether a message is between DATA and its reply, so that the session should not be ended.
    #[must_use]
    pub fn has_message_in_flight(&self) -> bool {
        self.is_receiving()
            || matches!(self.state, State::Answer(Question::Spool | Question::ChunkSpool(..) | Question::Commit))
    }

    /// Whether [`Machine::shut_down`] was called.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down
    }

    /// How many complete lines have come, so that the session can tell a new command from a dribble of octets.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.tally.lines
    }

    /// Ends the session as soon as no message is in flight (RFC 5321 §3.8).
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
        if matches!(self.state, State::Sasl(_)) {
            self.close(shutting_down());
        }
        self.end_if_shutting_down();
    }

    /// The client took too long (RFC 5321 §4.5.3.2).
    pub fn timed_out(&mut self) {
        self.close(Reply::new(421, 4, 2, "that took too long; closing the connection"));
    }

    fn end_if_shutting_down(&mut self) {
        if self.shutting_down && matches!(self.state, State::Command) && !self.is_between_chunks() {
            self.close(shutting_down());
        }
    }

    fn reply(&mut self, reply: Reply) {
        self.actions.push_back(Action::Reply(reply));
    }

    /// Counts a mistake; too many end the session.
    fn refuse(&mut self, reply: Reply) {
        self.tally.since_message.errors += 1;
        self.reply(reply);
        if self.tally.since_message.errors > bounds::ERRORS {
            self.close(Reply::new(421, 7, 0, "too many errors; closing the connection"));
        }
    }

    fn refuse_recipient(&mut self, reply: Reply) {
        self.tally.since_message.refused_recipients += 1;
        self.reply(reply);
        if self.tally.since_message.refused_recipients > bounds::REFUSED_RECIPIENTS {
            self.close(Reply::new(421, 7, 0, "too many refused recipients; closing the connection"));
        }
    }

    fn login_failed(&mut self, reply: Reply) {
        // What may pass is no guess.
        self.tally.failed_logins += u32::from(reply.code() >= 500);
        self.reply(reply);
        if self.tally.failed_logins >= bounds::FAILED_LOGINS {
            self.close(Reply::new(421, 7, 0, "too many failed logins; closing the connection"));
        }
    }

    fn close(&mut self, reply: Reply) {
        if matches!(self.state, State::Closed) {
            return;
        }
        self.reply(reply);
        self.hang_up();
    }

    fn hang_up(&mut self) {
        self.actions.push_back(Action::Close);
        self.input.zeroize();
        self.input = BytesMut::new();
        self.state = State::Closed;
    }

    fn end_transaction(&mut self) {
        if self.transaction.take().is_some() {
            self.actions.push_back(Action::Reset);
        }
    }
}

fn shutting_down() -> Reply {
    Reply::new(421, 3, 2, "the server is shutting down; try again soon")
}

#[cfg(test)]
mod tests;

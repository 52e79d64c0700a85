//! The POP3 server's side of the conversation (RFC 1939), without I/O, clock or store. [`super::session`] drives it: it
//! feeds bytes, asks for the next [`Output`], carries it out, and tells the machine how that went.

use std::collections::VecDeque;

use bytes::Bytes;

use super::command::Command;
use super::line::{Line, Lines, MAX_AUTH_ANSWER, MAX_COMMAND};
use super::replies::{self, err, ok};
use super::text::Extent;
use super::transaction::{Listing, ListingKind, Transaction};
use crate::credentials::sasl::{self, Credentials};
use crate::credentials::{Failure, Password};
use crate::store::{MaildropEntry, StoreError};

/// Lines that are no proper command before the session ends: a program that speaks something else.
const MAX_ERRORS: u32 = 10;
/// Failed logins before the session ends.
const MAX_FAILED_LOGINS: u32 = 3;

/// What the session has to do next.
pub enum Output {
    /// Nothing: read more bytes and [`Machine::feed`] them.
    NeedBytes,
    /// Send this.
    Send(Bytes),
    /// Verify a login, open its maildrop, then [`Machine::logged_in`] or [`Machine::login_failed`].
    Login {
        /// The full address.
        login: String,
        /// What came with it.
        password: Password,
    },
    /// Begin TLS; the reply has been given out before. Then [`Machine::tls_started`].
    StartTls,
    /// Send a message: begin to read it, then [`Machine::message_opened`], and after the reply the message's text.
    Retrieve {
        /// Its position in the maildrop's entries.
        index: usize,
        /// How much of it.
        extent: Extent,
    },
    /// The client said QUIT: delete these, free the maildrop, then [`Machine::updated`] (UPDATE, RFC 1939 §6).
    Update {
        /// The store's numbers of the messages that were marked.
        keys: Vec<i64>,
    },
    /// End the connection.
    Close,
}

/// Whether passwords may be sent, and whether TLS can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Under TLS.
    Tls,
    /// Clear text; STLS is offered.
    ClearWithStls,
    /// Clear text; there is no certificate, so nobody can log in.
    Clear,
}

enum State {
    /// AUTHORIZATION: who is this?
    Authorization { user: Option<String> },
    /// Within AUTH PLAIN: the next line is the answer.
    AuthAnswer,
    /// The session is doing what the last output asked for.
    Waiting(Task),
    /// TRANSACTION.
    Transaction(Transaction),
    /// A listing is being sent.
    Listing(Transaction, Listing),
    /// Nothing follows but the end.
    Ended,
}

enum Task {
    Login,
    Tls,
    Retrieve(Transaction, usize, Extent),
    Update { marked: usize },
}

/// One conversation.
pub struct Machine {
    security: Security,
    lines: Lines,
    state: State,
    pending: VecDeque<Bytes>,
    errors: u32,
    failed_logins: u32,
    commands: u64,
}

impl Machine {
    /// Begins with the greeting. It has no timestamp in angle brackets: APOP needs the password in clear on the server, and
    /// is not offered.
    #[must_use]
    pub fn new(hostname: &str, security: Security) -> Self {
        let mut machine = Self {
            security,
            lines: Lines::default(),
            state: State::Authorization { user: None },
            pending: VecDeque::new(),
            errors: 0,
            failed_logins: 0,
            commands: 0,
        };
        machine.reply(ok(format_args!("{hostname} POP3 ready")));
        machine
    }

    /// Takes bytes from the client, a few KiB at most at a time, after [`Output::NeedBytes`].
    pub fn feed(&mut self, bytes: &[u8]) {
        self.lines.feed(bytes);
    }

    /// Whether a client is logged in: its session may be silent for longer.
    #[must_use]
    pub fn is_logged_in(&self) -> bool {
        match &self.state {
            State::Transaction(_) | State::Listing(..) => true,
            State::Waiting(task) => matches!(task, Task::Retrieve(..) | Task::Update { .. }),
            State::Authorization { .. } | State::AuthAnswer | State::Ended => false,
        }
    }

    /// The store's number for the message that [`Output::Retrieve`] named.
    #[must_use]
    pub fn key(&self, index: usize) -> Option<i64> {
        let State::Waiting(Task::Retrieve(transaction, ..)) = &self.state else { return None };
        transaction.entry(index).map(|entry| entry.key)
    }

    /// How many lines have been dealt with: the session's idle time begins again with each.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.commands
    }

    /// What to do next.
    pub fn next_output(&mut self) -> Output {
        loop {
            if let Some(reply) = self.pending.pop_front() {
                return Output::Send(reply);
            }
            let limit = match &mut self.state {
                State::Ended => return Output::Close,
                State::Waiting(Task::Tls) => return Output::StartTls,
                // The session asked too early: it has not said how its task went.
                State::Waiting(_) => return Output::Close,
                State::Listing(..) => {
                    self.continue_listing();
                    continue;
                }
                State::AuthAnswer => MAX_AUTH_ANSWER,
                State::Authorization { .. } | State::Transaction(_) => MAX_COMMAND,
            };
            let Some(line) = self.lines.next(limit) else { return Output::NeedBytes };
            self.commands += 1;
            if let Some(action) = self.line(line) {
                return action;
            }
        }
    }

    fn line(&mut self, line: Line) -> Option<Output> {
        let Line::Whole(line) = line else {
            if matches!(self.state, State::AuthAnswer) {
                self.state = State::Authorization { user: None };
            }
            self.error(replies::TOO_LONG);
            return None;
        };
        if matches!(self.state, State::AuthAnswer) {
            self.state = State::Authorization { user: None };
            return self.sasl_plain(&line);
        }
        match Command::parse(&line) {
            Ok(command) => self.command(command),
            Err(wrong) => {
                self.error(wrong);
                None
            }
        }
    }

    fn command(&mut self, command: Command) -> Option<Output> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Authorization { user } => self.in_authorization(command, user),
            State::Transaction(transaction) => self.in_transaction(command, transaction),
            other => {
                self.state = other;
                None
            }
        }
    }

    fn in_authorization(&mut self, command: Command, user: Option<String>) -> Option<Output> {
        self.state = State::Authorization { user: None };
        match command {
            Command::Capa => {
                self.state = State::Authorization { user };
                self.capabilities(true);
            }
            Command::Quit => self.end(ok("bye")),
            Command::Noop => self.reply(err(replies::WRONG_STATE_LOGIN)),
            Command::User(_) | Command::Pass(_) | Command::Auth { .. } if self.security != Security::Tls => {
                let text = if self.security == Security::Clear { replies::NO_TLS } else { replies::CLEAR_TEXT };
                self.error(text);
            }
            Command::User(name) => {
                self.state = State::Authorization { user: Some(name) };
                self.reply(ok("the password, please"));
            }
            Command::Pass(password) => match user {
                Some(login) => return Some(self.wait(Task::Login, Output::Login { login, password })),
                None => self.error("USER comes before PASS"),
            },
            Command::Auth { mechanism, initial } => return self.auth(&mechanism, initial),
            Command::Stls => match self.security {
                Security::ClearWithStls => {
                    // What came after STLS in clear is nobody's word (RFC 2595 §4).
                    self.lines.clear();
                    self.reply(ok("begin TLS"));
                    self.state = State::Waiting(Task::Tls);
                }
                Security::Tls => self.error("TLS is in use already"),
                Security::Clear => self.error("[SYS/TEMP] this server has no certificate now"),
            },
            _ => self.error(replies::WRONG_STATE_LOGIN),
        }
        None
    }

    fn auth(&mut self, mechanism: &str, initial: Option<Vec<u8>>) -> Option<Output> {
        if mechanism != "PLAIN" {
            self.error("the mechanism is not known here; CAPA lists those that are");
            return None;
        }
        if let Some(initial) = initial {
            let answer = if initial == b"=" { Vec::new() } else { initial };
            return self.sasl_plain(&answer);
        }
        self.state = State::AuthAnswer;
        self.reply(Bytes::from_static(b"+ \r\n"));
        None
    }

    /// The answer of SASL PLAIN.
    fn sasl_plain(&mut self, answer: &[u8]) -> Option<Output> {
        use base64::Engine as _;
        if answer == b"*" {
            self.error("AUTH was cancelled");
            return None;
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(answer).map(zeroize::Zeroizing::new);
        let Ok(decoded) = decoded else {
            self.error("the answer is not base64");
            return None;
        };
        let Some(Credentials { login, password }) = sasl::plain(&decoded) else {
            self.error("the answer is not that of PLAIN: a login and its password, and nobody else's name");
            return None;
        };
        Some(self.wait(Task::Login, Output::Login { login, password }))
    }

    fn in_transaction(&mut self, command: Command, mut transaction: Transaction) -> Option<Output> {
        match command {
            Command::Retr(number) => return self.retrieve(transaction, number, Extent::Whole),
            Command::Top(number, lines) => return self.retrieve(transaction, number, Extent::Top(lines)),
            Command::Quit => {
                let keys = transaction.marked();
                let task = Task::Update { marked: keys.len() };
                return Some(self.wait(task, Output::Update { keys }));
            }
            Command::List(None) => return self.begin_listing(transaction, ListingKind::Scan),
            Command::Uidl(None) => return self.begin_listing(transaction, ListingKind::UniqueId),
            Command::Capa => self.capabilities(false),
            Command::Noop => self.reply(ok("nothing done")),
            Command::Stat => {
                let (count, octets) = transaction.total();
                self.reply(ok(format_args!("{count} {octets}")));
            }
            Command::List(Some(number)) => match transaction.find(number) {
                Some(entry) => self.reply(ok(format_args!("{number} {}", entry.octets))),
                None => self.reply(err(replies::NO_SUCH_MESSAGE)),
            },
            Command::Uidl(Some(number)) => match transaction.find(number) {
                Some(entry) => self.reply(ok(format_args!("{number} {}", entry.unique_id))),
                None => self.reply(err(replies::NO_SUCH_MESSAGE)),
            },
            Command::Dele(number) if transaction.find(number).is_some() => {
                transaction.mark(number);
                self.reply(ok(format_args!("message {number} marked; QUIT deletes it")));
            }
            Command::Dele(_) => self.reply(err(replies::NO_SUCH_MESSAGE)),
            Command::Rset => {
                transaction.unmark_all();
                self.reply(ok("no message is marked"));
            }
            Command::User(_) | Command::Pass(_) | Command::Auth { .. } | Command::Stls => {
                // In this order: the error may be the one too many, which ends the session.
                self.resume(transaction);
                self.error(replies::WRONG_STATE_LOGGED_IN);
                return None;
            }
        }
        self.resume(transaction);
        None
    }

    fn retrieve(&mut self, transaction: Transaction, number: usize, extent: Extent) -> Option<Output> {
        if transaction.find(number).is_none() {
            self.reply(err(replies::NO_SUCH_MESSAGE));
            self.resume(transaction);
            return None;
        }
        let index = number - 1;
        Some(self.wait(Task::Retrieve(transaction, index, extent), Output::Retrieve { index, extent }))
    }

    fn begin_listing(&mut self, transaction: Transaction, kind: ListingKind) -> Option<Output> {
        let (count, octets) = transaction.total();
        self.reply(match kind {
            ListingKind::Scan => ok(format_args!("{count} messages ({octets} octets)")),
            ListingKind::UniqueId => ok("unique-id listing follows"),
        });
        self.state = State::Listing(transaction, Listing::new(kind));
        None
    }

    fn continue_listing(&mut self) {
        let State::Listing(transaction, listing) = &mut self.state else { return };
        let piece = listing.next_piece(transaction);
        if listing.is_complete(transaction)
            && let State::Listing(transaction, _) = std::mem::replace(&mut self.state, State::Ended)
        {
            self.resume(transaction);
        }
        self.reply(piece);
    }

    /// What is true here and now (RFC 2449 §6): USER and SASL where passwords are taken, STLS where it can begin.
    fn capabilities(&mut self, in_authorization: bool) {
        let mut text = String::from("+OK capability list follows\r\n");
        text.push_str("TOP\r\nUIDL\r\nPIPELINING\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nEXPIRE NEVER\r\n");
        match self.security {
            Security::Tls => text.push_str("USER\r\nSASL PLAIN\r\n"),
            Security::ClearWithStls if in_authorization => text.push_str("STLS\r\n"),
            Security::ClearWithStls | Security::Clear => {}
        }
        text.push_str("IMPLEMENTATION Paquebot\r\n.\r\n");
        self.reply(Bytes::from(text));
    }

    /// The login was right, and its maildrop is open.
    pub fn logged_in(&mut self, entries: Vec<MaildropEntry>) {
        let transaction = Transaction::new(entries);
        let (count, octets) = transaction.total();
        self.reply(ok(format_args!("{count} messages ({octets} octets)")));
        self.resume(transaction);
    }

    /// The login was wrong.
    pub fn login_failed(&mut self, failure: Failure) {
        self.state = State::Authorization { user: None };
        // A server that was busy has not looked at the password.
        self.failed_logins += u32::from(failure != Failure::Busy);
        if self.failed_logins >= MAX_FAILED_LOGINS {
            self.end(err(replies::TOO_MANY_LOGINS));
        } else {
            self.reply(replies::login_failure(failure));
        }
    }

    /// The login is not right any more. This is not QUIT: nothing is deleted.
    pub fn login_ended(&mut self) {
        self.end(err(replies::LOGIN_ENDED));
    }

    /// The login was right, but its maildrop cannot be opened.
    pub fn maildrop_refused(&mut self, error: &StoreError) {
        self.state = State::Authorization { user: None };
        self.reply(replies::store_failure(error));
    }

    /// TLS has begun: the conversation starts anew, without another greeting (RFC 2595 §4).
    pub fn tls_started(&mut self) {
        self.lines.clear();
        self.security = Security::Tls;
        self.state = State::Authorization { user: None };
    }

    /// Whether the message that [`Output::Retrieve`] named can be read. After the reply to success, its text is to be sent.
    pub fn message_opened(&mut self, result: Result<(), &StoreError>) {
        let State::Waiting(Task::Retrieve(transaction, index, extent)) =
            std::mem::replace(&mut self.state, State::Ended)
        else {
            return;
        };
        match result {
            Ok(()) if extent == Extent::Whole => {
                let octets = transaction.entry(index).map_or(0, |entry| entry.octets);
                self.reply(ok(format_args!("{octets} octets")));
            }
            // How much TOP sends is not known before.
            Ok(()) => self.reply(ok("the top follows")),
            Err(error) => self.reply(replies::store_failure(error)),
        }
        self.resume(transaction);
    }

    /// How the deletion went; the maildrop is free again.
    pub fn updated(&mut self, result: Result<(), &StoreError>) {
        let State::Waiting(Task::Update { marked }) = self.state else { return };
        match result {
            Ok(()) if marked == 0 => self.end(ok("bye")),
            Ok(()) => self.end(ok(format_args!("{marked} messages deleted, bye"))),
            Err(_) => self.end(err("[SYS/TEMP] no message was deleted; try again later")),
        }
    }

    /// The server is going down: a last word instead of the next command's reply. Nothing is deleted.
    pub fn shut_down(&mut self) {
        self.end(err(replies::SHUTTING_DOWN));
    }

    /// The client was silent for too long. This is not QUIT: nothing is deleted (RFC 1939 §3).
    pub fn timed_out(&mut self) {
        self.end(err(replies::IDLE));
    }

    fn reply(&mut self, reply: Bytes) {
        self.pending.push_back(reply);
    }

    /// A refusal that counts: who sends many of them does not speak POP3.
    fn error(&mut self, text: impl std::fmt::Display) {
        self.errors += 1;
        if self.errors >= MAX_ERRORS {
            self.end(err(replies::TOO_MANY_ERRORS));
        } else {
            self.reply(err(text));
        }
    }

    fn end(&mut self, reply: Bytes) {
        self.reply(reply);
        self.lines.clear();
        self.state = State::Ended;
    }

    fn wait(&mut self, task: Task, output: Output) -> Output {
        self.state = State::Waiting(task);
        output
    }

    fn resume(&mut self, transaction: Transaction) {
        self.state = State::Transaction(transaction);
    }
}

#[cfg(test)]
mod tests;

//! The POP3 server's side of the conversation (RFC 1939), without I/O, clock or store. [`super::session`] drives it: it
//! feeds bytes, asks for the next [`Output`], carries it out, and tells the machine how that went.

mod answers;

use std::collections::VecDeque;
use std::fmt::Write as _;

use bytes::Bytes;

use super::command::Command;
use super::language::Language;
use super::line::{Line, Lines, MAX_AUTH_ANSWER, MAX_COMMAND};
use super::phrase::Phrase;
use super::text::Extent;
use super::transaction::{Listing, ListingKind, Transaction};
use crate::credentials::Password;
use crate::credentials::sasl::{Credentials, Exchange, Failed, Mechanism, Step};
use crate::store::MaildropEntry;

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
    /// Clear text; there is no certificate.
    Clear,
}

/// What a conversation begins with.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Whether there is TLS, or can be.
    pub security: Security,
    /// Whether passwords are taken without TLS.
    pub clear_text_logins: bool,
    /// Seconds between two logins to one maildrop, as CAPA tells (RFC 2449 §6.5).
    pub login_delay: u64,
}

enum State {
    /// AUTHORIZATION: who is this?
    Authorization { user: Option<String> },
    /// Within AUTH: the next line is the answer.
    AuthAnswer(Exchange),
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
    settings: Settings,
    language: Language,
    /// UTF8 was given (RFC 6856 §2.1): headers go out as they are stored.
    utf8: bool,
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
    pub fn new(hostname: &str, settings: Settings) -> Self {
        let mut machine = Self {
            settings,
            language: Language::Default,
            utf8: false,
            lines: Lines::default(),
            state: State::Authorization { user: None },
            pending: VecDeque::new(),
            errors: 0,
            failed_logins: 0,
            commands: 0,
        };
        machine.reply(Bytes::from(format!("+OK {hostname} POP3 ready\r\n")));
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
            State::Authorization { .. } | State::AuthAnswer(_) | State::Ended => false,
        }
    }

    /// The entry of the message that [`Output::Retrieve`] named, and those after it that are not marked.
    pub fn entries_from(&self, index: usize) -> impl Iterator<Item = &MaildropEntry> {
        let transaction = match &self.state {
            State::Waiting(Task::Retrieve(transaction, ..)) => Some(transaction),
            _ => None,
        };
        transaction.into_iter().flat_map(move |transaction| transaction.kept_from(index))
    }

    /// Gives memory back before a long wait.
    pub fn trim(&mut self) {
        self.lines.trim();
        self.pending = VecDeque::new();
    }

    /// Whether the client takes headers in UTF-8.
    #[must_use]
    pub fn is_utf8(&self) -> bool {
        self.utf8
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
                State::AuthAnswer(_) => MAX_AUTH_ANSWER,
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
            if matches!(self.state, State::AuthAnswer(_)) {
                self.state = State::Authorization { user: None };
            }
            self.error(Phrase::TooLong);
            return None;
        };
        if let State::AuthAnswer(exchange) = &self.state {
            let step = exchange.clone().respond(&line);
            return self.sasl(step);
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
            Command::Lang(range) => {
                self.state = State::Authorization { user };
                self.lang(range.as_deref());
            }
            Command::Utf8 => {
                self.state = State::Authorization { user };
                self.utf8 = true;
                self.say(Phrase::Utf8Mode);
            }
            Command::Quit => self.end(Phrase::Bye.ok(self.language)),
            Command::Noop => self.refuse(Phrase::LogInFirst),
            Command::User(_) | Command::Pass(_) | Command::Auth { .. } if !self.takes_passwords() => {
                let is_hopeless = self.settings.security == Security::Clear;
                self.error(if is_hopeless { Phrase::NoTls } else { Phrase::ClearText });
            }
            Command::User(name) => {
                self.state = State::Authorization { user: Some(name) };
                self.say(Phrase::PasswordPlease);
            }
            Command::Pass(password) => match user {
                Some(login) => return Some(self.wait(Task::Login, Output::Login { login, password })),
                None => self.error(Phrase::UserFirst),
            },
            Command::Auth { mechanism, initial } => match Mechanism::find(&Mechanism::OF_POP3, &mechanism) {
                Some(mechanism) => return self.sasl(Exchange::begin(mechanism, initial.as_deref())),
                None => self.error(Phrase::UnknownMechanism),
            },
            Command::Stls => self.stls(),
            _ => self.error(Phrase::LogInFirst),
        }
        None
    }

    fn takes_passwords(&self) -> bool {
        self.settings.security == Security::Tls || self.settings.clear_text_logins
    }

    fn stls(&mut self) {
        match self.settings.security {
            // RFC 6856 §2.1: UTF8 is part of what TLS protects, and would be forgotten.
            Security::ClearWithStls if self.utf8 => self.error(Phrase::TlsAfterUtf8),
            Security::ClearWithStls => {
                // What came after STLS in clear is nobody's word (RFC 2595 §4).
                self.lines.clear();
                self.say(Phrase::BeginTls);
                self.state = State::Waiting(Task::Tls);
            }
            Security::Tls => self.error(Phrase::TlsInUse),
            Security::Clear => self.error(Phrase::NoCertificate),
        }
    }

    /// LANG (RFC 6856 §3): the languages, or another one from this reply on.
    fn lang(&mut self, range: Option<&str>) {
        let Some(range) = range else {
            let mut listing = Phrase::Languages.ok(self.language).to_vec();
            for language in Language::ALL {
                listing.extend_from_slice(format!("{} {}\r\n", language.tag(), language.name()).as_bytes());
            }
            listing.extend_from_slice(b".\r\n");
            return self.reply(Bytes::from(listing));
        };
        match Language::find(range) {
            Some(language) => {
                self.language = language;
                let text = Phrase::LanguageChosen.text(language);
                self.reply(Bytes::from(format!("+OK {} {text}\r\n", language.tag())));
            }
            None => self.error(Phrase::UnknownLanguage),
        }
    }

    /// Goes on with AUTH (RFC 5034 §4).
    fn sasl(&mut self, step: Step) -> Option<Output> {
        self.state = State::Authorization { user: None };
        match step {
            Step::Verify(Credentials { login, password }) => {
                return Some(self.wait(Task::Login, Output::Login { login, password }));
            }
            Step::Challenge(exchange, challenge) => {
                self.state = State::AuthAnswer(exchange);
                self.reply(Bytes::from(format!("+ {challenge}\r\n")));
            }
            Step::Failed(Failed::Cancelled) => self.error(Phrase::Cancelled),
            Step::Failed(Failed::NotBase64) => self.error(Phrase::NotBase64),
            Step::Failed(Failed::Malformed) => self.error(Phrase::NotCredentials),
        }
        None
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
            Command::Noop => self.say(Phrase::NothingDone),
            Command::Stat => {
                let (count, octets) = transaction.total();
                self.reply(Bytes::from(format!("+OK {count} {octets}\r\n")));
            }
            Command::List(Some(number)) => match transaction.find(number) {
                Some(entry) => self.reply(Bytes::from(format!("+OK {number} {}\r\n", entry.octets))),
                None => self.refuse(Phrase::NoSuchMessage),
            },
            Command::Uidl(Some(number)) => match transaction.find(number) {
                Some(entry) => self.reply(Bytes::from(format!("+OK {number} {}\r\n", entry.unique_id()))),
                None => self.refuse(Phrase::NoSuchMessage),
            },
            Command::Dele(number) if transaction.find(number).is_some() => {
                transaction.mark(number);
                self.say(Phrase::Marked(number as u64));
            }
            Command::Dele(_) => self.refuse(Phrase::NoSuchMessage),
            Command::Rset => {
                transaction.unmark_all();
                self.say(Phrase::NothingMarked);
            }
            // In this order: the error may be the one too many, which ends the session.
            Command::Lang(range) => {
                self.resume(transaction);
                self.lang(range.as_deref());
                return None;
            }
            Command::User(_) | Command::Pass(_) | Command::Auth { .. } | Command::Stls | Command::Utf8 => {
                self.resume(transaction);
                self.error(Phrase::LoggedInAlready);
                return None;
            }
        }
        self.resume(transaction);
        None
    }

    fn retrieve(&mut self, transaction: Transaction, number: usize, extent: Extent) -> Option<Output> {
        if transaction.find(number).is_none() {
            self.refuse(Phrase::NoSuchMessage);
            self.resume(transaction);
            return None;
        }
        let index = number - 1;
        Some(self.wait(Task::Retrieve(transaction, index, extent), Output::Retrieve { index, extent }))
    }

    fn begin_listing(&mut self, transaction: Transaction, kind: ListingKind) -> Option<Output> {
        let (count, octets) = transaction.total();
        self.say(match kind {
            ListingKind::Scan => Phrase::Messages { count, octets },
            ListingKind::UniqueId => Phrase::UniqueIds,
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

    /// What is true here and now (RFC 2449 §5, §6): USER and SASL where passwords are taken, STLS where it can begin. The
    /// others are the same in both states. No message expires by itself; LOGIN-DELAY 0 says that none is enforced.
    fn capabilities(&mut self, in_authorization: bool) {
        let mut text = String::from_utf8_lossy(&Phrase::Capabilities.ok(self.language)).into_owned();
        text.push_str("TOP\r\nUIDL\r\nPIPELINING\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nEXPIRE NEVER\r\n");
        text.push_str("UTF8 USER\r\nLANG\r\n");
        // Writing into a String does not fail.
        let _ = write!(text, "LOGIN-DELAY {}\r\n", self.settings.login_delay);
        if self.takes_passwords() {
            let mechanisms = Mechanism::OF_POP3.map(Mechanism::name).join(" ");
            let _ = write!(text, "USER\r\nSASL {mechanisms}\r\n");
        }
        if in_authorization && self.settings.security == Security::ClearWithStls && !self.utf8 {
            text.push_str("STLS\r\n");
        }
        text.push_str("IMPLEMENTATION Paquebot\r\n.\r\n");
        self.reply(Bytes::from(text));
    }

    /// The server is going down: a last word instead of the next command's reply. Nothing is deleted.
    pub fn shut_down(&mut self) {
        self.end(Phrase::ShuttingDown.err(self.language));
    }

    /// The client was silent for too long. This is not QUIT: nothing is deleted (RFC 1939 §3).
    pub fn timed_out(&mut self) {
        self.end(Phrase::Idle.err(self.language));
    }

    fn reply(&mut self, reply: Bytes) {
        self.pending.push_back(reply);
    }

    fn say(&mut self, phrase: Phrase) {
        self.reply(phrase.ok(self.language));
    }

    fn refuse(&mut self, phrase: Phrase) {
        self.reply(phrase.err(self.language));
    }

    /// A refusal that counts: who sends many of them does not speak POP3.
    fn error(&mut self, phrase: Phrase) {
        self.errors += 1;
        if self.errors >= MAX_ERRORS {
            self.end(Phrase::TooManyErrors.err(self.language));
        } else {
            self.refuse(phrase);
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

//! The SMTP server as a machine without I/O: bytes in, replies and actions out. [`super::session`] drives it with a
//! socket; tests and fuzzers drive it with anything.
//!
//! [`Machine::feed`] takes what the client sent, [`Machine::next_action`] says what is to be done. Some actions are
//! questions; until the answer comes (`*_answered`, [`Machine::tls_started`]) nothing further is read from the input. The
//! result does not depend on how the bytes are divided.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use paquebot_config::{Address, Domain};

use super::bounds;
use super::command::{self, Command, CommandError, Mail};
use super::content::{Decoder, Fault, ReceivedCounter};
use super::path::ForwardPath;
use super::policy;
use super::reply::Reply;
use super::sasl::{self, Credentials, Exchange, Step};

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
    CheckRecipient(ForwardPath),
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
    pub recipients: Vec<Address>,
    /// What the client called itself.
    pub client_name: String,
    /// Whether it said EHLO.
    pub extended: bool,
    /// Octets of the content.
    pub octets: u64,
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
}

#[derive(Debug)]
struct Transaction {
    mail: Mail,
    recipients: Vec<Address>,
    max_message_size: u64,
    max_recipients: u32,
}

#[derive(Debug)]
enum State {
    /// Command lines.
    Command,
    /// Lines of an AUTH exchange.
    Sasl(Exchange),
    /// Content of a message.
    Content(Box<Receiver>),
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
    Recipient,
    Spool,
    Commit,
}

/// The state of receiving one message's content.
#[derive(Debug)]
struct Receiver {
    decoder: Decoder,
    received_fields: ReceivedCounter,
    limit: u64,
    /// Octets of the message so far.
    octets: u64,
    /// Octets on the wire so far.
    read: u64,
    /// The session could not keep the content.
    failure: Option<Reply>,
    discarded: bool,
}

#[derive(Debug, Default)]
struct Tally {
    errors: u32,
    refused_recipients: u32,
    failed_logins: u32,
    /// Since the last accepted message.
    commands: u32,
    lines: u64,
}

#[derive(Debug)]
struct Hello {
    name: String,
    extended: bool,
}

/// One client's session. See the module.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    tls: bool,
    hello: Option<Hello>,
    user: Option<Address>,
    transaction: Option<Transaction>,
    state: State,
    input: BytesMut,
    /// The current line is too long: it is thrown away up to its end.
    skipping: bool,
    actions: VecDeque<Action>,
    tally: Tally,
    shutting_down: bool,
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

    /// Takes what the client sent. What a closed session is sent is forgotten.
    pub fn feed(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Closed) {
            self.input.extend_from_slice(bytes);
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
                State::Content(_) | State::Answer(_) | State::Closed => return None,
            }
        }
    }

    /// Whether content of a message is awaited, for which other time limits hold.
    #[must_use]
    pub fn is_receiving(&self) -> bool {
        matches!(self.state, State::Content(_))
    }

    /// Whether a message is between DATA and its reply, so that the session should not be ended.
    #[must_use]
    pub fn has_message_in_flight(&self) -> bool {
        matches!(self.state, State::Content(_) | State::Answer(Question::Spool | Question::Commit))
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
        if matches!(self.state, State::Command | State::Sasl(_)) {
            self.close(shutting_down());
        }
    }

    /// The client took too long (RFC 5321 §4.5.3.2).
    pub fn timed_out(&mut self) {
        self.close(Reply::new(421, 4, 2, "that took too long; closing the connection"));
    }

    /// TLS is up: everything that was known about the client is forgotten (RFC 3207 §4.2).
    pub fn tls_started(&mut self) {
        if matches!(self.state, State::Answer(Question::Tls)) {
            self.tls = true;
            self.hello = None;
            self.input.clear();
            self.state = State::Command;
        }
        self.end_if_shutting_down();
    }

    /// The answer to [`Action::Authenticate`].
    pub fn authentication_answered(&mut self, login: Login) {
        if !matches!(self.state, State::Answer(Question::Authentication)) {
            return;
        }
        self.state = State::Command;
        match login {
            Login::Accepted(mailbox) => {
                self.user = Some(mailbox);
                self.reply(Reply::new(235, 7, 0, "authentication succeeded"));
            }
            Login::Refused(reply) => self.login_failed(reply),
        }
        self.end_if_shutting_down();
    }

    /// The answer to [`Action::CheckSender`].
    pub fn sender_answered(&mut self, verdict: Result<(), Reply>) {
        match std::mem::replace(&mut self.state, State::Command) {
            State::Answer(Question::Sender(mail)) => match verdict {
                Ok(()) => {
                    self.transaction = Some(Transaction {
                        mail,
                        recipients: Vec::new(),
                        max_message_size: self.settings.max_message_size,
                        max_recipients: self.settings.max_recipients,
                    });
                    self.reply(Reply::new(250, 1, 0, "sender ok"));
                }
                Err(reply) => {
                    self.actions.push_back(Action::Reset);
                    self.refuse(reply);
                }
            },
            other => self.state = other,
        }
        self.end_if_shutting_down();
    }

    /// The answer to [`Action::CheckRecipient`].
    pub fn recipient_answered(&mut self, verdict: Result<AcceptedRecipient, Reply>) {
        if !matches!(self.state, State::Answer(Question::Recipient)) {
            return;
        }
        self.state = State::Command;
        match (verdict, &mut self.transaction) {
            (Ok(recipient), Some(transaction)) => {
                let limit = recipient.max_message_size.unwrap_or(u64::MAX);
                transaction.max_message_size = transaction.max_message_size.min(limit);
                if !transaction.recipients.contains(&recipient.address) {
                    transaction.recipients.push(recipient.address);
                }
                self.reply(Reply::new(250, 1, 5, "recipient ok"));
            }
            (Err(reply), _) => self.refuse_recipient(reply),
            (Ok(_), None) => {}
        }
        self.end_if_shutting_down();
    }

    /// The answer to [`Action::OpenSpool`].
    pub fn spool_answered(&mut self, verdict: Result<(), Reply>) {
        if !matches!(self.state, State::Answer(Question::Spool)) {
            return;
        }
        match (verdict, &self.transaction) {
            (Ok(()), Some(transaction)) => {
                self.state = State::Content(Box::new(Receiver {
                    decoder: Decoder::default(),
                    received_fields: ReceivedCounter::default(),
                    limit: transaction.max_message_size,
                    octets: 0,
                    read: 0,
                    failure: None,
                    discarded: false,
                }));
                self.reply(Reply::plain(354, "send the message; end it with a line that has only a dot"));
            }
            (Err(reply), _) => {
                self.state = State::Command;
                self.end_transaction();
                self.reply(reply);
                self.end_if_shutting_down();
            }
            (Ok(()), None) => self.state = State::Command,
        }
    }

    /// The content that was given last could not be kept. The rest is read and thrown away, then this is the reply.
    pub fn content_failed(&mut self, reply: Reply) {
        match &mut self.state {
            State::Content(receiver) => {
                receiver.failure.get_or_insert(reply);
            }
            // The last octets came with the end of the message.
            State::Answer(Question::Commit) => {
                self.actions.retain(|action| !matches!(action, Action::Commit(_)));
                self.commit_answered(reply);
            }
            _ => {}
        }
    }

    /// The answer to [`Action::Commit`]: a 250 that names the message, or why it was not taken.
    pub fn commit_answered(&mut self, reply: Reply) {
        if !matches!(self.state, State::Answer(Question::Commit)) {
            return;
        }
        self.state = State::Command;
        if reply.is_positive() {
            self.tally.commands = 0;
        }
        self.end_transaction();
        self.reply(reply);
        self.end_if_shutting_down();
    }

    fn end_if_shutting_down(&mut self) {
        if self.shutting_down && matches!(self.state, State::Command) {
            self.close(shutting_down());
        }
    }

    fn reply(&mut self, reply: Reply) {
        self.actions.push_back(Action::Reply(reply));
    }

    /// Counts a mistake; too many end the session.
    fn refuse(&mut self, reply: Reply) {
        self.tally.errors += 1;
        self.reply(reply);
        if self.tally.errors > bounds::ERRORS {
            self.close(Reply::new(421, 7, 0, "too many errors; closing the connection"));
        }
    }

    fn refuse_recipient(&mut self, reply: Reply) {
        self.tally.refused_recipients += 1;
        self.reply(reply);
        if self.tally.refused_recipients > bounds::REFUSED_RECIPIENTS {
            self.close(Reply::new(421, 7, 0, "too many refused recipients; closing the connection"));
        }
    }

    fn login_failed(&mut self, reply: Reply) {
        self.tally.failed_logins += 1;
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
        self.input = BytesMut::new();
        self.state = State::Closed;
    }

    fn end_transaction(&mut self) {
        if self.transaction.take().is_some() {
            self.actions.push_back(Action::Reset);
        }
    }
}

/// Lines.
impl Machine {
    /// Handles the next line. `None`: there is no complete one.
    fn read_line(&mut self) -> Option<()> {
        let line = self.take_line()?;
        self.tally.lines += 1;
        self.tally.commands = self.tally.commands.saturating_add(1);
        if self.tally.commands > bounds::IDLE_COMMANDS.saturating_add(self.settings.max_recipients) {
            self.close(Reply::new(421, 7, 0, "too many commands without a message; closing the connection"));
            return Some(());
        }
        match std::mem::replace(&mut self.state, State::Command) {
            State::Sasl(exchange) => match line {
                Some(line) => self.authenticate(exchange.respond(&line)),
                None => self.login_failed(Reply::new(500, 5, 6, "authentication exchange line is too long")),
            },
            _ => match line {
                Some(line) => self.command_line(&line),
                None => self.refuse(Reply::new(500, 5, 2, "line too long")),
            },
        }
        Some(())
    }

    /// The next line without its CRLF; `Some(None)`: it was longer than it may be. Never keeps more than the longest
    /// line and what one read of the session adds to it.
    fn take_line(&mut self) -> Option<Option<BytesMut>> {
        let Some(end) = memmem::find(&self.input, b"\r\n") else {
            if self.skipping || self.input.len() >= self.line_limit() {
                self.skipping = true;
                // The CR may be the first half of the end.
                let keep = usize::from(self.input.last() == Some(&b'\r'));
                self.input.advance(self.input.len() - keep);
            }
            return None;
        };
        let too_long = self.skipping || end + 2 > self.line_limit();
        let line = self.input.split_to(end);
        self.input.advance(2);
        self.skipping = false;
        Some((!too_long).then_some(line))
    }

    /// Octets that the line at the start of the input may have, its CRLF included.
    fn line_limit(&self) -> usize {
        let begins_with = |verb: &[u8]| self.input.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(verb));
        match self.state {
            State::Sasl(_) => bounds::SASL_LINE,
            _ if begins_with(b"AUTH") => bounds::SASL_LINE,
            _ if begins_with(b"MAIL") => bounds::MAIL_LINE,
            _ => bounds::COMMAND_LINE,
        }
    }

    fn command_line(&mut self, line: &[u8]) {
        match command::parse(line, self.settings.smtputf8) {
            Ok(command) => self.command(command),
            Err(error @ (CommandError::ForwardPath | CommandError::NotAscii)) => self.refuse_recipient(error.reply()),
            Err(error) => self.refuse(error.reply()),
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Helo(name) => self.hello(name, false),
            Command::Ehlo(name) => self.hello(name, true),
            Command::Mail(mail) => self.mail(mail),
            Command::Rcpt(path) => self.recipient(path),
            Command::Data => self.data(),
            Command::Rset => {
                self.end_transaction();
                self.reply(Reply::new(250, 0, 0, "ok"));
            }
            Command::Noop => self.reply(Reply::new(250, 0, 0, "ok")),
            Command::Quit => {
                self.reply(Reply::new(221, 0, 0, format!("{} closing the connection", self.settings.hostname)));
                self.hang_up();
            }
            Command::Vrfy => self.reply(Reply::new(252, 1, 5, "cannot verify, but takes mail for those who exist")),
            Command::Expn => self.refuse(Reply::new(502, 5, 1, "EXPN is not offered")),
            Command::Help => {
                let verbs = "HELO EHLO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP STARTTLS AUTH";
                self.reply(Reply::new(214, 0, 0, verbs).line("RFC 5321 describes them"));
            }
            Command::StartTls => self.start_tls(),
            Command::Auth { mechanism, initial } => self.auth(&mechanism, initial.as_deref()),
        }
    }

    fn hello(&mut self, name: String, extended: bool) {
        self.end_transaction();
        let mut reply = Reply::plain(250, self.settings.hostname.to_string());
        if extended {
            for extension in self.extensions() {
                reply = reply.line(extension);
            }
        }
        self.hello = Some(Hello { name, extended });
        self.reply(reply);
    }

    /// What is offered now, as EHLO says it.
    fn extensions(&self) -> Vec<String> {
        let mut extensions = vec![
            "PIPELINING".to_owned(),
            format!("SIZE {}", self.settings.max_message_size),
            "8BITMIME".to_owned(),
            "ENHANCEDSTATUSCODES".to_owned(),
        ];
        if self.settings.smtputf8 {
            extensions.push("SMTPUTF8".to_owned());
        }
        if self.settings.starttls && !self.tls {
            extensions.push("STARTTLS".to_owned());
        }
        if self.settings.submission && self.tls && self.user.is_none() {
            extensions.push("AUTH PLAIN LOGIN".to_owned());
        }
        extensions.push("HELP".to_owned());
        extensions
    }

    fn start_tls(&mut self) {
        if self.tls {
            return self.refuse(Reply::new(503, 5, 1, "TLS is active already"));
        }
        if !self.settings.starttls {
            return self.refuse(Reply::new(454, 7, 0, "TLS is not available at present"));
        }
        self.end_transaction();
        // What the client sent with the command came before the encryption, from whomever (RFC 3207 §4.2).
        self.input.clear();
        self.reply(Reply::new(220, 0, 0, "begin TLS"));
        self.actions.push_back(Action::StartTls);
        self.state = State::Answer(Question::Tls);
    }

    fn auth(&mut self, mechanism: &str, initial: Option<&str>) {
        if !self.settings.submission {
            return self.refuse(Reply::new(502, 5, 1, "AUTH is not offered on this port; use the submission port"));
        }
        if self.hello.is_none() || self.user.is_some() || self.transaction.is_some() {
            return self.refuse(Reply::new(503, 5, 1, "AUTH comes once, after EHLO and before MAIL"));
        }
        if !self.tls {
            return self.refuse(Reply::new(538, 7, 11, "AUTH needs TLS: send STARTTLS first"));
        }
        match Exchange::begin(mechanism, initial) {
            Some(step) => self.authenticate(step),
            None => self.refuse(Reply::new(504, 5, 4, "that mechanism is not offered; use PLAIN or LOGIN")),
        }
    }

    fn authenticate(&mut self, step: Step) {
        match step {
            Step::Challenge(exchange, reply) => {
                self.state = State::Sasl(exchange);
                self.reply(reply);
            }
            Step::Verify(credentials) => {
                self.state = State::Answer(Question::Authentication);
                self.actions.push_back(Action::Authenticate(credentials));
            }
            Step::Failed(reply) => self.login_failed(reply),
        }
    }

    fn mail(&mut self, mail: Mail) {
        if self.hello.is_none() {
            return self.refuse(Reply::new(503, 5, 1, "send EHLO first"));
        }
        if self.transaction.is_some() {
            return self.refuse(Reply::new(503, 5, 1, "a transaction is open already; RSET ends it"));
        }
        if self.settings.submission && self.user.is_none() {
            let how = if self.tls { "authenticate first" } else { "send STARTTLS, then authenticate" };
            return self.refuse(Reply::new(530, 7, 0, how));
        }
        self.state = State::Answer(Question::Sender(mail.clone()));
        self.actions.push_back(Action::CheckSender(mail));
    }

    fn recipient(&mut self, path: ForwardPath) {
        let Some(transaction) = &self.transaction else {
            return self.refuse(Reply::new(503, 5, 1, "send MAIL first"));
        };
        if transaction.recipients.len() >= transaction.max_recipients as usize {
            // RFC 5321 §4.5.3.1.10: the client sends the others in another transaction.
            return self.reply(Reply::new(452, 5, 3, "too many recipients in one transaction"));
        }
        self.state = State::Answer(Question::Recipient);
        self.actions.push_back(Action::CheckRecipient(path));
    }

    fn data(&mut self) {
        match &self.transaction {
            None => self.refuse(Reply::new(503, 5, 1, "send MAIL and RCPT first")),
            // RFC 2920 §3.1: a pipelined DATA after recipients that were all refused.
            Some(transaction) if transaction.recipients.is_empty() => {
                self.refuse(Reply::new(554, 5, 1, "no valid recipients"));
            }
            Some(transaction) => {
                self.actions.push_back(Action::OpenSpool(transaction.max_message_size));
                self.state = State::Answer(Question::Spool);
            }
        }
    }
}

/// Content.
impl Machine {
    fn read_content(&mut self) {
        let State::Content(receiver) = &mut self.state else { return };
        let mut octets = Vec::with_capacity(self.input.len());
        let (read, ended) = receiver.take(&self.input, &mut octets);
        self.input.advance(read);
        if receiver.refusal().is_none() {
            if !octets.is_empty() {
                self.actions.push_back(Action::Content(octets.into()));
            }
        } else if !receiver.discarded {
            receiver.discarded = true;
            self.actions.push_back(Action::Discard);
        }
        if ended {
            self.end_content();
        } else if receiver.is_endless() {
            let reply = Reply::new(421, 3, 4, "the message does not end; closing the connection");
            self.end_transaction();
            self.close(reply);
        }
    }

    fn end_content(&mut self) {
        let State::Content(receiver) = std::mem::replace(&mut self.state, State::Command) else { return };
        if let Some(reply) = receiver.refusal() {
            self.end_transaction();
            self.refuse(reply);
            return self.end_if_shutting_down();
        }
        let (Some(transaction), Some(hello)) = (&self.transaction, &self.hello) else { return };
        let envelope = Envelope {
            mail: transaction.mail.clone(),
            recipients: transaction.recipients.clone(),
            client_name: hello.name.clone(),
            extended: hello.extended,
            octets: receiver.octets,
        };
        self.actions.push_back(Action::Commit(envelope));
        self.state = State::Answer(Question::Commit);
    }
}

impl Receiver {
    /// Decodes from `input`; returns how many octets were read and whether the message ended.
    fn take(&mut self, input: &[u8], octets: &mut Vec<u8>) -> (usize, bool) {
        // Never beyond the bound on the whole, so that it takes effect at the same octet however the input is divided.
        let room = usize::try_from(self.bound().saturating_add(1).saturating_sub(self.read)).unwrap_or(usize::MAX);
        let (read, ended) = self.decoder.decode(&input[..input.len().min(room)], octets);
        self.read = self.read.saturating_add(read as u64);
        self.octets = self.octets.saturating_add(octets.len() as u64);
        self.received_fields.look(octets);
        (read, ended)
    }

    /// Why the message is not acceptable, as far as it has come.
    fn refusal(&self) -> Option<Reply> {
        if let Some(fault) = self.decoder.fault() {
            Some(fault_reply(fault))
        } else if self.octets > self.limit {
            Some(policy::too_large(self.limit))
        } else if self.received_fields.count() >= bounds::RECEIVED_FIELDS {
            Some(Reply::new(554, 4, 6, "the message goes round in a loop: too many Received fields"))
        } else {
            self.failure.clone()
        }
    }

    /// Octets on the wire after which a message that has not ended is refused at once. One that is acceptable stays below:
    /// dot-stuffing adds one octet to a line of three.
    fn bound(&self) -> u64 {
        self.limit.saturating_mul(2).saturating_add(1024)
    }

    fn is_endless(&self) -> bool {
        self.read > self.bound()
    }
}

fn fault_reply(fault: Fault) -> Reply {
    let what = match fault {
        Fault::BareCr => "the message has a CR that no LF follows; lines end with CR LF",
        Fault::BareLf => "the message has a LF without CR before it; lines end with CR LF",
        Fault::Nul => "the message has a NUL octet",
    };
    Reply::new(550, 6, 11, what)
}

fn shutting_down() -> Reply {
    Reply::new(421, 3, 2, "the server is shutting down; try again soon")
}

/// What a client is told whose login failed; here so that the session needs not know the protocol.
#[must_use]
pub fn login_refused(failure: crate::credentials::Failure) -> Reply {
    use crate::credentials::Failure;
    match failure {
        Failure::Rejected | Failure::NotPermitted => sasl::rejection(),
        Failure::Busy => Reply::new(454, 7, 0, "too many logins at once; try again later"),
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;

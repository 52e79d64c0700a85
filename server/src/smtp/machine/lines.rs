//! Command lines and the lines of AUTH exchanges: how they are found in the input, and what each command does.

use bytes::{Buf, BytesMut};
use memchr::memmem;
use zeroize::Zeroize as _;

use super::{Action, Hello, Machine, Question, State};
use crate::credentials::sasl::{Exchange, Mechanism, Step};
use crate::smtp::bounds;
use crate::smtp::command::{self, Command, CommandError, Hold, Mail, Offers, Recipient};
use crate::smtp::reply::Reply;
use crate::smtp::sasl;
use crate::store::envelope::{BodyType, ByMode};

impl Machine {
    /// Handles the next line. `None`: there is no complete one.
    pub(super) fn read_line(&mut self) -> Option<()> {
        let mut line = self.take_line()?;
        self.tally.lines += 1;
        self.tally.since_message.commands += 1;
        if self.tally.since_message.commands > bounds::IDLE_COMMANDS.saturating_add(self.settings.max_recipients) {
            self.close(Reply::new(421, 7, 0, "too many commands without a message; closing the connection"));
            return Some(());
        }
        match std::mem::replace(&mut self.state, State::Command) {
            State::Sasl(exchange) => match &line {
                Some(line) => self.authenticate(exchange.respond(line)),
                None => self.login_failed(Reply::new(500, 5, 6, "authentication exchange line is too long")),
            },
            _ => match &line {
                Some(line) => self.command_line(line),
                None => self.refuse(Reply::new(500, 5, 2, "line too long")),
            },
        }
        // It may have been a password.
        line.iter_mut().for_each(|line| line.zeroize());
        Some(())
    }

    /// The next line without its CRLF; `Some(None)`: it was longer than it may be. Never keeps more than the longest
    /// line and what one read of the session adds to it.
    fn take_line(&mut self) -> Option<Option<BytesMut>> {
        let Some(end) = memmem::find(&self.input, b"\r\n") else {
            if self.skipping || self.input.len() >= self.line_limit() {
                self.skipping = true;
                // The CR may be the first half of the end.
                let thrown = self.input.len() - usize::from(self.input.last() == Some(&b'\r'));
                self.input[..thrown].zeroize();
                self.input.advance(thrown);
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
            _ if begins_with(b"RCPT") => bounds::RECIPIENT_LINE,
            _ => bounds::COMMAND_LINE,
        }
    }

    fn command_line(&mut self, line: &[u8]) {
        let offers = Offers {
            smtputf8: self.settings.smtputf8,
            auth: self.settings.submission && self.tls,
            require_tls: self.tls,
            future_release: self.settings.future_release.is_some(),
        };
        match command::parse(line, offers) {
            Ok(command) => self.command(command),
            Err(error @ (CommandError::ForwardPath | CommandError::NotAscii)) => self.refuse_recipient(error.reply()),
            // The octets of that chunk cannot be told from commands, so nothing more is read.
            Err(error @ CommandError::ChunkSize) => {
                self.end_transaction();
                self.reply(error.reply());
                self.close(Reply::new(421, 5, 4, "where that chunk ends is not known; closing the connection"));
            }
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
            Command::Bdat { octets, last } => self.bdat(octets, last),
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
                let verbs = "HELO EHLO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY EXPN HELP STARTTLS AUTH";
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
        let settings = &self.settings;
        let always = ["PIPELINING", "8BITMIME", "BINARYMIME", "CHUNKING", "DSN", "ENHANCEDSTATUSCODES", "MT-PRIORITY"];
        let mut extensions: Vec<String> = always.map(str::to_owned).into();
        extensions.push(format!("SIZE {}", settings.max_message_size));
        extensions.push(format!("DELIVERBY {}", bounds::SHORTEST_BY));
        extensions.push(format!(
            "LIMITS MAILMAX={} RCPTMAX={} RCPTDOMAINMAX={}",
            bounds::MAILS,
            settings.max_recipients,
            bounds::RECIPIENT_DOMAINS
        ));
        if let Some(bound) = settings.future_release {
            extensions.push(format!("FUTURERELEASE {} {}", bound.longest, bound.latest.strftime("%Y-%m-%dT%H:%M:%SZ")));
        }
        if settings.smtputf8 {
            extensions.push("SMTPUTF8".to_owned());
        }
        if self.tls {
            extensions.push("REQUIRETLS".to_owned());
        }
        if settings.starttls && !self.tls {
            extensions.push("STARTTLS".to_owned());
        }
        if settings.submission && self.tls && self.user.is_none() {
            extensions.push(sasl::offer());
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
        match Mechanism::find(&Mechanism::OF_SUBMISSION, mechanism) {
            Some(mechanism) => self.authenticate(Exchange::begin(mechanism, initial.map(str::as_bytes))),
            None => self.refuse(sasl::unknown_mechanism()),
        }
    }

    fn authenticate(&mut self, step: Step) {
        match step {
            Step::Challenge(exchange, challenge) => {
                self.state = State::Sasl(exchange);
                self.reply(Reply::plain(334, challenge));
            }
            Step::Verify(credentials) => {
                self.state = State::Answer(Question::Authentication);
                self.actions.push_back(Action::Authenticate(credentials));
            }
            Step::Failed(why) => self.login_failed(sasl::failed(why)),
        }
    }

    fn mail(&mut self, mail: Mail) {
        self.tally.mails = self.tally.mails.saturating_add(1);
        if self.tally.mails > bounds::MAILS {
            return self.close(Reply::new(421, 5, 3, "too many messages in one connection; connect again"));
        }
        if self.hello.is_none() {
            return self.refuse(Reply::new(503, 5, 1, "send EHLO first"));
        }
        if self.transaction.is_some() {
            return self.refuse(Reply::new(503, 5, 1, "a transaction is open already; RSET ends it"));
        }
        if self.settings.submission && self.user.is_none() && !self.identified {
            let how = if self.tls { "authenticate first" } else { "send STARTTLS, then authenticate" };
            return self.refuse(Reply::new(530, 7, 0, how));
        }
        if let Err(reply) = self.check_times(&mail) {
            return self.refuse(reply);
        }
        self.state = State::Answer(Question::Sender(mail.clone()));
        self.actions.push_back(Action::CheckSender(mail));
    }

    /// Whether what MAIL says of times is within what EHLO offers (RFC 2852 §3, RFC 4865 §3), and can be.
    fn check_times(&self, mail: &Mail) -> Result<(), Reply> {
        let too_short = mail.by.is_some_and(|by| by.mode == ByMode::Return && by.seconds < bounds::SHORTEST_BY);
        if too_short {
            let text = format!("a message cannot be returned after less than {} seconds", bounds::SHORTEST_BY);
            return Err(Reply::new(555, 5, 4, text));
        }
        let too_long = match (mail.hold, self.settings.future_release) {
            (Some(Hold::For(seconds)), Some(bound)) => seconds > bound.longest,
            (Some(Hold::Until(at)), Some(bound)) => at > bound.latest,
            (hold, _) => hold.is_some(),
        };
        if too_long {
            return Err(Reply::new(501, 5, 4, "a message cannot be held for so long"));
        }
        let held = match (mail.hold, self.settings.future_release) {
            (Some(Hold::For(seconds)), _) => i64::from(seconds),
            (Some(Hold::Until(at)), Some(bound)) => {
                // `latest` is so many seconds from now.
                i64::from(bound.longest) - (bound.latest.as_second() - at.as_second())
            }
            _ => return Ok(()),
        };
        // It could only come back.
        if mail.by.is_some_and(|by| by.mode == ByMode::Return && by.seconds <= held) {
            return Err(Reply::new(
                501,
                5,
                4,
                "the message would be held until after the time by which it has to arrive",
            ));
        }
        Ok(())
    }

    fn recipient(&mut self, recipient: Recipient) {
        let between_chunks = self.is_between_chunks();
        let Some(transaction) = self.transaction.as_ref().filter(|_| !between_chunks) else {
            let what = if between_chunks { "the message has begun already" } else { "send MAIL first" };
            return self.refuse(Reply::new(503, 5, 1, what));
        };
        if transaction.recipients.len() >= transaction.max_recipients as usize {
            // RFC 5321 §4.5.3.1.10: the client sends the others in another transaction.
            return self.reply(Reply::new(452, 5, 3, "too many recipients in one transaction"));
        }
        self.state = State::Answer(Question::Recipient(recipient.notify, recipient.original.clone()));
        self.actions.push_back(Action::CheckRecipient(recipient));
    }

    fn data(&mut self) {
        match &self.transaction {
            None => self.refuse(Reply::new(503, 5, 1, "send MAIL and RCPT first")),
            // RFC 3030 §3: what has no lines has no line with a dot.
            Some(transaction) if transaction.mail.body == BodyType::BinaryMime || transaction.chunks.is_some() => {
                self.refuse(Reply::new(503, 5, 1, "this message comes by BDAT"));
            }
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

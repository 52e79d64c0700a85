//! What the session answers to the machine's questions ([`Action`]).

use super::receiving::{Chunk, Receiver};
use super::{AcceptedRecipient, Action, EnvelopeRecipient, Login, Machine, Question, SinceMessage, State, Transaction};
use crate::smtp::bounds;
use crate::smtp::command::Mail;
use crate::smtp::reply::Reply;

impl Machine {
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

    /// The answer to [`Action::CheckSender`]: what MAIL said, with the priority that the client may have.
    pub fn sender_answered(&mut self, verdict: Result<Mail, Reply>) {
        match std::mem::replace(&mut self.state, State::Command) {
            State::Answer(Question::Sender(asked)) => match verdict {
                Ok(mail) => self.begin_transaction(&asked, mail),
                Err(reply) => {
                    self.actions.push_back(Action::Reset);
                    self.refuse(reply);
                }
            },
            other => self.state = other,
        }
        self.end_if_shutting_down();
    }

    fn begin_transaction(&mut self, asked: &Mail, mail: Mail) {
        // RFC 6710 §4.1: a client is told when its message gets another priority than it asked for.
        self.reply(match mail.priority == asked.priority {
            true => Reply::new(250, 1, 0, "sender ok"),
            false => Reply::new(250, 3, 6, format!("sender ok; the priority is {}", mail.priority.unwrap_or(0))),
        });
        self.transaction = Some(Transaction {
            mail,
            recipients: Vec::new(),
            domains: Vec::new(),
            max_message_size: self.settings.max_message_size,
            max_recipients: self.settings.max_recipients,
            chunks: None,
        });
    }

    /// The answer to [`Action::CheckRecipient`].
    pub fn recipient_answered(&mut self, verdict: Result<AcceptedRecipient, Reply>) {
        match std::mem::replace(&mut self.state, State::Command) {
            State::Answer(Question::Recipient(notify, original)) => match verdict {
                Ok(AcceptedRecipient { address, max_message_size, route }) => {
                    self.add_recipient(EnvelopeRecipient { address, notify, original, route }, max_message_size);
                }
                Err(reply) => self.refuse_recipient(reply),
            },
            other => self.state = other,
        }
        self.end_if_shutting_down();
    }

    fn add_recipient(&mut self, recipient: EnvelopeRecipient, max_message_size: Option<u64>) {
        let Some(transaction) = &mut self.transaction else { return };
        let domain = recipient.address.domain();
        if !transaction.domains.contains(domain) {
            if transaction.domains.len() >= bounds::RECIPIENT_DOMAINS as usize {
                return self.reply(Reply::new(452, 5, 3, "too many recipient domains in one transaction"));
            }
            transaction.domains.push(domain.clone());
        }
        transaction.max_message_size = transaction.max_message_size.min(max_message_size.unwrap_or(u64::MAX));
        if !transaction.recipients.iter().any(|known| known.address == recipient.address) {
            transaction.recipients.push(recipient);
        }
        self.reply(Reply::new(250, 1, 5, "recipient ok"));
    }

    /// The answer to [`Action::OpenSpool`].
    pub fn spool_answered(&mut self, verdict: Result<(), Reply>) {
        let chunk = match self.state {
            State::Answer(Question::Spool) => None,
            State::Answer(Question::ChunkSpool(octets, last)) => Some((octets, last)),
            _ => return,
        };
        let receiver = self.transaction.as_ref().map(|transaction| {
            Box::new(Receiver::new(
                transaction.max_message_size,
                transaction.mail.body,
                self.settings.bare_line_endings,
            ))
        });
        self.state = State::Command;
        match (verdict, receiver, chunk) {
            (Ok(()), Some(receiver), None) => {
                self.state = State::Content(receiver);
                self.reply(Reply::plain(354, "send the message; end it with a line that has only a dot"));
            }
            (Ok(()), Some(receiver), Some((octets, last))) => {
                self.state = State::Chunk(Box::new(Chunk::new(octets, last, receiver)));
            }
            (Err(reply), _, chunk) => {
                self.end_transaction();
                match chunk {
                    Some((octets, _)) => self.state = State::Chunk(Box::new(Chunk::refused(octets, reply))),
                    None => self.reply(reply),
                }
                self.end_if_shutting_down();
            }
            (Ok(()), None, _) => {}
        }
    }

    /// The content that was given last could not be kept. The rest is read and thrown away, then this is the reply.
    pub fn content_failed(&mut self, reply: Reply) {
        let between_chunks = self.is_between_chunks();
        match &mut self.state {
            State::Content(receiver) => receiver.fail(reply),
            State::Chunk(chunk) => chunk.fail(reply),
            // The last octets came with the end of the message.
            State::Answer(Question::Commit) => {
                self.actions.retain(|action| !matches!(action, Action::Commit(_)));
                self.commit_answered(reply);
            }
            // They came with the end of a chunk, whose reply waits to be sent.
            State::Command if between_chunks => {
                self.actions.retain(|action| !matches!(action, Action::Reply(_)));
                self.end_transaction();
                self.reply(reply);
                self.end_if_shutting_down();
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
            self.tally.since_message = SinceMessage::default();
        }
        self.end_transaction();
        self.reply(reply);
        self.end_if_shutting_down();
    }
}

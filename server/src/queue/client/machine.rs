//! The client's side of SMTP without I/O (RFC 5321 §3, §4.1): replies in, actions out. [`super::session`] drives it over
//! TCP, tests and fuzzers drive it with a script. One machine serves one connection, and many messages over it.

mod hello;
mod suitability;

use std::collections::VecDeque;

use paquebot_config::Address;

use super::super::status::Refusal;
use super::authentication::{Authentication, Credentials, SecretLine};
use super::capabilities::Capabilities;
use super::command;
use super::reply::Reply;
use crate::store::{BodyType, Declared, RemoteRecipient};

/// How long a reply may take (RFC 5321 §4.5.3.2 says how long we have to be patient).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// For the greeting.
    Greeting,
    /// For the reply to a command.
    Command,
    /// For the reply to DATA.
    DataBegin,
    /// For the reply to the end of the message: the server may be delivering it.
    DataEnd,
}

/// How the message itself goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Dot-stuffed, ended by a line with one dot (RFC 5321 §4.5.2).
    Dots,
    /// As it is, as one last chunk (RFC 3030 §2).
    Chunk,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Send these bytes, then wait for a reply.
    Send(Vec<u8>, Wait),
    /// Send a line that nobody else may see, then wait for a reply.
    Authenticate(SecretLine),
    /// Wait for a reply.
    Read(Wait),
    /// Negotiate TLS, then say [`Client::tls_established`].
    StartTls,
    /// Send the message and its end, then wait for a reply.
    SendMessage(Framing),
    /// Nothing: the connection is open for the next transaction.
    Ready,
    /// Nothing: the transaction is over, [`Client::finish`] tells how.
    Finished,
}

/// What TLS a connection has, or is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// STARTTLS where it is offered, with whatever certificate.
    WhereOffered,
    /// None: it was tried and did not work.
    None,
    /// STARTTLS with a certificate that proves the host's name, or nothing is sent.
    Required,
    /// It was there before the first word, with such a certificate.
    FromTheBeginning,
}

/// One message for some recipients.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// The reverse-path; `None` is `<>`.
    pub reverse_path: Option<Address>,
    /// Who receives it here.
    pub recipients: Vec<RemoteRecipient>,
    /// What the sender declared; `body` says what is sent, which [`Client::carries`] bounds.
    pub declared: Declared,
    /// Whether its header is ASCII; needed only where SMTPUTF8 was declared and [`Client::carries_utf8`] denies it.
    pub header_is_ascii: bool,
    /// Its size in octets.
    pub octets: u64,
    /// Seconds until it has to be delivered, where the sender said so (RFC 2852).
    pub seconds_left: Option<i64>,
}

/// Who took a message for a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taker {
    /// A maildrop here.
    Maildrop,
    /// Several for whom the recipient stands here (RFC 3461 §5.2.7.3).
    Members,
    /// The one for whom the recipient stands here; the sender hears from the next server (RFC 3461 §5.2.7.2).
    Onward,
    /// This host, which reports to the sender what he wants to know (RFC 3461 §5.2.1).
    Reporting(String),
    /// This host, which does not (RFC 3461 §5.2.2).
    Silent(String),
}

/// The recipient is done with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Who has it now.
    pub taker: Taker,
    /// What was answered, with its code.
    pub reply: String,
}

/// What became of one recipient.
pub type Outcome = Result<Accepted, Refusal>;

/// What a reply belongs to, while a connection is set up.
#[derive(Debug)]
enum State {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Authentication(Authentication),
    /// Transactions; what replies belong to is in `awaited`.
    Open,
}

/// A step of a transaction that gets a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Reset,
    Mail,
    Recipient(usize),
    Data,
    /// A dot after DATA that should have been refused, for nobody was accepted (RFC 2920 §3.1).
    Nothing,
    Message,
}

/// See the module.
#[derive(Debug)]
pub struct Client {
    host: String,
    ehlo_name: String,
    state: State,
    protection: Protection,
    credentials: Option<Credentials>,
    capabilities: Capabilities,
    transaction: Option<Transaction>,
    /// Steps that are not sent yet.
    planned: VecDeque<Step>,
    /// Steps that were sent, and have no reply yet.
    awaited: VecDeque<Step>,
    outcomes: Vec<Option<Outcome>>,
    /// What MAIL was refused with.
    refused: Option<Refusal>,
    /// A transaction is open at the server that has to be taken back before the next.
    needs_reset: bool,
    /// The server said that it takes the message of this transaction.
    has_begun_content: bool,
    encrypted: bool,
    transactions: usize,
    closing: bool,
}

impl Client {
    /// For a connection that was just made to `host`. It introduces itself as `ehlo_name`.
    #[must_use]
    pub fn new(host: &str, ehlo_name: &str, protection: Protection, credentials: Option<Credentials>) -> Self {
        Self {
            host: host.to_owned(),
            ehlo_name: ehlo_name.to_owned(),
            state: State::Greeting,
            protection,
            credentials,
            capabilities: Capabilities::default(),
            transaction: None,
            planned: VecDeque::new(),
            awaited: VecDeque::new(),
            outcomes: Vec::new(),
            refused: None,
            needs_reset: false,
            has_begun_content: false,
            encrypted: protection == Protection::FromTheBeginning,
            transactions: 0,
            closing: false,
        }
    }

    /// The first action.
    #[must_use]
    pub fn start(&self) -> Action {
        Action::Read(Wait::Greeting)
    }

    /// TLS was negotiated: the server is asked again what it offers (RFC 3207 §4.2).
    pub fn tls_established(&mut self) -> Action {
        self.encrypted = true;
        self.ehlo()
    }

    /// Whether another transaction can begin on this connection.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.closing
    }

    /// Whether the server has said that it takes no more (RFC 9422): the connection is ended in good order.
    #[must_use]
    pub fn is_used_up(&self) -> bool {
        self.capabilities.max_messages.is_some_and(|most| self.transactions >= most)
    }

    /// Recipients that one transaction may have here.
    #[must_use]
    pub fn max_recipients(&self) -> usize {
        self.capabilities.max_recipients.unwrap_or(usize::MAX)
    }

    /// Whether the server may have got the message of the last transaction, or some of it.
    #[must_use]
    pub fn has_begun_content(&self) -> bool {
        self.has_begun_content
    }

    /// What content the server takes; any other has to be converted.
    #[must_use]
    pub fn carries(&self) -> BodyType {
        self.capabilities.carries()
    }

    /// Whether the server takes headers and addresses beyond ASCII.
    #[must_use]
    pub fn carries_utf8(&self) -> bool {
        self.capabilities.smtputf8
    }

    /// Begins a transaction. Call it only after [`Action::Ready`] or [`Client::finish`].
    pub fn begin(&mut self, mut transaction: Transaction) -> Action {
        // An alias may lead to an address beyond ASCII of which the sender knew nothing.
        let addresses = transaction.recipients.iter().map(|recipient| &recipient.address);
        transaction.declared.smtputf8 |= !addresses.chain(&transaction.reverse_path).all(Address::is_ascii);
        self.outcomes = transaction.recipients.iter().map(|recipient| self.unsuited_recipient(recipient)).collect();
        self.refused = None;
        self.has_begun_content = false;
        self.awaited.clear();
        self.planned.clear();
        let unsuited = self.unsuited(&transaction);
        let framing = framing(&transaction);
        self.transaction = Some(transaction);
        if let Some(refusal) = unsuited {
            return self.fail_rest(&refusal);
        }
        let open: Vec<Step> =
            (0..self.outcomes.len()).filter(|index| self.outcomes[*index].is_none()).map(Step::Recipient).collect();
        if open.is_empty() {
            return Action::Finished;
        }
        if std::mem::take(&mut self.needs_reset) {
            self.planned.push_back(Step::Reset);
        }
        self.transactions += 1;
        self.planned.push_back(Step::Mail);
        self.planned.extend(open);
        if framing == Framing::Dots {
            self.planned.push_back(Step::Data);
        }
        self.proceed()
    }

    /// The end of the transaction: what became of each recipient, in their order.
    pub fn finish(&mut self) -> Vec<Outcome> {
        let unknown = Refusal::transient(4, 2, "the connection was lost").at(&self.host);
        self.transaction = None;
        let outcomes = std::mem::take(&mut self.outcomes);
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(unknown.clone()))).collect()
    }

    /// The connection failed: recipients without an outcome get this one.
    pub fn connection_lost(&mut self, refusal: &Refusal) {
        self.closing = true;
        self.fail_rest(refusal);
    }

    /// The connection was left idle: what the server thinks of it is asked along with the next transaction.
    pub fn reuse(&mut self) {
        self.needs_reset = true;
    }

    /// What to send before closing an open connection.
    #[must_use]
    pub fn quit() -> &'static [u8] {
        b"QUIT\r\n"
    }

    /// Takes a reply.
    ///
    /// # Errors
    /// Before [`Action::Ready`]: this server takes no mail from us now.
    pub fn on_reply(&mut self, reply: &Reply) -> Result<Action, Refusal> {
        let outcome = match &mut self.state {
            State::Open => return Ok(self.on_transaction_reply(reply)),
            State::Greeting if reply.code == 220 => Ok(self.ehlo()),
            State::Ehlo if reply.is_positive() => self.on_ehlo(reply),
            // RFC 5321 §3.2: a server that does not know EHLO is asked in the old way.
            State::Ehlo if reply.code >= 500 => {
                self.state = State::Helo;
                self.capabilities = Capabilities::default();
                Ok(Action::Send(format!("HELO {}\r\n", self.ehlo_name).into_bytes(), Wait::Command))
            }
            State::Helo if reply.is_positive() => self.after_hello(),
            State::StartTls if reply.code == 220 => Ok(Action::StartTls),
            // Offered and refused: opportunistic means going on without (RFC 7435 §3).
            State::StartTls if reply.code != 421 && self.protection == Protection::WhereOffered => self.authenticate(),
            State::StartTls => Err(unprotected(&reply.refusal(&self.host))),
            State::Authentication(authentication) => match authentication.on_reply(reply, &self.host) {
                Ok(Some(line)) => Ok(Action::Authenticate(line)),
                Ok(None) => Ok(self.ready()),
                Err(refusal) => Err(refusal),
            },
            State::Greeting | State::Ehlo | State::Helo => Err(reply.refusal(&self.host)),
        };
        self.closing |= outcome.is_err();
        outcome
    }

    fn on_transaction_reply(&mut self, reply: &Reply) -> Action {
        let Some(step) = self.awaited.pop_front().filter(|_| reply.code != 421) else {
            // RFC 5321 §3.8: with 421 the server closes the connection, whatever it was asked. And a server that speaks
            // without being asked cannot be relied on.
            self.closing = true;
            return self.fail_rest(&reply.refusal(&self.host));
        };
        match step {
            Step::Reset if !reply.is_positive() => {
                // It speaks of the transactions before: about this message, which was not offered yet, it says nothing.
                self.closing = true;
                let text = format!("the server refused RSET: {} {}", reply.code, reply.lines.join(" "));
                return self.fail_rest(&Refusal::transient(4, 2, text).at(&self.host));
            }
            Step::Mail if !reply.is_positive() => self.refused = Some(reply.refusal(&self.host)),
            Step::Recipient(index) if !reply.is_positive() && self.refused.is_none() => {
                self.outcomes[index] = Some(Err(reply.refusal(&self.host)));
            }
            Step::Data if reply.code == 354 => {
                if let Some(refusal) = self.refused.take() {
                    // It refused the sender and takes a message all the same: a dot might make it deliver an empty one to
                    // the recipients that it accepted. Closing the connection takes everything back.
                    self.closing = true;
                    return self.fail_rest(&refusal);
                }
                if !self.is_anybody_accepted() {
                    self.awaited.push_back(Step::Nothing);
                    return Action::Send(b".\r\n".to_vec(), Wait::DataEnd);
                }
                return self.send_message(Framing::Dots);
            }
            Step::Data if self.is_anybody_accepted() => {
                self.needs_reset = true;
                return self.fail_rest(&reply.refusal(&self.host));
            }
            Step::Message => return self.on_message_reply(reply),
            Step::Reset | Step::Mail | Step::Recipient(_) | Step::Data | Step::Nothing => {}
        }
        self.proceed()
    }

    fn on_message_reply(&mut self, reply: &Reply) -> Action {
        if !reply.is_positive() {
            // RFC 3030 §2: after a chunk was refused the transaction is still there.
            self.needs_reset = true;
            return self.fail_rest(&reply.refusal(&self.host));
        }
        let host = self.host.clone();
        let taker = if self.capabilities.dsn { Taker::Reporting(host) } else { Taker::Silent(host) };
        let reply = format!("{} {}", reply.code, reply.lines.join(" "));
        self.settle_rest(&Ok(Accepted { taker, reply }))
    }

    fn is_anybody_accepted(&self) -> bool {
        self.refused.is_none() && self.outcomes.iter().any(Option::is_none)
    }

    /// Waits for the replies that are still to come, sends what is next, or ends.
    fn proceed(&mut self) -> Action {
        if let Some(step) = self.awaited.front() {
            return Action::Read(wait_for(*step));
        }
        if self.refused.is_some() || self.planned.front() == Some(&Step::Data) && !self.is_anybody_accepted() {
            self.planned.clear();
        }
        if !self.planned.is_empty() {
            return self.send_planned();
        }
        if let Some(refusal) = self.refused.take() {
            // What the server said about recipients of a transaction that never was counts for nothing.
            self.outcomes.iter_mut().filter(|outcome| !is_unsuited(outcome)).for_each(|outcome| *outcome = None);
            self.needs_reset = true;
            return self.fail_rest(&refusal);
        }
        if self.outcomes.iter().all(Option::is_some) {
            self.needs_reset = true;
            return Action::Finished;
        }
        self.send_message(Framing::Chunk)
    }

    /// With PIPELINING everything up to DATA goes at once (RFC 2920 §3.1), else one command.
    fn send_planned(&mut self) -> Action {
        let count = if self.capabilities.pipelining { self.planned.len() } else { 1 };
        let steps: Vec<Step> = self.planned.drain(..count).collect();
        let mut bytes = Vec::new();
        for step in &steps {
            self.write(*step, &mut bytes);
        }
        let wait = steps.first().map_or(Wait::Command, |step| wait_for(*step));
        self.awaited.extend(steps);
        Action::Send(bytes, wait)
    }

    fn write(&self, step: Step, bytes: &mut Vec<u8>) {
        let Some(transaction) = &self.transaction else { return };
        match step {
            Step::Reset => bytes.extend_from_slice(b"RSET\r\n"),
            Step::Mail => bytes.extend_from_slice(command::mail(transaction, &self.capabilities).as_bytes()),
            Step::Recipient(index) => {
                if let Some(recipient) = transaction.recipients.get(index) {
                    let smtputf8 = transaction.declared.smtputf8;
                    bytes.extend_from_slice(command::rcpt(recipient, &self.capabilities, smtputf8).as_bytes());
                }
            }
            Step::Data => bytes.extend_from_slice(b"DATA\r\n"),
            Step::Nothing | Step::Message => {}
        }
    }

    fn send_message(&mut self, framing: Framing) -> Action {
        self.awaited.push_back(Step::Message);
        self.has_begun_content = true;
        Action::SendMessage(framing)
    }

    fn fail_rest(&mut self, refusal: &Refusal) -> Action {
        self.settle_rest(&Err(refusal.clone()))
    }

    fn settle_rest(&mut self, outcome: &Outcome) -> Action {
        for open in self.outcomes.iter_mut().filter(|open| open.is_none()) {
            *open = Some(outcome.clone());
        }
        Action::Finished
    }
}

/// Content without lines goes by BDAT alone. Everything else goes by DATA, which every server has.
fn framing(transaction: &Transaction) -> Framing {
    if transaction.declared.body == BodyType::BinaryMime { Framing::Chunk } else { Framing::Dots }
}

/// Found out by ourselves, before the server was asked.
fn is_unsuited(outcome: &Option<Outcome>) -> bool {
    matches!(outcome, Some(Err(refusal)) if !refusal.said_by_host)
}

fn wait_for(step: Step) -> Wait {
    match step {
        Step::Reset | Step::Mail | Step::Recipient(_) => Wait::Command,
        Step::Data => Wait::DataBegin,
        Step::Nothing | Step::Message => Wait::DataEnd,
    }
}

/// Mail that must be protected waits until it can be.
fn unprotected(refusal: &Refusal) -> Refusal {
    let text = format!("TLS is required and was refused: {} {}", refusal.status(), refusal.text);
    Refusal { host: refusal.host.clone(), said_by_host: refusal.said_by_host, ..Refusal::transient(7, 10, text) }
}

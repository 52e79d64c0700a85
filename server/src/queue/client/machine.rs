//! The client's side of SMTP without I/O (RFC 5321 §3, §4.1): replies in, actions out. [`super::session`] drives it over
//! TCP, tests drive it with a script. One machine serves one connection, and many messages over it.

use paquebot_config::Address;

use super::super::status::Refusal;
use super::reply::Reply;
use crate::store::{BodyType, Declared};

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

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Send these bytes, then wait for a reply.
    Send(Vec<u8>, Wait),
    /// Wait for a reply.
    Read(Wait),
    /// Negotiate TLS, then say [`Client::tls_established`].
    StartTls,
    /// Send the message and its end, then wait for a reply.
    SendMessage,
    /// Nothing: the connection is open for the next transaction.
    Ready,
    /// Nothing: the transaction is over, [`Client::finish`] tells how.
    Finished,
}

/// What EHLO offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The largest message (RFC 1870); `None` where nothing was said or there is no limit.
    pub size: Option<u64>,
    /// `SIZE` is understood at MAIL.
    pub size_offered: bool,
    /// RFC 6152.
    pub eight_bit: bool,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 3207.
    pub starttls: bool,
}

/// What octets above 127 a message has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EightBit {
    /// In its header.
    pub header: bool,
    /// In its body.
    pub body: bool,
}

/// One message for some recipients.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// The reverse-path; `None` is `<>`.
    pub reverse_path: Option<Address>,
    /// Who receives it here.
    pub recipients: Vec<Address>,
    /// What the sender declared.
    pub declared: Declared,
    /// What was found in it; needed only where [`Client::needs_inspection`] says so.
    pub found: Option<EightBit>,
    /// Its size in octets.
    pub octets: u64,
}

/// What became of one recipient: the server's positive reply, or why not.
pub type Outcome = Result<String, Refusal>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Ready,
    Reset,
    Mail,
    /// The recipient whose reply comes next.
    Recipient(usize),
    Data,
    Message,
    Over,
}

/// See the module.
#[derive(Debug)]
pub struct Client {
    host: String,
    ehlo_name: String,
    state: State,
    may_start_tls: bool,
    capabilities: Capabilities,
    transaction: Option<Transaction>,
    outcomes: Vec<Option<Outcome>>,
    /// What MAIL was refused with.
    refused: Option<Refusal>,
    /// A transaction is open at the server that has to be taken back before the next.
    needs_reset: bool,
    /// The server said that it takes the message of this transaction.
    has_begun_content: bool,
    closing: bool,
}

impl Client {
    /// For a connection that was just made to `host`. It introduces itself as `ehlo_name`; `may_start_tls` is false after a
    /// negotiation with this server failed.
    #[must_use]
    pub fn new(host: &str, ehlo_name: &str, may_start_tls: bool) -> Self {
        Self {
            host: host.to_owned(),
            ehlo_name: ehlo_name.to_owned(),
            state: State::Greeting,
            may_start_tls,
            capabilities: Capabilities::default(),
            transaction: None,
            outcomes: Vec::new(),
            refused: None,
            needs_reset: false,
            has_begun_content: false,
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
        self.may_start_tls = false;
        self.ehlo()
    }

    /// Whether another transaction can begin on this connection.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.closing
    }

    /// Whether the server may have got the message of the last transaction, or some of it.
    #[must_use]
    pub fn has_begun_content(&self) -> bool {
        self.has_begun_content
    }

    /// Whether the message has to be looked at before it is offered: its sender declared what this server does not take,
    /// but may have declared more than there is.
    #[must_use]
    pub fn needs_inspection(&self, declared: &Declared) -> bool {
        declared.body != BodyType::SevenBit && !self.capabilities.eight_bit
            || declared.smtputf8 && !self.capabilities.smtputf8
    }

    /// Begins a transaction. Call it only after [`Action::Ready`] or [`Client::finish`].
    pub fn begin(&mut self, mut transaction: Transaction) -> Action {
        // An alias may lead to an address beyond ASCII of which the sender knew nothing.
        let mut addresses = transaction.recipients.iter().chain(&transaction.reverse_path);
        transaction.declared.smtputf8 |= !addresses.all(Address::is_ascii);
        self.outcomes = transaction.recipients.iter().map(|recipient| self.unsuited_recipient(recipient)).collect();
        self.refused = None;
        self.has_begun_content = false;
        let unsuited = self.unsuited(&transaction);
        self.transaction = Some(transaction);
        if let Some(refusal) = unsuited {
            return self.fail_rest(&refusal);
        }
        if self.next_recipient(0).is_none() {
            self.state = State::Over;
            return Action::Finished;
        }
        if std::mem::take(&mut self.needs_reset) {
            self.state = State::Reset;
            return Action::Send(b"RSET\r\n".to_vec(), Wait::Command);
        }
        self.send_envelope()
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
        match self.state {
            State::Greeting if reply.code == 220 => Ok(self.ehlo()),
            State::Ehlo if reply.is_positive() => Ok(self.on_ehlo(reply)),
            // RFC 5321 §3.2: a server that does not know EHLO is asked in the old way.
            State::Ehlo if reply.code >= 500 => {
                self.state = State::Helo;
                self.capabilities = Capabilities::default();
                Ok(Action::Send(format!("HELO {}\r\n", self.ehlo_name).into_bytes(), Wait::Command))
            }
            State::Helo if reply.is_positive() => Ok(self.ready()),
            State::StartTls if reply.code == 220 => Ok(Action::StartTls),
            // Offered and refused: opportunistic means going on without (RFC 7435 §3).
            State::StartTls if reply.code != 421 => Ok(self.ready()),
            State::Greeting | State::Ehlo | State::Helo | State::StartTls => {
                self.closing = true;
                Err(reply.refusal(&self.host))
            }
            _ => Ok(self.on_transaction_reply(reply)),
        }
    }

    fn ehlo(&mut self) -> Action {
        self.state = State::Ehlo;
        Action::Send(format!("EHLO {}\r\n", self.ehlo_name).into_bytes(), Wait::Command)
    }

    fn on_ehlo(&mut self, reply: &Reply) -> Action {
        self.capabilities = read_capabilities(reply.lines.get(1..).unwrap_or_default());
        if self.capabilities.starttls && self.may_start_tls {
            self.state = State::StartTls;
            return Action::Send(b"STARTTLS\r\n".to_vec(), Wait::Command);
        }
        self.ready()
    }

    fn ready(&mut self) -> Action {
        self.state = State::Ready;
        Action::Ready
    }

    fn on_transaction_reply(&mut self, reply: &Reply) -> Action {
        if reply.code == 421 {
            // RFC 5321 §3.8: the server closes the connection, whatever it was asked.
            self.closing = true;
            return self.fail_rest(&reply.refusal(&self.host));
        }
        match self.state {
            State::Reset if reply.is_positive() => self.send_envelope(),
            State::Mail => self.on_mail_reply(reply),
            State::Recipient(index) => self.on_recipient_reply(index, reply),
            State::Data if reply.code == 354 => {
                self.state = State::Message;
                self.has_begun_content = true;
                Action::SendMessage
            }
            State::Data => {
                self.needs_reset = true;
                self.fail_rest(&reply.refusal(&self.host))
            }
            State::Message if reply.is_positive() => {
                let text = format!("{} {}", reply.code, reply.lines.join(" "));
                self.settle_rest(&Ok(text))
            }
            State::Message => self.fail_rest(&reply.refusal(&self.host)),
            _ => {
                // Nothing was asked, or RSET was refused: this connection cannot be relied on.
                self.closing = true;
                self.fail_rest(&reply.refusal(&self.host))
            }
        }
    }

    fn on_mail_reply(&mut self, reply: &Reply) -> Action {
        let first = self.next_recipient(0).unwrap_or_default();
        self.state = State::Recipient(first);
        if !reply.is_positive() {
            let refusal = reply.refusal(&self.host);
            if !self.capabilities.pipelining {
                return self.fail_rest(&refusal);
            }
            // The replies to the recipients, which were sent along, are still to come.
            self.refused = Some(refusal);
        }
        if self.capabilities.pipelining { Action::Read(Wait::Command) } else { self.send_recipient(first) }
    }

    fn on_recipient_reply(&mut self, index: usize, reply: &Reply) -> Action {
        if !reply.is_positive()
            && let Some(outcome) = self.outcomes.get_mut(index)
        {
            *outcome = Some(Err(reply.refusal(&self.host)));
        }
        if let Some(next) = self.next_recipient(index + 1) {
            self.state = State::Recipient(next);
            return if self.capabilities.pipelining { Action::Read(Wait::Command) } else { self.send_recipient(next) };
        }
        if let Some(refusal) = self.refused.take() {
            self.outcomes.fill(None);
            return self.fail_rest(&refusal);
        }
        if self.outcomes.iter().all(Option::is_some) {
            self.needs_reset = true;
            self.state = State::Over;
            return Action::Finished;
        }
        self.state = State::Data;
        Action::Send(b"DATA\r\n".to_vec(), Wait::DataBegin)
    }

    /// MAIL, and with PIPELINING all RCPTs along with it. DATA always waits for them: without a recipient there must be
    /// none.
    fn send_envelope(&mut self) -> Action {
        self.state = State::Mail;
        let Some(transaction) = &self.transaction else { return Action::Finished };
        let mut bytes = self.mail_command(transaction).into_bytes();
        if self.capabilities.pipelining {
            let open = transaction.recipients.iter().zip(&self.outcomes).filter(|(_, outcome)| outcome.is_none());
            for (recipient, _) in open {
                bytes.extend_from_slice(format!("RCPT TO:<{recipient}>\r\n").as_bytes());
            }
        }
        Action::Send(bytes, Wait::Command)
    }

    /// The first recipient from this one on that the server is to be asked about.
    fn next_recipient(&self, from: usize) -> Option<usize> {
        (from..self.outcomes.len()).find(|index| self.outcomes[*index].is_none())
    }

    fn send_recipient(&self, index: usize) -> Action {
        let recipient = self.transaction.as_ref().and_then(|transaction| transaction.recipients.get(index));
        match recipient {
            Some(recipient) => Action::Send(format!("RCPT TO:<{recipient}>\r\n").into_bytes(), Wait::Command),
            None => Action::Finished,
        }
    }

    fn mail_command(&self, transaction: &Transaction) -> String {
        let path = transaction.reverse_path.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut command = format!("MAIL FROM:<{path}>");
        if self.capabilities.size_offered {
            command.push_str(&format!(" SIZE={}", transaction.octets));
        }
        if self.capabilities.eight_bit && transaction.declared.body != BodyType::SevenBit {
            command.push_str(" BODY=8BITMIME");
        }
        if self.capabilities.smtputf8 && transaction.declared.smtputf8 {
            command.push_str(" SMTPUTF8");
        }
        command.push_str("\r\n");
        command
    }

    /// Why this server cannot take the message, known without asking it.
    fn unsuited(&self, transaction: &Transaction) -> Option<Refusal> {
        let found = transaction.found.unwrap_or_default();
        let refusal = |subject, detail, text| Some(Refusal::permanent(subject, detail, text).at(&self.host));
        if let Some(limit) = self.capabilities.size
            && transaction.octets > limit
        {
            let text = format!("the message has {} octets, the server takes {limit} at most", transaction.octets);
            return Some(Refusal { code: 552, ..Refusal::permanent(3, 4, text).at(&self.host) });
        }
        let sender_is_ascii = transaction.reverse_path.as_ref().is_none_or(Address::is_ascii);
        if transaction.declared.smtputf8 && !self.capabilities.smtputf8 && (found.header || !sender_is_ascii) {
            return Some(self.no_smtputf8());
        }
        if (found.header || found.body) && !self.capabilities.eight_bit {
            return refusal(6, 3, "the server does not take 8-bit content, and it is not converted");
        }
        None
    }

    /// RFC 6531 §3.4: an address beyond ASCII goes only to a server that offers the extension.
    fn unsuited_recipient(&self, recipient: &Address) -> Option<Outcome> {
        (!self.capabilities.smtputf8 && !recipient.is_ascii()).then(|| Err(self.no_smtputf8()))
    }

    fn no_smtputf8(&self) -> Refusal {
        Refusal::permanent(6, 7, "the server does not take internationalised mail (SMTPUTF8)").at(&self.host)
    }

    fn fail_rest(&mut self, refusal: &Refusal) -> Action {
        self.settle_rest(&Err(refusal.clone()))
    }

    fn settle_rest(&mut self, outcome: &Outcome) -> Action {
        for open in self.outcomes.iter_mut().filter(|open| open.is_none()) {
            *open = Some(outcome.clone());
        }
        self.state = State::Over;
        Action::Finished
    }
}

fn read_capabilities(lines: &[String]) -> Capabilities {
    let mut capabilities = Capabilities::default();
    for line in lines {
        let mut words = line.split_ascii_whitespace();
        match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "SIZE" => {
                capabilities.size_offered = true;
                // RFC 1870 §3: zero says that there is no fixed limit.
                capabilities.size = words.next().and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0);
            }
            "8BITMIME" => capabilities.eight_bit = true,
            "SMTPUTF8" => capabilities.smtputf8 = true,
            "PIPELINING" => capabilities.pipelining = true,
            "STARTTLS" => capabilities.starttls = true,
            _ => {}
        }
    }
    capabilities
}

//! The content of a message: from 354 to the final dot.

use bytes::Buf;

use super::{Action, Envelope, Machine, Question, State};
use crate::smtp::bounds;
use crate::smtp::content::{Decoder, Fault, ReceivedCounter};
use crate::smtp::policy;
use crate::smtp::reply::Reply;

/// The state of receiving one message's content.
#[derive(Debug)]
pub(super) struct Receiver {
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

impl Machine {
    pub(super) fn read_content(&mut self) {
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
    pub(super) fn new(limit: u64) -> Self {
        Self {
            decoder: Decoder::default(),
            received_fields: ReceivedCounter::default(),
            limit,
            octets: 0,
            read: 0,
            failure: None,
            discarded: false,
        }
    }

    /// The session could not keep what it was given.
    pub(super) fn fail(&mut self, reply: Reply) {
        self.failure.get_or_insert(reply);
    }

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

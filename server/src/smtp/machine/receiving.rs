//! The content of a message: from 354 to the final dot, or chunk by chunk (RFC 3030).

use bytes::Buf;
use paquebot_config::BareLineEndings;

use super::{Action, Envelope, Machine, Question, State};
use crate::smtp::bounds;
use crate::smtp::content::{Decoder, Fault, HeaderReader};
use crate::smtp::policy;
use crate::smtp::reply::Reply;
use crate::store::envelope::BodyType;

/// The state of receiving one message's content.
#[derive(Debug)]
pub(super) struct Receiver {
    decoder: Decoder,
    header: HeaderReader,
    /// Octets without lines: nothing of them is looked at.
    binary: bool,
    /// Nothing has come, or the last octet ended a line.
    is_at_line_start: bool,
    limit: u64,
    /// Octets of the message so far.
    octets: u64,
    /// Octets on the wire so far.
    read: u64,
    /// The session could not keep the content.
    failure: Option<Reply>,
    discarded: bool,
}

/// A chunk that is being received (RFC 3030 §2). Its octets are read whatever is wrong with it: were they taken for
/// commands, whoever writes a message could write commands.
#[derive(Debug)]
pub(super) struct Chunk {
    octets: u64,
    remaining: u64,
    last: bool,
    /// Who takes it, or why nobody does.
    receiver: Result<Box<Receiver>, Reply>,
}

impl Chunk {
    pub(super) fn new(octets: u64, last: bool, receiver: Box<Receiver>) -> Self {
        Self { octets, remaining: octets, last, receiver: Ok(receiver) }
    }

    /// One that is thrown away, and answered with this.
    pub(super) fn refused(octets: u64, reply: Reply) -> Self {
        Self { octets, remaining: octets, last: false, receiver: Err(reply) }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.remaining == 0
    }

    /// The session could not keep what it was given.
    pub(super) fn fail(&mut self, reply: Reply) {
        if let Ok(receiver) = &mut self.receiver {
            receiver.fail(reply);
        }
    }
}

impl Machine {
    pub(super) fn read_content(&mut self) {
        let State::Content(receiver) = &mut self.state else { return };
        let mut octets = Vec::with_capacity(self.input.len());
        let (read, ended) = receiver.take(&self.input, &mut octets);
        self.input.advance(read);
        self.actions.extend(receiver.hand_over(octets));
        if ended {
            let State::Content(receiver) = std::mem::replace(&mut self.state, State::Command) else { return };
            self.end_content(*receiver);
        } else if receiver.is_endless() {
            let reply = Reply::new(421, 3, 4, "the message does not end; closing the connection");
            self.end_transaction();
            self.close(reply);
        }
    }

    /// BDAT: its octets follow, whatever the answer is.
    pub(super) fn bdat(&mut self, octets: u64, last: bool) {
        let refusal = match &mut self.transaction {
            None => Reply::new(503, 5, 1, "send MAIL and RCPT first"),
            Some(transaction) if transaction.recipients.is_empty() => Reply::new(554, 5, 1, "no valid recipients"),
            Some(transaction) => {
                // Chunks are no idle commands: their number is bounded by the time that a message may take.
                self.tally.since_message.commands = self.tally.since_message.commands.saturating_sub(1);
                let limit = transaction.max_message_size;
                return match transaction.chunks.take() {
                    _ if octets > endless(limit) => self.refuse_endless_chunk(policy::too_large(limit)),
                    Some(receiver) => self.state = State::Chunk(Box::new(Chunk::new(octets, last, receiver))),
                    None => {
                        self.actions.push_back(Action::OpenSpool(limit));
                        self.state = State::Answer(Question::ChunkSpool(octets, last));
                    }
                };
            }
        };
        if octets > endless(self.settings.max_message_size) {
            return self.refuse_endless_chunk(refusal);
        }
        self.state = State::Chunk(Box::new(Chunk::refused(octets, refusal)));
    }

    /// What nobody wants to read to its end.
    fn refuse_endless_chunk(&mut self, reply: Reply) {
        self.end_transaction();
        self.reply(reply);
        self.close(Reply::new(421, 3, 4, "the chunk is too large to pass over; closing the connection"));
    }

    pub(super) fn read_chunk(&mut self) {
        let State::Chunk(chunk) = &mut self.state else { return };
        let take = usize::try_from(chunk.remaining).map_or(self.input.len(), |most| most.min(self.input.len()));
        chunk.remaining -= take as u64;
        if let Ok(receiver) = &mut chunk.receiver {
            let octets = receiver.take_chunk(&self.input[..take], chunk.last && chunk.remaining == 0);
            self.actions.extend(receiver.hand_over(octets));
        }
        self.input.advance(take);
        if self.is_at_end_of_chunk() {
            self.end_chunk();
        }
    }

    fn is_at_end_of_chunk(&self) -> bool {
        matches!(&self.state, State::Chunk(chunk) if chunk.is_complete())
    }

    fn end_chunk(&mut self) {
        let State::Chunk(chunk) = std::mem::replace(&mut self.state, State::Command) else { return };
        let Chunk { octets, last, receiver, .. } = *chunk;
        match receiver {
            Err(reply) => self.refuse(reply),
            Ok(receiver) if last || receiver.refusal().is_some() => return self.end_content(*receiver),
            Ok(receiver) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.chunks = Some(receiver);
                }
                self.reply(Reply::new(250, 0, 0, format!("{octets} octets received")));
            }
        }
        self.end_if_shutting_down();
    }

    fn end_content(&mut self, receiver: Receiver) {
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
            passage: receiver.header.passage(),
        };
        self.actions.push_back(Action::Commit(envelope));
        self.state = State::Answer(Question::Commit);
    }
}

impl Receiver {
    pub(super) fn new(limit: u64, body: BodyType, bare: BareLineEndings) -> Self {
        Self {
            decoder: Decoder::new(bare),
            header: HeaderReader::default(),
            binary: body == BodyType::BinaryMime,
            is_at_line_start: true,
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
        self.count(octets);
        (read, ended)
    }

    /// Takes the next octets of a chunk; returns those of the message.
    fn take_chunk(&mut self, input: &[u8], is_end: bool) -> Vec<u8> {
        let mut octets = Vec::with_capacity(input.len());
        if self.binary {
            octets.extend_from_slice(input);
        } else {
            self.decoder.decode_chunk(input, &mut octets);
            if is_end {
                self.decoder.finish_chunks(&mut octets);
                // A message of lines ends with one: whoever fetches it, or gets it with DATA, sees so many octets.
                if !octets.last().map_or(self.is_at_line_start, |last| *last == b'\n') {
                    octets.extend_from_slice(b"\r\n");
                }
            }
        }
        self.count(&octets);
        octets
    }

    fn count(&mut self, octets: &[u8]) {
        self.octets = self.octets.saturating_add(octets.len() as u64);
        self.header.look(octets);
        if let Some(last) = octets.last() {
            self.is_at_line_start = *last == b'\n';
        }
    }

    /// What the session is to do with octets of the message.
    fn hand_over(&mut self, octets: Vec<u8>) -> Option<Action> {
        if self.refusal().is_none() {
            return (!octets.is_empty()).then(|| Action::Content(octets.into()));
        }
        (!std::mem::replace(&mut self.discarded, true)).then_some(Action::Discard)
    }

    /// Why the message is not acceptable, as far as it has come.
    fn refusal(&self) -> Option<Reply> {
        if let Some(fault) = self.decoder.fault() {
            Some(fault_reply(fault))
        } else if self.octets > self.limit {
            Some(policy::too_large(self.limit))
        } else if self.header.received() >= bounds::RECEIVED_FIELDS {
            Some(Reply::new(554, 4, 6, "the message goes round in a loop: too many Received fields"))
        } else {
            self.failure.clone()
        }
    }

    /// Octets on the wire after which a message that has not ended is refused at once. One that is acceptable stays below:
    /// dot-stuffing adds one octet to a line of three.
    fn bound(&self) -> u64 {
        endless(self.limit)
    }

    fn is_endless(&self) -> bool {
        self.read > self.bound()
    }
}

/// Octets that are read of a message or a chunk in any case, where messages may have so many.
fn endless(limit: u64) -> u64 {
    limit.saturating_mul(2).saturating_add(1024)
}

fn fault_reply(fault: Fault) -> Reply {
    let what = match fault {
        Fault::BareCr => "the message has a CR that no LF follows; lines end with CR LF",
        Fault::BareLf => "the message has a LF without CR before it; lines end with CR LF",
        Fault::Nul => "the message has a NUL octet",
    };
    Reply::new(550, 6, 11, what)
}

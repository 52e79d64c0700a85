//! The machine against a server that is no more than its words: for tests and fuzzers. Pure.

use super::super::status::Refusal;
use super::authentication::Credentials;
use super::machine::{Action, Client, Framing, Outcome, Protection, Transaction};
use super::reply::ReplyReader;

/// What a conversation was.
#[derive(Debug, PartialEq)]
pub struct Conversation {
    /// What was sent, with `<TLS>`, `<SECRET>`, `<MESSAGE>` and `<CHUNK>` in their places.
    pub sent: Vec<u8>,
    /// Before any transaction: why the server takes nothing.
    pub refused: Option<Refusal>,
    /// How each transaction that began ended.
    pub outcomes: Vec<Vec<Outcome>>,
    /// Whether another could follow.
    pub open: bool,
}

/// Lets the machine talk to a server that says these pieces, and then nothing more.
pub fn rehearse<'a>(
    words: impl IntoIterator<Item = &'a [u8]>,
    protection: Protection,
    credentials: Option<Credentials>,
    transactions: &[Transaction],
) -> Conversation {
    let (mut words, mut reader) = (words.into_iter(), ReplyReader::default());
    let mut client = Client::new("mx.example", "me.example", protection, credentials);
    let mut done = Conversation { sent: Vec::new(), refused: None, outcomes: Vec::new(), open: true };
    let mut transactions = transactions.iter();
    let mut is_set_up = false;
    let mut action = client.start();
    loop {
        match &action {
            Action::Send(bytes, _) => done.sent.extend_from_slice(bytes),
            Action::Authenticate(_) => done.sent.extend_from_slice(b"<SECRET>\r\n"),
            Action::SendMessage(Framing::Dots) => done.sent.extend_from_slice(b"<MESSAGE>\r\n"),
            Action::SendMessage(Framing::Chunk) => done.sent.extend_from_slice(b"<CHUNK>\r\n"),
            Action::StartTls => {
                done.sent.extend_from_slice(b"<TLS>\r\n");
                action = client.tls_established();
                continue;
            }
            Action::Read(_) => {}
            Action::Ready | Action::Finished => {
                is_set_up = true;
                if action == Action::Finished {
                    done.outcomes.push(client.finish());
                }
                match transactions.next().filter(|_| client.is_open()) {
                    Some(next) => action = client.begin(next.clone()),
                    None => break,
                }
                continue;
            }
        }
        let reply = loop {
            match reader.next_reply() {
                Ok(Some(reply)) => break Ok(reply),
                Ok(None) => match words.next() {
                    Some(piece) => reader.feed(piece),
                    None => break Err("silence".to_owned()),
                },
                Err(error) => break Err(error.to_string()),
            }
        };
        let next = reply.map_err(|reason| Refusal::transient(4, 2, reason).at("mx.example"));
        match next.and_then(|reply| client.on_reply(&reply)) {
            Ok(next) => action = next,
            Err(refusal) if is_set_up => {
                client.connection_lost(&refusal);
                action = Action::Finished;
            }
            Err(refusal) => {
                done.refused = Some(refusal);
                break;
            }
        }
    }
    done.open = client.is_open();
    done
}

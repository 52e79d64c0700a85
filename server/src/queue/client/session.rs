//! A connection to another mail server: drives [`super::machine`] over the network and TLS, with the time-outs of RFC 5321
//! §4.5.3.2. Called by [`super::super::delivery`].

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::super::environment::{Network, Stream};
use super::super::routing::NextHop;
use super::super::status::Refusal;
use super::dot::DotStuffer;
use super::machine::{Action, Client, EightBit, Outcome, Transaction, Wait};
use super::reply::{Reply, ReplyReader};
use crate::store::{Declared, MessageReader};

/// One transaction may last so long, though every single answer comes in time …
const TRANSACTION: Duration = Duration::from_secs(30 * 60);
/// … and a second longer for so many octets of the message.
const SLOWEST: u64 = 15_000;

/// How long the peer may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the TCP connection. No RFC says; with several hosts to try it must not be minutes.
    pub connect: Duration,
    /// For TLS.
    pub handshake: Duration,
    /// For the greeting.
    pub greeting: Duration,
    /// For replies to commands.
    pub command: Duration,
    /// For the reply to DATA.
    pub data_begin: Duration,
    /// For each piece of the message to be taken.
    pub data_piece: Duration,
    /// For the reply to the end of the message.
    pub data_end: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Self {
            connect: Duration::from_secs(30),
            handshake: minutes(1),
            greeting: minutes(5),
            command: minutes(5),
            data_begin: minutes(2),
            data_piece: minutes(3),
            data_end: minutes(10),
        }
    }
}

/// What every connection is made with.
#[derive(Clone)]
pub struct Dialer {
    /// By what it connects.
    pub network: Arc<dyn Network>,
    /// The name in EHLO.
    pub ehlo_name: String,
    /// The port at the next hop.
    pub port: u16,
    /// How TLS is spoken when it is offered.
    pub tls: Arc<rustls::ClientConfig>,
    /// How long the peer may take.
    pub timeouts: Timeouts,
}

/// An open connection, ready for transactions.
pub struct Connection {
    stream: Box<dyn Stream>,
    client: Client,
    replies: ReplyReader,
    timeouts: Timeouts,
    host: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
}

/// Why no connection came about.
enum NotConnected {
    /// TLS could not be negotiated; without it the server may still take mail.
    Tls(String),
    Refused(Refusal),
}

impl Dialer {
    /// Connects and introduces itself; with TLS where the server offers it and it works, else without.
    ///
    /// # Errors
    /// What every recipient gets when no other host takes the mail either.
    pub async fn connect(&self, hop: &NextHop) -> Result<Connection, Refusal> {
        match self.try_connect(hop, true).await {
            Ok(connection) => Ok(connection),
            Err(NotConnected::Refused(refusal)) => Err(refusal),
            Err(NotConnected::Tls(reason)) => {
                // RFC 7435: some protection where possible. Mail that would otherwise go in clear text goes so when TLS
                // fails; enforcing it needs a policy of the recipient's domain (MTA-STS, DANE).
                tracing::info!(host = %hop.host, %reason, "TLS could not be negotiated; continuing without");
                self.try_connect(hop, false).await.map_err(|error| match error {
                    NotConnected::Refused(refusal) => refusal,
                    NotConnected::Tls(reason) => Refusal::transient(4, 1, reason).at(&hop.host),
                })
            }
        }
    }

    async fn try_connect(&self, hop: &NextHop, may_start_tls: bool) -> Result<Connection, NotConnected> {
        let refused = |reason: String| NotConnected::Refused(Refusal::transient(4, 1, reason).at(&hop.host));
        let address = SocketAddr::new(hop.address, self.port);
        let stream = within(self.timeouts.connect, self.network.connect(address)).await;
        let stream = stream.map_err(|reason| refused(format!("connecting to {address} failed: {reason}")))?;
        let mut connection = Connection {
            stream,
            client: Client::new(&hop.host, &self.ehlo_name, may_start_tls),
            replies: ReplyReader::default(),
            timeouts: self.timeouts,
            host: hop.host.clone(),
            encrypted: false,
        };
        let mut action = connection.client.start();
        while action != Action::Ready {
            if action == Action::StartTls {
                connection = self.encrypt(connection, hop).await?;
                action = connection.client.tls_established();
                continue;
            }
            let reply = connection.exchange(&action).await.map_err(NotConnected::Refused)?;
            action = connection.client.on_reply(&reply).map_err(NotConnected::Refused)?;
        }
        Ok(connection)
    }

    async fn encrypt(&self, connection: Connection, hop: &NextHop) -> Result<Connection, NotConnected> {
        if connection.replies.has_leftover() {
            // Bytes that came in clear text must not be taken for the server's encrypted words.
            return Err(NotConnected::Tls("the server spoke before TLS was negotiated".to_owned()));
        }
        let name = ServerName::try_from(hop.host.clone()).unwrap_or_else(|_| ServerName::IpAddress(hop.address.into()));
        let handshake = TlsConnector::from(Arc::clone(&self.tls)).connect(name, connection.stream);
        let stream = within(self.timeouts.handshake, handshake).await.map_err(NotConnected::Tls)?;
        Ok(Connection { stream: Box::new(stream), encrypted: true, ..connection })
    }
}

impl Connection {
    /// Whether another message can be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.client.is_open()
    }

    /// Whether the server may have got the last message, or some of it.
    #[must_use]
    pub fn has_begun_content(&self) -> bool {
        self.client.has_begun_content()
    }

    /// Whether the message must be looked at before it is offered here (see [`inspect`]).
    #[must_use]
    pub fn needs_inspection(&self, declared: &Declared) -> bool {
        self.client.needs_inspection(declared)
    }

    /// Sends one message; gives the outcome for each recipient, in their order. Once `stop` is cancelled it breaks off,
    /// unless the message itself is being sent.
    pub async fn deliver(
        &mut self,
        transaction: Transaction,
        message: &mut dyn MessageReader,
        stop: &CancellationToken,
    ) -> Vec<Outcome> {
        let deadline = Instant::now() + TRANSACTION + Duration::from_secs(transaction.octets / SLOWEST);
        let mut action = self.client.begin(transaction);
        while action != Action::Finished {
            let reply = match &action {
                Action::SendMessage => self.send_message(message, deadline).await,
                _ if Instant::now() >= deadline => Err(self.too_slow()),
                other => tokio::select! {
                    biased;
                    () = stop.cancelled() => Err(lost(&self.host, "the sending server is shut down")),
                    reply = self.exchange(other) => reply,
                },
            };
            let next = reply.and_then(|reply| self.client.on_reply(&reply));
            action = match next {
                Ok(next) => next,
                Err(refusal) => {
                    self.client.connection_lost(&refusal);
                    Action::Finished
                }
            };
        }
        self.client.finish()
    }

    /// Says goodbye. The server may be gone already; nothing depends on it.
    pub async fn quit(mut self) {
        if self.client.is_open() {
            let _ = within(Duration::from_secs(5), async {
                self.stream.write_all(Client::quit()).await?;
                self.stream.flush().await?;
                self.stream.shutdown().await
            })
            .await;
        }
    }

    /// Does what the action says, up to the reply.
    async fn exchange(&mut self, action: &Action) -> Result<Reply, Refusal> {
        let wait = match action {
            Action::Send(bytes, wait) => {
                let written = within(self.timeouts.command, async {
                    self.stream.write_all(bytes).await?;
                    self.stream.flush().await
                });
                written.await.map_err(|reason| lost(&self.host, &reason))?;
                *wait
            }
            Action::Read(wait) => *wait,
            _ => Wait::Command,
        };
        self.read_reply(wait).await
    }

    async fn read_reply(&mut self, wait: Wait) -> Result<Reply, Refusal> {
        let timeout = match wait {
            Wait::Greeting => self.timeouts.greeting,
            Wait::Command => self.timeouts.command,
            Wait::DataBegin => self.timeouts.data_begin,
            Wait::DataEnd => self.timeouts.data_end,
        };
        let (stream, replies) = (&mut self.stream, &mut self.replies);
        let read = within(timeout, async {
            let mut buffer = [0; 4096];
            loop {
                match replies.next_reply() {
                    Ok(Some(reply)) => return Ok(reply),
                    Ok(None) => {}
                    Err(error) => return Err(std::io::Error::other(error)),
                }
                match stream.read(&mut buffer).await? {
                    0 => return Err(std::io::Error::other("the server closed the connection")),
                    count => replies.feed(&buffer[..count]),
                }
            }
        });
        read.await.map_err(|reason| lost(&self.host, &reason))
    }

    fn too_slow(&self) -> Refusal {
        lost(&self.host, "the server is too slow, the transaction took too long")
    }

    async fn send_message(&mut self, message: &mut dyn MessageReader, deadline: Instant) -> Result<Reply, Refusal> {
        let mut stuffer = DotStuffer::default();
        let mut wire = Vec::new();
        loop {
            wire.clear();
            if Instant::now() >= deadline {
                // As below: the server must not take what it has.
                return Err(self.too_slow());
            }
            let piece = message.next().await.map_err(|error| {
                // Closing the connection without the final dot takes the message back (RFC 5321 §4.1.1.4).
                Refusal::transient(3, 0, format!("the message could not be read: {error}"))
            })?;
            let Some(piece) = piece else { break };
            stuffer.push(&piece, &mut wire);
            if let Err(reason) = self.write_piece(&wire).await {
                return self.last_words(&reason).await;
            }
        }
        stuffer.finish(&mut wire);
        if let Err(reason) = self.write_piece(&wire).await {
            return self.last_words(&reason).await;
        }
        self.read_reply(Wait::DataEnd).await
    }

    async fn write_piece(&mut self, wire: &[u8]) -> Result<(), String> {
        within(self.timeouts.data_piece, async {
            self.stream.write_all(wire).await?;
            self.stream.flush().await
        })
        .await
    }

    /// A server that closed the connection in the middle of a message may have said why. Only a refusal is believed.
    async fn last_words(&mut self, reason: &str) -> Result<Reply, Refusal> {
        let lost = lost(&self.host, reason);
        match tokio::time::timeout(Duration::from_secs(5), self.read_reply(Wait::Command)).await {
            Ok(Ok(reply)) if reply.code >= 400 => Err(reply.refusal(&self.host)),
            _ => Err(lost),
        }
    }
}

fn lost(host: &str, reason: &str) -> Refusal {
    Refusal::transient(4, 2, format!("the connection failed: {reason}")).at(host)
}

async fn within<T>(timeout: Duration, work: impl Future<Output = std::io::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(timeout, work).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} seconds", timeout.as_secs())),
    }
}

/// Reads a message through for octets above 127.
///
/// # Errors
/// When it cannot be read.
pub async fn inspect(message: &mut dyn MessageReader) -> crate::store::Result<EightBit> {
    let mut found = EightBit::default();
    let mut in_header = true;
    // The end of the header may lie across two pieces.
    let mut tail: Vec<u8> = Vec::new();
    while let Some(piece) = message.next().await? {
        if !in_header {
            found.body |= !piece.is_ascii();
            continue;
        }
        tail.extend_from_slice(&piece);
        match memchr::memmem::find(&tail, b"\r\n\r\n") {
            Some(end) => {
                found.header |= !tail[..end].is_ascii();
                found.body |= !tail[end..].is_ascii();
                in_header = false;
            }
            None => {
                found.header |= !tail.is_ascii();
                tail.drain(..tail.len().saturating_sub(3));
            }
        }
    }
    Ok(found)
}

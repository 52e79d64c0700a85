//! A connection to another mail server: drives [`super::machine`] over the network and TLS, with the time-outs of RFC 5321
//! §4.5.3.2. Called by [`super::super::delivery`].

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::super::environment::{Network, Stream};
use super::super::routing::NextHop;
use super::super::status::Refusal;
use super::authentication::Credentials;
use super::dot::DotStuffer;
use super::machine::{Action, Client, Framing, Outcome, Protection, Transaction, Wait};
use super::reply::{Reply, ReplyReader};
use crate::store::{BodyType, MessageReader};

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
    /// What TLS is wanted: never [`Protection::None`].
    pub protection: Protection,
    /// How TLS is spoken: it verifies the host's name where `protection` wants that.
    pub tls: Arc<rustls::ClientConfig>,
    /// What the host wants to know from whom it takes mail.
    pub credentials: Option<Credentials>,
    /// The ports of this server's own listeners: mail that is sent to them would come back for ever.
    pub listening: Vec<u16>,
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
    /// Connects and introduces itself, with the TLS and the login that are wanted.
    ///
    /// # Errors
    /// What every recipient gets when no other host takes the mail either.
    pub async fn connect(&self, hop: &NextHop) -> Result<Connection, Refusal> {
        let reason = match self.try_connect(hop, self.protection).await {
            Ok(connection) => return Ok(connection),
            Err(NotConnected::Refused(refusal)) => return Err(refusal),
            Err(NotConnected::Tls(reason)) => reason,
        };
        if self.protection != Protection::WhereOffered {
            // RFC 3463 §3.8: X.7.5, a cryptographic failure.
            let text = format!("TLS is required and could not be negotiated: {reason}");
            return Err(Refusal::transient(7, 5, text).at(&hop.host));
        }
        // RFC 7435: some protection where possible. Mail that would otherwise go in clear text goes so when TLS fails;
        // enforcing it needs a policy of the recipient's domain (MTA-STS, DANE).
        tracing::info!(host = %hop.host, %reason, "TLS could not be negotiated; continuing without");
        self.try_connect(hop, Protection::None).await.map_err(|error| match error {
            NotConnected::Refused(refusal) => refusal,
            NotConnected::Tls(reason) => Refusal::transient(4, 1, reason).at(&hop.host),
        })
    }

    async fn try_connect(&self, hop: &NextHop, protection: Protection) -> Result<Connection, NotConnected> {
        let stream = self.open(hop).await.map_err(NotConnected::Refused)?;
        let mut connection = Connection {
            stream,
            client: Client::new(&hop.host, &self.ehlo_name, protection, self.credentials.clone()),
            replies: ReplyReader::default(),
            timeouts: self.timeouts,
            host: hop.host.clone(),
            encrypted: false,
        };
        if protection == Protection::FromTheBeginning {
            connection = self.encrypt(connection, hop).await?;
        }
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

    async fn open(&self, hop: &NextHop) -> Result<Box<dyn Stream>, Refusal> {
        let address = SocketAddr::new(hop.address, self.port);
        if self.listening.contains(&self.port) && self.network.is_this_machine(hop.address) {
            let text = format!("{address} is this server itself: mail would loop");
            return Err(Refusal::permanent(4, 6, text).at(&hop.host));
        }
        let connected = within(self.timeouts.connect, self.network.connect(address)).await;
        connected.map_err(|reason| {
            Refusal::transient(4, 1, format!("connecting to {address} failed: {reason}")).at(&hop.host)
        })
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

    /// Whether the server takes no further message, and the connection is to be ended in good order.
    #[must_use]
    pub fn is_used_up(&self) -> bool {
        self.client.is_used_up()
    }

    /// Recipients that one message may have here.
    #[must_use]
    pub fn max_recipients(&self) -> usize {
        self.client.max_recipients()
    }

    /// What content the server takes; any other has to be converted.
    #[must_use]
    pub fn carries(&self) -> BodyType {
        self.client.carries()
    }

    /// Whether the server takes headers and addresses beyond ASCII.
    #[must_use]
    pub fn carries_utf8(&self) -> bool {
        self.client.carries_utf8()
    }

    /// Takes the connection up again after it was idle.
    pub fn reuse(&mut self) {
        self.client.reuse();
    }

    /// Sends one message; gives the outcome for each recipient, in their order. Once `stop` is cancelled it breaks off,
    /// unless the message itself is being sent.
    pub async fn deliver(
        &mut self,
        transaction: Transaction,
        message: &mut dyn MessageReader,
        stop: &CancellationToken,
    ) -> Vec<Outcome> {
        let octets = transaction.octets;
        let deadline = Instant::now() + TRANSACTION + Duration::from_secs(octets / SLOWEST);
        let mut action = self.client.begin(transaction);
        while action != Action::Finished {
            let reply = match &action {
                Action::SendMessage(Framing::Dots) => self.send_message(message, deadline).await,
                Action::SendMessage(Framing::Chunk) => self.send_chunk(message, octets, deadline).await,
                _ if Instant::now() >= deadline => Err(too_slow(&self.host)),
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
        let (bytes, wait) = match action {
            Action::Send(bytes, wait) => (bytes.as_slice(), *wait),
            Action::Authenticate(line) => (line.expose(), Wait::Command),
            Action::Read(wait) => (&[][..], *wait),
            _ => (&[][..], Wait::Command),
        };
        if !bytes.is_empty() {
            let written = within(self.timeouts.command, async {
                self.stream.write_all(bytes).await?;
                self.stream.flush().await
            });
            written.await.map_err(|reason| lost(&self.host, &reason))?;
        }
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

    async fn send_message(&mut self, message: &mut dyn MessageReader, deadline: Instant) -> Result<Reply, Refusal> {
        let mut stuffer = DotStuffer::default();
        let mut wire = Vec::new();
        let mut next = next_piece(&self.host, message, deadline).await?;
        while let Some(piece) = next {
            stuffer.push(&piece, &mut wire);
            next = next_piece(&self.host, message, deadline).await?;
            // The end goes with the last piece: most messages are one packet.
            if next.is_some() {
                if let Err(reason) = self.write_piece(&wire).await {
                    return self.last_words(&reason).await;
                }
                wire.clear();
            }
        }
        stuffer.finish(&mut wire);
        if let Err(reason) = self.write_piece(&wire).await {
            return self.last_words(&reason).await;
        }
        self.read_reply(Wait::DataEnd).await
    }

    /// RFC 3030 §2: the number of octets goes before them. A message that has another number than was said breaks the
    /// connection, which takes it back.
    async fn send_chunk(
        &mut self,
        message: &mut dyn MessageReader,
        octets: u64,
        deadline: Instant,
    ) -> Result<Reply, Refusal> {
        let mut wire = format!("BDAT {octets} LAST\r\n").into_bytes();
        let mut left = octets;
        let wrong = || Refusal::transient(3, 0, "the message has another size than the store says");
        while let Some(piece) = next_piece(&self.host, message, deadline).await? {
            left = left.checked_sub(piece.len() as u64).ok_or_else(wrong)?;
            wire.extend_from_slice(&piece);
            if let Err(reason) = self.write_piece(&wire).await {
                return self.last_words(&reason).await;
            }
            wire.clear();
        }
        if left > 0 {
            return Err(wrong());
        }
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

fn too_slow(host: &str) -> Refusal {
    lost(host, "the server is too slow, the transaction took too long")
}

/// The next piece of the message. After an error the connection is closed without the final dot, which takes the message
/// back (RFC 5321 §4.1.1.4).
async fn next_piece(host: &str, message: &mut dyn MessageReader, deadline: Instant) -> Result<Option<Bytes>, Refusal> {
    if Instant::now() >= deadline {
        return Err(too_slow(host));
    }
    let piece = message.next().await;
    piece.map_err(|error| Refusal::transient(3, 0, format!("the message could not be read: {error}")))
}

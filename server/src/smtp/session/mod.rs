//! The I/O around [`super::machine`]: reads and writes the socket, keeps the time limits, and answers the machine's
//! questions from configuration, store and credentials. Started by [`crate::listen`] for each connection.

mod accepting;
mod deciding;
mod reporting;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use paquebot_config::{Address, Configuration, Domain, Listener, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument;
use zeroize::Zeroize as _;

use super::bounds;
use super::clock::Clock;
use super::command::Mail;
use super::machine::{Action, FutureRelease, Machine, Settings};
use super::policy;
use super::reply::Reply;
use crate::credentials::Identity;
use crate::metrics::{ByProtocolAndResult, ByResult, Word, protocol_word};
use crate::net::{Stream, handshake_failure};
use crate::relay;
use crate::services::SharedServices;
use crate::store::{Spool, StoreError};
use crate::tls::Vouched;

/// Octets read at once while commands are awaited: a pipelined group fits, and an idle session costs little.
const COMMAND_BUFFER: usize = 4 << 10;
/// Octets read at once while content is received.
const CONTENT_BUFFER: usize = 32 << 10;

/// Serves one client until it leaves, is sent away, or the server drains. `stream` is under TLS already where the protocol
/// has implicit TLS; `client` is its canonical address.
pub async fn run(stream: Stream, client: SocketAddr, listener: Arc<Listener>, services: SharedServices) {
    let span = tracing::info_span!("smtp", client = %client.ip(), protocol = protocol_word(listener.protocol).0);
    let mut session = Session::new(client, listener, services, stream.is_tls());
    async move {
        if let Err(error) = session.serve(stream).await {
            tracing::debug!(%error, "the connection was lost");
        }
    }
    .instrument(span)
    .await;
}

struct Session {
    client: SocketAddr,
    listener: Arc<Listener>,
    services: SharedServices,
    machine: Machine,
    user: Option<Identity>,
    tls: Option<String>,
    /// The client's certificate, while an authority vouches for it. Of any other nothing is kept.
    vouched: Option<Vouched>,
    transaction: Option<Transaction>,
    spool: Option<Box<dyn Spool>>,
}

/// What a transaction goes by from MAIL to its end, whatever is reloaded meanwhile.
struct Transaction {
    configuration: Arc<Configuration>,
    mail: Mail,
    begun: Timestamp,
    /// The relay rules that have counted it as a message.
    counted: Vec<String>,
}

/// What the driver has to do with the socket.
enum Turn {
    Read,
    StartTls,
    Close,
}

impl Session {
    fn new(client: SocketAddr, listener: Arc<Listener>, services: SharedServices, tls: bool) -> Self {
        let machine = Machine::new(settings(&services, &listener), tls);
        Self {
            client,
            listener,
            services,
            machine,
            user: None,
            tls: None,
            vouched: None,
            transaction: None,
            spool: None,
        }
    }

    async fn serve(&mut self, mut stream: Stream) -> io::Result<()> {
        let mut output = Vec::new();
        let mut buffer = vec![0; COMMAND_BUFFER];
        let mut clock = Clock::new(Instant::now());
        self.tls = stream.tls_description();
        self.meet(&stream);
        loop {
            let turn = self.carry_out(&mut output).await;
            write(&mut stream, &mut output).await?;
            match turn {
                Turn::Close => {
                    stream.close().await;
                    return Ok(());
                }
                Turn::StartTls => {
                    stream = self.start_tls(stream).await?;
                    clock = Clock::new(Instant::now());
                }
                Turn::Read => {
                    clock.advance(&self.machine, Instant::now());
                    let size = if self.machine.is_receiving() { CONTENT_BUFFER } else { COMMAND_BUFFER };
                    if buffer.len() != size {
                        buffer = vec![0; size];
                    }
                    if size == COMMAND_BUFFER {
                        self.machine.trim();
                        output.shrink_to(COMMAND_BUFFER);
                    }
                    if self.read(&mut stream, &mut buffer, clock.deadline).await? == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits for bytes, the time limit, or the server's shutdown. Returns 0 at the end of the stream.
    async fn read(&mut self, stream: &mut Stream, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        let shutdown = self.services.shutdown.clone();
        let read = async {
            if self.machine.is_shutting_down() {
                return Some(timeout_at(deadline, stream.read(buffer)).await);
            }
            tokio::select! {
                read = timeout_at(deadline, stream.read(buffer)) => Some(read),
                () = shutdown.cancelled() => None,
            }
        }
        .await;
        match read {
            Some(Ok(read)) => {
                let read = read?;
                self.refresh();
                self.machine.feed(&buffer[..read]);
                if !self.machine.is_receiving() {
                    // It may have been a password.
                    buffer[..read].zeroize();
                }
                return Ok(read);
            }
            Some(Err(_elapsed)) => self.machine.timed_out(),
            None => self.machine.shut_down(),
        }
        Ok(1)
    }

    /// Lets the machine know of a reload; it takes effect with the next transaction.
    fn refresh(&mut self) {
        self.machine.configure(settings(&self.services, &self.listener));
    }

    async fn start_tls(&mut self, stream: Stream) -> io::Result<Stream> {
        let is_needed = relay::names_certificates(&self.services.configuration.snapshot());
        let config = self.services.certificates.asking_config(is_needed);
        let config = config.ok_or_else(|| io::Error::other("the certificate is gone"))?;
        let upgraded = stream.upgrade(config).await.inspect_err(|error| {
            self.services.metrics.refused_connections.get_or_create(&self.by_result(handshake_failure(error))).inc();
            tracing::info!(%error, "TLS handshake failed");
        })?;
        self.tls = upgraded.tls_description();
        self.user = None;
        self.machine.tls_started();
        self.meet(&upgraded);
        Ok(upgraded)
    }

    /// Notes what certificate the client has shown. One that a relay rule names is as good as a login.
    fn meet(&mut self, stream: &Stream) {
        self.vouched = self.services.certificates.vouch(stream.client_certificates());
        if let Some(vouched) = &self.vouched {
            tracing::info!(names = ?vouched.names(), "the client has a verified certificate");
        }
        self.machine.identified(self.is_identified());
    }

    /// Forgets the client's certificate when no authority in force vouches for it any more.
    fn verify_certificate(&mut self) {
        self.vouched = self.vouched.take().and_then(|vouched| self.services.certificates.vouch_again(vouched));
    }

    /// The DNS names of the client's certificate.
    fn certified(&self) -> &[Domain] {
        self.vouched.as_ref().map(Vouched::names).unwrap_or_default()
    }

    /// Whether the client needs no login on a port where one is asked for (RFC 6409 §4.3).
    fn is_identified(&self) -> bool {
        relay::knows_certificate(&self.services.configuration.snapshot(), self.certified())
    }

    /// Carries out what the machine asks for, until it needs the socket.
    async fn carry_out(&mut self, output: &mut Vec<u8>) -> Turn {
        while let Some(action) = self.machine.next_action() {
            match action {
                Action::Reply(reply) => reply.write(output),
                Action::StartTls => return Turn::StartTls,
                Action::Close => return Turn::Close,
                Action::Authenticate(credentials) => {
                    let login = self.authenticate(credentials).await;
                    self.machine.authentication_answered(login);
                }
                Action::CheckSender(mail) => {
                    let verdict = self.check_sender(mail).await;
                    self.machine.sender_answered(verdict);
                }
                Action::CheckRecipient(recipient) => {
                    let verdict = self.check_recipient(&recipient).await;
                    self.machine.recipient_answered(verdict);
                }
                Action::OpenSpool(limit) => {
                    let verdict = self.open_spool(limit).await;
                    self.machine.spool_answered(verdict);
                }
                Action::Content(octets) => {
                    if let Err(reply) = self.append(&octets).await {
                        self.machine.content_failed(reply);
                    }
                }
                Action::Commit(envelope) => {
                    let reply = self.commit(envelope).await;
                    self.machine.commit_answered(reply);
                }
                Action::Discard => {
                    // Without a spool the store had failed, which was counted.
                    if self.spool.take().is_some() {
                        self.count_message("refused");
                    }
                }
                Action::Reset => {
                    self.transaction = None;
                    self.spool = None;
                }
            }
        }
        Turn::Read
    }

    fn store_failure(&self, error: &StoreError) -> Reply {
        let reply = policy::store_failure(error);
        tracing::warn!(%error, %reply, "the store refused");
        reply
    }

    fn count_message(&self, result: &'static str) {
        self.services.metrics.messages.get_or_create(&ByResult { result: Word(result) }).inc();
    }

    fn by_result(&self, result: &'static str) -> ByProtocolAndResult {
        ByProtocolAndResult { protocol: protocol_word(self.listener.protocol), result: Word(result) }
    }
}

fn settings(services: &SharedServices, listener: &Listener) -> Settings {
    let submission = matches!(listener.protocol, Protocol::Submission | Protocol::Submissions);
    let latest = || Timestamp::now() + jiff::SignedDuration::from_secs(i64::from(bounds::LONGEST_HOLD));
    let configuration = services.configuration.snapshot();
    Settings {
        hostname: configuration.server.hostname.clone(),
        submission,
        starttls: services.certificates.server_config().is_some(),
        // The queue tells the next hop, and returns the message where that one does not take it.
        smtputf8: true,
        max_message_size: configuration.server.limits.max_message_size,
        max_recipients: configuration.server.limits.max_recipients,
        bare_line_endings: listener.bare_line_endings,
        future_release: submission.then(|| FutureRelease { longest: bounds::LONGEST_HOLD, latest: latest() }),
    }
}

fn path(address: Option<&Address>) -> String {
    address.map_or_else(|| "<>".to_owned(), |address| format!("<{address}>"))
}

fn out_of_step() -> Reply {
    Reply::new(451, 3, 0, "the mail system has a problem; try again later")
}

async fn write(stream: &mut Stream, output: &mut Vec<u8>) -> io::Result<()> {
    if output.is_empty() {
        return Ok(());
    }
    let written = timeout(bounds::WRITE_TIMEOUT, async {
        stream.write_all(output).await?;
        stream.flush().await
    });
    written.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    output.clear();
    Ok(())
}

#[cfg(test)]
mod tests;

//! The I/O around [`super::machine`]: reads and writes the socket, keeps the time limits, and answers the machine's
//! questions from configuration, store and credentials. Started by [`crate::listen`] for each connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use paquebot_config::{Address, Configuration, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument;

use super::bounds;
use super::clock::Clock;
use super::command::Mail;
use super::machine::{AcceptedRecipient, Action, Envelope, Login, Machine, Settings};
use super::path::ForwardPath;
use super::policy;
use super::reply::Reply;
use super::sasl;
use crate::credentials::sasl::Credentials;
use crate::credentials::{Access, Identity};
use crate::delivery::{self, Plan};
use crate::metrics::{ByProtocolAndResult, ByResult, Word, protocol_word};
use crate::net::Stream;
use crate::relay::Client;
use crate::services::SharedServices;
use crate::store::{Acceptance, Declared, MessageId, Spool, StoreError};
use crate::trace::{Received, Transmission};

/// Octets read at once while commands are awaited: a pipelined group fits, and an idle session costs little.
const COMMAND_BUFFER: usize = 4 << 10;
/// Octets read at once while content is received.
const CONTENT_BUFFER: usize = 32 << 10;

/// Serves one client until it leaves, is sent away, or the server drains. `stream` is under TLS already where the protocol
/// has implicit TLS; `client` is its canonical address.
pub async fn run(stream: Stream, client: SocketAddr, protocol: Protocol, services: SharedServices) {
    let span = tracing::info_span!("smtp", client = %client.ip(), protocol = protocol_word(protocol).0);
    let mut session = Session::new(client, protocol, services, stream.is_tls());
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
    protocol: Protocol,
    services: SharedServices,
    machine: Machine,
    user: Option<Identity>,
    tls: Option<String>,
    transaction: Option<Transaction>,
    spool: Option<Box<dyn Spool>>,
}

/// What a transaction goes by from MAIL to its end, whatever is reloaded meanwhile.
struct Transaction {
    configuration: Arc<Configuration>,
    mail: Mail,
}

/// What the driver has to do with the socket.
enum Turn {
    Read,
    StartTls,
    Close,
}

impl Session {
    fn new(client: SocketAddr, protocol: Protocol, services: SharedServices, tls: bool) -> Self {
        let machine = Machine::new(settings(&services, protocol), tls);
        Self { client, protocol, services, machine, user: None, tls: None, transaction: None, spool: None }
    }

    async fn serve(&mut self, mut stream: Stream) -> io::Result<()> {
        let mut output = Vec::new();
        let mut buffer = vec![0; COMMAND_BUFFER];
        let mut clock = Clock::new(Instant::now());
        self.tls = stream.tls_description();
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
                    buffer.resize(if self.machine.is_receiving() { CONTENT_BUFFER } else { COMMAND_BUFFER }, 0);
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
                return Ok(read);
            }
            Some(Err(_elapsed)) => self.machine.timed_out(),
            None => self.machine.shut_down(),
        }
        Ok(1)
    }

    /// Lets the machine know of a reload; it takes effect with the next transaction.
    fn refresh(&mut self) {
        self.machine.configure(settings(&self.services, self.protocol));
    }

    async fn start_tls(&mut self, stream: Stream) -> io::Result<Stream> {
        let config = self.services.certificates.server_config();
        let config = config.ok_or_else(|| io::Error::other("the certificate is gone"))?;
        let upgraded = stream.upgrade(config).await.inspect_err(|error| {
            self.services.metrics.refused_connections.get_or_create(&self.by_result("handshake")).inc();
            tracing::info!(%error, "TLS handshake failed");
        })?;
        self.tls = upgraded.tls_description();
        self.user = None;
        self.machine.tls_started();
        Ok(upgraded)
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
                Action::CheckRecipient(path) => {
                    let verdict = self.check_recipient(&path).await;
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

    async fn authenticate(&mut self, credentials: Credentials) -> Login {
        let Credentials { login, password } = credentials;
        let verified = self.services.authenticator.verify(self.client.ip(), Access::Submission, &login, password).await;
        match verified {
            Ok(identity) => {
                tracing::info!(mailbox = %identity.mailbox, "logged in");
                let mailbox = identity.mailbox.clone();
                self.user = Some(identity);
                Login::Accepted(mailbox)
            }
            Err(failure) => {
                // The login may be a password in the wrong field, so it is not logged.
                tracing::info!(reason = %failure, "login refused");
                Login::Refused(sasl::refusal(failure))
            }
        }
    }

    async fn check_sender(&mut self, mail: Mail) -> Result<(), Reply> {
        let configuration = self.services.configuration.snapshot();
        let client = relay_client(&configuration, self.client, self.user.as_ref())?;
        policy::sender(&configuration, client, &mail).inspect_err(|reply| {
            tracing::info!(from = %path(mail.reverse_path.as_ref()), %reply, "sender refused");
        })?;
        if !self.services.store.has_room(mail.size.unwrap_or(0)).await {
            return Err(policy::disk_full());
        }
        self.transaction = Some(Transaction { configuration, mail });
        Ok(())
    }

    async fn check_recipient(&mut self, forward_path: &ForwardPath) -> Result<AcceptedRecipient, Reply> {
        let verdict = self.admit(forward_path).await;
        let result = match &verdict {
            Ok((_, remote)) => {
                if *remote {
                    "relay"
                } else {
                    "local"
                }
            }
            Err(reply) if reply.code() < 500 => "deferred",
            Err(reply) if reply.code() == 553 => "not_allowed",
            Err(reply) if reply.code() == 550 => "unknown",
            Err(_) => "refused",
        };
        self.services.metrics.recipients.get_or_create(&ByResult { result: Word(result) }).inc();
        if let Err(reply) = &verdict {
            tracing::info!(to = ?forward_path, %reply, "recipient refused");
        }
        verdict.map(|(recipient, _)| recipient)
    }

    /// Decides about a recipient; with it comes whether its domain is elsewhere.
    async fn admit(&mut self, forward_path: &ForwardPath) -> Result<(AcceptedRecipient, bool), Reply> {
        let transaction = self.transaction.as_ref().ok_or_else(out_of_step)?;
        let configuration = &transaction.configuration;
        let client = relay_client(configuration, self.client, self.user.as_ref())?;
        let admission = policy::recipient(configuration, client, &transaction.mail, forward_path)?;
        // Of several maildrops one that is full must not refuse the others' mail.
        if let [maildrop] = admission.plan.local.as_slice()
            && admission.plan.is_one_maildrop()
            && let Some(quota) = maildrop.quota
        {
            let usage = self.services.store.usage(&maildrop.address).await;
            let usage = usage.map_err(|error| self.store_failure(&error))?;
            policy::quota(quota, usage, transaction.mail.size)?;
        }
        if let Some(rule) = &admission.rule {
            tracing::info!(to = %admission.recipient, rule, "relaying admitted");
        }
        let remote = configuration.domain(admission.recipient.domain()).is_none();
        let policy::Admission { recipient: address, max_message_size, .. } = admission;
        Ok((AcceptedRecipient { address, max_message_size }, remote))
    }

    async fn open_spool(&mut self, limit: u64) -> Result<(), Reply> {
        let spool = self.services.store.spool(limit).await.map_err(|error| self.store_failure(&error))?;
        self.spool = Some(spool);
        Ok(())
    }

    async fn append(&mut self, octets: &[u8]) -> Result<(), Reply> {
        // After a failure there is no spool, and what comes is thrown away.
        let Some(spool) = &mut self.spool else { return Ok(()) };
        let Err(error) = spool.append(octets).await else { return Ok(()) };
        self.spool = None;
        self.count_message("deferred");
        Err(self.store_failure(&error))
    }

    /// The end of a message: the plan, the trace fields, one transaction of the store. The reply is positive only when the
    /// message is on stable storage.
    async fn commit(&mut self, envelope: Envelope) -> Reply {
        let (Some(transaction), Some(spool)) = (self.transaction.take(), self.spool.take()) else {
            return out_of_step();
        };
        let id = MessageId::generate();
        let durable = self.make_durable(&id, &envelope, &transaction.configuration, spool).await;
        durable.unwrap_or_else(|error| {
            let reply = policy::store_failure(&error);
            tracing::warn!(message_id = %id, %error, %reply, "the message could not be stored");
            self.count_message("deferred");
            reply
        })
    }

    async fn make_durable(
        &mut self,
        id: &MessageId,
        envelope: &Envelope,
        configuration: &Configuration,
        spool: Box<dyn Spool>,
    ) -> Result<Reply, StoreError> {
        let body = spool.finish().await?;
        let mut plan = delivery::plan(configuration, &envelope.recipients);
        self.queue_for_full_maildrops(&mut plan, envelope.octets).await?;
        let received_at = jiff::Timestamp::now();
        let acceptance = Acceptance {
            id: id.clone(),
            received_at,
            reverse_path: envelope.mail.reverse_path.clone(),
            trace: self.received(configuration, envelope, id, received_at).into(),
            body,
            declared: Declared { smtputf8: envelope.mail.smtputf8, ..Declared::eight_bit(envelope.mail.eight_bit) },
            local: delivery::local_deliveries(&plan, envelope.mail.reverse_path.as_ref()),
            remote: plan.remote.iter().cloned().map(Into::into).collect(),
            derived: Vec::new(),
            remember: Vec::new(),
        };
        self.services.store.commit(acceptance).await?;
        Ok(self.accepted(id, envelope, &plan))
    }

    /// Where a message has several maildrops, a full one gets it from the queue when it has room again. One alone has its
    /// answer from the store.
    async fn queue_for_full_maildrops(&self, plan: &mut Plan, octets: u64) -> Result<(), StoreError> {
        if plan.is_one_maildrop() {
            return Ok(());
        }
        for maildrop in std::mem::take(&mut plan.local) {
            let is_full = match maildrop.quota {
                Some(quota) => {
                    let usage = self.services.store.usage(&maildrop.address).await?;
                    policy::quota(quota, usage, Some(octets)).is_err()
                }
                None => false,
            };
            if is_full {
                plan.remote.push(maildrop.address);
            } else {
                plan.local.push(maildrop);
            }
        }
        Ok(())
    }

    fn accepted(&self, id: &MessageId, envelope: &Envelope, plan: &Plan) -> Reply {
        let metrics = &self.services.metrics;
        self.count_message("accepted");
        metrics.message_octets.inc_by(envelope.octets);
        metrics.delivered.inc_by(plan.local.len() as u64);
        tracing::info!(
            message_id = %id,
            from = %path(envelope.mail.reverse_path.as_ref()),
            recipients = envelope.recipients.len(),
            octets = envelope.octets,
            user = self.user.as_ref().map(|user| tracing::field::display(&user.mailbox)),
            tls = self.tls,
            "message accepted"
        );
        for maildrop in &plan.local {
            tracing::info!(message_id = %id, maildrop = %maildrop.address, "delivered");
        }
        if !plan.remote.is_empty() {
            self.services.queue.notify_one();
        }
        let what = match (plan.local.is_empty(), plan.remote.is_empty()) {
            (false, true) => "delivered",
            (true, false) => "queued",
            _ => "delivered and queued",
        };
        Reply::new(250, 0, 0, format!("{id} {what}"))
    }

    fn received(
        &self,
        configuration: &Configuration,
        envelope: &Envelope,
        id: &MessageId,
        at: jiff::Timestamp,
    ) -> String {
        let recipient = match envelope.recipients.as_slice() {
            [only] => Some(only),
            _ => None,
        };
        Received {
            client_name: &envelope.client_name,
            client: self.client.ip(),
            hostname: &configuration.server.hostname,
            transmission: Transmission {
                extended: envelope.extended,
                tls: self.tls.is_some(),
                authenticated: self.user.is_some(),
                smtputf8: envelope.mail.smtputf8,
            },
            tls: self.tls.as_deref(),
            id,
            recipient,
            at,
        }
        .field()
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
        ByProtocolAndResult { protocol: protocol_word(self.protocol), result: Word(result) }
    }
}

fn settings(services: &SharedServices, protocol: Protocol) -> Settings {
    let configuration = services.configuration.snapshot();
    Settings {
        hostname: configuration.server.hostname.clone(),
        submission: matches!(protocol, Protocol::Submission | Protocol::Submissions),
        starttls: services.certificates.server_config().is_some(),
        // The queue tells the next hop, and returns the message where that one does not take it.
        smtputf8: true,
        max_message_size: configuration.server.limits.max_message_size,
        max_recipients: configuration.server.limits.max_recipients,
    }
}

/// The client as the relay decision sees it. A login has no rights left once its password was changed, or its mailbox
/// deleted or suspended.
fn relay_client<'a>(
    configuration: &'a Configuration,
    client: SocketAddr,
    user: Option<&Identity>,
) -> Result<Client<'a>, Reply> {
    let ended = || Reply::new(530, 7, 0, "your login is not valid any more; connect and log in again");
    let mailbox = user.map(|user| user.mailbox_in(configuration).ok_or_else(ended)).transpose()?;
    Ok(Client { address: client.ip(), mailbox })
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
#[path = "session_tests.rs"]
mod tests;

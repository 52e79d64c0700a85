//! One POP3 connection: the I/O around [`super::machine`]. Started by [`crate::listen`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use paquebot_config::{Listener, Revision};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::ahead::ReadAhead;
use super::machine::{Machine, Output, Security, Settings};
use super::phrase::Phrase;
use super::surrogate::{self, LONGEST_HEADER};
use super::text::{Extent, Transfer};
use crate::credentials::{Access, Failure, Identity, Password};
use crate::net::Stream;
use crate::services::{Services, SharedServices};
use crate::store::{Maildrop, MaildropEntry, MaildropName, StoreError, StoredMessage};

/// How long a client that has logged in may say nothing; RFC 1939 §3 wants at least ten minutes.
const IDLE_LOGGED_IN: Duration = Duration::from_secs(10 * 60);
/// How long a client may take to log in, whatever it says meanwhile: it holds a connection that others could use.
const TIME_TO_LOG_IN: Duration = Duration::from_secs(3 * 60);
/// How long one write may take: the client has stopped to read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// Octets that are read at a time; commands are short.
const READ_SIZE: usize = 4096;
/// Replies wait for one another up to this size, so that pipelined commands and short messages are answered with one
/// packet. They are sent before the session waits for the client.
const WRITE_BUFFER: usize = 64 * 1024;
/// A client that is silent for so long gets its buffers back when it speaks: thousands that wait cost little memory.
const TRIM_AFTER: Duration = Duration::from_secs(1);

/// Serves one client until it leaves, is silent for too long, or the server goes down.
pub async fn run(stream: Stream, client: SocketAddr, listener: Arc<Listener>, services: SharedServices) {
    let security = match (stream.is_tls(), services.certificates.server_config().is_some()) {
        (true, _) => Security::Tls,
        (false, true) => Security::ClearWithStls,
        (false, false) => Security::Clear,
    };
    let configuration = services.configuration.snapshot();
    let settings = Settings {
        security,
        clear_text_logins: listener.clear_text_logins,
        login_delay: configuration.server.limits.login_delay_seconds,
    };
    let mut machine = Machine::new(configuration.server.hostname.as_str(), settings);
    drop(configuration);
    let (begun, unsent) = (Instant::now(), Vec::new());
    let ahead = ReadAhead::default();
    let mut session = Session { client, listener, services, begun, login: None, maildrop: None, unsent, ahead };
    let mut stream = stream;
    loop {
        match session.converse(&mut stream, &mut machine).await {
            // Boxed, as whatever is not the waiting itself: it takes no memory while the session waits.
            Ok(End::Closed) => return Box::pin(stream.close()).await,
            Ok(End::StartTls(config)) => match Box::pin(stream.upgrade(config)).await {
                Ok(upgraded) => {
                    stream = upgraded;
                    machine.tls_started();
                }
                Err(error) => return tracing::debug!(%client, %error, "STLS failed"),
            },
            // The client went away: no QUIT, so nothing is deleted; the maildrop's lock is freed with the session.
            Err(error) => return tracing::debug!(%client, %error, "POP3 connection lost"),
        }
    }
}

/// How a part of the conversation ends without an error.
enum End {
    Closed,
    StartTls(Arc<rustls::ServerConfig>),
}

struct Session {
    client: SocketAddr,
    listener: Arc<Listener>,
    services: SharedServices,
    begun: Instant,
    login: Option<Login>,
    maildrop: Option<Maildrop>,
    /// Replies that have not been written yet; at most [`WRITE_BUFFER`] and one piece.
    unsent: Vec<u8>,
    ahead: ReadAhead,
}

/// A message as this client may have it.
struct Presented {
    message: StoredMessage,
    /// What RETR tells, where it is not what the listing does.
    octets: Option<u64>,
}

/// A header in UTF-8 becomes one in ASCII for a client that has not said UTF8 (RFC 6856 §4, RFC 6858). The listing tells how
/// long the message is then, but for those that an older version delivered.
async fn present(
    mut message: StoredMessage,
    machine: &Machine,
    index: usize,
    is_listed: bool,
) -> Result<Presented, Phrase> {
    if !message.smtputf8 || machine.is_utf8() {
        return Ok(Presented { message, octets: None });
    }
    let end = loop {
        if let Some(end) = surrogate::header_end(&message.beginning) {
            break end;
        }
        if message.beginning.len() > LONGEST_HEADER {
            return Err(Phrase::NeedsUtf8);
        }
        let Some(rest) = &mut message.rest else { break message.beginning.len() };
        match rest.next().await {
            Ok(Some(piece)) => message.beginning = [message.beginning, piece].concat().into(),
            Ok(None) => message.rest = None,
            Err(error) => return Err(Phrase::from(&error)),
        }
    };
    let Some(header) = surrogate::surrogate(&message.beginning[..end]) else {
        return Ok(Presented { message, octets: None });
    };
    let stored = machine.entries_from(index).next().map_or(0, |entry| entry.octets);
    let growth = surrogate::growth(&message.beginning, message.rest.is_none()).unwrap_or_default();
    let octets = (!is_listed).then(|| stored.saturating_add_signed(growth));
    message.beginning = [&header, &message.beginning[end..]].concat().into();
    Ok(Presented { message, octets })
}

/// Why a maildrop was not opened.
enum NotOpened {
    /// The last login was too short a time ago; so many seconds are left.
    TooSoon { seconds: u64 },
    /// The store's answer.
    Refused(StoreError),
}

/// Who has logged in, and the newest configuration in which that login was right.
struct Login {
    identity: Identity,
    maildrop: MaildropName,
    revision: Revision,
}

impl Session {
    async fn converse(&mut self, stream: &mut Stream, machine: &mut Machine) -> io::Result<End> {
        let mut silent_since = Instant::now();
        let mut commands = machine.commands();
        loop {
            match machine.next_output() {
                Output::Send(reply) => self.send(stream, &reply).await?,
                Output::NeedBytes => {
                    self.flush(stream).await?;
                    // A client that sends a command octet by octet is as silent as one that sends none.
                    if machine.commands() != commands {
                        commands = machine.commands();
                        silent_since = Instant::now();
                    }
                    self.read(stream, machine, silent_since).await?;
                }
                Output::Login { login, password } => Box::pin(self.log_in(machine, &login, password)).await,
                Output::StartTls => {
                    self.flush(stream).await?;
                    let config = self.services.certificates.server_config();
                    return config.map(End::StartTls).ok_or_else(|| io::Error::other("the certificate is gone"));
                }
                Output::Retrieve { index, extent } => {
                    Box::pin(self.retrieve(stream, machine, index, extent)).await?;
                    silent_since = Instant::now();
                }
                Output::Update { keys } => Box::pin(self.update(machine, &keys)).await,
                Output::Close => {
                    self.flush(stream).await?;
                    return Ok(End::Closed);
                }
            }
        }
    }

    async fn read(&mut self, stream: &mut Stream, machine: &mut Machine, silent_since: Instant) -> io::Result<()> {
        let deadline = if machine.is_logged_in() { silent_since + IDLE_LOGGED_IN } else { self.begun + TIME_TO_LOG_IN };
        let mut trim_at = Some(Instant::now() + TRIM_AFTER);
        loop {
            let wait_until = trim_at.map_or(deadline, |trim_at| trim_at.min(deadline));
            let received = tokio::select! {
                biased;
                () = self.services.shutdown.cancelled() => {
                    machine.shut_down();
                    return Ok(());
                }
                received = timeout_at(wait_until, stream.receive::<READ_SIZE, _>(|octets| machine.feed(octets))) => received,
            };
            match received {
                Ok(received) => {
                    received?.ok_or(io::ErrorKind::UnexpectedEof)?;
                    if self.login_has_ended() {
                        tracing::info!(client = %self.client, "POP3 login ended: its password or its rights have changed");
                        machine.login_ended();
                    }
                    return Ok(());
                }
                Err(_) if wait_until < deadline => {
                    trim_at = None;
                    self.unsent = Vec::new();
                    self.ahead.clear();
                    machine.trim();
                }
                Err(_) => {
                    machine.timed_out();
                    return Ok(());
                }
            }
        }
    }

    /// Whether the password has ended, or it or the mailbox's rights were changed since the login. The latter costs something
    /// only after a reload.
    fn login_has_ended(&mut self) -> bool {
        let Some(login) = &mut self.login else { return false };
        let now = self.services.authenticator.now();
        let configuration = self.services.configuration.snapshot();
        if login.revision == configuration.revision {
            return login.identity.is_over(now);
        }
        login.revision.clone_from(&configuration.revision);
        !login.identity.renew(&configuration, now)
    }

    async fn log_in(&mut self, machine: &mut Machine, login: &str, password: Password) {
        let client = self.client;
        let mut identity = match self.services.authenticator.verify(client.ip(), Access::Pop3, login, password).await {
            Ok(identity) => identity,
            Err(failure) => {
                tracing::info!(%client, protocol = ?self.listener.protocol, %failure, "POP3 login refused");
                return machine.login_failed(failure);
            }
        };
        // The verification may have waited for its turn: what is opened, and becomes somebody's by that, is looked up anew.
        let configuration = self.services.configuration.snapshot();
        if !identity.renew(&configuration, self.services.authenticator.now()) {
            tracing::info!(%client, "POP3 login refused: the mailbox or its password has changed meanwhile");
            return machine.login_failed(Failure::Rejected);
        }
        let revision = configuration.revision.clone();
        drop(configuration);
        let name = identity.maildrop();
        match open_maildrop(&self.services, &name).await {
            Ok(mut maildrop) => {
                let mut entries = std::mem::take(&mut maildrop.entries);
                if !machine.is_utf8() {
                    list_in_ascii(&mut entries, &maildrop.in_ascii);
                }
                tracing::info!(%client, maildrop = %name, messages = entries.len(), "maildrop open");
                self.login = Some(Login { identity, maildrop: name, revision });
                self.maildrop = Some(maildrop);
                machine.logged_in(entries);
            }
            Err(NotOpened::TooSoon { seconds }) => {
                tracing::info!(%client, maildrop = %name, seconds, "POP3 login too soon after the last one");
                machine.login_too_soon(seconds);
            }
            Err(NotOpened::Refused(error)) => {
                tracing::info!(%client, maildrop = %name, %error, "maildrop not opened");
                machine.maildrop_refused(&error);
            }
        }
    }

    async fn retrieve(
        &mut self,
        stream: &mut Stream,
        machine: &mut Machine,
        index: usize,
        extent: Extent,
    ) -> io::Result<()> {
        let message = match self.open(machine, index).await {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(client = %self.client, %error, "message not readable");
                machine.message_opened(Err(Phrase::from(&error)));
                return Ok(());
            }
        };
        let is_listed = self
            .maildrop
            .as_ref()
            .is_some_and(|maildrop| maildrop.in_ascii.binary_search_by_key(&message.key, |(key, _)| *key).is_ok());
        let presented = match present(message, machine, index, is_listed).await {
            Ok(presented) => presented,
            Err(phrase) => {
                machine.message_opened(Err(phrase));
                return Ok(());
            }
        };
        let Presented { message, octets } = presented;
        machine.message_opened(Ok(octets));
        if let Output::Send(reply) = machine.next_output() {
            self.send(stream, &reply).await?;
        }
        self.send_text(stream, message, Transfer::new(extent)).await?;
        if extent == Extent::Whole {
            self.services.metrics.fetched.inc();
        }
        Ok(())
    }

    async fn send_text(
        &mut self,
        stream: &mut Stream,
        message: StoredMessage,
        mut transfer: Transfer,
    ) -> io::Result<()> {
        transfer.push(&message.beginning, &mut self.unsent);
        self.flush_if_full(stream).await?;
        drop(message.beginning);
        if let Some(mut rest) = message.rest {
            while !transfer.is_complete() {
                // There is no reply for an error in the middle of a message: only a broken connection tells the client that
                // the rest is missing.
                let Some(piece) = rest.next().await.map_err(io::Error::other)? else { break };
                transfer.push(&piece, &mut self.unsent);
                self.flush_if_full(stream).await?;
            }
        }
        transfer.finish(&mut self.unsent);
        self.flush_if_full(stream).await
    }

    async fn open(&mut self, machine: &Machine, index: usize) -> Result<StoredMessage, StoreError> {
        let login = self.login.as_ref().ok_or(StoreError::NotFound)?;
        self.ahead.open(self.services.store.as_ref(), &login.maildrop, machine, index).await
    }

    async fn update(&mut self, machine: &mut Machine, keys: &[i64]) {
        let result = match &self.login {
            Some(login) if !keys.is_empty() => self.services.store.delete(&login.maildrop, keys).await,
            _ => Ok(()),
        };
        match &result {
            Ok(()) => drop(self.services.metrics.deleted.inc_by(keys.len() as u64)),
            Err(error) => {
                tracing::warn!(client = %self.client, %error, marked = keys.len(), "messages could not be deleted");
            }
        }
        // Free before the reply: the client may come back at once.
        self.maildrop = None;
        tracing::info!(client = %self.client, deleted = keys.len(), ok = result.is_ok(), "maildrop closed");
        machine.updated(result.as_ref().copied());
    }

    async fn send(&mut self, stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
        self.unsent.extend_from_slice(bytes);
        self.flush_if_full(stream).await
    }

    async fn flush_if_full(&mut self, stream: &mut Stream) -> io::Result<()> {
        if self.unsent.len() < WRITE_BUFFER { Ok(()) } else { self.flush(stream).await }
    }

    async fn flush(&mut self, stream: &mut Stream) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let write = async {
            stream.write_all(&self.unsent).await?;
            stream.flush().await
        };
        let written = timeout(WRITE_TIMEOUT, write).await;
        self.unsent.clear();
        written.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

/// Lists what RETR sends to a client that has not said UTF8. Both are in the order of their keys.
fn list_in_ascii(entries: &mut [MaildropEntry], in_ascii: &[(i64, u64)]) {
    for (key, octets) in in_ascii {
        if let Ok(at) = entries.binary_search_by_key(key, |entry| entry.key) {
            entries[at].octets = *octets;
        }
    }
}

async fn open_maildrop(services: &Services, name: &MaildropName) -> Result<Maildrop, NotOpened> {
    let maildrop = services.store.open_maildrop(name).await.map_err(NotOpened::Refused)?;
    // Only who got in counts as logged in.
    let delay = Duration::from_secs(services.configuration.snapshot().server.limits.login_delay_seconds);
    let distance = services.authenticator.keep_distance(name.clone(), delay).await;
    distance.map_err(|seconds| NotOpened::TooSoon { seconds })?;
    Ok(maildrop)
}

#[cfg(test)]
mod tests;

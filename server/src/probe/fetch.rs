//! Fetching messages by POP3 (RFC 1939), with STLS (RFC 2595).

use std::io;

use tokio::time::timeout;
use zeroize::Zeroizing;

use super::connection::{Connection, Target, TlsMode};

/// What is to be fetched.
pub struct Fetch {
    /// Where.
    pub target: Target,
    /// The mailbox.
    pub user: String,
    /// Its password.
    pub password: Zeroizing<String>,
    /// Only messages with this text in them.
    pub containing: Option<String>,
    /// Whether they are deleted then.
    pub delete: bool,
}

/// A message that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The server's unique id for it.
    pub unique_id: String,
    /// Its octets, without byte-stuffing.
    pub octets: Vec<u8>,
}

impl Fetched {
    /// The unique id, with what does not belong into a file name replaced.
    #[must_use]
    pub fn file_name(&self) -> String {
        self.unique_id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
    }
}

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server refused a command.
    #[error("{command} was refused: {reply}")]
    Refused {
        /// The command, without its secrets.
        command: &'static str,
        /// What the server said.
        reply: String,
    },
    /// What the server said is no POP3 answer.
    #[error("the server does not speak POP3: {0:?}")]
    NotPop3(String),
    /// The connection failed.
    #[error("the connection to the POP3 server failed: {0}")]
    Connection(#[from] io::Error),
    /// It took too long.
    #[error("the POP3 server took too long")]
    Timeout,
}

impl FetchError {
    /// Whether the next attempt may find it otherwise: somebody else has the maildrop, or the network failed.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused { reply, .. } => reply.contains("[IN-USE]") || reply.contains("[SYS/TEMP]"),
            Self::NotPop3(_) => false,
            Self::Connection(_) | Self::Timeout => true,
        }
    }
}

impl Fetch {
    /// One session: fetches what matches, and deletes it where that is asked for.
    ///
    /// # Errors
    /// [`FetchError`]; nothing is deleted then.
    pub async fn run(&self) -> Result<Vec<Fetched>, FetchError> {
        timeout(self.target.timeout, self.dialogue()).await.map_err(|_| FetchError::Timeout)?
    }

    async fn dialogue(&self) -> Result<Vec<Fetched>, FetchError> {
        let mut session = Session { connection: self.target.connect().await? };
        session.answer("the connection").await?;
        if self.target.tls == TlsMode::Starttls {
            session.command("STLS", "STLS").await?;
            session = Session { connection: self.target.encrypt(session.connection).await? };
        }
        session.command("USER", &format!("USER {}", self.user)).await?;
        session.command("PASS", &Zeroizing::new(format!("PASS {}", *self.password))).await?;
        let mut messages = Vec::new();
        for (number, unique_id) in session.unique_ids().await? {
            session.command("RETR", &format!("RETR {number}")).await?;
            let octets = session.block().await?;
            let wanted = self.containing.as_ref().is_none_or(|text| contains(&octets, text));
            if wanted {
                if self.delete {
                    session.command("DELE", &format!("DELE {number}")).await?;
                }
                messages.push(Fetched { unique_id, octets });
            }
        }
        session.command("QUIT", "QUIT").await?;
        Ok(messages)
    }
}

fn contains(octets: &[u8], text: &str) -> bool {
    memchr::memmem::find(octets, text.as_bytes()).is_some()
}

struct Session {
    connection: Connection,
}

impl Session {
    async fn command(&mut self, name: &'static str, line: &str) -> Result<String, FetchError> {
        self.connection.write(Zeroizing::new(format!("{line}\r\n")).as_bytes()).await?;
        self.answer(name).await
    }

    async fn answer(&mut self, command: &'static str) -> Result<String, FetchError> {
        let line = self.connection.line().await?;
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if line.starts_with("+OK") {
            Ok(line)
        } else if line.starts_with("-ERR") {
            Err(FetchError::Refused { command, reply: line })
        } else {
            Err(FetchError::NotPop3(line))
        }
    }

    async fn unique_ids(&mut self) -> Result<Vec<(u64, String)>, FetchError> {
        self.command("UIDL", "UIDL").await?;
        let listing = self.block().await?;
        let listing = String::from_utf8_lossy(&listing).into_owned();
        let entry = |line: &str| {
            let (number, unique_id) = line.split_once(' ')?;
            Some((number.parse().ok()?, unique_id.to_owned()))
        };
        listing.lines().map(|line| entry(line).ok_or_else(|| FetchError::NotPop3(line.to_owned()))).collect()
    }

    /// A multi-line answer without its byte-stuffing and final dot (RFC 1939 §3).
    async fn block(&mut self) -> Result<Vec<u8>, FetchError> {
        let mut octets = Vec::new();
        loop {
            let line = self.connection.line().await?;
            match line.strip_prefix(b".") {
                Some(b"\r\n") => return Ok(octets),
                Some(rest) => octets.extend_from_slice(rest),
                None => octets.extend_from_slice(&line),
            }
        }
    }
}

//! Sending one message by SMTP (RFC 5321), with STARTTLS (RFC 3207) and AUTH PLAIN (RFC 4954).

use std::fmt;
use std::io;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::connection::{Connection, Target, TlsMode};
use super::message;

/// Who sends.
pub struct Login {
    /// The mailbox.
    pub user: String,
    /// Its password.
    pub password: Zeroizing<String>,
}

/// A message to be sent.
pub struct Send<'a> {
    /// Where.
    pub target: Target,
    /// As whom, where the server asks.
    pub login: Option<Login>,
    /// The envelope sender; empty: the null reverse-path.
    pub from: String,
    /// The envelope recipients.
    pub to: Vec<String>,
    /// The message with CR LF line ends.
    pub message: &'a [u8],
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.lines.join(" / "))
    }
}

/// Why the message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The server refused a step.
    #[error("{step} was refused: {reply}")]
    Refused {
        /// The command, without its secrets.
        step: String,
        /// What the server said.
        reply: Reply,
    },
    /// TLS was asked for, and the server does not offer it.
    #[error("the server offers no STARTTLS")]
    NoTls,
    /// What the server said is no SMTP reply.
    #[error("the server does not speak SMTP: {0:?}")]
    NotSmtp(String),
    /// The connection failed.
    #[error("the connection to the mail server failed: {0}")]
    Connection(#[from] io::Error),
    /// It took too long.
    #[error("the mail server took too long")]
    Timeout,
}

impl Send<'_> {
    /// Sends it. Returns the reply to the end of the message: 250.
    ///
    /// # Errors
    /// [`SendError`]; the first refusal decides, and nothing is sent to anybody then.
    pub async fn run(&self) -> Result<Reply, SendError> {
        timeout(self.target.timeout, self.dialogue()).await.map_err(|_| SendError::Timeout)?
    }

    async fn dialogue(&self) -> Result<Reply, SendError> {
        let mut session = Session { connection: self.target.connect().await? };
        session.expect("the connection", 220).await?;
        let mut offered = session.hello().await?;
        if self.target.tls == TlsMode::Starttls {
            if !offered.has("STARTTLS") {
                return Err(SendError::NoTls);
            }
            session.command("STARTTLS", 220).await?;
            session = Session { connection: self.target.encrypt(session.connection).await? };
            offered = session.hello().await?;
        }
        if let Some(login) = &self.login {
            session.log_in(login).await?;
        }
        let size = if offered.has("SIZE") { format!(" SIZE={}", self.message.len()) } else { String::new() };
        let body = if offered.has("8BITMIME") && !self.message.is_ascii() { " BODY=8BITMIME" } else { "" };
        session.command(&format!("MAIL FROM:<{}>{size}{body}", self.from), 250).await?;
        for recipient in &self.to {
            session.command(&format!("RCPT TO:<{recipient}>"), 250).await?;
        }
        session.command("DATA", 354).await?;
        session.connection.write(&message::stuffed(self.message)).await?;
        let reply = session.expect("the message", 250).await?;
        // The message is sent; whether the server hears the farewell does not matter.
        let _ = session.connection.write(b"QUIT\r\n").await;
        Ok(reply)
    }
}

/// The extensions in an EHLO reply.
struct Offered(Reply);

impl Offered {
    fn has(&self, extension: &str) -> bool {
        let keyword = |line: &String| line.split(' ').next().is_some_and(|word| word.eq_ignore_ascii_case(extension));
        self.0.lines.iter().skip(1).any(keyword)
    }
}

struct Session {
    connection: Connection,
}

impl Session {
    async fn hello(&mut self) -> Result<Offered, SendError> {
        // RFC 5321 §4.1.4: a client without a name of its own uses its address.
        let literal = match self.connection.own_address.ip().to_canonical() {
            IpAddr::V4(address) => format!("[{address}]"),
            IpAddr::V6(address) => format!("[IPv6:{address}]"),
        };
        self.command(&format!("EHLO {literal}"), 250).await.map(Offered)
    }

    async fn log_in(&mut self, login: &Login) -> Result<(), SendError> {
        let response = Zeroizing::new(format!("\0{}\0{}", login.user, *login.password));
        let line = Zeroizing::new(format!("AUTH PLAIN {}\r\n", STANDARD.encode(response.as_bytes())));
        self.connection.write(line.as_bytes()).await?;
        self.expect("AUTH PLAIN", 235).await.map(drop)
    }

    async fn command(&mut self, command: &str, code: u16) -> Result<Reply, SendError> {
        self.connection.write(format!("{command}\r\n").as_bytes()).await?;
        self.expect(command, code).await
    }

    async fn expect(&mut self, step: &str, code: u16) -> Result<Reply, SendError> {
        let reply = self.reply().await?;
        if reply.code == code { Ok(reply) } else { Err(SendError::Refused { step: step.to_owned(), reply }) }
    }

    async fn reply(&mut self) -> Result<Reply, SendError> {
        let mut lines = Vec::new();
        loop {
            let octets = self.connection.line().await?;
            let line = String::from_utf8_lossy(&octets).trim_end().to_owned();
            let (code, last, text) = divide(&line).ok_or_else(|| SendError::NotSmtp(line.clone()))?;
            lines.push(text.to_owned());
            // More lines than any reply has.
            if last || lines.len() > 1_000 {
                return Ok(Reply { code, lines });
            }
        }
    }
}

/// Code, whether it is the last line, and text.
fn divide(line: &str) -> Option<(u16, bool, &str)> {
    let code = line.get(..3)?.parse().ok().filter(|code| (200..600).contains(code))?;
    match line.get(3..4) {
        None => Some((code, true, "")),
        Some(" ") => Some((code, true, &line[4..])),
        Some("-") => Some((code, false, &line[4..])),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_lines() {
        assert_eq!(divide("250 2.0.0 ok"), Some((250, true, "2.0.0 ok")));
        assert_eq!(divide("250-PIPELINING"), Some((250, false, "PIPELINING")));
        assert_eq!(divide("354"), Some((354, true, "")));
        for bad in ["", "25", "hello", "+OK ready", "999 x", "250_x", "25é x"] {
            assert_eq!(divide(bad), None, "{bad}");
        }
    }
}

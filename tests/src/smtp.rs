//! A small SMTP client (RFC 5321, RFC 3207, RFC 4954), written against the RFCs and not against our server.

use std::fmt;

use anyhow::{Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::endpoint::{Endpoint, Login, Security};
use crate::wire::Wire;

/// What a server answers: a code and the text of each line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The lines behind them.
    pub lines: Vec<String>,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.lines.join(" / "))
    }
}

/// A session with a server.
pub struct Client {
    wire: Wire,
    /// The keywords of the last EHLO reply, upper case.
    pub extensions: Vec<String>,
}

impl Client {
    /// Connects, reads the greeting, says EHLO, and starts TLS where the endpoint says so.
    ///
    /// # Errors
    /// When the server is not there or does not play along.
    pub fn connect(endpoint: &Endpoint) -> Result<Self> {
        let mut client = Self { wire: Wire::plain(endpoint.dial()?)?, extensions: Vec::new() };
        if let Security::Implicit(certificate) = &endpoint.security {
            client.wire.start_tls(&endpoint.name, certificate)?;
        }
        client.read_reply()?.expect(220)?;
        client.hello()?;
        if let Security::StartTls(certificate) = &endpoint.security {
            client.command("STARTTLS")?.expect(220)?;
            client.wire.start_tls(&endpoint.name, certificate)?;
            client.hello()?;
        }
        Ok(client)
    }

    fn hello(&mut self) -> Result<()> {
        let reply = self.command("EHLO client.test")?;
        reply.expect(250)?;
        self.extensions = reply.lines.iter().skip(1).map(|line| line.to_uppercase()).collect();
        Ok(())
    }

    /// Logs in with AUTH PLAIN (RFC 4616).
    ///
    /// # Errors
    /// When the server says no.
    pub fn log_in(&mut self, login: &Login) -> Result<()> {
        self.authenticate(login)?.expect(235)
    }

    /// AUTH PLAIN, and what the server says to it.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn authenticate(&mut self, login: &Login) -> Result<Reply> {
        let response = STANDARD.encode(format!("\0{}\0{}", login.user, login.password));
        self.command(&format!("AUTH PLAIN {response}"))
    }

    /// Sends one message, already with CRLF line ends, and gives the reply to its data.
    ///
    /// # Errors
    /// When the server refuses the sender, a recipient or the message, or the connection is lost.
    pub fn send(&mut self, from: &str, to: &[&str], message: &[u8]) -> Result<Reply> {
        self.command(&format!("MAIL FROM:<{from}>"))?.expect(250)?;
        for recipient in to {
            self.command(&format!("RCPT TO:<{recipient}>"))?.expect(250)?;
        }
        self.command("DATA")?.expect(354)?;
        let reply = self.data(message)?;
        reply.expect(250)?;
        Ok(reply)
    }

    /// The data itself, dot-stuffed (RFC 5321 §4.5.2) and ended.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn data(&mut self, message: &[u8]) -> Result<Reply> {
        self.wire.write(&stuff(message))?;
        self.read_reply()
    }

    /// Sends one command line.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn command(&mut self, line: &str) -> Result<Reply> {
        self.wire.write(format!("{line}\r\n").as_bytes())?;
        self.read_reply()
    }

    /// The connection itself, for who wants to say what no client says.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Reads one reply, of one or more lines.
    ///
    /// # Errors
    /// When the connection is lost or what comes is no reply.
    pub fn read_reply(&mut self) -> Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let line = String::from_utf8_lossy(&self.wire.read_line()?).into_owned();
            let Some((code, rest)) = line.split_at_checked(3) else { bail!("no reply: {line:?}") };
            let code: u16 = code.parse()?;
            let last = !rest.starts_with('-');
            lines.push(rest.get(1..).unwrap_or("").to_owned());
            if last {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn quit(mut self) -> Result<()> {
        self.command("QUIT")?.expect(221)
    }
}

impl Reply {
    /// Insists on a code.
    ///
    /// # Errors
    /// When it is another; the error is the reply.
    pub fn expect(&self, code: u16) -> Result<()> {
        ensure!(self.code == code, "the server said: {self}");
        Ok(())
    }
}

/// One message over one connection: connect, log in where a login is given, send, quit.
///
/// # Errors
/// When any of it fails.
pub fn send(endpoint: &Endpoint, login: Option<&Login>, from: &str, to: &[&str], message: &[u8]) -> Result<Reply> {
    let mut client = Client::connect(endpoint)?;
    if let Some(login) = login {
        client.log_in(login)?;
    }
    let reply = client.send(from, to, message)?;
    client.quit()?;
    Ok(reply)
}

fn stuff(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + message.len() / 64 + 8);
    let mut line_start = true;
    for octet in message {
        if line_start && *octet == b'.' {
            out.push(b'.');
        }
        out.push(*octet);
        line_start = *octet == b'\n';
    }
    if !message.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::stuff;

    #[test]
    fn leading_dots_are_doubled_and_the_end_is_marked() {
        assert_eq!(stuff(b"a\r\n.b\r\n..\r\nc.d\r\n"), b"a\r\n..b\r\n...\r\nc.d\r\n.\r\n");
        assert_eq!(stuff(b""), b"\r\n.\r\n");
        assert_eq!(stuff(b"a"), b"a\r\n.\r\n");
    }
}

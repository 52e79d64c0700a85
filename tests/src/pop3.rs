//! A small POP3 client (RFC 1939, RFC 2595), written against the RFCs and not against our server.

use anyhow::{Context, Result, bail};

use crate::endpoint::{Endpoint, Login, Security};
use crate::wire::Wire;

/// A session with a server.
pub struct Client {
    wire: Wire,
}

/// A message of the maildrop: its number and its unique-id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its number in this session.
    pub number: usize,
    /// Its unique-id, the same in every session.
    pub unique_id: String,
}

impl Client {
    /// Connects, reads the greeting, and starts TLS where the endpoint says so.
    ///
    /// # Errors
    /// When the server is not there or does not play along.
    pub fn connect(endpoint: &Endpoint) -> Result<Self> {
        let mut client = Self { wire: Wire::plain(endpoint.dial()?)? };
        if let Security::Implicit(certificate) = &endpoint.security {
            client.wire.start_tls(&endpoint.name, certificate)?;
        }
        client.read_answer()?;
        if let Security::StartTls(certificate) = &endpoint.security {
            client.command("STLS")?;
            client.wire.start_tls(&endpoint.name, certificate)?;
        }
        Ok(client)
    }

    /// USER and PASS.
    ///
    /// # Errors
    /// When the server says no.
    pub fn log_in(&mut self, login: &Login) -> Result<()> {
        self.command(&format!("USER {}", login.user))?;
        self.command(&format!("PASS {}", login.password)).context("login refused")?;
        Ok(())
    }

    /// The messages of the maildrop.
    ///
    /// # Errors
    /// When the server says no.
    pub fn list(&mut self) -> Result<Vec<Listed>> {
        self.command("UIDL")?;
        let text = String::from_utf8(self.read_data()?)?;
        text.lines()
            .map(|line| {
                let (number, unique_id) = line.split_once(' ').with_context(|| format!("no unique-id in {line:?}"))?;
                Ok(Listed { number: number.parse()?, unique_id: unique_id.to_owned() })
            })
            .collect()
    }

    /// One message, whole.
    ///
    /// # Errors
    /// When the server says no.
    pub fn retrieve(&mut self, number: usize) -> Result<Vec<u8>> {
        self.command(&format!("RETR {number}"))?;
        self.read_data()
    }

    /// Marks a message for deletion at [`Client::quit`].
    ///
    /// # Errors
    /// When the server says no.
    pub fn delete(&mut self, number: usize) -> Result<()> {
        self.command(&format!("DELE {number}")).map(drop)
    }

    /// Ends the session; only then is deleted what was marked.
    ///
    /// # Errors
    /// When the server says no.
    pub fn quit(mut self) -> Result<()> {
        self.command("QUIT").map(drop)
    }

    /// Sends one command line and insists on `+OK`; gives what stands behind it.
    ///
    /// # Errors
    /// When the server answers `-ERR`; the error is its answer.
    pub fn command(&mut self, line: &str) -> Result<String> {
        self.wire.write(format!("{line}\r\n").as_bytes())?;
        self.read_answer()
    }

    /// The connection itself, for who wants to say what no client says.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    fn read_answer(&mut self) -> Result<String> {
        let line = String::from_utf8_lossy(&self.wire.read_line()?).into_owned();
        match line.strip_prefix("+OK") {
            Some(rest) => Ok(rest.trim_start().to_owned()),
            None => bail!("the server said: {line}"),
        }
    }

    /// A multi-line answer, without byte-stuffing and without its final dot (RFC 1939 §3).
    fn read_data(&mut self) -> Result<Vec<u8>> {
        let mut data = Vec::new();
        loop {
            let line = self.wire.read_line()?;
            match line.as_slice() {
                b"." => return Ok(data),
                [b'.', rest @ ..] => data.extend_from_slice(rest),
                line => data.extend_from_slice(line),
            }
            data.extend_from_slice(b"\r\n");
        }
    }
}

/// Every message of a maildrop, over one connection; nothing is deleted.
///
/// # Errors
/// When the server is not there or says no.
pub fn fetch_all(endpoint: &Endpoint, login: &Login) -> Result<Vec<Vec<u8>>> {
    let mut client = Client::connect(endpoint)?;
    client.log_in(login)?;
    let messages = client.list()?.iter().map(|listed| client.retrieve(listed.number)).collect::<Result<Vec<_>>>()?;
    client.quit()?;
    Ok(messages)
}

/// Empties a maildrop, and gives what was in it.
///
/// # Errors
/// When the server is not there or says no.
pub fn take_all(endpoint: &Endpoint, login: &Login) -> Result<Vec<Vec<u8>>> {
    let mut client = Client::connect(endpoint)?;
    client.log_in(login)?;
    let mut messages = Vec::new();
    for listed in client.list()? {
        messages.push(client.retrieve(listed.number)?);
        client.delete(listed.number)?;
    }
    client.quit()?;
    Ok(messages)
}

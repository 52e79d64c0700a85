//! A line-by-line client that expects its server to vanish at any moment.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use crate::support::DEADLINE;

/// A connection.
pub struct Wire {
    stream: BufReader<TcpStream>,
}

fn ended() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

impl Wire {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::accepted(TcpStream::connect(address)?)
    }

    /// One that somebody else has opened.
    pub fn accepted(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Self { stream: BufReader::with_capacity(64 * 1024, stream) })
    }

    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(octets)
    }

    /// A line without its CRLF.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        let line = line.strip_suffix(b"\r\n").ok_or_else(ended)?;
        Ok(String::from_utf8_lossy(line).into_owned())
    }

    /// The last line of an SMTP reply.
    pub fn reply(&mut self) -> io::Result<String> {
        loop {
            let line = self.line()?;
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line);
            }
        }
    }

    pub fn smtp(&mut self, command: &str) -> io::Result<String> {
        self.send(format!("{command}\r\n").as_bytes())?;
        self.reply()
    }

    pub fn pop3(&mut self, command: &str) -> io::Result<String> {
        self.send(format!("{command}\r\n").as_bytes())?;
        self.line()
    }

    /// The lines of a multi-line answer.
    pub fn lines(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            match self.line()? {
                line if line == "." => return Ok(lines),
                line => lines.push(line),
            }
        }
    }

    /// `RETR`: the message as it is.
    pub fn retrieve(&mut self, number: usize) -> io::Result<Vec<u8>> {
        let answer = self.pop3(&format!("RETR {number}"))?;
        if !answer.starts_with("+OK") {
            return Err(io::Error::other(answer));
        }
        self.content()
    }

    /// Lines up to a dot alone, without dot-stuffing.
    pub fn content(&mut self) -> io::Result<Vec<u8>> {
        let mut message = Vec::new();
        loop {
            let start = message.len();
            if self.stream.read_until(b'\n', &mut message)? == 0 {
                return Err(ended());
            }
            if &message[start..] == b".\r\n" {
                message.truncate(start);
                return Ok(message);
            }
            if message[start] == b'.' {
                message.remove(start);
            }
        }
    }
}

//! The POP3 suite: [`PARTS`], one module for each RFC, and the sessions that their requirements use.
//!
//! Its maildrop has to hold the messages of [`samples`]: deliver them first, by whatever way the server has.

mod rfc1939;
mod rfc1939_update;
mod rfc2449;
mod rfc2595;
mod rfc3206;
mod rfc5034;
mod rfc6856;
pub mod samples;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::Parts;
use super::client::{Connection, show};
use super::target::{Target, Tls};

/// The suite, in the order in which it runs: what deletes comes last.
pub const PARTS: Parts = &[
    rfc1939::REQUIREMENTS,
    rfc2449::REQUIREMENTS,
    rfc2595::REQUIREMENTS,
    rfc3206::REQUIREMENTS,
    rfc5034::REQUIREMENTS,
    rfc6856::REQUIREMENTS,
    rfc1939_update::REQUIREMENTS,
];

/// From where a dialogue begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The greeting was read; TLS is on as the suite was told.
    Authorization,
    /// The login is done.
    Transaction,
    /// The greeting was read, in clear even where the suite runs under TLS by STLS.
    Clear,
}

/// One session with the server under test.
pub struct Session {
    /// The connection, for what no client says.
    pub connection: Connection,
    /// The lines of the last CAPA.
    pub capabilities: Vec<String>,
    /// What the server said first.
    pub greeting: String,
}

impl Session {
    /// Connects and reads the greeting; under TLS where that is implicit.
    ///
    /// # Errors
    /// When the server does not greet.
    pub fn connect(target: &Target) -> Result<Self> {
        let mut connection = Connection::open(&target.port.host, target.port.port, target.patience)?;
        if target.port.tls == Tls::Implicit {
            connection.start_tls(&target.port.host)?;
        }
        let mut session = Self { connection, capabilities: Vec::new(), greeting: String::new() };
        session.greeting = session.line()?;
        ensure!(session.greeting.starts_with("+OK"), "the greeting is {:?}", session.greeting);
        Ok(session)
    }

    /// Connects in clear, and asks for the capabilities.
    ///
    /// # Errors
    /// When the server does not play along.
    pub fn clear(target: &Target) -> Result<Self> {
        let mut session = Self::connect(target)?;
        session.ask()?;
        Ok(session)
    }

    /// Connects, and begins TLS as the suite was told.
    ///
    /// # Errors
    /// When the server does not play along.
    pub fn protected(target: &Target) -> Result<Self> {
        let mut session = Self::connect(target)?;
        if target.port.tls == Tls::Starttls {
            session.ok("STLS")?;
            session.connection.start_tls(&target.port.host)?;
        }
        Ok(session)
    }

    /// The same, and asks for the capabilities, before and after the login: some are only there then (RFC 2449 §5).
    ///
    /// # Errors
    /// When the server does not play along.
    pub fn capable(target: &Target) -> Result<Self> {
        let mut session = Self::protected(target)?;
        session.ask()?;
        let before = std::mem::take(&mut session.capabilities);
        session.log_in(target)?;
        session.ask()?;
        session.capabilities.extend(before);
        Ok(session)
    }

    /// Logs in with USER and PASS.
    ///
    /// # Errors
    /// When the server says no.
    pub fn log_in(&mut self, target: &Target) -> Result<()> {
        let login = target.login()?;
        self.ok(&format!("USER {}", login.user))?;
        self.ok(&format!("PASS {}", login.password)).context("the login failed")?;
        Ok(())
    }

    /// A session in the TRANSACTION state. A server sees the end of the session before when it sees it: until then it may
    /// say that the maildrop is in use.
    ///
    /// # Errors
    /// When the server does not play along.
    pub fn open(target: &Target) -> Result<Self> {
        let deadline = Instant::now() + target.patience;
        loop {
            let mut session = Self::protected(target)?;
            match session.log_in(target) {
                Ok(()) => return Ok(session),
                Err(error) if format!("{error:#}").contains("[IN-USE]") && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn at(target: &Target, start: Start) -> Result<Self> {
        match start {
            Start::Authorization => Self::protected(target),
            Start::Transaction => Self::open(target),
            Start::Clear => Self::connect(target),
        }
    }

    fn ask(&mut self) -> Result<()> {
        // A server without CAPA has no capabilities (RFC 2449 §5).
        if self.say("CAPA")?.starts_with("+OK") {
            self.capabilities = self.listing()?;
        }
        Ok(())
    }

    /// The arguments of a capability.
    #[must_use]
    pub fn capability(&self, name: &str) -> Option<&str> {
        let mut lines = self.capabilities.iter().map(|line| line.split_once(' ').unwrap_or((line, "")));
        lines.find(|(first, _)| first.eq_ignore_ascii_case(name)).map(|(_, rest)| rest)
    }

    /// The next line.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn line(&mut self) -> Result<String> {
        match self.connection.line()? {
            Some(line) => Ok(String::from_utf8_lossy(&line).into_owned()),
            None => bail!("the server closed the connection instead of answering"),
        }
    }

    /// One command, and the first line of its answer.
    ///
    /// # Errors
    /// When the connection is lost, or the line is no answer (RFC 1939 §3).
    pub fn say(&mut self, command: &str) -> Result<String> {
        self.connection.send(format!("{command}\r\n").as_bytes())?;
        self.answer()
    }

    /// The first line of the next answer.
    ///
    /// # Errors
    /// When the connection is lost, or the line is no answer.
    pub fn answer(&mut self) -> Result<String> {
        let line = self.line()?;
        ensure!(
            line.starts_with("+OK") || line.starts_with("-ERR") || line.starts_with("+ ") || line == "+",
            "this is no answer: {}",
            show(line.as_bytes())
        );
        Ok(line)
    }

    /// One command that has to succeed; what is behind `+OK`.
    ///
    /// # Errors
    /// When the server says no.
    pub fn ok(&mut self, command: &str) -> Result<String> {
        let line = self.say(command)?;
        let verb = command.split(' ').next().unwrap_or_default();
        let rest = line.strip_prefix("+OK").with_context(|| format!("{verb} is answered {line:?}"))?;
        Ok(rest.trim_start().to_owned())
    }

    /// One command that has to fail; its answer.
    ///
    /// # Errors
    /// When it succeeds.
    pub fn err(&mut self, command: &str) -> Result<String> {
        let line = self.say(command)?;
        let verb = command.split(' ').next().unwrap_or_default();
        ensure!(line.starts_with("-ERR"), "{verb} is answered {line:?}");
        Ok(line)
    }

    /// The lines of a multi-line answer, as text.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn listing(&mut self) -> Result<Vec<String>> {
        let data = self.data()?;
        Ok(String::from_utf8_lossy(&data).lines().map(str::to_owned).collect())
    }

    /// A multi-line answer's octets, without byte-stuffing and its end (RFC 1939 §3).
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn data(&mut self) -> Result<Vec<u8>> {
        let mut data = Vec::new();
        loop {
            let line = self.connection.text_line()?;
            match line.as_slice() {
                b"." => return Ok(data),
                [b'.', rest @ ..] => {
                    ensure!(rest.starts_with(b"."), "a line begins with a dot that is not doubled: {}", show(&line));
                    data.extend_from_slice(rest);
                }
                line => data.extend_from_slice(line),
            }
            data.extend_from_slice(b"\r\n");
        }
    }

    /// One command with a multi-line answer, its octets.
    ///
    /// # Errors
    /// When the server says no.
    pub fn fetch(&mut self, command: &str) -> Result<Vec<u8>> {
        self.ok(command)?;
        self.data()
    }

    /// One command with a multi-line answer, its lines.
    ///
    /// # Errors
    /// When the server says no.
    pub fn list(&mut self, command: &str) -> Result<Vec<String>> {
        self.ok(command)?;
        self.listing()
    }

    /// STAT: messages and octets.
    ///
    /// # Errors
    /// When the answer is not two numbers.
    pub fn stat(&mut self) -> Result<(u64, u64)> {
        let answer = self.ok("STAT")?;
        let mut words = answer.split(' ');
        let mut number =
            || words.next().and_then(|word| word.parse().ok()).with_context(|| format!("STAT says {answer:?}"));
        Ok((number()?, number()?))
    }

    /// Message numbers with the second word of LIST or UIDL.
    ///
    /// # Errors
    /// When a line is not a number and a word.
    pub fn numbered(&mut self, command: &str) -> Result<Vec<(u64, String)>> {
        let lines = self.list(command)?;
        let read = |line: &String| {
            let (number, word) = line.split_once(' ').with_context(|| format!("{command} lists {line:?}"))?;
            Ok((number.parse().with_context(|| format!("{command} lists {line:?}"))?, word.to_owned()))
        };
        lines.iter().map(read).collect()
    }

    /// The number of a message of the samples, by its subject.
    ///
    /// # Errors
    /// When the maildrop has it not.
    pub fn sample(&mut self, sample: &samples::Sample) -> Result<u64> {
        let wanted = format!("Subject: {}\r\n", sample.subject);
        for (number, _) in self.numbered("LIST")? {
            let header = self.fetch(&format!("TOP {number} 0"))?;
            if String::from_utf8_lossy(&header).contains(&wanted) {
                return Ok(number);
            }
        }
        bail!("the maildrop has no message with the subject {:?}: deliver the samples first", sample.subject)
    }
}

/// Plays a dialogue. A step is what the client says, and how the first line of the answer has to begin; alternatives are
/// divided by `|`. A line that ends with LF is sent as it is, any other gets its CRLF; an empty one only reads. `closed`
/// instead of an answer: the server has to close. `lines`: a multi-line answer has to follow `+OK`.
///
/// # Errors
/// When the server says something else.
pub fn dialogue(target: &Target, start: Start, steps: &[(&str, &str)]) -> Result<()> {
    let mut session = Session::at(target, start)?;
    for (line, expected) in steps {
        let said = || format!("after {:?}", line.chars().take(80).collect::<String>());
        let text = target.fill(line);
        if text.ends_with('\n') {
            session.connection.send(text.as_bytes())?;
        } else if !text.is_empty() {
            session.connection.send(format!("{text}\r\n").as_bytes())?;
        }
        if *expected == "closed" {
            session.connection.expect_end().with_context(said)?;
            continue;
        }
        let answer = session.answer().with_context(said)?;
        let begins = if *expected == "lines" { "+OK" } else { expected };
        ensure!(
            begins.split('|').any(|alternative| answer.starts_with(alternative)),
            "{}: expected {begins}, got {answer:?}",
            said()
        );
        if *expected == "lines" {
            session.data().with_context(said)?;
        }
    }
    Ok(())
}

/// Empties a maildrop, and gives what was in it.
///
/// # Errors
/// When the maildrop cannot be opened.
pub fn take_all(target: &Target) -> Result<Vec<Vec<u8>>> {
    let mut session = Session::protected(target)?;
    // Without it a server may show headers in UTF-8 as something else (RFC 6856 §2.1); one that has it not refuses it.
    session.say("UTF8")?;
    session.log_in(target)?;
    let mut taken = Vec::new();
    let (count, _) = session.stat()?;
    for number in 1..=count {
        taken.push(session.fetch(&format!("RETR {number}"))?);
        session.ok(&format!("DELE {number}"))?;
    }
    session.ok("QUIT")?;
    Ok(taken)
}

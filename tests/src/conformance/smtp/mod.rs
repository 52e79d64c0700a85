//! The SMTP suite: [`PARTS`], one module for each RFC, and the sessions that their requirements use.

mod rfc1870;
mod rfc2034;
mod rfc2852;
mod rfc2920;
mod rfc3030;
mod rfc3207;
mod rfc3461;
mod rfc4865;
mod rfc4954;
mod rfc5321;
mod rfc5321_limits;
mod rfc5321_mail;
mod rfc6152;
mod rfc6531;
mod rfc6710;
mod rfc8689;
mod rfc9422;
mod smuggling;

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::client::{Connection, show};
use super::target::{Port, Target, Tls};
use super::{Parts, pop3};

/// The suite, in the order in which it runs.
pub const PARTS: Parts = &[
    rfc5321::REQUIREMENTS,
    rfc5321_limits::REQUIREMENTS,
    rfc5321_mail::REQUIREMENTS,
    smuggling::REQUIREMENTS,
    rfc1870::REQUIREMENTS,
    rfc2034::REQUIREMENTS,
    rfc2852::REQUIREMENTS,
    rfc2920::REQUIREMENTS,
    rfc3030::REQUIREMENTS,
    rfc3207::REQUIREMENTS,
    rfc3461::REQUIREMENTS,
    rfc4865::REQUIREMENTS,
    rfc4954::REQUIREMENTS,
    rfc6152::REQUIREMENTS,
    rfc6531::REQUIREMENTS,
    rfc6710::REQUIREMENTS,
    rfc8689::REQUIREMENTS,
    rfc9422::REQUIREMENTS,
];

/// The name that the suite gives itself.
pub const CLIENT_NAME: &str = "conformance.example";
/// How long a message may take from its 250 to its maildrop.
const DELIVERY: Duration = Duration::from_secs(60);

/// From where a dialogue begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The greeting was read.
    Connected,
    /// The greeting was read, in clear even where the suite runs under TLS by STARTTLS; EHLO was said.
    Clear,
    /// EHLO was said, TLS and login are as the suite was told.
    Ready,
    /// And MAIL.
    Mail,
    /// And one RCPT.
    Recipient,
    /// And DATA.
    Data,
}

/// What the server said to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its code.
    pub code: u16,
    /// The text of each line, after the code and its separator.
    pub lines: Vec<String>,
}

impl Reply {
    /// Whether it begins with one of some alternatives, divided by `|`: `5`, `250|251`, `452 4.5.3`.
    #[must_use]
    pub fn is(&self, expected: &str) -> bool {
        let line = self.to_string();
        expected.split('|').any(|alternative| line.starts_with(alternative))
    }

    /// Insists on how it begins.
    ///
    /// # Errors
    /// When it begins otherwise.
    pub fn expect(&self, expected: &str) -> Result<&Self> {
        ensure!(self.is(expected), "expected {expected}, got {self:?}");
        Ok(self)
    }

    /// The enhanced status code of a line (RFC 2034 §4), if it has one.
    #[must_use]
    pub fn enhanced(line: &str) -> Option<&str> {
        let word = line.split(' ').next()?;
        let numbers: Vec<&str> = word.split('.').collect();
        let digits = |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        (numbers.len() == 3 && numbers.iter().all(digits)).then_some(word)
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, self.lines.first().map_or("", String::as_str))
    }
}

/// One session with the server under test.
pub struct Session {
    /// The connection, for what no client says.
    pub connection: Connection,
    /// The keyword lines of the last EHLO, in upper case.
    pub keywords: Vec<String>,
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
        let mut session = Self { connection, keywords: Vec::new() };
        session.reply()?.expect("220")?;
        Ok(session)
    }

    /// Connects and says EHLO, without STARTTLS.
    ///
    /// # Errors
    /// When the server does not play along.
    pub fn clear(target: &Target) -> Result<Self> {
        let mut session = Self::connect(target)?;
        session.hello()?;
        Ok(session)
    }

    /// Connects, says EHLO, and begins TLS as the suite was told; nobody logs in.
    ///
    /// # Errors
    /// When the server does not play along.
    pub fn protected(target: &Target) -> Result<Self> {
        let mut session = Self::clear(target)?;
        if target.port.tls == Tls::Starttls {
            session.start_tls(target)?;
            session.hello()?;
        }
        Ok(session)
    }

    /// A session that may send mail.
    ///
    /// # Errors
    /// When the server does not play along.
    pub fn ready(target: &Target) -> Result<Self> {
        let mut session = Self::protected(target)?;
        if let Some(login) = &target.port.login {
            let response = STANDARD.encode(format!("\0{}\0{}", login.user, login.password));
            session.say(&format!("AUTH PLAIN {response}"))?.expect("235").context("the login failed")?;
        }
        Ok(session)
    }

    /// A session in some state.
    ///
    /// # Errors
    /// When the server does not play along.
    pub fn at(target: &Target, start: Start) -> Result<Self> {
        let mut session = match start {
            Start::Connected => return Self::connect(target),
            Start::Clear => return Self::clear(target),
            Start::Ready | Start::Mail | Start::Recipient | Start::Data => Self::ready(target)?,
        };
        let commands = [("MAIL FROM:<{sender}>", "250"), ("RCPT TO:<{served}>", "250"), ("DATA", "354")];
        let count = match start {
            Start::Connected | Start::Clear | Start::Ready => 0,
            Start::Mail => 1,
            Start::Recipient => 2,
            Start::Data => 3,
        };
        for (command, expected) in &commands[..count] {
            session.say(&target.fill(command))?.expect(expected).with_context(|| format!("after {command}"))?;
        }
        Ok(session)
    }

    /// Says EHLO and keeps the keywords.
    ///
    /// # Errors
    /// When the answer is not 250.
    pub fn hello(&mut self) -> Result<Reply> {
        let reply = self.say(&format!("EHLO {CLIENT_NAME}"))?;
        reply.expect("250")?;
        self.keywords = reply.lines.iter().skip(1).map(|line| line.to_ascii_uppercase()).collect();
        Ok(reply)
    }

    /// STARTTLS and the handshake.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn start_tls(&mut self, target: &Target) -> Result<()> {
        self.say("STARTTLS")?.expect("220")?;
        self.connection.start_tls(&target.port.host)
    }

    /// The parameter of a keyword, such as the number of SIZE.
    #[must_use]
    pub fn parameter(&self, keyword: &str) -> Option<&str> {
        let mut words = self.keywords.iter().map(|line| line.split_once(' ').unwrap_or((line, "")));
        words.find(|(first, _)| *first == keyword).map(|(_, rest)| rest)
    }

    /// One command line, and its reply.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn say(&mut self, line: &str) -> Result<Reply> {
        self.connection.send(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Octets as they are, and the reply that they cause.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn raw(&mut self, octets: &[u8]) -> Result<Reply> {
        self.connection.send(octets)?;
        self.reply()
    }

    /// The next reply.
    ///
    /// # Errors
    /// When the connection is lost, or what comes is not a reply (RFC 5321 §4.2).
    pub fn reply(&mut self) -> Result<Reply> {
        match self.reply_or_end()? {
            Some(reply) => Ok(reply),
            None => bail!("the server closed the connection instead of answering"),
        }
    }

    /// The next reply, or `None` when the server has closed.
    ///
    /// # Errors
    /// When what comes is not a reply.
    pub fn reply_or_end(&mut self) -> Result<Option<Reply>> {
        let mut lines: Vec<String> = Vec::new();
        let mut first = None;
        loop {
            let Some(line) = self.connection.line()? else {
                ensure!(lines.is_empty(), "the server closed within a reply");
                return Ok(None);
            };
            let text = String::from_utf8_lossy(&line).into_owned();
            let code = text.get(..3).and_then(|digits| digits.parse::<u16>().ok());
            let separator = line.get(3).copied().unwrap_or(b' ');
            ensure!(
                code.is_some_and(|code| (200..600).contains(&code)) && matches!(separator, b' ' | b'-'),
                "this is not a reply line: {}",
                show(&line)
            );
            let code = code.unwrap_or_default();
            ensure!(*first.get_or_insert(code) == code, "the lines of one reply have different codes: {text}");
            lines.push(text.get(4..).unwrap_or("").to_owned());
            if separator == b' ' {
                return Ok(Some(Reply { code, lines }));
            }
        }
    }

    /// A message of its own in this session: MAIL, RCPT, DATA and the text, which is sent as it is.
    ///
    /// # Errors
    /// When the server refuses one of the commands; the reply to the text is given, whatever it is.
    pub fn message(&mut self, target: &Target, parameters: &str, text: &[u8]) -> Result<Reply> {
        self.say(&target.fill(&format!("MAIL FROM:<{{sender}}>{parameters}")))?.expect("250")?;
        self.say(&target.fill("RCPT TO:<{served}>"))?.expect("250")?;
        self.say("DATA")?.expect("354")?;
        self.raw(text)
    }
}

/// Plays a dialogue. A step is what the client says and how the reply has to begin ([`Reply::is`]). A line that ends with
/// LF is sent as it is, any other gets its CRLF; an empty one only reads. `{sender}`, `{served}` … are the target's
/// ([`Target::fill`]). `closed` instead of a reply: the server has to close.
///
/// # Errors
/// When the server says something else.
pub fn dialogue(target: &Target, start: Start, steps: &[(&str, &str)]) -> Result<()> {
    let mut session = Session::at(target, start)?;
    for (line, expected) in steps {
        let line = target.fill(line);
        if line.ends_with('\n') {
            session.connection.send(line.as_bytes())?;
        } else if !line.is_empty() {
            session.connection.send(format!("{line}\r\n").as_bytes())?;
        }
        let said = || format!("after {:?}", line.chars().take(80).collect::<String>());
        if *expected == "closed" {
            session.connection.expect_end().with_context(said)?;
        } else {
            session.reply().and_then(|reply| reply.expect(expected).cloned()).with_context(said)?;
        }
    }
    Ok(())
}

/// A word that is in one message only, so that it can be found.
#[must_use]
pub fn marker() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("marker-{}-{}-end", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits for the message with a marker in the served recipient's maildrop.
///
/// # Errors
/// When it does not come in time.
pub fn delivered(target: &Target, marker: &str) -> Result<Vec<u8>> {
    let deadline = Instant::now() + DELIVERY;
    loop {
        if let Some(message) = found(target, marker)?.into_iter().next() {
            return Ok(message);
        }
        ensure!(Instant::now() < deadline, "the message that was accepted is not in the maildrop");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The messages with a marker that were delivered since somebody looked for it. The maildrop is emptied on the way.
///
/// # Errors
/// When the maildrop cannot be opened.
pub fn found(target: &Target, marker: &str) -> Result<Vec<Vec<u8>>> {
    let maildrop: &Port = target.maildrop.as_ref().context("this needs --maildrop")?;
    let new = pop3::take_all(&Target { port: maildrop.clone(), ..target.clone() })?;
    let mut taken = target.taken.lock().unwrap_or_else(PoisonError::into_inner);
    taken.extend(new);
    let has_it = |message: &Vec<u8>| message.windows(marker.len()).any(|window| window == marker.as_bytes());
    let (found, others) = std::mem::take(&mut *taken).into_iter().partition(has_it);
    *taken = others;
    Ok(found)
}

/// Sends a text after DATA and compares what is delivered with what was meant.
///
/// # Errors
/// When the server refuses it, or delivers something else.
pub fn carries(target: &Target, parameters: &str, wire: &[u8], meant: &[u8]) -> Result<()> {
    let marker = marker();
    // Complete, so that no server has a reason to add fields behind ours (RFC 6409 §8).
    let header = format!(
        "Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nFrom: <suite@sender.example>\r\nMessage-ID: <{marker}@sender.example>\r\n\
         Subject: {marker}\r\n\r\n"
    );
    let mut session = Session::ready(target)?;
    session.message(target, parameters, &[header.as_bytes(), wire].concat())?.expect("250")?;
    let message = delivered(target, &marker)?;
    let expected = [header.as_bytes(), meant].concat();
    ensure!(
        message.ends_with(&expected),
        "the message changed: sent {}, delivered {}",
        show(meant),
        show(message.get(message.len().saturating_sub(meant.len() + 20)..).unwrap_or_default())
    );
    Ok(())
}

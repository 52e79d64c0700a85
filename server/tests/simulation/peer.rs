//! Another mail server, on the other end of a pipe. It does what its behaviour says, and notes in the ledger what it was
//! offered and what it took.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::world::World;

/// Where something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Greeting,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    End,
}

impl Stage {
    pub const ALL: [Self; 6] = [Self::Greeting, Self::Ehlo, Self::Mail, Self::Rcpt, Self::Data, Self::End];
}

/// How a host behaves.
#[derive(Debug, Clone, Copy)]
pub enum Behaviour {
    Healthy,
    ConnectionRefused,
    ConnectionSilent,
    /// From this stage on it says nothing.
    Silent(Stage),
    /// At this stage it says something that is no reply.
    Garbage(Stage),
    /// At this stage it always says this.
    Answer(Stage, &'static str),
    /// It is gone after so many octets.
    CutAfter(usize),
    /// It takes the message, and is gone after so many octets of its reply.
    CutInReply(usize),
    /// An octet a second.
    Dribble,
    /// A recipient has to come again after this time.
    Greylist(Duration),
    /// 421 after so many.
    MessagesPerConnection(usize),
    TlsRefused,
    TlsGarbage,
    /// The reply to the message comes late, perhaps too late.
    LateReply(Duration),
}

/// How long the client waits for the reply to a message (RFC 5321 §4.5.3.2.6).
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// The connection is over.
struct Gone;

struct Session {
    stream: DuplexStream,
    behaviour: Behaviour,
    world: Arc<World>,
    received: Vec<u8>,
    octets: usize,
    recipients: Vec<String>,
    in_message: bool,
    messages: usize,
}

/// Serves until somebody ends it.
pub async fn serve(stream: DuplexStream, behaviour: Behaviour, world: Arc<World>) {
    let mut session = Session {
        stream,
        behaviour,
        world,
        received: Vec::new(),
        octets: 0,
        recipients: Vec::new(),
        in_message: false,
        messages: 0,
    };
    let _ = session.run().await;
}

impl Session {
    async fn run(&mut self) -> Result<(), Gone> {
        self.reply(Stage::Greeting, "220 peer").await?;
        loop {
            let line = self.line().await?;
            if self.in_message {
                if line == "." {
                    self.end_of_message().await?;
                }
                continue;
            }
            self.command(&line).await?;
        }
    }

    async fn line(&mut self) -> Result<String, Gone> {
        loop {
            if let Some(end) = self.received.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.received.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let mut buffer = [0; 1024];
            let mut wanted = buffer.len();
            if let Behaviour::CutAfter(limit) = self.behaviour {
                wanted = wanted.min(limit.saturating_sub(self.octets));
                if wanted == 0 {
                    return Err(Gone);
                }
            }
            match self.stream.read(&mut buffer[..wanted]).await {
                Ok(count) if count > 0 => {
                    self.octets += count;
                    self.received.extend_from_slice(&buffer[..count]);
                }
                _ => return Err(Gone),
            }
        }
    }

    async fn command(&mut self, line: &str) -> Result<(), Gone> {
        let upper = line.to_ascii_uppercase();
        if upper.starts_with("EHLO") {
            let tls = matches!(self.behaviour, Behaviour::TlsRefused | Behaviour::TlsGarbage);
            let tls = if tls { "250-STARTTLS\r\n" } else { "" };
            let extensions = format!("250-peer\r\n{tls}250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES");
            self.reply(Stage::Ehlo, &extensions).await
        } else if upper.starts_with("HELO") {
            self.reply(Stage::Ehlo, "250 peer").await
        } else if upper == "STARTTLS" {
            match self.behaviour {
                Behaviour::TlsGarbage => {
                    self.write(b"220 go on\r\n").await?;
                    self.write(b"this is no TLS\r\n").await?;
                    Err(Gone)
                }
                _ => self.write(b"454 4.7.0 TLS not available\r\n").await,
            }
        } else if upper.starts_with("MAIL FROM:") {
            self.recipients.clear();
            match self.behaviour {
                Behaviour::MessagesPerConnection(most) if self.messages >= most => {
                    self.write(b"421 4.7.0 enough\r\n").await?;
                    Err(Gone)
                }
                _ => self.reply(Stage::Mail, "250 2.1.0 ok").await,
            }
        } else if upper.starts_with("RCPT TO:<") {
            let address = line[9..].split('>').next().unwrap_or_default().to_owned();
            self.recipient(address).await
        } else if upper == "DATA" {
            if self.recipients.is_empty() {
                return self.write(b"503 5.5.1 no recipients\r\n").await;
            }
            let before = self.behaviour;
            // Only 354 lets the client send the message.
            self.in_message = !matches!(before, Behaviour::Answer(Stage::Data, reply) if !reply.starts_with("354"));
            self.reply(Stage::Data, "354 go on").await
        } else if upper == "RSET" || upper == "NOOP" {
            self.recipients.clear();
            self.write(b"250 2.0.0 ok\r\n").await
        } else if upper == "QUIT" {
            self.write(b"221 2.0.0 bye\r\n").await?;
            Err(Gone)
        } else {
            self.write(b"500 5.5.1 what?\r\n").await
        }
    }

    async fn recipient(&mut self, address: String) -> Result<(), Gone> {
        let now = self.world.timestamp();
        let first = self.world.ledger.lock().unwrap().offered(&address, now);
        if let Behaviour::Greylist(time) = self.behaviour
            && first + time > now
        {
            return self.write(b"450 4.7.1 come again\r\n").await;
        }
        if let Behaviour::Answer(Stage::Rcpt, reply) = self.behaviour
            && !reply.starts_with('2')
        {
            return self.reply(Stage::Rcpt, reply).await;
        }
        self.recipients.push(address);
        self.reply(Stage::Rcpt, "250 2.1.5 ok").await
    }

    async fn end_of_message(&mut self) -> Result<(), Gone> {
        self.in_message = false;
        self.messages += 1;
        let recipients = std::mem::take(&mut self.recipients);
        let takes = !matches!(self.behaviour, Behaviour::Answer(Stage::End, reply) if !reply.starts_with("250"));
        if !takes {
            return self.reply(Stage::End, "").await;
        }
        let now = self.world.timestamp();
        {
            let mut ledger = self.world.ledger.lock().unwrap();
            // Until the reply is written it is lost.
            recipients.iter().for_each(|address| ledger.taken(address, now));
        }
        let reply = b"250 2.0.0 taken\r\n";
        match self.behaviour {
            Behaviour::CutInReply(octets) => {
                self.write(&reply[..octets.min(reply.len() - 2)]).await?;
                return Err(Gone);
            }
            Behaviour::LateReply(time) => {
                tokio::time::sleep(time).await;
                self.write(reply).await?;
                if time >= PATIENCE {
                    // Nobody listens any more, though the connection may still be there.
                    return Ok(());
                }
            }
            _ => self.reply(Stage::End, "250 2.0.0 taken").await?,
        }
        if !matches!(self.behaviour, Behaviour::Silent(Stage::End) | Behaviour::Garbage(Stage::End)) {
            let mut ledger = self.world.ledger.lock().unwrap();
            recipients.iter().for_each(|address| ledger.acknowledged(address));
        }
        Ok(())
    }

    /// The reply of a stage, unless the behaviour has another one.
    async fn reply(&mut self, stage: Stage, usual: &str) -> Result<(), Gone> {
        match self.behaviour {
            Behaviour::Silent(silent) if silent == stage => std::future::pending().await,
            Behaviour::Garbage(garbage) if garbage == stage => {
                self.write(b"\x00\xff nothing that anybody understands \r\n").await
            }
            Behaviour::Answer(other, reply) if other == stage => {
                self.write(format!("{reply}\r\n").as_bytes()).await?;
                if reply.starts_with("421") { Err(Gone) } else { Ok(()) }
            }
            _ => self.write(format!("{usual}\r\n").as_bytes()).await,
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        if !matches!(self.behaviour, Behaviour::Dribble) {
            return self.stream.write_all(bytes).await.map_err(|_| Gone);
        }
        for octet in bytes {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.stream.write_all(&[*octet]).await.map_err(|_| Gone)?;
        }
        Ok(())
    }
}

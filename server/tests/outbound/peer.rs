//! Another mail server on loopback, simple and obedient: it answers as the test's rules say, and keeps what it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// A message that the peer took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub mail: String,
    /// The addresses.
    pub recipients: Vec<String>,
    /// What else their commands said.
    pub parameters: Vec<String>,
    /// Without dot-stuffing.
    pub content: Vec<u8>,
    pub encrypted: bool,
    /// The connection that it came by, from 0.
    pub connection: usize,
}

/// A reply that depends on what it is about.
pub type Answer<T> = Arc<dyn Fn(&T) -> &'static str + Send + Sync>;

/// How the peer behaves.
#[derive(Clone)]
pub struct Rules {
    pub greeting: &'static str,
    pub extensions: Vec<&'static str>,
    pub tls: Option<Tls>,
    /// The reply to RCPT for an address.
    pub recipient: Answer<str>,
    /// The reply to the end of the message; empty: the connection is closed instead.
    pub content: Answer<[u8]>,
    /// After so many messages the connection is closed with 421.
    pub messages_per_connection: usize,
    /// Replies are written octet by octet.
    pub slowly: bool,
    /// TLS begins before the first word.
    pub implicit_tls: bool,
    /// AUTH is offered after TLS, and accepts these credentials of PLAIN (base64); without it no mail is taken.
    pub login: Option<&'static str>,
}

/// What happens on STARTTLS.
#[derive(Clone)]
pub enum Tls {
    Working(TlsAcceptor),
    /// The handshake gets garbage.
    Broken,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            greeting: "220 peer",
            extensions: vec!["PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 100000000"],
            tls: None,
            recipient: Arc::new(|_| "250 2.1.5 ok"),
            content: Arc::new(|_| "250 2.0.0 taken"),
            messages_per_connection: usize::MAX,
            slowly: false,
            implicit_tls: false,
            login: None,
        }
    }
}

/// See the module. It ends with the test's runtime.
pub struct Peer {
    pub address: SocketAddr,
    taken: Arc<Mutex<Vec<Taken>>>,
    rules: Arc<Mutex<(Rules, CancellationToken)>>,
}

impl Peer {
    pub async fn start(address: &str, rules: Rules) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::<Mutex<Vec<Taken>>>::default();
        let rules = Arc::new(Mutex::new((rules, CancellationToken::new())));
        let (all, now) = (Arc::clone(&taken), Arc::clone(&rules));
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (rules, end) = now.lock().unwrap().clone();
                let talk = Talk { rules, taken: Arc::clone(&all), connection };
                tokio::spawn(async move {
                    tokio::select! {
                        // A client may leave at any time.
                        _ = talk.begin(stream) => {}
                        () = end.cancelled() => {}
                    }
                });
            }
        });
        Self { address, taken, rules }
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }

    /// As after a restart: connections are closed, and the next ones are treated so.
    pub fn set_rules(&self, rules: Rules) {
        let mut now = self.rules.lock().unwrap();
        now.1.cancel();
        *now = (rules, CancellationToken::new());
    }
}

struct Talk {
    rules: Rules,
    taken: Arc<Mutex<Vec<Taken>>>,
    connection: usize,
}

enum Next {
    StartTls,
    End,
}

impl Talk {
    async fn begin(&self, stream: tokio::net::TcpStream) -> std::io::Result<()> {
        if let (true, Some(Tls::Working(acceptor))) = (self.rules.implicit_tls, &self.rules.tls) {
            let mut stream = BufReader::new(acceptor.accept(stream).await?);
            self.say(&mut stream, self.rules.greeting).await?;
            self.converse(&mut stream, true).await?;
            return Ok(());
        }
        let mut stream = BufReader::new(stream);
        self.say(&mut stream, self.rules.greeting).await?;
        if let Next::StartTls = self.converse(&mut stream, false).await? {
            match &self.rules.tls {
                Some(Tls::Working(acceptor)) => {
                    let mut stream = BufReader::new(acceptor.accept(stream.into_inner()).await?);
                    self.converse(&mut stream, true).await?;
                }
                _ => stream.write_all(b"this is not TLS, whatever you may think of it\r\n").await?,
            }
        }
        Ok(())
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufReader<S>,
        encrypted: bool,
    ) -> std::io::Result<Next> {
        let (mut mail, mut recipients, mut parameters, mut messages) = (String::new(), Vec::new(), Vec::new(), 0);
        let mut is_known = self.rules.login.is_none();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(Next::End);
            }
            let line = line.trim_end();
            let verb = line.split(' ').next().unwrap_or_default();
            match verb {
                "EHLO" => self.say(stream, &self.ehlo(encrypted)).await?,
                "STARTTLS" => {
                    self.say(stream, "220 go ahead").await?;
                    return Ok(Next::StartTls);
                }
                "AUTH"
                    if encrypted
                        && line.strip_prefix("AUTH PLAIN ").is_some_and(|said| Some(said) == self.rules.login) =>
                {
                    is_known = true;
                    self.say(stream, "235 2.7.0 welcome").await?;
                }
                "AUTH" => self.say(stream, "535 5.7.8 wrong").await?,
                "MAIL" if !is_known => self.say(stream, "530 5.7.0 who are you").await?,
                "MAIL" if messages >= self.rules.messages_per_connection => {
                    self.say(stream, "421 4.3.2 enough").await?;
                    return Ok(Next::End);
                }
                "MAIL" => {
                    (mail, recipients, parameters) = (line.to_owned(), Vec::new(), Vec::new());
                    self.say(stream, "250 2.1.0 ok").await?;
                }
                "RCPT" => {
                    let (path, rest) = line.trim_start_matches("RCPT TO:<").split_once('>').unwrap();
                    let reply = (self.rules.recipient)(path);
                    if reply.starts_with("250") {
                        recipients.push(path.to_owned());
                        parameters.push(rest.trim_start().to_owned());
                    }
                    self.say(stream, reply).await?;
                }
                "DATA" if recipients.is_empty() => self.say(stream, "503 5.5.1 nobody").await?,
                "DATA" | "BDAT" => {
                    let content = if verb == "DATA" {
                        self.say(stream, "354 go ahead").await?;
                        read_content(stream).await?
                    } else {
                        let size = line.trim_start_matches("BDAT ").trim_end_matches(" LAST").parse().unwrap();
                        let mut content = vec![0; size];
                        stream.read_exact(&mut content).await?;
                        content
                    };
                    let reply = (self.rules.content)(&content);
                    if reply.is_empty() {
                        return Ok(Next::End);
                    }
                    if reply.starts_with("250") {
                        messages += 1;
                        let (recipients, parameters) =
                            (std::mem::take(&mut recipients), std::mem::take(&mut parameters));
                        let (mail, connection) = (mail.clone(), self.connection);
                        let taken = Taken { mail, recipients, parameters, content, encrypted, connection };
                        self.taken.lock().unwrap().push(taken);
                    }
                    self.say(stream, reply).await?;
                }
                "RSET" => self.say(stream, "250 2.0.0 ok").await?,
                "QUIT" => {
                    self.say(stream, "221 2.0.0 bye").await?;
                    return Ok(Next::End);
                }
                _ => self.say(stream, "500 5.5.1 what").await?,
            }
        }
    }

    fn ehlo(&self, encrypted: bool) -> String {
        let mut reply = "250-peer".to_owned();
        for extension in &self.rules.extensions {
            reply.push_str(&format!("\r\n250-{extension}"));
        }
        if self.rules.tls.is_some() && !encrypted {
            reply.push_str("\r\n250-STARTTLS");
        }
        if self.rules.login.is_some() && encrypted {
            reply.push_str("\r\n250-AUTH PLAIN");
        }
        reply + "\r\n250 HELP"
    }

    async fn say<S: AsyncWrite + Unpin>(&self, stream: &mut S, reply: &str) -> std::io::Result<()> {
        let reply = format!("{reply}\r\n");
        let size = if self.rules.slowly { 1 } else { reply.len() };
        for piece in reply.as_bytes().chunks(size) {
            stream.write_all(piece).await?;
            stream.flush().await?;
            if self.rules.slowly {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}

async fn read_content<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(content);
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}

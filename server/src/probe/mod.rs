//! `paquebot-server probe`: a small mail client, for `helm test`, the demo, and whoever wants to know from inside a
//! cluster whether mail flows. It knows this server from outside only; `main` runs it.

mod connection;
mod fetch;
mod message;
mod send;

use std::io::{Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

pub use self::connection::{Target, TlsMode, Trust};
pub use self::fetch::{Fetch, FetchError, Fetched};
pub use self::send::{Login, Send, SendError};

/// What a probe does.
#[derive(clap::Subcommand)]
pub enum ProbeCommand {
    /// Send one message; print the reply that decided about it.
    Send(SendOptions),
    /// Fetch messages by POP3.
    Fetch(FetchOptions),
    /// Send a message that nobody else has, fetch it, compare.
    Roundtrip(RoundtripOptions),
}

/// How servers are trusted and how long they may take.
#[derive(clap::Args)]
pub struct CommonOptions {
    /// A PEM file with the authorities that are trusted, instead of the public ones.
    #[arg(long, conflicts_with = "insecure_tls")]
    ca_file: Option<PathBuf>,
    /// Encrypt, but do not ask who the server is: for self-signed certificates.
    #[arg(long)]
    insecure_tls: bool,
    /// Seconds for one session.
    #[arg(long, default_value_t = 60)]
    timeout: u64,
}

/// `probe send`.
#[derive(clap::Args)]
pub struct SendOptions {
    /// The server as HOST:PORT.
    #[arg(long)]
    server: String,
    /// How it is encrypted.
    #[arg(long, value_enum, default_value_t = TlsMode::Starttls)]
    tls: TlsMode,
    /// The login, with --password-file.
    #[arg(long, requires = "password_file")]
    user: Option<String>,
    /// The file that holds the password; a line end after it does not belong to it.
    #[arg(long, requires = "user")]
    password_file: Option<PathBuf>,
    /// The envelope sender; empty: the null reverse-path.
    #[arg(long)]
    from: String,
    /// A recipient; more than one may be given.
    #[arg(long, required = true)]
    to: Vec<String>,
    /// The message; standard input where absent. Line ends become CR LF.
    #[arg(long)]
    message_file: Option<PathBuf>,
    #[command(flatten)]
    common: CommonOptions,
}

/// `probe fetch`.
#[derive(clap::Args)]
pub struct FetchOptions {
    /// The server as HOST:PORT.
    #[arg(long)]
    server: String,
    /// How it is encrypted (STLS is `starttls` here).
    #[arg(long, value_enum, default_value_t = TlsMode::Implicit)]
    tls: TlsMode,
    /// The login.
    #[arg(long)]
    user: String,
    /// The file that holds the password; a line end after it does not belong to it.
    #[arg(long)]
    password_file: PathBuf,
    /// Delete what was fetched.
    #[arg(long)]
    delete: bool,
    /// Seconds to look again and again until there is a message.
    #[arg(long, default_value_t = 0)]
    wait: u64,
    /// Only messages with this text in them.
    #[arg(long)]
    containing: Option<String>,
    /// Write each message into a file of this directory, named by its unique id; standard output where absent.
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    common: CommonOptions,
}

/// `probe roundtrip`.
#[derive(clap::Args)]
pub struct RoundtripOptions {
    /// The submission server as HOST:PORT.
    #[arg(long)]
    smtp: String,
    /// How submission is encrypted.
    #[arg(long, value_enum, default_value_t = TlsMode::Starttls)]
    smtp_tls: TlsMode,
    /// The POP3 server as HOST:PORT.
    #[arg(long)]
    pop3: String,
    /// How POP3 is encrypted (STLS is `starttls` here).
    #[arg(long, value_enum, default_value_t = TlsMode::Implicit)]
    pop3_tls: TlsMode,
    /// The mailbox: login, sender and recipient.
    #[arg(long)]
    user: String,
    /// The file that holds the password; a line end after it does not belong to it.
    #[arg(long)]
    password_file: PathBuf,
    /// Seconds for the message to arrive.
    #[arg(long, default_value_t = 60)]
    wait: u64,
    #[command(flatten)]
    common: CommonOptions,
}

/// Why a probe fails. The text goes to whoever ran it.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The server's name has no address.
    #[error("{server} cannot be reached: {reason}")]
    Name {
        /// HOST:PORT as given.
        server: String,
        /// Why.
        reason: String,
    },
    /// The certificate authorities cannot be read.
    #[error("{0} holds no usable certificates")]
    Authorities(PathBuf),
    /// Sending failed.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Fetching failed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// No message came in time.
    #[error("no message{0} came within {1} s")]
    Nothing(String, u64),
    /// What was fetched is not what was sent.
    #[error("the message came back changed: {0}")]
    Changed(String),
}

/// Runs a probe.
///
/// # Errors
/// [`ProbeError`]: the text says what the server answered.
pub async fn run(command: ProbeCommand) -> Result<(), ProbeError> {
    match command {
        ProbeCommand::Send(options) => send(options).await,
        ProbeCommand::Fetch(options) => fetch(options).await,
        ProbeCommand::Roundtrip(options) => roundtrip(options).await,
    }
}

async fn send(options: SendOptions) -> Result<(), ProbeError> {
    let text = match &options.message_file {
        Some(path) => read(path)?,
        None => {
            let mut text = Vec::new();
            std::io::stdin().lock().read_to_end(&mut text).map_err(file_error("standard input"))?;
            text
        }
    };
    let login = match (options.user, &options.password_file) {
        (Some(user), Some(file)) => Some(Login { user, password: password(file)? }),
        _ => None,
    };
    let target = target(&options.server, options.tls, &options.common)?;
    let message = message::with_crlf(&text);
    let reply = Send { target, login, from: options.from, to: options.to, message: &message }.run().await?;
    print(format!("{reply}\n").as_bytes())
}

async fn fetch(options: FetchOptions) -> Result<(), ProbeError> {
    let fetch = Fetch {
        target: target(&options.server, options.tls, &options.common)?,
        user: options.user,
        password: password(&options.password_file)?,
        containing: options.containing,
        delete: options.delete,
    };
    for message in wait_for(&fetch, options.wait).await? {
        match &options.out {
            None => print(&message.octets)?,
            Some(directory) => {
                let path = directory.join(format!("{}.eml", message.file_name()));
                std::fs::write(&path, &message.octets)
                    .map_err(|source| ProbeError::File { path: path.clone(), source })?;
                print(format!("{} {} octets\n", path.display(), message.octets.len()).as_bytes())?;
            }
        }
    }
    Ok(())
}

async fn roundtrip(options: RoundtripOptions) -> Result<(), ProbeError> {
    let token = uuid::Uuid::now_v7().simple().to_string();
    let message = message::unique(&options.user, &token, jiff::Timestamp::now());
    let password_of = || password(&options.password_file);
    let send = Send {
        target: target(&options.smtp, options.smtp_tls, &options.common)?,
        login: Some(Login { user: options.user.clone(), password: password_of()? }),
        from: options.user.clone(),
        to: vec![options.user.clone()],
        message: &message,
    };
    let reply = send.run().await?;
    print(format!("sent: {reply}\n").as_bytes())?;
    let fetch = Fetch {
        target: target(&options.pop3, options.pop3_tls, &options.common)?,
        user: options.user.clone(),
        password: password_of()?,
        containing: Some(token),
        delete: true,
    };
    let fetched = wait_for(&fetch, options.wait).await?;
    let first = fetched.first().ok_or_else(|| ProbeError::Changed("nothing was left of it".to_owned()))?;
    message::compare(&message, &first.octets).map_err(ProbeError::Changed)?;
    print(
        format!(
            "fetched: the same {} octets, after {} octets of trace fields\n",
            message.len(),
            first.octets.len() - message.len()
        )
        .as_bytes(),
    )
}

/// Fetches until there is something, or the time is over. With 0 seconds an empty maildrop is no error.
async fn wait_for(fetch: &Fetch, seconds: u64) -> Result<Vec<Fetched>, ProbeError> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds);
    loop {
        let last = tokio::time::Instant::now() >= deadline;
        match fetch.run().await {
            Ok(messages) if !messages.is_empty() || seconds == 0 => return Ok(messages),
            Ok(_) if last => {
                let what = fetch.containing.as_ref().map_or(String::new(), |text| format!(" with \"{text}\""));
                return Err(ProbeError::Nothing(what, seconds));
            }
            Err(error) if last || !error.may_pass() => return Err(error.into()),
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

fn target(server: &str, tls: TlsMode, common: &CommonOptions) -> Result<Target, ProbeError> {
    let no_name = |reason: String| ProbeError::Name { server: server.to_owned(), reason };
    let (host, _port) = server.rsplit_once(':').ok_or_else(|| no_name("it has to be HOST:PORT".to_owned()))?;
    let addresses: Vec<SocketAddr> = server.to_socket_addrs().map_err(|error| no_name(error.to_string()))?.collect();
    let trust = match &common.ca_file {
        Some(path) => Trust::Authorities(read(path)?, path.clone()),
        None if common.insecure_tls => Trust::Anybody,
        None => Trust::Public,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Target::new(host, addresses, tls, trust, Duration::from_secs(common.timeout))
}

fn password(path: &PathBuf) -> Result<Zeroizing<String>, ProbeError> {
    let octets = Zeroizing::new(read(path)?);
    let text = Zeroizing::new(String::from_utf8_lossy(&octets).into_owned());
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn read(path: &PathBuf) -> Result<Vec<u8>, ProbeError> {
    std::fs::read(path).map_err(|source| ProbeError::File { path: path.clone(), source })
}

fn file_error(name: &str) -> impl Fn(std::io::Error) -> ProbeError {
    let path = PathBuf::from(name);
    move |source| ProbeError::File { path: path.clone(), source }
}

fn print(text: &[u8]) -> Result<(), ProbeError> {
    let mut output = std::io::stdout().lock();
    output.write_all(text).and_then(|()| output.flush()).map_err(file_error("standard output"))
}

//! Runs a conformance suite against a server: `conformance smtp …`, `conformance pop3 …`. One line for each requirement of
//! an RFC's section; the exit code says whether all were kept.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use paquebot_tests::conformance::target::{Login, Port, Protocol, Target, Tls};
use paquebot_tests::conformance::{self, Parts, pop3, smtp};

/// Asks an SMTP or POP3 server whether it keeps the RFCs.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The SMTP suite. Messages are sent to the served recipient; where its maildrop is given, that is emptied.
    Smtp(SmtpOptions),
    /// The POP3 suite. The maildrop has to hold the samples; two of them are deleted.
    Pop3(Pop3Options),
    /// Writes the samples of the POP3 suite as files, to be put into a maildrop by hand.
    Samples {
        /// Where to.
        directory: PathBuf,
    },
}

#[derive(Args)]
struct Server {
    /// The server's name or address.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Its TCP port.
    #[arg(long, required_unless_present = "list")]
    port: Option<u16>,
    /// How sessions are protected; certificates are not checked.
    #[arg(long, value_enum, default_value_t = Tls::None)]
    tls: Tls,
    /// Who logs in.
    #[arg(long, requires = "password_file")]
    user: Option<String>,
    /// The file with the password, which may end with a line end.
    #[arg(long)]
    password_file: Option<PathBuf>,
    /// Seconds that one answer may take.
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// Runs only requirements whose section or sentence holds this.
    #[arg(long, default_value = "")]
    only: String,
    /// Names the requirements, and asks nobody.
    #[arg(long)]
    list: bool,
}

#[derive(Args)]
struct Recipients {
    /// The reverse-path of the suite's messages; with --user that name, where absent.
    #[arg(long)]
    sender: Option<String>,
    /// An address that the server has.
    #[arg(long, default_value = "anna@server1.com")]
    served_recipient: String,
    /// An address in a domain that it serves, which it has not.
    #[arg(long, default_value = "no-such-user@server1.com")]
    unknown_recipient: String,
    /// An address elsewhere.
    #[arg(long, default_value = "stranger@elsewhere.example")]
    foreign_recipient: String,
}

#[derive(Args)]
struct SmtpOptions {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    recipients: Recipients,
    /// The port of the POP3 server with the served recipient's maildrop, on the same host, so that what is delivered is
    /// seen too. It is emptied.
    #[arg(long)]
    maildrop_port: Option<u16>,
    /// How POP3 sessions are protected.
    #[arg(long, value_enum, default_value_t = Tls::None)]
    maildrop_tls: Tls,
    /// Who opens the maildrop; the served recipient where absent.
    #[arg(long)]
    maildrop_user: Option<String>,
    /// The file with its password.
    #[arg(long)]
    maildrop_password_file: Option<PathBuf>,
}

#[derive(Args)]
struct Pop3Options {
    #[command(flatten)]
    server: Server,
    /// A login that does not exist.
    #[arg(long, default_value = "no-such-user@server1.com")]
    unknown_user: String,
    /// Sends the samples first, to an SMTP server on this port of the same host, in clear.
    #[arg(long)]
    deliver_port: Option<u16>,
    /// The recipient of the samples; --user where absent.
    #[arg(long)]
    deliver_to: Option<String>,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("error: {error:#}\n").as_bytes());
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<bool> {
    match command {
        Command::Samples { directory } => pop3::samples::write(&directory).map(|()| true),
        Command::Smtp(options) if options.server.list => Ok(named(smtp::PARTS)),
        Command::Pop3(options) if options.server.list => Ok(named(pop3::PARTS)),
        Command::Smtp(options) => run_smtp(&options),
        Command::Pop3(options) => run_pop3(&options),
    }
}

fn named(parts: Parts) -> bool {
    conformance::list(parts);
    true
}

fn run_smtp(options: &SmtpOptions) -> Result<bool> {
    let port = options.server.target_port(Protocol::Smtp)?;
    let recipients = &options.recipients;
    let user = port.login.as_ref().map(|login| login.user.clone());
    let maildrop = match (options.maildrop_port, &options.maildrop_password_file) {
        (None, _) => None,
        (Some(_), None) => bail!("--maildrop-port needs --maildrop-password-file"),
        (Some(number), Some(file)) => Some(Port {
            protocol: Protocol::Pop3,
            host: port.host.clone(),
            port: number,
            tls: options.maildrop_tls,
            login: Some(Login {
                user: options.maildrop_user.clone().unwrap_or_else(|| recipients.served_recipient.clone()),
                password: read_password(file)?,
            }),
        }),
    };
    let sender = recipients.sender.clone().or(user).unwrap_or_else(|| "suite@sender.example".to_owned());
    let target = Target {
        port,
        patience: Duration::from_secs(options.server.patience),
        sender,
        served: recipients.served_recipient.clone(),
        unknown: recipients.unknown_recipient.clone(),
        foreign: recipients.foreign_recipient.clone(),
        maildrop,
        taken: Arc::default(),
    };
    Ok(conformance::run(smtp::PARTS, &target, &options.server.only)?.failed == 0)
}

fn run_pop3(options: &Pop3Options) -> Result<bool> {
    let port = options.server.target_port(Protocol::Pop3)?;
    let Some(login) = &port.login else { bail!("the POP3 suite needs --user and --password-file") };
    let target = Target {
        patience: Duration::from_secs(options.server.patience),
        sender: "suite@sender.example".to_owned(),
        served: options.deliver_to.clone().unwrap_or_else(|| login.user.clone()),
        unknown: options.unknown_user.clone(),
        foreign: String::new(),
        maildrop: None,
        taken: Arc::default(),
        port: port.clone(),
    };
    if let Some(deliver) = options.deliver_port {
        let smtp = Port { protocol: Protocol::Smtp, port: deliver, tls: Tls::None, login: None, ..port };
        pop3::samples::send(&Target { port: smtp, ..target.clone() }).context("the samples cannot be delivered")?;
    }
    Ok(conformance::run(pop3::PARTS, &target, &options.server.only)?.failed == 0)
}

impl Server {
    fn target_port(&self, protocol: Protocol) -> Result<Port> {
        let login = match (&self.user, &self.password_file) {
            (Some(user), Some(file)) => Some(Login { user: user.clone(), password: read_password(file)? }),
            _ => None,
        };
        let port = self.port.context("--port is missing")?;
        Ok(Port { protocol, host: self.host.clone(), port, tls: self.tls, login })
    }
}

fn read_password(file: &PathBuf) -> Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

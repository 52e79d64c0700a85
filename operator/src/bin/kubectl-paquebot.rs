//! `kubectl paquebot`: what people do with manifests before, or without, a cluster.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use jiff::Timestamp;
use paquebot_operator::compile::output::{Job, Outcome};
use paquebot_operator::compile::passwords::Passwords;
use paquebot_operator::directory::{NamespacedName, ObjectKey};

/// Something is not in force.
const PROBLEMS: u8 = 1;
/// Nothing could be done.
const FAILED: u8 = 2;
/// How often `--watch` looks whether a manifest has changed.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Parser)]
#[command(name = "kubectl-paquebot", version, about = "Works with Paquebot's manifests")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the configuration directory of a server from manifests, without a cluster.
    Compile {
        #[command(flatten)]
        input: Input,
        /// Where the configuration is written; `tls/` in it gets the certificate.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Open a listener on another port, as LISTENER=PORT; may be repeated.
        #[arg(long = "port", value_name = "LISTENER=PORT", value_parser = listener_port)]
        ports: Vec<(String, u16)>,
        /// Write nothing if any object is not in force.
        #[arg(long)]
        strict: bool,
        /// Go on, and write again when a manifest changes.
        #[arg(long)]
        watch: bool,
    },
    /// Say what of the manifests would not be in force, and why. Writes nothing.
    Check {
        #[command(flatten)]
        input: Input,
    },
}

#[derive(clap::Args)]
struct Input {
    /// The manifests: a directory (every .yaml, .yml and .json file below it) or one file.
    #[arg(long, value_name = "DIR")]
    manifests: PathBuf,
    /// The MailServer, where the manifests have several; it is also the one of objects that name none.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = server_name)]
    server: Option<NamespacedName>,
}

fn server_name(text: &str) -> Result<NamespacedName, String> {
    NamespacedName::parse(text).ok_or_else(|| "write NAMESPACE/NAME".to_owned())
}

fn listener_port(text: &str) -> Result<(String, u16), String> {
    let (name, port) = text.split_once('=').ok_or("write LISTENER=PORT")?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or("the port must be a number from 1 to 65535")?;
    Ok((name.to_owned(), port))
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let (job, watch) = match arguments.command {
        Command::Check { input } => {
            let (ports, strict) = (BTreeMap::new(), true);
            (Job { manifests: input.manifests, out: None, server: input.server, ports, strict }, false)
        }
        Command::Compile { input, out, ports, strict, watch } => {
            let ports = ports.into_iter().collect();
            (Job { manifests: input.manifests, out: Some(out), server: input.server, ports, strict }, watch)
        }
    };
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let mut passwords = Passwords::new(at_once);
    if watch { follow(&job, &mut passwords).await } else { once(&job, &mut passwords).await }
}

async fn once(job: &Job, passwords: &mut Passwords) -> anyhow::Result<ExitCode> {
    let result = match job.read() {
        Ok(files) => job.run(&files, passwords, Timestamp::now()).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(outcome) => {
            describe(job, &outcome, &[])?;
            Ok(if outcome.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(PROBLEMS) })
        }
        Err(error) => {
            writeln!(io::stderr(), "error: {error}")?;
            Ok(ExitCode::from(FAILED))
        }
    }
}

/// Writes again whenever the manifests change. What cannot be compiled is reported once, and the configuration that was
/// written last stays.
async fn follow(job: &Job, passwords: &mut Passwords) -> anyhow::Result<ExitCode> {
    let mut last_files = None;
    let mut last_error = String::new();
    let mut last_accepted = Vec::new();
    loop {
        let result = match job.read() {
            Ok(files) if last_files.as_ref() == Some(&files) => {
                tokio::time::sleep(WATCH_INTERVAL).await;
                continue;
            }
            Ok(files) => {
                let result = job.run(&files, passwords, Timestamp::now()).await;
                last_files = Some(files);
                result
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(outcome) => {
                last_error.clear();
                describe(job, &outcome, &last_accepted)?;
                last_accepted = outcome.accepted;
            }
            Err(error) => {
                let error = error.to_string();
                if error != last_error {
                    writeln!(io::stderr(), "error: {error}\nThe configuration that was written last stays in force.")?;
                }
                last_error = error;
            }
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// Says what came of a run; what was said of an object before is not repeated.
fn describe(job: &Job, outcome: &Outcome, said: &[(ObjectKey, String)]) -> io::Result<()> {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    for skipped in &outcome.skipped {
        writeln!(out, "skipped      {skipped}: of another kind")?;
    }
    for (object, message) in outcome.accepted.iter().filter(|accepted| !said.contains(accepted)) {
        writeln!(out, "accepted     {object}: {message}")?;
    }
    for problem in &outcome.problems {
        writeln!(err, "not accepted {problem}")?;
    }
    match (&outcome.written, &job.out) {
        (Some(written), Some(directory)) => {
            let ports: Vec<String> = written.listeners.iter().map(|l| format!("{} {}", l.name, l.port)).collect();
            writeln!(
                out,
                "wrote        revision {} of MailServer {} to {}: {} domains, {} mailboxes and aliases; listeners: {}",
                written.revision,
                written.server,
                directory.display(),
                written.domains,
                written.records,
                ports.join(", ")
            )?;
        }
        (None, Some(_)) => writeln!(err, "Nothing was written, because of --strict.")?,
        (_, None) => writeln!(
            out,
            "checked      {} objects in force, {} problems",
            outcome.accepted.len(),
            outcome.problems.len()
        )?,
    }
    out.flush()
}

//! `paquebot-server serve`: from the command line to a running server, and from SIGTERM to its end.

mod serve;
mod store_command;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use paquebot_server::log_lines::{JsonFields, JsonLines};
use paquebot_server::probe::{self, ProbeCommand};
use tracing_subscriber::EnvFilter;

use self::serve::ServeOptions;
use self::store_command::StoreCommand;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Paquebot's mail server.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// How log lines are written.
    #[arg(long, value_enum, default_value_t = LogFormat::Json, global = true)]
    log_format: LogFormat,
    /// What is logged: a level, or tracing's directives such as `info,paquebot_server::queue=debug`.
    #[arg(long, default_value = "info", global = true)]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

#[derive(Subcommand)]
enum Command {
    /// Serve mail as the configuration says.
    Serve(ServeOptions),
    /// Send or fetch a message, as a mail client does.
    #[command(subcommand)]
    Probe(ProbeCommand),
    /// Check, repair, copy, export or import a mail store.
    #[command(subcommand)]
    Store(StoreCommand),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_logging(arguments.log_format, &arguments.log);
    // Whoever asks rustls for its default gets this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let result = match arguments.command {
        Command::Serve(options) => run(serve::serve(options)).map(|()| ExitCode::SUCCESS),
        Command::Probe(command) => run(async { Ok(probe::run(command).await?) }).map(|()| ExitCode::SUCCESS),
        Command::Store(command) => run(store_command::run(command)),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // Sessions that did not end in time end here.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}

fn start_logging(format: LogFormat, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.fmt_fields(JsonFields).event_format(JsonLines).init(),
        LogFormat::Text => builder.init(),
    }
}

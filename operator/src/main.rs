//! `paquebot-operator`: from the command line to the election, the work, and the end.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use kube::Config;
use paquebot_operator::admin::{self, Admin};
use paquebot_operator::api_client;
use paquebot_operator::controllers::engine::Settings;
use paquebot_operator::controllers::health::Health;
use paquebot_operator::controllers::watches::Scope;
use paquebot_operator::controllers::{self};
use paquebot_operator::directory::NamespacedName;
use paquebot_operator::dns::seen;
use paquebot_operator::leader::Election;
use paquebot_operator::logging;
use paquebot_operator::metrics::Metrics;
use paquebot_operator::render::Defaults;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a connection may say nothing. A watch is sent bookmarks each minute, and is asked anew after some five.
const LONGEST_SILENCE: Duration = Duration::from_secs(300);
/// How long what has begun may take to end.
const LONGEST_END: Duration = Duration::from_secs(4);

/// Paquebot's operator: turns mail objects into running mail servers.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The MailServer of MailDomains and RelayPolicies that name none, as namespace/name.
    #[arg(long, value_parser = namespaced_name)]
    default_server: Option<NamespacedName>,
    /// The image of the mail servers of MailServers that name none.
    #[arg(long, default_value = concat!("localhost/paquebot-server:", env!("CARGO_PKG_VERSION")))]
    server_image: String,
    /// A namespace whose objects are looked after; may be given several times. Default: all namespaces.
    #[arg(long = "watch-namespace", alias = "watch-namespaces", value_delimiter = ',')]
    watch_namespaces: Vec<String>,
    /// The port of /healthz, /readyz and /metrics; 0 chooses a free one.
    #[arg(long, default_value_t = 8080)]
    admin_port: u16,
    /// Whether to wait for the Lease that says which replica works.
    #[arg(long, value_enum, default_value_t = Switch::Enabled)]
    leader_election: Switch,
    /// The namespace of the Lease. Default: the one that this process runs in.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// Who holds the Lease, for people. Default: the pod's name.
    #[arg(long, env = "POD_NAME", default_value = "paquebot-operator")]
    pod_name: String,
    /// How log lines are written.
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    log_format: LogFormat,
    /// What is logged: a level, or tracing's directives.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    log: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    Enabled,
    Disabled,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

fn namespaced_name(text: &str) -> Result<NamespacedName, String> {
    NamespacedName::parse(text).ok_or_else(|| "write it as namespace/name".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_logging(arguments.log_format, &arguments.log);
    // Whoever asks rustls for its default gets this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let result =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from).and_then(
            |runtime| {
                let result = runtime.block_on(run(arguments));
                runtime.shutdown_timeout(Duration::from_secs(1));
                result
            },
        );
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_logging(format: LogFormat, filter: &str) {
    let filter = logging::filter(filter);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.init(),
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let health = Arc::new(Health::default());
    let metrics = Arc::new(Metrics::default());
    let listener = listen(arguments.admin_port).await.context("the admin port could not be opened")?;
    tracing::info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "the operator starts");
    let mut admin = tokio::spawn(admin::serve(listener, Admin { health: health.clone(), metrics: metrics.clone() }));
    let mut end = std::pin::pin!(end_signal());
    let config = api_server().await?;

    let mut election = match arguments.leader_election {
        Switch::Disabled => None,
        Switch::Enabled => {
            let identity = format!("{}-{}", arguments.pod_name, random_ending()?);
            Some(Election::join(config.clone(), &arguments.lease_namespace, &identity).await?)
        }
    };
    let client = api_client::client(config)?;
    if let Some(mut waiting) = election.take() {
        tracing::info!(namespace = arguments.lease_namespace, "waiting to lead");
        let won = tokio::select! {
            won = waiting.won() => won,
            signalled = &mut end => {
                waiting.leave().await;
                return signalled;
            }
        };
        if !won {
            bail!("the election ended");
        }
        election = Some(waiting);
    }
    health.lead();
    tracing::info!("this process leads");

    let stop = CancellationToken::new();
    let (settings, scope) = settings(&arguments);
    let instance = Some(arguments.pod_name.clone());
    let mut work = tokio::spawn(controllers::run(client, settings, scope, health, metrics, instance, stop.clone()));
    let result = tokio::select! {
        signalled = &mut end => signalled,
        () = lost(&mut election) => Err(anyhow::anyhow!("the Lease is lost to another process; this one ends")),
        ended = &mut work => match ended {
            Ok(Ok(())) => Err(anyhow::anyhow!("the controllers ended")),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(anyhow::anyhow!("the controllers ended: {error}")),
        },
        ended = &mut admin => Err(anyhow::anyhow!("the admin HTTP ended: {ended:?}")),
    };
    // First the work ends, then another process may begin. Work that does not end keeps the Lease until that expires.
    stop.cancel();
    let ended = work.is_finished() || tokio::time::timeout(LONGEST_END, work).await.is_ok();
    match election {
        Some(election) if ended => election.leave().await,
        _ => {}
    }
    result
}

/// Where the API server is and how it is asked: no answer, not even a watch's, is waited for without end.
async fn api_server() -> anyhow::Result<Config> {
    let mut config = Config::infer()
        .await
        .context("no API server is configured: neither a kubeconfig nor a pod's account was found")?;
    config.read_timeout = Some(LONGEST_SILENCE);
    config.write_timeout = Some(LONGEST_SILENCE);
    config.reset_reader_on_write = true;
    Ok(config)
}

async fn lost(election: &mut Option<Election>) {
    match election {
        Some(election) => election.lost().await,
        None => std::future::pending().await,
    }
}

fn settings(arguments: &Arguments) -> (Settings, Scope) {
    let settings = Settings {
        default_server: arguments.default_server.clone(),
        defaults: Defaults {
            image: arguments.server_image.clone(),
            operator_namespace: Some(arguments.lease_namespace.clone()),
        },
        dns: seen::Settings::default(),
        pod_admin_port: paquebot_operator::render::names::ADMIN_PORT,
        // Half of the machine: the API server's answers, and others, want some of it too.
        hashes_at_once: std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
    };
    let scope = if arguments.watch_namespaces.is_empty() {
        Scope::Cluster
    } else {
        Scope::Namespaces(arguments.watch_namespaces.clone())
    };
    (settings, scope)
}

/// On both address families where there are both.
async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await,
    }
}

/// Two processes may have one name: a restarted pod, or two on one laptop.
fn random_ending() -> anyhow::Result<String> {
    let mut octets = [0_u8; 4];
    getrandom::fill(&mut octets).map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
    Ok(octets.iter().map(|octet| format!("{octet:02x}")).collect())
}

async fn end_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: the operator ends"),
        _ = interrupt.recv() => tracing::info!("SIGINT: the operator ends"),
    }
    Ok(())
}

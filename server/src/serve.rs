//! The life of the serving process: admin HTTP, store, the first good configuration, listeners, and the orderly end.
//! Called by `main` alone.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use paquebot_server::admin::{self, Admin, MaildropsAdmin, PeersAdmin, QueueAdmin, Readiness};
use paquebot_server::credentials::Authenticator;
use paquebot_server::listen::peers::Peers;
use paquebot_server::listen::{self, Listening};
use paquebot_server::live::LiveConfiguration;
use paquebot_server::metrics::Metrics;
use paquebot_server::queue::Queue;
use paquebot_server::reload::{self, SharedStatus, Watcher};
use paquebot_server::retention;
use paquebot_server::services::{Services, SharedServices};
use paquebot_server::store::embedded::{EmbeddedStore, is_in_use};
use paquebot_server::tls::Certificates;

/// Where things are. The configuration directory says everything else.
#[derive(clap::Args)]
pub struct ServeOptions {
    /// The directory of the configuration contract, with `tls/` in it.
    #[arg(long, default_value = "/etc/paquebot")]
    config_dir: PathBuf,
    /// The directory of the mail store.
    #[arg(long, default_value = "/var/lib/paquebot")]
    data_dir: PathBuf,
    /// The address that listeners and admin HTTP bind; `::` takes IPv4 too.
    #[arg(long, default_value = "::")]
    bind: IpAddr,
    /// The port of the admin HTTP.
    #[arg(long, default_value_t = 8080)]
    admin_port: u16,
}

/// Serves until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// What keeps the server from starting: a sentence that says what to do.
pub async fn serve(options: ServeOptions) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let metrics = Arc::new(Metrics::new());
    let status = SharedStatus::default();
    let readiness = Readiness::default();
    let queue_admin = QueueAdmin::new(&options.config_dir, Arc::clone(&metrics));
    let peers = Peers::default();
    let maildrops = MaildropsAdmin::new(&options.config_dir);
    start_admin(
        &options,
        Admin {
            readiness: readiness.clone(),
            status: status.clone(),
            metrics: Arc::clone(&metrics),
            queue: queue_admin.clone(),
            peers: PeersAdmin::new(&options.config_dir, peers.clone()),
            maildrops: maildrops.clone(),
        },
    )?;
    let store = tokio::select! {
        store = open_store(&options.data_dir, &readiness) => store?,
        () = signals.received() => return Ok(()),
    };
    readiness.set_store(store.clone());

    let certificates = Certificates::default();
    let watcher = Watcher::new(&options.config_dir, certificates.clone(), status, Arc::clone(&metrics));
    let first = tokio::select! {
        first = first_configuration(watcher) => first?,
        () = signals.received() => {
            store.close().await;
            return Ok(());
        }
    };
    let (configuration, watcher) = first;
    match store.give_to_owners(&configuration.snapshot()).await {
        Ok(0) => {}
        Ok(maildrops) => {
            tracing::info!(maildrops, "mail that was nobody's was given to the tenants that have the addresses")
        }
        Err(error) => tracing::warn!(%error, "mail that is nobody's waits for its first user"),
    }
    maildrops.set_store(store.clone(), configuration.clone());
    let services = Arc::new(Services {
        configuration: configuration.clone(),
        store: store.clone(),
        authenticator: Authenticator::new(configuration.clone()).with_metrics(Arc::clone(&metrics)),
        certificates,
        rates: paquebot_server::rate::RateLimits::default(),
        filters: paquebot_server::delivery::filter::Filters::default(),
        metrics,
        shutdown: CancellationToken::new(),
        queue: Arc::new(Notify::new()),
    });
    let listeners = configuration.snapshot().server.listeners.clone();
    let bound = listen::open(options.bind, &listeners)?;
    peers.open(&listeners);
    let queue = Queue::start(
        store.clone(),
        configuration.clone(),
        Arc::clone(&services.metrics),
        services.filters.clone(),
        Arc::clone(&services.queue),
    )?;
    queue_admin.set_queue(store.clone(), queue.control());
    let listening = Listening::start(bound, &services, peers);
    readiness.set_listening();
    tokio::spawn(keep_watching(watcher));
    tokio::spawn(retention::run(configuration, store.clone(), services.shutdown.clone()));
    tracing::info!(version = reload::RUNNING_VERSION, "serving mail");

    let is_broken = tokio::select! {
        () = signals.received() => false,
        () = store.broken() => true,
    };
    readiness.set_draining();
    tokio::select! {
        () = drain(&services, &listening, queue) => {}
        () = signals.received() => {
            tracing::warn!(sessions = listening.sessions(), "second signal: ending at once");
            std::process::exit(1);
        }
    }
    store.close().await;
    tracing::info!("ended");
    anyhow::ensure!(!is_broken, "the mail store stopped writing, as logged above; the next start checks it");
    Ok(())
}

/// How long a predecessor may take to end: Kubernetes starts the next process before the last one's end when a pod was
/// deleted by force or its node does not answer.
const PREDECESSOR: Duration = Duration::from_secs(120);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(200);

/// Opens the store; waits for a process that has it.
async fn open_store(data_dir: &Path, readiness: &Readiness) -> anyhow::Result<Arc<EmbeddedStore>> {
    let (directory, deadline) = (data_dir.to_owned(), tokio::time::Instant::now() + PREDECESSOR);
    let mut is_waiting = false;
    loop {
        let directory = directory.clone();
        let looked = tokio::task::spawn_blocking(move || match is_in_use(&directory) {
            true => None,
            false => Some(EmbeddedStore::open(&directory)),
        });
        match looked.await? {
            // It may have been taken in between.
            Some(Err(_)) if tokio::time::Instant::now() < deadline && is_in_use(data_dir) => {}
            Some(opened) => {
                readiness.set_waiting(false);
                return opened.with_context(|| format!("the mail store in {} cannot be opened", data_dir.display()));
            }
            None if tokio::time::Instant::now() >= deadline => anyhow::bail!(
                "the mail store in {} cannot be opened: another paquebot-server has had it for {} s; stop that one first, \
                 or give this one a directory of its own",
                data_dir.display(),
                PREDECESSOR.as_secs()
            ),
            None => {}
        }
        if !is_waiting {
            tracing::warn!(directory = %data_dir.display(), "another paquebot-server has the mail store; waiting for it to end");
            readiness.set_waiting(true);
            is_waiting = true;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn start_admin(options: &ServeOptions, admin: Admin) -> anyhow::Result<()> {
    let wanted = SocketAddr::new(options.bind, options.admin_port);
    let (listener, address) = listen::bind_tcp(wanted)
        .with_context(|| format!("admin HTTP cannot open {wanted}; is the port in use by another process?"))?;
    tracing::info!(%address, "admin HTTP is open");
    tokio::spawn(async move {
        if let Err(error) = admin::serve(listener, admin).await {
            tracing::error!(%error, "admin HTTP ended");
        }
    });
    Ok(())
}

/// Waits for the first good configuration, as long as it takes: the operator may not have written it yet.
async fn first_configuration(mut watcher: Watcher) -> anyhow::Result<(LiveConfiguration, Watcher)> {
    loop {
        let (live, back) = poll(watcher).await?;
        watcher = back;
        if let Some(live) = live {
            return Ok((live, watcher));
        }
        tokio::time::sleep(reload::INTERVAL).await;
    }
}

async fn keep_watching(mut watcher: Watcher) {
    loop {
        tokio::time::sleep(reload::INTERVAL).await;
        match poll(watcher).await {
            Ok((_, back)) => watcher = back,
            Err(error) => return tracing::error!(%error, "the configuration is not watched any more"),
        }
    }
}

/// Files block: they are read on a thread of their own.
async fn poll(mut watcher: Watcher) -> anyhow::Result<(Option<LiveConfiguration>, Watcher)> {
    let looked = tokio::task::spawn_blocking(move || (watcher.poll().cloned(), watcher));
    Ok(looked.await?)
}

/// The orderly end: first endpoints forget this pod, then the ports close, then sessions and outbound deliveries end.
async fn drain(services: &SharedServices, listening: &Listening, queue: Queue) {
    let shutdown = services.configuration.snapshot().server.shutdown.clone();
    let (delay, timeout) = (shutdown.pre_stop_delay_seconds, shutdown.drain_timeout_seconds);
    tracing::info!(delay, timeout, sessions = listening.sessions(), "shutting down");
    tokio::time::sleep(Duration::from_secs(delay)).await;
    listening.stop_accepting();
    services.shutdown.cancel();
    let patience = Duration::from_secs(timeout);
    let (sessions, ()) = tokio::join!(tokio::time::timeout(patience, listening.drained()), queue.shutdown(patience));
    if sessions.is_err() {
        tracing::warn!(sessions = listening.sessions(), "sessions did not end in time; their connections are cut");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

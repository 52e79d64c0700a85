//! The operator's hands: it watches, observes, writes and reports. What is right is decided by the pure parts beside it.
//!
//! [`watches`] feed the one [`engine`], which owns the index ([`crate::directory`]) and all that was observed. The engine
//! starts workers: [`server_worker`] writes a MailServer's objects by [`apply`], [`configz`] asks pods what they serve,
//! [`exposure_worker`] asks them who connected and probes them, [`dns_worker`] asks name servers, [`credentials_worker`] and
//! [`secrets_worker`] read Secrets, [`status`] writes statuses. What a worker
//! learns comes back to the engine as an [`input::Input`]. All of them ask the API server by [`calls`]. Pure parts:
//! [`availability`], [`certificate`], [`comparison`], [`hold_off`], [`propagation`], [`timers`], and `wanted` of [`status`].

pub mod allowance;
pub mod apis;
pub mod apply;
pub mod availability;
pub mod beside;
pub mod calls;
pub mod cert_manager;
pub mod certificate;
pub mod comparison;
pub mod configz;
pub mod credentials_worker;
pub mod dns_worker;
pub mod endpoints_worker;
pub mod engine;
pub mod eraser;
pub mod exposure_worker;
pub mod filters_worker;
pub mod health;
pub mod hold_off;
pub mod input;
pub mod propagation;
pub mod refused_statuses;
pub mod remembered;
pub mod secrets_worker;
pub mod server_worker;
pub mod status;
pub mod status_turns;
pub mod timers;
pub mod token;
pub mod turns;
pub mod volumes_worker;
pub mod watches;

use std::sync::Arc;

use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::configz::Poller;
use self::endpoints_worker::EndpointsWorker;
use self::engine::{Engine, Settings, Tools};
use self::health::Health;
use self::watches::{Scope, Watches};
use crate::metrics::Metrics;

/// Inputs that wait for the engine; more make the watches wait.
const WAITING_INPUTS: usize = 4096;

/// Why the controllers could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTP client for the pods' admin ports.
    #[error("the HTTP client could not be made: {0}")]
    Http(#[from] reqwest::Error),
}

/// Runs until it is told to stop.
///
/// # Errors
/// [`StartError`].
pub async fn run(
    client: Client,
    settings: Settings,
    scope: Scope,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    instance: Option<String>,
    stop: CancellationToken,
) -> Result<(), StartError> {
    let (sender, inputs) = mpsc::channel(WAITING_INPUTS);
    let reporter = Reporter { controller: "paquebot-operator".to_owned(), instance };
    let tools = Tools {
        recorder: Recorder::new(client.clone(), reporter),
        poller: Poller::new(settings.pod_admin_port)?,
        client: client.clone(),
        health: Arc::clone(&health),
        metrics,
        endpoints: EndpointsWorker::new(client.clone(), scope.clone()),
    };
    let (count, watches) = Watches::new(client, scope, sender.clone(), health).start();
    Engine::new(tools, settings, sender, count).run(inputs, stop).await;
    drop(watches);
    Ok(())
}

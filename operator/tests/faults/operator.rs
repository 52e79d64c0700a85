//! The whole operator as a process would run it: with a runtime of its own, so that it can end between any two
//! instructions, and with a client whose every request goes through the faults.

use std::sync::Arc;
use std::time::Duration;

use kube::Config;
use paquebot_operator::controllers::health::Health;
use paquebot_operator::controllers::watches::Scope;
use paquebot_operator::metrics::Metrics;
use paquebot_operator::{api_client, controllers};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::layer::Faults;
use crate::support::world::settings;

/// How long an operator may take to end that was asked to.
const LONGEST_END: Duration = Duration::from_secs(45);

pub struct Operator {
    pub faults: Faults,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    stop: CancellationToken,
    work: JoinHandle<()>,
    runtime: Option<Runtime>,
}

impl Operator {
    /// Looks after one namespace. Its log is kept under the name of its threads.
    pub fn start(config: &Config, namespace: &str, pod_admin_port: u16, faults: Faults, health: Health) -> Self {
        let (metrics, health) = (Arc::new(Metrics::default()), Arc::new(health));
        health.lead();
        let stop = CancellationToken::new();
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name(namespace).enable_all().build().unwrap();
        let (config, scope) = (config.clone(), Scope::Namespaces(vec![namespace.to_owned()]));
        let (below, counted, healthy, stopped) = (faults.clone(), metrics.clone(), health.clone(), stop.clone());
        let work = runtime.spawn(async move {
            let client = api_client::client_through(config, &below).unwrap();
            let settings = settings(pod_admin_port);
            controllers::run(client, settings, scope, healthy, counted, None, stopped).await.unwrap();
        });
        Self { faults, metrics, health, stop, work, runtime: Some(runtime) }
    }

    /// Ends it as SIGTERM does.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(LONGEST_END, &mut self.work).await;
        ended.expect("the operator does not end").expect("the operator panicked");
    }

    /// Ends it as SIGKILL does.
    pub fn kill(self) {}
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

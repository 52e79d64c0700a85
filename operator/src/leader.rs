//! Which of several replicas works: the one that holds a Lease. Losing it ends the process, which Kubernetes starts again
//! with an empty memory: nothing of what it knew can be trusted any more.

use std::time::Duration;

use kube::Client;
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The Lease.
const LEASE: &str = "paquebot-operator";
/// Seconds that a Lease holds after its last renewal: who crashes is replaced after that.
const DURATION: u64 = 15;
/// Seconds before its end at which it is renewed.
const GRACE: u64 = 8;
/// How long giving the Lease back may take.
const RELEASE: Duration = Duration::from_secs(5);

/// Takes part in the election.
pub struct Election {
    state: watch::Receiver<bool>,
    task: JoinHandle<Result<kube_lease_manager::LeaseManager, LeaseManagerError>>,
}

impl Election {
    /// Begins to take part.
    ///
    /// # Errors
    /// When the Lease can be neither read nor made.
    pub async fn join(client: Client, namespace: &str, identity: &str) -> Result<Self, LeaseManagerError> {
        let manager = LeaseManagerBuilder::new(client, LEASE)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .with_field_manager(format!("paquebot-operator-leader-{identity}"))
            .build()
            .await?;
        let (state, task) = manager.watch().await;
        Ok(Self { state, task })
    }

    /// Waits until this process leads; false when the election has ended.
    pub async fn won(&mut self) -> bool {
        self.state.wait_for(|leads| *leads).await.is_ok()
    }

    /// Waits until this process leads no more.
    pub async fn lost(&mut self) {
        let _ = self.state.wait_for(|leads| !*leads).await;
    }

    /// Gives the Lease back, so that another replica need not wait for its end.
    pub async fn leave(self) {
        let Self { state, task } = self;
        drop(state);
        match tokio::time::timeout(RELEASE, task).await {
            Ok(Ok(Ok(_))) => tracing::info!("the Lease was given back"),
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the Lease could not be given back"),
            Ok(Err(error)) => tracing::warn!(%error, "the election ended badly"),
            Err(_) => tracing::warn!("giving the Lease back took too long; it ends by itself"),
        }
    }
}

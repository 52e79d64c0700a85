//! Which of several replicas works: the one that holds a Lease. Losing it ends the process, which Kubernetes starts again
//! with an empty memory: nothing of what it knew can be trusted any more.
//!
//! The Lease is renewed by a task of the library; whether that has worked is looked at apart from it, on this side's
//! clock, so that a renewal that hangs or fails ends the work before another replica may begin.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::Api;
use kube::{Client, Config};
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The Lease.
const LEASE: &str = "paquebot-operator";
/// Seconds that a Lease holds after its last renewal: who crashes is replaced after that.
const DURATION: u64 = 15;
/// Seconds before its end at which it is renewed.
const GRACE: u64 = 8;
/// How old the last renewal may be before the work ends; what is left until [`DURATION`] is for ending it.
const LONGEST_SILENCE: SignedDuration = SignedDuration::from_secs(10);
/// How often the Lease is looked at, and how long a look may take.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long one call of the election may take: it has to be made again while the Lease still holds.
const CALL: Duration = Duration::from_secs(3);
/// How long giving the Lease back may take.
const RELEASE: Duration = Duration::from_secs(5);

/// Why the election could not be joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No client for these settings.
    #[error("the client of the election could not be made: {0}")]
    Client(#[from] kube::Error),
    /// The Lease can be neither read nor made.
    #[error("the Lease could not be read: {0}")]
    Lease(#[from] LeaseManagerError),
}

/// Takes part in the election.
pub struct Election {
    state: watch::Receiver<bool>,
    task: JoinHandle<Result<kube_lease_manager::LeaseManager, LeaseManagerError>>,
    leases: Api<Lease>,
    identity: String,
}

impl Election {
    /// Begins to take part, with connections of its own: others may be busy or dead.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn join(mut config: Config, namespace: &str, identity: &str) -> Result<Self, JoinError> {
        config.connect_timeout = Some(CALL);
        config.read_timeout = Some(CALL);
        config.write_timeout = Some(CALL);
        config.reset_reader_on_write = true;
        let client = Client::try_from(config)?;
        let manager = LeaseManagerBuilder::new(client.clone(), LEASE)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .with_field_manager(format!("paquebot-operator-leader-{identity}"))
            .build()
            .await?;
        let (state, task) = manager.watch().await;
        Ok(Self { state, task, leases: Api::namespaced(client, namespace), identity: identity.to_owned() })
    }

    /// Waits until this process leads; false when the election has ended.
    pub async fn won(&mut self) -> bool {
        self.state.wait_for(|leads| *leads).await.is_ok()
    }

    /// Waits until this process leads no more.
    pub async fn lost(&mut self) {
        let Self { state, leases, identity, .. } = self;
        tokio::select! {
            _ = state.wait_for(|leads| !*leads) => {}
            () = expired(leases, identity) => {}
        }
    }

    /// Gives the Lease back, so that another replica need not wait for its end.
    pub async fn leave(self) {
        let Self { state, task, .. } = self;
        drop(state);
        match tokio::time::timeout(RELEASE, task).await {
            Ok(Ok(Ok(_))) => tracing::info!("the Lease was given back"),
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the Lease could not be given back"),
            Ok(Err(error)) => tracing::warn!(%error, "the election ended badly"),
            Err(_) => tracing::warn!("giving the Lease back took too long; it ends by itself"),
        }
    }
}

/// Waits until the Lease names another holder, or its last renewal that this process has seen is too old.
async fn expired(leases: &Api<Lease>, identity: &str) {
    let mut renewed = Timestamp::now();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Ok(Ok(lease)) = tokio::time::timeout(LOOK_EVERY, leases.get(LEASE)).await {
            match renewed_by(lease.spec.as_ref(), identity) {
                Some(at) => renewed = at,
                None => return,
            }
        }
        if is_silent(renewed, Timestamp::now()) {
            tracing::warn!(%renewed, "the Lease has not been renewed for too long");
            return;
        }
    }
}

/// When this process last renewed the Lease; `None` if another holds it.
fn renewed_by(lease: Option<&LeaseSpec>, identity: &str) -> Option<Timestamp> {
    let lease = lease?;
    let renewed = lease.renew_time.as_ref().map(|at| at.0)?;
    (lease.holder_identity.as_deref() == Some(identity)).then_some(renewed)
}

fn is_silent(renewed: Timestamp, now: Timestamp) -> bool {
    now.duration_since(renewed) > LONGEST_SILENCE
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    #[test]
    fn the_lease_is_lost_to_another_and_to_silence() {
        let renewed: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let lease = |holder: Option<&str>, renewed: Option<Timestamp>| LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            renew_time: renewed.map(MicroTime),
            ..LeaseSpec::default()
        };
        assert_eq!(renewed_by(Some(&lease(Some("us"), Some(renewed))), "us"), Some(renewed));
        for lost in [lease(Some("them"), Some(renewed)), lease(None, Some(renewed)), lease(Some("us"), None)] {
            assert_eq!(renewed_by(Some(&lost), "us"), None);
        }
        assert_eq!(renewed_by(None, "us"), None);
        let after = |seconds| renewed + SignedDuration::from_secs(seconds);
        let between_renewals = i64::try_from(DURATION - GRACE).unwrap();
        assert!(!is_silent(renewed, after(between_renewals)));
        assert!(is_silent(renewed, after(11)));
        assert!(SignedDuration::from_secs(11) < SignedDuration::from_secs(i64::try_from(DURATION).unwrap()));
    }
}

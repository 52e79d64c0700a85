//! Pauses, and certificates that end soon.

use kube::runtime::events::EventType;
use paquebot_crds::Kind;
use tokio::time::Instant;

use super::passes::RESYNC;
use super::servers::LONGEST_RETRY;
use super::{Engine, Timer};
use crate::controllers::certificate::Judged;
use crate::controllers::input::Input;
use crate::controllers::server_worker::{self, Failure};
use crate::directory::{NamespacedName, ObjectKey};

impl Engine {
    /// Whether the operator leaves a server's objects alone.
    pub(super) fn is_paused(&self, server: &NamespacedName) -> bool {
        self.directory.server(server).is_some_and(|entry| entry.spec.is_paused())
    }

    /// All that a pass over a paused server does: its certificate may end, or be renewed by somebody else. What is to be
    /// written stays noted until the pause ends, which changes the MailServer.
    pub(super) fn look_at_certificate(&mut self, server: &NamespacedName) {
        let Some(entry) = self.directory.server(server).cloned() else { return };
        self.server_state(server).set_looking(true);
        self.release(server);
        let (client, server) = (self.tools.client.clone(), server.clone());
        self.start(async move {
            let judged = server_worker::look_at_certificate(client, entry).await;
            Input::CertificateSeen(server, judged)
        });
    }

    pub(super) fn certificate_seen(&mut self, server: &NamespacedName, judged: Result<Judged, Failure>) {
        let Some(state) = self.servers.get_mut(server) else { return };
        state.set_looking(false);
        let wait = match judged {
            Ok(judged) => {
                state.certificate = Some(judged);
                RESYNC
            }
            Err(failure) => {
                tracing::warn!(%server, error = failure.message, "the certificate of a paused server could not be read");
                self.tools.metrics.errors.inc();
                LONGEST_RETRY
            }
        };
        self.timers.set(Timer::Pass(server.clone()), Instant::now() + wait);
        self.server_observed(server);
        self.tell_of_its_end(server);
    }

    /// One event for each certificate that ends soon.
    pub(super) fn tell_of_its_end(&mut self, server: &NamespacedName) {
        let Some(state) = self.servers.get_mut(server) else { return };
        let Some(judged) = state.certificate.as_ref().filter(|judged| judged.ends_soon) else { return };
        if judged.sha256.is_none() || judged.sha256 == state.told_of {
            return;
        }
        state.told_of.clone_from(&judged.sha256);
        let message = judged.condition.message.clone();
        let key = ObjectKey::new(Kind::MailServer, server.clone());
        self.announce(&key, EventType::Warning, "Report", "CertificateEndsSoon", &message);
    }
}

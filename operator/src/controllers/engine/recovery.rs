//! What lies in a MailServer's directory when the operator starts, or meets the MailServer: nothing is written before it was
//! taken over.

use std::time::Duration;

use paquebot_crds::Kind;
use tokio::time::Instant;

use super::{Engine, Timer};
use crate::controllers::input::Input;
use crate::controllers::server_worker::{self, Failure, Recovered};
use crate::directory::{NamespacedName, ObjectKey};

/// How soon a directory that could not be read is read again, and from which failure on that is said in statuses.
const RECOVER_RETRY: Duration = Duration::from_secs(5);
const TELLING_FAILURES: u32 = 3;

impl Engine {
    /// Reads what lies in a server's directory.
    pub(super) fn recover(&mut self, server: &NamespacedName) {
        if self.directory.server(server).is_none() || self.server_state(server).recovered {
            return;
        }
        let (client, server) = (self.tools.client.clone(), server.clone());
        self.start(async move {
            let recovered = server_worker::recover(client, server.clone()).await;
            Input::Recovered(server, recovered)
        });
    }

    pub(super) fn recovered(&mut self, server: &NamespacedName, result: Result<Recovered, Failure>) {
        if self.directory.server(server).is_none() {
            self.servers.remove(server);
            self.check_all_credentials();
            return;
        }
        match result {
            Ok(recovered) => {
                let state = self.server_state(server);
                state.recovered = true;
                state.failures = 0;
                state.failure = None;
                state.found = recovered.digests.clone();
                state.shards = recovered.shards.iter().cloned().collect();
                // One that no index names and that has no label of its content is taken away with the others.
                let secrets = state.seen.iter().filter(|(target, token)| target.kind == "Secret" && !token.is_empty());
                state.shards.extend(secrets.map(|(target, _)| target.name.name.clone()));
                state.touch(Instant::now());
                for (domain, filters) in &recovered.filters {
                    let changes = self.directory.recall_filters(server, domain, filters);
                    self.absorb(changes);
                }
                self.restore_verifiers(&recovered);
                self.restore_logins(server, recovered.logins);
                if let Some((reference, pem)) = recovered.authorities {
                    self.restore_authorities(server, &reference, pem);
                }
                self.check_all_credentials();
            }
            Err(failure) => {
                tracing::warn!(%server, error = failure.message, "a server's directory could not be read; it is tried again");
                self.tools.metrics.errors.inc();
                self.timers.set(Timer::Recover(server.clone()), Instant::now() + RECOVER_RETRY);
                let state = self.server_state(server);
                state.failures += 1;
                // One that passes is not worth a change of every status.
                if state.failures >= TELLING_FAILURES {
                    let message = format!("what lies in the server's directory cannot be read: {}", failure.message);
                    state.failure = Some(Failure { message, invalid: false });
                    self.status_dirty.insert(ObjectKey::new(Kind::MailServer, server.clone()));
                    self.release(server);
                }
            }
        }
    }
}

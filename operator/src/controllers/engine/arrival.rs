//! What has arrived at the pods of a MailServer, and whose status speaks of it.

use std::collections::HashMap;

use paquebot_crds::Kind;
use tokio::time::Instant;

use super::pods::PodState;
use super::servers::Standing;
use super::{Engine, Timer};
use crate::controllers::propagation::Need;
use crate::directory::{NamespacedName, ObjectKey};

impl Engine {
    /// Something about a server's pods or objects is new: what has arrived, and whose status speaks of it.
    pub(super) fn server_observed(&mut self, server: &NamespacedName) {
        self.status_dirty.insert(ObjectKey::new(Kind::MailServer, server.clone()));
        self.look_when_ready(server);
        self.release(server);
        let (Some(state), Some(observed)) = (self.servers.get_mut(server), self.observed.get(server)) else { return };
        let ready: Vec<&PodState> = observed.ready().map(|(_, pod)| pod).collect();
        let now = Instant::now();
        let refusal = observed.refusal(state.revision.as_ref(), now);
        let standing = Standing { ready: ready.len(), refusal };
        let differs = standing != state.told;
        state.told = standing;
        let history = &state.history;
        let mut counts: HashMap<Need, usize> = HashMap::new();
        let (dirty, effective) = (&mut self.status_dirty, &self.tools.metrics.effective_seconds);
        let (reclaims, timers) = (&self.reclaims, &mut self.timers);
        // What waits is told where it stands, and what has arrived is told so once.
        state.needs.retain(|key, underway| {
            let arrived = *counts.entry(underway.need.clone()).or_insert_with(|| {
                let has = |pod: &&&PodState| pod.configz().is_some_and(|c| history.has(&c.digests, &underway.need));
                ready.iter().filter(has).count()
            });
            let is_there = arrived == ready.len() && !ready.is_empty();
            if differs || is_there || arrived != underway.arrived {
                dirty.insert(key.clone());
            }
            underway.arrived = arrived;
            if is_there && reclaims.contains_key(key) {
                timers.set_by(Timer::Reclaim(key.clone()), now);
            }
            if is_there && !underway.is_old {
                effective.observe(now.duration_since(underway.since).as_secs_f64());
            }
            !is_there
        });
    }

    /// Statuses that waited for something may be looked at again.
    pub(super) fn release(&mut self, server: &NamespacedName) {
        if let Some(state) = self.servers.get_mut(server) {
            self.status_dirty.extend(std::mem::take(&mut state.held));
        }
    }

    /// How many of the ready pods have what an object needs.
    pub(super) fn arrived(&self, server: &NamespacedName, need: &Need) -> (usize, usize) {
        let (Some(state), Some(observed)) = (self.servers.get(server), self.observed.get(server)) else {
            return (0, 0);
        };
        let has = |pod: &PodState| pod.configz().is_some_and(|configz| state.history.has(&configz.digests, need));
        let ready = observed.ready().count();
        (observed.ready().filter(|(_, pod)| has(pod)).count(), ready)
    }
}

//! The objects that run a server, its volumes, and what may stand beside them.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::{Failure, Pass, Work};
use crate::controllers::apply::{Desired, Target};
use crate::controllers::beside::is_foreign_api;
use crate::controllers::{apis, volumes_worker};
use crate::render::names;

impl Work {
    /// Writes each object that can be written: one that the API server refuses does not keep the others from it.
    pub(super) async fn workload(&mut self, pass: &Pass) -> Result<(), Failure> {
        let (server, workload) = (&pass.server, &pass.workload);
        let mut wanted = vec![
            Desired::new(&workload.service_account)?,
            Desired::new(&workload.headless_service)?,
            Desired::new(&workload.service)?,
            Desired::new(&workload.stateful_set)?,
        ];
        if let Some(budget) = &workload.disruption_budget {
            wanted.push(Desired::new(budget)?);
        }
        let mut refused = Ok(());
        for desired in wanted {
            match self.apply(desired).await {
                Err(failure) if failure.invalid => refused = refused.and(Err(failure)),
                applied => applied?,
            }
        }
        if workload.disruption_budget.is_none() && !self.budget_is_gone {
            let target = Target { kind: "PodDisruptionBudget".to_owned(), name: server.name.clone() };
            self.known.remove(&target);
            let ours = names::metadata(server, server.name.name.clone());
            self.applier.delete::<PodDisruptionBudget>(&server.name, &ours).await?;
            self.budget_is_gone = true;
        }
        let volumes = self.volumes(pass).await;
        refused.and(volumes).and(self.beside(pass).await)
    }

    async fn volumes(&mut self, pass: &Pass) -> Result<(), Failure> {
        let Some(volumes) = &pass.volumes else { return Ok(()) };
        let grown = volumes_worker::grow(&self.client, &pass.server.name, volumes).await?;
        self.written += grown.written;
        self.volume_size = grown.settled.then(|| volumes.size.clone());
        Ok(())
    }

    /// Writes what is wanted beside the workload, and takes away what is not.
    async fn beside(&mut self, pass: &Pass) -> Result<(), Failure> {
        let wanted = pass.beside.desired().map_err(Failure::from)?;
        for (resource, desired) in wanted {
            let kind = resource.kind.clone();
            match desired {
                Some(desired) => {
                    if self.absent.apis.contains(&kind) {
                        continue;
                    }
                    self.absent.objects.remove(&kind);
                    let written = self.known.contains_key(&desired.target);
                    if !written && is_foreign_api(&resource) && !apis::has(&self.client, &resource).await? {
                        self.absent.apis.insert(kind);
                        continue;
                    }
                    let target = desired.target.clone();
                    let applied = self.apply(desired).await;
                    if applied.is_err() && is_foreign_api(&resource) {
                        // Perhaps the kind has gone since it was written: the next pass asks.
                        self.known.remove(&target);
                    }
                    applied?;
                }
                None if self.absent.objects.contains(&kind) => {}
                None => {
                    if !is_foreign_api(&resource) || apis::has(&self.client, &resource).await? {
                        let name = &pass.server.name;
                        self.known.remove(&Target { kind: kind.clone(), name: name.clone() });
                        let ours = names::metadata(&pass.server, name.name.clone());
                        self.applier.delete_as(&resource, name, &ours).await?;
                    }
                    self.absent.objects.insert(kind.clone());
                    self.absent.apis.remove(&kind);
                }
            }
        }
        Ok(())
    }
}

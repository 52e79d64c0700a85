//! The files of a configuration: the Secrets, then the ConfigMap with the index, then what no index names any more.

use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::core::v1::Secret;

use super::{Failure, Pass, Work, written};
use crate::controllers::apply::{Desired, Outcome, Target};
use crate::directory::NamespacedName;
use crate::render::{self, names};

/// Files of a configuration that are written together: each is held in memory meanwhile.
const FILES_AT_ONCE: usize = 4;

impl Work {
    pub(super) async fn configuration(&mut self, pass: &Pass) -> Result<(), Failure> {
        self.secrets(pass).await?;
        let configuration = &pass.configuration;
        // The index speaks of all the others, so it comes last.
        self.apply(Desired::new(&configuration.config_map)?).await?;
        for shard in &pass.stale_shards {
            let name = NamespacedName::new(&pass.server.name.namespace, shard);
            self.known.remove(&Target { kind: "Secret".to_owned(), name: name.clone() });
            self.applier.delete::<Secret>(&name, &names::metadata(&pass.server, shard.clone())).await?;
            self.gone_shards.push(shard.clone());
        }
        Ok(())
    }

    /// Writes the files that have changed, a few at a time: one after another they would keep everybody's change waiting while
    /// one tenant's changes touch them all.
    async fn secrets(&mut self, pass: &Pass) -> Result<(), Failure> {
        let (configuration, applier) = (&pass.configuration, &self.applier);
        let mut writes = Vec::new();
        for (file, digest) in &configuration.secrets {
            let name = render::secret_name(&pass.server.name.name, file);
            let name = NamespacedName::new(&pass.server.name.namespace, &name);
            let known = self.known.get(&Target { kind: "Secret".to_owned(), name });
            if !known.is_some_and(|known| known.is_made_from(digest)) {
                writes.push(async move {
                    let desired = Desired::new(&configuration.secret(&pass.server, file))?.made_from(digest);
                    written(applier, desired, known).await
                });
            }
        }
        let done: Vec<Result<(Target, Outcome), Failure>> =
            stream::iter(writes).buffer_unordered(FILES_AT_ONCE).collect().await;
        let mut failed = Ok(());
        for result in done {
            match result {
                Ok((target, outcome)) => self.remember(target, outcome),
                Err(failure) => failed = failed.and(Err(failure)),
            }
        }
        failed
    }
}

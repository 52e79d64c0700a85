//! Writes the objects of one MailServer, in the order in which the pods need them, and recovers what lies there when the
//! operator starts. Started by the engine, at most once at a time for each server.
//!
//! Here: what a pass is given, its order, and what came of it. Its parts: [`certificate`] and [`keys`], [`configuration`],
//! [`workload`]. Beside it: [`recovery`], and [`nudge`](nudge()), which has a pod read its files now.

mod certificate;
mod configuration;
mod keys;
mod nudge;
mod recovery;
mod workload;

use std::collections::HashMap;
use std::time::Duration;

use kube::Client;

pub use self::certificate::look_at_certificate;
pub use self::nudge::nudge;
pub use self::recovery::{Recovered, RecoveredVerifiers, recover};
use super::apply::{Applied, Applier, Desired, Outcome, Target};
use super::beside::{Absent, Beside};
use super::calls::CallError;
use super::certificate::Judged;
use crate::directory::NamespacedName;
use crate::render::volumes::Volumes;
use crate::render::{Configuration, Server, Workload};

/// The field manager of everything that a MailServer owns.
const MANAGER: &str = "paquebot-operator-server";

/// Why a pass ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For people.
    pub message: String,
    /// The API server refused an object; the same will be refused again.
    pub invalid: bool,
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self { message: error.to_string(), invalid: error.is_invalid() }
    }
}

/// What is to be written.
pub struct Pass {
    /// The MailServer.
    pub server: Server,
    /// The objects that run it.
    pub workload: Workload,
    /// The objects that carry its configuration.
    pub configuration: Configuration,
    /// What is remembered of the objects since the last pass.
    pub known: HashMap<Target, Applied>,
    /// The Secrets of shards without records that are still there.
    pub stale_shards: Vec<String>,
    /// A budget that is not wanted is known to be gone.
    pub budget_is_gone: bool,
    /// A Certificate that is not wanted is known to be gone.
    pub certificate_is_gone: bool,
    /// The claims of the pods, unless they are known to be as wanted.
    pub volumes: Option<Volumes>,
    /// What may stand beside the workload.
    pub beside: Beside,
    /// What is looked at beside the configuration.
    pub scope: Scope,
}

/// What a pass looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The configuration, the certificate, the keys and the objects that run the server.
    Everything,
    /// The configuration: nothing else has changed since the last pass.
    Configuration,
}

/// What came of it.
pub struct PassDone {
    /// The MailServer.
    pub server: NamespacedName,
    /// What is to be remembered of the objects.
    pub known: HashMap<Target, Applied>,
    /// The certificate, as far as the pass came.
    pub certificate: Option<Judged>,
    /// How many objects were written.
    pub written: usize,
    /// The Secrets of shards that are gone now.
    pub gone_shards: Vec<String>,
    /// A budget that is not wanted is gone.
    pub budget_is_gone: bool,
    /// A Certificate that is not wanted is gone.
    pub certificate_is_gone: bool,
    /// The size that each claim has.
    pub volume_size: Option<paquebot_crds::Quantity>,
    /// When to look again at what nothing watches.
    pub look_again: Option<Duration>,
    /// What is known to be gone, or impossible, beside the workload.
    pub absent: Absent,
    /// Whether the configuration is as wanted: what the domains, mailboxes, aliases and policies say.
    pub configuration: Result<(), Failure>,
    /// Whether the certificate and the objects that run the server are; this is nobody's concern but the MailServer's.
    pub workload: Result<(), Failure>,
    /// What the pass looked at.
    pub scope: Scope,
}

/// Does one pass.
pub async fn run(client: Client, pass: Pass) -> PassDone {
    let mut work = Work {
        applier: Applier::new(client.clone(), MANAGER),
        client,
        known: pass.known.clone(),
        certificate: None,
        written: 0,
        gone_shards: Vec::new(),
        budget_is_gone: pass.budget_is_gone,
        certificate_is_gone: pass.certificate_is_gone,
        volume_size: None,
        look_again: None,
        absent: pass.beside.absent.clone(),
    };
    let (configuration, workload) = work.all(&pass).await;
    PassDone {
        server: pass.server.name,
        known: work.known,
        certificate: work.certificate,
        written: work.written,
        gone_shards: work.gone_shards,
        budget_is_gone: work.budget_is_gone,
        certificate_is_gone: work.certificate_is_gone,
        volume_size: work.volume_size,
        look_again: work.look_again,
        absent: work.absent,
        configuration,
        workload,
        scope: pass.scope,
    }
}

struct Work {
    client: Client,
    applier: Applier,
    known: HashMap<Target, Applied>,
    certificate: Option<Judged>,
    written: usize,
    gone_shards: Vec<String>,
    budget_is_gone: bool,
    certificate_is_gone: bool,
    volume_size: Option<paquebot_crds::Quantity>,
    look_again: Option<Duration>,
    absent: Absent,
}

impl Work {
    /// What is wrong with the certificate or the workload keeps no mailbox from changing.
    async fn all(&mut self, pass: &Pass) -> (Result<(), Failure>, Result<(), Failure>) {
        if pass.scope == Scope::Configuration {
            return (self.configuration(pass).await, Ok(()));
        }
        let certificate = self.certificate(&pass.server).await.and(self.keys(&pass.server).await);
        if let Err(failure) = self.configuration(pass).await {
            return (Err(failure), certificate);
        }
        (Ok(()), certificate.and(self.workload(pass).await))
    }

    async fn apply(&mut self, desired: Desired) -> Result<(), Failure> {
        let known = self.known.get(&desired.target);
        let (target, outcome) = written(&self.applier, desired, known).await?;
        self.remember(target, outcome);
        Ok(())
    }

    fn remember(&mut self, target: Target, outcome: Outcome) {
        if matches!(outcome, Outcome::Written(_)) {
            self.written += 1;
        }
        self.known.insert(target, outcome.applied());
    }
}

async fn written(applier: &Applier, desired: Desired, known: Option<&Applied>) -> Result<(Target, Outcome), Failure> {
    match applier.apply(&desired, known).await {
        Ok(outcome) => Ok((desired.target, outcome)),
        Err(error) => Err(Failure {
            message: format!("{} could not be written: {error}", desired.target),
            invalid: error.is_invalid(),
        }),
    }
}

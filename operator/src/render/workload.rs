//! The objects that run a server. They depend on the MailServer alone.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Server;
use super::names::{self, metadata, selector};
use super::{service, stateful_set};
use crate::directory::Accepted;

/// What the operator was started with, for MailServers that do not say it themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// The server's image.
    pub image: String,
    /// The namespace of the operator's pods; `None`: it is not known.
    pub operator_namespace: Option<String>,
}

/// The objects that run a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// The pods' account; it may nothing, and its token is not mounted.
    pub service_account: ServiceAccount,
    /// Gives the pods their names.
    pub headless_service: Service,
    /// What clients and other servers reach.
    pub service: Service,
    /// The pods.
    pub stateful_set: StatefulSet,
    /// How many pods a voluntary disruption may take; `None`: an existing budget is to be deleted.
    pub disruption_budget: Option<PodDisruptionBudget>,
}

/// Renders the objects that run a server.
#[must_use]
pub fn workload(server: &Accepted<&Server>, defaults: &Defaults) -> Workload {
    let server: &Server = server;
    let name = &server.name.name;
    let budget = &server.spec.disruption_budget;
    Workload {
        service_account: ServiceAccount {
            metadata: metadata(server, names::service_account(name)),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        },
        headless_service: service::headless(server),
        service: service::public(server),
        stateful_set: stateful_set::render(server, defaults),
        disruption_budget: budget.mode.is_enabled().then(|| PodDisruptionBudget {
            metadata: metadata(server, name.clone()),
            spec: Some(PodDisruptionBudgetSpec {
                max_unavailable: Some(IntOrString::Int(budget.max_unavailable)),
                selector: Some(LabelSelector { match_labels: Some(selector(name)), ..LabelSelector::default() }),
                ..PodDisruptionBudgetSpec::default()
            }),
            ..PodDisruptionBudget::default()
        }),
    }
}

//! The `DNSEndpoint`s of MailDomains, from which external-dns publishes records: finds, writes and deletes them. Its API
//! is touched only where it exists. Started by the engine.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Client;
use kube::api::DynamicObject;
use kube::api::{Api, ListParams};
use kube::core::{ApiResource, PartialObjectMeta};
use paquebot_crds::Kind;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::apis;
use super::apply::{Applied, Applier, Desired, version_token};
use super::calls::{CallError, optional};
use super::watches::{Scope, name_of};
use crate::directory::NamespacedName;

/// The field manager of all `DNSEndpoint`s.
const MANAGER: &str = "paquebot-operator-dns";
/// The group and version.
pub const API_VERSION: &str = "externaldns.k8s.io/v1alpha1";
/// What tells that an object is the operator's.
const LABELS: [(&str, &str); 2] =
    [("app.kubernetes.io/managed-by", "paquebot-operator"), ("app.kubernetes.io/part-of", "paquebot")];
/// Objects that are written or deleted together.
const AT_ONCE: usize = 8;
/// Objects of one page of a list.
const PAGE: u32 = 500;

/// What is there: names and versions; `None` where the API does not exist.
pub type Survey = Option<Vec<(NamespacedName, String)>>;

/// What became of one `DNSEndpoint`.
pub struct EndpointDone {
    /// The MailDomain, and so its name.
    pub domain: NamespacedName,
    /// What is there now; `None`: nothing. Else why not, for people.
    pub result: Result<Option<Applied>, String>,
}

/// How the API server knows the kind.
fn resource() -> ApiResource {
    ApiResource {
        group: "externaldns.k8s.io".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: API_VERSION.to_owned(),
        kind: "DNSEndpoint".to_owned(),
        plural: "dnsendpoints".to_owned(),
    }
}

fn metadata(domain: &NamespacedName, uid: &str) -> ObjectMeta {
    let owner = OwnerReference {
        api_version: "paquebot.dev/v1alpha1".to_owned(),
        kind: Kind::MailDomain.as_str().to_owned(),
        name: domain.name.clone(),
        uid: uid.to_owned(),
        controller: Some(true),
        // The MailDomain goes at once, whatever becomes of its records.
        block_owner_deletion: None,
    };
    ObjectMeta {
        name: Some(domain.name.clone()),
        namespace: Some(domain.namespace.clone()),
        labels: Some(LABELS.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

/// Works on `DNSEndpoint`s, a bounded number of times at once.
#[derive(Clone)]
pub struct EndpointsWorker {
    client: Client,
    scope: Scope,
    permits: Arc<Semaphore>,
}

impl EndpointsWorker {
    /// In the namespaces that the operator looks after.
    #[must_use]
    pub fn new(client: Client, scope: Scope) -> Self {
        Self { client, scope, permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Finds what is there.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn survey(self) -> Result<Survey, CallError> {
        if !apis::has(&self.client, &resource()).await? {
            return Ok(None);
        }
        let apis: Vec<Api<DynamicObject>> = match &self.scope {
            Scope::Cluster => vec![Api::all_with(self.client.clone(), &resource())],
            Scope::Namespaces(names) => {
                names.iter().map(|name| Api::namespaced_with(self.client.clone(), name, &resource())).collect()
            }
        };
        let labels = LABELS.map(|(key, value)| format!("{key}={value}")).join(",");
        let mut found = Vec::new();
        for api in apis {
            let mut parameters = ListParams::default().labels(&labels).limit(PAGE);
            loop {
                let Some(page) = optional(api.list_metadata(&parameters)).await? else { return Ok(None) };
                let of = |object: &PartialObjectMeta<DynamicObject>| {
                    (name_of(&object.metadata), version_token(&object.metadata))
                };
                found.extend(page.items.iter().map(of));
                match page.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => parameters = parameters.continue_token(&token),
                    None => break,
                }
            }
        }
        Ok(Some(found))
    }

    /// Writes the `DNSEndpoint` of a MailDomain unless it is as wanted.
    pub async fn apply(self, domain: NamespacedName, uid: String, spec: Value, known: Option<Applied>) -> EndpointDone {
        let _permit = self.permits.acquire().await;
        let result = match Desired::raw(resource(), metadata(&domain, &uid), &json!({ "spec": spec })) {
            Ok(desired) => Applier::new(self.client, MANAGER).apply(&desired, known.as_ref()).await,
            Err(error) => Err(error),
        };
        let told = |error: CallError| match error {
            CallError::Foreign => {
                "it is there already and somebody else's; delete it or rename the MailDomain".to_owned()
            }
            error => error.to_string(),
        };
        EndpointDone { domain, result: result.map(|outcome| Some(outcome.applied())).map_err(told) }
    }

    /// Deletes the `DNSEndpoint` of a MailDomain.
    pub async fn delete(self, domain: NamespacedName, uid: String) -> EndpointDone {
        let _permit = self.permits.acquire().await;
        let applier = Applier::new(self.client, MANAGER);
        let result = applier.delete_as(&resource(), &domain, &metadata(&domain, &uid)).await;
        EndpointDone { domain, result: result.map(|()| None).map_err(|error| error.to_string()) }
    }
}

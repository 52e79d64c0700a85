//! Writes Kubernetes objects: server-side apply, compared before it is written.
//!
//! An object that is as wanted is not written: what was wanted is remembered beside it as a digest in an annotation, so
//! that a field that is no longer wanted is noticed as well. What was written is remembered by the caller as
//! [`Applied`], so that an object that nobody touched since then is not even read. An object of somebody else is never
//! written, whatever its name.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::{ApiResource, NamespaceResourceScope};
use kube::{Client, Resource};
use serde::Serialize;
use serde_json::Value;

use super::calls::{CallError, optional, within_deadline};
use super::comparison::{contains, strip_nulls};
use crate::directory::NamespacedName;

/// The annotation that remembers what was wanted.
const DIGEST: &str = "paquebot.dev/applied-digest";

/// Identifies an object: kind, namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Such as `StatefulSet`.
    pub kind: String,
    /// Namespace and name.
    pub name: NamespacedName,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// An object as it is wanted.
#[derive(Clone)]
pub struct Desired {
    /// Which one.
    pub target: Target,
    resource: ApiResource,
    metadata: ObjectMeta,
    body: Value,
    digest: String,
    source: Option<String>,
}

impl Desired {
    /// Takes an object of a namespaced kind.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn new<K>(object: &K) -> Result<Self, CallError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize,
    {
        Self::raw(ApiResource::erase::<K>(&()), object.meta().clone(), &serde_json::to_value(object)?)
    }

    /// Takes an object of a namespaced kind that has no Rust type here; `body` may do without its metadata.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn raw(resource: ApiResource, meta: ObjectMeta, body: &Value) -> Result<Self, CallError> {
        let mut body = body.clone();
        if let Some(fields) = body.as_object_mut() {
            fields.insert("apiVersion".to_owned(), Value::from(resource.api_version.clone()));
            fields.insert("kind".to_owned(), Value::from(resource.kind.clone()));
            fields.insert("metadata".to_owned(), serde_json::to_value(&meta)?);
        }
        // Null means absence, and would otherwise differ from what the API server stores.
        strip_nulls(&mut body);
        let digest = paquebot_config::bundle::digest(&serde_json::to_vec(&body)?);
        if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
            let annotations = metadata.entry("annotations").or_insert_with(|| Value::Object(serde_json::Map::new()));
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.insert(DIGEST.to_owned(), Value::from(digest.clone()));
            }
        }
        let name = NamespacedName::new(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        );
        let target = Target { kind: resource.kind.clone(), name };
        Ok(Self { target, resource, metadata: meta, body, digest, source: None })
    }

    /// Notes the digest of what the object was made from, see [`Applied::is_made_from`].
    #[must_use]
    pub fn made_from(self, digest: &str) -> Self {
        Self { source: Some(digest.to_owned()), ..self }
    }
}

/// What was written and what the API server made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    digest: String,
    uid: Option<String>,
    source: Option<String>,
    /// See [`version_token`].
    pub token: String,
}

impl Applied {
    /// Whether the object is as wanted, as far as its source tells: then it does not have to be made to be compared.
    #[must_use]
    pub fn is_made_from(&self, digest: &str) -> bool {
        self.source.as_deref() == Some(digest)
    }
}

/// Whether something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The object was as wanted.
    Unchanged(Applied),
    /// The object was written.
    Written(Applied),
}

impl Outcome {
    /// What is there now.
    #[must_use]
    pub fn applied(self) -> Applied {
        match self {
            Self::Unchanged(applied) | Self::Written(applied) => applied,
        }
    }
}

/// Tells one state of an object's wishes from another: the generation where the API server keeps one (so that a status
/// does not count), the resourceVersion elsewhere.
#[must_use]
pub fn version_token(metadata: &ObjectMeta) -> String {
    match metadata.generation {
        Some(generation) => format!("{}/{generation}", metadata.uid.as_deref().unwrap_or_default()),
        None => metadata.resource_version.clone().unwrap_or_default(),
    }
}

/// Writes objects for one controller.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    manager: &'static str,
}

impl Applier {
    /// Writes under one field manager, which nobody else uses.
    #[must_use]
    pub fn new(client: Client, manager: &'static str) -> Self {
        Self { client, manager }
    }

    fn api(&self, desired: &Desired) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &desired.target.name.namespace, &desired.resource)
    }

    /// Makes the object as wanted. `known` is what the caller remembers of it, if nobody has touched it since.
    ///
    /// # Errors
    /// What the API server says; [`CallError::Foreign`] when somebody else has an object of that name.
    pub async fn apply(&self, desired: &Desired, known: Option<&Applied>) -> Result<Outcome, CallError> {
        if let Some(known) = known
            && known.digest == desired.digest
        {
            return Ok(Outcome::Unchanged(known.clone()));
        }
        let api = self.api(desired);
        if let Some(uid) = known.and_then(|known| known.uid.as_ref())
            && let Some(written) = self.rewrite(&api, desired, uid).await?
        {
            return Ok(Outcome::Written(written));
        }
        if let Some(live) = optional(api.get(&desired.target.name.name)).await? {
            if !is_ours(&live.metadata, &desired.metadata) {
                return Err(CallError::Foreign);
            }
            if is_as_wanted(&live, desired)? {
                return Ok(Outcome::Unchanged(remember(&live, desired)));
            }
        }
        let parameters = PatchParams::apply(self.manager).force();
        let written =
            within_deadline(api.patch(&desired.target.name.name, &parameters, &Patch::Apply(&desired.body))).await?;
        tracing::info!(object = %desired.target, "written");
        Ok(Outcome::Written(remember(&written, desired)))
    }

    /// Writes over what this process wrote itself, without reading it first; `None` when it is another object now.
    async fn rewrite(
        &self,
        api: &Api<DynamicObject>,
        desired: &Desired,
        uid: &str,
    ) -> Result<Option<Applied>, CallError> {
        let mut body = desired.body.clone();
        if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("uid".to_owned(), Value::from(uid));
        }
        let parameters = PatchParams::apply(self.manager).force();
        match within_deadline(api.patch(&desired.target.name.name, &parameters, &Patch::Apply(&body))).await {
            Ok(written) => {
                tracing::info!(object = %desired.target, "written");
                Ok(Some(remember(&written, desired)))
            }
            // Gone, or replaced by another object: it is looked at like one that is not known.
            Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes an object if it is there and belongs to the owner that `ours` names.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn delete<K>(&self, name: &NamespacedName, ours: &ObjectMeta) -> Result<(), CallError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        self.delete_as(&ApiResource::erase::<K>(&()), name, ours).await
    }

    /// The same for a kind that has no Rust type here.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn delete_as(
        &self,
        resource: &ApiResource,
        name: &NamespacedName,
        ours: &ObjectMeta,
    ) -> Result<(), CallError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &name.namespace, resource);
        let Some(live) = optional(api.get_metadata(&name.name)).await? else { return Ok(()) };
        if !is_ours(&live.metadata, ours) {
            return Ok(());
        }
        let mut parameters = DeleteParams::background();
        // What somebody has made anew since then is not what was looked at.
        parameters.preconditions = Some(Preconditions { uid: live.metadata.uid, resource_version: None });
        if optional(api.delete(&name.name, &parameters)).await?.is_some() {
            tracing::info!(kind = resource.kind, object = %name, "deleted");
        }
        Ok(())
    }
}

/// Whether an object may be written: it has our owner as its controller, or an earlier owner of the same kind and name,
/// or none, and then our labels.
fn is_ours(live: &ObjectMeta, wanted: &ObjectMeta) -> bool {
    let Some(owner) = controller(wanted) else { return false };
    if let Some(present) = controller(live) {
        if present.uid == owner.uid {
            return true;
        }
        if (&present.kind, &present.name) != (&owner.kind, &owner.name) {
            return false;
        }
    }
    let labels = live.labels.as_ref();
    let has = |(key, value): (&String, &String)| labels.and_then(|labels| labels.get(key)) == Some(value);
    wanted.labels.as_ref().is_some_and(|wanted| wanted.iter().all(has))
}

fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}

fn remember(live: &DynamicObject, desired: &Desired) -> Applied {
    Applied {
        digest: desired.digest.clone(),
        uid: live.metadata.uid.clone(),
        source: desired.source.clone(),
        token: version_token(&live.metadata),
    }
}

fn is_as_wanted(live: &DynamicObject, desired: &Desired) -> Result<bool, CallError> {
    let digest = live.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DIGEST));
    Ok(digest == Some(&desired.digest) && contains(&serde_json::to_value(live)?, &desired.body))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_of_others_are_not_ours() {
        let object = |labels: Value, owners: Value| -> ObjectMeta {
            serde_json::from_value(json!({ "labels": labels, "ownerReferences": owners })).unwrap()
        };
        let owner = |kind: &str, name: &str, uid: &str| json!([{ "apiVersion": "v1", "kind": kind, "name": name, "uid": uid, "controller": true }]);
        let ours = json!({ "app.kubernetes.io/instance": "a", "app.kubernetes.io/managed-by": "paquebot-operator" });
        let wanted = object(ours.clone(), owner("MailServer", "a", "1"));
        for (sentence, labels, owners, is) in [
            ("our own", ours.clone(), owner("MailServer", "a", "1"), true),
            ("our own, whose labels somebody took away", json!({}), owner("MailServer", "a", "1"), true),
            ("one that an earlier MailServer of the name left", ours.clone(), owner("MailServer", "a", "0"), true),
            ("one whose owner was taken away", ours.clone(), json!([]), true),
            ("one of another MailServer", ours.clone(), owner("MailServer", "a-pods", "2"), false),
            ("one of another controller", ours, owner("Certificate", "a", "3"), false),
            ("a person's", json!({}), json!([]), false),
            ("the namespace's", json!({ "app.kubernetes.io/instance": "a" }), json!([]), false),
        ] {
            assert_eq!(is_ours(&object(labels, owners), &wanted), is, "{sentence}");
        }
    }
}

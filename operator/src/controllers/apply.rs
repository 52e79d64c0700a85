//! Writes Kubernetes objects: server-side apply, compared before it is written, each call with a deadline.
//!
//! An object that is as wanted is not written: what was wanted is remembered beside it as a digest in an annotation, so
//! that a field that is no longer wanted is noticed as well. What was written is remembered by the caller as
//! [`Applied`], so that an object that nobody touched since then is not even read. An object of somebody else is never
//! written, whatever its name.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::{ApiResource, NamespaceResourceScope};
use kube::{Client, Resource};
use serde::Serialize;
use serde_json::Value;

use crate::directory::NamespacedName;

/// How long one call to the API server may take, its retries included.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// The annotation that remembers what was wanted.
const DIGEST: &str = "paquebot.dev/applied-digest";

/// Why a call to the API server failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer in time.
    #[error("the API server did not answer within {} seconds", DEADLINE.as_secs())]
    Deadline,
    /// The API server refused, or could not be reached.
    #[error("{}", said(.0))]
    Kube(#[from] kube::Error),
    /// A password could not be made.
    #[error("{0}")]
    Password(#[from] crate::credentials::HashError),
    /// An object of that name belongs to somebody else.
    #[error(
        "it is there already and does not belong to this MailServer, so it is left as it is; rename or delete it, or \
         give the MailServer another name"
    )]
    Foreign,
    /// An object could not be written as JSON.
    #[error("an object cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// What the API server says, for people; the library would show its whole answer.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({} {})", status.message, status.code, status.reason),
        error => error.to_string(),
    }
}

impl CallError {
    /// The HTTP status that the API server answered with.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Kube(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }

    /// Whether the object itself was refused: writing it again will not help.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Foreign) || self.code() == Some(422)
    }
}

/// Gives a call its deadline.
///
/// # Errors
/// [`CallError::Deadline`], or what the call says.
pub async fn within_deadline<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(CallError::Deadline),
    }
}

/// A call that finds something or nothing.
///
/// # Errors
/// As [`within_deadline`], but "not found" is `None`.
pub async fn optional<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<Option<T>, CallError> {
    match within_deadline(call).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

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

/// Whether a live value has everything that is wanted; the API server adds defaults and status beside it.
#[must_use]
pub fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(key, wanted)| match live.get(key) {
            Some(live) if matches!(key.as_str(), "limits" | "requests") => has_amounts(live, wanted),
            Some(live) => contains(live, wanted),
            None => is_empty(wanted),
        }),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| contains(live, wanted))
        }
        _ => live == wanted,
    }
}

/// Amounts of resources, which the API server writes in its own way: 1024Mi becomes 1Gi.
fn has_amounts(live: &Value, wanted: &Value) -> bool {
    let (Value::Object(live), Value::Object(wanted)) = (live, wanted) else { return contains(live, wanted) };
    wanted.iter().all(|(name, wanted)| {
        let amount = |value: &Value| billionths(value.as_str()?);
        live.get(name).is_some_and(|live| {
            live == wanted || amount(live).is_some_and(|amount_live| amount(wanted) == Some(amount_live))
        })
    })
}

/// A Kubernetes quantity in billionths, the smallest unit that there is; `None` if it is none, or out of all bounds.
fn billionths(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let ten = |exponent: u32| 10_i128.checked_pow(exponent);
    let factor = match suffix {
        "n" => 1,
        "u" => ten(3)?,
        "m" => ten(6)?,
        "" => ten(9)?,
        "k" => ten(12)?,
        "M" => ten(15)?,
        "G" => ten(18)?,
        "T" => ten(21)?,
        "P" => ten(24)?,
        "E" => ten(27)?,
        "Ki" => ten(9)? << 10,
        "Mi" => ten(9)? << 20,
        "Gi" => ten(9)? << 30,
        "Ti" => ten(9)? << 40,
        "Pi" => ten(9)? << 50,
        "Ei" => ten(9)? << 60,
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            ten(u32::try_from(exponent.checked_add(9)?).ok()?)?
        }
    };
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = digits.checked_mul(factor)?;
    let divisor = ten(u32::try_from(fraction.len()).ok()?)?;
    // The API server rounds up what is smaller than a billionth; such a wish simply counts as another amount.
    (scaled % divisor == 0).then_some(scaled / divisor)
}

/// What the API server leaves away.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Null => true,
        Value::String(_) | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_do_not_count_and_differences_do() {
        let live = json!({"a": 1, "list": [{"name": "x", "default": true}], "empty": null});
        for (wanted, as_wanted) in [
            (json!({"a": 1}), true),
            (json!({"list": [{"name": "x"}]}), true),
            (json!({"nothing": {}, "none": []}), true),
            (json!({"a": 2}), false),
            (json!({"b": 1}), false),
            (json!({"list": []}), false),
            (json!({"list": [{"name": "x"}, {"name": "y"}]}), false),
        ] {
            assert_eq!(contains(&live, &wanted), as_wanted, "{wanted}");
        }
    }

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

    #[test]
    fn amounts_are_the_same_however_they_are_written() {
        for (live, wanted, same) in [
            ("1Gi", "1024Mi", true),
            ("500m", "0.5", true),
            ("1", "1000m", true),
            ("1k", "1e3", true),
            ("1536Mi", "1.5Gi", true),
            ("100m", "100M", false),
            ("1G", "1Gi", false),
            ("1", "", false),
            ("1", "one", false),
        ] {
            let resources = |amount: &str| json!({ "resources": { "limits": { "memory": amount } } });
            assert_eq!(contains(&resources(live), &resources(wanted)), same, "{live} {wanted}");
            let labels = |value: &str| json!({ "labels": { "memory": value } });
            assert!(!contains(&labels(live), &labels(wanted)), "only amounts are amounts");
        }
        assert!(!contains(&json!({ "limits": {} }), &json!({ "limits": { "cpu": "1" } })));
    }

    #[test]
    fn a_refusal_is_said_in_the_words_of_the_api_server() {
        let status = kube::core::Status {
            code: 500,
            message: "etcd is away".to_owned(),
            reason: "InternalError".to_owned(),
            ..kube::core::Status::default()
        };
        let error = CallError::from(kube::Error::Api(Box::new(status)));
        assert_eq!(error.to_string(), "etcd is away (500 InternalError)");
    }

    #[test]
    fn nulls_are_absent() {
        let mut value = json!({"a": null, "b": {"c": null, "d": 1}, "e": [{"f": null}]});
        strip_nulls(&mut value);
        assert_eq!(value, json!({"b": {"d": 1}, "e": [{}]}));
    }
}

//! The state of a namespace in a form that is the same in every run that ends well: everything that the operator owns or
//! reports, without what differs by nature. Random secrets count by their shape, and what should follow from something
//! else (a verifier from its password, an index from its files) is checked and written down as right or `WRONG`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordVerifier};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Resource;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use paquebot_config::bundle::digest;
use paquebot_crds::{MailAlias, MailDomain, MailServer, Mailbox, RelayPolicy};
use paquebot_operator::render::names;
use serde_json::{Value, json};

use crate::support::external_dns;
use crate::support::world::Space;

/// Objects by kind and name.
#[derive(Debug, Clone, PartialEq)]
pub struct Dump(BTreeMap<String, Value>);

/// What differs from run to run and says nothing.
const BY_NATURE: [&str; 13] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "managedFields",
    "lastTransitionTime",
    "lastVerified",
    "notAfter",
    "clusterIP",
    "clusterIPs",
    "nodePort",
    "healthCheckNodePort",
    names::REVISION_ANNOTATION,
    "paquebot.dev/config-refresh-attempt",
];

const WRONG: &str = "WRONG";

fn kinds() -> Vec<ApiResource> {
    fn erase<K: Resource<DynamicType = ()>>() -> ApiResource {
        ApiResource::erase::<K>(&())
    }
    vec![
        erase::<MailServer>(),
        erase::<MailDomain>(),
        erase::<Mailbox>(),
        erase::<MailAlias>(),
        erase::<RelayPolicy>(),
        erase::<StatefulSet>(),
        erase::<Service>(),
        erase::<ServiceAccount>(),
        erase::<PodDisruptionBudget>(),
        erase::<NetworkPolicy>(),
        erase::<ConfigMap>(),
        erase::<Secret>(),
        erase::<Pod>(),
        external_dns::resource(),
    ]
}

impl Dump {
    pub async fn of(space: &Space) -> Result<Self, kube::Error> {
        let mut raw = BTreeMap::new();
        for kind in kinds() {
            let api: Api<DynamicObject> = Api::namespaced_with(space.client.clone(), &space.name, &kind);
            for object in api.list(&ListParams::default()).await? {
                let name = object.metadata.name.clone().unwrap_or_default();
                raw.insert(format!("{} {name}", kind.kind), serde_json::to_value(object).unwrap());
            }
        }
        let context = Context { raw: &raw, namespace: &space.name, addresses: addresses(&raw) };
        Ok(Self(raw.iter().map(|(key, object)| (key.clone(), context.normal(key, object))).collect()))
    }

    /// The objects in which something does not follow from what it should.
    pub fn wrong(&self) -> Vec<String> {
        let wrong = self.0.iter().filter(|(_, object)| object.to_string().contains(WRONG));
        wrong.map(|(key, object)| format!("{key}: {object}").chars().take(3000).collect()).collect()
    }

    /// The first few differences; empty: there is none.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let keys: std::collections::BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        for key in keys {
            let (one, two) = (self.0.get(key).unwrap_or(&Value::Null), other.0.get(key).unwrap_or(&Value::Null));
            differ(key, one, two, &mut found);
        }
        found.truncate(8);
        found
    }
}

fn differ(path: &str, one: &Value, two: &Value, found: &mut Vec<String>) {
    match (one, two) {
        (Value::Object(one), Value::Object(two)) => {
            for key in one.keys().chain(two.keys().filter(|key| !one.contains_key(*key))) {
                let value = |fields: &serde_json::Map<String, Value>| fields.get(key).cloned().unwrap_or_default();
                differ(&format!("{path}.{key}"), &value(one), &value(two), found);
            }
        }
        (Value::Array(one), Value::Array(two)) if one.len() == two.len() => {
            one.iter()
                .zip(two)
                .enumerate()
                .for_each(|(at, (one, two))| differ(&format!("{path}[{at}]"), one, two, found));
        }
        _ if one == two => {}
        _ => {
            let short = |value: &Value| value.to_string().chars().take(300).collect::<String>();
            found.push(format!("{path}: {} instead of {}", short(two), short(one)));
        }
    }
}

struct Context<'a> {
    raw: &'a BTreeMap<String, Value>,
    namespace: &'a str,
    /// Of the Services.
    addresses: Vec<String>,
}

fn addresses(raw: &BTreeMap<String, Value>) -> Vec<String> {
    let services = raw.iter().filter(|(key, _)| key.starts_with("Service ")).map(|(_, service)| service);
    let all = services.filter_map(|service| service.pointer("/spec/clusterIP")?.as_str().map(str::to_owned));
    all.filter(|address| address != "None").collect()
}

impl Context<'_> {
    fn normal(&self, key: &str, object: &Value) -> Value {
        let mut object = object.clone();
        match key.split_once(' ') {
            Some(("Secret", name)) => self.secret(name, &mut object),
            Some(("Mailbox", _)) => self.mailbox(&mut object),
            Some(("ConfigMap", name)) => self.config_map(name, &mut object),
            _ => {}
        }
        if key.starts_with("Mail") || key.starts_with("RelayPolicy") {
            generations(&mut object);
            unprobed(&mut object);
        }
        self.plain(&mut object);
        object
    }

    /// Takes out what differs by nature, at any depth.
    fn plain(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|key, _| !BY_NATURE.contains(&key.as_str()));
                fields.values_mut().for_each(|value| self.plain(value));
                // Annotations that were nothing else.
                fields
                    .retain(|key, value| key != "annotations" || value.as_object().is_some_and(|all| !all.is_empty()));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.plain(item)),
            Value::String(text) => {
                *text = without_digests(&text.replace(self.namespace, "NAMESPACE"));
                self.addresses.iter().for_each(|address| *text = text.replace(address, "ADDRESS"));
            }
            _ => {}
        }
    }

    fn mailbox(&self, object: &mut Value) {
        let Some(used) = object.pointer_mut("/status/credentials").and_then(Value::as_array_mut) else { return };
        for used in used {
            let name = used["secretName"].as_str().unwrap_or_default();
            let secret = self.raw.get(&format!("Secret {name}"));
            let version = secret.and_then(|secret| secret.pointer("/metadata/resourceVersion"));
            used["is"] = Value::from(if version == used.get("resourceVersion") { "current" } else { WRONG });
        }
    }

    fn config_map(&self, name: &str, object: &mut Value) {
        let Some(server) = name.strip_suffix("-config") else { return };
        let Some(data) = object.get("data").cloned() else { return };
        let index: Value =
            data["index.json"].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        for entry in index["shards"].as_array().into_iter().flatten() {
            let file = entry["name"].as_str().unwrap_or_default();
            let short = file.strip_suffix(".json").unwrap_or(file);
            let secret = self.raw.get(&format!("Secret {server}-{short}"));
            let bytes = match secret.and_then(|secret| secret["data"].get(file)) {
                Some(encoded) => decoded(encoded),
                None => data[file].as_str().unwrap_or_default().as_bytes().to_vec(),
            };
            let right = entry["sha256"].as_str() == Some(&digest(&bytes));
            object["files"][file] = Value::from(if right { "as the index says" } else { WRONG });
        }
    }

    fn secret(&self, name: &str, object: &mut Value) {
        let Some(data) = object.get("data").and_then(Value::as_object).cloned() else { return };
        let shapes = data.iter().map(|(key, value)| (key.clone(), self.shape(name, key, &decoded(value))));
        object["data"] = Value::Object(shapes.collect());
    }

    fn shape(&self, secret: &str, key: &str, bytes: &[u8]) -> Value {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if key.starts_with("directory-") || key == "domains.json" {
            return text.lines().map(|line| self.record(line)).collect();
        }
        if key == "secrets.json" {
            return self.logins(&text);
        }
        if text.starts_with("-----BEGIN") {
            return json!("PEM");
        }
        // A password, a token, a key or a hash of the world.
        if matches!(key, "password" | "token" | "srs" | "hash") {
            let owner = if secret.starts_with("mx1-") { "the operator's" } else { "somebody's" };
            return json!(owner);
        }
        match text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
            Some((scheme, rest)) => json!(format!("{scheme}://somebody@{rest}")),
            None => json!(text),
        }
    }

    /// The logins of smart hosts: each is what the Secret holds that its name ends with.
    fn logins(&self, text: &str) -> Value {
        let secrets: Value = serde_json::from_str(text).unwrap_or_default();
        let logins = secrets["logins"].as_object().into_iter().flatten().map(|(name, login)| {
            let secret = name.rsplit(' ').next().unwrap_or_default();
            let data = self.raw.get(&format!("Secret {secret}")).and_then(|secret| secret.get("data"));
            let is =
                |key: &str| data.is_some_and(|data| Some(decoded(&data[key])) == login[key].as_str().map(Vec::from));
            json!([name, if is("username") && is("password") { "as its Secret says" } else { WRONG }])
        });
        logins.collect()
    }

    fn record(&self, line: &str) -> Value {
        let Ok(mut record) = serde_json::from_str::<Value>(line) else { return json!(line) };
        let address = record["address"].as_str().map(str::to_owned);
        if let (Some(address), Some(verifiers)) = (address, record.get_mut("verifiers").and_then(Value::as_array_mut)) {
            let clear = self.clear(&address);
            for verifier in verifiers {
                let right =
                    verifier.as_str().zip(clear.as_ref()).is_some_and(|(verifier, clear)| opens(verifier, clear));
                *verifier = Value::from(if right { "opens with what its Secret holds" } else { WRONG });
            }
        }
        record
    }

    /// What the Secret of the mailbox with this address holds now.
    fn clear(&self, address: &str) -> Option<String> {
        let mailboxes = self.raw.iter().filter(|(key, _)| key.starts_with("Mailbox ")).map(|(_, mailbox)| mailbox);
        let mut of_address = mailboxes.filter(|mailbox| {
            mailbox.pointer("/status/address").and_then(Value::as_str) == Some(address)
                && mailbox.pointer("/spec/credentials").is_some()
        });
        let credentials = of_address.next()?.pointer("/spec/credentials")?.clone();
        for (source, name, key) in [
            ("passwordSecretRef", "name", "password"),
            ("passwordHashSecretRef", "name", "hash"),
            ("generate", "secretName", "password"),
        ] {
            let Some(name) = credentials.pointer(&format!("/{source}/{name}")).and_then(Value::as_str) else {
                continue;
            };
            let value = self.raw.get(&format!("Secret {name}"))?.pointer(&format!("/data/{key}"))?;
            return String::from_utf8(decoded(value)).ok();
        }
        None
    }
}

/// A condition speaks of the object as it is; how often that was changed is of no interest.
fn generations(object: &mut Value) {
    let generation = object.pointer("/metadata/generation").cloned();
    for condition in object.pointer_mut("/status/conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        let current = condition.get("observedGeneration") == generation.as_ref();
        condition["observedGeneration"] = Value::from(if current { "current" } else { WRONG });
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("generation");
    }
}

/// The operator probes its servers' ports now and then, and here nobody listens there: what it saw depends on when.
fn unprobed(object: &mut Value) {
    if let Some(conditions) = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
        conditions.retain(|condition| condition["type"] != "RelayClosed");
    }
}

fn decoded(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default()
}

/// Whether a verifier was made from a password, or is this hash.
fn opens(verifier: &str, clear: &str) -> bool {
    static KNOWN: LazyLock<Mutex<HashMap<(String, String), bool>>> = LazyLock::new(Mutex::default);
    let pair = (verifier.to_owned(), clear.to_owned());
    if let Some(known) = KNOWN.lock().unwrap().get(&pair) {
        return *known;
    }
    let hash = PasswordHash::new(verifier);
    let opens =
        verifier == clear || hash.is_ok_and(|hash| Argon2::default().verify_password(clear.as_bytes(), &hash).is_ok());
    KNOWN.lock().unwrap().insert(pair, opens);
    opens
}

/// A text without digests and revisions: runs of hexadecimal digits that no word is.
fn without_digests(text: &str) -> String {
    const SHORTEST: usize = 12;
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let run = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(run);
        out.push_str(if run >= SHORTEST { "DIGEST" } else { digits });
        let mut characters = after.chars();
        out.extend(characters.next());
        rest = characters.as_str();
    }
    out
}

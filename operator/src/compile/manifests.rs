//! Reads manifests: every YAML or JSON document below a directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use paquebot_crds::{GROUP, Kind, MailAlias, MailDomain, MailServer, Mailbox, RelayPolicy, VERSION, validate};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::report::Problem;
use crate::directory::{NamespacedName, Object};

/// More than any set of manifests needs; what is larger is not meant.
const MOST_OCTETS: u64 = 256 << 20;
/// Directories within directories.
const MOST_LEVELS: usize = 16;

/// The files as they lie there, in order.
pub type Files = Vec<(PathBuf, Vec<u8>)>;

/// What the documents say.
#[derive(Debug, Default)]
pub struct Manifests {
    /// Objects of our kinds that an API server would take, and where each was read.
    pub objects: Vec<(Object, String)>,
    /// Secrets, with `stringData` put into `data`.
    pub secrets: BTreeMap<NamespacedName, Secret>,
    /// ConfigMaps.
    pub config_maps: BTreeMap<NamespacedName, ConfigMap>,
    /// The labels of namespaces.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// What an API server would refuse.
    pub problems: Vec<Problem>,
    /// Documents of other kinds, by kind and name.
    pub skipped: Vec<String>,
}

/// Why manifests cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or directory cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A file is not YAML.
    #[error("{path}: not YAML: {reason}")]
    Syntax {
        /// The file.
        path: String,
        /// What the parser says.
        reason: String,
    },
    /// There is too much.
    #[error("{0}: more than 256 MiB of manifests, or directories nested deeper than 16")]
    TooMuch(String),
}

/// Reads every `.yaml`, `.yml` and `.json` file below a directory (or one file), in the order of their paths.
///
/// # Errors
/// [`LoadError`] when something cannot be read.
pub fn read_files(root: &Path) -> Result<Files, LoadError> {
    let mut paths = Vec::new();
    collect(root, 0, &mut paths)?;
    paths.sort();
    let mut files = Vec::with_capacity(paths.len());
    let mut octets = 0;
    for path in paths {
        let bytes = fs::read(&path).map_err(|source| io(&path, source))?;
        octets += bytes.len() as u64;
        if octets > MOST_OCTETS {
            return Err(LoadError::TooMuch(root.display().to_string()));
        }
        files.push((path, bytes));
    }
    Ok(files)
}

fn collect(path: &Path, level: usize, found: &mut Vec<PathBuf>) -> Result<(), LoadError> {
    if level > MOST_LEVELS {
        return Err(LoadError::TooMuch(path.display().to_string()));
    }
    if fs::metadata(path).map_err(|source| io(path, source))?.is_file() {
        found.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(|source| io(path, source))? {
        let entry = entry.map_err(|source| io(path, source))?.path();
        let hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let manifest =
            entry.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|e| extension == *e));
        if !hidden && (entry.is_dir() || manifest) {
            collect(&entry, level + 1, found)?;
        }
    }
    Ok(())
}

fn io(path: &Path, source: std::io::Error) -> LoadError {
    LoadError::Io { path: path.display().to_string(), source }
}

/// Understands the documents of files.
///
/// # Errors
/// [`LoadError::Syntax`] when a file is not YAML.
pub fn parse(files: &Files) -> Result<Manifests, LoadError> {
    let mut manifests = Manifests::default();
    for (path, bytes) in files {
        let path = path.display().to_string();
        let syntax = |reason: String| LoadError::Syntax { path: path.clone(), reason };
        let text = std::str::from_utf8(bytes).map_err(|error| syntax(error.to_string()))?;
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| {
            // Without the lines around the mistake: one of them may hold a password.
            syntax(error.without_snippet().to_string())
        })?;
        for (number, document) in documents.into_iter().enumerate() {
            manifests.take(document, &format!("{path}#{}", number + 1));
        }
    }
    manifests.report_duplicates();
    Ok(manifests)
}

impl Manifests {
    fn take(&mut self, document: Value, source: &str) {
        if document.is_null() {
            return;
        }
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind) = (text("/apiVersion"), text("/kind"));
        let object = format!("{kind} {}/{}", text("/metadata/namespace"), text("/metadata/name"));
        let taken = match (api_version.as_str(), kind.as_str()) {
            ("v1", "List") => {
                let items = document.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
                items.into_iter().for_each(|item| self.take(item, source));
                Ok(())
            }
            ("v1", "Secret") => self.take_secret(document),
            ("v1", "ConfigMap") => self.take_config_map(document),
            ("v1", "Namespace") => self.take_namespace(document),
            (api_version, kind) if api_version.split('/').next() == Some(GROUP) => {
                self.take_ours(api_version, kind, document, source)
            }
            ("", _) | (_, "") => Err("it has no apiVersion or no kind".to_owned()),
            _ => {
                self.skipped.push(format!("{source}: {object}"));
                Ok(())
            }
        };
        if let Err(message) = taken {
            let reason = "Invalid".to_owned();
            self.problems.push(Problem { source: source.to_owned(), object, reason, message });
        }
    }

    fn take_ours(&mut self, api_version: &str, kind: &str, document: Value, source: &str) -> Result<(), String> {
        let known = format!("{GROUP}/{VERSION}");
        let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind).filter(|_| api_version == known);
        let Some(kind) = kind else { return Err(format!("{GROUP} has no such kind in {api_version}; write {known}")) };
        let envelope = envelope_problems(&document);
        let spec = validate::problems(kind, &document).into_iter().map(|problem| problem.to_string());
        let problems: Vec<String> = envelope.into_iter().chain(spec).collect();
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        let object: Object = match kind {
            Kind::MailServer => typed::<MailServer>(document)?.into(),
            Kind::MailDomain => typed::<MailDomain>(document)?.into(),
            Kind::Mailbox => typed::<Mailbox>(document)?.into(),
            Kind::MailAlias => typed::<MailAlias>(document)?.into(),
            Kind::RelayPolicy => typed::<RelayPolicy>(document)?.into(),
        };
        self.objects.push((object, source.to_owned()));
        Ok(())
    }

    fn take_secret(&mut self, document: Value) -> Result<(), String> {
        // Not the parser's own words: they may quote what must stay in the Secret.
        let wrong = "data must be a map of base64 texts, and stringData a map of texts";
        let mut secret: Secret = typed(document).map_err(|_| wrong.to_owned())?;
        let name = secret.metadata.name.as_deref().ok_or("metadata.name is missing")?;
        let name = NamespacedName::new(secret.metadata.namespace.as_deref().unwrap_or("default"), name);
        let written = secret.string_data.take().unwrap_or_default();
        let data = secret.data.get_or_insert_default();
        data.extend(written.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))));
        self.secrets.insert(name, secret);
        Ok(())
    }

    fn take_config_map(&mut self, document: Value) -> Result<(), String> {
        let config_map: ConfigMap = typed(document)?;
        let name = config_map.metadata.name.as_deref().ok_or("metadata.name is missing")?;
        let name = NamespacedName::new(config_map.metadata.namespace.as_deref().unwrap_or("default"), name);
        self.config_maps.insert(name, config_map);
        Ok(())
    }

    fn take_namespace(&mut self, document: Value) -> Result<(), String> {
        let namespace: Namespace = typed(document)?;
        let name = namespace.metadata.name.ok_or("metadata.name is missing")?;
        self.namespaces.insert(name, namespace.metadata.labels.unwrap_or_default());
        Ok(())
    }

    /// Of two documents for one object the later one counts, as with `kubectl apply`; that is seldom meant.
    fn report_duplicates(&mut self) {
        let mut first: BTreeMap<_, String> = BTreeMap::new();
        for (object, source) in &self.objects {
            if let Some(earlier) = first.insert(object.key(), source.clone()) {
                let message = format!("it stands in {earlier} already; keep one of the two");
                self.problems.push(Problem::of_object(source.clone(), &object.key(), "Duplicate", &message));
            }
        }
    }
}

/// What is wrong outside `spec`.
fn envelope_problems(document: &Value) -> Vec<String> {
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    let fields = document.as_object().into_iter().flat_map(Map::keys);
    let mut problems: Vec<String> = fields
        .filter(|field| !known.contains(&field.as_str()))
        .map(|field| format!("{field}: there is no such field"))
        .collect();
    let text =
        |field: &str| document.pointer(&format!("/metadata/{field}")).map(|value| value.as_str().unwrap_or_default());
    if !text("name").is_some_and(|name| name.len() <= 253 && name.split('.').all(is_label)) {
        problems.push("metadata.name: give a name of lower case letters, digits, dashes and dots".to_owned());
    }
    if !text("namespace").is_none_or(|namespace| namespace.len() <= 63 && is_label(namespace)) {
        problems.push("metadata.namespace: give a name of lower case letters, digits and dashes".to_owned());
    }
    problems
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn typed<T: DeserializeOwned>(document: Value) -> Result<T, String> {
    serde_json::from_value(document).map_err(|error| error.to_string())
}

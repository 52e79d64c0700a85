//! The objects that carry the contract's files to the pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use paquebot_config::bundle::SECRETS_FILE;
use paquebot_config::{Bundle, ShardName};

use super::Server;
use super::names::{self, metadata};

/// The objects that carry one bundle. Written in this order: the index, which the server begins with, comes last. The
/// Secrets are made one by one: together they may take as much memory as everything else.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// The files that have a Secret each, the shards with records and `secrets.json` where there is one, with the digest
    /// of their content.
    pub secrets: BTreeMap<String, String>,
    /// The ConfigMap with `server.json`, `relay.json` and `index.json`.
    pub config_map: ConfigMap,
    files: Arc<BTreeMap<String, Vec<u8>>>,
}

impl Configuration {
    /// The Secret with a file.
    #[must_use]
    pub fn secret(&self, server: &Server, file: &str) -> Secret {
        let bytes = self.files.get(file).cloned().unwrap_or_default();
        let mut metadata = metadata(server, secret_name(&server.name.name, file));
        let (label, value) = names::FILE_LABEL;
        metadata.labels.get_or_insert_default().insert(label.to_owned(), value.to_owned());
        Secret {
            metadata,
            data: Some(BTreeMap::from([(file.to_owned(), ByteString(bytes))])),
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        }
    }

    /// The names of the Secrets of shards without records, and of that without `secrets.json`; those that exist are to be
    /// deleted after the ConfigMap is written, as no index names them then.
    pub fn empty_shards<'a>(&'a self, server: &'a Server) -> impl Iterator<Item = String> + 'a {
        ShardName::all()
            .map(|shard| shard.to_string())
            .chain([SECRETS_FILE.to_owned()])
            .filter(|file| !self.secrets.contains_key(file))
            .map(|file| secret_name(&server.name.name, &file))
    }
}

/// The name of the Secret with a file.
#[must_use]
pub fn secret_name(server: &str, file: &str) -> String {
    match ShardName::from_file_name(file) {
        Some(shard) => names::shard_secret(server, shard),
        None => names::secrets_secret(server),
    }
}

/// The name of the Secret with a file, if the file has one of its own.
#[must_use]
pub fn secret_of_file(server: &str, file: &str) -> Option<String> {
    is_secret(file).then(|| secret_name(server, file))
}

fn is_secret(file: &str) -> bool {
    file == SECRETS_FILE || ShardName::from_file_name(file).is_some()
}

/// Puts a bundle into objects.
#[must_use]
pub fn configuration(server: &Server, bundle: &Bundle) -> Configuration {
    let secrets = bundle.index().shards.iter().filter(|entry| is_secret(&entry.name));
    let plain = bundle.files().iter().filter(|(file, _)| !is_secret(file));
    // JSON is UTF-8 always, so nothing is lost.
    let plain = plain.map(|(file, bytes)| (file.clone(), String::from_utf8_lossy(bytes).into_owned()));
    let mut metadata = metadata(server, names::config_map(&server.name.name));
    if let Some(reference) = &server.spec.tls.client_ca_secret_ref {
        let of = format!("{}/{}", reference.name, reference.key);
        metadata.annotations.get_or_insert_default().insert(names::AUTHORITIES_ANNOTATION.to_owned(), of);
    }
    Configuration {
        secrets: secrets.map(|entry| (entry.name.clone(), entry.sha256.clone())).collect(),
        config_map: ConfigMap { metadata, data: Some(plain.collect()), ..ConfigMap::default() },
        files: bundle.shared_files(),
    }
}

//! The objects that carry the contract's files to the pods.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use paquebot_config::bundle::SECRETS_FILE;
use paquebot_config::{Bundle, ShardName};

use super::Server;
use super::names::{self, metadata};

/// The objects that carry one bundle. Written in this order: the index, which the server begins with, comes last.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// The Secret with `secrets.json`, where there is one.
    pub secrets: Option<Secret>,
    /// The Secrets with the shards that have records.
    pub shards: BTreeMap<ShardName, Secret>,
    /// The ConfigMap with `server.json`, `relay.json` and `index.json`.
    pub config_map: ConfigMap,
}

impl Configuration {
    /// The names of the Secrets of shards without records, and of that without `secrets.json`; those that exist are to be
    /// deleted after the ConfigMap is written, as no index names them then.
    pub fn empty_shards<'a>(&'a self, server: &'a Server) -> impl Iterator<Item = String> + 'a {
        let secrets = self.secrets.is_none().then(|| names::secrets_secret(&server.name.name));
        ShardName::all()
            .filter(|shard| !self.shards.contains_key(shard))
            .map(|shard| names::shard_secret(&server.name.name, shard))
            .chain(secrets)
    }
}

/// Puts a bundle into objects.
#[must_use]
pub fn configuration(server: &Server, bundle: &Bundle) -> Configuration {
    let name = &server.name.name;
    let mut shards = BTreeMap::new();
    let mut plain = BTreeMap::new();
    let mut secrets = None;
    for (file, bytes) in bundle.files() {
        if let Some(shard) = ShardName::from_file_name(file) {
            let data = BTreeMap::from([(file.clone(), ByteString(bytes.clone()))]);
            shards.insert(shard, secret(server, names::shard_secret(name, shard), data));
        } else if file == SECRETS_FILE {
            let data = BTreeMap::from([(file.clone(), ByteString(bytes.clone()))]);
            secrets = Some(secret(server, names::secrets_secret(name), data));
        } else {
            // JSON is UTF-8 always, so nothing is lost.
            plain.insert(file.clone(), String::from_utf8_lossy(bytes).into_owned());
        }
    }
    Configuration {
        secrets,
        shards,
        config_map: ConfigMap {
            metadata: metadata(server, names::config_map(name)),
            data: Some(plain),
            ..ConfigMap::default()
        },
    }
}

fn secret(server: &Server, name: String, data: BTreeMap<String, ByteString>) -> Secret {
    Secret { metadata: metadata(server, name), data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() }
}

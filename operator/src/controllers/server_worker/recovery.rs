//! What lies in a server's directory when the operator starts: verifiers, so that nothing is hashed again, and what was
//! good last, so that a restart takes nothing out of force. The engine takes it over before it makes its first pass.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::api::{Api, ListParams};
use paquebot_config::bundle::{SECRETS_FILE, SERVER_FILE};
use paquebot_config::{Filters, Login, Record, Secrets, ServerConfig, ShardName, Verifier};

use super::Failure;
use crate::controllers::calls::{optional, within_deadline};
use crate::directory::{NamespacedName, SecretReference};
use crate::render::{self, names};

/// What lay in a server's directory when the operator started.
pub struct Recovered {
    /// Verifiers by canonical address, so that nothing is hashed again.
    pub verifiers: HashMap<String, RecoveredVerifiers>,
    /// The scripts around those of mailboxes by domain: they stay in force while newer ones are wrong.
    pub filters: HashMap<String, Filters>,
    /// The Secrets of shards that exist.
    pub shards: Vec<String>,
    /// The logins in `secrets.json`, so that a Secret that went meanwhile keeps its last good login.
    pub logins: BTreeMap<String, Login>,
    /// The authorities of clients' certificates in `server.json`, for the same reason, and whose they are.
    pub authorities: Option<(SecretReference, String)>,
    /// The digests of the files in the index that is there.
    pub digests: HashMap<String, String>,
}

/// What opens one mailbox.
#[derive(Clone)]
pub struct RecoveredVerifiers {
    /// Whose mailbox it is.
    pub tenant: String,
    /// Its own password's.
    pub own: Vec<Verifier>,
    /// Those of its app passwords, by name.
    pub app_passwords: BTreeMap<String, Verifier>,
}

/// Reads a server's directory. A line that cannot be read is passed over: its mailbox is hashed again. Secrets that the
/// index names are read also where somebody has taken their label, or an operator wrote them that knew none.
///
/// # Errors
/// What the API server says.
pub async fn recover(client: Client, server: NamespacedName) -> Result<Recovered, Failure> {
    let config: Api<ConfigMap> = Api::namespaced(client.clone(), &server.namespace);
    let config = optional(config.get(&names::config_map(&server.name))).await?;
    let api: Api<Secret> = Api::namespaced(client, &server.namespace);
    // Not the server's keys, nor its certificate: nothing of them is needed here.
    let (label, content) = names::FILE_LABEL;
    let labels = names::labels(&server.name).into_iter().chain([(label.to_owned(), content.to_owned())]);
    let selector = labels.map(|(key, value)| format!("{key}={value}"));
    let selector = selector.collect::<Vec<_>>().join(",");
    let mut recovered = Recovered {
        verifiers: HashMap::new(),
        filters: HashMap::new(),
        shards: Vec::new(),
        logins: BTreeMap::new(),
        authorities: config.as_ref().and_then(authorities),
        digests: digests(config),
    };
    let mut parameters = ListParams::default().labels(&selector).limit(16);
    loop {
        let page = within_deadline(api.list(&parameters)).await?;
        for secret in page.items {
            recovered.take(&server, secret);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => break,
        }
    }
    for name in recovered.unlisted(&server.name) {
        if let Some(secret) = optional(api.get(&name)).await? {
            recovered.take(&server, secret);
        }
    }
    Ok(recovered)
}

/// Authorities of which it is not said whose they are, are nobody's.
fn authorities(config: &ConfigMap) -> Option<(SecretReference, String)> {
    let of = config.metadata.annotations.as_ref()?.get(names::AUTHORITIES_ANNOTATION)?;
    let (name, key) = of.split_once('/')?;
    let text = config.data.as_ref()?.get(SERVER_FILE)?;
    let pem = serde_json::from_str::<ServerConfig>(text).ok()?.tls.client_authorities?;
    Some((SecretReference { name: name.to_owned(), key: Some(key.to_owned()) }, pem))
}

/// The digests of a ConfigMap's index; none where it cannot be read.
fn digests(config: Option<ConfigMap>) -> HashMap<String, String> {
    let text = config.and_then(|config| config.data?.remove(paquebot_config::bundle::INDEX_FILE));
    let index: Option<paquebot_config::Index> = text.and_then(|text| serde_json::from_str(&text).ok());
    index.into_iter().flat_map(|index| index.shards).map(|entry| (entry.name, entry.sha256)).collect()
}

impl Recovered {
    /// The Secrets with files of the index that no list has brought.
    fn unlisted(&self, server: &str) -> Vec<String> {
        let names = self.digests.keys().filter_map(|file| render::secret_of_file(server, file));
        names.filter(|name| !self.shards.contains(name)).collect()
    }

    fn take(&mut self, server: &NamespacedName, secret: Secret) {
        let name = secret.metadata.name.unwrap_or_default();
        let Some(file) = name.strip_prefix(&format!("{}-", server.name)) else { return };
        if name == names::secrets_secret(&server.name) {
            let bytes = secret.data.and_then(|mut data| data.remove(SECRETS_FILE)).unwrap_or_default().0;
            self.logins = serde_json::from_slice::<Secrets>(&bytes).map(|secrets| secrets.logins).unwrap_or_default();
            self.shards.push(name);
            return;
        }
        if ShardName::from_file_name(file).is_none() {
            return;
        }
        let bytes = secret.data.and_then(|mut data| data.remove(file)).unwrap_or_default().0;
        for line in bytes.split(|byte| *byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Record::Mailbox(mailbox)) if !mailbox.verifiers.is_empty() => {
                    let address = mailbox.address.canonical();
                    let app_passwords = mailbox.app_passwords.into_iter().map(|app| (app.name, app.verifier)).collect();
                    let (tenant, own) = (mailbox.tenant, mailbox.verifiers);
                    self.verifiers.insert(address, RecoveredVerifiers { tenant, own, app_passwords });
                }
                Ok(Record::Domain(domain)) if domain.filters != Filters::default() => {
                    self.filters.insert(domain.domain.to_string(), domain.filters);
                }
                _ => {}
            }
        }
        self.shards.push(name);
    }
}

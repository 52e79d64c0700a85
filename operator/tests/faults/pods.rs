//! The hands of the cluster that are not there: a controller that makes the StatefulSet's pod, and a kubelet and a server
//! in it. The pod's files are as they were when it started or when its annotations last changed, and the server serves
//! the newest whole set of them, as the real one does. It keeps mail only by the name of whose it is, and erases it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{delete, get};
use axum::{Json, Router};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::ListParams;
use kube::runtime::wait::await_condition;
use paquebot_config::bundle::digest;
use paquebot_config::{Index, Record};
use paquebot_operator::controllers::certificate;
use paquebot_operator::render::names;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use crate::support::world::Space;

pub const SERVER: &str = "mx1";

/// Ends with the world.
pub struct Pods {
    pub port: u16,
    files: Arc<Mutex<Files>>,
    tasks: [AbortHandle; 2],
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// The one pod.
struct Files {
    space: Space,
    annotations: Option<BTreeMap<String, String>>,
    served: Value,
    /// Mailboxes that it serves.
    in_service: BTreeSet<String>,
    /// Whose mail it keeps.
    mail: BTreeSet<String>,
}

impl Pods {
    pub async fn start(space: &Space) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = json!({ "revision": null, "error": "nothing yet", "digests": {} });
        let (space_of_it, in_service, mail) = (space.clone(), BTreeSet::new(), BTreeSet::new());
        let files = Files { space: space_of_it, annotations: None, served, in_service, mail };
        let files = Arc::new(Mutex::new(files));
        let router = Router::new().route("/configz", get(configz)).route("/maildrops/{whose}", delete(erase));
        let router = router.with_state(Arc::clone(&files));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let space = space.clone();
        let maker = tokio::spawn(async move {
            let there = |set: Option<&StatefulSet>| set.is_some();
            while await_condition(space.api::<StatefulSet>(), SERVER, there).await.is_err() {}
            space.pod(SERVER).await;
        });
        Self { port, files, tasks: [server.abort_handle(), maker.abort_handle()] }
    }

    /// Somebody gets mail.
    pub async fn deliver(&self, whose: &str) {
        self.files.lock().await.mail.insert(whose.to_owned());
    }

    /// Whose mail there is.
    pub async fn mail(&self) -> Vec<String> {
        self.files.lock().await.mail.iter().cloned().collect()
    }
}

/// Erases nobody's mail who is served, and asks for the token of the server's own Secret.
async fn erase(
    State(files): State<Arc<Mutex<Files>>>,
    Path(whose): Path<String>,
    headers: HeaderMap,
) -> (StatusCode, String) {
    let mut files = files.lock().await;
    let keys: Option<Secret> = files.space.api().get_opt(&names::keys_secret(SERVER)).await.ok().flatten();
    let token = keys.and_then(|keys| keys.data?.remove(names::QUEUE_TOKEN_KEY)).unwrap_or_default().0;
    let shown = headers.get("authorization").map(|value| value.as_bytes().to_vec()).unwrap_or_default();
    if shown != [b"Bearer ", token.as_slice()].concat() {
        return (StatusCode::UNAUTHORIZED, json!({ "error": "who are you?" }).to_string());
    }
    if files.in_service.contains(&whose) {
        return (StatusCode::CONFLICT, json!({ "error": "in service" }).to_string());
    }
    let messages = usize::from(files.mail.remove(&whose));
    (StatusCode::OK, json!({ "messages": messages }).to_string())
}

async fn configz(State(files): State<Arc<Mutex<Files>>>) -> Json<Value> {
    let mut files = files.lock().await;
    let pod: Option<Pod> = files.space.api().get_opt(&format!("{SERVER}-0")).await.ok().flatten();
    let annotations = pod.and_then(|pod| pod.metadata.annotations).unwrap_or_default();
    if files.annotations.as_ref() != Some(&annotations) {
        files.annotations = Some(annotations);
        files.refresh().await;
    }
    Json(files.served.clone())
}

impl Files {
    async fn refresh(&mut self) {
        match self.whole_set().await {
            Ok((served, in_service)) => (self.served, self.in_service) = (served, in_service),
            Err(error) => self.served["error"] = Value::from(error),
        }
    }

    /// What `/configz` says of the newest set of files, and the mailboxes in them that are in service.
    async fn whole_set(&self) -> Result<(Value, BTreeSet<String>), String> {
        let failed = |error: kube::Error| error.to_string();
        let config: ConfigMap = self.space.api().get(&names::config_map(SERVER)).await.map_err(failed)?;
        let mut files: BTreeMap<String, Vec<u8>> =
            config.data.into_iter().flatten().map(|(name, text)| (name, text.into_bytes())).collect();
        let mut certificate = None;
        for secret in self.space.api::<Secret>().list(&ListParams::default()).await.map_err(failed)? {
            let name = secret.metadata.name.unwrap_or_default();
            let data = secret.data.unwrap_or_default();
            if name == format!("{SERVER}-tls") {
                let part = |key: &str| data.get(key).map(|bytes| bytes.0.clone()).unwrap_or_default();
                let (chain, key) = (part("tls.crt"), part("tls.key"));
                certificate = certificate::judge(&chain, &key, SERVER, true, Timestamp::now(), &name).sha256;
            } else if name.starts_with(&format!("{SERVER}-")) {
                files.extend(data.into_iter().map(|(name, bytes)| (name, bytes.0)));
            }
        }
        let index = files.get("index.json").and_then(|bytes| serde_json::from_slice::<Index>(bytes).ok());
        let index = index.ok_or("there is no index")?;
        let (mut digests, mut in_service) = (BTreeMap::new(), BTreeSet::new());
        for entry in index.shards {
            if files.get(&entry.name).map(|bytes| digest(bytes)) != Some(entry.sha256.clone()) {
                return Err(format!("{} is not as the index says", entry.name));
            }
            let lines = files.get(&entry.name).filter(|_| entry.name.starts_with("directory-"));
            let lines = lines.into_iter().flat_map(|bytes| bytes.split(|byte| *byte == b'\n'));
            in_service.extend(lines.filter_map(|line| match serde_json::from_slice(line) {
                Ok(Record::Mailbox(mailbox)) if !mailbox.suspended => Some(mailbox.address.to_string()),
                _ => None,
            }));
            digests.insert(entry.name, entry.sha256);
        }
        let certificate = certificate.map(|sha256| json!({ "sha256": sha256 }));
        let served = json!({
            "revision": index.revision.as_str(), "error": null, "digests": digests, "certificate": certificate,
        });
        Ok((served, in_service))
    }
}

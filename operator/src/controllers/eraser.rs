//! Has the server pods erase mail: `DELETE /maildrops/…` on their admin port, with the token of the server's own Secret. And
//! writes the finalizers of the objects that wait for it. Started by the engine's `reclaim`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::calls::optional;
use super::configz::Poller;
use super::status;
use super::token::Token;
use crate::directory::{NamespacedName, ObjectKey};

/// A mailbox with much mail takes a while; what was begun goes on without us.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What is read of an answer: a sentence.
const LONGEST_ANSWER: usize = 4096;

/// Writes an object's finalizers, unless the object has changed since; whether it did.
///
/// # Errors
/// A sentence for people.
pub async fn write_finalizers(
    client: Client,
    key: &ObjectKey,
    version: &str,
    finalizers: &[String],
) -> Result<bool, String> {
    let api: Api<DynamicObject> = Api::namespaced_with(client, &key.name.namespace, &status::resource(key.kind));
    let patch = json!({ "metadata": { "resourceVersion": version, "finalizers": finalizers } });
    let written = optional(api.patch(&key.name.name, &PatchParams::default(), &Patch::Merge(&patch))).await;
    match written {
        Ok(object) => Ok(object.is_some()),
        Err(error) if error.code() == Some(409) => Ok(false),
        Err(error) => Err(format!("its finalizers could not be written: {error}")),
    }
}

/// Has the pods of one MailServer erase mail, with a token that is read once. Whose mail is next, and how many objects' at a
/// time, the engine says: a pod erases one after another anyway.
pub struct Eraser {
    client: Client,
    poller: Poller,
    server: NamespacedName,
    token: Mutex<Option<Arc<Token>>>,
}

impl Eraser {
    /// For one server.
    #[must_use]
    pub fn new(client: Client, poller: Poller, server: NamespacedName) -> Self {
        Self { client, poller, server, token: Mutex::new(None) }
    }

    /// Has each pod erase a tenant's mail of an address, or of a domain as `@domain`.
    ///
    /// # Errors
    /// A sentence for people: what the first pod that did not says.
    pub async fn erase(&self, pods: &[IpAddr], whose: &str, tenant: &str) -> Result<(), String> {
        for pod in pods {
            let known = self.token.lock().await.is_some();
            let token = self.token().await?;
            let answer = match ask(&self.poller, *pod, token.reveal(), whose, tenant).await {
                // The token may be another by now.
                Err(Refused::Token(_)) if known => {
                    self.token.lock().await.take();
                    ask(&self.poller, *pod, self.token().await?.reveal(), whose, tenant).await
                }
                answer => answer,
            };
            match answer {
                Ok(()) => {}
                Err(Refused::Token(why)) => {
                    self.token.lock().await.take();
                    return Err(why);
                }
                Err(Refused::Otherwise(why)) => return Err(why),
            }
        }
        Ok(())
    }

    async fn token(&self) -> Result<Arc<Token>, String> {
        // Held while it is read, so that nobody reads it a second time.
        let mut known = self.token.lock().await;
        if let Some(token) = known.as_ref() {
            return Ok(Arc::clone(token));
        }
        let token = Arc::new(Token::read(self.client.clone(), &self.server).await?);
        *known = Some(Arc::clone(&token));
        Ok(token)
    }
}

/// Why a pod did not erase; a sentence for people.
enum Refused {
    /// The token is not the pod's.
    Token(String),
    Otherwise(String),
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self::Otherwise(why)
    }
}

async fn ask(poller: &Poller, pod: IpAddr, token: &str, whose: &str, tenant: &str) -> Result<(), Refused> {
    let authority = SocketAddr::new(pod, poller.port);
    let mut url = reqwest::Url::parse(&format!("http://{authority}/maildrops")).map_err(|error| error.to_string())?;
    // A local part may hold characters that mean something in a URL.
    url.path_segments_mut().map_err(|()| "a pod's address makes no URL".to_owned())?.push(whose);
    url.query_pairs_mut().append_pair("tenant", tenant);
    let sent = poller.http.delete(url).bearer_auth(token).timeout(TIMEOUT).send().await;
    let mut answer = sent.map_err(|error| format!("a pod could not be asked: {}", error.without_url()))?;
    if answer.status().is_success() {
        return Ok(());
    }
    let status = answer.status();
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await
        && body.len() + chunk.len() <= LONGEST_ANSWER
    {
        body.extend_from_slice(&chunk);
    }
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    let said = said.get("error").and_then(Value::as_str).unwrap_or("no reason given");
    let why = format!("a pod answered {}: {said}", status.as_u16());
    let is_token = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    Err(if is_token { Refused::Token(why) } else { Refused::Otherwise(why) })
}

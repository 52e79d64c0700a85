//! Asks the server pods on their admin port: `GET /configz`, what they serve, and `GET /peers`, who connected.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;

use super::token::Token;
use crate::exposure::peers::Peers;

/// A pod that answers at all answers at once.
const TIMEOUT: Duration = Duration::from_secs(2);
/// More than 67 digests and an error need.
const LARGEST_ANSWER: usize = 1 << 18;
/// More than the 256 clients that a server remembers of each of 16 listeners need.
const LARGEST_PEERS: usize = 1 << 20;

/// What a pod says of its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Configz {
    /// The revision in force.
    #[serde(default)]
    pub revision: Option<String>,
    /// Why the newest set was refused.
    #[serde(default)]
    pub error: Option<String>,
    /// The digest of each file of the set in force.
    #[serde(default)]
    pub digests: BTreeMap<String, String>,
    /// The certificate in force.
    #[serde(default)]
    pub certificate: Option<ServedCertificate>,
}

/// The certificate that a pod serves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ServedCertificate {
    /// The digest of its DER form.
    pub sha256: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// The token is not the pod's.
    WrongToken,
    /// A sentence for people.
    Failed(String),
}

impl From<reqwest::Error> for NoAnswer {
    fn from(error: reqwest::Error) -> Self {
        Self::Failed(error.without_url().to_string())
    }
}

/// Asks pods.
#[derive(Clone)]
pub struct Poller {
    pub(super) http: reqwest::Client,
    pub(super) port: u16,
}

impl Poller {
    /// Asks at this port of each pod.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(port: u16) -> Result<Self, reqwest::Error> {
        // A proxy from the environment must not see, and cannot reach, pods.
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { http, port })
    }

    /// Asks one pod what it serves.
    ///
    /// # Errors
    /// A sentence for people: not reachable, or no answer that can be read.
    pub async fn ask(&self, address: IpAddr) -> Result<Configz, String> {
        let response = self.http.get(self.url(address, "configz")).send().await;
        let response = response.and_then(reqwest::Response::error_for_status);
        let read = match response {
            Ok(response) => read(response, LARGEST_ANSWER).await,
            Err(error) => Err(error.into()),
        };
        read.map_err(|error| match error {
            NoAnswer::Failed(sentence) => sentence,
            NoAnswer::WrongToken => "the pod wants a token".to_owned(),
        })
    }

    /// Asks one pod who connected.
    ///
    /// # Errors
    /// [`NoAnswer`]: not reachable, not allowed, or no answer that can be read.
    pub async fn peers(&self, address: IpAddr, token: &Token) -> Result<Peers, NoAnswer> {
        let response = self.http.get(self.url(address, "peers")).bearer_auth(token.reveal()).send().await?;
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(NoAnswer::WrongToken),
            _ => read(response.error_for_status()?, LARGEST_PEERS).await,
        }
    }

    fn url(&self, address: IpAddr, page: &str) -> String {
        format!("http://{}/{page}", std::net::SocketAddr::new(address, self.port))
    }
}

async fn read<T: serde::de::DeserializeOwned>(mut response: reqwest::Response, most: usize) -> Result<T, NoAnswer> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > most {
            return Err(NoAnswer::Failed("the answer is too long".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|error| NoAnswer::Failed(format!("the answer cannot be read: {error}")))
}

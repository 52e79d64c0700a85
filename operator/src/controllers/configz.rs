//! Asks the server pods what they serve: `GET /configz` on their admin port.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

/// A pod that answers at all answers at once.
const TIMEOUT: Duration = Duration::from_secs(2);
/// More than 67 digests and an error need.
const LARGEST_ANSWER: usize = 1 << 18;

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

/// Asks pods.
#[derive(Clone)]
pub struct Poller {
    http: reqwest::Client,
    port: u16,
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

    /// Asks one pod.
    ///
    /// # Errors
    /// A sentence for people: not reachable, or no answer that can be read.
    pub async fn ask(&self, address: IpAddr) -> Result<Configz, String> {
        let authority = std::net::SocketAddr::new(address, self.port);
        let mut response = self
            .http
            .get(format!("http://{authority}/configz"))
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(|error| error.without_url().to_string())?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| error.without_url().to_string())? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err("the answer is too long".to_owned());
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|error| format!("the answer cannot be read: {error}"))
    }
}

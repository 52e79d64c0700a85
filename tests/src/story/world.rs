//! The two servers of the story, and the ports that they are reached at.

use std::sync::Arc;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::endpoint::{Endpoint, Login, Security};
use crate::forward::Forward;
use crate::kubernetes::Cluster;
use crate::wire::Certificate;

/// The Service ports of a MailServer that names none.
const PORTS: [u16; 5] = [25, 587, 465, 110, 995];

/// A MailServer and its one domain.
pub struct Server {
    /// Its namespace.
    pub namespace: &'static str,
    /// The MailServer's name.
    pub name: &'static str,
    /// The domain that it serves.
    pub domain: &'static str,
    /// Its own name in greetings.
    pub hostname: &'static str,
    forward: Arc<Forward>,
    certificate: Certificate,
}

/// The cluster and the story's two servers.
pub struct World {
    /// The cluster.
    pub cluster: Cluster,
    /// Tom's and Anna's server.
    pub server1: Server,
    /// Jack's server.
    pub server2: Server,
}

impl World {
    /// The servers of `examples/two-servers`, which must be available.
    ///
    /// # Errors
    /// When a server has no certificate.
    pub fn new(cluster: &Cluster) -> Result<Self> {
        Ok(Self {
            cluster: cluster.clone(),
            server1: Server::new(cluster, "server1", "server1.com", "mx.server1.com")?,
            server2: Server::new(cluster, "server2", "server2.com", "mx.server2.com")?,
        })
    }

    /// Both servers.
    #[must_use]
    pub fn servers(&self) -> [&Server; 2] {
        [&self.server1, &self.server2]
    }
}

impl Server {
    fn new(cluster: &Cluster, namespace: &'static str, domain: &'static str, hostname: &'static str) -> Result<Self> {
        let name = "mail";
        let secret = cluster.get(namespace, &format!("secret/{name}-tls"))?;
        let pem =
            secret.pointer("/data/tls.crt").and_then(|value| value.as_str()).context("no tls.crt in the Secret")?;
        Ok(Self {
            namespace,
            name,
            domain,
            hostname,
            forward: Forward::new(cluster, namespace, &format!("service/{name}"), &PORTS),
            certificate: Certificate::from_pem(&STANDARD.decode(pem)?)?,
        })
    }

    /// Port 25, in clear: what other servers use.
    #[must_use]
    pub fn smtp(&self) -> Endpoint {
        self.endpoint(25, Security::None)
    }

    /// Port 587 with STARTTLS.
    #[must_use]
    pub fn submission(&self) -> Endpoint {
        self.endpoint(587, Security::StartTls(self.certificate.clone()))
    }

    /// Port 465, TLS from the first octet.
    #[must_use]
    pub fn submissions(&self) -> Endpoint {
        self.endpoint(465, Security::Implicit(self.certificate.clone()))
    }

    /// Port 110 with STLS.
    #[must_use]
    pub fn pop3(&self) -> Endpoint {
        self.endpoint(110, Security::StartTls(self.certificate.clone()))
    }

    /// Port 995, TLS from the first octet.
    #[must_use]
    pub fn pop3s(&self) -> Endpoint {
        self.endpoint(995, Security::Implicit(self.certificate.clone()))
    }

    /// A port, in clear.
    #[must_use]
    pub fn in_clear(&self, port: u16) -> Endpoint {
        self.endpoint(port, Security::None)
    }

    fn endpoint(&self, port: u16, security: Security) -> Endpoint {
        Endpoint::new(self.forward.port(port), self.hostname, security)
    }

    /// The same server over a connection of one's own: `kubectl port-forward` cuts everything that goes through it when
    /// one of its clients is refused, as the next client of a server that shuts down is.
    #[must_use]
    pub fn on_its_own_connection(&self) -> Self {
        Self { forward: self.forward.another(), certificate: self.certificate.clone(), ..*self }
    }

    /// Forgets the connection to a pod that is known to be gone.
    pub fn reconnect(&self) {
        self.forward.reset();
    }

    /// The login of a mailbox of this server, with the password of the examples.
    #[must_use]
    pub fn login(&self, local_part: &str) -> Login {
        Login::new(&self.address(local_part), &format!("{local_part}-password"))
    }

    /// An address of this server.
    #[must_use]
    pub fn address(&self, local_part: &str) -> String {
        format!("{local_part}@{}", self.domain)
    }

    /// The server's name inside the cluster.
    #[must_use]
    pub fn service(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.name, self.namespace)
    }

    /// The server's pod.
    #[must_use]
    pub fn pod(&self) -> String {
        format!("{}-0", self.name)
    }
}

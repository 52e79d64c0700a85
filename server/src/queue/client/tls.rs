//! TLS towards other mail servers. To MX hosts it is opportunistic (RFC 7435): any certificate is taken, for without
//! DNSSEC or a policy of the recipient's domain a name in an MX record proves nothing that a certificate could be checked
//! against, and refusing a bad one would only mean sending in clear text. Whoever listens without interfering sees
//! nothing. A smart host has a name that the configuration gave: its certificate is verified where that is wanted.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, Error, RootCertStore};

use crate::tls::AnyCertificate;

/// The configurations of outbound connections.
pub struct Tls {
    provider: Arc<CryptoProvider>,
    opportunistic: Arc<ClientConfig>,
    /// For the PEM of further authorities that it was made with.
    verified: Mutex<Option<(Option<String>, Arc<ClientConfig>)>>,
}

impl Tls {
    /// Prepares what does not depend on the configuration.
    ///
    /// # Errors
    /// When the cryptographic library supports none of the protocol versions.
    pub fn new() -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let opportunistic = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate::new(Arc::clone(&provider))))
            .with_no_client_auth();
        Ok(Self { provider, opportunistic: Arc::new(opportunistic), verified: Mutex::default() })
    }

    /// Takes any certificate.
    #[must_use]
    pub fn opportunistic(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.opportunistic)
    }

    /// Takes certificates of the web's authorities and of those in `trusted` (PEM), for the host's name.
    ///
    /// # Errors
    /// When `trusted` cannot be read.
    pub fn verified(&self, trusted: Option<&str>) -> Result<Arc<ClientConfig>, String> {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made_with, config)) = &*verified
            && made_with.as_deref() == trusted
        {
            return Ok(Arc::clone(config));
        }
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for certificate in CertificateDer::pem_slice_iter(trusted.unwrap_or_default().as_bytes()) {
            let certificate = certificate.map_err(|error| error.to_string())?;
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        *verified = Some((trusted.map(str::to_owned), Arc::clone(&config)));
        Ok(config)
    }
}

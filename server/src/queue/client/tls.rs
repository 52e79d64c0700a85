//! TLS towards other mail servers: opportunistic (RFC 7435). Any certificate is taken: without DNSSEC or a policy of the
//! recipient's domain, a name in an MX record proves nothing that a certificate could be checked against, and refusing a
//! bad one would only mean sending in clear text. Whoever listens without interfering sees nothing.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, Error};

use crate::tls::AnyCertificate;

/// The configuration of every outbound connection.
///
/// # Errors
/// When the cryptographic library supports none of the protocol versions.
pub fn opportunistic() -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate::new(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

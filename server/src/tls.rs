//! The certificate and key that the listeners present, read again when they change. `main` loads them from `tls/` beside
//! the contract's files; [`crate::reload`] looks for others now and then; sessions take what is in force.

mod any_certificate;
mod clients;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use paquebot_config::{TlsConfig, TlsVersion};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

pub use self::any_certificate::AnyCertificate;
pub use self::clients::{Authorities, Vouched};

/// The certificate chain, leaf first, in PEM, within the configuration directory.
pub const CERTIFICATE_FILE: &str = "tls/tls.crt";
/// The leaf's private key in PEM.
pub const KEY_FILE: &str = "tls/tls.key";
/// The most octets that are read of either: what a Kubernetes Secret may hold.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// The certificate in force, shared by all listeners. Without one, TLS is not offered.
#[derive(Clone, Default)]
pub struct Certificates(Arc<ArcSwapOption<Presented>>);

/// What listeners begin TLS with.
#[derive(Debug, Clone)]
pub struct Presented {
    /// Where nobody is asked for a certificate.
    pub plain: Arc<rustls::ServerConfig>,
    /// Where clients are, and who vouches for theirs; absent without authorities.
    pub asking: Option<(Arc<rustls::ServerConfig>, Authorities)>,
}

impl Certificates {
    /// What a new TLS session starts from; `None` while there is no usable certificate: then neither STARTTLS nor STLS is
    /// offered.
    #[must_use]
    pub fn server_config(&self) -> Option<Arc<rustls::ServerConfig>> {
        Some(Arc::clone(&self.0.load().as_ref()?.plain))
    }

    /// The same for the listeners of SMTP and submission, which ask clients for a certificate where there are authorities
    /// and something hangs on it (`is_needed`): some clients' certificates no handshake survives.
    #[must_use]
    pub fn asking_config(&self, is_needed: bool) -> Option<Arc<rustls::ServerConfig>> {
        let presented = self.0.load_full()?;
        let asking = presented.asking.as_ref().filter(|_| is_needed);
        Some(asking.map_or_else(|| Arc::clone(&presented.plain), |(config, _)| Arc::clone(config)))
    }

    /// The client that has shown these certificates, if an authority in force now vouches for it.
    #[must_use]
    pub fn vouch(&self, chain: &[CertificateDer<'_>]) -> Option<Vouched> {
        let presented = self.0.load_full()?;
        presented.asking.as_ref()?.1.vouch(chain, UnixTime::now())
    }

    /// The same client, if an authority in force now vouches for it.
    #[must_use]
    pub fn vouch_again(&self, client: Vouched) -> Option<Vouched> {
        let presented = self.0.load_full()?;
        client.still(&presented.asking.as_ref()?.1, UnixTime::now())
    }

    /// Puts another one in force, for sessions that begin TLS from now on.
    pub fn replace(&self, next: Presented) {
        self.0.store(Some(Arc::new(next)));
    }
}

/// Why a certificate is refused. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The files are not there.
    #[error("there is no certificate: {CERTIFICATE_FILE} and {KEY_FILE} are missing in the configuration directory")]
    Missing,
    /// A file cannot be read.
    #[error("{file} cannot be read: {reason}")]
    Unreadable {
        /// Which one.
        file: &'static str,
        /// What the operating system says.
        reason: String,
    },
    /// A file does not hold what it should.
    #[error("{file} is not usable: {reason}")]
    Malformed {
        /// Which one.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The authorities of clients' certificates cannot be used. The server's own certificate can.
    #[error("tls.clientAuthorities is not usable: {0}; no client is known by its certificate meanwhile")]
    Authorities(String),
    /// The key is another certificate's, or both are not what TLS can use.
    #[error("{KEY_FILE} and {CERTIFICATE_FILE} cannot be used together: {0}")]
    Unusable(String),
}

/// The bytes of both files: what is compared to see a change.
#[derive(Clone, PartialEq, Eq)]
pub struct Files {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

/// A certificate that can be presented, and what `/configz` says about it.
pub struct Loaded {
    /// For the listeners.
    pub presented: Presented,
    /// When it ends.
    pub not_after: Timestamp,
    /// The SHA-256 of the leaf, in hexadecimal digits.
    pub sha256: String,
    /// Why nobody is asked for a certificate, though the configuration has authorities: they cannot be used.
    pub authorities_error: Option<CertificateError>,
}

impl Files {
    /// Reads both files of a configuration directory.
    ///
    /// # Errors
    /// [`CertificateError::Missing`] or [`CertificateError::Unreadable`].
    pub fn read(directory: &Path) -> Result<Self, CertificateError> {
        let certificate = read_bounded(directory, CERTIFICATE_FILE)?;
        let key = read_bounded(directory, KEY_FILE)?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Self { certificate, key: Zeroizing::new(key) }),
            _ => Err(CertificateError::Missing),
        }
    }

    /// Checks that they are a certificate and its key, and makes them ready for use. Authorities that cannot be used identify
    /// nobody, and keep nobody from TLS.
    ///
    /// # Errors
    /// [`CertificateError`], unless both can be used together.
    pub fn load(&self, tls: &TlsConfig) -> Result<Loaded, CertificateError> {
        let malformed = |file, reason: String| CertificateError::Malformed { file, reason };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| malformed(CERTIFICATE_FILE, error.to_string()))?;
        let leaf = chain.first().ok_or_else(|| malformed(CERTIFICATE_FILE, "it holds no certificate".to_owned()))?;
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|error| malformed(CERTIFICATE_FILE, format!("the first certificate is damaged: {error}")))?;
        let not_after = Timestamp::from_second(parsed.validity().not_after.timestamp())
            .map_err(|error| malformed(CERTIFICATE_FILE, error.to_string()))?;
        let sha256 = paquebot_config::bundle::digest(leaf);
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| malformed(KEY_FILE, "it holds no private key in PEM".to_owned()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let plain = Arc::new(server_config(chain.clone(), key.clone_key(), tls.min_version, None)?);
        let authorities = tls.client_authorities.as_deref().map(|pem| Authorities::new(pem, provider));
        let (asking, authorities_error) = match authorities {
            Some(Ok(authorities)) => {
                let config = server_config(chain, key, tls.min_version, Some(&authorities))?;
                (Some((Arc::new(config), authorities)), None)
            }
            Some(Err(reason)) => (None, Some(CertificateError::Authorities(reason))),
            None => (None, None),
        };
        Ok(Loaded { presented: Presented { plain, asking }, not_after, sha256, authorities_error })
    }
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    oldest: TlsVersion,
    authorities: Option<&Authorities>,
) -> Result<rustls::ServerConfig, CertificateError> {
    let unusable = |error: rustls::Error| CertificateError::Unusable(error.to_string());
    let versions: &[&rustls::SupportedProtocolVersion] = match oldest {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // `with_single_cert` compares the key with the certificate's public key.
    let builder =
        rustls::ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).map_err(unusable)?;
    let builder = match authorities {
        Some(authorities) => builder.with_client_cert_verifier(authorities.asking()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
    // Tickets spare polling clients the full handshake; their key is replaced every few hours.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(unusable)?;
    Ok(config)
}

fn read_bounded(directory: &Path, file: &'static str) -> Result<Option<Vec<u8>>, CertificateError> {
    let path: PathBuf = directory.join(file);
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|open| open.take(MAX_FILE_SIZE).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CertificateError::Unreadable { file, reason: error.to_string() }),
    }
}

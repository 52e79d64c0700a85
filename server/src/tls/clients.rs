//! Certificates of clients: asked for where the configuration has authorities, demanded nowhere. Many mail servers show the
//! certificate that they have to whoever asks, so one that nobody here vouches for does not end the handshake: its client
//! is one without a certificate. Who a client is, is asked again at each transaction, of the authorities in force then.

use std::fmt;
use std::sync::Arc;

use paquebot_config::Domain;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Names of one certificate that are looked at; a real one has a few.
const MOST_NAMES: usize = 64;

/// The authorities whose certificates say who a client is.
#[derive(Clone)]
pub struct Authorities(Arc<dyn ClientCertVerifier>);

impl fmt::Debug for Authorities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Authorities(…)")
    }
}

impl Authorities {
    /// Reads certificates in PEM.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub fn new(pem: &str, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| error.to_string())?;
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        verifier.allow_unauthenticated().build().map(Self).map_err(|error| error.to_string())
    }

    /// What a listener asks clients with.
    pub(super) fn asking(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Lenient(Arc::clone(&self.0)))
    }

    /// The DNS names of the certificate that a client has shown, its own first in the chain; none unless an authority
    /// vouches for it at this time, for the use as a client.
    #[must_use]
    pub fn names(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Vec<Domain> {
        let Some((own, intermediates)) = chain.split_first() else { return Vec::new() };
        match self.0.verify_client_cert(own, intermediates, now) {
            Ok(_) => dns_names(own),
            Err(error) => {
                tracing::info!(%error, "a client's certificate is not accepted; it counts as none");
                Vec::new()
            }
        }
    }
}

/// The alternative names of a certificate that are names of hosts, without wildcards: those name nobody.
fn dns_names(certificate: &[u8]) -> Vec<Domain> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let dns = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) if !name.starts_with('[') => Domain::parse(name).ok(),
        _ => None,
    });
    dns.filter(|name| !name.as_str().contains('*')).take(MOST_NAMES).collect()
}

/// Takes any certificate, but only from who holds its key.
#[derive(Debug)]
struct Lenient(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Lenient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

    use super::*;

    fn authority() -> (String, Issuer<'static, KeyPair>) {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        (parameters.self_signed(&key).unwrap().pem(), Issuer::new(parameters, key))
    }

    fn certificate(
        issuer: &Issuer<'static, KeyPair>,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let mut parameters =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        change(&mut parameters);
        parameters.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()
    }

    fn names(pem: &str, chain: &[CertificateDer<'_>]) -> Vec<String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let found = Authorities::new(pem, provider).unwrap().names(chain, now);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_certificate_says_who_a_client_is_when_an_authority_vouches_for_it() {
        let ((pem, ours), (_, foreign)) = (authority(), authority());
        let wanted = ["app.example", "*.wild.example", "APP2.example", "192.0.2.1"];
        assert_eq!(names(&pem, &[certificate(&ours, &wanted, |_| {})]), ["app.example", "app2.example"]);
        assert_eq!(names(&pem, &[certificate(&foreign, &wanted, |_| {})]), [""; 0], "another authority");
        assert_eq!(names(&pem, &[]), [""; 0], "no certificate");
        let expired = |parameters: &mut CertificateParams| parameters.not_after = rcgen::date_time_ymd(2026, 1, 1);
        assert_eq!(names(&pem, &[certificate(&ours, &wanted, expired)]), [""; 0], "it has expired");
        let usage = |purpose| move |parameters: &mut CertificateParams| parameters.extended_key_usages = vec![purpose];
        let of_server = certificate(&ours, &wanted, usage(ExtendedKeyUsagePurpose::ServerAuth));
        assert_eq!(names(&pem, &[of_server]), [""; 0], "it is a server's");
        let of_client = certificate(&ours, &wanted, usage(ExtendedKeyUsagePurpose::ClientAuth));
        assert_eq!(names(&pem, &[of_client]).len(), 2);
    }

    #[test]
    fn authorities_that_cannot_be_used_are_refused() {
        let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        assert!(Authorities::new("", provider()).is_err());
        assert!(
            Authorities::new("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", provider()).is_err()
        );
    }

    proptest! {
        #[test]
        fn damaged_certificates_name_nobody_or_hosts(position in 0..2_000_usize, octet: u8, rest: Vec<u8>) {
            let (_, ours) = authority();
            let mut der = certificate(&ours, &["app.example"], |_| {}).to_vec();
            let position = position % der.len();
            der[position] = octet;
            for text in [&der[..], &rest[..]] {
                prop_assert!(dns_names(text).iter().all(|name| !name.as_str().contains('*')));
            }
        }
    }
}

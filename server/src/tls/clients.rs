//! Certificates of clients: asked for where the configuration has authorities and a relay rule that names a certificate,
//! demanded nowhere. Many mail servers show the certificate that they have to whoever asks, so one that nobody here vouches
//! for does not end the handshake: its client is one without a certificate, and nothing of it is kept. Who a client is, is
//! found once, and again when the authorities have changed or the certificate has ended.

use std::fmt;
use std::sync::Arc;

use paquebot_config::Domain;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Names of one certificate that are looked at; a real one has a few.
const MOST_NAMES: usize = 64;
/// Octets of a chain that are taken: the TLS session keeps them while it lasts, and anybody may show some. Real ones have a
/// third of it.
const LONGEST_CHAIN: usize = 16 << 10;

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

    /// What is known of a client by the certificates that it has shown; `None` where nobody vouches for it.
    pub(super) fn vouch(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Option<Vouched> {
        let names = self.names(chain, now);
        if names.is_empty() {
            return None;
        }
        let until = chain.iter().map(|certificate| end(certificate)).min()?;
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Some(Vouched { names, chain, by: self.clone(), until })
    }

    /// The DNS names of the certificate that a client has shown, its own first in the chain; none unless an authority
    /// vouches for it at this time, for the use as a client.
    #[must_use]
    pub fn names(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Vec<Domain> {
        let Some((own, intermediates)) = chain.split_first() else { return Vec::new() };
        match self.0.verify_client_cert(own, intermediates, now) {
            Ok(_) => dns_names(own),
            Err(error) => {
                tracing::debug!(%error, "a client's certificate is not accepted; it counts as none");
                Vec::new()
            }
        }
    }
}

/// A client whose certificate an authority vouches for.
#[derive(Debug)]
pub struct Vouched {
    names: Vec<Domain>,
    chain: Vec<CertificateDer<'static>>,
    by: Authorities,
    /// When the first certificate of the chain ends, in seconds since 1970.
    until: u64,
}

impl Vouched {
    /// The DNS names of its certificate.
    #[must_use]
    pub fn names(&self) -> &[Domain] {
        &self.names
    }

    /// The same, if the authorities in force now vouch for it. They are not asked twice.
    pub(super) fn still(self, authorities: &Authorities, now: UnixTime) -> Option<Self> {
        if Arc::ptr_eq(&self.by.0, &authorities.0) && now.as_secs() < self.until {
            return Some(self);
        }
        authorities.vouch(&self.chain, now)
    }
}

/// When a certificate ends; at once where it cannot be read.
fn end(certificate: &[u8]) -> u64 {
    let parsed = X509Certificate::from_der(certificate).ok();
    parsed.and_then(|(_, parsed)| parsed.validity().not_after.timestamp().try_into().ok()).unwrap_or(0)
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

/// Takes any certificate, but only from who holds its key. One that cannot be read (version 1, unknown critical extensions)
/// is taken as it is: [`Authorities::names`] cannot read it either, so that it never says who a client is.
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
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let octets = intermediates.iter().fold(end_entity.len(), |octets, certificate| octets + certificate.len());
        match octets <= LONGEST_CHAIN {
            true => Ok(ClientCertVerified::assertion()),
            false => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if names_nobody(certificate) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if names_nobody(certificate) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Whether a certificate cannot be read, by the same code that authorities are asked with: what holds now holds always.
fn names_nobody(certificate: &CertificateDer<'_>) -> bool {
    ParsedCertificate::try_from(certificate).is_err()
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
    fn who_is_vouched_for_is_looked_at_again_when_authorities_or_time_have_changed() {
        let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let ((pem, ours), (other, foreign)) = (authority(), authority());
        let (first, again) = (Authorities::new(&pem, provider()).unwrap(), Authorities::new(&pem, provider()).unwrap());
        let strangers = Authorities::new(&other, provider()).unwrap();
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let ends = |parameters: &mut CertificateParams| parameters.not_after = rcgen::date_time_ymd(2027, 1, 1);
        let chain = [certificate(&ours, &["app.example"], ends)];
        let before = at(1_790_000_000);
        let after = at(1_800_000_000);
        let vouched = || first.vouch(&chain, before).unwrap();
        assert_eq!(vouched().names().len(), 1);
        assert!(vouched().still(&first, before).is_some());
        assert!(vouched().still(&again, before).is_some(), "the same authorities, read again");
        assert!(vouched().still(&strangers, before).is_none(), "other authorities");
        assert!(vouched().still(&first, after).is_none(), "it has ended");
        // They are not asked again: of another chain in its place they would say no.
        let swapped = Vouched { chain: vec![certificate(&foreign, &["app.example"], |_| {})], ..vouched() };
        assert!(swapped.still(&first, before).is_some());
        assert!(first.vouch(&[certificate(&foreign, &["app.example"], |_| {})], before).is_none(), "a stranger's");
    }

    #[test]
    fn what_strangers_show_is_bounded_and_what_cannot_be_read_names_nobody() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (pem, ours) = authority();
        let authorities = Authorities::new(&pem, provider).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let own = certificate(&ours, &["app.example"], |_| {});
        let takes = |chain: &[CertificateDer<'_>]| authorities.asking().verify_client_cert(&own, chain, now).is_ok();
        assert!(takes(&[CertificateDer::from(vec![0; 8 << 10])]));
        assert!(!takes(&[CertificateDer::from(vec![0; 16 << 10])]));
        let strange = certificate(&ours, &["app.example"], |parameters| {
            let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
            extension.set_criticality(true);
            parameters.custom_extensions = vec![extension];
        });
        assert!(names_nobody(&strange) && !names_nobody(&own));
        assert_eq!(authorities.names(&[strange], now), Vec::<Domain>::new());
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

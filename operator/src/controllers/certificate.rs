//! The certificate of a MailServer: making one, and judging one. Pure but for randomness; the caller tells the time.

use jiff::Timestamp;
use paquebot_crds::conditions::{ConditionType, ConditionUpdate, Reason};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::render::certificate::{RENEW_BEFORE, VALIDITY};

const DAY_SECONDS: i64 = 86_400;

fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// A certificate with its key, as PEM.
pub struct KeyPairPem {
    /// `tls.crt`.
    pub certificate: Vec<u8>,
    /// `tls.key`.
    pub key: zeroize::Zeroizing<Vec<u8>>,
}

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the certificate could not be made: {0}")]
pub struct IssueError(String);

/// Signs a certificate for the host name and the names of its Services.
///
/// # Errors
/// When the library refuses a name or cannot make a key.
pub fn self_signed(names: &[String], now: Timestamp) -> Result<KeyPairPem, IssueError> {
    let fail = |error: rcgen::Error| IssueError(error.to_string());
    let mut parameters = rcgen::CertificateParams::new(names.to_vec()).map_err(fail)?;
    // Clocks differ: it is valid from yesterday.
    let (year, month, first) = day(now.as_second() - DAY_SECONDS)?;
    parameters.not_before = rcgen::date_time_ymd(year, month, first);
    let (year, month, last) = day(now.as_second() + seconds(VALIDITY))?;
    parameters.not_after = rcgen::date_time_ymd(year, month, last);
    let mut subject = rcgen::DistinguishedName::new();
    // A common name holds 64 characters (X.520); clients read the alternative names anyway.
    let common = names.first().map(String::as_str).unwrap_or_default();
    if common.len() <= 64 {
        subject.push(rcgen::DnType::CommonName, common);
    }
    parameters.distinguished_name = subject;
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = rcgen::KeyPair::generate().map_err(fail)?;
    let certificate = parameters.self_signed(&key).map_err(fail)?;
    Ok(KeyPairPem {
        certificate: certificate.pem().into_bytes(),
        key: zeroize::Zeroizing::new(key.serialize_pem().into_bytes()),
    })
}

/// Year, month and day of a second.
fn day(second: i64) -> Result<(i32, u8, u8), IssueError> {
    let moment = Timestamp::from_second(second).map_err(|error| IssueError(error.to_string()))?;
    let date = moment.to_zoned(jiff::tz::TimeZone::UTC).date();
    let small = |value: i8| u8::try_from(value).unwrap_or(1);
    Ok((i32::from(date.year()), small(date.month()), small(date.day())))
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The verdict.
    pub condition: ConditionUpdate,
    /// When it ends.
    pub not_after: Option<Timestamp>,
    /// The names that it is for.
    pub names: Vec<String>,
    /// The digest of its DER form, which the pods report.
    pub sha256: Option<String>,
    /// It ends soon, and somebody else is to renew it.
    pub ends_soon: bool,
}

impl Judged {
    /// A certificate that nobody has seen.
    #[must_use]
    pub fn unknown() -> Self {
        let message = "The certificate has not been looked at yet.";
        let condition = ConditionUpdate::unknown(ConditionType::CertificateReady, Reason::Issuing, message);
        Self { condition, not_after: None, names: Vec::new(), sha256: None, ends_soon: false }
    }
}

/// How long before its end a certificate is spoken of: two weeks, but no more than the last quarter of a short life.
const WARN_BEFORE: i64 = 14 * DAY_SECONDS;

/// What is said when the Secret does not exist.
#[must_use]
pub fn absent(namespace: &str, secret: &str) -> Judged {
    let message = format!(
        "Secret {secret} does not exist in namespace {namespace}. Create it with tls.crt and tls.key, or remove spec.tls.secretRef."
    );
    let condition = ConditionUpdate::no(ConditionType::CertificateReady, Reason::NotFound, message);
    Judged { condition, ..Judged::unknown() }
}

/// Judges a certificate chain and its key, as they lie in a Secret.
#[must_use]
pub fn judge(chain_pem: &[u8], key_pem: &[u8], hostname: &str, own: bool, now: Timestamp, secret: &str) -> Judged {
    const TYPE: ConditionType = ConditionType::CertificateReady;
    let refuse = |reason: Reason, message: String| ConditionUpdate::no(TYPE, reason, message);
    let unreadable = |what: &str| Judged {
        condition: refuse(
            Reason::NotFound,
            format!(
                "Secret {secret} has no {what} that can be read as PEM. Put the certificate chain into tls.crt and the key into tls.key."
            ),
        ),
        ..Judged::unknown()
    };
    let Some(Ok(leaf)) = CertificateDer::pem_slice_iter(chain_pem).next() else {
        return unreadable("certificate (tls.crt)");
    };
    let Ok((_, certificate)) = X509Certificate::from_der(&leaf) else {
        return unreadable("certificate (tls.crt)");
    };
    let Ok(key) = PrivateKeyDer::from_pem_slice(key_pem) else {
        return unreadable("private key (tls.key)");
    };
    let names = names_of(&certificate);
    let not_after = Timestamp::from_second(certificate.validity().not_after.timestamp()).ok();
    let same_key = any_supported_type(&key)
        .ok()
        .and_then(|key| key.public_key().map(|public| public.as_ref() == certificate.public_key().raw));
    let validity = certificate.validity();
    let (begin, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let ends_soon = !own && end - now.as_second() < WARN_BEFORE.min((end - begin) / 4);
    let condition = if same_key != Some(true) {
        refuse(
            Reason::KeyMismatch,
            format!(
                "The key in Secret {secret} does not belong to the certificate. Put both from the same issue into it."
            ),
        )
    } else if certificate.validity().not_after.timestamp() <= now.as_second() {
        refuse(Reason::Expired, format!("The certificate in Secret {secret} has expired. Renew it."))
    } else if !names.iter().any(|name| covers(name, hostname)) {
        let listed = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
        refuse(
            Reason::NameMismatch,
            format!(
                "The certificate in Secret {secret} is for {listed}, not for {hostname}. Issue one for spec.hostname."
            ),
        )
    } else if own {
        ConditionUpdate::yes(
            TYPE,
            Reason::SelfSigned,
            format!("The operator signed the certificate in Secret {secret} itself; clients must be told to trust it."),
        )
    } else if ends_soon {
        let until = not_after.map(|end| end.to_string()).unwrap_or_default();
        let message = format!(
            "The certificate in Secret {secret} is for {hostname}, and ends soon, at {until}: have it renewed."
        );
        ConditionUpdate::yes(TYPE, Reason::Valid, message)
    } else {
        ConditionUpdate::yes(TYPE, Reason::Valid, format!("The certificate in Secret {secret} is for {hostname}."))
    };
    Judged { condition, not_after, names, sha256: Some(paquebot_config::bundle::digest(&leaf)), ends_soon }
}

fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.iter().flat_map(|extension| extension.value.general_names.iter());
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) if name.len() <= 253 => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .take(128)
        .collect()
}

/// Whether a name in a certificate stands for a host: a star is one whole label (RFC 6125 section 6.4.3).
fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => name == host,
    }
}

/// Whether a certificate of our own is to be replaced: it ends soon, or lacks a name.
#[must_use]
pub fn needs_renewal(judged: &Judged, names: &[String], now: Timestamp) -> bool {
    use paquebot_crds::conditions::ConditionStatus;
    let ends_soon = judged.not_after.is_none_or(|end| end.as_second() - now.as_second() < seconds(RENEW_BEFORE));
    ends_soon
        || judged.condition.status != ConditionStatus::True
        || names.iter().any(|name| !judged.names.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "mx1.server1.com";

    fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    fn later(days: i64) -> Timestamp {
        Timestamp::from_second(now().as_second() + days * DAY_SECONDS).unwrap()
    }

    fn names() -> Vec<String> {
        [HOST, "default.mail.svc", "*.default-pods.mail.svc"].map(str::to_owned).to_vec()
    }

    fn reason(pair: &KeyPairPem, key: &[u8], host: &str, at: Timestamp) -> Reason {
        judge(&pair.certificate, key, host, true, at, "mail/default-tls").condition.reason
    }

    #[test]
    fn own_certificate_is_valid_for_a_year_and_renewed_before() {
        let pair = self_signed(&names(), now()).unwrap();
        let judged = judge(&pair.certificate, &pair.key, HOST, true, now(), "mail/default-tls");
        assert_eq!((judged.condition.reason, judged.names.clone()), (Reason::SelfSigned, names()));
        assert!(!needs_renewal(&judged, &names(), now()));
        assert!(needs_renewal(&judged, &names(), later((seconds(VALIDITY) - seconds(RENEW_BEFORE)) / DAY_SECONDS + 1)));
        assert!(needs_renewal(&judged, &["other.org".to_owned()], now()));
        assert_eq!(judge(&pair.certificate, &pair.key, HOST, false, now(), "s").condition.reason, Reason::Valid);
    }

    #[test]
    fn what_somebody_else_renews_is_spoken_of_before_it_ends() {
        let pair = self_signed(&names(), now()).unwrap();
        let of = |own: bool, days: i64| judge(&pair.certificate, &pair.key, HOST, own, later(days), "tls");
        for (own, days, soon) in [(false, 340, false), (false, 355, true), (true, 355, false)] {
            assert_eq!(of(own, days).ends_soon, soon, "{own} {days}");
        }
        let judged = of(false, 355);
        assert_eq!(judged.condition.reason, Reason::Valid, "it still serves");
        assert!(judged.condition.message.contains("2027-11-23T00:00:00Z"), "{}", judged.condition.message);
    }

    #[test]
    fn what_is_wrong_has_its_reason() {
        let pair = self_signed(&names(), now()).unwrap();
        let other = self_signed(&names(), now()).unwrap();
        assert_eq!(reason(&pair, &pair.key, HOST, later(400)), Reason::Expired);
        assert_eq!(reason(&pair, &pair.key, "mx.other.org", now()), Reason::NameMismatch);
        assert_eq!(reason(&pair, &other.key, HOST, now()), Reason::KeyMismatch);
        assert_eq!(reason(&pair, b"garbage", HOST, now()), Reason::NotFound);
        assert_eq!(judge(b"", &pair.key, HOST, true, now(), "s").condition.reason, Reason::NotFound);
    }

    #[test]
    fn a_star_is_one_label() {
        for (name, host, is) in [
            ("*.a.org", "mx.a.org", true),
            ("*.a.org", "a.org", false),
            ("*.a.org", "x.mx.a.org", false),
            ("a.org", "a.org", true),
        ] {
            assert_eq!(covers(name, host), is, "{name} {host}");
        }
    }
}

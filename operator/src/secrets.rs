//! What Secrets hold beside mailboxes' passwords: logins of smart hosts, and authorities of clients' certificates. Pure; the controllers and the `compile` command
//! read Secrets and call it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use paquebot_config::{Login, SecretText};
use paquebot_crds::conditions::Reason;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::directory::{CredentialFailure, SecretPurpose, SecretReference, SecretValue};

/// The keys of a login, as a Secret of the type `kubernetes.io/basic-auth` has them.
const USERNAME_KEY: &str = "username";
const PASSWORD_KEY: &str = "password";
/// The longest name and password: more than any provider gives out, and few enough for many in one file.
const LONGEST_USERNAME: usize = 255;
const LONGEST_PASSWORD: usize = 1024;
/// The most octets of authorities: they share an object with the server's other words.
const LONGEST_AUTHORITIES: usize = 64 << 10;

/// Reads what a reference names out of its Secret, which may not be there.
///
/// # Errors
/// The reason and message for `Accepted`; the message says nothing of what the Secret holds.
pub fn value(
    purpose: SecretPurpose,
    reference: &SecretReference,
    namespace: &str,
    secret: Option<&Secret>,
) -> Result<SecretValue, CredentialFailure> {
    let name = &reference.name;
    let Some(secret) = secret else {
        let message = format!("Secret {name} does not exist in namespace {namespace}. Create it.");
        return Err(CredentialFailure { reason: Reason::SecretNotFound, message });
    };
    match purpose {
        SecretPurpose::Login => Ok(SecretValue::Login(Login {
            username: text(secret, name, USERNAME_KEY, LONGEST_USERNAME)?,
            password: SecretText::new(text(secret, name, PASSWORD_KEY, LONGEST_PASSWORD)?),
        })),
        SecretPurpose::ClientAuthorities => {
            let key = reference.key.as_deref().unwrap_or("ca.crt");
            authorities(secret, name, key).map(SecretValue::ClientAuthorities)
        }
    }
}

/// The certificates alone, written anew: what else lies beside them, such as a key, is nobody's business.
fn authorities(secret: &Secret, name: &str, key: &str) -> Result<String, CredentialFailure> {
    let refuse = |what: &str| {
        let message =
            format!("The key {key} of Secret {name} {what}. Put the authorities' certificates into it, in PEM.");
        Err(CredentialFailure { reason: Reason::SecretKeyMissing, message })
    };
    let Some(value) = secret.data.as_ref().and_then(|data| data.get(key)) else {
        return refuse("is not there");
    };
    if value.0.len() > LONGEST_AUTHORITIES {
        return refuse("holds more than 64 KiB");
    }
    let certificates: Result<Vec<CertificateDer<'_>>, _> = CertificateDer::pem_slice_iter(&value.0).collect();
    let Some(certificates) = certificates.ok().filter(|found| !found.is_empty()) else {
        return refuse("holds no certificate, or a damaged one");
    };
    let is_whole = |der: &CertificateDer<'_>| X509Certificate::from_der(der).is_ok_and(|(rest, _)| rest.is_empty());
    if !certificates.iter().all(is_whole) {
        return refuse("holds a damaged certificate");
    }
    Ok(certificates.iter().map(|certificate| pem(certificate)).collect())
}

/// RFC 7468: lines of 64 characters.
fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned() + "\n");
    format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", lines.collect::<String>())
}

/// One line of text. A line end at its end does not belong to it: `echo` and editors put it there. RFC 4616 §2: AUTH PLAIN
/// divides its parts by NUL, so that none may hold one.
fn text(secret: &Secret, name: &str, key: &str, longest: usize) -> Result<String, CredentialFailure> {
    let refuse = |what: String| Err(CredentialFailure { reason: Reason::SecretKeyMissing, message: what });
    let Some(value) = secret.data.as_ref().and_then(|data| data.get(key)) else {
        return refuse(format!("Secret {name} has no key {key}. Add it."));
    };
    let value = value.0.strip_suffix(b"\n").unwrap_or(&value.0);
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    let Ok(text) = std::str::from_utf8(value) else {
        return refuse(format!("The key {key} of Secret {name} is not UTF-8. Put text into it."));
    };
    if text.is_empty() {
        return refuse(format!("The key {key} of Secret {name} is empty. Fill it."));
    }
    if text.len() > longest || text.chars().any(char::is_control) {
        return refuse(format!(
            "The key {key} of Secret {name} is not one line of at most {longest} octets. Put only the {key} into it."
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use proptest::prelude::*;

    use super::*;

    fn read(data: &[(&str, &[u8])]) -> Result<Login, CredentialFailure> {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.to_vec()))).collect();
        let secret = Secret { data: Some(data), ..Secret::default() };
        let reference = SecretReference { name: "smart".to_owned(), key: None };
        match value(SecretPurpose::Login, &reference, "mail", Some(&secret))? {
            SecretValue::Login(login) => Ok(login),
            SecretValue::ClientAuthorities(_) => panic!("not a login"),
        }
    }

    #[test]
    fn a_login_is_a_name_and_a_password() {
        let login = read(&[("username", b"app\n"), ("password", b"s3cret \r\n"), ("other", b"x")]).unwrap();
        assert_eq!((login.username.as_str(), login.password.expose()), ("app", "s3cret "));
    }

    #[test]
    fn what_is_missing_or_cannot_be_a_login_is_named_and_not_shown() {
        let long = [b'x'; 1025];
        for (data, expected) in [
            (&[("password", &b"secret"[..])][..], "has no key username"),
            (&[("username", b"app")], "has no key password"),
            (&[("username", b""), ("password", b"secret")], "key username of Secret smart is empty"),
            (&[("username", b"app"), ("password", b"\n")], "key password of Secret smart is empty"),
            (&[("username", b"app"), ("password", b"sec\0ret")], "not one line"),
            (&[("username", b"app\nsecret"), ("password", b"secret")], "not one line"),
            (&[("username", b"app"), ("password", b"\xffsecret")], "not UTF-8"),
            (&[("username", b"app"), ("password", &long)], "at most 1024"),
        ] {
            let failure = read(data).unwrap_err();
            assert_eq!(failure.reason, Reason::SecretKeyMissing);
            assert!(failure.message.contains(expected), "{}", failure.message);
            assert!(!failure.message.contains("secret"), "{}", failure.message);
        }
        let reference = SecretReference { name: "smart".to_owned(), key: None };
        let failure = value(SecretPurpose::Login, &reference, "mail", None).unwrap_err();
        assert_eq!(failure.reason, Reason::SecretNotFound);
        assert!(failure.message.contains("Secret smart does not exist in namespace mail"));
    }

    fn read_authorities(value: &[u8]) -> Result<String, CredentialFailure> {
        let data = [("ca.crt".to_owned(), ByteString(value.to_vec()))].into();
        let secret = Secret { data: Some(data), ..Secret::default() };
        let reference = SecretReference { name: "authorities".to_owned(), key: Some("ca.crt".to_owned()) };
        match super::value(SecretPurpose::ClientAuthorities, &reference, "mail", Some(&secret))? {
            SecretValue::ClientAuthorities(pem) => Ok(pem),
            SecretValue::Login(_) => panic!("not authorities"),
        }
    }

    #[test]
    fn authorities_are_certificates_and_nothing_else_is_taken_over() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
        let read =
            read_authorities(format!("note\n{certificate}{}{certificate}", key.serialize_pem()).as_bytes()).unwrap();
        assert_eq!(read.matches("BEGIN CERTIFICATE").count(), 2);
        assert!(!read.contains("PRIVATE") && !read.contains("note"));
        assert_eq!(read_authorities(read.as_bytes()).unwrap(), read);
        for bad in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let failure = read_authorities(bad.as_bytes()).unwrap_err();
            assert_eq!(failure.reason, Reason::SecretKeyMissing);
            assert!(failure.message.contains("ca.crt"), "{}", failure.message);
        }
        assert!(read_authorities(&vec![b'x'; LONGEST_AUTHORITIES + 1]).unwrap_err().message.contains("64 KiB"));
    }

    proptest! {
        #[test]
        fn whatever_a_secret_holds_is_certificates_or_refused(value: Vec<u8>) {
            if let Ok(pem) = read_authorities(&value) {
                prop_assert_eq!(read_authorities(pem.as_bytes()), Ok(pem.clone()));
            }
        }

        #[test]
        fn whatever_a_secret_holds_is_a_clean_login_or_refused(username: Vec<u8>, password: Vec<u8>) {
            if let Ok(login) = read(&[("username", &username), ("password", &password)]) {
                for text in [login.username.as_str(), login.password.expose()] {
                    prop_assert!(!text.is_empty() && !text.chars().any(char::is_control));
                }
            }
        }
    }
}

//! Passwords of mailboxes: from the Secret that holds one to the verifier that the servers get, and nowhere else.
//!
//! A clear-text password is held in [`Password`], which cannot be printed or serialised and is wiped when dropped.
//! [`Hasher`] runs argon2id off the async threads, a few at a time. What a Secret must hold is decided by [`material`],
//! which is pure. The controllers read Secrets and call these.

use std::collections::BTreeMap;
use std::sync::Arc;

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, Version};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use paquebot_config::Verifier;
use paquebot_crds::conditions::Reason;
use paquebot_crds::mailbox::{CredentialSource, GENERATED_PASSWORD_KEY};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::directory::CredentialFailure;
use crate::uri::percent_encoded;

/// Memory of one hash in KiB, passes and lanes: OWASP's first choice for argon2id.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// The longest password that is hashed; the server reads no longer ones either.
const LONGEST_PASSWORD: usize = 1024;
/// The longest PHC string that is taken over.
const LONGEST_PHC: usize = 512;
/// What a foreign hash may cost to verify, so that one mailbox cannot stall the logins of all: the server refuses more.
const MOST_MEMORY_KIB: u32 = 64 * 1024;
const MOST_PASSES: u32 = 64;

/// A clear-text password: no `Debug`, no `Display`, no `Serialize`, wiped when dropped.
pub struct Password {
    clear: Zeroizing<Vec<u8>>,
    /// Absent: a random one.
    salt: Option<[u8; SALT]>,
}

/// Octets of a salt (RFC 9106 §3.1).
const SALT: usize = 16;

/// What a Secret holds.
pub enum Material {
    /// A password to hash.
    Password(Password),
    /// A verifier to pass on.
    Verifier(Verifier),
}

/// Reads what a mailbox's source names out of the Secret, which may not be there.
///
/// # Errors
/// The reason and message for `CredentialsReady`.
pub fn material(
    source: CredentialSource<'_>,
    namespace: &str,
    secret: Option<&Secret>,
) -> Result<Material, CredentialFailure> {
    own_material(source, namespace, secret).map_err(|failure| match source.app_password() {
        Some(app) => CredentialFailure { message: format!("App password {app}: {}", failure.message), ..failure },
        None => failure,
    })
}

/// One failure that says what all say; `None` where there is none.
#[must_use]
pub fn together(failures: Vec<CredentialFailure>) -> Option<CredentialFailure> {
    let reason = failures.first()?.reason;
    let messages: Vec<String> = failures.into_iter().map(|failure| failure.message).collect();
    Some(CredentialFailure { reason, message: messages.join(" ") })
}

/// What every refusal of a Secret ends with: who takes a Secret away has not taken the password away.
const UNTIL: &str = "until then an earlier password keeps working; to end that one, take it out of spec.credentials";

fn own_material(
    source: CredentialSource<'_>,
    namespace: &str,
    secret: Option<&Secret>,
) -> Result<Material, CredentialFailure> {
    let (name, key) = (source.secret_name(), source.key());
    let Some(secret) = secret else {
        let message = format!("Secret {name} does not exist in namespace {namespace}. Create it; {UNTIL}.");
        return Err(CredentialFailure { reason: Reason::SecretNotFound, message });
    };
    let Some(value) = secret.data.as_ref().and_then(|data| data.get(key)) else {
        let message = format!("Secret {name} has no key {key}. Add it; {UNTIL}.");
        return Err(CredentialFailure { reason: Reason::SecretKeyMissing, message });
    };
    match source {
        CredentialSource::PasswordHash(_) => verifier(&value.0, name, key).map(Material::Verifier),
        CredentialSource::Password(_) | CredentialSource::Generate(_) | CredentialSource::AppPassword(_) => {
            let password = password(&value.0, name, key)?;
            Ok(Material::Password(Password { salt: salt(secret, key), ..password }))
        }
    }
}

/// The salt of what a version of a Secret holds. A salt must differ from password to password (RFC 9106 §3.1), and a
/// Secret's uid with its resourceVersion does; it need not be random. Since it follows from what is observed, so does the
/// verifier: two processes, or one before and after a crash, write the same, and none undoes what the other wrote.
fn salt(secret: &Secret, key: &str) -> Option<[u8; SALT]> {
    let (uid, version) = (secret.metadata.uid.as_ref()?, secret.metadata.resource_version.as_ref()?);
    let digest = Sha256::digest(format!("{uid}/{version}/{key}"));
    digest.get(..SALT)?.try_into().ok()
}

/// A line end at the end is not part of a password: `echo` and editors put it there, and no client can send it.
fn password(value: &[u8], name: &str, key: &str) -> Result<Password, CredentialFailure> {
    let value = value.strip_suffix(b"\n").unwrap_or(value);
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    let refuse = |what: &str| {
        let message = format!("The key {key} of Secret {name} {what}; {UNTIL}.");
        Err(CredentialFailure { reason: Reason::EmptyPassword, message })
    };
    if value.is_empty() {
        return refuse("is empty. Put a password into it");
    }
    if value.len() > LONGEST_PASSWORD {
        let octets = value.len();
        return refuse(&format!(
            "holds {octets} octets, and a password has at most {LONGEST_PASSWORD}. Put a shorter one into it, and nothing else"
        ));
    }
    // RFC 4616 §2: AUTH PLAIN divides its parts by NUL, so that such a password could never be sent.
    if value.contains(&0) {
        return refuse("holds a NUL octet, which no client can send. Put a password without one into it");
    }
    Ok(Password { clear: Zeroizing::new(value.to_vec()), salt: None })
}

fn verifier(value: &[u8], name: &str, key: &str) -> Result<Verifier, CredentialFailure> {
    let text = std::str::from_utf8(value).unwrap_or_default().trim();
    let known = text.len() <= LONGEST_PHC && text.starts_with("$argon2id$") && is_bearable(text);
    if known {
        return Ok(Verifier::new(text.to_owned()));
    }
    let message = format!(
        "The key {key} of Secret {name} does not hold an argon2id hash in PHC form ($argon2id$v=19$m=...) that takes at most 64 MiB, 64 passes and 16 lanes. Make one, or use passwordSecretRef."
    );
    Err(CredentialFailure { reason: Reason::UnsupportedHash, message })
}

fn is_bearable(phc: &str) -> bool {
    let Ok(hash) = PasswordHash::new(phc) else { return false };
    let parameters = Params::try_from(&hash);
    hash.hash.is_some()
        && hash.salt.is_some()
        && parameters.is_ok_and(|p| p.m_cost() <= MOST_MEMORY_KIB && p.t_cost() <= MOST_PASSES && p.p_cost() <= 16)
}

/// Why a password could not be hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// The library refused.
    #[error("argon2: {0}")]
    Argon2(String),
    /// The system gave no random numbers, or the work was cancelled.
    #[error("{0}")]
    System(String),
}

/// Hashes passwords, a few at a time.
#[derive(Clone)]
pub struct Hasher {
    permits: Arc<Semaphore>,
}

impl Hasher {
    /// At most `at_once` hashes are computed together; each takes 19 MiB and some 60 ms of one core.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(at_once.max(1))) }
    }

    /// Hashes off the async threads.
    ///
    /// # Errors
    /// [`HashError`]; the caller tries again later.
    pub async fn hash(&self, password: Password) -> Result<Verifier, HashError> {
        let system = |error: &dyn std::fmt::Display| HashError::System(error.to_string());
        let permit = self.permits.clone().acquire_owned().await.map_err(|error| system(&error))?;
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            hash(&password)
        });
        work.await.map_err(|error| system(&error))?
    }
}

fn hash(password: &Password) -> Result<Verifier, HashError> {
    let fail = |error: &dyn std::fmt::Display| HashError::Argon2(error.to_string());
    let parameters = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|error| fail(&error))?;
    let mut salt = password.salt.unwrap_or_default();
    if password.salt.is_none() {
        getrandom::fill(&mut salt).map_err(|error| HashError::System(error.to_string()))?;
    }
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
    let hash = argon2.hash_password_with_salt(&password.clear, &salt).map_err(|error| fail(&error))?;
    Ok(Verifier::new(hash.to_string()))
}

/// What an app needs to know beside the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The mailbox's address, which is the login.
    pub address: String,
    /// Where the server is reached inside the cluster.
    pub host: String,
    /// The name that the server calls itself, and that a public certificate is for.
    pub hostname: String,
    /// Ports by listener name.
    pub ports: BTreeMap<String, u16>,
}

/// The data of a generated Secret.
///
/// # Errors
/// When the system gives no random numbers.
pub fn generated(access: &Access) -> Result<BTreeMap<String, ByteString>, HashError> {
    let password = random_password()?;
    let mut data: BTreeMap<String, String> = BTreeMap::new();
    data.insert("username".to_owned(), access.address.clone());
    data.insert(GENERATED_PASSWORD_KEY.to_owned(), password.as_str().to_owned());
    data.insert("host".to_owned(), access.host.clone());
    data.insert("hostname".to_owned(), access.hostname.clone());
    let user = percent_encoded(&access.address, UNRESERVED);
    for (name, port) in &access.ports {
        data.insert(format!("{name}-port"), port.to_string());
    }
    for (listener, key, scheme) in
        [("submissions", "uri", "smtps"), ("submission", "submission-uri", "smtp"), ("pop3s", "pop3-uri", "pop3s")]
    {
        if let Some(port) = access.ports.get(listener) {
            let uri = format!("{scheme}://{user}:{}@{}:{port}", password.as_str(), access.host);
            data.insert(key.to_owned(), uri);
        }
    }
    Ok(data.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))).collect())
}

/// 24 letters and digits: more than 142 bits, and nothing that a URI or a shell would mind.
///
/// # Errors
/// When the system gives no random numbers.
pub fn random_password() -> Result<Zeroizing<String>, HashError> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    // Octets from 248 on would favour the first letters.
    const FAIR: u8 = 248;
    let mut password = Zeroizing::new(String::with_capacity(24));
    while password.len() < 24 {
        let mut octets = Zeroizing::new([0_u8; 32]);
        getrandom::fill(&mut *octets).map_err(|error| HashError::System(error.to_string()))?;
        for octet in octets.iter().filter(|octet| **octet < FAIR) {
            if let Some(letter) = ALPHABET.get(usize::from(*octet) % ALPHABET.len())
                && password.len() < 24
            {
                password.push(char::from(*letter));
            }
        }
    }
    Ok(password)
}

/// What may stay as it is in the user part of a URI, beside letters and digits (RFC 3986 §3.2.1).
const UNRESERVED: &[u8] = b"-._~";

#[cfg(test)]
mod tests {
    use argon2::PasswordVerifier;
    use paquebot_crds::mailbox::{Credentials, GeneratedSecret};

    use super::*;

    const PHC: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$nC3xSNmOHfSC2wG8nOLqGtyFDFbKyVvWdLVhcAmxvKk";

    fn credentials(yaml: &str) -> Credentials {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn secret(key: &str, value: &[u8]) -> Secret {
        Secret { data: Some([(key.to_owned(), ByteString(value.to_vec()))].into()), ..Secret::default() }
    }

    fn outcome(credentials: &Credentials, secret: Option<&Secret>) -> Result<(), Reason> {
        match material(credentials.source().unwrap(), "team", secret) {
            Ok(_) => Ok(()),
            Err(failure) => {
                assert!(!failure.message.contains("s3cret"), "{}", failure.message);
                Err(failure.reason)
            }
        }
    }

    #[tokio::test]
    async fn one_version_of_a_secret_gives_one_verifier() {
        let clear = credentials("{passwordSecretRef: {name: anna}}");
        let hash = async |version: &str| {
            let mut secret = secret("password", b"s3cret");
            secret.metadata.uid = Some("5a1f".to_owned());
            secret.metadata.resource_version = Some(version.to_owned());
            let Ok(Material::Password(password)) = material(clear.source().unwrap(), "team", Some(&secret)) else {
                panic!("a password")
            };
            Hasher::new(1).hash(password).await.unwrap().expose().to_owned()
        };
        assert_eq!(hash("7").await, hash("7").await);
        assert_ne!(hash("7").await, hash("8").await);
    }

    #[test]
    fn each_fault_of_a_secret_has_its_reason() {
        let clear = credentials("{passwordSecretRef: {name: anna}}");
        let own_key = credentials("{passwordSecretRef: {name: anna, key: pass}}");
        let hashed = credentials("{passwordHashSecretRef: {name: anna}}");
        let generated = Credentials {
            generate: Some(GeneratedSecret { secret_name: "anna".to_owned() }),
            ..Credentials::default()
        };
        let long = vec![b'x'; 1025];
        for (credentials, secret, wanted) in [
            (&clear, None, Err(Reason::SecretNotFound)),
            (&clear, Some(secret("other", b"s3cret")), Err(Reason::SecretKeyMissing)),
            (&clear, Some(Secret::default()), Err(Reason::SecretKeyMissing)),
            (&clear, Some(secret("password", b"")), Err(Reason::EmptyPassword)),
            (&clear, Some(secret("password", b"\n")), Err(Reason::EmptyPassword)),
            (&clear, Some(secret("password", b"s3\0cret")), Err(Reason::EmptyPassword)),
            (&clear, Some(secret("password", &long)), Err(Reason::EmptyPassword)),
            (&clear, Some(secret("password", b"s3cret")), Ok(())),
            (&own_key, Some(secret("pass", b"s3cret")), Ok(())),
            (&generated, Some(secret("password", b"s3cret")), Ok(())),
            (&hashed, Some(secret("passwordHash", PHC.as_bytes())), Ok(())),
            (&hashed, Some(secret("passwordHash", b"s3cret")), Err(Reason::UnsupportedHash)),
            (&hashed, Some(secret("passwordHash", b"$2b$12$abcdefghijklmnopqrstuv")), Err(Reason::UnsupportedHash)),
            (
                &hashed,
                Some(secret("passwordHash", PHC.replace("m=19456", "m=65537").as_bytes())),
                Err(Reason::UnsupportedHash),
            ),
            (&hashed, Some(secret("passwordHash", b"\xff\xfe")), Err(Reason::UnsupportedHash)),
        ] {
            assert_eq!(outcome(credentials, secret.as_ref()), wanted);
        }
    }

    #[test]
    fn a_secret_that_is_no_password_is_told_what_is_wrong_with_it_and_what_works_meanwhile() {
        let clear = credentials("{passwordSecretRef: {name: anna}}");
        let long = vec![b'x'; 5000];
        for (value, words) in [
            (Some(&long[..]), "holds 5000 octets, and a password has at most 1024. Put a shorter one"),
            (Some(&b"s3\0cret"[..]), "holds a NUL octet, which no client can send. Put a password without one"),
            (Some(&b""[..]), "is empty. Put a password into it"),
            (None, "does not exist in namespace team. Create it"),
        ] {
            let secret = value.map(|value| secret("password", value));
            let Err(failure) = material(clear.source().unwrap(), "team", secret.as_ref()) else { panic!("a password") };
            assert!(failure.message.contains(words), "{}", failure.message);
            assert!(failure.message.contains("; until then an earlier password keeps working"), "{}", failure.message);
        }
    }

    #[tokio::test]
    async fn a_hash_verifies_its_password_only_and_the_line_end_is_not_part_of_it() {
        let source = credentials("{passwordSecretRef: {name: anna}}");
        let Ok(Material::Password(password)) =
            material(source.source().unwrap(), "team", Some(&secret("password", b"s3cret\r\n")))
        else {
            panic!("no password");
        };
        let verifier = Hasher::new(1).hash(password).await.unwrap();
        assert!(verifier.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let phc = PasswordHash::new(verifier.expose()).unwrap();
        assert!(Argon2::default().verify_password(b"s3cret", &phc).is_ok());
        assert!(Argon2::default().verify_password(b"s3cret\r\n", &phc).is_err());
    }

    #[test]
    fn a_generated_secret_holds_what_an_app_mounts() {
        let access = Access {
            address: "anna+x@server1.com".to_owned(),
            host: "default.mail.svc".to_owned(),
            hostname: "mx1.server1.com".to_owned(),
            ports: [("submissions".to_owned(), 465), ("pop3s".to_owned(), 995)].into(),
        };
        let text = |data: &BTreeMap<String, ByteString>, key: &str| String::from_utf8(data[key].0.clone()).unwrap();
        let one = generated(&access).unwrap();
        let password = text(&one, "password");
        assert_eq!(password.len(), 24);
        assert!(password.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(password, text(&generated(&access).unwrap(), "password"));
        assert_eq!(text(&one, "username"), "anna+x@server1.com");
        assert_eq!(text(&one, "uri"), format!("smtps://anna%2Bx%40server1.com:{password}@default.mail.svc:465"));
        assert_eq!(text(&one, "pop3-uri"), format!("pop3s://anna%2Bx%40server1.com:{password}@default.mail.svc:995"));
        assert_eq!(text(&one, "submissions-port"), "465");
        assert!(!one.contains_key("submission-uri"));
    }
}

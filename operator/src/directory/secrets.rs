//! What MailServers and RelayPolicies name in Secrets of their namespaces: logins of smart hosts, and the authorities of
//! clients' certificates. Pure; the controllers read Secrets and tell [`Directory::apply_secret`].
//!
//! What was read last and was good stays in force when its Secret goes or spoils, as with mailboxes' passwords: mail goes
//! on, and the condition says what is wrong. A RelayPolicy whose login nobody has ever seen is not in force: its mail must
//! not leave by another way than the one that it names. A MailServer's mail waits in the queue for the login.

use paquebot_config::{Domain, Login, Secrets, SmartHost};
use paquebot_crds::conditions::Reason;
use paquebot_crds::{Kind, RelayPolicySpec, references};

use super::input::CredentialFailure;
use super::key::{NamespacedName, ObjectKey};
use super::state::{Task, Work, pending};
use super::verdict::Refusal;
use super::{Changes, Directory};

/// What an object needs a Secret for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretPurpose {
    /// The login at a smart host.
    Login,
    /// The authorities that vouch for clients' certificates.
    ClientAuthorities,
}

impl SecretPurpose {
    /// Every purpose.
    pub const ALL: [Self; 2] = [Self::Login, Self::ClientAuthorities];
}

/// An object that names a Secret, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretUse {
    /// The object.
    pub object: ObjectKey,
    /// What it needs the Secret for.
    pub purpose: SecretPurpose,
}

/// Which Secret of the object's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretReference {
    /// The Secret's name.
    pub name: String,
    /// The key, where the object names one.
    pub key: Option<String>,
}

/// What a Secret held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretValue {
    /// A login at a smart host.
    Login(Login),
    /// Certificates in PEM.
    ClientAuthorities(String),
}

/// What is known of one Secret that an object names.
#[derive(Debug)]
pub(super) struct Held {
    reference: SecretReference,
    /// It was read at least once.
    known: bool,
    /// The last good value.
    value: Option<SecretValue>,
    /// Why it cannot be used now.
    failure: Option<CredentialFailure>,
}

/// Where mail of a RelayPolicy goes.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    /// Absent: the server's own way.
    pub(super) host: Option<SmartHost>,
    /// What is wrong although it is in force.
    pub(super) complaint: Option<Refusal>,
}

/// The name of a MailServer's own login in `secrets.json`. With the Secret's name in it, so that a login that lies there
/// is never taken for that of another Secret. Those of policies have a slash.
#[must_use]
pub fn server_login(secret: &str) -> String {
    format!("smart-host {secret}")
}

/// The name of a RelayPolicy's login in `secrets.json`.
fn policy_login(policy: &NamespacedName, secret: &str) -> String {
    format!("{policy} {secret}")
}

/// How TLS is spoken, in the contract's words.
#[must_use]
pub fn smart_host_tls(tls: references::SmartHostTls) -> paquebot_config::SmartHostTls {
    match tls {
        references::SmartHostTls::Required => paquebot_config::SmartHostTls::Required,
        references::SmartHostTls::Implicit => paquebot_config::SmartHostTls::Implicit,
        references::SmartHostTls::Opportunistic => paquebot_config::SmartHostTls::Opportunistic,
    }
}

/// Why a host cannot be a smart host of a server of this name. That it is no address, its type says.
pub(super) fn bad_smart_host(host: &str, hostname: &str, field: &str) -> Option<String> {
    (host == hostname)
        .then(|| format!("{field} is the MailServer's own name: mail would come back; name another host."))
}

impl Directory {
    /// What an object's spec names.
    #[must_use]
    pub fn secret_reference(&self, used: &SecretUse) -> Option<SecretReference> {
        let name = &used.object.name;
        let login = match (used.object.kind, used.purpose) {
            (Kind::RelayPolicy, SecretPurpose::Login) => {
                self.policies.get(name)?.entry.spec.upstream.as_ref()?.credentials_secret_ref.as_ref()
            }
            (Kind::MailServer, SecretPurpose::Login) => {
                self.servers.get(name)?.entry.spec.outbound.smart_host.as_ref()?.credentials_secret_ref.as_ref()
            }
            (Kind::MailServer, SecretPurpose::ClientAuthorities) => {
                let reference = self.servers.get(name)?.entry.spec.tls.client_ca_secret_ref.as_ref()?;
                return Some(SecretReference { name: reference.name.clone(), key: Some(reference.key.clone()) });
            }
            _ => None,
        };
        login.map(|reference| SecretReference { name: reference.name.clone(), key: None })
    }

    /// An object was applied or deleted: what it does not name any more is forgotten.
    pub(super) fn hold_secrets(&mut self, object: &ObjectKey) {
        for purpose in SecretPurpose::ALL {
            let used = SecretUse { object: object.clone(), purpose };
            let wanted = self.secret_reference(&used);
            if self.held.get(&used).map(|held| &held.reference) == wanted.as_ref() {
                continue;
            }
            let secret = |reference: &SecretReference| NamespacedName::new(&object.name.namespace, &reference.name);
            self.unread.remove(&used);
            if let Some(old) = self.held.remove(&used) {
                self.links.secret_uses.set(&secret(&old.reference), used.clone(), false);
            }
            if let Some(reference) = wanted {
                self.links.secret_uses.set(&secret(&reference), used.clone(), true);
                self.unread.insert(used.clone());
                self.held.insert(used, Held { reference, known: false, value: None, failure: None });
            }
        }
    }

    /// Takes in what a Secret held. For an object that names another one by now it changes nothing.
    pub fn apply_secret(
        &mut self,
        used: &SecretUse,
        reference: &SecretReference,
        outcome: Result<SecretValue, CredentialFailure>,
    ) -> Changes {
        let Some(held) = self.held.get_mut(used).filter(|held| held.reference == *reference) else {
            return Changes::default();
        };
        self.unread.remove(used);
        let (value, failure) = match outcome {
            Ok(value) => (Some(value), None),
            // The last good one goes on working.
            Err(failure) => (held.value.clone(), Some(failure)),
        };
        let same = held.known && held.failure == failure && held.value == value;
        let is_new = held.value != value;
        (held.known, held.value, held.failure) = (true, value, failure);
        if same { Changes::default() } else { self.secret_settled(used, is_new) }
    }

    /// Takes over a login that lies in a server's `secrets.json`, as long as its Secret has not been read.
    pub fn restore_logins(
        &mut self,
        server: &NamespacedName,
        mut logins: std::collections::BTreeMap<String, Login>,
    ) -> Changes {
        let mut changes = Changes::default();
        let uses: Vec<SecretUse> =
            self.held.iter().filter(|(_, held)| held.value.is_none()).map(|(used, _)| used.clone()).collect();
        for used in uses {
            if used.purpose != SecretPurpose::Login || self.server_of_use(&used).as_ref() != Some(server) {
                continue;
            }
            let Some(login) = self.login_name(&used).and_then(|name| logins.remove(&name)) else { continue };
            if let Some(held) = self.held.get_mut(&used) {
                held.value = Some(SecretValue::Login(login));
                changes.merge(self.secret_settled(&used, true));
            }
        }
        changes
    }

    /// Takes over the authorities that lie in a server's `server.json` and are of the Secret that is given, as long as the
    /// MailServer names that one and it has not been read.
    pub fn restore_authorities(
        &mut self,
        server: &NamespacedName,
        reference: &SecretReference,
        pem: String,
    ) -> Changes {
        let object = ObjectKey::new(Kind::MailServer, server.clone());
        let used = SecretUse { object, purpose: SecretPurpose::ClientAuthorities };
        let held = self.held.get_mut(&used);
        match held.filter(|held| held.value.is_none() && held.reference == *reference) {
            Some(held) => {
                held.value = Some(SecretValue::ClientAuthorities(pem));
                self.secret_settled(&used, true)
            }
            None => Changes::default(),
        }
    }

    /// What follows from a Secret that was read.
    fn secret_settled(&mut self, used: &SecretUse, is_new: bool) -> Changes {
        let mut work = Work::default();
        work.changes.statuses.insert(used.object.clone());
        let name = &used.object.name;
        match used.object.kind {
            Kind::MailServer if is_new && used.purpose == SecretPurpose::ClientAuthorities => {
                work.changes.files(name).server = true;
            }
            Kind::MailServer if is_new => work.changes.files(name).secrets = true,
            Kind::RelayPolicy => {
                if let Some(server) = self.rule_places.get(name).filter(|_| is_new) {
                    work.changes.files(server).secrets = true;
                }
                work.add(Task::Policy(name.clone()));
            }
            _ => {}
        }
        self.run(work)
    }

    fn server_of_use(&self, used: &SecretUse) -> Option<NamespacedName> {
        let name = &used.object.name;
        match used.object.kind {
            Kind::MailServer => Some(name.clone()),
            _ => self.server_meant(self.policies.get(name)?.entry.spec.server_ref.as_ref(), &name.namespace),
        }
    }

    fn login_name(&self, used: &SecretUse) -> Option<String> {
        let secret = &self.held.get(used)?.reference.name;
        Some(match used.object.kind {
            Kind::MailServer => server_login(secret),
            _ => policy_login(&used.object.name, secret),
        })
    }

    fn held_login(&self, used: &SecretUse) -> Option<(String, Login)> {
        match self.held.get(used)?.value.as_ref()? {
            SecretValue::Login(login) => Some((self.login_name(used)?, login.clone())),
            SecretValue::ClientAuthorities(_) => None,
        }
    }

    /// The login of a policy in `secrets.json`, with its name there.
    pub(super) fn login_of_policy(&self, policy: &NamespacedName) -> Option<(String, Login)> {
        let object = ObjectKey::new(Kind::RelayPolicy, policy.clone());
        self.held_login(&SecretUse { object, purpose: SecretPurpose::Login })
    }

    /// The authorities that vouch for the certificates of a server's clients, in PEM.
    #[must_use]
    pub fn client_authorities(&self, server: &NamespacedName) -> Option<String> {
        let object = ObjectKey::new(Kind::MailServer, server.clone());
        match self.held.get(&SecretUse { object, purpose: SecretPurpose::ClientAuthorities })?.value.as_ref()? {
            SecretValue::ClientAuthorities(pem) => Some(pem.clone()),
            SecretValue::Login(_) => None,
        }
    }

    /// `secrets.json` of a server: the logins that its configuration names.
    #[must_use]
    pub fn secrets(&self, server: &NamespacedName) -> Secrets {
        let login = |kind, name: &NamespacedName| {
            let object = ObjectKey::new(kind, name.clone());
            self.held_login(&SecretUse { object, purpose: SecretPurpose::Login })
        };
        let rules = self.published.get(server).into_iter().flat_map(|published| &published.rules);
        let named = rules.filter(|(_, ranked)| names_a_login(&ranked.rule)).map(|(name, _)| (Kind::RelayPolicy, name));
        let all = named.chain([(Kind::MailServer, server)]);
        Secrets { logins: all.filter_map(|(kind, name)| login(kind, name)).collect(), ..Secrets::default() }
    }

    /// What is wrong with a MailServer's Secrets. It runs all the same, with the last good values or without.
    #[must_use]
    pub fn secret_refusal(&self, server: &NamespacedName) -> Option<Refusal> {
        let object = ObjectKey::new(Kind::MailServer, server.clone());
        SecretPurpose::ALL.into_iter().find_map(|purpose| {
            let held = self.held.get(&SecretUse { object: object.clone(), purpose })?;
            let failure = held.failure.as_ref()?;
            let meanwhile = match (purpose, &held.value) {
                (SecretPurpose::Login, Some(_)) => "The last good login stays in force.",
                (SecretPurpose::Login, None) => "Until then mail for other servers waits in the queue.",
                (SecretPurpose::ClientAuthorities, Some(_)) => "The last good authorities stay in force.",
                (SecretPurpose::ClientAuthorities, None) => "Until then no client is asked for a certificate.",
            };
            Some(Refusal::new(failure.reason, format!("{} {meanwhile}", failure.message)))
        })
    }

    /// Where the mail of a policy goes.
    ///
    /// # Errors
    /// Why the policy is not in force.
    pub(super) fn upstream(
        &self,
        name: &NamespacedName,
        spec: &RelayPolicySpec,
        server: &NamespacedName,
    ) -> Result<Upstream, Refusal> {
        const FIELD: &str = "spec.upstream.smartHost";
        let Some(upstream) = &spec.upstream else { return Ok(Upstream::default()) };
        let invalid = |message: String| Refusal::new(Reason::InvalidSpec, message);
        let hostname = self.servers.get(server).map(|node| node.entry.spec.hostname.as_str()).unwrap_or_default();
        if let Some(message) = bad_smart_host(upstream.smart_host.as_str(), hostname, FIELD) {
            return Err(invalid(message));
        }
        let host =
            Domain::parse(upstream.smart_host.as_str()).map_err(|error| invalid(format!("{FIELD}: {error}.")))?;
        let used = SecretUse { object: ObjectKey::new(Kind::RelayPolicy, name.clone()), purpose: SecretPurpose::Login };
        let (mut credentials, mut complaint) = (None, None);
        if let Some(held) = self.held.get(&used) {
            match (&held.value, &held.failure) {
                (None, None) => return Err(pending()),
                (None, Some(failure)) => {
                    let message = format!("{} Until then nothing of the policy is in force.", failure.message);
                    return Err(Refusal::new(failure.reason, message));
                }
                (Some(_), Some(failure)) => {
                    let message = format!("{} The last good login stays in force.", failure.message);
                    complaint = Some(Refusal::new(failure.reason, message));
                }
                (Some(_), None) => {}
            }
            credentials = Some(policy_login(name, &held.reference.name));
        }
        let host = SmartHost { host, port: upstream.port, tls: smart_host_tls(upstream.tls), credentials };
        Ok(Upstream { host: Some(host), complaint })
    }

    /// The objects that name a Secret.
    pub fn uses_of_secret(&self, secret: &NamespacedName) -> impl Iterator<Item = &SecretUse> {
        self.links.secret_uses.of(secret)
    }

    /// Everything that names a Secret.
    pub fn secret_uses(&self) -> impl Iterator<Item = &SecretUse> {
        self.held.keys()
    }

    /// Whether nobody has read what an object names since it names it.
    #[must_use]
    pub fn is_unread(&self, used: &SecretUse) -> bool {
        self.unread.contains(used)
    }

    /// Whether a Secret that a server's configuration needs has never been read, and is not known from before.
    #[must_use]
    pub fn has_unread_secrets(&self, server: &NamespacedName) -> bool {
        let is_missing = |used: &SecretUse| self.held.get(used).is_some_and(|held| held.value.is_none());
        self.unread.iter().any(|used| is_missing(used) && self.server_of_use(used).as_ref() == Some(server))
    }
}

/// Whether a rule's mail needs a login.
pub(super) fn names_a_login(rule: &paquebot_config::RelayRule) -> bool {
    rule.upstream.as_ref().is_some_and(|host| host.credentials.is_some())
}

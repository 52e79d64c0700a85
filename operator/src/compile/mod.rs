//! Manifests in, configuration directory out (DESIGN §5): the same index and rendering as in the cluster, without one.
//! `kubectl-paquebot` calls it, for `make try` and for pipelines that check manifests before they are applied.
//!
//! What an API server would refuse is refused by [`paquebot_crds::validate`] in its words; what the operator would not accept is reported
//! with its reason. [`manifests`] and [`output`] hold the I/O.

pub mod manifests;
pub mod output;
pub mod passwords;
pub mod report;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use paquebot_config::{BuildError, Content};
use paquebot_crds::Kind;

use crate::directory::{
    ConfigMapContent, CredentialOutcome, CredentialsReport, Details, Directory, FilterReport, NamespacedName,
    ObjectKey, Options, SecretUse,
};
use crate::render::{self, RenderError};
use manifests::Manifests;
use report::Problem;

/// The label that Kubernetes gives every namespace: its name.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Why nothing can be compiled at all.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// There is no MailServer.
    #[error("the manifests have no MailServer; add one")]
    NoServer,
    /// The MailServer that was asked for is not there.
    #[error("the manifests have no MailServer {wanted}; they have {present}")]
    UnknownServer {
        /// What was asked for.
        wanted: NamespacedName,
        /// What is there.
        present: String,
    },
    /// There is more than one.
    #[error("the manifests have several MailServers, {0}; choose one with --server NAMESPACE/NAME")]
    SeveralServers(String),
    /// A port was given for a listener that is not there.
    #[error("--port {name}: MailServer {server} has no such listener; it has {listeners}")]
    UnknownListener {
        /// What was asked for.
        name: String,
        /// The server.
        server: NamespacedName,
        /// What is there.
        listeners: String,
    },
    /// The MailServer cannot be rendered.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The files cannot be made.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// An index of manifests, and which of its MailServers is meant.
#[derive(Debug)]
pub struct Compiled {
    /// The index.
    pub directory: Directory,
    /// The MailServer that objects mean that name none; absent where it is not clear which.
    pub server: Option<NamespacedName>,
    /// Where each object was read.
    sources: BTreeMap<ObjectKey, String>,
}

/// Puts manifests into an index.
#[must_use]
pub fn index(manifests: &Manifests, server: Option<NamespacedName>) -> Compiled {
    let mut directory =
        Directory::new(Options { default_server: server.clone(), ownership_is_assumed: true, ..Options::default() });
    let homes: BTreeSet<&String> = manifests.objects.iter().map(|(object, _)| &object.name().namespace).collect();
    for namespace in homes.into_iter().chain(manifests.namespaces.keys()) {
        let mut labels = manifests.namespaces.get(namespace).cloned().unwrap_or_default();
        labels.insert(NAMESPACE_NAME_LABEL.to_owned(), namespace.clone());
        directory.apply_namespace(namespace, labels);
    }
    let mut sources = BTreeMap::new();
    for (object, source) in &manifests.objects {
        sources.insert(object.key(), source.clone());
        directory.apply(object.clone());
    }
    read_filters(&mut directory, manifests);
    read_secrets(&mut directory, manifests);
    Compiled { directory, server, sources }
}

/// Gives each mailbox the script that its ConfigMap holds.
fn read_filters(directory: &mut Directory, manifests: &Manifests) {
    let mailboxes: Vec<NamespacedName> =
        directory.objects().into_iter().filter(|key| key.kind == Kind::Mailbox).map(|key| key.name).collect();
    for mailbox in mailboxes {
        let Some(reference) = directory.filter_reference(&mailbox).cloned() else { continue };
        let config_map = manifests.config_maps.get(&NamespacedName::new(&mailbox.namespace, &reference.name));
        let value = config_map.map(|config_map| config_map.data.as_ref().and_then(|data| data.get(&reference.key)));
        let content = match value {
            None => ConfigMapContent::NoConfigMap,
            Some(None) => ConfigMapContent::NoKey,
            Some(Some(script)) => ConfigMapContent::Value(script.clone()),
        };
        directory.apply_filter(&mailbox, &reference, &content);
    }
}

/// The MailServer that is meant.
///
/// # Errors
/// [`CompileError`] when it is not there, or when it is not clear which one it is.
pub fn choose(manifests: &Manifests, wanted: Option<&NamespacedName>) -> Result<NamespacedName, CompileError> {
    let mut servers: Vec<&NamespacedName> = manifests
        .objects
        .iter()
        .map(|(object, _)| object)
        .filter(|o| o.key().kind == Kind::MailServer)
        .map(|o| o.name())
        .collect();
    servers.sort();
    let present = || servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (wanted, servers.as_slice()) {
        (_, []) => Err(CompileError::NoServer),
        (Some(wanted), servers) if servers.contains(&wanted) => Ok(wanted.clone()),
        (Some(wanted), _) => Err(CompileError::UnknownServer { wanted: wanted.clone(), present: present() }),
        (None, [only]) => Ok((*only).clone()),
        (None, _) => Err(CompileError::SeveralServers(present())),
    }
}

/// Gives each MailServer and RelayPolicy what its Secrets hold.
fn read_secrets(directory: &mut Directory, manifests: &Manifests) {
    let uses: Vec<SecretUse> = directory.secret_uses().cloned().collect();
    for used in uses {
        let Some(reference) = directory.secret_reference(&used) else { continue };
        let namespace = &used.object.name.namespace;
        let secret = manifests.secrets.get(&NamespacedName::new(namespace, &reference.name));
        let value = crate::secrets::value(used.purpose, &reference, namespace, secret);
        directory.apply_secret(&used, &reference, value);
    }
}

impl Compiled {
    /// The Mailboxes that have a password.
    #[must_use]
    pub fn mailboxes_with_credentials(&self) -> Vec<NamespacedName> {
        let mailboxes = self.directory.objects().into_iter().filter(|key| key.kind == Kind::Mailbox);
        mailboxes.map(|key| key.name).filter(|name| self.sources_of(name).next().is_some()).collect()
    }

    /// What a Mailbox's passwords are read from.
    pub fn sources_of(
        &self,
        mailbox: &NamespacedName,
    ) -> impl Iterator<Item = paquebot_crds::mailbox::CredentialSource<'_>> + use<'_> {
        let credentials = self.directory.mailbox(mailbox).and_then(|entry| entry.spec.credentials.as_ref());
        credentials.into_iter().flat_map(|credentials| credentials.sources())
    }

    /// Takes in what became of a Mailbox's password.
    pub fn set_credentials(&mut self, mailbox: &NamespacedName, outcome: CredentialOutcome) {
        self.directory.apply_credentials(mailbox, outcome);
    }

    /// Every object that is not in force, and every password, login and filter that cannot be used.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for key in self.directory.objects() {
            let Some(report) = self.directory.report(&key) else { continue };
            let source = self.sources.get(&key).cloned().unwrap_or_default();
            if !report.verdict.is_accepted() {
                let (reason, message) = (report.verdict.reason(), report.verdict.message());
                problems.push(Problem::of_object(source.clone(), &key, reason.as_str(), message));
            }
            if key.kind == Kind::MailServer
                && let Some(refusal) = self.directory.secret_refusal(&key.name)
            {
                problems.push(Problem::of_object(source.clone(), &key, refusal.reason.as_str(), &refusal.message));
            }
            if let Details::Mailbox { credentials: CredentialsReport::Failed(failure), .. } = &report.details {
                problems.push(Problem::of_object(source.clone(), &key, failure.reason.as_str(), &failure.message));
            }
            if let Details::Mailbox { filter: FilterReport::Failed(failure), .. } = &report.details {
                problems.push(Problem::of_object(source, &key, failure.reason.as_str(), &failure.message));
            }
        }
        problems
    }

    /// The remarks on what is in force, such as a missing postmaster.
    #[must_use]
    pub fn accepted(&self) -> Vec<(ObjectKey, String)> {
        let reports = self.directory.objects().into_iter().filter_map(|key| Some((self.directory.report(&key)?, key)));
        reports
            .filter(|(report, _)| report.verdict.is_accepted())
            .map(|(report, key)| (key, report.verdict.message().to_owned()))
            .collect()
    }

    /// The configuration, with some listeners on other ports than in a container.
    ///
    /// # Errors
    /// [`CompileError`] when the MailServer is not accepted or has no listener of such a name.
    pub fn content(&self, server: &NamespacedName, ports: &BTreeMap<String, u16>) -> Result<Content, CompileError> {
        let mut content = render::content(&self.directory, server)?;
        for (name, port) in ports {
            let Some(listener) = content.server.listeners.iter_mut().find(|listener| listener.name == *name) else {
                let listeners: Vec<_> = content.server.listeners.iter().map(|l| l.name.as_str()).collect();
                return Err(CompileError::UnknownListener {
                    name: name.clone(),
                    server: server.clone(),
                    listeners: listeners.join(", "),
                });
            };
            listener.port = *port;
        }
        Ok(content)
    }
}

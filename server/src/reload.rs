//! Looks now and then whether the configuration or the certificate has changed, and puts what is good in force. What is
//! bad is refused whole: the last good one stays, and [`Status`] says why. Started by `main`, shown by `/configz`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use paquebot_config::bundle::{INDEX_FILE, MAX_FILE_SIZE};
use paquebot_config::{Configuration, Listener, TlsConfig};
use serde::Serialize;

use crate::live::LiveConfiguration;
use crate::metrics::{ByResult, Metrics, Word};
use crate::tls::{CertificateError, Certificates, Files, Loaded};

/// How often the files are looked at. Reading one small file costs nothing, and works on every file system; a change has a
/// second or two for its whole way from the API server.
pub const INTERVAL: Duration = Duration::from_millis(200);
/// Looks after which what was refused is read again though nothing has changed: perhaps it could not be read.
const REFUSED_AGAIN: u32 = 25;
/// The version that is compared with what a configuration asks for.
pub const RUNNING_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What `/configz` tells. Nothing in it is secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// What is in force; `None` before the first good configuration.
    pub revision: Option<String>,
    /// Why the newest set was refused; `None` when the newest is in force.
    pub error: Option<String>,
    /// The digests of the files in force, by name.
    pub digests: BTreeMap<String, String>,
    /// The certificate in force.
    pub certificate: Option<CertificateStatus>,
    /// Why the newest certificate was refused, or why clients' certificates identify nobody.
    pub certificate_error: Option<String>,
    /// What the configuration in force holds.
    pub counts: Counts,
    /// What a person should know: what needs a restart.
    pub notes: Vec<String>,
    /// The running version.
    pub version: &'static str,
}

/// The certificate in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// When it ends.
    pub not_after: jiff::Timestamp,
    /// The SHA-256 of the leaf, in hexadecimal digits.
    pub sha256: String,
}

/// How much the configuration in force holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Domains that are served.
    pub domains: usize,
    /// Mailboxes.
    pub mailboxes: usize,
    /// Aliases.
    pub aliases: usize,
}

/// The status as everybody reads it.
#[derive(Debug, Clone)]
pub struct SharedStatus(Arc<ArcSwap<Status>>);

impl Default for SharedStatus {
    fn default() -> Self {
        let status = Status { version: RUNNING_VERSION, ..Status::default() };
        Self(Arc::new(ArcSwap::from_pointee(status)))
    }
}

impl SharedStatus {
    /// As it is now.
    #[must_use]
    pub fn get(&self) -> Arc<Status> {
        self.0.load_full()
    }
}

/// Remembers what it saw last. One for the process; [`Watcher::poll`] does the work, and blocks on files.
pub struct Watcher {
    directory: PathBuf,
    certificates: Certificates,
    status: SharedStatus,
    metrics: Arc<Metrics>,
    live: Option<LiveConfiguration>,
    /// The listeners that are open, once they are.
    listeners: Vec<Listener>,
    /// The index of the last set that was read whole.
    index: Option<Vec<u8>>,
    /// Where the kubelet's link to the files led when they were read last.
    data: Option<PathBuf>,
    looks: u32,
    /// The certificate that was looked at last, and what else TLS goes by.
    certificate: Option<(Result<Files, CertificateError>, TlsConfig)>,
    /// The last certificate and key that could be used.
    usable: Option<Files>,
}

impl Watcher {
    /// Watches a directory; nothing is read yet.
    #[must_use]
    pub fn new(directory: &Path, certificates: Certificates, status: SharedStatus, metrics: Arc<Metrics>) -> Self {
        Self {
            directory: directory.to_owned(),
            certificates,
            status,
            metrics,
            live: None,
            listeners: Vec::new(),
            index: None,
            data: None,
            looks: 0,
            certificate: None,
            usable: None,
        }
    }

    /// Looks once. What it yields is the configuration in force, `None` before the first good one.
    pub fn poll(&mut self) -> Option<&LiveConfiguration> {
        self.poll_configuration();
        if let Some(tls) = self.live.as_ref().map(|live| live.snapshot().server.tls.clone()) {
            self.poll_certificate(tls);
        }
        self.live.as_ref()
    }

    fn poll_configuration(&mut self) {
        // The kubelet puts a whole new directory in the place of the old one by this link; a set of files that was refused
        // need not be read again before. Elsewhere there is no such link.
        let data = std::fs::read_link(self.directory.join("..data")).ok();
        self.looks = self.looks.wrapping_add(1);
        let is_in_force = self.status.get().error.is_none();
        if data.is_some() && data == self.data && (is_in_force || !self.looks.is_multiple_of(REFUSED_AGAIN)) {
            return;
        }
        self.data = data;
        let index = read_bounded(&self.directory.join(INDEX_FILE)).ok();
        // The index names every other file's digest, and is written last: the same index is the same set. Only a set
        // that was refused is read again, because its missing part may have come.
        if index.is_some() && index == self.index && self.status.get().error.is_none() {
            return;
        }
        match paquebot_config::directory::read(&self.directory, RUNNING_VERSION) {
            Ok(configuration) => {
                self.index = index;
                self.accept(configuration);
            }
            Err(error) => self.refuse(error.to_string()),
        }
    }

    fn accept(&mut self, configuration: Configuration) {
        let revision = configuration.revision.to_string();
        let status = self.status.get();
        if status.revision.as_ref() == Some(&revision) && status.error.is_none() {
            return;
        }
        let (domains, mailboxes, aliases) = configuration.counts();
        if self.live.is_none() {
            self.listeners.clone_from(&configuration.server.listeners);
        }
        let mut next = Status::clone(&status);
        next.revision = Some(revision.clone());
        next.error = None;
        next.digests.clone_from(&configuration.digests);
        next.counts = Counts { domains, mailboxes, aliases };
        next.notes = notes(&self.listeners, &configuration);
        match &self.live {
            Some(live) => live.replace(configuration),
            None => self.live = Some(LiveConfiguration::new(configuration)),
        }
        self.status.0.store(Arc::new(next));
        self.count("accepted");
        tracing::info!(revision, domains, mailboxes, aliases, "configuration in force");
    }

    fn refuse(&mut self, error: String) {
        let status = self.status.get();
        if status.error.as_ref() == Some(&error) {
            return;
        }
        tracing::warn!(error, in_force = status.revision, "configuration refused; the last good one stays in force");
        self.status.0.store(Arc::new(Status { error: Some(error), ..Status::clone(&status) }));
        self.count("refused");
    }

    fn poll_certificate(&mut self, tls: TlsConfig) {
        let seen = (Files::read(&self.directory), tls);
        if self.certificate.as_ref() == Some(&seen) {
            return;
        }
        let loaded = seen.0.as_ref().map_err(Clone::clone).and_then(|files| files.load(&seen.1));
        let mut next = Status::clone(&self.status.get());
        match loaded {
            Ok(loaded) => {
                tracing::info!(not_after = %loaded.not_after, sha256 = loaded.sha256, "certificate in force");
                self.usable = seen.0.as_ref().ok().cloned();
                self.metrics.certificate_not_after.set(loaded.not_after.as_second());
                next.certificate =
                    Some(CertificateStatus { not_after: loaded.not_after, sha256: loaded.sha256.clone() });
                next.certificate_error = loaded.authorities_error.as_ref().map(ToString::to_string);
                self.present(loaded);
                self.count("accepted");
            }
            Err(error) => {
                tracing::warn!(%error, "certificate refused; the last good one stays in force");
                next.certificate_error = Some(error.to_string());
                self.count("refused");
                let has_new_settings = self.certificate.as_ref().is_some_and(|(_, before)| *before != seen.1);
                if has_new_settings && let Some(Ok(loaded)) = self.usable.as_ref().map(|files| files.load(&seen.1)) {
                    // Else authorities that were taken away would go on saying who clients are.
                    tracing::info!("the last good certificate goes by the new settings of TLS");
                    self.present(loaded);
                }
            }
        }
        self.certificate = Some(seen);
        self.status.0.store(Arc::new(next));
    }

    fn present(&self, loaded: Loaded) {
        if let Some(error) = loaded.authorities_error {
            tracing::error!(%error, "clients' certificates identify nobody");
        }
        self.certificates.replace(loaded.presented);
    }

    fn count(&self, result: &'static str) {
        self.metrics.reloads.get_or_create(&ByResult { result: Word(result) }).inc();
    }
}

/// No file of the set is larger than this (a Kubernetes Secret); what is, is refused when the set is read.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn notes(open: &[Listener], configuration: &Configuration) -> Vec<String> {
    if open == configuration.server.listeners {
        return Vec::new();
    }
    vec!["the listeners in the configuration are not those that are open; they change when the server restarts".into()]
}

#[cfg(test)]
mod tests;

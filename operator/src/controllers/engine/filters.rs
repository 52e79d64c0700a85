//! The ConfigMaps of mailboxes' filters: which are to be read, and what came of it.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paquebot_crds::Kind;
use paquebot_crds::mailbox::ConfigMapKeyReference;
use tokio::time::Instant;

use super::named_reads::NamedRead;
use super::objects::is_older;
use super::{Engine, Timer};
use crate::controllers::filters_worker::FilterRead;
use crate::controllers::watches::name_of;
use crate::directory::NamespacedName;

/// How soon a ConfigMap that could not be read is read again.
const RETRY: Duration = Duration::from_secs(5);

/// What is known of the ConfigMap of one mailbox's filter.
#[derive(Default)]
pub struct FilterState {
    /// What the spec said, and the version of the ConfigMap, when it was last read; absent: it was not.
    read: Option<(ConfigMapKeyReference, Option<String>)>,
    /// The version that the watch had reported when that read began.
    reported: Option<String>,
    busy: bool,
}

impl FilterState {
    fn needs_read(&self, reference: &ConfigMapKeyReference, version: Option<&String>) -> bool {
        match &self.read {
            None => true,
            Some((read, _)) if read != reference => true,
            Some((_, Some(read))) => version.is_some_and(|version| version != read && !is_older(version, read)),
            Some((_, None)) => version.is_some() && version != self.reported.as_ref(),
        }
    }
}

impl Engine {
    pub(super) fn check_all_filters(&mut self) {
        let mailboxes: Vec<NamespacedName> =
            self.directory.objects().into_iter().filter(|key| key.kind == Kind::Mailbox).map(|key| key.name).collect();
        for mailbox in mailboxes {
            self.check_filter(&mailbox);
        }
    }

    /// Reads the ConfigMap of a mailbox's filter if there is something new to read.
    pub(super) fn check_filter(&mut self, mailbox: &NamespacedName) {
        if !self.is_synced() {
            return;
        }
        let Some(reference) = self.directory.filter_reference(mailbox).cloned() else {
            self.filters.remove(mailbox);
            return;
        };
        let config_map = NamespacedName::new(&mailbox.namespace, &reference.name);
        let version = self.config_map_versions.get(&config_map).cloned();
        // What is named anew counts as never read, also when it was read before another was named.
        let unread = self.directory.is_filter_unread(mailbox);
        let state = self.filters.entry(mailbox.clone()).or_default();
        if state.busy || !(unread || state.needs_read(&reference, version.as_ref())) {
            return;
        }
        state.busy = true;
        state.reported = version;
        self.read_named(NamedRead::Filter(mailbox.clone()));
    }

    pub(super) fn filter_read(&mut self, read: FilterRead) {
        self.named_read(&NamedRead::Filter(read.mailbox.clone()));
        let Some(state) = self.filters.get_mut(&read.mailbox) else { return };
        state.busy = false;
        match read.content {
            Ok(content) => {
                state.read = Some((read.reference.clone(), read.version));
                let changes = self.directory.apply_filter(&read.mailbox, &read.reference, &content);
                self.absorb(changes);
                self.check_filter(&read.mailbox);
            }
            Err(error) => {
                tracing::warn!(mailbox = %read.mailbox, error, "a filter's ConfigMap could not be read; it is tried again");
                self.tools.metrics.errors.inc();
                self.timers.set(Timer::Filter(read.mailbox), Instant::now() + RETRY);
            }
        }
    }

    pub(super) fn config_map_applied(&mut self, metadata: &ObjectMeta) {
        let name = name_of(metadata);
        let version = metadata.resource_version.clone().unwrap_or_default();
        if self.config_map_versions.insert(name.clone(), version.clone()).as_ref() != Some(&version) {
            self.config_map_changed(&name, false);
        }
    }

    pub(super) fn config_map_deleted(&mut self, name: &NamespacedName) {
        self.config_map_versions.remove(name);
        self.config_map_changed(name, true);
    }

    fn config_map_changed(&mut self, name: &NamespacedName, gone: bool) {
        let mailboxes: Vec<NamespacedName> = self.directory.mailboxes_of_config_map(name).cloned().collect();
        for mailbox in mailboxes {
            if gone && let Some(state) = self.filters.get_mut(&mailbox) {
                state.read = None;
            }
            self.check_filter(&mailbox);
        }
    }
}

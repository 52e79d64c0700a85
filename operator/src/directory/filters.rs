//! Sieve scripts: what the spec of a mailbox names, what became of it, and what the server gets; and the scripts of servers
//! and domains that run around those of mailboxes. Pure; the controllers read ConfigMaps and tell
//! [`Directory::apply_filter`].

use paquebot_crds::conditions::Reason;
use paquebot_crds::mailbox::ConfigMapKeyReference;
use paquebot_crds::references::Filters;
use paquebot_crds::{Kind, MailboxSpec};

use super::state::{Task, Work};
use super::verdict::sentence;
use super::{Changes, Directory, NamespacedName, ObjectKey};

/// What is known of a mailbox's script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Filter {
    /// There is none.
    #[default]
    None,
    /// Nobody has read its ConfigMap yet.
    Pending,
    /// It is in force.
    Script(String),
    /// It is not. Mail is kept in the inbox.
    Failed(FilterFailure),
}

/// Why a mailbox's script is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterFailure {
    /// One of the reasons of the condition `FilterReady`.
    pub reason: Reason,
    /// What is wrong, where, and what to do.
    pub message: String,
}

/// What became of a mailbox's script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterReport {
    /// There is none.
    NoFilter,
    /// Nobody has read its ConfigMap yet.
    Pending,
    /// It is in force.
    Compiled,
    /// It is not.
    Failed(FilterFailure),
}

impl Filter {
    /// What a spec says by itself; a ConfigMap that is named as before stays read.
    pub(super) fn of_spec(spec: &MailboxSpec, before: Option<(&MailboxSpec, Self)>) -> Self {
        let Some(filter) = &spec.filter else { return Self::None };
        if let Some(script) = &filter.sieve {
            return Self::compiled(script, "spec.filter.sieve");
        }
        match before {
            Some((old, known)) if old.filter == spec.filter => known,
            _ => Self::Pending,
        }
    }

    /// A script that the server would run, or what is wrong with it.
    fn compiled(script: &str, place: &str) -> Self {
        match check(script, place) {
            Ok(()) => Self::Script(script.to_owned()),
            Err(wrong) => Self::Failed(FilterFailure {
                reason: Reason::ScriptInvalid,
                message: format!("{wrong} Until it is mended, mail goes to the inbox."),
            }),
        }
    }

    /// The script for the server.
    pub(super) fn script(&self) -> Option<String> {
        match self {
            Self::Script(script) => Some(script.clone()),
            _ => None,
        }
    }

    /// For the status.
    pub(super) fn report(&self) -> FilterReport {
        match self {
            Self::None => FilterReport::NoFilter,
            Self::Pending => FilterReport::Pending,
            Self::Script(_) => FilterReport::Compiled,
            Self::Failed(failure) => FilterReport::Failed(failure.clone()),
        }
    }
}

/// Whether the server would run a script; if not, where it is wrong and what with.
fn check(script: &str, place: &str) -> Result<(), String> {
    paquebot_sieve::compile(script, &paquebot_sieve::Limits::default())
        .map(drop)
        .map_err(|error| sentence(&format!("{place}, line {}, column {}: {}", error.line, error.column, error.message)))
}

/// The scripts around those of mailboxes, for the server; or what is wrong with them.
pub(super) fn around(filters: Option<&Filters>) -> Result<paquebot_config::Filters, String> {
    let Some(filters) = filters else { return Ok(paquebot_config::Filters::default()) };
    let scripts = [(&filters.before, "spec.filters.before"), (&filters.after, "spec.filters.after")];
    for (script, place) in scripts {
        if let Some(script) = script {
            check(script, place)?;
        }
    }
    Ok(paquebot_config::Filters { before: filters.before.clone(), after: filters.after.clone() })
}

/// What a ConfigMap held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigMapContent {
    /// There is no such ConfigMap.
    NoConfigMap,
    /// It has no such key.
    NoKey,
    /// The key's value.
    Value(String),
}

impl Directory {
    /// Takes in what the ConfigMap of a mailbox's filter held. For a mailbox that names another one by now it changes
    /// nothing.
    pub fn apply_filter(
        &mut self,
        mailbox: &NamespacedName,
        reference: &ConfigMapKeyReference,
        content: &ConfigMapContent,
    ) -> Changes {
        let Some(node) = self.mailboxes.get_mut(mailbox) else { return Changes::default() };
        let named = node.entry.spec.filter.as_ref().and_then(|filter| filter.config_map_ref.as_ref());
        if named != Some(reference) {
            return Changes::default();
        }
        let ConfigMapKeyReference { name, key } = reference;
        let missing = |message: String| Filter::Failed(FilterFailure { reason: Reason::ConfigMapNotFound, message });
        let until = "Until then mail goes to the inbox.";
        let filter = match content {
            ConfigMapContent::NoConfigMap => missing(format!(
                "ConfigMap {name} does not exist in namespace {}. Create it. {until}",
                mailbox.namespace
            )),
            ConfigMapContent::NoKey => missing(format!("ConfigMap {name} has no key {key}. Add it. {until}")),
            ConfigMapContent::Value(script) => Filter::compiled(script, &format!("Key {key} of ConfigMap {name}")),
        };
        if node.filter == filter {
            return Changes::default();
        }
        node.filter = filter;
        let mut work = Work::default();
        work.changes.statuses.insert(ObjectKey::new(Kind::Mailbox, mailbox.clone()));
        work.add(Task::Mailbox(mailbox.clone()));
        self.run(work)
    }

    /// Whether nobody has read the ConfigMap of a mailbox's script since the mailbox names it.
    #[must_use]
    pub fn is_filter_unread(&self, mailbox: &NamespacedName) -> bool {
        self.mailboxes.get(mailbox).is_some_and(|node| node.filter == Filter::Pending)
    }

    /// Takes in the scripts that a server runs for a domain since before this process began. They matter where the MailDomain's
    /// own are wrong.
    pub fn recall_filters(
        &mut self,
        server: &NamespacedName,
        domain: &str,
        filters: &paquebot_config::Filters,
    ) -> Changes {
        let Some(name) = self.domain_holders.get(domain).cloned() else { return Changes::default() };
        let Some(node) = self.domains.get_mut(&name) else { return Changes::default() };
        let is_wrong = around(node.entry.spec.filters.as_ref()).is_err();
        let is_there = self.domain_places.get(&name).is_some_and(|(place, _)| place == server);
        if !is_wrong || !is_there || node.filters == *filters {
            return Changes::default();
        }
        node.filters = filters.clone();
        let mut work = Work::default();
        work.add(Task::Domain(name));
        self.run(work)
    }

    /// The ConfigMap that a mailbox's filter is in, if it is in one.
    #[must_use]
    pub fn filter_reference(&self, mailbox: &NamespacedName) -> Option<&ConfigMapKeyReference> {
        self.mailboxes.get(mailbox)?.entry.spec.filter.as_ref()?.config_map_ref.as_ref()
    }

    /// The mailboxes whose filter is in a ConfigMap.
    pub fn mailboxes_of_config_map(&self, config_map: &NamespacedName) -> impl Iterator<Item = &NamespacedName> {
        self.links.config_map_users.of(config_map)
    }
}

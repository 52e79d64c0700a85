//! What follows from one change: which files to write, which statuses to look at. Never more than the change touched.

use std::collections::{BTreeMap, BTreeSet};

use paquebot_config::ShardName;

use super::key::{NamespacedName, ObjectKey};

/// What one call of [`super::Directory`] has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The MailServers whose configuration has changed, and which of its files.
    pub servers: BTreeMap<NamespacedName, DirtyFiles>,
    /// The objects whose verdict or generation has changed, or that are gone.
    pub statuses: BTreeSet<ObjectKey>,
    /// The MailDomains that have gained or lost a mailbox or an alias, and perhaps nothing else: what they have in the
    /// configuration is as it was.
    pub counted: BTreeSet<NamespacedName>,
}

impl Changes {
    /// Whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.statuses.is_empty() && self.counted.is_empty()
    }

    /// Adds what another call has changed, so that one pass can follow many calls.
    pub fn merge(&mut self, other: Self) {
        for (server, files) in other.servers {
            self.servers.entry(server).or_default().merge(files);
        }
        self.statuses.extend(other.statuses);
        self.counted.extend(other.counted);
    }

    pub(super) fn files(&mut self, server: &NamespacedName) -> &mut DirtyFiles {
        self.servers.entry(server.clone()).or_default()
    }
}

/// Which files of a server's configuration have changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirtyFiles {
    /// `server.json`, and perhaps the Kubernetes objects: the MailServer itself has changed or is gone.
    pub server: bool,
    /// `relay.json`.
    pub relay: bool,
    /// `secrets.json`.
    pub secrets: bool,
    /// The shards of the directory.
    pub shards: BTreeSet<ShardName>,
}

impl DirtyFiles {
    /// Adds what another call has changed.
    pub fn merge(&mut self, other: Self) {
        self.server |= other.server;
        self.relay |= other.relay;
        self.secrets |= other.secrets;
        self.shards.extend(other.shards);
    }
}

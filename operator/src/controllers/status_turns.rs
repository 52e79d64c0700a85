//! Whose status is looked at next? MailServers first: they say how everybody's mail is. Then each namespace takes its turn,
//! its MailDomains before what belongs to them, so that whoever changes ten thousand objects delays the next tenant by one
//! of them. Pure; the engine asks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use paquebot_crds::Kind;

use crate::directory::ObjectKey;

/// Objects whose status is to be looked at, each once.
#[derive(Debug, Default)]
pub struct StatusTurns {
    servers: BTreeSet<ObjectKey>,
    rows: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// Whose turn it was last.
    last: String,
}

impl StatusTurns {
    /// Adds an object; returns whether it was not waiting already.
    pub fn insert(&mut self, key: ObjectKey) -> bool {
        if key.kind == Kind::MailServer {
            return self.servers.insert(key);
        }
        match self.rows.get_mut(&key.name.namespace) {
            Some(row) => row.insert(key),
            None => self.rows.entry(key.name.namespace.clone()).or_default().insert(key),
        }
    }

    /// An object is gone.
    pub fn remove(&mut self, key: &ObjectKey) {
        self.servers.remove(key);
        if let Some(row) = self.rows.get_mut(&key.name.namespace) {
            row.remove(key);
            if row.is_empty() {
                self.rows.remove(&key.name.namespace);
            }
        }
    }

    /// The next one, which waits no longer.
    pub fn pop(&mut self) -> Option<ObjectKey> {
        if let Some(server) = self.servers.pop_first() {
            return Some(server);
        }
        let after = self.rows.range::<String, _>((Excluded(&self.last), Unbounded)).next();
        let namespace = after.or_else(|| self.rows.iter().next())?.0.clone();
        let row = self.rows.get_mut(&namespace)?;
        let next = row.pop_first();
        if row.is_empty() {
            self.rows.remove(&namespace);
        }
        self.last = namespace;
        next
    }
}

impl Extend<ObjectKey> for StatusTurns {
    fn extend<I: IntoIterator<Item = ObjectKey>>(&mut self, keys: I) {
        for key in keys {
            self.insert(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::NamespacedName;

    #[test]
    fn servers_go_first_and_then_each_tenant_has_its_turn() {
        let key = |kind, namespace: &str, name: &str| ObjectKey::new(kind, NamespacedName::new(namespace, name));
        let mut turns = StatusTurns::default();
        turns.extend((0..3).map(|number| key(Kind::Mailbox, "hostile", &number.to_string())));
        assert!(!turns.insert(key(Kind::Mailbox, "hostile", "0")), "it waits already");
        assert_eq!(turns.pop(), Some(key(Kind::Mailbox, "hostile", "0")));
        turns.extend([
            key(Kind::Mailbox, "z", "x"),
            key(Kind::MailDomain, "z", "y"),
            key(Kind::RelayPolicy, "a", "x"),
            key(Kind::MailServer, "mail", "default"),
            key(Kind::Mailbox, "gone", "x"),
        ]);
        turns.remove(&key(Kind::Mailbox, "gone", "x"));
        let order: Vec<String> = std::iter::from_fn(|| turns.pop()).map(|key| key.to_string()).collect();
        let wanted = [
            "MailServer mail/default",
            "MailDomain z/y",
            "RelayPolicy a/x",
            "Mailbox hostile/1",
            "Mailbox z/x",
            "Mailbox hostile/2",
        ];
        assert_eq!(order, wanted);
    }
}

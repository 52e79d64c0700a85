//! Reads of what objects name beside mailboxes' passwords: Secrets of MailServers and RelayPolicies, and the ConfigMaps of
//! filters. So many at once, by turns of their namespaces: who has thousands of filters waits for himself.

use super::Engine;
use crate::controllers::input::Input;
use crate::controllers::turns::Waiting;
use crate::controllers::{filters_worker, secrets_worker};
use crate::directory::{NamespacedName, SecretUse};

/// Something that is to be read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NamedRead {
    /// The ConfigMap of a Mailbox's filter.
    Filter(NamespacedName),
    /// A Secret.
    Secret(SecretUse),
}

impl Waiting for NamedRead {
    fn namespace(&self) -> &str {
        match self {
            Self::Filter(mailbox) => &mailbox.namespace,
            Self::Secret(used) => &used.object.name.namespace,
        }
    }
}

impl Engine {
    /// Reads, when it is its turn.
    pub(super) fn read_named(&mut self, read: NamedRead) {
        self.named_reads.push(read);
        self.start_named_reads();
    }

    /// A read has come to its end.
    pub(super) fn named_read(&mut self, read: &NamedRead) {
        self.named_reads.done(read);
        self.start_named_reads();
    }

    fn start_named_reads(&mut self) {
        while let Some(read) = self.named_reads.start() {
            if !self.start_named_read(&read) {
                self.named_reads.done(&read);
            }
        }
    }

    /// Starts a read; whether there is still something to read.
    fn start_named_read(&mut self, read: &NamedRead) -> bool {
        let client = self.tools.client.clone();
        match read {
            NamedRead::Filter(mailbox) => {
                let Some(reference) = self.directory.filter_reference(mailbox).cloned() else {
                    self.filters.remove(mailbox);
                    return false;
                };
                let mailbox = mailbox.clone();
                self.start(async move { Input::Filter(filters_worker::run(client, mailbox, reference).await) });
            }
            NamedRead::Secret(used) => {
                let Some(reference) = self.directory.secret_reference(used) else {
                    self.secrets.remove(used);
                    return false;
                };
                let used = used.clone();
                self.tools.metrics.secret_reads.inc();
                self.start(
                    async move { Input::SecretRead(Box::new(secrets_worker::run(client, used, reference).await)) },
                );
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use paquebot_crds::Kind;

    use super::*;
    use crate::controllers::turns::Turns;
    use crate::directory::{ObjectKey, SecretPurpose};

    #[test]
    fn thousands_of_filters_of_one_tenant_delay_the_login_of_another_by_one() {
        let mut turns = Turns::new(1, 1);
        for number in 0..5000 {
            turns.push(NamedRead::Filter(NamespacedName::new("many", &format!("m{number}"))));
        }
        let object = ObjectKey::new(Kind::RelayPolicy, NamespacedName::new("other", "office"));
        let login = NamedRead::Secret(SecretUse { object, purpose: SecretPurpose::Login });
        turns.push(login.clone());
        let first = turns.start().unwrap();
        turns.done(&first);
        let second = turns.start().unwrap();
        assert!(first == login || second == login);
    }
}

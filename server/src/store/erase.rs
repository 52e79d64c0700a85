//! Erases all mail of a mailbox or of a domain, with what a store can do anyway: messages go in the store's own bounded rounds,
//! so that others' mail waits for none of it. Doing it again finishes what was begun. Called by the admin HTTP.

use paquebot_config::{Address, Domain};

use super::{MailboxName, Result, Store, StoreError};

/// Mailboxes of a domain that are looked up at a time.
const PAGE: usize = 64;

/// Whose mail is erased.
pub struct Whose<'a> {
    /// One tenant's; `None`: everybody's.
    pub tenant: Option<&'a str>,
    /// Whether what is nobody's at an address goes along with a tenant's: not where somebody else has the address now, for
    /// it is that one's at the first use.
    pub nobodys_too: &'a (dyn Fn(&Address) -> bool + Send + Sync),
}

impl Whose<'_> {
    fn includes(&self, mailbox: &MailboxName) -> bool {
        match self.tenant {
            None => true,
            Some(tenant) if *tenant == *mailbox.tenant => true,
            Some(_) => mailbox.tenant.is_empty() && (self.nobodys_too)(&mailbox.address),
        }
    }
}

/// Erases the mail of every mailbox of a domain that is somebody's. A mailbox that somebody has open keeps no other one's
/// mail. Returns how many messages there were.
///
/// # Errors
/// [`StoreError::MaildropInUse`] when somebody reads one of them or an earlier erasure is under way, and what else the store
/// says. What is gone by then stays gone.
pub async fn domain(store: &dyn Store, domain: &Domain, whose: &Whose<'_>) -> Result<u64> {
    let (mut erased, mut after, mut left) = (0, i64::MIN, None);
    loop {
        let page = store.known_mailboxes(domain, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.number;
        for known in page {
            let outcome = match known.name {
                Ok(name) if whose.includes(&name) => store.erase(&name).await,
                Ok(_) => Ok(0),
                Err(unreadable) => {
                    left = Some(unreadable);
                    continue;
                }
            };
            match outcome {
                Ok(messages) => erased += messages,
                Err(error @ StoreError::MaildropInUse) => drop(left.get_or_insert(error)),
                Err(error) => return Err(error),
            }
        }
    }
    left.map_or(Ok(erased), Err)
}

/// Erases the mail of an address that is somebody's. Returns how many messages there were.
///
/// # Errors
/// As [`domain`].
pub async fn address(store: &dyn Store, address: &Address, whose: &Whose<'_>) -> Result<u64> {
    let mut erased = 0;
    for tenant in store.tenants(address).await? {
        let name = MailboxName { address: address.clone(), tenant: tenant.into() };
        if whose.includes(&name) {
            erased += store.erase(&name).await?;
        }
    }
    Ok(erased)
}

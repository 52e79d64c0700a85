//! Erases all mail of a mailbox or of a domain, with what a store can do anyway: messages go in the store's own bounded rounds,
//! so that others' mail waits for none of it. Doing it again finishes what was begun. Called by the admin HTTP.

use paquebot_config::{Address, Domain};

use super::{Folder, MailboxName, MaildropName, Result, Store};

/// Mailboxes of a domain that are looked up at a time.
const PAGE: usize = 64;

/// Erases the mail of a mailbox, over all its folders. Returns how many messages there were.
///
/// # Errors
/// [`super::StoreError::MaildropInUse`] while somebody reads it or an earlier erasure is under way, and what else the store
/// says. What is gone by then stays gone.
pub async fn mailbox(store: &dyn Store, mailbox: &MailboxName) -> Result<u64> {
    let mut folders = store.folders(mailbox).await?;
    folders.push(Folder::inbox());
    let mut erased = 0;
    for folder in folders {
        let name = MaildropName { mailbox: mailbox.clone(), folder };
        let keys: Vec<i64> = {
            let maildrop = store.open_maildrop(&name).await?;
            maildrop.entries.iter().map(|entry| entry.key).collect()
        };
        store.delete(&name, &keys).await?;
        erased += keys.len() as u64;
    }
    Ok(erased)
}

/// Erases the mail of every mailbox of a domain, of one tenant where one is named. Returns how many messages there were.
///
/// # Errors
/// As [`mailbox`].
pub async fn domain(store: &dyn Store, domain: &Domain, tenant: Option<&str>) -> Result<u64> {
    let mut erased = 0;
    loop {
        let page = store.mailboxes_with_mail(domain, tenant, PAGE).await?;
        if page.is_empty() {
            return Ok(erased);
        }
        for name in &page {
            erased += mailbox(store, name).await?;
        }
    }
}

/// Erases the mail of an address. Returns how many messages there were.
///
/// # Errors
/// As [`mailbox`].
pub async fn address(store: &dyn Store, address: &Address, tenant: Option<&str>) -> Result<u64> {
    let tenants = match tenant {
        Some(tenant) => vec![tenant.to_owned()],
        None => store.tenants(address).await?,
    };
    let mut erased = 0;
    for tenant in tenants {
        let name = MailboxName { address: address.clone(), tenant: tenant.into() };
        erased += mailbox(store, &name).await?;
    }
    Ok(erased)
}

//! Erases all mail of a mailbox or of a domain, with what a store can do anyway: messages go in the store's own bounded rounds,
//! so that others' mail waits for none of it. Doing it again finishes what was begun. Called by the admin HTTP.

use paquebot_config::{Address, Domain};

use super::{Folder, MaildropName, Result, Store};

/// Mailboxes of a domain that are looked up at a time.
const PAGE: usize = 64;

/// Erases the mail of a mailbox, over all its folders. Returns how many messages there were.
///
/// # Errors
/// [`super::StoreError::MaildropInUse`] while somebody reads it or an earlier erasure is under way, and what else the store
/// says. What is gone by then stays gone.
pub async fn mailbox(store: &dyn Store, mailbox: &Address) -> Result<u64> {
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

/// Erases the mail of every mailbox of a domain. Returns how many messages there were.
///
/// # Errors
/// As [`mailbox`].
pub async fn domain(store: &dyn Store, domain: &Domain) -> Result<u64> {
    let mut erased = 0;
    loop {
        let page = store.mailboxes_with_mail(domain, PAGE).await?;
        if page.is_empty() {
            return Ok(erased);
        }
        for address in &page {
            erased += mailbox(store, address).await?;
        }
    }
}

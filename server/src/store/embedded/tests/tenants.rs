//! The same address of several tenants.

use super::*;

fn inbox(address: Address, tenant: &str) -> MaildropName {
    MaildropName { mailbox: MailboxName { address, tenant: tenant.into() }, folder: Folder::inbox() }
}

fn of(tenant: &str) -> MaildropName {
    inbox(address("anna@server1.com"), tenant)
}

async fn deliver_to(store: &EmbeddedStore, maildrop: MaildropName) {
    let mut message = acceptance(Body::Memory(Bytes::from_static(b"x\r\n")), &["anna@server1.com"], &[]);
    message.local[0].maildrop = maildrop;
    store.commit(message).await.unwrap();
}

/// A domain that changes hands takes no mail along, and whoever comes back finds everything again.
#[tokio::test]
async fn the_same_address_of_another_tenant_is_another_maildrop() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let junk = MaildropName { folder: Folder::parse("junk").unwrap(), ..of("team-a") };
    let now = Timestamp::now();
    for maildrop in [of("team-a"), junk.clone()] {
        deliver_to(&store, maildrop).await;
    }
    let mut noted = acceptance(Body::Memory(Bytes::from_static(b"x\r\n")), &[], &["jack@server2.com"]);
    let until = now + jiff::SignedDuration::from_hours(1);
    noted.remember.push(Remembrance { mailbox: of("team-a").mailbox, what: "replied".to_owned(), until });
    store.commit(noted).await.unwrap();
    let key = store.open_maildrop(&of("team-a")).await.unwrap().entries[0].key;

    let theirs = of("team-b");
    assert_eq!(store.open_maildrop(&theirs).await.unwrap().entries.len(), 0);
    assert_eq!(store.usage(&theirs.mailbox).await.unwrap(), Usage::default());
    assert!(store.folders(&theirs.mailbox).await.unwrap().is_empty());
    assert!(matches!(store.read(&theirs, key).await, Err(StoreError::NotFound)));
    assert!(matches!(store.read_ahead(&theirs, &[key]).await, Err(StoreError::NotFound)));
    assert!(matches!(store.delete(&theirs, &[key]).await, Err(StoreError::NotFound)));
    assert_eq!(store.expire(&theirs.mailbox, until, 10).await.unwrap(), 0);
    let asked = ["replied".to_owned()];
    assert_eq!(store.remembers(&theirs.mailbox, &asked, now).await.unwrap(), [false]);
    deliver_to(&store, theirs.clone()).await;
    assert!(matches!(store.read(&theirs, key).await, Err(StoreError::NotFound)));
    assert!(matches!(store.delete(&theirs, &[key]).await, Err(StoreError::NotFound)));
    let session = store.open_maildrop(&theirs).await.unwrap();
    assert_eq!(session.entries.len(), 1);
    assert!(store.open_maildrop(&of("team-a")).await.is_ok(), "each has a lock of its own");
    drop(session);
    store.close().await;

    let store = EmbeddedStore::open(directory.path()).unwrap();
    assert_eq!(store.usage(&of("team-a").mailbox).await.unwrap().messages, 2);
    assert!(store.read(&of("team-a"), key).await.is_ok());
    assert_eq!(store.folders(&of("team-a").mailbox).await.unwrap(), [junk.folder]);
    assert_eq!(store.remembers(&of("team-a").mailbox, &asked, now).await.unwrap(), [true]);
}

/// As mail is that was there before tenants were told apart, or that was imported for an address that nobody had.
#[tokio::test]
async fn a_maildrop_of_nobody_becomes_its_first_users() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    for (first_use, expected) in [("delivery", 2), ("login", 1)] {
        let nobodys = address(&format!("{first_use}@server1.com"));
        let of = |tenant: &str| inbox(nobodys.clone(), tenant);
        deliver_to(&store, of("")).await;
        match first_use {
            "delivery" => deliver_to(&store, of("team-a")).await,
            _ => assert_eq!(store.open_maildrop(&of("team-a")).await.unwrap().entries.len(), 1),
        }
        assert_eq!(store.usage(&of("team-a").mailbox).await.unwrap().messages, expected, "{first_use}");
        assert_eq!(store.open_maildrop(&of("team-b")).await.unwrap().entries.len(), 0, "{first_use}");
    }
}

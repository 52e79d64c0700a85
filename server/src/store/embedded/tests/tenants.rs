//! The same address of several tenants.

use super::*;

fn inbox(address: Address, tenant: &str) -> MaildropName {
    MaildropName { mailbox: MailboxName { address, tenant: tenant.into() }, folder: Folder::inbox() }
}

fn of(tenant: &str) -> MaildropName {
    inbox(address("anna@server1.com"), tenant)
}

async fn deliver_to(store: &EmbeddedStore, maildrop: MaildropName) {
    let mut message = acceptance(Body::from(Bytes::from_static(b"x\r\n")), &["anna@server1.com"], &[]);
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
    let mut noted = acceptance(Body::from(Bytes::from_static(b"x\r\n")), &[], &["jack@server2.com"]);
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

async fn remember(store: &EmbeddedStore, maildrop: &MaildropName) {
    let mut noted = acceptance(Body::from(Bytes::from_static(b"x\r\n")), &[], &["jack@server2.com"]);
    let until = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    noted.remember.push(Remembrance { mailbox: maildrop.mailbox.clone(), what: "replied".to_owned(), until });
    store.commit(noted).await.unwrap();
}

async fn remembers(store: &EmbeddedStore, maildrop: &MaildropName) -> bool {
    store.remembers(&maildrop.mailbox, &["replied".to_owned()], Timestamp::now()).await.unwrap() == [true]
}

/// As after a while under a configuration without tenants.
#[tokio::test]
async fn what_was_nobodys_beside_a_tenants_own_comes_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let junk = |tenant: &str| MaildropName { folder: Folder::parse("junk").unwrap(), ..of(tenant) };
    let list = |tenant: &str| MaildropName { folder: Folder::parse("list").unwrap(), ..of(tenant) };
    for maildrop in [list("team-a"), of("team-a"), of(""), junk(""), list("")] {
        deliver_to(&store, maildrop).await;
    }
    remember(&store, &of("")).await;
    let nobodys = store.open_maildrop(&of("")).await.unwrap();
    assert!(matches!(store.open_maildrop(&of("team-a")).await, Err(StoreError::MaildropInUse)), "it may become its");
    let key = nobodys.entries[0].key;
    drop(nobodys);
    let opened = store.open_maildrop(&of("team-a")).await.unwrap();
    assert!(opened.entries.iter().any(|entry| entry.key == key) && opened.entries.len() == 2);
    assert_eq!(store.open_maildrop(&junk("team-a")).await.unwrap().entries.len(), 1);
    assert_eq!(store.open_maildrop(&list("team-a")).await.unwrap().entries.len(), 2);
    assert_eq!(store.usage(&of("team-a").mailbox).await.unwrap().messages, 5);
    assert_eq!(store.tenants(&address("anna@server1.com")).await.unwrap(), ["team-a"]);
    assert!(remembers(&store, &of("team-a")).await, "what its filter knew comes along");
    store.close().await;
    assert_eq!(tools::check::check(directory.path()).unwrap().findings, Vec::<String>::new());
}

#[tokio::test]
async fn who_cannot_write_reads_what_was_nobodys() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    deliver_to(&store, of("")).await;
    let database = Connection::open(directory.path().join("mail.db")).unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE UPDATE ON maildrop BEGIN SELECT RAISE(ABORT, 'not now'); END";
    database.execute_batch(refuse).unwrap();
    assert_eq!(store.open_maildrop(&of("team-a")).await.unwrap().entries.len(), 1);
}

#[tokio::test]
async fn what_is_nobodys_goes_to_whom_the_configuration_has_at_the_start() {
    use crate::smtp::testing::{configuration_of, content, mailbox};
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    deliver_to(&store, of("")).await;
    deliver_to(&store, inbox(address("nobody@server1.com"), "")).await;
    let anna = paquebot_config::MailboxRecord { tenant: "team-a".to_owned(), ..mailbox("anna@server1.com") };
    let mut content = content(Vec::new());
    content
        .records
        .retain(|record| !matches!(record, paquebot_config::Record::Mailbox(old) if old.address == anna.address));
    content.records.push(paquebot_config::Record::Mailbox(anna));
    let configuration = configuration_of(content);
    assert_eq!(store.give_to_owners(&configuration).await.unwrap(), 1);
    assert_eq!(store.give_to_owners(&configuration).await.unwrap(), 0);
    assert_eq!(store.open_maildrop(&of("team-b")).await.unwrap().entries.len(), 0, "it came too late");
    assert_eq!(store.open_maildrop(&of("team-a")).await.unwrap().entries.len(), 1);
    assert_eq!(store.tenants(&address("nobody@server1.com")).await.unwrap(), [""]);
}

#[tokio::test]
async fn an_erasure_takes_what_is_its_own_and_ends() {
    use crate::store::erase::{self, Whose};
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let jack = |tenant: &str| inbox(address("jack@server1.com"), tenant);
    for maildrop in [of("team-a"), of("team-b"), of(""), jack("team-b"), jack("")] {
        deliver_to(&store, maildrop.clone()).await;
        remember(&store, &maildrop).await;
    }
    let database = Connection::open(directory.path().join("mail.db")).unwrap();
    // A counter that is off, and a name that nobody can read.
    database
        .execute_batch(
            "INSERT INTO maildrop (number, name, tenant, messages, octets) VALUES
                (-2, 'a b@server1.com', 'team-b', 1, 1), (-1, 'off@server1.com', 'team-b', 7, 7)",
        )
        .unwrap();
    let whose = |nobodys_too| Whose { tenant: Some("team-b"), nobodys_too };
    let domain = Domain::parse("server1.com").unwrap();
    let unreadable = erase::domain(&*store, &domain, &whose(&|_| false)).await;
    assert!(matches!(unreadable, Err(StoreError::Failed(_))), "{unreadable:?}");
    let left = |name: MaildropName| {
        let store = &store;
        async move {
            let tenants = store.tenants(&name.mailbox.address).await.unwrap();
            assert!(tenants.contains(&name.mailbox.tenant.to_string()), "nothing was claimed: {tenants:?}");
            (store.usage(&name.mailbox).await.unwrap().messages, remembers(store, &name).await)
        }
    };
    for (name, expected) in
        [(of("team-b"), (0, false)), (jack("team-b"), (0, false)), (of("team-a"), (1, true)), (of(""), (1, true))]
    {
        assert_eq!(left(name.clone()).await, expected, "{name:?}");
    }
    database.execute_batch("DELETE FROM maildrop WHERE number = -2").unwrap();
    // One that is open keeps its own mail only.
    let session = store.open_maildrop(&of("")).await.unwrap();
    let in_use = erase::domain(&*store, &domain, &whose(&|_| true)).await;
    assert!(matches!(in_use, Err(StoreError::MaildropInUse)), "{in_use:?}");
    assert_eq!(left(jack("")).await, (0, false));
    drop(session);
    assert_eq!(erase::domain(&*store, &domain, &whose(&|_| true)).await.unwrap(), 1);
    assert_eq!(left(of("team-a")).await, (1, true));
    assert_eq!(
        erase::address(&*store, &address("anna@server1.com"), &Whose { tenant: None, nobodys_too: &|_| true })
            .await
            .unwrap(),
        1
    );
}

/// A report must find it when the sender's domain has changed hands meanwhile.
#[tokio::test]
async fn whose_the_sender_is_stays_with_a_queued_message_and_what_comes_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let mut message = acceptance(Body::from(Bytes::from_static(b"x\r\n")), &[], &["jack@server2.com"]);
    message.sender_tenant = Some("team-a".into());
    message.derived.push(Derived {
        id: MessageId::generate(),
        reverse_path: Some(address("srs0=x@server3.com")),
        sender_tenant: Some("team-b".into()),
        trace: Bytes::new(),
        content: Content::Same { from: 0 },
        declared: Declared::default(),
        local: Vec::new(),
        remote: vec![address("sue@server2.com").into()],
    });
    store.commit(message).await.unwrap();
    store.commit(acceptance(Body::from(Bytes::from_static(b"x\r\n")), &[], &["eve@server2.com"])).await.unwrap();
    store.close().await;
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let due = store.due_recipients(&Domain::parse("server2.com").unwrap(), Timestamp::now(), 10).await.unwrap();
    let mut whose = Vec::new();
    for row in due {
        whose.push(store.queued_message(row.message).await.unwrap().sender_tenant);
    }
    assert_eq!(whose.iter().map(Option::as_deref).collect::<Vec<_>>(), [Some("team-a"), Some("team-b"), None]);
}

//! The embedded store, which fails when it is told to.

use std::sync::Mutex;

use async_trait::async_trait;
use paquebot_config::Domain;

use super::super::*;
use crate::store::embedded::EmbeddedStore;
use crate::store::{
    Acceptance, Body, Folder, KnownMailbox, MailboxName, Maildrop, MaildropName, MessageReader, Result as StoreResult,
    Store, Usage,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    NoRoom,
    Spool,
    Append,
    Finish,
    CommitFull,
    CommitFailed,
    Usage,
}

/// The embedded store, with one fault.
pub(super) struct Faulty {
    pub(super) store: Arc<EmbeddedStore>,
    pub(super) fault: Mutex<Option<Fault>>,
}

impl Faulty {
    fn has(&self, fault: Fault) -> bool {
        *self.fault.lock().unwrap() == Some(fault)
    }
}

struct FaultySpool {
    spool: Box<dyn Spool>,
    append: bool,
    finish: bool,
}

#[async_trait]
impl Spool for FaultySpool {
    async fn append(&mut self, bytes: &[u8]) -> StoreResult<()> {
        if self.append { Err(StoreError::DiskFull) } else { self.spool.append(bytes).await }
    }

    async fn finish(self: Box<Self>) -> StoreResult<Body> {
        if self.finish { Err(StoreError::DiskFull) } else { self.spool.finish().await }
    }
}

#[async_trait]
impl Store for Faulty {
    async fn spool(&self, limit: u64) -> StoreResult<Box<dyn Spool>> {
        if self.has(Fault::Spool) {
            return Err(StoreError::DiskFull);
        }
        let spool = self.store.spool(limit).await?;
        Ok(Box::new(FaultySpool { spool, append: self.has(Fault::Append), finish: self.has(Fault::Finish) }))
    }

    async fn commit(&self, acceptance: Acceptance) -> StoreResult<()> {
        if self.has(Fault::CommitFull) {
            return Err(StoreError::DiskFull);
        }
        if self.has(Fault::CommitFailed) {
            return Err(StoreError::Failed("the disk is on fire".to_owned()));
        }
        self.store.commit(acceptance).await
    }

    async fn has_room(&self, octets: u64) -> bool {
        !self.has(Fault::NoRoom) && self.store.has_room(octets).await
    }

    async fn usage(&self, maildrop: &MailboxName) -> StoreResult<Usage> {
        if self.has(Fault::Usage) { Err(StoreError::Failed("no".to_owned())) } else { self.store.usage(maildrop).await }
    }

    async fn open_maildrop(&self, maildrop: &MaildropName) -> StoreResult<Maildrop> {
        self.store.open_maildrop(maildrop).await
    }

    async fn read(&self, maildrop: &MaildropName, key: i64) -> StoreResult<Box<dyn MessageReader>> {
        self.store.read(maildrop, key).await
    }

    async fn delete(&self, maildrop: &MaildropName, keys: &[i64]) -> StoreResult<()> {
        self.store.delete(maildrop, keys).await
    }

    async fn expire(&self, mailbox: &MailboxName, before: jiff::Timestamp, limit: usize) -> StoreResult<usize> {
        self.store.expire(mailbox, before, limit).await
    }

    async fn folders(&self, mailbox: &MailboxName) -> StoreResult<Vec<Folder>> {
        self.store.folders(mailbox).await
    }

    async fn known_mailboxes(&self, domain: &Domain, after: i64, limit: usize) -> StoreResult<Vec<KnownMailbox>> {
        self.store.known_mailboxes(domain, after, limit).await
    }

    async fn erase(&self, mailbox: &MailboxName) -> StoreResult<u64> {
        self.store.erase(mailbox).await
    }

    async fn tenants(&self, address: &Address) -> StoreResult<Vec<String>> {
        self.store.tenants(address).await
    }

    async fn remembers(&self, mailbox: &MailboxName, what: &[String], now: jiff::Timestamp) -> StoreResult<Vec<bool>> {
        self.store.remembers(mailbox, what, now).await
    }
}

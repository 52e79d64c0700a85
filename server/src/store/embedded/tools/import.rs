//! Mail from other programs' files into a mailbox. Messages are taken as they are; what was imported twice is there twice.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;

use super::is_one_tenants;
use super::mbox::{Event, Reader};
use crate::store::embedded::EmbeddedStore;
use crate::store::{
    Acceptance, BodyType, Declared, LocalDelivery, MailboxName, MaildropName, MessageId, Result, Spool, Store,
    StoreError,
};

/// Commits that share one fsync.
const TOGETHER: usize = 64;

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// How many messages.
    pub messages: u64,
    /// Whose they are now.
    pub to: MailboxName,
}

/// Imports a Maildir (a directory) or an mbox (a file) into a maildrop. No server may run. A tenant who is named gets mail
/// of the address that is nobody's yet only where the caller says so (`may_claim`).
///
/// # Errors
/// When a server has the store, it does not say or may not decide whose the mail becomes, or the files cannot be read: what
/// was imported until then stays, and is said.
pub async fn import(directory: &Path, source: &Path, to: &MaildropName, may_claim: bool) -> Result<Imported> {
    let store = EmbeddedStore::open(directory)?;
    let to = &match settle_tenant(&store, to, may_claim).await {
        Ok(to) => to,
        Err(error) => {
            store.close().await;
            return Err(error);
        }
    };
    let mut import = Import { store: &store, to, waiting: Vec::new(), done: 0 };
    let outcome = if source.is_dir() { import.maildir(source).await } else { import.mbox(source).await };
    let flushed = import.flush().await;
    let done = import.done;
    store.close().await;
    outcome.and(flushed).map_err(|error| StoreError::Failed(format!("after {done} messages: {error}")))?;
    Ok(Imported { messages: done, to: to.mailbox.clone() })
}

/// Whoever names no tenant means the only one that has the address; where nobody has it, it becomes the first user's.
async fn settle_tenant(store: &EmbeddedStore, to: &MaildropName, may_claim: bool) -> Result<MaildropName> {
    let mut to = to.clone();
    let mut tenants = store.tenants(&to.mailbox.address).await?;
    if to.mailbox.tenant.is_empty() {
        is_one_tenants(&to.mailbox.address.canonical(), &tenants)?;
        to.mailbox.tenant = tenants.pop().unwrap_or_default().into();
        return Ok(to);
    }
    let nobodys = MailboxName::from(to.mailbox.address.clone());
    let is_claimed = tenants.iter().any(String::is_empty) && store.usage(&nobodys).await?.messages > 0;
    if is_claimed && !may_claim {
        let (address, tenant) = (&to.mailbox.address, &to.mailbox.tenant);
        return Err(StoreError::Failed(format!(
            "{address} has mail that is nobody's yet and would become {tenant}'s: look at it (store export --mailbox \
             {address} --tenant ''), and say --claim where it is {tenant}'s"
        )));
    }
    Ok(to)
}

struct Import<'a> {
    store: &'a EmbeddedStore,
    to: &'a MaildropName,
    waiting: Vec<Acceptance>,
    done: u64,
}

impl Import<'_> {
    async fn maildir(&mut self, source: &Path) -> Result<()> {
        let mut files: Vec<PathBuf> = Vec::new();
        for part in ["new", "cur"] {
            let entries = fs::read_dir(source.join(part)).map_err(|error| {
                StoreError::Failed(format!("{} is not a Maildir: {part}: {error}", source.display()))
            })?;
            for entry in entries {
                files.push(entry?.path());
            }
        }
        files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        for path in files {
            let mut file = BufReader::new(File::open(&path)?);
            let mut spool = self.store.spool(u64::MAX).await?;
            let mut piece = Vec::new();
            while std::io::Read::take(&mut file, 64 * 1024).read_until(b'\n', &mut piece)? > 0 {
                if piece.ends_with(b"\n") && !piece.ends_with(b"\r\n") {
                    piece.pop();
                    piece.extend_from_slice(b"\r\n");
                }
                spool.append(&piece).await?;
                piece.clear();
            }
            self.add(spool).await?;
        }
        Ok(())
    }

    async fn mbox(&mut self, source: &Path) -> Result<()> {
        let unreadable = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", source.display()));
        let mut reader = Reader::new(BufReader::new(File::open(source).map_err(unreadable)?));
        let mut current: Option<Box<dyn Spool>> = None;
        while let Some(event) = reader.next_event().map_err(unreadable)? {
            match event {
                Event::Begin => {
                    if let Some(spool) = current.take() {
                        self.add(spool).await?;
                    }
                    current = Some(self.store.spool(u64::MAX).await?);
                }
                Event::Piece(piece) => {
                    if let Some(spool) = &mut current {
                        spool.append(&piece).await?;
                    }
                }
            }
        }
        match current.take() {
            Some(spool) => self.add(spool).await,
            None => Ok(()),
        }
    }

    async fn add(&mut self, spool: Box<dyn Spool>) -> Result<()> {
        self.waiting.push(Acceptance {
            id: MessageId::generate(),
            received_at: Timestamp::now(),
            reverse_path: None,
            sender_tenant: None,
            trace: Bytes::new(),
            body: spool.finish().await?,
            declared: Declared { body: BodyType::EightBitMime, ..Declared::default() },
            local: vec![LocalDelivery {
                maildrop: self.to.clone(),
                fields: Bytes::new(),
                body_from: None,
                quota: None,
                ascii_growth: None,
            }],
            remote: Vec::new(),
            derived: Vec::new(),
            remember: Vec::new(),
        });
        if self.waiting.len() >= TOGETHER { self.flush().await } else { Ok(()) }
    }

    /// Commits what waits, in its order.
    async fn flush(&mut self) -> Result<()> {
        let commits = self.waiting.drain(..).map(|acceptance| self.store.commit(acceptance));
        let outcomes = futures::future::join_all(commits).await;
        // Those after one that was refused may be there all the same.
        self.done += outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
        outcomes.into_iter().collect()
    }
}

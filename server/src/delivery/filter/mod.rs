//! The filters (Sieve) of a message's local recipients: from scripts and message to deliveries, messages that come of it,
//! and what is remembered. Called by [`super::arrival`] between plan and transaction. The language is
//! `paquebot-sieve`; what its actions mean for the store is `actions`; the I/O is here: reading the message's beginning,
//! and asking the store what scripts want to know.

mod actions;
mod disposition;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use moka::future::Cache;
use paquebot_config::{Address, Configuration, MailboxRecord, Resolution};
use paquebot_sieve::{Action, Environment, Limits, Message, Outcome, Script};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;

use super::Plan;
use crate::smtp::content::HeaderReader;
use crate::store::{
    Body, Declared, Derived, Folder, LocalDelivery, MailboxName, MessageId, Remembrance, Store, StoreError,
};

/// Compiled scripts that are kept, by the octets of their texts: a compiled one takes a few times as much. A change of the
/// configuration brings new ones; those that were used least go first.
const COMPILED: u64 = 4 << 20;
/// A compiled script costs something however short it is.
const OVERHEAD: usize = 1 << 10;
/// Octets of a message's beginning that are read for scripts that do not look at the body.
const HEADER: u64 = 1 << 20;
/// How often scripts are run again because they asked something new. Each round answers all questions of the one before.
const ROUNDS: usize = 8;

/// A message on its way from the last octet to the store.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Names it.
    pub id: &'a MessageId,
    /// When its last octet came.
    pub received_at: Timestamp,
    /// The reverse-path.
    pub reverse_path: Option<&'a Address>,
    /// The trace fields that the store puts before it. Scripts see them as part of the header.
    pub trace: &'a Bytes,
    /// The message as received.
    pub body: IncomingBody<'a>,
    /// Its size.
    pub octets: u64,
    /// What the sender declared.
    pub declared: &'a Declared,
    /// The envelope's recipients.
    pub recipients: &'a [Address],
}

/// The octets of a message on its way.
#[derive(Debug, Clone, Copy)]
pub enum IncomingBody<'a> {
    /// All of them, to be stored.
    Whole(&'a Body),
    /// The first ones: the store has the message already.
    Beginning(&'a [u8]),
}

/// What filters make of a message.
#[derive(Debug, Default)]
pub struct Filtered {
    /// For the acceptance, instead of [`super::local_deliveries`].
    pub local: Vec<LocalDelivery>,
    /// For the acceptance: forwardings, redirected copies, replies, reports of rejection.
    pub derived: Vec<Derived>,
    /// For the acceptance.
    pub remember: Vec<Remembrance>,
    /// The only recipient's filter refuses the message, with this reason: nothing is stored, and the session answers
    /// `550 5.7.1` (RFC 5429 §2.1).
    pub refusal: Option<String>,
    /// Mailboxes whose filters rejected the message: nothing was delivered to them, and the sender is told so.
    pub rejected: Vec<Address>,
    /// Mailboxes whose filters threw the message away, of which the sender is not to know (RFC 5228 §4.4).
    pub discarded: Vec<Address>,
    /// Mailboxes whose filters redirected the message, and to whom.
    pub redirected: Vec<(Address, Address)>,
}

impl Filtered {
    /// Logs what happened to the message, maildrop by maildrop.
    pub fn log(&self, message_id: &MessageId) {
        for delivery in &self.local {
            tracing::info!(%message_id, maildrop = %delivery.maildrop, "delivered");
        }
        for mailbox in &self.discarded {
            tracing::info!(%message_id, %mailbox, "discarded by the recipient's filter");
        }
        for mailbox in &self.rejected {
            tracing::info!(%message_id, %mailbox, "rejected by the recipient's filter");
        }
        for (mailbox, to) in &self.redirected {
            tracing::info!(%message_id, %mailbox, %to, "redirected by the recipient's filter");
        }
    }
}

/// The scripts of a mailbox in their order.
fn texts<'a>(configuration: &'a Configuration, mailbox: &Address) -> impl Iterator<Item = &'a String> {
    let server = &configuration.server.filters;
    let domain = configuration.domain(mailbox.domain()).map(|domain| &domain.filters);
    let own = configuration.mailbox(mailbox).and_then(|mailbox: &MailboxRecord| mailbox.filter.as_ref());
    [
        server.before.as_ref(),
        domain.and_then(|filters| filters.before.as_ref()),
        own,
        domain.and_then(|filters| filters.after.as_ref()),
        server.after.as_ref(),
    ]
    .into_iter()
    .flatten()
}

/// Whether some filter is to see what a mailbox gets.
#[must_use]
pub fn is_filtered(configuration: &Configuration, mailbox: &Address) -> bool {
    texts(configuration, mailbox).next().is_some()
}

/// Octets of a script from which on it is compiled on a thread of its own: shorter ones take less than a millisecond.
const LONG_SCRIPT: usize = 4 << 10;
/// Scripts that run, or long ones that are compiled, at once, each on a thread of its own.
const AT_ONCE: usize = 4;

/// Runs filters; one for the process. Keeps compiled scripts. A clone is the same.
#[derive(Debug, Clone)]
pub struct Filters {
    /// By the SHA-256 digests of their texts.
    compiled: Cache<[u8; 32], Compiled>,
    limits: Limits,
    places: Arc<Semaphore>,
}

impl Default for Filters {
    fn default() -> Self {
        let weight = |_: &[u8; 32], compiled: &Compiled| u32::try_from(compiled.octets + OVERHEAD).unwrap_or(u32::MAX);
        let compiled = Cache::builder().weigher(weight).max_capacity(COMPILED).build();
        Self { compiled, limits: Limits::default(), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

/// A script, or that its text is none.
#[derive(Debug, Clone)]
struct Compiled {
    script: Option<Arc<Script>>,
    /// Of the text.
    octets: usize,
}

impl Filters {
    /// What the filters of the plan's maildrops make of a message. Without any script this costs a look at each mailbox.
    ///
    /// # Errors
    /// [`StoreError`] when the message or what is remembered cannot be read: the message must not be accepted.
    pub async fn apply(
        &self,
        store: &dyn Store,
        configuration: &Configuration,
        plan: &Plan,
        incoming: &Incoming<'_>,
    ) -> Result<Filtered, StoreError> {
        let mut filtered = Filtered::default();
        let mut beginning = None;
        for delivery in super::local_deliveries(plan, incoming.reverse_path) {
            let name = &delivery.maildrop.mailbox;
            let mailbox = &name.address;
            let scripts = self.scripts(configuration, mailbox).await?;
            if scripts.is_empty() {
                filtered.local.push(delivery);
                continue;
            }
            let needs_body = scripts.iter().any(|script| script.needs().body);
            let octets = match &beginning {
                Some((octets, has_body)) if *has_body || !needs_body => Arc::clone(octets),
                _ => {
                    // All of the header, and as much of the body as scripts may see.
                    let limit = HEADER + if needs_body { self.limits.body_octets as u64 } else { 0 };
                    let octets = Arc::new(incoming.beginning(limit).await?);
                    beginning = Some((Arc::clone(&octets), needs_body));
                    octets
                }
            };
            let recipient = recipient(configuration, incoming.recipients, mailbox);
            let case = Case { configuration, name, mailbox, recipient: &recipient, incoming };
            let Ran { outcome, body_offset, .. } = self.run(store, &case, scripts, Arc::clone(&octets)).await?;
            if let Some(error) = &outcome.error {
                let script = outcome.failed_script;
                tracing::warn!(message_id = %incoming.id, %mailbox, script, %error, "a filter failed; the message is kept");
            }
            let alone = plan.is_one_maildrop() && incoming.recipients.len() == 1;
            let mut header = HeaderReader::default();
            if outcome.actions.iter().any(|action| matches!(action, Action::Redirect { .. })) {
                header.look(&octets);
            }
            let passed = header.passage().delivered_to;
            let whole = actions::Whole { delivery: &delivery, body_offset, passed: &passed };
            actions::carry_out(outcome, &case, &whole, alone, &mut filtered);
        }
        Ok(filtered)
    }

    /// Octets of a message's beginning that scripts see at most.
    #[must_use]
    pub fn seen_octets(&self) -> u64 {
        HEADER + self.limits.body_octets as u64
    }

    /// The scripts of a mailbox in their order. One that cannot be compiled is left out: the mail is kept, and the
    /// Mailbox's condition says what is wrong.
    async fn scripts(&self, configuration: &Configuration, mailbox: &Address) -> Result<Vec<Arc<Script>>, StoreError> {
        let mut scripts = Vec::new();
        for text in texts(configuration, mailbox) {
            scripts.extend(self.compiled(text, mailbox).await?);
        }
        Ok(scripts)
    }

    /// Compiles a text where nobody has; who wants the same one meanwhile waits, and nobody else.
    async fn compiled(&self, text: &str, mailbox: &Address) -> Result<Option<Arc<Script>>, StoreError> {
        let digest: [u8; 32] = Sha256::digest(text).into();
        let limits = self.limits;
        let compile = async {
            let compiled = match text.len() < LONG_SCRIPT {
                true => paquebot_sieve::compile(text, &limits),
                false => {
                    let failed = |error: &dyn std::fmt::Display| format!("a filter cannot be compiled: {error}");
                    let place = Arc::clone(&self.places).acquire_owned().await.map_err(|error| failed(&error))?;
                    let text = text.to_owned();
                    let compiling = tokio::task::spawn_blocking(move || {
                        let _place = place;
                        paquebot_sieve::compile(&text, &limits)
                    });
                    compiling.await.map_err(|error| failed(&error))?
                }
            };
            let script = match compiled {
                Ok(script) => Some(Arc::new(script)),
                Err(error) => {
                    tracing::warn!(%mailbox, %error, "a filter cannot be used; mail passes it");
                    None
                }
            };
            Ok::<_, String>(Compiled { script, octets: text.len() })
        };
        let compiled = self.compiled.try_get_with(digest, compile).await;
        compiled.map(|compiled| compiled.script).map_err(|error| StoreError::Failed(error.to_string()))
    }

    /// Runs the scripts until everything that they ask is answered: the language asks at once, the store later. They run
    /// on threads of their own, a few at once, for one may take half a second, in which others have to be served.
    async fn run(
        &self,
        store: &dyn Store,
        case: &Case<'_>,
        scripts: Vec<Arc<Script>>,
        octets: Arc<Vec<u8>>,
    ) -> Result<Ran, StoreError> {
        let mut known = Known::default();
        if scripts.iter().any(|script| script.needs().folders) {
            known.folders = store.folders(case.name).await?;
        }
        let mut job = Job::new(case, scripts, octets, self.limits, known);
        for round in 0.. {
            let failed = |error: &dyn std::fmt::Display| StoreError::Failed(format!("a filter cannot be run: {error}"));
            let place = Arc::clone(&self.places).acquire_owned().await.map_err(|error| failed(&error))?;
            let running = tokio::task::spawn_blocking(move || {
                let ran = job.run();
                drop(place);
                (job, ran)
            });
            let ran;
            (job, ran) = running.await.map_err(|error| failed(&error))?;
            if ran.asked.is_empty() || round == ROUNDS {
                return Ok(ran);
            }
            let answers = store.remembers(case.name, &ran.asked, case.incoming.received_at).await?;
            job.known.remembered.extend(ran.asked.into_iter().zip(answers));
        }
        Err(StoreError::Failed("a filter asks without end".to_owned()))
    }
}

impl Incoming<'_> {
    /// The trace fields and the message's beginning, so many octets.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub async fn beginning(&self, limit: u64) -> Result<Vec<u8>, StoreError> {
        let mut octets = self.trace.to_vec();
        let up_to_limit = |body: &[u8]| body.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        match self.body {
            IncomingBody::Beginning(body) => octets.extend_from_slice(&body[..up_to_limit(body)]),
            IncomingBody::Whole(Body::Memory(body)) => {
                let body = body.bytes();
                octets.extend_from_slice(&body[..up_to_limit(body)]);
            }
            IncomingBody::Whole(Body::File(file)) => {
                let failed = |error: std::io::Error| StoreError::Failed(error.to_string());
                let file = tokio::fs::File::open(&file.path).await.map_err(failed)?;
                file.take(limit).read_to_end(&mut octets).await.map_err(failed)?;
            }
        }
        Ok(octets)
    }
}

/// One message for one mailbox.
struct Case<'a> {
    configuration: &'a Configuration,
    name: &'a MailboxName,
    mailbox: &'a Address,
    /// The envelope's recipient that led here.
    recipient: &'a Address,
    incoming: &'a Incoming<'a>,
}

/// What scripts run with, on another thread.
struct Job {
    scripts: Vec<Arc<Script>>,
    /// The message's beginning, and the size of all of it.
    octets: Arc<Vec<u8>>,
    size: u64,
    reverse_path: String,
    recipient: String,
    addresses: [String; 1],
    separator: String,
    now: i64,
    limits: Limits,
    known: Known,
}

/// How scripts ran.
struct Ran {
    outcome: Outcome,
    /// What they asked that was not known.
    asked: Vec<String>,
    body_offset: usize,
}

impl Job {
    fn new(case: &Case<'_>, scripts: Vec<Arc<Script>>, octets: Arc<Vec<u8>>, limits: Limits, known: Known) -> Self {
        let (incoming, domain) = (case.incoming, case.configuration.domain(case.mailbox.domain()));
        Self {
            scripts,
            octets,
            size: incoming.octets + incoming.trace.len() as u64,
            reverse_path: incoming.reverse_path.map(ToString::to_string).unwrap_or_default(),
            recipient: case.recipient.to_string(),
            addresses: [case.mailbox.to_string()],
            separator: domain.and_then(|domain| domain.subaddress_separator).map(String::from).unwrap_or_default(),
            now: incoming.received_at.as_second(),
            limits,
            known,
        }
    }

    fn run(&self) -> Ran {
        let message = Message::new(&self.octets, self.size);
        let scripts: Vec<&Script> = self.scripts.iter().map(AsRef::as_ref).collect();
        let delivery = paquebot_sieve::Delivery {
            reverse_path: &self.reverse_path,
            recipient: &self.recipient,
            addresses: &self.addresses,
            separator: &self.separator,
            now: self.now,
            utc_offset: 0,
        };
        let asking = Asking { known: &self.known, asked: RefCell::default() };
        let outcome = paquebot_sieve::run_all(&scripts, &message, &delivery, &asking, &self.limits);
        Ran { outcome, asked: asking.asked.into_inner(), body_offset: message.body_offset() }
    }
}

/// The recipient of the envelope that a mailbox stands for: with its subaddress; the mailbox's own where an alias led to it.
fn recipient(configuration: &Configuration, recipients: &[Address], mailbox: &Address) -> Address {
    let leads = |recipient: &&Address| matches!(configuration.resolve(recipient), Resolution::Mailbox(found) if found.address == *mailbox);
    recipients.iter().find(leads).unwrap_or(mailbox).clone()
}

/// What the store answered.
#[derive(Default)]
struct Known {
    folders: Vec<Folder>,
    remembered: HashMap<String, bool>,
}

/// Answers from what is known, and notes what is not: that counts as no, and is asked before the next round.
struct Asking<'k> {
    known: &'k Known,
    asked: RefCell<Vec<String>>,
}

impl Asking<'_> {
    fn remembers(&self, what: String) -> bool {
        if let Some(answer) = self.known.remembered.get(&what) {
            return *answer;
        }
        self.asked.borrow_mut().push(what);
        false
    }
}

impl Environment for Asking<'_> {
    fn folder_exists(&self, folder: &str) -> bool {
        Folder::parse(folder).is_some_and(|folder| self.known.folders.contains(&folder))
    }

    fn is_duplicate(&self, handle: &str, id: &str) -> bool {
        self.remembers(actions::duplicate_key(handle, id))
    }

    fn has_replied(&self, handle: &str, sender: &str) -> bool {
        self.remembers(actions::vacation_key(handle, sender))
    }

    fn item(&self, name: &str) -> Option<String> {
        // RFC 5183 §4.1: this is the final delivery, by the server that has the mailbox.
        match name {
            "location" => Some("MDA".to_owned()),
            "phase" => Some("during".to_owned()),
            _ => None,
        }
    }
}

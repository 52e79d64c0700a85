//! The filters (Sieve) of a message's local recipients: from scripts and message to deliveries, messages that come of it,
//! and what is remembered. Called by [`crate::smtp::session`] between plan and transaction. The language is
//! `paquebot-sieve`; what its actions mean for the store is `actions`; the I/O is here: reading the message's beginning,
//! and asking the store what scripts want to know.

mod actions;
mod disposition;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use paquebot_config::{Address, Configuration, MailboxRecord, Resolution};
use paquebot_sieve::{Environment, Limits, Message, Outcome, Script};
use tokio::io::AsyncReadExt;

use super::Plan;
use crate::store::{Body, Declared, Derived, Folder, LocalDelivery, MessageId, Remembrance, Store, StoreError};

/// Compiled scripts that are kept. Each is some kilobytes; a change of the configuration brings new ones.
const COMPILED: usize = 2_048;
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
    /// What redirected copies have instead: the same, or one that keeps SPF right at the next server (SRS).
    pub redirect_path: Option<&'a Address>,
    /// The trace fields that the store puts before it. Scripts see them as part of the header.
    pub trace: &'a Bytes,
    /// The message as received.
    pub body: &'a Body,
    /// Its size.
    pub octets: u64,
    /// What the sender declared.
    pub declared: &'a Declared,
    /// The envelope's recipients.
    pub recipients: &'a [Address],
}

/// What filters make of a message.
#[derive(Debug, Default)]
pub struct Filtered {
    /// For the acceptance, instead of [`super::local_deliveries`].
    pub local: Vec<LocalDelivery>,
    /// For the acceptance: redirected copies, replies, reports of rejection.
    pub derived: Vec<Derived>,
    /// For the acceptance.
    pub remember: Vec<Remembrance>,
    /// The only recipient's filter refuses the message, with this reason: nothing is stored, and the session answers
    /// `550 5.7.1` (RFC 5429 §2.1).
    pub refusal: Option<String>,
}

/// Runs filters; one for the process. Keeps compiled scripts.
#[derive(Debug, Default)]
pub struct Filters {
    compiled: Mutex<HashMap<String, Option<Arc<Script>>>>,
    limits: Limits,
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
            let mailbox = &delivery.maildrop.mailbox;
            let scripts = self.scripts(configuration, mailbox);
            if scripts.is_empty() {
                filtered.local.push(delivery);
                continue;
            }
            let needs_body = scripts.iter().any(|script| script.needs().body);
            if beginning.as_ref().is_none_or(|(_, has_body)| needs_body && !has_body) {
                beginning = Some((self.beginning(incoming, needs_body).await?, needs_body));
            }
            let octets = beginning.as_ref().map_or(&[][..], |(octets, _)| octets);
            let message = Message::new(octets, incoming.octets + incoming.trace.len() as u64);
            let recipient = recipient(configuration, incoming.recipients, mailbox);
            let case = Case { configuration, mailbox, recipient: &recipient, incoming };
            let outcome = self.run(store, &case, &scripts, &message).await?;
            if let Some(error) = &outcome.error {
                let script = outcome.failed_script;
                tracing::warn!(message_id = %incoming.id, %mailbox, script, %error, "a filter failed; the message is kept");
            }
            let alone = plan.is_one_maildrop() && incoming.recipients.len() == 1;
            actions::carry_out(outcome, &case, &delivery, message.body_offset(), alone, &mut filtered);
        }
        Ok(filtered)
    }

    /// The scripts of a mailbox in their order. One that cannot be compiled is left out: the mail is kept, and the
    /// Mailbox's condition says what is wrong.
    fn scripts(&self, configuration: &Configuration, mailbox: &Address) -> Vec<Arc<Script>> {
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
        .filter_map(|text| self.compiled(text, mailbox))
        .collect()
    }

    fn compiled(&self, text: &str, mailbox: &Address) -> Option<Arc<Script>> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = compiled.get(text) {
            return known.clone();
        }
        let script = match paquebot_sieve::compile(text, &self.limits) {
            Ok(script) => Some(Arc::new(script)),
            Err(error) => {
                tracing::warn!(%mailbox, %error, "a filter cannot be used; mail passes it");
                None
            }
        };
        if compiled.len() >= COMPILED {
            compiled.clear();
        }
        compiled.insert(text.to_owned(), script.clone());
        script
    }

    /// The trace fields and the message's beginning: all of the header, and as much of the body as scripts may see.
    async fn beginning(&self, incoming: &Incoming<'_>, needs_body: bool) -> Result<Vec<u8>, StoreError> {
        let limit = HEADER + if needs_body { self.limits.body_octets as u64 } else { 0 };
        let mut octets = incoming.trace.to_vec();
        match incoming.body {
            Body::Memory(body) => {
                let length = body.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
                octets.extend_from_slice(&body[..length]);
            }
            Body::File(file) => {
                let failed = |error: std::io::Error| StoreError::Failed(error.to_string());
                let file = tokio::fs::File::open(&file.path).await.map_err(failed)?;
                file.take(limit).read_to_end(&mut octets).await.map_err(failed)?;
            }
        }
        Ok(octets)
    }

    /// Runs the scripts until everything that they ask is answered: the language asks at once, the store later.
    async fn run(
        &self,
        store: &dyn Store,
        case: &Case<'_>,
        scripts: &[Arc<Script>],
        message: &Message<'_>,
    ) -> Result<Outcome, StoreError> {
        let mut known = Known::default();
        if scripts.iter().any(|script| script.needs().folders) {
            known.folders = store.folders(case.mailbox).await?;
        }
        for _ in 0..ROUNDS {
            let asking = Asking { known: &known, asked: RefCell::default() };
            let outcome = case.run(scripts, message, &asking, &self.limits);
            let asked = asking.asked.into_inner();
            if asked.is_empty() {
                return Ok(outcome);
            }
            let answers = store.remembers(case.mailbox, &asked, case.incoming.received_at).await?;
            known.remembered.extend(asked.into_iter().zip(answers));
        }
        let asking = Asking { known: &known, asked: RefCell::default() };
        Ok(case.run(scripts, message, &asking, &self.limits))
    }
}

/// One message for one mailbox.
struct Case<'a> {
    configuration: &'a Configuration,
    mailbox: &'a Address,
    /// The envelope's recipient that led here.
    recipient: &'a Address,
    incoming: &'a Incoming<'a>,
}

impl Case<'_> {
    fn run(
        &self,
        scripts: &[Arc<Script>],
        message: &Message<'_>,
        environment: &dyn Environment,
        limits: &Limits,
    ) -> Outcome {
        let scripts: Vec<&Script> = scripts.iter().map(AsRef::as_ref).collect();
        let domain = self.configuration.domain(self.mailbox.domain());
        let separator = domain.and_then(|domain| domain.subaddress_separator).map(String::from).unwrap_or_default();
        let addresses = [self.mailbox.to_string()];
        let delivery = paquebot_sieve::Delivery {
            reverse_path: &self.incoming.reverse_path.map(ToString::to_string).unwrap_or_default(),
            recipient: &self.recipient.to_string(),
            addresses: &addresses,
            separator: &separator,
            now: self.incoming.received_at.as_second(),
            utc_offset: 0,
        };
        paquebot_sieve::run_all(&scripts, message, &delivery, environment, limits)
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

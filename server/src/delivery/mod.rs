//! The MDA: from recipients to a delivery plan, from a plan to one store transaction. Pure; called by
//! [`crate::smtp::policy`] for each recipient, and by [`crate::smtp::session`] for the whole message.

pub mod arrival;
pub mod distribution;
pub mod filter;
pub mod listing;
pub mod srs;

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use paquebot_config::{Address, AliasRecord, Configuration, MailboxRecord, Resolution};

use crate::smtp::machine::EnvelopeRecipient;
use crate::store::outgoing::QueuedMessage;
use crate::store::{Derived, Folder, LocalDelivery, MailboxName, MaildropName, RemoteRecipient};
use crate::trace;

/// Addresses that one recipient may stand for, over all aliases and forwardings. More is a mailing list, which needs a
/// list manager that answers for its bounces.
const MAX_EXPANSION: usize = 1_000;

/// A maildrop that receives a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maildrop {
    /// The mailbox's own address.
    pub address: Address,
    /// Whose it is.
    pub tenant: Box<str>,
    /// Octets that it may hold.
    pub quota: Option<u64>,
}

impl Maildrop {
    /// The maildrop of a mailbox.
    #[must_use]
    pub fn of(mailbox: &MailboxRecord) -> Self {
        Self { address: mailbox.address.clone(), tenant: mailbox.tenant.as_str().into(), quota: mailbox.quota }
    }

    /// Its name in the store.
    #[must_use]
    pub fn name(&self) -> MailboxName {
        MailboxName { address: self.address.clone(), tenant: self.tenant.clone() }
    }
}

/// Who receives a message in the end. Nobody is there twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Maildrops here.
    pub local: Vec<Maildrop>,
    /// What the queue takes: addresses elsewhere, and targets of aliases and forwardings here that cannot be delivered to
    /// now. The queue tries those again, or tells the sender.
    pub remote: Vec<Address>,
}

impl Plan {
    /// Whether one maildrop decides about the whole message.
    #[must_use]
    pub fn is_one_maildrop(&self) -> bool {
        self.local.len() == 1 && self.remote.is_empty()
    }
}

/// Why nothing can be delivered to a served address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Undeliverable {
    /// Nobody has it.
    Unknown,
    /// It leads back to itself, and nowhere else.
    Loop,
    /// It stands for more addresses than one recipient may.
    TooMany,
    /// It or its domain is suspended.
    Suspended,
}

/// Who receives what is sent to one recipient.
///
/// # Errors
/// [`Undeliverable`] when nobody would; the worst reason that was met, and one that may pass is the worst: then the
/// sender keeps the message and tries again.
pub fn expand(configuration: &Configuration, recipient: &Address) -> Result<Plan, Undeliverable> {
    let expanded = expand_onward(configuration, recipient)?;
    let onward = expanded.onward.into_iter().map(|onward| onward.address);
    // The others must not wait for the undeliverable ones, and these must not be forgotten.
    Ok(Plan { local: expanded.local, remote: onward.chain(expanded.undeliverable).collect() })
}

/// An address elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onward {
    /// The address.
    pub address: Address,
    /// The alias or mailbox that sends the message on; `None`: the sender named the address.
    pub via: Option<Address>,
}

/// What one recipient stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// Maildrops here.
    pub local: Vec<Maildrop>,
    /// Addresses elsewhere.
    pub onward: Vec<Onward>,
    /// Addresses here that cannot be delivered to now.
    pub undeliverable: Vec<Address>,
}

/// Who receives what is sent to one recipient, and who sends it on to them.
///
/// # Errors
/// As [`expand`].
pub fn expand_onward(configuration: &Configuration, recipient: &Address) -> Result<Expanded, Undeliverable> {
    let mut expansion = Expansion::new(configuration);
    let mut waiting = VecDeque::from([Onward { address: recipient.clone(), via: None }]);
    let mut visits = 0;
    let mut reasons = Vec::new();
    while let Some(next) = waiting.pop_front() {
        visits += 1;
        if visits + waiting.len() > MAX_EXPANSION {
            return Err(Undeliverable::TooMany);
        }
        match expansion.visit(&next) {
            Ok(further) => waiting.extend(further),
            Err(reason) => {
                expansion.expanded.undeliverable.push(next.address);
                reasons.push(reason);
            }
        }
    }
    let expanded = expansion.expanded;
    if expanded.local.is_empty() && expanded.onward.is_empty() {
        let worst = reasons.into_iter().max();
        return Err(worst.or(expansion.came_back.then_some(Undeliverable::Loop)).unwrap_or(Undeliverable::Unknown));
    }
    Ok(expanded)
}

/// The plan for all recipients of a message.
#[must_use]
pub fn plan(configuration: &Configuration, recipients: &[Address]) -> Plan {
    let named = recipients.iter().cloned().map(EnvelopeRecipient::from).collect::<Vec<_>>();
    distribution::Distribution::new(configuration, &named).plan()
}

/// Whether mail for an alias reaches a mailbox, through further aliases but not through forwardings: its owner then may
/// send under the alias's name.
#[must_use]
pub fn alias_reaches(configuration: &Configuration, alias: &AliasRecord, mailbox: &Address) -> bool {
    let (mut seen, mut waiting) = (HashSet::new(), vec![alias]);
    while let Some(alias) = waiting.pop() {
        if !seen.insert(alias.address.canonical()) || seen.len() > MAX_EXPANSION {
            continue;
        }
        for target in &alias.targets {
            match configuration.resolve(target) {
                Resolution::Mailbox(found) if found.address == *mailbox => return true,
                Resolution::Alias(next) => waiting.push(next),
                _ => {}
            }
        }
    }
    false
}

/// The store's share of a plan: each maildrop with its `Return-Path`.
///
/// A message has one reply for all its maildrops. With several, one that is full must not keep the others from theirs: the
/// caller gives it to the queue first. The store holds every quota, also against what comes at the same moment.
#[must_use]
pub fn local_deliveries(plan: &Plan, reverse_path: Option<&Address>) -> Vec<LocalDelivery> {
    let fields = Bytes::from(trace::return_path(reverse_path));
    let delivery = |maildrop: &Maildrop| LocalDelivery {
        maildrop: MaildropName { mailbox: maildrop.name(), folder: Folder::inbox() },
        fields: fields.clone(),
        body_from: None,
        quota: maildrop.quota,
        ascii_growth: None,
    };
    plan.local.iter().map(delivery).collect()
}

/// The sender of a message, and whose his address was when the message was accepted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sender<'a> {
    /// The reverse-path; `None` is the null one.
    pub reverse_path: Option<&'a Address>,
    /// Whose it was, where it was somebody's here.
    pub tenant: Option<&'a str>,
}

impl<'a> Sender<'a> {
    /// Of a message that comes now.
    #[must_use]
    pub fn now(configuration: &'a Configuration, reverse_path: Option<&'a Address>) -> Self {
        Self { reverse_path, tenant: reverse_path.and_then(|address| configuration.tenant_of(address)) }
    }

    /// Of a message that waits in the queue.
    #[must_use]
    pub fn of_queued(message: &'a QueuedMessage) -> Self {
        Self { reverse_path: message.reverse_path.as_ref(), tenant: message.sender_tenant.as_deref() }
    }

    /// Whether the address is another tenant's by now.
    #[must_use]
    pub fn has_changed_hands(&self, configuration: &Configuration) -> bool {
        self.reverse_path.is_some_and(|address| has_changed_hands(configuration, address, self.tenant))
    }

    /// Whose an address is. What goes to the sender is for the one who sent, also when his domain is another's by now.
    fn tenant_of(&self, configuration: &Configuration, address: &Address) -> Option<Box<str>> {
        let own = self.tenant.filter(|_| self.reverse_path == Some(address));
        own.or_else(|| configuration.tenant_of(address)).map(Into::into)
    }

    /// Notes whose the addresses are to which the message, or a report to the sender, goes. What waits for one goes to nobody
    /// else who gets its domain meanwhile.
    pub fn note_tenants(&self, configuration: &Configuration, recipients: &mut [RemoteRecipient]) {
        for recipient in recipients.iter_mut().filter(|recipient| recipient.tenant.is_none()) {
            recipient.tenant = self.tenant_of(configuration, &recipient.address);
        }
    }

    /// The same for messages that come of the sender's, and whose their own reverse-paths are.
    pub fn note_tenants_of_derived(&self, configuration: &Configuration, derived: &mut [Derived]) {
        for derived in derived {
            let path = derived.reverse_path.as_ref();
            derived.sender_tenant = path.and_then(|address| self.tenant_of(configuration, address));
            self.note_tenants(configuration, &mut derived.remote);
        }
    }
}

/// Whether an address is another tenant's by now than `before`. Where either is unknown, as that of a domain that was not, or
/// is not, served, it is not.
#[must_use]
pub fn has_changed_hands(configuration: &Configuration, address: &Address, before: Option<&str>) -> bool {
    before.zip(configuration.tenant_of(address)).is_some_and(|(before, now)| before != now)
}

struct Expansion<'a> {
    configuration: &'a Configuration,
    expanded: Expanded,
    seen: HashSet<String>,
    /// Something was met twice: a loop, if nothing is deliverable in the end.
    came_back: bool,
}

impl<'a> Expansion<'a> {
    fn new(configuration: &'a Configuration) -> Self {
        Self { configuration, expanded: Expanded::default(), seen: HashSet::new(), came_back: false }
    }

    /// Takes one address in; returns those that it stands for.
    fn visit(&mut self, next: &Onward) -> Result<Vec<Onward>, Undeliverable> {
        let on = |via: &Address, targets: Vec<Address>| {
            targets.into_iter().map(|address| Onward { address, via: Some(via.clone()) }).collect()
        };
        match self.configuration.resolve(&next.address) {
            Resolution::NotServed => {
                // Upper and lower case may differ elsewhere (RFC 5321 §2.4).
                if self.seen.insert(next.address.to_string()) {
                    self.expanded.onward.push(next.clone());
                }
                Ok(Vec::new())
            }
            Resolution::Unknown => Err(Undeliverable::Unknown),
            Resolution::Suspended => Err(Undeliverable::Suspended),
            Resolution::Alias(alias) if self.is_new(&alias.address) => Ok(on(&alias.address, alias.targets.clone())),
            Resolution::Mailbox(mailbox) if self.is_new(&mailbox.address) => {
                Ok(on(&mailbox.address, self.mailbox(mailbox)))
            }
            Resolution::Alias(_) | Resolution::Mailbox(_) => Ok(Vec::new()),
        }
    }

    fn mailbox(&mut self, mailbox: &MailboxRecord) -> Vec<Address> {
        // Forwarding to oneself is how some people say that a copy should be kept.
        let is_self = |target: &Address| matches!(self.configuration.resolve(target), Resolution::Mailbox(found) if found.address == mailbox.address);
        let (keep, targets) = match &mailbox.forwarding {
            None => (true, Vec::new()),
            Some(forwarding) => {
                let (own, others): (Vec<_>, Vec<_>) = forwarding.to.iter().cloned().partition(is_self);
                (forwarding.keep_copy || !own.is_empty() || others.is_empty(), others)
            }
        };
        if keep {
            self.expanded.local.push(Maildrop::of(mailbox));
        }
        targets
    }

    fn is_new(&mut self, address: &Address) -> bool {
        let new = self.seen.insert(address.canonical());
        self.came_back |= !new;
        new
    }
}

#[cfg(test)]
mod tests;

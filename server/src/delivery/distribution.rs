//! From the accepted recipients of one message to everybody who gets it: maildrops here, the queue, and those to whom
//! aliases and forwardings send it on. Pure; called by [`crate::smtp::session`] when a message is complete.

use std::collections::HashSet;

use paquebot_config::{Address, Configuration, Resolution};

use super::{Maildrop, Onward, Plan, expand_onward};
use crate::smtp::machine::EnvelopeRecipient;
use crate::store::RemoteRecipient;
use crate::store::envelope::{Notify, OriginalRecipient, Route};

/// What becomes of a message, recipient by recipient. Nobody is in it twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    shares: Vec<Share>,
}

/// What becomes of one recipient's copy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Share {
    recipient: EnvelopeRecipient,
    local: Vec<Maildrop>,
    onward: Vec<Onward>,
    /// Addresses here that the queue tries later.
    later: Vec<Address>,
    /// Maildrops here that have no room: the queue tries them later, and nobody else for them.
    full: Vec<Address>,
    /// The message came back from all whom the recipient stands for.
    is_cut: bool,
    /// The mailboxes here for which the recipient stands, also where another recipient's share has them.
    mailboxes: Vec<Address>,
    /// How many addresses the recipient stands for, also where another recipient's share has them.
    stands_for: usize,
}

impl Distribution {
    /// For a message that is delivered now. What cannot be expanded was refused at RCPT; were it here all the same, the
    /// queue would deal with it.
    #[must_use]
    pub fn new(configuration: &Configuration, recipients: &[EnvelopeRecipient]) -> Self {
        let (mut maildrops, mut elsewhere) = (HashSet::new(), HashSet::new());
        let mut shares = Vec::with_capacity(recipients.len());
        for recipient in recipients {
            let Ok(mut expanded) = expand_onward(configuration, &recipient.address) else {
                shares.push(Share::later(recipient));
                continue;
            };
            let stands_for = expanded.local.len() + expanded.onward.len() + expanded.undeliverable.len();
            let mailboxes = expanded.local.iter().map(|drop| drop.address.clone()).collect();
            expanded.local.retain(|drop| maildrops.insert(drop.address.canonical()));
            expanded.onward.retain(|onward| elsewhere.insert(onward.address.to_string()));
            expanded.undeliverable.retain(|address| elsewhere.insert(address.to_string()));
            let (local, onward, later) = (expanded.local, expanded.onward, expanded.undeliverable);
            let full = Vec::new();
            let recipient = recipient.clone();
            shares.push(Share { recipient, local, onward, later, full, is_cut: false, mailboxes, stands_for });
        }
        Self { shares }
    }

    /// For a message that is held (RFC 4865): the queue does at its release what is done with others at once.
    #[must_use]
    pub fn held(recipients: &[EnvelopeRecipient]) -> Self {
        Self { shares: recipients.iter().map(Share::later).collect() }
    }

    /// For a recipient whose maildrop had no room before: it and nobody else. `None`: there is no such mailbox.
    #[must_use]
    pub fn of_maildrop(configuration: &Configuration, recipient: &EnvelopeRecipient) -> Option<Self> {
        let mailbox = configuration.mailbox(&recipient.address)?;
        let local = vec![Maildrop::of(mailbox)];
        let mailboxes = vec![mailbox.address.clone()];
        Some(Self { shares: vec![Share { local, later: Vec::new(), mailboxes, ..Share::later(recipient) }] })
    }

    /// Sends a message on only once through each alias and mailbox: those that its `Delivered-To` fields name have had it.
    /// A mailbox that would send it round keeps it instead. Returns the recipients for whom nobody is left: their senders
    /// must be told.
    pub fn break_loops(&mut self, configuration: &Configuration, delivered_to: &[String]) -> Vec<RemoteRecipient> {
        let mut cut = Vec::new();
        for share in self.shares.iter_mut().filter(|_| !delivered_to.is_empty()) {
            let had_somebody = !share.is_empty();
            let mut kept = Vec::new();
            share.onward.retain(|onward| {
                let Some(via) = onward.via.as_ref().filter(|via| delivered_to.contains(&via.canonical())) else {
                    return true;
                };
                if let Resolution::Mailbox(mailbox) = configuration.resolve(via) {
                    kept.push(Maildrop::of(mailbox));
                }
                false
            });
            for maildrop in kept {
                if !share.local.contains(&maildrop) {
                    share.local.push(maildrop);
                }
            }
            if had_somebody && share.is_empty() {
                share.is_cut = true;
                cut.push(share.as_named());
            }
        }
        cut
    }

    /// Whether nobody gets it: it went round.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shares.iter().all(Share::is_empty)
    }

    /// Gives maildrops that have no room to the queue.
    pub fn defer(&mut self, is_full: impl Fn(&Maildrop) -> bool) {
        for share in &mut self.shares {
            let (full, local) = std::mem::take(&mut share.local).into_iter().partition(&is_full);
            share.local = local;
            share.full.extend(Vec::into_iter(full).map(|maildrop: Maildrop| maildrop.address));
        }
    }

    /// The maildrops here, and for whom the queue is needed.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let onward = self.shares.iter().flat_map(|share| share.onward.iter().map(|onward| onward.address.clone()));
        let later = self.shares.iter().flat_map(|share| share.later.iter().chain(&share.full).cloned());
        Plan {
            local: self.shares.iter().flat_map(|share| share.local.iter().cloned()).collect(),
            remote: onward.chain(later).collect(),
        }
    }

    /// Those to whom the queue sends the message as it came.
    #[must_use]
    pub fn remote(&self) -> Vec<RemoteRecipient> {
        let direct = |share: &Share| {
            let onward = share.onward.iter().filter(|onward| onward.via.is_none()).map(|onward| &onward.address);
            let at_full = |address| RemoteRecipient { route: Some(Route::Maildrop), ..share.asked(address) };
            let full = share.full.iter().map(at_full);
            onward.chain(&share.later).map(|address| share.asked(address)).chain(full).collect::<Vec<_>>()
        };
        self.shares.iter().flat_map(direct).collect()
    }

    /// Those to whom an alias or a mailbox sends it on, by the one that does.
    #[must_use]
    pub fn forwards(&self) -> Vec<(Address, Vec<RemoteRecipient>)> {
        let mut forwards: Vec<(Address, Vec<RemoteRecipient>)> = Vec::new();
        for share in &self.shares {
            for Onward { address, via } in &share.onward {
                let Some(via) = via else { continue };
                let recipient = share.asked(address);
                match forwards.iter_mut().find(|(known, _)| known == via) {
                    Some((_, recipients)) => recipients.push(recipient),
                    None => forwards.push((via.clone(), vec![recipient])),
                }
            }
        }
        forwards
    }

    /// The recipients whose sender wants to know of success and is told by this server, and whether they stand for several
    /// to whom the message went (RFC 3461 §5.2.7.3). Whoever is `rejected` by the filters of all his mailboxes is not among
    /// them.
    #[must_use]
    pub fn succeeded(&self, rejected: &[Address]) -> Vec<(RemoteRecipient, bool)> {
        let told = self.shares.iter().filter(|share| share.recipient.notify.on_success() && !share.is_cut);
        let told = told.filter(|share| match share.stands_for {
            0 | 1 => share.later.is_empty() && share.full.is_empty() && share.onward.is_empty(),
            // The list is expanded now, also where some members get the message later.
            _ => true,
        });
        let is_rejected = |share: &&Share| {
            let elsewhere = !share.onward.is_empty() || !share.later.is_empty() || !share.full.is_empty();
            let only_here = !elsewhere && !share.mailboxes.is_empty();
            only_here && share.mailboxes.iter().all(|mailbox| rejected.contains(mailbox))
        };
        let told = told.filter(|share| !is_rejected(share));
        told.map(|share| (share.as_named(), share.stands_for > 1)).collect()
    }
}

impl Share {
    fn later(recipient: &EnvelopeRecipient) -> Self {
        let later = vec![recipient.address.clone()];
        Self {
            recipient: recipient.clone(),
            local: Vec::new(),
            onward: Vec::new(),
            later,
            full: Vec::new(),
            is_cut: false,
            mailboxes: Vec::new(),
            stands_for: 1,
        }
    }

    fn is_empty(&self) -> bool {
        self.local.is_empty() && self.onward.is_empty() && self.later.is_empty() && self.full.is_empty()
    }

    fn as_named(&self) -> RemoteRecipient {
        let EnvelopeRecipient { address, notify, original, route } = self.recipient.clone();
        RemoteRecipient { address, notify, original, route, tenant: None }
    }

    /// What a next hop is told about an address for which the recipient stands (RFC 3461 §5.2.7): with one address, what
    /// the sender asked for; with several, success is for this server to tell.
    fn asked(&self, address: &Address) -> RemoteRecipient {
        let mut asked = RemoteRecipient { address: address.clone(), ..self.as_named() };
        if *address == self.recipient.address {
            return asked;
        }
        // RFC 3461 §4.2: a server that changes the address may say which one it was given.
        asked.original.get_or_insert_with(|| {
            let kind = if self.recipient.address.is_ascii() { "rfc822" } else { "utf-8" };
            OriginalRecipient { kind: kind.to_owned(), address: self.recipient.address.to_string() }
        });
        asked.route = None;
        if self.stands_for > 1
            && let Notify::On { failure, delay, .. } = asked.notify
        {
            let nothing = !failure && !delay;
            asked.notify = if nothing { Notify::Never } else { Notify::On { success: false, failure, delay } };
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::testing::{address, alias, configuration, configuration_of, content};

    fn recipient(text: &str, notify: Notify) -> EnvelopeRecipient {
        EnvelopeRecipient { address: address(text), notify, original: None, route: None }
    }

    const EVERYTHING: Notify = Notify::On { success: true, failure: true, delay: true };

    fn of(recipients: &[&str]) -> Distribution {
        let recipients: Vec<_> = recipients.iter().map(|text| recipient(text, EVERYTHING)).collect();
        Distribution::new(&configuration(Vec::new()), &recipients)
    }

    fn shown(recipients: &[RemoteRecipient]) -> Vec<String> {
        let original =
            |r: &RemoteRecipient| r.original.as_ref().map_or(String::new(), |o| format!(" for {}", o.to_text()));
        recipients.iter().map(|r| format!("{} {}{}", r.address, r.notify.on_success(), original(r))).collect()
    }

    #[test]
    fn directly_and_through_aliases_and_forwardings() {
        let distribution = of(&["jack@server2.com", "anna@server1.com", "away-alias@server1.com"]);
        assert_eq!(shown(&distribution.remote()), ["jack@server2.com true"], "jack is there already");
        assert_eq!(distribution.plan().local.len(), 1);
        let distribution = of(&["away-alias@server1.com"]);
        assert!(distribution.remote().is_empty());
        let [(via, recipients)] = &distribution.forwards()[..] else { panic!("{distribution:?}") };
        assert_eq!(via, &address("away@server1.com"));
        // RFC 3461 §5.2.7.2: one address for another, so what the sender asked for goes on.
        assert_eq!(shown(recipients), ["jack@server2.com true for rfc822;away-alias@server1.com"]);
        assert!(distribution.succeeded(&[]).is_empty());
    }

    /// RFC 3461 §5.2.7.3.
    #[test]
    fn an_alias_for_several_is_expanded_and_says_so_itself() {
        let distribution = of(&["team@server1.com", "anna@server1.com"]);
        let [(via, recipients)] = &distribution.forwards()[..] else { panic!("{distribution:?}") };
        assert_eq!(via, &address("team@server1.com"));
        assert_eq!(shown(recipients), ["jack@server2.com false for rfc822;team@server1.com"]);
        let succeeded: Vec<_> =
            distribution.succeeded(&[]).into_iter().map(|(r, expanded)| (r.address.to_string(), expanded)).collect();
        assert_eq!(succeeded, [("team@server1.com".to_owned(), true), ("anna@server1.com".to_owned(), false)]);
        let only_success = Notify::On { success: true, failure: false, delay: false };
        let alone = Distribution::new(&configuration(Vec::new()), &[recipient("team@server1.com", only_success)]);
        assert_eq!(alone.forwards()[0].1[0].notify, Notify::Never);
    }

    #[test]
    fn what_the_queue_does_later_is_not_a_success_yet() {
        let mut distribution = of(&["anna@server1.com", "tom@server1.com"]);
        distribution.defer(|maildrop| maildrop.address == address("anna@server1.com"));
        assert_eq!(shown(&distribution.remote()), ["anna@server1.com true"]);
        assert_eq!(distribution.succeeded(&[]).len(), 1);
        let held = Distribution::held(&[recipient("anna@server1.com", EVERYTHING)]);
        assert_eq!(shown(&held.remote()), ["anna@server1.com true"]);
        assert!(held.succeeded(&[]).is_empty() && held.plan().local.is_empty());
    }

    /// Those to whom a mailbox sends on have it at once: the queue must not send it to them again.
    #[test]
    fn a_full_maildrop_comes_back_alone() {
        let configuration = configuration(Vec::new());
        let mut distribution = of(&["both@server1.com"]);
        assert_eq!(distribution.forwards().len(), 1);
        distribution.defer(|maildrop| maildrop.address == address("both@server1.com"));
        let [waiting] = &distribution.remote()[..] else { panic!("{distribution:?}") };
        assert_eq!((&waiting.address, &waiting.route), (&address("both@server1.com"), &Some(Route::Maildrop)));
        let again = Distribution::of_maildrop(&configuration, &recipient("both@server1.com", EVERYTHING)).unwrap();
        assert!(again.forwards().is_empty() && again.plan().is_one_maildrop());
        assert_eq!(again.plan().local[0].address, address("both@server1.com"));
        assert_eq!(Distribution::of_maildrop(&configuration, &recipient("team@server1.com", EVERYTHING)), None);
    }

    #[test]
    fn who_loses_everybody_to_the_loop_guard_is_named() {
        let mut content = content(Vec::new());
        content.records.push(alias("friends@server1.com", &["jack@server2.com"]));
        let configuration = configuration_of(content);
        let to = ["anna@server1.com", "friends@server1.com"].map(|to| recipient(to, EVERYTHING));
        let mut distribution = Distribution::new(&configuration, &to);
        let cut = distribution.break_loops(&configuration, &["friends@server1.com".to_owned()]);
        assert_eq!(cut.iter().map(|cut| cut.address.to_string()).collect::<Vec<_>>(), ["friends@server1.com"]);
        assert!(!distribution.is_empty());
        let succeeded = distribution.succeeded(&[]);
        assert_eq!(succeeded.iter().map(|(to, _)| to.address.to_string()).collect::<Vec<_>>(), ["anna@server1.com"]);
    }

    #[test]
    fn a_message_that_comes_back_is_not_sent_on_again() {
        let configuration = configuration(Vec::new());
        let mut distribution = of(&["away@server1.com"]);
        distribution.break_loops(&configuration, &["away@server1.com".to_owned()]);
        assert!(distribution.forwards().is_empty());
        assert_eq!(distribution.plan().local[0].address, address("away@server1.com"), "it is kept");
        let mut distribution = of(&["away-alias@server1.com"]);
        distribution.break_loops(&configuration, &["somebody@server1.com".to_owned()]);
        assert_eq!(distribution.forwards().len(), 1);
    }
}

//! For how many addresses an alias stands, over all aliases and forwardings behind it: the server refuses mail for one that
//! stands for too many (550 5.2.4), so that it is said here first.
//!
//! Nobody counts further than to the server's bound. A change is passed on to the aliases that name what has changed only
//! where its number has changed, and to so many of them in one call: a web that is larger is told as it was until something
//! of it changes.

use std::collections::{HashSet, VecDeque};

use paquebot_config::Address;
use paquebot_crds::conditions::Reason;
use paquebot_crds::references::Target;

use super::Directory;
use super::senders::watched_addresses;
use super::state::{AliasSource, RecordSource, Task, Work};
use super::verdict::Refusal;

/// As `MAX_EXPANSION` of the server's delivery: addresses visited and still to be visited.
const MOST_ADDRESSES: usize = 1_000;
/// Aliases that are counted again because of others, in one call.
const MOST_RECOUNTS: usize = 64;

impl Directory {
    /// Refuses an alias that stands for too many; those who name it are told when its number has changed.
    pub(super) fn check_expansion(
        &mut self,
        source: &AliasSource,
        address: &Address,
        work: &mut Work,
    ) -> Option<Refusal> {
        let count = self.count_expansion(source);
        let before = self.expansions.insert(source.clone(), count);
        if before != Some(count) {
            self.recount_namers(address, work);
        }
        (count > MOST_ADDRESSES).then(|| {
            let message = format!(
                "{address} stands for more than {MOST_ADDRESSES} addresses, over all aliases and forwardings behind it, and the \
                 server refuses its mail: name fewer in spec.targets, or use a list manager, which answers for its bounces."
            );
            Refusal::new(Reason::LimitExceeded, message)
        })
    }

    fn recount_namers(&self, address: &Address, work: &mut Work) {
        let left = MOST_RECOUNTS.saturating_sub(work.recounts);
        let namers = self.links.address_namers.of(&address.canonical());
        let tasks: Vec<Task> = namers.take(left).cloned().map(Task::Alias).collect();
        work.recounts += tasks.len();
        work.add_all(tasks);
    }

    /// Counts as the server does when it expands a recipient, and stops behind its bound.
    fn count_expansion(&self, source: &AliasSource) -> usize {
        let mut waiting = VecDeque::from([Some(RecordSource::Alias(source.clone()))]);
        let (mut seen, mut visits) = (HashSet::new(), 0);
        while let Some(next) = waiting.pop_front() {
            visits += 1;
            if visits + waiting.len() > MOST_ADDRESSES {
                return MOST_ADDRESSES + 1;
            }
            if let Some(next) = next
                && seen.insert(next.clone())
            {
                waiting.extend(self.stands_for(&next));
            }
        }
        visits
    }

    /// Whom one alias or mailbox stands for; `None` for an address that leads no further.
    fn stands_for(&self, source: &RecordSource) -> Vec<Option<RecordSource>> {
        let taker = |address: &Address| self.takers(address).into_iter().next();
        match source {
            RecordSource::Alias(alias) => self.resolve_targets(alias).addresses.iter().map(taker).collect(),
            RecordSource::Mailbox(mailbox) => {
                let spec = self.mailboxes.get(mailbox).map(|node| &node.entry.spec).filter(|spec| !spec.suspended);
                let to =
                    spec.and_then(|spec| spec.forwarding.as_ref()).into_iter().flat_map(|forwarding| &forwarding.to);
                let onward =
                    to.filter_map(|address| Address::parse(address.as_str()).ok()).map(|address| taker(&address));
                onward.filter(|next| next.as_ref() != Some(source)).collect()
            }
        }
    }

    /// Notes which addresses an alias names, and of which they may be subaddresses.
    pub(super) fn link_targets(&mut self, source: &AliasSource, present: bool) {
        let (_, targets) = self.targets_of(source);
        let addresses = targets.iter().filter_map(|target| match target.target()? {
            Target::Address(address) => Address::parse(address.as_str()).ok(),
            Target::Mailbox(_) => None,
        });
        let named: Vec<String> = addresses.flat_map(|address| watched_addresses(&address)).collect();
        for address in named {
            self.links.address_namers.set(&address, source.clone(), present);
        }
    }
}

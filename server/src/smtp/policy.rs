//! What the session answers at MAIL and RCPT: relay decision, directory and limits together, as replies. Pure: asks
//! [`crate::relay`] and [`crate::delivery`]; how full a maildrop is comes as an argument.

use std::net::IpAddr;

use jiff::Timestamp;
use paquebot_config::{Address, Configuration, Domain, LocalPart};

use super::command::Mail;
use super::path::ForwardPath;
use super::reply::Reply;
use crate::delivery::srs::{self, SrsError};
use crate::delivery::{self, Plan, Undeliverable};
use crate::queue::routing::address::is_permitted;
use crate::rate::Exhausted;
use crate::relay::{self, Client, Decision, Grant, Refusal};
use crate::store::{StoreError, Usage};

/// A recipient that may be accepted, if its maildrops have room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The recipient, with its domain where the client left it out.
    pub recipient: Address,
    /// Who receives what is sent to it.
    pub plan: Plan,
    /// Octets of the largest message for its domain, where that is less than the server's.
    pub max_message_size: Option<u64>,
    /// The relay rule that admitted it, for logs.
    pub rule: Option<String>,
}

/// Whether a message may begin: what MAIL said, with the priority that the client may have. Strangers may lower the
/// priority of their mail, not raise it (RFC 6710 §4.1).
///
/// # Errors
/// The reply that refuses it.
pub fn sender(configuration: &Configuration, client: Client<'_>, mail: &Mail) -> Result<Mail, Reply> {
    if mail.size.is_some_and(|size| size > configuration.server.limits.max_message_size) {
        return Err(too_large(configuration.server.limits.max_message_size));
    }
    if !relay::may_use_sender(configuration, client, mail.reverse_path.as_ref()) {
        return Err(sender_not_owned());
    }
    let trusted = relay::is_admitted(configuration, client, mail.reverse_path.as_ref());
    let priority = mail.priority.map(|priority| if trusted { priority } else { priority.min(0) });
    Ok(Mail { priority, ..mail.clone() })
}

/// Whether a recipient may be accepted.
///
/// # Errors
/// The reply that refuses it.
pub fn recipient(
    configuration: &Configuration,
    client: Client<'_>,
    mail: &Mail,
    path: &ForwardPath,
) -> Result<Admission, Reply> {
    let recipient = match path {
        ForwardPath::Mailbox(address) => address.clone(),
        ForwardPath::Postmaster => postmaster(configuration).ok_or_else(no_postmaster)?,
    };
    if is_never_reached(configuration, recipient.domain()) {
        return Err(Reply::new(550, 1, 2, "mail is not sent to that address"));
    }
    let recipient = match returning(configuration, mail, &recipient)? {
        Some(sender) => return admitted_report(configuration, sender),
        None => recipient,
    };
    let rule = match relay::decide(configuration, client, mail.reverse_path.as_ref(), &recipient) {
        Decision::Local | Decision::Relay(Grant::OwnSender) => None,
        Decision::Relay(Grant::Rule(name)) => Some(name.to_owned()),
        Decision::Refuse(Refusal::DomainNotServed) => return Err(domain_not_served()),
        Decision::Refuse(Refusal::SenderNotOwned) => return Err(sender_not_owned()),
    };
    if !recipient.is_ascii() && !mail.smtputf8 {
        return Err(Reply::new(553, 6, 7, "an address with non-ASCII characters needs SMTPUTF8"));
    }
    let max_message_size = configuration.domain(recipient.domain()).and_then(|domain| domain.max_message_size);
    if let (Some(size), Some(max)) = (mail.size, max_message_size)
        && size > max
    {
        return Err(too_large(max));
    }
    let plan = delivery::expand(configuration, &recipient).map_err(undeliverable)?;
    Ok(Admission { recipient, plan, max_message_size, rule })
}

/// Whether an address literal names this machine, its link, or no one machine: whoever may send would reach with it what
/// only we should reach. The queue judges the same way, so that nothing is taken that it would have to return.
fn is_never_reached(configuration: &Configuration, domain: &Domain) -> bool {
    let Some(inside) = domain.as_str().strip_prefix('[').and_then(|text| text.strip_suffix(']')) else { return false };
    let Ok(address) = inside.strip_prefix("ipv6:").unwrap_or(inside).parse::<IpAddr>() else { return true };
    !is_permitted(address, &configuration.server.outbound.allowed_networks)
}

/// The sender to whom a report goes back that came for one of our rewritten addresses (see [`srs`]). `None`: the address
/// is not one of those. Only reports come back this way, so only the null reverse-path opens it.
fn returning(configuration: &Configuration, mail: &Mail, recipient: &Address) -> Result<Option<Address>, Reply> {
    let keys = &configuration.secrets.srs_keys;
    let is_here = configuration.domain(recipient.domain()).is_some_and(|domain| !domain.suspended);
    if keys.is_empty() || !is_here || !srs::is_rewritten(recipient.local_part()) {
        return Ok(None);
    }
    if mail.reverse_path.is_some() {
        return Err(Reply::new(550, 1, 1, "that address takes reports of delivery only"));
    }
    srs::restore(keys, recipient.local_part(), Timestamp::now()).map(Some).map_err(|error| match error {
        SrsError::NotOurs => Reply::new(550, 1, 1, "no such mailbox here"),
        SrsError::Expired => Reply::new(550, 1, 1, "that return address has expired"),
    })
}

fn admitted_report(configuration: &Configuration, sender: Address) -> Result<Admission, Reply> {
    if is_never_reached(configuration, sender.domain()) {
        return Err(Reply::new(550, 1, 2, "mail is not sent to that address"));
    }
    let plan = delivery::expand(configuration, &sender).map_err(undeliverable)?;
    Ok(Admission { recipient: sender, plan, max_message_size: None, rule: None })
}

/// Whether a maildrop has room for a message whose size may be known.
///
/// # Errors
/// The reply that refuses the recipient: for good when it could never hold the message, for now otherwise.
pub fn quota(quota: u64, usage: Usage, size: Option<u64>) -> Result<(), Reply> {
    let size = size.unwrap_or(0);
    if size > quota {
        return Err(larger_than_quota());
    }
    // An empty message takes room too: a maildrop at its quota is full.
    if usage.octets.saturating_add(size.max(1)) > quota {
        return Err(mailbox_full());
    }
    Ok(())
}

/// Who `<postmaster>` without a domain is (RFC 5321 §4.5.1): the postmaster of the server's own domain, that of a parent of
/// it, or the first that a served domain has. Domains of the server's own tenant go before those of others, who could
/// otherwise have mail that is for the server's owner. `None`: no served domain has one.
#[must_use]
pub fn postmaster(configuration: &Configuration) -> Option<Address> {
    let local_part = LocalPart::parse("postmaster").ok()?;
    let hostname = configuration.server.hostname.as_str();
    let own = hostname.match_indices('.').map(|(dot, _)| &hostname[dot + 1..]);
    let own = std::iter::once(hostname).chain(own).filter_map(|name| Domain::parse(name).ok());
    let mut served: Vec<Domain> = configuration.domains().map(|domain| domain.domain.clone()).collect();
    served.sort();
    let tenant = configuration.server.tenant.as_str();
    let is_guest = |domain: &Domain| configuration.domain(domain).is_none_or(|found| found.tenant != tenant);
    let mut candidates: Vec<Domain> = own.chain(served).collect();
    if !tenant.is_empty() {
        // The sort keeps the order among those of the server's tenant, and among the others.
        candidates.sort_by_key(is_guest);
    }
    let addresses = candidates.into_iter().map(|domain| Address::new(local_part.clone(), domain));
    addresses
        .filter(|address| configuration.domain(address.domain()).is_some())
        .find(|address| delivery::expand(configuration, address).is_ok())
}

fn undeliverable(reason: Undeliverable) -> Reply {
    match reason {
        Undeliverable::Unknown => Reply::new(550, 1, 1, "no such mailbox here"),
        Undeliverable::Suspended => Reply::new(450, 2, 1, "that mailbox takes no mail at present; try again later"),
        Undeliverable::Loop => Reply::new(554, 4, 6, "that address leads back to itself and to no mailbox"),
        Undeliverable::TooMany => Reply::new(550, 2, 4, "that address stands for too many others"),
    }
}

fn domain_not_served() -> Reply {
    Reply::new(553, 7, 1, "sorry, that domain is not in my list of allowed recipient domains")
}

fn sender_not_owned() -> Reply {
    Reply::new(553, 7, 1, "you may not send with that sender address; use your own")
}

/// The reply to one message or recipient too many. 452 lets a client send the rest later.
#[must_use]
pub fn rate_limited(exhausted: &Exhausted) -> Reply {
    Reply::new(452, 7, 1, exhausted.to_string())
}

fn no_postmaster() -> Reply {
    Reply::new(550, 1, 1, "no domain here has a postmaster; name one with its domain")
}

fn mailbox_full() -> Reply {
    Reply::new(452, 2, 2, "that mailbox is full; try again later")
}

/// The reply to a message that its only maildrop could never hold.
#[must_use]
pub fn larger_than_quota() -> Reply {
    Reply::new(552, 2, 2, "the message is larger than that mailbox may hold")
}

/// The reply to a message that is larger than it may be.
#[must_use]
pub fn too_large(max: u64) -> Reply {
    Reply::new(552, 3, 4, format!("the message is larger than the {max} octets that are allowed"))
}

/// The reply while there is no room on the volume.
#[must_use]
pub fn disk_full() -> Reply {
    Reply::new(452, 3, 1, "no room on the mail system's disk; try again later")
}

/// What the client is told when the store refuses a message.
#[must_use]
pub fn store_failure(error: &StoreError) -> Reply {
    match error {
        StoreError::DiskFull => disk_full(),
        StoreError::OverQuota(_) => mailbox_full(),
        _ => Reply::new(451, 3, 0, "the mail system has a problem; try again later"),
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;

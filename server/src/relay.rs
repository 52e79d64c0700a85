//! May this client send to this recipient? Pure; asked by the SMTP session at MAIL and RCPT through
//! [`crate::smtp::policy`].
//!
//! Deny by default: a recipient elsewhere needs an authenticated sender that may use its reverse-path, or a relay rule
//! that admits the client, the sender and the recipient. No rules admit nobody.

use std::net::IpAddr;

use paquebot_config::{
    Address, Configuration, Domain, MailboxRecord, RecipientScope, RelayRule, RelaySource, Resolution, SenderScope,
};

use crate::delivery;

/// Who wants to send.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Its address, as the connection shows it.
    pub address: IpAddr,
    /// The mailbox as which it has authenticated.
    pub mailbox: Option<&'a MailboxRecord>,
    /// The DNS names of its verified certificate.
    pub certified: &'a [Domain],
}

/// What may happen with a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// Its domain is served here: the directory says whether it exists.
    Local,
    /// It may be sent on.
    Relay(Grant<'a>),
    /// It may not.
    Refuse(Refusal),
}

/// Why a recipient elsewhere is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant<'a> {
    /// An authenticated client with a reverse-path that it may use.
    OwnSender,
    /// The relay rule of this name.
    Rule(&'a str),
}

/// Why a recipient or a sender is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The recipient's domain is not served, and nothing admits the client.
    DomainNotServed,
    /// The authenticated client may not use this reverse-path.
    SenderNotOwned,
}

/// Decides about one recipient.
#[must_use]
pub fn decide<'a>(
    configuration: &'a Configuration,
    client: Client<'_>,
    sender: Option<&Address>,
    recipient: &Address,
) -> Decision<'a> {
    let grant = grant(configuration, client, sender, recipient.domain());
    let served = configuration.domain(recipient.domain()).is_some();
    match (served, grant) {
        (true, _) if client.mailbox.is_none() => Decision::Local,
        (true, Some(_)) => Decision::Local,
        (false, Some(grant)) => Decision::Relay(grant),
        (_, None) if client.mailbox.is_some() => Decision::Refuse(Refusal::SenderNotOwned),
        (_, None) => Decision::Refuse(Refusal::DomainNotServed),
    }
}

/// Whether an authenticated client may use a reverse-path at all, for whatever recipient; asked at MAIL.
#[must_use]
pub fn may_use_sender(configuration: &Configuration, client: Client<'_>, sender: Option<&Address>) -> bool {
    let Some(mailbox) = client.mailbox else { return true };
    owns(configuration, mailbox, sender)
        || configuration.relay.iter().any(|rule| admits(configuration, rule, client, sender))
}

/// Whether a client is one of ours: it has authenticated, or a relay rule admits it with this sender.
#[must_use]
pub fn is_admitted(configuration: &Configuration, client: Client<'_>, sender: Option<&Address>) -> bool {
    client.mailbox.is_some() || configuration.relay.iter().any(|rule| admits(configuration, rule, client, sender))
}

fn grant<'a>(
    configuration: &'a Configuration,
    client: Client<'_>,
    sender: Option<&Address>,
    recipient: &Domain,
) -> Option<Grant<'a>> {
    if client.mailbox.is_some_and(|mailbox| owns(configuration, mailbox, sender)) {
        return Some(Grant::OwnSender);
    }
    let reaches = |rule: &&RelayRule| match &rule.recipients {
        RecipientScope::Any => true,
        RecipientScope::Domains(domains) => domains.contains(recipient),
    };
    let admitting = configuration.relay.iter().filter(reaches).find(|rule| admits(configuration, rule, client, sender));
    admitting.map(|rule| Grant::Rule(&rule.name))
}

/// Whether a rule admits this client with this sender.
fn admits(configuration: &Configuration, rule: &RelayRule, client: Client<'_>, sender: Option<&Address>) -> bool {
    // A domain that is served here is somebody's, who has a say in who sends as it.
    let served = sender.and_then(|sender| configuration.domain(sender.domain()));
    if !served.is_none_or(|domain| domain.lends_its_name(rule)) {
        return false;
    }
    // A tenant's rule lends its people only what is lent to it: for domains that nobody serves here the platform speaks.
    let is_lent = || !rule.confined || served.is_some();
    let by_network = |networks: &[ipnet::IpNet]| {
        // A client of a dual-stack socket shows as ::ffff:192.0.2.1; the rule says 192.0.2.0/24.
        let address = client.address.to_canonical();
        networks.iter().any(|network| network.contains(&address))
    };
    let may_send = || rule.senders.as_ref().is_none_or(|scope| covers(scope, sender));
    rule.from.iter().any(|source| match source {
        RelaySource::Networks(networks) => by_network(networks) && may_send(),
        RelaySource::ClientCertificates(names) => names_one(names, client.certified) && may_send(),
        // A person may borrow only a name that the rule spells out: a rule without senders adds nothing to what the
        // owner of a mailbox may do.
        RelaySource::Mailboxes(domain) => {
            client.mailbox.is_some_and(|mailbox| mailbox.address.domain() == domain)
                && is_lent()
                && rule.senders.as_ref().is_some_and(|scope| covers(scope, sender))
        }
    })
}

/// Whether some rule names a certificate with one of these names: such a client needs no login.
#[must_use]
pub fn knows_certificate(configuration: &Configuration, certified: &[Domain]) -> bool {
    let sources = configuration.relay.iter().flat_map(|rule| &rule.from);
    sources.into_iter().any(|source| match source {
        RelaySource::ClientCertificates(names) => names_one(names, certified),
        _ => false,
    })
}

/// Whether some rule names a certificate: else it is of no use to ask clients for theirs.
#[must_use]
pub fn names_certificates(configuration: &Configuration) -> bool {
    let mut sources = configuration.relay.iter().flat_map(|rule| &rule.from);
    sources.any(|source| matches!(source, RelaySource::ClientCertificates(_)))
}

fn names_one(names: &[Domain], certified: &[Domain]) -> bool {
    certified.iter().any(|name| names.contains(name))
}

/// Whether a scope names the sender. The null reverse-path is nobody's, so no scope names it.
fn covers(scope: &SenderScope, sender: Option<&Address>) -> bool {
    sender.is_some_and(|sender| {
        scope.domains.contains(sender.domain())
            || scope.addresses.iter().any(|address| address.canonical() == sender.canonical())
    })
}

/// Whether the owner of a mailbox may use a reverse-path: its address or a subaddress of it, an alias that delivers to
/// it, what `send_as` names, and the null reverse-path, which message disposition notifications need (RFC 8098 §3).
#[must_use]
pub fn owns(configuration: &Configuration, mailbox: &MailboxRecord, sender: Option<&Address>) -> bool {
    let Some(sender) = sender else { return true };
    let canonical = sender.canonical();
    canonical == mailbox.address.canonical()
        || (is_subaddress(configuration, &mailbox.address, sender)
            && matches!(configuration.resolve(sender), Resolution::Mailbox(found) if found.address == mailbox.address))
        || matches!(configuration.resolve(sender), Resolution::Alias(alias)
            if delivery::alias_reaches(configuration, alias, &mailbox.address))
        || mailbox.send_as.iter().any(|name| name.covers(sender))
}

/// Whether an address leads to a mailbox by its subaddress. One that is a mailbox or an alias of its own does not: it is
/// somebody else's, whatever it begins with.
fn is_subaddress(configuration: &Configuration, base: &Address, address: &Address) -> bool {
    let separator = configuration.domain(base.domain()).and_then(|domain| domain.subaddress_separator);
    let local_part = address.local_part().canonical();
    base.domain() == address.domain()
        && separator
            .and_then(|separator| local_part.split_once(separator))
            .is_some_and(|(name, _detail)| name == base.local_part().canonical())
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;

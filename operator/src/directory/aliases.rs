//! The targets, the verdict and the record of a MailAlias or a role. Whether one leads back to itself says
//! [`super::rings`].

use paquebot_config::{Address, AliasRecord, Domain, LocalPart, Record};
use paquebot_crds::conditions::Reason;
use paquebot_crds::references::Target;
use paquebot_crds::{DeliveryTarget, Kind, unsupported};

use super::Directory;
use super::key::{NamespacedName, ObjectKey};
use super::record_budget::{self, Line};
use super::state::{AliasSource, Holder, RecordSource, Task, Work};
use super::verdict::{Refusal, Verdict, domain_suspended};

/// What the targets of an alias lead to.
pub(super) struct Resolved {
    pub(super) addresses: Vec<Address>,
    pub(super) missing: Vec<NamespacedName>,
}

impl Resolved {
    /// What to say about targets that lead nowhere.
    pub(super) fn remark(&self, address: &str) -> Option<String> {
        if self.missing.is_empty() {
            return None;
        }
        let missing = self.missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let who = if self.addresses.is_empty() { "nobody receives it" } else { "the other targets receive it" };
        Some(format!(
            "Mail for {address} does not reach Mailbox {missing}, which does not exist, is not accepted, or is not yours to \
             name; {who}."
        ))
    }
}

impl Directory {
    pub(super) fn settle_alias(&mut self, source: &AliasSource, work: &mut Work) {
        match source {
            AliasSource::Alias(name) => self.settle_alias_object(name, work),
            AliasSource::Role(name, role) => {
                let place = RecordSource::Alias(AliasSource::Role(name.clone(), *role));
                let record = self.role_record(source);
                let weight = record.as_ref().map(record_budget::of_record);
                let fits = self.weigh_line(Line::of_record(&place), weight, work);
                let fits = fits.and_then(|()| self.check_line_of_domain(&place));
                let record = record.filter(|_| fits.is_ok());
                self.publish_record(place, record, work);
                work.add(Task::Domain(name.clone()));
            }
        }
    }

    fn settle_alias_object(&mut self, name: &NamespacedName, work: &mut Work) {
        let source = AliasSource::Alias(name.clone());
        let Some(node) = self.aliases.get(name) else {
            self.expansions.remove(&source);
            return self.withdraw_record(RecordSource::Alias(source), work);
        };
        let address = node.member.address.clone();
        let mut accepted = match &node.member.standing {
            Err(refusal) => (Verdict::Refused(refusal.clone()), None),
            Ok(()) => self.accept_alias(name),
        };
        if let Some(refusal) = address.and_then(|address| self.check_expansion(&source, &address, work))
            && accepted.0.is_accepted()
        {
            accepted = (Verdict::Refused(refusal), None);
        }
        let (verdict, record) = self.fit_record(&RecordSource::Alias(source.clone()), accepted, work);
        let Some(node) = self.aliases.get(name) else { return };
        let domain = node.member.claim().filter(|_| record.is_some()).map(|claim| claim.domain.clone());
        let mut counted_in = node.member.counted_in.clone();
        self.count(&mut counted_in, domain.as_ref(), Kind::MailAlias, work);
        self.publish_record(RecordSource::Alias(source), record, work);
        let Some(node) = self.aliases.get_mut(name) else { return };
        node.member.counted_in = counted_in;
        if node.member.verdict != verdict {
            node.member.verdict = verdict;
            work.changes.statuses.insert(ObjectKey::new(Kind::MailAlias, name.clone()));
        }
    }

    fn accept_alias(&self, name: &NamespacedName) -> (Verdict, Option<(NamespacedName, Record)>) {
        let source = AliasSource::Alias(name.clone());
        let parts = self.aliases.get(name).and_then(|node| {
            let domain = &node.member.claim()?.domain;
            let domain_spec = &self.domains.get(domain)?.entry.spec;
            let server = self.server_meant(domain_spec.server_ref.as_ref(), &domain.namespace)?;
            let suspended = domain_spec.suspended.then(|| domain_suspended(domain));
            Some((node, server, node.member.address.clone()?, suspended))
        });
        let Some((node, server, address, suspended)) = parts else {
            return (Verdict::Refused(super::state::pending()), None);
        };
        let refuse = |reason, message: String| (Verdict::Refused(Refusal::new(reason, message)), None);
        if self.is_on_a_loop(&source) {
            let message =
                format!("{address} leads back to itself; take the target that closes the loop out of spec.targets.");
            return refuse(Reason::AliasLoop, message);
        }
        let resolved = self.resolve_targets(&source);
        let remark = resolved.remark(&address.to_string());
        if resolved.addresses.is_empty() {
            let message =
                remark.unwrap_or_else(|| "spec.targets names nobody; name a mailbox or an address.".to_owned());
            return refuse(Reason::InvalidSpec, message);
        }
        let is_suspended = suspended.is_some();
        let remarks =
            suspended.into_iter().chain(remark).chain(unsupported::remark(&unsupported::mail_alias(&node.entry.spec)));
        let verdict =
            Verdict::accepted(format!("MailServer {server} hands on the mail of {address}."), remarks.collect())
                .suspended(is_suspended);
        let record = Record::Alias(AliasRecord { address, targets: resolved.addresses });
        (verdict, Some((server, record)))
    }

    fn role_record(&self, source: &AliasSource) -> Option<(NamespacedName, Record)> {
        let AliasSource::Role(name, role) = source else { return None };
        if !self.is_active(source) || self.is_on_a_loop(source) {
            return None;
        }
        let spec = &self.domains.get(name)?.entry.spec;
        let server = self.server_meant(spec.server_ref.as_ref(), &name.namespace)?;
        let local_part = LocalPart::parse(role.local_part()).ok()?;
        let address = Address::new(local_part, Domain::parse(spec.domain.as_str()).ok()?);
        let targets = self.resolve_targets(source).addresses;
        (!targets.is_empty()).then_some((server, Record::Alias(AliasRecord { address, targets })))
    }

    /// Where the targets lead: the addresses of accepted mailboxes, and addresses as they are written.
    pub(super) fn resolve_targets(&self, source: &AliasSource) -> Resolved {
        let (home, targets) = self.targets_of(source);
        let mut resolved = Resolved { addresses: Vec::new(), missing: Vec::new() };
        for target in targets {
            match target.target() {
                Some(Target::Mailbox(reference)) => {
                    let name = NamespacedName::of_reference(reference, home);
                    let node = self.mailboxes.get(&name).filter(|node| node.member.standing.is_ok());
                    let node = node.filter(|_| self.may_name(home, &name));
                    match node.and_then(|node| node.member.address.clone()) {
                        Some(address) => resolved.addresses.push(address),
                        None => resolved.missing.push(name),
                    }
                }
                Some(Target::Address(address)) => resolved.addresses.extend(Address::parse(address.as_str())),
                None => {}
            }
        }
        resolved.addresses.sort();
        resolved.addresses.dedup();
        resolved
    }

    /// Whether an object of the namespace `home` may name a Mailbox: one of its own namespace, or of a MailDomain of its own
    /// namespace. Others are named by their address, which says nothing of objects.
    pub(super) fn may_name(&self, home: &str, mailbox: &NamespacedName) -> bool {
        let claim = || self.mailboxes.get(mailbox).and_then(|node| node.member.claim());
        mailbox.namespace == home || claim().is_some_and(|claim| claim.domain.namespace == home)
    }

    pub(super) fn targets_of<'a>(&'a self, source: &'a AliasSource) -> (&'a str, &'a [DeliveryTarget]) {
        match source {
            AliasSource::Alias(name) => {
                (&name.namespace, self.aliases.get(name).map_or(&[], |node| node.entry.spec.targets.as_slice()))
            }
            AliasSource::Role(name, role) => {
                (&name.namespace, self.domains.get(name).map_or(&[], |node| role.targets(&node.entry.spec)))
            }
        }
    }

    /// Whether the alias has its address.
    fn is_active(&self, source: &AliasSource) -> bool {
        match source {
            AliasSource::Alias(name) => self.aliases.get(name).is_some_and(|node| node.member.standing.is_ok()),
            AliasSource::Role(name, role) => self.domains.get(name).is_some_and(|node| {
                let address = format!("{}@{}", role.local_part(), node.entry.spec.domain);
                matches!(self.holders.get(address.as_str()), Some(Holder::Role(domain, held)) if domain == name && held == role)
            }),
        }
    }
}

//! The verdict and the record of a Mailbox, and where records are kept.

use std::collections::BTreeMap;

use paquebot_config::{Address, AppPassword, Forwarding, MailboxRecord, Protocols, Record, Scope, ShardName, Verifier};
use paquebot_crds::conditions::Reason;
use paquebot_crds::mailbox::AppPasswordScope;
use paquebot_crds::{EmailAddress, Kind, MailDomainSpec, MailboxSpec, unsupported};

use super::Directory;
use super::addresses::not_accepted_itself;
use super::filters::Filter;
use super::input::{CredentialFailure, SecretVersion};
use super::key::{NamespacedName, ObjectKey};
use super::record_budget::{self, Line};
use super::state::{AliasSource, Credentials, RecordSource, Role, Task, Work};
use super::verdict::{CredentialsReport, Refusal, Verdict, domain_suspended};

impl Directory {
    pub(super) fn settle_mailbox(&mut self, name: &NamespacedName, work: &mut Work) {
        let source = RecordSource::Mailbox(name.clone());
        let Some(node) = self.mailboxes.get(name) else { return self.withdraw_record(source, work) };
        let accepted = match &node.member.standing {
            Err(refusal) => (Verdict::Refused(refusal.clone()), None),
            Ok(()) => self.accept_mailbox(name),
        };
        let (verdict, record) = self.fit_record(&source, accepted, work);
        let Some(node) = self.mailboxes.get(name) else { return };
        let domain = node.member.claim().filter(|_| record.is_some()).map(|claim| claim.domain.clone());
        let mut counted_in = node.member.counted_in.clone();
        self.count(&mut counted_in, domain.as_ref(), Kind::Mailbox, work);
        self.publish_record(source, record, work);
        let Some(node) = self.mailboxes.get_mut(name) else { return };
        node.member.counted_in = counted_in;
        if node.member.verdict != verdict {
            node.member.verdict = verdict;
            work.changes.statuses.insert(ObjectKey::new(Kind::Mailbox, name.clone()));
        }
    }

    fn accept_mailbox(&self, name: &NamespacedName) -> (Verdict, Option<(NamespacedName, Record)>) {
        let parts = self.mailboxes.get(name).and_then(|node| {
            let domain = node.member.claim()?.domain.clone();
            let domain_spec = &self.domains.get(&domain)?.entry.spec;
            let server = self.server_meant(domain_spec.server_ref.as_ref(), &domain.namespace)?;
            Some((node, domain, domain_spec, server, node.member.address.clone()?))
        });
        let Some((node, domain, domain_spec, server, address)) = parts else {
            return (Verdict::Refused(super::state::pending()), None);
        };
        let spec = &node.entry.spec;
        let mut remarks = Vec::new();
        let send_as = self.send_as(name, &server, spec, &mut remarks);
        if domain_spec.suspended {
            remarks.push(domain_suspended(&domain));
        }
        if spec.suspended {
            remarks.push("It is suspended: its mail is refused for now, and nobody logs in.".to_owned());
        }
        remarks.extend(unsupported::remark(&unsupported::mailbox(spec)));
        let record = MailboxRecord {
            address: address.clone(),
            tenant: domain.namespace.clone(),
            verifiers: node.credentials.verifiers.clone(),
            app_passwords: app_passwords(spec, &node.credentials.app_passwords),
            protocols: Protocols {
                pop3: spec.protocols.pop3.is_enabled(),
                submission: spec.protocols.submission.is_enabled(),
            },
            quota: Some(quota(spec, domain_spec)),
            forwarding: forwarding(spec, &mut remarks),
            send_as,
            suspended: spec.suspended,
            filter: node.filter.script(),
            rate_limit: super::policies::rate_limit(spec.rate_limit.as_ref()),
            retention_seconds: spec.retention.as_ref().map(|retention| retention.max_age.whole_seconds()),
        };
        // Its owner still reads the mail that is there, so that it stays in force.
        let verdict = if self.comes_back(name) {
            let message = format!(
                "Mail for {address} is refused, because spec.forwarding leads back to it and no copy is kept: take the address \
                 that closes the ring out, or set keepCopy."
            );
            Verdict::Refused(Refusal::new(Reason::AliasLoop, message))
        } else {
            let suspended = spec.suspended || domain_spec.suspended;
            Verdict::accepted(format!("MailServer {server} keeps its mail."), remarks).suspended(suspended)
        };
        (verdict, Some((server, Record::Mailbox(record))))
    }

    /// Refuses what its file has no room for, and what belongs to a MailDomain whose line has none. It takes its room all the
    /// same, or whether the MailDomain fits would depend on whether it does.
    pub(super) fn fit_record(
        &mut self,
        source: &RecordSource,
        (verdict, record): (Verdict, Option<(NamespacedName, Record)>),
        work: &mut Work,
    ) -> (Verdict, Option<(NamespacedName, Record)>) {
        let weight = record.as_ref().map(record_budget::of_record);
        let fits = self.weigh_line(Line::of_record(source), weight, work);
        match fits.and_then(|()| if record.is_some() { self.check_line_of_domain(source) } else { Ok(()) }) {
            Ok(()) => (verdict, record),
            Err(refusal) => (Verdict::Refused(refusal), None),
        }
    }

    /// Without its MailDomain's line no other line of it is of use.
    pub(super) fn check_line_of_domain(&self, source: &RecordSource) -> Result<(), Refusal> {
        let domain = match source {
            RecordSource::Mailbox(name) => self.mailboxes.get(name).and_then(|node| node.member.claim()),
            RecordSource::Alias(AliasSource::Alias(name)) => {
                self.aliases.get(name).and_then(|node| node.member.claim())
            }
            RecordSource::Alias(AliasSource::Role(domain, _)) => return self.check_line(domain),
        };
        domain.map_or(Ok(()), |claim| self.check_line(&claim.domain))
    }

    fn check_line(&self, domain: &NamespacedName) -> Result<(), Refusal> {
        let unfit = self.domains.get(domain).is_some_and(|node| node.unfit);
        if unfit { Err(not_accepted_itself(domain)) } else { Ok(()) }
    }

    /// Takes away the record of what is gone.
    pub(super) fn withdraw_record(&mut self, source: RecordSource, work: &mut Work) {
        // What takes nothing always fits.
        let _ = self.weigh_line(Line::of_record(&source), None, work);
        self.publish_record(source, None, work);
    }

    /// Puts a record where it belongs, and notes which files differ then.
    pub(super) fn publish_record(
        &mut self,
        source: RecordSource,
        record: Option<(NamespacedName, Record)>,
        work: &mut Work,
    ) {
        let old_place = self.record_places.get(&source).cloned();
        self.note_pending(
            &source,
            old_place.as_ref().map(|(server, _)| server),
            record.as_ref().map(|(server, _)| server),
        );
        let new_place = record.as_ref().map(|(server, record)| (server.clone(), record.shard()));
        if let Some((server, shard)) = &old_place
            && old_place != new_place
        {
            self.remove_record(server, *shard, &source);
            work.changes.files(server).shards.insert(*shard);
        }
        match (record, &new_place) {
            (Some((_, record)), Some((server, shard))) => {
                let published = self.published.entry(server.clone()).or_default();
                let records = published.records.entry(*shard).or_default();
                if records.get(&source).is_none_or(|before| **before != record) {
                    work.changes.files(server).shards.insert(*shard);
                    records.insert(source.clone(), Box::new(record));
                }
                self.record_places.insert(source.clone(), (server.clone(), *shard));
            }
            _ => drop(self.record_places.remove(&source)),
        }
        if let RecordSource::Mailbox(name) = &source
            && old_place != new_place
        {
            work.add_all(self.links.mailbox_aliases.of(name).cloned().map(Task::Alias));
            work.add_all(self.links.mailbox_catch_alls.of(name).cloned().map(Task::Domain));
        }
        if old_place.is_some() != new_place.is_some() {
            work.add_all(self.domain_of_role_address(&source).map(Task::Domain));
        }
    }

    /// Notes whether a mailbox's record waits for its password or its filter.
    fn note_pending(&mut self, source: &RecordSource, old: Option<&NamespacedName>, new: Option<&NamespacedName>) {
        let RecordSource::Mailbox(name) = source else { return };
        if let Some(server) = old {
            self.pending.set(server, name.clone(), false);
        }
        let is_pending = self.credentials_report(name) == Some(CredentialsReport::Pending)
            || self.mailboxes.get(name).is_some_and(|node| node.filter == Filter::Pending);
        if let Some(server) = new.filter(|_| is_pending) {
            self.pending.set(server, name.clone(), true);
        }
    }

    /// The MailDomain, if the record is about its postmaster or abuse: that is part of what is said about it.
    fn domain_of_role_address(&self, source: &RecordSource) -> Option<NamespacedName> {
        let key = match source {
            RecordSource::Mailbox(name) => ObjectKey::new(Kind::Mailbox, name.clone()),
            RecordSource::Alias(AliasSource::Alias(name)) => ObjectKey::new(Kind::MailAlias, name.clone()),
            RecordSource::Alias(AliasSource::Role(domain, _)) => return Some(domain.clone()),
        };
        let claim = self.member(&key)?.claim()?;
        let (local_part, _) = claim.canonical.rsplit_once('@')?;
        Role::ALL.iter().any(|role| role.local_part() == local_part).then(|| claim.domain.clone())
    }

    fn remove_record(&mut self, server: &NamespacedName, shard: ShardName, source: &RecordSource) {
        let Some(published) = self.published.get_mut(server) else { return };
        if let Some(records) = published.records.get_mut(&shard) {
            records.remove(source);
            if records.is_empty() {
                published.records.remove(&shard);
            }
        }
        self.forget_empty_server(server);
    }

    pub(super) fn forget_empty_server(&mut self, server: &NamespacedName) {
        let empty = self.published.get(server).is_some_and(|published| {
            published.records.is_empty() && published.domains.is_empty() && published.rules.is_empty()
        });
        if empty {
            self.published.remove(server);
        }
    }
}

impl Credentials {
    /// What is known after some of the Secrets were read.
    pub(super) fn with(
        mut self,
        verifiers: Option<Vec<Verifier>>,
        app_passwords: BTreeMap<String, Verifier>,
        versions: Vec<SecretVersion>,
        failure: CredentialFailure,
    ) -> Self {
        self.known = true;
        self.verifiers = verifiers.unwrap_or(self.verifiers);
        self.app_passwords.extend(app_passwords);
        self.versions.retain(|known| versions.iter().all(|read| read.name != known.name));
        self.versions.extend(versions);
        self.versions.sort();
        self.failure = Some(failure);
        self
    }

    /// An app password that was taken away, or whose Secret is another one now, opens nothing any more, also when one of
    /// its name comes back.
    pub(super) fn forget_app_passwords(&mut self, old: &MailboxSpec, new: &MailboxSpec) {
        let listed = |spec: &MailboxSpec| -> BTreeMap<String, _> {
            let credentials = spec.credentials.iter().flat_map(|credentials| &credentials.app_passwords);
            credentials.map(|app| (app.name.clone(), app.secret_ref.clone())).collect()
        };
        let (old, new) = (listed(old), listed(new));
        self.app_passwords.retain(|name, _| new.contains_key(name) && old.get(name) == new.get(name));
    }
}

/// The app passwords that were read, as the server gets them.
fn app_passwords(spec: &MailboxSpec, known: &BTreeMap<String, Verifier>) -> Vec<AppPassword> {
    let listed = spec.credentials.iter().flat_map(|credentials| &credentials.app_passwords);
    let read = listed.filter_map(|app| {
        let scope = |scope: &AppPasswordScope| match scope {
            AppPasswordScope::Pop3 => Scope::Pop3,
            AppPasswordScope::Submission => Scope::Submission,
        };
        Some(AppPassword {
            name: app.name.clone(),
            verifier: known.get(&app.name)?.clone(),
            scopes: app.scopes.iter().map(scope).collect(),
            expires_at: app.expires_at.as_ref().map(|end| end.0.as_second()),
        })
    });
    read.collect()
}

/// A quota of nothing would have every message refused, each time with the advice to try again (452 4.2.2).
pub(super) fn no_quota(spec: &MailboxSpec, domain: &MailDomainSpec, name: &NamespacedName) -> Option<Refusal> {
    if quota(spec, domain) > 0 {
        return None;
    }
    let limits = &domain.limits;
    let field = if limits.max_quota.as_ref().is_some_and(|quota| quota.bytes() == 0) {
        format!("spec.limits.maxQuota of MailDomain {name}")
    } else if spec.quota.is_some() {
        "spec.quota".to_owned()
    } else {
        format!("spec.limits.defaultQuota of MailDomain {name}")
    };
    let message = format!("{field} is 0, so that no message would fit: write a larger size, or leave the field out.");
    Some(Refusal::new(Reason::InvalidSpec, message))
}

/// The mailbox's own quota, else the domain's default, which its limit bounds.
fn quota(spec: &MailboxSpec, domain: &MailDomainSpec) -> u64 {
    let limit = domain.limits.max_quota.as_ref().map_or(u64::MAX, paquebot_crds::Quantity::bytes);
    spec.quota.as_ref().unwrap_or(&domain.limits.default_quota).bytes().min(limit)
}

fn forwarding(spec: &MailboxSpec, remarks: &mut Vec<String>) -> Option<Forwarding> {
    let forwarding = spec.forwarding.as_ref()?;
    let (to, bad) = addresses(&forwarding.to);
    if !bad.is_empty() {
        remarks.push(format!("spec.forwarding has no effect for {}: not an address.", list(bad)));
    }
    // Without anybody to forward to the copy must stay, or mail would vanish.
    let keep_copy = forwarding.keep_copy || to.is_empty();
    Some(Forwarding { to, keep_copy })
}

/// What is an address for the server as well, and what is not.
fn addresses<'a>(texts: impl IntoIterator<Item = &'a EmailAddress>) -> (Vec<Address>, Vec<&'a EmailAddress>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for text in texts {
        match Address::parse(text.as_str()) {
            Ok(address) => good.push(address),
            Err(_) => bad.push(text),
        }
    }
    (good, bad)
}

fn list(addresses: Vec<&EmailAddress>) -> String {
    addresses.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

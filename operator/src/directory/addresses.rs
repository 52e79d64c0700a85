//! Which Mailbox or MailAlias has which address: admission, conflicts, limits.

use std::sync::Arc;

use paquebot_config::{Address, Domain, LocalPart};
use paquebot_crds::conditions::Reason;
use paquebot_crds::references::Target;
use paquebot_crds::{Kind, ObjectReference, unsupported};

use super::Directory;
use super::key::{NamespacedName, ObjectKey, Seniority};
use super::mailboxes::no_quota;
use super::senders::watched_addresses;
use super::state::{AliasSource, Claim, Holder, Member, RecordSource, Role, Seat, Task, Work, pending};
use super::tenancy::{admits, not_admitted, not_there};
use super::verdict::Refusal;

/// What of a Mailbox or MailAlias decides about its address.
struct Candidate<'a> {
    domain_ref: &'a ObjectReference,
    local_part: &'a str,
    rank: Seniority,
    refusal: Option<String>,
}

impl Directory {
    pub(super) fn member(&self, key: &ObjectKey) -> Option<&Member> {
        match key.kind {
            Kind::Mailbox => self.mailboxes.get(&key.name).map(|node| &node.member),
            Kind::MailAlias => self.aliases.get(&key.name).map(|node| &node.member),
            _ => None,
        }
    }

    pub(super) fn member_mut(&mut self, key: &ObjectKey) -> Option<&mut Member> {
        match key.kind {
            Kind::Mailbox => self.mailboxes.get_mut(&key.name).map(|node| &mut node.member),
            Kind::MailAlias => self.aliases.get_mut(&key.name).map(|node| &mut node.member),
            _ => None,
        }
    }

    pub(super) fn settle_address_gate(&mut self, key: &ObjectKey, work: &mut Work) {
        let (address, gate) = self.address_gate(key);
        let Some(member) = self.member_mut(key) else { return };
        let old = std::mem::replace(&mut member.gate, gate.clone()).ok();
        if member.address != address {
            let before = std::mem::replace(&mut member.address, address.clone());
            work.changes.statuses.insert(key.clone());
            self.link_details(before.as_ref(), key, false);
            self.link_details(address.as_ref(), key, true);
        }
        let new = gate.ok();
        if old != new {
            self.withdraw_address_claim(old, work);
            if let Some(claim) = new {
                self.address_claims.set(&claim.canonical, claim.rank, true);
                work.add(Task::Address(claim.canonical));
            }
        }
        work.add(Task::Standing(key.clone()));
        work.add(final_task(key));
    }

    /// Notes of which addresses an object's may be a subaddress.
    fn link_details(&mut self, address: Option<&Address>, key: &ObjectKey, present: bool) {
        for base in address.into_iter().flat_map(watched_addresses) {
            self.links.details.set(&base, key.clone(), present);
        }
    }

    /// Those whose address is, or is a subaddress of, one that another has now.
    fn add_details(&self, address: &Arc<str>, work: &mut Work) {
        let is_itself = |key: &ObjectKey| {
            let own = self.member(key).and_then(|member| member.address.as_ref());
            own.is_some_and(|own| own.canonical() == **address)
        };
        work.add_all(
            self.links
                .details
                .of(&address.to_string())
                .cloned()
                .map(|key| if is_itself(&key) { Task::Standing(key) } else { Task::AddressGate(key) }),
        );
    }

    fn withdraw_address_claim(&mut self, claim: Option<Claim>, work: &mut Work) {
        let Some(claim) = claim else { return };
        self.address_claims.set(&claim.canonical, claim.rank, false);
        work.add(Task::Address(claim.canonical));
    }

    /// Takes back what a deleted object held.
    pub(super) fn withdraw_member(&mut self, mut member: Member, key: &ObjectKey, work: &mut Work) {
        self.count(&mut member.counted_in, None, key.kind, work);
        if let Some(claim) = member.claim() {
            add_role_domain(&claim.canonical, &claim.domain, work);
        }
        self.link_details(member.address.as_ref(), key, false);
        self.withdraw_address_claim(member.gate.ok(), work);
    }

    /// Moves an object's place in the counts of MailDomains.
    pub(super) fn count(
        &mut self,
        counted_in: &mut Option<NamespacedName>,
        domain: Option<&NamespacedName>,
        kind: Kind,
        work: &mut Work,
    ) {
        if counted_in.as_ref() == domain {
            return;
        }
        if let Some(old) = counted_in.take()
            && let Some(counts) = self.counts.get_mut(&old)
        {
            let number = if kind == Kind::Mailbox { &mut counts.0 } else { &mut counts.1 };
            *number = number.saturating_sub(1);
            if *counts == (0, 0) {
                self.counts.remove(&old);
            }
            work.changes.counted.insert(old);
        }
        if let Some(new) = domain {
            let counts = self.counts.entry(new.clone()).or_default();
            let number = if kind == Kind::Mailbox { &mut counts.0 } else { &mut counts.1 };
            *number += 1;
            work.changes.counted.insert(new.clone());
            *counted_in = Some(new.clone());
        }
    }

    fn candidate(&self, key: &ObjectKey) -> Option<Candidate<'_>> {
        match key.kind {
            Kind::Mailbox => self.mailboxes.get(&key.name).map(|node| Candidate {
                domain_ref: &node.entry.spec.domain_ref,
                local_part: node.entry.spec.local_part.as_str(),
                rank: node.entry.seniority(Kind::Mailbox),
                refusal: unsupported::refusal(&unsupported::mailbox(&node.entry.spec)),
            }),
            Kind::MailAlias => self.aliases.get(&key.name).map(|node| Candidate {
                domain_ref: &node.entry.spec.domain_ref,
                local_part: node.entry.spec.local_part.as_str(),
                rank: node.entry.seniority(Kind::MailAlias),
                refusal: unsupported::refusal(&unsupported::mail_alias(&node.entry.spec)),
            }),
            _ => None,
        }
    }

    /// The address that the object would have, and whether it may claim it.
    fn address_gate(&self, key: &ObjectKey) -> (Option<Address>, Result<Claim, Refusal>) {
        let Some(candidate) = self.candidate(key) else { return (None, Err(pending())) };
        let home = &key.name.namespace;
        let domain = NamespacedName::of_reference(candidate.domain_ref, home);
        let Some(node) = self.domains.get(&domain) else {
            return (None, Err(not_there(Kind::MailDomain, &domain, key.kind, home)));
        };
        let spec = &node.entry.spec;
        if !admits(&spec.allowed_namespaces, &domain.namespace, home, self.namespaces.get(home)) {
            return (None, Err(not_admitted(Kind::MailDomain, &domain, key.kind, home)));
        }
        let parsed =
            LocalPart::parse(candidate.local_part).and_then(|local| Ok((local, Domain::parse(spec.domain.as_str())?)));
        let address = match parsed {
            Ok((local_part, domain)) => Address::new(local_part, domain),
            Err(error) => return (None, Err(Refusal::new(Reason::InvalidSpec, format!("{error}.")))),
        };
        let refusal = self.member_refusal(key, &domain, candidate.refusal);
        let claim = Claim { domain, canonical: address.canonical().into(), rank: candidate.rank };
        let refusal = refusal.or_else(|| too_long_for_a_path(&address));
        // What is refused here takes no place and keeps no address from others.
        let refusal = refusal.or_else(|| self.check_detail(key, &address, &claim).err());
        (Some(address), refusal.map_or(Ok(claim), Err))
    }

    fn member_refusal(&self, key: &ObjectKey, domain: &NamespacedName, unsupported: Option<String>) -> Option<Refusal> {
        let node = self.domains.get(domain)?;
        if node.standing.is_err() {
            return Some(not_accepted_itself(domain));
        }
        if let Some(message) = unsupported {
            return Some(Refusal::new(Reason::InvalidSpec, message));
        }
        let spec = &self.mailboxes.get(&key.name).filter(|_| key.kind == Kind::Mailbox)?.entry.spec;
        if let Some(refusal) = no_quota(spec, &node.entry.spec, domain) {
            return Some(refusal);
        }
        let quota = spec.quota.as_ref()?;
        let max_quota = node.entry.spec.limits.max_quota.as_ref()?;
        (quota.bytes() > max_quota.bytes()).then(|| {
            let message = format!(
                "spec.quota {quota} is more than the {max_quota} that MailDomain {domain} allows; lower it, or have \
                 spec.limits.maxQuota of the MailDomain raised."
            );
            Refusal::new(Reason::QuotaExceedsDomainLimit, message)
        })
    }

    pub(super) fn settle_address(&mut self, address: &Arc<str>, work: &mut Work) {
        let (old, new) = (self.holders.get(address).cloned(), self.holder(address));
        let first = self.address_claims.of(address).take(NAMED_CLAIMS + 1);
        work.add_all(first.map(|rank| Task::Standing(rank.key())));
        if old == new {
            return;
        }
        work.add_all(self.reach_of_address(address));
        work.add_all(self.links.senders_as_address.of(&address.to_string()).cloned().map(Task::Mailbox));
        self.add_details(address, work);
        for role in [&old, &new] {
            if let Some(Holder::Role(domain, role)) = role {
                let source = AliasSource::Role(domain.clone(), *role);
                work.add_all(self.reach(&RecordSource::Alias(source.clone())));
                work.add_all([Task::Alias(source), Task::Domain(domain.clone())]);
            }
        }
        if let Some(Holder::Object { rank, domain }) = old {
            let moved = self
                .seats
                .get_mut(&domain)
                .map(|seats| seats_of(seats, &rank).remove(&(rank.clone(), Arc::clone(address))));
            work.add_all(moved.into_iter().flatten().map(Task::Standing));
            work.add_all([Task::Standing(rank.key()), Task::Domain(domain.clone())]);
            self.forget_empty_seats(&domain);
        }
        if let Some(Holder::Object { rank, domain }) = &new {
            // Also one that had another address until now, whose own standing stays as it was.
            add_role_domain(address, domain, work);
            let seats = self.seats.entry(domain.clone()).or_default();
            work.add_all(
                seats_of(seats, rank).insert((rank.clone(), Arc::clone(address))).into_iter().map(Task::Standing),
            );
        }
        match new {
            Some(holder) => drop(self.holders.insert(Arc::clone(address), holder)),
            None => drop(self.holders.remove(address)),
        }
        work.add_all(self.reach_of_address(address));
    }

    /// Who has an address: a role of the MailDomain, else the oldest object that may have it.
    fn holder(&self, address: &Arc<str>) -> Option<Holder> {
        let claims = || self.address_claims.of(address);
        let (local_part, domain_name) = address.rsplit_once('@')?;
        let object = |rank: &Seniority| {
            let claim = self.member(&rank.key())?.claim()?;
            Some(Holder::Object { rank: rank.clone(), domain: claim.domain.clone() })
        };
        let domain = self.domain_holders.get(domain_name);
        let role = Role::ALL.into_iter().find(|role| role.local_part() == local_part);
        if let (Some(domain), Some(role)) = (domain, role)
            && let Some(node) = self.domains.get(domain)
        {
            let targets = role.targets(&node.entry.spec);
            let itself = claims().find(|rank| {
                let key = rank.key();
                key.kind == Kind::Mailbox
                    && targets.iter().any(|target| {
                        matches!(target.target(), Some(Target::Mailbox(reference))
                        if NamespacedName::of_reference(reference, &domain.namespace) == key.name)
                    })
            });
            match itself {
                Some(rank) => return object(rank),
                None if !targets.is_empty() => return Some(Holder::Role(domain.clone(), role)),
                None => {}
            }
        }
        claims().next().and_then(object)
    }

    pub(super) fn settle_standing(&mut self, key: &ObjectKey, work: &mut Work) {
        let standing = self.standing(key);
        let Some(member) = self.member_mut(key) else { return };
        if member.standing == standing {
            return;
        }
        let turned = member.standing.is_ok() != standing.is_ok();
        member.standing = standing;
        work.add(final_task(key));
        let claim = member.claim().cloned();
        if let Some(claim) = &claim {
            add_role_domain(&claim.canonical, &claim.domain, work);
        }
        if turned {
            work.add_all(self.reach(&match key.kind {
                Kind::Mailbox => RecordSource::Mailbox(key.name.clone()),
                _ => RecordSource::Alias(AliasSource::Alias(key.name.clone())),
            }));
            work.add_all(claim.iter().flat_map(|claim| self.reach_of_address(&claim.canonical)));
        }
    }

    fn standing(&self, key: &ObjectKey) -> Result<(), Refusal> {
        let member = self.member(key).ok_or_else(pending)?;
        let claim = member.gate.as_ref().map_err(Clone::clone)?;
        match self.holders.get(&claim.canonical) {
            Some(Holder::Object { rank, domain }) if *rank == claim.rank => {
                self.check_seat(&(rank.clone(), claim.canonical.clone()), domain)
            }
            Some(Holder::Object { .. }) if !self.claims_early(claim) => {
                Err(Refusal::new(Reason::AddressConflict, MANY_CLAIM_ADDRESS))
            }
            Some(Holder::Object { rank, .. }) => {
                Err(Refusal::new(Reason::AddressConflict, address_conflict(&claim.canonical, &rank.key(), key)))
            }
            Some(Holder::Role(domain, role)) => {
                let message = format!(
                    "{} belongs to whom spec.roles.{} of MailDomain {domain} names; have that entry removed, or name \
                     this mailbox there.",
                    claim.canonical,
                    role.local_part()
                );
                Err(Refusal::new(Reason::AddressConflict, message))
            }
            None => Err(pending()),
        }
    }

    /// A subaddress of somebody else's address is that one's, if it was there before; within one namespace, and for the
    /// namespace of the MailDomain, it may be divided.
    fn check_detail(&self, key: &ObjectKey, address: &Address, claim: &Claim) -> Result<(), Refusal> {
        let base = self.base_of(address);
        let holder = base.and_then(|base| self.holders.get(base.canonical().as_str()));
        match holder {
            Some(Holder::Object { rank, .. })
                if *rank < claim.rank
                    && rank.namespace() != key.name.namespace
                    && claim.domain.namespace != key.name.namespace =>
            {
                let message = format!(
                    "{} is a subaddress of an address that an older object of another namespace has; choose another, or ask \
                     the owner of the MailDomain.",
                    claim.canonical
                );
                Err(Refusal::new(Reason::AddressConflict, message))
            }
            _ => Ok(()),
        }
    }

    /// Whether a claim is among the oldest for its address.
    fn claims_early(&self, claim: &Claim) -> bool {
        self.address_claims.of(&claim.canonical).take(NAMED_CLAIMS).any(|rank| *rank == claim.rank)
    }

    fn check_seat(&self, seat: &Seat, domain: &NamespacedName) -> Result<(), Refusal> {
        let mailbox = seat.0.key().kind == Kind::Mailbox;
        let seated = self
            .seats
            .get(domain)
            .is_some_and(|seats| if mailbox { seats.mailboxes.is_seated(seat) } else { seats.aliases.is_seated(seat) });
        if seated {
            return Ok(());
        }
        let (plural, field) = if mailbox { ("mailboxes", "maxMailboxes") } else { ("aliases", "maxAliases") };
        let limits = self.domains.get(domain).map(|node| &node.entry.spec.limits);
        let limit = limits.and_then(|limits| if mailbox { limits.max_mailboxes } else { limits.max_aliases });
        let message = format!(
            "MailDomain {domain} allows {} {plural}, and older ones have them all; delete one, or have spec.limits.{field} \
             of the MailDomain raised.",
            limit.unwrap_or_default()
        );
        Err(Refusal::new(Reason::LimitExceeded, message))
    }
}

/// RFC 5321 §4.5.3.1.3: a path has at most 256 octets, its angle brackets among them.
fn too_long_for_a_path(address: &Address) -> Option<Refusal> {
    const LONGEST: usize = 254;
    let octets = address.to_string().len();
    (octets > LONGEST).then(|| {
        let message = format!(
            "The address has {octets} octets, and SMTP carries at most {LONGEST} (RFC 5321 section 4.5.3.1.3), so that it \
             could get no mail: create it again with a shorter spec.localPart."
        );
        Refusal::new(Reason::InvalidSpec, message)
    })
}

/// The MailDomain itself is refused.
pub(super) fn not_accepted_itself(domain: &NamespacedName) -> Refusal {
    let message = format!("MailDomain {domain} is not accepted itself; its status says why.");
    Refusal::new(Reason::DomainNotFound, message)
}

/// Who has postmaster@ and abuse@ is part of what is said about a MailDomain.
fn add_role_domain(address: &str, domain: &NamespacedName, work: &mut Work) {
    let local_part = address.rsplit_once('@').map_or("", |(local_part, _)| local_part);
    if Role::ALL.iter().any(|role| role.local_part() == local_part) {
        work.add(Task::Domain(domain.clone()));
    }
}

pub(super) fn final_task(key: &ObjectKey) -> Task {
    match key.kind {
        Kind::Mailbox => Task::Mailbox(key.name.clone()),
        _ => Task::Alias(AliasSource::Alias(key.name.clone())),
    }
}

fn seats_of<'a>(seats: &'a mut super::state::DomainSeats, rank: &Seniority) -> &'a mut super::state::Seats {
    if rank.key().kind == Kind::Mailbox { &mut seats.mailboxes } else { &mut seats.aliases }
}

/// Of so many claims for an address the losers are told who won, and are looked at when that one changes.
const NAMED_CLAIMS: usize = 16;
const MANY_CLAIM_ADDRESS: &str = "Many older objects claim this address already; delete this one.";

fn address_conflict(address: &str, winner: &ObjectKey, loser: &ObjectKey) -> String {
    if winner.name.namespace == loser.name.namespace {
        format!("{winner}, which is older, has the address {address} already; delete one of the two.")
    } else {
        format!(
            "An older object of another namespace has the address {address} already; choose another, or ask the owner of \
             the MailDomain."
        )
    }
}

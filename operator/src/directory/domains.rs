//! MailServers and MailDomains: who is admitted, and who has which domain.

use std::net::{IpAddr, SocketAddr};

use paquebot_config::{CatchAll, Domain, DomainConfig, ShardName};
use paquebot_crds::conditions::Reason;
use paquebot_crds::mail_domain::LocalParts;
use paquebot_crds::{Kind, MailDomainSpec, MailServerSpec, unsupported};

use super::Directory;
use super::addresses::final_task;
use super::filters;
use super::input::Entry;
use super::key::{NamespacedName, ObjectKey, Seniority};
use super::lending::relayers;
use super::ownership::Strength;
use super::record_budget::{self, Line};
use super::secrets::bad_smart_host;
use super::state::{AliasSource, Holder, RecordSource, Role, Task, Work};
use super::tenancy::{admits, not_admitted, not_there};
use super::verdict::{Refusal, Verdict};

/// A StatefulSet puts its name, a dash and ten characters into a label of at most 63.
const MOST_SERVER_NAME: usize = 52;

impl Directory {
    pub(super) fn settle_server(&mut self, name: &NamespacedName, work: &mut Work) {
        let Some(node) = self.servers.get_mut(name) else { return };
        let fields = unsupported::mail_server(&node.entry.spec);
        let verdict = match bad_server(&name.name, &node.entry.spec).or_else(|| unsupported::refusal(&fields)) {
            Some(message) => Verdict::Refused(Refusal::new(Reason::InvalidSpec, message)),
            None => Verdict::accepted(
                format!("The server {} is configured from this object.", node.entry.spec.hostname),
                unsupported::remark(&fields).into_iter().collect(),
            ),
        };
        if node.verdict != verdict {
            node.verdict = verdict;
            work.changes.statuses.insert(ObjectKey::new(Kind::MailServer, name.clone()));
        }
    }

    pub(super) fn settle_domain_gate(&mut self, name: &NamespacedName, work: &mut Work) {
        let gate = self.domain_gate(name);
        let Some(node) = self.domains.get_mut(name) else { return };
        let rank = node.entry.seniority(Kind::MailDomain);
        let claim = gate.is_ok().then(|| (node.entry.spec.domain.to_string(), rank));
        if node.claim != claim {
            let old = std::mem::replace(&mut node.claim, claim.clone());
            self.withdraw_domain_claim(old, work);
            if let Some((domain, rank)) = claim {
                self.domain_claims.entry(domain.clone()).or_default().insert(rank);
                work.add(Task::DomainName(domain));
            }
        }
        match gate {
            Err(refusal) => self.set_domain_standing(name, Err(refusal), work),
            Ok(()) => work.add_all(self.domains.get(name).map(|n| Task::DomainName(n.entry.spec.domain.to_string()))),
        }
    }

    pub(super) fn withdraw_domain_claim(&mut self, claim: Option<(String, Seniority)>, work: &mut Work) {
        let Some((domain, rank)) = claim else { return };
        if let Some(claims) = self.domain_claims.get_mut(&domain) {
            claims.remove(&rank);
            if claims.is_empty() {
                self.domain_claims.remove(&domain);
            }
        }
        work.add(Task::DomainName(domain));
    }

    fn domain_gate(&self, name: &NamespacedName) -> Result<(), Refusal> {
        let Some(node) = self.domains.get(name) else { return Err(super::state::pending()) };
        let spec = &node.entry.spec;
        if let Some(message) = unsupported::refusal(&unsupported::mail_domain(spec)) {
            return Err(Refusal::new(Reason::InvalidSpec, message));
        }
        if Domain::parse(spec.domain.as_str()).is_err() {
            return Err(Refusal::new(Reason::InvalidSpec, format!("{} is not a domain name.", spec.domain)));
        }
        let server = self.check_server(spec.server_ref.as_ref(), name, Kind::MailDomain)?;
        match self.server_named(&node.entry, &server) {
            Some(server) if server.namespace != name.namespace => {
                Err(Refusal::new(Reason::DomainConflict, is_a_host_name(spec.domain.as_str())))
            }
            _ => Ok(()),
        }
    }

    /// The oldest MailServer whose host name a MailDomain has, of the one that serves it and those that are older than it:
    /// whoever makes a MailServer takes no domain from anybody by its name.
    fn server_named(&self, domain: &Entry<MailDomainSpec>, serving: &NamespacedName) -> Option<&NamespacedName> {
        let rank = domain.seniority(Kind::MailDomain);
        let entries = self.servers.values().map(|node| &node.entry);
        let named = entries.filter(|entry| entry.spec.hostname.as_str() == domain.spec.domain.as_str());
        let ranked = named.map(|entry| (entry.seniority(Kind::MailServer), &entry.name));
        ranked.filter(|(age, name)| *name == serving || *age < rank).min().map(|(_, name)| name)
    }

    /// MailServers have taken or left a host name: the MailDomains of that name are judged again.
    pub(super) fn add_namesakes(&self, hostname: &str, work: &mut Work) {
        let namesakes = self.domains.iter().filter(|(_, node)| node.entry.spec.domain.as_str() == hostname);
        work.add_all(namesakes.map(|(name, _)| Task::DomainGate(name.clone())));
    }

    /// The MailServer that an object attaches to, if it is there and admits the object's namespace.
    pub(super) fn check_server(
        &self,
        reference: Option<&paquebot_crds::ObjectReference>,
        name: &NamespacedName,
        kind: Kind,
    ) -> Result<NamespacedName, Refusal> {
        let Some(server) = self.server_meant(reference, &name.namespace) else {
            let message = "spec.serverRef is not set and the operator has no default server; name a MailServer.";
            return Err(Refusal::new(Reason::ServerNotFound, message));
        };
        let Some(node) = self.servers.get(&server) else {
            // Who names none has not asked whether that of another namespace is there.
            let home = if reference.is_some() { &name.namespace } else { &server.namespace };
            return Err(not_there(Kind::MailServer, &server, kind, home));
        };
        let labels = self.namespaces.get(&name.namespace);
        if !admits(&node.entry.spec.allowed_namespaces, &server.namespace, &name.namespace, labels) {
            return Err(not_admitted(Kind::MailServer, &server, kind, &name.namespace));
        }
        Ok(server)
    }

    pub(super) fn settle_domain_name(&mut self, domain: &str, work: &mut Work) {
        let mut claims: Vec<(Strength, NamespacedName)> = self
            .domain_claims
            .get(domain)
            .into_iter()
            .flatten()
            .map(|rank| rank.key().name)
            .filter_map(|name| Some((self.strength(&name, self.domains.get(&name)?), name)))
            .collect();
        // The sort keeps the order of age within each strength.
        claims.sort_by_key(|(strength, _)| *strength);
        let best = claims.first().filter(|(strength, _)| *strength != Strength::Unproven).cloned();
        let winner = best.as_ref().map(|(_, name)| name.clone());
        let before = match &winner {
            Some(winner) => self.domain_holders.insert(domain.to_owned(), winner.clone()),
            None => self.domain_holders.remove(domain),
        };
        if before != winner {
            work.add_all(Role::ALL.map(|role| Task::Address(format!("{}@{domain}", role.local_part()).into())));
            self.add_policies_of_sender(domain, work);
        }
        work.add_all(self.links.senders_as.of(&domain.to_owned()).cloned().map(Task::Mailbox));
        let Some((best, winner)) = best else {
            for (_, name) in claims {
                self.set_domain_standing(&name, Err(unproven(domain)), work);
            }
            return;
        };
        for (strength, loser) in claims.into_iter().skip(1) {
            let refusal =
                Refusal::new(Reason::DomainConflict, domain_conflict(domain, &winner, &loser, best, strength));
            self.set_domain_standing(&loser, Err(refusal), work);
        }
        self.set_domain_standing(&winner, Ok(()), work);
    }

    fn set_domain_standing(&mut self, name: &NamespacedName, standing: Result<(), Refusal>, work: &mut Work) {
        let Some(node) = self.domains.get_mut(name) else { return };
        if node.standing == standing {
            return;
        }
        let turned = node.standing.is_ok() != standing.is_ok();
        node.standing = standing;
        if turned {
            work.add_all(self.links.members.of(name).cloned().map(Task::AddressGate));
            work.add_all(self.links.domain_policies.of(name).cloned().map(Task::Policy));
        }
        work.add(Task::Domain(name.clone()));
    }

    pub(super) fn limit_seats(
        &mut self,
        name: &NamespacedName,
        mailboxes: Option<u32>,
        aliases: Option<u32>,
        work: &mut Work,
    ) {
        let seats = self.seats.entry(name.clone()).or_default();
        let moved = seats.mailboxes.set_limit(mailboxes).into_iter().chain(seats.aliases.set_limit(aliases));
        work.add_all(moved.map(Task::Standing));
        self.forget_empty_seats(name);
    }

    /// A MailDomain that is gone needs no places once its last object has left.
    pub(super) fn forget_empty_seats(&mut self, name: &NamespacedName) {
        let empty = self.seats.get(name).is_some_and(|seats| seats.mailboxes.is_empty() && seats.aliases.is_empty());
        if empty && !self.domains.contains_key(name) {
            self.seats.remove(name);
        }
    }

    pub(super) fn settle_domain(&mut self, name: &NamespacedName, work: &mut Work) {
        let (verdict, config) = match self.domains.get(name).map(|node| &node.standing) {
            None => (None, None),
            Some(Err(refusal)) => (Some(Verdict::Refused(refusal.clone())), None),
            Some(Ok(())) => {
                let (verdict, config) = self.accept_domain(name);
                (Some(verdict), config)
            }
        };
        let weight = config.as_ref().map(record_budget::of_config);
        let fits = self.weigh_line(Line::of_domain(name), weight, work);
        self.set_unfit(name, fits.is_err(), work);
        let (verdict, config) = match fits {
            Ok(()) => (verdict, config),
            Err(refusal) => (Some(Verdict::Refused(refusal)), None),
        };
        self.publish_domain(name, config, work);
        if let (Some(node), Some(verdict)) = (self.domains.get_mut(name), verdict)
            && node.verdict != verdict
        {
            node.verdict = verdict;
            work.changes.statuses.insert(ObjectKey::new(Kind::MailDomain, name.clone()));
        }
    }

    /// Mailboxes, aliases and roles go where their MailDomain goes.
    fn set_unfit(&mut self, name: &NamespacedName, unfit: bool, work: &mut Work) {
        let Some(node) = self.domains.get_mut(name).filter(|node| node.unfit != unfit) else { return };
        node.unfit = unfit;
        work.add_all(self.links.members.of(name).map(final_task));
        work.add_all(Role::ALL.map(|role| Task::Alias(AliasSource::Role(name.clone(), role))));
    }

    fn accept_domain(&self, name: &NamespacedName) -> (Verdict, Option<(NamespacedName, DomainConfig)>) {
        let parts = self.domains.get(name).and_then(|node| {
            let spec = &node.entry.spec;
            let server = self.server_meant(spec.server_ref.as_ref(), &name.namespace)?;
            Some((node, server, Domain::parse(spec.domain.as_str()).ok()?))
        });
        let Some((node, server, domain)) = parts else { return (Verdict::Refused(super::state::pending()), None) };
        let spec = &node.entry.spec;
        let mut remarks = Vec::new();
        let catch_all = self.catch_all(name, &server, &mut remarks);
        self.remark_roles(name, &mut remarks);
        if catch_all == CatchAll::Reject && !self.is_held(&format!("postmaster@{domain}")) {
            remarks.push(format!(
                "Nobody receives mail for postmaster@{domain}, which RFC 5321 section 4.5.1 asks for: name somebody in \
                 spec.roles.postmaster, or create a Mailbox or MailAlias postmaster."
            ));
        }
        if spec.suspended {
            remarks.push("It is suspended: its mail is refused for now, and nobody logs in.".to_owned());
        }
        remarks.extend(unsupported::remark(&unsupported::mail_domain(spec)));
        let verdict = match filters::around(spec.filters.as_ref()) {
            Ok(_) => {
                Verdict::accepted(format!("MailServer {server} serves {domain}."), remarks).suspended(spec.suspended)
            }
            Err(wrong) => {
                let message = format!("{wrong} Until it is mended, the scripts that were right last stay in force.");
                Verdict::Refused(Refusal::new(Reason::InvalidSpec, message))
            }
        };
        let config = DomainConfig {
            domain,
            tenant: name.namespace.clone(),
            subaddress_separator: spec.subaddressing.separator(),
            catch_all,
            max_message_size: spec.limits.max_message_size.as_ref().map(paquebot_crds::Quantity::bytes),
            suspended: spec.suspended,
            filters: node.filters.clone(),
            relayers: relayers(name, &spec.relay_policy_refs),
            local_parts: match spec.local_parts {
                LocalParts::CaseInsensitive => paquebot_config::LocalParts::CaseInsensitive,
                LocalParts::CaseSensitive => paquebot_config::LocalParts::CaseSensitive,
            },
        };
        (verdict, Some((server, config)))
    }

    /// Puts a domain's record where it belongs, and notes which shards differ then.
    fn publish_domain(
        &mut self,
        name: &NamespacedName,
        config: Option<(NamespacedName, DomainConfig)>,
        work: &mut Work,
    ) {
        let old = self.domain_places.get(name).cloned();
        let new = config.as_ref().map(|(server, config)| (server.clone(), ShardName::of(config.domain.as_str())));
        if let Some((server, shard)) = old.filter(|old| Some(old) != new.as_ref()) {
            if let Some(gone) = self.remove_domain(&server, shard, name) {
                self.add_policies_of_sender(gone.domain.as_str(), work);
            }
            work.changes.files(&server).shards.insert(shard);
        }
        let (Some((_, config)), Some((server, shard))) = (config, new) else { return };
        let domains = self.published.entry(server.clone()).or_default().domains.entry(shard).or_default();
        if domains.get(name) != Some(&config) {
            let domain = config.domain.clone();
            domains.insert(name.clone(), config);
            work.changes.files(&server).shards.insert(shard);
            self.domain_places.insert(name.clone(), (server, shard));
            self.add_policies_of_sender(domain.as_str(), work);
        }
    }

    fn remove_domain(
        &mut self,
        server: &NamespacedName,
        shard: ShardName,
        name: &NamespacedName,
    ) -> Option<DomainConfig> {
        self.domain_places.remove(name);
        let published = self.published.get_mut(server)?;
        let mut gone = None;
        if let Some(domains) = published.domains.get_mut(&shard) {
            gone = domains.remove(name);
            if domains.is_empty() {
                published.domains.remove(&shard);
            }
        }
        self.forget_empty_server(server);
        gone
    }

    /// Whether mail for an address of the directory reaches somebody.
    fn is_held(&self, address: &str) -> bool {
        match self.holders.get(address) {
            None => false,
            Some(Holder::Role(domain, role)) => {
                let source = RecordSource::Alias(AliasSource::Role(domain.clone(), *role));
                self.record_places.contains_key(&source)
            }
            Some(Holder::Object { rank, .. }) => {
                let key = rank.key();
                let source = match key.kind {
                    Kind::Mailbox => RecordSource::Mailbox(key.name),
                    _ => RecordSource::Alias(AliasSource::Alias(key.name)),
                };
                self.record_places.contains_key(&source)
            }
        }
    }

    fn catch_all(&self, name: &NamespacedName, server: &NamespacedName, remarks: &mut Vec<String>) -> CatchAll {
        let reference =
            self.domains.get(name).and_then(|node| node.entry.spec.catch_all.as_ref()?.mailbox_ref.as_ref());
        let Some(reference) = reference else { return CatchAll::Reject };
        let mailbox = NamespacedName::of_reference(reference, &name.namespace);
        let place = self.record_places.get(&RecordSource::Mailbox(mailbox.clone()));
        let place = place.filter(|_| self.may_name(&name.namespace, &mailbox));
        match (place, self.mailboxes.get(&mailbox).and_then(|node| node.member.address.clone())) {
            (Some((at, _)), Some(address)) if at == server => CatchAll::Mailbox(address),
            (Some(_), _) => {
                remarks.push(format!(
                    "Mail for unknown local parts is refused: Mailbox {mailbox} of spec.catchAll is on another MailServer."
                ));
                CatchAll::Reject
            }
            _ => {
                remarks.push(format!(
                    "Mail for unknown local parts is refused: Mailbox {mailbox} of spec.catchAll does not exist, is not \
                     accepted, or is not yours to name."
                ));
                CatchAll::Reject
            }
        }
    }

    fn remark_roles(&self, name: &NamespacedName, remarks: &mut Vec<String>) {
        let Some(node) = self.domains.get(name) else { return };
        for role in Role::ALL {
            let targets = role.targets(&node.entry.spec);
            if targets.is_empty() {
                continue;
            }
            let address = format!("{}@{}", role.local_part(), node.entry.spec.domain);
            match self.holders.get(address.as_str()) {
                Some(Holder::Role(..)) => {
                    let resolved = self.resolve_targets(&AliasSource::Role(name.clone(), role));
                    if self.is_on_a_loop(&AliasSource::Role(name.clone(), role)) {
                        remarks.push(format!("{address} leads back to itself and gets no mail: correct spec.roles."));
                    } else {
                        remarks.extend(resolved.remark(&address));
                    }
                }
                _ if targets.len() > 1 => remarks.push(format!(
                    "{address} is a mailbox, which alone gets its mail: give that Mailbox a forwarding for the other \
                     entries of spec.roles.{}.",
                    role.local_part()
                )),
                _ => {}
            }
        }
    }
}

/// A MailServer lends its name to Services and labels, which allow less than names of objects do.
fn bad_server(name: &str, spec: &MailServerSpec) -> Option<String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = name.len() <= MOST_SERVER_NAME
        && name.bytes().all(inner)
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-');
    if !fits {
        return Some(format!(
            "Its Services cannot be named after it: create it again with a name of at most {MOST_SERVER_NAME} lower case \
             letters, digits and dashes that begins with a letter."
        ));
    }
    if let Some(smart_host) = &spec.outbound.smart_host
        && let Some(message) =
            bad_smart_host(smart_host.host.as_str(), spec.hostname.as_str(), "spec.outbound.smartHost.host")
    {
        return Some(message);
    }
    let unusable = |text: &&String| text.parse::<IpAddr>().is_err() && text.parse::<SocketAddr>().is_err();
    let resolver = spec.dns.resolvers.iter().find(unusable).map(|text| {
        format!("spec.dns.resolvers has {text}, which is no address: write each as address or address:port.")
    });
    resolver.or_else(|| {
        let wrong = filters::around(spec.filters.as_ref()).err()?;
        Some(format!("{wrong} Until it is mended, the server runs what it ran before."))
    })
}

/// The domain is nobody's yet: what the condition `OwnershipVerified` says decides.
fn unproven(domain: &str) -> Refusal {
    let message = format!(
        "{domain} is served as soon as OwnershipVerified is True: the record that proves whose it is stands in \
         status.dns.records."
    );
    Refusal::new(Reason::Pending, message)
}

/// What a server says of itself is of its owner's name, and so is the mail to that name.
fn is_a_host_name(domain: &str) -> String {
    format!(
        "{domain} is the host name of a MailServer of another namespace, and belongs to that one's owner; use another domain, or \
         ask the administrators of the mail system to make this MailDomain beside the MailServer."
    )
}

fn domain_conflict(
    domain: &str,
    winner: &NamespacedName,
    loser: &NamespacedName,
    best: Strength,
    strength: Strength,
) -> String {
    let own = winner.namespace == loser.namespace;
    let who = if own { format!("MailDomain {winner}") } else { "A MailDomain of another namespace".to_owned() };
    let why = match (best, strength) {
        (Strength::Proven, Strength::Proven) | (Strength::Free, Strength::Free) => ", which is older,",
        (Strength::Proven, _) => ", whose owner has proven in DNS that the domain is theirs,",
        (Strength::Free | Strength::Unproven, _) => "",
    };
    let cure = match (strength, own) {
        (Strength::Unproven, _) => {
            "publish the record of purpose Ownership in status.dns.records to prove that it is yours, or delete this one."
        }
        (_, true) => "delete one of the two.",
        (_, false) => "delete this one, or ask the administrators of the mail system to whom the domain belongs.",
    };
    format!("{who}{why} has {domain} already; {cure}")
}

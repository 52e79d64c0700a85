//! RelayPolicies: what their sources mean in networks and domains, and the rule that follows. Also where the entries of
//! domains and rules are kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use paquebot_config::{Address, Domain, RateLimit, RecipientScope, RelayRule, RelaySource, SenderScope};
use paquebot_crds::conditions::Reason;
use paquebot_crds::relay_policy::RelaySourceKind;
use paquebot_crds::{Cidr, Kind, RelayPolicySpec, unsupported};

use super::key::{NamespacedName, ObjectKey};
use super::networks;
use super::secrets::Upstream;
use super::state::{PolicyNode, Published, RankedRule, Task, Work};
use super::tenancy::matches;
use super::verdict::{Refusal, RejectedNetwork, Verdict};
use super::{Changes, Directory, DirtyFiles, Pod};

/// The most networks and pods' addresses of one policy. All policies of a server share one file, which is at most 1 MiB:
/// one that selects everything must not keep the others, and all changes after it, from being written.
const MOST_NETWORKS: usize = 16_384;
/// The labels of the operator's pods.
pub const OPERATOR_LABELS: [(&str, &str); 2] =
    [("app.kubernetes.io/part-of", "paquebot"), ("app.kubernetes.io/component", "operator")];
/// Where other mail servers listen (RFC 5321), and smart hosts by submission with and without implicit TLS (RFC 6409,
/// RFC 8314).
pub const MAIL_PORTS: [u16; 3] = [25, 465, 587];

/// What the sources of a policy come to.
#[derive(Default)]
struct Admitted {
    /// Of `cidrs`, before it is seen whether there is room for them.
    listed: Vec<IpNet>,
    /// Of pods, and of `cidrs`.
    networks: Vec<IpNet>,
    rejected: Vec<RejectedNetwork>,
    domains: Vec<Domain>,
    certificates: Vec<Domain>,
    remarks: Vec<String>,
}

impl Directory {
    /// Notes which pods a policy selects, by going through the namespaces in question.
    pub(super) fn select_pods(&mut self, policy: &NamespacedName) {
        let Some(node) = self.policies.get(policy) else { return };
        let wide = self.links.wide_pod_policies.contains(policy);
        let namespaces: Vec<&String> = if wide { self.links.pods.keys().collect() } else { vec![&policy.namespace] };
        let pods: BTreeSet<NamespacedName> = namespaces
            .into_iter()
            .flat_map(|namespace| self.links.pods.of(namespace))
            .filter(|name| self.pods.get(*name).is_some_and(|pod| self.selects(node, name, pod)))
            .cloned()
            .collect();
        if let Some(node) = self.policies.get_mut(policy) {
            node.pods = pods;
        }
    }

    /// The operator's own pods are never selected: its probe asks as a stranger whether strangers are admitted.
    fn is_the_operator(&self, name: &NamespacedName, pod: &Pod) -> bool {
        let has = |(label, value): &(&str, &str)| pod.labels.get(*label).is_some_and(|found| found == value);
        self.options.operator_namespace.as_ref() == Some(&name.namespace) && OPERATOR_LABELS.iter().all(has)
    }

    fn is_of_the_servers_namespace(&self, policy: &PolicyNode) -> bool {
        let home = &policy.entry.name.namespace;
        self.server_meant(policy.entry.spec.server_ref.as_ref(), home).is_some_and(|server| server.namespace == *home)
    }

    fn selects(&self, policy: &PolicyNode, name: &NamespacedName, pod: &Pod) -> bool {
        if self.is_the_operator(name, pod) {
            return false;
        }
        // Only the server's own namespace has a say over the mail of others' pods.
        let own = name.namespace == policy.entry.name.namespace;
        if !own && !self.is_of_the_servers_namespace(policy) {
            return false;
        }
        policy.entry.spec.from.iter().any(|source| {
            let Some(RelaySourceKind::Pods { pods, namespaces }) = source.kind() else { return false };
            let at_home = match namespaces {
                None => own,
                Some(selector) => self.namespaces.get(&name.namespace).is_some_and(|labels| matches(selector, labels)),
            };
            at_home && pods.is_none_or(|selector| matches(selector, &pod.labels))
        })
    }

    pub(super) fn pod_changed(&mut self, name: &NamespacedName, before: Option<&Pod>) -> Changes {
        let mut work = Work::default();
        self.pod_moved(name, before, &mut work);
        let own = self.links.pod_policies.list(&name.namespace);
        for policy in own.into_iter().chain(self.links.wide_pod_policies.iter().cloned()).collect::<BTreeSet<_>>() {
            let selected = match (self.policies.get(&policy), self.pods.get(name)) {
                (Some(node), Some(pod)) => self.selects(node, name, pod),
                _ => false,
            };
            let Some(node) = self.policies.get_mut(&policy) else { continue };
            let before = if selected { !node.pods.insert(name.clone()) } else { node.pods.remove(name) };
            if selected || before {
                work.add(Task::Policy(policy));
            }
        }
        self.run(work)
    }

    /// Counts the addresses of pods anew; each RelayPolicy in whose networks one came or went is judged again.
    fn pod_moved(&mut self, name: &NamespacedName, before: Option<&Pod>, work: &mut Work) {
        let addresses = |pod: Option<&Pod>| -> BTreeSet<IpAddr> {
            pod.filter(|pod| pod.running).into_iter().flat_map(|pod| pod.addresses.iter().copied()).collect()
        };
        let (before, after) = (addresses(before), addresses(self.pods.get(name)));
        let mut turned = Vec::new();
        for address in after.difference(&before) {
            if self.pod_addresses.add(*address) {
                turned.push(*address);
            }
        }
        for address in before.difference(&after) {
            if self.pod_addresses.remove(*address) {
                turned.push(*address);
            }
        }
        if turned.is_empty() {
            return;
        }
        let lists = |node: &PolicyNode| {
            node.entry.spec.from.iter().any(|source| {
                let Some(RelaySourceKind::Cidrs(listed)) = source.kind() else { return false };
                listed.iter().any(|cidr| turned.iter().any(|address| cidr.network().contains(address)))
            })
        };
        work.add_all(self.policies.iter().filter(|(_, node)| lists(node)).map(|(name, _)| Task::Policy(name.clone())));
    }

    pub(super) fn settle_policy(&mut self, name: &NamespacedName, work: &mut Work) {
        let Some(node) = self.policies.get(name) else {
            // What takes nothing always fits.
            let _ = self.weigh_networks(name, None, Vec::new(), work);
            let _ = self.weigh_rule(name, None, work);
            return self.publish_rule(name, None, work);
        };
        let server = self.policy_gate(name, &node.entry.spec);
        let upstream = server.and_then(|server| Ok((self.upstream(name, &node.entry.spec, &server)?, server)));
        let (server, upstream, mut admitted) = match upstream {
            Ok((upstream, server)) => {
                let admitted = self.admitted(node, &server);
                (Ok(server), upstream, admitted)
            }
            Err(refusal) => (Err(refusal), Upstream::default(), Admitted::default()),
        };
        self.bound_networks(name, server.as_ref().ok(), &mut admitted, work);
        let (server, admitted) = match server {
            Ok(_) if admitted.networks.len() > MOST_NETWORKS => {
                (Err(too_many(admitted.networks.len())), Admitted::default())
            }
            server => (server, admitted),
        };
        let Some(node) = self.policies.get(name) else { return };
        let rule = server.as_ref().ok().and_then(|server| {
            let rule = rule(name, &node.entry.spec, &admitted)?;
            let confined = name.namespace != server.namespace;
            let rule = RelayRule { upstream: upstream.host.clone(), confined, ..rule };
            Some((server.clone(), self.with_lent_senders(name, rule)))
        });
        let unlent = rule.as_ref().and_then(|(server, rule)| self.unlent_senders(name, &node.entry.spec, server, rule));
        let spec = node.entry.spec.clone();
        let (rule, server, mut admitted) = match self.weigh_rule(name, rule.as_ref(), work) {
            Ok(()) => (rule, server, admitted),
            Err(refusal) => (None, Err(refusal), Admitted::default()),
        };
        admitted.remarks.extend(unlent);
        admitted.remarks.extend(rule.as_ref().and_then(|(server, rule)| self.shut_port(server, rule)));
        let verdict = match &server {
            Err(refusal) => Verdict::Refused(refusal.clone()),
            Ok(server) => match verdict(server, &spec, &admitted, rule.is_some()) {
                accepted @ Verdict::Accepted { .. } => upstream.complaint.map_or(accepted, Verdict::Refused),
                refused => refused,
            },
        };
        self.publish_rule(name, rule, work);
        let Some(node) = self.policies.get_mut(name) else { return };
        let before = (&node.verdict, &node.effective, &node.rejected);
        if before != (&verdict, &admitted.networks, &admitted.rejected) {
            (node.verdict, node.effective, node.rejected) = (verdict, admitted.networks, admitted.rejected);
            work.changes.statuses.insert(ObjectKey::new(Kind::RelayPolicy, name.clone()));
        }
    }

    /// Adds what a policy lists of networks, as far as there is room for it.
    fn bound_networks(
        &mut self,
        name: &NamespacedName,
        server: Option<&NamespacedName>,
        admitted: &mut Admitted,
        work: &mut Work,
    ) {
        let (fitting, rejected) = self.weigh_networks(name, server, std::mem::take(&mut admitted.listed), work);
        admitted.networks.extend(fitting);
        admitted.networks.sort();
        admitted.networks.dedup();
        admitted.rejected.extend(rejected);
    }

    fn policy_gate(&self, name: &NamespacedName, spec: &RelayPolicySpec) -> Result<NamespacedName, Refusal> {
        if let Some(message) = unsupported::refusal(&unsupported::relay_policy(spec)) {
            return Err(Refusal::new(Reason::InvalidSpec, message));
        }
        if let Some(index) = spec.from.iter().position(|source| source.kind().is_none()) {
            let message = format!(
                "spec.from[{index}] must have one of cidrs, podSelector, mailboxes, clientCertificates; write one entry for each."
            );
            return Err(Refusal::new(Reason::InvalidSpec, message));
        }
        self.check_server(spec.server_ref.as_ref(), name, Kind::RelayPolicy)
    }

    fn admitted(&self, policy: &PolicyNode, server: &NamespacedName) -> Admitted {
        let mut admitted = Admitted::default();
        let mut cidrs: Vec<&Cidr> = Vec::new();
        for source in &policy.entry.spec.from {
            match source.kind() {
                Some(RelaySourceKind::Cidrs(listed)) => cidrs.extend(listed),
                Some(RelaySourceKind::Mailboxes(mailboxes)) => {
                    let domain = NamespacedName::of_reference(&mailboxes.domain_ref, &policy.entry.name.namespace);
                    match self.domain_on(&domain, server) {
                        Some(domain) => admitted.domains.push(domain),
                        None => admitted.remarks.push(format!(
                            "The mailboxes of MailDomain {domain} are not admitted: it does not exist, is not accepted, or \
                             is on another MailServer."
                        )),
                    }
                }
                Some(RelaySourceKind::ClientCertificates(listed)) => {
                    let names = listed.iter().filter_map(|listed| Domain::parse(listed.san_dns.as_str()).ok());
                    admitted.certificates.extend(names);
                }
                _ => {}
            }
        }
        if !admitted.certificates.is_empty() && !self.asks_for_certificates(server) {
            admitted.remarks.push(format!(
                "MailServer {server} asks no client for a certificate, so that nobody is admitted by one; its owner can name \
                 the authorities in spec.tls.clientCASecretRef."
            ));
        }
        let preserved = self.source_preserved.contains(server);
        (admitted.listed, admitted.rejected) =
            networks::judge(&cidrs, &self.options.ranges, &self.pod_addresses, preserved);
        if !cidrs.is_empty() && !self.options.ranges.unread.is_empty() {
            admitted.remarks.push(format!(
                "The operator knows no {} of the cluster (none exists, or it may not list them): make sure yourself that \
                 spec.from[].cidrs holds no address of nodes, pods or Services.",
                self.options.ranges.unread.join(" and no ")
            ));
        }
        self.admit_pods(policy, &mut admitted);
        admitted.domains.sort();
        admitted.domains.dedup();
        admitted.certificates.sort();
        admitted.certificates.dedup();
        admitted
    }

    /// A port of a smart host that the server's NetworkPolicy lets nobody reach: rules of other namespaces than the server's
    /// open none.
    fn shut_port(&self, server: &NamespacedName, rule: &RelayRule) -> Option<String> {
        let spec = &self.servers.get(server)?.entry.spec;
        let port = rule.upstream.as_ref()?.port;
        let enabled = spec.network_policy.as_ref().is_some_and(|policy| policy.enabled);
        let shut = enabled && rule.confined && !MAIL_PORTS.contains(&port);
        shut.then(|| {
            format!(
                "The NetworkPolicy of MailServer {server} does not let its pods out to port {port}: of smart hosts in \
                 RelayPolicies of other namespaces than its own it admits ports 25, 465 and 587 alone. Have the smart host \
                 listen on one of these, or the owner of the MailServer make the RelayPolicy in namespace {}.",
                server.namespace
            )
        })
    }

    fn asks_for_certificates(&self, server: &NamespacedName) -> bool {
        self.servers.get(server).is_some_and(|node| node.entry.spec.tls.client_ca_secret_ref.is_some())
    }

    fn admit_pods(&self, policy: &PolicyNode, admitted: &mut Admitted) {
        let selects_pods =
            policy.entry.spec.from.iter().any(|source| matches!(source.kind(), Some(RelaySourceKind::Pods { .. })));
        let mut found = false;
        for (name, pod) in policy.pods.iter().filter_map(|name| Some((name, self.pods.get(name)?))) {
            if !pod.running {
                continue;
            }
            for address in &pod.addresses {
                found = true;
                if pod.host_network {
                    let reason = format!(
                        "pod {name} uses its node's network, and its address is that of everything on the node; give it a \
                         network of its own, or let it log in"
                    );
                    admitted.rejected.push(RejectedNetwork { network: IpNet::from(*address).to_string(), reason });
                } else {
                    admitted.networks.push(IpNet::from(*address));
                }
            }
        }
        let looks_elsewhere = policy.entry.spec.from.iter().any(|source| source.namespace_selector.is_some());
        if looks_elsewhere && !self.is_of_the_servers_namespace(policy) {
            admitted.remarks.push(format!(
                "Of the pods that spec.from[].namespaceSelector matches only those of namespace {} are admitted: pods of \
                 others are for RelayPolicies in the MailServer's own namespace to admit.",
                policy.entry.name.namespace
            ));
        }
        if selects_pods && !found {
            admitted.remarks.push("No running pod is selected now.".to_owned());
        }
    }

    /// The name of a MailDomain if that server serves it.
    fn domain_on(&self, domain: &NamespacedName, server: &NamespacedName) -> Option<Domain> {
        let node = self.domains.get(domain).filter(|node| node.standing.is_ok())?;
        let at = self.server_meant(node.entry.spec.server_ref.as_ref(), &domain.namespace)?;
        if at == *server { Domain::parse(node.entry.spec.domain.as_str()).ok() } else { None }
    }

    fn publish_rule(&mut self, name: &NamespacedName, rule: Option<(NamespacedName, RelayRule)>, work: &mut Work) {
        let part = Part {
            places: |directory| &mut directory.rule_places,
            entries: |published| &mut published.rules,
            file: |files| &mut files.relay,
        };
        let before = self.login_place(name);
        let seniority = self.policies.get(name).map(|node| node.entry.seniority(Kind::RelayPolicy));
        let rule = rule.zip(seniority).map(|((server, rule), seniority)| {
            let rank = (rule.confined, seniority);
            (server, RankedRule { rank, rule })
        });
        self.publish(&part, name, rule, work);
        let after = self.login_place(name);
        if before != after {
            for (server, _) in [before, after].into_iter().flatten() {
                work.changes.files(&server).secrets = true;
            }
        }
    }

    /// The server whose `secrets.json` has the login of a policy, and its name there.
    fn login_place(&self, name: &NamespacedName) -> Option<(NamespacedName, String)> {
        let server = self.rule_places.get(name)?;
        let host = self.published.get(server)?.rules.get(name)?.rule.upstream.as_ref()?;
        Some((server.clone(), host.credentials.clone()?))
    }

    /// Puts an object's entry where it belongs, and notes which files differ then.
    fn publish<E: PartialEq>(
        &mut self,
        part: &Part<E>,
        name: &NamespacedName,
        entry: Option<(NamespacedName, E)>,
        work: &mut Work,
    ) {
        let old = (part.places)(self).get(name).cloned();
        let new = entry.as_ref().map(|(server, _)| server);
        if let Some(server) = old.filter(|old| Some(old) != new) {
            if let Some(published) = self.published.get_mut(&server) {
                (part.entries)(published).remove(name);
            }
            (part.places)(self).remove(name);
            self.forget_empty_server(&server);
            *(part.file)(work.changes.files(&server)) = true;
        }
        let Some((server, entry)) = entry else { return };
        let entries = (part.entries)(self.published.entry(server.clone()).or_default());
        if entries.get(name) != Some(&entry) {
            entries.insert(name.clone(), entry);
            *(part.file)(work.changes.files(&server)) = true;
            (part.places)(self).insert(name.clone(), server);
        }
    }
}

/// A file that holds one entry for each object: who has one where, the entries, and that it has changed.
struct Part<E> {
    places: fn(&mut Directory) -> &mut HashMap<NamespacedName, NamespacedName>,
    entries: fn(&mut Published) -> &mut BTreeMap<NamespacedName, E>,
    file: fn(&mut DirtyFiles) -> &mut bool,
}

fn verdict(server: &NamespacedName, spec: &RelayPolicySpec, admitted: &Admitted, in_force: bool) -> Verdict {
    if !admitted.rejected.is_empty() {
        let rejected = admitted.rejected.iter().map(|rejected| format!("{}: {}", rejected.network, rejected.reason));
        let rest = if in_force { "The other sources are in force." } else { "Nothing of the policy is in force." };
        let message = format!("Not admitted: {}. {rest}", rejected.take(8).collect::<Vec<_>>().join("; "));
        return Verdict::Refused(Refusal::new(Reason::OpenRelayRefused, message));
    }
    if !in_force && !admitted.remarks.is_empty() && admitted.domains.is_empty() && !selects_pods(spec) {
        return Verdict::Refused(Refusal::new(Reason::DomainNotFound, admitted.remarks.join(" ")));
    }
    let remarks = admitted.remarks.iter().cloned().chain(unsupported::remark(&unsupported::relay_policy(spec)));
    Verdict::accepted(format!("MailServer {server} relays for the clients that spec.from names."), remarks.collect())
}

fn too_many(found: usize) -> Refusal {
    let message = format!(
        "It would admit {found} networks and pods' addresses, and {MOST_NETWORKS} is the most: select fewer pods, or let \
         their owners log in as mailboxes. Nothing of the policy is in force."
    );
    Refusal::new(Reason::LimitExceeded, message)
}

fn selects_pods(spec: &RelayPolicySpec) -> bool {
    spec.from.iter().any(|source| matches!(source.kind(), Some(RelaySourceKind::Pods { .. })))
}

/// The rule; `None` where it would admit nobody.
fn rule(name: &NamespacedName, spec: &RelayPolicySpec, admitted: &Admitted) -> Option<RelayRule> {
    let networks = (!admitted.networks.is_empty()).then(|| RelaySource::Networks(admitted.networks.clone()));
    let certificates =
        (!admitted.certificates.is_empty()).then(|| RelaySource::ClientCertificates(admitted.certificates.clone()));
    let mailboxes = admitted.domains.iter().cloned().map(RelaySource::Mailboxes);
    let from: Vec<RelaySource> = networks.into_iter().chain(mailboxes).chain(certificates).collect();
    if from.is_empty() {
        return None;
    }
    let domains = |names: &[paquebot_crds::DomainName]| -> Vec<Domain> {
        names.iter().filter_map(|name| Domain::parse(name.as_str()).ok()).collect()
    };
    let senders = spec.senders.as_ref().map(|senders| SenderScope {
        domains: domains(&senders.domains),
        addresses: senders.addresses.iter().filter_map(|address| Address::parse(address.as_str()).ok()).collect(),
    });
    let recipients = match &spec.recipients.any {
        Some(_) => RecipientScope::Any,
        None => RecipientScope::Domains(domains(&spec.recipients.domains)),
    };
    let rate_limit = rate_limit(spec.rate_limit.as_ref());
    Some(RelayRule { name: name.to_string(), from, senders, recipients, upstream: None, rate_limit, confined: false })
}

/// A limit in the contract's words; `None` where nothing is limited.
pub(super) fn rate_limit(limit: Option<&paquebot_crds::references::RateLimit>) -> Option<RateLimit> {
    let limit = limit?;
    let (messages_per_hour, recipients_per_hour) = (limit.messages_per_hour, limit.recipients_per_hour);
    let limits = messages_per_hour.is_some() || recipients_per_hour.is_some();
    limits.then_some(RateLimit { messages_per_hour, recipients_per_hour })
}

//! Every rule that spans more than one value: as CEL for the API server, and as Rust for manifests that are read without
//! one, side by side under one sentence.
//!
//! The kinds name these rules in their `x_kube` attributes; [`crate::validate`] finds the Rust half by the sentence. Rules
//! of single strings (domains, addresses, sizes, durations) are with their types.

use serde_json::Value;

use crate::names::{
    ADDRESS_MESSAGE, CIDR_MESSAGE, Cidr, DOMAIN_MESSAGE, LOCAL_PART_MESSAGE, RECORD_NAME_MESSAGE, is_address,
    is_domain, is_local_part, is_record_name,
};
use crate::{Duration, Quantity, duration, quantity};

/// A rule of a spec.
#[derive(Clone, Copy)]
pub struct SpecRule {
    /// What the API server computes; `self` is the value that the rule sits on.
    pub expression: &'static str,
    /// What is said when the rule does not hold: what to do.
    pub message: &'static str,
    /// The field that is to blame, if it is not the value that the rule sits on.
    pub field_path: Option<&'static str>,
    /// The same as `expression`, for a value whose defaults are filled in and whose parts have the right types.
    pub holds: fn(&Value) -> bool,
}

impl From<SpecRule> for kube::core::Rule {
    fn from(rule: SpecRule) -> Self {
        let written = Self::new(rule.expression).message(rule.message);
        match rule.field_path {
            Some(path) => written.field_path(path),
            None => written,
        }
    }
}

const fn rule(expression: &'static str, message: &'static str, holds: fn(&Value) -> bool) -> SpecRule {
    SpecRule { expression, message, field_path: None, holds }
}

/// A rule about a change: without the past it holds.
const fn unchanged(message: &'static str) -> SpecRule {
    rule("self == oldSelf", message, |_| true)
}

fn has(value: &Value, name: &str) -> bool {
    value.get(name).is_some()
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> + Clone {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn filled(value: &Value, name: &str) -> bool {
    list(value, name).next().is_some()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn given(parts: &[bool]) -> usize {
    parts.iter().filter(|part| **part).count()
}

/// Whether no two entries of a list have the same value of a field.
fn differ(entries: &Value, name: &str) -> bool {
    let values: Vec<&Value> = entries.as_array().into_iter().flatten().filter_map(|entry| entry.get(name)).collect();
    values.iter().enumerate().all(|(index, value)| !values.iter().take(index).any(|earlier| earlier == value))
}

fn networks(value: &Value) -> impl Iterator<Item = Result<Cidr, crate::names::InvalidName>> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::parse)
}

/// The shortest prefix of a network whose clients may relay. The index is stricter: it knows the cluster's own networks,
/// and the Internet's of IPv6.
pub const SHORTEST_RELAY_PREFIX: u8 = 8;

fn nobody_is_everybody(value: &Value) -> bool {
    networks(value).flatten().all(|network| !network.is_everything())
}

/// The name of an object that a reference names. It becomes part of a request's path, so nothing else may pass.
pub const OBJECT_NAME: SpecRule = rule(
    "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*$')",
    "write the name of a Kubernetes object: lower case letters and digits, with dashes and dots between them",
    |name| name.as_str().unwrap_or_default().split('.').all(is_name_label),
);

/// The name of a namespace that a reference names.
pub const NAMESPACE_NAME: SpecRule = rule(
    "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
    "write the name of a namespace: lower case letters and digits, with dashes between them",
    |name| is_name_label(name.as_str().unwrap_or_default()),
);

fn is_name_label(label: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = label.as_bytes();
    bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
}

/// `replicas` and `storage` of a MailServer.
pub const REPLICAS_NEED_POSTGRES: SpecRule = SpecRule {
    expression: "!has(self.replicas) || self.replicas <= 1 || (has(self.storage) && has(self.storage.postgres))",
    message: "more than one replica needs storage.postgres: an embedded store belongs to one pod",
    field_path: Some(".replicas"),
    holds: |spec| {
        let replicas = spec.get("replicas").and_then(Value::as_i64).unwrap_or(1);
        replicas <= 1 || spec.pointer("/storage/postgres").is_some()
    },
};

/// `service.nodePorts` and `listeners` of a MailServer.
pub const NODE_PORTS_ARE_LISTENERS: SpecRule = SpecRule {
    expression: "!has(self.service) || !has(self.service.nodePorts) || \
                 self.service.nodePorts.all(name, self.listeners.exists(listener, listener.name == name))",
    message: "nodePorts must use the names of listeners",
    field_path: Some(".service.nodePorts"),
    holds: |spec| {
        let listeners = list(spec, "listeners");
        let mut ports = spec.pointer("/service/nodePorts").and_then(Value::as_object).into_iter().flatten();
        ports.all(|(name, _)| listeners.clone().any(|listener| text(listener, "name") == name))
    },
};

/// The names of the listeners of a MailServer.
pub const LISTENER_NAMES_DIFFER: SpecRule = rule(
    "self.all(one, self.exists_one(other, other.name == one.name))",
    "give each listener a name of its own",
    |list| differ(list, "name"),
);

/// The ports of the listeners of a MailServer.
pub const LISTENER_PORTS_DIFFER: SpecRule = rule(
    "self.all(one, self.exists_one(other, other.port == one.port))",
    "give each listener a port of its own",
    |list| differ(list, "port"),
);

/// The name of a listener: what Kubernetes takes as a port's name, and no other port of the pods has.
pub const LISTENER_NAME: SpecRule = rule(
    "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$') && self.matches('[a-z]') && !self.contains('--') && self != 'admin'",
    "write the listener's name with lower case letters, digits and single dashes between them, with at least one letter; \
     admin is the port for health and metrics",
    |name| {
        let name = name.as_str().unwrap_or_default();
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        name.bytes().all(known)
            && name.bytes().any(|byte| byte.is_ascii_lowercase())
            && !name.starts_with('-')
            && !name.ends_with('-')
            && !name.contains("--")
            && name != "admin"
    },
);

/// `storage` of a MailServer.
pub const ONE_STORAGE: SpecRule =
    rule("has(self.embedded) != has(self.postgres)", "give storage either embedded or postgres, not both", |storage| {
        has(storage, "embedded") != has(storage, "postgres")
    });

/// `storage.embedded` of a MailServer. That its size only grows is for the operator to say, which knows the volumes.
pub const STORAGE_CLASS_STAYS: SpecRule = rule(
    "has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || \
     self.storageClassName == oldSelf.storageClassName)",
    "storage.embedded.storageClassName cannot be changed: volumes stay where they were made; move the mail to another \
     MailServer",
    |_| true,
);

/// `proxyProtocol` of a listener.
pub const PROXY_TRUSTS_SOMEBODY: SpecRule = rule(
    "!has(self.mode) || self.mode != 'Required' || (has(self.trustedCIDRs) && size(self.trustedCIDRs) > 0)",
    "list in trustedCIDRs the load balancers that may send a PROXY header, or set mode to Disabled",
    |proxy| text(proxy, "mode") != "Required" || filled(proxy, "trustedCIDRs"),
);

/// A list of networks.
pub const ARE_NETWORKS: SpecRule =
    rule("self.all(c, isCIDR(c))", CIDR_MESSAGE, |list| networks(list).all(|network| network.is_ok()));

/// `trustedCIDRs` of a listener.
pub const TRUST_IS_NOT_FOR_EVERYBODY: SpecRule = rule(
    "self.all(c, !isCIDR(c) || cidr(c).prefixLength() > 0)",
    "trust only your load balancers: a network with the prefix /0 would let anybody claim any address",
    nobody_is_everybody,
);

/// `cidrs` of a RelayPolicy.
pub const RELAY_IS_NOT_FOR_EVERYBODY: SpecRule = rule(
    "self.all(c, !isCIDR(c) || cidr(c).prefixLength() >= 8)",
    "a network with a prefix shorter than /8 would make the server an open relay: list the networks of your own clients",
    |list| networks(list).flatten().all(|network| network.network().prefix_len() >= SHORTEST_RELAY_PREFIX),
);

/// `tls` of a MailServer.
pub const ONE_CERTIFICATE: SpecRule = rule(
    "[has(self.secretRef), has(self.certManager), has(self.selfSigned)].filter(given, given).size() <= 1",
    "give tls one of secretRef, certManager and selfSigned, not several",
    |tls| given(&[has(tls, "secretRef"), has(tls, "certManager"), has(tls, "selfSigned")]) <= 1,
);

/// `allowedNamespaces` of a MailServer or MailDomain.
pub const SELECTOR_WHERE_ONE_SELECTS: SpecRule = rule(
    "(has(self.from) && self.from == 'Selector') == has(self.selector)",
    "give a selector when from is Selector, and only then",
    |namespaces| (text(namespaces, "from") == "Selector") == has(namespaces, "selector"),
);

/// A target of an alias or a role.
pub const ONE_TARGET: SpecRule = rule(
    "has(self.mailboxRef) != has(self.address)",
    "give each target either a mailboxRef or an address, not both",
    |target| has(target, "mailboxRef") != has(target, "address"),
);

/// `domain` of a MailDomain.
pub const DOMAIN_STAYS: SpecRule =
    unchanged("the domain cannot be changed: create another MailDomain; the mail of this one is kept");

/// `subaddressing.separator` of a MailDomain.
pub const SEPARATOR: SpecRule = rule(
    "self.matches(r\"^[!#$%&'*+/=?^_`{|}~-]$\")",
    "write one character that is neither a letter, a digit nor a dot, such as + or -",
    |separator| {
        let separator = separator.as_str().unwrap_or_default();
        separator.len() == 1 && !separator.contains(|c: char| c.is_ascii_alphanumeric()) && is_local_part(separator)
    },
);

/// `catchAll` of a MailDomain.
pub const ONE_CATCH_ALL: SpecRule = rule(
    "has(self.mailboxRef) != has(self.reject)",
    "give catchAll either a mailboxRef or reject: {}, not both",
    |catch_all| has(catch_all, "mailboxRef") != has(catch_all, "reject"),
);

/// `dkim.rotation` of a MailDomain.
pub const OVERLAP_IS_SHORTER: SpecRule = rule(
    "!has(self.overlap) || !has(self.period) || duration(self.overlap) < duration(self.period)",
    "make overlap shorter than period, so that only one key is being replaced at a time",
    |rotation| {
        let span = |name| text(rotation, name).parse::<Duration>().ok().map(|duration| duration.to_std());
        // A duration that cannot be read has its own refusal.
        !matches!((span("overlap"), span("period")), (Some(overlap), Some(period)) if overlap >= period)
    },
);

/// `domainRef` of a Mailbox.
pub const DOMAIN_REF_STAYS: SpecRule =
    unchanged("domainRef cannot be changed: create another Mailbox; the mail of this one is kept");

/// `localPart` of a Mailbox.
pub const LOCAL_PART_STAYS: SpecRule =
    unchanged("localPart cannot be changed: create another Mailbox; the mail of this one is kept");

/// `credentials` of a Mailbox.
pub const ONE_CREDENTIAL: SpecRule = rule(
    "[has(self.passwordSecretRef), has(self.passwordHashSecretRef), has(self.generate)].filter(given, given).size() == 1",
    "give credentials exactly one of passwordSecretRef, passwordHashSecretRef and generate; \
     leave credentials out for a mailbox that only receives",
    |all| given(&[has(all, "passwordSecretRef"), has(all, "passwordHashSecretRef"), has(all, "generate")]) == 1,
);

/// The quotas of a Mailbox and of a MailDomain.
pub const ROOM_FOR_MAIL: SpecRule = rule(
    "type(self) == int ? self != 0 : !self.matches('^0+([.]0+)?[A-Za-z]*$')",
    "a quota of 0 has no room for any message: write a larger size, or leave it out",
    // A size that cannot be read has its own refusal.
    |size| serde_json::from_value::<Quantity>(size.clone()).map_or(true, |size| size.bytes() > 0),
);

/// `filter` of a Mailbox.
pub const ONE_FILTER: SpecRule = rule(
    "has(self.sieve) != has(self.configMapRef)",
    "give filter either a sieve script or a configMapRef, not both",
    |filter| has(filter, "sieve") != has(filter, "configMapRef"),
);

/// An entry of `from` of a RelayPolicy.
pub const ONE_SOURCE: SpecRule = rule(
    "[has(self.cidrs) && size(self.cidrs) > 0, has(self.podSelector) || has(self.namespaceSelector), \
     has(self.mailboxes), has(self.clientCertificates) && size(self.clientCertificates) > 0]\
     .filter(given, given).size() == 1",
    "give each entry of from one of cidrs, podSelector with namespaceSelector, mailboxes and clientCertificates; \
     write several entries for several",
    |source| {
        let pods = has(source, "podSelector") || has(source, "namespaceSelector");
        given(&[filled(source, "cidrs"), pods, has(source, "mailboxes"), filled(source, "clientCertificates")]) == 1
    },
);

/// `senders` of a RelayPolicy.
pub const SOME_SENDER: SpecRule = rule(
    "(has(self.domains) && size(self.domains) > 0) || (has(self.addresses) && size(self.addresses) > 0)",
    "list at least one domain or address in senders, or leave senders out",
    |senders| filled(senders, "domains") || filled(senders, "addresses"),
);

/// `recipients` of a RelayPolicy.
pub const ONE_SET_OF_RECIPIENTS: SpecRule = rule(
    "has(self.any) != (has(self.domains) && size(self.domains) > 0)",
    "give recipients either any: {} or a list of domains, not both",
    |recipients| has(recipients, "any") != filled(recipients, "domains"),
);

/// Every rule of this module.
const ALL: [SpecRule; 28] = [
    OBJECT_NAME,
    NAMESPACE_NAME,
    REPLICAS_NEED_POSTGRES,
    NODE_PORTS_ARE_LISTENERS,
    LISTENER_NAMES_DIFFER,
    LISTENER_PORTS_DIFFER,
    LISTENER_NAME,
    ONE_STORAGE,
    STORAGE_CLASS_STAYS,
    PROXY_TRUSTS_SOMEBODY,
    ARE_NETWORKS,
    TRUST_IS_NOT_FOR_EVERYBODY,
    RELAY_IS_NOT_FOR_EVERYBODY,
    ONE_CERTIFICATE,
    SELECTOR_WHERE_ONE_SELECTS,
    ONE_TARGET,
    DOMAIN_STAYS,
    SEPARATOR,
    ONE_CATCH_ALL,
    OVERLAP_IS_SHORTER,
    DOMAIN_REF_STAYS,
    LOCAL_PART_STAYS,
    ONE_CREDENTIAL,
    ROOM_FOR_MAIL,
    ONE_FILTER,
    ONE_SOURCE,
    SOME_SENDER,
    ONE_SET_OF_RECIPIENTS,
];

/// Whether the rule of that sentence holds for a value; `None` if there is no such rule.
#[must_use]
pub fn holds(message: &str, value: &Value) -> Option<bool> {
    let text = || value.as_str().unwrap_or_default();
    match message {
        DOMAIN_MESSAGE => Some(is_domain(text())),
        RECORD_NAME_MESSAGE => Some(is_record_name(text())),
        LOCAL_PART_MESSAGE => Some(is_local_part(text())),
        ADDRESS_MESSAGE => Some(is_address(text())),
        duration::DURATION_MESSAGE => Some(text().parse::<Duration>().is_ok()),
        quantity::QUANTITY_MESSAGE => Some(serde_json::from_value::<Quantity>(value.clone()).is_ok()),
        _ => ALL.iter().find(|rule| rule.message == message).map(|rule| (rule.holds)(value)),
    }
}

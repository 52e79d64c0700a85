//! The index from outside: objects go in, verdicts and content come out.

mod changes;
mod filters;
mod mailboxes_and_aliases;
mod network_budget;
mod order;
mod ownership;
mod record_budget;
mod relay_policies;
mod relay_rules;
mod secrets;
mod servers_and_domains;
mod what_is_said;

use std::collections::BTreeMap;

use paquebot_config::Record;
use paquebot_crds::{Kind, MailAlias, MailDomain, MailServer, Mailbox, RelayPolicy};
use serde_json::{Value, json};

use super::*;

/// An object as the API server would hand it over. `created` orders objects by age.
pub(super) fn object(kind: Kind, name: &str, created: u8, spec: Value) -> Object {
    let name = NamespacedName::parse(name).unwrap();
    let value = json!({
        "apiVersion": "paquebot.dev/v1alpha1",
        "kind": kind.as_str(),
        "metadata": {
            "namespace": name.namespace, "name": name.name, "generation": 1, "uid": format!("uid-{name}"),
            "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z"),
        },
        "spec": spec,
    });
    match kind {
        Kind::MailServer => serde_json::from_value::<MailServer>(value).unwrap().into(),
        Kind::MailDomain => serde_json::from_value::<MailDomain>(value).unwrap().into(),
        Kind::Mailbox => serde_json::from_value::<Mailbox>(value).unwrap().into(),
        Kind::MailAlias => serde_json::from_value::<MailAlias>(value).unwrap().into(),
        Kind::RelayPolicy => serde_json::from_value::<RelayPolicy>(value).unwrap().into(),
    }
}

/// A MailServer that admits every namespace.
pub(super) fn server(name: &str) -> Object {
    object(Kind::MailServer, name, 0, json!({"hostname": "mx.example.net", "allowedNamespaces": {"from": "All"}}))
}

/// A MailDomain on the MailServer mail/default.
pub(super) fn domain(name: &str, created: u8, domain: &str, more: Value) -> Object {
    object(
        Kind::MailDomain,
        name,
        created,
        merge(json!({"domain": domain, "serverRef": {"name": "default", "namespace": "mail"}}), more),
    )
}

pub(super) fn mailbox(name: &str, created: u8, domain: &str, local_part: &str, more: Value) -> Object {
    object(Kind::Mailbox, name, created, merge(json!({"domainRef": reference(domain), "localPart": local_part}), more))
}

pub(super) fn alias(name: &str, created: u8, domain: &str, local_part: &str, targets: Value) -> Object {
    object(
        Kind::MailAlias,
        name,
        created,
        json!({"domainRef": reference(domain), "localPart": local_part, "targets": targets}),
    )
}

pub(super) fn policy(name: &str, from: Value, more: Value) -> Object {
    object(
        Kind::RelayPolicy,
        name,
        1,
        merge(json!({"serverRef": {"name": "default", "namespace": "mail"}, "from": from}), more),
    )
}

fn reference(name: &str) -> Value {
    let name = NamespacedName::parse(name).unwrap();
    json!({"namespace": name.namespace, "name": name.name})
}

fn merge(mut base: Value, more: Value) -> Value {
    if let (Some(base), Value::Object(more)) = (base.as_object_mut(), more) {
        base.extend(more);
    }
    base
}

pub(super) fn key(kind: Kind, name: &str) -> ObjectKey {
    ObjectKey::new(kind, NamespacedName::parse(name).unwrap())
}

pub(super) fn default_server() -> NamespacedName {
    NamespacedName::new("mail", "default")
}

/// A directory with these objects.
pub(super) fn directory(objects: impl IntoIterator<Item = Object>) -> Directory {
    let mut directory = Directory::new(Options { default_server: Some(default_server()), ..Options::default() });
    for object in objects {
        directory.apply(object);
    }
    directory
}

pub(super) fn reason(directory: &Directory, kind: Kind, name: &str) -> String {
    directory.report(&key(kind, name)).unwrap().verdict.reason().to_string()
}

pub(super) fn message(directory: &Directory, kind: Kind, name: &str) -> String {
    directory.report(&key(kind, name)).unwrap().verdict.message().to_owned()
}

/// The directory lines of mail/default: address → `mailbox` or the alias's targets.
pub(super) fn lines(directory: &Directory) -> BTreeMap<String, String> {
    directory
        .records(&default_server(), None)
        .map(|record| match record.into_inner() {
            Record::Mailbox(mailbox) => (mailbox.address.to_string(), "mailbox".to_owned()),
            Record::Domain(config) => (config.domain.to_string(), "domain".to_owned()),
            Record::Alias(alias) => {
                let targets: Vec<String> = alias.targets.iter().map(ToString::to_string).collect();
                (alias.address.to_string(), targets.join(" "))
            }
        })
        .collect()
}

/// Objects, the object in question, the reason that is expected, and words of the message.
pub(super) struct Case {
    rule: &'static str,
    objects: Vec<Object>,
    about: (Kind, &'static str),
    reason: &'static str,
    words: &'static [&'static str],
}

pub(super) fn check(cases: Vec<Case>) {
    for Case { rule, objects, about: (kind, name), reason: expected, words } in cases {
        let directory = directory(objects);
        let message = message(&directory, kind, name);
        assert_eq!(reason(&directory, kind, name), expected, "{rule}: {message}");
        for word in words {
            assert!(message.contains(word), "{rule}: {word:?} is not in {message:?}");
        }
    }
}

pub(super) fn case(
    rule: &'static str,
    about: (Kind, &'static str),
    reason: &'static str,
    words: &'static [&'static str],
    objects: Vec<Object>,
) -> Case {
    Case { rule, objects, about, reason, words }
}

/// mail/default with one/d for server1.com, and more.
pub(super) fn served(more: Vec<Object>) -> Vec<Object> {
    [server("mail/default"), domain("one/d", 1, "server1.com", json!({}))].into_iter().chain(more).collect()
}

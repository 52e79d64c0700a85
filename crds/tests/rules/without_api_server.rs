//! The same table, for manifests that are read without an API server.

use std::collections::BTreeSet;

use paquebot_crds::{Kind, manifest, rules, validate};
use serde_json::{Value, json};

use crate::cases::{self, CASES};
use crate::collect_messages;
use crate::samples::{examples, largest};

fn problems(kind: Kind, spec: Value) -> Vec<String> {
    validate::problems(kind, &json!({"spec": spec})).iter().map(ToString::to_string).collect()
}

#[test]
fn the_rules_hold_without_an_api_server() {
    let mut wrong = Vec::new();
    for case in CASES {
        let problems = problems(case.kind, cases::spec(case.kind, case.spec));
        let right = match case.refusal {
            None => problems.is_empty(),
            Some(wanted) => problems.iter().any(|problem| problem.contains(wanted)),
        };
        if !right {
            wrong.push(format!("{}: {}: wanted {:?}, got {problems:?}", case.kind, case.name, case.refusal));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_examples_are_good() {
    for (what, kind, manifest) in examples() {
        assert_eq!(validate::problems(kind, &manifest), [], "{what}");
    }
}

#[test]
fn the_largest_are_good() {
    for (kind, spec) in largest() {
        assert_eq!(problems(kind, spec), Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn every_rule_of_the_schema_has_its_rust_half() {
    let mut messages = BTreeSet::new();
    for definition in manifest::definitions() {
        collect_messages(&serde_json::to_value(&definition).unwrap(), &mut messages);
    }
    let missing: Vec<&String> =
        messages.iter().filter(|message| rules::holds(message, &Value::Null).is_none()).collect();
    assert!(missing.is_empty(), "no Rust function for: {missing:?}");
}

#[test]
fn a_problem_says_where_it_is() {
    let spec = json!({
        "hostname": "mx.example.net",
        "listeners": [{"name": "smtp", "protocol": "SMTP", "port": 25}, {"name": "x", "protocol": "SMTP", "prot": 26}],
        "storag": {},
        "limits": {"maxRecipients": "many"},
        "dns": null,
    });
    assert_eq!(
        problems(Kind::MailServer, spec),
        [
            "spec.limits.maxRecipients: must be of type integer",
            "spec.listeners[1].port: Required value",
            "spec.listeners[1].prot: unknown field",
            "spec.storag: unknown field",
        ]
    );
    assert_eq!(
        problems(Kind::MailServer, json!({"hostname": "mx.example.net", "replicas": 2})),
        ["spec.replicas: more than one replica needs storage.postgres: an embedded store belongs to one pod"]
    );
    assert_eq!(validate::problems(Kind::Mailbox, &json!({}))[0].to_string(), "spec: Required value");
}

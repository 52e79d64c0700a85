//! Every rule of the CustomResourceDefinitions, against a table of good and bad objects, without an API server and on a real one.
//!
//! The API server is the one that `PAQUEBOT_API_SERVER_KUBECONFIG` names (a kubeconfig's path), or one that the test
//! starts and takes down by itself with `tests/cluster/cluster apiserver`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test")]

mod cases;
mod on_api_server;
mod readable;
mod samples;
mod server;
mod without_api_server;

use std::collections::BTreeSet;

use cases::{CASES, CHANGES};
use paquebot_crds::manifest;
use serde_json::Value;

/// A rule that no bad object breaks is a rule that nobody knows to work.
#[test]
fn the_table_breaks_every_rule() {
    let refusals: BTreeSet<&str> = CASES
        .iter()
        .filter_map(|case| case.refusal)
        .chain(CHANGES.iter().filter_map(|change| change.refusal))
        .collect();
    let mut untried = Vec::new();
    for definition in manifest::definitions() {
        let definition = serde_json::to_value(&definition).unwrap();
        let kind = definition.pointer("/spec/names/kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut messages = BTreeSet::new();
        collect_messages(&definition, &mut messages);
        untried.extend(
            messages.into_iter().filter(|message| !refusals.contains(message.as_str())).map(|m| format!("{kind}: {m}")),
        );
    }
    assert!(untried.is_empty(), "no case of the table breaks these rules:\n{}", untried.join("\n"));
}

fn collect_messages(value: &Value, messages: &mut BTreeSet<String>) {
    match value {
        Value::Object(entries) => {
            for rule in entries.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                let message = rule.get("message").and_then(Value::as_str);
                messages.insert(message.unwrap_or("a rule without a message").to_owned());
            }
            entries.values().for_each(|entry| collect_messages(entry, messages));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_messages(item, messages)),
        _ => {}
    }
}

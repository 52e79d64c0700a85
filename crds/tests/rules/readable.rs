//! What the rules accept, the types can read: else one object that the API server took would be invisible to the operator.

use paquebot_crds::{Kind, MailAliasSpec, MailDomainSpec, MailServerSpec, MailboxSpec, RelayPolicySpec, validate};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cases::{self, CASES};

/// Why the types cannot read a spec.
pub fn unreadable(kind: Kind, spec: &Value) -> Option<String> {
    fn read<S: DeserializeOwned>(spec: &Value) -> Option<String> {
        serde_json::from_value::<S>(spec.clone()).err().map(|error| error.to_string())
    }
    match kind {
        Kind::MailServer => read::<MailServerSpec>(spec),
        Kind::MailDomain => read::<MailDomainSpec>(spec),
        Kind::Mailbox => read::<MailboxSpec>(spec),
        Kind::MailAlias => read::<MailAliasSpec>(spec),
        Kind::RelayPolicy => read::<RelayPolicySpec>(spec),
    }
}

/// A value that may or may not fit somewhere.
fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!([])),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-2..100_000_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9.+@/:-]{0,12}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        select(vec!["Enabled", "Selector", "1h", "0", "1Gi", "1.5", "10.0.0.0/8", "::/0", "a@b.cd", "Required"])
            .prop_map(Value::from),
    ]
}

/// Every place in a value, as JSON pointers.
fn places(value: &Value, here: &str, all: &mut Vec<String>) {
    all.push(here.to_owned());
    let key = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| places(field, &format!("{here}/{}", key(name)), all))
        }
        Value::Array(entries) => {
            entries.iter().enumerate().for_each(|(index, entry)| places(entry, &format!("{here}/{index}"), all));
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_is_accepted_can_be_read(case in any::<Index>(), place in any::<Index>(), value in values()) {
        let case = case.get(CASES);
        let mut spec = cases::spec(case.kind, case.spec);
        let mut all = Vec::new();
        places(&spec, "", &mut all);
        let place: &String = place.get(&all);
        *spec.pointer_mut(place).unwrap() = value;
        if validate::problems(case.kind, &json!({"spec": spec})).is_empty() {
            // The API server takes nulls away before it stores an object.
            remove_nulls(&mut spec);
            prop_assert_eq!(unreadable(case.kind, &spec), None, "{}: {}", case.kind, spec);
        }
    }
}

fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(entries) => entries.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

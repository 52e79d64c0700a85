//! Whether a live object has all that is wanted of it, whatever the API server has added or written in its own way. Pure;
//! [`super::apply`] asks before it writes.

use serde_json::Value;

/// Whether a live value has everything that is wanted; the API server adds defaults and status beside it.
#[must_use]
pub fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(key, wanted)| match live.get(key) {
            Some(live) if matches!(key.as_str(), "limits" | "requests") => has_amounts(live, wanted),
            Some(live) => contains(live, wanted),
            None => is_empty(wanted),
        }),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| contains(live, wanted))
        }
        _ => live == wanted,
    }
}

/// Amounts of resources, which the API server writes in its own way: 1024Mi becomes 1Gi.
fn has_amounts(live: &Value, wanted: &Value) -> bool {
    let (Value::Object(live), Value::Object(wanted)) = (live, wanted) else { return contains(live, wanted) };
    wanted.iter().all(|(name, wanted)| {
        let amount = |value: &Value| billionths(value.as_str()?);
        live.get(name).is_some_and(|live| {
            live == wanted || amount(live).is_some_and(|amount_live| amount(wanted) == Some(amount_live))
        })
    })
}

/// A Kubernetes quantity in billionths, the smallest unit that there is; `None` if it is none, or out of all bounds.
fn billionths(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let ten = |exponent: u32| 10_i128.checked_pow(exponent);
    let factor = match suffix {
        "n" => 1,
        "u" => ten(3)?,
        "m" => ten(6)?,
        "" => ten(9)?,
        "k" => ten(12)?,
        "M" => ten(15)?,
        "G" => ten(18)?,
        "T" => ten(21)?,
        "P" => ten(24)?,
        "E" => ten(27)?,
        "Ki" => ten(9)? << 10,
        "Mi" => ten(9)? << 20,
        "Gi" => ten(9)? << 30,
        "Ti" => ten(9)? << 40,
        "Pi" => ten(9)? << 50,
        "Ei" => ten(9)? << 60,
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            ten(u32::try_from(exponent.checked_add(9)?).ok()?)?
        }
    };
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = digits.checked_mul(factor)?;
    let divisor = ten(u32::try_from(fraction.len()).ok()?)?;
    // The API server rounds up what is smaller than a billionth; such a wish simply counts as another amount.
    (scaled % divisor == 0).then_some(scaled / divisor)
}

/// What the API server leaves away.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Null => true,
        Value::String(_) | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Takes away what is null: it means absence, and would otherwise differ from what the API server stores.
pub(super) fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_do_not_count_and_differences_do() {
        let live = json!({"a": 1, "list": [{"name": "x", "default": true}], "empty": null});
        for (wanted, as_wanted) in [
            (json!({"a": 1}), true),
            (json!({"list": [{"name": "x"}]}), true),
            (json!({"nothing": {}, "none": []}), true),
            (json!({"a": 2}), false),
            (json!({"b": 1}), false),
            (json!({"list": []}), false),
            (json!({"list": [{"name": "x"}, {"name": "y"}]}), false),
        ] {
            assert_eq!(contains(&live, &wanted), as_wanted, "{wanted}");
        }
    }

    #[test]
    fn amounts_are_the_same_however_they_are_written() {
        for (live, wanted, same) in [
            ("1Gi", "1024Mi", true),
            ("500m", "0.5", true),
            ("1", "1000m", true),
            ("1k", "1e3", true),
            ("1536Mi", "1.5Gi", true),
            ("100m", "100M", false),
            ("1G", "1Gi", false),
            ("1", "", false),
            ("1", "one", false),
        ] {
            let resources = |amount: &str| json!({ "resources": { "limits": { "memory": amount } } });
            assert_eq!(contains(&resources(live), &resources(wanted)), same, "{live} {wanted}");
            let labels = |value: &str| json!({ "labels": { "memory": value } });
            assert!(!contains(&labels(live), &labels(wanted)), "only amounts are amounts");
        }
        assert!(!contains(&json!({ "limits": {} }), &json!({ "limits": { "cpu": "1" } })));
    }

    #[test]
    fn nulls_are_absent() {
        let mut value = json!({"a": null, "b": {"c": null, "d": 1}, "e": [{"f": null}]});
        strip_nulls(&mut value);
        assert_eq!(value, json!({"b": {"d": 1}, "e": [{}]}));
    }
}

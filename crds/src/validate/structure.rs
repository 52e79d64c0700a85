//! Types, bounds and field names, worded as the API server words them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

use super::Problem;
use crate::rules;

/// The schema of a list's items.
fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items),
        _ => None,
    }
}

/// The schema of a map's values.
fn map_values(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(values)) => Some(values),
        _ => None,
    }
}

/// The schema of a field.
fn field<'a>(schema: &'a JSONSchemaProps, name: &str) -> Option<&'a JSONSchemaProps> {
    schema.properties.as_ref().and_then(|properties| properties.get(name)).or_else(|| map_values(schema))
}

/// Takes nulls away, since no field of ours may be null, and puts defaults in.
pub fn complete(value: &mut Value, schema: &JSONSchemaProps) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            for (name, property) in schema.properties.iter().flatten() {
                if let Some(default) = &property.default {
                    fields.entry(name.clone()).or_insert_with(|| default.0.clone());
                }
            }
            for (name, entry) in fields {
                if let Some(schema) = field(schema, name) {
                    complete(entry, schema);
                }
            }
        }
        Value::Array(entries) => {
            if let Some(schema) = items(schema) {
                entries.iter_mut().for_each(|entry| complete(entry, schema));
            }
        }
        _ => {}
    }
}

/// Checks a value and what is below it.
pub fn check(value: &Value, schema: &JSONSchemaProps, path: &str, problems: &mut Vec<Problem>) {
    let mut problem = |message: String| problems.push(Problem { path: path.to_owned(), message });
    if let Some(wanted) = wrong_type(value, schema) {
        problem(format!("must be of type {wanted}"));
        return;
    }
    if let Some(message) = out_of_bounds(value, schema) {
        problem(message);
        return;
    }
    for name in schema.required.iter().flatten().filter(|name| value.get(name.as_str()).is_none()) {
        problems.push(Problem { path: format!("{path}.{name}"), message: "Required value".to_owned() });
    }
    for (name, entry) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match field(schema, name) {
            Some(schema) => check(entry, schema, &path, problems),
            None => problems.push(Problem { path, message: "unknown field".to_owned() }),
        }
    }
    if let Some(schema) = items(schema) {
        for (index, entry) in value.as_array().into_iter().flatten().enumerate() {
            check(entry, schema, &format!("{path}[{index}]"), problems);
        }
    }
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        let message = rule.message.as_deref().unwrap_or_default();
        if rules::holds(message, value) == Some(false) {
            let path = format!("{path}{}", rule.field_path.as_deref().unwrap_or_default());
            problems.push(Problem { path, message: message.to_owned() });
        }
    }
}

/// The type that is wanted, if the value has another.
fn wrong_type<'a>(value: &Value, schema: &'a JSONSchemaProps) -> Option<&'a str> {
    if schema.x_kubernetes_int_or_string == Some(true) {
        let fits = value.is_string() || value.is_i64() || value.is_u64();
        return (!fits).then_some("integer or string");
    }
    let wanted = schema.type_.as_deref()?;
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    };
    (!fits).then_some(wanted)
}

/// What is said of a value of the right type that is too small, too large, or not among those that are known.
fn out_of_bounds(value: &Value, schema: &JSONSchemaProps) -> Option<String> {
    if let Some(known) = &schema.enum_
        && !known.iter().any(|known| known.0 == *value)
    {
        let known: Vec<String> = known.iter().map(|known| known.0.to_string()).collect();
        return Some(format!("supported values: {}", known.join(", ")));
    }
    let beyond =
        |size: usize, limit: Option<i64>| limit.filter(|limit| i64::try_from(size).is_ok_and(|size| size > *limit));
    let below =
        |size: usize, limit: Option<i64>| limit.filter(|limit| i64::try_from(size).is_ok_and(|size| size < *limit));
    match value {
        Value::String(text) => {
            let length = text.chars().count();
            let long =
                beyond(length, schema.max_length).map(|limit| format!("may not be more than {limit} characters"));
            long.or_else(|| {
                below(length, schema.min_length).map(|limit| format!("should be at least {limit} chars long"))
            })
        }
        Value::Array(entries) => {
            let many = beyond(entries.len(), schema.max_items).map(|limit| format!("must have at most {limit} items"));
            many.or_else(|| {
                below(entries.len(), schema.min_items).map(|limit| format!("should have at least {limit} items"))
            })
        }
        Value::Object(fields) => {
            beyond(fields.len(), schema.max_properties).map(|limit| format!("must have at most {limit} properties"))
        }
        Value::Number(number) => {
            let number = number.as_f64()?;
            let large = schema.maximum.filter(|limit| number > *limit);
            let small = schema.minimum.filter(|limit| number < *limit);
            let large = large.map(|limit| format!("should be less than or equal to {limit}"));
            large.or_else(|| small.map(|limit| format!("should be greater than or equal to {limit}")))
        }
        _ => None,
    }
}

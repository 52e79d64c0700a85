//! The files beside the crate are what the types say, and every value in them is bounded.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test")]

use std::fs;
use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use paquebot_crds::manifest;

#[test]
fn files_are_up_to_date() {
    for file in manifest::files().unwrap() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&file.name);
        let present = fs::read_to_string(&path).unwrap_or_default();
        assert!(present == file.text, "{} is stale: run `make crds` and commit what it writes", path.display());
    }
}

#[test]
fn every_value_is_bounded_described_and_never_null() {
    let mut problems = Vec::new();
    for definition in manifest::definitions() {
        for version in &definition.spec.versions {
            let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref()).unwrap();
            for (name, property) in schema.properties.as_ref().unwrap() {
                if name != "metadata" {
                    check(property, &format!("{}.{name}", definition.spec.names.kind), &mut problems);
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn check(schema: &JSONSchemaProps, path: &str, problems: &mut Vec<String>) {
    let mut problem = |what: &str| problems.push(format!("{path} {what}"));
    if schema.nullable.is_some() {
        problem("may be null");
    }
    let closed = schema.enum_.is_some() || schema.format.as_deref() == Some("date-time");
    match schema.type_.as_deref() {
        Some("string") if !closed && schema.max_length.is_none() => problem("has no maxLength"),
        Some("array") if schema.max_items.is_none() => problem("has no maxItems"),
        Some("object") if schema.additional_properties.is_some() && schema.max_properties.is_none() => {
            problem("has no maxProperties");
        }
        None if schema.x_kubernetes_int_or_string != Some(true) => problem("has no type"),
        _ => {}
    }
    if let Some(format) = schema.format.as_deref()
        && !["int32", "int64", "date-time"].contains(&format)
    {
        problem("has a format that Kubernetes does not know");
    }
    if schema.any_of.is_some() && schema.x_kubernetes_int_or_string != Some(true) || schema.one_of.is_some() {
        problem("has alternatives that no rule explains");
    }
    for (name, property) in schema.properties.iter().flatten() {
        check(property, &format!("{path}.{name}"), problems);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        check(items, &format!("{path}[]"), problems);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        check(values, &format!("{path}.*"), problems);
    }
}

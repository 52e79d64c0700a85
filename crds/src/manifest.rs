//! The CustomResourceDefinitions, as the API server takes them and as files. Called by the generator (`make crds`), by
//! the test that compares the files with the types, and by whoever installs them through a client.
//!
//! The derive macros write most of a definition. What they cannot say is added here: no field may be null (leaving it
//! out says the same), and integers have the formats that Kubernetes knows.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::{MailAlias, MailDomain, MailServer, Mailbox, RelayPolicy};

/// The definitions of the five kinds.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let mut definitions =
        vec![MailServer::crd(), MailDomain::crd(), Mailbox::crd(), MailAlias::crd(), RelayPolicy::crd()];
    for definition in &mut definitions {
        for version in &mut definition.spec.versions {
            if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
                finish(schema);
            }
        }
    }
    definitions
}

/// A file of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFile {
    /// Its name, `paquebot.dev_<plural>.yaml`.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// The files of the definitions.
///
/// # Errors
/// When a definition cannot be written as YAML.
pub fn files() -> Result<Vec<ManifestFile>, serde_saphyr::ser::Error> {
    definitions()
        .iter()
        .map(|definition| {
            let name = format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural);
            let yaml = serde_saphyr::to_string(definition)?;
            Ok(ManifestFile { name, text: format!("# Generated from the types in crds/src by `make crds`.\n{yaml}") })
        })
        .collect()
}

/// Applies what the derive macros cannot say, here and below.
fn finish(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    finish_integer(schema);
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        finish(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => finish(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(finish),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        finish(values);
    }
}

/// Kubernetes knows no unsigned formats, and does not hold numbers to a format's range: the bounds say it.
fn finish_integer(schema: &mut JSONSchemaProps) {
    let (format, smallest, largest) = match schema.format.as_deref() {
        Some("uint8") => ("int32", 0.0, f64::from(u8::MAX)),
        Some("uint16") => ("int32", 0.0, f64::from(u16::MAX)),
        Some("uint32") => ("int64", 0.0, f64::from(u32::MAX)),
        Some("int32") => ("int32", f64::from(i32::MIN), f64::from(i32::MAX)),
        _ => return,
    };
    schema.format = Some(format.to_owned());
    schema.minimum.get_or_insert(smallest);
    schema.maximum.get_or_insert(largest);
}

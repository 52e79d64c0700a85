//! The rules of the CustomResourceDefinitions without an API server, for manifests that are read from files.
//!
//! The compile step and `make try` call [`problems`] for each manifest. It walks the same schema that the API server
//! walks: `structure` holds types, bounds and
//! names of fields, [`crate::rules`] a Rust function for each CEL rule. The table in
//! `tests/rules` is run against this module and against a real API server, so that both say the same.
//! Rules about changes (`oldSelf`) need the object's past and are left to the API server.

mod structure;

use std::fmt;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinitionVersion, JSONSchemaProps,
};
use serde_json::Value;

use crate::{Kind, manifest};

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, such as `spec.listeners[1].port`.
    pub path: String,
    /// What, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path, self.message)
    }
}

/// The schema of each kind's spec.
static SPECS: LazyLock<Vec<(String, JSONSchemaProps)>> = LazyLock::new(|| {
    let spec =
        |version: CustomResourceDefinitionVersion| version.schema?.open_api_v3_schema?.properties?.remove("spec");
    manifest::definitions()
        .into_iter()
        .filter_map(|definition| {
            let version = definition.spec.versions.into_iter().next()?;
            Some((definition.spec.names.kind, spec(version)?))
        })
        .collect()
});

/// What is wrong with the `spec` of a manifest of the kind, in the order of the schema; nothing if an API server would
/// take it.
#[must_use]
pub fn problems(kind: Kind, manifest: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    let Some((_, schema)) = SPECS.iter().find(|(name, _)| name == kind.as_str()) else { return problems };
    let Some(spec) = manifest.get("spec").filter(|spec| !spec.is_null()) else {
        problems.push(Problem { path: "spec".to_owned(), message: "Required value".to_owned() });
        return problems;
    };
    // As the API server does: nulls go, defaults come, then structure and rules.
    let mut spec = spec.clone();
    structure::complete(&mut spec, schema);
    structure::check(&spec, schema, "spec", &mut problems);
    problems
}

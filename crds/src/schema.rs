//! Schema fragments that the kinds share. Called by the derive macros of the kinds, never at run time.
//!
//! A real API server refuses a CEL rule whose cost it cannot bound, so every string, list and map has a maximum.

use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Longest string inside an embedded Kubernetes type; label values and image names are far shorter.
const EMBEDDED_STRING: u64 = 1024;
/// Most entries of a list or map inside an embedded Kubernetes type.
const EMBEDDED_ENTRIES: u64 = 64;

/// The list of conditions, as `metav1.Condition` documents it: a map keyed by `type`.
pub fn conditions(_generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "What was observed, one entry for each aspect. Reasons are stable: scripts may match on them.",
        "type": "array",
        "maxItems": 32,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "The aspect that this entry speaks of."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024,
                           "description": "Why, in one stable word."},
                "message": {"type": "string", "maxLength": MESSAGE_MAXIMUM,
                            "description": "Why, in a sentence that says what to do."},
                "lastTransitionTime": {"type": "string", "format": "date-time",
                                       "description": "When `status` last changed."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0,
                                       "description": "The metadata.generation that this entry was computed from."},
            },
        },
    })
}

/// Most bytes of a condition's message, as `metav1.Condition` documents.
pub const MESSAGE_MAXIMUM: usize = 32768;

/// The schema of a Kubernetes type that we embed as it is: its bounds added, its long descriptions left to
/// `kubectl explain` of the type's own home.
pub fn embedded<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = T::json_schema(generator);
    Bound.transform(&mut schema);
    schema
}

/// A list of an embedded Kubernetes type.
pub fn embedded_list<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let items = embedded::<T>(generator);
    json_schema!({"type": "array", "maxItems": EMBEDDED_ENTRIES, "items": items})
}

/// A map of short strings: labels, annotations, node selectors.
pub fn string_map(_generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": EMBEDDED_ENTRIES,
        "additionalProperties": {"type": "string", "maxLength": 4096},
    })
}

/// A map from listener names to node ports.
pub fn port_map(_generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535},
    })
}

/// Bounds what is unbounded, and drops descriptions.
struct Bound;

impl Transform for Bound {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else {
            return;
        };
        object.remove("description");
        let kind = object.get("type").and_then(Value::as_str).map(str::to_owned);
        let bound = match kind.as_deref() {
            Some("string") if !object.contains_key("enum") => Some(("maxLength", EMBEDDED_STRING)),
            Some("array") => Some(("maxItems", EMBEDDED_ENTRIES)),
            Some("object") if object.contains_key("additionalProperties") => Some(("maxProperties", EMBEDDED_ENTRIES)),
            _ if object.contains_key("x-kubernetes-int-or-string") => Some(("maxLength", 64)),
            _ => None,
        };
        if let Some((keyword, maximum)) = bound {
            object.entry(keyword).or_insert_with(|| json!(maximum));
        }
    }
}

/// A point in time, as RFC 3339 writes it.
pub fn date_time(_generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

//! Names of objects, and the order in which older objects go before younger ones.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use paquebot_crds::{Kind, ObjectReference};

use crate::intern::Interner;

/// The namespace and name of an object. Equal ones share their text: an object's name stands in some twenty places, and
/// its Secret often has the same.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedName(Arc<NameParts>);

/// What a [`NamespacedName`] is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameParts {
    /// The namespace.
    pub namespace: String,
    /// The name inside it.
    pub name: String,
}

/// The names that are in use.
static NAMES: LazyLock<Interner<NameParts>> = LazyLock::new(Interner::default);

impl From<NameParts> for NamespacedName {
    fn from(mut parts: NameParts) -> Self {
        parts.namespace.shrink_to_fit();
        parts.name.shrink_to_fit();
        Self(NAMES.share(parts))
    }
}

impl Deref for NamespacedName {
    type Target = NameParts;
    fn deref(&self) -> &NameParts {
        &self.0
    }
}

impl fmt::Debug for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl NamespacedName {
    /// Puts the two together.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        NameParts { namespace: namespace.to_owned(), name: name.to_owned() }.into()
    }

    /// What a reference means that an object of the namespace `home` holds.
    #[must_use]
    pub fn of_reference(reference: &ObjectReference, home: &str) -> Self {
        Self::new(reference.namespace_or(home), &reference.name)
    }

    /// Reads `namespace/name`; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        (!namespace.is_empty() && !name.is_empty() && !name.contains('/')).then(|| Self::new(namespace, name))
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One object of one of the five kinds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The kind; keys sort by it first, in the order in which one kind builds on the other.
    pub kind: Kind,
    /// Namespace and name.
    pub name: NamespacedName,
}

impl ObjectKey {
    /// Puts the two together.
    #[must_use]
    pub fn new(kind: Kind, name: NamespacedName) -> Self {
        Self { kind, name }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Seniority: sorts the older object first, then by namespace and name, so that every operator decides alike.
/// An object without a creation time (a manifest that no API server has seen) counts as the oldest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seniority {
    created: Option<Timestamp>,
    name: NamespacedName,
    kind: Kind,
}

impl Seniority {
    /// The rank of an object.
    #[must_use]
    pub fn new(created: Option<Timestamp>, key: ObjectKey) -> Self {
        Self { created, name: key.name, kind: key.kind }
    }

    /// The namespace of the object.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.name.namespace
    }

    /// Whose rank it is.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(self.kind, self.name.clone())
    }
}

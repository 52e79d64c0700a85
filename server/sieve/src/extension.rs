//! The extensions that a script may `require` (RFC 5228 §3.2, §6).

/// An extension by its capability string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Extension {
    Body,
    ComparatorNumeric,
    ComparatorOctet,
    ComparatorCasemap,
    Copy,
    Date,
    Duplicate,
    EditHeader,
    EncodedCharacter,
    Envelope,
    Environment,
    Ereject,
    FileInto,
    Ihave,
    Index,
    Mailbox,
    Reject,
    Relational,
    Subaddress,
    Vacation,
    VacationSeconds,
    Variables,
}

const NAMES: [(&str, Extension); 22] = [
    ("body", Extension::Body),
    ("comparator-i;ascii-casemap", Extension::ComparatorCasemap),
    ("comparator-i;ascii-numeric", Extension::ComparatorNumeric),
    ("comparator-i;octet", Extension::ComparatorOctet),
    ("copy", Extension::Copy),
    ("date", Extension::Date),
    ("duplicate", Extension::Duplicate),
    ("editheader", Extension::EditHeader),
    ("encoded-character", Extension::EncodedCharacter),
    ("envelope", Extension::Envelope),
    ("environment", Extension::Environment),
    ("ereject", Extension::Ereject),
    ("fileinto", Extension::FileInto),
    ("ihave", Extension::Ihave),
    ("index", Extension::Index),
    ("mailbox", Extension::Mailbox),
    ("reject", Extension::Reject),
    ("relational", Extension::Relational),
    ("subaddress", Extension::Subaddress),
    ("vacation", Extension::Vacation),
    ("vacation-seconds", Extension::VacationSeconds),
    ("variables", Extension::Variables),
];

impl Extension {
    /// The extension of a capability string, compared exactly (RFC 5228 §6).
    pub(crate) fn of(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, extension)| *extension)
    }

    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, extension)| *extension == self).map_or("", |(name, _)| name)
    }
}

/// The capability strings of all extensions, sorted: what a script may `require`.
pub fn extensions() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

//! A compiled script: nothing in it can meet a type error when it runs. Built by [`crate::compile`], run by [`crate::run`].

use crate::comparator::{Comparator, Relation};
use crate::error::Position;

/// A string of a script, with what must be put in when it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Text {
    Constant(Box<str>),
    Template(Box<[Piece]>),
}

impl Text {
    /// The text, where it is the same for every message.
    pub(crate) fn constant(&self) -> Option<&str> {
        match self {
            Self::Constant(text) => Some(text),
            Self::Template(_) => None,
        }
    }
}

/// A piece of a template (RFC 5229 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Literal(Box<str>),
    /// The variable with this number.
    Variable(usize),
    /// What the last successful `:matches` found.
    Match(usize),
}

/// How values are compared with keys (RFC 5228 §2.7.1, RFC 5231).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MatchType {
    Is,
    Contains,
    Matches,
    Count(Relation),
    Value(Relation),
}

/// Which values satisfy a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Matcher {
    pub(crate) match_type: MatchType,
    pub(crate) comparator: Comparator,
    pub(crate) keys: Vec<Text>,
}

/// Which part of an address is compared (RFC 5228 §2.7.4, RFC 5233).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressPart {
    All,
    LocalPart,
    Domain,
    User,
    Detail,
}

/// Which one of several fields with a name (RFC 5260 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Index {
    /// From 1.
    pub(crate) number: u64,
    pub(crate) from_last: bool,
}

/// In which time zone a date is read (RFC 5260 §4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Zone {
    Local,
    Original,
    Offset(Text),
}

/// What of the body is compared (RFC 5173 §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BodyPart {
    Raw,
    Text,
    Content(Vec<Text>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Test {
    Constant(bool),
    /// A result that no message changes, because extensions are here or not.
    Ihave(bool),
    Not(Box<Test>),
    AllOf(Vec<Test>),
    AnyOf(Vec<Test>),
    Exists(Vec<Text>),
    Size {
        over: bool,
        octets: u64,
    },
    Header {
        names: Vec<Text>,
        index: Option<Index>,
        matcher: Matcher,
    },
    Address {
        names: Vec<Text>,
        index: Option<Index>,
        part: AddressPart,
        matcher: Matcher,
    },
    Envelope {
        parts: Vec<Text>,
        part: AddressPart,
        matcher: Matcher,
    },
    Body {
        part: BodyPart,
        matcher: Matcher,
    },
    String {
        sources: Vec<Text>,
        matcher: Matcher,
    },
    Date {
        name: Text,
        index: Option<Index>,
        zone: Zone,
        part: Text,
        matcher: Matcher,
    },
    CurrentDate {
        zone: Zone,
        part: Text,
        matcher: Matcher,
    },
    Environment {
        name: Text,
        matcher: Matcher,
    },
    MailboxExists(Vec<Text>),
    Duplicate(Box<Duplicate>),
}

/// Where `duplicate` takes the unique id from (RFC 7352 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UniqueId {
    Header(Text),
    Given(Text),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Duplicate {
    pub(crate) handle: Option<Text>,
    pub(crate) id: UniqueId,
    pub(crate) seconds: u64,
    pub(crate) last: bool,
}

/// What `set` does to a value, in this order (RFC 5229 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Modifiers {
    pub(crate) case: Option<Case>,
    pub(crate) first: Option<Case>,
    pub(crate) quote_wildcard: bool,
    pub(crate) length: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Lower,
    Upper,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vacation {
    pub(crate) seconds: u64,
    pub(crate) subject: Option<Text>,
    pub(crate) from: Option<Text>,
    pub(crate) addresses: Vec<Text>,
    pub(crate) mime: bool,
    pub(crate) handle: Option<Text>,
    pub(crate) reason: Text,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeleteHeader {
    pub(crate) name: Text,
    pub(crate) index: Option<Index>,
    /// Without keys every field with the name goes.
    pub(crate) matcher: Matcher,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    If { branches: Vec<(Test, Vec<Statement>)>, otherwise: Vec<Statement> },
    Stop,
    Keep,
    Discard,
    FileInto { folder: Text, create: bool, copy: bool },
    Redirect { address: Text, copy: bool },
    Reject { reason: Text, kind: crate::outcome::RejectKind },
    Set { variable: usize, modifiers: Modifiers, value: Text },
    AddHeader { name: Text, value: Text, last: bool },
    DeleteHeader(Box<DeleteHeader>),
    Vacation(Box<Vacation>),
    Error(Text),
}

/// A command and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) at: Position,
    pub(crate) command: Command,
}

/// What a script asks its environment for, so that a caller can fetch it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)] // each is a question of its own
pub struct Needs {
    /// [`crate::Environment::is_duplicate`].
    pub duplicates: bool,
    /// [`crate::Environment::has_replied`].
    pub vacation: bool,
    /// [`crate::Environment::folder_exists`].
    pub folders: bool,
    /// The message's body; without it the header is enough.
    pub body: bool,
}

/// A script that is ready to run. Made by [`crate::compile()`]; may be shared between threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    pub(crate) statements: Vec<Statement>,
    pub(crate) variables: usize,
    /// Whether tests set match variables (RFC 5229 §3.2).
    pub(crate) match_variables: bool,
    pub(crate) needs: Needs,
}

impl Script {
    /// What it asks its environment for, on any of its paths.
    #[must_use]
    pub fn needs(&self) -> Needs {
        self.needs
    }
}

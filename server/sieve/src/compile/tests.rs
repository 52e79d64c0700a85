//! The tests: their arguments and what they become.

use super::arguments::{Arguments, Tag};
use super::matching::{Indexing, Matching, address_part};
use super::{Compiler, no_block};
use crate::date::{DatePart, parse_zone};
use crate::error::CompileError;
use crate::extension::Extension;
use crate::header::is_field_name;
use crate::program::{AddressPart, BodyPart, Duplicate, Test, Text, UniqueId, Zone};
use crate::syntax::{Literal, Node, Tests};

/// Fields that hold addresses; `address` may ask no others (RFC 5228 §5.1).
const ADDRESS_FIELDS: [&str; 20] = [
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "bcc",
    "resent-from",
    "resent-sender",
    "resent-to",
    "resent-cc",
    "resent-bcc",
    "resent-reply-to",
    "return-path",
    "delivered-to",
    "errors-to",
    "apparently-to",
    "disposition-notification-to",
    "mail-followup-to",
    "mail-reply-to",
    "x-original-to",
];

/// How long `duplicate` remembers where the script does not say: RFC 7352 §3.3 leaves it open; a week is more than the
/// five days that a queue tries.
const DUPLICATE_SECONDS: u64 = 7 * 86_400;

const KEYS: &str = "the texts to compare with";
const FIELDS: &str = "the names of header fields";

impl Compiler<'_> {
    pub(super) fn test(&mut self, node: &Node) -> Result<Test, CompileError> {
        let mut arguments = Arguments::new(node);
        let needed = match node.name.as_str() {
            "body" => Some(Extension::Body),
            "currentdate" | "date" => Some(Extension::Date),
            "duplicate" => Some(Extension::Duplicate),
            "envelope" => Some(Extension::Envelope),
            "environment" => Some(Extension::Environment),
            "ihave" => Some(Extension::Ihave),
            "mailboxexists" => Some(Extension::Mailbox),
            "string" => Some(Extension::Variables),
            _ => None,
        };
        if let Some(extension) = needed {
            self.require(extension, node.at, &format!("the test {}", node.name))?;
        }
        let test = match node.name.as_str() {
            "not" => {
                arguments.end_of_arguments()?;
                return Ok(Test::Not(Box::new(self.only_test(node)?)));
            }
            "allof" => return Ok(Test::AllOf(self.test_list(node)?)),
            "anyof" => return Ok(Test::AnyOf(self.test_list(node)?)),
            "true" => Test::Constant(true),
            "false" => Test::Constant(false),
            "exists" => Test::Exists(self.field_names(arguments.strings(FIELDS)?)?),
            "size" => size(&mut arguments)?,
            "header" => self.header_test(&mut arguments)?,
            "address" => self.address_test(&mut arguments)?,
            "envelope" => self.envelope_test(&mut arguments)?,
            "body" => self.body_test(&mut arguments)?,
            "string" => self.string_test(&mut arguments)?,
            "date" | "currentdate" => self.date_test(&mut arguments)?,
            "environment" => self.environment_test(&mut arguments)?,
            "mailboxexists" => {
                self.needs.folders = true;
                let folders = arguments.strings("the names of folders")?;
                Test::MailboxExists(self.texts(folders)?)
            }
            "duplicate" => self.duplicate_test(&mut arguments)?,
            "ihave" => self.ihave(&mut arguments)?,
            _ => return Err(unknown_test(node)),
        };
        arguments.end()?;
        no_block(node)?;
        Ok(test)
    }

    fn test_list(&mut self, node: &Node) -> Result<Vec<Test>, CompileError> {
        Arguments::new(node).end_of_arguments()?;
        let Tests::List(nodes) = &node.tests else {
            return Err(CompileError::new(node.at, format!("{} needs a list of tests in parentheses", node.name)));
        };
        let mut tests = Vec::with_capacity(nodes.len());
        for test in nodes {
            let test = self.test(test)?;
            let ruled_out = node.name == "allof" && super::settled(&test) == Some(false);
            tests.push(test);
            if ruled_out {
                break;
            }
        }
        Ok(tests)
    }

    fn field_names(&mut self, literals: &[Literal]) -> Result<Vec<Text>, CompileError> {
        literals.iter().map(|literal| self.field_name(literal)).collect()
    }

    pub(super) fn field_name(&mut self, literal: &Literal) -> Result<Text, CompileError> {
        let name = self.text(literal)?;
        match name.constant() {
            Some(constant) if !is_field_name(constant) => Err(CompileError::new(
                literal.at,
                format!("{constant:?} is no name of a header field; write it without a colon or spaces"),
            )),
            _ => Ok(name),
        }
    }

    fn header_test(&mut self, arguments: &mut Arguments<'_>) -> Result<Test, CompileError> {
        let (mut matching, mut indexing) = (Matching::default(), Indexing::default());
        while let Some(tag) = arguments.tag() {
            if !matching.take(self, tag, arguments)? && !indexing.take(self, tag, arguments)? {
                return Err(arguments.unknown(tag));
            }
        }
        let names = self.field_names(arguments.strings(FIELDS)?)?;
        let keys = self.texts(arguments.strings(KEYS)?)?;
        Ok(Test::Header { names, index: indexing.finish()?, matcher: matching.finish(keys)? })
    }

    fn address_test(&mut self, arguments: &mut Arguments<'_>) -> Result<Test, CompileError> {
        let (mut matching, mut indexing, mut part) = (Matching::default(), Indexing::default(), None);
        while let Some(tag) = arguments.tag() {
            if !matching.take(self, tag, arguments)?
                && !indexing.take(self, tag, arguments)?
                && !address_part(self, tag, &mut part)?
            {
                return Err(arguments.unknown(tag));
            }
        }
        let literals = arguments.strings(FIELDS)?;
        let names = self.field_names(literals)?;
        for (name, literal) in names.iter().zip(literals) {
            if name.constant().is_some_and(|name| !ADDRESS_FIELDS.contains(&name.to_ascii_lowercase().as_str())) {
                return Err(CompileError::new(
                    literal.at,
                    format!("the field {:?} does not hold addresses; use the test header for it", literal.text),
                ));
            }
        }
        let keys = self.texts(arguments.strings(KEYS)?)?;
        let part = part.unwrap_or(AddressPart::All);
        Ok(Test::Address { names, index: indexing.finish()?, part, matcher: matching.finish(keys)? })
    }

    fn envelope_test(&mut self, arguments: &mut Arguments<'_>) -> Result<Test, CompileError> {
        let (mut matching, mut part) = (Matching::default(), None);
        while let Some(tag) = arguments.tag() {
            if !matching.take(self, tag, arguments)? && !address_part(self, tag, &mut part)? {
                return Err(arguments.unknown(tag));
            }
        }
        let literals = arguments.strings("the parts of the envelope, \"from\" or \"to\"")?;
        let parts = self.texts(literals)?;
        for (text, literal) in parts.iter().zip(literals) {
            if text.constant().is_some_and(|part| !["from", "to"].contains(&part.to_ascii_lowercase().as_str())) {
                return Err(CompileError::new(
                    literal.at,
                    format!("the envelope has no part {:?} here; use \"from\" or \"to\"", literal.text),
                ));
            }
        }
        let keys = self.texts(arguments.strings(KEYS)?)?;
        Ok(Test::Envelope { parts, part: part.unwrap_or(AddressPart::All), matcher: matching.finish(keys)? })
    }

    fn body_test(&mut self, arguments: &mut Arguments<'_>) -> Result<Test, CompileError> {
        let (mut matching, mut part) = (Matching::default(), None);
        while let Some(tag) = arguments.tag() {
            if matching.take(self, tag, arguments)? {
                continue;
            }
            let transform = match tag.name {
                "raw" => BodyPart::Raw,
                "text" => BodyPart::Text,
                "content" => {
                    let types = arguments.strings("the content types after :content")?;
                    BodyPart::Content(self.texts(types)?)
                }
                _ => return Err(arguments.unknown(tag)),
            };
            tag.once(&mut part, transform)?;
        }
        self.needs.body = true;
        let keys = self.texts(arguments.strings(KEYS)?)?;
        Ok(Test::Body { part: part.unwrap_or(BodyPart::Text), matcher: matching.finish(keys)? })
    }

    fn string_test(&mut self, arguments: &mut Arguments<'_>) -> Result<Test, CompileError> {
        let mut matching = Matching::default();
        while let Some(tag) = arguments.tag() {
            if !matching.take(self, tag, arguments)? {
                return Err(arguments.unknown(tag));
            }
        }
        let sources = self.texts(arguments.strings("the texts to test")?)?;
        let keys = self.texts(arguments.strings(KEYS)?)?;
        Ok(Test::String { sources, matcher: matching.finish(keys)? })
    }

    fn environment_test(&mut self, arguments: &mut Arguments<'_>) -> Result<Test, CompileError> {
        let mut matching = Matching::default();
        while let Some(tag) = arguments.tag() {
            if !matching.take(self, tag, arguments)? {
                return Err(arguments.unknown(tag));
            }
        }
        let name = self.text(arguments.string("the name of one item, such as \"domain\"")?)?;
        let keys = self.texts(arguments.strings(KEYS)?)?;
        Ok(Test::Environment { name, matcher: matching.finish(keys)? })
    }

    fn date_test(&mut self, arguments: &mut Arguments<'_>) -> Result<Test, CompileError> {
        let current = arguments.name() == "currentdate";
        let (mut matching, mut indexing, mut zone) = (Matching::default(), Indexing::default(), None);
        while let Some(tag) = arguments.tag() {
            let known = matching.take(self, tag, arguments)?
                || self.zone(tag, current, arguments, &mut zone)?
                || (!current && indexing.take(self, tag, arguments)?);
            if !known {
                return Err(arguments.unknown(tag));
            }
        }
        let zone = zone.unwrap_or(Zone::Local);
        let name =
            if current { None } else { Some(self.field_name(arguments.string("the name of one header field")?)?) };
        let literal = arguments.string("one part of a date, such as \"weekday\"")?;
        let part = self.text(literal)?;
        if part.constant().is_some_and(|part| DatePart::of(part).is_none()) {
            let known = DatePart::NAMES.map(|(name, _)| name).join(", ");
            return Err(CompileError::new(
                literal.at,
                format!("a date has no part {:?}; it has {known}", literal.text),
            ));
        }
        let keys = self.texts(arguments.strings(KEYS)?)?;
        let matcher = matching.finish(keys)?;
        Ok(match name {
            Some(name) => Test::Date { name, index: indexing.finish()?, zone, part, matcher },
            None => Test::CurrentDate { zone, part, matcher },
        })
    }

    fn zone(
        &mut self,
        tag: Tag<'_>,
        current: bool,
        arguments: &mut Arguments<'_>,
        place: &mut Option<Zone>,
    ) -> Result<bool, CompileError> {
        let zone = match tag.name {
            "zone" => {
                let literal = arguments.string("a time zone after :zone, such as \"+0100\"")?;
                let text = self.text(literal)?;
                if text.constant().is_some_and(|zone| parse_zone(zone).is_none()) {
                    return Err(CompileError::new(
                        literal.at,
                        "a time zone is a sign and four digits, hours and minutes, such as \"-0500\"",
                    ));
                }
                Zone::Offset(text)
            }
            "originalzone" if !current => Zone::Original,
            _ => return Ok(false),
        };
        tag.once(place, zone)?;
        Ok(true)
    }

    fn duplicate_test(&mut self, arguments: &mut Arguments<'_>) -> Result<Test, CompileError> {
        let (mut handle, mut id, mut seconds, mut last) = (None, None, None, false);
        while let Some(tag) = arguments.tag() {
            match tag.name {
                "handle" => tag.once(&mut handle, self.text(arguments.string("a handle after :handle")?)?)?,
                "header" => {
                    let name = self.field_name(arguments.string("a header field's name after :header")?)?;
                    tag.once(&mut id, UniqueId::Header(name))?;
                }
                "uniqueid" => {
                    let given = self.text(arguments.string("an id after :uniqueid")?)?;
                    tag.once(&mut id, UniqueId::Given(given))?;
                }
                "seconds" => tag.once(&mut seconds, arguments.number("a number of seconds after :seconds")?)?,
                "last" => tag.switch(&mut last)?,
                _ => return Err(arguments.unknown(tag)),
            }
        }
        self.needs.duplicates = true;
        let seconds = seconds.unwrap_or(DUPLICATE_SECONDS).min(self.limits.duplicate_seconds);
        let id = id.unwrap_or_else(|| UniqueId::Header(Text::Constant("Message-ID".into())));
        Ok(Test::Duplicate(Box::new(Duplicate { handle, id, seconds, last })))
    }

    /// Whether all extensions are here; those that are may be used from now on (RFC 5463 §4).
    fn ihave(&mut self, arguments: &mut Arguments<'_>) -> Result<Test, CompileError> {
        let mut all = true;
        for literal in arguments.strings("the names of extensions")? {
            match Extension::of(&self.fixed(literal, "the name of an extension")?) {
                Some(extension) => self.enable(extension),
                None => all = false,
            }
        }
        Ok(Test::Ihave(all))
    }
}

fn size(arguments: &mut Arguments<'_>) -> Result<Test, CompileError> {
    let mut over = None;
    while let Some(tag) = arguments.tag() {
        match tag.name {
            "over" => tag.once(&mut over, true)?,
            "under" => tag.once(&mut over, false)?,
            _ => return Err(arguments.unknown(tag)),
        }
    }
    let octets = arguments.number("a number of octets, such as 100K")?;
    match over {
        Some(over) => Ok(Test::Size { over, octets }),
        None => Err(CompileError::new(arguments.at(), "size needs :over or :under")),
    }
}

fn unknown_test(node: &Node) -> CompileError {
    let name = node.name.as_str();
    let message = match name {
        "keep" | "discard" | "stop" | "fileinto" | "redirect" | "reject" | "ereject" | "vacation" | "set" | "if" => {
            format!("{name} is a command, but a test must stand here")
        }
        _ => format!("there is no test {name}"),
    };
    CompileError::new(node.at, message)
}

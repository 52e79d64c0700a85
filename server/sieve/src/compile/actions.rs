//! The commands that do something: their arguments and what they become.

use super::Compiler;
use super::arguments::Arguments;
use super::matching::{Indexing, Matching};
use crate::address;
use crate::error::CompileError;
use crate::extension::Extension;
use crate::outcome::RejectKind;
use crate::program::{Case, Command, DeleteHeader, Modifiers, Text, Vacation};
use crate::syntax::{Literal, Node};

const DAY: u64 = 86_400;
/// RFC 5230 §4.1 leaves it open and suggests seven days.
const VACATION_DAYS: u64 = 7;

impl Compiler<'_> {
    pub(super) fn action(&mut self, node: &Node) -> Result<Command, CompileError> {
        let needed = match node.name.as_str() {
            "addheader" | "deleteheader" => Some(Extension::EditHeader),
            "ereject" => Some(Extension::Ereject),
            "error" => Some(Extension::Ihave),
            "fileinto" => Some(Extension::FileInto),
            "reject" => Some(Extension::Reject),
            "set" => Some(Extension::Variables),
            "vacation" => Some(Extension::Vacation),
            _ => None,
        };
        if let Some(extension) = needed {
            self.require(extension, node.at, &format!("the command {}", node.name))?;
        }
        let mut arguments = Arguments::new(node);
        let command = match node.name.as_str() {
            "keep" => Command::Keep,
            "discard" => Command::Discard,
            "stop" => Command::Stop,
            "fileinto" => self.file_into(&mut arguments)?,
            "redirect" => self.redirect(&mut arguments)?,
            "reject" => self.reject(&mut arguments, RejectKind::Reject)?,
            "ereject" => self.reject(&mut arguments, RejectKind::Ereject)?,
            "set" => self.set(&mut arguments)?,
            "addheader" => self.add_header(&mut arguments)?,
            "deleteheader" => self.delete_header(&mut arguments)?,
            "vacation" => self.vacation(&mut arguments)?,
            "error" => Command::Error(self.text(arguments.string("what is wrong, as one text")?)?),
            name => {
                return Err(CompileError::new(node.at, format!("there is no command {name}; is it misspelt?")));
            }
        };
        arguments.end()?;
        Ok(command)
    }

    fn file_into(&mut self, arguments: &mut Arguments<'_>) -> Result<Command, CompileError> {
        let (mut create, mut copy) = (false, false);
        while let Some(tag) = arguments.tag() {
            match tag.name {
                "create" => {
                    self.require(Extension::Mailbox, tag.at, ":create")?;
                    tag.switch(&mut create)?;
                }
                "copy" => {
                    self.require(Extension::Copy, tag.at, ":copy")?;
                    tag.switch(&mut copy)?;
                }
                _ => return Err(arguments.unknown(tag)),
            }
        }
        let literal = arguments.string("the folder, as one text")?;
        let folder = self.text(literal)?;
        if let Some(problem) =
            folder.constant().and_then(|folder| folder_problem(folder, self.limits.folder_characters))
        {
            return Err(CompileError::new(literal.at, problem));
        }
        Ok(Command::FileInto { folder, create, copy })
    }

    fn redirect(&mut self, arguments: &mut Arguments<'_>) -> Result<Command, CompileError> {
        let mut copy = false;
        while let Some(tag) = arguments.tag() {
            if tag.name != "copy" {
                return Err(arguments.unknown(tag));
            }
            self.require(Extension::Copy, tag.at, ":copy")?;
            tag.switch(&mut copy)?;
        }
        let address = self.address(arguments.string("one address, such as \"anna@server1.com\"")?)?;
        Ok(Command::Redirect { address, copy })
    }

    fn address(&mut self, literal: &Literal) -> Result<Text, CompileError> {
        let text = self.text(literal)?;
        if text.constant().is_some_and(|address| address::single(address).is_none()) {
            return Err(CompileError::new(
                literal.at,
                format!("{:?} is no address; write it as in \"anna@server1.com\"", literal.text),
            ));
        }
        Ok(text)
    }

    fn reject(&mut self, arguments: &mut Arguments<'_>, kind: RejectKind) -> Result<Command, CompileError> {
        let reason = self.text(arguments.string("the reason, as one text")?)?;
        Ok(Command::Reject { reason, kind })
    }

    fn set(&mut self, arguments: &mut Arguments<'_>) -> Result<Command, CompileError> {
        let mut modifiers = Modifiers::default();
        while let Some(tag) = arguments.tag() {
            match tag.name {
                "lower" => tag.once(&mut modifiers.case, Case::Lower)?,
                "upper" => tag.once(&mut modifiers.case, Case::Upper)?,
                "lowerfirst" => tag.once(&mut modifiers.first, Case::Lower)?,
                "upperfirst" => tag.once(&mut modifiers.first, Case::Upper)?,
                "quotewildcard" => tag.switch(&mut modifiers.quote_wildcard)?,
                "length" => tag.switch(&mut modifiers.length)?,
                _ => return Err(arguments.unknown(tag)),
            }
        }
        let variable = self.settable(arguments.string("the variable's name, as one text")?)?;
        let value = self.text(arguments.string("the value, as one text")?)?;
        Ok(Command::Set { variable, modifiers, value })
    }

    fn add_header(&mut self, arguments: &mut Arguments<'_>) -> Result<Command, CompileError> {
        let mut last = false;
        while let Some(tag) = arguments.tag() {
            if tag.name != "last" {
                return Err(arguments.unknown(tag));
            }
            tag.switch(&mut last)?;
        }
        let name = self.field_name(arguments.string("the field's name, as one text")?)?;
        let value = self.text(arguments.string("the field's value, as one text")?)?;
        Ok(Command::AddHeader { name, value, last })
    }

    fn delete_header(&mut self, arguments: &mut Arguments<'_>) -> Result<Command, CompileError> {
        let (mut matching, mut indexing) = (Matching::default(), Indexing::default());
        while let Some(tag) = arguments.tag() {
            if !matching.take(self, tag, arguments)? && !indexing.take(self, tag, arguments)? {
                return Err(arguments.unknown(tag));
            }
        }
        let name = self.field_name(arguments.string("the field's name, as one text")?)?;
        let keys = match arguments.optional_strings() {
            Some(literals) => self.texts(literals)?,
            None if matching.given() => {
                return Err(CompileError::new(arguments.at(), "deleteheader needs the texts to compare with here"));
            }
            None => Vec::new(),
        };
        let matcher = matching.finish(keys)?;
        Ok(Command::DeleteHeader(Box::new(DeleteHeader { name, index: indexing.finish()?, matcher })))
    }

    fn vacation(&mut self, arguments: &mut Arguments<'_>) -> Result<Command, CompileError> {
        let (mut seconds, mut subject, mut from, mut addresses, mut mime, mut handle) =
            (None, None, None, None, false, None);
        while let Some(tag) = arguments.tag() {
            match tag.name {
                "days" => {
                    let days = arguments.number("a number of days after :days")?;
                    tag.once(&mut seconds, days.clamp(1, u64::MAX / DAY) * DAY)?;
                }
                "seconds" => {
                    self.require(Extension::VacationSeconds, tag.at, ":seconds")?;
                    tag.once(&mut seconds, arguments.number("a number of seconds after :seconds")?)?;
                }
                "subject" => tag.once(&mut subject, self.text(arguments.string("a subject after :subject")?)?)?,
                "from" => tag.once(&mut from, self.address(arguments.string("an address after :from")?)?)?,
                "addresses" => {
                    let literals = arguments.strings("your own addresses after :addresses")?;
                    tag.once(&mut addresses, self.texts(literals)?)?;
                }
                "mime" => tag.switch(&mut mime)?,
                "handle" => tag.once(&mut handle, self.text(arguments.string("a handle after :handle")?)?)?,
                _ => return Err(arguments.unknown(tag)),
            }
        }
        self.needs.vacation = true;
        let reason = self.text(arguments.string("what to answer, as one text")?)?;
        let seconds = seconds
            .unwrap_or(VACATION_DAYS * DAY)
            .clamp(self.limits.vacation_least_seconds, self.limits.vacation_most_seconds);
        let addresses = addresses.unwrap_or_default();
        Ok(Command::Vacation(Box::new(Vacation { seconds, subject, from, addresses, mime, handle, reason })))
    }
}

/// Why a folder cannot have this name.
pub(crate) fn folder_problem(folder: &str, most: usize) -> Option<String> {
    if folder.is_empty() {
        Some("a folder's name may not be empty".to_owned())
    } else if folder.chars().count() > most {
        Some(format!("this folder's name is too long; at most {most} characters are allowed"))
    } else if folder.chars().any(char::is_control) {
        Some("a folder's name may not contain control characters".to_owned())
    } else {
        None
    }
}

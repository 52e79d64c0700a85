//! Reads the arguments of one command or test in their order: tags first, then what must be there (RFC 5228 §2.6).

use crate::error::{CompileError, Position};
use crate::syntax::{Argument, Literal, Node, Tests, Value};

/// The arguments that have not been read yet.
pub(super) struct Arguments<'n> {
    node: &'n Node,
    rest: &'n [Argument],
}

/// A tag and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag<'n> {
    pub(super) name: &'n str,
    pub(super) at: Position,
}

impl Tag<'_> {
    pub(super) fn error(&self, message: &str) -> CompileError {
        CompileError::new(self.at, format!(":{} {message}", self.name))
    }

    /// Sets what may be given once.
    pub(super) fn once<T>(&self, place: &mut Option<T>, value: T) -> Result<(), CompileError> {
        if place.replace(value).is_some() {
            return Err(self.error("is given twice, or with another tag that means the opposite; keep one"));
        }
        Ok(())
    }

    /// Sets a switch that may be given once.
    pub(super) fn switch(&self, place: &mut bool) -> Result<(), CompileError> {
        if std::mem::replace(place, true) {
            return Err(self.error("is given twice; keep one"));
        }
        Ok(())
    }
}

impl<'n> Arguments<'n> {
    pub(super) fn new(node: &'n Node) -> Self {
        Self { node, rest: &node.arguments }
    }

    pub(super) fn name(&self) -> &'n str {
        &self.node.name
    }

    fn wrong(&self, needed: &str) -> CompileError {
        let name = self.name();
        match self.rest.first() {
            Some(Argument { value: Value::Tag(tag), at }) => {
                CompileError::new(*at, format!(":{tag} must stand before the other arguments of {name}"))
            }
            Some(argument) => CompileError::new(argument.at, format!("{name} needs {needed} here")),
            None => CompileError::new(self.node.at, format!("{name} needs {needed}")),
        }
    }

    /// The next argument, if it is a tag.
    pub(super) fn tag(&mut self) -> Option<Tag<'n>> {
        let (Argument { value: Value::Tag(name), at }, rest) = self.rest.split_first()? else { return None };
        self.rest = rest;
        Some(Tag { name, at: *at })
    }

    /// The error for a tag that the command does not have.
    pub(super) fn unknown(&self, tag: Tag<'_>) -> CompileError {
        CompileError::new(
            tag.at,
            format!("{} has no :{}, or an extension for it must be required", self.name(), tag.name),
        )
    }

    /// One string; `needed` says which, as in "the folder as one text".
    pub(super) fn string(&mut self, needed: &str) -> Result<&'n Literal, CompileError> {
        match self.rest.split_first() {
            Some((Argument { value: Value::Text(text), .. }, rest)) => {
                self.rest = rest;
                Ok(text)
            }
            _ => Err(self.wrong(needed)),
        }
    }

    /// One or more strings.
    pub(super) fn strings(&mut self, needed: &str) -> Result<&'n [Literal], CompileError> {
        let strings = self.optional_strings().ok_or_else(|| self.wrong(needed))?;
        Ok(strings)
    }

    /// One or more strings, if they are next.
    pub(super) fn optional_strings(&mut self) -> Option<&'n [Literal]> {
        let (argument, rest) = self.rest.split_first()?;
        let strings = match &argument.value {
            Value::Text(text) => std::slice::from_ref(text),
            Value::List(list) => list.as_slice(),
            _ => return None,
        };
        self.rest = rest;
        Some(strings)
    }

    pub(super) fn number(&mut self, needed: &str) -> Result<u64, CompileError> {
        match self.rest.split_first() {
            Some((Argument { value: Value::Number(number), .. }, rest)) => {
                self.rest = rest;
                Ok(*number)
            }
            _ => Err(self.wrong(needed)),
        }
    }

    /// Where the command or test begins.
    pub(super) fn at(&self) -> Position {
        self.node.at
    }

    /// Nothing may follow: no argument and no test.
    pub(super) fn end(&self) -> Result<(), CompileError> {
        self.end_of_arguments()?;
        let test = match &self.node.tests {
            Tests::None => return Ok(()),
            Tests::One(test) => Some(test.at),
            Tests::List(tests) => tests.first().map(|test| test.at),
        };
        Err(CompileError::new(
            test.unwrap_or(self.node.at),
            format!("{} takes no test; is a semicolon missing?", self.name()),
        ))
    }

    /// No argument may follow.
    pub(super) fn end_of_arguments(&self) -> Result<(), CompileError> {
        let name = self.name();
        match self.rest.first() {
            None => Ok(()),
            Some(Argument { value: Value::Tag(tag), at }) => Err(CompileError::new(
                *at,
                format!(":{tag} must stand before the other arguments of {name}, if it has it"),
            )),
            Some(argument) => {
                Err(CompileError::new(argument.at, format!("{name} takes fewer arguments; remove this one")))
            }
        }
    }
}

//! The tags that many tests share: how to compare, which part of an address, which of several fields.

use super::Compiler;
use super::arguments::{Arguments, Tag};
use crate::comparator::{Comparator, Relation};
use crate::error::CompileError;
use crate::extension::Extension;
use crate::program::{AddressPart, Index, MatchType, Matcher, Text};

/// `:is`, `:contains`, `:matches`, `:count`, `:value` and `:comparator`.
#[derive(Default)]
pub(super) struct Matching<'n> {
    match_type: Option<MatchType>,
    comparator: Option<Comparator>,
    /// The tag of the match type, for what may not go together.
    tag: Option<Tag<'n>>,
}

impl<'n> Matching<'n> {
    /// Whether the tag was one of these; then its own argument has been read too.
    pub(super) fn take(
        &mut self,
        compiler: &Compiler<'_>,
        tag: Tag<'n>,
        arguments: &mut Arguments<'n>,
    ) -> Result<bool, CompileError> {
        let match_type = match tag.name {
            "is" => MatchType::Is,
            "contains" => MatchType::Contains,
            "matches" => MatchType::Matches,
            "count" | "value" => {
                compiler.require(Extension::Relational, tag.at, &format!(":{}", tag.name))?;
                let literal = arguments.string("a relation after :count and :value, such as \"ge\"")?;
                let relation = Relation::of(&literal.text).ok_or_else(|| {
                    CompileError::new(
                        literal.at,
                        "a relation is one of \"gt\", \"ge\", \"lt\", \"le\", \"eq\" and \"ne\"",
                    )
                })?;
                if tag.name == "count" { MatchType::Count(relation) } else { MatchType::Value(relation) }
            }
            "comparator" => {
                let literal = arguments.string("a comparator's name after :comparator")?;
                let comparator = match literal.text.as_str() {
                    "i;octet" => Comparator::Octet,
                    "i;ascii-casemap" => Comparator::AsciiCasemap,
                    "i;ascii-numeric" => {
                        compiler.require(Extension::ComparatorNumeric, literal.at, "the comparator i;ascii-numeric")?;
                        Comparator::AsciiNumeric
                    }
                    other => {
                        return Err(CompileError::new(
                            literal.at,
                            format!(
                                "there is no comparator {other:?}; use i;octet, i;ascii-casemap or i;ascii-numeric"
                            ),
                        ));
                    }
                };
                tag.once(&mut self.comparator, comparator)?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        tag.once(&mut self.match_type, match_type)?;
        self.tag = Some(tag);
        Ok(true)
    }

    /// Whether any of these tags was given, and the error for it where none may be.
    pub(super) fn given(&self) -> bool {
        self.match_type.is_some() || self.comparator.is_some()
    }

    pub(super) fn finish(self, keys: Vec<Text>) -> Result<Matcher, CompileError> {
        let match_type = self.match_type.unwrap_or(MatchType::Is);
        let comparator = self.comparator.unwrap_or(Comparator::AsciiCasemap);
        // RFC 4790 §9.1.1: this comparator has no substring operation.
        if let (Comparator::AsciiNumeric, MatchType::Contains | MatchType::Matches, Some(tag)) =
            (comparator, match_type, self.tag)
        {
            return Err(tag.error("cannot be used with i;ascii-numeric, which compares whole numbers"));
        }
        Ok(Matcher { match_type, comparator, keys })
    }
}

/// Takes an address-part tag.
pub(super) fn address_part(
    compiler: &Compiler<'_>,
    tag: Tag<'_>,
    place: &mut Option<AddressPart>,
) -> Result<bool, CompileError> {
    let part = match tag.name {
        "all" => AddressPart::All,
        "localpart" => AddressPart::LocalPart,
        "domain" => AddressPart::Domain,
        "user" => AddressPart::User,
        "detail" => AddressPart::Detail,
        _ => return Ok(false),
    };
    if matches!(part, AddressPart::User | AddressPart::Detail) {
        compiler.require(Extension::Subaddress, tag.at, &format!(":{}", tag.name))?;
    }
    tag.once(place, part)?;
    Ok(true)
}

/// `:index` and `:last` (RFC 5260 §6).
#[derive(Default)]
pub(super) struct Indexing<'n> {
    number: Option<u64>,
    last: Option<Tag<'n>>,
}

impl<'n> Indexing<'n> {
    pub(super) fn take(
        &mut self,
        compiler: &Compiler<'_>,
        tag: Tag<'n>,
        arguments: &mut Arguments<'n>,
    ) -> Result<bool, CompileError> {
        match tag.name {
            "index" => {
                let number = arguments.number("the field's number, from 1, after :index")?;
                if number == 0 {
                    return Err(tag.error("counts from 1"));
                }
                // editheader has its own :index (RFC 5293 §5), which needs no other extension.
                if arguments.name() != "deleteheader" {
                    compiler.require(Extension::Index, tag.at, ":index")?;
                }
                tag.once(&mut self.number, number)?;
            }
            "last" => tag.once(&mut self.last, tag)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn finish(self) -> Result<Option<Index>, CompileError> {
        match (self.number, self.last) {
            (None, Some(tag)) => Err(tag.error("needs :index, which says how many from the last")),
            (number, last) => Ok(number.map(|number| Index { number, from_last: last.is_some() })),
        }
    }
}

//! Texts and their comparison: variables (RFC 5229), match types (RFC 5228 §2.7.1, RFC 5231), address parts.

use super::{Machine, OCTETS};
use crate::address::Mailbox;
use crate::comparator::Comparator;
use crate::error::{Position, RuntimeError};
use crate::glob;
use crate::program::{AddressPart, Case, MatchType, Matcher, Modifiers, Piece, Text};

/// The longest beginning of `text` with at most this many octets.
pub(super) fn cut(text: &mut String, octets: usize) {
    if text.len() > octets {
        let mut end = octets;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

impl Machine<'_, '_> {
    /// A text with its variables put in.
    pub(super) fn expand(&mut self, text: &Text, at: Position) -> Result<String, RuntimeError> {
        let pieces = match text {
            Text::Constant(text) => return Ok(text.to_string()),
            Text::Template(pieces) => pieces,
        };
        let most = self.limits.script_octets + self.limits.variable_octets;
        let mut expanded = String::new();
        for piece in pieces {
            expanded.push_str(match piece {
                Piece::Literal(text) => text,
                Piece::Variable(number) => self.variables.get(*number).map_or("", String::as_str),
                Piece::Match(number) => self.matches.get(*number).map_or("", String::as_str),
            });
            if expanded.len() > most {
                return Err(RuntimeError::new(
                    at,
                    format!("a text with its variables is larger than the {most} octets allowed"),
                ));
            }
        }
        self.spend_octets(expanded.len() + OCTETS, at)?;
        Ok(expanded)
    }

    pub(super) fn expand_all(&mut self, texts: &[Text], at: Position) -> Result<Vec<String>, RuntimeError> {
        texts.iter().map(|text| self.expand(text, at)).collect()
    }

    pub(super) fn set(
        &mut self,
        variable: usize,
        modifiers: Modifiers,
        value: &Text,
        at: Position,
    ) -> Result<(), RuntimeError> {
        let mut value = self.expand(value, at)?;
        match modifiers.case {
            Some(Case::Lower) => value.make_ascii_lowercase(),
            Some(Case::Upper) => value.make_ascii_uppercase(),
            None => {}
        }
        if let (Some(case), Some(first)) = (modifiers.first, value.get_mut(..1)) {
            match case {
                Case::Lower => first.make_ascii_lowercase(),
                Case::Upper => first.make_ascii_uppercase(),
            }
        }
        if modifiers.quote_wildcard {
            let mut quoted = String::with_capacity(value.len());
            for letter in value.chars() {
                if matches!(letter, '*' | '?' | '\\') {
                    quoted.push('\\');
                }
                quoted.push(letter);
            }
            value = quoted;
        }
        if modifiers.length {
            value = value.chars().count().to_string();
        }
        cut(&mut value, self.limits.variable_octets);
        if let Some(place) = self.variables.get_mut(variable) {
            *place = value;
        }
        Ok(())
    }

    /// Whether one of the values satisfies the matcher. `remembers` is false where a match sets no match variables
    /// (RFC 5173 §6).
    pub(super) fn any_matches(
        &mut self,
        matcher: &Matcher,
        values: &[String],
        remembers: bool,
        at: Position,
    ) -> Result<bool, RuntimeError> {
        let keys = self.expand_all(&matcher.keys, at)?;
        if let MatchType::Count(relation) = matcher.match_type {
            let count = values.len().to_string();
            return Ok(keys.iter().any(|key| relation.holds(matcher.comparator.compare(&count, key))));
        }
        for value in values {
            for key in &keys {
                self.spend(1, at)?;
                if self.one_matches(matcher, value, key, remembers, at)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn one_matches(
        &mut self,
        matcher: &Matcher,
        value: &str,
        key: &str,
        remembers: bool,
        at: Position,
    ) -> Result<bool, RuntimeError> {
        let comparator = matcher.comparator;
        match matcher.match_type {
            MatchType::Is => Ok(comparator.equal(value, key)),
            MatchType::Contains => {
                self.spend_octets(value.len() + key.len(), at)?;
                Ok(comparator.contains(value, key))
            }
            MatchType::Value(relation) => {
                self.spend_octets(value.len() + key.len(), at)?;
                Ok(relation.holds(comparator.compare(value, key)))
            }
            MatchType::Count(_) => Ok(false),
            MatchType::Matches => {
                let fold = comparator == Comparator::AsciiCasemap;
                let Ok(found) = glob::captures(key, value, fold, &mut self.fuel) else {
                    return Err(self.out_of_steps(at));
                };
                let Some(found) = found else { return Ok(false) };
                if self.script.match_variables && remembers {
                    self.matches = std::iter::once(value).chain(found).take(32).map(ToOwned::to_owned).collect();
                    for text in &mut self.matches {
                        cut(text, self.limits.variable_octets);
                    }
                }
                Ok(true)
            }
        }
    }

    /// A part of an address; none where the address has no such part.
    pub(super) fn address_part(&self, mailbox: &Mailbox, part: AddressPart) -> Option<String> {
        let separator = self.delivery.separator;
        let split = if separator.is_empty() { None } else { mailbox.local.split_once(separator) };
        match part {
            AddressPart::All => Some(mailbox.text()),
            AddressPart::LocalPart => Some(mailbox.local.clone()),
            AddressPart::Domain => Some(mailbox.domain.clone()),
            AddressPart::User => Some(split.map_or_else(|| mailbox.local.clone(), |(user, _)| user.to_owned())),
            AddressPart::Detail => split.map(|(_, detail)| detail.to_owned()),
        }
    }
}

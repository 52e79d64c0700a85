//! Strings: encoded characters (RFC 5228 §2.4.2.4), then variables (RFC 5229 §3).

use super::Compiler;
use crate::error::{CompileError, Position};
use crate::extension::Extension;
use crate::program::{Piece, Text};
use crate::syntax::Literal;

/// Highest number of a match variable. RFC 5229 §3.2 wants at least 9.
const MATCH_VARIABLES: usize = 31;

/// What stands between `${` and `}`.
enum Name<'t> {
    Variable(&'t str),
    Match(usize),
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

impl Compiler<'_> {
    /// A string, ready to be expanded.
    pub(super) fn text(&mut self, literal: &Literal) -> Result<Text, CompileError> {
        let decoded;
        let mut text = literal.text.as_str();
        if self.has(Extension::EncodedCharacter) && text.contains("${") {
            decoded = decode_characters(text, literal.at)?;
            text = &decoded;
        }
        if !self.has(Extension::Variables) || !text.contains("${") {
            return Ok(Text::Constant(text.into()));
        }
        self.template(text, literal.at)
    }

    /// Each string of a list.
    pub(super) fn texts(&mut self, literals: &[Literal]) -> Result<Vec<Text>, CompileError> {
        literals.iter().map(|literal| self.text(literal)).collect()
    }

    fn template(&mut self, text: &str, at: Position) -> Result<Text, CompileError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(from) = rest.find("${") {
            literal.push_str(&rest[..from]);
            let (name, length) = match reference(&rest[from..]) {
                Ok(Some(found)) => found,
                // RFC 5229 §3: what is not a reference stays as it is.
                Ok(None) => {
                    literal.push_str("${");
                    rest = &rest[from + 2..];
                    continue;
                }
                Err(message) => return Err(CompileError::new(at, message)),
            };
            rest = &rest[from + length..];
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal).into()));
            }
            pieces.push(match name {
                Name::Match(number) => Piece::Match(number),
                Name::Variable(name) => Piece::Variable(self.variable(name, at)?),
            });
        }
        literal.push_str(rest);
        if pieces.is_empty() {
            return Ok(Text::Constant(literal.into()));
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.into()));
        }
        Ok(Text::Template(pieces.into()))
    }

    /// The number of a variable; its name is not case-sensitive (RFC 5229 §3).
    pub(super) fn variable(&mut self, name: &str, at: Position) -> Result<usize, CompileError> {
        let next = self.variables.len();
        let number = *self.variables.entry(name.to_ascii_lowercase()).or_insert(next);
        if number >= self.limits.variables {
            let most = self.limits.variables;
            return Err(CompileError::new(at, format!("there are too many variables; at most {most} are allowed")));
        }
        Ok(number)
    }

    /// The variable that `set` names: no number and no namespace (RFC 5229 §4).
    pub(super) fn settable(&mut self, literal: &Literal) -> Result<usize, CompileError> {
        if is_identifier(&literal.text) {
            return self.variable(&literal.text, literal.at);
        }
        Err(CompileError::new(
            literal.at,
            "a variable's name has letters, digits and underscores, and does not begin with a digit",
        ))
    }
}

/// The reference at the beginning of `text` and its length, if there is one.
fn reference(text: &str) -> Result<Option<(Name<'_>, usize)>, String> {
    let Some(end) = text.find('}') else { return Ok(None) };
    let name = &text[2..end];
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
        return match name.parse::<usize>() {
            Ok(number) if number <= MATCH_VARIABLES => Ok(Some((Name::Match(number), end + 1))),
            _ => Err(format!("${{{name}}} is beyond the highest match variable, ${{{MATCH_VARIABLES}}}")),
        };
    }
    if is_identifier(name) {
        return Ok(Some((Name::Variable(name), end + 1)));
    }
    let mut parts = name.split('.');
    if parts.next().is_some_and(is_identifier)
        && name.contains('.')
        && parts.all(|part| is_identifier(part) || (!part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())))
    {
        return Err(format!("${{{name}}} is in a namespace that no extension here has"));
    }
    Ok(None)
}

/// Replaces `${hex:…}` and `${unicode:…}`; anything that is not of their form stays.
fn decode_characters(text: &str, at: Position) -> Result<String, CompileError> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(from) = rest.find("${") {
        octets.extend_from_slice(&rest.as_bytes()[..from]);
        match encoded(&rest[from..], at)? {
            Some((decoded, length)) => {
                octets.extend_from_slice(&decoded);
                rest = &rest[from + length..];
            }
            None => {
                octets.extend_from_slice(b"${");
                rest = &rest[from + 2..];
            }
        }
    }
    octets.extend_from_slice(rest.as_bytes());
    let text = String::from_utf8(octets)
        .map_err(|_| CompileError::new(at, "the octets of ${hex:…} are not UTF-8 in this text; write them as UTF-8"))?;
    if text.contains('\0') {
        return Err(CompileError::new(at, "text may not contain the character NUL"));
    }
    Ok(text)
}

fn encoded(text: &str, at: Position) -> Result<Option<(Vec<u8>, usize)>, CompileError> {
    let Some(end) = text.find('}') else { return Ok(None) };
    let Some((kind, digits)) = text[2..end].split_once(':') else { return Ok(None) };
    let numbers: Vec<&str> = digits.split_ascii_whitespace().collect();
    let hexadecimal = |number: &&str| number.bytes().all(|byte| byte.is_ascii_hexdigit());
    if numbers.is_empty() || !numbers.iter().all(hexadecimal) {
        return Ok(None);
    }
    let mut octets = Vec::new();
    if kind.eq_ignore_ascii_case("hex") {
        for number in numbers {
            match u8::from_str_radix(number, 16) {
                Ok(octet) if number.len() <= 2 => octets.push(octet),
                _ => return Ok(None),
            }
        }
    } else if kind.eq_ignore_ascii_case("unicode") {
        for number in numbers {
            let letter = u32::from_str_radix(number, 16).ok().and_then(char::from_u32).ok_or_else(|| {
                CompileError::new(
                    at,
                    format!("{number} is no Unicode character; it must be 0 to D7FF or E000 to 10FFFF"),
                )
            })?;
            octets.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
    } else {
        return Ok(None);
    }
    Ok(Some((octets, end + 1)))
}

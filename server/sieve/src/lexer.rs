//! From a script's text to tokens (RFC 5228 §8.1). Called by [`crate::syntax`].

use crate::error::{CompileError, Position};

/// A word, a value or a sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// The name of a command or test, in lower case.
    Identifier(String),
    /// `:name`, in lower case, without its colon.
    Tag(String),
    Number(u64),
    /// A quoted or a `text:` string; each line end in it is CRLF.
    Text(String),
    Sign(char),
    End,
}

/// A token and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) token: Token,
    pub(crate) at: Position,
}

/// Reads tokens from the beginning to the end.
pub(crate) struct Lexer<'s> {
    rest: &'s str,
    at: Position,
}

fn begins_identifier(letter: char) -> bool {
    letter.is_ascii_alphabetic() || letter == '_'
}

fn in_identifier(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

impl<'s> Lexer<'s> {
    pub(crate) fn new(script: &'s str) -> Self {
        Self { rest: script, at: Position::START }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.rest = &self.rest[letter.len_utf8()..];
        if letter == '\n' {
            self.at = Position { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
        Some(letter)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'s str {
        let from = self.rest;
        while self.peek().is_some_and(&wanted) {
            self.take();
        }
        &from[..from.len() - self.rest.len()]
    }

    /// The next token.
    pub(crate) fn next(&mut self) -> Result<Placed, CompileError> {
        self.skip_space()?;
        let at = self.at;
        let token = match self.peek() {
            None => Token::End,
            Some('"') => self.quoted()?,
            Some(':') => self.tag()?,
            Some(digit) if digit.is_ascii_digit() => self.number()?,
            Some(letter) if begins_identifier(letter) => self.identifier()?,
            Some(sign) if "()[]{},;".contains(sign) => {
                self.take();
                Token::Sign(sign)
            }
            Some(other) => {
                return Err(CompileError::new(
                    at,
                    format!("the character {other:?} has no meaning here; text must be in double quotes"),
                ));
            }
        };
        Ok(Placed { token, at })
    }

    fn skip_space(&mut self) -> Result<(), CompileError> {
        loop {
            self.take_while(|letter| matches!(letter, ' ' | '\t' | '\r' | '\n'));
            if self.rest.starts_with('#') {
                self.take_while(|letter| letter != '\n');
            } else if self.rest.starts_with("/*") {
                let at = self.at;
                let Some(length) = self.rest[2..].find("*/") else {
                    return Err(CompileError::new(at, "this comment does not end; add */ after it"));
                };
                let after = self.rest.len() - length - 4;
                while self.rest.len() > after {
                    self.take();
                }
            } else {
                return Ok(());
            }
        }
    }

    fn tag(&mut self) -> Result<Token, CompileError> {
        let at = self.at;
        self.take();
        if !self.peek().is_some_and(begins_identifier) {
            return Err(CompileError::new(at, "a name must follow the colon, as in :contains"));
        }
        Ok(Token::Tag(self.take_while(in_identifier).to_ascii_lowercase()))
    }

    fn number(&mut self) -> Result<Token, CompileError> {
        let at = self.at;
        let digits = self.take_while(|letter| letter.is_ascii_digit());
        let unit: u64 = match self.peek() {
            Some('k' | 'K') => 1 << 10,
            Some('m' | 'M') => 1 << 20,
            Some('g' | 'G') => 1 << 30,
            _ => 1,
        };
        if unit > 1 {
            self.take();
        }
        if self.peek().is_some_and(in_identifier) {
            return Err(CompileError::new(at, "this number is followed by letters; only K, M or G may follow it"));
        }
        let value = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        value.map(Token::Number).ok_or_else(|| CompileError::new(at, "this number is too large"))
    }

    fn identifier(&mut self) -> Result<Token, CompileError> {
        let at = self.at;
        let name = self.take_while(in_identifier).to_ascii_lowercase();
        if name == "text" && self.peek() == Some(':') { self.multi_line(at) } else { Ok(Token::Identifier(name)) }
    }

    fn quoted(&mut self) -> Result<Token, CompileError> {
        let at = self.at;
        self.take();
        let mut text = String::new();
        loop {
            match self.take() {
                Some('"') => return Ok(Token::Text(text)),
                // RFC 5228 §2.4.2: before any other character the backslash is dropped.
                Some('\\') => match self.take() {
                    Some(escaped) => self.push(&mut text, escaped)?,
                    None => break,
                },
                Some(letter) => self.push(&mut text, letter)?,
                None => break,
            }
        }
        Err(CompileError::new(at, "this text does not end; add a double quote after it"))
    }

    /// A line end of any kind becomes CRLF.
    fn push(&mut self, text: &mut String, letter: char) -> Result<(), CompileError> {
        match letter {
            '\0' => return Err(CompileError::new(self.at, "text may not contain the character NUL")),
            '\n' => text.push_str("\r\n"),
            '\r' if self.peek() == Some('\n') => {}
            '\r' => text.push_str("\r\n"),
            other => text.push(other),
        }
        Ok(())
    }

    /// `text:` up to a line that is a single dot (RFC 5228 §2.4.2, multi-line).
    fn multi_line(&mut self, at: Position) -> Result<Token, CompileError> {
        self.take();
        self.take_while(|letter| matches!(letter, ' ' | '\t' | '\r'));
        if self.peek() == Some('#') {
            self.take_while(|letter| letter != '\n');
        }
        if self.peek().is_some_and(|letter| letter != '\n') {
            return Err(CompileError::new(self.at, "text: must be the last word of its line; begin on the next line"));
        }
        self.take();
        let mut text = String::new();
        while !self.rest.is_empty() {
            let line = self.take_while(|letter| letter != '\n');
            self.take();
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line == "." {
                return Ok(Token::Text(text));
            }
            if line.contains('\0') {
                return Err(CompileError::new(at, "text may not contain the character NUL"));
            }
            text.push_str(line.strip_prefix('.').unwrap_or(line));
            text.push_str("\r\n");
        }
        Err(CompileError::new(at, "this text does not end; a line with a single dot must follow it"))
    }
}

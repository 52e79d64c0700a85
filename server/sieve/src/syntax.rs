//! From tokens to a tree of commands and tests (RFC 5228 §8.2). Knows no command by name: [`crate::compile`] does.

use crate::error::{CompileError, Position};
use crate::lexer::{Lexer, Placed, Token};
use crate::limits::Limits;

/// A string as the script has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Literal {
    pub(crate) text: String,
    pub(crate) at: Position,
}

/// What may follow a command's or test's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Tag(String),
    Number(u64),
    Text(Literal),
    List(Vec<Literal>),
}

/// One argument and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Argument {
    pub(crate) value: Value,
    pub(crate) at: Position,
}

/// The tests after the arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tests {
    None,
    One(Box<Node>),
    /// In parentheses.
    List(Vec<Node>),
}

/// A command or a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) at: Position,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) tests: Tests,
    /// The commands in braces; none where the command ended with a semicolon.
    pub(crate) block: Option<Vec<Node>>,
}

/// Reads a whole script.
pub(crate) fn parse(script: &str, limits: &Limits) -> Result<Vec<Node>, CompileError> {
    let mut lexer = Lexer::new(script);
    let next = lexer.next()?;
    let mut parser = Parser { lexer, next, limits, depth: 0 };
    let commands = parser.commands()?;
    match parser.next.token {
        Token::End => Ok(commands),
        _ => Err(parser.wrong("a command must begin here; one closing brace too many?")),
    }
}

struct Parser<'s> {
    lexer: Lexer<'s>,
    next: Placed,
    limits: &'s Limits,
    depth: usize,
}

impl Parser<'_> {
    fn advance(&mut self) -> Result<Placed, CompileError> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.next, next))
    }

    fn wrong(&self, message: &str) -> CompileError {
        CompileError::new(self.next.at, message)
    }

    fn sign(&self) -> Option<char> {
        match self.next.token {
            Token::Sign(sign) => Some(sign),
            _ => None,
        }
    }

    fn deeper(&mut self) -> Result<(), CompileError> {
        self.depth += 1;
        if self.depth > self.limits.nesting {
            let most = self.limits.nesting;
            return Err(
                self.wrong(&format!("blocks and tests are nested too deeply; at most {most} levels are allowed"))
            );
        }
        Ok(())
    }

    fn commands(&mut self) -> Result<Vec<Node>, CompileError> {
        let mut commands = Vec::new();
        while matches!(self.next.token, Token::Identifier(_)) {
            let mut node = self.node()?;
            match self.sign() {
                Some(';') => {
                    self.advance()?;
                }
                Some('{') => node.block = Some(self.block()?),
                _ => return Err(self.wrong(&format!("a semicolon or a block in braces must follow {}", node.name))),
            }
            commands.push(node);
        }
        Ok(commands)
    }

    fn block(&mut self) -> Result<Vec<Node>, CompileError> {
        let open = self.advance()?.at;
        self.deeper()?;
        let commands = self.commands()?;
        self.depth -= 1;
        match self.next.token {
            Token::Sign('}') => {
                self.advance()?;
                Ok(commands)
            }
            Token::End => Err(CompileError::new(open, "this block does not end; add a closing brace after it")),
            _ => Err(self.wrong("a command or a closing brace must stand here")),
        }
    }

    /// A name, its arguments and its tests.
    fn node(&mut self) -> Result<Node, CompileError> {
        let Placed { token: Token::Identifier(name), at } = self.advance()? else {
            return Err(self.wrong("the name of a test must stand here"));
        };
        let mut arguments = Vec::new();
        while let Some(argument) = self.argument()? {
            arguments.push(argument);
        }
        let tests = match self.next.token {
            Token::Identifier(_) => {
                self.deeper()?;
                let test = self.node()?;
                self.depth -= 1;
                Tests::One(Box::new(test))
            }
            Token::Sign('(') => Tests::List(self.test_list()?),
            _ => Tests::None,
        };
        Ok(Node { name, at, arguments, tests, block: None })
    }

    fn test_list(&mut self) -> Result<Vec<Node>, CompileError> {
        self.advance()?;
        self.deeper()?;
        let mut tests = Vec::new();
        loop {
            if !matches!(self.next.token, Token::Identifier(_)) {
                return Err(self.wrong("the name of a test must stand here"));
            }
            tests.push(self.node()?);
            match self.sign() {
                Some(',') => self.advance()?,
                Some(')') => {
                    self.advance()?;
                    self.depth -= 1;
                    return Ok(tests);
                }
                _ => return Err(self.wrong("a comma or a closing parenthesis must stand here")),
            };
        }
    }

    fn argument(&mut self) -> Result<Option<Argument>, CompileError> {
        let at = self.next.at;
        let value = match &self.next.token {
            Token::Sign('[') => return self.list().map(|list| Some(Argument { value: Value::List(list), at })),
            Token::Tag(name) => Value::Tag(name.clone()),
            Token::Number(number) => Value::Number(*number),
            Token::Text(text) => Value::Text(Literal { text: text.clone(), at }),
            _ => return Ok(None),
        };
        self.advance()?;
        Ok(Some(Argument { value, at }))
    }

    fn list(&mut self) -> Result<Vec<Literal>, CompileError> {
        self.advance()?;
        let mut strings = Vec::new();
        loop {
            let Placed { token, at } = self.advance()?;
            let Token::Text(text) = token else {
                return Err(CompileError::new(at, "a text in double quotes must stand here, in a list"));
            };
            strings.push(Literal { text, at });
            if strings.len() > self.limits.list_items {
                let most = self.limits.list_items;
                return Err(CompileError::new(at, format!("this list is too long; at most {most} texts are allowed")));
            }
            match self.sign() {
                Some(',') => self.advance()?,
                Some(']') => {
                    self.advance()?;
                    return Ok(strings);
                }
                _ => return Err(self.wrong("a comma or a closing bracket must stand here")),
            };
        }
    }
}

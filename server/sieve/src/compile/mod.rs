//! From the tree to a program: every check that needs no message (RFC 5228 §2.10.5). Called through [`compile`].

pub(crate) use actions::folder_problem;

mod actions;
mod arguments;
mod matching;
mod tests;
mod text;

use std::collections::{BTreeSet, HashMap};

use arguments::Arguments;

use crate::error::{CompileError, Position};
use crate::extension::Extension;
use crate::limits::Limits;
use crate::program::{Command, Needs, Script, Statement, Test};
use crate::syntax::{self, Literal, Node, Tests};

/// Reads a script and checks all of it.
///
/// # Errors
/// [`CompileError`] for the first thing that is wrong, with its place.
pub fn compile(script: &str, limits: &Limits) -> Result<Script, CompileError> {
    if script.len() > limits.script_octets {
        let most = limits.script_octets;
        return Err(CompileError::new(Position::START, format!("the script is larger than the {most} octets allowed")));
    }
    // A byte order mark is what some editors write before UTF-8.
    let nodes = syntax::parse(script.strip_prefix('\u{feff}').unwrap_or(script), limits)?;
    let mut compiler =
        Compiler { limits, extensions: BTreeSet::new(), variables: HashMap::new(), needs: Needs::default() };
    let rest = compiler.requirements(&nodes)?;
    let statements = compiler.block(rest)?;
    Ok(Script {
        statements,
        variables: compiler.variables.len(),
        match_variables: compiler.has(Extension::Variables),
        needs: compiler.needs,
    })
}

pub(crate) struct Compiler<'l> {
    limits: &'l Limits,
    extensions: BTreeSet<Extension>,
    /// Numbers by name in lower case.
    variables: HashMap<String, usize>,
    needs: Needs,
}

/// Whether a test has the same result for every message because of `ihave`. What it rules out is not checked, since that
/// is what `ihave` is for (RFC 5463 §4).
fn settled(test: &Test) -> Option<bool> {
    match test {
        Test::Ihave(result) => Some(*result),
        Test::Not(test) => settled(test).map(|result| !result),
        Test::AllOf(tests) if tests.iter().any(|test| settled(test) == Some(false)) => Some(false),
        Test::AllOf(tests) if tests.iter().all(|test| settled(test) == Some(true)) => Some(true),
        Test::AnyOf(tests) if tests.iter().any(|test| settled(test) == Some(true)) => Some(true),
        Test::AnyOf(tests) if tests.iter().all(|test| settled(test) == Some(false)) => Some(false),
        _ => None,
    }
}

impl Compiler<'_> {
    pub(crate) fn has(&self, extension: Extension) -> bool {
        self.extensions.contains(&extension)
    }

    fn enable(&mut self, extension: Extension) {
        self.extensions.insert(extension);
        // RFC 6131 §2.
        if extension == Extension::VacationSeconds {
            self.extensions.insert(Extension::Vacation);
        }
    }

    /// An error unless the extension was required.
    fn require(&self, extension: Extension, at: Position, what: &str) -> Result<(), CompileError> {
        if self.has(extension) {
            return Ok(());
        }
        let name = extension.name();
        Err(CompileError::new(at, format!("{what} needs require \"{name}\"; at the beginning of the script")))
    }

    /// The `require`s at the beginning; what follows them is returned (RFC 5228 §3.2).
    fn requirements<'n>(&mut self, nodes: &'n [Node]) -> Result<&'n [Node], CompileError> {
        let count = nodes.iter().take_while(|node| node.name == "require").count();
        for node in &nodes[..count] {
            let mut arguments = Arguments::new(node);
            let names = arguments.strings("the names of extensions")?;
            arguments.end()?;
            no_block(node)?;
            for name in names {
                let extension = Extension::of(&name.text).ok_or_else(|| {
                    let known = crate::extensions().collect::<Vec<_>>().join(", ");
                    CompileError::new(name.at, format!("there is no extension {:?}; there are: {known}", name.text))
                })?;
                self.enable(extension);
            }
        }
        Ok(&nodes[count..])
    }

    fn block(&mut self, nodes: &[Node]) -> Result<Vec<Statement>, CompileError> {
        let mut statements = Vec::with_capacity(nodes.len());
        let mut rest = nodes;
        while let Some((node, after)) = rest.split_first() {
            let command = match node.name.as_str() {
                "if" => {
                    let alternatives =
                        after.iter().take_while(|node| matches!(node.name.as_str(), "elsif" | "else")).count();
                    let (alternatives, after) = after.split_at(alternatives);
                    rest = after;
                    self.condition(node, alternatives)?
                }
                "elsif" | "else" => {
                    return Err(CompileError::new(
                        node.at,
                        format!("{} must follow the block of an if or elsif", node.name),
                    ));
                }
                "require" => {
                    return Err(CompileError::new(node.at, "require must stand before all other commands"));
                }
                _ => {
                    rest = after;
                    let command = self.action(node)?;
                    no_block(node)?;
                    command
                }
            };
            statements.push(Statement { at: node.at, command });
        }
        Ok(statements)
    }

    fn condition(&mut self, first: &Node, alternatives: &[Node]) -> Result<Command, CompileError> {
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        let mut ended = false;
        let mut decided = false;
        for node in std::iter::once(first).chain(alternatives) {
            if ended {
                return Err(CompileError::new(node.at, format!("{} may not follow else", node.name)));
            }
            let Some(block) = &node.block else {
                return Err(CompileError::new(node.at, format!("a block in braces must follow {}", node.name)));
            };
            if node.name == "else" {
                Arguments::new(node).end()?;
                ended = true;
                if !decided {
                    otherwise = self.block(block)?;
                }
                continue;
            }
            Arguments::new(node).end_of_arguments()?;
            if decided {
                continue;
            }
            let test = self.only_test(node)?;
            let settled = settled(&test);
            decided = settled == Some(true);
            if settled != Some(false) {
                branches.push((test, self.block(block)?));
            }
        }
        Ok(Command::If { branches, otherwise })
    }

    /// The one test of `if`, `elsif` and `not`.
    fn only_test(&mut self, node: &Node) -> Result<Test, CompileError> {
        match &node.tests {
            Tests::One(test) => self.test(test),
            Tests::None => Err(CompileError::new(node.at, format!("{} needs a test", node.name))),
            Tests::List(_) => Err(CompileError::new(
                node.at,
                format!("{} takes one test; put allof or anyof before the list", node.name),
            )),
        }
    }

    /// A string that must be known before any message is.
    fn fixed(&mut self, literal: &Literal, what: &str) -> Result<String, CompileError> {
        match self.text(literal)?.constant() {
            Some(text) => Ok(text.to_owned()),
            None => Err(CompileError::new(literal.at, format!("{what} may not contain variables"))),
        }
    }
}

fn no_block(node: &Node) -> Result<(), CompileError> {
    match node.block {
        None => Ok(()),
        Some(_) => Err(CompileError::new(node.at, format!("{} takes no block; end it with a semicolon", node.name))),
    }
}

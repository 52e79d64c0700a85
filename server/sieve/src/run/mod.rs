//! Runs compiled scripts: one, or several in turn. Called through [`run`] and [`run_all`].

mod actions;
mod tests;
mod values;

use std::sync::Arc;

use crate::body::Part;
use crate::error::{Position, RuntimeError};
use crate::header::Header;
use crate::limits::Limits;
use crate::message::{Delivery, Environment, Message};
use crate::outcome::{Action, EditedHeader, Effect, Outcome};
use crate::program::{Command, Script, Statement};

/// Comparisons of a wildcard match that cost one step.
const COMPARISONS: u64 = 256;
/// Octets that are searched or copied in one step.
const OCTETS: usize = 4_096;

/// Runs one script on one message.
#[must_use]
pub fn run(
    script: &Script,
    message: &Message<'_>,
    delivery: &Delivery<'_>,
    environment: &dyn Environment,
    limits: &Limits,
) -> Outcome {
    run_all(&[script], message, delivery, environment, limits)
}

/// Runs scripts in turn, as in: the server's and the domain's before, the mailbox's, the domain's and the server's after.
///
/// - A script is run if the one before it ended with its keep in effect: implicitly, because nothing cancelled it, or
///   because it says `keep`. Otherwise the sequence ends there. `stop` ends its own script only.
/// - The keep of a script that another one follows is not carried out: the following scripts decide about it. Every other
///   action stands, whatever they do.
/// - Changes of the header stay for the scripts that follow. Variables do not.
/// - `fileinto "INBOX"` is not a keep: it stands like every other folder, and cancels the implicit keep.
/// - The same folder or address is used once, and one vacation reply is made, whichever scripts ask for it.
/// - A script that ends with an error ends the sequence: its own actions are dropped, those of earlier scripts stand, and
///   the message is kept in the inbox, with the header that it had before that script.
/// - No scripts at all keep the message.
///
/// The limits are those of each script, but for actions and redirects, which are counted over the whole sequence.
#[must_use]
pub fn run_all(
    scripts: &[&Script],
    message: &Message<'_>,
    delivery: &Delivery<'_>,
    environment: &dyn Environment,
    limits: &Limits,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut header = Current { header: message.header.clone(), edited: false, added: 0, snapshot: None };
    for (number, script) in scripts.iter().enumerate() {
        let before = header.clone();
        let mut machine = Machine {
            script,
            message,
            delivery,
            environment,
            limits,
            header,
            fuel: limits.steps.saturating_mul(COMPARISONS),
            variables: vec![String::new(); script.variables],
            matches: Vec::new(),
            parts: None,
            earlier: &outcome.actions,
            actions: Vec::new(),
            effects: Vec::new(),
            implicit_keep: true,
            explicit_keep: false,
            filed_into_inbox: false,
            replied: false,
            tested: Vec::new(),
        };
        match machine.block(&script.statements) {
            Ok(_) => {
                let keep = machine.implicit_keep || machine.explicit_keep;
                let Machine { actions, effects, header: after, filed_into_inbox, .. } = machine;
                header = after;
                outcome.effects.extend(effects);
                let stands = filed_into_inbox || number + 1 == scripts.len();
                outcome
                    .actions
                    .extend(actions.into_iter().filter(|action| stands || !matches!(action, Action::Keep { .. })));
                if !keep {
                    return outcome;
                }
            }
            Err(error) => {
                outcome.error = Some(error);
                outcome.failed_script = Some(number);
                header = before;
                break;
            }
        }
    }
    if !outcome.is_kept() {
        outcome.actions.push(Action::Keep { implicit: true, header: header.snapshot() });
    }
    outcome
}

/// The header as it is at this moment.
#[derive(Clone)]
struct Current<'m> {
    header: Header<'m>,
    edited: bool,
    /// Octets that `addheader` added.
    added: usize,
    snapshot: EditedHeader,
}

impl Current<'_> {
    /// What an action takes along: made once for all actions between two edits.
    fn snapshot(&mut self) -> EditedHeader {
        if self.edited && self.snapshot.is_none() {
            self.snapshot = Some(Arc::from(self.header.to_octets()));
        }
        self.snapshot.clone()
    }
}

/// Whether the script goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Stop,
}

struct Machine<'r, 'm> {
    script: &'r Script,
    message: &'r Message<'m>,
    delivery: &'r Delivery<'r>,
    environment: &'r dyn Environment,
    limits: &'r Limits,
    header: Current<'m>,
    /// Comparisons that may still be made.
    fuel: u64,
    variables: Vec<String>,
    /// What the last successful `:matches` found; the first is the whole value.
    matches: Vec<String>,
    /// The body's parts, once a test has asked for them.
    parts: Option<std::rc::Rc<[Part]>>,
    /// Actions of scripts before this one.
    earlier: &'r [Action],
    actions: Vec<Action>,
    effects: Vec<Effect>,
    implicit_keep: bool,
    /// `keep` was said.
    explicit_keep: bool,
    /// `fileinto "INBOX"` was said: unlike a keep, no later script decides about it.
    filed_into_inbox: bool,
    /// `vacation` was said.
    replied: bool,
    /// What `duplicate` answered, so that it answers the same again (RFC 7352 §3.1).
    tested: Vec<(String, String, bool)>,
}

impl Machine<'_, '_> {
    fn spend(&mut self, steps: u64, at: Position) -> Result<(), RuntimeError> {
        match self.fuel.checked_sub(steps.saturating_mul(COMPARISONS)) {
            Some(left) => {
                self.fuel = left;
                Ok(())
            }
            None => Err(self.out_of_steps(at)),
        }
    }

    /// Pays for looking at this many octets.
    fn spend_octets(&mut self, octets: usize, at: Position) -> Result<(), RuntimeError> {
        self.spend((octets / OCTETS) as u64, at)
    }

    fn out_of_steps(&self, at: Position) -> RuntimeError {
        let most = self.limits.steps;
        RuntimeError::new(at, format!("the script took more than the {most} steps allowed; use fewer or simpler tests"))
    }

    fn keeps(&self) -> bool {
        self.earlier.iter().chain(&self.actions).any(|action| matches!(action, Action::Keep { .. }))
    }

    fn block(&mut self, statements: &[Statement]) -> Result<Flow, RuntimeError> {
        for Statement { at, command } in statements {
            self.spend(1, *at)?;
            if self.command(command, *at)? == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::Next)
    }

    fn command(&mut self, command: &Command, at: Position) -> Result<Flow, RuntimeError> {
        match command {
            Command::Stop => return Ok(Flow::Stop),
            Command::If { branches, otherwise } => {
                for (test, block) in branches {
                    if self.test(test, at)? {
                        return self.block(block);
                    }
                }
                return self.block(otherwise);
            }
            Command::Keep => self.keep(at)?,
            Command::Discard => self.discard(at)?,
            Command::FileInto { folder, create, copy } => self.file_into(folder, *create, *copy, at)?,
            Command::Redirect { address, copy } => self.redirect(address, *copy, at)?,
            Command::Reject { reason, kind } => self.reject(reason, *kind, at)?,
            Command::Set { variable, modifiers, value } => self.set(*variable, *modifiers, value, at)?,
            Command::AddHeader { name, value, last } => self.add_header(name, value, *last, at)?,
            Command::DeleteHeader(delete) => self.delete_header(delete, at)?,
            Command::Vacation(vacation) => self.vacation(vacation, at)?,
            Command::Error(text) => {
                let text = self.expand(text, at)?;
                return Err(RuntimeError::new(at, format!("the script ended itself: {text}")));
            }
        }
        Ok(Flow::Next)
    }
}

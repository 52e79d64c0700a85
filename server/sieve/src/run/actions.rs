//! Carries out the commands: records what is to be done, edits the header.

use super::Machine;
use super::tests::{bounded, fingerprint, selected_places};
use crate::address;
use crate::compile::folder_problem;
use crate::error::{Position, RuntimeError};
use crate::header::is_field_name;
use crate::outcome::{Action, Effect, RejectKind};
use crate::program::{DeleteHeader, MatchType, Text, Vacation};
use crate::vacation::{VacationReply, may_reply};

/// Fields that a script cannot delete: they are what ends loops (RFC 5293 §6).
const PROTECTED: [&str; 2] = ["received", "auto-submitted"];

/// Whether the action delivers the message, which a rejected one must not be.
fn delivers(action: &Action) -> bool {
    matches!(action, Action::Keep { .. } | Action::FileInto { .. } | Action::Redirect { .. })
}

impl Machine<'_, '_> {
    fn act(&mut self, action: Action, at: Position) -> Result<(), RuntimeError> {
        let most = self.limits.actions;
        if self.earlier.len() + self.actions.len() >= most {
            return Err(RuntimeError::new(at, format!("the script takes more than the {most} actions allowed")));
        }
        // RFC 5429 §2.1, RFC 5230 §4.7: a message is refused or accepted, not both.
        let rejected = self.actions.iter().any(|action| matches!(action, Action::Reject { .. }));
        let conflicts = match &action {
            Action::Reject { .. } => {
                rejected || self.actions.iter().any(|action| delivers(action) || matches!(action, Action::Vacation(_)))
            }
            Action::Discard => false,
            _ => rejected,
        };
        if conflicts {
            let message =
                "reject cannot go together with keep, fileinto, redirect, vacation or another reject; stop after it";
            return Err(RuntimeError::new(at, message));
        }
        self.actions.push(action);
        Ok(())
    }

    pub(super) fn keep(&mut self, at: Position) -> Result<(), RuntimeError> {
        self.explicit_keep = true;
        self.store_in_inbox(at)
    }

    fn store_in_inbox(&mut self, at: Position) -> Result<(), RuntimeError> {
        if self.keeps() {
            return Ok(());
        }
        let header = self.header.snapshot();
        self.act(Action::Keep { implicit: false, header }, at)
    }

    pub(super) fn discard(&mut self, at: Position) -> Result<(), RuntimeError> {
        self.implicit_keep = false;
        if self.actions.contains(&Action::Discard) { Ok(()) } else { self.act(Action::Discard, at) }
    }

    pub(super) fn file_into(
        &mut self,
        folder: &Text,
        create: bool,
        copy: bool,
        at: Position,
    ) -> Result<(), RuntimeError> {
        let folder = self.expand(folder, at)?;
        if let Some(problem) = folder_problem(&folder, self.limits.folder_characters) {
            return Err(RuntimeError::new(at, problem));
        }
        if !copy {
            self.implicit_keep = false;
        }
        if folder.eq_ignore_ascii_case("inbox") {
            self.filed_into_inbox = true;
            return self.store_in_inbox(at);
        }
        let same = |action: &Action| match action {
            Action::FileInto { folder: other, .. } => *other.to_lowercase() == folder.to_lowercase(),
            _ => false,
        };
        if self.earlier.iter().chain(&self.actions).any(same) {
            return Ok(());
        }
        let header = self.header.snapshot();
        self.act(Action::FileInto { folder, create, header }, at)
    }

    pub(super) fn redirect(&mut self, to: &Text, copy: bool, at: Position) -> Result<(), RuntimeError> {
        let text = self.expand(to, at)?;
        let Some(address) = address::single(&text) else {
            return Err(RuntimeError::new(at, format!("{text:?} is no address; write it as in \"anna@server1.com\"")));
        };
        if !copy {
            self.implicit_keep = false;
        }
        let mut redirects = 0;
        for action in self.earlier.iter().chain(&self.actions) {
            let Action::Redirect { address: other, .. } = action else { continue };
            if other.eq_ignore_ascii_case(&address) {
                return Ok(());
            }
            redirects += 1;
        }
        let most = self.limits.redirects;
        if redirects >= most {
            return Err(RuntimeError::new(
                at,
                format!("the script redirects to more than the {most} addresses allowed"),
            ));
        }
        let header = self.header.snapshot();
        self.act(Action::Redirect { address, header }, at)
    }

    pub(super) fn reject(&mut self, reason: &Text, kind: RejectKind, at: Position) -> Result<(), RuntimeError> {
        let reason = self.expand(reason, at)?;
        self.implicit_keep = false;
        self.act(Action::Reject { reason, kind }, at)
    }

    pub(super) fn add_header(
        &mut self,
        name: &Text,
        value: &Text,
        last: bool,
        at: Position,
    ) -> Result<(), RuntimeError> {
        let (name, value) = (self.expand(name, at)?, self.expand(value, at)?);
        if !is_field_name(&name) {
            return Err(RuntimeError::new(at, format!("{name:?} is no name of a header field")));
        }
        // All fields move where one comes before them.
        self.spend(1 + (self.header.header.fields().len() / 64) as u64, at)?;
        let current = &mut self.header;
        current.added += current.header.add(&name, &value, last);
        current.edited = true;
        current.snapshot = None;
        let most = self.limits.added_header_octets;
        if current.added > most {
            return Err(RuntimeError::new(
                at,
                format!("the script adds more than the {most} octets of header allowed"),
            ));
        }
        self.spend_octets(value.len(), at)
    }

    pub(super) fn delete_header(&mut self, delete: &DeleteHeader, at: Position) -> Result<(), RuntimeError> {
        let name = self.expand(&delete.name, at)?;
        if PROTECTED.iter().any(|protected| name.eq_ignore_ascii_case(protected)) {
            return Ok(());
        }
        let fields = self.header.header.fields();
        let places =
            fields.iter().enumerate().filter(|(_, field)| field.is_named(&name)).map(|(place, _)| place).collect();
        let mut places = selected_places(places, delete.index);
        let values: Vec<String> = places.iter().map(|place| fields[*place].decoded()).collect();
        self.spend(1 + (self.header.header.fields().len() / 64) as u64, at)?;
        self.spend_octets(values.iter().map(String::len).sum(), at)?;
        let matcher = &delete.matcher;
        if matches!(matcher.match_type, MatchType::Count(_)) {
            if !self.any_matches(matcher, &values, false, at)? {
                places.clear();
            }
        } else if !matcher.keys.is_empty() {
            let mut kept = Vec::with_capacity(places.len());
            for (place, value) in places.into_iter().zip(values) {
                if self.any_matches(matcher, &[value], false, at)? {
                    kept.push(place);
                }
            }
            places = kept;
        }
        if self.header.header.remove(&places) {
            self.header.edited = true;
            self.header.snapshot = None;
        }
        Ok(())
    }

    pub(super) fn vacation(&mut self, vacation: &Vacation, at: Position) -> Result<(), RuntimeError> {
        // RFC 5230 §4.7.
        if std::mem::replace(&mut self.replied, true) {
            return Err(RuntimeError::new(at, "vacation may be used once for a message"));
        }
        let mut optional = |text: &Option<Text>| text.as_ref().map(|text| self.expand(text, at)).transpose();
        let (subject, from, handle) =
            (optional(&vacation.subject)?, optional(&vacation.from)?, optional(&vacation.handle)?);
        let reason = self.expand(&vacation.reason, at)?;
        let addresses = self.expand_all(&vacation.addresses, at)?;
        if let Some(from) = from.as_ref().filter(|from| address::single(from).is_none()) {
            return Err(RuntimeError::new(at, format!("{from:?} is no address; write it as in \"anna@server1.com\"")));
        }
        // RFC 5230 §4.2: without a handle, what is answered tells one vacation from another.
        let handle = bounded(&handle.unwrap_or_else(|| {
            let told = format!("{subject:?}\0{from:?}\0{}\0{reason}", vacation.mime);
            format!("{:016x}", fingerprint(told.as_bytes()))
        }));
        let sender = self.delivery.reverse_path;
        self.spend(1 + (self.message.header.fields().len() / 8) as u64, at)?;
        if self.earlier.iter().any(|action| matches!(action, Action::Vacation(_)))
            || !may_reply(&self.message.header, self.delivery, &addresses)
        {
            return Ok(());
        }
        let key = bounded(&sender.to_ascii_lowercase());
        if self.environment.has_replied(&handle, &key) {
            return Ok(());
        }
        let reply = VacationReply::new(&self.header.header, self.delivery, from, subject, reason, vacation.mime);
        self.act(Action::Vacation(Box::new(reply)), at)?;
        self.effects.push(Effect::RememberVacation { handle, sender: key, seconds: vacation.seconds });
        Ok(())
    }
}

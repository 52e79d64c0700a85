//! Answers the tests.

use super::Machine;
use crate::address::{self, Entry, Mailbox};
use crate::body;
use crate::date::{self, DatePart};
use crate::error::{Position, RuntimeError};
use crate::header::Field;
use crate::outcome::Effect;
use crate::program::{AddressPart, BodyPart, Duplicate, Index, Matcher, Test, Text, UniqueId, Zone};

/// Octets of an id or handle that is remembered; what is longer is made shorter.
const ID: usize = 400;

/// The fields that an index leaves.
fn selected<T>(fields: Vec<T>, index: Option<Index>) -> Vec<T> {
    let Some(index) = index else { return fields };
    let number = usize::try_from(index.number - 1).unwrap_or(usize::MAX);
    let place = if index.from_last {
        fields.len().checked_sub(1).and_then(|last| last.checked_sub(number))
    } else {
        Some(number)
    };
    fields.into_iter().enumerate().filter(|(at, _)| Some(*at) == place).map(|(_, field)| field).collect()
}

/// Places of the fields that an index leaves.
pub(super) fn selected_places(places: Vec<usize>, index: Option<Index>) -> Vec<usize> {
    selected(places, index)
}

/// An id that is short enough to be stored, and still as good as its own.
pub(super) fn bounded(id: &str) -> String {
    if id.len() <= ID {
        return id.to_owned();
    }
    let mut short = id.to_owned();
    super::values::cut(&mut short, ID - 17);
    format!("{short}#{:016x}", fingerprint(id.as_bytes()))
}

/// FNV-1a, 64 bits: the same for ever, which Rust's own hashes do not promise.
pub(super) fn fingerprint(octets: &[u8]) -> u64 {
    octets.iter().fold(0xcbf2_9ce4_8422_2325, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3))
}

impl Machine<'_, '_> {
    pub(super) fn test(&mut self, test: &Test, at: Position) -> Result<bool, RuntimeError> {
        self.spend(1, at)?;
        match test {
            Test::Constant(result) | Test::Ihave(result) => Ok(*result),
            Test::Not(test) => Ok(!self.test(test, at)?),
            Test::AllOf(tests) => {
                for test in tests {
                    if !self.test(test, at)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Test::AnyOf(tests) => {
                for test in tests {
                    if self.test(test, at)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Test::Exists(names) => self.exists(names, at),
            Test::Size { over, octets } => {
                Ok(if *over { self.message.size > *octets } else { self.message.size < *octets })
            }
            Test::Header { names, index, matcher } => {
                let values = self.fields(names, *index, |field| field.decoded(), at)?;
                self.any_matches(matcher, &values, true, at)
            }
            Test::Address { names, index, part, matcher } => self.address(names, *index, *part, matcher, at),
            Test::Envelope { parts, part, matcher } => self.envelope(parts, *part, matcher, at),
            Test::Body { part, matcher } => self.body(part, matcher, at),
            Test::String { sources, matcher } => {
                let mut values = self.expand_all(sources, at)?;
                // RFC 5229 §5: empty strings do not count.
                if matches!(matcher.match_type, crate::program::MatchType::Count(_)) {
                    values.retain(|value| !value.is_empty());
                }
                self.any_matches(matcher, &values, true, at)
            }
            Test::Date { name, index, zone, part, matcher } => self.date(name, *index, zone, part, matcher, at),
            Test::CurrentDate { zone, part, matcher } => self.current_date(zone, part, matcher, at),
            Test::Environment { name, matcher } => {
                let name = self.expand(name, at)?.to_ascii_lowercase();
                match self.item(&name) {
                    Some(value) => self.any_matches(matcher, &[value], true, at),
                    None => Ok(false),
                }
            }
            Test::MailboxExists(folders) => {
                let folders = self.expand_all(folders, at)?;
                Ok(folders
                    .iter()
                    .all(|folder| folder.eq_ignore_ascii_case("inbox") || self.environment.folder_exists(folder)))
            }
            Test::Duplicate(duplicate) => self.duplicate(duplicate, at),
        }
    }

    fn item(&self, name: &str) -> Option<String> {
        match name {
            "name" => Some("Paquebot Sieve".to_owned()),
            "version" => Some(env!("CARGO_PKG_VERSION").to_owned()),
            name => self.environment.item(name),
        }
    }

    /// What `read` makes of the fields with these names.
    fn fields(
        &mut self,
        names: &[Text],
        index: Option<Index>,
        read: impl Fn(&Field<'_>) -> String,
        at: Position,
    ) -> Result<Vec<String>, RuntimeError> {
        let mut values = Vec::new();
        for name in self.expand_all(names, at)? {
            self.spend(1 + (self.header.header.fields().len() / 64) as u64, at)?;
            let fields = selected(self.header.header.named(&name).collect(), index);
            let octets = fields.iter().map(|field| field.octets()).sum();
            let read: Vec<String> = fields.into_iter().map(&read).collect();
            self.spend_octets(octets, at)?;
            values.extend(read);
        }
        Ok(values)
    }

    fn exists(&mut self, names: &[Text], at: Position) -> Result<bool, RuntimeError> {
        for name in self.expand_all(names, at)? {
            self.spend(1 + (self.header.header.fields().len() / 64) as u64, at)?;
            if self.header.header.first(&name).is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn address(
        &mut self,
        names: &[Text],
        index: Option<Index>,
        part: AddressPart,
        matcher: &Matcher,
        at: Position,
    ) -> Result<bool, RuntimeError> {
        let fields = self.fields(names, index, |field| field.text(), at)?;
        let mut values = Vec::new();
        for entry in fields.iter().flat_map(|field| address::list(field)) {
            match entry {
                Entry::Valid(mailbox) => values.extend(self.address_part(&mailbox, part)),
                // RFC 5228 §2.7.4: what is no address is compared as a whole only.
                Entry::Invalid(text) if part == AddressPart::All => values.push(text),
                Entry::Invalid(_) => {}
            }
        }
        self.any_matches(matcher, &values, true, at)
    }

    fn envelope(
        &mut self,
        parts: &[Text],
        part: AddressPart,
        matcher: &Matcher,
        at: Position,
    ) -> Result<bool, RuntimeError> {
        let mut values = Vec::new();
        for name in self.expand_all(parts, at)? {
            let address = match name.to_ascii_lowercase().as_str() {
                "from" => self.delivery.reverse_path,
                "to" => self.delivery.recipient,
                _ => continue,
            };
            match Mailbox::of_envelope(address) {
                Some(mailbox) => values.extend(self.address_part(&mailbox, part)),
                // RFC 5228 §5.4: the null reverse-path is empty, whichever part is asked for.
                None => values.push(address.to_owned()),
            }
        }
        self.any_matches(matcher, &values, true, at)
    }

    fn body(&mut self, part: &BodyPart, matcher: &Matcher, at: Position) -> Result<bool, RuntimeError> {
        let body = self.message.body;
        let body = &body[..body.len().min(self.limits.body_octets)];
        self.spend_octets(body.len(), at)?;
        let values = match part {
            BodyPart::Raw => vec![crate::words::to_text(body)],
            BodyPart::Text => {
                let parts = self.parts(body);
                let text = parts.iter().filter(|part| part.content_type.starts_with("text/"));
                text.map(|part| match part.content_type.as_str() {
                    "text/html" => body::text_of_html(&part.content),
                    _ => part.content.clone(),
                })
                .collect()
            }
            BodyPart::Content(types) => {
                let types = self.expand_all(types, at)?;
                let parts = self.parts(body);
                let meant = |part: &&body::Part| types.iter().any(|wanted| body::is_meant(&part.content_type, wanted));
                parts.iter().filter(meant).map(|part| part.content.clone()).collect()
            }
        };
        self.any_matches(matcher, &values, false, at)
    }

    fn parts(&mut self, body: &[u8]) -> std::rc::Rc<[body::Part]> {
        let header = &self.message.header;
        self.parts.get_or_insert_with(|| body::parts(header, body).into()).clone()
    }

    /// Seconds east of Greenwich of a zone; none is the date's own.
    fn offset(&mut self, zone: &Zone, at: Position) -> Result<Option<i32>, RuntimeError> {
        match zone {
            Zone::Local => Ok(Some(self.delivery.utc_offset)),
            Zone::Original => Ok(None),
            Zone::Offset(text) => {
                let text = self.expand(text, at)?;
                let wrong = || RuntimeError::new(at, format!("{text:?} is no time zone such as \"-0500\""));
                date::parse_zone(&text).ok_or_else(wrong).map(Some)
            }
        }
    }

    fn date(
        &mut self,
        name: &Text,
        index: Option<Index>,
        zone: &Zone,
        part: &Text,
        matcher: &Matcher,
        at: Position,
    ) -> Result<bool, RuntimeError> {
        // RFC 5260 §4: of several fields without an index, the first one that holds a date.
        let fields = self.fields(std::slice::from_ref(name), index, |field| field.text(), at)?;
        let offset = self.offset(zone, at)?;
        let part = DatePart::of(&self.expand(part, at)?);
        let found = fields.iter().take(1).find_map(|field| date::of_field(field));
        let moved = found.and_then(|date| match offset {
            Some(offset) => date::in_zone(&date, offset),
            None => Some(date),
        });
        let values: Vec<String> = moved.iter().zip(part).map(|(date, part)| part.text(date)).collect();
        self.any_matches(matcher, &values, true, at)
    }

    fn current_date(
        &mut self,
        zone: &Zone,
        part: &Text,
        matcher: &Matcher,
        at: Position,
    ) -> Result<bool, RuntimeError> {
        let offset = self.offset(zone, at)?.unwrap_or(0);
        let part = DatePart::of(&self.expand(part, at)?);
        let now = date::at(self.delivery.now, offset);
        let values: Vec<String> = now.iter().zip(part).map(|(date, part)| part.text(date)).collect();
        self.any_matches(matcher, &values, true, at)
    }

    fn duplicate(&mut self, duplicate: &Duplicate, at: Position) -> Result<bool, RuntimeError> {
        let handle = match &duplicate.handle {
            Some(handle) => self.expand(handle, at)?,
            None => String::new(),
        };
        let id = match &duplicate.id {
            UniqueId::Given(id) => Some(self.expand(id, at)?),
            UniqueId::Header(name) => {
                self.fields(std::slice::from_ref(name), None, |field| field.decoded(), at)?.into_iter().next()
            }
        };
        // RFC 7352 §3: a message without an id is no duplicate, and is not remembered.
        let Some(id) = id.filter(|id| !id.is_empty()) else { return Ok(false) };
        let (handle, id) = (bounded(&handle), bounded(&id));
        if let Some((_, _, found)) = self.tested.iter().find(|(known, other, _)| *known == handle && *other == id) {
            return Ok(*found);
        }
        let found = self.environment.is_duplicate(&handle, &id);
        self.tested.push((handle.clone(), id.clone(), found));
        // RFC 7352 §3.3: with :last the time counts from the last duplicate.
        if (!found || duplicate.last) && duplicate.seconds > 0 {
            self.effects.push(Effect::RememberDuplicate { handle, id, seconds: duplicate.seconds });
        }
        Ok(found)
    }
}

//! The Sender Rewriting Scheme: the reverse-path under which mail is sent on, so that SPF holds at the next server, and
//! its way back. Pure; called by [`super::distribution`] and, for reports that come back, by [`crate::smtp::policy`].
//!
//! `SRS0=hash=day=domain=local-part@ours` holds a sender, `SRS1=hash=domain=rest@ours` the SRS0 address of another
//! forwarder, so that an address does not grow with each hop. The hash is an HMAC-SHA256 of the rest: nobody but us makes
//! addresses that we send back to, or this would be an open relay.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use paquebot_config::{Address, Domain, LocalPart, SecretText};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Letters of a hash, 5 bits each: the usual four letters of base64 have 24 bits, and lose some where case is lost.
const HASH: usize = 6;
/// For how many days a report may come back: queues give up after five, and some people's after two weeks.
const VALID_DAYS: i64 = 21;
/// Days are counted in two letters.
const DAYS: i64 = 1 << 10;
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Why an address that looks like a rewritten one leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrsError {
    /// Its parts are not there, or its hash is not ours.
    NotOurs,
    /// It was made too long ago.
    Expired,
}

/// Whether a local part claims to be a rewritten sender.
#[must_use]
pub fn is_rewritten(local_part: &LocalPart) -> bool {
    Tag::of(&local_part.unquoted()).is_some()
}

/// Makes the reverse-path of a message that `domain` sends on. `None` where there is no key, or no room in 64 octets
/// (RFC 5321 §4.5.3.1.1): the message then keeps its own.
#[must_use]
pub fn rewrite(keys: &[SecretText], sender: &Address, domain: &Domain, now: Timestamp) -> Option<Address> {
    let key = keys.first()?;
    let local_part = sender.local_part().unquoted();
    let text = match Tag::of(&local_part) {
        None => {
            let day = day_text(day(now));
            let hash = hash(key, &[&day, sender.domain().as_str(), &local_part]);
            format!("SRS0={hash}={day}={}={local_part}", sender.domain())
        }
        Some((Tag::Srs0, rest)) => {
            let hash = hash(key, &[sender.domain().as_str(), rest]);
            format!("SRS1={hash}={}={rest}", sender.domain())
        }
        // The first forwarder stays, the one before us is left out.
        Some((Tag::Srs1, rest)) => {
            let (_hash, rest) = rest.get(1..)?.split_once('=')?;
            let (first, rest) = rest.split_once('=')?;
            let first = Domain::parse(first).ok()?;
            format!("SRS1={}={first}={rest}", hash(key, &[first.as_str(), rest]))
        }
    };
    Some(Address::new(local_part_of(&text)?, domain.clone()))
}

/// Takes the sender out of a rewritten address again.
///
/// # Errors
/// [`SrsError`]: nothing may be sent on.
pub fn restore(keys: &[SecretText], local_part: &LocalPart, now: Timestamp) -> Result<Address, SrsError> {
    let text = local_part.unquoted();
    let (tag, rest) = Tag::of(&text).ok_or(SrsError::NotOurs)?;
    let (found, rest) = rest.get(1..).and_then(|rest| rest.split_once('=')).ok_or(SrsError::NotOurs)?;
    match tag {
        Tag::Srs0 => {
            let mut parts = rest.splitn(3, '=');
            let (Some(day), Some(domain), Some(local_part)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(SrsError::NotOurs);
            };
            verify(keys, found, &[day, domain, local_part])?;
            is_valid(day, now)?;
            address(local_part, domain)
        }
        Tag::Srs1 => {
            let (domain, rest) = rest.split_once('=').ok_or(SrsError::NotOurs)?;
            verify(keys, found, &[domain, rest])?;
            address(&format!("SRS0{rest}"), domain)
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Srs0,
    Srs1,
}

impl Tag {
    /// The tag at the beginning, and what follows it, separator included: one of three, as others write them.
    fn of(text: &str) -> Option<(Self, &str)> {
        let (tag, rest) = text.split_at_checked(4)?;
        let tag = match tag.to_ascii_uppercase().as_str() {
            "SRS0" => Self::Srs0,
            "SRS1" => Self::Srs1,
            _ => return None,
        };
        rest.starts_with(['=', '+', '-']).then_some((tag, rest))
    }
}

fn address(local_part: &str, domain: &str) -> Result<Address, SrsError> {
    let local_part = local_part_of(local_part).ok_or(SrsError::NotOurs)?;
    Ok(Address::new(local_part, Domain::parse(domain).map_err(|_| SrsError::NotOurs)?))
}

/// A local part with this content, quoted where it has to be.
fn local_part_of(content: &str) -> Option<LocalPart> {
    LocalPart::parse(content).ok().filter(|_| !content.starts_with('"')).or_else(|| {
        let mut quoted = String::from("\"");
        for c in content.chars() {
            if matches!(c, '"' | '\\') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        quoted.push('"');
        LocalPart::parse(&quoted).ok()
    })
}

fn verify(keys: &[SecretText], found: &str, parts: &[&str]) -> Result<(), SrsError> {
    let found = found.to_ascii_uppercase();
    let matches = |key| bool::from(hash(key, parts).as_bytes().ct_eq(found.as_bytes()));
    if keys.iter().any(matches) { Ok(()) } else { Err(SrsError::NotOurs) }
}

/// Without regard to case, which servers on the way may change.
fn hash(key: &SecretText, parts: &[&str]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()) else { return String::new() };
    for part in parts {
        mac.update(part.to_lowercase().as_bytes());
        mac.update(b"=");
    }
    let digest = mac.finalize().into_bytes();
    let mut letters = String::with_capacity(HASH);
    let (mut bits, mut count) = (0u32, 0);
    let mut octets = digest.iter();
    while letters.len() < HASH {
        if count < 5 {
            bits = bits << 8 | u32::from(octets.next().copied().unwrap_or(0));
            count += 8;
        }
        count -= 5;
        letters.push(letter(bits >> count));
    }
    letters
}

fn letter(bits: u32) -> char {
    char::from(ALPHABET[(bits & 31) as usize])
}

fn day(now: Timestamp) -> i64 {
    (now.as_second() / (24 * 60 * 60)).rem_euclid(DAYS)
}

fn day_text(day: i64) -> String {
    let day = u32::try_from(day).unwrap_or(0);
    [letter(day >> 5), letter(day)].iter().collect()
}

fn is_valid(text: &str, now: Timestamp) -> Result<(), SrsError> {
    let mut made = 0;
    for byte in text.to_ascii_uppercase().bytes() {
        let digit = ALPHABET.iter().position(|letter| *letter == byte).ok_or(SrsError::NotOurs)?;
        made = made * 32 + i64::try_from(digit).unwrap_or(0);
    }
    let age = (day(now) - made).rem_euclid(DAYS);
    // A clock that was ahead when the address was made.
    if age <= VALID_DAYS || age == DAYS - 1 { Ok(()) } else { Err(SrsError::Expired) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(texts: &[&str]) -> Vec<SecretText> {
        texts.iter().map(|text| SecretText::new((*text).to_owned())).collect()
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn ours() -> Domain {
        Domain::parse("server1.com").unwrap()
    }

    fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    fn later(days: i64) -> Timestamp {
        now() + jiff::SignedDuration::from_hours(24 * days)
    }

    #[test]
    fn a_sender_comes_back() {
        let keys = keys(&["one"]);
        let sender = address("Jack.Tar@server2.com");
        let rewritten = rewrite(&keys, &sender, &ours(), now()).unwrap();
        let text = rewritten.to_string();
        assert!(text.starts_with("SRS0=") && text.ends_with("=server2.com=Jack.Tar@server1.com"), "{text}");
        assert_eq!(restore(&keys, rewritten.local_part(), later(21)), Ok(sender));
        assert_eq!(restore(&keys, rewritten.local_part(), later(22)), Err(SrsError::Expired));
        // Servers on the way may change case.
        let lower = LocalPart::parse(&rewritten.local_part().as_str().to_lowercase()).unwrap();
        assert_eq!(restore(&keys, &lower, now()), Ok(address("jack.tar@server2.com")));
    }

    #[test]
    fn a_forged_address_leads_nowhere() {
        let keys = keys(&["one"]);
        let rewritten = rewrite(&keys, &address("jack@server2.com"), &ours(), now()).unwrap();
        let text = rewritten.local_part().as_str();
        for forged in [
            text.replace("server2", "server3"),
            text.replace("jack", "jill"),
            text.replacen(&text[5..6], if &text[5..6] == "A" { "B" } else { "A" }, 1),
            "SRS0=AAAAAA=AA=server2.com=jack".to_owned(),
            "SRS0==AA=server2.com=jack".to_owned(),
            "SRS0=AAAAAA".to_owned(),
            "SRS0=".to_owned(),
            "SRS1=AAAAAA=server2.com==AAAA=AA=x.example=jack".to_owned(),
            "anna".to_owned(),
        ] {
            let forged = LocalPart::parse(&forged).unwrap();
            assert_eq!(restore(&keys, &forged, now()), Err(SrsError::NotOurs), "{}", forged.as_str());
        }
        assert_eq!(restore(&[], rewritten.local_part(), now()), Err(SrsError::NotOurs));
    }

    #[test]
    fn keys_are_changed_without_losing_reports() {
        let old = rewrite(&keys(&["old"]), &address("jack@server2.com"), &ours(), now()).unwrap();
        assert!(restore(&keys(&["new", "old"]), old.local_part(), now()).is_ok());
        assert!(restore(&keys(&["new"]), old.local_part(), now()).is_err());
        assert_eq!(rewrite(&[], &address("jack@server2.com"), &ours(), now()), None);
    }

    #[test]
    fn addresses_do_not_grow_with_each_forwarder() {
        let keys = keys(&["one"]);
        let first = address("SRS0=HHHH=TT=server2.com=jack@hop1.example");
        let second = rewrite(&keys, &first, &ours(), now()).unwrap();
        assert!(second.to_string().ends_with("=hop1.example==HHHH=TT=server2.com=jack@server1.com"), "{second}");
        assert_eq!(restore(&keys, second.local_part(), later(100)), Ok(first.clone()));
        let other = Domain::parse("server3.com").unwrap();
        let third = rewrite(&keys, &second, &other, now()).unwrap();
        assert_eq!(third.to_string().len(), second.to_string().len());
        assert_eq!(restore(&keys, third.local_part(), now()), Ok(first));
    }

    #[test]
    fn what_has_no_room_stays_as_it_is() {
        let long = address(&format!("{}@server2.com", "x".repeat(50)));
        assert_eq!(rewrite(&keys(&["one"]), &long, &ours(), now()), None);
    }

    proptest! {
        #[test]
        fn whatever_is_rewritten_comes_back(local in "[a-zA-Z0-9.+=_-]{1,20}", quoted in "[ -~]{1,12}", days in 0..21i64) {
            let keys = keys(&["key"]);
            for content in [&local, &quoted] {
                let Some(local_part) = local_part_of(content).filter(|part| !is_rewritten(part)) else { continue };
                let sender = Address::new(local_part, Domain::parse("else.example").unwrap());
                if let Some(rewritten) = rewrite(&keys, &sender, &ours(), now()) {
                    let back = restore(&keys, rewritten.local_part(), later(days)).map(|back| back.canonical());
                    prop_assert_eq!(back, Ok(sender.canonical()));
                }
            }
        }

        #[test]
        fn any_local_part_is_restored_or_refused(text in "(SRS[01][=+-])?[A-Za-z0-9=.+-]{0,40}") {
            if let Ok(local_part) = LocalPart::parse(&text) {
                prop_assert!(restore(&keys(&["key"]), &local_part, now()).is_err());
                let _ = rewrite(&keys(&["key"]), &Address::new(local_part, ours()), &ours(), now());
            }
        }
    }
}

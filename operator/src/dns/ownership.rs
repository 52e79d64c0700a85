//! The proof that a domain's owner agrees: a TXT record whose value is bound to one MailDomain, and what is believed of
//! it from one look to the next. Pure.
//!
//! The value is made from the object's own identity, so that the record which proves one claim proves no other: neither
//! that of another tenant, nor that of a MailDomain of the same name in another cluster, nor one that was made anew. It is
//! no secret; only who may write it into the zone counts.

use std::fmt::Write as _;
use std::time::Duration;

use paquebot_crds::conditions::{ConditionStatus, ConditionType, ConditionUpdate, Reason};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// The label in front of the domain.
const LABEL: &str = "_paquebot-challenge";
/// What the record's value begins with, so that people see what it is for.
const PREFIX: &str = "paquebot-challenge=";
/// Octets of the digest in the value: 128 bits.
const DIGEST_OCTETS: usize = 16;
/// A proof that was seen is believed until so many looks in a row have found it missing.
const LOOKS_THAT_COUNT: u32 = 3;

/// The name of the record.
#[must_use]
pub fn name(domain: &str) -> String {
    format!("{LABEL}.{domain}")
}

/// The value of the record that proves the claim of the MailDomain with this namespace and `metadata.uid`.
#[must_use]
pub fn challenge(domain: &str, namespace: &str, uid: &str) -> String {
    let mut hash = Sha256::new();
    for part in ["paquebot.dev/ownership", domain, namespace, uid] {
        hash.update(part.as_bytes());
        // Neither of them can hold it, so that no two claims are hashed alike.
        hash.update([0]);
    }
    let mut value = PREFIX.to_owned();
    for octet in hash.finalize().iter().take(DIGEST_OCTETS) {
        let _ = write!(value, "{octet:02x}");
    }
    value
}

/// The condition when no proof is asked for.
#[must_use]
pub fn not_required() -> ConditionUpdate {
    ConditionUpdate::yes(ConditionType::OwnershipVerified, Reason::NotRequired, "No proof of ownership is asked for.")
}

/// What is believed of a proof.
#[derive(Debug, Clone, Default)]
pub struct Proof {
    held: bool,
    missing: u32,
    counted: Option<Instant>,
}

impl Proof {
    /// As it was known before.
    #[must_use]
    pub fn new(held: bool) -> Self {
        Self { held, ..Self::default() }
    }

    /// Whether the claim counts as proven.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Takes in what a look says of the record, and tells what is to be reported. Whose proof was seen once stays served
    /// while nobody can say whether it is still there, and until it was missed three times, `spacing` apart: stopping a
    /// domain's mail is worse than serving it for a while.
    pub fn absorb(&mut self, seen: ConditionUpdate, spacing: Duration, now: Instant) -> ConditionUpdate {
        match seen.status {
            ConditionStatus::True => *self = Self::new(true),
            ConditionStatus::Unknown => {}
            ConditionStatus::False if self.held => {
                if self.counted.is_none_or(|counted| now.duration_since(counted) >= spacing) {
                    self.missing += 1;
                    self.counted = Some(now);
                }
                if self.missing < LOOKS_THAT_COUNT {
                    let message = format!("The proof was seen and is missing now. {}", seen.message);
                    return ConditionUpdate::yes(ConditionType::OwnershipVerified, Reason::Verified, message);
                }
                *self = Self::new(false);
            }
            ConditionStatus::False => {}
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: ConditionType = ConditionType::OwnershipVerified;
    const QUARTER: Duration = Duration::from_mins(15);

    fn seen() -> ConditionUpdate {
        ConditionUpdate::yes(TYPE, Reason::Verified, "")
    }

    fn missing() -> ConditionUpdate {
        ConditionUpdate::no(TYPE, Reason::ChallengeMissing, "")
    }

    fn failed() -> ConditionUpdate {
        ConditionUpdate::unknown(TYPE, Reason::LookupFailed, "")
    }

    #[test]
    fn a_claim_is_proven_by_its_own_record_alone() {
        let own = challenge("a.org", "one", "1");
        assert_eq!(own.len(), PREFIX.len() + 32);
        assert_eq!(own, challenge("a.org", "one", "1"), "it stays the same");
        for other in [
            challenge("b.org", "one", "1"),
            challenge("a.org", "two", "1"),
            challenge("a.org", "one", "2"),
            challenge("a.org", "on", "e1"),
        ] {
            assert_ne!(own, other);
        }
    }

    #[test]
    fn nothing_is_proven_before_the_record_was_seen() {
        let (mut proof, now) = (Proof::new(false), Instant::now());
        for look in [missing(), failed(), missing()] {
            assert_eq!(proof.absorb(look.clone(), QUARTER, now), look);
            assert!(!proof.is_held());
        }
        proof.absorb(seen(), QUARTER, now);
        assert!(proof.is_held());
    }

    #[test]
    fn a_proof_is_lost_when_it_was_missed_three_times_an_interval_apart() {
        let (mut proof, start) = (Proof::new(true), Instant::now());
        // However often somebody looks meanwhile, and whoever does not answer.
        for _ in 0..10 {
            assert_eq!(proof.absorb(missing(), QUARTER, start).reason, Reason::Verified);
            assert_eq!(proof.absorb(failed(), QUARTER, start).reason, Reason::LookupFailed);
        }
        assert_eq!(proof.absorb(missing(), QUARTER, start + QUARTER).reason, Reason::Verified);
        assert!(proof.is_held());
        assert_eq!(proof.absorb(missing(), QUARTER, start + 2 * QUARTER).reason, Reason::ChallengeMissing);
        assert!(!proof.is_held());
    }

    #[test]
    fn a_record_that_is_back_starts_the_count_anew() {
        let (mut proof, start) = (Proof::new(true), Instant::now());
        for step in 0..20 {
            let look = if step % 3 == 2 { seen() } else { missing() };
            proof.absorb(look, QUARTER, start + step * QUARTER);
            assert!(proof.is_held());
        }
    }

    #[test]
    fn silence_takes_nothing_away() {
        let (mut proof, start) = (Proof::new(true), Instant::now());
        for step in 0..100 {
            assert_eq!(proof.absorb(failed(), QUARTER, start + step * QUARTER).status, ConditionStatus::Unknown);
        }
        assert!(proof.is_held());
    }

    proptest! {
        #[test]
        fn any_claim_has_a_value_for_a_zone_file(domain in ".{0,40}", namespace in ".{0,40}", uid in ".{0,40}") {
            let value = challenge(&domain, &namespace, &uid);
            prop_assert!(value.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || b"-=".contains(&octet)));
        }
    }
}

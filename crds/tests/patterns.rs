//! What the types accept is what the patterns in the schema accept: the API server and a run without one agree.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test")]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use paquebot_crds::names::{ADDRESS_PATTERN, DOMAIN_PATTERN, LOCAL_PART_PATTERN, RECORD_NAME_PATTERN};
use paquebot_crds::{Cidr, DomainName, Duration, EmailAddress, LocalPart, Quantity, RecordName, duration, quantity};
use proptest::prelude::*;
use proptest::string::string_regex;
use regex::Regex;

/// A rule of the schema: a pattern, and how many characters it may match.
struct Rule(LazyLock<Regex>, RangeInclusive<usize>);

static RECORD_NAME: Rule = Rule(LazyLock::new(|| Regex::new(RECORD_NAME_PATTERN).unwrap()), 3..=253);
static DOMAIN: Rule = Rule(LazyLock::new(|| Regex::new(DOMAIN_PATTERN).unwrap()), 3..=253);
static LOCAL_PART: Rule = Rule(LazyLock::new(|| Regex::new(LOCAL_PART_PATTERN).unwrap()), 1..=64);
static ADDRESS: Rule = Rule(LazyLock::new(|| Regex::new(ADDRESS_PATTERN).unwrap()), 5..=318);
static QUANTITY: Rule = Rule(LazyLock::new(|| Regex::new(quantity::QUANTITY_PATTERN).unwrap()), 0..=21);
static DURATION: Rule = Rule(LazyLock::new(|| Regex::new(duration::DURATION_PATTERN).unwrap()), 1..=45);

impl Rule {
    fn accepts(&self, text: &str) -> bool {
        self.1.contains(&text.chars().count()) && self.0.is_match(text)
    }
}

/// Texts that look like a value of the pattern, whole or with one character changed, and texts that do not.
fn texts(pattern: &str, near: &'static str) -> impl Strategy<Value = String> {
    let whole = string_regex(pattern.trim_start_matches('^').trim_end_matches('$')).unwrap();
    let damaged =
        (string_regex(pattern.trim_start_matches('^').trim_end_matches('$')).unwrap(), any::<usize>(), any::<char>())
            .prop_map(|(text, position, character)| {
                let mut characters: Vec<char> = text.chars().collect();
                if !characters.is_empty() {
                    let position = position % characters.len();
                    characters[position] = character;
                }
                characters.into_iter().collect()
            });
    prop_oneof![whole, damaged, string_regex(near).unwrap(), any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn domains(text in texts(DOMAIN_PATTERN, "[a-zA-Z0-9.-]{0,80}")) {
        prop_assert_eq!(text.parse::<DomainName>().is_ok(), DOMAIN.accepts(&text));
    }

    #[test]
    fn record_names(text in texts(RECORD_NAME_PATTERN, "[a-zA-Z0-9._-]{0,80}")) {
        prop_assert_eq!(text.parse::<RecordName>().is_ok(), RECORD_NAME.accepts(&text));
    }

    #[test]
    fn local_parts(text in texts(LOCAL_PART_PATTERN, "[a-zA-Z0-9.+@_\"-]{0,70}")) {
        prop_assert_eq!(text.parse::<LocalPart>().is_ok(), LOCAL_PART.accepts(&text));
    }

    #[test]
    fn addresses(text in texts(ADDRESS_PATTERN, "[a-zA-Z.+-]{0,70}@[a-z.]{0,20}")) {
        let at = text.find('@').unwrap_or_default();
        let lengths = at <= 64 && text.len() - at <= 254;
        prop_assert_eq!(text.parse::<EmailAddress>().is_ok(), ADDRESS.accepts(&text) && lengths);
    }

    #[test]
    fn an_address_is_its_two_parts(text in string_regex("[A-Za-z0-9!#.]{1,70}@[a-z0-9]{1,10}[.][a-z]{2,5}").unwrap()) {
        if let Ok(address) = text.parse::<EmailAddress>() {
            prop_assert_eq!(format!("{}@{}", address.local_part(), address.domain()), text);
        }
    }

    #[test]
    fn quantities(text in texts(quantity::QUANTITY_PATTERN, "[0-9.]{0,20}[kKMGTPEi]{0,2}")) {
        prop_assert_eq!(text.parse::<Quantity>().is_ok(), QUANTITY.accepts(&text));
    }

    #[test]
    fn a_quantity_of_bytes_is_read_back(bytes in 0..=i64::MAX.unsigned_abs()) {
        let written = Quantity::from_bytes(bytes);
        prop_assert_eq!(written.bytes(), bytes);
        // Exact numbers above 15 digits have no short form; all that people write has.
        if bytes < 1_000_000_000_000_000 {
            prop_assert_eq!(written.as_str().parse::<Quantity>().unwrap().bytes(), bytes);
        }
    }

    #[test]
    fn a_quantity_keeps_its_text(text in string_regex(quantity::QUANTITY_PATTERN.trim_start_matches('^').trim_end_matches('$')).unwrap()) {
        let quantity: Quantity = text.parse().unwrap();
        prop_assert_eq!(serde_json::to_value(&quantity).unwrap(), serde_json::json!(text));
        prop_assert!(quantity.bytes() <= i64::MAX.unsigned_abs());
    }

    #[test]
    fn durations(text in texts(duration::DURATION_PATTERN, "[0-9.]{0,8}[hms]{0,2}[0-9.]{0,8}[hms]{0,2}")) {
        prop_assert_eq!(text.parse::<Duration>().is_ok(), DURATION.accepts(&text));
    }

    #[test]
    fn a_span_is_read_back(milliseconds in 0..3_600_000_000_000_u64) {
        let span = std::time::Duration::from_millis(milliseconds);
        let written = Duration::from(span);
        prop_assert_eq!(written.to_std(), span);
        prop_assert_eq!(written.as_str().parse::<Duration>().unwrap().to_std(), span);
        prop_assert_eq!(written.whole_seconds(), milliseconds.div_ceil(1000));
    }

    #[test]
    fn networks(v4 in any::<u32>(), v6 in any::<u128>(), prefix in 0..=140_u8) {
        let v4 = format!("{}/{prefix}", Ipv4Addr::from(v4)).parse::<Cidr>();
        prop_assert_eq!(v4.is_ok(), prefix <= 32);
        prop_assert!(v4.is_err() || v4.unwrap().is_everything() == (prefix == 0));
        let mapped = Ipv6Addr::from(v6).to_ipv4_mapped().is_some();
        let v6 = format!("{}/{prefix}", Ipv6Addr::from(v6)).parse::<Cidr>();
        prop_assert_eq!(v6.is_ok(), prefix <= 128 && !mapped);
    }

    #[test]
    fn nothing_panics(text in any::<String>()) {
        let _ = text.parse::<Cidr>();
        let _ = text.parse::<DomainName>();
        let _ = text.parse::<EmailAddress>();
    }
}

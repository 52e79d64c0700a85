//! Times: the strings of `metav1.Duration`, such as `72h` or `1h30m`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The pattern of a duration: hours, minutes, seconds and milliseconds, each at most once and in that order, so that no
/// sum leaves the range of Go's `time.Duration`, which the API server computes with.
pub const DURATION_PATTERN: &str = "^(0|([0-9]{1,6}([.][0-9]{1,3})?h)?([0-9]{1,6}([.][0-9]{1,3})?m)?\
([0-9]{1,6}([.][0-9]{1,3})?s)?([0-9]{1,6}([.][0-9]{1,3})?ms)?)$";
/// What is said when a duration does not match.
pub const DURATION_MESSAGE: &str =
    "write a duration with units, largest first: h, m, s, ms, such as 72h or 1h30m (a day is 24h)";
/// Four numbers of up to ten characters with their units.
const MAXIMUM: usize = 45;

/// A span of time, written as Kubernetes writes it (`72h`, `1h30m`, `500ms`).
///
/// It remembers how it was written, so that an object read and written back does not change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Duration {
    text: String,
    value: std::time::Duration,
}

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: {DURATION_MESSAGE}")]
pub struct InvalidDuration(String);

impl Duration {
    /// The span.
    #[must_use]
    pub fn to_std(&self) -> std::time::Duration {
        self.value
    }

    /// The span in whole seconds, a broken second rounded up.
    #[must_use]
    pub fn whole_seconds(&self) -> u64 {
        self.value.as_secs() + u64::from(self.value.subsec_nanos() > 0)
    }

    /// The text, as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl From<std::time::Duration> for Duration {
    /// Writes the span with the units that it needs; what is finer than a millisecond or longer than 999999 hours is
    /// cut off.
    fn from(value: std::time::Duration) -> Self {
        let longest = std::time::Duration::from_secs(999_999 * 3600 + 3599);
        let milliseconds = value.min(longest).as_millis();
        let parts = [
            (milliseconds / 3_600_000, "h"),
            (milliseconds / 60_000 % 60, "m"),
            (milliseconds / 1000 % 60, "s"),
            (milliseconds % 1000, "ms"),
        ];
        let written: String =
            parts.iter().filter(|(number, _)| *number > 0).map(|(number, unit)| format!("{number}{unit}")).collect();
        let text = if written.is_empty() { "0s".to_owned() } else { written };
        let value = std::time::Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX));
        Self { text, value }
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;
    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        parse(text)
            .map(|value| Self { text: text.to_owned(), value })
            .ok_or_else(|| InvalidDuration(text.chars().take(64).collect()))
    }
}

/// Nanoseconds in each unit, largest first.
const UNITS: [(&str, u64); 4] =
    [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000)];

fn parse(text: &str) -> Option<std::time::Duration> {
    if text == "0" {
        return Some(std::time::Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total = std::time::Duration::ZERO;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(number_end)?;
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(unit_end)?;
        // The iterator only moves on: a unit out of order or twice is not found.
        let (_, nanoseconds) = units.find(|(name, _)| *name == unit)?;
        total += std::time::Duration::from_nanos(thousandths(number)?.checked_mul(nanoseconds / 1000)?);
        rest = next;
    }
    Some(total)
}

/// A number of up to six digits and three decimals, in thousandths.
fn thousandths(number: &str) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(whole, rest)| (whole, Some(rest)));
    let digits = |part: &str, maximum| (1..=maximum).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole, 6) || !fraction.is_none_or(|part| digits(part, 3)) {
        return None;
    }
    let fraction: u64 = format!("{:0<3}", fraction.unwrap_or("0")).parse().ok()?;
    Some(whole.parse::<u64>().ok()? * 1000 + fraction)
}

impl fmt::Display for Duration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": MAXIMUM,
            "x-kubernetes-validations": [
                {"rule": format!("self.matches(r\"{DURATION_PATTERN}\")"), "message": DURATION_MESSAGE},
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Duration;

    fn milliseconds(text: &str) -> Option<u128> {
        text.parse::<Duration>().ok().map(|duration| duration.to_std().as_millis())
    }

    #[test]
    fn units_add_up() {
        assert_eq!(milliseconds("72h"), Some(259_200_000));
        assert_eq!(milliseconds("1h30m"), Some(5_400_000));
        assert_eq!(milliseconds("1.5h"), Some(5_400_000));
        assert_eq!(milliseconds("72h0m0s"), Some(259_200_000));
        assert_eq!(milliseconds("500ms"), Some(500));
        assert_eq!(milliseconds("0"), Some(0));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "", "5", "5d", "h", "-1h", "1h-1m", "1m1h", "1h1h", "1 h", "1.h", ".5h", "1.2345s", "1H", "9999999h",
            "1h30",
        ] {
            assert_eq!(milliseconds(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_span_is_written_with_its_units() {
        let written = |value| Duration::from(value).to_string();
        assert_eq!(written(std::time::Duration::from_secs(5400)), "1h30m");
        assert_eq!(written(std::time::Duration::from_millis(1500)), "1s500ms");
        assert_eq!(written(std::time::Duration::ZERO), "0s");
    }
}

//! Sizes: a Kubernetes quantity that counts bytes.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The pattern of a size: up to 15 digits, up to three after the point, and a suffix of bytes.
pub const QUANTITY_PATTERN: &str = "^[0-9]{1,15}([.][0-9]{1,3})?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$";
/// What is said when a size does not match.
pub const QUANTITY_MESSAGE: &str = "write a size in bytes as a number with a suffix, such as 500Mi or 1.5Gi";

/// A size in bytes, written as a Kubernetes quantity (`50Mi`, `1.5Gi`, `20G`, `1048576`).
///
/// It remembers how it was written, so that an object read and written back does not change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quantity {
    text: String,
    bytes: u64,
}

/// A text that is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: {QUANTITY_MESSAGE}")]
pub struct InvalidQuantity(String);

impl Quantity {
    /// The size in bytes: a broken one rounded up, a gigantic one capped at 2^63-1, as Kubernetes does.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The text, as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A quantity of so many bytes, written with the largest binary suffix that divides it.
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Self {
        let bytes = bytes.min(i64::MAX.unsigned_abs());
        let suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        let mut number = bytes;
        let mut step = 0;
        while number >= 1024 && number % 1024 == 0 && step + 1 < suffixes.len() {
            number /= 1024;
            step += 1;
        }
        Self { text: format!("{number}{}", suffixes.get(step).copied().unwrap_or_default()), bytes }
    }
}

impl FromStr for Quantity {
    type Err = InvalidQuantity;
    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        parse_bytes(text)
            .map(|bytes| Self { text: text.to_owned(), bytes })
            .ok_or_else(|| InvalidQuantity(text.chars().take(64).collect()))
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(number_end)?;
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(whole, rest)| (whole, Some(rest)));
    let digits = |part: &str, maximum| (1..=maximum).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole, 15) || !fraction.is_none_or(|part| digits(part, 3)) {
        return None;
    }
    // Thousandths, so that three decimals stay exact: 10^18 thousandths of 2^60 bytes fit in a u128.
    let thousandths = u128::from(whole.parse::<u64>().ok()?) * 1000
        + u128::from(format!("{:0<3}", fraction.unwrap_or("0")).parse::<u64>().ok()?);
    let bytes = (thousandths * multiplier(suffix)?).div_ceil(1000);
    Some(u64::try_from(bytes).unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs()))
}

fn multiplier(suffix: &str) -> Option<u128> {
    Some(match suffix {
        "" => 1,
        "k" => 1000,
        "M" => 1000_u128.pow(2),
        "G" => 1000_u128.pow(3),
        "T" => 1000_u128.pow(4),
        "P" => 1000_u128.pow(5),
        "E" => 1000_u128.pow(6),
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        "Ei" => 1 << 60,
        _ => return None,
    })
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl From<&Quantity> for k8s_openapi::apimachinery::pkg::api::resource::Quantity {
    fn from(quantity: &Quantity) -> Self {
        Self(quantity.text.clone())
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Kubernetes lets people write a quantity as a string or as a bare number.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(bytes) => bytes.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
        .map_err(de::Error::custom)
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            // Fifteen digits, a point, three digits and a suffix of two.
            "maxLength": 21,
            "x-kubernetes-validations": [{
                "rule": format!("type(self) == int ? (self >= 0 && self <= 999999999999999) : self.matches(r\"{QUANTITY_PATTERN}\")"),
                "message": QUANTITY_MESSAGE,
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    fn bytes(text: &str) -> Option<u64> {
        text.parse::<Quantity>().ok().map(|quantity| quantity.bytes())
    }

    #[test]
    fn suffixes_multiply() {
        assert_eq!(bytes("0"), Some(0));
        assert_eq!(bytes("50Mi"), Some(50 * 1024 * 1024));
        assert_eq!(bytes("1.5Gi"), Some(1_610_612_736));
        assert_eq!(bytes("20G"), Some(20_000_000_000));
        assert_eq!(bytes("1k"), Some(1000));
        assert_eq!(bytes("0.001Ki"), Some(2), "a broken byte is rounded up");
        assert_eq!(bytes("999999999999999Ei"), Some(9_223_372_036_854_775_807), "capped");
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "Mi",
            "-1",
            "+1",
            "1m",
            "1e3",
            "1.Gi",
            ".5Gi",
            "1.2345Gi",
            "1 Gi",
            "1GiB",
            "1Ki ",
            "1٣",
            "9999999999999999",
        ] {
            assert_eq!(bytes(text), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_and_texts_are_read() {
        let number: Quantity = serde_json::from_str("1048576").unwrap();
        assert_eq!(number.bytes(), 1_048_576);
        let text: Quantity = serde_json::from_str("\"1Mi\"").unwrap();
        assert_eq!(text.bytes(), 1_048_576);
        assert_eq!(serde_json::to_string(&text).unwrap(), "\"1Mi\"");
        assert!(serde_json::from_str::<Quantity>("-1").is_err());
    }
}

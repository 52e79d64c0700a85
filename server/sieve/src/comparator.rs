//! How two texts compare (RFC 4790 §9; RFC 5231 for the relations).

use std::cmp::Ordering;

/// A comparator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparator {
    Octet,
    AsciiCasemap,
    AsciiNumeric,
}

/// A relation of RFC 5231 §4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
}

impl Relation {
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "gt" => Self::Greater,
            "ge" => Self::GreaterOrEqual,
            "lt" => Self::Less,
            "le" => Self::LessOrEqual,
            "eq" => Self::Equal,
            "ne" => Self::NotEqual,
            _ => return None,
        })
    }

    pub(crate) fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
        }
    }
}

/// The number at the beginning, without leading zeros; none counts as larger than each number (RFC 4790 §9.1.1).
fn number(text: &str) -> Option<&str> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    (length > 0).then(|| text[..length].trim_start_matches('0'))
}

impl Comparator {
    pub(crate) fn compare(self, left: &str, right: &str) -> Ordering {
        match self {
            Self::Octet => left.cmp(right),
            Self::AsciiCasemap => {
                let upper = |text: &str| text.bytes().map(|byte| byte.to_ascii_uppercase()).collect::<Vec<u8>>();
                upper(left).cmp(&upper(right))
            }
            Self::AsciiNumeric => match (number(left), number(right)) {
                (Some(left), Some(right)) => left.len().cmp(&right.len()).then_with(|| left.cmp(right)),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => Ordering::Equal,
            },
        }
    }

    pub(crate) fn equal(self, left: &str, right: &str) -> bool {
        match self {
            Self::Octet => left == right,
            Self::AsciiCasemap => left.eq_ignore_ascii_case(right),
            Self::AsciiNumeric => self.compare(left, right).is_eq(),
        }
    }

    /// Whether `key` is somewhere in `value`. Never asked of i;ascii-numeric: the compiler refuses it.
    pub(crate) fn contains(self, value: &str, key: &str) -> bool {
        let find = |value: &[u8], key: &[u8]| memchr::memmem::find(value, key).is_some();
        if self == Self::AsciiCasemap {
            find(value.to_ascii_lowercase().as_bytes(), key.to_ascii_lowercase().as_bytes())
        } else {
            find(value.as_bytes(), key.as_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc4790_numeric_compares_leading_digits_and_anything_else_is_infinite() {
        let compare = |left, right| Comparator::AsciiNumeric.compare(left, right);
        assert_eq!(compare("9", "10"), Ordering::Less);
        assert_eq!(compare("007", "7 apples"), Ordering::Equal);
        assert_eq!(compare("0", "000"), Ordering::Equal);
        assert_eq!(compare("x", "99999999999999999999999999"), Ordering::Greater);
        assert_eq!(compare("", "x"), Ordering::Equal);
        assert_eq!(compare("18446744073709551617", "18446744073709551616"), Ordering::Greater);
    }

    #[test]
    fn casemap_folds_ascii_only() {
        assert!(Comparator::AsciiCasemap.equal("ABC", "abc"));
        assert!(!Comparator::AsciiCasemap.equal("É", "é"));
        assert!(Comparator::AsciiCasemap.contains("xÉy", "XÉ"));
        assert!(!Comparator::Octet.contains("abc", "B"));
        assert_eq!(Comparator::AsciiCasemap.compare("b", "A"), Ordering::Greater);
        assert_eq!(Comparator::Octet.compare("b", "A"), Ordering::Greater);
        assert_eq!(Comparator::Octet.compare("a", "B"), Ordering::Greater);
        assert_eq!(Comparator::AsciiCasemap.compare("a", "B"), Ordering::Less);
    }
}

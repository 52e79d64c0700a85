//! Dates in fields and their parts (RFC 5260 §4).

use jiff::Timestamp;
use jiff::Zoned;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::tz::{Offset, TimeZone};

/// Days between the Modified Julian Day 0, 1858-11-17, and 1970-01-01.
const MODIFIED_JULIAN_DAY_OF_1970: i64 = 40_587;

static PARSER: DateTimeParser = DateTimeParser::new().relaxed_weekday(true);

/// What of a date is compared (RFC 5260 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DatePart {
    Year,
    Month,
    Day,
    Date,
    Julian,
    Hour,
    Minute,
    Second,
    Time,
    Iso8601,
    Std11,
    Zone,
    Weekday,
}

impl DatePart {
    pub(crate) const NAMES: [(&'static str, Self); 13] = [
        ("year", Self::Year),
        ("month", Self::Month),
        ("day", Self::Day),
        ("date", Self::Date),
        ("julian", Self::Julian),
        ("hour", Self::Hour),
        ("minute", Self::Minute),
        ("second", Self::Second),
        ("time", Self::Time),
        ("iso8601", Self::Iso8601),
        ("std11", Self::Std11),
        ("zone", Self::Zone),
        ("weekday", Self::Weekday),
    ];

    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, part)| *part)
    }

    /// This part of a date, in the date's own zone.
    pub(crate) fn text(self, date: &Zoned) -> String {
        match self {
            Self::Year => format!("{:04}", date.year()),
            Self::Month => format!("{:02}", date.month()),
            Self::Day => format!("{:02}", date.day()),
            Self::Date => format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day()),
            Self::Julian => {
                let local = date.timestamp().as_second() + i64::from(date.offset().seconds());
                (local.div_euclid(86_400) + MODIFIED_JULIAN_DAY_OF_1970).to_string()
            }
            Self::Hour => format!("{:02}", date.hour()),
            Self::Minute => format!("{:02}", date.minute()),
            Self::Second => format!("{:02}", date.second()),
            Self::Time => format!("{:02}:{:02}:{:02}", date.hour(), date.minute(), date.second()),
            Self::Iso8601 => {
                // RFC 3339 §5.6: Greenwich is written so.
                let zone = if date.offset().seconds() == 0 { "Z".to_owned() } else { zone(date, ":") };
                format!("{}T{}{zone}", Self::Date.text(date), Self::Time.text(date))
            }
            Self::Std11 => rfc5322(date),
            Self::Zone => zone(date, ""),
            Self::Weekday => date.weekday().to_sunday_zero_offset().to_string(),
        }
    }
}

fn zone(date: &Zoned, between: &str) -> String {
    let minutes = date.offset().seconds() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    let minutes = minutes.abs();
    format!("{sign}{:02}{between}{:02}", minutes / 60, minutes % 60)
}

/// A date as a message has it: `Mon, 23 Nov 2026 16:00:00 +0000`.
pub(crate) fn rfc5322(date: &Zoned) -> String {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let day = usize::try_from(date.weekday().to_sunday_zero_offset()).unwrap_or(0);
    let month = usize::try_from(date.month() - 1).unwrap_or(0);
    let (day, month) = (DAYS.get(day).unwrap_or(&"Sun"), MONTHS.get(month).unwrap_or(&"Jan"));
    format!("{day}, {:02} {month} {:04} {} {}", date.day(), date.year(), DatePart::Time.text(date), zone(date, ""))
}

/// Seconds east of Greenwich of `+hhmm` or `-hhmm`.
pub(crate) fn parse_zone(text: &str) -> Option<i32> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i32 = digits.parse().ok()?;
    let (hours, minutes) = (number / 100, number % 100);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// The moment of Unix seconds, in the zone with this offset.
pub(crate) fn at(seconds: i64, offset: i32) -> Option<Zoned> {
    let offset = Offset::from_seconds(offset).ok()?;
    Some(Timestamp::from_second(seconds).ok()?.to_zoned(TimeZone::fixed(offset)))
}

/// The date in a field's value, in its own zone: the whole of it, or what follows the last semicolon as in `Received`.
pub(crate) fn of_field(value: &str) -> Option<Zoned> {
    let date = value.rsplit_once(';').map_or(value, |(_, date)| date).trim();
    PARSER.parse_zoned(date).ok()
}

/// The same moment in the zone with this offset.
pub(crate) fn in_zone(date: &Zoned, offset: i32) -> Option<Zoned> {
    at(date.timestamp().as_second(), offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5260_parts_of_a_date() {
        let date = of_field("from a by b; Mon, 23 Nov 2026 18:07:09 -0500 (EST)").unwrap();
        let part = |name| DatePart::of(name).unwrap().text(&date);
        let expected = [
            ("year", "2026"),
            ("month", "11"),
            ("day", "23"),
            ("date", "2026-11-23"),
            ("julian", "61367"),
            ("hour", "18"),
            ("minute", "07"),
            ("second", "09"),
            ("time", "18:07:09"),
            ("iso8601", "2026-11-23T18:07:09-05:00"),
            ("std11", "Mon, 23 Nov 2026 18:07:09 -0500"),
            ("zone", "-0500"),
            ("WEEKDAY", "1"),
        ];
        for (name, value) in expected {
            assert_eq!(part(name), value, "{name}");
        }
        let moved = in_zone(&date, parse_zone("+0130").unwrap()).unwrap();
        assert_eq!(DatePart::Iso8601.text(&moved), "2026-11-24T00:37:09+01:30");
        assert_eq!(DatePart::Julian.text(&moved), "61368");
    }

    #[test]
    fn modified_julian_days_have_known_values() {
        // RFC 5260 §4.2: the count begins on 17 November 1858; the Gregorian 2000-01-01 is 51544.
        let date = of_field("Sat, 1 Jan 2000 00:00:00 +0000").unwrap();
        assert_eq!(DatePart::Julian.text(&date), "51544");
    }

    #[test]
    fn zones_are_a_sign_and_four_digits() {
        assert_eq!(parse_zone("-0530"), Some(-19_800));
        for wrong in ["", "+", "0100", "+100", "+01:00", "+0160", "+2400", "é100", "+01a0"] {
            assert_eq!(parse_zone(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_date_is_none() {
        for wrong in ["", ";", "yesterday", "Mon, 99 Nov 2026 18:07:09 -0500"] {
            assert!(of_field(wrong).is_none(), "{wrong}");
        }
    }
}

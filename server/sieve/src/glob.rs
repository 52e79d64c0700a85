//! Wildcards: `*` and `?` in `:matches` (RFC 5228 §2.7.1), with what each of them stood for (RFC 5229 §3.2). The time is
//! bounded by pattern times value, and by a budget.

/// No comparisons are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfBudget;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Letter(char),
    Any,
}

/// A pattern: what stands between its asterisks.
struct Pattern {
    segments: Vec<Vec<Unit>>,
}

impl Pattern {
    fn of(pattern: &str) -> Self {
        let mut segments = vec![Vec::new()];
        let mut letters = pattern.chars();
        while let Some(letter) = letters.next() {
            let unit = match letter {
                '*' => {
                    segments.push(Vec::new());
                    continue;
                }
                '?' => Unit::Any,
                '\\' => Unit::Letter(letters.next().unwrap_or('\\')),
                letter => Unit::Letter(letter),
            };
            if let Some(segment) = segments.last_mut() {
                segment.push(unit);
            }
        }
        Self { segments }
    }
}

struct Matching<'v, 'b> {
    value: &'v str,
    fold: bool,
    budget: &'b mut u64,
}

impl Matching<'_, '_> {
    /// Where the segment ends if it stands at `from`.
    fn stands(&mut self, segment: &[Unit], from: usize) -> Result<Option<usize>, OutOfBudget> {
        let mut letters = self.value[from..].chars();
        let mut end = from;
        for unit in segment {
            *self.budget = self.budget.checked_sub(1).ok_or(OutOfBudget)?;
            let Some(letter) = letters.next() else { return Ok(None) };
            let same = match unit {
                Unit::Any => true,
                Unit::Letter(wanted) if self.fold => wanted.eq_ignore_ascii_case(&letter),
                Unit::Letter(wanted) => *wanted == letter,
            };
            if !same {
                return Ok(None);
            }
            end += letter.len_utf8();
        }
        Ok(Some(end))
    }

    /// The first place at or after `from` where the segment stands.
    fn find(&mut self, segment: &[Unit], from: usize) -> Result<Option<(usize, usize)>, OutOfBudget> {
        let value = self.value;
        let starts = value[from..].char_indices().map(|(place, _)| from + place).chain([value.len()]);
        for start in starts {
            if let Some(end) = self.stands(segment, start)? {
                return Ok(Some((start, end)));
            }
        }
        Ok(None)
    }

    /// Where the segment stands if it is to end the value.
    fn ends(&mut self, segment: &[Unit], from: usize) -> Result<Option<(usize, usize)>, OutOfBudget> {
        let start = match segment.len() {
            0 => Some(self.value.len()),
            length => self.value[from..].char_indices().rev().nth(length - 1).map(|(place, _)| from + place),
        };
        let Some(start) = start else { return Ok(None) };
        Ok(self.stands(segment, start)?.map(|end| (start, end)))
    }
}

/// Matches all of `value`: what each wildcard stood for, in their order, each `*` as short as can be; none where it does
/// not match. `fold` makes ASCII letters equal in both cases. Each comparison costs one of `budget`.
pub(crate) fn captures<'v>(
    pattern: &str,
    value: &'v str,
    fold: bool,
    budget: &mut u64,
) -> Result<Option<Vec<&'v str>>, OutOfBudget> {
    let pattern = Pattern::of(pattern);
    let mut matching = Matching { value, fold, budget };
    let mut captures = Vec::new();
    let mut at = 0;
    let last = pattern.segments.len() - 1;
    for (number, segment) in pattern.segments.iter().enumerate() {
        let place = if number == 0 {
            matching.stands(segment, 0)?.map(|end| (0, end))
        } else if number == last {
            matching.ends(segment, at)?
        } else {
            matching.find(segment, at)?
        };
        let Some((start, end)) = place else { return Ok(None) };
        if number > 0 {
            captures.push(&value[at..start]);
        }
        let letters = value[start..end].char_indices().zip(segment);
        captures.extend(letters.filter(|(_, unit)| **unit == Unit::Any).map(|((place, letter), _)| {
            let place = start + place;
            &value[place..place + letter.len_utf8()]
        }));
        at = end;
    }
    Ok((at == value.len()).then_some(captures))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matched<'v>(pattern: &str, value: &'v str) -> Option<Vec<&'v str>> {
        captures(pattern, value, true, &mut 1_000_000).unwrap()
    }

    #[test]
    fn rfc5228_wildcards_match_the_whole_value() {
        assert_eq!(matched("*", ""), Some(vec![""]));
        assert_eq!(matched("?", ""), None);
        assert_eq!(matched("", ""), Some(vec![]));
        assert_eq!(matched("", "a"), None);
        assert_eq!(matched("A?c", "abc"), Some(vec!["b"]));
        assert_eq!(matched("a?c", "abcd"), None);
        assert_eq!(matched("\\*a\\?\\\\", "*a?\\"), Some(vec![]));
        assert_eq!(matched("\\*", "a"), None);
        assert_eq!(matched("?", "é"), Some(vec!["é"]));
        assert_eq!(matched("a\\", "a\\"), Some(vec![]));
    }

    #[test]
    fn rfc5229_asterisks_are_as_short_as_can_be() {
        assert_eq!(matched("*-*", "a-b-c"), Some(vec!["a", "b-c"]));
        assert_eq!(matched("**", "ab"), Some(vec!["", "ab"]));
        assert_eq!(matched("*?", "abc"), Some(vec!["ab", "c"]));
        assert_eq!(matched("?*-??", "ab-c-de"), Some(vec!["a", "b-c", "d", "e"]));
        // RFC 5229 §3.2, the example of List-ID.
        assert_eq!(
            matched("*<*@*", "[acme-users] <coyote@ACME.Example.COM"),
            Some(vec!["[acme-users] ", "coyote", "ACME.Example.COM"])
        );
    }

    #[test]
    fn a_pattern_of_asterisks_ends_soon_or_when_the_budget_does() {
        let pattern = "*a".repeat(50) + "b";
        let value = "a".repeat(20_000);
        assert_eq!(captures(&pattern, &value, false, &mut 1_000_000), Ok(None));
        let pattern = format!("*{}b*", "a".repeat(5_000));
        assert_eq!(captures(&pattern, &value, false, &mut 1_000_000), Err(OutOfBudget));
    }

    /// The definition, without any thought for time.
    fn naive(pattern: &[char], value: &[char]) -> bool {
        match pattern {
            [] => value.is_empty(),
            ['*', rest @ ..] => (0..=value.len()).any(|skipped| naive(rest, &value[skipped..])),
            ['?', rest @ ..] => !value.is_empty() && naive(rest, &value[1..]),
            ['\\', letter, rest @ ..] | [letter, rest @ ..] => {
                value.first() == Some(letter) && naive(rest, &value[1..])
            }
        }
    }

    proptest! {
        #[test]
        fn it_matches_exactly_what_the_definition_does(pattern in "[ab*?é\\\\]{0,9}", value in "[ab*é\\\\]{0,9}") {
            let letters = |text: &str| text.chars().collect::<Vec<char>>();
            let found = captures(&pattern, &value, false, &mut 1_000_000).unwrap();
            prop_assert_eq!(found.is_some(), naive(&letters(&pattern), &letters(&value)));
        }

        #[test]
        fn what_wildcards_stood_for_makes_the_value_again(pattern in "[ab*?]{0,9}", value in "[ab]{0,12}") {
            if let Some(found) = captures(&pattern, &value, false, &mut 1_000_000).unwrap() {
                let mut found = found.into_iter();
                let again: String = pattern
                    .chars()
                    .map(|letter| if "*?".contains(letter) { found.next().unwrap().to_owned() } else { letter.to_string() })
                    .collect();
                prop_assert_eq!(again.as_str(), value.as_str());
                prop_assert_eq!(found.next(), None);
            }
        }
    }
}

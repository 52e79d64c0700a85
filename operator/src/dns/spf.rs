//! SPF records (RFC 7208), read as far as the comparison needs: terms, lookups, whom they let send. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use paquebot_crds::mail_domain::SpfAll;

use super::wanted::{Wanted, WantedSpf};

/// The most terms that cost a lookup, over a record and all that it includes (RFC 7208 §4.6.4).
pub const LOOKUP_LIMIT: usize = 10;

/// The most names without anything that a record may ask about (RFC 7208 §4.6.4).
pub const VOID_LIMIT: usize = 2;

/// What a record has receivers look up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// What for.
    pub kind: QuestionKind,
    /// The name.
    pub name: String,
}

/// What is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuestionKind {
    /// Another record: `include` and `redirect`.
    Record,
    /// `mx`.
    Exchangers,
    /// `a` and `exists`.
    Addresses,
}

/// Whether a TXT text is an SPF record (RFC 7208 §4.5).
#[must_use]
pub fn is_spf(text: &str) -> bool {
    let head = text.get(..6).unwrap_or_default();
    head.eq_ignore_ascii_case("v=spf1") && matches!(text.as_bytes().get(6), None | Some(b' '))
}

/// One term of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    /// `+`, `-`, `~` or `?`; `+` where none is written.
    qualifier: char,
    /// The mechanism's or modifier's name in lower case.
    name: String,
    /// What follows the colon, the equals sign or, for `a/24`, stays empty.
    value: String,
}

/// The terms after the version. Names are case-insensitive (RFC 7208 §4.6.1), domains are compared in lower case.
fn terms(text: &str) -> Vec<Term> {
    text.split(' ').skip(1).filter(|term| !term.is_empty()).map(term).collect()
}

fn term(text: &str) -> Term {
    let (qualifier, rest) = match text.chars().next() {
        Some(first @ ('+' | '-' | '~' | '?')) => (first, text.get(1..).unwrap_or_default()),
        _ => ('+', text),
    };
    let end = rest.find([':', '=', '/']).unwrap_or(rest.len());
    let (name, value) = rest.split_at(end);
    let value = value.strip_prefix([':', '=']).unwrap_or(value);
    Term { qualifier, name: name.to_ascii_lowercase(), value: value.trim_end_matches('.').to_ascii_lowercase() }
}

/// The terms that are evaluated: none behind `all` (RFC 7208 §5.1), and `redirect` only without it (§6.1).
fn evaluated(text: &str) -> Vec<Term> {
    let terms = terms(text);
    let Some(all) = terms.iter().position(|term| term.name == "all") else { return terms };
    let modifier = |term: &Term| matches!(term.name.as_str(), "redirect" | "exp");
    terms.into_iter().take(all + 1).filter(|term| !modifier(term)).collect()
}

/// What the record of a domain has receivers look up.
#[must_use]
pub fn questions(text: &str, domain: &str) -> Vec<Question> {
    let question = |term: Term| {
        let kind = match term.name.as_str() {
            "include" | "redirect" => QuestionKind::Record,
            "mx" => QuestionKind::Exchangers,
            "a" | "exists" => QuestionKind::Addresses,
            _ => return None,
        };
        let target = term.value.split('/').next().unwrap_or_default();
        let name = if target.is_empty() { domain } else { target };
        // A macro (RFC 7208 §7) depends on the message; nothing can be looked up for it beforehand.
        (!name.contains('%')).then(|| Question { kind, name: name.trim_end_matches('.').to_owned() })
    };
    evaluated(text).into_iter().filter_map(question).collect()
}

/// How many terms cost a lookup, with those of the included records as far as `known` holds them.
#[must_use]
pub fn lookups(text: &str, known: &BTreeMap<String, String>) -> usize {
    // A domain on the current path is not entered again: a loop is endless lookups, which are over the limit.
    fn count(text: &str, known: &BTreeMap<String, String>, path: &mut BTreeSet<String>, budget: usize) -> usize {
        let mut sum = 0;
        for term in evaluated(text) {
            if sum > budget {
                break;
            }
            match term.name.as_str() {
                "a" | "mx" | "ptr" | "exists" => sum += 1,
                "include" | "redirect" => {
                    sum += 1;
                    if path.contains(&term.value) {
                        return sum + LOOKUP_LIMIT;
                    }
                    if let Some(inner) = known.get(&term.value) {
                        path.insert(term.value.clone());
                        sum += count(inner, known, path, budget.saturating_sub(sum));
                        path.remove(&term.value);
                    }
                }
                _ => {}
            }
        }
        sum
    }
    count(text, known, &mut BTreeSet::new(), LOOKUP_LIMIT)
}

/// What keeps a record from doing what is wanted; `None`: nothing.
#[must_use]
pub fn shortcoming(text: &str, wanted: &Wanted, spf: &WantedSpf) -> Option<String> {
    let terms = terms(text);
    // Only what stands before `all` is evaluated (RFC 7208 §5.1).
    let all = terms.iter().position(|term| term.name == "all");
    let before = terms.get(..all.unwrap_or(terms.len())).unwrap_or_default();
    let passes: Vec<&Term> = before.iter().filter(|term| term.qualifier == '+').collect();
    if !names_server(&passes, wanted, spf) {
        return Some(format!("it does not let {} send", wanted.hostname));
    }
    for domain in &spf.include {
        if !passes.iter().any(|term| term.name == "include" && term.value == domain.to_ascii_lowercase()) {
            return Some(format!("it does not have include:{domain}"));
        }
    }
    let qualifier = all.and_then(|at| terms.get(at)).map(|term| term.qualifier);
    let redirected = terms.iter().any(|term| term.name == "redirect");
    match (qualifier, spf.all) {
        (Some('-'), _) | (Some('~'), SpfAll::SoftFail) => None,
        (Some('~'), SpfAll::Fail) => Some("it ends in ~all where -all is wanted".to_owned()),
        (Some(_), _) => Some("it lets everybody send, or says nothing about the rest".to_owned()),
        (None, _) if redirected => None,
        (None, _) => Some("it says nothing about all other senders".to_owned()),
    }
}

/// Whether one of the terms covers the server, in whichever way its administrator wrote it.
fn names_server(passes: &[&Term], wanted: &Wanted, spf: &WantedSpf) -> bool {
    let by_name = passes.iter().any(|term| match term.name.as_str() {
        "mx" => spf.by_mx && (term.value.is_empty() || term.value == wanted.domain),
        "a" => term.value == wanted.hostname || (term.value.is_empty() && wanted.hostname == wanted.domain),
        _ => false,
    });
    let networks: Vec<IpNet> = passes.iter().filter_map(|term| network(term)).collect();
    let addresses = wanted.addresses.list();
    let by_network = !addresses.is_empty()
        && addresses.iter().all(|address| networks.iter().any(|network| network.contains(address)));
    by_name || by_network
}

fn network(term: &Term) -> Option<IpNet> {
    if !matches!(term.name.as_str(), "ip4" | "ip6") {
        return None;
    }
    term.value.parse().ok().or_else(|| term.value.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dns::wanted::{ServerAddresses, wanted};

    fn wanted_for(yaml: &str) -> Wanted {
        let addresses = ServerAddresses::Public(vec!["192.0.2.1".parse().unwrap()]);
        wanted("a.org", &serde_saphyr::from_str(yaml).unwrap(), "mx.a.org", addresses)
    }

    #[test]
    fn only_the_exact_version_counts() {
        for (text, is) in [
            ("v=spf1", true),
            ("v=spf1 -all", true),
            ("V=SPF1 mx", true),
            ("v=spf10 mx", false),
            ("spf1", false),
            ("", false),
            ("v=späf", false),
        ] {
            assert_eq!(is_spf(text), is, "{text}");
        }
    }

    #[test]
    fn records_that_do_what_is_wanted_in_other_words_match() {
        let wanted = wanted_for("{}");
        let spf = wanted.spf.clone().unwrap();
        for text in [
            "v=spf1 mx ~all",
            "v=spf1 +MX -all",
            "v=spf1 include:_spf.google.com mx ~all",
            "v=spf1 a:mx.a.org. ~all",
            "v=spf1 ip4:192.0.2.0/24 ~all",
            "v=spf1 ip4:192.0.2.1 -all",
            "v=spf1 mx redirect=_spf.b.org",
        ] {
            assert_eq!(shortcoming(text, &wanted, &spf), None, "{text}");
        }
    }

    #[test]
    fn records_that_do_not_are_told_apart() {
        let wanted = wanted_for("{spf: {include: [crm.net], all: Fail}}");
        let spf = wanted.spf.clone().unwrap();
        for (text, why) in [
            ("v=spf1 -all", "does not let mx.a.org send"),
            ("v=spf1 ~mx -all", "does not let"),
            ("v=spf1 -all mx", "does not let"),
            ("v=spf1 ip4:192.0.3.0/24 -all", "does not let"),
            ("v=spf1 mx -all", "include:crm.net"),
            ("v=spf1 mx include:crm.net ~all", "~all where -all"),
            ("v=spf1 mx include:crm.net +all", "everybody"),
            ("v=spf1 mx include:crm.net ?all", "everybody"),
            ("v=spf1 mx include:crm.net", "all other senders"),
        ] {
            let said = shortcoming(text, &wanted, &spf).unwrap_or_default();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn lookups_are_counted_through_includes() {
        let known: BTreeMap<String, String> = [
            ("b.org", "v=spf1 a mx include:c.org -all"),
            ("c.org", "v=spf1 exists:%{i}.x.org ptr ip4:192.0.2.1 -all"),
            ("loop.org", "v=spf1 include:loop.org -all"),
        ]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into();
        for (text, count) in [
            ("v=spf1 ip4:192.0.2.1 -all", 0),
            ("v=spf1 mx a/24 -all", 2),
            ("v=spf1 include:b.org -all", 6),
            ("v=spf1 mx redirect=c.org", 4),
            ("v=spf1 include:unknown.org -all", 1),
            ("v=spf1 mx -all a a a", 1),
            ("v=spf1 mx ~all redirect=b.org", 1),
        ] {
            assert_eq!(lookups(text, &known), count, "{text}");
        }
        assert!(lookups("v=spf1 include:loop.org -all", &known) > LOOKUP_LIMIT);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,300}", head in prop::bool::ANY) {
            let text = if head { format!("v=spf1 {text}") } else { text };
            let wanted = wanted_for("{}");
            let _ = is_spf(&text);
            let _ = shortcoming(&text, &wanted, &wanted.spf.clone().unwrap());
            let known = BTreeMap::from([("a".to_owned(), text.clone())]);
            prop_assert!(lookups(&text, &known) <= 300);
            prop_assert!(questions(&text, "a.org").len() <= 300);
        }
    }
}

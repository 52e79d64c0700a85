//! DMARC records (RFC 7489), read as far as the comparison needs. Pure.

use super::wanted::WantedDmarc;

/// Whether a TXT text is a DMARC record: `v` stands first and is exactly `DMARC1` (RFC 7489 §6.3).
#[must_use]
pub fn is_dmarc(text: &str) -> bool {
    let first = text.split(';').next().unwrap_or_default();
    tag(first).is_some_and(|(name, value)| name == "v" && value == "DMARC1")
}

/// `name=value`, both trimmed; the name in lower case.
fn tag(text: &str) -> Option<(String, &str)> {
    let (name, value) = text.split_once('=')?;
    Some((name.trim().to_ascii_lowercase(), value.trim()))
}

fn value_of<'a>(text: &'a str, wanted: &str) -> Option<&'a str> {
    text.split(';').filter_map(tag).find(|(name, _)| name == wanted).map(|(_, value)| value)
}

/// What keeps a record from doing what is wanted; `None`: nothing. A stricter policy than the wanted one is right too.
#[must_use]
pub fn shortcoming(text: &str, wanted: &WantedDmarc) -> Option<String> {
    let Some(policy) = value_of(text, "p") else {
        return Some("it has no policy (p=)".to_owned());
    };
    let Some(strictness) = strictness_of(policy) else {
        return Some(format!("p={policy} is no policy"));
    };
    let least = wanted.policy.as_record_value();
    if strictness < strictness_of(least).unwrap_or_default() {
        return Some(format!("p={policy} is weaker than p={least}"));
    }
    let reports: Vec<&str> = value_of(text, "rua").unwrap_or_default().split(',').map(str::trim).collect();
    let missing = wanted.text();
    let wanted_reports = value_of(&missing, "rua").unwrap_or_default();
    wanted_reports
        .split(',')
        .filter(|uri| !uri.is_empty())
        .find(|uri| !reports.iter().any(|report| same_uri(report, uri)))
        .map(|uri| format!("its reports (rua=) do not go to {uri}"))
}

/// The same address, whatever the size limit after `!` (RFC 7489 §6.2).
fn same_uri(seen: &str, wanted: &str) -> bool {
    seen.split('!').next().unwrap_or_default().eq_ignore_ascii_case(wanted)
}

fn strictness_of(policy: &str) -> Option<u8> {
    match policy.to_ascii_lowercase().as_str() {
        "none" => Some(0),
        "quarantine" => Some(1),
        "reject" => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use paquebot_crds::mail_domain::DmarcPolicy;
    use proptest::prelude::*;

    use super::*;

    fn wanted(policy: DmarcPolicy, rua: &[&str]) -> WantedDmarc {
        WantedDmarc { policy, rua: rua.iter().map(|&address| address.to_owned()).collect() }
    }

    #[test]
    fn version_stands_first_and_is_exact() {
        for (text, is) in [
            ("v=DMARC1; p=none", true),
            ("v = DMARC1 ;p=none", true),
            ("v=DMARC1", true),
            ("v=dmarc1; p=none", false),
            ("p=none; v=DMARC1", false),
            ("v=DMARC10", false),
            ("", false),
        ] {
            assert_eq!(is_dmarc(text), is, "{text}");
        }
    }

    #[test]
    fn policies_and_reports_are_compared_by_meaning() {
        let plain = wanted(DmarcPolicy::Quarantine, &[]);
        assert_eq!(shortcoming("v=DMARC1; p=quarantine", &plain), None);
        assert_eq!(shortcoming("v=DMARC1;p=REJECT;sp=none", &plain), None);
        assert!(shortcoming("v=DMARC1; p=none", &plain).unwrap().contains("weaker"));
        assert!(shortcoming("v=DMARC1; p=maybe", &plain).unwrap().contains("no policy"));
        assert!(shortcoming("v=DMARC1; rua=mailto:x@y.org", &plain).unwrap().contains("no policy"));
        let reporting = wanted(DmarcPolicy::None, &["d@a.org"]);
        assert_eq!(shortcoming("v=DMARC1; p=none; rua=mailto:x@y.org, mailto:D@a.org!10m", &reporting), None);
        assert!(shortcoming("v=DMARC1; p=none", &reporting).unwrap().contains("mailto:d@a.org"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,300}") {
            let _ = is_dmarc(&text);
            let _ = shortcoming(&text, &wanted(DmarcPolicy::Reject, &["a@b.org"]));
        }

        /// What we tell people to publish satisfies us.
        #[test]
        fn own_text_matches(local in "[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}") {
            let wanted = wanted(DmarcPolicy::Quarantine, &[&format!("{local}@a.org")]);
            prop_assert!(is_dmarc(&wanted.text()));
            prop_assert_eq!(shortcoming(&wanted.text(), &wanted), None);
        }
    }
}

//! TLS report records (RFC 8460 §3), read as far as the comparison needs. Pure.

use super::wanted::mailto;

/// Where the record stands (RFC 8460 §3).
#[must_use]
pub fn name(domain: &str) -> String {
    format!("_smtp._tls.{domain}")
}

/// Whether a TXT text is such a record: `v` stands first and is exactly `TLSRPTv1`.
#[must_use]
pub fn is_tls_report(text: &str) -> bool {
    let first = text.split(';').next().unwrap_or_default();
    first.split_once('=').is_some_and(|(name, value)| name.trim() == "v" && value.trim() == "TLSRPTv1")
}

/// The record that sends reports to these addresses.
#[must_use]
pub fn text(rua: &[String]) -> String {
    let addresses: Vec<String> = rua.iter().map(|address| mailto(address)).collect();
    format!("v=TLSRPTv1; rua={}", addresses.join(","))
}

/// What keeps a record from sending reports to all of these addresses; `None`: nothing.
#[must_use]
pub fn shortcoming(text: &str, rua: &[String]) -> Option<String> {
    let fields = text.split(';').filter_map(|field| field.split_once('='));
    let reports: Vec<&str> = fields
        .filter(|(name, _)| name.trim() == "rua")
        .flat_map(|(_, value)| value.split(','))
        .map(str::trim)
        .filter(|uri| !uri.is_empty())
        .collect();
    if reports.is_empty() {
        return Some("it says nowhere where reports go (rua=)".to_owned());
    }
    let missing = rua.iter().map(|address| mailto(address));
    missing
        .into_iter()
        .find(|uri| !reports.iter().any(|report| report.eq_ignore_ascii_case(uri)))
        .map(|uri| format!("its reports (rua=) do not go to {uri}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_are_compared_by_meaning() {
        let rua = ["tls@a.org".to_owned()];
        assert_eq!(text(&rua), "v=TLSRPTv1; rua=mailto:tls@a.org");
        for (text, is, why) in [
            ("v=TLSRPTv1; rua=mailto:tls@a.org", true, None),
            ("v=TLSRPTv1;rua=https://r.org/x, mailto:TLS@a.org;", true, None),
            ("v=TLSRPTv1; rua=mailto:x@a.org", true, Some("mailto:tls@a.org")),
            ("v=TLSRPTv1", true, Some("nowhere")),
            ("v=TLSRPTv1; rua=", true, Some("nowhere")),
            ("v=TLSRPTv2; rua=mailto:tls@a.org", false, None),
            ("rua=mailto:tls@a.org; v=TLSRPTv1", false, None),
            ("", false, Some("nowhere")),
        ] {
            assert_eq!(is_tls_report(text), is, "{text}");
            match (shortcoming(text, &rua), why) {
                (None, None) => {}
                (Some(said), Some(why)) => assert!(said.contains(why), "{text}: {said}"),
                (said, why) => panic!("{text}: {said:?}, not {why:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,300}") {
            let _ = is_tls_report(&text);
            let _ = shortcoming(&text, &["a@b.org".to_owned()]);
        }

        /// What we tell people to publish satisfies us.
        #[test]
        fn own_text_matches(local in prop::collection::vec("[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}", 1..5)) {
            let rua: Vec<String> = local.iter().map(|local| format!("{local}@a.org")).collect();
            prop_assert!(is_tls_report(&text(&rua)));
            prop_assert_eq!(shortcoming(&text(&rua), &rua), None);
        }
    }
}

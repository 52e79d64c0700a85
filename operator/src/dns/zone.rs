//! The wanted records as lines of a zone file (RFC 1035 §5), which BIND, NSD, Knot and CoreDNS take as they are. Pure.

use std::fmt::Write as _;

use super::wanted::{RecordType, Wanted, WantedRecord};

/// The most octets of one character-string (RFC 1035 §3.3); longer texts are written as several.
const STRING_OCTETS: usize = 255;

/// The zone text: complete names, so that `$ORIGIN` does not matter.
#[must_use]
pub fn zone_file(wanted: &Wanted) -> String {
    let mut text = format!("; mail records of {}\n", wanted.domain);
    for record in wanted.records() {
        for value in &record.values {
            let _ =
                writeln!(text, "{}. {} IN {} {}", record.name, record.ttl, record.kind.as_str(), data(&record, value));
        }
    }
    text
}

fn data(record: &WantedRecord, value: &str) -> String {
    match record.kind {
        RecordType::A | RecordType::Aaaa | RecordType::Tlsa | RecordType::Srv | RecordType::Caa => value.to_owned(),
        RecordType::Mx => format!("{value}."),
        RecordType::Txt => strings(value),
    }
}

/// A text as quoted character-strings.
pub(super) fn strings(text: &str) -> String {
    let quoted: Vec<String> = text.as_bytes().chunks(STRING_OCTETS).map(quote).collect();
    if quoted.is_empty() { "\"\"".to_owned() } else { quoted.join(" ") }
}

fn quote(octets: &[u8]) -> String {
    let mut out = String::with_capacity(octets.len() + 2);
    out.push('"');
    for octet in octets {
        match octet {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*octet));
            }
            0x20..=0x7e => out.push(char::from(*octet)),
            _ => {
                let _ = write!(out, "\\{octet:03}");
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use hickory_server::proto::rr::RData;
    use hickory_server::proto::serialize::txt::Parser;
    use proptest::prelude::*;

    use super::*;
    use crate::dns::wanted::{ServerAddresses, wanted};

    #[test]
    fn lines_are_complete() {
        let wanted = wanted(
            "server1.com",
            &serde_saphyr::from_str("{}").unwrap(),
            "mx1.server1.com",
            ServerAddresses::Inside(vec!["198.19.0.7".parse().unwrap()]),
        );
        assert_eq!(
            zone_file(&wanted),
            "; mail records of server1.com\n\
             server1.com. 3600 IN MX 10 mx1.server1.com.\n\
             mx1.server1.com. 3600 IN A 198.19.0.7\n\
             server1.com. 3600 IN TXT \"v=spf1 mx ~all\"\n\
             _dmarc.server1.com. 3600 IN TXT \"v=DMARC1; p=none\"\n"
        );
    }

    proptest! {
        /// What a zone file parser reads back is what was written, whatever the text and however long.
        #[test]
        fn text_survives_a_zone_parser(text in "[ -~]{1,700}") {
            let zone = format!("a.org. 60 IN TXT {}\n", strings(&text));
            let (_, sets) = Parser::new(zone, None, Some("a.org.".parse().unwrap())).parse().unwrap();
            let mut read = Vec::new();
            for record in sets.values().flat_map(|set| set.records_without_rrsigs()) {
                let RData::TXT(txt) = &record.data else { panic!("{record}") };
                for part in &txt.txt_data {
                    prop_assert!(part.len() <= STRING_OCTETS);
                    read.extend_from_slice(part);
                }
            }
            prop_assert_eq!(read, text.as_bytes());
        }
    }
}

//! What a request about the queue says, as JSON or in the query of a URL. Pure. Used by [`super`].

use paquebot_config::{Domain, SmartHostTls};
use serde::{Deserialize, Deserializer};

use crate::store::MessageId;
use crate::store::envelope::Route;
use crate::store::outgoing::{QueueFilter, QueueState};

/// Rows on a page at most.
pub(super) const LONGEST_PAGE: usize = 1000;
/// Rows on a page where nothing is said.
const USUAL_PAGE: usize = 100;

/// A sentence that says what is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong(pub(super) String);

/// Which rows, and what about them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    message: Option<String>,
    sender: Option<String>,
    recipient: Option<String>,
    destination: Option<String>,
    state: Option<QueueState>,
    /// Every row is meant; without it an empty filter is refused.
    #[serde(default)]
    all: bool,
    /// The page after this key.
    #[serde(default)]
    pub(super) after: i64,
    /// Rows on a page.
    limit: Option<usize>,
    /// For `drop`: whether the sender is told.
    pub(super) notify: Option<bool>,
    /// For `reroute`: the new way; `Some(None)` takes it back.
    #[serde(default, deserialize_with = "present")]
    pub(super) to: Option<Option<To>>,
}

/// Another way out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct To {
    host: String,
    port: u16,
    #[serde(default)]
    tls: Tls,
}

/// How the host is spoken to.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Tls {
    #[default]
    Opportunistic,
    Required,
    Implicit,
}

/// Tells null from what is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<To>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

impl Request {
    /// Reads the query of a URL.
    pub(super) fn from_query(query: &str) -> Result<Self, Wrong> {
        let mut request = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value).ok_or_else(|| Wrong(format!("the value of {name} is not UTF-8 text")))?;
            let number = || value.parse().map_err(|_| Wrong(format!("{name} has to be a number")));
            match name {
                "message" => request.message = Some(value),
                "sender" => request.sender = Some(value),
                "recipient" => request.recipient = Some(value),
                "destination" => request.destination = Some(value),
                "state" => request.state = Some(state(&value)?),
                "after" => request.after = number()?,
                "limit" => request.limit = Some(usize::try_from(number()?).unwrap_or(0)),
                other => {
                    let known = "message, sender, recipient, destination, state, after and limit";
                    return Err(Wrong(format!("{other} is not known here; known are {known}")));
                }
            }
        }
        Ok(request)
    }

    /// Which rows are meant.
    pub(super) fn filter(&self) -> Result<QueueFilter, Wrong> {
        let destination = self.destination.as_deref().map(|text| {
            Domain::parse(text).map_err(|error| Wrong(format!("destination {text} is not a domain: {error}")))
        });
        Ok(QueueFilter {
            message: self.message.clone().map(MessageId::from_stored),
            sender: self.sender.clone(),
            recipient: self.recipient.clone(),
            destination: destination.transpose()?,
            state: self.state,
        })
    }

    /// Which rows are to be changed: some filter, or the word that all are meant.
    pub(super) fn selection(&self) -> Result<QueueFilter, Wrong> {
        let filter = self.filter()?;
        match (filter == QueueFilter::default(), self.all) {
            (true, false) => {
                let known = "message, sender, recipient, destination or state";
                Err(Wrong(format!("say which recipients are meant: {known}; or \"all\": true for the whole queue")))
            }
            (false, true) => {
                Err(Wrong("\"all\": true and a filter contradict each other; give one of them".to_owned()))
            }
            _ => Ok(filter),
        }
    }

    /// Rows on a page.
    pub(super) fn limit(&self) -> Result<usize, Wrong> {
        match self.limit {
            None => Ok(USUAL_PAGE),
            Some(limit) if (1..=LONGEST_PAGE).contains(&limit) => Ok(limit),
            Some(_) => Err(Wrong(format!("limit has to be between 1 and {LONGEST_PAGE}"))),
        }
    }

    /// The way out that `reroute` wants.
    pub(super) fn route(&self) -> Result<Option<Route>, Wrong> {
        let missing =
            "say where to: \"to\": {\"host\": \"mx.example.com\", \"port\": 25}, or \"to\": null to take it back";
        let Some(to) = self.to.as_ref().ok_or_else(|| Wrong(missing.to_owned()))? else { return Ok(None) };
        let host = Domain::parse(&to.host)
            .map_err(|error| Wrong(format!("{} is neither a host nor an address literal: {error}", to.host)))?;
        if to.port == 0 {
            return Err(Wrong("the port has to be between 1 and 65535".to_owned()));
        }
        let tls = match to.tls {
            Tls::Opportunistic => SmartHostTls::Opportunistic,
            Tls::Required => SmartHostTls::Required,
            Tls::Implicit => SmartHostTls::Implicit,
        };
        Ok(Some(Route::Host { host, port: to.port, tls }))
    }
}

fn state(word: &str) -> Result<QueueState, Wrong> {
    match word {
        "due" => Ok(QueueState::Due),
        "deferred" => Ok(QueueState::Deferred),
        "scheduled" => Ok(QueueState::Scheduled),
        "held" => Ok(QueueState::Held),
        other => Err(Wrong(format!("state {other} is not known; known are due, deferred, scheduled and held"))),
    }
}

/// A value of a query: `+` is a space, `%2B` an octet (WHATWG URL, application/x-www-form-urlencoded).
fn decoded(value: &str) -> Option<String> {
    let (mut octets, mut rest) = (Vec::with_capacity(value.len()), value.bytes());
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'+' => b' ',
            b'%' => {
                let digit = |octet: u8| char::from(octet).to_digit(16);
                let value = digit(rest.next()?)? * 16 + digit(rest.next()?)?;
                u8::try_from(value).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(json: serde_json::Value) -> Request {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn nothing_is_changed_by_an_empty_filter() {
        assert!(request(serde_json::json!({})).selection().is_err());
        assert_eq!(request(serde_json::json!({"all": true})).selection(), Ok(QueueFilter::default()));
        assert!(request(serde_json::json!({"all": true, "state": "held"})).selection().is_err());
        assert!(request(serde_json::json!({"sender": "<>"})).selection().is_ok());
        assert!(serde_json::from_value::<Request>(serde_json::json!({"sendr": "x"})).is_err());
    }

    #[test]
    fn null_takes_a_route_back_and_nothing_is_a_mistake() {
        assert!(request(serde_json::json!({"all": true})).route().is_err());
        assert_eq!(request(serde_json::json!({"to": null})).route(), Ok(None));
        let to = request(serde_json::json!({"to": {"host": "mx.example.com", "port": 26}})).route().unwrap().unwrap();
        assert_eq!(to.to_text(), "host:mx.example.com:26");
        for tls in ["required", "implicit"] {
            let to = serde_json::json!({"to": {"host": "mx.example.com", "port": 465, "tls": tls}});
            assert_eq!(request(to).route().unwrap().unwrap().to_text(), format!("host:mx.example.com:465:{tls}"));
        }
        let unknown = serde_json::json!({"to": {"host": "mx.example.com", "port": 465, "tls": "perhaps"}});
        assert!(serde_json::from_value::<Request>(unknown).is_err());
        assert!(request(serde_json::json!({"to": {"host": "a b", "port": 25}})).route().is_err());
    }

    #[test]
    fn a_query_is_read() {
        let read = Request::from_query("sender=a%2Bb%40x.example&state=held&limit=5&after=7").unwrap();
        assert_eq!((read.sender.as_deref(), read.after, read.limit()), (Some("a+b@x.example"), 7, Ok(5)));
        for wrong in ["limit=x", "state=gone", "sender=%zz", "sender=%f", "colour=red"] {
            assert!(Request::from_query(wrong).is_err(), "{wrong}");
        }
        for limit in ["limit=0", "limit=1001", "limit=-1"] {
            assert!(Request::from_query(limit).unwrap().limit().is_err());
        }
    }

    proptest! {
        #[test]
        fn any_query_is_read_or_refused(query in ".{0,200}") {
            let _ = Request::from_query(&query).map(|request| request.filter().is_ok());
        }

        #[test]
        fn what_is_encoded_is_decoded(text in ".{0,40}") {
            let encoded: String = text.bytes().map(|octet| format!("%{octet:02x}")).collect();
            prop_assert_eq!(decoded(&encoded), Some(text));
        }
    }
}

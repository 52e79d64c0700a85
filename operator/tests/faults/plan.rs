//! What goes wrong, and when: a crash at one write, or a storm of faults that a seed decides.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Method, Uri};
use serde_json::Value;

/// What the layer does to one operator's requests.
#[derive(Default)]
pub struct Plan {
    pub crash: Option<Crash>,
    pub storm: Option<Storm>,
}

/// The end of the process at one write.
#[derive(Debug, Clone)]
pub struct Crash {
    /// As [`Ask::name`] says it, with `#` and how often it was made before.
    pub write: String,
    pub moment: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The API server never hears of it.
    BeforeSent,
    /// It is done, but the operator never learns so.
    AfterApplied,
}

/// What may happen to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// It takes up to a second.
    Latency,
    /// 500, not done.
    ServerError,
    /// 503, not done.
    Unavailable,
    /// 429 with Retry-After, not done.
    TooManyRequests,
    /// 409, not done.
    Conflict,
    /// No connection.
    Refused,
    /// It is done, and the connection breaks before the answer.
    AnswerLost,
    /// It is done, and half of the answer comes.
    AnswerCut,
    /// An older answer than the newest.
    StaleRead,
    /// Never answered; every second one is done.
    Silence,
    /// A watch that breaks off: cleanly, with an error, or within an event.
    WatchDropped,
    /// Each event comes late.
    WatchDelayed,
    /// 410, as the answer or as an event.
    WatchExpired,
}

impl Fault {
    pub const ALL: [Self; 13] = [
        Self::Latency,
        Self::ServerError,
        Self::Unavailable,
        Self::TooManyRequests,
        Self::Conflict,
        Self::Refused,
        Self::AnswerLost,
        Self::AnswerCut,
        Self::StaleRead,
        Self::Silence,
        Self::WatchDropped,
        Self::WatchDelayed,
        Self::WatchExpired,
    ];

    fn befalls(self, verb: Verb) -> bool {
        match self {
            Self::Conflict => verb == Verb::Write,
            Self::StaleRead => verb == Verb::Read,
            Self::AnswerLost | Self::AnswerCut => verb != Verb::Watch,
            Self::WatchDropped | Self::WatchDelayed | Self::WatchExpired => verb == Verb::Watch,
            _ => true,
        }
    }
}

/// Faults of some kinds, as a seed decides, until there have been enough.
pub struct Storm {
    pub seed: u64,
    pub faults: Vec<Fault>,
    /// Of a hundred requests that one of the faults can befall.
    pub per_cent: u64,
    left: AtomicUsize,
}

impl Storm {
    pub fn new(seed: u64, faults: &[Fault], per_cent: u64, most: usize) -> Self {
        Self { seed, faults: faults.to_vec(), per_cent, left: AtomicUsize::new(most) }
    }

    /// What befalls the request of this number.
    pub fn choose(&self, verb: Verb, number: u64) -> Option<Fault> {
        let possible: Vec<Fault> = self.faults.iter().copied().filter(|fault| fault.befalls(verb)).collect();
        let drawn = mixed(self.seed.wrapping_mul(1_000_003).wrapping_add(number));
        if possible.is_empty() || drawn % 100 >= self.per_cent {
            return None;
        }
        let left = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).ok()?;
        let index = usize::try_from((drawn >> 32) % possible.len() as u64).unwrap();
        Some(possible[index])
    }
}

/// SplitMix64's output function: near numbers become far ones.
pub fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Read,
    Write,
    Watch,
}

/// What a request asks for.
pub struct Ask {
    pub verb: Verb,
    /// Method and object without the namespace, such as `PATCH secrets/mx1-domains`; the same in every run.
    pub name: String,
}

impl Ask {
    pub fn read(method: &Method, uri: &Uri, body: &[u8]) -> Self {
        let query = uri.query().unwrap_or_default();
        let verb = match *method {
            Method::GET if query.contains("watch=true") => Verb::Watch,
            Method::GET => Verb::Read,
            _ => Verb::Write,
        };
        let path = uri.path();
        let object = match path.split_once("/namespaces/").and_then(|(_, rest)| rest.split_once('/')) {
            Some((_, object)) => object,
            None => path.rsplit('/').next().unwrap_or_default(),
        };
        let object = if verb == Verb::Write { named(object, body) } else { object.to_owned() };
        Self { verb, name: format!("{method} {object}") }
    }
}

/// A created object is named in its body, and an event by what it tells.
fn named(object: &str, body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    if object == "events" || object.starts_with("events/") {
        return format!("events {}/{} {}", text("/regarding/kind"), text("/regarding/name"), text("/reason"));
    }
    if object.contains('/') { object.to_owned() } else { format!("{object}/{}", text("/metadata/name")) }
}

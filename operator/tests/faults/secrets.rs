//! What must appear nowhere: the clear-text passwords and tokens of a world, searched for in everything that was
//! recorded. The operator's log is kept by the name of the thread, which is its namespace.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{LazyLock, Mutex};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged when somebody looks for an error: more than anybody's default.
const DIRECTIVES: &str = "debug,paquebot_operator=trace,kube=trace,kube_client=trace,kube_runtime=trace";

static LOGS: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);

/// Keeps the log of each operator.
struct Keeper;

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl<S: Subscriber> Layer<S> for Keeper {
    fn on_new_span(&self, attributes: &Attributes<'_>, _id: &Id, _context: Context<'_, S>) {
        keep(attributes.metadata(), |text| attributes.record(&mut Text(text)));
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        keep(event.metadata(), |text| event.record(&mut Text(text)));
    }
}

fn keep(metadata: &tracing::Metadata<'_>, fields: impl FnOnce(&mut String)) {
    let thread = std::thread::current();
    let Some(name) = thread.name().filter(|name| name.starts_with("faults-")) else { return };
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let seconds = BEGIN.elapsed().as_secs_f32();
    let mut line = format!("{seconds:.2} {} {}", metadata.level(), metadata.target());
    fields(&mut line);
    let mut logs = LOGS.lock().unwrap();
    let log = logs.entry(name.to_owned()).or_default();
    log.push_str(&line);
    log.push('\n');
}

pub fn start_logging() {
    let filter = paquebot_operator::logging::filter(DIRECTIVES);
    tracing_subscriber::registry().with(Keeper.with_filter(filter)).init();
}

/// What the operators of a namespace have logged since this was asked last.
pub fn take_log(namespace: &str) -> String {
    LOGS.lock().unwrap().remove(namespace).unwrap_or_default()
}

/// A clear text that only some may see.
#[derive(Clone)]
pub struct Needle {
    pub what: String,
    forms: Vec<String>,
    /// The Secrets that hold it, whose requests may carry it.
    owners: Vec<String>,
}

impl Needle {
    pub fn new(what: &str, clear: &str, owners: &[&str]) -> Self {
        let owners = owners.iter().map(|owner| format!("secrets/{owner}")).collect();
        Self { what: what.to_owned(), forms: forms(clear), owners }
    }

    pub fn is_in(&self, text: &str) -> bool {
        self.forms.iter().any(|form| text.contains(form))
    }

    /// Whether a request of this name reads or writes the owner's Secret itself, or is the list of those with a server's
    /// configuration.
    pub fn may_pass(&self, name: &str) -> bool {
        let listed = self.owners.iter().any(|owner| owner == "secrets/mx1-secrets");
        (name == "GET secrets" && listed) || self.owners.iter().any(|owner| name.split(' ').nth(1) == Some(owner))
    }
}

/// A text as it is, and what of it is certain in base64 wherever it stands in what is encoded.
fn forms(clear: &str) -> Vec<String> {
    let mut forms = vec![clear.to_owned()];
    for before in 0..3_usize {
        let octets = [&vec![b'.'; before][..], clear.as_bytes()].concat();
        let encoded = STANDARD.encode(&octets);
        // The first characters hold bits of what stands before, the last ones of what comes after.
        let certain = (octets.len() * 8) / 6;
        let first = (before * 8).div_ceil(6);
        forms.push(encoded[first..certain].to_owned());
    }
    forms
}

#[test]
fn base64_is_found_wherever_it_stands() {
    let needle = Needle::new("a password", "correct-horse-battery", &["anna"]);
    for around in ["", "a", "ab", "abc", "abcd"] {
        let encoded = STANDARD.encode(format!("{around}correct-horse-battery{around}"));
        assert!(needle.is_in(&encoded), "{encoded}");
    }
    assert!(!needle.is_in(&STANDARD.encode("correct-horse")));
    assert!(needle.may_pass("GET secrets/anna") && !needle.may_pass("GET secrets/annabel"));
}

//! Statuses that the API server refuses by themselves: when each is tried again, and whether its refusal is worth another
//! line in the log. Pure; called by the engine.

use std::collections::HashMap;
use std::time::Duration;

use crate::directory::ObjectKey;

/// The first pause. Each is twice as long as the one before it.
const FIRST: Duration = Duration::from_secs(5);
/// The longest pause after a refusal that may pass by itself.
const LONGEST: Duration = Duration::from_mins(1);
/// The longest where the status is not what the CustomResourceDefinition admits: the same will be refused until that or the
/// object changes, and a change of the object is no retry.
const LONGEST_INVALID: Duration = Duration::from_mins(30);

#[derive(Debug)]
struct Refused {
    times: u32,
    words: String,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct RefusedStatuses(HashMap<ObjectKey, Refused>);

impl RefusedStatuses {
    /// A status was refused, in these words. Returns the pause, and whether the words are others than the last time.
    pub fn refused(&mut self, key: &ObjectKey, words: String, invalid: bool) -> (Duration, bool) {
        let refused = self.0.entry(key.clone()).or_insert_with(|| Refused { times: 0, words: String::new() });
        let is_news = refused.words != words;
        let pause = FIRST.saturating_mul(1 << refused.times.min(16));
        refused.times += 1;
        refused.words = words;
        (pause.min(if invalid { LONGEST_INVALID } else { LONGEST }), is_news)
    }

    /// The status was written, or the object is gone.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use paquebot_crds::Kind;

    use super::*;
    use crate::directory::NamespacedName;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(Kind::MailDomain, NamespacedName::new("one", name))
    }

    #[test]
    fn what_is_refused_again_and_again_is_tried_ever_more_seldom_and_said_once() {
        let mut statuses = RefusedStatuses::default();
        let mut refuse = |name, words: &str, invalid| {
            let (pause, is_news) = statuses.refused(&key(name), words.to_owned(), invalid);
            (pause.as_secs(), is_news)
        };
        let told: Vec<_> = (0..12).map(|_| refuse("a", "too long", true)).collect();
        assert_eq!(told.iter().filter(|(_, is_news)| *is_news).count(), 1);
        let pauses: Vec<u64> = told.into_iter().map(|(pause, _)| pause).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800, 1800]);
        assert_eq!(refuse("a", "too short", true), (1800, true), "another refusal is said");
        assert_eq!(refuse("b", "forbidden", false), (5, true), "each for itself");
        assert_eq!((0..9).map(|_| refuse("b", "forbidden", false)).last(), Some((60, false)));
        statuses.forget(&key("a"));
        assert_eq!(statuses.refused(&key("a"), "too long".to_owned(), true), (FIRST, true));
    }
}

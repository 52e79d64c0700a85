//! What of the configuration has arrived where. Pure.
//!
//! Each file of a server's configuration goes through a sequence of contents. An object needs the content of its file
//! that first held it, or any later one; a pod has the one whose digest it reports. So the change of one mailbox says
//! nothing about the others in its shard, and what has once arrived stays arrived.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How many contents of a file are remembered; a pod that reports an older one counts as having none.
const HISTORY: usize = 64;

/// The position of a content in its file's sequence.
pub type Sequence = u64;

/// The contents of the files of one server.
#[derive(Debug, Default)]
pub struct History {
    files: HashMap<Arc<str>, FileHistory>,
}

#[derive(Debug, Default)]
struct FileHistory {
    latest: Sequence,
    digests: BTreeMap<Sequence, String>,
}

/// What an object needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Need {
    /// The file that holds the object.
    pub file: Arc<str>,
    /// The first content that does.
    pub sequence: Sequence,
}

impl History {
    /// Notes the content of a file; the same content as before is the same position.
    pub fn record(&mut self, file: &str, digest: &str) -> Sequence {
        let history = self.files.entry(file.into()).or_default();
        if history.digests.get(&history.latest).is_some_and(|latest| latest == digest) {
            return history.latest;
        }
        history.latest += 1;
        history.digests.insert(history.latest, digest.to_owned());
        while history.digests.len() > HISTORY {
            history.digests.pop_first();
        }
        history.latest
    }

    /// Notes that a file is no longer part of the configuration; that it is gone is its next content.
    pub fn record_absent(&mut self, file: &str) -> Sequence {
        if self.files.contains_key(file) { self.record(file, "") } else { 0 }
    }

    /// The newest content of a file.
    #[must_use]
    pub fn need(&self, file: &str) -> Need {
        match self.files.get_key_value(file) {
            Some((file, history)) => Need { file: Arc::clone(file), sequence: history.latest },
            None => Need { file: file.into(), sequence: 0 },
        }
    }

    /// Whether a pod that reports these digests has what is needed.
    #[must_use]
    pub fn has(&self, digests: &BTreeMap<String, String>, need: &Need) -> bool {
        let reported = digests.get(&*need.file).map_or("", String::as_str);
        let Some(history) = self.files.get(&need.file) else { return need.sequence == 0 };
        // A content may come back: the latest position of a digest is the one that counts.
        history.digests.iter().rev().find(|(_, digest)| *digest == reported).is_some_and(|(at, _)| *at >= need.sequence)
            || need.sequence == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(digest: &str) -> BTreeMap<String, String> {
        if digest.is_empty() { BTreeMap::new() } else { [("directory-0a".to_owned(), digest.to_owned())].into() }
    }

    #[test]
    fn a_later_content_serves_an_earlier_need() {
        let mut history = History::default();
        history.record("directory-0a", "one");
        let early = history.need("directory-0a");
        assert_eq!(history.record("directory-0a", "one"), early.sequence);
        history.record("directory-0a", "two");
        let late = history.need("directory-0a");
        for (digest, has_early, has_late) in
            [("", false, false), ("one", true, false), ("two", true, true), ("x", false, false)]
        {
            assert_eq!(history.has(&pod(digest), &early), has_early, "{digest}");
            assert_eq!(history.has(&pod(digest), &late), has_late, "{digest}");
        }
    }

    #[test]
    fn a_removed_file_is_a_content_of_its_own() {
        let mut history = History::default();
        assert_eq!(history.record_absent("directory-0a"), 0);
        history.record("directory-0a", "one");
        history.record_absent("directory-0a");
        let gone = history.need("directory-0a");
        assert!(!history.has(&pod("one"), &gone));
        assert!(history.has(&pod(""), &gone));
    }

    #[test]
    fn memory_is_bounded() {
        let mut history = History::default();
        for number in 0..1000 {
            history.record("directory-0a", &number.to_string());
        }
        assert_eq!(history.files["directory-0a"].digests.len(), HISTORY);
        assert!(history.has(&pod("999"), &history.need("directory-0a")));
    }
}

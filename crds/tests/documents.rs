//! The documents that say which tests hold what they promise: each name in them is one of a test that exists, and each
//! reason of each condition has one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use paquebot_crds::conditions::{ConditionStatus, ConditionType, Reason, reasons};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands between backticks.
fn words(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The rows of the tables below a heading, or below all of them.
fn rows<'a>(document: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, below) = document.split_once(heading).unwrap_or_else(|| panic!("there is no {heading:?}"));
    let lines = below.lines().filter(|line| line.starts_with('|') && !line.starts_with("|-"));
    let cells = |line: &'a str| line.trim_matches('|').split(" | ").map(str::trim).collect();
    lines.map(cells).collect()
}

/// The names of functions, also those of tests that a macro makes.
fn functions(source: &str) -> impl Iterator<Item = &str> {
    let after = source.match_indices("fn ").map(|(at, keyword)| &source[at + keyword.len()..]);
    after.filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next())
}

/// What is wrong with a cell of files, each followed by tests in it.
fn wrong_tests(cell: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut source: Option<(&str, String, usize)> = None;
    for word in words(cell) {
        if word.contains('/') {
            if source.as_ref().is_some_and(|(_, _, tests)| *tests == 0) {
                wrong.push(format!("no test is named before {word}"));
            }
            let text = fs::read_to_string(root().join(word));
            wrong.extend(text.as_ref().err().map(|error| format!("{word}: {error}")));
            source = Some((word, text.unwrap_or_default(), 0));
        } else if let Some((path, text, tests)) = &mut source {
            *tests += 1;
            if !functions(text).any(|name| name == word) {
                wrong.push(format!("{path} has no function {word}"));
            }
        } else {
            wrong.push(format!("{word} is in no file"));
        }
    }
    if source.is_none_or(|(_, _, tests)| tests == 0) {
        wrong.push(format!("no test is named: {cell:?}"));
    }
    wrong
}

/// A condition, its status and its reason.
type Said = (ConditionType, &'static str, &'static str);

/// Everything that may be said but `Unknown/Pending`, which each condition may say.
fn may_be_said() -> BTreeSet<Said> {
    let mut all = BTreeSet::new();
    for part in ConditionType::ALL {
        let reasons = reasons(*part);
        for (status, list) in [
            (ConditionStatus::True, reasons.when_true),
            (ConditionStatus::False, reasons.when_false),
            (ConditionStatus::Unknown, reasons.when_unknown),
        ] {
            all.extend(list.iter().map(|reason| (*part, status.as_str(), reason.as_str())));
        }
    }
    all
}

/// What the first two cells of a row speak of: `True` `A`, `B`; `False` `C`.
fn said(conditions: &str, says: &str) -> Vec<Said> {
    let mut all = Vec::new();
    for condition in words(conditions) {
        let condition = ConditionType::from_word(condition).unwrap_or_else(|| panic!("no condition {condition}"));
        let mut status = None;
        for word in words(says) {
            let known = [ConditionStatus::True, ConditionStatus::False, ConditionStatus::Unknown];
            if let Some(known) = known.into_iter().find(|known| known.as_str() == word) {
                status = Some(known.as_str());
                continue;
            }
            let reason = Reason::from_word(word).unwrap_or_else(|| panic!("no reason {word}"));
            all.push((condition, status.expect("a status goes before its reasons"), reason.as_str()));
        }
    }
    all
}

#[test]
fn each_reason_of_each_condition_has_a_test_that_exists() {
    let document = read("docs/conditions.md");
    let mut missing = may_be_said();
    let mut wrong = Vec::new();
    for row in rows(&document, "## Held by").into_iter().skip(1) {
        let [conditions, says, tests] = row[..] else { panic!("three cells: {row:?}") };
        for of in said(conditions, says) {
            let is_pending = of.1 == "Unknown" && of.2 == "Pending";
            if !may_be_said().contains(&of) && !is_pending {
                wrong.push(format!("{of:?} is never said"));
            }
            missing.remove(&of);
        }
        wrong.extend(wrong_tests(tests));
    }
    assert!(missing.is_empty(), "nothing holds {missing:#?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    // And each word is explained above.
    let (explained, _) = document.split_once("## Held by").unwrap();
    let explained: BTreeSet<&str> = words(explained).into_iter().flat_map(|word| word.split('/')).collect();
    let unexplained: Vec<Said> = may_be_said()
        .into_iter()
        .filter(|(condition, _, reason)| !explained.contains(reason) || !explained.contains(condition.as_str()))
        .collect();
    assert!(unexplained.is_empty(), "docs/conditions.md does not speak of {unexplained:#?}");
}

/// The sources and tests below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" {
            found.push(path.clone());
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Everything by which a document may call a test: functions, files and folders, and the names of fuzz targets.
fn names() -> BTreeSet<String> {
    let mut found = Vec::new();
    for folder in ["server", "tests", "fuzz"] {
        sources(&root().join(folder), &mut found);
    }
    let mut names = BTreeSet::new();
    for path in found {
        names.insert(path.file_stem().unwrap().to_string_lossy().into_owned());
        if path.is_file() {
            let text = fs::read_to_string(&path).unwrap();
            names.extend(functions(&text).map(str::to_owned));
            let modules = text.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "));
            names.extend(modules.map(|name| name.trim_end_matches([';', '{', ' ']).to_owned()));
            let targets = text.split("target(\"").skip(1).filter_map(|rest| rest.split('"').next());
            names.extend(targets.map(str::to_owned));
        }
    }
    names
}

/// `a::b::c`, `a::b::*` and `a::b::begins_so…` are called by the last part that is whole.
fn is_there(word: &str, names: &BTreeSet<String>) -> bool {
    let last = |word: &str| word.rsplit("::").next().unwrap_or_default().to_owned();
    match (word.strip_suffix("::*"), word.strip_suffix(['*', '…'])) {
        (Some(module), _) => names.contains(&last(module)),
        (None, Some(begin)) => names.iter().any(|name| name.starts_with(&last(begin))),
        (None, None) => names.contains(&last(word)),
    }
}

#[test]
fn tests_that_hold_promises_about_mail_exist() {
    let (document, names) = (read("docs/mail.md"), names());
    let mut wrong = Vec::new();
    let mut named = 0;
    for row in rows(&document, "# ") {
        let Some(cell) = row.get(1).filter(|cell| **cell != "Held by") else { continue };
        for word in words(cell) {
            named += 1;
            let found = if word.contains('/') { root().join(word).exists() } else { is_there(word, &names) };
            if !found {
                wrong.push(word.to_owned());
            }
        }
    }
    assert!(named > 50, "the document is read wrongly: {named} names");
    assert!(wrong.is_empty(), "docs/mail.md names tests that are not there: {wrong:#?}");
}

/// The documents for people, as paths from the root.
fn documents(folder: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if path.ends_with(".md") {
            found.push(path);
        } else if path.starts_with("docs") && entry.path().is_dir() {
            documents(&path, found);
        }
    }
}

#[test]
fn what_documents_name_in_this_repository_is_there() {
    const FOLDERS: [&str; 9] = ["charts", "crds", "docs", "examples", "fuzz", "operator", "scripts", "server", "tests"];
    let mut all = Vec::new();
    documents("", &mut all);
    assert!(all.len() > 10 && all.contains(&"docs/faults.md".to_owned()), "{all:?}");
    let mut wrong = Vec::new();
    for document in all {
        let text = read(&document);
        let is_path = |word: &&str| word.split_once('/').is_some_and(|(first, _)| FOLDERS.contains(&first));
        let paths = words(&text).into_iter().filter(is_path).filter(|path| !path.contains(' '));
        let missing = paths.filter(|path| !root().join(path).exists());
        wrong.extend(missing.map(|path| format!("{document}: {path}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

//! What becomes of a mailbox's script.

use paquebot_config::Record;
use paquebot_crds::mailbox::ConfigMapKeyReference;

use super::*;
use crate::directory::{ConfigMapContent, FilterReport};

const MAILBOX: &str = "one/m";

fn directory_with(filter: Value) -> Directory {
    directory(served(vec![mailbox(MAILBOX, 2, "one/d", "a", json!({"filter": filter}))]))
}

fn name(text: &str) -> NamespacedName {
    NamespacedName::parse(text).unwrap()
}

fn report(directory: &Directory) -> FilterReport {
    match directory.report(&key(Kind::Mailbox, MAILBOX)).unwrap().details {
        Details::Mailbox { filter, .. } => filter,
        other => panic!("{other:?}"),
    }
}

/// The script that the server gets.
fn script(directory: &Directory) -> Option<String> {
    let server = default_server();
    let records = directory.records(&server, None);
    records.into_iter().find_map(|record| match record.into_inner() {
        Record::Mailbox(mailbox) => mailbox.filter.clone(),
        Record::Domain(_) | Record::Alias(_) => None,
    })
}

#[test]
fn a_script_of_the_spec_is_in_force_or_says_where_it_is_wrong() {
    let good = directory_with(json!({"sieve": "keep;"}));
    assert_eq!((report(&good), script(&good).as_deref()), (FilterReport::Compiled, Some("keep;")));
    let bad = directory_with(json!({"sieve": "keep;\nfileinto \"junk\";"}));
    let FilterReport::Failed(failure) = report(&bad) else { panic!("it is in force") };
    assert_eq!(failure.reason.as_str(), "ScriptInvalid");
    assert!(failure.message.contains("line 2, column 1"), "{}", failure.message);
    assert_eq!(script(&bad), None, "mail goes to the inbox");
    let none = directory_with(Value::Null);
    assert_eq!((report(&none), script(&none)), (FilterReport::NoFilter, None));
}

#[test]
fn a_script_in_a_config_map_is_in_force_once_it_was_read() {
    let mut directory = directory_with(json!({"configMapRef": {"name": "filters", "key": "a.sieve"}}));
    assert_eq!((report(&directory), script(&directory)), (FilterReport::Pending, None));
    let users: Vec<_> = directory.mailboxes_of_config_map(&name("one/filters")).cloned().collect();
    assert_eq!(users, [name(MAILBOX)]);
    let reference = directory.filter_reference(&name(MAILBOX)).unwrap().clone();
    let mut apply = |content: &ConfigMapContent| {
        let changes = directory.apply_filter(&name(MAILBOX), &reference, content);
        (report(&directory), script(&directory), changes.servers.contains_key(&name("mail/default")))
    };
    for (content, words) in [(ConfigMapContent::NoConfigMap, "one"), (ConfigMapContent::NoKey, "a.sieve")] {
        let (FilterReport::Failed(failure), None, _) = apply(&content) else { panic!("{content:?}") };
        assert_eq!(failure.reason.as_str(), "ConfigMapNotFound");
        assert!(failure.message.contains(words) && failure.message.contains("filters"), "{}", failure.message);
    }
    let script = ConfigMapContent::Value("discard;".to_owned());
    assert_eq!(apply(&script), (FilterReport::Compiled, Some("discard;".to_owned()), true));
    assert!(!apply(&script).2, "what is as it was changes no file");
    let (FilterReport::Failed(failure), None, true) = apply(&ConfigMapContent::Value("nonsense".to_owned())) else {
        panic!("it is in force")
    };
    assert!(failure.message.starts_with("Key a.sieve of ConfigMap filters, line 1, column"), "{}", failure.message);
    let other = ConfigMapKeyReference { name: "other".to_owned(), key: "a.sieve".to_owned() };
    let changes = directory.apply_filter(&name(MAILBOX), &other, &script_of("keep;"));
    assert!(changes.statuses.is_empty(), "the mailbox does not name it");
}

fn script_of(text: &str) -> ConfigMapContent {
    ConfigMapContent::Value(text.to_owned())
}

/// The entry of the only domain, as the server gets it.
fn domain_config(directory: &Directory) -> Option<paquebot_config::DomainConfig> {
    let server = default_server();
    directory.domain_configs(&server, None).map(|config| config.into_inner().clone()).next()
}

#[test]
fn the_scripts_around_those_of_mailboxes_reach_the_server_and_the_last_good_ones_stay() {
    let with = |spec: Value| domain("one/d", 1, "server1.com", spec);
    let mut directory = directory(served(vec![mailbox(MAILBOX, 2, "one/d", "a", json!({}))]));
    assert_eq!(domain_config(&directory).unwrap().filters, paquebot_config::Filters::default());
    directory.apply(with(json!({"filters": {"before": "discard;", "after": "keep;"}, "localParts": "CaseSensitive"})));
    let config = domain_config(&directory).unwrap();
    let good = paquebot_config::Filters { before: Some("discard;".to_owned()), after: Some("keep;".to_owned()) };
    assert_eq!((&config.filters, config.local_parts), (&good, paquebot_config::LocalParts::CaseSensitive));
    assert!(directory.report(&key(Kind::MailDomain, "one/d")).unwrap().verdict.is_accepted());

    let changes = directory.apply(with(json!({"filters": {"after": "keep;\n  fileinto \"junk\";"}})));
    let verdict = directory.report(&key(Kind::MailDomain, "one/d")).unwrap().verdict;
    let Verdict::Refused(refusal) = verdict else { panic!("{verdict:?}") };
    assert_eq!(refusal.reason.as_str(), "InvalidSpec");
    assert!(refusal.message.starts_with("spec.filters.after, line 2, column 3: "), "{}", refusal.message);
    let config = domain_config(&directory).expect("the domain is served all the same");
    assert_eq!(config.filters, good, "the last good scripts stay");
    assert!(changes.statuses.contains(&key(Kind::MailDomain, "one/d")));
    let mailbox = directory.report(&key(Kind::Mailbox, MAILBOX)).unwrap();
    assert!(mailbox.verdict.is_accepted(), "a mistake in a script closes no mailbox");

    directory.apply(with(json!({})));
    assert_eq!(domain_config(&directory).unwrap().filters, paquebot_config::Filters::default());
}

#[test]
fn a_server_with_a_wrong_script_runs_what_it_ran_before() {
    let mut directory = directory(served(vec![]));
    let server = |filters: Value| {
        object(Kind::MailServer, "mail/default", 0, json!({"hostname": "mx.example.net", "filters": filters}))
    };
    directory.apply(server(json!({"before": "keep;"})));
    let spec = directory.accepted_server(&default_server()).unwrap().into_inner().spec.clone();
    assert_eq!(crate::render::server_config(&spec).unwrap().filters.before.as_deref(), Some("keep;"));
    directory.apply(server(json!({"before": "nonsense"})));
    assert!(directory.accepted_server(&default_server()).is_none(), "nothing is rendered");
    let Verdict::Refused(refusal) = directory.report(&key(Kind::MailServer, "mail/default")).unwrap().verdict else {
        panic!("accepted")
    };
    assert!(refusal.message.starts_with("spec.filters.before, line 1, column 9: "), "{}", refusal.message);
}

#[test]
fn the_last_good_scripts_survive_the_operator() {
    let mut directory = directory(served(vec![]));
    directory.apply(domain("one/d", 1, "server1.com", json!({"filters": {"before": "nonsense"}})));
    let known = paquebot_config::Filters { before: Some("keep;".to_owned()), after: None };
    let elsewhere = directory.recall_filters(&NamespacedName::new("mail", "other"), "server1.com", &known);
    assert!(elsewhere.servers.is_empty(), "it is served elsewhere");
    let changes = directory.recall_filters(&default_server(), "server1.com", &known);
    assert!(changes.servers.contains_key(&default_server()));
    assert_eq!(domain_config(&directory).unwrap().filters, known);
    directory.apply(domain("one/d", 1, "server1.com", json!({})));
    directory.recall_filters(&default_server(), "server1.com", &known);
    assert_eq!(domain_config(&directory).unwrap().filters, paquebot_config::Filters::default(), "its own are right");
}

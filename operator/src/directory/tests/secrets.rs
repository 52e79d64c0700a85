//! Logins of smart hosts: what is in force before, while and after their Secrets can be read.

use paquebot_config::{Login, SecretText, SmartHost};
use paquebot_crds::conditions::Reason;

use super::*;

fn login(password: &str) -> SecretValue {
    SecretValue::Login(Login { username: "app".to_owned(), password: SecretText::new(password.to_owned()) })
}

fn gone() -> CredentialFailure {
    CredentialFailure { reason: Reason::SecretNotFound, message: "Secret smart does not exist.".to_owned() }
}

fn reference(name: &str) -> SecretReference {
    SecretReference { name: name.to_owned(), key: None }
}

fn used(kind: Kind, name: &str) -> SecretUse {
    SecretUse { object: key(kind, name), purpose: SecretPurpose::Login }
}

fn with_upstream(secret: &str) -> Object {
    let upstream = json!({"smartHost": "relay.provider.example", "credentialsSecretRef": {"name": secret}});
    policy("one/p", json!([{"cidrs": ["192.0.2.0/24"]}]), json!({"upstream": upstream}))
}

fn rule_upstream(directory: &Directory) -> Option<SmartHost> {
    directory.relay_rules(&default_server()).next()?.upstream.clone()
}

fn passwords(directory: &Directory) -> Vec<(String, String)> {
    let logins = directory.secrets(&default_server()).logins;
    logins.into_iter().map(|(name, login)| (name, login.password.expose().to_owned())).collect()
}

fn one(name: &str, password: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), password.to_owned())]
}

#[test]
fn a_policy_is_not_in_force_before_its_login_is_known_and_keeps_the_last_good_one() {
    let policy = used(Kind::RelayPolicy, "one/p");
    let mut directory = directory(served(vec![with_upstream("smart")]));
    assert_eq!(reason(&directory, Kind::RelayPolicy, "one/p"), "Pending");
    assert!(directory.has_unread_secrets(&default_server()));
    directory.apply_secret(&policy, &reference("smart"), Err(gone()));
    assert_eq!(reason(&directory, Kind::RelayPolicy, "one/p"), "SecretNotFound");
    assert!(message(&directory, Kind::RelayPolicy, "one/p").contains("nothing of the policy is in force"));
    assert_eq!((rule_upstream(&directory), passwords(&directory)), (None, Vec::new()));
    assert!(!directory.has_unread_secrets(&default_server()));

    let changes = directory.apply_secret(&policy, &reference("smart"), Ok(login("first")));
    let files = &changes.servers[&default_server()];
    assert!(files.relay && files.secrets && !files.server);
    assert_eq!(reason(&directory, Kind::RelayPolicy, "one/p"), "Accepted");
    let upstream = rule_upstream(&directory).unwrap();
    assert_eq!((upstream.host.as_str(), upstream.port), ("relay.provider.example", 587));
    assert_eq!(
        (upstream.tls, upstream.credentials.as_deref()),
        (paquebot_config::SmartHostTls::Required, Some("one/p smart"))
    );
    assert_eq!(passwords(&directory), one("one/p smart", "first"));

    let changes = directory.apply_secret(&policy, &reference("smart"), Ok(login("second")));
    let files = &changes.servers[&default_server()];
    assert!(files.secrets && !files.relay, "only the login has changed");
    assert_eq!(passwords(&directory), one("one/p smart", "second"));
    assert!(directory.apply_secret(&policy, &reference("smart"), Ok(login("second"))).is_empty());

    let changes = directory.apply_secret(&policy, &reference("smart"), Err(gone()));
    assert!(changes.servers.is_empty() && !changes.statuses.is_empty());
    assert_eq!(reason(&directory, Kind::RelayPolicy, "one/p"), "SecretNotFound");
    assert!(message(&directory, Kind::RelayPolicy, "one/p").contains("last good login stays"));
    assert_eq!(passwords(&directory), one("one/p smart", "second"));
}

#[test]
fn another_secret_does_not_inherit_the_login_and_a_late_answer_changes_nothing() {
    let policy = used(Kind::RelayPolicy, "one/p");
    let mut directory = directory(served(vec![with_upstream("smart")]));
    directory.apply_secret(&policy, &reference("smart"), Ok(login("first")));
    let changes = directory.apply(with_upstream("other"));
    assert!(changes.servers[&default_server()].secrets);
    assert_eq!((rule_upstream(&directory), passwords(&directory)), (None, Vec::new()));
    assert!(directory.apply_secret(&policy, &reference("smart"), Ok(login("late"))).is_empty());
    assert_eq!(reason(&directory, Kind::RelayPolicy, "one/p"), "Pending");
    directory.apply_secret(&policy, &reference("other"), Ok(login("second")));
    assert_eq!(passwords(&directory), one("one/p other", "second"));
    directory.delete(&key(Kind::RelayPolicy, "one/p"));
    assert_eq!(passwords(&directory), Vec::new());
    assert_eq!(directory.secret_uses().count(), 0);
}

#[test]
fn a_login_that_the_servers_have_survives_a_restart_of_the_operator() {
    let mut directory = directory(served(vec![with_upstream("smart")]));
    let SecretValue::Login(kept) = login("kept") else { panic!("a login") };
    let logins = BTreeMap::from([("one/p smart".to_owned(), kept.clone()), ("one/q smart".to_owned(), kept.clone())]);
    directory.restore_logins(&NamespacedName::new("mail", "other"), logins.clone());
    assert_eq!(passwords(&directory), Vec::new());
    directory.restore_logins(&default_server(), logins.clone());
    assert_eq!(passwords(&directory), one("one/p smart", "kept"));
    assert!(!directory.has_unread_secrets(&default_server()));
    let policy = used(Kind::RelayPolicy, "one/p");
    directory.apply_secret(&policy, &reference("smart"), Err(gone()));
    assert_eq!(passwords(&directory), one("one/p smart", "kept"));
    directory.apply_secret(&policy, &reference("smart"), Ok(login("new")));
    directory.restore_logins(&default_server(), logins);
    assert_eq!(passwords(&directory), one("one/p smart", "new"), "what was read goes before what lay there");
}

#[test]
fn authorities_that_the_server_has_survive_a_restart_and_are_never_another_secrets() {
    let with = |name: &str, key: &str| {
        let tls = json!({"clientCASecretRef": {"name": name, "key": key}});
        object(Kind::MailServer, "mail/default", 0, json!({"hostname": "mx.example.net", "tls": tls}))
    };
    let reference = |name: &str, key: &str| SecretReference { name: name.to_owned(), key: Some(key.to_owned()) };
    let server = default_server();
    let mut directory = directory([with("first", "ca.crt")]);
    for other in [reference("second", "ca.crt"), reference("first", "other.crt")] {
        assert!(directory.restore_authorities(&server, &other, "theirs".to_owned()).is_empty());
        assert_eq!(directory.client_authorities(&server), None, "{other:?}");
    }
    let changes = directory.restore_authorities(&server, &reference("first", "ca.crt"), "kept".to_owned());
    assert!(changes.servers[&server].server);
    assert_eq!(directory.client_authorities(&server).as_deref(), Some("kept"));
    // What names another Secret by now has nothing, also while that one is missing.
    directory.apply(with("second", "ca.crt"));
    assert!(directory.restore_authorities(&server, &reference("first", "ca.crt"), "kept".to_owned()).is_empty());
    assert_eq!(directory.client_authorities(&server), None);
    let used = SecretUse { object: key(Kind::MailServer, "mail/default"), purpose: SecretPurpose::ClientAuthorities };
    directory.apply_secret(&used, &reference("second", "ca.crt"), Err(gone()));
    assert_eq!(directory.client_authorities(&server), None);
}

fn smart_server(host: &str) -> Object {
    let smart_host = json!({"host": host, "port": 465, "tls": "Implicit", "credentialsSecretRef": {"name": "smart"}});
    let spec = json!({"hostname": "mx.example.net", "allowedNamespaces": {"from": "All"}, "outbound": {"smartHost": smart_host}});
    object(Kind::MailServer, "mail/default", 0, spec)
}

#[test]
fn a_server_runs_without_its_login_and_says_so() {
    let server = used(Kind::MailServer, "mail/default");
    let mut directory = directory([smart_server("relay.provider.example")]);
    assert_eq!(reason(&directory, Kind::MailServer, "mail/default"), "Accepted");
    directory.apply_secret(&server, &reference("smart"), Err(gone()));
    assert!(directory.accepted_server(&default_server()).is_some(), "nobody's change waits for the Secret");
    let refusal = directory.secret_refusal(&default_server()).unwrap();
    assert_eq!(refusal.reason, Reason::SecretNotFound);
    assert!(refusal.message.contains("waits in the queue"), "{}", refusal.message);
    let changes = directory.apply_secret(&server, &reference("smart"), Ok(login("first")));
    assert!(changes.servers[&default_server()].secrets);
    assert_eq!(directory.secret_refusal(&default_server()), None);
    assert_eq!(passwords(&directory), one("smart-host smart", "first"));
    let smart_host = crate::render::content(&directory, &default_server()).unwrap().server.outbound.smart_host.unwrap();
    assert_eq!((smart_host.port, smart_host.credentials.as_deref()), (465, Some("smart-host smart")));
    directory.delete(&key(Kind::MailServer, "mail/default"));
    assert_eq!(directory.secret_uses().count(), 0);
}

#[test]
fn a_server_is_not_its_own_smart_host() {
    let of_server = directory([smart_server("mx.example.net")]);
    assert_eq!(reason(&of_server, Kind::MailServer, "mail/default"), "InvalidSpec");
    let upstream = json!({"upstream": {"smartHost": "mx.example.net"}});
    let of_policy = directory(served(vec![policy("one/p", json!([{"cidrs": ["192.0.2.0/24"]}]), upstream)]));
    assert_eq!(reason(&of_policy, Kind::RelayPolicy, "one/p"), "InvalidSpec");
    assert_eq!(rule_upstream(&of_policy), None);
}

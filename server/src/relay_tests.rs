use paquebot_config::Record;

use super::*;
use crate::smtp::testing::{address, alias, configuration, configuration_of, content, domain, mailbox};

fn networks(networks: &[&str]) -> RelaySource {
    RelaySource::Networks(networks.iter().map(|text| text.parse().unwrap()).collect())
}

fn rule(name: &str, from: Vec<RelaySource>, senders: Option<SenderScope>, recipients: RecipientScope) -> RelayRule {
    RelayRule { name: name.to_owned(), from, senders, recipients, upstream: None, rate_limit: None, confined: false }
}

fn rules() -> Vec<RelayRule> {
    let app = SenderScope { domains: vec![domain("app.example")], addresses: vec![address("Robot@Bots.example")] };
    let partners = RecipientScope::Domains(vec![domain("partner.example")]);
    vec![
        rule("open-net", vec![networks(&["192.0.2.0/24", "2001:db8::/32"])], None, RecipientScope::Any),
        rule("app", vec![networks(&["198.51.100.7/32"])], Some(app.clone()), RecipientScope::Any),
        rule("partners", vec![networks(&["203.0.113.0/24"])], None, partners),
        rule("people", vec![RelaySource::Mailboxes(domain("server1.com"))], Some(app), RecipientScope::Any),
        rule("people-any", vec![RelaySource::Mailboxes(domain("server1.com"))], None, RecipientScope::Any),
    ]
}

/// Who, from where, to whom, and what is decided: `local`, `own`, the name of a rule, `domain` or `sender`.
fn decided(rules: Vec<RelayRule>, client: &str, user: Option<&str>, sender: &str, recipient: &str) -> String {
    let configuration = configuration(rules);
    let mailbox = user.map(|user| configuration.mailbox(&address(user)).unwrap());
    let client = Client { address: client.parse().unwrap(), mailbox, certified: &[] };
    let sender = (!sender.is_empty()).then(|| address(sender));
    match decide(&configuration, client, sender.as_ref(), &address(recipient)) {
        Decision::Local => "local".to_owned(),
        Decision::Relay(Grant::OwnSender) => "own".to_owned(),
        Decision::Relay(Grant::Rule(name)) => name.to_owned(),
        Decision::Refuse(Refusal::DomainNotServed) => "domain".to_owned(),
        Decision::Refuse(Refusal::SenderNotOwned) => "sender".to_owned(),
    }
}

#[test]
fn strangers() {
    for (client, sender, recipient, expected) in [
        ("8.8.8.8", "x@else.example", "anna@server1.com", "local"),
        ("8.8.8.8", "x@else.example", "ghost@server1.com", "local"),
        ("8.8.8.8", "", "anna@server1.com", "local"),
        ("8.8.8.8", "x@else.example", "jack@server2.com", "domain"),
        ("8.8.8.8", "tom@server1.com", "jack@server2.com", "domain"),
        ("8.8.8.8", "x@app.example", "jack@server2.com", "domain"),
        ("8.8.8.8", "", "jack@server2.com", "domain"),
        ("127.0.0.1", "x@else.example", "jack@server2.com", "domain"),
        ("10.1.2.3", "x@else.example", "jack@server2.com", "domain"),
        ("8.8.8.8", "x@else.example", "jack@[192.0.2.1]", "domain"),
        ("8.8.8.8", "x@else.example", "anna@sub.server1.com", "domain"),
    ] {
        assert_eq!(decided(rules(), client, None, sender, recipient), expected, "{client} {sender} {recipient}");
        let without = decided(Vec::new(), client, None, sender, recipient);
        assert_eq!(without, expected, "without rules: {client} {sender} {recipient}");
    }
}

#[test]
fn clients_in_networks() {
    for (client, sender, recipient, expected) in [
        ("192.0.2.9", "x@else.example", "jack@server2.com", "open-net"),
        ("::ffff:192.0.2.9", "x@else.example", "jack@server2.com", "open-net"),
        ("2001:db8::9", "x@else.example", "jack@server2.com", "open-net"),
        ("192.0.2.9", "", "jack@server2.com", "open-net"),
        ("192.0.3.9", "x@else.example", "jack@server2.com", "domain"),
        ("::ffff:192.0.3.9", "x@else.example", "jack@server2.com", "domain"),
        ("::192.0.2.9", "x@else.example", "jack@server2.com", "domain"),
        ("198.51.100.7", "x@app.example", "jack@server2.com", "app"),
        ("198.51.100.7", "robot@bots.example", "jack@server2.com", "app"),
        ("198.51.100.7", "other@bots.example", "jack@server2.com", "domain"),
        ("198.51.100.7", "x@sub.app.example", "jack@server2.com", "domain"),
        ("198.51.100.7", "", "jack@server2.com", "domain"),
        ("203.0.113.5", "x@else.example", "p@partner.example", "partners"),
        ("203.0.113.5", "x@else.example", "jack@server2.com", "domain"),
        ("203.0.113.5", "x@else.example", "anna@server1.com", "local"),
    ] {
        assert_eq!(decided(rules(), client, None, sender, recipient), expected, "{client} {sender} {recipient}");
        if expected != "local" {
            assert_eq!(decided(Vec::new(), client, None, sender, recipient), "domain", "without rules: {client}");
        }
    }
}

#[test]
fn people_who_have_authenticated() {
    for (user, sender, recipient, expected) in [
        ("tom@server1.com", "tom@server1.com", "jack@server2.com", "own"),
        ("tom@server1.com", "TOM@SERVER1.COM", "jack@server2.com", "own"),
        ("tom@server1.com", "tom+list@server1.com", "jack@server2.com", "own"),
        ("tom@server1.com", "team@server1.com", "jack@server2.com", "own"),
        ("tom@server1.com", "sales@server1.com", "jack@server2.com", "own"),
        ("tom@server1.com", "any@shop.example", "jack@server2.com", "own"),
        ("tom@server1.com", "", "jack@server2.com", "own"),
        ("tom@server1.com", "tom@server1.com", "anna@server1.com", "local"),
        ("tom@server1.com", "x@app.example", "jack@server2.com", "people"),
        ("tom@server1.com", "x@app.example", "anna@server1.com", "local"),
        ("tom@server1.com", "anna@server1.com", "jack@server2.com", "sender"),
        ("tom@server1.com", "anna@server1.com", "anna@server1.com", "sender"),
        ("tom@server1.com", "postmaster@server1.com", "jack@server2.com", "sender"),
        ("tom@server1.com", "tommy@server1.com", "jack@server2.com", "sender"),
        ("tom@server1.com", "x@else.example", "jack@server2.com", "sender"),
        ("all@server3.com", "nobody@server3.com", "jack@server2.com", "sender"),
        ("all@server3.com", "x@app.example", "jack@server2.com", "sender"),
        ("all@server3.com", "all@server3.com", "jack@server2.com", "own"),
    ] {
        assert_eq!(decided(rules(), "8.8.8.8", Some(user), sender, recipient), expected, "{user} {sender} {recipient}");
    }
}

#[test]
fn clients_with_certificates() {
    let senders = SenderScope { domains: vec![domain("app.example")], addresses: Vec::new() };
    let from = vec![RelaySource::ClientCertificates(vec![domain("app.example"), domain("bot.example")])];
    let partners = RecipientScope::Domains(vec![domain("partner.example")]);
    let rules = vec![rule("certified", from, Some(senders), partners)];
    let configuration = configuration(rules);
    for (certified, sender, recipient, expected) in [
        (&["bot.example"][..], "x@app.example", "p@partner.example", true),
        (&["other.example", "app.example"], "x@app.example", "p@partner.example", true),
        (&["other.example"], "x@app.example", "p@partner.example", false),
        (&["sub.app.example"], "x@app.example", "p@partner.example", false),
        (&[], "x@app.example", "p@partner.example", false),
        (&["bot.example"], "x@other.example", "p@partner.example", false),
        (&["bot.example"], "x@app.example", "p@other.example", false),
    ] {
        let certified: Vec<_> = certified.iter().map(|name| domain(name)).collect();
        let client = Client { address: "8.8.8.8".parse().unwrap(), mailbox: None, certified: &certified };
        let decision = decide(&configuration, client, Some(&address(sender)), &address(recipient));
        let admitted = decision == Decision::Relay(Grant::Rule("certified"));
        assert_eq!(admitted, expected, "{certified:?} {sender} {recipient}: {decision:?}");
    }
}

/// With `-` between name and detail, another person's address may begin with one's own.
#[test]
fn a_subaddress_that_is_somebodys_own_address_is_his() {
    let mut content = content(Vec::new());
    content.domains[0].subaddress_separator = Some('-');
    content.records.push(Record::Mailbox(mailbox("anna-maria@server1.com")));
    content.records.push(alias("anna-boss@server1.com", &["tom@server1.com"]));
    let configuration = configuration_of(content);
    let anna = configuration.mailbox(&address("anna@server1.com")).unwrap();
    let owns = |sender: &str| owns(&configuration, anna, Some(&address(sender)));
    assert!(owns("anna-list@server1.com") && owns("anna@server1.com"));
    assert!(!owns("anna-maria@server1.com") && !owns("anna-boss@server1.com"));
}

#[test]
fn senders_that_may_be_used_at_all() {
    let configuration = configuration(rules());
    let tom = configuration.mailbox(&address("tom@server1.com"));
    let asked = |mailbox, sender: &str| {
        let client = Client { address: "8.8.8.8".parse().unwrap(), mailbox, certified: &[] };
        may_use_sender(&configuration, client, Some(&address(sender)))
    };
    assert!(asked(None, "anyone@anywhere.example"), "without AUTH the recipient decides");
    assert!(asked(tom, "tom@server1.com") && asked(tom, "x@app.example"));
    assert!(!asked(tom, "anna@server1.com") && !asked(tom, "x@else.example"));
}

#[test]
fn a_tenants_rule_lends_its_people_only_what_is_lent_to_it() {
    let senders = SenderScope { domains: vec![domain("bank.example"), domain("server3.com")], addresses: Vec::new() };
    let from = vec![RelaySource::Mailboxes(domain("server1.com")), networks(&["192.0.2.0/24"])];
    let open = rule("tenant/p", from, Some(senders), RecipientScope::Any);
    let confined = RelayRule { confined: true, ..open.clone() };
    let ask = |rule: &RelayRule, client: &str, user: Option<&str>, sender: &str| {
        let mut content = content(vec![rule.clone()]);
        for served in content.domains.iter_mut().filter(|served| served.domain.as_str() == "server3.com") {
            served.relayers = vec!["tenant/*".to_owned()];
        }
        let configuration = configuration_of(content);
        let mailbox = user.map(|user| configuration.mailbox(&address(user)).unwrap());
        let client = Client { address: client.parse().unwrap(), mailbox, certified: &[] };
        matches!(
            decide(&configuration, client, Some(&address(sender)), &address("x@elsewhere.example")),
            Decision::Relay(Grant::Rule(_))
        )
    };
    let anna = Some("anna@server1.com");
    assert!(!ask(&confined, "8.8.8.8", anna, "boss@bank.example"));
    assert!(ask(&confined, "8.8.8.8", anna, "boss@server3.com"), "which its owner lends");
    assert!(ask(&open, "8.8.8.8", anna, "boss@bank.example"), "the platform speaks for what nobody serves");
    assert!(ask(&confined, "192.0.2.1", None, "boss@bank.example"), "a client of a network is no person");
}

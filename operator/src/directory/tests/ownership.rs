//! Whose domain it is where a proof is asked for.

use super::*;

/// A MailServer that admits every namespace and asks for proofs.
fn strict(name: &str) -> Object {
    let spec =
        json!({"hostname": "mx.example.net", "allowedNamespaces": {"from": "All"}, "dns": {"requireOwnership": true}});
    object(Kind::MailServer, name, 0, spec)
}

fn claim(name: &str, created: u8) -> Object {
    domain(name, created, "server1.com", json!({}))
}

fn prove(directory: &mut Directory, name: &str, proven: bool) -> Changes {
    directory.set_proven(&NamespacedName::parse(name).unwrap(), proven)
}

/// Who is served, by the MailDomains' names.
fn served_domains(directory: &Directory) -> Vec<String> {
    directory.accepted_domains(&default_server()).map(|entry| entry.name.to_string()).collect()
}

#[test]
fn nothing_of_an_unproven_domain_is_published() {
    let mut directory =
        directory([strict("mail/default"), claim("one/d", 1), mailbox("one/anna", 2, "one/d", "anna", json!({}))]);
    assert_eq!(reason(&directory, Kind::MailDomain, "one/d"), "Pending");
    let message = message(&directory, Kind::MailDomain, "one/d");
    assert!(message.contains("OwnershipVerified"), "{message}");
    // Neither mail for it nor a login, with which somebody could send in its name.
    assert!(served_domains(&directory).is_empty() && lines(&directory).is_empty());
    assert_eq!(reason(&directory, Kind::Mailbox, "one/anna"), "DomainNotFound");
    assert_eq!(directory.place(&key(Kind::MailDomain, "one/d")), None);
    assert!(directory.waits_for_proof(&NamespacedName::new("one", "d")));

    let changes = prove(&mut directory, "one/d", true);
    assert!(changes.servers.contains_key(&default_server()), "{changes:?}");
    assert_eq!(served_domains(&directory), ["one/d"]);
    assert_eq!(reason(&directory, Kind::Mailbox, "one/anna"), "Accepted");
    assert!(lines(&directory).contains_key("anna@server1.com"));
    assert_eq!(prove(&mut directory, "one/d", true), Changes::default(), "no news changes nothing");

    prove(&mut directory, "one/d", false);
    assert!(served_domains(&directory).is_empty() && lines(&directory).is_empty());
}

#[test]
fn a_domain_may_ask_for_it_itself() {
    let asks = domain("one/d", 1, "server1.com", json!({"dns": {"requireOwnership": true}}));
    let mut directory = directory([server("mail/default"), asks]);
    assert!(served_domains(&directory).is_empty());
    prove(&mut directory, "one/d", true);
    assert_eq!(served_domains(&directory), ["one/d"]);
}

#[test]
fn a_server_that_begins_to_ask_takes_what_is_unproven_out_of_service() {
    let mut directory = directory([server("mail/default"), claim("one/d", 1)]);
    assert_eq!(served_domains(&directory), ["one/d"]);
    directory.apply(strict("mail/default"));
    assert!(served_domains(&directory).is_empty());
    directory.apply(server("mail/default"));
    assert_eq!(served_domains(&directory), ["one/d"]);
}

#[test]
fn a_proof_beats_age_and_age_decides_among_equals() {
    let mut directory = directory([strict("mail/default"), claim("squatter/d", 1), claim("owner/d", 2)]);
    // Nobody has it, and neither is told of the other.
    for name in ["squatter/d", "owner/d"] {
        assert_eq!(reason(&directory, Kind::MailDomain, name), "Pending");
    }
    prove(&mut directory, "owner/d", true);
    assert_eq!(served_domains(&directory), ["owner/d"]);
    let told = message(&directory, Kind::MailDomain, "squatter/d");
    assert_eq!(reason(&directory, Kind::MailDomain, "squatter/d"), "DomainConflict");
    assert!(told.contains("status.dns.records") && !told.contains("owner/"), "{told}");
    // It may prove it too, and is older then.
    assert!(directory.claimed_on(&NamespacedName::new("squatter", "d")).is_some());
    prove(&mut directory, "squatter/d", true);
    assert_eq!(served_domains(&directory), ["squatter/d"]);
    assert!(message(&directory, Kind::MailDomain, "owner/d").contains("older"));
    directory.delete(&key(Kind::MailDomain, "squatter/d"));
    assert_eq!(served_domains(&directory), ["owner/d"]);
}

/// A squatter on a server of its own, which asks for nothing, is older and served; the owner proves the domain elsewhere.
#[test]
fn an_unproven_claim_on_another_server_gives_way_to_a_proof_only() {
    let at = json!({"serverRef": {"name": "own", "namespace": "squatter"}});
    let objects = [
        strict("mail/default"),
        server("squatter/own"),
        domain("squatter/d", 1, "server1.com", at),
        claim("owner/d", 2),
    ];
    let mut directory = directory(objects);
    assert_eq!(reason(&directory, Kind::MailDomain, "squatter/d"), "Accepted");
    assert_eq!(reason(&directory, Kind::MailDomain, "owner/d"), "DomainConflict");
    prove(&mut directory, "owner/d", true);
    assert_eq!(reason(&directory, Kind::MailDomain, "owner/d"), "Accepted");
    assert_eq!(reason(&directory, Kind::MailDomain, "squatter/d"), "DomainConflict");
}

#[test]
fn an_object_that_was_made_anew_has_proven_nothing() {
    let mut directory = directory([strict("mail/default"), claim("one/d", 1)]);
    prove(&mut directory, "one/d", true);
    let Object::MailDomain(mut again) = claim("one/d", 1) else { unreachable!() };
    again.meta.generation = 2;
    directory.apply(Object::MailDomain(again.clone()));
    assert_eq!(served_domains(&directory), ["one/d"], "an edit takes nothing away");
    again.meta.uid = "another".to_owned();
    directory.apply(Object::MailDomain(again));
    assert!(served_domains(&directory).is_empty());
}

#[test]
fn nobody_asks_where_nobody_can_look() {
    let options = Options { ownership_is_assumed: true, ..Options::default() };
    let mut directory = Directory::new(options);
    directory.apply(strict("mail/default"));
    directory.apply(claim("one/d", 1));
    assert_eq!(served_domains(&directory), ["one/d"]);
}

#[test]
fn mail_is_anothers_only_where_the_same_tenant_has_the_address_on_the_same_server() {
    let deletes = |name, created| domain(name, created, "server1.com", json!({"reclaimPolicy": "Delete"}));
    let mut directory = directory([
        strict("mail/default"),
        deletes("one/old", 1),
        deletes("one/new", 2),
        deletes("two/d", 3),
        mailbox("one/anna", 4, "one/old", "anna", json!({})),
        mailbox("one/other", 5, "one/new", "anna", json!({})),
        mailbox("two/anna", 6, "two/d", "anna", json!({})),
        mailbox("one/eve", 7, "one/new", "eve", json!({})),
    ]);
    let (old, anna) = (key(Kind::MailDomain, "one/old"), key(Kind::Mailbox, "one/anna"));
    let lost = |directory: &Directory, key: &ObjectKey, whose: &str| {
        directory.is_of_another(key, &default_server(), whose, "one")
    };
    prove(&mut directory, "one/old", true);
    assert!(!lost(&directory, &old, "@server1.com") && !lost(&directory, &anna, "anna@server1.com"));

    // Proof beats age: another object of the same namespace has the domain, and the address, and so the mail.
    prove(&mut directory, "one/old", false);
    prove(&mut directory, "one/new", true);
    assert!(lines(&directory).contains_key("anna@server1.com"));
    assert!(lost(&directory, &old, "@server1.com") && lost(&directory, &anna, "Anna@server1.com"));
    let elsewhere = NamespacedName::new("mail", "elsewhere");
    assert!(!directory.is_of_another(&anna, &elsewhere, "anna@server1.com", "one"), "that server keeps this one's own");
    assert!(!lost(&directory, &key(Kind::Mailbox, "one/other"), "anna@server1.com"));

    // Another tenant's mail of the same address is apart from it.
    prove(&mut directory, "one/new", false);
    prove(&mut directory, "two/d", true);
    assert!(!lost(&directory, &old, "@server1.com") && !lost(&directory, &anna, "anna@server1.com"));
}

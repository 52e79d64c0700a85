//! The room in one file of the directory: who fills it is refused, and nobody else's change is kept from being written.

use paquebot_config::ShardName;

use super::*;

/// Local parts of server1.com whose lines all lie in one file.
fn of_one_file(count: usize) -> Vec<String> {
    let shard = |local: &String| ShardName::of(&format!("{local}@server1.com"));
    let names = || (0..).map(|number| format!("x{number}"));
    let first = names().map(|name| shard(&name)).next();
    names().filter(|name| Some(shard(name)) == first).take(count).collect()
}

/// A script of so many octets that does nothing.
fn script(octets: usize) -> Value {
    json!({"filter": {"sieve": format!("# {}\n", "x".repeat(octets - 3))}})
}

fn can_be_written(directory: &Directory) -> bool {
    paquebot_config::Bundle::build(crate::render::content(directory, &default_server()).unwrap()).is_ok()
}

#[test]
fn a_tenant_who_fills_a_file_is_refused_and_others_go_on() {
    let locals = of_one_file(20);
    let mut directory =
        directory(served(vec![domain("one/d", 1, "server1.com", json!({"allowedNamespaces": {"from": "All"}}))]));
    for (number, local) in locals.iter().take(17).enumerate() {
        let age = 2 + u8::try_from(number).unwrap();
        directory.apply(mailbox(&format!("hostile/{local}"), age, "one/d", local, script(60 << 10)));
    }
    assert!(can_be_written(&directory));
    let first = format!("hostile/{}", locals[0]);
    let last = format!("hostile/{}", locals[16]);
    assert_eq!(reason(&directory, Kind::Mailbox, &first), "Accepted", "older ones go first");
    assert_eq!(reason(&directory, Kind::Mailbox, &last), "LimitExceeded");
    let words = message(&directory, Kind::Mailbox, &last);
    assert!(words.contains("namespace hostile") && words.contains("Shorten its filter"), "{words}");

    let late = format!("other/{}", locals[17]);
    directory.apply(mailbox(&late, 40, "one/d", &locals[17], json!({})));
    assert_eq!(reason(&directory, Kind::Mailbox, &late), "Accepted");
    // Beside what is refused, small ones of the same namespace have room.
    let small = format!("hostile/{}", locals[18]);
    directory.apply(mailbox(&small, 41, "one/d", &locals[18], json!({})));
    assert_eq!(reason(&directory, Kind::Mailbox, &small), "Accepted");

    // It heals.
    let changes = directory.apply(mailbox(&first, 2, "one/d", &locals[0], json!({})));
    let healed: Vec<&ObjectKey> = changes.statuses.iter().filter(|key| key.kind == Kind::Mailbox).collect();
    assert_eq!(healed.len(), 2, "itself and the next: {healed:?}");
    assert!(can_be_written(&directory));
    for local in &locals[1..17] {
        directory.delete(&key(Kind::Mailbox, &format!("hostile/{local}")));
    }
    assert!(can_be_written(&directory));
}

#[test]
fn the_servers_own_namespace_may_take_all_and_then_others_wait() {
    let locals = of_one_file(20);
    let mut directory =
        directory(served(vec![domain("one/d", 1, "server1.com", json!({"allowedNamespaces": {"from": "All"}}))]));
    for (number, local) in locals.iter().take(18).enumerate() {
        let age = 2 + u8::try_from(number).unwrap();
        directory.apply(mailbox(&format!("mail/{local}"), age, "one/d", local, script(60 << 10)));
    }
    assert!(can_be_written(&directory));
    let last = format!("mail/{}", locals[17]);
    assert!(message(&directory, Kind::Mailbox, &last).contains("larger than one Secret"));
    assert_eq!(reason(&directory, Kind::Mailbox, &format!("mail/{}", locals[15])), "Accepted");
}

#[test]
fn scripts_of_mail_domains_take_room_as_well() {
    let script = "# ".to_owned() + &"x".repeat(15 << 10);
    let filters = json!({"filters": {"before": script, "after": script}});
    let first = ShardName::of("d0.example");
    let names = (0..).map(|number| format!("d{number}.example")).filter(|name| ShardName::of(name) == first);
    let mut directory = directory([server("mail/default")]);
    for (number, name) in names.take(40).enumerate() {
        let age = 2 + u8::try_from(number).unwrap();
        directory.apply(domain(&format!("one/d{number}"), age, &name, filters.clone()));
    }
    assert!(can_be_written(&directory));
    assert_eq!(reason(&directory, Kind::MailDomain, "one/d0"), "Accepted");
    assert_eq!(reason(&directory, Kind::MailDomain, "one/d39"), "LimitExceeded");
}

#[test]
fn what_belongs_to_a_mail_domain_without_room_goes_and_comes_with_it() {
    let script = "# ".to_owned() + &"x".repeat(15 << 10);
    let filters = json!({"filters": {"before": script, "after": script}});
    let first = ShardName::of("d0.example");
    let names = (0..).map(|number| format!("d{number}.example")).filter(|name| ShardName::of(name) == first);
    let names: Vec<String> = names.take(40).collect();
    let mut directory = directory([server("mail/default")]);
    for (number, name) in names.iter().enumerate() {
        let age = 2 + u8::try_from(number).unwrap();
        let roles = json!({"filters": filters["filters"], "roles": {"abuse": [{"address": "a@b.example"}]}});
        directory.apply(domain(&format!("one/d{number}"), age, name, roles));
    }
    // Older than the MailDomain, and for its own line there would be room.
    directory.apply(mailbox("one/anna", 1, "one/d39", "anna", json!({})));
    directory.apply(alias("one/info", 1, "one/d39", "info", json!([{"mailboxRef": {"name": "anna"}}])));
    let last = &names[39];
    let served = |directory: &Directory| lines(directory).keys().filter(|line| line.ends_with(last)).count();
    assert_eq!(reason(&directory, Kind::MailDomain, "one/d39"), "LimitExceeded");
    for (kind, name) in [(Kind::Mailbox, "one/anna"), (Kind::MailAlias, "one/info")] {
        assert_eq!(reason(&directory, kind, name), "DomainNotFound");
        assert!(message(&directory, kind, name).contains("MailDomain one/d39 is not accepted itself"));
    }
    assert_eq!(served(&directory), 0);
    // The older ones leave, and there is room.
    directory.delete(&key(Kind::MailDomain, "one/d0"));
    for number in 1..39 {
        directory.delete(&key(Kind::MailDomain, &format!("one/d{number}")));
    }
    assert_eq!(reason(&directory, Kind::MailDomain, "one/d39"), "Accepted");
    assert_eq!(reason(&directory, Kind::Mailbox, "one/anna"), "Accepted");
    let served: Vec<_> = lines(&directory).into_keys().filter(|line| line.ends_with(last)).collect();
    assert_eq!(served.len(), 3, "its role, the mailbox and the alias: {served:?}");
}

//! The Internet in pieces: how much of it the RelayPolicies of a namespace and of a server admit together.

use super::*;

fn listing(name: &str, created: u8, cidrs: impl IntoIterator<Item = String>) -> Object {
    let cidrs: Vec<String> = cidrs.into_iter().collect();
    let from: Vec<Value> = cidrs.chunks(256).map(|cidrs| json!({"cidrs": cidrs})).collect();
    let spec = json!({"serverRef": {"name": "default", "namespace": "mail"}, "from": from});
    object(Kind::RelayPolicy, name, created, spec)
}

fn one(name: &str, created: u8, cidr: &str) -> Object {
    listing(name, created, [cidr.to_owned()])
}

/// The networks that are in force, and those that are not.
fn networks(directory: &Directory, name: &str) -> (Vec<String>, Vec<String>) {
    match directory.report(&key(Kind::RelayPolicy, name)).unwrap().details {
        Details::RelayPolicy { effective, rejected } => (
            effective.iter().map(ToString::to_string).collect(),
            rejected.into_iter().map(|rejected| rejected.network).collect(),
        ),
        other => panic!("{other:?}"),
    }
}

fn is_in_force(directory: &Directory, name: &str) -> bool {
    let (effective, rejected) = networks(directory, name);
    assert_eq!(effective.is_empty(), !rejected.is_empty(), "{name}");
    assert_eq!(
        reason(directory, Kind::RelayPolicy, name),
        if rejected.is_empty() { "Accepted" } else { "OpenRelayRefused" }
    );
    rejected.is_empty()
}

#[test]
fn nearly_all_of_the_internet_is_refused_like_all_of_it() {
    // All that 1.1.1.0/24 is not in.
    let mut pieces: Vec<String> =
        (2..=223_u8).filter(|first| *first != 127).map(|first| format!("{first}.0.0.0/8")).collect();
    pieces.extend((0..=255_u8).filter(|second| *second != 1).map(|second| format!("1.{second}.0.0/16")));
    let directory = directory([server("mail/default"), listing("one/p", 1, pieces)]);
    assert_eq!(reason(&directory, Kind::RelayPolicy, "one/p"), "OpenRelayRefused");
    let words = message(&directory, Kind::RelayPolicy, "one/p");
    assert!(words.contains("of namespace one") && words.contains("open relay; list the clients"), "{words}");
    let (effective, rejected) = networks(&directory, "one/p");
    assert_eq!(effective, ["10.0.0.0/8"], "a private network is nobody else's");
    assert!(rejected.contains(&"57.0.0.0/8".to_owned()));
}

#[test]
fn several_policies_have_no_more_of_the_internet_than_one() {
    let eighth = |number: u8| -> Vec<String> {
        (0..28)
            .map(|net| 1 + number * 28 + net)
            .filter(|net| ![10, 127, 224].contains(net))
            .map(|net| format!("{net}.0.0.0/8"))
            .collect()
    };
    let names: Vec<String> = (0..8).map(|number| format!("one/p{number}")).collect();
    let policies = names.iter().zip(0..8).map(|(name, number)| listing(name, 1, eighth(number)));
    let directory = directory([server("mail/default")].into_iter().chain(policies));
    assert!(names.iter().all(|name| !is_in_force(&directory, name)));
}

#[test]
fn the_ipv6_internet_in_pieces_is_refused() {
    let pieces =
        (0..=255_u8).flat_map(|second| (0..16_u8).map(move |third| format!("2a{second:02x}:{third:x}000::/20")));
    let mut directory = directory([server("mail/default"), listing("one/p", 1, pieces)]);
    assert!(!is_in_force(&directory, "one/p"));
    directory.apply(one("one/p", 1, "2a00::/20"));
    assert!(is_in_force(&directory, "one/p"));
    directory.apply(one("one/q", 2, "2a01::/64"));
    assert!(!is_in_force(&directory, "one/q"));
    directory.apply(one("one/q", 2, "198.51.0.0/16"));
    assert!(is_in_force(&directory, "one/q"), "the families count by themselves");
}

#[test]
fn a_namespace_has_a_share_and_the_server_four_times_that_and_older_ones_go_first() {
    let mut directory = directory([server("mail/default")]);
    directory.apply(one("one/young", 9, "57.1.0.0/16"));
    directory.apply(one("one/old", 2, "58.0.0.0/8"));
    assert!(is_in_force(&directory, "one/old") && !is_in_force(&directory, "one/young"));
    for (name, created, cidr) in [("two/a", 3, "59.0.0.0/8"), ("three/a", 4, "60.0.0.0/8"), ("four/a", 5, "61.0.0.0/8")]
    {
        directory.apply(one(name, created, cidr));
        assert!(is_in_force(&directory, name), "{name}");
    }
    directory.apply(one("five/late", 6, "62.0.0.0/24"));
    assert!(!is_in_force(&directory, "five/late"));
    assert!(
        message(&directory, Kind::RelayPolicy, "five/late").contains("of MailServer mail/default would admit more")
    );
    // The server's own namespace goes first however young it is, and may have all.
    let changes = directory.apply(listing("mail/p", 20, ["63.0.0.0/8".to_owned(), "64.0.0.0/8".to_owned()]));
    assert!(changes.statuses.contains(&key(Kind::RelayPolicy, "four/a")) && changes.servers[&default_server()].relay);
    assert!(is_in_force(&directory, "mail/p") && is_in_force(&directory, "two/a"));
    assert!(!is_in_force(&directory, "three/a") && !is_in_force(&directory, "four/a"));
    // It heals.
    directory.delete(&key(Kind::RelayPolicy, "mail/p"));
    directory.delete(&key(Kind::RelayPolicy, "one/old"));
    for name in ["one/young", "three/a", "four/a", "five/late"] {
        assert!(is_in_force(&directory, name), "{name}");
    }
    for name in ["one/young", "two/a", "three/a", "four/a", "five/late"] {
        directory.delete(&key(Kind::RelayPolicy, name));
    }
    directory.delete(&key(Kind::MailServer, "mail/default"));
    assert!(directory.is_blank());
}

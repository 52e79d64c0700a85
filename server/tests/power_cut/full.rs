//! A volume that fills up: 452 4.3.1, readiness that names the cure, nothing lost, and mail again once there is room.

use crate::load::Load;
use crate::support::wait_for;
use crate::volume::Volume;
use crate::wire::Wire;
use crate::world::{MAILDROPS, World, fetch_all, log_in};

/// The whole path, with small messages (in the database) and large ones (in files).
pub fn full_volume() {
    let mut world = World::start(|data| Volume::make(64, data));
    let load = Load::new();
    for octets in [40_000, 400_000] {
        fill_and_recover(&world, &load, octets);
    }
    drop(world.take_server());
}

fn fill_and_recover(world: &World, load: &Load, octets: u64) {
    let mut wire = Wire::connect(world.smtp()).unwrap();
    wire.reply().unwrap();
    wire.smtp("EHLO client.example").unwrap();
    let mut acknowledged = std::collections::HashSet::new();
    let refusal = loop {
        let token = load.token();
        match load.send(&mut wire, token, octets, &[0, 1], false).unwrap() {
            reply if reply.starts_with("250") => drop(acknowledged.insert(token)),
            refusal => break refusal,
        }
    };
    assert!(refusal.starts_with("452 4.3.1 "), "{refusal}");
    assert!(acknowledged.len() as u64 * octets > 15 << 20, "only {} messages of {octets} fitted", acknowledged.len());
    let (status, text) = wait_for("readiness to turn false", || {
        Some(world.server().get("/readyz")).filter(|(status, _)| *status == 503)
    });
    assert_eq!(status, 503);
    assert!(text.contains("the volume of the mail store is full; make it larger or delete mail"), "{text}");
    // MAIL is refused at once: nobody sends a large message in vain.
    let mut other = Wire::connect(world.smtp()).unwrap();
    other.reply().unwrap();
    other.smtp("EHLO client.example").unwrap();
    let refusal = other.smtp("MAIL FROM:<client@client.example> SIZE=2000000").unwrap();
    assert!(refusal.starts_with("452 4.3.1 "), "{refusal}");

    for maildrop in [0, 1] {
        assert_eq!(fetch_all(world.pop3(), maildrop), acknowledged, "in the maildrop of {}", MAILDROPS[maildrop]);
        delete_all(world, maildrop);
    }
    wait_for("readiness", || (world.server().get("/readyz").0 == 200).then_some(()));
    wait_for("mail to be taken again", || {
        other.smtp("MAIL FROM:<client@client.example>").unwrap().starts_with("250").then_some(())
    });
    other.smtp("RSET").unwrap();
    let token = load.token();
    assert!(load.send(&mut other, token, octets, &[0], false).unwrap().starts_with("250"));
    assert!(fetch_all(world.pop3(), 0).contains(&token));
    delete_all(world, 0);
}

fn delete_all(world: &World, maildrop: usize) {
    let (mut wire, messages) = log_in(world.pop3(), maildrop).unwrap();
    for number in 1..=messages {
        assert!(wire.pop3(&format!("DELE {number}")).unwrap().starts_with("+OK"));
    }
    let answer = wire.pop3("QUIT").unwrap();
    assert!(answer.starts_with("+OK"), "{answer}");
}

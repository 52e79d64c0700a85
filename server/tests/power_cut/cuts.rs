//! The power goes, or the process is killed, at random moments of the load; then everything is compared.

use std::time::{Duration, Instant};

use crate::load::Load;
use crate::random::Random;
use crate::support::{Home, wait_for};
use crate::volume::Volume;
use crate::world::{World, inspect};

/// Cuts without `POWER_CUTS`.
const CUTS: u64 = 20;
/// The load runs for at least and less than so many milliseconds before it.
const MOMENTS: (u64, u64) = (30, 900);
/// Where a large deletion is waited for, at most so long.
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// The same where none was cut in half yet: until the store has written one down, which a slow disk takes long for.
const PATIENCE: Duration = Duration::from_secs(300);
/// Milliseconds that it takes, about.
const WITHIN: u64 = 60;
/// The volume in MiB.
const VOLUME: u64 = 1024;

fn wanted() -> u64 {
    std::env::var("POWER_CUTS").map_or(CUTS, |text| text.parse().expect("POWER_CUTS is a number"))
}

/// The power goes.
pub fn power() {
    rounds(wanted(), |world| {
        // Without power nothing is said any more, as when the kernel lets an fsync succeed that it has not done.
        world.server().signal("STOP");
        world.volume.cut_off();
        let home = world.take_server().kill();
        world.volume.unmount();
        world.volume.mount();
        home
    });
}

/// The process is killed, and the volume lives.
pub fn kills() {
    rounds(wanted().div_ceil(4), |world| world.take_server().kill());
}

fn rounds(count: u64, failure: impl Fn(&mut World) -> Home) {
    let mut random = Random::new(Random::seed());
    let started = Instant::now();
    let mut world = World::start(|data| Volume::make(VOLUME, data));
    let load = Load::new();
    for round in 1..=count {
        let moment = Duration::from_millis(random.between(MOMENTS.0, MOMENTS.1));
        let seed = random.next();
        // One in three times many messages are about to go, or are going, which takes some milliseconds.
        let within = Duration::from_millis(random.below(WITHIN));
        let none_was = round > count / 2 && load.ledger.lock().unwrap().counts.finished_later == 0;
        let waits = random.one_in(3);
        let home = load.run_during(&mut world, seed, |world| {
            std::thread::sleep(moment);
            if none_was {
                world.until_deleting(PATIENCE);
            } else if waits {
                load.until_emptied(LONGEST_WAIT);
                std::thread::sleep(within);
            }
            failure(world)
        });
        let before = inspect(&home.data_dir(), &world.sink);
        load.ledger.lock().unwrap().counts.finished_later += before.unfinished;
        world.start_again(home);
        let found = world.find(before);
        load.ledger.lock().unwrap().check(&found);
        world.check();
        if round % 20 == 0 || round == count {
            println!(
                "{round} of {count} after {:.0} s: {:?}",
                started.elapsed().as_secs_f64(),
                load.ledger.lock().unwrap().counts
            );
        }
    }
    finish(world, &load);
}

/// All that is queued arrives; then nothing is there twice that need not be.
fn finish(mut world: World, load: &Load) {
    wait_for("the queue to empty", || load.ledger.lock().unwrap().is_relayed(&world.sink.taken()).then_some(()));
    let home = world.take_server().stop();
    let before = inspect(&home.data_dir(), &world.sink);
    world.start_again(home);
    let found = world.find(before);
    load.ledger.lock().unwrap().check(&found);
    let counts = load.ledger.lock().unwrap().counts;
    assert!(counts.acknowledged > counts.checked && counts.deleted > 0 && counts.acknowledged_remote > 0, "{counts:?}");
    assert!(counts.filed > 0, "{counts:?}");
    // With many rounds chance does not excuse it.
    assert!(counts.checked < 15 || counts.finished_later > 0, "no deletion was left half done: {counts:?}");
    println!("at the end: {counts:?}");
    drop(world.take_server());
}

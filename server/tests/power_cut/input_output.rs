//! A volume that begins to fail: writes and fsyncs give an error. No 250 may be said to what is not durable; the process
//! ends with a clear error; and on a volume that works again everything acknowledged is there.

use std::time::Duration;

use crate::load::Load;
use crate::random::Random;
use crate::volume::Volume;
use crate::world::{World, inspect};

/// How often it fails, at different moments.
const FAILURES: u64 = 8;

/// From one moment on every write and every fsync gives an error, in the middle of the load; what was synced before is on
/// the volume. (A loop device whose file lies on a full volume fails too, but then the kernel loses also what it has said to
/// be synced: a program of a few lines shows it. That would judge the kernel, not the server.)
pub fn errors() {
    let mut world = World::start(|data| Volume::make(256, data));
    let load = Load::new();
    let mut random = Random::new(Random::seed());
    for _ in 0..FAILURES {
        let moment = Duration::from_millis(random.between(100, 700));
        let seed = random.next();
        let home = load.run_during(&mut world, seed, |world| {
            std::thread::sleep(moment);
            world.volume.fail();
            let mut server = world.take_server();
            let status = server.wait();
            assert_eq!(status.code(), Some(1), "{}", server.log());
            let log = server.log();
            assert!(log.contains("the store stops writing until the process is restarted"), "{log}");
            assert!(log.contains("the mail store stopped writing, as logged above; the next start checks it"), "{log}");
            server.kill()
        });
        world.volume.unmount();
        world.volume.mount();
        let before = inspect(&home.data_dir(), &world.sink);
        world.start_again(home);
        let found = world.find(before);
        load.ledger.lock().unwrap().check(&found);
    }
    println!("{:?}", load.ledger.lock().unwrap().counts);
    drop(world.take_server());
}

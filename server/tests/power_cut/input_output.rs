//! A volume that begins to fail: writes and fsyncs give an error. No 250 may be said to what is not durable; the process
//! ends with a clear error; and on a volume that works again everything acknowledged is there.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crate::load::Load;
use crate::random::Random;
use crate::volume::{Volume, run, text};
use crate::world::{World, inspect};

/// How often it fails, at different moments.
const FAILURES: u64 = 4;

/// The loop device fails because its file lies on a small volume that is full: its blocks cannot be allocated.
pub fn errors() {
    let below = tempfile::tempdir().unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=200m", "tmpfs", text(below.path())]);
    let mut world = World::start(|data| Volume::make_in(below.path(), 1024, data));
    let load = Load::new();
    let mut random = Random::new(Random::seed());
    for _ in 0..FAILURES {
        let moment = Duration::from_millis(random.between(100, 700));
        let seed = random.next();
        let home = load.run_during(&mut world, seed, |world| {
            std::thread::sleep(moment);
            fill(below.path());
            let mut server = world.take_server();
            let status = server.wait();
            assert_eq!(status.code(), Some(1), "{}", server.log());
            let log = server.log();
            assert!(log.contains("the store stops writing until the process is restarted"), "{log}");
            assert!(log.contains("the mail store stopped writing, as logged above; the next start checks it"), "{log}");
            server.kill()
        });
        world.volume.unmount();
        std::fs::remove_file(below.path().join("filler")).unwrap();
        world.volume.mount();
        let before = inspect(&home.data_dir(), &world.sink);
        world.start_again(home);
        let found = world.find(before);
        load.ledger.lock().unwrap().check(&found);
    }
    println!("{:?}", load.ledger.lock().unwrap().counts);
    drop(world.take_server());
}

/// Takes the last octet of the volume below.
fn fill(below: &Path) {
    use std::io::Write;
    let mut filler = File::create(below.join("filler")).unwrap();
    let piece = vec![1; 64 * 1024];
    while filler.write_all(&piece).is_ok() {}
}

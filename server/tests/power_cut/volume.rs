//! A volume that can be cut off: ext4 with a journal in a file, on a loop device. Debian's `xfs_io -x -c shutdown` makes
//! the kernel forget what it has not written, as a power cut does; what was synced is there after the next mount.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// See the module.
pub struct Volume {
    image: PathBuf,
    mount_point: PathBuf,
    /// Where the image is, unless somebody else cares for that.
    _directory: Option<TempDir>,
}

impl Volume {
    /// Makes a volume of so many MiB and mounts it.
    pub fn make(mebibytes: u64, mount_point: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut volume = Self::make_in(directory.path(), mebibytes, mount_point);
        volume._directory = Some(directory);
        volume
    }

    /// Makes a volume whose image is in `directory`.
    pub fn make_in(directory: &Path, mebibytes: u64, mount_point: &Path) -> Self {
        let image = directory.join("paquebot-power-cut.img");
        std::fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-J", "size=8", text(&image)]);
        let volume = Self { image, mount_point: mount_point.to_owned(), _directory: None };
        volume.mount();
        volume
    }

    /// Mounting replays the journal. The loop device goes when the volume is unmounted.
    pub fn mount(&self) {
        run("mount", &["-t", "ext4", "-o", "loop", text(&self.image), text(&self.mount_point)]);
    }

    pub fn unmount(&self) {
        run("umount", &[text(&self.mount_point)]);
    }

    /// From here on everything is answered with an error; what was synced is there.
    pub fn fail(&self) {
        run("xfs_io", &["-x", "-c", "shutdown -f", text(&self.mount_point)]);
    }

    /// From here on nothing reaches the volume, and nothing that waited does.
    pub fn cut_off(&self) {
        run("xfs_io", &["-x", "-c", "shutdown", text(&self.mount_point)]);
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // It may be unmounted already; and what fails here goes with the namespace.
        let _ = Command::new("umount").args(["--quiet", "--lazy"]).arg(&self.mount_point).status();
    }
}

pub fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Whether the suite can run here, and if not, what is missing.
pub fn requirements() -> Result<(), String> {
    let programs = [("mkfs.ext4", "e2fsprogs"), ("xfs_io", "xfsprogs"), ("unshare", "util-linux"), ("mount", "mount")];
    for (program, package) in programs {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
        if !found.is_ok_and(|output| output.status.success()) {
            return Err(format!("{program} is missing; install Debian's {package}"));
        }
    }
    let user = Command::new("id").arg("-u").output().map_err(|error| error.to_string())?;
    if user.stdout.trim_ascii() != b"0" {
        return Err("it mounts volumes, which only root may".to_owned());
    }
    let free = Command::new("losetup").arg("--find").output().map_err(|error| error.to_string())?;
    if !free.status.success() {
        let said = String::from_utf8_lossy(&free.stderr).trim().to_owned();
        return Err(format!(
            "there is no free loop device ({said}); load the module loop, or give the container /dev/loop*"
        ));
    }
    Ok(())
}

/// What this suite stands on: of two files the one that was synced is there afterwards, the other is not.
pub fn canary() {
    let directory = tempfile::tempdir().unwrap();
    let volume = Volume::make(64, directory.path());
    let (synced, unsynced) = (directory.path().join("synced"), directory.path().join("unsynced"));
    std::fs::write(&synced, "synced").unwrap();
    std::fs::File::open(&synced).unwrap().sync_all().unwrap();
    std::fs::File::open(directory.path()).unwrap().sync_all().unwrap();
    std::fs::write(&unsynced, "unsynced").unwrap();
    volume.cut_off();
    assert!(std::fs::write(directory.path().join("later"), "later").is_err(), "a volume that is cut off takes nothing");
    volume.unmount();
    volume.mount();
    assert_eq!(std::fs::read(&synced).unwrap(), b"synced");
    assert!(!unsynced.exists(), "what was never synced survived: cuts here would prove nothing");
}

//! Programs from Debian: installed where they are clients, unpacked and run in a mount namespace of their own where they are
//! mail servers, since those conflict with each other as packages and would start as services.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Runs a function of scripts/common.sh; what it prints.
fn common(call: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    // Tests run side by side, and apt and its caches are one for all.
    let script = format!(
        "set -euo pipefail; . scripts/common.sh; mkdir -p \"$cache\"; exec 9>\"$cache/interop.lock\"; flock 9; {call}"
    );
    let output = Command::new("bash").args(["-c", &script]).current_dir(root).output().unwrap();
    assert!(output.status.success(), "{call}:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Installs what is missing; `command=package` each.
pub fn need(pairs: &[&str]) {
    common(&format!("need {}", pairs.join(" ")));
}

/// Where these packages are unpacked.
pub fn unpacked(packages: &[&str]) -> PathBuf {
    PathBuf::from(common(&format!("unpacked {}", packages.join(" "))).trim_end())
}

/// Begins in a mount namespace of its own: the packages lie over /usr, `etc` over /etc, and /var/spool and /var/lib are
/// empty. `$directory` is the peer's.
const NAMESPACE: &str = r#"
set -e
package=$1 directory=$2
shift 2
mount -t overlay overlay -o lowerdir="$package/usr":/usr /usr
mount -t overlay overlay -o lowerdir="$directory/etc":/etc /etc
mount -t tmpfs -o mode=755 tmpfs /var/spool
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount -t tmpfs -o mode=755 tmpfs /run
exec "$@"
"#;

/// Starts a program of unpacked packages, with these lines added to passwd and group for it alone.
pub fn start(package: &Path, directory: &Path, users: &[(&str, u32)], program: &[&str]) -> Child {
    let etc = directory.join("etc");
    std::fs::create_dir_all(&etc).unwrap();
    for file in ["passwd", "group"] {
        let mut text = std::fs::read_to_string(Path::new("/etc").join(file)).unwrap();
        for (name, id) in users {
            let of_user = format!("{name}:x:{id}:{id}::/:/bin/sh\n");
            text += &if file == "passwd" { of_user } else { format!("{name}:x:{id}:\n") };
        }
        std::fs::write(etc.join(file), text).unwrap();
    }
    let log = std::fs::File::create(directory.join("output")).unwrap();
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--", "sh", "-c", NAMESPACE, "namespace"])
        .arg(package)
        .arg(directory)
        .args(program)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

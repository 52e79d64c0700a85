//! Real name servers on loopback: BIND as the resolver, as the root with most zones, and as one that has little; and a
//! server that never answers. All on one port, which stands for 53.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::relay::Sockets;

/// The resolver that finds zones, and caches.
pub const RESOLVER: &str = "127.0.53.1";
/// The root, and `test` below it.
const ROOT: &str = "127.0.53.5";
/// Has most zones.
pub const MAIN: &str = "127.0.53.2";
/// Has only the zones that name it.
pub const OTHER: &str = "127.0.53.3";
/// Listens and never answers.
pub const SILENT: &str = "127.0.53.4";

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one name server of a zone has of it.
#[derive(Clone)]
pub enum Content {
    /// These records beside SOA and NS.
    Records(String),
    /// A zone whose file cannot be read: SERVFAIL.
    Broken,
    /// No such zone: REFUSED from BIND, nothing from the silent one.
    Nothing,
}

/// The zones and who has them: zone → address → content.
pub type Zones = BTreeMap<String, Vec<(&'static str, Content)>>;

/// A zone that only the main server has.
pub fn zone(zones: &mut Zones, name: &str, records: impl Into<String>) {
    zones.insert(name.to_owned(), vec![(MAIN, Content::Records(records.into()))]);
}

pub struct World {
    directory: tempfile::TempDir,
    tree: PathBuf,
    pub port: u16,
    /// Where each server listens itself.
    own_ports: BTreeMap<&'static str, u16>,
    named: BTreeMap<&'static str, Child>,
    _silent: Option<Sockets>,
}

impl Drop for World {
    fn drop(&mut self) {
        for child in self.named.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `BIND` says where the packages are unpacked; else where the scripts of this repository unpack them.
fn tree() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("PAQUEBOT_CACHE").or_else(|| Some(variable("XDG_CACHE_HOME")?.join("paquebot")));
    let cache = cache.unwrap_or_else(|| variable("HOME").unwrap_or("/root".into()).join(".cache/paquebot"));
    let tree = variable("BIND").unwrap_or_else(|| cache.join("unpacked-bind9+bind9-libs+bind9-utils"));
    let missing = "there is no BIND to ask: run scripts/test unit, which unpacks it, or see the top of main.rs";
    assert!(tree.join("usr/sbin/named").exists(), "{missing}");
    tree
}

/// A port that is free on all four addresses, with what holds it.
async fn common_port() -> (u16, Vec<Sockets>) {
    for _ in 0..200 {
        let Some(silent) = Sockets::bind(SILENT, 0).await else { continue };
        let port = silent.port();
        let mut sockets = vec![silent];
        for address in [RESOLVER, ROOT, MAIN, OTHER] {
            sockets.extend(Sockets::bind(address, port).await);
        }
        if sockets.len() == 5 {
            return (port, sockets);
        }
    }
    panic!("no port is free on all addresses");
}

impl World {
    pub async fn start(zones: &Zones) -> Self {
        let (port, mut sockets) = common_port().await;
        let directory = tempfile::tempdir().unwrap();
        let mut own_ports = BTreeMap::new();
        for (address, sockets) in [OTHER, MAIN, ROOT, RESOLVER].into_iter().zip(std::iter::from_fn(|| sockets.pop())) {
            let own = loop {
                if let Some(free) = Sockets::bind("127.0.0.1", 0).await {
                    break free.port();
                }
            };
            own_ports.insert(address, own);
            sockets.pass_on(own);
        }
        let silent = sockets.pop();
        assert!(sockets.is_empty());
        let mut world = Self { directory, tree: tree(), port, own_ports, named: BTreeMap::new(), _silent: silent };
        world.write(zones);
        for address in [ROOT, MAIN, OTHER, RESOLVER] {
            world.run(address);
        }
        for address in [ROOT, MAIN, OTHER, RESOLVER] {
            world.wait_for(address);
        }
        world
    }

    fn home(&self, address: &str) -> PathBuf {
        self.directory.path().join(address)
    }

    fn program(&self, name: &str) -> Command {
        let place = ["usr/sbin", "usr/bin"].map(|folder| self.tree.join(folder).join(name));
        let mut command = Command::new(place.iter().find(|path| path.exists()).unwrap());
        let libraries = fs::read_dir(self.tree.join("usr/lib")).unwrap().map(|entry| entry.unwrap().path());
        let path = libraries.filter(|path| path.is_dir()).map(|path| path.display().to_string()).collect::<Vec<_>>();
        command.env("LD_LIBRARY_PATH", path.join(":"));
        command
    }

    fn run(&mut self, address: &'static str) {
        let home = self.home(address);
        let log = fs::File::create(home.join("log")).unwrap();
        let child = self
            .program("named")
            .args(["-g", "-n", "1", "-c"])
            .arg(home.join("named.conf"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.named.insert(address, child);
    }

    fn wait_for(&mut self, address: &'static str) {
        let begin = Instant::now();
        while self.rcode(address, "", 2).is_none() {
            let child = self.named.get_mut(address).unwrap();
            let ended = child.try_wait().unwrap();
            let log = fs::read_to_string(self.home(address).join("log")).unwrap_or_default();
            assert!(ended.is_none() && begin.elapsed() < PATIENCE, "named on {address} does not answer:\n{log}");
        }
    }

    /// Writes configurations and zones.
    fn write(&self, zones: &Zones) {
        for address in [ROOT, MAIN, OTHER] {
            fs::create_dir_all(self.home(address)).unwrap();
            let mut configuration = self.options(address, "recursion no; max-udp-size 512;");
            let mut add = |name: &str, text: Option<String>| {
                let file = self.home(address).join(if name == "." { "root" } else { name });
                match text {
                    Some(text) => fs::write(&file, text).unwrap(),
                    None => drop(fs::remove_file(&file)),
                }
                configuration.push_str(&format!("zone \"{name}\" {{ type primary; file \"{}\"; }};\n", file.display()));
            };
            if address == ROOT {
                add(".", Some(root(zones)));
                add("test", Some(top_level(zones)));
            }
            for (name, servers) in zones {
                let records = match servers.iter().find(|(at, _)| *at == address).map(|(_, content)| content) {
                    Some(Content::Records(records)) => Some(format!("{}{records}\n", head(name, servers))),
                    Some(Content::Broken) => None,
                    Some(Content::Nothing) | None => continue,
                };
                add(name, records);
            }
            fs::write(self.home(address).join("named.conf"), configuration).unwrap();
        }
        fs::create_dir_all(self.home(RESOLVER)).unwrap();
        let hints = self.home(RESOLVER).join("hints");
        fs::write(&hints, format!(". 3600 IN NS ns.root.\nns.root. 3600 IN A {ROOT}\n")).unwrap();
        let mut configuration = self.options(RESOLVER, "recursion yes; allow-recursion { any; };");
        configuration.push_str(&format!("zone \".\" {{ type hint; file \"{}\"; }};\n", hints.display()));
        fs::write(self.home(RESOLVER).join("named.conf"), configuration).unwrap();
    }

    fn options(&self, address: &str, more: &str) -> String {
        format!(
            "options {{ directory \"{}\"; port {}; listen-on port {} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; pid-file none; session-keyfile none; dnssec-validation no; empty-zones-enable no;
  check-integrity no; check-mx ignore; check-mx-cname ignore; notify no; allow-query {{ any; }}; {more} }};
controls {{ }};\n",
            self.home(address).display(),
            self.port,
            self.own_ports[address]
        )
    }

    /// Publishes other zones, as their owners would; returns when `name` exists on the main server.
    pub fn publish(&self, zones: &Zones, name: &str, kind: u16) {
        self.write(zones);
        for address in [ROOT, MAIN, OTHER] {
            let pid = self.named[address].id().to_string();
            assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        }
        let begin = Instant::now();
        let denied = |answer: Option<(u8, bool)>| answer.is_none_or(|(code, _)| code != 0);
        while self.rcode(MAIN, name, kind) != Some((0, true)) || denied(self.rcode(ROOT, name, kind)) {
            assert!(begin.elapsed() < PATIENCE, "{name} does not appear");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks a server as a resolver would: the response code, and whether there are answers. `None`: no response.
    pub fn rcode(&self, address: &str, name: &str, kind: u16) -> Option<(u8, bool)> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            packet.push(u8::try_from(label.len()).unwrap());
            packet.extend(label.bytes());
        }
        packet.push(0);
        packet.extend(kind.to_be_bytes());
        packet.extend([0, 1]);
        let to: SocketAddr = (address.parse::<IpAddr>().unwrap(), self.port).into();
        socket.send_to(&packet, to).ok()?;
        let mut answer = [0; 4096];
        let (length, _) = socket.recv_from(&mut answer).ok()?;
        (length >= 12).then(|| (answer[3] & 15, answer[6] != 0 || answer[7] != 0))
    }

    /// What `named-checkzone` says of a zone file.
    pub fn check_zone(&self, name: &str, text: &str) -> Result<String, String> {
        let file = self.directory.path().join("checked");
        fs::write(&file, text).unwrap();
        let output = self.program("named-checkzone").arg("-D").arg(name).arg(path(&file)).output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        if output.status.success() { Ok(text) } else { Err(text) }
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// The name servers of a zone, by their addresses.
fn server_names<'a>(
    name: &'a str,
    servers: &'a [(&'static str, Content)],
) -> impl Iterator<Item = (String, &'static str)> + 'a {
    servers.iter().enumerate().map(move |(number, (address, _))| (format!("ns{number}.{name}."), *address))
}

/// SOA, NS and their addresses. Resolvers keep "there is no such name" for an hour.
pub fn head(name: &str, servers: &[(&'static str, Content)]) -> String {
    let mut text =
        format!("$TTL 3600\n{name}. IN SOA ns0.{name}. hostmaster.{name}. {} 3600 600 86400 3600\n", serial());
    for (server, address) in server_names(name, servers) {
        text.push_str(&format!("{name}. IN NS {server}\n{server} IN A {address}\n"));
    }
    text.push_str(&format!("$ORIGIN {name}.\n"));
    text
}

/// The root.
fn root(zones: &Zones) -> String {
    let mut text = format!(
        "$TTL 3600\n. IN SOA ns.root. hostmaster.root. {} 3600 600 86400 3600\n. IN NS ns.root.\nns.root. IN A {ROOT}\n",
        serial()
    );
    text.push_str("test. IN NS ns.root.\n");
    text.push_str(&delegations(zones, |name| !name.ends_with(".test")));
    text
}

/// The zone `test`, which delegates the others.
fn top_level(zones: &Zones) -> String {
    let serial = serial();
    let head = format!(
        "$TTL 3600\ntest. IN SOA ns.root. hostmaster.root. {serial} 3600 600 86400 3600\ntest. IN NS ns.root.\n"
    );
    head + &delegations(zones, |name| name.ends_with(".test"))
}

fn delegations(zones: &Zones, which: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    for (name, servers) in zones.iter().filter(|(name, _)| which(name)) {
        for (server, address) in server_names(name, servers) {
            text.push_str(&format!("{name}. IN NS {server}\n{server} IN A {address}\n"));
        }
    }
    text
}

/// A newer one each time.
fn serial() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static SERIAL: AtomicU32 = AtomicU32::new(1);
    SERIAL.fetch_add(1, Ordering::Relaxed)
}
